//! Counters and histograms of one model, in the names of the Prometheus exposition.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What every sample of a model carries.
#[derive(Clone, Debug, Default, Hash, PartialEq, Eq, EncodeLabelSet)]
pub struct ModelLabels {
    pub model: String,
    pub variant: String,
    pub bundle: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CodeLabels {
    model: String,
    variant: String,
    bundle: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct KindLabels {
    model: String,
    variant: String,
    bundle: String,
    kind: &'static str,
}

#[derive(Clone)]
struct Edges(Arc<[f64]>);

impl MetricConstructor<Histogram> for Edges {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

type Histograms = Family<ModelLabels, Histogram, Edges>;
type ReadWire = Box<dyn Fn() -> Wire + Send + Sync>;
type ReadLedger = Box<dyn Fn() -> Ledger + Send + Sync>;

/// All instruments of the process.
pub struct Metrics {
    registry: Registry,
    request_duration: Histograms,
    queue_duration: Histograms,
    compute_duration: Histograms,
    tokenize_duration: Histograms,
    batch_size: Histograms,
    requests: Family<CodeLabels, Counter>,
    tokens: Family<KindLabels, Counter>,
    ledgers: Arc<Mutex<Vec<(ModelLabels, ReadLedger)>>>,
    wire: Arc<OnceLock<ReadWire>>,
    pub ready: Gauge,
    pub promise_valid: Gauge,
    pub memory_ceiling: Gauge,
    non_finite: Family<ModelLabels, Counter>,
}

impl Metrics {
    /// `targets_s`: latency bounds of the bundle, which become bucket edges.
    pub fn new(targets_s: &[f64]) -> Self {
        let edges: Arc<[f64]> = bucket_edges(targets_s).into();
        let timed = || Histograms::new_with_constructor(Edges(Arc::clone(&edges)));
        let sizes: Arc<[f64]> = Arc::new([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]);
        let mut metrics = Metrics {
            registry: Registry::default(),
            request_duration: timed(),
            queue_duration: timed(),
            compute_duration: timed(),
            tokenize_duration: timed(),
            batch_size: Histograms::new_with_constructor(Edges(sizes)),
            requests: Family::default(),
            tokens: Family::default(),
            ledgers: Arc::default(),
            wire: Arc::default(),
            ready: Gauge::default(),
            promise_valid: Gauge::default(),
            memory_ceiling: Gauge::default(),
            non_finite: Family::default(),
        };
        metrics.promise_valid.set(1);
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        for (name, help, family) in [
            ("infc_request_duration_seconds", "From the request's head to its answer", &self.request_duration),
            ("infc_queue_duration_seconds", "From the queue's tail to a batch", &self.queue_duration),
            ("infc_compute_duration_seconds", "One batch in the model", &self.compute_duration),
            ("infc_tokenize_duration_seconds", "Texts of one request to tokens", &self.tokenize_duration),
            ("infc_batch_size", "Requests in one batch", &self.batch_size),
        ] {
            registry.register(name, help, family.clone());
        }
        registry.register("infc_requests", "Answered requests by status", self.requests.clone());
        registry.register("infc_tokens", "Tokens computed", self.tokens.clone());
        registry.register("infc_ready", "1 while the server is ready", self.ready.clone());
        let help = "0 on less hardware than the bundle asks for";
        registry.register("infc_promise_valid", help, self.promise_valid.clone());
        let help = "The most memory that the server takes (0 until the models are loaded)";
        registry.register("infc_memory_ceiling_bytes", help, self.memory_ceiling.clone());
        let help = "Requests refused with the code non_finite: an output was NaN or infinite";
        registry.register("infc_non_finite", help, self.non_finite.clone());
        registry.register_collector(Box::new(LedgerCollector(Arc::clone(&self.ledgers))));
        registry.register_collector(Box::new(WireCollector(Arc::clone(&self.wire))));
    }

    /// The instruments of one model.
    pub fn meters(&self, labels: ModelLabels) -> Meters {
        Meters {
            request_duration: self.request_duration.get_or_create_owned(&labels),
            queue_duration: self.queue_duration.get_or_create_owned(&labels),
            compute_duration: self.compute_duration.get_or_create_owned(&labels),
            tokenize_duration: self.tokenize_duration.get_or_create_owned(&labels),
            batch_size: self.batch_size.get_or_create_owned(&labels),
            tokens: self.tokens.get_or_create_owned(&KindLabels {
                model: labels.model.clone(),
                variant: labels.variant.clone(),
                bundle: labels.bundle.clone(),
                kind: "input",
            }),
            non_finite: self.non_finite.get_or_create_owned(&labels),
            codes: self.codes(labels),
        }
    }

    /// Counts answers only: for what concerns no model.
    pub fn codes(&self, labels: ModelLabels) -> Codes {
        Codes { known: Arc::default(), family: self.requests.clone(), labels }
    }

    /// Shows a model's ledger from now on.
    pub fn watch(&self, labels: ModelLabels, ledger: impl Fn() -> Ledger + Send + Sync + 'static) {
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner).push((labels, Box::new(ledger)));
    }

    /// Shows what connections take from now on.
    pub fn watch_wire(&self, read: impl Fn() -> Wire + Send + Sync + 'static) {
        // There is one server in a process; another one's would be the same.
        let _ = self.wire.set(Box::new(read));
    }

    /// All samples as text: OpenMetrics, or Prometheus 0.0.4 for those who do not ask for it; and its content type.
    pub fn render(&self, open_metrics: bool) -> Result<(String, &'static str), std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        if open_metrics {
            return Ok((text, "application/openmetrics-text; version=1.0.0; charset=utf-8"));
        }
        Ok((prometheus_text(&text), "text/plain; version=0.0.4; charset=utf-8"))
    }
}

/// One model's instruments. Cloning shares them.
#[derive(Clone)]
pub struct Meters {
    pub request_duration: Histogram,
    pub queue_duration: Histogram,
    pub compute_duration: Histogram,
    pub tokenize_duration: Histogram,
    pub batch_size: Histogram,
    pub tokens: Counter,
    pub non_finite: Counter,
    pub codes: Codes,
}

/// Counters by status, so that the hot path compares a few numbers instead of hashing labels.
#[derive(Clone)]
pub struct Codes {
    known: Arc<RwLock<Vec<(u16, Counter)>>>,
    family: Family<CodeLabels, Counter>,
    labels: ModelLabels,
}

impl Codes {
    /// Counts one answered request.
    pub fn count(&self, code: u16) {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, counter)) = known.iter().find(|(c, _)| *c == code) {
            counter.inc();
            return;
        }
        drop(known);
        let ModelLabels { model, variant, bundle } = self.labels.clone();
        let counter = self.family.get_or_create_owned(&CodeLabels { model, variant, bundle, code });
        counter.inc();
        self.known.write().unwrap_or_else(PoisonError::into_inner).push((code, counter));
    }
}

