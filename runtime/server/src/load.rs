//! From a bundle's folder to models that answer: digests, tokenizers, libraries, instances, known answers.
//!
//! **Invariant**: each file is opened once, and what is digested, parsed and loaded is that descriptor's; no byte of a file is executed or served before all digests were compared, and no model is handed out
//! before each of its instances gave the known answers.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Deserialize;

use crate::bundle::Damage;
use crate::bundle::folder::Folder;
use crate::bundle::golden::{Golden, Wrong, case_inputs, check_golden, read_golden};
use crate::bundle::json::read_json;
use crate::bundle::manifest::{Manifest, Model as ModelSpec, Variant};
use crate::bundle::task::Task;
use crate::bundle::verify::{Files, open_files, verify_files};
use crate::check_inputs::check_inputs;
use crate::config::Settings;
use crate::cores;
use crate::engine::ffi::mapped::Mapped;
use crate::engine::ffi::native::{Library, Model, NativeEngine};
use crate::engine::{CODE_CPU, Engine, Fault, FaultKind, Inputs, Limits};
use crate::memory::{Budgets, Ceiling};
use crate::metrics::{Metrics, ModelLabels};
use crate::model::{Served, engine_limits};
use crate::scheduler::{Policy, Scheduler};
use crate::tensor::{InputSpec, OutputSpec, Tensor};
use crate::tokenize::TextTask;

/// The models of a bundle, ready to answer.
pub struct Loaded {
    pub models: Vec<Arc<Served>>,
    names: BTreeMap<String, usize>,
    pub digest: Arc<str>,
    /// The most memory that serving these models takes.
    pub ceiling: Ceiling,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Loaded {
    /// The model called `name`, or having it as an alias.
    pub fn model(&self, name: &str) -> Option<&Arc<Served>> {
        self.names.get(name).and_then(|index| self.models.get(*index))
    }

    /// Ends the instances once their queues are empty.
    pub fn close(&self) {
        for model in &self.models {
            model.scheduler.close();
        }
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            if thread.join().is_err() {
                crate::log::error("an instance's thread panicked");
            }
        }
    }
}

/// Loads all models of the bundle.
pub fn load(folder: &Folder, manifest: &Manifest, settings: &Settings, metrics: &Metrics) -> Result<Loaded, Damage> {
    check_platform(manifest)?;
    let chosen: Vec<&Variant> = manifest.models.iter().map(choose_variant).collect::<Result<_, _>>()?;
    let cores = cores::usable_cores();
    let opened = open_files(folder, &manifest.files);
    let files = &opened.files;
    let (verified, texts) = std::thread::scope(|scope| {
        let texts: Vec<_> = manifest.models.iter().map(|model| scope.spawn(move || load_text(files, model))).collect();
        let verified = verify_files(&opened, &manifest.files, cores);
        let texts: Vec<_> = texts
            .into_iter()
            .map(|t| t.join().unwrap_or_else(|_| Err(Damage::Damaged("a tokenizer's reader panicked".into()))))
            .collect();
        (verified, texts)
    });
    // A damaged tokenizer may have failed to load: its digest is the better message, so it comes first.
    verified?;
    let shares = Shares::of(settings, manifest.models.len(), cores, metrics);
    let digest: Arc<str> = manifest.digest.as_str().into();
    let mut loaded = Loaded {
        models: Vec::new(),
        names: BTreeMap::new(),
        digest: Arc::clone(&digest),
        ceiling: Ceiling::default(),
        threads: Mutex::default(),
    };
    let mut workspaces = 0u64;
    for ((spec, variant), text) in manifest.models.iter().zip(&chosen).zip(texts) {
        let text = text?;
        let load = LoadModel { folder, spec, variant, files, settings, shares, metrics, digest: &digest };
        match load.run(text) {
            Ok((served, threads, workspace)) => {
                workspaces = workspaces.saturating_add(workspace);
                let index = loaded.models.len();
                let names = std::iter::once(&spec.name).chain(&spec.aliases);
                loaded.names.extend(names.map(|name| (name.clone(), index)));
                loaded.models.push(Arc::new(served));
                loaded.threads.lock().unwrap_or_else(PoisonError::into_inner).extend(threads);
            }
            Err(damage) => {
                loaded.close();
                return Err(damage);
            }
        }
    }
    let sum = |paths: &mut dyn Iterator<Item = &String>| {
        paths.filter_map(|path| files.get(path)).fold(0u64, |sum, file| sum + file.bytes().len() as u64)
    };
    let weights = sum(&mut chosen.iter().flat_map(|v| [&v.weights, &v.library]));
    let tokenizers = sum(&mut manifest.models.iter().filter_map(|m| match &m.task {
        Task::Text(says) => Some(&says.tokenizer),
        Task::Tensor => None,
    }));
    loaded.ceiling = Ceiling::new(weights, tokenizers, workspaces, Budgets::of(settings));
    metrics.memory_ceiling.set(i64::try_from(loaded.ceiling.total()).unwrap_or(i64::MAX));
    Ok(loaded)
}

