//! `runtime/abi/infc_model.h`, version 1, declared once more for Rust.

use std::ffi::{c_char, c_int, c_void};

pub const VERSION: u32 = 1;
pub const MAX_RANK: usize = 8;

pub const OK: c_int = 0;
pub const CALLER: c_int = 1;
pub const CAPACITY: c_int = 2;
pub const DEVICE_LOST: c_int = 3;

pub const FLOAT32: u32 = 1;
pub const INT64: u32 = 2;
pub const INT32: u32 = 3;
pub const BOOL: u32 = 4;

#[repr(C)]
pub struct Model {
    _private: [u8; 0],
}

#[repr(C)]
pub struct Context {
    _private: [u8; 0],
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Error {
    pub size: u32,
    pub kind: u32,
    pub code: i32,
    pub input: i32,
    pub message: [c_char; 496],
}

impl Error {
    pub fn new() -> Self {
        Error { size: size_of::<Error>() as u32, kind: 0, code: 0, input: -1, message: [0; 496] }
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Tensor {
    pub size: u32,
    pub dtype: u32,
    pub rank: u32,
    pub reserved: u32,
    pub shape: [i64; MAX_RANK],
    pub data: *mut c_void,
    pub bytes: u64,
}

impl Tensor {
    pub fn empty() -> Self {
        Tensor {
            size: size_of::<Tensor>() as u32,
            dtype: 0,
            rank: 0,
            reserved: 0,
            shape: [0; MAX_RANK],
            data: std::ptr::null_mut(),
            bytes: 0,
        }
    }
}

#[repr(C)]
pub struct OpenArgs {
    pub size: u32,
    pub reserved: u32,
    pub weights: *const c_void,
    pub weights_bytes: u64,
}

#[repr(C)]
pub struct ContextArgs {
    pub size: u32,
    pub threads: u32,
    pub cpus: *const i32,
    pub n_cpus: u32,
    pub reserved: u32,
}

#[repr(C)]
pub struct Limits {
    pub size: u32,
    pub requests: u32,
    pub rows: u64,
    pub tokens: u64,
    pub longest: u64,
}

#[repr(C)]
pub struct Batch {
    pub size: u32,
    pub requests: u32,
    pub inputs: *const Tensor,
    pub outputs: *mut Tensor,
    pub status: *mut Error,
    pub workspace: *mut c_void,
    pub workspace_bytes: u64,
}

pub type AbiVersion = unsafe extern "C" fn() -> u32;
pub type Describe = unsafe extern "C" fn() -> *const c_char;
pub type Open = unsafe extern "C" fn(*const OpenArgs, *mut *mut Model, *mut Error) -> c_int;
pub type Close = unsafe extern "C" fn(*mut Model);
pub type ContextOpen = unsafe extern "C" fn(*mut Model, *const ContextArgs, *mut *mut Context, *mut Error) -> c_int;
pub type ContextClose = unsafe extern "C" fn(*mut Context);
pub type Workspace = unsafe extern "C" fn(*const Model, *const Limits, *mut u64, *mut Error) -> c_int;
pub type OutputShapes = unsafe extern "C" fn(*const Model, *const Tensor, *mut Tensor, *mut Error) -> c_int;
pub type Run = unsafe extern "C" fn(*mut Context, *const Batch, *mut Error) -> c_int;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_are_those_of_the_c_header() {
        assert_eq!((size_of::<Error>(), size_of::<Tensor>()), (512, 96));
        assert_eq!((size_of::<OpenArgs>(), size_of::<ContextArgs>()), (24, 24));
        assert_eq!((size_of::<Limits>(), size_of::<Batch>()), (32, 48));
        assert_eq!(std::mem::offset_of!(Tensor, data), 80);
    }
}
