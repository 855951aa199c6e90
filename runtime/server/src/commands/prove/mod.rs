//! `serve prove`: this bundle's own server under load, measured from outside.
//!
//! The server is a process of its own; this one only sends. Latency counts from the intended send time, so that a stalled
//! server cannot slow the load that measures it. The generator's own lag is measured too; above 1 ms (p99) the run is void.

mod client;
mod fingerprint;
pub mod load;
mod random;
mod requests;
mod server;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Serializer, V2DeflateSerializer};
use serde_json::{Map, Value, json};

use super::{Failure, Start, emit};
use crate::bundle::manifest::{Manifest, Model, Target};
use crate::cli::{Common, ProveArguments};
use load::{Arrival, Outcome, closed_loop, open_loop, schedule};
use server::Server;

/// The generator's lag (p99) above which a run is void.
const MOST_LAG_S: f64 = 1e-3;

/// Connections of the closed loop, one after the other.
const LEVELS: [usize; 7] = [1, 2, 4, 8, 16, 32, 64];

const PERCENTILES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)];

/// Measures and writes the evidence as JSON, to `--out` or stdout.
pub fn prove(start: &Start, common: &Common, arguments: &ProveArguments) -> Result<(), Failure> {
    check_arguments(arguments)?;
    let manifest = &start.manifest;
    let model = find_model(manifest, arguments.model.as_deref())?;
    let (bodies, source) = bodies(model, arguments)?;
    let posts: Vec<Vec<u8>> = bodies.iter().map(|b| client::post_bytes("/infer", b.to_string().as_bytes())).collect();
    let evidence = Measure { start, common, arguments, posts, source }.run().map_err(Failure::internal)?;
    let mut text = format!("{evidence:#}");
    text.push('\n');
    match &arguments.out {
        Some(path) => std::fs::write(path, text).map_err(|e| Failure::internal(format!("{}: {e}", path.display()))),
        None => emit(&text),
    }
}

fn check_arguments(arguments: &ProveArguments) -> Result<(), Failure> {
    let positive = |name: &str, value: f64| {
        if value.is_finite() && value > 0.0 { Ok(()) } else { Err(Failure::usage(format!("--{name} must be above 0"))) }
    };
    positive("duration", arguments.duration)?;
    positive("rate", arguments.rate.unwrap_or(1.0))?;
    for (name, value) in [("warmup", arguments.warmup), ("throughput", arguments.throughput)] {
        if !(0.0..=3600.0).contains(&value) {
            return Err(Failure::usage(format!("--{name} must be 0 to 3600 seconds")));
        }
    }
    for (name, value) in [("connections", arguments.connections), ("rows", arguments.rows)] {
        if !(1..=4096).contains(&value) {
            return Err(Failure::usage(format!("--{name} must be 1 to 4096")));
        }
    }
    Ok(())
}

fn find_model<'a>(manifest: &'a Manifest, name: Option<&str>) -> Result<&'a Model, Failure> {
    match name {
        None => manifest.models.first().ok_or_else(|| Failure::internal("the bundle has no models")),
        Some(name) => manifest
            .models
            .iter()
            .find(|m| m.name == name || m.aliases.iter().any(|a| a == name))
            .ok_or_else(|| Failure::usage(format!("there is no model called {name:?}"))),
    }
}

fn bodies(model: &Model, arguments: &ProveArguments) -> Result<(Vec<Value>, String), Failure> {
    if let Some(path) = &arguments.text_file {
        let texts = requests::read_texts(path, arguments.field.as_deref(), model).map_err(Failure::usage)?;
        return Ok((texts, "texts from a file".into()));
    }
    if let Some(path) = &arguments.requests {
        return Ok((requests::read_requests(path, model).map_err(Failure::usage)?, "requests from a file".into()));
    }
    Ok((requests::generate(model, arguments.rows, arguments.seed), "generated from the seed".into()))
}

struct Measure<'a> {
    start: &'a Start,
    common: &'a Common,
    arguments: &'a ProveArguments,
    posts: Vec<Vec<u8>>,
    source: String,
}

