//! `serve prove`: this bundle's own server under load, recorded from outside. What the numbers mean is decided elsewhere.
//!
//! One run measures one load in *blocks*: each is a start of the server, a process of its own on processors of its own, with
//! arrivals, rows and their order by a seed of its own. What the document says is in [`document`], what it speaks of in
//! [`subject`]; how it is measured in [`generator`], and what disturbed it in [`noise`].

mod canonical;
mod client;
mod cold;
mod connection;
mod document;
mod fill;
mod fingerprint;
mod generator;
pub mod load;
mod lock;
mod merge;
mod noise;
mod placement;
mod plan;
mod random;
mod requests;
mod server;
mod sockets;
mod subject;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Failure, Start, emit};
use crate::cli::{Common, ProveArguments};
use crate::cores;
use document::{Around, SCHEMA};
use load::{Mode, schedule};
use placement::{Placement, confine};
use plan::Plan;
use random::{Random, block_seed};
use server::Servers;

/// What the server's deadline is exceeded by when a request is given up, in seconds.
const BEYOND_DEADLINE: u64 = 30;

/// Files beside those of connections.
const OTHER_FILES: usize = 64;

/// Different requests of a block of the closed loop, where there are not more rows.
const CLOSED_REQUESTS: usize = 4096;

/// Measures and writes the evidence as JSON, to `--out` or stdout.
pub fn prove(start: &Start, common: &Common, arguments: &ProveArguments) -> Result<(), Failure> {
    let usable = cores::usable_cores();
    let plan = plan::plan(start, arguments, usable)?;
    let (rows, source) = rows(&plan, arguments)?;
    let program = match &arguments.program {
        Some(program) => program.clone(),
        None => std::env::current_exe().map_err(|e| Failure::internal(format!("where this program is: {e}")))?,
    };
    let about = json!({
        "subject": subject::subject(start, &program, plan.cores)?,
        "load": subject::load(plan.mode, plan.items, &rows, source),
        "fingerprint": fingerprint::fingerprint(usable),
    });
    if arguments.subject {
        return emit(&format!("{about:#}\n"));
    }
    let placement = Placement::new(plan.cores, usable).map_err(Failure::usage)?;
    if arguments.cold && arguments.program.is_none() {
        cold::leave_program(&program);
    }
    let _lock = lock::lock().map_err(Failure::internal)?;
    let run = Run { start, common, arguments, plan, rows, placement };
    let evidence = run.measure(about, program)?;
    let text = format!("{evidence:#}\n");
    match &arguments.out {
        Some(path) => write_whole(path, &text).map_err(|e| Failure::internal(format!("{}: {e}", path.display()))),
        None => emit(&text),
    }
}

fn rows(plan: &Plan, arguments: &ProveArguments) -> Result<(Vec<Value>, &'static str), Failure> {
    let together = plan.items.high > 1;
    if let Some(path) = &arguments.text_file {
        let rows = requests::read_texts(path, arguments.field.as_deref(), plan.model);
        return Ok((rows.map_err(Failure::usage)?, "file"));
    }
    if let Some(path) = &arguments.requests {
        return Ok((requests::read_requests(path, plan.model, together).map_err(Failure::usage)?, "file"));
    }
    Ok((requests::generate(plan.model, arguments.seed, together), "generated"))
}

struct Run<'a> {
    start: &'a Start,
    common: &'a Common,
    arguments: &'a ProveArguments,
    plan: Plan<'a>,
    rows: Vec<Value>,
    placement: Placement,
}

