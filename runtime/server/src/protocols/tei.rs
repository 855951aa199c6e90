//! What the clients of text-embeddings-inference ask for beside `/rerank`, `/tokenize` and `/decode`: `POST /embed` → a list of
//! embeddings, 1 long unless the request says `"normalize": false`; `POST /predict` → all classes of each text or pair, best
//! first; `GET /info`. Where several models are served, `"model"` names one.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Value, json};

use super::call::{Call, Style, answered, utf8};
use super::embeddings::{self, Given};
use super::fields::{fault, read_count, read_cut, read_switch, unknown};
use super::native::{MOST_TEXTS, named_string, too_many_texts};
use super::once::Once;
use super::scores::{best, scores};
use crate::answer::{Form, Plan};
use crate::app::App;
use crate::bundle::task::{Activation, Gives, Overflow, Task, TextSpec};
use crate::cores::usable_cores;
use crate::json::{Fault, Reader, writer};
use crate::model::{Encoded, Served, Text};
use crate::pool::{Pool, Turn};
use crate::refusal::Refusal;
use crate::tensor::{Data, Tensor};
use crate::tokenize::{Asked, Prompt};

pub async fn embed(State(app): State<Arc<App>>, request: Request) -> Response {
    answered(&app, Style::Native, request, answer_embed).await
}

async fn answer_embed(call: &mut Call, request: Request) -> Result<Bytes, Refusal> {
    let body = call.body(request).await?;
    let app = Arc::clone(&call.app);
    let work = move |turn: &Turn| {
        let (name, given, asked) = read_embed(&body)?;
        embeddings::encode(&app, name.as_deref(), "inputs", given, &asked, turn)
    };
    let ready = call.offload(work).await?;
    let write = |embedding: &Tensor| {
        let mut out = Vec::new();
        writer::nested(&mut out, embedding);
        Ok(out)
    };
    embeddings::answer(call, ready, Form::Json, write).await
}

const EMBED: [&str; 7] =
    ["model", "inputs", "normalize", "truncate", "truncation_direction", "prompt_name", "dimensions"];

/// The model's name, the texts, and what is said of them.
pub fn read_embed(body: &Bytes) -> Result<(Option<String>, Option<Given>, Asked), Refusal> {
    let (mut name, mut given) = (None, None);
    let mut asked = Asked { normalize: Some(true), ..Asked::default() };
    let mut reader = Reader::new(utf8(body)?);
    let mut once = Once::default();
    let read = reader.object(|reader, key| {
        once.take(&EMBED, &key, "")?;
        match &*key {
            "inputs" => given = Some(embeddings::read_given(reader, "inputs")?),
            _ if reader.null() => {}
            "model" => name = Some(named_string(reader, "model")?.into_owned()),
            "normalize" => asked.normalize = Some(read_switch(reader, "normalize")?),
            "truncate" | "truncation_direction" => read_cut(reader, &key, &mut asked)?,
            "prompt_name" => asked.prompt = Some(Prompt::Named(named_string(reader, &key)?.into_owned())),
            "dimensions" => asked.dimensions = Some(read_count(reader, "dimensions")?),
            other => return Err(unknown(other, &EMBED, &[])),
        }
        Ok(())
    });
    read.and_then(|()| reader.end()).map_err(|fault| Refusal::json("", fault))?;
    Ok((name, given, asked))
}

pub async fn predict(State(app): State<Arc<App>>, request: Request) -> Response {
    answered(&app, Style::Native, request, answer_predict).await
}

async fn answer_predict(call: &mut Call, request: Request) -> Result<Bytes, Refusal> {
    let body = call.body(request).await?;
    let (app, due) = (Arc::clone(&call.app), call.due());
    let work = move |turn: &Turn| {
        let Predict { name, texts, single, raw, asked } = read_predict(&body)?;
        let model = Arc::clone(app.model(name.as_deref())?);
        if !matches!(model.gives(), Gives::Classes { .. }) {
            return Err(Refusal::invalid("model", "this model does not classify texts"));
        }
        let field = |index| if single { "inputs".into() } else { format!("inputs[{index}]") };
        if let Some(at) = texts.iter().position(|t| matches!(t, Text::Pair(..)) != (model.texts().len() > 1)) {
            let takes = if model.texts().len() > 1 {
                "pairs of texts: [string, string]"
            } else {
                "single texts, no pairs: write several as [[string], [string], ...]"
            };
            return Err(Refusal::invalid(field(at), format!("the model takes {takes}")));
        }
        let encoded = model.encode(texts, &asked, turn, field)?;
        Ok((model, single, raw, encoded))
    };
    let (model, single, raw, texts): (Arc<Served>, bool, bool, Encoded) = call.offload(work).await?;
    call.is_for(&model);
    let Gives::Classes { labels, activation, .. } = model.gives() else { return Err(Refusal::internal()) };
    let activation = if raw { Activation::None } else { *activation };
    // A character may become an escape of six.
    let row = labels.iter().map(|label| 6 * label.len() as u64 + 64).sum();
    let symbols = model.symbols_of_texts(&texts);
    let plan = Plan::new(&call.app.answers, &model.spec.outputs, vec![(0, Form::Rows(row))], &symbols)?;
    let outputs = model.embed(texts, due).await?;
    let share = plan.share(&outputs)?;
    let [Tensor { data: Data::Float32(logits), .. }] = outputs.as_slice() else { return Err(Refusal::internal()) };
    let rows = logits.chunks_exact(labels.len().max(1));
    let body = write_classes(labels, activation, rows, single);
    drop(outputs);
    Ok(share.hold(body))
}