impl Measure<'_> {
    fn run(&self) -> Result<Value, String> {
        let manifest = &self.start.manifest;
        let cold = self.cold_starts()?;
        let (server, ..) = self.start_server()?;
        let throughput = self.throughput(&server)?;
        let rate = self.rate(throughput.as_ref());
        let arrival = self.arrival();
        let warmup = Duration::from_secs_f64(self.arguments.warmup);
        let times = schedule(rate, self.arguments.warmup + self.arguments.duration, arrival, self.arguments.seed);
        let (wall, cpu) = (Instant::now(), cpu_time());
        let outcome = open_loop(server.address, &self.posts, &times, warmup, self.arguments.connections)?;
        let cpu_share = (cpu_time() - cpu).as_secs_f64() / wall.elapsed().as_secs_f64();
        let peak_rss = server.peak_rss_bytes();
        server.stop()?;

        let latency = latency_json(&outcome.latency);
        let lag_p99 = seconds(outcome.lag.value_at_quantile(0.99));
        let valid = lag_p99 <= MOST_LAG_S && outcome.ok > 0;
        if !valid {
            crate::log::warning(&format!("the run is void: the generator's own lag was {:.2} ms (p99)", lag_p99 * 1e3));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut evidence = json!({
            "format": 1,
            "bundle": manifest.digest,
            "utc": fingerprint::utc(now),
            "fingerprint": fingerprint::fingerprint(),
            "load": {
                "rate": rate,
                "arrival": arrival.name(),
                "duration_s": self.arguments.duration,
                "warmup_s": self.arguments.warmup,
                "seed": self.arguments.seed,
                "connections": self.arguments.connections,
                "requests": self.source,
            },
            "generator": {"lag_p99_s": lag_p99, "cpu_share": cpu_share},
            "valid": valid,
            "requests": {"sent": outcome.sent, "ok": outcome.ok, "errors": outcome.errors},
            "latency_s": latency,
            "histogram": encode(&outcome.latency)?,
            "histogram_unit": "ns",
            "throughput": throughput.as_ref().map_or(Value::Null, Throughput::to_json),
            "memory": {"peak_rss_bytes": peak_rss},
            "cold_start_s": cold,
        });
        evidence["targets"] = manifest.targets.iter().map(|t| judge(t, &evidence)).collect();
        Ok(evidence)
    }

    fn start_server(&self) -> Result<(Server, Duration, Vec<u8>), String> {
        Server::start(self.start.folder.path(), self.common, &self.cold_post())
    }

    /// The first request, with an id of its own, so that equal answers are equal bytes.
    fn cold_post(&self) -> Vec<u8> {
        let first = self.posts.first().map_or(&[][..], Vec::as_slice);
        let head_end = first.windows(4).position(|w| w == b"\r\n\r\n").map_or(first.len(), |at| at + 4);
        match serde_json::from_slice::<Value>(&first[head_end..]) {
            Ok(mut body) if body.get("id").is_none() => {
                body["id"] = "cold".into();
                client::post_bytes("/infer", body.to_string().as_bytes())
            }
            _ => first.to_vec(),
        }
    }

    /// Exec to first correct answer, several times; the answers must be equal.
    fn cold_starts(&self) -> Result<Vec<f64>, String> {
        let mut times = Vec::new();
        let mut expected: Option<Vec<u8>> = None;
        for _ in 0..self.arguments.starts {
            let (server, time, body) = self.start_server()?;
            server.stop()?;
            times.push(time.as_secs_f64());
            if expected.get_or_insert_with(|| body.clone()) != &body {
                return Err("two starts gave different answers to one request".into());
            }
        }
        Ok(times)
    }

    /// The highest rate of the closed loop while the declared latency targets hold.
    fn throughput(&self, server: &Server) -> Result<Option<Throughput>, String> {
        if self.arguments.throughput == 0.0 {
            return Ok(None);
        }
        let step = Duration::from_secs_f64(self.arguments.throughput);
        closed_loop(server.address, &self.posts, step / 2, 2)?;
        let mut best: Option<Throughput> = None;
        for connections in LEVELS {
            let outcome = closed_loop(server.address, &self.posts, step, connections)?;
            let found = Throughput {
                req_s: outcome.ok as f64 / outcome.elapsed.as_secs_f64(),
                connections,
                within_targets: within_latency_targets(&self.start.manifest.targets, &outcome),
            };
            let better = best.as_ref().is_none_or(|b| found.beats(b));
            let falling = best
                .as_ref()
                .is_some_and(|b| found.req_s < 0.9 * b.req_s || (b.within_targets && !found.within_targets));
            if better {
                best = Some(found);
            } else if falling {
                break;
            }
        }
        Ok(best)
    }

    fn rate(&self, throughput: Option<&Throughput>) -> f64 {
        let declared = self.start.manifest.traffic.as_ref().and_then(|t| t.rate).filter(|r| *r > 0.0);
        self.arguments.rate.or(declared).unwrap_or_else(|| throughput.map_or(10.0, |t| (t.req_s / 2.0).max(1.0)))
    }

    fn arrival(&self) -> Arrival {
        let declared = self.start.manifest.traffic.as_ref().and_then(|t| t.arrival.as_deref());
        let declared = if declared == Some("steady") { Arrival::Steady } else { Arrival::Poisson };
        self.arguments.arrival.unwrap_or(declared)
    }
}

struct Throughput {
    req_s: f64,
    connections: usize,
    within_targets: bool,
}

impl Throughput {
    fn beats(&self, other: &Throughput) -> bool {
        (self.within_targets, self.req_s) > (other.within_targets, other.req_s)
    }

