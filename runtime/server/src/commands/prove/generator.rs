//! The load: one thread that sends and reads on many connections and never waits for one of them.
//!
//! In the open loop requests have intended send times. Latency counts from those, so that a stalled server cannot slow the
//! load that measures it; how much later a request was sent although nothing but this thread was in its way is its *lag*.
//! Connections are opened before they are needed: to accept one is no part of an answer.

use std::collections::VecDeque;
use std::net::SocketAddr;

use super::connection::{Call, Received, Sent};
use super::merge::Post;
use super::sockets::{Ready, Sockets, now};

/// Idle connections that are kept for what comes next.
const RESERVE: usize = 8;

/// How long the first connections may take.
const MOST_OPENING: u64 = 5_000_000_000;

/// Marks a latency as none: the rest is the status.
pub const FAILED: u64 = 1 << 63;

/// When requests are sent; times in nanoseconds.
pub enum Plan {
    /// At these times from the start, in order; so many of them are of the warm-up.
    Open { times: Vec<u64>, warm: usize },
    /// On so many connections, each when the last is answered; at most so many.
    Closed { connections: usize, most: usize },
}

pub struct Settings {
    pub address: SocketAddr,
    pub connections: usize,
    /// How long an answer may take.
    pub timeout: u64,
    /// How long an idle connection is used again.
    pub idle: u64,
    /// From the start.
    pub warmup: u64,
    /// From the end of the warm-up.
    pub length: u64,
    /// Whether this thread has a processor of its own.
    pub alone: bool,
}

/// What a block gave.
#[derive(Default)]
pub struct Outcome {
    /// Of each request after the warm-up, in the order of sending: nanoseconds, or [`FAILED`] and the status.
    pub latency: Vec<u64>,
    /// Of those that were not short of a connection.
    pub lag: Vec<u64>,
    /// Rows of the answered ones.
    pub rows: usize,
    /// From the end of the warm-up to the block's end, or the last answer.
    pub elapsed: u64,
    /// Most requests on their way at a time.
    pub connections_most: usize,
    /// Requests that were due while no connection could be had.
    pub connections_short: usize,
    /// The server ended.
    pub died: bool,
}

/// Sends as planned. `on_measure` is called when the warm-up ends; `is_alive` tells whether the server still runs.
pub fn run(
    settings: Settings,
    plan: Plan,
    posts: &[Post],
    on_measure: &mut dyn FnMut(),
    is_alive: &mut dyn FnMut() -> bool,
) -> Result<Outcome, String> {
    let run = || -> rustix::io::Result<Outcome> {
        let mut generator = Generator::new(settings, plan, posts, is_alive)?;
        generator.open_first()?;
        generator.load(on_measure)?;
        Ok(generator.outcome)
    };
    run().map_err(|e| format!("the generator: {}", std::io::Error::from(e)))
}

/// A request that waits for a connection.
struct Waiting {
    number: usize,
    due: u64,
    /// None could be had when it was due.
    short: bool,
}

struct Generator<'a> {
    settings: Settings,
    plan: Plan,
    posts: &'a [Post],
    is_alive: &'a mut dyn FnMut() -> bool,
    sockets: Sockets,
    busy: usize,
    waiting: VecDeque<Waiting>,
    /// When requests that were sent are given up: time, slot, serial, number.
    timeouts: VecDeque<(u64, usize, u32, usize)>,
    /// The next request.
    next: usize,
    /// The first request after the warm-up.
    first: Option<usize>,
    start: u64,
    /// When the last answer came.
    last: u64,
    buffer: Vec<u8>,
    outcome: Outcome,
}

impl<'a> Generator<'a> {
    fn new(
        settings: Settings,
        plan: Plan,
        posts: &'a [Post],
        is_alive: &'a mut dyn FnMut() -> bool,
    ) -> rustix::io::Result<Self> {
        let sockets = Sockets::new(settings.address, settings.connections, settings.idle, settings.alone)?;
        let (measured, first) = match &plan {
            Plan::Open { times, warm } => (times.len() - warm, Some(*warm)),
            Plan::Closed { .. } => (0, None),
        };
        Ok(Generator {
            settings,
            plan,
            posts,
            is_alive,
            sockets,
            busy: 0,
            waiting: VecDeque::new(),
            timeouts: VecDeque::new(),
            next: 0,
            first,
            start: 0,
            last: 0,
            buffer: vec![0; 64 << 10],
            // Whatever is not answered has failed.
            outcome: Outcome {
                latency: vec![FAILED; measured],
                lag: Vec::with_capacity(measured),
                ..Outcome::default()
            },
        })
    }

