//! What others take from a measurement. What cannot be read is unknown: `None`, never 0.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::thread::set_current_timer_slack;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

use super::placement::{Placement, confine};
use super::sockets::now;

/// How long the machine is looked at before the first block.
const BEFORE: u64 = 300_000_000;

/// The kernel's counters at one moment.
pub struct Sample {
    at: u64,
    /// Of the server's CPUs: seconds in processes, and seconds stolen.
    cpus: Option<(f64, f64)>,
    /// Seconds in which some task waited for a CPU.
    pressure: Option<f64>,
    /// Processor seconds of the server.
    server: Option<f64>,
    /// Processor seconds of this process.
    generator: f64,
}

pub fn sample(cpus: &[usize], server: Option<u32>) -> Sample {
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let read = |path: &str| std::fs::read_to_string(path).ok();
    Sample {
        at: now(),
        cpus: read("/proc/stat")
            .and_then(|text| cpu_ticks(&text, cpus))
            .map(|(b, s)| (b as f64 / ticks, s as f64 / ticks)),
        pressure: read("/proc/pressure/cpu").and_then(|text| some_total(&text)).map(|us| us as f64 / 1e6),
        server: server
            .and_then(|pid| read(&format!("/proc/{pid}/stat")))
            .and_then(|text| process_ticks(&text))
            .map(|n| n as f64 / ticks),
        generator: cpu_time().as_secs_f64(),
    }
}

/// What happened between two samples: processor seconds a second, and shares of time.
pub struct Noise {
    pub server_cpu: Option<f64>,
    pub generator_cpu: f64,
    pub foreign: Option<f64>,
    pub steal: Option<f64>,
    pub pressure: Option<f64>,
}

/// `has_server`: a server ran between; what it took cannot be told from others' where that is not known.
pub fn between(from: &Sample, to: &Sample, placement: &Placement, has_server: bool) -> Noise {
    let time = (to.at.saturating_sub(from.at) as f64 / 1e9).max(1e-9);
    let rate = |from: Option<f64>, to: Option<f64>| Some(((to? - from?) / time).max(0.0));
    let server_cpu = rate(from.server, to.server);
    let generator_cpu = (to.generator - from.generator) / time;
    let busy = rate(from.cpus.map(|c| c.0), to.cpus.map(|c| c.0));
    let steal = rate(from.cpus.map(|c| c.1), to.cpus.map(|c| c.1));
    let is_there = placement.generator.iter().any(|cpu| placement.server.contains(cpu));
    let own = if has_server { server_cpu } else { Some(0.0) }.map(|s| if is_there { s + generator_cpu } else { s });
    Noise {
        server_cpu,
        generator_cpu,
        foreign: busy.zip(own).map(|(busy, own)| (busy - own).max(0.0)),
        steal: steal.map(|s| s / placement.server.len() as f64),
        pressure: rate(from.pressure, to.pressure),
    }
}

/// The machine at rest: how much later than asked this thread wakes on the server's CPUs, and what others take there.
pub fn before(placement: &Placement) -> Result<Value, String> {
    const STEP: Duration = Duration::from_millis(1);
    let from = sample(&placement.server, None);
    let own = cpu_time();
    let mut late: Vec<u64> = Vec::new();
    let share = BEFORE / placement.server.len() as u64;
    for cpu in &placement.server {
        confine(&[*cpu])?;
        wakes_precisely(true);
        let end = now() + share;
        while now() < end {
            let begin = now();
            std::thread::sleep(STEP);
            late.push((now() - begin).saturating_sub(STEP.as_nanos() as u64));
        }
        wakes_precisely(false);
    }
    let to = sample(&placement.server, None);
    let own = (cpu_time() - own).as_secs_f64() / ((to.at - from.at) as f64 / 1e9);
    confine(&placement.generator)?;
    let alone = Placement { server: placement.server.clone(), generator: vec![], shared: false };
    let noise = between(&from, &to, &alone, false);
    Ok(json!({
        "jitter_p99_s": quantile(&mut late, 0.99).map(|ns| ns as f64 / 1e9),
        "steal": noise.steal,
        "foreign": noise.foreign.map(|f| (f - own).max(0.0)),
        "pressure": noise.pressure,
    }))
}

