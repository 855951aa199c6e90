//! Text → token ids, by the model's own `tokenizer.json`.

use std::collections::BTreeSet;
use std::fmt;

use tokenizers::{Encoding, Tokenizer, TruncationDirection};

use crate::bundle::task::{Overflow, Side, TextSpec};

mod cut;
mod pair;
mod spell;

pub use pair::Half;
pub use spell::Token;

/// Ids and segment ids of one text, special tokens included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    pub ids: Vec<i64>,
    pub types: Vec<i64>,
    /// So many at the front are the prompt's, and not pooled.
    pub left_out: usize,
    /// Where each token stands, of a task that answers token by token; else none.
    pub places: Vec<Place>,
}

/// Where a token stands in its text, in code points, and whether the tokenizer put it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub start: u32,
    pub end: u32,
    pub special: bool,
}

/// What a request says of its texts; None: as the model says.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    pub prompt: Option<Prompt>,
    pub overflow: Option<Overflow>,
    pub side: Option<Side>,
    pub normalize: Option<bool>,
    pub dimensions: Option<usize>,
}

#[derive(Clone, Debug)]
pub enum Prompt {
    Text(String),
    Named(String),
    /// What the texts are for, in the words of several services.
    InputType(String),
}

/// How the texts of one request are tokenized.
#[derive(Clone, Debug)]
pub struct How {
    prompt: String,
    left_out: usize,
    overflow: Overflow,
    side: Side,
}

impl How {
    /// What stands before each text.
    pub fn prompt(&self) -> &str {
        &self.prompt
    }
}

#[derive(Debug, PartialEq, Eq)]
pub enum TokenizeError {
    /// `more`: not the whole text was counted.
    TooLong {
        pair: bool,
        tokens: usize,
        more: bool,
        limit: usize,
    },
    /// More text than is ever tokenized, and no place where it could be cut.
    TooMuch {
        characters: usize,
        most: usize,
    },
    Failed(String),
}

impl fmt::Display for TokenizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenizeError::TooLong { pair, tokens, more, limit } => {
                let (what, more) = (if *pair { "pair" } else { "text" }, if *more { "more than " } else { "" });
                write!(f, "the {what} has {more}{tokens} tokens, special tokens included, and the limit is {limit}")
            }
            TokenizeError::TooMuch { characters, most } => write!(
                f,
                "the text has {characters} characters; at most {most} are taken, unless white space lets the text be cut \
                 and what is before the cut fills the limit of tokens"
            ),
            TokenizeError::Failed(text) => f.write_str(text),
        }
    }
}

/// Bytes of text that are tokenized at first for each token of the limit.
const BYTES_PER_TOKEN: usize = 32;

/// So many characters are always taken: the slowest tokenizers take some 5 µs for each, so that one text cannot hold a
/// thread much longer than a third of a second.
const ALWAYS: usize = 1 << 16;

pub struct TextTask {
    tokenizer: Tokenizer,
    says: TextSpec,
    /// Ids of special tokens.
    special: BTreeSet<u32>,
    /// Most characters of one text that are ever tokenized.
    most: usize,
    /// Whether a text may be cut at white space (see [`cut`]).
    local: bool,
    /// Special tokens before and after a text.
    frame: (Vec<i64>, Vec<i64>),
}