fn check_platform(manifest: &Manifest) -> Result<(), Damage> {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    let platform = &manifest.platform;
    if (!platform.arch.is_empty() && platform.arch != arch) || (!platform.os.is_empty() && platform.os != os) {
        let text = format!("it is built for {} {}, and this is {os} {arch}", platform.os, platform.arch);
        return Err(Damage::Unsuited(text));
    }
    Ok(())
}

/// The first variant that this CPU can run.
pub fn choose_variant(model: &ModelSpec) -> Result<&Variant, Damage> {
    let fits = |v: &&Variant| cores::missing_feature(&v.cpu_features).is_none();
    model.variants.iter().find(fits).ok_or_else(|| {
        let lacks = model.variants.iter().filter_map(|v| {
            cores::missing_feature(&v.cpu_features).map(|feature| format!("{} needs {feature}", v.isa))
        });
        let cpu = cores::cpuinfo("model name").unwrap_or_else(|| "this CPU".into());
        let text = format!("model {:?}: {}, which {cpu} lacks", model.name, lacks.collect::<Vec<_>>().join("; "));
        Damage::Unsuited(text)
    })
}

/// A model's tokenizer alone, whatever machine the bundle is for; None: it takes no texts.
pub fn load_tokenizer(folder: &Folder, manifest: &Manifest, model: &ModelSpec) -> Result<Option<TextTask>, Damage> {
    let opened = open_files(folder, &manifest.files);
    load_text(&opened.files, model)
}

fn load_text(files: &Files, model: &ModelSpec) -> Result<Option<TextTask>, Damage> {
    let Task::Text(says) = &model.task else { return Ok(None) };
    let path = &says.tokenizer;
    let load = || {
        let file = files.get(path).ok_or_else(|| format!("{path} is not there"))?;
        TextTask::load(&file.read().map_err(|e| format!("{path}: {e}"))?, says)
    };
    let loaded = catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|_| Err("it makes its reader panic".into()));
    loaded.map(Some).map_err(|e| Damage::Damaged(format!("the tokenizer of model {:?}: {e}", model.name)))
}

/// How many instances a model gets, and threads each.
#[derive(Clone, Copy)]
struct Shares {
    instances: usize,
    threads: usize,
}

impl Shares {
    /// Never more threads than cores, over all instances of all models.
    fn of(settings: &Settings, models: usize, cores: usize, metrics: &Metrics) -> Self {
        let per_model = (cores / models).max(1);
        let wanted_instances = settings.count("instances").unwrap_or(1);
        let instances = wanted_instances.min(per_model);
        let most = (per_model / instances).max(1);
        let wanted_threads = settings.count("threads");
        let threads = wanted_threads.unwrap_or(most).min(most);
        let wanted = wanted_instances.saturating_mul(wanted_threads.unwrap_or(1));
        if wanted > instances * threads {
            metrics.promise_valid.set(0);
            crate::log::warning(&format!(
                "{wanted} threads are asked for and {cores} cores are here: running with {instances} × {threads}; \
                 what was measured for this bundle does not hold here"
            ));
        }
        Shares { instances, threads }
    }
}

struct LoadModel<'a> {
    folder: &'a Folder,
    spec: &'a ModelSpec,
    variant: &'a Variant,
    files: &'a Files,
    settings: &'a Settings,
    shares: Shares,
    metrics: &'a Metrics,
    digest: &'a Arc<str>,
}

