//! `--fill`: the most memory that requests make a server take: its queue full of the largest ones that it admits.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Client, get_bytes, post_bytes};
use super::generator::{self, FAILED};
use super::merge::{Post, most_rows};
use super::requests::{Sizes, named, tensors};
use super::server::{Server, Servers};
use crate::bundle::manifest::Model;
use crate::bundle::task::{Overflow, Task, TextSpec};
use crate::commands::Failure;
use crate::config::Settings;
use crate::cores;
use crate::load::load_tokenizer;
use crate::tensor::{Dim, InputSpec};
use crate::tokenize::{Asked, TextTask};

/// How long the queue is filled and worked off at most.
const MOST_TIME: u64 = 10_000_000_000;

/// How long it takes at most to be told that a request is too large.
const REFUSAL: Duration = Duration::from_secs(2);

/// Requests beyond those that run and wait.
const BEYOND: usize = 64;

/// Files beside those of connections.
const OTHER_FILES: usize = 64;

/// A word of many letters for few tokens, and one of few letters.
const WORDS: [&str; 2] = ["information", "the"];

pub fn fill(servers: &mut Servers, model: &Model) -> Result<Value, Failure> {
    let settings = &servers.start.settings;
    let wanted = wanted(settings);
    let mut largest = Largest::new(servers, model)?;
    let (server, _) = servers.start()?;
    let ceiling = ceiling(&server).or(servers.start.manifest.memory.serving_bytes);
    let body = loop {
        let body = largest.body();
        if largest.rows == largest.least || is_admitted(&server, &body) {
            break body;
        }
        largest.rows = (largest.rows / 2).max(largest.least);
    };
    let post = Post { bytes: post_bytes("/infer", body.as_bytes()), rows: largest.rows };
    let settings = generator::Settings {
        address: server.address,
        connections: wanted,
        timeout: MOST_TIME,
        idle: MOST_TIME,
        warmup: 0,
        length: 0,
        alone: false,
    };
    let plan = generator::Plan::Open { times: vec![0; wanted], warm: 0 };
    let outcome = generator::run(settings, plan, &[post], &mut || (), &mut || true).map_err(Failure::internal)?;
    let peak = server.peak_rss_bytes();
    servers.print_said(&server);
    drop(server); // what it still has to answer is nobody's
    let mut statuses: BTreeMap<String, u64> = BTreeMap::new();
    for latency in &outcome.latency {
        match latency.checked_sub(FAILED) {
            None => *statuses.entry("200".into()).or_default() += 1,
            Some(0) => {}
            Some(status) => *statuses.entry(status.to_string()).or_default() += 1,
        }
    }
    let open = wanted as u64 - statuses.values().sum::<u64>();
    Ok(json!({
        "requests": wanted,
        "rows": largest.rows,
        "bytes": body.len(),
        "statuses": statuses,
        "open": open,
        "peak_rss_bytes": peak,
        "ceiling_bytes": ceiling,
    }))
}

/// What runs, what waits, and more.
fn wanted(settings: &Settings) -> usize {
    let count = |key| settings.count(key).unwrap_or(1);
    let running = count("instances").saturating_mul(count("batch.max_requests"));
    let most = cores::open_files(count("max_connections") + OTHER_FILES).saturating_sub(OTHER_FILES).max(1);
    count("queue").saturating_add(running).saturating_add(BEYOND).min(most).min(count("max_connections"))
}

/// What the server computed of its settings.
fn ceiling(server: &Server) -> Option<u64> {
    let reply = Client::connect(server.address).ok()?.call(&get_bytes("/metrics")).ok()?;
    let text = String::from_utf8(reply.body).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix("infc_memory_ceiling_bytes "))?;
    value.parse::<f64>().ok().filter(|bytes| *bytes > 0.0).map(|bytes| bytes as u64)
}

/// Whether a request of this size is taken, now or when there is room.
fn is_admitted(server: &Server, body: &str) -> bool {
    let Ok(mut client) = Client::connect(server.address) else { return true };
    // Who has not refused it by then has taken it.
    let reply = client.patience(REFUSAL).and_then(|()| client.call(&post_bytes("/infer", body.as_bytes())));
    !reply.is_ok_and(|reply| [400, 413, 422, 500].contains(&reply.status))
}

