//! One keep-alive connection of the generator: non-blocking, one request at a time, of an answer no more than its length.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType, sockopt};

use super::client::{Head, parse_head};

/// Most bytes of an answer's head.
const MOST_HEAD: usize = 64 << 10;

/// A request on its way.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    /// Which one of the block.
    pub number: usize,
    /// What its latency counts from.
    pub from: u64,
    /// Bytes of it that are written.
    pub written: usize,
}

#[derive(Debug)]
enum Phase {
    Connecting,
    Idle,
    /// The answer's head so far.
    Head(Vec<u8>),
    /// Bytes of the body still to come.
    Body {
        head: Head,
        left: usize,
    },
}

pub struct Connection {
    pub socket: OwnedFd,
    phase: Phase,
    pub call: Option<Call>,
    /// Tells this connection from others that had its slot before.
    pub serial: u32,
    /// When its last answer came.
    pub used: u64,
    /// Whether it is watched for room to write.
    pub watches_writes: bool,
}

pub enum Received {
    /// Not the whole answer yet.
    Part,
    /// The whole answer; whether the connection can be used again.
    Answer { status: u16, keep: bool },
    /// It is closed, or what came is no HTTP answer.
    Broken,
}

pub enum Sent {
    All,
    Part,
    /// Nothing of it was taken: the connection was closed before.
    Refused,
    Broken,
}

impl Connection {
    /// Begins to connect.
    pub fn open(address: SocketAddr, serial: u32) -> rustix::io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_tcp_nodelay(&socket, true)?;
        match rustix::net::connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        Ok(Connection { socket, phase: Phase::Connecting, call: None, serial, used: 0, watches_writes: true })
    }

    pub fn is_connecting(&self) -> bool {
        matches!(self.phase, Phase::Connecting)
    }

    /// Called once it can be written to, or has failed.
    pub fn connected(&mut self) -> rustix::io::Result<()> {
        sockopt::socket_error(&self.socket)??;
        self.phase = Phase::Idle;
        Ok(())
    }

    /// Writes as much of the request as is taken now.
    pub fn send(&mut self, post: &[u8]) -> Sent {
        let Some(call) = &mut self.call else { return Sent::Broken };
        if matches!(self.phase, Phase::Idle) {
            self.phase = Phase::Head(Vec::new());
        }
        while call.written < post.len() {
            match rustix::net::send(&self.socket, &post[call.written..], SendFlags::NOSIGNAL) {
                Ok(count) => call.written += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Sent::Part,
                Err(_) if call.written == 0 => return Sent::Refused,
                Err(_) => return Sent::Broken,
            }
        }
        Sent::All
    }

    /// Reads what is there, through `buffer`.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        loop {
            let count = match rustix::io::read(&self.socket, &mut *buffer) {
                Ok(0) => return Received::Broken,
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => return Received::Part,
                Err(_) => return Received::Broken,
            };
            match self.take(&buffer[..count]) {
                Received::Part if count == buffer.len() => {}
                other => return other,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Received {
        match &mut self.phase {
            Phase::Connecting | Phase::Idle => Received::Broken,
            Phase::Body { head, left } => {
                let Some(rest) = left.checked_sub(bytes.len()) else { return Received::Broken };
                *left = rest;
                let head = *head;
                if rest == 0 { self.answered(head) } else { Received::Part }
            }
            Phase::Head(text) => {
                // The end may stand across two reads.
                let from = text.len().saturating_sub(3);
                text.extend_from_slice(bytes);
                let Some(end) = text[from..].windows(4).position(|w| w == b"\r\n\r\n").map(|at| from + at + 4) else {
                    return if text.len() > MOST_HEAD { Received::Broken } else { Received::Part };
                };
                let Ok(head) = parse_head(&text[..end]) else { return Received::Broken };
                match head.length.checked_sub(text.len() - end) {
                    None => Received::Broken,
                    Some(0) => self.answered(head),
                    Some(left) => {
                        self.phase = Phase::Body { head, left };
                        Received::Part
                    }
                }
            }
        }
    }

    fn answered(&mut self, head: Head) -> Received {
        self.phase = Phase::Idle;
        Received::Answer { status: head.status, keep: !head.closes }
    }
}
