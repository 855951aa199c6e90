//! Bodies of every POST route, mutated: no panic, and what comes back is a value or a refusal. Seeded, on stable Rust, in
//! this process. `INFC__FUZZ=1000000 cargo test --release fuzz` draws so many for each reader instead of a few.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{native, oip, openai, rerank, tags, tei, tokens};
use crate::engine::Limits;
use crate::json::Reader;
use crate::metrics::{Metrics, ModelLabels};
use crate::model::Served;
use crate::pool::Turn;
use crate::scheduler::{Policy, Scheduler};

const DRAWS: usize = 2000;

const MODEL: &str = r#"{"name": "m", "version": "1", "aliases": [], "task": {"kind": "tensor"}, "variants": [], "golden": "g",
    "batchable": true, "length_dim": null, "batch_dim": "batch", "dims": {"batch": [1, 16]},
    "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 4], "default": null, "min": -1000, "max": 1000, "nan": false},
               {"name": "b", "dtype": "int64", "shape": ["batch"], "default": 0, "min": null, "max": null, "nan": false}],
    "outputs": [{"name": "y", "dtype": "float32", "shape": ["batch", 1]}]}"#;

fn served() -> Arc<Served> {
    let limits = Limits { requests: 8, rows: 16, tokens: 0, longest: 0 };
    let meters = Metrics::new(&[]).meters(ModelLabels::default());
    let policy = Policy { capacity: 8, wait: Duration::ZERO, limits, merge: true };
    Arc::new(Served {
        spec: serde_json::from_str(MODEL).unwrap(),
        text: None,
        scheduler: Scheduler::new(policy, meters.clone(), vec![]),
        meters,
        limits,
        deadline: Duration::from_secs(1),
        variant: "0".into(),
        digest: "d".into(),
    })
}

struct Draw(u64);

impl Draw {
    fn next(&mut self, below: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % below.max(1)
    }

    /// A seed with one to six changes: bits, words of the format, cuts, repeats.
    fn mutate(&mut self, seeds: &[&[u8]]) -> Vec<u8> {
        const WORDS: [&[u8]; 22] = [
            b"[",
            b"]",
            b"{",
            b"}",
            b",",
            b":",
            b"\"",
            b"\\u0000",
            b"\\ud800",
            b"null",
            b"true",
            b"NaN",
            b"-Infinity",
            b"1e999",
            b"-0",
            b"99999999999999999999",
            b"[[[[[[[[",
            b"\"shape\":[9223372036854775807,3]",
            b"\xff\xff\xff\xff",
            b"\xf0\x9f",
            b"\"text\"",
            b"\"binary_data_size\":18446744073709551615",
        ];
        let mut out = seeds[self.next(seeds.len())].to_vec();
        for _ in 0..=self.next(6) {
            let at = self.next(out.len());
            match self.next(5) {
                0 if !out.is_empty() => out[at] ^= 1 << self.next(8),
                1 => {
                    let word = WORDS[self.next(WORDS.len())];
                    out.splice(at..at, word.iter().copied());
                }
                2 => out.truncate(at),
                3 => {
                    let to = (at + self.next(20)).min(out.len());
                    let part = out[at..to].to_vec();
                    for _ in 0..self.next(40) {
                        out.splice(at..at, part.iter().copied());
                    }
                }
                _ => {
                    let to = (at + self.next(8)).min(out.len());
                    out.drain(at..to);
                }
            }
        }
        out.truncate(1 << 16);
        out
    }
}

fn fuzz(seeds: &[&[u8]], read: impl Fn(&Bytes, &mut Draw)) {
    let draws = std::env::var("INFC__FUZZ").ok().and_then(|n| n.parse().ok()).unwrap_or(DRAWS);
    let mut draw = Draw(99);
    for number in 0..draws {
        let body = Bytes::from(draw.mutate(seeds));
        let state = draw.0;
        let outcome = catch_unwind(AssertUnwindSafe(|| read(&body, &mut Draw(state))));
        assert!(outcome.is_ok(), "input {number} makes its reader panic: {:?}", String::from_utf8_lossy(&body));
    }
}

fn soon() -> Turn {
    Turn::unbounded(Instant::now() + Duration::from_secs(10))
}

