//! `manifest.json`, format 5, and `manifest.sha256` beside it.
//!
//! **Rule**: a key that is not known is refused, so a key is only ever added (or its meaning changed) together with a new
//! `FORMAT`, here and in `compiler/bundle/manifest.py`. Format 2 added `nan_allowed` to outputs, and
//! `manifest.sha256`; format 3 a task's prompts and dimensions, format 4 its texts,
//! labels and scores, format 5 how tokens become entities. Fields with an underscore are of the format, but of no use here.

use std::collections::BTreeMap;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Damage;
use super::folder::Folder;
use super::json::read_json;
use super::sense::check;
use super::task::Task;
use crate::tensor::{InputSpec, OutputSpec};

/// The format that this server reads.
pub const FORMAT: u32 = 5;

/// Bytes of one chunk of a file's digest.
pub const CHUNK: u64 = 4 << 20;

/// Most bytes of a manifest that is read: some 200,000 files, or 400 GB of weights.
const MOST_BYTES: u64 = 16 << 20;

/// The digest of `manifest.json`, as `sha256sum manifest.json` writes it.
const SUM: &str = "manifest.sha256";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    #[serde(rename = "format")]
    _format: u32,
    /// The version of the compiler that wrote it.
    #[serde(default, rename = "infc")]
    _infc: String,
    #[serde(default)]
    pub platform: Platform,
    pub models: Vec<Model>,
    #[serde(default)]
    pub serve: Serve,
    #[serde(default)]
    pub traffic: Option<Traffic>,
    #[serde(default)]
    pub targets: Vec<Target>,
    #[serde(default)]
    pub memory: Memory,
    pub files: Vec<FileEntry>,
    /// sha256 of the manifest's bytes: the bundle's digest.
    #[serde(skip)]
    pub digest: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub arch: String,
    #[serde(default, rename = "glibc")]
    _glibc: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub name: String,
    #[serde(default = "first_version")]
    pub version: String,
    #[serde(default)]
    pub aliases: Vec<String>,
    pub task: Task,
    pub inputs: Vec<InputSpec>,
    pub outputs: Vec<OutputSpec>,
    /// Least and greatest value of each symbolic dimension.
    #[serde(default)]
    pub dims: BTreeMap<String, (usize, usize)>,
    #[serde(default)]
    pub batchable: bool,
    #[serde(default)]
    pub length_dim: Option<String>,
    #[serde(default)]
    pub batch_dim: Option<String>,
    pub variants: Vec<Variant>,
    pub golden: String,
}

fn first_version() -> String {
    "1".into()
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    pub id: u32,
    #[serde(default)]
    pub precision: String,
    #[serde(default)]
    pub isa: String,
    #[serde(default)]
    pub cpu_features: Vec<String>,
    pub library: String,
    pub weights: String,
}

/// `serve` of the manifest: each may be overridden by configuration, and none has to be there.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serve {
    pub protocols: Option<Vec<String>>,
    pub queue: Option<usize>,
    pub deadline_s: Option<f64>,
    pub threads: Option<usize>,
    pub instances: Option<usize>,
    pub batch: Option<Batch>,
    pub max_body_bytes: Option<usize>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Batch {
    pub max_requests: Option<usize>,
    pub max_rows: Option<usize>,
    pub max_tokens: Option<usize>,
    pub wait_s: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Traffic {
    pub rate: Option<f64>,
    #[serde(default)]
    pub arrival: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    pub kind: String,
    #[serde(default, rename = "statistic")]
    _statistic: Option<String>,
    pub op: String,
    pub bound: f64,
    #[serde(default, rename = "unit")]
    _unit: Option<String>,
}

/// Ceilings of host memory in bytes, as the compiler computed them for the settings above; the server computes its own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    pub serving_bytes: Option<u64>,
    #[serde(rename = "swapping_bytes")]
    _swapping: Option<u64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    pub path: String,
    pub bytes: u64,
    #[serde(default, rename = "executable")]
    pub _executable: bool,
    /// sha256 of each 4 MiB chunk.
    pub sha256: Vec<String>,
}

/// Reads and checks the manifest of the bundle in `folder`: first of all against `manifest.sha256`.
pub fn read_manifest(folder: &Folder) -> Result<Manifest, Damage> {
    let bytes = folder.read("manifest.json", MOST_BYTES).map_err(|e| {
        Damage::Damaged(format!("manifest.json: {e} (a bundle is the folder that holds `serve` and manifest.json)"))
    })?;
    let digest = hex(&Sha256::digest(&bytes));
    check_sum(folder, &digest, &bytes)?;
    parse_manifest(&bytes)
}

