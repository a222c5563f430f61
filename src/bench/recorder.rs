//! What is measured: counts, latency histograms, a series of windows, and the longest silence.
//!
//! An operation counts where it ends, from the end of the warm-up on. Latency is from the intended
//! start. An operation that was in flight when the time was over still counts in the histograms (or
//! the slowest would be missing), but not in the throughput.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::trace::{Operation, OperationOutcome};

/// Length of a window of the series in the JSON.
pub const WINDOW_NS: u64 = 100_000_000;

const LATENCY_US_MAX: u64 = 3_600_000_000;

/// Counts by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub ok: u64,
    pub refused: u64,
    pub failed: u64,
    pub unknown: u64,
}

impl Counts {
    fn add(&mut self, outcome: OperationOutcome) {
        *match outcome {
            OperationOutcome::Ok => &mut self.ok,
            OperationOutcome::Refused => &mut self.refused,
            OperationOutcome::Failed => &mut self.failed,
            OperationOutcome::Unknown => &mut self.unknown,
        } += 1;
    }

    pub fn not_ok(&self) -> u64 {
        self.refused + self.failed + self.unknown
    }
}

/// Reads or writes: how many ended how, and how long the successful ones took.
pub struct Class {
    pub counts: Counts,
    /// Microseconds.
    pub latency: Histogram<u64>,
}

/// A part of the measured time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// Its begin, after the begin of the measuring.
    pub t_ms: u64,
    pub ok: u64,
    pub failed: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub mean_us: f64,
}

pub struct Recorder {
    pub begin_ns: u64,
    pub end_ns: u64,
    pub reads: Class,
    pub writes: Class,
    /// Successful operations that ended before the end.
    pub ok_in_time: u64,
    pub windows: Vec<Window>,
    window: Part,
    interval: Part,
    interval_ns: u64,
    last_ok_ns: u64,
    /// Longest time between two successful replies, and when it began.
    pub gap_ns: u64,
    pub gap_start_ns: u64,
}

/// A window or interval being filled.
struct Part {
    start_ns: u64,
    counts: Counts,
    latency: Histogram<u64>,
}

impl Recorder {
    /// Measures `begin_ns..end_ns`.
    pub fn new(begin_ns: u64, end_ns: u64, interval_ns: u64) -> Recorder {
        assert!(begin_ns < end_ns && 0 < interval_ns, "the options are checked");
        let class = || Class { counts: Counts::default(), latency: histogram() };
        Recorder {
            begin_ns,
            end_ns,
            reads: class(),
            writes: class(),
            ok_in_time: 0,
            windows: Vec::with_capacity(((end_ns - begin_ns) / WINDOW_NS) as usize + 1),
            window: Part::new(begin_ns),
            interval: Part::new(begin_ns),
            interval_ns,
            last_ok_ns: begin_ns,
            gap_ns: 0,
            gap_start_ns: begin_ns,
        }
    }

    /// An operation ended at `now_ns`; `roll` has been called up to then.
    pub fn end(
        &mut self,
        now_ns: u64,
        operation: Operation,
        outcome: OperationOutcome,
        intended_ns: u64,
    ) {
        if now_ns < self.begin_ns {
            return;
        }
        let latency_us = now_ns.saturating_sub(intended_ns) / 1000;
        let class = if operation == Operation::Read { &mut self.reads } else { &mut self.writes };
        class.counts.add(outcome);
        if outcome == OperationOutcome::Ok {
            class.latency.saturating_record(latency_us);
        }
        if self.end_ns <= now_ns {
            return;
        }
        for part in [&mut self.window, &mut self.interval] {
            part.counts.add(outcome);
            if outcome == OperationOutcome::Ok {
                part.latency.saturating_record(latency_us);
            }
        }
        if outcome == OperationOutcome::Ok {
            self.ok_in_time += 1;
            self.close_gap(now_ns);
        }
    }

    /// Closes what has ended by `now_ns`. Returns the line of an interval that ended.
    pub fn roll(&mut self, now_ns: u64) -> Option<Window> {
        let now_ns = now_ns.min(self.end_ns);
        while self.window.start_ns + WINDOW_NS <= now_ns {
            let window = self.window.close(self.window.start_ns + WINDOW_NS, self.begin_ns);
            self.windows.push(window);
        }
        if now_ns < self.interval.start_ns + self.interval_ns {
            return None;
        }
        let mut line =
            self.interval.close(self.interval.start_ns + self.interval_ns, self.begin_ns);
        // A turn that took longer than an interval: the rest goes into the same line.
        while self.interval.start_ns + self.interval_ns <= now_ns {
            line = self.interval.close(self.interval.start_ns + self.interval_ns, self.begin_ns);
        }
        Some(line)
    }

    /// The measuring ends, at `end_ns` or before (interrupted).
    pub fn finish(&mut self, now_ns: u64) {
        self.roll(now_ns);
        self.end_ns = self.end_ns.min(now_ns).max(self.begin_ns + 1);
        if self.last_ok_ns < self.end_ns {
            self.close_gap(self.end_ns);
        }
    }

    /// Seconds measured.
    pub fn seconds(&self) -> f64 {
        (self.end_ns - self.begin_ns) as f64 / 1e9
    }

