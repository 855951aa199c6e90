//! Load: open loop at a rate, where latency counts from the intended send time, and closed loop for throughput.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::client::Client;
use super::random::Random;

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Arrival {
    Poisson,
    Steady,
}

impl Arrival {
    pub fn name(self) -> &'static str {
        match self {
            Arrival::Poisson => "poisson",
            Arrival::Steady => "steady",
        }
    }
}

/// The longest latency that is told apart.
const LONGEST_NS: u64 = 600_000_000_000;

/// Stack of a sender: it holds little.
const STACK: usize = 192 << 10;

/// Nanoseconds, three significant digits.
pub fn histogram() -> Result<Histogram<u64>, String> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).map_err(|e| e.to_string())
}

/// What a run of load gave.
pub struct Outcome {
    /// From the intended send time to the last byte, of answers with status 200.
    pub latency: Histogram<u64>,
    /// From the intended to the actual send time, where a connection was free.
    pub lag: Histogram<u64>,
    pub sent: u64,
    pub ok: u64,
    /// By status; "connection" where there was none.
    pub errors: BTreeMap<String, u64>,
    pub elapsed: Duration,
}

impl Outcome {
    fn new() -> Result<Self, String> {
        Ok(Outcome {
            latency: histogram()?,
            lag: histogram()?,
            sent: 0,
            ok: 0,
            errors: BTreeMap::new(),
            elapsed: Duration::ZERO,
        })
    }

    fn add(&mut self, other: &Outcome) -> Result<(), String> {
        self.latency.add(&other.latency).map_err(|e| e.to_string())?;
        self.lag.add(&other.lag).map_err(|e| e.to_string())?;
        self.sent += other.sent;
        self.ok += other.ok;
        for (code, count) in &other.errors {
            *self.errors.entry(code.clone()).or_default() += count;
        }
        Ok(())
    }

    fn count(&mut self, result: Result<u16, std::io::Error>, latency: Duration) {
        self.sent += 1;
        match result {
            Ok(200) => {
                self.ok += 1;
                self.latency.saturating_record(nanoseconds(latency));
            }
            Ok(status) => *self.errors.entry(status.to_string()).or_default() += 1,
            Err(_) => *self.errors.entry("connection".into()).or_default() += 1,
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// Send times from 0 to `duration` at `rate` a second.
pub fn schedule(rate: f64, duration: f64, arrival: Arrival, seed: u64) -> Vec<Duration> {
    let mut random = Random::new(seed);
    let mut times = Vec::new();
    let mut at = 0.0;
    loop {
        at += match arrival {
            Arrival::Steady => 1.0 / rate,
            Arrival::Poisson => -(1.0 - random.unit()).ln() / rate,
        };
        if at >= duration {
            return times;
        }
        times.push(Duration::from_secs_f64(at));
    }
}

/// Sends at the scheduled times, on as many connections as are needed up to `connections`; where all are busy, a request
/// goes out late and its wait counts. What was due before `warmup` is not recorded.
pub fn open_loop(
    address: SocketAddr,
    requests: &[Vec<u8>],
    times: &[Duration],
    warmup: Duration,
    connections: usize,
) -> Result<Outcome, String> {
    let next = AtomicUsize::new(0);
    let start = Instant::now() + Duration::from_millis(20);
    let sender = || -> Result<Outcome, String> {
        precise_sleep();
        let mut outcome = Outcome::new()?;
        let mut client = Client::connect(address).ok();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(time) = times.get(index) else { return Ok(outcome) };
            let due = start + *time;
            let free = Instant::now();
            thread::sleep(due.saturating_duration_since(free));
            let sent = Instant::now();
            let result = call(&mut client, address, &requests[index % requests.len()]);
            if *time < warmup {
                continue;
            }
            outcome.count(result, due.elapsed());
            if free <= due {
                outcome.lag.saturating_record(nanoseconds(sent - due));
            }
        }
    };
    let mut outcome = gather(connections.min(times.len()).max(1), sender)?;
    outcome.elapsed = times.last().copied().unwrap_or_default().saturating_sub(warmup);
    Ok(outcome)
}

/// Each of `connections` sends its next request when the last is answered, for `duration`.
pub fn closed_loop(
    address: SocketAddr,
    requests: &[Vec<u8>],
    duration: Duration,
    connections: usize,
) -> Result<Outcome, String> {
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    let sender = || -> Result<Outcome, String> {
        let mut outcome = Outcome::new()?;
        let mut client = Client::connect(address).ok();
        while begin.elapsed() < duration {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let sent = Instant::now();
            let result = call(&mut client, address, &requests[index % requests.len()]);
            if result.is_err() {
                thread::sleep(Duration::from_millis(10));
            }
            outcome.count(result, sent.elapsed());
        }
        Ok(outcome)
    };
    let mut outcome = gather(connections, sender)?;
    outcome.elapsed = begin.elapsed();
    Ok(outcome)
}

fn call(client: &mut Option<Client>, address: SocketAddr, request: &[u8]) -> std::io::Result<u16> {
    if client.is_none() {
        *client = Some(Client::connect(address)?);
    }
    let result = client.as_mut().map_or_else(|| Err(std::io::ErrorKind::NotConnected.into()), |c| c.call(request));
    if result.is_err() {
        *client = None;
    }
    Ok(result?.status)
}

/// Runs `sender` on so many threads and adds up what they saw.
fn gather(threads: usize, sender: impl Fn() -> Result<Outcome, String> + Sync) -> Result<Outcome, String> {
    let mut total = Outcome::new()?;
    thread::scope(|scope| {
        let handles: Vec<_> =
            (0..threads).map(|_| thread::Builder::new().stack_size(STACK).spawn_scoped(scope, &sender)).collect();
        for handle in handles {
            let handle = handle.map_err(|e| format!("a thread for the load: {e}"))?;
            total.add(&handle.join().map_err(|_| "a sender panicked")??)?;
        }
        Ok(total)
    })
}

/// Asks the kernel to wake this thread within a microsecond of its time instead of fifty.
fn precise_sleep() {
    // Where it is not granted the lag is larger, and the lag is measured.
    let _ = std::fs::write("/proc/thread-self/timerslack_ns", "1000");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schedules_have_the_rate_and_repeat() {
        let steady = schedule(100.0, 2.0, Arrival::Steady, 0);
        assert!((198..=200).contains(&steady.len()));
        let poisson = schedule(1000.0, 10.0, Arrival::Poisson, 3);
        assert!((9_500..10_500).contains(&poisson.len()));
        assert!(poisson.windows(2).all(|w| w[0] <= w[1]));
        assert_eq!(poisson, schedule(1000.0, 10.0, Arrival::Poisson, 3));
        assert_ne!(poisson, schedule(1000.0, 10.0, Arrival::Poisson, 4));
    }
}
