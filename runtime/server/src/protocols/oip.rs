//! The Open Inference Protocol v2 over HTTP with JSON tensors.
//!
//! A text model has one input, BYTES `text`, and its outputs as they are (FP32 `embedding`).

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, Style, json_response, utf8};
use super::native::{named_string, read_texts, within};
use crate::app::App;
use crate::engine::Inputs;
use crate::json::tensor::read_nested;
use crate::json::{Fault, Reader, writer};
use crate::model::{Encoded, Served, Text};
use crate::refusal::{Reason, Refusal};
use crate::tensor::{DType, Dim, InputSpec, Tensor, elements, shape_text};

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

pub async fn server() -> Response {
    let body = json!({"name": "infc", "version": env!("CARGO_PKG_VERSION"), "extensions": ["statistics"]});
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
        return vec![json!({"name": "text", "datatype": "BYTES", "shape": [-1]})];
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
        Ok(body) => call.answer(body),
        Err(refusal) => call.refuse(&refusal, id.as_deref()),
    }
}

/// A request as it stands in the body.
#[derive(Default)]
struct Asked<'a> {
    id: Option<String>,
    inputs: Vec<Given<'a>>,
    /// The outputs that are wanted; all where none are named.
    outputs: Option<Vec<String>>,
}

#[derive(Default)]
struct Given<'a> {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    data: Option<&'a str>,
}

enum Parsed {
    Tensors(Inputs),
    Texts(Encoded),
}

async fn answer_infer(
    call: &mut Call,
    target: &Target,
    request: Request,
    id: &mut Option<String>,
) -> Result<Vec<u8>, Refusal> {
    let model = Arc::clone(target.find(&call.app)?);
    call.is_for(&model);
    if request.headers().contains_key("inference-header-content-length") {
        return Err(Refusal::new(Reason::MediaType, "binary tensor data is not accepted; send the data as JSON"));
    }
    let body = call.body(request).await?;
    let due = call.due();
    let for_parse = Arc::clone(&model);
    let (given_id, parsed) = Call::offload(body.len(), move || Ok(parse(&for_parse, &body))).await?;
    *id = given_id;
    let (parsed, wanted) = parsed?;
    let outputs = match parsed {
        Parsed::Tensors(inputs) => model.run(inputs, due).await?,
        Parsed::Texts(texts) => model.embed(texts, due).await?,
    };
    Ok(render(&model, &outputs, &wanted, id.as_deref()))
}

type WithId<T> = (Option<String>, Result<T, Refusal>);

/// The request's inputs, and the indices of the wanted outputs.
fn parse(model: &Served, body: &Bytes) -> WithId<(Parsed, Vec<usize>)> {
    let asked = match utf8(body).and_then(|text| read_request(text).map_err(|fault| Refusal::json("", fault))) {
        Ok(asked) => asked,
        Err(refusal) => return (None, Err(refusal)),
    };
    let wanted = wanted_outputs(model, asked.outputs.as_deref());
    let inputs = if model.is_text() {
        take_texts(model, &asked.inputs).map(Parsed::Texts)
    } else {
        take_tensors(model, &asked.inputs).map(Parsed::Tensors)
    };
    (asked.id, inputs.and_then(|inputs| Ok((inputs, wanted?))))
}

fn read_request(body: &str) -> Result<Asked<'_>, Fault> {
    let mut asked = Asked::default();
    let mut seen_inputs = false;
    let mut reader = Reader::new(body);
    reader.object(|reader, key| {
        match &*key {
            "id" => asked.id = Some(named_string(reader, "id")?.into_owned()),
            "inputs" => {
                seen_inputs = true;
                list_of(reader, "inputs", |reader, index| {
                    asked.inputs.push(read_given(reader).map_err(|f| within(&format!("inputs[{index}]"), f))?);
                    Ok(())
                })?;
            }
            "outputs" => {
                let mut names = Vec::new();
                list_of(reader, "outputs", |reader, index| {
                    names.push(read_given(reader).map_err(|f| within(&format!("outputs[{index}]"), f))?.name);
                    Ok(())
                })?;
                asked.outputs = Some(names);
            }
            _ => drop(reader.skip()?),
        }
        Ok(())
    })?;
    reader.end()?;
    if !seen_inputs {
        return Err(Fault::Value {
            path: "inputs".into(),
            message: "the field is missing; expected a list of tensors".into(),
        });
    }
    Ok(asked)
}

fn list_of<'a>(
    reader: &mut Reader<'a>,
    name: &str,
    item: impl FnMut(&mut Reader<'a>, usize) -> Result<(), Fault>,
) -> Result<(), Fault> {
    if reader.peek() != Some(b'[') {
        return Err(Fault::Value { path: name.into(), message: format!("expected a list, got {}", reader.kind()) });
    }
    reader.array(item)
}

fn read_given<'a>(reader: &mut Reader<'a>) -> Result<Given<'a>, Fault> {
    if reader.peek() != Some(b'{') {
        return Err(Fault::value(format!("expected an object, got {}", reader.kind())));
    }
    let mut given = Given::default();
    reader.object(|reader, key| {
        match &*key {
            "name" => given.name = named_string(reader, ".name")?.into_owned(),
            "datatype" => given.datatype = named_string(reader, ".datatype")?.into_owned(),
            "shape" => list_of(reader, ".shape", |reader, index| {
                let number = reader.number()?.int.filter(|n| *n >= 0);
                let path = format!(".shape[{index}]");
                let fault = Fault::Value { path, message: "expected a whole number of 0 or more".into() };
                given.shape.push(number.ok_or(fault)?);
                Ok(())
            })?,
            "data" => given.data = Some(reader.skip()?),
            _ => drop(reader.skip()?),
        }
        Ok(())
    })?;
    if given.name.is_empty() {
        return Err(Fault::Value { path: ".name".into(), message: "the tensor has no name".into() });
    }
    Ok(given)
}