/// The manifest as it is written, for what is digested of it.
pub fn manifest_json(folder: &Folder) -> Result<serde_json::Value, Damage> {
    let damaged = |e: String| Damage::Damaged(format!("manifest.json: {e}"));
    let bytes = folder.read("manifest.json", MOST_BYTES).map_err(damaged)?;
    read_json(&bytes).map_err(damaged)
}

/// Finds rot, not tampering: who changes the manifest on purpose changes its digest as well.
fn check_sum(folder: &Folder, digest: &str, manifest: &[u8]) -> Result<(), Damage> {
    let sum = folder.read(SUM, 4096).map_err(|e| {
        // A bundle of another format may well have none: its number is the better message.
        let other = read_format(manifest).ok().filter(|format| *format != FORMAT);
        Damage::Damaged(other.map_or_else(|| format!("{SUM}: {e}"), other_format))
    })?;
    let wanted = format!("{digest}  manifest.json\n");
    if sum == wanted.as_bytes() {
        return Ok(());
    }
    let is_line = sum.len() == wanted.len()
        && sum[64..] == wanted.as_bytes()[64..]
        && sum[..64].iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let text = if is_line {
        format!("manifest.json does not match {SUM}: one of the two has changed since the bundle was written")
    } else {
        format!("{SUM} is not the one line that sha256sum writes for manifest.json")
    };
    Err(Damage::Damaged(text))
}

fn read_format(bytes: &[u8]) -> Result<u32, String> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    read_json::<Format>(bytes).map(|found| found.format)
}

fn other_format(found: u32) -> String {
    format!("manifest.json has format {found}, and this server reads format {FORMAT}: build the bundle again")
}

