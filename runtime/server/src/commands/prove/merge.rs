//! Rows → one request: texts become a list, tensors are joined along their first dimension, all else must be equal.

use serde_json::{Map, Value};

use super::client::post_bytes;
use super::load::Items;
use super::random::Random;
use super::requests::named;
use crate::bundle::manifest::Model;
use crate::bundle::task::Task;
use crate::tensor::Dim;

/// Bytes of all requests that are prepared for a block; where more are sent they come round again.
const PREPARED: usize = 64 << 20;

/// A request as it is sent.
pub struct Post {
    pub bytes: Vec<u8>,
    pub rows: usize,
}

/// Up to `wanted` requests of `items` rows each, in the order in which they are sent: every row comes once before any
/// comes again, in an order of each round's own.
pub fn prepare(model: &Model, rows: &[Value], items: Items, wanted: usize, random: &mut Random) -> Vec<Post> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    let mut at = order.len();
    let mut next = |random: &mut Random| {
        if at == order.len() {
            random.shuffle(&mut order);
            at = 0;
        }
        at += 1;
        &rows[order[at - 1]]
    };
    let mut posts = Vec::new();
    let mut bytes = 0;
    while posts.len() < wanted.max(1) && bytes < PREPARED {
        let count = random.between(items.low as i64, items.high as i64) as usize;
        let post = if count == 1 {
            let row = next(random);
            Post { bytes: post_bytes("/infer", row.to_string().as_bytes()), rows: rows_of(model, row) }
        } else {
            let several: Vec<&Value> = (0..count).map(|_| next(random)).collect();
            Post { bytes: post_bytes("/infer", merge(model, &several).to_string().as_bytes()), rows: count }
        };
        bytes += post.bytes.len();
        posts.push(post);
    }
    posts
}

/// One request of rows that are alike.
pub fn merge(model: &Model, rows: &[&Value]) -> Value {
    let mut request = rows.first().and_then(|row| row.as_object()).cloned().unwrap_or_default();
    for name in row_names(model) {
        if request.contains_key(name) {
            let parts = rows.iter().filter_map(|row| row.get(name));
            let joined =
                parts.flat_map(|part| part.as_array().cloned().unwrap_or_else(|| vec![part.clone()])).collect();
            request.insert(name.clone(), Value::Array(joined));
        }
    }
    Value::Object(request)
}

/// The most rows that one request of this model may have, by the model; None: any number.
pub fn most_rows(model: &Model, max_inputs: usize) -> usize {
    match (&model.task, &model.batch_dim) {
        (Task::Text(_), _) => max_inputs,
        (Task::Tensor, Some(batch)) => model.dims.get(batch).map_or(1, |(_, high)| *high),
        (Task::Tensor, None) => 1,
    }
}

/// Fails where a request has not the rows of one.
pub fn check_row(model: &Model, request: &Value) -> Result<(), String> {
    let least = model.batch_dim.as_ref().and_then(|batch| model.dims.get(batch)).map_or(1, |(low, _)| (*low).max(1));
    for name in row_names(model) {
        let count = request.get(name).and_then(Value::as_array).map_or(1, Vec::len);
        if count != 1 && count != least {
            return Err(format!(
                "{name} has {count} rows, and a line is one row (--items puts several into a request)"
            ));
        }
    }
    Ok(())
}

/// Fails where `row` and the first one do not go into one request.
pub fn check_alike(model: &Model, first: &Value, row: &Value) -> Result<(), String> {
    let empty = Map::new();
    let (first, row) = (first.as_object().unwrap_or(&empty), row.as_object().unwrap_or(&empty));
    let joined = row_names(model);
    for name in first.keys().chain(row.keys()) {
        let (one, other) = (first.get(name), row.get(name));
        if joined.contains(&name) {
            let (one, other) = (one.map(shape), other.map(shape));
            if one != other {
                let text = |shape: Option<Vec<usize>>| shape.map_or("none".into(), |s| format!("{s:?}"));
                return Err(format!(
                    "{name} has the shape {}, and that of the first line is {}",
                    text(other),
                    text(one)
                ));
            }
        } else if one != other {
            return Err(format!("{name:?} is not the first line's, and rows of one request have it in common"));
        }
    }
    Ok(())
}

