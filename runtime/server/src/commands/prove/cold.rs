//! Starts of the server that are timed, and before cold ones the page cache of what it loads dropped.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{Advice, MemfdFlags, fadvise, memfd_create};
use serde_json::{Value, json};

use super::server::Servers;
use crate::cli::ProveArguments;
use crate::commands::Failure;
use crate::engine::ffi::mapped::Mapped;

/// A page that is in use at the moment when it should go is asked to again.
const TRIES: usize = 3;

/// Goes on as a copy of this program in memory: pages of a program that runs cannot be dropped, and the server's program is
/// this one. Returns only where that is not possible; then its pages stay, which is recorded.
pub fn leave_program(program: &Path) {
    let copy = || -> std::io::Result<File> {
        let mut copy = File::from(memfd_create("serve", MemfdFlags::CLOEXEC)?);
        std::io::copy(&mut File::open(program)?, &mut copy)?;
        Ok(copy)
    };
    let fault = match copy() {
        Ok(copy) => {
            use std::os::fd::AsRawFd;
            let mut command = Command::new(format!("/proc/self/fd/{}", copy.as_raw_fd()));
            command.args(std::env::args_os().skip(1)).arg("--program").arg(program).exec()
        }
        Err(error) => error,
    };
    crate::log::warning(&format!("pages of the server's program stay in memory: it cannot run from a copy: {fault}"));
}

/// `--starts`: seconds from exec to the first answer's last byte, of each.
pub fn starts(servers: &mut Servers, arguments: &ProveArguments) -> Result<Vec<Value>, Failure> {
    if arguments.starts > 0 && arguments.blocks == 0 && !arguments.cold {
        // What is not cold has been started before.
        let (server, _) = servers.start()?;
        servers.stop(server).map_err(Failure::internal)?;
    }
    let mut starts = Vec::new();
    for _ in 0..arguments.starts {
        let left = if arguments.cold { Some(drop_pages(servers)?) } else { None };
        let (server, time) = servers.start()?;
        servers.stop(server).map_err(Failure::internal)?;
        starts.push(json!({"s": time, "cold": arguments.cold, "pages_left": left}));
    }
    Ok(starts)
}

/// Has the kernel forget the bundle's files and the server's program, and tells how many of their pages it still holds.
fn drop_pages(servers: &Servers) -> Result<usize, Failure> {
    let manifest = &servers.start.manifest;
    let listed = manifest.files.iter().map(|entry| entry.path.as_str());
    let mut left = 0;
    for path in listed.chain(["manifest.json", "manifest.sha256"]) {
        let fault = |e: String| Failure::internal(format!("{path}: {e}"));
        left += drop_file(|| servers.start.folder.file(path)).map_err(fault)?;
    }
    let program = &servers.program;
    left += drop_file(|| File::open(program).map_err(|e| e.to_string()))
        .map_err(|e| Failure::internal(format!("{}: {e}", program.display())))?;
    Ok(left)
}

fn drop_file(open: impl Fn() -> Result<File, String>) -> Result<usize, String> {
    let mut left = 0;
    for _ in 0..TRIES {
        let file = open()?;
        // What is not on disk yet cannot be dropped; a file system without one says so, and its pages stay.
        let _ = file.sync_all();
        fadvise(&file, 0, None, Advice::DontNeed).map_err(|e| std::io::Error::from(e).to_string())?;
        left = Mapped::new(file).and_then(|mapped| mapped.pages_in_memory()).map_err(|e| e.to_string())?;
        if left == 0 {
            break;
        }
    }
    Ok(left)
}
