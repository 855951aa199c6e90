//! The native protocol: inputs by name, outputs by name.
//!
//! `POST /infer` with `{"features": [[…]]}` → `{"outputs": {"score": [[…]]}, "model": …, "id": …}`. A text model takes
//! `{"text": "…"}` or a list (see [`super::texts`]), and what a classifier or a reranker gives is in [`super::scores`].
//! `"model"` and `"id"` may be given too, unless an input has that name.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;

use super::call::{Call, Style, utf8};
use super::scores;
use super::tags::{self, Wish};
use super::texts::parse_texts;
use crate::answer::{MOST_ID, Plan, Symbols};
use crate::app::App;
use crate::engine::Inputs;
use crate::json::tensor::read_nested;
use crate::json::{Fault, Reader, writer};
use crate::model::{Encoded, Served};
use crate::pool::Turn;
use crate::refusal::Refusal;
use crate::tensor::Tensor;

/// What `/infer` was asked: parsed and, for texts, tokenized.
pub enum Asked {
    Tensors(Inputs),
    Texts(Encoded),
    /// Texts whose tokens are labelled.
    Tags(Encoded, Wish),
}

impl Asked {
    /// Texts as the model's task asks for them.
    pub fn of(model: &Served, texts: Encoded, wish: Wish) -> Self {
        if model.gives().is_tags() { Asked::Tags(texts, wish) } else { Asked::Texts(texts) }
    }
}

pub async fn infer(State(app): State<Arc<App>>, request: Request) -> Response {
    let mut call = match Call::begin(&app, Style::Native, request.headers()) {
        Ok(call) => call,
        Err(response) => return *response,
    };
    let mut id = None;
    match answer_infer(&mut call, request, &mut id).await {
        Ok(body) => call.answer(body),
        Err(refusal) => call.refuse(&refusal, id.as_deref()),
    }
}

async fn answer_infer(call: &mut Call, request: Request, id: &mut Option<String>) -> Result<Bytes, Refusal> {
    *id = call.header_id().map(str::to_owned);
    let body = call.body(request).await?;
    let app = Arc::clone(&call.app);
    let due = call.due();
    let for_parse = Arc::clone(&app);
    let (extra, parsed) = call
        .offload(move |turn| {
            let mut extra = Extra::default();
            let parsed = parse(&for_parse, &body, &mut extra, turn);
            Ok((extra, parsed))
        })
        .await?;
    if extra.id.is_some() {
        *id = extra.id;
    }
    let (model, asked) = parsed?;
    call.is_for(&model);
    let id = id.clone().unwrap_or_else(|| call.app.new_id());
    let form = scores::form(model.gives());
    let wanted = (0..model.spec.outputs.len()).map(|index| (index, form)).collect();
    let plan = |symbols: Symbols| Plan::new(&app.answers, &model.spec.outputs, wanted, &symbols);
    let (plan, outputs) = match asked {
        Asked::Tags(texts, wish) => return tags::answer(call, &model, texts, wish, &id).await,
        Asked::Tensors(inputs) => (plan(model.symbols_of(&inputs))?, model.run(inputs, due).await?),
        Asked::Texts(texts) => (plan(model.symbols_of_texts(&texts))?, model.embed(texts, due).await?),
    };
    let share = plan.share(&outputs)?;
    let body = render(&model, &outputs, &id)?;
    drop(outputs);
    Ok(share.hold(body))
}

/// What a body says beside its inputs.
#[derive(Default)]
pub struct Extra {
    id: Option<String>,
    model: Option<String>,
}

fn parse(app: &App, body: &Bytes, extra: &mut Extra, turn: &Turn) -> Result<(Arc<Served>, Asked), Refusal> {
    let body = utf8(body)?;
    let model = match app.serving()?.models.as_slice() {
        [only] => only,
        _ => {
            let mut first = Extra::default();
            find_extra(body, &mut first)?;
            app.model(first.model.as_deref())?
        }
    };
    let asked =
        if model.is_text() { parse_texts(model, body, extra, turn)? } else { parse_tensors(model, body, extra)? };
    if let Some(name) = &extra.model {
        app.model(Some(name))?;
    }
    Ok((Arc::clone(model), asked))
}

/// A native request for a model that is known already.
pub fn parse_for(model: &Served, body: &str, turn: &Turn) -> Result<Asked, Refusal> {
    let mut extra = Extra::default();
    if model.is_text() { parse_texts(model, body, &mut extra, turn) } else { parse_tensors(model, body, &mut extra) }
}

/// Where several models are served, the name comes first, in a pass of its own.
fn find_extra(body: &str, extra: &mut Extra) -> Result<(), Refusal> {
    let mut reader = Reader::new(body);
    let read = reader.object(|reader, key| {
        if !extra.take(reader, &key)? {
            reader.skip()?;
        }
        Ok(())
    });
    read.and_then(|()| reader.end()).map_err(|fault| Refusal::json("", fault))
}

