//! The ways to start: serve, check, run, prove, tokenize.

pub mod check;
pub mod one;
pub mod prove;
pub mod serve;
pub mod tokens;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::bundle::Damage;
use crate::bundle::folder::Folder;
use crate::bundle::manifest::{Manifest, read_manifest};
use crate::cli::{Arguments, Command};
use crate::config::{Settings, config_path, env_layer, file_layer, manifest_layer};
use crate::load::{Loaded, load};
use crate::metrics::Metrics;

/// Why the program ends, and with which exit code.
pub struct Failure {
    pub code: u8,
    pub message: String,
}

impl Failure {
    /// Wrong arguments or settings.
    pub fn usage(message: impl Into<String>) -> Self {
        Failure { code: 2, message: message.into() }
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Failure { code: 1, message: message.into() }
    }
}

impl From<Damage> for Failure {
    fn from(damage: Damage) -> Self {
        Failure { code: damage.exit_code(), message: damage.to_string() }
    }
}

/// What every command begins with.
pub struct Start {
    pub folder: Folder,
    pub manifest: Manifest,
    pub settings: Settings,
}

pub fn run(arguments: Arguments) -> Result<(), Failure> {
    let serves = arguments.command.is_none() && !arguments.listen.print_config;
    if arguments.listen.end_with_parent {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
            .map_err(|e| Failure::internal(format!("prctl: {e}")))?;
    }
    if serves {
        // First of all: a signal from here on drains instead of killing.
        let stops = crate::signals::stops().map_err(|e| Failure::internal(format!("signals: {e}")))?;
        return serve::serve(begin(&arguments)?, stops);
    }
    let start = begin(&arguments)?;
    match arguments.command {
        None => emit(&format!("{:#}\n", start.settings.to_json())),
        Some(Command::Check) => check::check(&start),
        Some(Command::Run(run)) => one::run_one(&start, &run),
        Some(Command::Tokenize { file }) => tokens::tokenize(&start, &file),
        Some(Command::Prove(prove)) => prove::prove(&start, &arguments.common, &prove),
    }
}

/// Writes a result to stdout.
pub fn emit(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .map_err(|e| Failure::internal(format!("stdout: {e}")))
}

fn begin(arguments: &Arguments) -> Result<Start, Failure> {
    let folder = match &arguments.common.bundle {
        Some(folder) => folder.clone(),
        None => own_folder()?,
    };
    let folder = Folder::open(&folder).map_err(|e| Damage::Damaged(format!("{}: {e}", folder.display())))?;
    let manifest = read_manifest(&folder)?;
    let from_manifest = || manifest_layer(&manifest.serve);
    // By itself first: what is wrong there is the bundle's fault and nobody else's.
    Settings::new(vec![from_manifest()]).map_err(Damage::Damaged)?;
    let mut layers = vec![from_manifest()];
    if let Some(path) = config_path(arguments.common.config.as_ref(), folder.path()) {
        layers.push(file_layer(&path).map_err(Failure::usage)?);
    }
    layers
        .push(env_layer(std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))));
    layers.push(arguments.layer());
    let settings = Settings::new(layers).map_err(Failure::usage)?;
    Ok(Start { folder, manifest, settings })
}

fn own_folder() -> Result<PathBuf, Failure> {
    let exe = std::env::current_exe().map_err(|e| Failure::internal(format!("where this program is: {e}")))?;
    Ok(exe.parent().map_or_else(|| PathBuf::from("."), Path::to_path_buf))
}

impl Start {
    pub fn metrics(&self) -> Metrics {
        let latency = self.manifest.targets.iter().filter(|t| t.kind == "latency");
        Metrics::new(&latency.map(|t| t.bound).collect::<Vec<_>>())
    }

    /// Loads all models, known answers checked.
    pub fn load(&self, metrics: &Metrics) -> Result<Arc<Loaded>, Failure> {
        Ok(Arc::new(load(&self.folder, &self.manifest, &self.settings, metrics)?))
    }
}