impl Run<'_> {
    fn measure(&self, about: Value, program: PathBuf) -> Result<Value, Failure> {
        confine(&self.placement.generator).map_err(Failure::internal)?;
        let before = noise::before(&self.placement).map_err(Failure::internal)?;
        let first = merge::first_post(self.plan.model, &self.rows[0]);
        let mut servers = Servers::new(self.start, self.common, program, &self.placement, first);
        let blocks =
            (0..self.arguments.blocks as u64).map(|i| self.block(self.arguments.first_block + i, &mut servers));
        let blocks: Vec<Value> = blocks.collect::<Result<_, _>>()?;
        let starts = cold::starts(&mut servers, self.arguments)?;
        let fill = if self.arguments.fill { fill::fill(&mut servers, self.plan.model)? } else { Value::Null };
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let mut document = json!({
            "schema": SCHEMA,
            "utc": fingerprint::utc(seconds),
            "command": subject::command(),
            "bundle": self.start.manifest.digest,
            "seed": self.arguments.seed,
            "warmup_s": self.plan.warmup_s,
            "block_s": self.plan.block_s,
            "tools": subject::tools(),
            "placement": self.placement.to_json(),
            "before": before,
            "blocks": blocks,
            "starts": starts,
            "fill": fill,
        });
        for (name, value) in about.as_object().into_iter().flatten() {
            document[name] = value.clone();
        }
        Ok(document)
    }

    /// One start of the server under load.
    fn block(&self, index: u64, servers: &mut Servers) -> Result<Value, Failure> {
        let seed = block_seed(self.arguments.seed, index);
        let mut random = Random::new(seed);
        let (plan, wanted) = self.planned(&mut random);
        let posts = merge::prepare(self.plan.model, &self.rows, self.plan.items, wanted, &mut random);
        let (server, start_s) = servers.start()?;
        let (id, server) = (server.id(), RefCell::new(server));
        let nanoseconds = |seconds: f64| (seconds * 1e9) as u64;
        let deadline = self.start.settings.seconds("deadline_s").as_secs_f64();
        let settings = generator::Settings {
            address: server.borrow().address,
            connections: self.connections(),
            timeout: nanoseconds(deadline).saturating_add(BEYOND_DEADLINE * 1_000_000_000),
            idle: nanoseconds(self.start.settings.seconds("idle_timeout_s").as_secs_f64() / 2.0),
            warmup: nanoseconds(self.plan.warmup_s),
            length: nanoseconds(self.plan.block_s),
            alone: !self.placement.shared,
        };
        let look = || noise::sample(&self.placement.server, Some(id));
        let mut from = None;
        let outcome = generator::run(settings, plan, &posts, &mut || from = Some(look()), &mut || {
            server.borrow_mut().ended().is_none()
        });
        let to = look();
        let mut outcome = outcome.map_err(Failure::internal)?;
        let from = from.unwrap_or_else(look);
        let ended = server.borrow_mut().ended();
        let around = Around {
            index,
            seed,
            start_s,
            noise: noise::between(&from, &to, &self.placement, true),
            peak_rss_bytes: server.borrow().peak_rss_bytes(),
            ended: ended.map(|status| status.to_string()),
        };
        let server = server.into_inner();
        if ended.is_some() {
            crate::log::warning(&format!("block {index}: the server ended under load"));
            servers.print_said(&server);
        } else {
            servers.stop(server).map_err(Failure::internal)?;
        }
        document::block(&around, &mut outcome).map_err(Failure::internal)
    }

    /// When a block's requests are sent, and how many different ones there are to be.
    fn planned(&self, random: &mut Random) -> (generator::Plan, usize) {
        match self.plan.mode {
            Mode::Open { rate, arrival, burst } => {
                let (times, warm) = schedule(rate, arrival, burst, self.plan.warmup_s, self.plan.block_s, random);
                let wanted = times.len();
                (generator::Plan::Open { times, warm }, wanted)
            }
            Mode::Closed { connections } => {
                (generator::Plan::Closed { connections, most: self.plan.most }, self.rows.len().max(CLOSED_REQUESTS))
            }
        }
    }

    /// As many as are asked for, unless the process may not open so many files, or the server has not so many.
    fn connections(&self) -> usize {
        let asked = self.arguments.connections.min(self.start.settings.count("max_connections").unwrap_or(usize::MAX));
        let most = cores::open_files(asked + OTHER_FILES).saturating_sub(OTHER_FILES).max(1);
        asked.min(most)
    }
}

/// Either the whole file or none.
fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    if path.exists() && !path.is_file() {
        // A pipe or a device: what is renamed would take its place.
        return std::fs::write(path, text);
    }
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = path.with_file_name(name);
    let written = std::fs::write(&part, text).and_then(|()| std::fs::rename(&part, path));
    if written.is_err() {
        // The first fault is the one to tell.
        let _ = std::fs::remove_file(&part);
    }
    written
}
