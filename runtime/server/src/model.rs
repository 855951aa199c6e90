//! A loaded model as protocols see it: tensors or texts in, tensors out, before the deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::answer::{Symbols, symbols};
use crate::bundle::MOST;
use crate::bundle::manifest::Model;
use crate::bundle::task::{Gives, Task};
use crate::check_inputs::{Cost, check_inputs};
use crate::engine::{Inputs, Limits};
use crate::finite::check_finite;
use crate::memory::PARSED;
use crate::metrics::Meters;
use crate::pool::Turn;
use crate::refusal::{Reason, Refusal};
use crate::scheduler::{Scheduler, Ticket};
use crate::tensor::{Data, Dim, Tensor, elements};
use crate::tokenize::{Asked, Half, How, Place, TextTask, TokenizeError, Tokens};
use crate::wire::budget::{Budget, Class, Reserved, SHARE};

pub struct Served {
    pub spec: Model,
    pub text: Option<TextTask>,
    pub scheduler: Arc<Scheduler>,
    pub meters: Meters,
    pub limits: Limits,
    pub deadline: Duration,
    pub variant: String,
    pub digest: Arc<str>,
}

/// One text of a request.
#[derive(Clone, Debug, PartialEq)]
pub enum Text {
    Alone(String),
    /// Token ids, special tokens included.
    Ids(Vec<i64>),
    /// The first text may be that of many pairs: it is held once, and tokenized once where they follow each other.
    Pair(Arc<str>, String),
}

/// Texts already tokenized: one part of a request each.
pub struct Encoded {
    parts: Vec<(Inputs, Cost)>,
    /// Tokens of all texts, special tokens included.
    pub tokens: usize,
    /// Of each text what is needed to label its tokens, where the task does that.
    pub tagged: Vec<Tagged>,
    /// Memory beyond that of the body: of what stands before each of many texts, and of what labels need.
    _held: Option<Reserved>,
}

/// A text whose tokens are labelled.
pub struct Tagged {
    pub text: String,
    pub ids: Vec<u32>,
    pub places: Vec<Place>,
}

impl Served {
    pub fn is_text(&self) -> bool {
        self.text.is_some()
    }

    /// The names of a request's texts; none where it has tensors.
    pub fn texts(&self) -> &[String] {
        if let Task::Text(says) = &self.spec.task { &says.texts } else { &[] }
    }

    /// The names that a native request has.
    pub fn input_names(&self) -> Vec<&str> {
        match self.texts() {
            [] => self.spec.inputs.iter().map(|input| input.name.as_str()).collect(),
            texts => texts.iter().map(String::as_str).collect(),
        }
    }

    /// What is made of the model's output.
    pub fn gives(&self) -> &Gives {
        if let Task::Text(says) = &self.spec.task { &says.gives } else { &Gives::Embedding }
    }

    /// Runs one request of tensors, given in the order of the model's inputs.
    pub async fn run(&self, inputs: Inputs, deadline: Instant) -> Result<Vec<Tensor>, Refusal> {
        let (ticket, rows) = self.submit(inputs, deadline)?;
        self.finish(ticket.wait().await?, rows)
    }

    /// Like [`Served::run`], for a caller without a runtime.
    pub fn run_blocking(&self, inputs: Inputs) -> Result<Vec<Tensor>, Refusal> {
        let (ticket, rows) = self.submit(inputs, Instant::now() + Duration::from_secs(600))?;
        self.finish(ticket.wait_blocking()?, rows)
    }

    fn submit(&self, inputs: Inputs, deadline: Instant) -> Result<(Ticket, usize), Refusal> {
        let cost = check_inputs(&self.spec, &inputs)?;
        let parts = if self.fits(cost) { vec![(inputs, cost)] } else { self.split(inputs, cost) };
        Ok((self.scheduler.submit(parts, deadline)?, cost.rows))
    }

    /// The request's outputs, unless one is not finite: 500 for this request, whoever shared its batches.
    fn finish(&self, parts: Vec<Vec<Tensor>>, rows: usize) -> Result<Vec<Tensor>, Refusal> {
        let count = parts.len();
        let outputs = join(parts, rows)?;
        match check_finite(&self.spec.outputs, &outputs) {
            Ok(()) => Ok(outputs),
            Err(refusal) => {
                self.meters.non_finite.inc();
                self.scheduler.turned_to_failures(count);
                Err(refusal)
            }
        }
    }

