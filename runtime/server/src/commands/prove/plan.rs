//! What the arguments, the settings and the manifest come to: checked before anything starts.

use std::path::Path;

use super::load::{Arrival, Items, Mode};
use super::merge::most_rows;
use crate::bundle::manifest::{Manifest, Model};
use crate::cli::ProveArguments;
use crate::commands::{Failure, Start};
use crate::config::Settings;

const MOST_BLOCKS: usize = 10_000;
const MOST_STARTS: usize = 10_000;

/// Of a block.
const MOST_NUMBER: usize = 1_000_000_000;

const MOST_SECONDS: f64 = 3600.0;
const MOST_CLOSED: usize = 1024;
const MOST_CONNECTIONS: usize = 65_536;

/// Requests of all blocks together: their latencies are held in memory.
const MOST_REQUESTS: usize = 20_000_000;

/// Measured seconds of a block.
const BLOCK_SECONDS: f64 = 3.0;

pub struct Plan<'a> {
    pub model: &'a Model,
    pub mode: Mode,
    pub items: Items,
    pub block_s: f64,
    pub warmup_s: f64,
    pub cores: usize,
    /// Most requests of a block of the closed loop.
    pub most: usize,
}

/// `usable`: cores that there are.
pub fn plan<'a>(start: &'a Start, arguments: &ProveArguments, usable: usize) -> Result<Plan<'a>, Failure> {
    let model = find_model(&start.manifest, arguments.model.as_deref())?;
    let (block_s, warmup_s) = (block_seconds(arguments)?, arguments.warmup);
    if !(0.0..=MOST_SECONDS).contains(&warmup_s) {
        return Err(Failure::usage(format!("--warmup must be 0 to {MOST_SECONDS} seconds")));
    }
    within("blocks", arguments.blocks, 0, MOST_BLOCKS)?;
    within("starts", arguments.starts, 0, MOST_STARTS)?;
    within("first-block", usize::try_from(arguments.first_block).unwrap_or(usize::MAX), 0, MOST_NUMBER)?;
    within("connections", arguments.connections, 1, MOST_CONNECTIONS)?;
    let mode = mode(arguments, &start.manifest)?;
    check_count(&mode, arguments.blocks, warmup_s, block_s)?;
    if arguments.cold && arguments.starts == 0 {
        return Err(Failure::usage("--cold says how --starts N start, and there is no --starts"));
    }
    if arguments.blocks == 0 && arguments.starts == 0 && !(arguments.fill || arguments.subject) {
        return Err(Failure::usage("--blocks 0 without --starts and --fill measures nothing"));
    }
    check_items(model, arguments.items, &start.settings)?;
    if let Some(out) = &arguments.out {
        check_out(out)?;
    }
    let cores = arguments.cores.unwrap_or_else(|| default_cores(start, usable));
    within("cores", cores, 1, usize::from(u16::MAX))?;
    let most = MOST_REQUESTS / arguments.blocks.max(1);
    Ok(Plan { model, mode, items: arguments.items, block_s, warmup_s, cores, most })
}

fn within(name: &str, value: usize, low: usize, high: usize) -> Result<(), Failure> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Failure::usage(format!("--{name} must be {low} to {high}, not {value}")))
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

fn block_seconds(arguments: &ProveArguments) -> Result<f64, Failure> {
    let seconds = match (arguments.block_seconds, arguments.burst) {
        (Some(seconds), Some(burst)) if seconds != burst.every => {
            let every = burst.every;
            return Err(Failure::usage(format!(
                "--block-seconds {seconds} and --burst …:{every}: a block of bursts is one period, {every} s"
            )));
        }
        (seconds, burst) => seconds.or(burst.map(|b| b.every)).unwrap_or(BLOCK_SECONDS),
    };
    if seconds > 0.0 && seconds <= MOST_SECONDS {
        return Ok(seconds);
    }
    Err(Failure::usage(format!("--block-seconds must be above 0 and at most {MOST_SECONDS}")))
}

/// Open at `--rate` or the declared rate; closed by `--closed`, or where no rate is declared.
fn mode(arguments: &ProveArguments, manifest: &Manifest) -> Result<Mode, Failure> {
    let traffic = manifest.traffic.as_ref();
    let declared = traffic.and_then(|t| t.rate).filter(|rate| *rate > 0.0);
    let closed = arguments.closed.or_else(|| (arguments.rate.or(declared).is_none()).then_some(1));
    if let Some(connections) = closed {
        within("closed", connections, 1, MOST_CLOSED)?;
        if arguments.closed.is_some() && arguments.connections < connections {
            let text = format!("--closed {connections} needs as many --connections, not {}", arguments.connections);
            return Err(Failure::usage(text));
        }
        let given = [("--burst", arguments.burst.is_some()), ("--arrival", arguments.arrival.is_some())];
        if let Some((name, _)) = given.iter().find(|(_, is_given)| *is_given) {
            return Err(Failure::usage(format!("{name} needs a rate (--rate R); the closed loop has none")));
        }
        return Ok(Mode::Closed { connections });
    }
    let rate = arguments.rate.or(declared).unwrap_or_default();
    if !(rate.is_finite() && rate > 0.0) {
        return Err(Failure::usage(format!("--rate must be a number above 0, not {rate}")));
    }
    let declared =
        if traffic.and_then(|t| t.arrival.as_deref()) == Some("steady") { Arrival::Steady } else { Arrival::Poisson };
    Ok(Mode::Open { rate, arrival: arguments.arrival.unwrap_or(declared), burst: arguments.burst })
}

fn check_count(mode: &Mode, blocks: usize, warmup: f64, seconds: f64) -> Result<(), Failure> {
    let count = mode.most(warmup, seconds).unwrap_or(0.0) * blocks as f64;
    if count <= MOST_REQUESTS as f64 {
        return Ok(());
    }
    let text = format!("{blocks} blocks of this load are {count:.0} requests; at most {MOST_REQUESTS} are taken");
    Err(Failure::usage(text))
}

fn check_items(model: &Model, items: Items, settings: &Settings) -> Result<(), Failure> {
    let Items { low, high } = items;
    let most = most_rows(model, settings.count("max_inputs").unwrap_or(1));
    if high == 1 || high <= most {
        return Ok(());
    }
    let name = &model.name;
    Err(Failure::usage(format!("--items {low}..{high}: a request to the model {name:?} has at most {most} rows")))
}

/// Nothing is measured whose result cannot be written.
fn check_out(out: &Path) -> Result<(), Failure> {
    let parent = out.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if parent.is_dir() && !out.is_dir() {
        return Ok(());
    }
    Err(Failure::usage(format!("--out {}: it must be a file in a folder that is there", out.display())))
}

/// As many as the settings give the models threads, and at most what there is.
fn default_cores(start: &Start, usable: usize) -> usize {
    let threads = start.settings.count("threads").unwrap_or(usable);
    let instances = start.settings.count("instances").unwrap_or(1);
    threads.saturating_mul(instances).saturating_mul(start.manifest.models.len()).clamp(1, usable)
}
