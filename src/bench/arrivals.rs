//! When operations are meant to start: the clock of an open loop.
//!
//! An arrival that finds no free connection waits, and its latency counts from when it was meant to
//! start. So a cluster that stalls cannot hide that by slowing the load down (coordinated omission).
//! The queue of waiting arrivals takes no memory: they are made when they are taken.

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use rand_distr::Exp1;

use super::options::Spacing;

pub struct Arrivals {
    spacing: Spacing,
    mean_ns: f64,
    start_ns: u64,
    end_ns: u64,
    /// The next one, after `start_ns`; in f64, so that rounding does not add up.
    next_offset_ns: f64,
    rng: Xoshiro256PlusPlus,
}

impl Arrivals {
    /// `rate` operations a second in `start_ns..end_ns`.
    pub fn new(spacing: Spacing, rate: f64, start_ns: u64, end_ns: u64, seed: u64) -> Arrivals {
        assert!(0.0 < rate, "the options are checked");
        let mut arrivals = Arrivals {
            spacing,
            mean_ns: 1e9 / rate,
            start_ns,
            end_ns,
            next_offset_ns: 0.0,
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
        };
        arrivals.advance();
        arrivals
    }

    /// When the next operation is meant to start; `None` after the last.
    pub fn next_ns(&self) -> Option<u64> {
        let at_ns = self.start_ns + self.next_offset_ns as u64;
        (at_ns < self.end_ns).then_some(at_ns)
    }

    /// Takes the next arrival if it is due.
    pub fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let at_ns = self.next_ns().filter(|&at_ns| at_ns <= now_ns)?;
        self.advance();
        Some(at_ns)
    }

    /// How many are due and not taken: the backlog. At the end, what never started.
    pub fn count_due(mut self, now_ns: u64) -> u64 {
        let mut count = 0;
        while self.take_due(now_ns).is_some() {
            count += 1;
        }
        count
    }

    fn advance(&mut self) {
        self.next_offset_ns += match self.spacing {
            Spacing::Uniform => self.mean_ns,
            Spacing::Poisson => self.mean_ns * self.rng.sample::<f64, _>(Exp1),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn uniform_arrivals_are_even() {
        let mut arrivals = Arrivals::new(Spacing::Uniform, 1000.0, 5 * SECOND, 6 * SECOND, 1);
        assert_eq!(arrivals.take_due(5 * SECOND), None);
        assert_eq!(arrivals.next_ns(), Some(5 * SECOND + 1_000_000));
        assert_eq!(arrivals.take_due(5 * SECOND + 2_500_000), Some(5 * SECOND + 1_000_000));
        assert_eq!(arrivals.take_due(5 * SECOND + 2_500_000), Some(5 * SECOND + 2_000_000));
        assert_eq!(arrivals.take_due(5 * SECOND + 2_500_000), None);
        assert_eq!(arrivals.count_due(u64::MAX), 997, "the one at the end is outside");
    }

    /// A stall loses no arrival and moves none: all that fell into it are due behind it.
    #[test]
    fn a_stall_drops_nothing() {
        let make = || Arrivals::new(Spacing::Poisson, 10_000.0, 0, 10 * SECOND, 7);
        let all = make().count_due(u64::MAX);
        assert!((98_000..102_000).contains(&all), "{all} of 100000 +- 6 sigma");

        let mut stalled = make();
        let before = std::iter::from_fn(|| stalled.take_due(3 * SECOND)).count() as u64;
        let after = stalled.count_due(u64::MAX);
        assert_eq!(before + after, all);
    }

    /// Poisson: the standard deviation of the gaps is their mean.
    #[test]
    fn poisson_gaps_are_exponential() {
        let mut arrivals = Arrivals::new(Spacing::Poisson, 1000.0, 0, 100 * SECOND, 3);
        let times: Vec<u64> = std::iter::from_fn(|| arrivals.take_due(u64::MAX)).collect();
        let gaps: Vec<f64> = times.windows(2).map(|w| (w[1] - w[0]) as f64).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|g| (g - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.05);
    }
}