impl TextTask {
    /// Loads the tokenizer. Its file's own truncation and padding are not used: the bundle's limit is the only one.
    pub fn load(bytes: &[u8], says: &TextSpec) -> Result<Self, String> {
        let limit = says.limit;
        let mut tokenizer = Tokenizer::from_bytes(bytes).map_err(|e| e.to_string())?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|e| e.to_string())?;
        let frame = frame(&tokenizer).map_err(|e| e.to_string())?;
        let between = if says.texts.len() > 1 { pair::pair_frame(&tokenizer) } else { 0 };
        if between.max(frame.0.len() + frame.1.len()) > limit {
            return Err(format!("a limit of {limit} tokens leaves no room for the special tokens"));
        }
        // No token of the vocabulary spells more characters, so what is longer has more tokens than the limit (but for
        // characters that the tokenizer drops).
        let longest = tokenizer.get_vocab(true).keys().map(|t| t.chars().count()).max().unwrap_or(1);
        let most = limit.saturating_mul(longest).clamp(ALWAYS, 16 * ALWAYS);
        let added = tokenizer.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        let local = cut::is_local(bytes);
        Ok(TextTask { tokenizer, says: says.clone(), special, most, local, frame })
    }

    /// What a request's own words come to. Fails with the field at fault.
    pub fn how(&self, asked: &Asked) -> Result<How, (&'static str, String)> {
        let says = &self.says;
        let absent = |what: String| {
            let names: Vec<&str> = says.prompts.keys().map(String::as_str).collect();
            format!("{what}; the model's prompts are {}", names.join(", "))
        };
        let prompt = match &asked.prompt {
            None => &says.prompt,
            Some(Prompt::Text(text)) => text,
            Some(Prompt::Named(name)) => says
                .prompts
                .get(name)
                .ok_or_else(|| ("prompt_name", absent(format!("there is no prompt {:?}", short(name)))))?,
            Some(Prompt::InputType(word)) => self
                .prompt_for(word)
                .ok_or_else(|| ("input_type", absent(format!("{:?} names no prompt", short(word)))))?,
        };
        if !self.is_short(prompt) {
            return Err(("prompt", self.too_much(prompt).to_string()));
        }
        let mut how = How {
            prompt: prompt.clone(),
            left_out: 0,
            overflow: asked.overflow.unwrap_or(says.overflow),
            side: asked.side.unwrap_or(says.truncation_side),
        };
        if !says.include_prompt && !prompt.is_empty() {
            how.left_out = self.count_prompt(prompt).map_err(|e| ("prompt", e.to_string()))?;
        }
        Ok(how)
    }

    /// The prompt for a kind of text: of its own name, else of the names that go with it; one that says something first.
    fn prompt_for(&self, word: &str) -> Option<&String> {
        const QUERY: [&str; 1] = ["query"];
        const DOCUMENT: [&str; 3] = ["document", "passage", "corpus"];
        let others: &[&str] = match word {
            "query" | "search_query" => &QUERY,
            "document" | "passage" | "corpus" | "search_document" => &DOCUMENT,
            _ => &[],
        };
        let found =
            || std::iter::once(word).chain(others.iter().copied()).filter_map(|name| self.says.prompts.get(name));
        found().find(|text| !text.is_empty()).or_else(|| found().next())
    }

    /// How many tokens at the front of a text are its prompt's, as sentence-transformers counts them: all that the prompt
    /// has alone, without a special token at its end.
    fn count_prompt(&self, prompt: &str) -> Result<usize, TokenizeError> {
        let alone = self.tokenizer.encode_fast(prompt, true).map_err(|e| TokenizeError::Failed(e.to_string()))?;
        let ends = alone.get_ids().last().is_some_and(|id| self.special.contains(id));
        Ok(alone.len().min(self.says.limit) - usize::from(ends))
    }

    /// Tokens of a text with its prompt in front; cut to the limit, or refused, where it is longer.
    pub fn encode(&self, text: &str, how: &How) -> Result<Tokens, TokenizeError> {
        let joined;
        let text = if how.prompt.is_empty() {
            text
        } else {
            joined = format!("{}{text}", how.prompt);
            joined.as_str()
        };
        let limit = self.says.limit;
        // What is kept from the left must be known from the left: whether the text is too long is decided by a part.
        let cuts = self.local && (how.side == Side::Right || how.overflow == Overflow::Reject);
        // Words do not change those before them, so a part that goes beyond the limit decides as the whole would.
        let mut bytes = limit.saturating_mul(BYTES_PER_TOKEN);
        while cuts && bytes < text.len() && bytes < self.most {
            if let Some(part) = cut::before_white_space(text, bytes) {
                let (tokens, counted) = self.encode_part(part, true, how)?;
                if counted > limit {
                    return Ok(tokens);
                }
            }
            bytes = bytes.saturating_mul(4);
        }
        if self.is_short(text) {
            return Ok(self.encode_part(text, false, how)?.0);
        }
        if cuts && let Some(part) = cut::before_white_space(text, self.most) {
            let (tokens, counted) = self.encode_part(part, true, how)?;
            if counted > limit {
                return Ok(tokens);
            }
        }
        Err(self.too_much(text))
    }

    /// Whether all of a text may be tokenized.
    fn is_short(&self, text: &str) -> bool {
        text.len() <= self.most || text.chars().count() <= self.most
    }

    fn too_much(&self, text: &str) -> TokenizeError {
        TokenizeError::TooMuch { characters: text.chars().count(), most: self.most }
    }

    /// Tokens of a text cut to the limit, and how many there were.
    fn encode_part(&self, text: &str, more: bool, how: &How) -> Result<(Tokens, usize), TokenizeError> {
        let limit = self.says.limit;
        let failed = |e: tokenizers::Error| TokenizeError::Failed(e.to_string());
        let mut encoding = self.encoding(text, true).map_err(failed)?;
        let counted = encoding.len();
        // Where tokens of a cut text stand: a post-processor trims white space off places, and is at work twice.
        let mut trimmed = vec![];
        if counted > limit {
            if how.overflow == Overflow::Reject {
                return Err(TokenizeError::TooLong { pair: false, tokens: counted, more, limit });
            }
            // Cut the text's own tokens and frame the rest, as the tokenizers library does with a truncation set.
            let mut bare = self.encoding(text, false).map_err(failed)?;
            let room = limit - self.frame.0.len() - self.frame.1.len();
            bare.truncate(room, 0, direction(how.side));
            drop(bare.take_overflowing());
            if self.is_placed() {
                trimmed = bare.get_offsets().to_vec();
            }
            encoding = self.tokenizer.post_process(bare, None, true).map_err(failed)?;
        }
        let mut tokens = self.tokens(&encoding, how.left_out.min(encoding.len()));
        for (place, (start, end)) in tokens.places.iter_mut().filter(|place| !place.special).zip(trimmed) {
            (place.start, place.end) = (short_place(start), short_place(end));
        }
        Ok((tokens, counted))
    }

    /// Whether it matters where tokens stand.
    fn is_placed(&self) -> bool {
        self.says.gives.is_tags()
    }

    /// With its offsets where they matter: to find them takes time.
    fn encoding(&self, text: &str, special: bool) -> tokenizers::Result<Encoding> {
        if self.is_placed() {
            self.tokenizer.encode_char_offsets(text, special)
        } else {
            self.tokenizer.encode_fast(text, special)
        }
    }

    fn tokens(&self, encoding: &Encoding, left_out: usize) -> Tokens {
        let types = if self.says.segments { widen(encoding.get_type_ids()) } else { vec![0; encoding.len()] };
        let places =
            encoding.get_offsets().iter().zip(encoding.get_special_tokens_mask()).map(|((start, end), special)| {
                Place { start: short_place(*start), end: short_place(*end), special: *special == 1 }
            });
        let places = if self.is_placed() { places.collect() } else { vec![] };
        Tokens { ids: widen(encoding.get_ids()), types, left_out, places }
    }

    /// Ids that the caller tokenized, taken as they are. Where they are cut, special tokens around them are kept.
    pub fn accept(&self, mut ids: Vec<i64>, how: &How) -> Result<Tokens, TokenizeError> {
        let limit = self.says.limit;
        if ids.len() > limit {
            if how.overflow == Overflow::Reject {
                return Err(TokenizeError::TooLong { pair: false, tokens: ids.len(), more: false, limit });
            }
            let (head, tail) = &self.frame;
            match how.side {
                Side::Right => {
                    let keep = if ids.ends_with(tail) { tail.len() } else { 0 };
                    ids.drain(limit - keep..ids.len() - keep);
                }
                Side::Left => {
                    let keep = if ids.starts_with(head) { head.len() } else { 0 };
                    ids.drain(keep..keep + ids.len() - limit);
                }
            }
        }
        Ok(Tokens { types: vec![0; ids.len()], ids, left_out: 0, places: vec![] })
    }
}

