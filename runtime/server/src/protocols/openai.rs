//! OpenAI's `/v1/models` and `/v1/embeddings`.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::{Value, json};

use super::call::{Call, Style, answered, utf8};
use super::fields::{end_with_usage, fault, read_count, read_cut, read_switch, unknown};
use super::native::{MOST_TEXTS, named_string, too_many_texts, within};
use super::once::Once;
use crate::answer::{Form, Plan};
use crate::app::App;
use crate::bundle::task::{Gives, Task};
use crate::json::{Fault, Reader, writer};
use crate::model::{Encoded, Served, Text};
use crate::pool::Turn;
use crate::refusal::{Reason, Refusal};
use crate::tensor::{Data, Dim, Tensor};
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
    let due = call.due();
    let (model, form, shape, texts) = call.offload(move |turn| parse(&app, &body, turn)).await?;
    call.is_for(&model);
    let tokens = texts.tokens;
    let index = model.spec.outputs.iter().position(|o| o.name == "embedding").unwrap_or(0);
    let symbols = model.symbols_of_texts(&texts);
    let plan = Plan::new(&call.app.answers, &model.spec.outputs, vec![(index, form)], &symbols)?;
    let mut outputs = model.embed(texts, due).await?;
    outputs.get_mut(index).into_iter().for_each(|output| shape.apply(output));
    let share = plan.share(&outputs)?;
    let body = render(&model.spec.name, outputs.get(index).ok_or_else(Refusal::internal)?, form, tokens)?;
    drop(outputs);
    Ok(share.hold(body))
}