/// `[{"score": …, "label": …}, …]` of a single text, else a list of such lists.
fn write_classes<'a>(
    labels: &[String],
    activation: Activation,
    rows: impl Iterator<Item = &'a [f32]>,
    single: bool,
) -> Vec<u8> {
    let mut out = Vec::new();
    if !single {
        out.push(b'[');
    }
    for (index, row) in rows.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        let scores = scores(activation, row);
        writer::list(&mut out, &best(&scores, scores.len()), |out, at| {
            out.extend_from_slice(b"{\"score\":");
            writer::number(out, scores[*at]);
            out.extend_from_slice(b",\"label\":");
            writer::string(out, labels.get(*at).map_or("", String::as_str));
            out.push(b'}');
        });
    }
    if !single {
        out.push(b']');
    }
    out
}

/// What a body of `/predict` says.
pub struct Predict {
    name: Option<String>,
    texts: Vec<Text>,
    single: bool,
    raw: bool,
    asked: Asked,
}

const PREDICT: [&str; 5] = ["model", "inputs", "raw_scores", "truncate", "truncation_direction"];

pub fn read_predict(body: &Bytes) -> Result<Predict, Refusal> {
    let (mut name, mut given, mut raw, mut asked) = (None, None, false, Asked::default());
    let mut reader = Reader::new(utf8(body)?);
    let mut once = Once::default();
    let read = reader.object(|reader, key| {
        once.take(&PREDICT, &key, "")?;
        match &*key {
            "inputs" => given = Some(read_inputs(reader)?),
            _ if reader.null() => {}
            "model" => name = Some(named_string(reader, "model")?.into_owned()),
            "raw_scores" => raw = read_switch(reader, "raw_scores")?,
            "truncate" | "truncation_direction" => read_cut(reader, &key, &mut asked)?,
            other => return Err(unknown(other, &PREDICT, &[])),
        }
        Ok(())
    });
    read.and_then(|()| reader.end()).map_err(|fault| Refusal::json("", fault))?;
    let missing = || Refusal::invalid("inputs", format!("the field is missing; expected {EXPECTED}"));
    let (texts, single) = given.ok_or_else(missing)?;
    Ok(Predict { name, texts, single, raw, asked })
}

const EXPECTED: &str = "a string, a pair [string, string], or a list of [string] and [string, string]";

/// A text, a pair, or a list of lists of one or two; and whether it is a single one.
fn read_inputs(reader: &mut Reader) -> Result<(Vec<Text>, bool), Fault> {
    if reader.peek() == Some(b'"') {
        return Ok((vec![Text::Alone(reader.string()?.into_owned())], true));
    }
    let mut inside = reader.clone();
    if !inside.eat(b'[') {
        return Err(fault("inputs", &format!("expected {EXPECTED}, got {}", reader.kind())));
    }
    if inside.peek() != Some(b'[') {
        return Ok((vec![read_one(reader, "inputs")?], true));
    }
    let mut texts = Vec::new();
    reader.array(|reader, index| {
        if index == MOST_TEXTS {
            return Err(fault("inputs", &too_many_texts()));
        }
        texts.push(read_one(reader, &format!("inputs[{index}]"))?);
        Ok(())
    })?;
    Ok((texts, false))
}

