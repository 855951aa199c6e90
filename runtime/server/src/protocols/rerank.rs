//! `POST /rerank`: a query and texts → the texts in the order of their scores.
//!
//! Two forms, told apart by the name of the list: `texts`, as text-embeddings-inference's clients send it, answered by a bare
//! list; `documents`, as Cohere's and Jina's do (`/v1/rerank` and `/v2/rerank` are the same), answered by an object.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;

use super::call::{Call, Style, answered, utf8};
use super::fields::{end_with_usage, fault, read_count, read_cut, read_switch, unknown};
use super::native::{MOST_TEXTS, named_string, too_many_texts, within};
use super::once::Once;
use super::scores::{best, scores};
use crate::answer::{Form, Plan};
use crate::app::App;
use crate::bundle::task::{Activation, Gives};
use crate::json::{Fault, Reader, writer};
use crate::model::{Encoded, Served, Text};
use crate::pool::Turn;
use crate::refusal::Refusal;
use crate::tensor::{Data, Tensor};
use crate::tokenize::Asked;

pub async fn rerank(State(app): State<Arc<App>>, request: Request) -> Response {
    answered(&app, Style::Native, request, answer_rerank).await
}

async fn answer_rerank(call: &mut Call, request: Request) -> Result<Bytes, Refusal> {
    let body = call.body(request).await?;
    let (app, due) = (Arc::clone(&call.app), call.due());
    let work = move |turn: &Turn| {
        let mut read = read(&body)?;
        let model = Arc::clone(app.model(read.model.as_deref())?);
        let Gives::Score(activation) = *model.gives() else {
            return Err(Refusal::invalid("model", "this model does not rank texts"));
        };
        let list = read.list;
        let field = |index: usize| format!("{}[{index}]", list.name());
        let encoded = model.encode(read.pairs(), &read.asked, turn, field)?;
        Ok((model, activation, read, encoded))
    };
    let (model, activation, read, texts): (Arc<Served>, Activation, Read, Encoded) = call.offload(work).await?;
    call.is_for(&model);
    let tokens = texts.tokens;
    let symbols = model.symbols_of_texts(&texts);
    let plan = Plan::new(&call.app.answers, &model.spec.outputs, vec![(0, Form::Rows(read.row()))], &symbols)?;
    let outputs = model.embed(texts, due).await?;
    let share = plan.share(&outputs)?;
    let [Tensor { data: Data::Float32(logits), .. }] = outputs.as_slice() else { return Err(Refusal::internal()) };
    let activation = if read.raw { Activation::None } else { activation };
    let body = read.render(&model.spec.name, &call.app.new_id(), &scores(activation, logits), tokens);
    drop(outputs);
    Ok(share.hold(body))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Texts,
    Documents,
}

impl List {
    fn name(self) -> &'static str {
        match self {
            List::Texts => "texts",
            List::Documents => "documents",
        }
    }
}

/// What a body says.
#[derive(Debug)]
pub struct Read {
    model: Option<String>,
    query: Arc<str>,
    list: List,
    texts: Vec<String>,
    /// Whether each result has its text again.
    with_texts: bool,
    /// Whether scores are the model's own logits.
    raw: bool,
    top: usize,
    asked: Asked,
}

const FIELDS: [&str; 10] = [
    "model",
    "query",
    "texts",
    "documents",
    "top_n",
    "return_documents",
    "return_text",
    "raw_scores",
    "truncate",
    "truncation_direction",
];

/// Fields of the services' clients that change no score.
const INERT: [&str; 2] = ["user", "priority"];

