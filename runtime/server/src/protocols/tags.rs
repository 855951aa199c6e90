//! Logits of tokens → entities, as transformers' token-classification pipeline makes them.
//!
//! `{"text": "…", "aggregation_strategy": "simple", "ignore_labels": ["O"]}` → a list for each text: of tokens
//! `{"entity", "score", "index", "word", "start", "end"}`, of what is made of several `{"entity_group", "score", "word",
//! "start", "end"}`. Places are in code points. The names of both fields are those of that pipeline, and so is how a token that
//! goes on with a word is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::call::Call;
use super::fields::fault;
use super::native::{frame, named_string, within};
use super::scores::scores;
use crate::answer::Size;
use crate::bundle::task::{Activation, Aggregation, Gives};
use crate::json::{Fault, Reader, writer};
use crate::memory::MOST_ANSWER;
use crate::model::{Encoded, Served, Tagged};
use crate::refusal::{Reason, Refusal};
use crate::tensor::{Data, Tensor};
use crate::tokenize::TextTask;

/// What a request says of its entities.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wish {
    pub aggregation: Option<Aggregation>,
    /// Labels that are left out; None: `O`.
    pub ignore: Option<Vec<String>>,
}

/// Most labels that a request leaves out.
const MOST_IGNORED: usize = 1024;

impl Wish {
    /// Reads the value if the key is one of a wish's; each may be given once.
    pub fn take(&mut self, reader: &mut Reader, key: &str) -> Result<bool, Fault> {
        let given = match key {
            "aggregation_strategy" => self.aggregation.is_some(),
            "ignore_labels" => self.ignore.is_some(),
            _ => return Ok(false),
        };
        if given {
            return Err(fault(key, "the field is given twice"));
        }
        if reader.null() {
            return Ok(true);
        }
        if key == "ignore_labels" {
            self.ignore = Some(read_labels(reader).map_err(|f| within(key, f))?);
        } else {
            self.aggregation = Some(read_aggregation(reader)?);
        }
        Ok(true)
    }

    fn leaves_out(&self, label: &str) -> bool {
        self.ignore.as_ref().map_or(label == "O", |labels| labels.iter().any(|one| one == label))
    }
}

fn read_labels(reader: &mut Reader) -> Result<Vec<String>, Fault> {
    if reader.peek() != Some(b'[') {
        return Err(Fault::value(format!("expected a list of labels, got {}", reader.kind())));
    }
    let mut labels = Vec::new();
    reader.array(|reader, index| {
        if index == MOST_IGNORED {
            return Err(Fault::value(format!("more than {MOST_IGNORED} labels")));
        }
        labels.push(named_string(reader, &format!("[{index}]"))?.into_owned());
        Ok(())
    })?;
    Ok(labels)
}

fn read_aggregation(reader: &mut Reader) -> Result<Aggregation, Fault> {
    const NAME: &str = "aggregation_strategy";
    match &*named_string(reader, NAME)?.to_ascii_lowercase() {
        "none" => Ok(Aggregation::None),
        "simple" => Ok(Aggregation::Simple),
        "first" => Ok(Aggregation::First),
        "average" => Ok(Aggregation::Average),
        "max" => Ok(Aggregation::Max),
        _ => Err(fault(NAME, "expected \"none\", \"simple\", \"first\", \"average\" or \"max\"")),
    }
}

/// Bytes of an entity beside its word and label, and of a word, at most for most.
const ENTITY: u64 = 192;

