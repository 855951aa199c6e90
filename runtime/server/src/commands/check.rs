//! `serve check`: is this bundle whole, and does it give its known answers on this machine?

use std::time::Instant;

use super::{Failure, Start, emit};

/// Prints one JSON line; fails with 7 for a damaged bundle and with 6 for one that is not for this machine.
pub fn check(start: &Start) -> Result<(), Failure> {
    let begin = Instant::now();
    let metrics = start.metrics();
    let loaded = start.load(&metrics)?;
    let models: Vec<&str> = loaded.models.iter().map(|m| m.spec.name.as_str()).collect();
    let line = serde_json::json!({
        "ok": true,
        "bundle": &*loaded.digest,
        "models": models,
        "files": start.manifest.files.len(),
        "memory_ceiling": loaded.ceiling.to_json(),
        "seconds": (begin.elapsed().as_secs_f64() * 1e3).round() / 1e3,
    });
    loaded.close();
    emit(&format!("{line}\n"))
}
