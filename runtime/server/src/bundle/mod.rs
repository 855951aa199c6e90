//! The bundle folder: what its manifest says, and that its files are the ones it lists.

pub mod folder;
pub mod golden;
pub mod json;
pub mod manifest;
mod sense;
pub mod task;
pub mod verify;

use std::fmt;

pub use sense::MOST;

/// Why a bundle is not served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Damage {
    /// The bundle's own fault: missing, altered or contradictory files (exit 7).
    Damaged(String),
    /// The bundle is sound, but not for this machine (exit 6).
    Unsuited(String),
    /// Ours (exit 1).
    Internal(String),
}

impl Damage {
    pub fn exit_code(&self) -> u8 {
        match self {
            Damage::Damaged(_) => 7,
            Damage::Unsuited(_) => 6,
            Damage::Internal(_) => 1,
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Damaged(text) => write!(f, "the bundle is damaged: {text}"),
            Damage::Unsuited(text) => write!(f, "this bundle is not for this machine: {text}"),
            Damage::Internal(text) => f.write_str(text),
        }
    }
}
