//! The rows that the load sends: given ones, or made from a seed. Each is a native request of one row.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::merge;
use super::random::Random;
use crate::bundle::manifest::Model;
use crate::bundle::task::{Task, TextSpec};
use crate::tensor::{DType, Dim, InputSpec};

/// How many different requests are made; the load goes round them.
const DIFFERENT: usize = 512;

/// Common words: one or two tokens each with any tokenizer.
const WORDS: [&str; 48] = [
    "the", "of", "and", "to", "in", "is", "that", "for", "it", "as", "was", "with", "be", "by", "on", "not", "he",
    "this", "are", "or", "his", "from", "at", "which", "but", "have", "an", "had", "they", "you", "were", "their",
    "one", "all", "we", "can", "her", "has", "there", "been", "if", "more", "when", "will", "would", "who", "so", "no",
];

/// One-row requests for `model`, random within its ranges: the same for the same seed. `alike`: all of the same sizes, so that
/// any of them make one request.
pub fn generate(model: &Model, seed: u64, alike: bool) -> Vec<Value> {
    let mut random = Random::new(seed ^ 0x5eed);
    let mut sizes = Sizes::new();
    (0..DIFFERENT)
        .map(|_| match &model.task {
            Task::Text(says) => {
                let mut request = json!({});
                for name in &says.texts {
                    request[name] = sentence(&mut random, says.limit / says.texts.len()).into();
                }
                named(model, request)
            }
            Task::Tensor => {
                if sizes.is_empty() || !alike {
                    sizes = random_sizes(model, &mut random);
                }
                named(model, tensors(model, &sizes, |spec| element(spec, &mut random)))
            }
        })
        .collect()
}

/// The request with the model's name, unless that is the name of an input.
pub fn named(model: &Model, mut request: Value) -> Value {
    let texts = if let Task::Text(says) = &model.task { says.texts.as_slice() } else { &[] };
    if model.inputs.iter().map(|i| &i.name).chain(texts).all(|name| name != "model") {
        request["model"] = model.name.clone().into();
    }
    request
}

/// One to as many words as surely stay within the limit.
fn sentence(random: &mut Random, limit: usize) -> String {
    let most = (limit.saturating_sub(8) / 2).max(1);
    let count = random.between(1, i64::try_from(most).unwrap_or(1));
    let words: Vec<&str> = (0..count).map(|_| WORDS[random.between(0, WORDS.len() as i64 - 1) as usize]).collect();
    words.join(" ")
}

/// The size of each symbolic dimension.
pub type Sizes = BTreeMap<String, usize>;

fn random_sizes(model: &Model, random: &mut Random) -> Sizes {
    let size = |(symbol, (low, high)): (&String, &(usize, usize))| {
        let size = if model.batch_dim.as_ref() == Some(symbol) {
            1.clamp(*low, *high)
        } else {
            random.between(*low as i64, *high as i64) as usize
        };
        (symbol.clone(), size)
    };
    model.dims.iter().map(size).collect()
}

/// A request that has every input without a default.
pub fn tensors(model: &Model, sizes: &Sizes, mut element: impl FnMut(&InputSpec) -> Value) -> Value {
    let size_of = |dim: &Dim| match dim {
        Dim::Fixed(n) => *n,
        Dim::Symbol(s) => sizes.get(s).copied().unwrap_or(1),
    };
    let mut request = Map::new();
    for spec in model.inputs.iter().filter(|spec| spec.default.as_ref().is_none_or(Value::is_null)) {
        let shape: Vec<usize> = spec.shape.iter().map(size_of).collect();
        request.insert(spec.name.clone(), nested(spec, &shape, &mut element));
    }
    request.into()
}

fn nested(spec: &InputSpec, shape: &[usize], element: &mut impl FnMut(&InputSpec) -> Value) -> Value {
    match shape {
        [] => element(spec),
        [size, rest @ ..] => (0..*size).map(|_| nested(spec, rest, element)).collect(),
    }
}

fn element(spec: &InputSpec, random: &mut Random) -> Value {
    match spec.dtype {
        DType::Float32 => {
            let low = spec.min.as_ref().and_then(serde_json::Number::as_f64).unwrap_or(-1.0);
            let high = spec.max.as_ref().and_then(serde_json::Number::as_f64).unwrap_or(low + 2.0);
            let value = (low + random.unit() * (high - low)) as f32;
            // The shortest text of the float32, and within the range after rounding.
            json!(f64::from(value).clamp(low, high))
        }
        DType::Bool => json!(random.next() & 1 == 1),
        DType::Int64 | DType::Int32 => {
            let low = spec.min.as_ref().and_then(serde_json::Number::as_i64).unwrap_or(0);
            let high = spec.max.as_ref().and_then(serde_json::Number::as_i64).unwrap_or(low.saturating_add(1));
            json!(random.between(low, high))
        }
    }
}

/// Requests from a file of texts: each line an object that has the text under `field`, else each text under the name that the
/// model gives it; or, of one text, a JSON string.
pub fn read_texts(path: &Path, field: Option<&str>, model: &Model) -> Result<Vec<Value>, String> {
    let Task::Text(TextSpec { texts, .. }) = &model.task else {
        return Err(format!("{}: texts are for models of texts", path.display()));
    };
    let keys: Vec<&str> = match field {
        Some(_) if texts.len() > 1 => {
            return Err(format!("--field names one text, and {} takes {}", model.name, texts.join(" and ")));
        }
        Some(field) => vec![field],
        None => texts.iter().map(String::as_str).collect(),
    };
    lines(path, |value| {
        let mut request = json!({});
        for (key, name) in keys.iter().zip(texts) {
            let text = match &value {
                Value::String(text) if texts.len() == 1 => Some(text.as_str()),
                Value::Object(object) => object.get(*key).and_then(Value::as_str),
                _ => None,
            };
            request[name] = text.ok_or_else(|| format!("expected an object with the string {key:?}"))?.into();
        }
        Ok(named(model, request))
    })
}