    /// The connections that are needed at first.
    fn open_first(&mut self) -> rustix::io::Result<()> {
        let wanted = match self.plan {
            Plan::Open { .. } => RESERVE.min(self.settings.connections),
            Plan::Closed { connections, .. } => connections,
        };
        let end = now() + MOST_OPENING;
        self.sockets.have(wanted);
        while self.sockets.idle() < wanted && now() < end && !self.outcome.died {
            self.look_after();
            self.wait(end.min(self.sockets.opens_at().unwrap_or(end)))?;
        }
        Ok(())
    }

    fn load(&mut self, on_measure: &mut dyn FnMut()) -> rustix::io::Result<()> {
        self.start = now() + 1_000_000;
        let measured = self.start + self.settings.warmup;
        let mut end = measured + self.settings.length;
        let last = end + self.settings.timeout;
        let mut marked = false;
        loop {
            let time = now();
            if !marked && time >= measured {
                marked = true;
                on_measure();
            }
            self.send_due(now(), end);
            self.give_up(time);
            self.look_after();
            let is_idle = self.busy == 0 && self.waiting.is_empty();
            if let Plan::Closed { most, .. } = self.plan
                && self.next == most
                && is_idle
            {
                // As many as are recorded: the block ends with the last answer.
                end = end.min(self.last.max(measured));
            }
            let is_done = time >= end && is_idle && self.rest() == 0;
            if self.outcome.died || is_done || time >= last {
                break;
            }
            let marks = [if marked { end } else { measured }, last];
            let due = self.next_due().unwrap_or(u64::MAX);
            let other = marks.into_iter().filter(|mark| *mark > time).chain(self.wakes()).min().unwrap_or(last);
            self.wait(due.min(other))?;
        }
        if !marked {
            on_measure();
        }
        self.outcome.elapsed = self.last.max(end) - measured;
        Ok(())
    }

    /// Requests of the open loop that are still to come.
    fn rest(&self) -> usize {
        if let Plan::Open { times, .. } = &self.plan { times.len() - self.next } else { 0 }
    }

    fn next_due(&self) -> Option<u64> {
        let Plan::Open { times, .. } = &self.plan else { return None };
        times.get(self.next).map(|time| self.start + time)
    }

    /// When something else is to be done.
    fn wakes(&mut self) -> impl Iterator<Item = u64> + use<> {
        while let Some((_, slot, serial, number)) = self.timeouts.front().copied() {
            if self.is_on_its_way(slot, serial, number) {
                break;
            }
            self.timeouts.pop_front();
        }
        let timeout = self.timeouts.front().map(|(time, ..)| *time);
        let waiting = self.waiting.front().map(|w| w.due + self.settings.timeout);
        [timeout, waiting, self.sockets.opens_at()].into_iter().flatten()
    }

    fn is_on_its_way(&mut self, slot: usize, serial: u32, number: usize) -> bool {
        let found = self.sockets.get(slot);
        found.is_some_and(|c| c.serial == serial && c.call.is_some_and(|call| call.number == number))
    }

    /// Opens connections again, and sees whether the server is still there.
    fn look_after(&mut self) {
        self.sockets.reopen(now());
        if self.sockets.doubts() && !(self.is_alive)() {
            self.outcome.died = true;
        }
    }

    /// Sends what is due.
    fn send_due(&mut self, time: u64, end: u64) {
        match self.plan {
            Plan::Open { .. } => {
                while let Some(due) = self.next_due().filter(|due| *due <= time) {
                    let number = self.next;
                    self.next += 1;
                    self.dispatch(number, due);
                }
            }
            Plan::Closed { .. } if time < self.start || time >= end => {}
            Plan::Closed { most, .. } => {
                while self.next < most
                    && let Some(slot) = self.sockets.take_idle()
                {
                    self.send_closed(slot);
                }
            }
        }
    }

