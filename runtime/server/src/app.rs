//! What all connections share: settings, the models once they are loaded, and the phase of life.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::answer::Answers;
use crate::config::Settings;
use crate::cores::usable_cores;
use crate::load::Loaded;
use crate::metrics::{Codes, Metrics, ModelLabels, Wire};
use crate::model::Served;
use crate::pool::Pool;
use crate::refusal::{Reason, Refusal};
use crate::wire::budget::Budget;
use crate::wire::registry::Registry;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Ready,
    Draining,
}

pub struct App {
    pub settings: Settings,
    pub metrics: Metrics,
    /// Counts what concerns no model: unknown paths and models.
    pub codes: Codes,
    pub max_body_bytes: usize,
    pub answers: Answers,
    /// Connections that send requests, and the memory for what they send.
    pub registry: Arc<Registry>,
    pub pool: Pool,
    loaded: OnceLock<Arc<Loaded>>,
    phase: AtomicU8,
    next_id: AtomicU64,
}

impl App {
    pub fn new(settings: Settings, metrics: Metrics) -> Self {
        let codes = metrics.codes(ModelLabels::default());
        let max_body_bytes = settings.count("max_body_bytes").unwrap_or(16 << 20);
        let registry = Registry::new(Budget::new(max_body_bytes));
        let watched = Arc::clone(&registry);
        metrics.watch_wire(move || Wire {
            connections: watched.connections() as u64,
            request_bytes: watched.budget.used() as u64,
            request_bytes_most: watched.budget.most() as u64,
            evicted: watched.evicted(),
        });
        App {
            settings,
            metrics,
            codes,
            max_body_bytes,
            answers: Answers::default(),
            registry,
            pool: Pool::new(Pool::threads(usable_cores())),
            loaded: OnceLock::new(),
            phase: AtomicU8::new(Phase::Starting as u8),
            next_id: AtomicU64::new(1),
        }
    }

    /// Takes the loaded models and becomes ready, unless the server is already stopping.
    pub fn install(&self, loaded: Arc<Loaded>) {
        if self.loaded.set(loaded).is_ok() {
            let (from, to) = (Phase::Starting as u8, Phase::Ready as u8);
            let ready = self.phase.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok();
            self.metrics.ready.set(i64::from(ready));
        }
    }

    pub fn loaded(&self) -> Option<&Arc<Loaded>> {
        self.loaded.get()
    }

    /// Readiness falls; requests that still come are answered. Whether it had risen.
    pub fn drain(&self) -> bool {
        let before = self.phase.swap(Phase::Draining as u8, Ordering::AcqRel);
        self.metrics.ready.set(0);
        before == Phase::Ready as u8
    }

    /// Accepted requests that have no outcome yet.
    pub fn in_flight(&self) -> u64 {
        self.loaded().map_or(0, |l| l.models.iter().map(|m| m.scheduler.ledger().in_flight).sum())
    }

    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }

    pub fn is_ready(&self) -> bool {
        let lost = self.loaded().is_some_and(|l| l.models.iter().any(|m| m.scheduler.device_lost()));
        self.phase() == Phase::Ready && !lost
    }

    /// The loaded models, or 503.
    pub fn serving(&self) -> Result<&Arc<Loaded>, Refusal> {
        self.loaded().ok_or_else(|| Refusal::new(Reason::NotReady, "the model is still being loaded"))
    }

    /// The model of that name, or 404; without a name, the only model.
    pub fn model(&self, name: Option<&str>) -> Result<&Arc<Served>, Refusal> {
        let loaded = self.serving()?;
        match (name, loaded.models.as_slice()) {
            (Some(name), _) => loaded.model(name).ok_or_else(|| unknown_model(name)),
            (None, [only]) => Ok(only),
            (None, models) => {
                let names: Vec<&str> = models.iter().map(|m| m.spec.name.as_str()).collect();
                Err(Refusal::invalid("model", format!("several models are served; name one of {}", names.join(", "))))
            }
        }
    }

    /// An id for a request that brought none.
    pub fn new_id(&self) -> String {
        format!("r{}", self.next_id.fetch_add(1, Ordering::Relaxed))
    }
}

fn unknown_model(name: &str) -> Refusal {
    let shown: String = name.chars().take(64).collect();
    let mut refusal = Refusal::new(Reason::UnknownModel, format!("there is no model called {shown:?}"));
    refusal.field = Some("model".into());
    refusal
}
