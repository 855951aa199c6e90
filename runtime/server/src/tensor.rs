//! Dense row-major tensors and what a model says about its inputs and outputs.

use serde::Deserialize;

/// Most dimensions of a tensor (`INFC_MAX_RANK` of the ABI).
pub const MAX_RANK: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DType {
    Float32,
    Int64,
    Int32,
    Bool,
}

impl DType {
    pub fn name(self) -> &'static str {
        match self {
            DType::Float32 => "float32",
            DType::Int64 => "int64",
            DType::Int32 => "int32",
            DType::Bool => "bool",
        }
    }

    /// The Open Inference Protocol's name.
    pub fn oip_name(self) -> &'static str {
        match self {
            DType::Float32 => "FP32",
            DType::Int64 => "INT64",
            DType::Int32 => "INT32",
            DType::Bool => "BOOL",
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            DType::Float32 | DType::Int32 => 4,
            DType::Int64 => 8,
            DType::Bool => 1,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    Float32(Vec<f32>),
    Int64(Vec<i64>),
    Int32(Vec<i32>),
    /// One byte an element, 0 or 1.
    Bool(Vec<u8>),
}

impl Data {
    pub fn zeros(dtype: DType, elements: usize) -> Self {
        match dtype {
            DType::Float32 => Data::Float32(vec![0.0; elements]),
            DType::Int64 => Data::Int64(vec![0; elements]),
            DType::Int32 => Data::Int32(vec![0; elements]),
            DType::Bool => Data::Bool(vec![0; elements]),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Data::Float32(v) => v.len(),
            Data::Int64(v) => v.len(),
            Data::Int32(v) => v.len(),
            Data::Bool(v) => v.len(),
        }
    }

    pub fn dtype(&self) -> DType {
        match self {
            Data::Float32(_) => DType::Float32,
            Data::Int64(_) => DType::Int64,
            Data::Int32(_) => DType::Int32,
            Data::Bool(_) => DType::Bool,
        }
    }

    /// Elements from little-endian bytes; `None` where the bytes are no whole number of elements or a bool is not 0 or 1.
    pub fn from_le_bytes(dtype: DType, bytes: &[u8]) -> Option<Self> {
        if !bytes.len().is_multiple_of(dtype.size()) {
            return None;
        }
        Some(match dtype {
            DType::Float32 => Data::Float32(bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            DType::Int64 => Data::Int64(bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
            DType::Int32 => Data::Int32(bytes.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b)).collect()),
            DType::Bool => {
                if bytes.iter().any(|b| *b > 1) {
                    return None;
                }
                Data::Bool(bytes.to_vec())
            }
        })
    }

    /// The elements as little-endian bytes.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.bytes());
        self.write_le_bytes(&mut out);
        out
    }

    /// Appends the elements as little-endian bytes.
    pub fn write_le_bytes(&self, out: &mut Vec<u8>) {
        match self {
            Data::Float32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
            Data::Int64(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
            Data::Int32(v) => out.extend(v.iter().flat_map(|x| x.to_le_bytes())),
            Data::Bool(v) => out.extend_from_slice(v),
        }
    }

    /// The bytes of all elements.
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype().size()
    }

    /// The elements `from..to`, copied.
    pub fn slice(&self, from: usize, to: usize) -> Self {
        match self {
            Data::Float32(v) => Data::Float32(v[from..to].to_vec()),
            Data::Int64(v) => Data::Int64(v[from..to].to_vec()),
            Data::Int32(v) => Data::Int32(v[from..to].to_vec()),
            Data::Bool(v) => Data::Bool(v[from..to].to_vec()),
        }
    }

    /// Appends elements of the same dtype; false where the dtypes differ.
    pub fn append(&mut self, other: &Data) -> bool {
        match (self, other) {
            (Data::Float32(a), Data::Float32(b)) => a.extend_from_slice(b),
            (Data::Int64(a), Data::Int64(b)) => a.extend_from_slice(b),
            (Data::Int32(a), Data::Int32(b)) => a.extend_from_slice(b),
            (Data::Bool(a), Data::Bool(b)) => a.extend_from_slice(b),
            _ => return false,
        }
        true
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub shape: Vec<usize>,
    pub data: Data,
}

impl Tensor {
    pub fn dtype(&self) -> DType {
        self.data.dtype()
    }
}

/// The number of elements of a shape; `None` where it does not fit.
pub fn elements(shape: &[usize]) -> Option<usize> {
    shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d))
}

/// One dimension as `describe` writes it: a number, a symbol, or an expression over symbols (outputs only).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged)]
pub enum Dim {
    Fixed(usize),
    Symbol(String),
}

impl std::fmt::Display for Dim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Dim::Fixed(n) => write!(f, "{n}"),
            Dim::Symbol(s) => f.write_str(s),
        }
    }
}

/// `[batch, 64]`
pub fn shape_text<T: std::fmt::Display>(shape: &[T]) -> String {
    let parts: Vec<String> = shape.iter().map(T::to_string).collect();
    format!("[{}]", parts.join(", "))
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputSpec {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<Dim>,
    #[serde(default)]
    pub default: Option<serde_json::Value>,
    #[serde(default)]
    pub min: Option<serde_json::Number>,
    #[serde(default)]
    pub max: Option<serde_json::Number>,
    /// Whether NaN and infinities are allowed.
    #[serde(default)]
    pub nan: bool,
    /// Whether it says which positions count; for the compiler and its reports.
    #[serde(default, rename = "mask")]
    pub _mask: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    pub name: String,
    pub dtype: DType,
    pub shape: Vec<Dim>,
    /// Whether NaN and infinities may be answered: `null` in JSON, their bits elsewhere.
    #[serde(default)]
    pub nan_allowed: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_round_trip_and_odd_sizes_are_refused() {
        let data = Data::Float32(vec![1.5, -2.0]);
        assert_eq!(Data::from_le_bytes(DType::Float32, &data.to_le_bytes()), Some(data));
        assert_eq!(Data::from_le_bytes(DType::Int64, &[0; 7]), None);
        assert_eq!(Data::from_le_bytes(DType::Bool, &[0, 2]), None);
    }

    #[test]
    fn elements_of_a_huge_shape_do_not_wrap() {
        assert_eq!(elements(&[usize::MAX, 2]), None);
        assert_eq!(elements(&[3, 0, 5]), Some(0));
    }
}
