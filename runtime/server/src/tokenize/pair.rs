//! Two texts → one sequence, as transformers' fast tokenizers make it: the longer one is cut first.

use std::cell::OnceCell;
use std::sync::Arc;

use tokenizers::{Encoding, PostProcessor, Tokenizer};

use super::{BYTES_PER_TOKEN, How, TextTask, TokenizeError, Tokens, cut, direction};
use crate::bundle::task::{Overflow, Side};

fn failed(error: tokenizers::Error) -> TokenizeError {
    TokenizeError::Failed(error.to_string())
}

/// One text of a pair, its special tokens still to come.
pub struct Half {
    text: Arc<str>,
    /// Its tokens; of a text that is to be cut, as many of them as the limit, from the side that is kept.
    encoding: Encoding,
    /// How many it has; or more, where `more`.
    count: usize,
    /// There is more of the text behind what was tokenized.
    more: bool,
    /// How many the whole text has, where it was asked for.
    whole: OnceCell<usize>,
}

impl TextTask {
    /// Tokens of a pair; cut to the limit, or refused, where both together are longer.
    pub fn encode_pair(&self, first: &Half, second: &str, how: &How) -> Result<Tokens, TokenizeError> {
        let limit = self.says.limit;
        let second = self.half(second.into(), 1, how)?;
        let frame = pair_frame(&self.tokenizer);
        let tokens = first.count + second.count + frame;
        let (mut one, mut other) = (first.encoding.clone(), second.encoding.clone());
        if tokens > limit {
            if how.overflow == Overflow::Reject {
                return Err(TokenizeError::TooLong { pair: true, tokens, more: first.more || second.more, limit });
            }
            let kept = self.kept(first, &second, limit - frame)?;
            for (encoding, count) in [(&mut one, kept.0), (&mut other, kept.1)] {
                encoding.truncate(count, 0, direction(how.side));
                // What was cut off; each of its parts would be joined with each of the other's.
                drop(encoding.take_overflowing());
            }
        }
        let both = self.tokenizer.post_process(one, Some(other), true).map_err(failed)?;
        Ok(self.tokens(&both, 0))
    }

    /// How many tokens of each text are kept where both together have more than `room`: all of one that takes no more than half
    /// of it, else half of it each, where of an odd number the longer text has one more, or the second.
    fn kept(&self, first: &Half, second: &Half, room: usize) -> Result<(usize, usize), TokenizeError> {
        let half = room / 2;
        // What was not counted to its end has more than the limit.
        Ok(if first.count <= half {
            (first.count, room - first.count)
        } else if second.count <= half {
            (room - second.count, second.count)
        } else if room % 2 == 1 && self.is_longer(first, second)? {
            (half + 1, half)
        } else {
            (half, room - half)
        })
    }

    fn is_longer(&self, first: &Half, second: &Half) -> Result<bool, TokenizeError> {
        if !second.more && first.count > second.count {
            return Ok(true);
        }
        if !first.more && second.count >= first.count {
            return Ok(false);
        }
        Ok(self.count_whole(first)? > self.count_whole(second)?)
    }

    fn count_whole(&self, half: &Half) -> Result<usize, TokenizeError> {
        if !half.more {
            return Ok(half.count);
        }
        if let Some(count) = half.whole.get() {
            return Ok(*count);
        }
        if !self.is_short(&half.text) {
            return Err(self.too_much(&half.text));
        }
        let count = self.tokenizer.encode_fast(&*half.text, false).map_err(failed)?.len();
        Ok(*half.whole.get_or_init(|| count))
    }

    /// The first text of pairs.
    pub fn first_half(&self, text: Arc<str>, how: &How) -> Result<Half, TokenizeError> {
        self.half(text, 0, how)
    }

