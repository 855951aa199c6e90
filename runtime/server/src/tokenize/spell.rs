//! Tokens as people read them.

use tokenizers::{Decoder, ModelWrapper};

use super::{TextTask, TokenizeError};

/// One token as people look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    pub id: u32,
    pub spelling: String,
    pub special: bool,
    /// Where it begins and ends in the text, in code points.
    pub span: (usize, usize),
}

impl TextTask {
    /// All tokens of a text, without prompt and limit.
    pub fn tokenize(&self, text: &str, special: bool) -> Result<Vec<Token>, TokenizeError> {
        if !self.is_short(text) {
            return Err(self.too_much(text));
        }
        let failed = |e: tokenizers::Error| TokenizeError::Failed(e.to_string());
        let encoding = self.tokenizer.encode_char_offsets(text, special).map_err(failed)?;
        let (ids, spellings) = (encoding.get_ids(), encoding.get_tokens());
        let parts = encoding.get_offsets().iter().zip(encoding.get_special_tokens_mask());
        let tokens = ids.iter().zip(spellings).zip(parts).map(|((id, spelling), (span, special))| Token {
            id: *id,
            spelling: spelling.clone(),
            special: *special == 1,
            span: *span,
        });
        Ok(tokens.collect())
    }

    /// The text of token ids.
    pub fn detokenize(&self, ids: &[u32], skip_special: bool) -> Result<String, String> {
        if let Some(unknown) = ids.iter().find(|id| self.tokenizer.id_to_token(**id).is_none()) {
            return Err(format!("the vocabulary has no id {unknown}"));
        }
        self.tokenizer.decode(ids, skip_special).map_err(|e| e.to_string())
    }

    /// How the vocabulary spells a token; nothing where it has none of that id.
    pub fn spelling(&self, id: u32) -> String {
        self.tokenizer.id_to_token(id).unwrap_or_default()
    }

    /// The text of tokens as they are spelled.
    pub fn unspell(&self, spellings: Vec<String>) -> Result<String, TokenizeError> {
        match self.tokenizer.get_decoder() {
            Some(decoder) => decoder.decode(spellings).map_err(|e| TokenizeError::Failed(e.to_string())),
            None => Ok(spellings.join(" ")),
        }
    }

    /// Whether the vocabulary marks tokens that go on with a word.
    pub fn marks_parts(&self) -> bool {
        match self.tokenizer.get_model() {
            ModelWrapper::WordPiece(model) => !model.continuing_subword_prefix.is_empty(),
            ModelWrapper::BPE(model) => model.continuing_subword_prefix.as_ref().is_some_and(|mark| !mark.is_empty()),
            _ => false,
        }
    }
}