    fn send_closed(&mut self, slot: usize) {
        let from = now();
        let number = self.next;
        self.next += 1;
        if from >= self.start + self.settings.warmup {
            self.first.get_or_insert(number);
            self.outcome.latency.push(FAILED);
        }
        self.begin(slot, Call { number, from, written: 0 });
    }

    /// Sends a request on an idle connection, or has it wait for one.
    fn dispatch(&mut self, number: usize, due: u64) {
        if self.waiting.is_empty()
            && let Some(slot) = self.sockets.take_idle()
        {
            self.send_open(slot, number, due, false);
        } else {
            let short = self.sockets.is_short(self.waiting.len());
            if short && self.is_measured(number) {
                self.outcome.connections_short += 1;
            }
            self.waiting.push_back(Waiting { number, due, short });
        }
        self.sockets.have(self.waiting.len() + RESERVE);
    }

    fn send_open(&mut self, slot: usize, number: usize, due: u64, short: bool) {
        if !short && self.is_measured(number) {
            self.outcome.lag.push(now().saturating_sub(due));
        }
        self.begin(slot, Call { number, from: due, written: 0 });
    }

    fn is_measured(&self, number: usize) -> bool {
        self.first.is_some_and(|first| number >= first)
    }

    fn begin(&mut self, slot: usize, call: Call) {
        let Some(connection) = self.sockets.get(slot) else { return };
        connection.call = Some(call);
        self.timeouts.push_back((now() + self.settings.timeout, slot, connection.serial, call.number));
        self.busy += 1;
        self.outcome.connections_most = self.outcome.connections_most.max(self.busy);
        self.write(slot);
    }

    fn write(&mut self, slot: usize) {
        let Some(connection) = self.sockets.get(slot) else { return };
        let Some(call) = connection.call else { return };
        match connection.send(&self.posts[call.number % self.posts.len()].bytes) {
            Sent::All => self.sockets.watch(slot, false),
            Sent::Part => self.sockets.watch(slot, true),
            // It was closed while it was idle, and nothing of the request was seen.
            Sent::Refused if matches!(self.plan, Plan::Open { .. }) => {
                self.busy -= 1;
                self.sockets.close(slot);
                self.waiting.push_front(Waiting { number: call.number, due: call.from, short: true });
                self.sockets.open();
            }
            Sent::Refused | Sent::Broken => self.fail(slot),
        }
    }

    /// The request on this connection has no answer.
    fn fail(&mut self, slot: usize) {
        self.busy -= 1;
        self.sockets.close(slot);
        if matches!(self.plan, Plan::Closed { .. }) || !self.waiting.is_empty() {
            self.sockets.failed();
        } else {
            self.sockets.doubt();
        }
    }

    /// Gives up what has waited for too long.
    fn give_up(&mut self, time: u64) {
        while let Some((_, slot, serial, number)) = self.timeouts.front().copied().filter(|(at, ..)| *at <= time) {
            self.timeouts.pop_front();
            if self.is_on_its_way(slot, serial, number) {
                self.fail(slot);
            }
        }
        while self.waiting.front().is_some_and(|w| w.due + self.settings.timeout <= time) {
            self.waiting.pop_front();
        }
    }

    /// Waits for events until `until`, and handles them; requests that become due meanwhile are not kept waiting.
    fn wait(&mut self, until: u64) -> rustix::io::Result<()> {
        for ready in self.sockets.wait(until)? {
            self.handle(&ready);
            if self.start > 0 && self.next_due().is_some_and(|due| due <= now()) {
                self.send_due(now(), u64::MAX);
            }
        }
        Ok(())
    }

    fn handle(&mut self, ready: &Ready) {
        let slot = ready.slot;
        let Some(connection) = self.sockets.of(ready) else { return };
        if connection.is_connecting() {
            if self.sockets.connected(slot) {
                self.is_free(slot);
            }
            return;
        }
        if ready.reads {
            match connection.receive(&mut self.buffer) {
                Received::Part => {}
                Received::Answer { status, keep } => return self.answered(slot, status, keep),
                Received::Broken if connection.call.is_some() => return self.fail(slot),
                Received::Broken => return self.sockets.close_idle(slot),
            }
        }
        if ready.writes {
            self.write(slot);
        }
    }