impl LoadModel<'_> {
    /// The model, its threads, and the bytes of their workspaces.
    fn run(&self, text: Option<TextTask>) -> Result<(Served, Vec<JoinHandle<()>>, u64), Damage> {
        let spec = self.spec;
        let damaged = |path: &str, e: String| Damage::Damaged(format!("{path}: {e}"));
        let file = Arc::clone(self.file(&self.variant.library)?);
        let library = Library::load(file, &self.folder.path().join(&self.variant.library))
            .map_err(|e| damaged(&self.variant.library, e))?;
        library
            .describe()
            .and_then(|text| check_description(spec, &text))
            .map_err(|e| damaged(&self.variant.library, e))?;
        let golden = self.file(&spec.golden)?.read().map_err(|e| damaged(&spec.golden, e.to_string()))?;
        let golden = read_golden(&golden).map_err(|e| damaged(&spec.golden, e))?;
        let limits = self.limits(&golden).map_err(|e| damaged(&spec.golden, e))?;
        let weights = Arc::clone(self.file(&self.variant.weights)?);
        let outputs = spec.outputs.iter().map(|o| o.dtype).collect();
        let model = Model::open(library, weights, spec.inputs.len(), outputs).map_err(|f| self.open_fault(&f))?;

        let workspace = model.workspace_bytes(limits).map_err(|f| self.open_fault(&f))?;

        let labels = ModelLabels {
            model: spec.name.clone(),
            variant: self.variant.id.to_string(),
            bundle: self.digest.to_string(),
        };
        let meters = self.metrics.meters(labels.clone());
        let policy = Policy {
            capacity: self.settings.count("queue").unwrap_or(256),
            wait: self.settings.seconds("batch.wait_s"),
            limits,
            merge: spec.batchable,
        };
        let input_names = spec.inputs.iter().map(|i| i.name.clone()).collect();
        let scheduler = Scheduler::new(policy, meters.clone(), input_names);
        let for_metrics = Arc::clone(&scheduler);
        self.metrics.watch(labels, move || for_metrics.ledger());
        let threads = self.start_instances(&Arc::new(model), &scheduler, limits, golden)?;
        let served = Served {
            spec: spec.clone(),
            text,
            scheduler,
            meters,
            limits,
            deadline: self.settings.seconds("deadline_s"),
            variant: self.variant.id.to_string(),
            digest: Arc::clone(self.digest),
        };
        Ok((served, threads, workspace.saturating_mul(self.shares.instances as u64)))
    }

    fn file(&self, path: &str) -> Result<&Arc<Mapped>, Damage> {
        self.files.get(path).ok_or_else(|| Damage::Damaged(format!("{path} is not listed")))
    }

    /// What a batch may hold: what is configured, and the known answers must fit as well.
    fn limits(&self, golden: &Golden) -> Result<Limits, String> {
        let count = |key| self.settings.count(key).unwrap_or(1);
        let rows = count("batch.max_rows");
        let mut limits = engine_limits(self.spec, count("batch.max_requests"), rows, count("batch.max_tokens"));
        for case in &golden.cases {
            let inputs = case_inputs(case, &self.spec.inputs)?;
            let cost = check_inputs(self.spec, &inputs).map_err(|refusal| refusal.text())?;
            limits.rows = limits.rows.max(cost.rows);
            limits.tokens = limits.tokens.max(cost.tokens);
            limits.longest = limits.longest.max(cost.longest);
        }
        Ok(limits)
    }

    /// Starts a thread per instance, which opens its context, gives the known answers, and then runs batches.
    fn start_instances(
        &self,
        model: &Arc<Model>,
        scheduler: &Arc<Scheduler>,
        limits: Limits,
        golden: Golden,
    ) -> Result<Vec<JoinHandle<()>>, Damage> {
        let (sender, receiver) = mpsc::channel::<Result<Vec<(usize, Duration)>, Start>>();
        let golden = Arc::new(golden);
        let mut threads = Vec::new();
        for number in 0..self.shares.instances {
            let (model, scheduler, golden) = (Arc::clone(model), Arc::clone(scheduler), Arc::clone(&golden));
            let (sender, threads_each) = (sender.clone(), self.shares.threads);
            let (spec, outputs) = (self.spec.clone(), self.spec.outputs.clone());
            let cpus = self.settings.switch("pin").then(|| pinned(number, threads_each)).flatten();
            let instance = move || {
                let started = start_instance(model, threads_each, cpus, limits, &golden, &spec, &outputs);
                drop((golden, spec, outputs));
                match started {
                    Ok((mut engine, seen)) => {
                        // The loader waits for every instance, so it is there to listen.
                        let _ = sender.send(Ok(seen));
                        drop(sender);
                        scheduler.run_instance(&mut engine);
                    }
                    Err(fault) => {
                        let _ = sender.send(Err(fault));
                    }
                }
            };
            let thread = std::thread::Builder::new().name(format!("infer-{number}")).spawn(instance);
            threads.push(thread.map_err(|e| Damage::Internal(format!("a thread for an instance: {e}")))?);
        }
        drop(sender);
        let mut outcome = Ok(());
        let mut seen = Vec::new();
        for _ in 0..threads.len() {
            let started = receiver.recv().unwrap_or(Err(Start::Panicked));
            match started {
                Ok(times) => seen.extend(times),
                Err(fault) => outcome = Err(self.start_fault(fault)),
            }
        }
        if let Err(damage) = outcome {
            scheduler.close();
            return Err(damage);
        }
        scheduler.expect(threads.len(), &seen);
        Ok(threads)
    }

    fn open_fault(&self, fault: &Fault) -> Damage {
        let text = format!("model {:?}: {}", self.spec.name, fault.message);
        // A workspace that does not fit into memory is the machine's as well.
        let machine = fault.code == CODE_CPU || fault.kind == FaultKind::Capacity;
        if machine { Damage::Unsuited(text) } else { Damage::Internal(text) }
    }

    fn start_fault(&self, fault: Start) -> Damage {
        match fault {
            Start::Open(fault) => self.open_fault(&fault),
            Start::Golden(Wrong::File(text)) => Damage::Damaged(format!("{}: {text}", self.spec.golden)),
            Start::Golden(Wrong::Answer(text)) => Damage::Unsuited(format!(
                "model {:?} gives another answer here than where it was built, although the files are whole: {text}",
                self.spec.name
            )),
            Start::Panicked => {
                Damage::Internal(format!("model {:?}: an instance panicked at its start", self.spec.name))
            }
        }
    }
}

