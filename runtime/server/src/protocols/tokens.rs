//! Tokens of texts and texts of tokens.
//!
//! `/tokenize` has two forms, told apart by the name of the texts: `{"text": "…"}` → `{"ids": […], "tokens": […]}`, a list of
//! texts → lists of lists; `{"inputs": …}`, as text-embeddings-inference's clients send it → a bare list of lists of
//! `{"id", "text", "special", "start", "stop"}`, in code points. `/detokenize` and that server's `/decode` say the same in
//! two forms. No limit is applied, and no prompt but the one that is named.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;

use super::call::{Call, Style, answered, utf8};
use super::fields::{fault, read_switch, unknown};
use super::native::{MOST_TEXTS, named_string, read_texts, within};
use super::once::Once;
use crate::answer::{Share, Size};
use crate::app::App;
use crate::json::{Fault, Reader, writer};
use crate::memory::MOST_ANSWER;
use crate::model::Served;
use crate::pool::Turn;
use crate::refusal::{Reason, Refusal};
use crate::tokenize::{Asked, Prompt, Token, TokenizeError};

/// Most bytes of a body: an answer has many times the bytes of its request.
const MOST_TEXT: usize = 1 << 20;

pub async fn tokenize(State(app): State<Arc<App>>, request: Request) -> Response {
    answered(&app, Style::Native, request, async |call: &mut Call, request| run(call, request, tokenize_body).await)
        .await
}

pub async fn detokenize(State(app): State<Arc<App>>, request: Request) -> Response {
    answered(&app, Style::Native, request, async |call: &mut Call, request| {
        run(call, request, |app, body, turn| detokenize_body(app, body, turn, &Form::NATIVE)).await
    })
    .await
}

pub async fn decode(State(app): State<Arc<App>>, request: Request) -> Response {
    answered(&app, Style::Native, request, async |call: &mut Call, request| {
        run(call, request, |app, body, turn| detokenize_body(app, body, turn, &Form::BARE)).await
    })
    .await
}

type Answer = (Arc<Served>, Bytes);
type Work = fn(&Arc<App>, &Bytes, &Turn) -> Result<Answer, Refusal>;

async fn run(call: &mut Call, request: Request, work: Work) -> Result<Bytes, Refusal> {
    let body = call.body(request).await?;
    let app = Arc::clone(&call.app);
    let (model, answer) = call.offload(move |turn| work(&app, &body, turn)).await?;
    call.is_for(&model);
    Ok(answer)
}

/// The share of an answer that may have so many bytes, and then has.
fn share(app: &App, most: usize) -> Result<Share, Refusal> {
    app.answers.reserve(Size { tensors: 0, text: most as u64 })
}

fn hold(app: &App, share: Share, answer: Vec<u8>) -> Result<Bytes, Refusal> {
    Ok(share.fit(&app.answers, Size { tensors: 0, text: answer.len() as u64 })?.hold(answer))
}

/// What a body of `/tokenize` says.
#[derive(Default)]
pub struct Read {
    texts: Option<Vec<String>>,
    single: bool,
    /// Whether the answer is a bare list.
    bare: bool,
    special: Option<bool>,
    prompt: Option<String>,
    model: Option<String>,
}

const FIELDS: [&str; 6] = ["model", "text", "special", "inputs", "add_special_tokens", "prompt_name"];

pub fn read_tokenize(body: &Bytes) -> Result<Read, Refusal> {
    let mut read = Read::default();
    read_fields(body, &FIELDS, |reader, key| {
        match key {
            "text" | "inputs" => {
                if read.texts.is_some() {
                    return Err(fault(key, "only one of text and inputs is taken"));
                }
                (read.single, read.bare) = (reader.peek() == Some(b'"'), key == "inputs");
                read.texts = Some(read_texts(reader, key)?);
            }
            _ if reader.null() => {}
            "model" => read.model = Some(named_string(reader, key)?.into_owned()),
            "prompt_name" => read.prompt = Some(named_string(reader, key)?.into_owned()),
            _ => {
                let said = read_switch(reader, key)?;
                if read.special.replace(said).is_some_and(|before| before != said) {
                    return Err(fault(key, "special and add_special_tokens say different things"));
                }
            }
        }
        Ok(())
    })?;
    Ok(read)
}

/// Most bytes that a byte of text comes to where each token is an object, and where it is a number and a string: a token of
/// one byte, six of them where it is escaped.
const OBJECT: usize = 80;
const PLAIN: usize = 20;

/// Bytes of special tokens around a text.
const FRAME: usize = 1024;

