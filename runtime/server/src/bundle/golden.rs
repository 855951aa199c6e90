//! Known answers: inputs, outputs and how far an answer may be from them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::json::read_json;
use crate::engine::{Engine, Fault, Inputs};
use crate::tensor::{DType, Data, InputSpec, OutputSpec, Tensor, elements};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    pub format: u32,
    pub cases: Vec<Case>,
    pub max_abs_error: f64,
    /// Reserved for a digest of exact answers; null so far.
    #[serde(default, rename = "sha256")]
    _sha256: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub inputs: BTreeMap<String, Encoded>,
    pub outputs: BTreeMap<String, Encoded>,
}

/// A tensor as little-endian bytes in base64.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encoded {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub data: String,
}

impl Encoded {
    pub fn decode(&self) -> Result<Tensor, String> {
        let bytes = STANDARD.decode(&self.data).map_err(|e| e.to_string())?;
        let data = Data::from_le_bytes(self.dtype, &bytes).ok_or("the bytes do not fit the dtype")?;
        if elements(&self.shape) != Some(data.len()) {
            return Err(format!("{} elements for shape {:?}", data.len(), self.shape));
        }
        Ok(Tensor { shape: self.shape.clone(), data })
    }
}

/// Reads `golden.json`, format 1.
pub fn read_golden(bytes: &[u8]) -> Result<Golden, String> {
    let golden: Golden = read_json(bytes)?;
    if golden.format != 1 {
        return Err(format!("format {}, and this server reads format 1", golden.format));
    }
    if golden.cases.is_empty() {
        return Err("it has no cases".into());
    }
    if !(golden.max_abs_error.is_finite() && golden.max_abs_error >= 0.0) {
        return Err(format!("max_abs_error is {}", golden.max_abs_error));
    }
    Ok(golden)
}

/// The case's inputs in the order of the model's inputs.
pub fn case_inputs(case: &Case, specs: &[InputSpec]) -> Result<Inputs, String> {
    if let Some(unknown) = case.inputs.keys().find(|name| specs.iter().all(|s| s.name != **name)) {
        return Err(format!("unknown input {unknown:?}"));
    }
    specs.iter().map(|spec| case.inputs.get(&spec.name).map(Encoded::decode).transpose()).collect()
}

/// Why known answers were not given.
pub enum Wrong {
    /// The file does not fit the model.
    File(String),
    /// Model and file are what they should be, and the machine computes something else.
    Answer(String),
}

/// Runs every case and compares each output: |got - want| <= max_abs_error · max(1, max |want|).
pub fn check_golden(
    golden: &Golden,
    engine: &mut dyn Engine,
    inputs: &[InputSpec],
    outputs: &[OutputSpec],
) -> Result<(), Wrong> {
    for (number, case) in golden.cases.iter().enumerate() {
        if let Some(unknown) = case.outputs.keys().find(|name| outputs.iter().all(|s| s.name != **name)) {
            return Err(Wrong::File(format!("known answer {number}: the model has no output {unknown:?}")));
        }
        let request = case_inputs(case, inputs).map_err(Wrong::File)?;
        let failed = |fault: Fault| Wrong::Answer(format!("known answer {number}: {fault}"));
        let mut answers = engine.run(&[&request]).map_err(failed)?;
        let answer = answers.remove(0).map_err(failed)?;
        for (spec, got) in outputs.iter().zip(&answer) {
            let want = case.outputs.get(&spec.name);
            let missing = || Wrong::File(format!("known answer {number}: output {:?} is missing", spec.name));
            let want = want.ok_or_else(missing)?.decode().map_err(Wrong::File)?;
            if got.shape != want.shape || got.dtype() != want.dtype() {
                let text = format!("shape {:?}, expected {:?}", got.shape, want.shape);
                return Err(Wrong::File(format!("known answer {number}, output {:?}: {text}", spec.name)));
            }
            compare(got, &want, golden.max_abs_error)
                .map_err(|text| Wrong::Answer(format!("known answer {number}, output {:?}: {text}", spec.name)))?;
        }
    }
    Ok(())
}

/// Of tensors of one shape.
fn compare(got: &Tensor, want: &Tensor, tolerance: f64) -> Result<(), String> {
    let (got, want) = (floats(&got.data), floats(&want.data));
    let largest = want.iter().filter(|x| x.is_finite()).fold(1.0f64, |m, x| m.max(x.abs()));
    let bound = tolerance * largest;
    for (index, (g, w)) in got.iter().zip(&want).enumerate() {
        let same = g == w || (g.is_nan() && w.is_nan()) || (g - w).abs() <= bound;
        if !same {
            return Err(format!("element {index} is {g}, expected {w} within {bound:e}"));
        }
    }
    Ok(())
}

fn floats(data: &Data) -> Vec<f64> {
    match data {
        Data::Float32(v) => v.iter().map(|x| f64::from(*x)).collect(),
        Data::Int64(v) => v.iter().map(|x| *x as f64).collect(),
        Data::Int32(v) => v.iter().map(|x| f64::from(*x)).collect(),
        Data::Bool(v) => v.iter().map(|x| f64::from(*x)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f32]) -> Tensor {
        Tensor { shape: vec![values.len()], data: Data::Float32(values.to_vec()) }
    }

    #[test]
    fn the_tolerance_scales_with_the_largest_value_and_nan_is_no_number() {
        assert!(compare(&tensor(&[100.05, 1.0]), &tensor(&[100.0, 1.0]), 1e-3).is_ok());
        assert!(compare(&tensor(&[0.05]), &tensor(&[0.0]), 1e-3).is_err());
        assert!(compare(&tensor(&[f32::NAN]), &tensor(&[0.0]), 1e-3).is_err());
        assert!(compare(&tensor(&[f32::NAN]), &tensor(&[f32::NAN]), 1e-3).is_ok());
    }
}
