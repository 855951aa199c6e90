//! Running totals of one model, as the Open Inference Protocol's statistics extension asks for them.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// Rows of answered requests.
    pub inferences: u64,
    /// Batches run.
    pub executions: u64,
    pub succeeded: u64,
    pub failed: u64,
    pub queue: Duration,
    pub compute: Duration,
    /// By requests in the batch: batches, and time in the model.
    pub batches: BTreeMap<usize, (u64, Duration)>,
    pub last_inference_ms: u64,
}

impl Stats {
    pub fn batch(&mut self, requests: usize, rows: usize, failed: usize, queue: Duration, compute: Duration) {
        self.inferences += rows as u64;
        self.executions += 1;
        self.succeeded += (requests - failed) as u64;
        self.failed += failed as u64;
        self.queue += queue;
        self.compute += compute;
        let entry = self.batches.entry(requests).or_default();
        entry.0 += 1;
        entry.1 += compute;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.last_inference_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    }

    /// So many that were counted as answered are refused after all.
    pub fn turned_to_failures(&mut self, requests: usize) {
        let requests = (requests as u64).min(self.succeeded);
        self.succeeded -= requests;
        self.failed += requests;
    }

    /// The `model_stats` entry.
    pub fn to_json(&self, name: &str, version: &str) -> serde_json::Value {
        let timed = |count: u64, time: Duration| serde_json::json!({"count": count, "ns": nanoseconds(time)});
        let batches: Vec<serde_json::Value> = self
            .batches
            .iter()
            .map(|(size, (count, time))| serde_json::json!({"batch_size": size, "compute_infer": timed(*count, *time)}))
            .collect();
        let requests = self.succeeded + self.failed;
        serde_json::json!({
            "name": name,
            "version": version,
            "last_inference": self.last_inference_ms,
            "inference_count": self.inferences,
            "execution_count": self.executions,
            "inference_stats": {
                "success": timed(self.succeeded, self.queue + self.compute),
                "fail": timed(self.failed, Duration::ZERO),
                "queue": timed(requests, self.queue),
                "compute_infer": timed(self.executions, self.compute),
            },
            "batch_stats": batches,
        })
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_add_up() {
        let mut stats = Stats::default();
        stats.batch(3, 5, 1, Duration::from_millis(3), Duration::from_millis(2));
        stats.batch(3, 3, 0, Duration::ZERO, Duration::from_millis(4));
        let json = stats.to_json("m", "1");
        assert_eq!((json["inference_count"].as_u64(), json["execution_count"].as_u64()), (Some(8), Some(2)));
        assert_eq!(json["inference_stats"]["success"]["count"], 5);
        assert_eq!(json["batch_stats"][0]["compute_infer"]["ns"], 6_000_000);
        stats.turned_to_failures(2);
        let json = stats.to_json("m", "1");
        assert_eq!(
            (&json["inference_stats"]["success"]["count"], &json["inference_stats"]["fail"]["count"]),
            (&3.into(), &3.into())
        );
    }
}
