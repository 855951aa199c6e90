//! The only module with unsafe code: the C ABI of `runtime/abi/infc_model.h`, and mapping files.
//!
//! **Invariant**: a [`native::Library`] outlives its models, a model its contexts, mapped weights the model.

#![allow(unsafe_code)]

mod abi;
pub mod mapped;
pub mod native;
