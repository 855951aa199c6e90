//! The document: what was recorded, as JSON.

use std::collections::BTreeMap;
use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::ZlibEncoder;
use serde_json::{Value, json};

use super::generator::{FAILED, Outcome};
use super::noise::{Noise, quantile};

pub const SCHEMA: &str = "infc.evidence/2";

/// What stands beside a block's latencies.
pub struct Around {
    pub index: u64,
    pub seed: u64,
    pub start_s: f64,
    pub noise: Noise,
    pub peak_rss_bytes: Option<u64>,
    /// How the server ended, where it did by itself.
    pub ended: Option<String>,
}

pub fn block(around: &Around, outcome: &mut Outcome) -> Result<Value, String> {
    let seconds = |ns: u64| ns as f64 / 1e9;
    let mut errors: BTreeMap<u64, u64> = BTreeMap::new();
    for latency in outcome.latency.iter().filter(|l| **l >= FAILED) {
        *errors.entry(latency - FAILED).or_default() += 1;
    }
    let failed: u64 = errors.values().sum();
    let sent = outcome.latency.len() as u64;
    Ok(json!({
        "index": around.index,
        "seed": around.seed,
        "start_s": around.start_s,
        "sent": sent,
        "ok": sent - failed,
        "rows": outcome.rows,
        "elapsed_s": seconds(outcome.elapsed),
        "errors": errors.iter().map(|(status, count)| (status.to_string(), *count)).collect::<BTreeMap<_, _>>(),
        "latency": encode(&outcome.latency)?,
        "lag_p99_s": quantile(&mut outcome.lag, 0.99).map(seconds),
        "lag_max_s": outcome.lag.iter().max().copied().map(seconds),
        "connections_most": outcome.connections_most,
        "connections_short": outcome.connections_short,
        "generator_cpu": around.noise.generator_cpu,
        "server_cpu": around.noise.server_cpu,
        "foreign": around.noise.foreign,
        "steal": around.noise.steal,
        "pressure": around.noise.pressure,
        "peak_rss_bytes": around.peak_rss_bytes,
        "ended": around.ended,
    }))
}

/// base64 of zlib of the values, little endian.
fn encode(values: &[u64]) -> Result<String, String> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    let mut buffer = Vec::with_capacity(8 * 4096);
    for part in values.chunks(4096) {
        buffer.clear();
        part.iter().for_each(|value| buffer.extend_from_slice(&value.to_le_bytes()));
        encoder.write_all(&buffer).map_err(|e| e.to_string())?;
    }
    Ok(STANDARD.encode(encoder.finish().map_err(|e| e.to_string())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn noise() -> Noise {
        Noise { server_cpu: None, generator_cpu: 0.5, foreign: None, steal: Some(0.0), pressure: None }
    }

    #[test]
    fn latencies_are_encoded_in_order_and_failures_are_counted_by_status() {
        let latency: Vec<u64> =
            (0..10_000).map(|i| i * 1_000_003).chain([FAILED | 429, FAILED, FAILED | 429]).collect();
        let mut outcome = Outcome {
            latency: latency.clone(),
            lag: vec![3_000, 1_000],
            rows: 7,
            elapsed: 1_500_000_000,
            connections_most: 2,
            connections_short: 1,
            died: false,
        };
        let around =
            Around { index: 3, seed: u64::MAX, start_s: 0.5, noise: noise(), peak_rss_bytes: None, ended: None };
        let block = block(&around, &mut outcome).unwrap();
        assert_eq!(block["errors"], json!({"0": 1, "429": 2}));
        assert_eq!((&block["sent"], &block["ok"], &block["elapsed_s"]), (&json!(10_003), &json!(10_000), &json!(1.5)));
        assert_eq!((&block["lag_max_s"], &block["seed"]), (&json!(3e-6), &json!(u64::MAX)));
        assert!(block["foreign"].is_null() && block["steal"] == 0.0);
        let bytes = STANDARD.decode(block["latency"].as_str().unwrap()).unwrap();
        let mut found = Vec::new();
        flate2::read::ZlibDecoder::new(&bytes[..]).read_to_end(&mut found).unwrap();
        assert!(found.chunks(8).map(|b| u64::from_le_bytes(b.try_into().unwrap())).eq(latency));
    }
}
