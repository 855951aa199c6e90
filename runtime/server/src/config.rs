//! Settings: the manifest, then `serve.toml`, then `INFC__…`, then flags; each value knows where it came from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Value;

use crate::bundle::manifest::Serve;
use crate::protocols::native::MOST_TEXTS;

/// The kinds of value that a setting takes.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// 0..=65535
    Port,
    /// 1..=2147483647: what the C ABI counts in.
    Count,
    /// 1..=2^40.
    Bytes,
    /// 1..=65536
    Connections,
    /// 1..=2048
    Texts,
    /// Zero or more, in seconds.
    Seconds,
    Switch,
    Names,
}

impl Kind {
    fn expected(self) -> &'static str {
        match self {
            Kind::Text => "a string that is not empty",
            Kind::Port => "a port, 0 to 65535",
            Kind::Count => "a whole number, 1 to 2147483647",
            Kind::Bytes => "a number of bytes, 1 to 1099511627776",
            Kind::Connections => "a whole number, 1 to 65536",
            Kind::Texts => "a whole number, 1 to 2048",
            Kind::Seconds => "a number of seconds, 0 or more",
            Kind::Switch => "true or false",
            Kind::Names => "a list of names",
        }
    }

    fn accepts(self, value: &Value) -> bool {
        match self {
            Kind::Text => value.as_str().is_some_and(|s| !s.is_empty()),
            Kind::Port => value.as_integer().is_some_and(|n| (0..=65535).contains(&n)),
            Kind::Count => value.as_integer().is_some_and(|n| (1..=i64::from(i32::MAX)).contains(&n)),
            Kind::Bytes => value.as_integer().is_some_and(|n| (1..=1 << 40).contains(&n)),
            Kind::Connections => value.as_integer().is_some_and(|n| (1..=65536).contains(&n)),
            Kind::Texts => value.as_integer().is_some_and(|n| (1..=MOST_TEXTS as i64).contains(&n)),
            Kind::Seconds => float(value).is_some_and(|s| (0.0..=1e9).contains(&s)),
            Kind::Switch => value.is_bool(),
            Kind::Names => value.as_array().is_some_and(|a| a.iter().all(Value::is_str)),
        }
    }
}

fn float(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|n| n as f64))
}

/// Every setting: key, kind, default (none: the machine or the model decides).
fn table() -> Vec<(&'static str, Kind, Option<Value>)> {
    let text = |s: &str| Some(Value::String(s.into()));
    let whole = |n: i64| Some(Value::Integer(n));
    let seconds = |s: f64| Some(Value::Float(s));
    vec![
        ("host", Kind::Text, text("127.0.0.1")),
        ("port", Kind::Port, whole(8080)),
        ("uds", Kind::Text, None),
        ("metrics_port", Kind::Port, None),
        ("protocols", Kind::Names, Some(Value::Array(vec!["kserve".into(), "openai".into()]))),
        ("queue", Kind::Count, whole(256)),
        ("deadline_s", Kind::Seconds, seconds(30.0)),
        ("threads", Kind::Count, None),
        ("instances", Kind::Count, whole(1)),
        ("batch.max_requests", Kind::Count, whole(64)),
        ("batch.max_rows", Kind::Count, whole(64)),
        ("batch.max_tokens", Kind::Count, whole(8192)),
        ("batch.wait_s", Kind::Seconds, seconds(0.0)),
        ("max_body_bytes", Kind::Bytes, whole(16 << 20)),
        ("max_inputs", Kind::Texts, whole(MOST_TEXTS as i64)),
        ("max_connections", Kind::Connections, whole(4096)),
        ("read_timeout_s", Kind::Seconds, seconds(20.0)),
        ("idle_timeout_s", Kind::Seconds, seconds(75.0)),
        ("drain_delay_s", Kind::Seconds, seconds(0.2)),
        ("drain_timeout_s", Kind::Seconds, seconds(60.0)),
        ("http_threads", Kind::Count, None),
        ("pin", Kind::Switch, Some(Value::Boolean(false))),
    ]
}

/// Protocols that a bundle may declare; the native one is always there.
const PROTOCOLS: [&str; 2] = ["kserve", "openai"];

/// `INFC__…` variables that belong to the compiler.
const FOREIGN_ENV: [&str; 10] = [
    "debug",
    "dump",
    "cache_dir",
    "cache_limit",
    "serve_dir",
    "color",
    "tune",
    "require_sandbox",
    "import_memory",
    "import_seconds",
];

#[derive(Clone, Debug)]
pub struct Settings {
    values: BTreeMap<&'static str, (Value, String)>,
}

/// One layer: keys with values, and what to call the layer.
pub struct Layer {
    pub origin: String,
    pub values: Vec<(String, Value)>,
}