    fn to_json(&self) -> Value {
        json!({"req_s": self.req_s, "connections": self.connections, "within_targets": self.within_targets})
    }
}

fn within_latency_targets(targets: &[Target], outcome: &Outcome) -> bool {
    let latency = latency_json(&outcome.latency);
    outcome.errors.is_empty()
        && targets.iter().filter(|t| t.kind == "latency").all(|target| {
            let measured = target.statistic.as_deref().and_then(|s| latency[s].as_f64());
            measured.is_none_or(|m| holds(&target.op, m, target.bound))
        })
}

fn holds(op: &str, measured: f64, bound: f64) -> bool {
    match op {
        "<=" => measured <= bound,
        "<" => measured < bound,
        ">=" => measured >= bound,
        ">" => measured > bound,
        _ => false,
    }
}

/// A target beside what was measured here; null where this load does not measure its kind.
fn judge(target: &Target, evidence: &Value) -> Value {
    let measured = match target.kind.as_str() {
        "latency" => target.statistic.as_deref().and_then(|s| evidence["latency_s"][s].as_f64()),
        "throughput" => evidence["throughput"]["req_s"].as_f64(),
        "memory" => evidence["memory"]["peak_rss_bytes"].as_f64(),
        "cold_start" => {
            let starts = evidence["cold_start_s"].as_array();
            starts.and_then(|s| s.iter().filter_map(Value::as_f64).max_by(f64::total_cmp))
        }
        _ => None,
    };
    let met = measured.map(|m| {
        let enough = target.kind != "latency" || answered_enough(target.statistic.as_deref(), &evidence["requests"]);
        enough && holds(&target.op, m, target.bound)
    });
    json!({
        "kind": target.kind,
        "statistic": target.statistic,
        "op": target.op,
        "bound": target.bound,
        "unit": target.unit,
        "measured": measured,
        "met": met,
    })
}

/// A request that got no answer has no latency, and misses every bound: there may be no more of them than the statistic
/// leaves out.
fn answered_enough(statistic: Option<&str>, requests: &Value) -> bool {
    let (sent, ok) = (requests["sent"].as_f64().unwrap_or(0.0), requests["ok"].as_f64().unwrap_or(0.0));
    let quantile = PERCENTILES.iter().find(|(name, _)| Some(*name) == statistic).map_or(1.0, |(_, q)| *q);
    sent - ok <= sent * (1.0 - quantile)
}

fn latency_json(histogram: &Histogram<u64>) -> Value {
    if histogram.is_empty() {
        return json!({});
    }
    let mut out: Map<String, Value> = PERCENTILES
        .iter()
        .map(|(name, q)| ((*name).to_owned(), seconds(histogram.value_at_quantile(*q)).into()))
        .collect();
    out.insert("max".into(), seconds(histogram.max()).into());
    out.insert("mean".into(), (histogram.mean() / 1e9).into());
    out.into()
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

fn encode(histogram: &Histogram<u64>) -> Result<String, String> {
    let mut bytes = Vec::new();
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).map_err(|e| e.to_string())?;
    Ok(STANDARD.encode(bytes))
}

/// Processor time of this process: the generator's.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(kind: &str, statistic: Option<&str>, op: &str, bound: f64) -> Target {
        Target { kind: kind.into(), statistic: statistic.map(str::to_owned), op: op.into(), bound, unit: None }
    }

    #[test]
    fn targets_stand_beside_what_was_measured() {
        let evidence = json!({"requests": {"sent": 100, "ok": 99}, "latency_s": {"p99": 0.015, "p99.9": 0.015}, "throughput": null, "memory": {"peak_rss_bytes": 100},
            "cold_start_s": [0.1, 0.3, 0.2]});
        assert_eq!(judge(&target("latency", Some("p99"), "<=", 0.02), &evidence)["met"], true);
        assert_eq!(judge(&target("latency", Some("p99.9"), "<=", 0.02), &evidence)["met"], false);
        assert_eq!(judge(&target("memory", None, "<=", 50.0), &evidence)["met"], false);
        assert_eq!(judge(&target("cold_start", None, "<=", 0.25), &evidence)["measured"], 0.3);
        assert!(judge(&target("accuracy", None, ">=", 0.9), &evidence)["met"].is_null());
        assert!(judge(&target("throughput", None, ">=", 10.0), &evidence)["met"].is_null());
    }

    #[test]
    fn histograms_are_encoded_and_summed_up() {
        let mut histogram = load::histogram().unwrap();
        (1..=1000).for_each(|ms| histogram.record(ms * 1_000_000).unwrap());
        let latency = latency_json(&histogram);
        assert!((latency["p99"].as_f64().unwrap() - 0.99).abs() < 0.002);
        assert!(STANDARD.decode(encode(&histogram).unwrap()).unwrap().len() > 40);
        assert_eq!(latency_json(&load::histogram().unwrap()), json!({}));
    }
}
