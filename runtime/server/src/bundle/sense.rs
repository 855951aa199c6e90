//! Whether a manifest makes sense: names, paths, shapes, and numbers that nothing computed from them can overflow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use super::manifest::{CHUNK, FileEntry, Manifest, Model, Serve};
use super::task::Task;
use crate::tensor::{DType, Dim, InputSpec, MAX_RANK};

/// Most of anything that is counted: rows, tokens, requests, threads. The product of two stays within 64 bits.
pub const MOST: usize = 1 << 31;

/// Most bytes of one file or one tensor: 1 PiB, beyond any machine and far below an overflow.
const MOST_BYTES: u64 = 1 << 50;

const MOST_NAME: usize = 256;

pub fn check(manifest: &Manifest) -> Result<(), String> {
    let mut listed = BTreeSet::new();
    for file in &manifest.files {
        check_file(file)?;
        if !listed.insert(file.path.as_str()) {
            return Err(format!("{:?} is listed twice", file.path));
        }
    }
    if manifest.models.is_empty() {
        return Err("it has no models".into());
    }
    let mut names = BTreeSet::new();
    for model in &manifest.models {
        for name in std::iter::once(&model.name).chain(&model.aliases) {
            check_name("a model's name", name)?;
            if !names.insert(name) {
                return Err(format!("two models have the name {name:?}"));
            }
        }
        check_model(model, &listed).map_err(|text| format!("model {:?}: {text}", model.name))?;
    }
    check_serve(&manifest.serve)?;
    let known = ["<=", "<", ">=", ">", "=="];
    if let Some(target) = manifest.targets.iter().find(|t| !known.contains(&t.op.as_str()) || t.kind.is_empty()) {
        return Err(format!("the target {:?} has the relation {:?}", target.kind, target.op));
    }
    let rate = manifest.traffic.as_ref().and_then(|t| t.rate);
    if rate.is_some_and(|rate| !(rate > 0.0 && rate <= 1e9)) {
        return Err(format!("traffic has the rate {}", rate.unwrap_or_default()));
    }
    Ok(())
}

fn check_file(file: &FileEntry) -> Result<(), String> {
    check_path(&file.path)?;
    if matches!(file.path.as_str(), "manifest.json" | "manifest.sha256") {
        return Err(format!("{:?} lists itself", file.path));
    }
    if file.bytes > MOST_BYTES {
        return Err(format!("{:?} is said to have {} bytes", file.path, file.bytes));
    }
    if file.sha256.len() as u64 != file.bytes.div_ceil(CHUNK) {
        return Err(format!("{:?} has {} digests for {} bytes", file.path, file.sha256.len(), file.bytes));
    }
    let is_digest = |text: &String| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match file.sha256.iter().find(|text| !is_digest(text)) {
        Some(_) => Err(format!("{:?} has a digest that is not 64 hexadecimal digits", file.path)),
        None => Ok(()),
    }
}

fn check_model(model: &Model, listed: &BTreeSet<&str>) -> Result<(), String> {
    check_name("its version", &model.version)?;
    if model.variants.is_empty() {
        return Err("it has no variants".into());
    }
    let mut needed = vec![&model.golden];
    if let Task::Text(says) = &model.task {
        check_count("the limit of tokens", says.limit)?;
        says.check(model)?;
        needed.push(&says.tokenizer);
    }
    let mut ids = BTreeSet::new();
    for variant in &model.variants {
        needed.extend([&variant.library, &variant.weights]);
        if !ids.insert(variant.id) {
            return Err(format!("two variants have the id {}", variant.id));
        }
    }
    for path in needed {
        check_path(path)?;
        if !listed.contains(path.as_str()) {
            return Err(format!("{path:?} is used, but has no digest under \"files\""));
        }
    }
    for (name, (low, high)) in &model.dims {
        check_name("a dimension", name)?;
        if low > high {
            return Err(format!("dimension {name:?} has the empty range {low}..{high}"));
        }
        check_count(&format!("the upper bound of dimension {name:?}"), *high)?;
    }
    for dim in [&model.batch_dim, &model.length_dim].into_iter().flatten() {
        if !model.dims.contains_key(dim) {
            return Err(format!("dimension {dim:?} has no bounds under \"dims\""));
        }
    }
    check_tensors(model)
}

