//! What runs batches: a trait that knows neither HTTP nor tokio, and its one implementation over the C ABI.

pub mod ffi;

use crate::tensor::Tensor;

/// One request's inputs in the order of `describe`; `None` leaves an input to its default.
pub type Inputs = Vec<Option<Tensor>>;

/// Runs batches of requests. Each request has its own result: one request's fault never fails its neighbours.
pub trait Engine: Send {
    /// `Err` only where no request of the batch could be run.
    fn run(&mut self, requests: &[&Inputs]) -> Result<Vec<Result<Vec<Tensor>, Fault>>, Fault>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The caller's: wrong shape, dtype, range or NaN.
    Caller,
    /// More than the workspace or the declared limits hold.
    Capacity,
    DeviceLost,
    Internal,
}

/// A fault as the ABI reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub kind: FaultKind,
    pub code: i32,
    /// Index of the input at fault.
    pub input: Option<usize>,
    pub message: String,
}

/// `INFC_CODE_CPU`: this CPU lacks a feature that the code needs.
pub const CODE_CPU: i32 = 10;

impl Fault {
    pub fn internal(message: impl Into<String>) -> Self {
        Fault { kind: FaultKind::Internal, code: 0, input: None, message: message.into() }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({:?}, code {})", self.message, self.kind, self.code)
    }
}

/// The most that one batch may hold; a context's workspace is made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub requests: usize,
    pub rows: usize,
    pub tokens: usize,
    pub longest: usize,
}