/// Runs tokenized texts and renders their entities.
pub async fn answer(
    call: &mut Call,
    model: &Arc<Served>,
    texts: Encoded,
    wish: Wish,
    id: &str,
) -> Result<Bytes, Refusal> {
    let Gives::Tags { labels, .. } = model.gives() else { return Err(Refusal::internal()) };
    let longest = labels.iter().map(|label| 6 * label.len() as u64).max().unwrap_or(0);
    let tokens = texts.tokens as u64;
    let size = Size {
        tensors: tokens.saturating_mul(4 * labels.len() as u64),
        text: tokens.saturating_mul(longest + ENTITY).saturating_add(8 << 10),
    };
    let share = call.app.answers.reserve(size)?;
    let found = Arc::new(model.tag(texts, call.due()).await?);
    let (kept, id) = (Arc::clone(model), id.to_owned());
    let body = call.offload(move |turn| render(&kept, &found.0, &found.1.tagged, &wish, &id, turn.due)).await?;
    let size = Size { tensors: size.tensors, text: body.len() as u64 };
    Ok(share.fit(&call.app.answers, size)?.hold(body))
}

/// Like [`answer`], for a caller without a runtime.
pub fn answer_blocking(model: &Served, texts: Encoded, wish: &Wish, id: &str) -> Result<Vec<u8>, Refusal> {
    let (outputs, texts) = model.tag_blocking(texts)?;
    render(model, &outputs, &texts.tagged, wish, id, Instant::now() + Duration::from_secs(600))
}

/// `{"outputs": {"entities": […]}, …}`: `outputs` has logits, float32 [1, tokens, labels], for each text.
fn render(
    model: &Served,
    outputs: &[Tensor],
    texts: &[Tagged],
    wish: &Wish,
    id: &str,
    due: Instant,
) -> Result<Vec<u8>, Refusal> {
    let (Gives::Tags { labels, aggregation, unknown }, Some(task)) = (model.gives(), &model.text) else {
        return Err(Refusal::internal());
    };
    let reader = Words { task, labels, unknown: *unknown, marks: task.marks_parts() };
    let how = wish.aggregation.unwrap_or(*aggregation);
    frame(model, id, |out| {
        writer::key(out, "entities");
        out.push(b'[');
        for (index, (tensor, text)) in outputs.iter().zip(texts).enumerate() {
            let Data::Float32(logits) = &tensor.data else { return Err(Refusal::internal()) };
            if index > 0 {
                if Instant::now() >= due {
                    return Err(Refusal::new(Reason::Deadline, "the deadline passed before all entities were made"));
                }
                out.push(b',');
            }
            let mut entities = reader.entities(&reader.pieces(text, logits), how)?;
            entities.retain(|entity| !wish.leaves_out(&entity.label));
            writer::list(out, &entities, write_entity);
            if out.len() as u64 > MOST_ANSWER {
                let text = format!("the entities have more than {MOST_ANSWER} bytes");
                return Err(Refusal::new(Reason::AnswerTooLarge, text));
            }
        }
        out.push(b']');
        Ok(())
    })
}

/// A token of the text itself.
struct Piece {
    index: usize,
    word: String,
    scores: Vec<f32>,
    start: u32,
    end: u32,
    /// It goes on with the word of the one before.
    part: bool,
}

#[derive(Debug, PartialEq)]
struct Entity {
    label: String,
    score: f32,
    word: String,
    start: u32,
    end: u32,
    /// Of a token.
    index: Option<usize>,
}

struct Words<'a> {
    task: &'a TextTask,
    labels: &'a [String],
    unknown: Option<u32>,
    /// The vocabulary marks tokens that go on with a word.
    marks: bool,
}