fn check_tensors(model: &Model) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for input in &model.inputs {
        let at = |text: String| format!("input {:?}: {text}", input.name);
        check_name("an input's name", &input.name)?;
        if !names.insert(&input.name) {
            return Err(at("it is there twice".into()));
        }
        if let Some(symbol) = input.shape.iter().find_map(|d| unbounded(d, &model.dims)) {
            return Err(at(format!("dimension {symbol:?} has no bounds under \"dims\"")));
        }
        check_shape(&input.shape, input.dtype, &model.dims).map_err(at)?;
        check_range(input).map_err(at)?;
    }
    let mut names = BTreeSet::new();
    for output in &model.outputs {
        let at = |text: String| format!("output {:?}: {text}", output.name);
        check_name("an output's name", &output.name)?;
        if !names.insert(&output.name) {
            return Err(at("it is there twice".into()));
        }
        check_shape(&output.shape, output.dtype, &model.dims).map_err(at)?;
    }
    Ok(())
}

fn unbounded<'a>(dim: &'a Dim, dims: &BTreeMap<String, (usize, usize)>) -> Option<&'a str> {
    match dim {
        Dim::Symbol(symbol) if !dims.contains_key(symbol) => Some(symbol),
        _ => None,
    }
}

/// Rank, and bytes at the upper bounds; expressions over symbols (of outputs) count as 1.
fn check_shape(shape: &[Dim], dtype: DType, dims: &BTreeMap<String, (usize, usize)>) -> Result<(), String> {
    if shape.len() > MAX_RANK {
        return Err(format!("it has {} dimensions, and at most {MAX_RANK} are taken", shape.len()));
    }
    let mut bytes = dtype.size() as u64;
    for dim in shape {
        let most = match dim {
            Dim::Fixed(n) => *n as u64,
            Dim::Symbol(symbol) => dims.get(symbol).map_or(1, |(_, high)| *high as u64),
        };
        // A dimension of 0 is legal, and must not hide what the others come to.
        bytes = bytes.checked_mul(most.max(1)).filter(|n| *n <= MOST_BYTES).ok_or("it is larger than any memory")?;
    }
    Ok(())
}

fn check_range(input: &InputSpec) -> Result<(), String> {
    let whole = |n: &serde_json::Number| n.is_i64() || n.is_u64();
    for (what, bound) in [("min", &input.min), ("max", &input.max)] {
        let Some(bound) = bound else { continue };
        // Compared as an integer when values are checked: a fraction there would bound nothing.
        let fits = match input.dtype {
            DType::Float32 => bound.as_f64().is_some_and(f64::is_finite),
            DType::Int64 | DType::Int32 | DType::Bool => bound.as_i64().is_some(),
        };
        if !fits {
            return Err(format!("{what} is {bound}, which is no {}", input.dtype.name()));
        }
    }
    let (low, high) = (input.min.as_ref().and_then(|n| n.as_f64()), input.max.as_ref().and_then(|n| n.as_f64()));
    if let (Some(low), Some(high)) = (low, high)
        && low > high
    {
        return Err(format!("the range {low}..{high} is empty"));
    }
    let fits = match &input.default {
        None | Some(serde_json::Value::Null) => true,
        Some(serde_json::Value::Number(n)) => input.dtype == DType::Float32 || whole(n),
        Some(serde_json::Value::Bool(_)) => input.dtype == DType::Bool,
        Some(_) => false,
    };
    if fits { Ok(()) } else { Err(format!("its default is no {}", input.dtype.name())) }
}

