//! A request's tensors against what the model declares: 422 with the field, before anything is queued.

use std::collections::BTreeMap;

use crate::bundle::manifest::Model;
use crate::engine::Inputs;
use crate::refusal::Refusal;
use crate::tensor::{Data, Dim, InputSpec, Tensor, shape_text};

/// What a request takes of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub rows: usize,
    /// Rows times their length; 0 without a length dimension.
    pub tokens: usize,
    pub longest: usize,
}

impl Cost {
    /// What the time in the model grows with: tokens, or rows where there are none.
    pub fn units(self) -> usize {
        self.tokens.max(self.rows)
    }
}

/// What several parts take together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    pub requests: usize,
    pub rows: usize,
    pub tokens: usize,
    pub units: usize,
}

impl Load {
    pub fn add(&mut self, cost: Cost) {
        self.requests += 1;
        self.rows += cost.rows;
        self.tokens += cost.tokens;
        self.units += cost.units();
    }

    pub fn remove(&mut self, cost: Cost) {
        self.requests -= 1;
        self.rows -= cost.rows;
        self.tokens -= cost.tokens;
        self.units -= cost.units();
    }

    pub fn and(mut self, other: Load) -> Load {
        self.requests += other.requests;
        self.rows += other.rows;
        self.tokens += other.tokens;
        self.units += other.units;
        self
    }

    /// `other` is a part of this.
    pub fn without(mut self, other: Load) -> Load {
        self.requests -= other.requests;
        self.rows -= other.rows;
        self.tokens -= other.tokens;
        self.units -= other.units;
        self
    }
}

/// Checks shapes, bounds, ranges and NaN of all inputs and returns their cost.
pub fn check_inputs(model: &Model, inputs: &Inputs) -> Result<Cost, Refusal> {
    let mut bound: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for (spec, tensor) in model.inputs.iter().zip(inputs) {
        match tensor {
            Some(tensor) => check_shape(model, spec, tensor, &mut bound)?,
            None if spec.default.as_ref().is_none_or(serde_json::Value::is_null) => {
                let expected = format!("{} {}", spec.dtype.name(), shape_text(&spec.shape));
                return Err(Refusal::invalid(&spec.name, format!("the input is missing; expected {expected}")));
            }
            None => {}
        }
    }
    for (spec, tensor) in model.inputs.iter().zip(inputs) {
        if let Some(tensor) = tensor {
            check_values(spec, tensor)?;
        }
    }
    let size = |dim: &Option<String>| dim.as_ref().and_then(|d| bound.get(d.as_str())).map(|(n, _)| *n);
    let rows = size(&model.batch_dim).unwrap_or(1);
    let longest = size(&model.length_dim).unwrap_or(0);
    Ok(Cost { rows, tokens: rows * longest, longest })
}

fn check_shape<'a>(
    model: &Model,
    spec: &'a InputSpec,
    tensor: &Tensor,
    bound: &mut BTreeMap<&'a str, (usize, &'a str)>,
) -> Result<(), Refusal> {
    let refuse = |text: String| Err(Refusal::invalid(&spec.name, text));
    if tensor.dtype() != spec.dtype {
        return refuse(format!("expected {}, got {}", spec.dtype.name(), tensor.dtype().name()));
    }
    let shapes = || format!("expected shape {}, got {}", shape_text(&spec.shape), shape_text(&tensor.shape));
    if tensor.shape.len() != spec.shape.len() {
        return refuse(shapes());
    }
    for (got, want) in tensor.shape.iter().zip(&spec.shape) {
        let symbol = match want {
            Dim::Fixed(n) if n == got => continue,
            Dim::Fixed(_) => return refuse(shapes()),
            Dim::Symbol(symbol) => symbol,
        };
        let Some((low, high)) = model.dims.get(symbol) else { continue };
        let is_batch = model.batch_dim.as_ref() == Some(symbol);
        let empty = is_batch && *got == 0;
        let no_rows = tensor.shape.contains(&0) && !is_batch && *got == 0;
        if !(empty || no_rows || (low..=high).contains(&got)) {
            return refuse(format!("{}, where {symbol} is {low} to {high}", shapes()));
        }
        match bound.get(symbol.as_str()) {
            Some((other, name)) if other != got => {
                return refuse(format!("{symbol} is {got} here and {other} in {name:?}: {}", shapes()));
            }
            _ => bound.insert(symbol, (*got, &spec.name)),
        };
    }
    Ok(())
}

fn check_values(spec: &InputSpec, tensor: &Tensor) -> Result<(), Refusal> {
    let fault = match &tensor.data {
        Data::Float32(values) => check_floats(spec, values),
        Data::Int64(values) => check_integers(spec, values.iter().copied()),
        Data::Int32(values) => check_integers(spec, values.iter().map(|v| i64::from(*v))),
        Data::Bool(_) => None,
    };
    match fault {
        None => Ok(()),
        Some((index, message)) => Err(Refusal::invalid(place(&spec.name, &tensor.shape, index), message)),
    }
}

