//! The Open Inference Protocol v2 over HTTP, with the binary tensor data extension.
//!
//! A text model has one input, BYTES `text`, and its outputs as they are (FP32 `embedding`).

mod request;
mod response;

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, Style, json_response};
use crate::answer::{Form, Plan};
use crate::app::App;
use crate::model::Served;
use crate::pool::Turn;
use crate::refusal::{Reason, Refusal};
use crate::tensor::{DType, Dim};
use request::{Parsed, Wanted};

/// An answer's body, and how many bytes of it are JSON where tensors follow as bytes.
type Answer = (Bytes, Option<usize>);

/// How many bytes of a body are JSON, where tensors follow as bytes (name from the binary tensor data extension).
const HEADER_LENGTH: &str = "inference-header-content-length";

#[derive(Deserialize)]
pub struct Target {
    model: String,
    version: Option<String>,
}

impl Target {
    fn find<'a>(&self, app: &'a Arc<App>) -> Result<&'a Arc<Served>, Refusal> {
        let model = app.model(Some(&self.model))?;
        match &self.version {
            Some(version) if *version != model.spec.version => {
                let shown: String = version.chars().take(64).collect();
                let text =
                    format!("model {:?} has no version {shown:?}, only {:?}", model.spec.name, model.spec.version);
                Err(Refusal::new(Reason::UnknownModel, text))
            }
            _ => Ok(model),
        }
    }
}

#[cfg(test)]
pub use request::{parse as read, unpack_texts as unpack};

pub async fn server() -> Response {
    let body = json!({"name": "infc", "version": env!("CARGO_PKG_VERSION"), "extensions": ["binary_tensor_data", "statistics"]});
    json_response(StatusCode::OK, body.to_string().into_bytes())
}

pub async fn metadata(State(app): State<Arc<App>>, Path(target): Path<Target>, request: Request) -> Response {
    about(&app, &target, &request, |model| {
        Ok(json!({
            "name": model.spec.name,
            "versions": [model.spec.version],
            "platform": "infc",
            "inputs": input_metadata(model),
            "outputs": model.spec.outputs.iter().map(|o| described(&o.name, o.dtype, &o.shape)).collect::<Vec<_>>(),
        }))
    })
}

pub async fn ready(State(app): State<Arc<App>>, Path(target): Path<Target>, request: Request) -> Response {
    let is_ready = app.is_ready();
    about(&app, &target, &request, |model| {
        if is_ready {
            Ok(json!({"name": model.spec.name, "ready": true}))
        } else {
            Err(Refusal::new(Reason::NotReady, "the model is not ready"))
        }
    })
}

pub async fn stats(State(app): State<Arc<App>>, Path(target): Path<Target>, request: Request) -> Response {
    about(&app, &target, &request, |model| {
        let stats = model.scheduler.stats.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        Ok(json!({"model_stats": [stats.to_json(&model.spec.name, &model.spec.version)]}))
    })
}

fn about(
    app: &Arc<App>,
    target: &Target,
    request: &Request,
    answer: impl FnOnce(&Served) -> Result<Value, Refusal>,
) -> Response {
    let mut call = match Call::begin(app, Style::Oip, request.headers()) {
        Ok(call) => call,
        Err(response) => return *response,
    };
    match target.find(app).and_then(|model| answer(model)) {
        Ok(body) => call.answer(body.to_string().into_bytes()),
        Err(refusal) => call.refuse(&refusal, None),
    }
}

fn input_metadata(model: &Served) -> Vec<Value> {
    if model.is_text() {
        return model.texts().iter().map(|name| json!({"name": name, "datatype": "BYTES", "shape": [-1]})).collect();
    }
    model.spec.inputs.iter().map(|i| described(&i.name, i.dtype, &i.shape)).collect()
}

fn described(name: &str, dtype: DType, shape: &[Dim]) -> Value {
    let dims = shape.iter().map(|d| if let Dim::Fixed(n) = d { i64::try_from(*n).unwrap_or(-1) } else { -1 });
    json!({"name": name, "datatype": dtype.oip_name(), "shape": dims.collect::<Vec<_>>()})
}

pub async fn infer(State(app): State<Arc<App>>, Path(target): Path<Target>, request: Request) -> Response {
    let mut call = match Call::begin(&app, Style::Oip, request.headers()) {
        Ok(call) => call,
        Err(response) => return *response,
    };
    let mut id = None;
    match answer_infer(&mut call, &target, request, &mut id).await {
        Ok((body, None)) => call.answer(body),
        Ok((body, Some(length))) => call.answer_binary(body, HEADER_LENGTH, length),
        Err(refusal) => call.refuse(&refusal, id.as_deref()),
    }
}

async fn answer_infer(
    call: &mut Call,
    target: &Target,
    request: Request,
    id: &mut Option<String>,
) -> Result<Answer, Refusal> {
    let model = Arc::clone(target.find(&call.app)?);
    call.is_for(&model);
    let json_bytes = header_length(request.headers())?;
    let body = call.body_of(request, json_bytes.is_some()).await?;
    let due = call.due();
    let for_parse = Arc::clone(&model);
    let work = move |turn: &Turn| Ok(request::parse(&for_parse, &body, json_bytes, turn));
    let (given_id, parsed) = call.offload(work).await?;
    *id = given_id;
    let (parsed, wanted) = parsed?;
    let symbols = match &parsed {
        Parsed::Tensors(inputs) => model.symbols_of(inputs),
        Parsed::Texts(texts) => model.symbols_of_texts(texts),
    };
    let form = |wanted: &Wanted| (wanted.index, if wanted.binary { Form::Binary } else { Form::Json });
    let plan = Plan::new(&call.app.answers, &model.spec.outputs, wanted.iter().map(form).collect(), &symbols)?;
    let outputs = match parsed {
        Parsed::Tensors(inputs) => model.run(inputs, due).await?,
        Parsed::Texts(texts) => model.embed(texts, due).await?,
    };
    let share = plan.share(&outputs)?;
    let rendered = response::render(&model, &outputs, &wanted, id.as_deref());
    drop(outputs);
    Ok((share.hold(rendered.body), rendered.json_bytes))
}

fn header_length(headers: &HeaderMap) -> Result<Option<usize>, Refusal> {
    let Some(value) = headers.get(HEADER_LENGTH) else { return Ok(None) };
    match value.to_str().ok().and_then(|v| v.trim().parse().ok()) {
        Some(length) => Ok(Some(length)),
        None => {
            let mut refusal = Refusal::malformed("expected a number of bytes");
            refusal.field = Some(HEADER_LENGTH.into());
            Err(refusal)
        }
    }
}
