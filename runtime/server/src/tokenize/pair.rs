//! Two texts → one sequence, as transformers' fast tokenizers make it: the longer one is cut first.

use tokenizers::{Encoding, PostProcessor, Tokenizer, TruncationParams, TruncationStrategy, truncate_encodings};

use super::{BYTES_PER_TOKEN, How, TextTask, TokenizeError, Tokens, cut, direction};
use crate::bundle::task::{Overflow, Side};

fn failed(error: tokenizers::Error) -> TokenizeError {
    TokenizeError::Failed(error.to_string())
}

/// One text of a pair, its special tokens still to come.
#[derive(Clone)]
pub struct Half {
    encoding: Encoding,
    /// There is more of the text behind what was tokenized.
    more: bool,
}

impl Half {
    /// The same with so many tokens, from the side that is kept.
    fn ending(mut self, count: usize, side: Side) -> Self {
        self.encoding.truncate(count, 0, direction(side));
        drop(self.encoding.take_overflowing());
        self
    }
}

impl TextTask {
    /// Tokens of a pair; cut to the limit, or refused, where both together are longer.
    pub fn encode_pair(&self, first: Half, second: &str, how: &How) -> Result<Tokens, TokenizeError> {
        let limit = self.says.limit;
        let second = self.half(second, 1, how)?;
        let frame = pair_frame(&self.tokenizer);
        let tokens = first.encoding.len() + second.encoding.len() + frame;
        let more = first.more || second.more;
        let (mut first, mut second) = (first.encoding, second.encoding);
        if tokens > limit {
            if how.overflow == Overflow::Reject {
                return Err(TokenizeError::TooLong { tokens, more, limit });
            }
            let cut = TruncationParams {
                direction: direction(how.side),
                max_length: limit - frame,
                strategy: TruncationStrategy::LongestFirst,
                stride: 0,
            };
            let (one, other) = truncate_encodings(first, Some(second), &cut).map_err(failed)?;
            (first, second) = (one, other.unwrap_or_default());
            // What was cut off; each of its parts would be joined with each of the other's.
            drop((first.take_overflowing(), second.take_overflowing()));
        }
        let both = self.tokenizer.post_process(first, Some(second), true).map_err(failed)?;
        Ok(self.tokens(&both, 0))
    }

    /// The first text of pairs.
    pub fn first_half(&self, text: &str, how: &How) -> Result<Half, TokenizeError> {
        self.half(text, 0, how)
    }

    /// A text of a pair, of a text that is to be cut as much as the tokenizers library tokenizes: it ends with the word in
    /// which the limit is reached. (Which of two texts is the longer one is decided by what is left.) Of a long text no more
    /// is tokenized than makes that sure.
    fn half(&self, text: &str, segment: u32, how: &How) -> Result<Half, TokenizeError> {
        let refuses = how.overflow == Overflow::Reject;
        let encode = |text: &str, more: bool| -> Result<Half, TokenizeError> {
            let mut encoding = self.tokenizer.encode_fast(text, false).map_err(failed)?;
            if !refuses && encoding.len() >= self.says.limit {
                // With its words, which the fast way leaves out.
                encoding = self.tokenizer.encode(text, false).map_err(failed)?;
            }
            encoding.set_type_ids(vec![segment; encoding.len()]);
            Ok(Half { encoding, more })
        };
        let mut bytes = self.says.limit.saturating_mul(BYTES_PER_TOKEN).min(self.most);
        while self.local && (refuses || how.side == Side::Right) && bytes < text.len() {
            if let Some(part) = cut::before_white_space(text, bytes) {
                let half = encode(part, true)?;
                match self.reached(&half.encoding, how.side) {
                    Some(_) if refuses && half.encoding.len() > self.says.limit => return Ok(half),
                    Some(count) if !refuses => return Ok(half.ending(count, how.side)),
                    _ => {}
                }
            }
            if bytes == self.most {
                break;
            }
            bytes = bytes.saturating_mul(4).min(self.most);
        }
        if !self.is_short(text) {
            return Err(self.too_much(text));
        }
        let half = encode(text, false)?;
        match self.reached(&half.encoding, how.side) {
            Some(count) if !refuses => Ok(half.ending(count, how.side)),
            _ => Ok(half),
        }
    }

