//! `manifest.json`, format 1.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::Damage;
use crate::tensor::{InputSpec, OutputSpec};

/// The format that this server reads.
pub const FORMAT: u32 = 1;

#[derive(Clone, Debug, Deserialize)]
pub struct Manifest {
    #[serde(default)]
    pub platform: Platform,
    pub models: Vec<Model>,
    #[serde(default)]
    pub serve: Serve,
    #[serde(default)]
    pub traffic: Option<Traffic>,
    #[serde(default)]
    pub targets: Vec<Target>,
    pub files: Vec<FileEntry>,
    /// sha256 of the manifest's bytes: the bundle's digest.
    #[serde(skip)]
    pub digest: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Platform {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub arch: String,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Model {
    pub name: String,
    #[serde(default = "first_version")]
    pub version: String,
    #[serde(default)]
    pub aliases: Vec<String>,
    pub task: Task,
    pub inputs: Vec<InputSpec>,
    pub outputs: Vec<OutputSpec>,
    /// Least and greatest value of each symbolic dimension.
    #[serde(default)]
    pub dims: BTreeMap<String, (usize, usize)>,
    #[serde(default)]
    pub batchable: bool,
    #[serde(default)]
    pub length_dim: Option<String>,
    #[serde(default)]
    pub batch_dim: Option<String>,
    pub variants: Vec<Variant>,
    pub golden: String,
}

fn first_version() -> String {
    "1".into()
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Task {
    Tensor,
    Embed {
        tokenizer: String,
        /// Most tokens of one text, special tokens included.
        limit: usize,
        #[serde(default)]
        overflow: Overflow,
        #[serde(default)]
        prompt: String,
    },
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Overflow {
    #[default]
    Reject,
    Truncate,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Variant {
    pub id: u32,
    #[serde(default)]
    pub isa: String,
    #[serde(default)]
    pub cpu_features: Vec<String>,
    pub library: String,
    pub weights: String,
}

/// `serve` of the manifest: each may be overridden by configuration, and none has to be there.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Serve {
    pub protocols: Option<Vec<String>>,
    pub queue: Option<usize>,
    pub deadline_s: Option<f64>,
    pub threads: Option<usize>,
    pub instances: Option<usize>,
    pub batch: Option<Batch>,
    pub max_body_bytes: Option<usize>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Batch {
    pub max_requests: Option<usize>,
    pub max_rows: Option<usize>,
    pub max_tokens: Option<usize>,
    pub wait_s: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Traffic {
    pub rate: Option<f64>,
    #[serde(default)]
    pub arrival: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct Target {
    pub kind: String,
    #[serde(default)]
    pub statistic: Option<String>,
    pub op: String,
    pub bound: f64,
    #[serde(default)]
    pub unit: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub struct FileEntry {
    pub path: String,
    pub bytes: u64,
    /// sha256 of each 4 MiB chunk.
    pub sha256: Vec<String>,
}

/// Reads and checks the manifest of the bundle in `folder`.
pub fn read_manifest(folder: &Path) -> Result<Manifest, Damage> {
    let path = folder.join("manifest.json");
    let bytes = std::fs::read(&path).map_err(|e| {
        Damage::Damaged(format!("manifest.json: {e} (a bundle is the folder that holds `serve` and manifest.json)"))
    })?;
    parse_manifest(&bytes)
}

pub fn parse_manifest(bytes: &[u8]) -> Result<Manifest, Damage> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let damaged = |e: serde_json::Error| Damage::Damaged(format!("manifest.json: {e}"));
    let found: Format = serde_json::from_slice(bytes).map_err(damaged)?;
    if found.format != FORMAT {
        let text = format!("manifest.json has format {}, and this server reads format {FORMAT}", found.format);
        return Err(Damage::Damaged(text));
    }
    let mut manifest: Manifest = serde_json::from_slice(bytes).map_err(damaged)?;
    manifest.digest = hex(&Sha256::digest(bytes));
    check(&manifest).map_err(|text| Damage::Damaged(format!("manifest.json: {text}")))?;
    Ok(manifest)
}

fn check(manifest: &Manifest) -> Result<(), String> {
    let mut listed = BTreeSet::new();
    for file in &manifest.files {
        check_path(&file.path)?;
        if !listed.insert(file.path.as_str()) {
            return Err(format!("{:?} is listed twice", file.path));
        }
    }
    if manifest.models.is_empty() {
        return Err("it has no models".into());
    }
    let mut names = BTreeSet::new();
    for model in &manifest.models {
        for name in std::iter::once(&model.name).chain(&model.aliases) {
            if !names.insert(name) {
                return Err(format!("two models have the name {name:?}"));
            }
        }
        check_model(model, &listed).map_err(|text| format!("model {:?}: {text}", model.name))?;
    }
    Ok(())
}

fn check_model(model: &Model, listed: &BTreeSet<&str>) -> Result<(), String> {
    if model.variants.is_empty() {
        return Err("it has no variants".into());
    }
    let mut needed = vec![&model.golden];
    if let Task::Embed { tokenizer, .. } = &model.task {
        needed.push(tokenizer);
    }
    needed.extend(model.variants.iter().flat_map(|v| [&v.library, &v.weights]));
    for path in needed {
        check_path(path)?;
        if !listed.contains(path.as_str()) {
            return Err(format!("{path:?} is used, but has no digest under \"files\""));
        }
    }
    for (name, (low, high)) in &model.dims {
        if low > high {
            return Err(format!("dimension {name:?} has the empty range {low}..{high}"));
        }
    }
    for dim in [&model.batch_dim, &model.length_dim].into_iter().flatten() {
        if !model.dims.contains_key(dim) {
            return Err(format!("dimension {dim:?} has no bounds under \"dims\""));
        }
    }
    Ok(())
}

/// A path of a bundle is relative, normal, and stays inside.
fn check_path(path: &str) -> Result<(), String> {
    let normal = |p: &Path| p.components().all(|c| matches!(c, Component::Normal(_)));
    if path.is_empty() || path.contains('\0') || !normal(Path::new(path)) {
        return Err(format!("the path {path:?} leaves the bundle's folder"));
    }
    Ok(())
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(files: &str, golden: &str) -> String {
        format!(
            r#"{{"format": 1, "files": [{files}], "models": [{{"name": "m", "task": {{"kind": "tensor"}}, "inputs": [], "outputs": [],
            "variants": [{{"id": 0, "library": "m.so", "weights": "w"}}], "golden": "{golden}"}}]}}"#
        )
    }

    const FILES: &str = r#"{"path": "m.so", "bytes": 0, "sha256": []}, {"path": "w", "bytes": 0, "sha256": []},
        {"path": "g", "bytes": 0, "sha256": []}"#;

    fn fault(text: &str) -> String {
        parse_manifest(text.as_bytes()).unwrap_err().to_string()
    }

    #[test]
    fn a_small_manifest_is_read() {
        let manifest = parse_manifest(manifest(FILES, "g").as_bytes()).unwrap();
        assert_eq!((manifest.digest.len(), manifest.models[0].version.as_str()), (64, "1"));
    }

    #[test]
    fn paths_may_not_leave_the_folder() {
        for path in ["../x", "/etc/passwd", "a/../../b", "", "./a", "a/./../b"] {
            let files = format!(r#"{{"path": "{path}", "bytes": 0, "sha256": []}}"#);
            assert!(fault(&manifest(&files, "g")).contains("leaves the bundle"), "{path}");
        }
        assert!(fault(&manifest(FILES, "../g")).contains("leaves the bundle"));
    }

    #[test]
    fn files_in_use_need_a_digest_and_formats_are_checked() {
        assert!(fault(&manifest(FILES, "h")).contains("has no digest"));
        assert!(fault(&manifest(FILES, "g").replace("\"format\": 1", "\"format\": 9")).contains("format 9"));
        assert!(fault("{").contains("manifest.json"));
    }
}