/// Accepted requests and what became of them, read at one moment: accepted = outcomes + in flight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    pub accepted: u64,
    pub outcomes: u64,
    pub in_flight: u64,
    pub queue_depth: u64,
}

struct LedgerCollector(Arc<Mutex<Vec<(ModelLabels, ReadLedger)>>>);

impl std::fmt::Debug for LedgerCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LedgerCollector")
    }
}

impl Collector for LedgerCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let ledgers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now: Vec<(&ModelLabels, Ledger)> = ledgers.iter().map(|(labels, read)| (labels, read())).collect();
        type Field = fn(&Ledger) -> u64;
        let counters: [(&str, &str, Field); 2] = [
            ("infc_accepted", "Requests admitted to the queue", |l| l.accepted),
            ("infc_outcomes", "Admitted requests that have ended", |l| l.outcomes),
        ];
        for (name, help, field) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (labels, ledger) in &now {
                ConstCounter::new(field(ledger)).encode(family.encode_family(*labels)?)?;
            }
        }
        let gauges: [(&str, &str, Field); 2] = [
            ("infc_in_flight", "Admitted requests that have not ended", |l| l.in_flight),
            ("infc_queue_depth", "Requests that wait for a batch", |l| l.queue_depth),
        ];
        for (name, help, field) in gauges {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (labels, ledger) in &now {
                let value = i64::try_from(field(ledger)).unwrap_or(i64::MAX);
                ConstGauge::new(value).encode(family.encode_family(*labels)?)?;
            }
        }
        Ok(())
    }
}