pub fn rows_of(model: &Model, request: &Value) -> usize {
    let counts = row_names(model).into_iter().filter_map(|name| request.get(name)?.as_array().map(Vec::len));
    counts.max().unwrap_or(1)
}

/// What has a row for each of a request's: its texts, or the inputs whose first dimension is the batch.
fn row_names(model: &Model) -> Vec<&String> {
    match &model.task {
        Task::Text(says) => says.texts.iter().collect(),
        Task::Tensor => {
            let is_batch = |dim: &Dim| matches!(dim, Dim::Symbol(s) if Some(s) == model.batch_dim.as_ref());
            model.inputs.iter().filter(|i| i.shape.first().is_some_and(is_batch)).map(|i| &i.name).collect()
        }
    }
}

/// The lengths of nested lists, by the first of each.
fn shape(value: &Value) -> Vec<usize> {
    let mut shape = Vec::new();
    let mut at = value;
    while let Some(list) = at.as_array() {
        shape.push(list.len());
        let Some(first) = list.first() else { break };
        at = first;
    }
    // A text alone and one in a list are alike.
    if at.is_string() { vec![] } else { shape }
}

/// A row as it is sent alone, with an id, so that equal answers are equal bytes.
pub fn first_post(model: &Model, row: &Value) -> Vec<u8> {
    let mut request = named(model, row.clone());
    let has_id = request.get("id").is_some() || model.inputs.iter().any(|i| i.name == "id");
    if !has_id {
        request["id"] = "first".into();
    }
    post_bytes("/infer", request.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn model() -> Model {
        serde_json::from_str(
            r#"{"name": "m", "task": {"kind": "tensor"}, "dims": {"batch": [1, 4]}, "batch_dim": "batch",
            "outputs": [], "variants": [], "golden": "",
            "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", 2]}, {"name": "s", "dtype": "float32", "shape": [1]}]}"#,
        )
        .unwrap()
    }

    fn texts() -> Model {
        let text = r#"{"name": "m", "task": {"kind": "embed", "texts": ["text"], "tokenizer": "t", "limit": 20}, "inputs": [],
            "outputs": [], "variants": [], "golden": ""}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn tensors_are_joined_texts_become_a_list_and_the_rest_is_kept() {
        let rows = [json!({"x": [[1, 2]], "s": [7], "model": "m"}), json!({"x": [[3, 4]], "s": [7], "model": "m"})];
        let both = merge(&model(), &[&rows[0], &rows[1]]);
        assert_eq!(both, json!({"x": [[1, 2], [3, 4]], "s": [7], "model": "m"}));
        assert_eq!(rows_of(&model(), &both), 2);
        let rows = [json!({"text": "a"}), json!({"text": ["b"]})];
        assert_eq!(merge(&texts(), &[&rows[0], &rows[1]]), json!({"text": ["a", "b"]}));
        assert!(check_alike(&texts(), &rows[0], &rows[1]).is_ok());
        assert_eq!((most_rows(&model(), 9), most_rows(&texts(), 9)), (4, 9));
    }

    #[test]
    fn all_rows_come_before_any_comes_again() {
        let rows: Vec<Value> = (0..10).map(|i| json!({"x": [[i, 0]]})).collect();
        let mut random = Random::new(1);
        let posts = prepare(&model(), &rows, Items { low: 1, high: 1 }, 20, &mut random);
        let text = |post: &Post| String::from_utf8(post.bytes.clone()).unwrap();
        let distinct = |posts: &[Post]| posts.iter().map(text).collect::<std::collections::BTreeSet<_>>().len();
        assert_eq!((posts.len(), distinct(&posts[..10]), distinct(&posts[10..])), (20, 10, 10));
        assert!(posts[..10].iter().map(text).ne(posts[10..].iter().map(text)));
    }

    #[test]
    fn each_number_of_rows_is_equally_likely() {
        let rows: Vec<Value> = (0..10).map(|i| json!({"x": [[i, 0]]})).collect();
        let posts = prepare(&model(), &rows, Items { low: 1, high: 4 }, 4000, &mut Random::new(1));
        for count in 1..=4 {
            let found = posts.iter().filter(|p| p.rows == count).count();
            assert!((850..1150).contains(&found), "{found}"); // the standard deviation is 27
        }
    }
}
