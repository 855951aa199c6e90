//! The server under proof: a process of its own on processors of its own.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, Signal, kill_process};

use super::client::Client;
use super::fingerprint::proc_kib;
use super::placement::{Placement, confine};
use crate::cli::Common;
use crate::commands::{Failure, Start};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long an idle server may take to end.
const ENDING: Duration = Duration::from_secs(10);

/// Most of what a server says that is read.
const MOST_SAID: usize = 64 << 10;

/// Starts servers of one bundle. They must give equal answers to the first request.
pub struct Servers<'a> {
    pub start: &'a Start,
    pub common: &'a Common,
    pub program: PathBuf,
    pub placement: &'a Placement,
    /// The first request, as bytes.
    pub first: Vec<u8>,
    /// Its answer, once there was one.
    expected: Option<Vec<u8>>,
    /// What servers said: equal lines are printed once.
    said: BTreeSet<String>,
}

impl<'a> Servers<'a> {
    pub fn new(
        start: &'a Start,
        common: &'a Common,
        program: PathBuf,
        placement: &'a Placement,
        first: Vec<u8>,
    ) -> Self {
        Servers { start, common, program, placement, first, expected: None, said: BTreeSet::new() }
    }

    /// Starts one and waits for its first answer. Gives the seconds from exec to that answer's last byte.
    pub fn start(&mut self) -> Result<(Server, f64), Failure> {
        let mut command = self.command();
        let log = memfd_create("serve-stderr", MemfdFlags::CLOEXEC).ok().map(File::from);
        if let Some(log) = log.as_ref().and_then(|log| log.try_clone().ok()) {
            command.stderr(log);
        }
        let (child, begin) = self.spawn(&mut command).map_err(Failure::internal)?;
        let mut server = Server { child, address: SocketAddr::from(([127, 0, 0, 1], 0)), log };
        let answer = server.read_address().and_then(|()| server.first_answer(begin, &self.first));
        let time = begin.elapsed().as_secs_f64();
        match answer {
            Ok(answer) => {
                if *self.expected.get_or_insert_with(|| answer.clone()) != answer {
                    return Err(Failure::internal("two starts gave different answers to one request"));
                }
                Ok((server, time))
            }
            Err(text) => Err(self.not_started(server, text)),
        }
    }

    /// Its message and, where the bundle is at fault, its exit code.
    fn not_started(&mut self, mut server: Server, text: String) -> Failure {
        let ended = server.wait(Duration::from_secs(1));
        self.print_said(&server);
        let message = match ended {
            Some(status) => format!("{text}: the server ended with {status} (its message is above)"),
            None => text,
        };
        let code = ended.and_then(|s| s.code()).and_then(|code| u8::try_from(code).ok());
        Failure { code: code.filter(|code| [6, 7].contains(code)).unwrap_or(1), message }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--bundle").arg(self.start.folder.path());
        command.args(["--port", "0", "--host", "127.0.0.1", "--end-with-parent"]);
        if let Some(config) = &self.common.config {
            command.arg("--config").arg(config);
        }
        if let Some(threads) = self.common.threads {
            command.arg("--threads").arg(threads.to_string());
        }
        // Addresses that the settings name may be a running server's.
        if self.start.settings.port("metrics_port").is_some() {
            command.args(["--metrics-port", "0"]);
        }
        if self.start.settings.text("uds").is_some() {
            command.arg("--uds").arg(std::env::temp_dir().join(format!("infc-prove-{}.sock", std::process::id())));
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command
    }

    /// On the server's processors, which its threads inherit.
    fn spawn(&self, command: &mut Command) -> Result<(Child, Instant), String> {
        confine(&self.placement.server)?;
        let begin = Instant::now();
        let child = command.spawn().map_err(|e| format!("{}: {e}", self.program.display()));
        confine(&self.placement.generator)?;
        Ok((child?, begin))
    }

    /// Ends it as an orchestrator does; an error where it does not end well.
    pub fn stop(&mut self, mut server: Server) -> Result<(), String> {
        let begin = Instant::now();
        let mut ended = None;
        while ended.is_none() && begin.elapsed() < ENDING {
            // The second signal says that nothing is to be waited for: all that was asked is answered.
            server.signal(Signal::TERM);
            ended = server.wait(Duration::from_millis(20));
        }
        self.print_said(&server);
        match ended {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("the server ended with {status}")),
            None => Err(format!("the server did not end within {} s", ENDING.as_secs())),
        }
    }

    /// Prints what it said, but for notes and what others said before it.
    pub fn print_said(&mut self, server: &Server) {
        for line in server.said().lines() {
            if !line.starts_with("serve: note: ") && self.said.insert(line.to_owned()) {
                // As in `log`: a closed stderr is no reason to stop.
                let _ = std::io::Write::write_fmt(&mut std::io::stderr().lock(), format_args!("{line}\n"));
            }
        }
    }
}

pub struct Server {
    child: Child,
    pub address: SocketAddr,
    log: Option<File>,
}

impl Server {
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn read_address(&mut self) -> Result<(), String> {
        let stdout = self.child.stdout.take().ok_or("the server has no stdout")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(|e| e.to_string())?;
        let addresses: serde_json::Value =
            serde_json::from_str(&line).map_err(|_| "the server did not start".to_owned())?;
        let address = addresses["http"].as_str().and_then(|a| a.parse().ok());
        self.address = address.ok_or("the server has no HTTP address")?;
        Ok(())
    }

    fn first_answer(&mut self, begin: Instant, request: &[u8]) -> Result<Vec<u8>, String> {
        let mut client = Client::connect(self.address).map_err(|e| format!("the server: {e}"))?;
        loop {
            let reply = client.call(request);
            match reply {
                Ok(reply) if reply.status == 200 => return Ok(reply.body),
                Ok(reply) if reply.status == 503 && begin.elapsed() < PATIENCE => {}
                Ok(reply) => {
                    let text = String::from_utf8_lossy(&reply.body).into_owned();
                    return Err(format!("the server answered {} to the first request: {text}", reply.status));
                }
                Err(e) => return Err(format!("the first request: {e}")),
            }
            // To ask takes from the time of what is asked: no more often than tells a hundredth of it.
            std::thread::sleep((begin.elapsed() / 100).max(Duration::from_micros(500)));
        }
    }

    /// The most memory that it has held so far.
    pub fn peak_rss_bytes(&self) -> Option<u64> {
        proc_kib(&format!("/proc/{}/status", self.child.id()), "VmHWM")
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    fn wait(&mut self, most: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + most;
        loop {
            let ended = self.ended();
            if ended.is_some() || Instant::now() >= end {
                return ended;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // It may have ended already: waiting tells.
            let _ = kill_process(pid, signal);
        }
    }

    /// What it wrote to stderr.
    fn said(&self) -> String {
        let mut bytes = vec![0; MOST_SAID];
        let count = self.log.as_ref().and_then(|log| log.read_at(&mut bytes, 0).ok()).unwrap_or(0);
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.ended().is_none() {
            self.signal(Signal::KILL);
            // It ends, and its exit status is nobody's.
            let _ = self.child.wait();
        }
    }
}