pub fn parse_manifest(bytes: &[u8]) -> Result<Manifest, Damage> {
    let damaged = |e: String| Damage::Damaged(format!("manifest.json: {e}"));
    let found = read_format(bytes).map_err(damaged)?;
    if found != FORMAT {
        return Err(Damage::Damaged(other_format(found)));
    }
    let mut manifest: Manifest = read_json(bytes).map_err(damaged)?;
    manifest.digest = hex(&Sha256::digest(bytes));
    check(&manifest).map_err(damaged)?;
    Ok(manifest)
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub const DIGEST: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// A manifest that has every key once.
    pub fn whole() -> String {
        format!(
            r#"{{"format": 5, "infc": "0.1.0", "platform": {{"os": "linux", "arch": "x86_64", "glibc": "2.28"}},
            "models": [{{"name": "m", "version": "1", "aliases": ["n"],
              "task": {{"kind": "embed", "texts": ["text"], "labels": [], "activation": null, "top": null, "aggregation": null, "unknown": null, "tokenizer": "t", "limit": 16, "overflow": "reject", "truncation_side": "left", "segments": true, "prompt": "", "prompts": {{"query": "q: "}}, "include_prompt": true,
                "pooling": "mean", "normalize": true, "dimensions": [2]}},
              "inputs": [{{"name": "ids", "dtype": "int64", "shape": ["batch", "tokens"], "default": null, "min": 0, "max": 9, "nan": false, "mask": false}},
                         {{"name": "x", "dtype": "float32", "shape": ["batch", 4], "default": 0.5, "min": -1.5, "max": null, "nan": true, "mask": false}}],
              "outputs": [{{"name": "y", "dtype": "float32", "shape": ["batch", "2*tokens"], "nan_allowed": true}}],
              "dims": {{"batch": [1, 64], "tokens": [1, 16]}}, "batchable": true, "batch_dim": "batch", "length_dim": "tokens",
              "variants": [{{"id": 0, "precision": "float32", "isa": "any", "cpu_features": ["avx2"], "library": "m.so", "weights": "w"}}],
              "golden": "g"}}],
            "serve": {{"protocols": ["kserve"], "queue": 8, "deadline_s": 2.0, "threads": 1, "instances": 1, "max_body_bytes": 1024,
              "batch": {{"max_requests": 8, "max_rows": 8, "max_tokens": 64, "wait_s": 0.0}}}},
            "traffic": {{"rate": 10.0, "arrival": "poisson"}},
            "targets": [{{"kind": "latency", "statistic": "p99", "op": "<=", "bound": 0.01, "unit": "s"}}],
            "memory": {{"serving_bytes": 100, "swapping_bytes": 200}},
            "files": [{{"path": "m.so", "bytes": 5, "executable": true, "sha256": ["{DIGEST}"]}}, {{"path": "w", "bytes": 0, "executable": false, "sha256": []}},
              {{"path": "g", "bytes": 0, "executable": false, "sha256": []}}, {{"path": "t", "bytes": 0, "executable": false, "sha256": []}}]}}"#
        )
    }

    pub fn fault(text: &str) -> String {
        parse_manifest(text.as_bytes()).expect_err(text).to_string()
    }

    #[test]
    fn a_whole_manifest_is_read() {
        let manifest = parse_manifest(whole().as_bytes()).unwrap();
        assert_eq!((manifest.digest.len(), manifest.models[0].version.as_str()), (64, "1"));
        assert!(manifest.models[0].outputs[0].nan_allowed);
    }

    #[test]
    fn an_unknown_key_is_refused_in_every_object() {
        let whole = whole();
        let objects = whole.match_indices('{').filter(|(at, _)| !is_map(&whole[..*at]));
        let mut count = 0;
        for (at, _) in objects {
            let text = format!("{}\"added\": 1, {}", &whole[..=at], &whole[at + 1..]);
            let fault = fault(&text);
            assert!(fault.contains("manifest.json: unknown field `added`"), "{fault}");
            count += 1;
        }
        assert_eq!(count, 17);
    }

    /// Whether the object that begins here has names of the user's as its keys.
    fn is_map(before: &str) -> bool {
        before.ends_with("\"dims\": ") || before.ends_with("\"prompts\": ")
    }

    #[test]
    fn a_key_twice_is_refused_in_every_object() {
        let whole = whole();
        for (at, _) in whole.match_indices('{') {
            let end = at + 1 + whole[at + 1..].find(':').unwrap();
            let key = &whole[at + 1..end];
            let text = format!("{}{key}: null, {}", &whole[..=at], &whole[at + 1..]);
            let fault = fault(&text);
            assert!(fault.contains(&format!("the key {key} stands twice")), "{fault}");
        }
    }

    #[test]
    fn other_formats_are_named_with_both_numbers() {
        for format in ["1", "4", "6", "4294967295"] {
            let text = whole().replace("\"format\": 5", &format!("\"format\": {format}"));
            assert!(fault(&text).contains(&format!("has format {format}, and this server reads format 5")));
        }
        for text in ["", "{", "[]", "{}", "\0", r#"{"format": "3"}"#, r#"{"format": 4294967299}"#, r#"{"format": 5}"#] {
            assert!(fault(text).contains("manifest.json: "), "{text}");
        }
    }

    /// Mutated manifests are read or refused by name, and never make the reader panic.
    fn mutate(rounds: usize) {
        let seed = whole().into_bytes();
        let words: [&[u8]; 14] = [
            b"null",
            b"18446744073709551615",
            b"-1",
            b"1e308",
            b"9223372036854775807",
            b"{}",
            b"[]",
            b"\"\"",
            b"true",
            b"4294967296",
            b"\"../x\"",
            b"0",
            b"0.5",
            b"{\"batch\": [0, 18446744073709551615]}",
        ];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below.max(1) as u64) as usize
        };
        let mut read = 0;
        for _ in 0..rounds {
            let mut text = seed.clone();
            for _ in 0..=next(3) {
                let at = next(text.len());
                match next(6) {
                    0 => text[at] ^= 1 << next(8),
                    1 => text[at] = next(256) as u8,
                    2 => text.truncate(at.max(1)),
                    3 => drop(text.drain(at..(at + next(40)).min(text.len()))),
                    4 => {
                        let (from, length) = (next(text.len()), next(60));
                        let part = text[from..(from + length).min(text.len())].to_vec();
                        text.splice(at..at, part);
                    }
                    // A value becomes another one.
                    _ => {
                        let Some(colon) = text[at..].iter().position(|b| *b == b':') else { continue };
                        let from = at + colon + 1;
                        let end = text[from..].iter().position(|b| b",}]".contains(b)).unwrap_or(0);
                        text.splice(from..from + end, words[next(words.len())].iter().copied());
                    }
                }
                if text.is_empty() {
                    text.push(b'{');
                }
            }
            match parse_manifest(&text) {
                Ok(manifest) => {
                    read += 1;
                    let model = &manifest.models[0];
                    // What the loader computes from it does not overflow either.
                    let _ = crate::model::engine_limits(model, usize::MAX, usize::MAX, usize::MAX);
                    let _ = crate::answer::largest(model);
                    let _ = crate::config::Settings::new(vec![crate::config::manifest_layer(&manifest.serve)]);
                }
                Err(damage) => assert!(damage.to_string().contains("manifest.json"), "{damage}"),
            }
        }
        assert!(read > 0, "some mutants are sound");
    }

    #[test]
    fn mutated_manifests_are_read_or_refused_and_never_panic() {
        mutate(20_000);
    }

    #[test]
    #[ignore = "minutes; a million inputs"]
    fn a_million_mutated_manifests_are_read_or_refused_and_never_panic() {
        mutate(1_000_000);
    }
}