    /// A text of a pair. Of a long one no more is tokenized than shows that it is longer than the limit.
    fn half(&self, text: Arc<str>, segment: u32, how: &How) -> Result<Half, TokenizeError> {
        let limit = self.says.limit;
        let encode = |text: &Arc<str>, part: &str| -> Result<Half, TokenizeError> {
            let mut encoding = self.tokenizer.encode_fast(part, false).map_err(failed)?;
            let count = encoding.len();
            encoding.truncate(limit, 0, direction(how.side));
            drop(encoding.take_overflowing());
            encoding.set_type_ids(vec![segment; encoding.len()]);
            let more = part.len() < text.len();
            Ok(Half { text: Arc::clone(text), encoding, count, more, whole: OnceCell::new() })
        };
        let mut bytes = limit.saturating_mul(BYTES_PER_TOKEN).min(self.most);
        while self.local && (how.overflow == Overflow::Reject || how.side == Side::Right) && bytes < text.len() {
            if let Some(part) = cut::before_white_space(&text, bytes) {
                let half = encode(&text, part)?;
                if half.count > limit {
                    return Ok(half);
                }
            }
            if bytes == self.most {
                break;
            }
            bytes = bytes.saturating_mul(4).min(self.most);
        }
        if !self.is_short(&text) {
            return Err(self.too_much(&text));
        }
        encode(&text, &text)
    }
}

/// Special tokens around and between the texts of a pair.
pub fn pair_frame(tokenizer: &Tokenizer) -> usize {
    tokenizer.get_post_processor().map_or(0, |p| p.added_tokens(true))
}

#[cfg(test)]
mod tests {
    use tokenizers::{TruncationParams, truncate_encodings};

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
        task.encode_pair(&task.first_half(first.into(), &how)?, second, &how)
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
            let cut = TruncationParams {
                max_length: limit - pair_frame(&task.tokenizer),
                direction: direction(side),
                ..TruncationParams::default()
            };
            for (first, second) in [(1, 5000), (5000, 1), (4000, 5000), (5000, 4000), (3, 700), (7, 8), (8, 7), (9, 12)]
            {
                for (a, b) in [("a", "b"), ("a [SEP]", "b"), ("a", "[CLS] b c")] {
                    let (first, second) = (long(a, first), long(b, second));
                    let whole = |text: &str| task.tokenizer.encode_fast(text, false).unwrap();
                    let (mut one, other) = truncate_encodings(whole(&first), Some(whole(&second)), &cut).unwrap();
                    let mut other = other.unwrap();
                    drop((one.take_overflowing(), other.take_overflowing()));
                    let theirs = task.tokenizer.post_process(one, Some(other), true).unwrap();
                    assert_eq!(ids(&task, &first, &second), widen(theirs.get_ids()), "{limit} {side:?} {a} {b}");
                }
            }
        }
        let even = task(11, Overflow::Truncate, Side::Right);
        assert_eq!(ids(&even, &long("a", 90_000), &long("b", 100_000)).len(), 11);
        // Which of the two has one token more is not known without counting all.
        let odd = task(10, Overflow::Truncate, Side::Right);
        let refused = encode(&odd, &long("a", 90_000), &long("b", 100_000)).unwrap_err();
        assert_eq!(refused, TokenizeError::TooMuch { characters: 180_000, most: 65_536 });
        assert_eq!(ids(&odd, &long("a", 90_000), &long("b", 10)).iter().filter(|id| **id == 3).count(), 4);
    }

    #[test]
    fn a_pair_that_is_too_long_is_refused_with_its_numbers() {
        let task = task(5, Overflow::Reject, Side::Right);
        let refused = encode(&task, "a b", "c").unwrap_err();
        assert_eq!(refused, TokenizeError::TooLong { pair: true, tokens: 6, more: false, limit: 5 });
        let refused = encode(&task, "a", &"b ".repeat(40_000)).unwrap_err();
        assert!(matches!(refused, TokenizeError::TooLong { more: true, limit: 5, .. }), "{refused}");
        let refused = encode(&task, "a", &"b".repeat(70_000)).unwrap_err();
        assert_eq!(refused, TokenizeError::TooMuch { characters: 70_000, most: 65_536 });
        let texts = vec!["a".to_owned(), "b".to_owned()];
        let none = TextTask::load(FILE.as_bytes(), &TextSpec { texts, ..says(Overflow::Reject, 2, "") });
        assert!(none.err().unwrap().contains("leaves no room"));
    }
}