impl Words<'_> {
    fn pieces(&self, tagged: &Tagged, logits: &[f32]) -> Vec<Piece> {
        let text: Vec<char> = tagged.text.chars().collect();
        let part_of = |from: u32, to: u32| text.get(from as usize..to as usize).unwrap_or_default();
        let rows = logits.chunks_exact(self.labels.len().max(1));
        let tokens = tagged.ids.iter().zip(&tagged.places).zip(rows).enumerate();
        tokens
            .filter(|(_, ((_, place), _))| !place.special)
            .map(|(index, ((id, place), row))| {
                let (start, end) = (place.start, place.end);
                let mut word = self.task.spelling(*id);
                let seen = part_of(start, end);
                let mut part = if self.marks {
                    word.chars().count() != seen.len()
                } else {
                    start > 0 && !part_of(start - 1, (start + 1).min(text.len() as u32)).contains(&' ')
                };
                if Some(*id) == self.unknown {
                    (word, part) = (seen.iter().collect(), false);
                }
                Piece { index, word, scores: scores(Activation::Softmax, row), start, end, part }
            })
            .collect()
    }

    fn entities(&self, pieces: &[Piece], how: Aggregation) -> Result<Vec<Entity>, Refusal> {
        let token = |piece: &Piece| Entity {
            index: Some(piece.index),
            ..self.entity(best(&piece.scores), piece.word.clone(), piece, piece)
        };
        match how {
            Aggregation::None => Ok(pieces.iter().map(token).collect()),
            Aggregation::Simple => self.grouped(pieces.iter().map(token)),
            _ => {
                let words: Result<Vec<Entity>, Refusal> = pieces
                    .chunk_by(|_, next| next.part)
                    .map(|word| {
                        let spelled = word.iter().map(|piece| piece.word.clone()).collect();
                        Ok(self.entity(decided(word, how), self.unspelled(spelled)?, &word[0], &word[word.len() - 1]))
                    })
                    .collect();
                self.grouped(words?.into_iter())
            }
        }
    }

    fn entity(&self, (label, score): (usize, f32), word: String, from: &Piece, to: &Piece) -> Entity {
        let label = self.labels.get(label).cloned().unwrap_or_default();
        Entity { label, score, word, start: from.start, end: to.end, index: None }
    }

    /// Neighbours of one kind as one: what begins with `B-` begins a new one.
    fn grouped(&self, entities: impl Iterator<Item = Entity>) -> Result<Vec<Entity>, Refusal> {
        let mut groups: Vec<Vec<Entity>> = Vec::new();
        for entity in entities {
            match groups.last_mut() {
                Some(group) if group.last().is_some_and(|last| goes_on(&last.label, &entity.label)) => {
                    group.push(entity);
                }
                _ => groups.push(vec![entity]),
            }
        }
        groups.into_iter().map(|group| self.group(&group)).collect()
    }

    fn group(&self, group: &[Entity]) -> Result<Entity, Refusal> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Err(Refusal::internal()) };
        let sum: f64 = group.iter().map(|entity| f64::from(entity.score)).sum();
        Ok(Entity {
            label: first.label.split_once('-').map_or(first.label.as_str(), |(_, kind)| kind).to_owned(),
            score: (sum / group.len() as f64) as f32,
            word: self.unspelled(group.iter().map(|entity| entity.word.clone()).collect())?,
            start: first.start,
            end: last.end,
            index: None,
        })
    }

    fn unspelled(&self, words: Vec<String>) -> Result<String, Refusal> {
        self.task.unspell(words).map_err(|error| {
            crate::log::error(&format!("tokenizer: {error}"));
            Refusal::internal()
        })
    }
}

/// What a word's tokens decide: the place of its label, and the score.
fn decided(word: &[Piece], how: Aggregation) -> (usize, f32) {
    match how {
        Aggregation::Average => {
            let mut mean = vec![0.0; word[0].scores.len()];
            for piece in word {
                mean.iter_mut().zip(&piece.scores).for_each(|(sum, score)| *sum += score);
            }
            mean.iter_mut().for_each(|sum| *sum /= word.len() as f32);
            best(&mean)
        }
        Aggregation::Max => {
            let all = word.iter().map(|piece| best(&piece.scores));
            all.reduce(|most, one| if one.1 > most.1 { one } else { most }).unwrap_or_default()
        }
        _ => best(&word[0].scores),
    }
}

/// The largest score, the first of equal ones, and its place.
fn best(scores: &[f32]) -> (usize, f32) {
    let all = scores.iter().copied().enumerate();
    all.reduce(|most, one| if one.1 > most.1 { one } else { most }).unwrap_or_default()
}

