//! The clocks of one life of a process: they start anywhere, run fast or slow, and the wall clock jumps.

use crate::paxos::Now;

#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// What the monotonic clock showed when this life began, and when that was.
    origin_us: u64,
    begun_us: u64,
    /// How much too fast it runs, in parts per million.
    drift_ppm: i64,
    /// What the wall clock shows beyond the true time.
    pub wall_ahead_us: i64,
}

const MILLION: i64 = 1_000_000;

impl Clock {
    pub fn new(now_us: u64, origin_us: u64, drift_ppm: i64, wall_ahead_us: i64) -> Clock {
        assert!(-MILLION < drift_ppm);
        Clock { origin_us, begun_us: now_us, drift_ppm, wall_ahead_us }
    }

    pub fn read(&self, now_us: u64) -> Now {
        let elapsed = (now_us - self.begun_us) as i64;
        let shown = elapsed + elapsed * self.drift_ppm / MILLION;
        let wall_us = (now_us as i64).saturating_add(self.wall_ahead_us).max(0);
        Now { mono_us: self.origin_us + shown as u64, wall_us: wall_us as u64 }
    }

    /// True microseconds until the monotonic clock shows `mono_us`.
    pub fn until(&self, now_us: u64, mono_us: u64) -> u64 {
        let shown = mono_us.saturating_sub(self.read(now_us).mono_us);
        (shown * MILLION as u64).div_ceil((MILLION + self.drift_ppm) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A deadline is reached when its time has been waited for, whatever the drift: or a node would be
    /// woken early for ever.
    #[test]
    fn a_deadline_is_reached_in_time() {
        for drift_ppm in [-300_000, -7, 0, 3, 50_000] {
            let clock = Clock::new(17, 1 << 40, drift_ppm, -5);
            for in_us in [1u64, 10, 99_999, 12_345_678] {
                let mono_us = clock.read(1000).mono_us + in_us;
                let at_us = 1000 + clock.until(1000, mono_us);
                let early_us = mono_us.saturating_sub(clock.read(at_us).mono_us);
                assert!(early_us <= 1, "{drift_ppm} ppm, {in_us} us: {early_us} us early");
            }
        }
    }
}
