//! What the machine itself can do: `loggos bench disk` and `loggos bench network`. No cluster is faster than
//! these let it be, so they belong beside every figure of one.

pub mod disk;
pub mod network;

use hdrhistogram::Histogram;

use crate::trace::monotonic_ns;

/// How long one operation after the other took.
#[derive(Clone, Debug)]
pub struct Timed {
    pub operations: u64,
    pub seconds: f64,
    pub p50_us: f64,
    pub p99_us: f64,
}

impl Timed {
    /// Per second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }
}

/// Operations that take longer are counted as long as this, in nanoseconds.
const LONGEST_NS: u64 = 60_000_000_000;

/// Times of operations, each begun when the one before has ended.
struct Clock {
    begun_ns: u64,
    last_ns: u64,
    /// In nanoseconds.
    times: Histogram<u64>,
}

impl Clock {
    fn start() -> Clock {
        let now_ns = monotonic_ns();
        let times = Histogram::new_with_max(LONGEST_NS, 3).expect("the bounds make sense");
        Clock { begun_ns: now_ns, last_ns: now_ns, times }
    }

    /// An operation has ended. Returns how long they have lasted together, in nanoseconds.
    fn lap(&mut self) -> u64 {
        let now_ns = monotonic_ns();
        self.times.saturating_record(now_ns - self.last_ns);
        self.last_ns = now_ns;
        now_ns - self.begun_ns
    }

    fn add(&mut self, other: &Clock) {
        self.times.add(&other.times).expect("it grows as it must");
        self.last_ns = self.last_ns.max(other.last_ns);
        self.begun_ns = self.begun_ns.min(other.begun_ns);
    }

    fn timed(&self) -> Timed {
        let quantile = |q| self.times.value_at_quantile(q) as f64 / 1000.0;
        Timed {
            operations: self.times.len(),
            seconds: (self.last_ns - self.begun_ns) as f64 / 1e9,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
        }
    }
}
