//! The memory ceiling: the most resident memory that the server takes, whatever clients send.
//!
//! ceiling = process + weights + tokenizers + workspaces + bodies + heads + answers
//!
//! Each term is what some code holds itself to; `compiler/bundle/memory.py` computes the same sum for the settings that
//! a bundle is written with.

use std::fmt;

use crate::app::BODIES;
use crate::config::Settings;
use crate::http::MAX_HEAD;

const MIB: u64 = 1 << 20;

/// Code, threads, the queue, metrics and what the allocator keeps: what is there in any case.
pub const PROCESS: u64 = 96 * MIB;

/// Bytes of a loaded tokenizer for each byte of its file: 37 were measured for a vocabulary of 30,522 words.
pub const TOKENIZER: u64 = 48;

/// Bytes held for each byte of a body: its own, and its tensors (an int64 from two characters takes eight).
pub const PARSED: u64 = 5;

/// Most bytes of one answer. It is the same under every setting, so that a request that is answered here is answered on
/// every server of the bundle.
pub const MOST_ANSWER: u64 = 64 * MIB;

/// Answers up to this size have a share of their own, which large ones cannot take.
pub const SMALL_ANSWER: u64 = 64 << 10;

/// Bytes of all small answers at once, from before they are computed until they are sent: outputs and their text.
pub const SMALL_ANSWERS: u64 = 32 * MIB;

/// Bytes of all larger answers at once. One of the largest fits with its outputs.
pub const LARGE_ANSWERS: u64 = 2 * MOST_ANSWER;

/// The terms of the ceiling, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ceiling {
    pub process: u64,
    /// Files that are mapped: weights and libraries.
    pub weights: u64,
    pub tokenizers: u64,
    /// One for each instance of each model.
    pub workspaces: u64,
    pub bodies: u64,
    pub heads: u64,
    pub answers: u64,
}

/// What the settings come to.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// Bytes of all bodies at once.
    pub bodies: u64,
    /// Bytes of all requests' heads at once.
    pub heads: u64,
}

impl Budgets {
    /// Bodies as [`crate::app::App::reserve`] admits them, and a full head of each connection.
    pub fn of(settings: &Settings) -> Self {
        let count = |key, default: usize| settings.count(key).unwrap_or(default) as u64;
        Budgets {
            bodies: count("max_body_bytes", 16 << 20).saturating_mul(BODIES as u64),
            heads: count("max_connections", 4096).saturating_mul(MAX_HEAD as u64),
        }
    }
}

impl Ceiling {
    /// `weights`, `tokenizers`: bytes of the files; `workspaces`: bytes of all of them.
    pub fn new(weights: u64, tokenizers: u64, workspaces: u64, budgets: Budgets) -> Self {
        Ceiling {
            process: PROCESS,
            weights,
            tokenizers: tokenizers.saturating_mul(TOKENIZER),
            workspaces,
            bodies: budgets.bodies.saturating_mul(PARSED),
            heads: budgets.heads,
            answers: SMALL_ANSWERS + LARGE_ANSWERS,
        }
    }

    fn terms(&self) -> [(&'static str, u64); 7] {
        [
            ("process", self.process),
            ("weights", self.weights),
            ("tokenizers", self.tokenizers),
            ("workspaces", self.workspaces),
            ("bodies", self.bodies),
            ("heads", self.heads),
            ("answers", self.answers),
        ]
    }

    pub fn total(&self) -> u64 {
        self.terms().iter().fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// `{"total": …, "process": …, …}`, in bytes.
    pub fn to_json(self) -> serde_json::Value {
        let terms = std::iter::once(("total", self.total())).chain(self.terms());
        terms.map(|(name, bytes)| (name.to_owned(), bytes.into())).collect::<serde_json::Map<_, _>>().into()
    }
}

impl fmt::Display for Ceiling {
    /// `memory ceiling 1153 MiB = process 96 + …`, rounded up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let terms: Vec<String> =
            self.terms().iter().map(|(name, bytes)| format!("{name} {}", bytes.div_ceil(MIB))).collect();
        write!(f, "memory ceiling {} MiB = {}", self.total().div_ceil(MIB), terms.join(" + "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ceiling_is_the_sum_of_its_terms_and_does_not_overflow() {
        let ceiling = Ceiling::new(10 * MIB, MIB, 4 * MIB, Budgets { bodies: 8 * MIB, heads: 2 * MIB });
        assert_eq!(ceiling.total(), (96 + 10 + 48 + 4 + 40 + 2 + 160) * MIB);
        let text = "memory ceiling 360 MiB = process 96 + weights 10 + tokenizers 48 + workspaces 4 + bodies 40 + heads 2 + answers 160";
        assert_eq!(ceiling.to_string(), text);
        assert_eq!(ceiling.to_json()["total"], 360 * MIB);
        let most = Ceiling::new(u64::MAX, u64::MAX, 1, Budgets { bodies: u64::MAX, heads: 1 });
        assert_eq!(most.total(), u64::MAX);
    }
}