impl Settings {
    /// Lays `layers` over the defaults, the last one on top. Unknown keys and wrong values are refused by name.
    pub fn new(layers: Vec<Layer>) -> Result<Self, String> {
        let table = table();
        let mut values: BTreeMap<&'static str, (Value, String)> = BTreeMap::new();
        for (key, _, default) in &table {
            if let Some(value) = default {
                values.insert(key, (value.clone(), "default".into()));
            }
        }
        for layer in layers {
            for (key, value) in layer.values {
                let Some((known, kind, _)) = table.iter().find(|(known, ..)| *known == key) else {
                    let all: Vec<&str> = table.iter().map(|(key, ..)| *key).collect();
                    return Err(format!("{}: unknown setting {key:?}; known are {}", layer.origin, all.join(", ")));
                };
                if !kind.accepts(&value) {
                    let shown = serde_json::to_string(&value).unwrap_or_default();
                    return Err(format!("{}: {key} = {shown}: expected {}", layer.origin, kind.expected()));
                }
                values.insert(known, (value, layer.origin.clone()));
            }
        }
        let settings = Settings { values };
        if let Some(unknown) = settings.protocols().iter().find(|p| !PROTOCOLS.contains(&p.as_str())) {
            return Err(format!("protocols: unknown protocol {unknown:?}; known are {}", PROTOCOLS.join(", ")));
        }
        Ok(settings)
    }

    fn value(&self, key: &str) -> Option<&Value> {
        self.values.get(key).map(|(value, _)| value)
    }

    /// A count, or a port; checked when it was set.
    pub fn count(&self, key: &str) -> Option<usize> {
        self.value(key)?.as_integer().and_then(|n| usize::try_from(n).ok())
    }

    pub fn port(&self, key: &str) -> Option<u16> {
        self.count(key).and_then(|n| u16::try_from(n).ok())
    }

    pub fn seconds(&self, key: &str) -> std::time::Duration {
        std::time::Duration::from_secs_f64(self.value(key).and_then(float).unwrap_or(0.0))
    }

    pub fn text(&self, key: &str) -> Option<&str> {
        self.value(key)?.as_str()
    }

    pub fn switch(&self, key: &str) -> bool {
        self.value(key).and_then(Value::as_bool).unwrap_or(false)
    }

    pub fn protocols(&self) -> Vec<String> {
        let names = self.value("protocols").and_then(Value::as_array);
        names.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    }

    /// Whether a layer above the defaults set this key.
    pub fn is_set(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|(_, origin)| origin != "default")
    }

    /// Every setting's value, seconds always as floats: equal settings are equal JSON, however they were written.
    pub fn plain(&self) -> serde_json::Map<String, serde_json::Value> {
        let seconds = |key: &str| table().iter().any(|(k, kind, _)| *k == key && matches!(kind, Kind::Seconds));
        let value = |key: &str, value: &Value| match float(value).filter(|_| seconds(key)) {
            Some(seconds) => seconds.into(),
            None => serde_json::to_value(value).unwrap_or_default(),
        };
        self.values.iter().map(|(key, (v, _))| ((*key).to_owned(), value(key, v))).collect()
    }

    /// All settings as JSON: value and origin of each.
    pub fn to_json(&self) -> serde_json::Value {
        let entry = |(value, origin): &(Value, String)| serde_json::json!({"value": serde_json::to_value(value).unwrap_or_default(), "origin": origin});
        self.values.iter().map(|(key, v)| ((*key).to_owned(), entry(v))).collect::<serde_json::Map<_, _>>().into()
    }
}

/// What the manifest says under `serve`.
pub fn manifest_layer(serve: &Serve) -> Layer {
    let mut values: Vec<(String, Value)> = Vec::new();
    let mut count = |key: &str, value: Option<usize>| {
        values.extend(value.map(|n| (key.to_owned(), Value::Integer(i64::try_from(n).unwrap_or(i64::MAX)))));
    };
    let batch = serve.batch.clone().unwrap_or_default();
    count("queue", serve.queue);
    count("threads", serve.threads);
    count("instances", serve.instances);
    count("batch.max_requests", batch.max_requests);
    count("batch.max_rows", batch.max_rows);
    count("batch.max_tokens", batch.max_tokens.filter(|n| *n > 0));
    count("max_body_bytes", serve.max_body_bytes);
    values.extend(serve.deadline_s.map(|s| ("deadline_s".to_owned(), Value::Float(s))));
    values.extend(batch.wait_s.map(|s| ("batch.wait_s".to_owned(), Value::Float(s))));
    let names = |p: &Vec<String>| Value::Array(p.iter().map(|s| Value::String(s.clone())).collect());
    values.extend(serve.protocols.as_ref().map(|p| ("protocols".to_owned(), names(p))));
    Layer { origin: "manifest.json".into(), values }
}

