//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use toml::Value;

use crate::commands::prove::load::{Arrival, Burst, Items};
use crate::config::Layer;

/// Builds read the second version from the program's bytes.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (tokenizers ", env!("TOKENIZERS_VERSION"), ")");

/// The server of an infc bundle.
#[derive(Parser)]
#[command(name = "serve", version = VERSION, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub listen: Listen,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Args, Clone, Default)]
pub struct Common {
    /// The bundle's folder; by default the one that holds this program
    #[arg(long, value_name = "DIR", global = true)]
    pub bundle: Option<PathBuf>,
    /// Settings; by default serve.toml in the bundle's folder, if there
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Threads of one instance
    #[arg(long, value_name = "N", global = true)]
    pub threads: Option<u32>,
}

#[derive(Args, Clone, Default)]
pub struct Listen {
    /// Port of HTTP; 0 takes a free one
    #[arg(long)]
    pub port: Option<u16>,
    /// Address to listen at
    #[arg(long)]
    pub host: Option<String>,
    /// Listen at a Unix socket; no TCP port then, unless --port is given as well
    #[arg(long, value_name = "PATH")]
    pub uds: Option<String>,
    /// A port of its own for /metrics; 0 takes a free one
    #[arg(long, value_name = "N")]
    pub metrics_port: Option<u16>,
    /// Print the settings with their origin and end
    #[arg(long)]
    pub print_config: bool,
    /// End when the thread that started this process ends, however it ends (`prove` gives it to its server)
    #[arg(long, hide = true)]
    pub end_with_parent: bool,
}

#[derive(Subcommand)]
pub enum Command {
    /// Check digests and known answers, then end: 0 sound, 7 damaged, 6 not for this machine
    Check,
    /// One inference without a port: JSON on stdout
    Run(RunArguments),
    /// Print the tokens of texts: a JSON list of one text, or a pair, a line; needs no model for this machine
    Tokenize {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Measure this bundle's own server under load and write the evidence
    Prove(Box<ProveArguments>),
}

#[derive(Args)]
pub struct RunArguments {
    /// An input from a .json (nested lists) or .npy file; without any, the native request is read from stdin
    #[arg(long = "input", value_name = "NAME=FILE")]
    pub inputs: Vec<String>,
    /// A text (repeat it for several, and for a pair), for a model that takes text
    #[arg(long, conflicts_with = "inputs")]
    pub text: Vec<String>,
    /// The model, where the bundle has several
    #[arg(long)]
    pub model: Option<String>,
}

#[derive(Args)]
pub struct ProveArguments {
    /// Requests a second (open loop); by default what the bundle declares
    #[arg(long, value_name = "R", conflicts_with = "closed")]
    pub rate: Option<f64>,
    /// So many connections, each sending its next request when the last is answered
    #[arg(long, value_name = "N")]
    pub closed: Option<usize>,
    /// poisson or steady; by default what the bundle declares, or poisson
    #[arg(long)]
    pub arrival: Option<Arrival>,
    /// F times the rate for the first D of each block's E seconds
    #[arg(long, value_name = "F:D:E", allow_hyphen_values = true)]
    pub burst: Option<Burst>,
    /// Rows of a request, each number equally likely
    #[arg(long, value_name = "LO..HI", default_value = "1..1", allow_hyphen_values = true)]
    pub items: Items,
    /// Blocks of load; each is a start of the server
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub blocks: usize,
    /// Measured seconds of a block; by default 3, or a burst's E
    #[arg(long, value_name = "S", allow_hyphen_values = true)]
    pub block_seconds: Option<f64>,
    /// Seconds of load before them
    #[arg(long, value_name = "S", default_value_t = 0.5, allow_hyphen_values = true)]
    pub warmup: f64,
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// The first block's number: blocks of other numbers have other arrivals
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub first_block: u64,
    /// Texts, one or a pair a line: an object of them by the model's names, or with `--field`; of one text, a JSON string too
    #[arg(long, value_name = "FILE")]
    pub text_file: Option<PathBuf>,
    /// The field of --text-file's objects
    #[arg(long, value_name = "NAME", requires = "text_file")]
    pub field: Option<String>,
    /// Native requests of one row, one JSON object a line
    #[arg(long, value_name = "FILE", conflicts_with = "text_file")]
    pub requests: Option<PathBuf>,
    /// Cores that the server is confined to; by default as many as the settings give it threads
    #[arg(long, value_name = "N")]
    pub cores: Option<usize>,
    /// Most connections at a time
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub connections: usize,
    /// Further starts that are timed
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub starts: usize,
    /// Drop the page cache of the bundle's files before each of those starts
    #[arg(long)]
    pub cold: bool,
    /// One more start: peak memory with the queue full of the largest requests
    #[arg(long)]
    pub fill: bool,
    /// Print what would be measured (subject, load, fingerprint) and end
    #[arg(long)]
    pub subject: bool,
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Where the evidence goes; by default stdout
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// The server's program, where it is not this one (`--cold` runs a copy of itself)
    #[arg(long, value_name = "FILE", hide = true)]
    pub program: Option<PathBuf>,
}

impl Arguments {
    /// The flags as the uppermost layer of settings.
    pub fn layer(&self) -> Layer {
        let whole = |key: &str, n: Option<i64>| n.map(|n| (key.to_owned(), Value::Integer(n)));
        let text = |key: &str, s: &Option<String>| s.clone().map(|s| (key.to_owned(), Value::String(s)));
        let values = [
            whole("port", self.listen.port.map(i64::from)),
            whole("metrics_port", self.listen.metrics_port.map(i64::from)),
            whole("threads", self.common.threads.map(i64::from)),
            text("host", &self.listen.host),
            text("uds", &self.listen.uds),
        ];
        Layer { origin: "flags".into(), values: values.into_iter().flatten().collect() }
    }
}