/// What connections take, read at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wire {
    pub connections: u64,
    /// Bytes of requests that are not answered yet, and how many there may be.
    pub request_bytes: u64,
    pub request_bytes_most: u64,
    /// Connections that were closed to make room.
    pub evicted: u64,
}

struct WireCollector(Arc<OnceLock<ReadWire>>);

impl std::fmt::Debug for WireCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WireCollector")
    }
}

impl Collector for WireCollector {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        let Some(read) = self.0.get() else { return Ok(()) };
        let wire = read();
        for (name, help, value) in [
            ("infc_connections", "Open connections", wire.connections),
            ("infc_request_bytes", "Bytes of requests that are not answered yet", wire.request_bytes),
            ("infc_request_bytes_max", "Most bytes of requests at once", wire.request_bytes_most),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, None, MetricType::Gauge)?)?;
        }
        let help = "Connections that were closed to make room";
        ConstCounter::new(wire.evicted).encode(encoder.encode_descriptor(
            "infc_evicted_connections",
            help,
            None,
            MetricType::Counter,
        )?)
    }
}

/// 100 µs to 10 s, and the declared targets.
fn bucket_edges(targets_s: &[f64]) -> Vec<f64> {
    let mut edges: Vec<f64> = (-4..=0).flat_map(|e| [1.0, 2.5, 5.0].map(|m| m * 10f64.powi(e))).collect();
    edges.push(10.0);
    edges.extend(targets_s.iter().filter(|t| t.is_finite() && **t > 0.0));
    edges.sort_by(f64::total_cmp);
    edges.dedup();
    edges
}

/// The older format calls a counter by its samples' name, with `_total`, and has no end mark.
fn prometheus_text(open_metrics: &str) -> String {
    let mut out = String::with_capacity(open_metrics.len() + 256);
    let mut help: Option<(&str, &str)> = None;
    for line in open_metrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT")) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
            continue;
        }
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, text)) = help.take() {
                out.push_str(&format!("# HELP {name}{suffix} {text}\n"));
            }
            out.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
            continue;
        }
        out.push_str(line);
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(model: &str) -> ModelLabels {
        ModelLabels { model: model.into(), ..ModelLabels::default() }
    }

    #[test]
    fn both_formats_hold_the_samples_and_each_name_has_one_block() {
        let metrics = Metrics::new(&[0.02]);
        for model in ["a", "b"] {
            let meters = metrics.meters(labels(model));
            meters.codes.count(200);
            meters.codes.count(200);
            meters.request_duration.observe(0.015);
            let ledger = Ledger { accepted: 7, outcomes: 5, in_flight: 2, queue_depth: 1 };
            metrics.watch(labels(model), move || ledger);
        }
        for open in [true, false] {
            let (text, _) = metrics.render(open).unwrap();
            for sample in [
                "infc_requests_total{model=\"b\",variant=\"\",bundle=\"\",code=\"200\"} 2",
                "infc_accepted_total{model=\"a\",variant=\"\",bundle=\"\"} 7",
                "infc_in_flight{model=\"b\",variant=\"\",bundle=\"\"} 2",
                "infc_request_duration_seconds_bucket{le=\"0.02\",model=\"a\",variant=\"\",bundle=\"\"} 1",
            ] {
                assert!(text.contains(sample), "{sample} in {text}");
            }
            assert_eq!(text.contains("# EOF"), open);
            let types: Vec<&str> = text.lines().filter(|l| l.starts_with("# TYPE")).collect();
            assert!(types.iter().all(|t| types.iter().filter(|u| u == &t).count() == 1), "{types:?}");
        }
        assert!(metrics.render(false).unwrap().0.contains("# TYPE infc_accepted_total counter"));
    }
}