    /// The sizes of dimensions that a request of tensors shows before it is run.
    pub fn symbols_of(&self, inputs: &Inputs) -> Symbols<'_> {
        symbols(&self.spec, inputs)
    }

    /// Like [`Served::symbols_of`], of tokenized texts.
    pub fn symbols_of_texts(&self, texts: &Encoded) -> Symbols<'_> {
        let longest = texts.parts.iter().map(|(_, cost)| cost.longest).max().unwrap_or(0);
        let mut found = Symbols::new();
        found.extend(self.spec.length_dim.as_deref().map(|dim| (dim, longest)));
        found.extend(self.spec.batch_dim.as_deref().map(|dim| (dim, texts.parts.len())));
        found
    }

    fn fits(&self, cost: Cost) -> bool {
        !self.spec.batchable || (cost.rows <= self.limits.rows && cost.tokens <= self.limits.tokens)
    }

    /// Cuts a large request into parts of whole rows that fit into a batch. Rows are independent where a model is
    /// batchable, so the parts' outputs, one below the other, are the request's.
    fn split(&self, inputs: Inputs, cost: Cost) -> Vec<(Inputs, Cost)> {
        if !splits_by_rows(&self.spec) || cost.rows == 0 {
            return vec![(inputs, cost)];
        }
        let by_tokens = self.limits.tokens.checked_div(cost.longest).unwrap_or(usize::MAX);
        let rows = self.limits.rows.min(by_tokens).max(1);
        let mut parts = Vec::with_capacity(cost.rows.div_ceil(rows));
        for from in (0..cost.rows).step_by(rows) {
            let to = cost.rows.min(from + rows);
            let part = inputs.iter().map(|t| t.as_ref().map(|t| rows_of(t, from, to))).collect();
            let tokens = (to - from) * cost.longest;
            parts.push((part, Cost { rows: to - from, tokens, longest: cost.longest }));
        }
        parts
    }

    /// What stands before many texts and is in the body once, a prompt or a query: bytes to tokenize beside those of the body,
    /// and the memory that their tokens take.
    fn repeated(&self, texts: &[Text], how: &How) -> (usize, usize) {
        let Task::Text(says) = &self.spec.task else { return (0, 0) };
        // An id and a segment for each token, of which there are no more than bytes, or two for one that is added.
        let tokens = |text: &str| if text.is_empty() { 0 } else { says.limit.min(2 * text.len() + 8) };
        let (mut work, mut held) = (0_usize, 0_usize);
        let mut before: Option<&Arc<str>> = None;
        for text in texts {
            match text {
                Text::Pair(first, _) => {
                    if before.is_some_and(|last| Arc::ptr_eq(last, first)) {
                        // Its tokens are copied, which takes an eighth of the time.
                        work = work.saturating_add(first.len() / 8);
                        held = held.saturating_add(tokens(first));
                    }
                    before = Some(first);
                }
                Text::Alone(text) => {
                    work = work.saturating_add(how.prompt().len());
                    held = held.saturating_add(tokens(how.prompt()));
                    if says.gives.is_tags() {
                        // An id and a place of each token, and the text itself.
                        held = held.saturating_add(tokens(text)).saturating_add(text.len() / 16);
                    }
                }
                Text::Ids(_) => {}
            }
        }
        (work, held.saturating_mul(2 * size_of::<i64>()) / PARSED as usize)
    }

    /// The memory of tokens whose text is in the body once and in the batch many times: 422 where it is more than all large
    /// requests have, 429 where there is no room for it now.
    fn hold(&self, bytes: usize, asked: &Asked, budget: &Arc<Budget>) -> Result<Option<Reserved>, Refusal> {
        if bytes == 0 {
            return Ok(None);
        }
        let class = if bytes <= SHARE { Class::Small } else { Class::Large };
        if !budget.could_hold(class, bytes) {
            let field = if asked.prompt.is_some() { "prompt" } else { self.texts().first().map_or("", String::as_str) };
            let text = "the tokens of all texts take too much memory; send them in several requests";
            return Err(Refusal::invalid(field, text));
        }
        let busy = || Refusal::new(Reason::Busy, "too many requests of so many tokens at once");
        budget.hold(class, bytes).map(Some).ok_or_else(busy)
    }

    /// Tokenizes texts as the request `asked`. `field` names each text in refusals (`input[3]`). Takes time in proportion to
    /// the texts; between two of them it ends where the turn's time has passed.
    pub fn encode(
        &self,
        texts: Vec<Text>,
        asked: &Asked,
        turn: &Turn,
        field: impl Fn(usize) -> String,
    ) -> Result<Encoded, Refusal> {
        let task = self.text.as_ref().ok_or_else(|| Refusal::malformed("this model does not take text"))?;
        let how = task.how(asked).map_err(|(field, text)| Refusal::invalid(field, text))?;
        turn.allows(texts.len()).map_err(|text| {
            let one = field(0);
            Refusal::invalid(one.strip_suffix("[0]").unwrap_or(&one), text)
        })?;
        let (work, bytes) = self.repeated(&texts, &how);
        turn.takes(work)?;
        let held = turn.budget.as_ref().map_or(Ok(None), |budget| self.hold(bytes, asked, budget))?;
        let start = Instant::now();
        let mut parts = Vec::with_capacity(texts.len());
        let mut total = 0;
        let mut tagged = Vec::new();
        let mut before: Option<(Arc<str>, Half)> = None;
        for (index, text) in texts.into_iter().enumerate() {
            if index > 0 && Instant::now() >= turn.due {
                return Err(Refusal::new(Reason::Deadline, "the deadline passed before all texts were tokenized"));
            }
            let tokens = match text {
                Text::Alone(_) | Text::Ids(_) if self.texts().len() > 1 => {
                    let text = format!("the model takes pairs of texts: {}", self.texts().join(" and "));
                    return Err(Refusal::invalid(field(index), text));
                }
                Text::Pair(first, second) => {
                    let half = match before.take() {
                        Some((text, half)) if Arc::ptr_eq(&text, &first) => Ok(half),
                        _ => task.first_half(Arc::clone(&first), &how),
                    };
                    half.and_then(|half| {
                        let (_, half) = before.insert((first, half));
                        task.encode_pair(half, &second, &how)
                    })
                }
                Text::Alone(text) => task.encode(&text, &how).inspect(|tokens| {
                    if self.gives().is_tags() {
                        let ids = tokens.ids.iter().map(|id| u32::try_from(*id).unwrap_or(u32::MAX)).collect();
                        tagged.push(Tagged { text, ids, places: tokens.places.clone() });
                    }
                }),
                Text::Ids(_) if asked.prompt.is_some() => {
                    return Err(Refusal::invalid(
                        field(index),
                        "token ids are taken as they are, and no prompt before them",
                    ));
                }
                Text::Ids(ids) => task.accept(ids, &how),
            };
            let tokens = tokens.map_err(|error| match error {
                TokenizeError::TooLong { .. } | TokenizeError::TooMuch { .. } => {
                    Refusal::invalid(field(index), error.to_string())
                }
                TokenizeError::Failed(text) => {
                    crate::log::error(&format!("tokenizer: {text}"));
                    Refusal::invalid(field(index), "the text cannot be tokenized")
                }
            })?;
            total += tokens.ids.len();
            let inputs = self.token_inputs(tokens);
            let cost = check_inputs(&self.spec, &inputs)
                .map_err(|refusal| Refusal { field: Some(field(index)), ..refusal })?;
            parts.push((inputs, cost));
        }
        self.meters.tokenize_duration.observe(start.elapsed().as_secs_f64());
        Ok(Encoded { parts, tokens: total, tagged, _held: held })
    }

    /// One row: ids and, where the model has them, segment ids and which tokens are pooled; every other input is left to its
    /// default.
    fn token_inputs(&self, tokens: Tokens) -> Inputs {
        let row = |ids: Vec<i64>| Tensor { shape: vec![1, ids.len()], data: Data::Int64(ids) };
        let mut mask = Some((0..tokens.ids.len()).map(|at| i64::from(at >= tokens.left_out)).collect());
        let (mut ids, mut types) = (Some(tokens.ids), Some(tokens.types));
        let inputs = self.spec.inputs.iter().map(|spec| match spec.name.as_str() {
            "input_ids" => ids.take().map(row),
            "token_type_ids" => types.take().map(row),
            "pooling_mask" => mask.take().map(row),
            _ => None,
        });
        inputs.collect()
    }

    /// Embeds tokenized texts: one row each.
    pub async fn embed(&self, texts: Encoded, deadline: Instant) -> Result<Vec<Tensor>, Refusal> {
        if texts.parts.is_empty() {
            return self.no_rows();
        }
        self.check_even(&texts)?;
        let rows = texts.parts.len();
        self.finish(self.scheduler.submit(texts.parts, deadline)?.wait().await?, rows)
    }

    /// Like [`Served::embed`], for a caller without a runtime.
    pub fn embed_blocking(&self, texts: Encoded) -> Result<Vec<Tensor>, Refusal> {
        if texts.parts.is_empty() {
            return self.no_rows();
        }
        let rows = texts.parts.len();
        let deadline = Instant::now() + Duration::from_secs(600);
        self.finish(self.scheduler.submit(texts.parts, deadline)?.wait_blocking()?, rows)
    }

    /// Refuses texts whose outputs have different shapes, and so are no tensor.
    fn check_even(&self, texts: &Encoded) -> Result<(), Refusal> {
        let mut lengths = texts.parts.iter().map(|(_, cost)| cost.longest);
        let first = lengths.next();
        if !self.gives().is_tags() || lengths.all(|length| Some(length) == first) {
            return Ok(());
        }
        let field = self.texts().first().map_or("", String::as_str);
        let text =
            "texts of different numbers of tokens have outputs of different shapes: send them one by one, or to /infer";
        Err(Refusal::invalid(field, text))
    }

    /// Like [`Served::embed`], of a task that labels tokens: the one output of each text, and the texts with their tokens.
    pub async fn tag(&self, mut texts: Encoded, deadline: Instant) -> Result<(Vec<Tensor>, Encoded), Refusal> {
        let parts = std::mem::take(&mut texts.parts);
        if parts.is_empty() {
            return Ok((vec![], texts));
        }
        let parts = self.scheduler.submit(parts, deadline)?.wait().await?;
        Ok((self.finish_each(parts)?, texts))
    }

    /// Like [`Served::tag`], for a caller without a runtime.
    pub fn tag_blocking(&self, mut texts: Encoded) -> Result<(Vec<Tensor>, Encoded), Refusal> {
        let parts = std::mem::take(&mut texts.parts);
        if parts.is_empty() {
            return Ok((vec![], texts));
        }
        let deadline = Instant::now() + Duration::from_secs(600);
        Ok((self.finish_each(self.scheduler.submit(parts, deadline)?.wait_blocking()?)?, texts))
    }

    fn finish_each(&self, parts: Vec<Vec<Tensor>>) -> Result<Vec<Tensor>, Refusal> {
        let mut outputs = Vec::with_capacity(parts.len());
        for part in parts {
            outputs.append(&mut self.finish(vec![part], 1)?);
        }
        Ok(outputs)
    }

    /// The outputs of no text at all.
    fn no_rows(&self) -> Result<Vec<Tensor>, Refusal> {
        let outputs = self.spec.outputs.iter().map(|spec| {
            let dims = spec.shape.iter().map(|d| if let Dim::Fixed(n) = d { *n } else { 0 });
            Tensor { shape: dims.collect(), data: Data::zeros(spec.dtype, 0) }
        });
        Ok(outputs.collect())
    }

    /// The position of the input called `name`.
    pub fn input_index(&self, name: &str) -> Option<usize> {
        self.spec.inputs.iter().position(|spec| spec.name == name)
    }
}