fn check_floats(spec: &InputSpec, values: &[f32]) -> Option<(usize, String)> {
    if !spec.nan
        && let Some(index) = values.iter().position(|v| !v.is_finite())
    {
        return Some((index, format!("expected a finite number, got {}", float_name(values[index]))));
    }
    let low = spec.min.as_ref().and_then(serde_json::Number::as_f64);
    let high = spec.max.as_ref().and_then(serde_json::Number::as_f64);
    if low.is_none() && high.is_none() {
        return None;
    }
    let (low, high) = (low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY));
    let index = values.iter().position(|v| f64::from(*v) < low || f64::from(*v) > high)?;
    Some((index, format!("expected {low} to {high}, got {}", values[index])))
}

fn float_name(value: f32) -> &'static str {
    if value.is_nan() {
        "NaN"
    } else if value > 0.0 {
        "infinity (or a number that float32 cannot hold)"
    } else {
        "-infinity (or a number that float32 cannot hold)"
    }
}

fn check_integers(spec: &InputSpec, mut values: impl Iterator<Item = i64> + Clone) -> Option<(usize, String)> {
    let low = spec.min.as_ref().and_then(serde_json::Number::as_i64).unwrap_or(i64::MIN);
    let high = spec.max.as_ref().and_then(serde_json::Number::as_i64).unwrap_or(i64::MAX);
    let (index, value) = {
        let mut index = 0;
        let found = values.find(|v| {
            index += 1;
            !(low..=high).contains(v)
        })?;
        (index - 1, found)
    };
    Some((index, format!("expected {low} to {high}, got {value}")))
}

/// `features[2][5]`
pub fn place(name: &str, shape: &[usize], mut index: usize) -> String {
    let mut path = Vec::new();
    for dim in shape.iter().rev() {
        path.push(index % dim);
        index /= dim;
    }
    let path: String = path.iter().rev().map(|i| format!("[{i}]")).collect();
    format!("{name}{path}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::DType;

    pub(crate) fn model() -> Model {
        serde_json::from_str(
            r#"{"name": "m", "task": {"kind": "tensor"}, "dims": {"batch": [1, 4], "tokens": [1, 8]}, "batch_dim": "batch",
            "length_dim": "tokens", "batchable": true, "outputs": [], "variants": [], "golden": "",
            "inputs": [{"name": "ids", "dtype": "int64", "shape": ["batch", "tokens"], "min": 0, "max": 9},
                       {"name": "mask", "dtype": "int64", "shape": ["batch", "tokens"], "default": 1, "min": 0, "max": 1},
                       {"name": "bias", "dtype": "float32", "shape": ["batch", 2], "default": 0, "max": 1.5}]}"#,
        )
        .unwrap()
    }

    fn ids(shape: &[usize], values: &[i64]) -> Option<Tensor> {
        Some(Tensor { shape: shape.to_vec(), data: Data::Int64(values.to_vec()) })
    }

    fn floats(shape: &[usize], values: &[f32]) -> Option<Tensor> {
        Some(Tensor { shape: shape.to_vec(), data: Data::Float32(values.to_vec()) })
    }

    fn fault(inputs: Inputs) -> String {
        check_inputs(&model(), &inputs).unwrap_err().text()
    }

    #[test]
    fn cost_counts_rows_and_tokens() {
        let cost = check_inputs(&model(), &vec![ids(&[2, 3], &[1; 6]), None, None]).unwrap();
        assert_eq!(cost, Cost { rows: 2, tokens: 6, longest: 3 });
        let empty = check_inputs(&model(), &vec![ids(&[0, 0], &[]), None, None]).unwrap();
        assert_eq!(empty.rows, 0);
    }

    #[test]
    fn each_fault_names_its_field_and_what_was_expected() {
        assert!(fault(vec![None, None, None]).starts_with("ids: the input is missing; expected int64 [batch, tokens]"));
        assert!(fault(vec![ids(&[5, 1], &[1; 5]), None, None]).contains("batch is 1 to 4"));
        assert!(fault(vec![ids(&[2], &[1; 2]), None, None]).contains("expected shape [batch, tokens], got [2]"));
        assert_eq!(fault(vec![ids(&[2, 2], &[1, 2, 3, 10]), None, None]), "ids[1][1]: expected 0 to 9, got 10");
        assert!(
            fault(vec![ids(&[2, 2], &[1; 4]), ids(&[2, 3], &[1; 6]), None])
                .contains("tokens is 3 here and 2 in \"ids\"")
        );
        assert!(fault(vec![floats(&[1, 1], &[1.0]), None, None]).contains("expected int64, got float32"));
        let bias = |v| vec![ids(&[1, 1], &[1]), None, floats(&[1, 2], &[0.0, v])];
        assert_eq!(fault(bias(f32::NAN)), "bias[0][1]: expected a finite number, got NaN");
        assert!(fault(bias(2.0)).contains("to 1.5, got 2"));
        assert_eq!(model().inputs[0].dtype, DType::Int64);
    }
}
