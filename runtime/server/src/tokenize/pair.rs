//! Two texts → one sequence, as transformers' fast tokenizers make it: the longer one is cut first.

use tokenizers::{Encoding, PostProcessor, TruncationParams, TruncationStrategy, truncate_encodings};

use super::{How, TextTask, TokenizeError, Tokens, direction};
use crate::bundle::task::Overflow;

fn failed(error: tokenizers::Error) -> TokenizeError {
    TokenizeError::Failed(error.to_string())
}

impl TextTask {
    /// Tokens of a pair; cut to the limit, or refused, where both together are longer. No text is cut before it is
    /// tokenized: which of two is the longer one, all of both decides.
    pub fn encode_pair(&self, mut first: Encoding, second: &str, how: &How) -> Result<Tokens, TokenizeError> {
        let limit = self.says.limit;
        let mut second = Some(self.one_of_pair(second, 1)?);
        let frame = self.pair_frame();
        let tokens = first.len() + second.as_ref().map_or(0, Encoding::len) + frame;
        if tokens > limit {
            if how.overflow == Overflow::Reject {
                return Err(TokenizeError::TooLong { tokens, more: false, limit });
            }
            let cut = TruncationParams {
                direction: direction(how.side),
                max_length: limit - frame,
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
            };
            (first, second) = truncate_encodings(first, second, &cut).map_err(failed)?;
        }
        let both = self.tokenizer.post_process(first, second, true).map_err(failed)?;
        Ok(self.tokens(&both, 0))
    }

    /// The first text of pairs, whose special tokens are still to come.
    pub fn first_of_pair(&self, text: &str) -> Result<Encoding, TokenizeError> {
        self.one_of_pair(text, 0)
    }

    fn one_of_pair(&self, text: &str, segment: u32) -> Result<Encoding, TokenizeError> {
        if !self.is_short(text) {
            return Err(TokenizeError::TooMuch { characters: text.chars().count(), most: self.most, whole: true });
        }
        let mut encoding = self.tokenizer.encode_fast(text, false).map_err(failed)?;
        encoding.set_type_ids(vec![segment; encoding.len()]);
        Ok(encoding)
    }

    /// Special tokens around and between the texts of a pair.
    pub(super) fn pair_frame(&self) -> usize {
        self.tokenizer.get_post_processor().map_or(0, |p| p.added_tokens(true))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FILE, says};
    use super::*;
    use crate::bundle::task::{Side, TextSpec};
    use crate::tokenize::Asked;

    fn task(limit: usize, overflow: Overflow, truncation_side: Side) -> TextTask {
        let texts = vec!["query".to_owned(), "document".to_owned()];
        TextTask::load(FILE.as_bytes(), &TextSpec { texts, truncation_side, ..says(overflow, limit, "") }).unwrap()
    }

    fn encode(task: &TextTask, first: &str, second: &str) -> Result<Tokens, TokenizeError> {
        task.encode_pair(task.first_of_pair(first)?, second, &task.how(&Asked::default()).unwrap())
    }

    fn ids(task: &TextTask, first: &str, second: &str) -> Vec<i64> {
        encode(task, first, second).unwrap().ids
    }

    #[test]
    fn the_longer_text_is_cut_first_and_both_where_one_is_not_enough() {
        let whole = task(16, Overflow::Reject, Side::Right);
        let both = encode(&whole, "a b", "c").unwrap();
        assert_eq!((both.ids, both.types), (vec![1, 3, 4, 2, 5, 2], vec![0, 0, 0, 0, 1, 1]));
        assert_eq!(ids(&whole, "", ""), [1, 2, 2]);
        let right = task(8, Overflow::Truncate, Side::Right);
        assert_eq!(ids(&right, "a", "b b c c d d"), [1, 3, 2, 4, 4, 5, 5, 2]);
        assert_eq!(ids(&right, "a b c d a", "b c d d"), [1, 3, 4, 5, 2, 4, 5, 2]);
        let left = task(8, Overflow::Truncate, Side::Left);
        assert_eq!(ids(&left, "a b c d", "d"), [1, 3, 4, 5, 6, 2, 6, 2]);
        assert_eq!(ids(&left, "a b c d a", "d"), [1, 4, 5, 6, 3, 2, 6, 2]);
    }

    #[test]
    fn a_pair_that_is_too_long_is_refused_with_its_numbers() {
        let task = task(5, Overflow::Reject, Side::Right);
        let refused = encode(&task, "a b", "c").unwrap_err();
        assert_eq!(refused, TokenizeError::TooLong { tokens: 6, more: false, limit: 5 });
        let refused = encode(&task, "a", &"b ".repeat(40_000)).unwrap_err().to_string();
        assert!(refused.contains("of each text of a pair at most 65536 are taken"), "{refused}");
        let texts = vec!["a".to_owned(), "b".to_owned()];
        let none = TextTask::load(FILE.as_bytes(), &TextSpec { texts, ..says(Overflow::Reject, 2, "") });
        assert!(none.err().unwrap().contains("leaves no room"));
    }
}