#[test]
fn fuzz_native_bodies() {
    let model = served();
    fuzz(
        &[br#"{"x": [[1, 2.5, -3e2, 0]], "b": [7], "id": "a", "model": "m"}"#, br#"{"x": [[1,2,3,4],[5,6,7,8]]}"#],
        |body, _| {
            if let Ok(text) = std::str::from_utf8(body) {
                drop(native::parse_for(&model, text, &soon()));
            }
        },
    );
}

#[test]
fn fuzz_openai_bodies() {
    let seeds: [&[u8]; 3] = [
        br#"{"model": "m", "input": ["one", "two"], "encoding_format": "base64", "dimensions": 8}"#,
        br#"{"input": [[1, 2], [3]], "model": "m", "user": {"a": [1, {"b": null}]}}"#,
        br#"{"input": "\u00e9\ud83d\ude00", "model": "m"}"#,
    ];
    fuzz(&seeds, |body, _| drop(openai::read(body)));
}

#[test]
fn fuzz_rerank_bodies() {
    let seeds: [&[u8]; 2] = [
        br#"{"query": "a", "texts": ["one", "two"], "raw_scores": true, "return_text": false, "truncate": true}"#,
        br#"{"model": "m", "query": "\u00e9", "documents": ["a", {"text": "b"}], "top_n": 1, "return_documents": true}"#,
    ];
    fuzz(&seeds, |body, _| drop(rerank::read(body)));
}

#[test]
fn fuzz_inputs_to_embed_and_to_predict() {
    let seeds: [&[u8]; 4] = [
        br#"{"inputs": ["one", "two"], "normalize": false, "truncate": true, "truncation_direction": "Left"}"#,
        br#"{"inputs": [1, 2], "prompt_name": "query", "dimensions": 8}"#,
        br#"{"inputs": [["a"], ["b", "c"]], "raw_scores": true}"#,
        br#"{"inputs": ["\u00e9", "b"], "truncate": null}"#,
    ];
    fuzz(&seeds, |body, _| {
        drop(tei::read_embed(body));
        drop(tei::read_predict(body));
    });
}

#[test]
fn fuzz_wishes_of_entities() {
    let seeds: [&[u8]; 2] = [
        br#"{"aggregation_strategy": "simple", "ignore_labels": ["O", "B-\u00e9"]}"#,
        br#"{"ignore_labels": null, "aggregation_strategy": "NONE"}"#,
    ];
    fuzz(&seeds, |body, _| {
        let Ok(text) = std::str::from_utf8(body) else { return };
        let mut wish = tags::Wish::default();
        drop(Reader::new(text).object(|reader, key| {
            if !wish.take(reader, &key)? {
                reader.skip()?;
            }
            Ok(())
        }));
    });
}

#[test]
fn fuzz_lists_of_texts_and_ids() {
    let seeds: [&[u8]; 4] = [
        br#"{"text": ["a", "b\n"], "special": false}"#,
        br#"{"inputs": "\u00e9", "add_special_tokens": true, "prompt_name": null}"#,
        br#"{"ids": [[1, 2], [3]], "skip_special": true}"#,
        br#"{"ids": [1, 2], "skip_special_tokens": false, "model": "m"}"#,
    ];
    fuzz(&seeds, |body, _| {
        drop(tokens::read_tokenize(body));
        drop(tokens::read_detokenize(body, &tokens::Form::NATIVE));
        drop(tokens::read_detokenize(body, &tokens::Form::BARE));
    });
}

#[test]
fn fuzz_oip_json_and_binary_tensors() {
    let model = served();
    let json: &[u8] = br#"{"id": "1", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 4], "data": [1, 2, 3, 4]},
        {"name": "b", "datatype": "INT64", "shape": [1], "data": [[5]]}], "outputs": [{"name": "y", "parameters": {"binary_data": true}}]}"#;
    let binary: &[u8] = b"{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[1,4],\"parameters\":{\"binary_data_size\":16}}]}\x00\x00\x80\x3f\x00\x00\x80\x3f\x00\x00\x80\x3f\x00\x00\x80\x3f";
    let texts: &[u8] = b"\x02\x00\x00\x00hi\x00\x00\x00\x00\x03\x00\x00\x00\xe2\x82\xac";
    fuzz(&[json, binary, texts], |body, draw| {
        let at = if draw.next(2) == 0 { None } else { Some(draw.next(body.len() + 40)) };
        drop(oip::read(&model, body, at, &soon()));
        let header = body.iter().position(|b| *b == 0).unwrap_or(body.len());
        drop(oip::read(&model, body, Some(header), &soon()));
        drop(oip::unpack("text", body));
    });
}
