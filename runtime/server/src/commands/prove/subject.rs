//! What a document speaks of: the subject (what is run) and the load, each under a digest.
//!
//! **Rule**, for whoever recomputes one: JSON is as [`canonical`] writes it, Python's `json.dumps` with sorted keys, without
//! white space, not confined to ASCII. The digest of an object is the sha256 (hex) of that text of it without its member
//! `digest`. The digest of a file is the sha256 of its chunks' digests (of 4 MiB each, hex, as the manifest lists them), one
//! after the other without anything between. The digest of requests is the sha256 of each row's text and a newline; a row has
//! the model's name under `model`, unless that is the name of an input.
//!
//! Nothing here depends on the manifest's targets and traffic, on where the server listens, or on the machine, but for the
//! variant that its CPU can run.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::canonical::canonical;
use super::load::{Items, Mode};
use crate::bundle::manifest::{CHUNK, FileEntry, hex, manifest_json};
use crate::bundle::task::Task;
use crate::commands::{Failure, Start};
use crate::load::choose_variant;

/// Settings that change nothing of what is measured.
const PLACES: [&str; 4] = ["host", "port", "uds", "metrics_port"];

/// What is run: digests of the files that the server loads on this machine, the models' descriptions, settings, cores.
pub fn subject(start: &Start, program: &Path, cores: usize) -> Result<Value, Failure> {
    let manifest = &start.manifest;
    let listed = |path: &str| manifest.files.iter().find(|entry| entry.path == path);
    let digest_of = |path: &String| listed(path).map(|entry| (path.clone(), of_file(entry)));
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for model in &manifest.models {
        let variant = choose_variant(model)?;
        files.extend([&variant.library, &variant.weights].into_iter().filter_map(digest_of));
        if let Task::Text(says) = &model.task {
            files.extend(digest_of(&says.tokenizer));
        }
    }
    let own = listed("serve").filter(|_| is_same(program, &start.folder.path().join("serve")));
    let server = match own {
        Some(entry) => of_file(entry),
        None => of_program(program).map_err(|e| Failure::internal(format!("{}: {e}", program.display())))?,
    };
    files.insert("serve".into(), server);
    let mut settings = start.settings.plain();
    settings.retain(|key, _| !PLACES.contains(&key.as_str()));
    let models = manifest_json(&start.folder)?["models"].take();
    Ok(with_digest(json!({"files": files, "model": digest(&models), "settings": settings, "cores": cores})))
}

/// What is sent.
pub fn load(mode: Mode, items: Items, rows: &[Value], source: &str) -> Value {
    let mut load = mode.to_json();
    let requests = json!({"source": source, "count": rows.len(), "digest": of_rows(rows)});
    load["items"] = json!([items.low, items.high]);
    load["requests"] = requests;
    with_digest(load)
}

fn with_digest(mut value: Value) -> Value {
    value["digest"] = digest(&value).into();
    value
}

fn digest(value: &Value) -> String {
    hex(&Sha256::digest(canonical(value)))
}

fn of_rows(rows: &[Value]) -> String {
    let mut sum = Sha256::new();
    for row in rows {
        sum.update(canonical(row));
        sum.update(b"\n");
    }
    hex(&sum.finalize())
}

fn of_file(entry: &FileEntry) -> String {
    hex(&Sha256::digest(entry.sha256.concat()))
}

/// The same of a file that no manifest lists.
fn of_program(path: &Path) -> std::io::Result<String> {
    let mut file = std::fs::File::open(path)?;
    let mut sum = Sha256::new();
    loop {
        let mut chunk = Vec::new();
        if file.by_ref().take(CHUNK).read_to_end(&mut chunk)? == 0 {
            return Ok(hex(&sum.finalize()));
        }
        sum.update(hex(&Sha256::digest(&chunk)));
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|m| (m.dev(), m.ino()));
    identity(one).is_some_and(|found| Some(found) == identity(other))
}

/// The arguments that this process was given, files without their folders.
pub fn command() -> Vec<String> {
    let mut arguments = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned());
    let mut command = Vec::new();
    while let Some(argument) = arguments.next() {
        if argument == "--program" {
            // Not given by the user.
            arguments.next();
            continue;
        }
        let (flag, value) = match argument.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => (format!("{flag}="), value),
            _ => (String::new(), argument.as_str()),
        };
        let value = value.trim_end_matches('/');
        command.push(format!("{flag}{}", value.rsplit_once('/').map_or(value, |(_, name)| name)));
    }
    command
}

/// The document's members that say what was run and sent, with what.
pub fn tools() -> Map<String, Value> {
    let mut tools = Map::new();
    tools.insert("serve".into(), env!("CARGO_PKG_VERSION").into());
    tools.insert("tokenizers".into(), env!("TOKENIZERS_VERSION").into());
    tools
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::prove::load::{Arrival, Burst};

    #[test]
    fn a_load_has_another_digest_where_anything_of_it_is_another() {
        let rows = [json!({"x": 1})];
        let mode = Mode::Open { rate: 40.0, arrival: Arrival::Poisson, burst: None };
        let one = Items { low: 1, high: 1 };
        let digest = |mode, items, rows: &[Value]| load(mode, items, rows, "file")["digest"].clone();
        let burst = Some(Burst { factor: 2.0, duration: 1.0, every: 3.0 });
        let all = [
            digest(mode, one, &rows),
            digest(Mode::Open { rate: 41.0, arrival: Arrival::Poisson, burst: None }, one, &rows),
            digest(Mode::Open { rate: 40.0, arrival: Arrival::Steady, burst: None }, one, &rows),
            digest(Mode::Open { rate: 40.0, arrival: Arrival::Poisson, burst }, one, &rows),
            digest(Mode::Closed { connections: 1 }, one, &rows),
            digest(mode, Items { low: 1, high: 2 }, &rows),
            digest(mode, one, &[json!({"x": 2})]),
        ];
        let different: std::collections::BTreeSet<String> = all.iter().map(Value::to_string).collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(digest(mode, one, &rows), all[0]);
        assert_eq!(of_rows(&rows), hex(&Sha256::digest(b"{\"x\":1}\n")));
    }
}
