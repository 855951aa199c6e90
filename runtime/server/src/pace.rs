//! How long the model takes, learned from its batches: so much for each batch, and so much for each unit of work in it (a
//! token, or a row where there are no tokens).
//!
//! With it a batch is made no larger than its earliest deadline allows, and under overload what could only come too late
//! makes room for what can still come in time. It never keeps the last waiting request from running, so that a wrong pace
//! is always corrected.

use std::time::Duration;

/// Weight of the newest batch.
const NEW: f64 = 0.1;

/// Below this share of the mean, the sizes of batches differ too little to tell a batch's own time from its units'.
const SPREAD: f64 = 0.05;

/// Weighted means over the last batches: of units, of seconds, and of what a line through them needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    units: f64,
    seconds: f64,
    squares: f64,
    products: f64,
    batches: u32,
}

impl Pace {
    pub fn learn(&mut self, units: usize, time: Duration) {
        if units == 0 {
            return;
        }
        let (units, seconds) = (units as f64, time.as_secs_f64());
        // At first the mean of what there is.
        self.batches = self.batches.saturating_add(1);
        let new = NEW.max(1.0 / f64::from(self.batches));
        let mix = |mean: &mut f64, value: f64| *mean += new * (value - *mean);
        mix(&mut self.units, units);
        mix(&mut self.seconds, seconds);
        mix(&mut self.squares, units * units);
        mix(&mut self.products, units * seconds);
    }

    /// Seconds of a batch, and of each unit in it: the line of least squares, neither below zero.
    fn line(self) -> (f64, f64) {
        if self.units == 0.0 {
            return (0.0, 0.0);
        }
        let whole = (0.0, self.seconds / self.units);
        let variance = self.squares - self.units * self.units;
        if variance < (SPREAD * self.units).powi(2) {
            return whole;
        }
        let each = ((self.products - self.units * self.seconds) / variance).max(0.0);
        let fixed = self.seconds - each * self.units;
        if fixed > 0.0 { (fixed, each) } else { whole }
    }

    /// Of so many batches with so many units in all.
    pub fn time(self, batches: f64, units: usize) -> Duration {
        let (fixed, each) = self.line();
        Duration::try_from_secs_f64(fixed * batches + each * units as f64).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(batches: &[(usize, u64)]) -> Pace {
        let mut pace = Pace::default();
        for (units, ms) in batches {
            pace.learn(*units, Duration::from_millis(*ms));
        }
        pace
    }

    fn ms(pace: Pace, batches: f64, units: usize) -> u128 {
        (pace.time(batches, units) + Duration::from_micros(500)).as_millis()
    }

    #[test]
    fn a_batchs_own_time_is_told_from_that_of_its_units() {
        let line: Vec<_> = (0..60).map(|n| (1 + n % 8 * 10, 100 + 2 * (1 + n as u64 % 8 * 10))).collect();
        assert_eq!(ms(learned(&line), 1.0, 1), 102);
        assert_eq!(ms(learned(&line), 3.0, 50), 400);
        let flat: Vec<_> = (0..60).map(|n| (1 + n % 8, 100)).collect();
        assert_eq!(ms(learned(&flat), 0.5, 4), 50);
    }

    #[test]
    fn batches_of_one_size_give_the_time_of_a_unit_and_nothing_is_known_of_none() {
        assert_eq!(ms(learned(&[(10, 40)]), 1.0, 5), 20);
        assert_eq!(ms(learned(&[(10, 40), (10, 60), (0, 1000)]), 1.0, 10), 50);
        assert_eq!(learned(&[]).time(7.0, 1000), Duration::ZERO);
        // More time for less work is noise: no time goes below zero.
        assert_eq!(ms(learned(&[(10, 60), (20, 30)]), 1.0, 1000), 45);
    }
}