/// Whether an entity labelled `next` goes on with the one before: of the same kind, and no `B-`.
fn goes_on(before: &str, next: &str) -> bool {
    let kind = |label: &str| label.strip_prefix("B-").or_else(|| label.strip_prefix("I-")).unwrap_or(label).to_owned();
    !next.starts_with("B-") && kind(before) == kind(next)
}

fn write_entity(out: &mut Vec<u8>, entity: &Entity) {
    out.push(b'{');
    writer::key(out, if entity.index.is_some() { "entity" } else { "entity_group" });
    writer::string(out, &entity.label);
    out.extend_from_slice(b",\"score\":");
    writer::number(out, entity.score);
    if let Some(index) = entity.index {
        out.extend_from_slice(b",\"index\":");
        writer::integer(out, index as u64);
    }
    out.extend_from_slice(b",\"word\":");
    writer::string(out, &entity.word);
    for (name, at) in [("start", entity.start), ("end", entity.end)] {
        out.push(b',');
        writer::key(out, name);
        writer::integer(out, at.into());
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(index: usize, scores: &[f32], part: bool) -> Piece {
        Piece { index, word: String::new(), scores: scores.to_vec(), start: 0, end: 0, part }
    }

    #[test]
    fn a_word_is_decided_by_its_first_token_the_mean_or_the_surest() {
        let word =
            [piece(1, &[0.6, 0.4, 0.0], false), piece(2, &[0.1, 0.2, 0.7], true), piece(3, &[0.2, 0.7, 0.1], true)];
        assert_eq!(decided(&word, Aggregation::First), (0, 0.6));
        assert_eq!(decided(&word, Aggregation::Max), (2, 0.7));
        let (label, score) = decided(&word, Aggregation::Average);
        assert!(label == 1 && (score - 1.3 / 3.0).abs() < 1e-6, "{label} {score}");
        assert_eq!(best(&[0.5, 0.5]), (0, 0.5));
    }

    #[test]
    fn labels_of_one_kind_go_on_unless_they_begin() {
        for (before, next, on) in [
            ("B-PER", "I-PER", true),
            ("I-PER", "B-PER", false),
            ("I-PER", "I-LOC", false),
            ("NOUN", "NOUN", true),
            ("NOUN", "I-NOUN", true),
            ("B-A-B", "I-A-B", true),
            ("O", "O", true),
        ] {
            assert_eq!(goes_on(before, next), on, "{before} {next}");
        }
    }

    fn read(body: &str) -> Result<Wish, Refusal> {
        let mut wish = Wish::default();
        let mut reader = Reader::new(body);
        let read = reader.object(|reader, key| match wish.take(reader, &key)? {
            true => Ok(()),
            false => Err(fault(&key, "no")),
        });
        read.and_then(|()| reader.end()).map_err(|fault| Refusal::json("", fault))?;
        Ok(wish)
    }

    #[test]
    fn a_request_says_how_tokens_become_entities_and_what_is_left_out() {
        let wish = read(r#"{"aggregation_strategy": "Simple", "ignore_labels": ["O", "B-X"]}"#).unwrap();
        assert_eq!(wish.aggregation, Some(Aggregation::Simple));
        assert!(wish.leaves_out("O") && wish.leaves_out("B-X") && !wish.leaves_out("X"));
        assert!(!read(r#"{"ignore_labels": []}"#).unwrap().leaves_out("O"));
        assert!(read(r#"{"ignore_labels": null, "aggregation_strategy": null}"#).unwrap().leaves_out("O"));
        for (body, field) in [
            (r#"{"aggregation_strategy": "some"}"#, "aggregation_strategy"),
            (r#"{"aggregation_strategy": 1}"#, "aggregation_strategy"),
            (r#"{"aggregation_strategy": "max", "aggregation_strategy": "max"}"#, "aggregation_strategy"),
            (r#"{"ignore_labels": "O"}"#, "ignore_labels"),
            (r#"{"ignore_labels": ["O", 1]}"#, "ignore_labels[1]"),
        ] {
            assert_eq!(read(body).unwrap_err().field.as_deref(), Some(field), "{body}");
        }
    }
}