    /// Successful operations a second.
    pub fn throughput(&self) -> f64 {
        self.ok_in_time as f64 / self.seconds()
    }

    fn close_gap(&mut self, now_ns: u64) {
        let gap_ns = now_ns.saturating_sub(self.last_ok_ns);
        if self.gap_ns < gap_ns {
            (self.gap_ns, self.gap_start_ns) = (gap_ns, self.last_ok_ns);
        }
        self.last_ok_ns = now_ns;
    }
}

impl Part {
    fn new(start_ns: u64) -> Part {
        Part { start_ns, counts: Counts::default(), latency: histogram() }
    }

    fn close(&mut self, next_start_ns: u64, begin_ns: u64) -> Window {
        let window = Window {
            t_ms: (self.start_ns - begin_ns) / 1_000_000,
            ok: self.counts.ok,
            failed: self.counts.not_ok(),
            p50_us: quantile(&self.latency, 0.5),
            p99_us: quantile(&self.latency, 0.99),
            mean_us: self.latency.mean(),
        };
        self.start_ns = next_start_ns;
        self.counts = Counts::default();
        if !self.latency.is_empty() {
            self.latency.reset();
        }
        window
    }
}

/// Nanoseconds of an option.
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).expect("durations of the command line are below a day")
}

/// Processor time that this process has used, if the kernel tells. (One thread: its own.)
pub fn processor_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/schedstat").ok()?;
    text.split_whitespace().next()?.parse().ok()
}

/// Three significant digits, microseconds, up to an hour.
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).expect("the bounds are sound")
}

/// Microseconds; 0 if nothing was recorded.
pub fn quantile(histogram: &Histogram<u64>, quantile: f64) -> u64 {
    if histogram.is_empty() { 0 } else { histogram.value_at_quantile(quantile) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OperationOutcome::{Ok, Unknown};

    const SECOND: u64 = 1_000_000_000;
    const MS: u64 = 1_000_000;

    fn end(recorder: &mut Recorder, now_ns: u64, outcome: OperationOutcome, intended_ns: u64) {
        recorder.roll(now_ns);
        recorder.end(now_ns, Operation::Put, outcome, intended_ns);
    }

    /// Warm-up counts nowhere; the end cuts the throughput, not the latencies.
    #[test]
    fn what_counts_where() {
        let mut recorder = Recorder::new(SECOND, 3 * SECOND, SECOND);
        end(&mut recorder, SECOND - 1, Ok, 0);
        end(&mut recorder, SECOND, Ok, SECOND - MS);
        end(&mut recorder, 2 * SECOND, Unknown, SECOND);
        end(&mut recorder, 4 * SECOND, Ok, 2 * SECOND);
        recorder.finish(4 * SECOND);
        assert_eq!(recorder.writes.counts, Counts { ok: 2, unknown: 1, ..Counts::default() });
        assert_eq!(recorder.ok_in_time, 1);
        assert_eq!(recorder.throughput(), 0.5);
        assert_eq!(recorder.writes.latency.len(), 2);
        assert!(recorder.writes.latency.max() >= 2_000_000);
        assert_eq!(recorder.windows.len(), 20);
        assert_eq!((recorder.windows[0].ok, recorder.windows[10].failed), (1, 1));
        assert_eq!(recorder.windows[19].t_ms, 1900);
    }

    /// An outage is a gap, whether it lies between replies, before the first or behind the last.
    #[test]
    fn the_longest_gap() {
        let gap = |ends: &[u64]| {
            let mut recorder = Recorder::new(0, 10 * SECOND, SECOND);
            for &at in ends {
                end(&mut recorder, at, Ok, at);
            }
            recorder.finish(11 * SECOND);
            (recorder.gap_start_ns / MS, recorder.gap_ns / MS)
        };
        let busy = |from: u64, to: u64| (from..to).step_by(100 * MS as usize).collect::<Vec<_>>();
        assert_eq!(gap(&[]), (0, 10_000));
        assert_eq!(gap(&busy(3 * SECOND, 10 * SECOND)), (0, 3_000));
        assert_eq!(gap(&busy(0, 7 * SECOND + 1)), (7_000, 3_000));
        let mut both = busy(0, 2 * SECOND + 1);
        both.extend(busy(6 * SECOND, 10 * SECOND));
        assert_eq!(gap(&both), (2_000, 4_000));
    }

    #[test]
    fn intervals_make_lines() {
        let mut recorder = Recorder::new(0, 10 * SECOND, SECOND);
        end(&mut recorder, MS, Ok, 0);
        assert_eq!(recorder.roll(SECOND - 1), None);
        let line = recorder.roll(SECOND).unwrap();
        assert_eq!((line.t_ms, line.ok, line.p50_us), (0, 1, 1000));
        assert_eq!(recorder.roll(SECOND), None);
        assert_eq!(recorder.roll(2 * SECOND).unwrap().ok, 0, "nothing is carried over");
    }

    /// Interrupted: the rate is that of the time that was measured.
    #[test]
    fn an_early_end() {
        let mut recorder = Recorder::new(0, 10 * SECOND, SECOND);
        end(&mut recorder, SECOND, Ok, 0);
        recorder.finish(2 * SECOND);
        assert_eq!(recorder.throughput(), 0.5);
        assert_eq!(recorder.windows.len(), 20);
    }
}