    fn answered(&mut self, slot: usize, status: u16, keep: bool) {
        let time = now();
        let Some(connection) = self.sockets.get(slot) else { return };
        let Some(call) = connection.call.take() else { return };
        connection.used = time;
        self.busy -= 1;
        self.last = time;
        let post = &self.posts[call.number % self.posts.len()];
        if let Some(index) = self.first.and_then(|first| call.number.checked_sub(first)) {
            if status == 200 {
                self.outcome.rows += post.rows;
                self.outcome.latency[index] = time.saturating_sub(call.from).clamp(1, FAILED - 1);
            } else {
                self.outcome.latency[index] = FAILED | u64::from(status);
            }
        }
        // What was answered before all of it was sent leaves a connection that nobody can use.
        if keep && call.written == post.bytes.len() {
            self.is_free(slot);
        } else {
            self.sockets.close(slot);
            if matches!(self.plan, Plan::Closed { .. }) || !self.waiting.is_empty() {
                self.sockets.open();
            }
        }
    }

    fn is_free(&mut self, slot: usize) {
        match self.waiting.pop_front() {
            Some(Waiting { number, due, short }) => self.send_open(slot, number, due, short),
            None => self.sockets.put_idle(slot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    const MS: u64 = 1_000_000;

    /// A server whose every connection is `serve`d; so many requests 2 ms apart, the first two of them the warm-up's.
    fn sent_to(requests: u64, timeout: u64, serve: fn(TcpStream)) -> Outcome {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve(stream));
            }
        });
        let settings = Settings {
            address,
            connections: 16,
            timeout,
            idle: u64::MAX,
            warmup: 3 * MS,
            length: 2 * requests * MS,
            alone: false,
        };
        let posts = [Post { bytes: vec![b'x'; 100], rows: 2 }, Post { bytes: vec![b'y'; 300_000], rows: 3 }];
        let plan = Plan::Open { times: (0..requests).map(|i| 2 * i * MS).collect(), warm: 2 };
        let mut measured = 0;
        let outcome = run(settings, plan, &posts, &mut || measured += 1, &mut || true).unwrap();
        assert_eq!((measured, outcome.latency.len()), (1, requests as usize - 2));
        outcome
    }

    /// Reads a request: what it begins with tells how long it is.
    fn read_request(stream: &mut TcpStream) -> bool {
        let mut first = [0];
        if stream.read_exact(&mut first).is_err() {
            return false;
        }
        let rest = if first[0] == b'x' { 99 } else { 299_999 };
        stream.read_exact(&mut vec![0; rest]).is_ok()
    }

    fn answered(outcome: &Outcome) -> usize {
        outcome.latency.iter().filter(|latency| **latency < FAILED).count()
    }

    #[test]
    fn answers_in_pieces_and_long_requests_are_put_together() {
        let outcome = sent_to(20, 60_000 * MS, |mut stream| {
            while read_request(&mut stream) {
                for part in [&b"HTTP/1.1 200 OK\r\ncontent-"[..], b"length: 200000\r\n\r", b"\n", &[b'a'; 200_000]] {
                    stream.write_all(part).unwrap();
                    std::thread::sleep(std::time::Duration::from_micros(100));
                }
            }
        });
        assert_eq!((answered(&outcome), outcome.rows, outcome.lag.len()), (18, 9 * 2 + 9 * 3, 18));
        assert_eq!((outcome.connections_short, outcome.died), (0, false));
    }

    #[test]
    fn a_connection_that_the_server_is_to_close_is_not_used_again() {
        let outcome = sent_to(20, 60_000 * MS, |mut stream| {
            read_request(&mut stream);
            let _ = write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        });
        assert_eq!(answered(&outcome), 18);
    }

    #[test]
    fn what_is_not_answered_has_failed_and_the_rest_goes_on() {
        let outcome = sent_to(6, 100 * MS, |mut stream| while read_request(&mut stream) {});
        assert!(outcome.latency.iter().all(|latency| *latency == FAILED));
        let outcome = sent_to(20, 60_000 * MS, |mut stream| {
            read_request(&mut stream);
        });
        assert!(outcome.latency.iter().all(|latency| *latency == FAILED));
        let outcome = sent_to(20, 60_000 * MS, |mut stream| {
            while read_request(&mut stream) {
                let _ = write!(stream, "HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{{}}");
            }
        });
        assert!(outcome.latency.iter().all(|latency| *latency == FAILED | 429));
    }
}