enum Start {
    Open(Fault),
    Golden(Wrong),
    Panicked,
}

fn start_instance(
    model: Arc<Model>,
    threads: usize,
    cpus: Option<Vec<i32>>,
    limits: Limits,
    golden: &Golden,
    spec: &ModelSpec,
    outputs: &[OutputSpec],
) -> Result<(NativeEngine, Vec<(usize, Duration)>), Start> {
    let mut engine = NativeEngine::open(model, threads, cpus.as_deref(), limits).map_err(Start::Open)?;
    let mut timed = Timed { engine: &mut engine, spec, seen: Vec::new() };
    let checked = catch_unwind(AssertUnwindSafe(|| check_golden(golden, &mut timed, &spec.inputs, outputs)));
    checked.map_err(|_| Start::Panicked)?.map_err(Start::Golden)?;
    let seen = timed.seen;
    Ok((engine, seen))
}

/// An engine that notes how long its batches take: the first pace of the queue.
struct Timed<'a> {
    engine: &'a mut NativeEngine,
    spec: &'a ModelSpec,
    seen: Vec<(usize, Duration)>,
}

impl Engine for Timed<'_> {
    fn run(&mut self, requests: &[&Inputs]) -> Result<Vec<Result<Vec<Tensor>, Fault>>, Fault> {
        let begin = Instant::now();
        let answers = self.engine.run(requests)?;
        let time = begin.elapsed();
        let units = requests.iter().filter_map(|r| check_inputs(self.spec, r).ok()).map(|cost| cost.units()).sum();
        self.seen.push((units, time));
        Ok(answers)
    }
}

/// CPU numbers for an instance's threads; none where the CPU set has too few.
fn pinned(instance: usize, threads: usize) -> Option<Vec<i32>> {
    let set = rustix::thread::sched_getaffinity(None).ok()?;
    let all = (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu));
    let cpus: Vec<i32> = all.skip(instance * threads).take(threads).filter_map(|cpu| i32::try_from(cpu).ok()).collect();
    (cpus.len() == threads).then_some(cpus)
}

/// The library's own description must be the one that the manifest was written from.
fn check_description(spec: &ModelSpec, text: &str) -> Result<(), String> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Description {
        #[serde(rename = "abi")]
        _abi: u32,
        #[serde(rename = "name")]
        _name: String,
        #[serde(rename = "isa")]
        _isa: String,
        batchable: bool,
        #[serde(rename = "batch_invariant")]
        _batch_invariant: bool,
        batch_dim: Option<String>,
        length_dim: Option<String>,
        #[serde(rename = "trim")]
        _trim: bool,
        dims: BTreeMap<String, (usize, usize)>,
        inputs: Vec<InputSpec>,
        outputs: Vec<OutputSpec>,
        /// For reports.
        #[serde(rename = "steps")]
        _steps: Vec<serde::de::IgnoredAny>,
    }
    let described: Description = read_json(text.as_bytes()).map_err(|e| format!("infc_describe: {e}"))?;
    let same_inputs = described.inputs.len() == spec.inputs.len()
        && described
            .inputs
            .iter()
            .zip(&spec.inputs)
            .all(|(a, b)| a.name == b.name && a.dtype == b.dtype && a.shape == b.shape);
    let same_outputs = described.outputs.len() == spec.outputs.len()
        && described
            .outputs
            .iter()
            .zip(&spec.outputs)
            .all(|(a, b)| a.name == b.name && a.dtype == b.dtype && a.shape == b.shape);
    // A model that the library cannot merge may be served one by one only, whatever the manifest says; the other way
    // round is a choice.
    let same_dims = described.dims == spec.dims
        && described.batch_dim == spec.batch_dim
        && described.length_dim == spec.length_dim
        && (described.batchable || !spec.batchable);
    if !(same_inputs && same_outputs) {
        return Err("it describes other inputs or outputs than manifest.json".into());
    }
    if !same_dims { Err("it describes other dimensions than manifest.json".into()) } else { Ok(()) }
}