fn tokenize_body(app: &Arc<App>, body: &Bytes, turn: &Turn) -> Result<Answer, Refusal> {
    let Read { texts, single, bare, special, prompt, model } = read_tokenize(body)?;
    let name = if bare { "inputs" } else { "text" };
    let model = text_model(app, model.as_deref())?;
    let task = model.text.as_ref().ok_or_else(Refusal::internal)?;
    let texts = texts.ok_or_else(|| Refusal::invalid("text", "the field is missing; expected a string or a list"))?;
    turn.allows(texts.len()).map_err(|text| Refusal::invalid(name, text))?;
    let asked = Asked { prompt: prompt.map(Prompt::Named), ..Asked::default() };
    let how = task.how(&asked).map_err(|(field, text)| Refusal::invalid(field, text))?;
    let prompt = if asked.prompt.is_some() { how.prompt() } else { "" };
    let repeated = prompt.len().saturating_mul(texts.len());
    turn.takes(repeated)?;
    let bytes = texts.iter().map(String::len).sum::<usize>().saturating_add(repeated);
    let each = if bare { OBJECT } else { PLAIN };
    let share = share(app, bytes.saturating_mul(each).saturating_add(FRAME * (texts.len() + 1)))?;
    let (open, close): (&[u8], &[u8]) = if single && !bare { (b"", b"") } else { (b"[", b"]") };
    let (mut first, mut second) = (open.to_vec(), open.to_vec());
    for (index, text) in texts.iter().enumerate() {
        in_time(index, turn.due)?;
        let field = if single { name.into() } else { format!("{name}[{index}]") };
        let joined = format!("{prompt}{text}");
        let tokens = task.tokenize(&joined, special.unwrap_or(true)).map_err(|error| match error {
            TokenizeError::Failed(_) => Refusal::invalid(field, "the text cannot be tokenized"),
            refused => Refusal::invalid(field, refused.to_string()),
        })?;
        if index > 0 {
            first.push(b',');
            second.push(b',');
        }
        if bare {
            write_objects(&mut first, &joined, &tokens);
        } else {
            writer::list(&mut first, &tokens, |out, token| writer::integer(out, token.id.into()));
            writer::list(&mut second, &tokens, |out, token| writer::string(out, &token.spelling));
        }
    }
    first.extend_from_slice(close);
    if !bare {
        first = [b"{\"ids\":", first.as_slice(), b",\"tokens\":", &second, close].concat();
        end_with_model(&mut first, model);
    }
    Ok((Arc::clone(model), hold(app, share, first)?))
}

fn end_with_model(out: &mut Vec<u8>, model: &Served) {
    out.extend_from_slice(b",\"model\":");
    writer::string(out, &model.spec.name);
    out.push(b'}');
}

/// Each token with its part of the text; a special one has none.
fn write_objects(out: &mut Vec<u8>, text: &str, tokens: &[Token]) {
    let characters: Vec<char> = text.chars().collect();
    writer::list(out, tokens, |out, token| {
        out.extend_from_slice(b"{\"id\":");
        writer::integer(out, token.id.into());
        out.extend_from_slice(b",\"text\":");
        if token.special {
            writer::string(out, &token.spelling);
            return out.extend_from_slice(b",\"special\":true,\"start\":null,\"stop\":null}");
        }
        let (start, stop) = token.span;
        writer::string(out, &characters.get(start..stop).unwrap_or_default().iter().collect::<String>());
        out.extend_from_slice(b",\"special\":false,\"start\":");
        writer::integer(out, start as u64);
        out.extend_from_slice(b",\"stop\":");
        writer::integer(out, stop as u64);
        out.push(b'}');
    });
}

fn in_time(index: usize, due: Instant) -> Result<(), Refusal> {
    if index > 0 && Instant::now() >= due {
        return Err(Refusal::new(Reason::Deadline, "the deadline passed before all of the request was done"));
    }
    Ok(())
}