/// The largest request of a model, of a number of rows that can be lowered.
struct Largest<'a> {
    model: &'a Model,
    rows: usize,
    least: usize,
    content: Content<'a>,
}

enum Content<'a> {
    /// Each text of a row.
    Texts(&'a TextSpec, Vec<String>),
    Tensors(Sizes),
}

impl<'a> Largest<'a> {
    fn new(servers: &Servers, model: &'a Model) -> Result<Self, Failure> {
        let start = servers.start;
        let count = |key| start.settings.count(key).unwrap_or(1);
        let most_bytes = count("max_body_bytes");
        let most = most_rows(model, count("max_inputs"));
        match &model.task {
            Task::Tensor => {
                let (sizes, rows) = largest_sizes(model, most, most_bytes);
                let batch = model.batch_dim.as_ref().and_then(|batch| model.dims.get(batch));
                let least = batch.map_or(1, |(low, _)| (*low).max(1));
                Ok(Largest { model, rows, least, content: Content::Tensors(sizes) })
            }
            Task::Text(says) => {
                let task = load_tokenizer(&start.folder, &start.manifest, model)?
                    .ok_or_else(|| Failure::internal("the model has no tokenizer"))?;
                let mut found = None;
                for word in WORDS {
                    let texts = longest_texts(&task, says, word).map_err(Failure::internal)?;
                    let bytes: usize = texts.iter().map(|text| text.len() + 3).sum();
                    let rows = most.min(most_bytes.saturating_sub(256) / bytes.max(1)).max(1);
                    found = Some(Largest { model, rows, least: 1, content: Content::Texts(says, texts) });
                    if rows == most {
                        break;
                    }
                }
                found.ok_or_else(|| Failure::internal("the model takes no texts"))
            }
        }
    }

    fn body(&self) -> String {
        let request = match &self.content {
            Content::Texts(says, texts) => {
                let mut request = json!({});
                for (name, text) in says.texts.iter().zip(texts) {
                    request[name] = vec![text.as_str(); self.rows].into();
                }
                request
            }
            Content::Tensors(sizes) => {
                let mut sizes = sizes.clone();
                if let Some(batch) = &self.model.batch_dim {
                    sizes.insert(batch.clone(), self.rows);
                }
                tensors(self.model, &sizes, shortest)
            }
        };
        named(self.model, request).to_string()
    }
}

/// Texts of one row with as many tokens as are taken; one word more where what is longer is cut.
fn longest_texts(task: &TextTask, says: &TextSpec, word: &str) -> Result<Vec<String>, String> {
    let asked = Asked { overflow: Some(Overflow::Reject), ..Asked::default() };
    let how = task.how(&asked).map_err(|(field, text)| format!("{field}: {text}"))?;
    let texts = |words: usize| -> Vec<String> {
        // Of a pair half of them each.
        let count = says.texts.len().max(1);
        (0..count).map(|i| vec![word; (words + i) / count].join(" ")).collect()
    };
    let fits = |words: usize| match texts(words).as_slice() {
        [text] => task.encode(text, &how).is_ok(),
        [first, second] => {
            let half = task.first_half(first.as_str().into(), &how);
            half.and_then(|half| task.encode_pair(&half, second, &how)).is_ok()
        }
        _ => false,
    };
    let (mut low, mut high) = (0, says.limit + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(middle) { low = middle } else { high = middle }
    }
    Ok(texts(if says.overflow == Overflow::Truncate { low + 1 } else { low.max(1) }))
}

/// The upper bounds of all dimensions, or as much of them as a body may have: first fewer rows, then the rest halved.
fn largest_sizes(model: &Model, most_rows: usize, most_bytes: usize) -> (Sizes, usize) {
    let batch = model.batch_dim.as_deref().unwrap_or_default();
    let mut sizes: Sizes = model.dims.iter().map(|(symbol, (_, high))| (symbol.clone(), *high)).collect();
    let low = |symbol: &str| model.dims.get(symbol).map_or(1, |(low, _)| (*low).max(1));
    loop {
        let of_rows = |rows: usize| {
            let mut sizes = sizes.clone();
            sizes.insert(batch.to_owned(), rows);
            body_bytes(model, &sizes)
        };
        let (mut fits, mut too_many) = (low(batch), most_rows.max(low(batch)) + 1);
        if of_rows(fits) <= most_bytes {
            while too_many - fits > 1 {
                let middle = fits + (too_many - fits) / 2;
                if of_rows(middle) <= most_bytes { fits = middle } else { too_many = middle }
            }
            return (sizes, fits);
        }
        let others = sizes.iter_mut().filter(|(symbol, size)| *symbol != batch && **size > low(symbol));
        let Some((symbol, size)) = others.max_by_key(|(_, size)| **size) else { return (sizes, fits) };
        *size = (*size / 2).max(low(symbol));
    }
}