fn check_serve(serve: &Serve) -> Result<(), String> {
    let batch = serve.batch.clone().unwrap_or_default();
    let counts = [
        ("queue", serve.queue),
        ("threads", serve.threads),
        ("instances", serve.instances),
        ("batch.max_requests", batch.max_requests),
        ("batch.max_rows", batch.max_rows),
        ("max_body_bytes", serve.max_body_bytes),
    ];
    for (name, count) in counts {
        count.map_or(Ok(()), |n| check_count(&format!("serve.{name}"), n))?;
    }
    // 0 where the model has no tokens.
    batch.max_tokens.filter(|n| *n > 0).map_or(Ok(()), |n| check_count("serve.batch.max_tokens", n))
}

fn check_count(what: &str, count: usize) -> Result<(), String> {
    if (1..=MOST).contains(&count) { Ok(()) } else { Err(format!("{what} is {count}; expected 1 to {MOST}")) }
}

fn check_name(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > MOST_NAME || name.chars().any(char::is_control) {
        let shown: String = name.chars().take(64).collect();
        return Err(format!("{what} is {shown:?}; expected 1 to {MOST_NAME} bytes without control characters"));
    }
    Ok(())
}

/// A path of a bundle is relative, normal, and stays inside.
fn check_path(path: &str) -> Result<(), String> {
    let normal = |p: &Path| p.components().all(|c| matches!(c, Component::Normal(_)));
    // Components pass over `.` and repeated slashes within a path, and then two spellings would be one file.
    let plain = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    if path.is_empty() || path.len() > 4096 || path.contains('\0') || !plain || !normal(Path::new(path)) {
        return Err(format!("the path {path:?} leaves the bundle's folder"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::bundle::manifest::tests::{DIGEST, fault, whole};

    #[test]
    fn paths_may_not_leave_the_folder() {
        for path in ["../x", "/etc/passwd", "a/../../b", "", "./a", "a/./../b", "a//b", "a/", "a\\u0000b"] {
            for place in ["\"path\": \"w\"", "\"weights\": \"w\"", "\"golden\": \"g\""] {
                let (key, _) = place.split_once(": ").unwrap();
                let text = whole().replace(place, &format!("{key}: \"{path}\""));
                assert!(fault(&text).contains("leaves the bundle"), "{path}");
            }
        }
    }

    #[test]
    fn values_without_sense_are_named() {
        let digests = format!("[\"{DIGEST}\", \"{DIGEST}\"]");
        let upper = DIGEST.to_ascii_uppercase();
        for (from, to, part) in [
            ("\"golden\": \"g\"", "\"golden\": \"h\"", "\"h\" is used, but has no digest"),
            ("\"path\": \"w\"", "\"path\": \"g\"", "\"g\" is listed twice"),
            ("\"path\": \"g\"", "\"path\": \"manifest.sha256\"", "lists itself"),
            ("\"bytes\": 5", "\"bytes\": 18446744073709551615", "is said to have"),
            ("\"bytes\": 5", "\"bytes\": 4194305", "has 1 digests for 4194305 bytes"),
            ("\"bytes\": 5", "\"bytes\": -5", "line"),
            (&format!("[\"{DIGEST}\"]"), &digests, "has 2 digests for 5 bytes"),
            (DIGEST, &upper, "not 64 hexadecimal digits"),
            (DIGEST, &DIGEST[1..], "not 64 hexadecimal digits"),
            ("\"batch\": [1, 64]", "\"batch\": [64, 1]", "empty range 64..1"),
            (
                "\"batch\": [1, 64]",
                "\"batch\": [1, 4294967296]",
                "the upper bound of dimension \"batch\" is 4294967296",
            ),
            ("\"batch\": [1, 64]", "\"batch\": [1, 2, 3]", "line"),
            ("\"batch\": [1, 64], ", "", "dimension \"batch\" has no bounds"),
            ("\"batch_dim\": \"batch\"", "\"batch_dim\": \"rows\"", "dimension \"rows\" has no bounds"),
            ("[\"batch\", 4]", "[\"other\", 4]", "input \"x\": dimension \"other\" has no bounds"),
            ("[\"batch\", 4]", "[1, 1, 1, 1, 1, 1, 1, 1, 1]", "it has 9 dimensions"),
            ("[\"batch\", 4]", "[\"batch\", 281474976710656]", "larger than any memory"),
            ("[\"batch\", 4]", "[0, 18446744073709551615]", "larger than any memory"),
            ("[\"batch\", \"2*tokens\"]", "[4294967296, 4294967296]", "output \"y\": it is larger"),
            ("\"name\": \"x\"", "\"name\": \"ids\"", "input \"ids\": it is there twice"),
            ("\"name\": \"y\"", "\"name\": \"\"", "an output's name is \"\""),
            ("\"name\": \"m\"", "\"name\": \"a\\nb\"", "without control characters"),
            ("\"aliases\": [\"n\"]", "\"aliases\": [\"m\"]", "two models have the name \"m\""),
            ("\"min\": 0", "\"min\": 0.5", "min is 0.5, which is no int64"),
            ("\"min\": 0", "\"min\": 10", "the range 10..9 is empty"),
            ("\"default\": 0.5", "\"default\": \"0.5\"", "its default is no float32"),
            ("\"default\": null", "\"default\": 0.5", "its default is no int64"),
            ("\"limit\": 16", "\"limit\": 0", "the limit of tokens is 0"),
            ("\"limit\": 16", "\"limit\": null", "needs a tokenizer and a limit"),
            ("\"kind\": \"embed\"", "\"kind\": \"tensor\"", "has no tokenizer"),
            ("\"kind\": \"embed\"", "\"kind\": \"pickle\"", "unknown variant `pickle`"),
            ("\"kind\": \"embed\"", "\"kind\": \"classify\"", "\"activation\" goes with classify"),
            ("\"top\": null", "\"top\": 1", "\"top\" with classify"),
            (
                "\"kind\": \"embed\", \"texts\": [\"text\"], \"labels\": [], \"activation\": null, \"top\": null",
                "\"kind\": \"classify\", \"texts\": [\"text\"], \"labels\": [\"a\"], \"activation\": \"softmax\", \"top\": 2",
                "names 2 of 1 labels",
            ),
            (
                "\"kind\": \"embed\", \"texts\": [\"text\"], \"labels\": [], \"activation\": null",
                "\"kind\": \"rerank\", \"texts\": [\"a\", \"b\"], \"labels\": [], \"activation\": \"sigmoid\"",
                "needs one output, float32 [batch, 1]",
            ),
            ("\"aggregation\": null", "\"aggregation\": \"max\"", "\"aggregation\" and \"unknown\" go with tag"),
            ("\"unknown\": null", "\"unknown\": 3", "\"aggregation\" and \"unknown\" go with tag"),
            ("\"aggregation\": null", "\"aggregation\": \"mean\"", "unknown variant `mean`"),
            ("\"kind\": \"embed\"", "\"kind\": \"tag\"", "the task has no labels"),
            (
                "\"kind\": \"embed\", \"texts\": [\"text\"], \"labels\": []",
                "\"kind\": \"tag\", \"texts\": [\"text\"], \"labels\": [\"O\"]",
                "needs one output, float32 [batch, ",
            ),
            ("\"texts\": [\"text\"]", "\"texts\": [\"a\", \"b\"]", "has the texts [\"a\", \"b\"]"),
            ("\"queue\": 8", "\"queue\": 0", "serve.queue is 0"),
            ("\"max_rows\": 8", "\"max_rows\": 18446744073709551615", "serve.batch.max_rows is"),
            ("\"rate\": 10.0", "\"rate\": 0", "traffic has the rate 0"),
            ("\"op\": \"<=\"", "\"op\": \"~\"", "the relation \"~\""),
            ("\"dtype\": \"int64\"", "\"dtype\": \"int65\"", "unknown variant `int65`"),
        ] {
            assert!(whole().contains(from), "{from}");
            let fault = fault(&whole().replacen(from, to, 1));
            assert!(fault.contains(part) && fault.contains("manifest.json: "), "{from} -> {to}: {fault}");
        }
    }
}