/// A list of one text or of two.
fn read_one(reader: &mut Reader, path: &str) -> Result<Text, Fault> {
    if reader.peek() != Some(b'[') {
        return Err(fault(path, &format!("expected a list of one or two strings, got {}", reader.kind())));
    }
    let (mut first, mut second) = (None, None);
    reader.array(|reader, index| {
        let text = named_string(reader, &format!("{path}[{index}]"))?.into_owned();
        match index {
            0 => first = Some(text),
            1 => second = Some(text),
            _ => {
                return Err(fault(
                    path,
                    "expected a text or a pair, got more strings: texts are written [[string], [string], ...]",
                ));
            }
        }
        Ok(())
    })?;
    match (first, second) {
        (Some(first), Some(second)) => Ok(Text::Pair(first.into(), second)),
        (Some(text), None) => Ok(Text::Alone(text)),
        _ => Err(fault(path, "expected a text or a pair, got none")),
    }
}

pub async fn info(State(app): State<Arc<App>>, request: Request) -> Response {
    let mut call = match Call::begin(&app, Style::Native, request.headers()) {
        Ok(call) => call,
        Err(response) => return *response,
    };
    match app.model(None).and_then(|model| describe(&app, model)) {
        Ok(said) => call.answer(said.to_string().into_bytes()),
        Err(refusal) => call.refuse(&refusal, None),
    }
}

fn describe(app: &App, model: &Served) -> Result<Value, Refusal> {
    let Task::Text(says) = &model.spec.task else {
        return Err(Refusal::invalid("model", "this model does not take text"));
    };
    Ok(json!({
        "model_id": model.spec.name,
        "model_sha": &*model.digest,
        "model_dtype": model.spec.variants.iter().find(|v| v.id.to_string() == model.variant).map(|v| &v.precision),
        "model_type": model_type(says),
        "max_concurrent_requests": app.settings.count("queue"),
        "max_input_length": says.limit,
        "max_batch_tokens": model.limits.tokens,
        "max_batch_requests": model.limits.requests,
        "max_client_batch_size": app.settings.count("max_inputs"),
        "auto_truncate": says.overflow == Overflow::Truncate,
        "tokenization_workers": Pool::threads(usable_cores()),
        "version": env!("CARGO_PKG_VERSION"),
        "sha": null,
        "docker_label": null,
    }))
}

fn model_type(says: &TextSpec) -> Value {
    match &says.gives {
        Gives::Embedding => json!({"embedding": {"pooling": says.pooling}}),
        Gives::Score(_) => json!({"reranker": {"id2label": {"0": "score"}, "label2id": {"score": 0}}}),
        Gives::Classes { labels, .. } | Gives::Tags { labels, .. } => {
            let names: serde_json::Map<String, Value> =
                labels.iter().enumerate().map(|(at, label)| (at.to_string(), label.as_str().into())).collect();
            let places: serde_json::Map<String, Value> =
                labels.iter().enumerate().map(|(at, label)| (label.clone(), at.into())).collect();
            let kind = if says.gives.is_tags() { "token_classifier" } else { "classifier" };
            json!({kind: {"id2label": names, "label2id": places}})
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_a_text_a_pair_or_a_list_of_these() {
        let read =
            |text: &str| read_predict(&Bytes::from(format!("{{\"inputs\":{text}}}"))).map(|r| (r.texts, r.single));
        let alone = |text: &str| Text::Alone(text.into());
        let pair = |a: &str, b: &str| Text::Pair(a.into(), b.into());
        assert_eq!(read(r#""a""#).unwrap(), (vec![alone("a")], true));
        assert_eq!(read(r#"["a"]"#).unwrap(), (vec![alone("a")], true));
        assert_eq!(read(r#"["a", "b"]"#).unwrap(), (vec![pair("a", "b")], true));
        assert_eq!(read(r#"[["a"], ["b", "c"]]"#).unwrap(), (vec![alone("a"), pair("b", "c")], false));
        for bad in ["[]", "[[]]", r#"["a","b","c"]"#, r#"["a",["b"]]"#, r#"[["a"],"b"]"#, "[1]", "null", "7"] {
            let refusal = read(bad).unwrap_err();
            assert!(refusal.field.is_some_and(|field| field.starts_with("inputs")), "{bad}");
        }
    }

    #[test]
    fn all_classes_are_written_best_first() {
        let labels = ["no", "\"yes\""].map(str::to_owned);
        let write = |single| {
            String::from_utf8(write_classes(&labels, Activation::None, [[1.0, 2.0].as_slice()].into_iter(), single))
                .unwrap()
        };
        let one = r#"[{"score":2.0,"label":"\"yes\""},{"score":1.0,"label":"no"}]"#;
        assert_eq!(write(true), one);
        assert_eq!(write(false), format!("[{one}]"));
    }
}