/// What a body of these sizes has at most.
fn body_bytes(model: &Model, sizes: &Sizes) -> usize {
    let input = |spec: &InputSpec| {
        let mut count = 1_usize;
        let mut bytes = spec.name.len() + 4;
        for dim in &spec.shape {
            let size = match dim {
                Dim::Fixed(n) => *n,
                Dim::Symbol(symbol) => sizes.get(symbol).copied().unwrap_or(1),
            };
            bytes = bytes.saturating_add(count.saturating_mul(3));
            count = count.saturating_mul(size);
        }
        bytes.saturating_add(count.saturating_mul(shortest(spec).to_string().len() + 1))
    };
    let given = model.inputs.iter().filter(|spec| spec.default.as_ref().is_none_or(Value::is_null));
    given.fold(64 + model.name.len(), |sum, spec| sum.saturating_add(input(spec)))
}

/// A value that is taken, in few characters.
fn shortest(spec: &InputSpec) -> Value {
    use crate::tensor::DType;
    let zero = match spec.dtype {
        DType::Bool => return false.into(),
        DType::Float32 | DType::Int32 | DType::Int64 => 0.0,
    };
    let bound = |number: &Option<serde_json::Number>| number.as_ref().and_then(serde_json::Number::as_f64);
    match (bound(&spec.min), bound(&spec.max)) {
        (Some(low), _) if low > zero => spec.min.clone().map_or(Value::Null, Value::Number),
        (_, Some(high)) if high < zero => spec.max.clone().map_or(Value::Null, Value::Number),
        _ => 0.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(batch: usize, tokens: usize) -> Model {
        let text = format!(
            r#"{{"name": "m", "task": {{"kind": "tensor"}}, "dims": {{"batch": [1, {batch}], "tokens": [2, {tokens}]}},
            "batch_dim": "batch", "outputs": [], "variants": [], "golden": "",
            "inputs": [{{"name": "ids", "dtype": "int64", "shape": ["batch", "tokens"], "min": 7, "max": 9}},
                       {{"name": "x", "dtype": "float32", "shape": ["batch", 2], "max": 1.5}},
                       {{"name": "mask", "dtype": "int64", "shape": ["batch", "tokens"], "default": 1}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    fn largest(batch: usize, tokens: usize, bytes: usize) -> (usize, usize, usize) {
        let model = model(batch, tokens);
        let (sizes, rows) = largest_sizes(&model, batch, bytes);
        let tokens = sizes["tokens"];
        let body = Largest { model: &model, rows, least: 1, content: Content::Tensors(sizes) }.body();
        (rows, tokens, body.len())
    }

    #[test]
    fn the_largest_tensors_have_the_upper_bounds_or_fill_the_body() {
        let (rows, tokens, bytes) = largest(4, 8, 1 << 20);
        assert_eq!((rows, tokens), (4, 8));
        assert!(bytes < 200);
        let (rows, tokens, bytes) = largest(1_000_000, 8, 10_000);
        assert_eq!(tokens, 8);
        assert!(rows > 200 && (9_000..=10_000).contains(&bytes), "{rows} {bytes}");
        let (rows, tokens, bytes) = largest(1_000_000, 1_000_000, 10_000);
        assert!(rows >= 1 && tokens > 2_000 && (5_000..=10_000).contains(&bytes), "{rows} {tokens} {bytes}");
    }

    #[test]
    fn values_are_within_their_bounds() {
        let model = model(1, 2);
        assert_eq!(shortest(&model.inputs[0]), 7);
        assert_eq!(shortest(&model.inputs[1]), 0);
    }
}