    /// So many tokens, from the side that is kept, has a text up to the end of the word in which there are as many as the
    /// limit. Added tokens are no words.
    fn reached(&self, encoding: &Encoding, side: Side) -> Option<usize> {
        if encoding.len() < self.says.limit {
            return None;
        }
        let words = encoding.get_word_ids().chunk_by(|a, b| a == b).map(<[_]>::len).collect::<Vec<_>>();
        let mut ids = encoding.get_ids();
        let mut total = 0;
        let next = |at: usize| if side == Side::Right { words[at] } else { words[words.len() - 1 - at] };
        for size in (0..words.len()).map(next) {
            let word;
            (word, ids) = match side {
                Side::Right => ids.split_at(size),
                Side::Left => {
                    let (rest, word) = ids.split_at(ids.len() - size);
                    (word, rest)
                }
            };
            total += size;
            let added = matches!(word, [only] if self.added.contains(only));
            if !added && total >= self.says.limit {
                return Some(total);
            }
        }
        None
    }
}

/// Special tokens around and between the texts of a pair.
pub fn pair_frame(tokenizer: &Tokenizer) -> usize {
    tokenizer.get_post_processor().map_or(0, |p| p.added_tokens(true))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FILE, says};
    use super::super::widen;
    use super::*;
    use crate::bundle::task::{Side, TextSpec};
    use crate::tokenize::Asked;

    fn task(limit: usize, overflow: Overflow, truncation_side: Side) -> TextTask {
        let texts = vec!["query".to_owned(), "document".to_owned()];
        TextTask::load(FILE.as_bytes(), &TextSpec { texts, truncation_side, ..says(overflow, limit, "") }).unwrap()
    }

    fn encode(task: &TextTask, first: &str, second: &str) -> Result<Tokens, TokenizeError> {
        let how = task.how(&Asked::default()).unwrap();
        task.encode_pair(task.first_half(first, &how)?, second, &how)
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
    fn what_is_cut_before_it_is_tokenized_changes_no_token() {
        let long = |word: &str, count: usize| format!("{word} ").repeat(count);
        for (limit, side) in [8, 9, 10, 11].into_iter().flat_map(|n| [(n, Side::Right), (n, Side::Left)]) {
            let task = task(limit, Overflow::Truncate, side);
            let mut whole = task.tokenizer.clone();
            let cut = TruncationParams { max_length: limit, direction: direction(side), ..TruncationParams::default() };
            whole.with_truncation(Some(cut)).unwrap();
            for (first, second) in [(1, 5000), (5000, 1), (4000, 5000), (5000, 4000), (3, 700), (7, 8), (8, 7), (9, 12)]
            {
                for (a, b) in [("a", "b"), ("a [SEP]", "b"), ("a", "[CLS] b c")] {
                    let (first, second) = (long(a, first), long(b, second));
                    let theirs = whole.encode((first.as_str(), second.as_str()), true).unwrap();
                    assert_eq!(ids(&task, &first, &second), widen(theirs.get_ids()), "{limit} {side:?} {a} {b}");
                }
            }
        }
        let task = task(10, Overflow::Truncate, Side::Right);
        assert_eq!(ids(&task, &long("a", 90_000), &long("b", 100_000)).len(), 10);
    }

    #[test]
    fn a_pair_that_is_too_long_is_refused_with_its_numbers() {
        let task = task(5, Overflow::Reject, Side::Right);
        let refused = encode(&task, "a b", "c").unwrap_err();
        assert_eq!(refused, TokenizeError::TooLong { tokens: 6, more: false, limit: 5 });
        let refused = encode(&task, "a", &"b ".repeat(40_000)).unwrap_err();
        assert!(matches!(refused, TokenizeError::TooLong { more: true, limit: 5, .. }), "{refused}");
        let refused = encode(&task, "a", &"b".repeat(70_000)).unwrap_err();
        assert_eq!(refused, TokenizeError::TooMuch { characters: 70_000, most: 65_536 });
        let texts = vec!["a".to_owned(), "b".to_owned()];
        let none = TextTask::load(FILE.as_bytes(), &TextSpec { texts, ..says(Overflow::Reject, 2, "") });
        assert!(none.err().unwrap().contains("leaves no room"));
    }
}
