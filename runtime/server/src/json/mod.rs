//! JSON on the hot path: read straight into tensors, written straight into the answer's bytes.

pub mod reader;
pub mod tensor;
pub mod writer;

pub use reader::{Fault, Reader};