/// Whether each input and output has the batch as its first dimension, and rows are independent.
pub fn splits_by_rows(spec: &Model) -> bool {
    let Some(batch) = &spec.batch_dim else { return false };
    let first = |shape: &[Dim]| shape.first() == Some(&Dim::Symbol(batch.clone()));
    spec.batchable && spec.inputs.iter().all(|s| first(&s.shape)) && spec.outputs.iter().all(|s| first(&s.shape))
}

/// The engine's limits for a model: what a batch may hold, and at least what the largest unsplit request needs.
pub fn engine_limits(spec: &Model, requests: usize, rows: usize, tokens: usize) -> Limits {
    let greatest = |dim: &Option<String>| dim.as_ref().and_then(|d| spec.dims.get(d)).map(|(_, high)| *high);
    let longest = match &spec.task {
        Task::Text(says) => greatest(&spec.length_dim).map(|high| high.min(says.limit)).unwrap_or(0),
        Task::Tensor => greatest(&spec.length_dim).unwrap_or(0),
    };
    let unsplit = if splits_by_rows(spec) { 1 } else { greatest(&spec.batch_dim).unwrap_or(1) };
    // No batch is larger than this, and what the model computes from it stays within 64 bits.
    let rows = rows.max(unsplit).min(MOST);
    let tokens = if longest == 0 { 0 } else { tokens.max(unsplit.saturating_mul(longest)).min(MOST) };
    Limits { requests: if spec.batchable { requests.clamp(1, MOST) } else { 1 }, rows, tokens, longest }
}