/// The special tokens around a text: what an empty text has, cut where the text would stand.
fn frame(tokenizer: &Tokenizer) -> tokenizers::Result<(Vec<i64>, Vec<i64>)> {
    let probe = tokenizer.encode("a", true)?;
    let special = probe.get_special_tokens_mask();
    let from = special.iter().take_while(|s| **s == 1).count();
    let to = special.iter().rev().take_while(|s| **s == 1).count().min(special.len() - from);
    let ids = widen(probe.get_ids());
    Ok((ids[..from].to_vec(), ids[ids.len() - to..].to_vec()))
}

/// Texts have far fewer code points.
fn short_place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

fn direction(side: Side) -> TruncationDirection {
    match side {
        Side::Left => TruncationDirection::Left,
        Side::Right => TruncationDirection::Right,
    }
}

/// A name for messages.
fn short(name: &str) -> String {
    name.chars().take(64).collect()
}

fn widen(ids: &[u32]) -> Vec<i64> {
    ids.iter().map(|id| i64::from(*id)).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Words of one letter; [CLS] = 1, [SEP] = 2; the file itself truncates to 3 and pads to 8.
    pub const FILE: &str = r###"{"version": "1.0",
        "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
        "padding": {"strategy": {"Fixed": 8}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0,
                    "pad_token": "[PAD]"},
        "added_tokens": [{"id": 1, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true},
                         {"id": 2, "content": "[SEP]", "single_word": false, "lstrip": false, "rstrip": false,
                          "normalized": false, "special": true}],
        "normalizer": null, "pre_tokenizer": {"type": "Whitespace"}, "decoder": null,
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]},
        "model": {"type": "WordLevel", "unk_token": "[UNK]",
                  "vocab": {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "a": 3, "b": 4, "c": 5, "d": 6}}}"###;

    struct Tried(TextTask);

    impl Tried {
        fn encode(&self, text: &str) -> Result<Tokens, TokenizeError> {
            self.0.encode(text, &self.0.how(&Asked::default()).unwrap())
        }

        fn accept(&self, ids: Vec<i64>) -> Result<Tokens, TokenizeError> {
            self.0.accept(ids, &self.0.how(&Asked::default()).unwrap())
        }
    }

    pub fn says(overflow: Overflow, limit: usize, prompt: &str) -> TextSpec {
        let prompts =
            [("query", "d "), ("passage", "b c "), ("document", "")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        TextSpec {
            limit,
            overflow,
            prompt: prompt.into(),
            prompts: prompts.into(),
            include_prompt: false,
            segments: true,
            ..TextSpec::default()
        }
    }

    fn task(overflow: Overflow, limit: usize, prompt: &str) -> Tried {
        Tried(TextTask::load(FILE.as_bytes(), &says(overflow, limit, prompt)).unwrap())
    }

    #[test]
    fn the_files_own_truncation_and_padding_are_off() {
        assert_eq!(task(Overflow::Reject, 10, "").encode("a b c d").unwrap().ids, [1, 3, 4, 5, 6, 2]);
        assert_eq!(task(Overflow::Reject, 10, "").encode("").unwrap().ids, [1, 2]);
        assert_eq!(task(Overflow::Reject, 10, "d ").encode("a").unwrap().ids, [1, 6, 3, 2]);
    }

    #[test]
    fn overlong_text_is_refused_with_both_numbers_or_cut_with_its_special_tokens() {
        let refused = task(Overflow::Reject, 4, "").encode("a b c").unwrap_err();
        assert_eq!(refused, TokenizeError::TooLong { pair: false, tokens: 5, more: false, limit: 4 });
        assert!(refused.to_string().contains("5 tokens") && refused.to_string().contains("limit is 4"));
        assert_eq!(task(Overflow::Truncate, 4, "").encode("a b c").unwrap().ids, [1, 3, 4, 2]);
    }

    #[test]
    fn a_text_may_be_cut_on_its_left() {
        let task = |overflow| {
            let says = TextSpec { truncation_side: Side::Left, ..says(overflow, 4, "") };
            Tried(TextTask::load(FILE.as_bytes(), &says).unwrap())
        };
        assert_eq!(task(Overflow::Truncate).encode("a b c d").unwrap().ids, [1, 5, 6, 2]);
        let long = "a b ".repeat(5_000) + "c d";
        assert_eq!(task(Overflow::Truncate).encode(&long).unwrap().ids, [1, 5, 6, 2]);
        assert!(matches!(task(Overflow::Reject).encode(&long), Err(TokenizeError::TooLong { more: true, .. })));
        assert_eq!(task(Overflow::Truncate).accept(vec![1, 3, 4, 5, 6, 2]).unwrap().ids, [1, 5, 6, 2]);
        assert_eq!(task(Overflow::Truncate).accept(vec![3, 4, 5, 6, 3]).unwrap().ids, [4, 5, 6, 3]);
    }

    #[test]
    fn of_a_very_long_text_only_the_first_words_are_tokenized() {
        let long = "a b ".repeat(100_000);
        assert_eq!(task(Overflow::Truncate, 5, "").encode(&long).unwrap().ids, [1, 3, 4, 3, 2]);
        let refused = task(Overflow::Reject, 5, "").encode(&long).unwrap_err();
        assert!(matches!(refused, TokenizeError::TooLong { tokens: 6..200, more: true, .. }), "{refused}");
        let sparse = format!("{}a b", " ".repeat(60_000));
        assert_eq!(task(Overflow::Reject, 5, "").encode(&sparse).unwrap().ids, [1, 3, 4, 2]);
        let solid = "a".repeat(70_000);
        let refused = task(Overflow::Truncate, 5, "").encode(&solid).unwrap_err();
        assert_eq!(refused, TokenizeError::TooMuch { characters: 70_000, most: ALWAYS });
        assert!(task(Overflow::Truncate, 5, "").encode(&solid[..ALWAYS]).is_ok());
    }

    #[test]
    fn given_ids_are_kept_or_cut_before_their_last_special_token() {
        assert_eq!(task(Overflow::Truncate, 4, "").accept(vec![1, 3, 4, 5, 6, 2]).unwrap().ids, [1, 3, 4, 2]);
        assert_eq!(task(Overflow::Truncate, 4, "").accept(vec![3, 4, 5, 6, 3]).unwrap().ids, [3, 4, 5, 6]);
        assert!(task(Overflow::Reject, 4, "").accept(vec![3; 5]).is_err());
    }

    #[test]
    fn tokenize_has_no_limit_and_a_limit_below_the_special_tokens_is_refused() {
        let tokens = task(Overflow::Truncate, 3, "").0.tokenize("a b c", true).unwrap();
        let (ids, pieces): (Vec<u32>, Vec<&str>) = tokens.iter().map(|t| (t.id, t.spelling.as_str())).unzip();
        let spans: Vec<_> = tokens.iter().filter(|t| !t.special).map(|t| t.span).collect();
        assert_eq!(spans, [(0, 1), (2, 3), (4, 5)]);
        assert_eq!((ids.as_slice(), pieces[0]), ([1, 3, 4, 5, 2].as_slice(), "[CLS]"));
        assert!(TextTask::load(FILE.as_bytes(), &says(Overflow::Truncate, 1, "")).is_err());
    }

    #[test]
    fn a_request_chooses_prompt_side_and_what_becomes_of_a_long_text() {
        let task = task(Overflow::Reject, 5, "").0;
        let ids = |asked: Asked, text: &str| {
            let tokens = task.encode(text, &task.how(&asked).unwrap()).unwrap();
            (tokens.ids, tokens.left_out)
        };
        let asked = |prompt| Asked { prompt: Some(prompt), ..Asked::default() };
        assert_eq!(ids(Asked::default(), "a"), (vec![1, 3, 2], 0));
        assert_eq!(ids(asked(Prompt::Named("query".into())), "a"), (vec![1, 6, 3, 2], 2));
        assert_eq!(ids(asked(Prompt::Text("c ".into())), "a"), (vec![1, 5, 3, 2], 2));
        for word in ["query", "search_query"] {
            assert_eq!(ids(asked(Prompt::InputType(word.into())), "a").0, [1, 6, 3, 2], "{word}");
        }
        for word in ["document", "passage", "search_document", "corpus"] {
            assert_eq!(ids(asked(Prompt::InputType(word.into())), "a"), (vec![1, 4, 5, 3, 2], 3), "{word}");
        }
        let left = Asked { side: Some(Side::Left), overflow: Some(Overflow::Truncate), ..Asked::default() };
        assert_eq!(ids(left, "a b c d").0, [1, 4, 5, 6, 2]);
        for (prompt, field) in
            [(Prompt::Named("nope".into()), "prompt_name"), (Prompt::InputType("image".into()), "input_type")]
        {
            let (at, text) = task.how(&asked(prompt)).unwrap_err();
            assert_eq!(at, field);
            assert!(text.ends_with("the model's prompts are document, passage, query"), "{text}");
        }
        assert_eq!(task.how(&asked(Prompt::Text("x".repeat(70_000)))).unwrap_err().0, "prompt");
    }
}