/// Has the kernel wake this thread within a microsecond of its time, or within the usual fifty. A server is never started with
/// it: what a thread starts inherits it.
fn wakes_precisely(precisely: bool) {
    // Where it is refused the wake-ups are later, and how late is measured.
    let _ = set_current_timer_slack(if precisely { NonZeroU64::new(1000) } else { None });
}

/// The least value that at least so large a share of all reaches no further than.
pub fn quantile(values: &mut [u64], share: f64) -> Option<u64> {
    let at = ((values.len() as f64 * share).ceil() as usize).clamp(1, values.len().max(1)) - 1;
    if values.is_empty() { None } else { Some(*values.select_nth_unstable(at).1) }
}

/// Processor time of this process.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Ticks of `cpus` in processes and stolen, from /proc/stat. Time in interrupts is nobody's: much of it is the load's own
/// packets, which some kernels count for the process and some do not.
fn cpu_ticks(stat: &str, cpus: &[usize]) -> Option<(u64, u64)> {
    let mut sum = (0, 0);
    for cpu in cpus {
        let name = format!("cpu{cpu}");
        let mut line = stat.lines().map(str::split_ascii_whitespace).find_map(|mut words| {
            (words.next() == Some(name.as_str())).then(|| words.map(|n| n.parse().ok()).collect::<Option<Vec<u64>>>())
        })??;
        line.resize(8, 0);
        // user, nice, system, idle, iowait, irq, softirq, steal
        sum.0 += line[0] + line[1] + line[2];
        sum.1 += line[7];
    }
    Some(sum)
}

/// `some … total=N` of /proc/pressure/cpu, in microseconds.
fn some_total(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    line.split_ascii_whitespace().find_map(|word| word.strip_prefix("total="))?.parse().ok()
}

/// utime + stime of /proc/PID/stat: of all threads, those that ended too.
fn process_ticks(stat: &str) -> Option<u64> {
    // The name, in parentheses, may have any characters.
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_and_what_is_not_there_is_unknown() {
        let stat = "cpu  9 9 9 9\ncpu0 10 2 3 400 5 6 7 8 0 0\ncpu1 1 1 1 1 1 1 1 1\ncpu10 5 5 5\nintr 5 0\n";
        assert_eq!(cpu_ticks(stat, &[0]), Some((15, 8)));
        assert_eq!(cpu_ticks(stat, &[0, 1]), Some((18, 9)));
        assert_eq!(cpu_ticks(stat, &[10]), Some((15, 0)));
        assert_eq!(cpu_ticks(stat, &[2]), None);
        assert_eq!(
            some_total("some avg10=0.17 avg60=0.18 avg300=2.42 total=73651\nfull avg10=0 total=1\n"),
            Some(73651)
        );
        assert_eq!(some_total("full total=1\n"), None);
        assert_eq!(process_ticks("12 (a) b (c) S 1 1 1 0 -1 4 0 0 0 0 7 5 0 0 20 0"), Some(12));
        assert_eq!(process_ticks("12"), None);
    }

    #[test]
    fn what_others_took_is_what_is_left_and_never_below_nothing() {
        let at =
            |at, busy, server, generator| Sample { at, cpus: Some((busy, 0.0)), pressure: None, server, generator };
        let apart = Placement { server: vec![0], generator: vec![1], shared: false };
        let shared = Placement { server: vec![0], generator: vec![0], shared: true };
        let (from, to) = (at(0, 0.0, Some(0.0), 0.0), at(2_000_000_000, 1.0, Some(0.5), 0.2));
        let noise = between(&from, &to, &apart, true);
        assert_eq!((noise.server_cpu, noise.foreign, noise.pressure), (Some(0.25), Some(0.25), None));
        assert!((between(&from, &to, &shared, true).foreign.unwrap() - 0.15).abs() < 1e-9);
        let unknown = at(2_000_000_000, 1.0, None, 0.2);
        assert_eq!(between(&from, &unknown, &apart, true).foreign, None);
        assert_eq!(between(&from, &at(1_000_000_000, 0.1, Some(0.5), 0.0), &apart, true).foreign, Some(0.0));
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let mut values: Vec<u64> = (1..=200).rev().collect();
        assert_eq!((quantile(&mut values, 0.99), quantile(&mut values, 1.0)), (Some(198), Some(200)));
        assert_eq!((quantile(&mut [7], 0.99), quantile(&mut [], 0.5)), (Some(7), None));
    }
}
