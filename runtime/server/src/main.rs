//! `serve`: the server of an infc bundle.
//!
//! In the order in which a request goes through: [`http`] accepts, [`protocols`] read it, [`tokenize`] and
//! [`check_inputs`] make it tensors that the model takes, [`scheduler`] queues and batches, [`engine`] runs,
//! and the protocol writes the answer. [`load`] makes all of it from a [`bundle`]; [`commands`] are the ways to start.

mod answer;
mod app;
mod bundle;
mod check_inputs;
mod cli;
mod commands;
mod config;
mod cores;
mod engine;
mod finite;
mod http;
mod json;
mod load;
mod log;
mod memory;
mod metrics;
mod model;
mod npy;
mod pace;
mod pool;
mod protocols;
mod queue;
mod refusal;
mod scheduler;
mod signals;
mod stats;
mod tensor;
mod tokenize;
mod wire;

use std::process::ExitCode;

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match commands::run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            crate::log::error(&failure.message);
            ExitCode::from(failure.code)
        }
    }
}
