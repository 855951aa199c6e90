//! OpenAI's `/v1/models` and `/v1/embeddings`.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::call::{Call, Style, answered, utf8};
use super::embeddings::{self, Given};
use super::fields::{end_with_usage, fault, read_count, read_cut, read_switch, unknown};
use super::native::named_string;
use super::once::Once;
use crate::answer::Form;
use crate::app::App;
use crate::json::{Reader, writer};
use crate::model::Served;
use crate::pool::Turn;
use crate::refusal::{Reason, Refusal};
use crate::tensor::{Data, Tensor};
use crate::tokenize::{Asked, Prompt};

pub async fn models(State(app): State<Arc<App>>, request: Request) -> Response {
    let mut call = match Call::begin(&app, Style::OpenAi, request.headers()) {
        Ok(call) => call,
        Err(response) => return *response,
    };
    match app.serving() {
        Ok(loaded) => {
            let list: Vec<Value> = loaded.models.iter().map(|m| describe(m)).collect();
            call.answer(json!({"object": "list", "data": list}).to_string().into_bytes())
        }
        Err(refusal) => call.refuse(&refusal, None),
    }
}

pub async fn model(State(app): State<Arc<App>>, Path(name): Path<String>, request: Request) -> Response {
    let mut call = match Call::begin(&app, Style::OpenAi, request.headers()) {
        Ok(call) => call,
        Err(response) => return *response,
    };
    match app.model(Some(&name)) {
        Ok(model) => call.answer(describe(model).to_string().into_bytes()),
        Err(refusal) => call.refuse(&refusal, None),
    }
}

fn describe(model: &Served) -> Value {
    // The protocol wants a time of creation; a bundle has none, since equal inputs give equal bytes.
    json!({"id": model.spec.name, "object": "model", "created": 0, "owned_by": "infc"})
}

pub async fn embeddings(State(app): State<Arc<App>>, request: Request) -> Response {
    answered(&app, Style::OpenAi, request, answer_embeddings).await
}

async fn answer_embeddings(call: &mut Call, request: Request) -> Result<Bytes, Refusal> {
    let body = call.body(request).await?;
    let app = Arc::clone(&call.app);
    let work = move |turn: &Turn| {
        let Read { name, given, form, asked } = read(&body)?;
        let name = name.ok_or_else(|| Refusal::invalid("model", "the field is missing; expected a model's name"))?;
        Ok((form, embeddings::encode(&app, Some(&name), "input", given, &asked, turn)?))
    };
    let (form, ready) = call.offload(work).await?;
    let (name, tokens) = (ready.model.spec.name.clone(), ready.texts.tokens);
    embeddings::answer(call, ready, form, |embedding| render(&name, embedding, form, tokens)).await
}

/// What a body says.
pub struct Read {
    name: Option<String>,
    given: Option<Given>,
    form: Form,
    asked: Asked,
}

const FIELDS: [&str; 10] = [
    "model",
    "input",
    "encoding_format",
    "dimensions",
    "prompt",
    "prompt_name",
    "input_type",
    "truncate",
    "truncation_direction",
    "normalize",
];

/// Fields that OpenAI's clients send and that change no embedding. Any other could, and is refused.
const INERT: [&str; 6] = ["user", "metadata", "safety_identifier", "service_tier", "store", "priority"];

/// Reads a body.
pub fn read(body: &Bytes) -> Result<Read, Refusal> {
    let mut name = None;
    let mut given = None;
    let mut form = Form::Json;
    let mut asked = Asked::default();
    let mut reader = Reader::new(utf8(body)?);
    let mut once = Once::default();
    let read = reader.object(|reader, key| {
        once.take(&FIELDS, &key, "")?;
        match &*key {
            "model" => name = Some(named_string(reader, "model")?.into_owned()),
            "input" => given = Some(embeddings::read_given(reader, "input")?),
            "encoding_format" if !reader.null() => {
                form = match &*named_string(reader, "encoding_format")? {
                    "float" => Form::Json,
                    "base64" => Form::Base64,
                    _ => return Err(fault("encoding_format", "expected \"float\" or \"base64\"")),
                }
            }
            // Null stands for a field that is not there; for the one above it was just taken.
            "encoding_format" => {}
            _ if reader.null() => {}
            "dimensions" => asked.dimensions = Some(read_count(reader, "dimensions")?),
            "prompt" | "prompt_name" | "input_type" => {
                let text = named_string(reader, &key)?.into_owned();
                let prompt = match &*key {
                    "prompt" => Prompt::Text(text),
                    "prompt_name" => Prompt::Named(text),
                    _ => Prompt::InputType(text),
                };
                if asked.prompt.replace(prompt).is_some() {
                    return Err(fault(&key, "only one of prompt, prompt_name and input_type is taken"));
                }
            }
            "truncate" | "truncation_direction" => read_cut(reader, &key, &mut asked)?,
            "normalize" => asked.normalize = Some(read_switch(reader, "normalize")?),
            inert if INERT.contains(&inert) => drop(reader.skip()?),
            other => return Err(unknown(other, &FIELDS, &INERT)),
        }
        Ok(())
    });
    read.and_then(|()| reader.end()).map_err(|fault| Refusal::json("", fault))?;
    Ok(Read { name, given, form, asked })
}

fn render(model: &str, embedding: &Tensor, form: Form, tokens: usize) -> Result<Vec<u8>, Refusal> {
    let (Data::Float32(values), [rows, width]) = (&embedding.data, embedding.shape.as_slice()) else {
        crate::log::error("the output \"embedding\" is not float32 [rows, width]");
        return Err(Refusal::new(Reason::Internal, "the server failed on this request"));
    };
    let mut out = Vec::with_capacity(values.len() * 12 + 256);
    out.extend_from_slice(b"{\"object\":\"list\",\"data\":[");
    for row in 0..*rows {
        if row > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"object\":\"embedding\",\"index\":");
        writer::integer(&mut out, row as u64);
        out.extend_from_slice(b",\"embedding\":");
        let data = Data::Float32(values[row * width..(row + 1) * width].to_vec());
        match form {
            Form::Json | Form::Rows(_) => writer::flat(&mut out, &data),
            Form::Base64 | Form::Binary => {
                out.push(b'"');
                out.extend_from_slice(STANDARD.encode(data.to_le_bytes()).as_bytes());
                out.push(b'"');
            }
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"model\":");
    writer::string(&mut out, model);
    end_with_usage(&mut out, tokens);
    Ok(out)
}
