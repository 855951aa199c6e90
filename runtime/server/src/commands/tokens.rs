//! `serve tokenize`: what the model is given for each of many texts. A build compares it with the folder's own library.

use std::path::Path;

use serde_json::{Value, json};

use super::{Failure, Start, emit};
use crate::bundle::task::{Overflow, Task};
use crate::load::load_tokenizer;
use crate::tokenize::{Asked, TextTask, TokenizeError, Tokens};

/// Reads a text or a pair a line, a list of strings, and prints its tokens, cut at the limit.
pub fn tokenize(start: &Start, file: &Path) -> Result<(), Failure> {
    let Some(model) = start.manifest.models.first() else { return Err(Failure::internal("the bundle has no models")) };
    let task = load_tokenizer(&start.folder, &start.manifest, model)?
        .ok_or_else(|| Failure::usage("the model takes no texts"))?;
    let text = std::fs::read_to_string(file).map_err(|e| Failure::usage(format!("{}: {e}", file.display())))?;
    let mut out = String::new();
    for (number, line) in text.lines().enumerate() {
        let wrong = |what: String| Failure::usage(format!("{}, line {}: {what}", file.display(), number + 1));
        let texts: Vec<String> = serde_json::from_str(line).map_err(|e| wrong(e.to_string()))?;
        let takes = if let Task::Text(says) = &model.task { says.texts.len() } else { 0 };
        if texts.len() != takes {
            return Err(wrong(format!("it has {} texts, and the model takes {takes}", texts.len())));
        }
        let tokens = tokens(&task, &texts).map_err(|e| wrong(e.to_string()))?;
        out.push_str(&shown(&tokens).to_string());
        out.push('\n');
    }
    emit(&out)
}

fn tokens(task: &TextTask, texts: &[String]) -> Result<Tokens, TokenizeError> {
    let asked = Asked { overflow: Some(Overflow::Truncate), ..Asked::default() };
    let how = task.how(&asked).map_err(|(field, text)| TokenizeError::Failed(format!("{field}: {text}")))?;
    match texts {
        [text] => task.encode(text, &how),
        [first, second] => task.encode_pair(&task.first_half(first.as_str().into(), &how)?, second, &how),
        _ => Err(TokenizeError::Failed("the model takes one text, or two".into())),
    }
}

fn shown(tokens: &Tokens) -> Value {
    let pooled: Vec<u8> = (0..tokens.ids.len()).map(|at| u8::from(at >= tokens.left_out)).collect();
    json!({"input_ids": tokens.ids, "token_type_ids": tokens.types, "pooling_mask": pooled})
}