/// A `serve.toml`: tables become dotted keys.
pub fn file_layer(path: &Path) -> Result<Layer, String> {
    let text = read_regular(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let table: toml::Table = text.parse().map_err(|e| format!("{}: {e}", path.display()))?;
    let mut values = Vec::new();
    flatten("", Value::Table(table), &mut values);
    Ok(Layer { origin: path.display().to_string(), values })
}

const MOST_CONFIG: u64 = 1 << 20;

/// The text of a regular file of bounded length; opening it never waits.
fn read_regular(path: &Path) -> std::io::Result<String> {
    use std::io::{Error, Read as _};
    use std::os::unix::fs::OpenOptionsExt as _;
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let file = std::fs::OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(Error::other("it must be a regular file"));
    }
    let mut text = String::new();
    file.take(MOST_CONFIG + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MOST_CONFIG {
        return Err(Error::other(format!("it has more than {MOST_CONFIG} bytes")));
    }
    Ok(text)
}

fn flatten(prefix: &str, value: Value, out: &mut Vec<(String, Value)>) {
    match value {
        Value::Table(table) => {
            for (key, value) in table {
                let key = if prefix.is_empty() { key } else { format!("{prefix}.{key}") };
                flatten(&key, value, out);
            }
        }
        value => out.push((prefix.to_owned(), value)),
    }
}

/// `INFC__BATCH__MAX_ROWS=8` → `batch.max_rows = 8`. Variables of the compiler are passed over.
pub fn env_layer(vars: impl Iterator<Item = (String, String)>) -> Layer {
    let kinds: BTreeMap<&str, Kind> = table().into_iter().map(|(key, kind, _)| (key, kind)).collect();
    let mut values = Vec::new();
    for (name, text) in vars {
        let Some(rest) = name.strip_prefix("INFC__") else { continue };
        let key = rest.to_ascii_lowercase().replace("__", ".");
        if FOREIGN_ENV.contains(&key.as_str()) {
            continue;
        }
        let value = match kinds.get(key.as_str()) {
            None => {
                crate::log::warning(&format!("{name} is no setting of the server"));
                continue;
            }
            Some(Kind::Text) => Value::String(text),
            Some(Kind::Names) => Value::Array(text.split(',').map(|s| Value::String(s.trim().into())).collect()),
            _ => text.parse::<Value>().unwrap_or(Value::String(text)),
        };
        values.push((key, value));
    }
    values.sort_by(|a, b| a.0.cmp(&b.0));
    Layer { origin: "environment (INFC__…)".into(), values }
}

/// `serve.toml` beside the binary, or the one that was named.
pub fn config_path(named: Option<&PathBuf>, folder: &Path) -> Option<PathBuf> {
    match named {
        Some(path) => Some(path.clone()),
        None => Some(folder.join("serve.toml")).filter(|path| path.is_file()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Layer {
        env_layer(pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn later_layers_win_and_origins_are_kept() {
        let serve = Serve { queue: Some(5), deadline_s: Some(0.2), ..Serve::default() };
        let layers = vec![
            manifest_layer(&serve),
            env(&[("INFC__QUEUE", "9"), ("INFC__BATCH__MAX_ROWS", "3"), ("INFC_PORT", "1"), ("INFC__DEBUG", "2")]),
            Layer { origin: "flags".into(), values: vec![("port".into(), Value::Integer(0))] },
        ];
        let settings = Settings::new(layers).unwrap();
        assert_eq!((settings.count("queue"), settings.count("batch.max_rows")), (Some(9), Some(3)));
        assert_eq!((settings.port("port"), settings.seconds("deadline_s").as_millis()), (Some(0), 200));
        let json = settings.to_json();
        assert_eq!(json["deadline_s"]["origin"], "manifest.json");
        assert_eq!(json["port"]["origin"], "flags");
        assert!(!settings.is_set("host"));
        let whole = Layer { origin: "serve.toml".into(), values: vec![("deadline_s".into(), Value::Integer(2))] };
        let plain = Settings::new(vec![whole]).unwrap().plain();
        assert_eq!((plain["deadline_s"].to_string(), plain["queue"].to_string()), ("2.0".into(), "256".into()));
    }

    #[test]
    fn unknown_keys_and_wrong_values_are_named() {
        let fault = |pairs: &[(&str, &str)]| Settings::new(vec![env(pairs)]).unwrap_err();
        let layer = Layer { origin: "serve.toml".into(), values: vec![("prot".into(), Value::Integer(1))] };
        assert!(Settings::new(vec![layer]).unwrap_err().contains("serve.toml: unknown setting \"prot\""));
        assert!(Settings::new(vec![env(&[("INFC__PROT", "1")])]).is_ok());
        assert!(fault(&[("INFC__PORT", "70000")]).contains("expected a port"));
        assert!(fault(&[("INFC__QUEUE", "0")]).contains("1 to 2147483647"));
        assert!(fault(&[("INFC__DEADLINE_S", "-1")]).contains("seconds"));
        assert!(fault(&[("INFC__PROTOCOLS", "kserve,grpcx")]).contains("unknown protocol \"grpcx\""));
    }
}
