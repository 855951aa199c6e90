//! What a manifest says of a model's task: what stands around the model.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::manifest::Model;
use crate::tensor::{DType, Dim};

#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "TaskFields")]
pub enum Task {
    Tensor,
    Text(TextSpec),
}

/// What stands around a model of text.
#[derive(Clone, Debug, Default)]
pub struct TextSpec {
    pub gives: Gives,
    /// The names of a request's texts: one, or two for pairs.
    pub texts: Vec<String>,
    pub tokenizer: String,
    /// Most tokens of one text, special tokens included.
    pub limit: usize,
    pub overflow: Overflow,
    pub truncation_side: Side,
    /// Whether the model is told which text of a pair a token is of.
    pub segments: bool,
    /// What stands before each text, unless its request asks for another prompt, one of `prompts` by its name, say.
    pub prompt: String,
    pub prompts: BTreeMap<String, String>,
    /// How tokens are pooled, for people: it is part of the compiled model.
    pub pooling: String,
    /// Whether the tokens of a prompt are pooled.
    pub include_prompt: bool,
    /// Whether the compiled model makes its embeddings 1 long.
    pub normalize: bool,
    /// Fewer dimensions that an embedding may be cut to.
    pub dimensions: Vec<usize>,
}

/// What is made of a model's output.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Gives {
    /// Nothing: it is the embedding.
    #[default]
    Embedding,
    /// The `top` best of the classes.
    Classes { labels: Vec<String>, activation: Activation, top: usize },
    /// One score for each pair.
    Score(Activation),
    /// The likeliest of the labels for each token, or for what is made of several.
    Tags { labels: Vec<String>, aggregation: Aggregation, unknown: Option<u32> },
}

impl Gives {
    /// Whether it answers token by token.
    pub fn is_tags(&self) -> bool {
        matches!(self, Gives::Tags { .. })
    }
}

/// How tokens become entities, by the names of transformers' pipeline: not at all; neighbours of one kind are one; and the
/// tokens of a word have the label of the first, of their mean scores, or of the surest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Aggregation {
    #[default]
    None,
    Simple,
    First,
    Average,
    Max,
}

/// What makes scores of logits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    Softmax,
    Sigmoid,
    None,
}

/// A task as it is written: which fields belong to it depends on its kind.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TaskFields {
    kind: TaskKind,
    #[serde(default)]
    tokenizer: Option<String>,
    #[serde(default)]
    limit: Option<usize>,
    #[serde(default)]
    overflow: Option<Overflow>,
    #[serde(default)]
    truncation_side: Option<Side>,
    #[serde(default)]
    segments: Option<bool>,
    #[serde(default)]
    prompt: String,
    #[serde(default)]
    prompts: BTreeMap<String, String>,
    #[serde(default)]
    include_prompt: Option<bool>,
    #[serde(default)]
    normalize: Option<bool>,
    #[serde(default)]
    dimensions: Vec<usize>,
    #[serde(default)]
    texts: Vec<String>,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    activation: Option<Activation>,
    #[serde(default)]
    top: Option<usize>,
    #[serde(default)]
    pooling: Option<String>,
    #[serde(default)]
    aggregation: Option<Aggregation>,
    #[serde(default)]
    unknown: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum TaskKind {
    Tensor,
    Embed,
    Classify,
    Rerank,
    Tag,
}

impl TryFrom<TaskFields> for Task {
    type Error = String;

    fn try_from(fields: TaskFields) -> Result<Self, String> {
        let gives = match (fields.kind, fields.activation, fields.top) {
            (TaskKind::Tag, None, None) => Gives::Tags {
                labels: fields.labels,
                aggregation: fields.aggregation.unwrap_or_default(),
                unknown: fields.unknown,
            },
            _ if fields.aggregation.is_some() || fields.unknown.is_some() => {
                return Err("\"aggregation\" and \"unknown\" go with tag".into());
            }
            (TaskKind::Tensor, ..) if fields.tokenizer.is_none() && fields.limit.is_none() => return Ok(Task::Tensor),
            (TaskKind::Tensor, ..) => return Err("a task of kind \"tensor\" has no tokenizer and no limit".into()),
            (TaskKind::Embed, None, None) => Gives::Embedding,
            (TaskKind::Classify, Some(activation), Some(top)) => {
                Gives::Classes { labels: fields.labels, activation, top }
            }
            (TaskKind::Rerank, Some(activation), None) => Gives::Score(activation),
            _ => return Err("\"activation\" goes with classify and rerank, \"top\" with classify".into()),
        };
        let (Some(tokenizer), Some(limit)) = (fields.tokenizer, fields.limit) else {
            return Err("a task of text needs a tokenizer and a limit".into());
        };
        Ok(Task::Text(TextSpec {
            gives,
            texts: fields.texts,
            tokenizer,
            limit,
            overflow: fields.overflow.unwrap_or_default(),
            truncation_side: fields.truncation_side.unwrap_or_default(),
            segments: fields.segments.unwrap_or(true),
            prompt: fields.prompt,
            prompts: fields.prompts,
            pooling: fields.pooling.unwrap_or_default(),
            include_prompt: fields.include_prompt.unwrap_or(true),
            normalize: fields.normalize.unwrap_or(false),
            dimensions: fields.dimensions,
        }))
    }
}

/// Where a text that is too long loses tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Side {
    Left,
    #[default]
    Right,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    #[default]
    Reject,
    Truncate,
}

impl TextSpec {
    /// What is wrong with it, if anything, as the task of `model`.
    pub fn check(&self, model: &Model) -> Result<(), String> {
        let names: BTreeSet<&String> = self.texts.iter().collect();
        let most = if matches!(self.gives, Gives::Embedding | Gives::Tags { .. }) { 1 } else { 2 };
        let least = if matches!(self.gives, Gives::Score(_)) { 2 } else { 1 };
        if names.len() != self.texts.len() || !(least..=most).contains(&names.len()) {
            return Err(format!("the task has the texts {:?}", self.texts));
        }
        let classes = match &self.gives {
            Gives::Embedding => return Ok(()),
            Gives::Score(_) => 1,
            Gives::Classes { labels, top, .. } => {
                if !(1..=labels.len()).contains(top) {
                    return Err(format!("the task names {top} of {} labels", labels.len()));
                }
                labels.len()
            }
            Gives::Tags { labels, .. } if labels.is_empty() => return Err("the task has no labels".into()),
            Gives::Tags { labels, .. } => labels.len(),
        };
        let mut rest = vec![Dim::Fixed(classes)];
        if let (true, Some(tokens)) = (self.gives.is_tags(), &model.length_dim) {
            rest.insert(0, Dim::Symbol(tokens.clone()));
        }
        match model.outputs.as_slice() {
            [only] if only.dtype == DType::Float32 && only.shape.get(1..) == Some(rest.as_slice()) => Ok(()),
            _ if rest.len() > 1 => Err(format!("the task needs one output, float32 [batch, tokens, {classes}]")),
            _ => Err(format!("the task needs one output, float32 [batch, {classes}]")),
        }
    }
}