/// Reads an object of these fields, each at most once. One that is not known could change the answer, and is refused.
fn read_fields<'a, const N: usize>(
    body: &'a Bytes,
    known: &[&'static str; N],
    mut field: impl FnMut(&mut Reader<'a>, &str) -> Result<(), Fault>,
) -> Result<(), Refusal> {
    if body.len() > MOST_TEXT {
        let text = format!("the body has {} bytes, and at most {MOST_TEXT} are taken here", body.len());
        return Err(Refusal::new(Reason::TooLarge, text));
    }
    let mut once = Once::default();
    let mut reader = Reader::new(utf8(body)?);
    let read = reader.object(|reader, key| {
        once.take(known, &key, "")?;
        if !known.contains(&&*key) {
            return Err(unknown(&key, known, &[]));
        }
        field(reader, &key)
    });
    read.and_then(|()| reader.end()).map_err(|fault| Refusal::json("", fault))
}

/// The two ways in which texts of tokens are asked for.
pub struct Form {
    fields: [&'static str; 3],
    bare: bool,
}

impl Form {
    pub const NATIVE: Form = Form { fields: ["model", "ids", "skip_special"], bare: false };
    pub const BARE: Form = Form { fields: ["model", "ids", "skip_special_tokens"], bare: true };
}

/// Lists of ids, whether it is a single one, whether special tokens are left out, and the model's name.
type Listed = (Option<Vec<Vec<u32>>>, bool, bool, Option<String>);

pub fn read_detokenize(body: &Bytes, form: &Form) -> Result<Listed, Refusal> {
    let (mut lists, mut single, mut skip_special, mut name) = (None, false, true, None);
    read_fields(body, &form.fields, |reader, key| {
        match key {
            "ids" => (lists, single) = read_lists(reader).map(|(l, s)| (Some(l), s)).map_err(|f| within("ids", f))?,
            _ if reader.null() => {}
            "model" => name = Some(named_string(reader, key)?.into_owned()),
            _ => skip_special = read_switch(reader, key)?,
        }
        Ok(())
    })?;
    Ok((lists, single, skip_special, name))
}

/// Bytes that an id comes to: the longest tokens have more, most have less.
const SPELLED: usize = 64;

fn detokenize_body(app: &Arc<App>, body: &Bytes, turn: &Turn, form: &Form) -> Result<Answer, Refusal> {
    let (lists, single, skip_special, name) = read_detokenize(body, form)?;
    let model = text_model(app, name.as_deref())?;
    let task = model.text.as_ref().ok_or_else(Refusal::internal)?;
    let lists = lists.ok_or_else(|| Refusal::invalid("ids", "the field is missing; expected a list of token ids"))?;
    turn.allows(lists.len()).map_err(|text| Refusal::invalid("ids", text))?;
    let share = share(app, lists.iter().map(|ids| SPELLED * (ids.len() + 1)).sum::<usize>() + FRAME)?;
    let nested = form.bare || !single;
    let mut out = Vec::new();
    out.extend_from_slice(if form.bare { b"" } else { b"{\"text\":" });
    out.extend_from_slice(if nested { b"[" } else { b"" });
    for (index, ids) in lists.iter().enumerate() {
        in_time(index, turn.due)?;
        let text = task.detokenize(ids, skip_special).map_err(|text| Refusal::invalid("ids", text))?;
        if index > 0 {
            out.push(b',');
        }
        writer::string(&mut out, &text);
        if out.len() as u64 > MOST_ANSWER {
            return Err(Refusal::new(Reason::AnswerTooLarge, format!("the texts have more than {MOST_ANSWER} bytes")));
        }
    }
    out.extend_from_slice(if nested { b"]" } else { b"" });
    if !form.bare {
        end_with_model(&mut out, model);
    }
    Ok((Arc::clone(model), hold(app, share, out)?))
}

/// Most ids of one list that is spelled out.
const MOST_IDS: usize = 1 << 16;

/// A list of ids or a list of such lists; and whether it is a single one.
fn read_lists(reader: &mut Reader) -> Result<(Vec<Vec<u32>>, bool), Fault> {
    if reader.peek() != Some(b'[') {
        return Err(Fault::value(format!("expected a list of token ids, got {}", reader.kind())));
    }
    let mut inside = reader.clone();
    inside.eat(b'[');
    if inside.peek() != Some(b'[') {
        return Ok((vec![read_ids(reader)?], true));
    }
    let mut lists = Vec::new();
    reader.array(|reader, index| {
        if index == MOST_TEXTS {
            return Err(Fault::value(format!("more than {MOST_TEXTS} lists in one request; send them in several")));
        }
        if reader.peek() != Some(b'[') {
            return Err(Fault::value(format!("[{index}]: expected a list of token ids, got {}", reader.kind())));
        }
        lists.push(read_ids(reader).map_err(|f| within(&format!("[{index}]"), f))?);
        Ok(())
    })?;
    Ok((lists, false))
}

fn read_ids(reader: &mut Reader) -> Result<Vec<u32>, Fault> {
    let mut ids = Vec::new();
    reader.array(|reader, index| {
        if index == MOST_IDS {
            return Err(Fault::value(format!("more than {MOST_IDS} ids in one list")));
        }
        let number = match reader.peek() {
            Some(b'0'..=b'9') => reader.number()?.int.and_then(|n| u32::try_from(n).ok()),
            _ => None,
        };
        let fault = || Fault::Value { path: format!("[{index}]"), message: "expected a token id".into() };
        ids.push(number.ok_or_else(fault)?);
        Ok(())
    })?;
    Ok(ids)
}

fn text_model<'a>(app: &'a Arc<App>, name: Option<&str>) -> Result<&'a Arc<Served>, Refusal> {
    let model = app.model(name)?;
    if model.is_text() { Ok(model) } else { Err(Refusal::invalid("model", "this model does not take text")) }
}