fn take_tensors(model: &Served, given: &[Given]) -> Result<Inputs, Refusal> {
    let mut inputs: Inputs = vec![None; model.spec.inputs.len()];
    for tensor in given {
        let Some(index) = model.input_index(&tensor.name) else { return Err(unknown_input(model, &tensor.name)) };
        if inputs[index].is_some() {
            return Err(Refusal::invalid(&tensor.name, "the input is given twice"));
        }
        inputs[index] = Some(take_tensor(&model.spec.inputs[index], tensor)?);
    }
    Ok(inputs)
}

fn take_tensor(spec: &InputSpec, given: &Given) -> Result<Tensor, Refusal> {
    let refuse = |text: String| Err(Refusal::invalid(&spec.name, text));
    if given.datatype != spec.dtype.oip_name() {
        return refuse(format!("expected datatype {}, got {:?}", spec.dtype.oip_name(), given.datatype));
    }
    let Some(data) = given.data else { return refuse("the tensor has no data".into()) };
    let shape: Option<Vec<usize>> = given.shape.iter().map(|d| usize::try_from(*d).ok()).collect();
    let count = shape.as_deref().and_then(elements);
    // Flat or nested: both are rows after rows.
    let mut reader = Reader::new(data);
    let nested = reader.clone().eat(b'[') && {
        let mut inside = reader.clone();
        inside.eat(b'[') && inside.peek() == Some(b'[')
    };
    let flat = [Dim::Symbol("n".into())];
    let read = if nested {
        read_nested(&mut reader, spec.dtype, &spec.shape)
    } else {
        read_nested(&mut reader, spec.dtype, &flat)
    };
    let tensor = read.map_err(|fault| Refusal::json(&spec.name, fault))?;
    match (shape, count) {
        (Some(shape), Some(count)) if count == tensor.data.len() && (!nested || tensor.shape == shape) => {
            Ok(Tensor { shape, data: tensor.data })
        }
        _ => refuse(format!("the shape is {} and the data has {} values", shape_text(&given.shape), tensor.data.len())),
    }
}

fn take_texts(model: &Served, given: &[Given]) -> Result<Encoded, Refusal> {
    let [only] = given else {
        return Err(Refusal::invalid("inputs", format!("expected one tensor, \"text\", got {}", given.len())));
    };
    if only.name != "text" {
        return Err(unknown_input(model, &only.name));
    }
    if only.datatype != "BYTES" {
        return Err(Refusal::invalid("text", format!("expected datatype BYTES, got {:?}", only.datatype)));
    }
    let data = only.data.ok_or_else(|| Refusal::invalid("text", "the tensor has no data"))?;
    let texts = read_texts(&mut Reader::new(data), "text").map_err(|fault| Refusal::json("", fault))?;
    if only.shape.iter().try_fold(1i64, |n, d| n.checked_mul(*d)) != i64::try_from(texts.len()).ok() {
        let text = format!("the shape is {} and the data has {} texts", shape_text(&only.shape), texts.len());
        return Err(Refusal::invalid("text", text));
    }
    model.encode(texts.into_iter().map(Text::Text).collect(), |index| format!("text[{index}]"))
}

fn unknown_input(model: &Served, name: &str) -> Refusal {
    let names: Vec<&str> =
        if model.is_text() { vec!["text"] } else { model.spec.inputs.iter().map(|i| i.name.as_str()).collect() };
    let shown: String = name.chars().take(64).collect();
    Refusal::invalid(shown, format!("there is no such input; the model takes {}", names.join(", ")))
}

fn wanted_outputs(model: &Served, names: Option<&[String]>) -> Result<Vec<usize>, Refusal> {
    let all = &model.spec.outputs;
    let Some(names) = names.filter(|n| !n.is_empty()) else { return Ok((0..all.len()).collect()) };
    let find = |name: &String| {
        all.iter().position(|o| o.name == *name).ok_or_else(|| {
            let known: Vec<&str> = all.iter().map(|o| o.name.as_str()).collect();
            let shown: String = name.chars().take(64).collect();
            Refusal::invalid(shown, format!("there is no such output; the model gives {}", known.join(", ")))
        })
    };
    names.iter().map(find).collect()
}

fn render(model: &Served, outputs: &[Tensor], wanted: &[usize], id: Option<&str>) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    out.extend_from_slice(b"{\"model_name\":");
    writer::string(&mut out, &model.spec.name);
    out.extend_from_slice(b",\"model_version\":");
    writer::string(&mut out, &model.spec.version);
    if let Some(id) = id {
        out.extend_from_slice(b",\"id\":");
        writer::string(&mut out, id);
    }
    out.extend_from_slice(b",\"outputs\":[");
    for (position, index) in wanted.iter().enumerate() {
        let (spec, tensor) = (&model.spec.outputs[*index], &outputs[*index]);
        if position > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        writer::string(&mut out, &spec.name);
        out.extend_from_slice(b",\"datatype\":");
        writer::string(&mut out, tensor.dtype().oip_name());
        out.extend_from_slice(b",\"shape\":[");
        for (axis, size) in tensor.shape.iter().enumerate() {
            if axis > 0 {
                out.push(b',');
            }
            writer::integer(&mut out, *size as u64);
        }
        out.extend_from_slice(b"],\"data\":");
        writer::flat(&mut out, &tensor.data);
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    out
}
