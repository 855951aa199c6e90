//! `serve prove`: this bundle's own server under load, measured from outside.
pub mod load;
use super::{Failure, Start};
use crate::cli::{Common, ProveArguments};
pub fn prove(_start: &Start, _common: &Common, _arguments: &ProveArguments) -> Result<(), Failure> {
    Err(Failure::internal("not there yet"))
}
