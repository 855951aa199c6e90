//! The memory ceiling: the most resident memory that the server takes, whatever clients send.
//!
//! ceiling = process + weights + tokenizers + workspaces + requests + connections + answers
//!
//! Each term is what some code holds itself to; `compiler/bundle/memory.py` computes the same sum for the settings that
//! a bundle is written with.

use std::fmt;

use crate::config::Settings;
use crate::wire::budget::shares;

const MIB: u64 = 1 << 20;

/// Code, threads, the queue, metrics and what the allocator keeps: what is there in any case.
pub const PROCESS: u64 = 96 * MIB;

/// Bytes of a loaded tokenizer for each byte of its file: 37 were measured for a vocabulary of 30,522 words.
pub const TOKENIZER: u64 = 48;

/// Bytes of a connection that sends nothing: its task and its buffer.
pub const CONNECTION: u64 = 16 << 10;

/// Bytes held for each byte of a request: its own, and its tensors (an int64 from two characters takes eight).
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
    pub requests: u64,
    pub connections: u64,
    pub answers: u64,
}

/// What the settings come to.
#[derive(Clone, Copy, Debug)]
pub struct Budgets {
    /// Bytes of all requests at once, heads and bodies.
    pub requests: u64,
    /// Connections at once.
    pub connections: u64,
}

impl Budgets {
    /// What [`crate::wire::budget`] admits, and as many connections as there may be.
    pub fn of(settings: &Settings) -> Self {
        Budgets {
            requests: shares(settings.count("max_body_bytes").unwrap_or(16 << 20))
                .iter()
                .fold(0, |sum, n| sum.saturating_add(*n as u64)),
            connections: settings.count("max_connections").unwrap_or(4096) as u64,
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
            requests: budgets.requests.saturating_mul(PARSED),
            connections: budgets.connections.saturating_mul(CONNECTION),
            answers: SMALL_ANSWERS + LARGE_ANSWERS,
        }
    }

    fn terms(&self) -> [(&'static str, u64); 7] {
        [
            ("process", self.process),
            ("weights", self.weights),
            ("tokenizers", self.tokenizers),
            ("workspaces", self.workspaces),
            ("requests", self.requests),
            ("connections", self.connections),
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
        let ceiling = Ceiling::new(10 * MIB, MIB, 4 * MIB, Budgets { requests: 8 * MIB, connections: 128 });
        assert_eq!(ceiling.total(), (96 + 10 + 48 + 4 + 40 + 2 + 160) * MIB);
        let text = "memory ceiling 360 MiB = process 96 + weights 10 + tokenizers 48 + workspaces 4 + requests 40 + connections 2 + answers 160";
        assert_eq!(ceiling.to_string(), text);
        assert_eq!(ceiling.to_json()["total"], 360 * MIB);
        let most = Ceiling::new(u64::MAX, u64::MAX, 1, Budgets { requests: u64::MAX, connections: 1 });
        assert_eq!(most.total(), u64::MAX);
    }
}