/// Native requests of one row from a file, one object a line. `together`: several of them make one request, so they must
/// have all but their rows in common.
pub fn read_requests(path: &Path, model: &Model, together: bool) -> Result<Vec<Value>, String> {
    let first = RefCell::new(None);
    lines(path, |value| {
        if !value.is_object() {
            return Err("expected an object".into());
        }
        let request = named(model, value);
        merge::check_row(model, &request)?;
        if together {
            merge::check_alike(model, first.borrow_mut().get_or_insert_with(|| request.clone()), &request)?;
        }
        Ok(request)
    })
}

fn lines(path: &Path, each: impl Fn(Value) -> Result<Value, String>) -> Result<Vec<Value>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let filled = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let requests: Result<Vec<Value>, String> = filled
        .map(|(number, line)| {
            let value = serde_json::from_str(line).map_err(|e| e.to_string()).and_then(&each);
            value.map_err(|e| format!("{}, line {}: {e}", path.display(), number + 1))
        })
        .collect();
    match requests {
        Ok(list) if list.is_empty() => Err(format!("{} has no rows", path.display())),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(task: &str) -> Model {
        let text = format!(
            r#"{{"name": "m", "task": {task}, "dims": {{"batch": [1, 4], "tokens": [2, 8]}}, "batch_dim": "batch",
            "length_dim": "tokens", "outputs": [], "variants": [], "golden": "",
            "inputs": [{{"name": "ids", "dtype": "int64", "shape": ["batch", "tokens"], "min": 5, "max": 9}},
                       {{"name": "mask", "dtype": "int64", "shape": ["batch", "tokens"], "default": 1}},
                       {{"name": "x", "dtype": "float32", "shape": ["batch", 2]}}]}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn generated_tensors_are_within_bounds_and_ranges_and_repeat() {
        let model = model(r#"{"kind": "tensor"}"#);
        let requests = generate(&model, 7, false);
        assert_eq!(requests, generate(&model, 7, false));
        let mut lengths = std::collections::BTreeSet::new();
        for request in &requests {
            let rows = request["ids"].as_array().unwrap();
            assert_eq!(rows.len(), 1);
            assert!((2..=8).contains(&rows[0].as_array().unwrap().len()));
            lengths.insert(rows[0].as_array().unwrap().len());
            assert!(rows[0].as_array().unwrap().iter().all(|v| (5..=9).contains(&v.as_i64().unwrap())));
            assert!(request.get("mask").is_none() && request["model"] == "m");
        }
        assert_eq!(lengths.len(), 7);
        let alike = generate(&model, 7, true);
        assert!(alike.iter().all(|r| merge::check_alike(&model, &alike[0], r).is_ok()));
    }

    #[test]
    fn texts_of_a_pair_are_read_under_their_names() {
        let file = std::env::temp_dir().join(format!("infc-pairs-{}.jsonl", std::process::id()));
        std::fs::write(&file, "{\"query\": \"a\", \"document\": \"b\", \"id\": 1}\n").unwrap();
        let pairs = model(
            r#"{"kind": "rerank", "texts": ["query", "document"], "tokenizer": "t", "limit": 20, "activation": "none"}"#,
        );
        let requests = read_texts(&file, None, &pairs).unwrap();
        assert_eq!(requests, [json!({"query": "a", "document": "b", "model": "m"})]);
        assert!(read_texts(&file, Some("query"), &pairs).unwrap_err().contains("takes query and document"));
        std::fs::write(&file, "{\"query\": \"a\"}\n").unwrap();
        assert!(
            read_texts(&file, None, &pairs)
                .unwrap_err()
                .contains("line 1: expected an object with the string \"document\"")
        );
        std::fs::remove_file(&file).unwrap();
    }

    #[test]
    fn generated_texts_stay_below_the_limit() {
        let model = model(r#"{"kind": "embed", "texts": ["text"], "tokenizer": "t", "limit": 20}"#);
        let longest = |r: &Value| r["text"].as_str().unwrap().split(' ').count();
        assert!(generate(&model, 7, false).iter().all(|r| longest(r) <= 6));
    }

    #[test]
    fn requests_of_a_file_have_one_row_and_what_makes_one_request_is_alike() {
        let file = std::env::temp_dir().join(format!("infc-requests-{}.jsonl", std::process::id()));
        let model = model(r#"{"kind": "tensor"}"#);
        let fault = |text: &str, together| {
            std::fs::write(&file, text).unwrap();
            read_requests(&file, &model, together).err().unwrap_or_default()
        };
        let (short, long) = (r#"{"ids": [[5, 5]], "x": [[0, 1]]}"#, r#"{"ids": [[5, 5, 5]], "x": [[0, 1]]}"#);
        assert_eq!(fault(&format!("{short}\n{long}\n"), false), "");
        assert!(fault(&format!("{short}\n\n{long}\n"), true).contains("line 3: ids has the shape [1, 3], and that of"));
        let two = r#"{"ids": [[5, 5], [6, 6]], "x": [[0, 1], [0, 1]]}"#;
        assert!(fault(two, false).contains("line 1: ids has 2 rows, and a line is one row"));
        let other = r#"{"ids": [[5, 5]], "x": [[0, 1]], "id": "a"}"#;
        assert!(fault(&format!("{short}\n{other}\n"), true).contains("line 2: \"id\" is not the first line's"));
        assert!(fault("[1]", false).contains("line 1: expected an object"));
        std::fs::remove_file(file).unwrap();
    }
}
