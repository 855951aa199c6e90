//! Where a text may be cut before it is tokenized, the first tokens staying what they are.
//!
//! A cut is made only between an ASCII letter or digit and a space or newline. It changes no token before it where
//! * no added token has white space within: then none lies across the cut, and what follows one may look at is a space or
//!   the end, which are the same to `single_word`;
//! * each normalizer works on single characters and on marks behind them. A space is no mark and joins with nothing before
//!   it, and an ASCII letter followed by a space is written as it is by all Unicode forms;
//! * the pre-tokenizer goes from left to right and one of its parts always ends a piece before that space: `BertPreTokenizer`,
//!   `Whitespace` and `WhitespaceSplit` drop it, `Metaspace` begins the next piece with it, and no alternative of GPT-2's
//!   expression (`ByteLevel`) goes from a letter or digit to white space. The other parts only split pieces further;
//! * the model sees a piece at a time.
//!
//! What is not in these lists is taken not to be local. Tokens are kept from the left alone; nothing is cut on that side.

use serde_json::Value;

/// The front of a text, no more than `bytes` long, up to the last place where it may be cut.
pub fn before_white_space(text: &str, bytes: usize) -> Option<&str> {
    let all = text.as_bytes();
    let last = bytes.min(all.len().checked_sub(1)?);
    let is_place = |at: &usize| matches!(all[*at], b' ' | b'\n') && all[*at - 1].is_ascii_alphanumeric();
    let at = (1..=last).rev().find(is_place)?;
    text.get(..at)
}

/// Whether a `tokenizer.json` is of the kinds above.
pub fn is_local(file: &[u8]) -> bool {
    let Ok(file) = serde_json::from_slice::<Value>(file) else { return false };
    let added = file["added_tokens"].as_array().into_iter().flatten();
    let solid = added.filter_map(|t| t["content"].as_str()).all(|c| !c.contains(char::is_whitespace));
    let splits = parts(&file["pre_tokenizer"], "pretokenizers");
    solid
        && parts(&file["normalizer"], "normalizers").iter().all(|n| is_local_normalizer(n))
        && splits.iter().all(|p| is_local_split(p))
        && splits.iter().any(|p| splits_at_space(p))
        && file["model"]["dropout"].as_f64().is_none_or(|d| d == 0.0)
}

/// The members of a sequence, of sequences within it too; a single one is a sequence of one.
fn parts<'a>(value: &'a Value, members: &str) -> Vec<&'a Value> {
    match value["type"].as_str() {
        None if value.is_null() => vec![],
        Some("Sequence") => value[members].as_array().into_iter().flatten().flat_map(|v| parts(v, members)).collect(),
        _ => vec![value],
    }
}

fn is_local_normalizer(value: &Value) -> bool {
    match value["type"].as_str() {
        Some(
            "BertNormalizer" | "Lowercase" | "NFC" | "NFD" | "NFKC" | "NFKD" | "StripAccents" | "Strip" | "Nmt"
            | "Precompiled" | "Prepend" | "ByteLevel",
        ) => true,
        // One character, or a run of spaces: nothing that begins before the cut ends behind it.
        Some("Replace") => {
            let pattern = &value["pattern"];
            pattern["String"].as_str().is_some_and(|s| s.chars().count() == 1)
                || pattern["Regex"].as_str().is_some_and(|r| matches!(r, " {2,}" | "\\s+" | " +"))
        }
        _ => false,
    }
}

fn is_local_split(value: &Value) -> bool {
    matches!(
        value["type"].as_str(),
        Some(
            "BertPreTokenizer"
                | "Whitespace"
                | "WhitespaceSplit"
                | "Metaspace"
                | "ByteLevel"
                | "Digits"
                | "Punctuation"
        )
    )
}

