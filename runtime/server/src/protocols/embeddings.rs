//! Embeddings of texts: what a body lists, what becomes of it before and after the model. OpenAI's form and that of
//! text-embeddings-inference say the same in other words.

use std::sync::Arc;

use bytes::Bytes;

use super::call::Call;
use super::fields::fault;
use super::native::{MOST_TEXTS, too_many_texts, within};
use crate::answer::{Form, Plan};
use crate::app::App;
use crate::bundle::task::{Gives, Task};
use crate::json::{Fault, Reader};
use crate::model::{Encoded, Served, Text};
use crate::pool::Turn;
use crate::refusal::Refusal;
use crate::tensor::{Data, Dim, Tensor};
use crate::tokenize::Asked;

/// The texts of a body, and whether it is a single one.
pub struct Given {
    texts: Vec<Text>,
    single: bool,
}

/// A request that is tokenized.
pub struct Ready {
    pub model: Arc<Served>,
    pub texts: Encoded,
    shape: Shape,
}

/// Tokenizes what a body lists under the name `list`, for a model that embeds.
pub fn encode(
    app: &Arc<App>,
    name: Option<&str>,
    list: &str,
    given: Option<Given>,
    asked: &Asked,
    turn: &Turn,
) -> Result<Ready, Refusal> {
    let model = app.model(name)?;
    if !(model.is_text() && *model.gives() == Gives::Embedding) {
        return Err(Refusal::invalid("model", "this model gives no embeddings of text"));
    }
    let shape = Shape::of(model, asked)?;
    let missing = || Refusal::invalid(list, "the field is missing; expected text or token ids");
    let Given { texts, single } = given.ok_or_else(missing)?;
    let field = |index| if single { list.into() } else { format!("{list}[{index}]") };
    let texts = model.encode(texts, asked, turn, field)?;
    Ok(Ready { model: Arc::clone(model), texts, shape })
}

/// The answer that `write` makes of the embeddings, float32 [rows, width].
pub async fn answer(
    call: &mut Call,
    ready: Ready,
    form: Form,
    write: impl FnOnce(&Tensor) -> Result<Vec<u8>, Refusal>,
) -> Result<Bytes, Refusal> {
    let Ready { model, texts, shape } = ready;
    let due = call.due();
    call.is_for(&model);
    let index = model.spec.outputs.iter().position(|o| o.name == "embedding").unwrap_or(0);
    let symbols = model.symbols_of_texts(&texts);
    let plan = Plan::new(&call.app.answers, &model.spec.outputs, vec![(index, form)], &symbols)?;
    let mut outputs = model.embed(texts, due).await?;
    outputs.get_mut(index).into_iter().for_each(|output| shape.apply(output));
    let share = plan.share(&outputs)?;
    let body = write(outputs.get(index).ok_or_else(Refusal::internal)?)?;
    drop(outputs);
    Ok(share.hold(body))
}

/// A string, a list of strings, a list of ids, or a list of lists of ids.
pub fn read_given(reader: &mut Reader, name: &str) -> Result<Given, Fault> {
    read_input(reader).map(|(texts, single)| Given { texts, single }).map_err(|f| within(name, f))
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

    /// `embedding`: float32 [rows, width]. What has another form is left to whoever writes it.
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
    let only = match only.is_empty() {
        true => format!("; `task embed(dimensions = {asked})` in the spec would allow it"),
        false => format!(", only to {}", only.join(", ")),
    };
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
