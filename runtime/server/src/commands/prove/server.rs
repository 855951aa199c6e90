//! The server under load: a process of its own, this very program.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::client::Client;
use super::fingerprint::proc_kib;
use crate::cli::Common;

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts it and waits for the first answer with status 200 to `request`. Gives the time from exec to that answer's
    /// last byte, and its body.
    pub fn start(folder: &Path, common: &Common, request: &[u8]) -> Result<(Self, Duration, Vec<u8>), String> {
        let exe = std::env::current_exe().map_err(|e| e.to_string())?;
        let mut command = Command::new(exe);
        command.arg("--bundle").arg(folder).args(["--port", "0", "--host", "127.0.0.1", "--end-with-parent"]);
        if let Some(config) = &common.config {
            command.arg("--config").arg(config);
        }
        if let Some(threads) = common.threads {
            command.arg("--threads").arg(threads.to_string());
        }
        let begin = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
        let address = read_address(&mut child);
        let mut server = match address {
            Ok(address) => Server { child, address },
            Err(text) => {
                // It ends by itself; its own message is on stderr.
                let _ = child.wait();
                return Err(text);
            }
        };
        let body = server.first_answer(begin, request)?;
        Ok((server, begin.elapsed(), body))
    }

    fn first_answer(&mut self, begin: Instant, request: &[u8]) -> Result<Vec<u8>, String> {
        let mut client = Client::connect(self.address).map_err(|e| e.to_string())?;
        loop {
            let reply = client.call(request);
            match reply {
                Ok(reply) if reply.status == 200 => return Ok(reply.body),
                Ok(reply) if reply.status == 503 && begin.elapsed() < PATIENCE => {}
                Ok(reply) => {
                    let text = String::from_utf8_lossy(&reply.body).into_owned();
                    return Err(format!("the server answered {} to the first request: {text}", reply.status));
                }
                Err(e) => {
                    let ended = self.child.try_wait().ok().flatten();
                    return Err(ended.map_or_else(|| e.to_string(), |status| format!("the server ended: {status}")));
                }
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// The most memory that it has held so far.
    pub fn peak_rss_bytes(&self) -> Option<u64> {
        proc_kib(&format!("/proc/{}/status", self.child.id()), "VmHWM")
    }

    /// Stops it as an orchestrator does; an error where it does not end well.
    pub fn stop(mut self) -> Result<(), String> {
        self.terminate();
        let status = self.child.wait().map_err(|e| e.to_string())?;
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}")) }
    }

    fn terminate(&self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            // It may have ended already: waiting tells.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            self.terminate();
            let _ = self.child.wait();
        }
    }
}

fn read_address(child: &mut Child) -> Result<SocketAddr, String> {
    let stdout = child.stdout.take().ok_or("the server has no stdout")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).map_err(|e| e.to_string())?;
    let addresses: serde_json::Value =
        serde_json::from_str(&line).map_err(|_| "the server did not start (its message is above)".to_owned())?;
    addresses["http"].as_str().and_then(|a| a.parse().ok()).ok_or_else(|| "the server has no HTTP address".into())
}
