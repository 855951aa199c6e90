//! What is sent when: rates, bursts, arrivals, and how many rows a request has.

use std::str::FromStr;

use serde_json::{Value, json};

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

/// `factor` times the rate for the first `duration` of each period of `every` seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Burst {
    pub factor: f64,
    pub duration: f64,
    pub every: f64,
}

impl FromStr for Burst {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers: Option<Vec<f64>> = text.split(':').map(|part| part.parse().ok()).collect();
        let Some([factor, duration, every]) = numbers.as_deref() else {
            return Err("expected FACTOR:DURATION:EVERY, like 4:10:60".into());
        };
        let (factor, duration, every) = (*factor, *duration, *every);
        if !(factor > 0.0 && factor <= 1e6) {
            return Err(format!("the factor must be above 0 and at most 1000000, not {factor}"));
        }
        if !(duration > 0.0 && duration < every && every <= 3600.0) {
            return Err("a burst must be longer than 0 s and shorter than its period, of at most 3600 s".into());
        }
        Ok(Burst { factor, duration, every })
    }
}

/// How many rows a request has: `low..=high`, each number equally likely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Items {
    pub low: usize,
    pub high: usize,
}

impl FromStr for Items {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<usize>().ok().filter(|n| (1..=65536).contains(n));
        let (low, high) = text.split_once("..").unwrap_or((text, text));
        match (number(low), number(high)) {
            (Some(low), Some(high)) if low <= high => Ok(Items { low, high }),
            _ => Err("expected LO..HI with 1 <= LO <= HI <= 65536".into()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Mode {
    /// Requests come when they come, answered or not.
    Open { rate: f64, arrival: Arrival, burst: Option<Burst> },
    /// Each connection sends its next request when the last is answered.
    Closed { connections: usize },
}

impl Mode {
    /// Most requests that `seconds` of this can be; None: as many as are answered.
    pub fn most(&self, warmup: f64, seconds: f64) -> Option<f64> {
        match self {
            Mode::Closed { .. } => None,
            Mode::Open { rate, burst, .. } => {
                let more = burst.map_or(0.0, |b| (b.factor - 1.0) * b.duration);
                Some((rate * (warmup + seconds + more)).ceil() + 2.0)
            }
        }
    }

    /// The load's members that say when requests come.
    pub fn to_json(self) -> Value {
        match self {
            Mode::Open { rate, arrival, burst } => json!({
                "mode": "open", "rate": rate, "connections": null, "arrival": arrival.name(),
                "burst": burst.map(|b| json!({"factor": b.factor, "duration_s": b.duration, "every_s": b.every})),
            }),
            Mode::Closed { connections } => {
                json!({"mode": "closed", "rate": null, "connections": connections, "arrival": null, "burst": null})
            }
        }
    }
}

/// Send times of a block of the open loop, in nanoseconds from its start, and how many of them are of the warm-up: that runs
/// at the plain rate, and what is measured begins after it.
pub fn schedule(
    rate: f64,
    arrival: Arrival,
    burst: Option<Burst>,
    warmup: f64,
    seconds: f64,
    random: &mut Random,
) -> (Vec<u64>, usize) {
    let mut times = arrivals(rate, arrival, 0.0, warmup, random);
    let warm = times.len();
    match burst {
        None => times.extend(arrivals(rate, arrival, warmup, seconds, random)),
        Some(Burst { factor, duration, every }) => {
            times.extend(arrivals(rate * factor, arrival, warmup, duration, random));
            times.extend(arrivals(rate, arrival, warmup + duration, every - duration, random));
        }
    }
    (times, warm)
}

/// Times within `seconds` from `from`, in order: rate × seconds of them, where that is no whole number one more or less so that
/// the mean is. Poisson: a Poisson process given its count is that many uniform times, sorted (Ross, Stochastic Processes,
/// 2nd edition, theorem 2.3.1).
fn arrivals(rate: f64, arrival: Arrival, from: f64, seconds: f64, random: &mut Random) -> Vec<u64> {
    let phase = random.unit();
    let count = (rate * seconds - phase).ceil().max(0.0) as usize;
    let nanoseconds = |at: f64| ((from + at.min(seconds)) * 1e9) as u64;
    match arrival {
        Arrival::Steady => (0..count).map(|k| nanoseconds((k as f64 + phase) / rate)).collect(),
        Arrival::Poisson => {
            let mut times: Vec<u64> = (0..count).map(|_| nanoseconds(random.unit() * seconds)).collect();
            times.sort_unstable();
            times
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(rate: f64, arrival: Arrival, seconds: f64, seed: u64) -> Vec<u64> {
        schedule(rate, arrival, None, 0.0, seconds, &mut Random::new(seed)).0
    }

    #[test]
    fn schedules_have_exactly_the_rate_and_repeat() {
        for arrival in [Arrival::Poisson, Arrival::Steady] {
            for seed in 0..50 {
                let times = plain(1000.0, arrival, 3.0, seed);
                assert_eq!(times.len(), 3000);
                assert!(times.windows(2).all(|w| w[0] <= w[1]) && times[2999] < 3_000_000_000);
                assert_eq!(times, plain(1000.0, arrival, 3.0, seed));
                assert_ne!(times, plain(1000.0, arrival, 3.0, seed + 1));
            }
        }
    }

    #[test]
    fn counts_that_are_not_whole_are_right_in_the_mean() {
        for arrival in [Arrival::Poisson, Arrival::Steady] {
            let counts: Vec<usize> = (0..20_000).map(|seed| plain(0.7, arrival, 3.0, seed).len()).collect();
            assert!(counts.iter().all(|n| [2, 3].contains(n)));
            let mean = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
            assert!((mean - 2.1).abs() < 0.01, "{mean}"); // the standard error is 0.002
        }
    }

    #[test]
    fn steady_arrivals_are_equally_far_apart() {
        let times = plain(200.0, Arrival::Steady, 1.0, 4);
        assert!(times.windows(2).all(|w| (w[1] - w[0]).abs_diff(5_000_000) <= 1));
    }

    #[test]
    fn gaps_of_poisson_arrivals_are_exponential() {
        let times = plain(1000.0, Arrival::Poisson, 100.0, 5);
        let gaps: Vec<f64> = times.windows(2).map(|w| (w[1] - w[0]) as f64 / 1e6).collect();
        let beyond = |at: f64| gaps.iter().filter(|gap| **gap > at).count() as f64 / gaps.len() as f64;
        for at in [0.1, 1.0, 3.0] {
            assert!((beyond(at) - (-at).exp()).abs() < 0.01, "{at}"); // three standard errors are under 0.005
        }
    }

    #[test]
    fn bursts_come_first_and_the_warm_up_has_the_plain_rate() {
        let burst = Burst { factor: 4.0, duration: 0.5, every: 2.0 };
        let (times, warm) = schedule(100.0, Arrival::Poisson, Some(burst), 1.0, 2.0, &mut Random::new(1));
        assert_eq!((warm, times.len()), (100, 100 + 200 + 150));
        let within = |from: u64, to: u64| times.iter().filter(|t| (from..to).contains(t)).count();
        assert_eq!(within(1_000_000_000, 1_500_000_000), 200);
        assert_eq!(within(1_500_000_000, 3_000_000_000), 150);
        assert_eq!(
            Mode::Open { rate: 100.0, arrival: Arrival::Steady, burst: Some(burst) }.most(1.0, 2.0),
            Some(452.0)
        );
    }

    #[test]
    fn arguments_are_read_or_refused_with_what_was_expected() {
        assert_eq!("4:10:60".parse(), Ok(Burst { factor: 4.0, duration: 10.0, every: 60.0 }));
        for text in
            ["", "4", "4:10", "0:1:2", "4:2:2", "4:-1:2", "nan:1:2", "4:1:inf", "inf:1:2", "4:1:9999", "4:1:2:3"]
        {
            assert!(text.parse::<Burst>().is_err(), "{text}");
        }
        assert_eq!("1..16".parse(), Ok(Items { low: 1, high: 16 }));
        assert_eq!("3".parse(), Ok(Items { low: 3, high: 3 }));
        for text in ["", "0..1", "2..1", "1...3", "-1..3", "1..65537", "1..", "a..b"] {
            assert!(text.parse::<Items>().is_err(), "{text}");
        }
    }
}