/// What a body says.
pub struct Read {
    name: Option<String>,
    texts: Option<Vec<Text>>,
    single: bool,
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
    let mut texts = None;
    let mut single = false;
    let mut form = Form::Json;
    let mut asked = Asked::default();
    let mut reader = Reader::new(utf8(body)?);
    let mut once = Once::default();
    let read = reader.object(|reader, key| {
        once.take(&FIELDS, &key, "")?;
        match &*key {
            "model" => name = Some(named_string(reader, "model")?.into_owned()),
            "input" => {
                (texts, single) = read_input(reader).map(|(t, s)| (Some(t), s)).map_err(|f| within("input", f))?
            }
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
    Ok(Read { name, texts, single, form, asked })
}

/// Reads and tokenizes a request.
fn parse(app: &Arc<App>, body: &Bytes, turn: &Turn) -> Result<(Arc<Served>, Form, Shape, Encoded), Refusal> {
    let Read { name, texts, single, form, asked } = read(body)?;
    let name = name.ok_or_else(|| Refusal::invalid("model", "the field is missing; expected a model's name"))?;
    let model = app.model(Some(&name))?;
    if !(model.is_text() && *model.gives() == Gives::Embedding) {
        return Err(Refusal::invalid("model", "this model gives no embeddings of text"));
    }
    let shape = Shape::of(model, &asked)?;
    let texts = texts.ok_or_else(|| Refusal::invalid("input", "the field is missing; expected text or token ids"))?;
    let field = |index| if single { "input".into() } else { format!("input[{index}]") };
    let encoded = model.encode(texts, &asked, turn, field)?;
    Ok((Arc::clone(model), form, shape, encoded))
}

/// What becomes of embeddings after the model: cut to `width`, then made 1 long.
struct Shape {
    width: Option<usize>,
    normalize: bool,
}

impl Shape {
    fn of(model: &Served, asked: &Asked) -> Result<Shape, Refusal> {
        let Task::Text(says) = &model.spec.task else { return Err(Refusal::internal()) };
        if says.normalize && asked.normalize == Some(false) {
            let text = "this model's embeddings are normalized where they are computed; `embed(normalize = false)` builds one whose are not";
            return Err(Refusal::invalid("normalize", text));
        }
        let has = model.spec.outputs.iter().find(|o| o.name == "embedding").and_then(|o| o.shape.last());
        let width = match (asked.dimensions, has) {
            (Some(asked), Some(Dim::Fixed(has))) if asked == *has => None,
            (Some(asked), _) if says.dimensions.contains(&asked) => Some(asked),
            (Some(asked), has) => {
                return Err(Refusal::invalid("dimensions", cannot_shorten(asked, has, &says.dimensions)));
            }
            (None, _) => None,
        };
        let again = says.normalize && width.is_some();
        Ok(Shape { width, normalize: again || (!says.normalize && asked.normalize == Some(true)) })
    }

    /// `embedding`: float32 [rows, width]. What has another form is left to whoever renders it.
    fn apply(&self, embedding: &mut Tensor) {
        let (Data::Float32(values), [_, has]) = (&mut embedding.data, embedding.shape.as_slice()) else { return };
        let (has, width) = (*has, self.width.unwrap_or(*has).min(*has));
        if has == 0 {
            return;
        }
        if width < has {
            let cut = values.chunks(has).flat_map(|row| &row[..width]).copied().collect();
            *values = cut;
        }
        if self.normalize {
            for row in values.chunks_mut(width) {
                let norm = row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt().max(1e-12);
                row.iter_mut().for_each(|x| *x = (f64::from(*x) / norm) as f32);
            }
        }
        embedding.shape[1] = width;
    }
}

fn cannot_shorten(asked: usize, has: Option<&Dim>, list: &[usize]) -> String {
    let has = has.map_or_else(|| "another number of".into(), ToString::to_string);
    let only: Vec<String> = list.iter().map(ToString::to_string).collect();
    let only = if only.is_empty() { String::new() } else { format!(", only to {}", only.join(", ")) };
    format!("this model's embeddings have {has} dimensions and cannot be shortened to {asked}{only}")
}

/// A string, a list of strings, a list of ids, or a list of lists of ids; and whether it is a single one.
fn read_input(reader: &mut Reader) -> Result<(Vec<Text>, bool), Fault> {
    match reader.peek() {
        Some(b'"') => Ok((vec![Text::Alone(reader.string()?.into_owned())], true)),
        Some(b'[') => read_list(reader),
        _ => {
            let kind = reader.kind();
            Err(Fault::value(format!("expected a string, a list of strings, or token ids, got {kind}")))
        }
    }
}

fn read_list(reader: &mut Reader) -> Result<(Vec<Text>, bool), Fault> {
    let mut inside = reader.clone();
    inside.eat(b'[');
    match inside.peek() {
        Some(b']') => Err(Fault::value("the list is empty")),
        Some(b'"' | b'[') => {
            let mut texts = Vec::new();
            reader.array(|reader, index| {
                let text = read_item(reader).map_err(|f| within(&format!("[{index}]"), f))?;
                texts.push(text);
                if texts.len() > MOST_TEXTS {
                    return Err(Fault::value(too_many_texts()));
                }
                Ok(())
            })?;
            Ok((texts, false))
        }
        _ => Ok((vec![Text::Ids(read_ids(reader)?)], true)),
    }
}

fn read_item(reader: &mut Reader) -> Result<Text, Fault> {
    match reader.peek() {
        Some(b'"') => Ok(Text::Alone(reader.string()?.into_owned())),
        Some(b'[') => Ok(Text::Ids(read_ids(reader)?)),
        _ => Err(Fault::value(format!("expected a string or a list of token ids, got {}", reader.kind()))),
    }
}

fn read_ids(reader: &mut Reader) -> Result<Vec<i64>, Fault> {
    let mut ids = Vec::new();
    reader.array(|reader, index| {
        let number = match reader.peek() {
            Some(b'-' | b'0'..=b'9') => reader.number()?.int,
            _ => None,
        };
        ids.push(number.ok_or_else(|| fault(&format!("[{index}]"), "expected a token id"))?);
        Ok(())
    })?;
    if ids.is_empty() {
        return Err(Fault::value("the list of token ids is empty"));
    }
    Ok(ids)
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