fn splits_at_space(value: &Value) -> bool {
    match value["type"].as_str() {
        Some("BertPreTokenizer" | "Whitespace" | "WhitespaceSplit") => true,
        Some("Metaspace") => value["split"].as_bool().unwrap_or(true),
        Some("ByteLevel") => value["use_regex"].as_bool().unwrap_or(true),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::task::{Overflow, TextSpec};
    use tokenizers::Tokenizer;

    fn file(normalizer: &str, split: &str, model: &str) -> String {
        format!(
            r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": {normalizer},
                "pre_tokenizer": {split}, "post_processor": null, "decoder": null, "model": {model}}}"#
        )
    }

    const PIECES: &str = r###"{"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100, "vocab": {"[UNK]": 0, "a": 1, "b": 2, "##a": 3, "##b": 4, "ab": 5, "1": 6, "##1": 7, ".": 8}}"###;
    const PAIRS: &str = r#"{"type": "BPE", "dropout": null, "unk_token": "u", "continuing_subword_prefix": null, "fuse_unk": true,
        "end_of_word_suffix": null, "byte_fallback": false, "ignore_merges": false,
        "vocab": {"u": 0, "a": 1, "b": 2, "1": 3, "Ġ": 4, "ab": 5, "Ġa": 6, "Ġab": 7, ".": 8, "▁": 9, "▁a": 10, "Ċ": 11},
        "merges": [["a", "b"], ["Ġ", "a"], ["Ġ", "ab"], ["▁", "a"]]}"#;
    const UNIGRAM: &str = r#"{"type": "Unigram", "unk_id": 0, "byte_fallback": false,
        "vocab": [["u", 0.0], ["▁", -1.0], ["a", -2.0], ["b", -2.0], ["ab", -2.5], ["▁ab", -2.7], ["1", -3.0], ["aba", -3.0]]}"#;

    /// Draws a text out of what is awkward: marks, joiners, runs of white space, punctuation, other scripts.
    fn draw(seed: &mut u64) -> String {
        const PARTS: [&str; 24] = [
            "a",
            "b",
            "ab",
            "1",
            " ",
            "  ",
            "\n",
            "\t",
            "\u{301}",
            "\u{200d}",
            "\u{a0}",
            ".",
            "'s",
            "日",
            "e\u{301}",
            "\u{3000}",
            "A",
            "ß",
            "İ",
            "\u{1f469}",
            "a b",
            "b a",
            "1 ",
            "Σ",
        ];
        let mut next = || {
            *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*seed >> 33) as usize
        };
        let length = 1 + next() % 40;
        (0..length).map(|_| PARTS[next() % PARTS.len()]).collect()
    }

    #[test]
    fn tokens_before_a_cut_are_those_of_the_uncut_text_in_every_family() {
        let bert = r#"{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}"#;
        let spm = r#"{"type": "Sequence", "normalizers": [{"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]}"#;
        let metaspace = |scheme: &str| {
            format!(r#"{{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "{scheme}", "split": true}}"#)
        };
        let level = |prefix: bool| {
            format!(r#"{{"type": "ByteLevel", "add_prefix_space": {prefix}, "trim_offsets": true, "use_regex": true}}"#)
        };
        let both = format!(
            r#"{{"type": "Sequence", "pretokenizers": [{{"type": "WhitespaceSplit"}}, {}]}}"#,
            metaspace("always")
        );
        let mut seed = 7;
        for (normalizer, split, model) in [
            (bert, r#"{"type": "BertPreTokenizer"}"#.to_owned(), PIECES),
            ("null", r#"{"type": "Whitespace"}"#.to_owned(), PIECES),
            (r#"{"type": "NFC"}"#, level(false), PAIRS),
            ("null", level(true), PAIRS),
            (spm, metaspace("always"), UNIGRAM),
            (spm, metaspace("first"), UNIGRAM),
            (r#"{"type": "Lowercase"}"#, metaspace("never"), PAIRS),
            (r#"{"type": "NFKD"}"#, both, UNIGRAM),
        ] {
            let text = file(normalizer, &split, model);
            assert!(is_local(text.as_bytes()), "{text}");
            let tokenizer = Tokenizer::from_bytes(text.as_bytes()).unwrap();
            let mut cuts = 0;
            for _ in 0..2000 {
                let text = draw(&mut seed);
                let Some(front) = before_white_space(&text, text.len() / 2) else { continue };
                let (whole, part) = (tokenizer.encode(&*text, false).unwrap(), tokenizer.encode(front, false).unwrap());
                assert!(whole.get_ids().starts_with(part.get_ids()), "{split}: {text:?} cut to {front:?}");
                cuts += 1;
            }
            assert!(cuts > 200);
        }
    }

    #[test]
    fn what_is_not_known_to_be_local_is_not_cut() {
        let bert = r#"{"type": "BertPreTokenizer"}"#;
        assert!(is_local(file("null", bert, PIECES).as_bytes()));
        for (normalizer, split) in [
            ("null", "null"),
            ("null", r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": false}"#),
            ("null", r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false}"#),
            ("null", r#"{"type": "Punctuation", "behavior": "Isolated"}"#),
            (r#"{"type": "Replace", "pattern": {"String": "a b"}, "content": "c"}"#, bert),
        ] {
            assert!(!is_local(file(normalizer, split, PIECES).as_bytes()), "{normalizer} {split}");
        }
        let wide =
            file("null", bert, PIECES).replace("\"added_tokens\": []", "\"added_tokens\": [{\"content\": \"a b\"}]");
        assert!(!is_local(wide.as_bytes()));
    }

    /// Texts without any white space at the most characters that are always taken: none may hold a thread for long. The
    /// times are printed (`cargo test --release solid -- --nocapture`).
    #[test]
    fn solid_texts_of_the_most_characters_are_tokenized_in_every_family() {
        let bert = r#"{"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true}"#;
        let level = r#"{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}"#;
        let unsplit = r#"{"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true}"#;
        let nfkc = r#"{"type": "NFKC"}"#;
        // Merges down to tokens of 4096 letters, and pieces of up to 64: more than vocabularies have.
        let names: Vec<String> = (0..13).map(|n| "a".repeat(1 << n)).collect();
        let vocabulary: Vec<String> = names.iter().enumerate().map(|(id, n)| format!("\"{n}\": {id}")).collect();
        let merges: Vec<String> = names[..12].iter().map(|n| format!("[\"{n}\", \"{n}\"]")).collect();
        let deep = format!(
            r#"{{"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "fuse_unk": false,
                "end_of_word_suffix": null, "byte_fallback": false, "ignore_merges": false,
                "vocab": {{{}}}, "merges": [{}]}}"#,
            vocabulary.join(", "),
            merges.join(", ")
        );
        let scores: Vec<String> = names[..7].iter().map(|n| format!("[\"{n}\", -{}.5]", n.len())).collect();
        let wide = format!(
            r#"{{"type": "Unigram", "unk_id": 0, "byte_fallback": false, "vocab": [["u", 0.0], {}]}}"#,
            scores.join(", ")
        );
        for (name, normalizer, split, model) in [
            ("WordPiece", bert, r#"{"type": "BertPreTokenizer"}"#, PIECES),
            ("BPE, bytes", "null", level, PAIRS),
            ("BPE, bytes, deep", "null", level, &deep),
            ("BPE, no split", "null", "null", &deep),
            ("Unigram", nfkc, unsplit, UNIGRAM),
            ("Unigram, wide", nfkc, unsplit, &wide),
        ] {
            let text = file(normalizer, split, model);
            let says = TextSpec { limit: 512, overflow: Overflow::Truncate, ..TextSpec::default() };
            let task = super::super::TextTask::load(text.as_bytes(), &says).unwrap();
            let how = task.how(&super::super::Asked::default()).unwrap();
            for part in ["a", "ab", "日", "a.", "e\u{301}", "\u{1f469}\u{200d}"] {
                let text: String = part.chars().cycle().take(super::super::ALWAYS).collect();
                let begin = std::time::Instant::now();
                let tokens = task.encode(&text, &how);
                println!("{name}: {part:?} {:.0} ms", begin.elapsed().as_secs_f64() * 1e3);
                assert!(tokens.is_ok(), "{name}: {part:?}");
            }
        }
    }

    #[test]
    fn a_cut_stands_between_a_letter_or_digit_and_a_space() {
        assert_eq!(before_white_space("ab cd ef", 6), Some("ab cd"));
        assert_eq!(before_white_space("ab cd ef", 4), Some("ab"));
        for none in ["", " ", "abcd", "日 本", ". a", " a"] {
            assert_eq!(before_white_space(none, 100), None, "{none:?}");
        }
    }
}
