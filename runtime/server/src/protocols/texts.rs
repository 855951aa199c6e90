//! Texts and pairs of texts in a native request.

use std::sync::Arc;

use super::native::{Asked, Extra, read_texts, take_other};
use super::tags::Wish;
use crate::bundle::task::Gives;
use crate::json::{Fault, Reader};
use crate::model::{Served, Text};
use crate::pool::Turn;
use crate::refusal::Refusal;

/// The texts under one name, and whether it is a single one.
struct Given {
    texts: Vec<String>,
    single: bool,
}

/// `{"text": …}`, a string or a list of strings; of a model of pairs both, `{"query": …, "document": …}`.
pub fn parse_texts(model: &Served, body: &str, extra: &mut Extra, turn: &Turn) -> Result<Asked, Refusal> {
    let names = model.texts();
    let mut given: Vec<Option<Given>> = names.iter().map(|_| None).collect();
    let mut wish = Wish::default();
    let mut reader = Reader::new(body);
    reader
        .object(|reader, key| {
            let Some(index) = names.iter().position(|name| *name == key) else {
                if model.gives().is_tags() && wish.take(reader, &key)? {
                    return Ok(());
                }
                return take_other(model, reader, &key, extra);
            };
            if given[index].is_some() {
                return Err(Fault::Value { path: names[index].clone(), message: "the input is given twice".into() });
            }
            let single = reader.peek() == Some(b'"');
            given[index] = Some(Given { texts: read_texts(reader, &names[index])?, single });
            Ok(())
        })
        .and_then(|()| reader.end())
        .map_err(|fault| Refusal::json("", fault))?;
    let mut found = Vec::with_capacity(names.len());
    for (name, given) in names.iter().zip(given) {
        let missing = || Refusal::invalid(name, "the input is missing; expected a string or a list of strings");
        found.push(given.ok_or_else(missing)?);
    }
    let (field, single) = names.iter().zip(&found).next_back().map_or(("text", true), |(n, g)| (n.as_str(), g.single));
    let texts = join(model, names, found)?;
    let at = |index: usize| if single { field.to_owned() } else { format!("{field}[{index}]") };
    let texts = model.encode(texts, &Default::default(), turn, at)?;
    Ok(Asked::of(model, texts, wish))
}

/// One list of texts or of pairs. A single query goes with each of its documents.
fn join(model: &Served, names: &[String], mut found: Vec<Given>) -> Result<Vec<Text>, Refusal> {
    let Some(last) = found.pop() else { return Err(Refusal::internal()) };
    let Some(first) = found.pop() else { return Ok(last.texts.into_iter().map(Text::Alone).collect()) };
    let spreads = matches!(model.gives(), Gives::Score(_)) && first.single && !last.single;
    if spreads {
        let query: Arc<str> = first.texts.into_iter().next().ok_or_else(Refusal::internal)?.into();
        let pair = |document| Text::Pair(Arc::clone(&query), document);
        return Ok(last.texts.into_iter().map(pair).collect());
    }
    pairs(names, first.texts, last.texts)
}

/// Pairs of two lists of the same length.
pub fn pairs(names: &[String], first: Vec<String>, second: Vec<String>) -> Result<Vec<Text>, Refusal> {
    if first.len() != second.len() {
        let text = format!("it has {} texts, and {} has {}", second.len(), names[0], first.len());
        return Err(Refusal::invalid(&names[1], text));
    }
    Ok(first.into_iter().zip(second).map(|(first, second)| Text::Pair(first.into(), second)).collect())
}