fn rows_of(tensor: &Tensor, from: usize, to: usize) -> Tensor {
    let stride = elements(&tensor.shape[1..]).unwrap_or(0);
    let mut shape = tensor.shape.clone();
    shape[0] = to - from;
    Tensor { shape, data: tensor.data.slice(from * stride, to * stride) }
}

/// Outputs of a request's parts, one below the other.
fn join(mut parts: Vec<Vec<Tensor>>, rows: usize) -> Result<Vec<Tensor>, Refusal> {
    if parts.len() == 1 {
        return parts.pop().ok_or_else(Refusal::internal);
    }
    let mut parts = parts.into_iter();
    let mut whole = parts.next().ok_or_else(Refusal::internal)?;
    for part in parts {
        for (to, from) in whole.iter_mut().zip(&part) {
            let fits = to.shape.len() == from.shape.len() && to.shape[1..] == from.shape[1..];
            if !(fits && to.data.append(&from.data)) {
                crate::log::error("the parts of a request have outputs of different shapes");
                return Err(Refusal::new(Reason::Internal, "the server failed on this request"));
            }
            to.shape[0] += from.shape[0];
        }
    }
    if whole.iter().any(|t| t.shape.first() != Some(&rows)) {
        crate::log::error("the parts of a request do not add up to its rows");
        return Err(Refusal::internal());
    }
    Ok(whole)
}