impl Extra {
    /// Reads the value if the key is one of these; each may be given once.
    fn take(&mut self, reader: &mut Reader, key: &str) -> Result<bool, Fault> {
        let place = match key {
            "model" => &mut self.model,
            "id" => &mut self.id,
            _ => return Ok(false),
        };
        if place.is_some() {
            return Err(Fault::Value { path: key.into(), message: "the field is given twice".into() });
        }
        *place = Some(if key == "id" { read_id(reader)? } else { named_string(reader, key)?.into_owned() });
        Ok(true)
    }
}

/// A string whose faults carry the name of its field.
pub fn named_string<'a>(reader: &mut Reader<'a>, name: &str) -> Result<Cow<'a, str>, Fault> {
    if reader.peek() != Some(b'"') {
        let message = format!("expected a string, got {}", reader.kind());
        return Err(Fault::Value { path: name.into(), message });
    }
    reader.string().map_err(|fault| within(name, fault))
}

/// A request's id. It is given back, so it is bounded.
pub fn read_id(reader: &mut Reader) -> Result<String, Fault> {
    let id = named_string(reader, "id")?;
    if id.len() > MOST_ID {
        let message = format!("it has {} bytes, and at most {MOST_ID} are taken", id.len());
        return Err(Fault::Value { path: "id".into(), message });
    }
    Ok(id.into_owned())
}

/// Puts the name of a field in front of a fault's path.
pub fn within(name: &str, fault: Fault) -> Fault {
    match fault {
        Fault::Value { path, message } => Fault::Value { path: format!("{name}{path}"), message },
        syntax => syntax,
    }
}

/// `{"features": [[…]], …}` → inputs in the model's order.
fn parse_tensors(model: &Served, body: &str, extra: &mut Extra) -> Result<Asked, Refusal> {
    let mut inputs: Inputs = vec![None; model.spec.inputs.len()];
    let mut seen = vec![false; inputs.len()];
    let mut reader = Reader::new(body);
    reader
        .object(|reader, key| {
            let Some(index) = model.input_index(&key) else { return take_other(model, reader, &key, extra) };
            let spec = &model.spec.inputs[index];
            if std::mem::replace(&mut seen[index], true) {
                return Err(Fault::Value { path: spec.name.clone(), message: "the input is given twice".into() });
            }
            if reader.null() {
                return Ok(());
            }
            let tensor = read_nested(reader, spec.dtype, &spec.shape).map_err(|fault| within(&spec.name, fault))?;
            inputs[index] = Some(tensor);
            Ok(())
        })
        .and_then(|()| reader.end())
        .map_err(|fault| Refusal::json("", fault))?;
    Ok(Asked::Tensors(inputs))
}

pub fn take_other(model: &Served, reader: &mut Reader, key: &str, extra: &mut Extra) -> Result<(), Fault> {
    if extra.take(reader, key)? {
        return Ok(());
    }
    let message = format!("there is no such input; the model takes {}", model.input_names().join(", "));
    Err(Fault::Value { path: key.chars().take(64).collect(), message })
}

/// Most texts of one request, as in OpenAI's own service: a body can name a million empty ones.
pub const MOST_TEXTS: usize = 2048;

pub fn too_many_texts() -> String {
    format!("more than {MOST_TEXTS} texts in one request; send them in several")
}

/// A string or a list of strings.
pub fn read_texts(reader: &mut Reader, name: &str) -> Result<Vec<String>, Fault> {
    if reader.peek() != Some(b'[') {
        return Ok(vec![named_string(reader, name)?.into_owned()]);
    }
    let mut texts = Vec::new();
    reader.array(|reader, index| {
        if index == MOST_TEXTS {
            return Err(Fault::Value { path: name.into(), message: too_many_texts() });
        }
        texts.push(named_string(reader, &format!("{name}[{index}]"))?.into_owned());
        Ok(())
    })?;
    Ok(texts)
}

/// `{"outputs": {…}, "model": …, "id": …}`
pub fn render(model: &Served, outputs: &[Tensor], id: &str) -> Result<Vec<u8>, Refusal> {
    frame(model, id, |out| {
        if scores::write(out, model.gives(), outputs) {
            return Ok(());
        }
        for (index, (spec, tensor)) in model.spec.outputs.iter().zip(outputs).enumerate() {
            if index > 0 {
                out.push(b',');
            }
            writer::key(out, &spec.name);
            writer::nested(out, tensor);
        }
        Ok(())
    })
}

/// The answer whose outputs are what `write` appends.
pub fn frame(
    model: &Served,
    id: &str,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), Refusal>,
) -> Result<Vec<u8>, Refusal> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"outputs\":{");
    write(&mut out)?;
    out.extend_from_slice(b"},\"model\":");
    writer::string(&mut out, &model.spec.name);
    out.extend_from_slice(b",\"id\":");
    writer::string(&mut out, id);
    out.push(b'}');
    Ok(out)
}