/// Reads a body.
pub fn read(body: &Bytes) -> Result<Read, Refusal> {
    let (mut model, mut query, mut given) = (None, None, None);
    let (mut with_texts, mut raw, mut top, mut asked) = (None, false, usize::MAX, Asked::default());
    let mut reader = Reader::new(utf8(body)?);
    let mut once = Once::default();
    let read = reader.object(|reader, key| {
        once.take(&FIELDS, &key, "")?;
        match &*key {
            "query" => query = Some(Arc::from(&*named_string(reader, "query")?)),
            _ if reader.null() => {}
            "texts" | "documents" => {
                let list = if key == "texts" { List::Texts } else { List::Documents };
                let found = (list, read_list(reader, list)?);
                if given.replace(found).is_some() {
                    return Err(fault(&key, "only one of texts and documents is taken"));
                }
            }
            "model" => model = Some(named_string(reader, "model")?.into_owned()),
            "top_n" => top = read_count(reader, "top_n")?,
            "return_documents" | "return_text" => {
                let said = read_switch(reader, &key)?;
                if with_texts.replace(said).is_some_and(|before| before != said) {
                    return Err(fault(&key, "return_documents and return_text say different things"));
                }
            }
            "raw_scores" => raw = read_switch(reader, "raw_scores")?,
            "truncate" | "truncation_direction" => read_cut(reader, &key, &mut asked)?,
            inert if INERT.contains(&inert) => drop(reader.skip()?),
            other => return Err(unknown(other, &FIELDS, &INERT)),
        }
        Ok(())
    });
    read.and_then(|()| reader.end()).map_err(|fault| Refusal::json("", fault))?;
    let missing = |name: &str, what: &str| Refusal::invalid(name, format!("the field is missing; expected {what}"));
    let query = query.ok_or_else(|| missing("query", "a string"))?;
    let (list, texts) = given.ok_or_else(|| missing("documents", "a list of strings (or texts)"))?;
    if texts.is_empty() {
        return Err(Refusal::invalid(list.name(), "the list is empty"));
    }
    Ok(Read { model, query, list, texts, with_texts: with_texts == Some(true), raw, top, asked })
}

const NO_DOCUMENT: &str = "expected a string, or an object with a text alone";

/// A list of strings; documents may be objects with a `text`.
fn read_list(reader: &mut Reader, list: List) -> Result<Vec<String>, Fault> {
    let name = list.name();
    let mut texts = Vec::new();
    if reader.peek() != Some(b'[') {
        return Err(fault(name, &format!("expected a list, got {}", reader.kind())));
    }
    reader.array(|reader, index| {
        let path = format!("{name}[{index}]");
        if index == MOST_TEXTS {
            return Err(fault(name, &too_many_texts()));
        }
        if list == List::Texts || reader.peek() != Some(b'{') {
            texts.push(named_string(reader, &path)?.into_owned());
            return Ok(());
        }
        let mut text = None;
        reader
            .object(|reader, key| {
                if key != "text" || text.is_some() {
                    return Err(fault(&path, NO_DOCUMENT));
                }
                text = Some(named_string(reader, "")?.into_owned());
                Ok(())
            })
            .map_err(|found| {
                if matches!(&found, Fault::Value { path: at, .. } if at.is_empty()) {
                    within(&format!("{path}.text"), found)
                } else {
                    found
                }
            })?;
        texts.push(text.ok_or_else(|| fault(&path, NO_DOCUMENT))?);
        Ok(())
    })?;
    Ok(texts)
}

impl Read {
    /// The pairs; the texts stay only where they are answered.
    fn pairs(&mut self) -> Vec<Text> {
        let keep = self.with_texts;
        let query = &self.query;
        let take = |text: &mut String| if keep { text.clone() } else { std::mem::take(text) };
        self.texts.iter_mut().map(|text| Text::Pair(Arc::clone(query), take(text))).collect()
    }

    /// Most characters of a result, on the average.
    fn row(&self) -> u64 {
        // A character may become an escape of six.
        let mut texts: Vec<u64> = self.texts.iter().map(|text| 6 * text.len() as u64).collect();
        texts.sort_unstable_by_key(|size| std::cmp::Reverse(*size));
        let texts: u64 = texts.iter().take(self.top).sum();
        96 + texts.div_ceil(self.texts.len().max(1) as u64)
    }

    fn render(&self, model: &str, id: &str, scores: &[f32], tokens: usize) -> Vec<u8> {
        let order = best(scores, self.top);
        let mut out = Vec::with_capacity(256 + 96 * order.len());
        let bare = self.list == List::Texts;
        if !bare {
            out.extend_from_slice(b"{\"id\":");
            writer::string(&mut out, id);
            out.extend_from_slice(b",\"model\":");
            writer::string(&mut out, model);
            out.extend_from_slice(b",\"results\":");
        }
        out.push(b'[');
        for (place, index) in order.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            out.extend_from_slice(b"{\"index\":");
            writer::integer(&mut out, *index as u64);
            out.extend_from_slice(if bare { b",\"score\":" } else { b",\"relevance_score\":" });
            writer::number(&mut out, scores[*index]);
            if self.with_texts {
                out.extend_from_slice(if bare { b",\"text\":" } else { b",\"document\":{\"text\":" });
                writer::string(&mut out, &self.texts[*index]);
                out.extend_from_slice(if bare { b"" } else { b"}" });
            }
            out.push(b'}');
        }
        out.push(b']');
        if !bare {
            end_with_usage(&mut out, tokens);
        }
        out
    }
}
