//! Many seeds on all cores, and what came of them.
// What people wait for passes in real time.
#![allow(clippy::disallowed_methods)]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use super::coverage::Coverage;
use super::plan::{Fixed, Plan};
use super::run::{Outcome, Run};

#[derive(Clone, Debug)]
pub struct Batch {
    pub first: u64,
    pub seeds: u64,
    pub threads: usize,
    pub fixed: Fixed,
    /// No seed is begun after this time.
    pub time_max: Option<Duration>,
    /// No seed is begun after so many have failed.
    pub failures_max: usize,
}

/// What many runs came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub seeds: u64,
    pub coverage: Coverage,
    pub acked: u64,
    pub chosen: u64,
    pub operations: u64,
    pub happenings: u64,
    pub virtual_us: u64,
    pub real: Duration,
    /// Election timeouts until all was well again, and until a node that reaches a quorum was served; each
    /// with its seed.
    pub recoveries: Vec<(f64, u64)>,
    pub hubs: Vec<(f64, u64)>,
    /// Seeds and what they failed with, by seed.
    pub failed: Vec<(u64, String)>,
}

impl Report {
    fn add(&mut self, seed: u64, outcome: &Outcome) {
        self.coverage.add(&outcome.coverage);
        self.acked += outcome.acked;
        self.chosen += outcome.chosen;
        self.operations += outcome.operations;
        self.happenings += outcome.happenings;
        self.virtual_us += outcome.virtual_us;
        self.recoveries.push((outcome.recovery, seed));
        self.hubs.extend(outcome.hub.map(|hub| (hub, seed)));
    }
}

/// Plays one plan, without a trace. `Err` says which rule it broke.
///
/// Where panics abort the process (the release profile) there is no `Err`.
pub fn play(plan: Plan) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| Run::new(plan, 0, false).go()))
        .map_err(|panic| text_of(&*panic))
}

pub fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

impl Batch {
    /// Runs the seeds; `progress` hears of the report so far after each.
    pub fn run(&self, progress: &mut dyn FnMut(&Report)) -> Report {
        let begun = Instant::now();
        let (next, stop) = (AtomicU64::new(self.first), AtomicBool::new(false));
        let mut report = Report::default();
        let (told, hear) = channel();
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                let told = told.clone();
                let (next, stop) = (&next, &stop);
                scope.spawn(move || self.work(next, stop, begun, &told));
            }
            drop(told);
            for (seed, result) in hear {
                report.seeds += 1;
                match result {
                    Ok(outcome) => report.add(seed, &outcome),
                    Err(what) => report.failed.push((seed, what)),
                }
                if self.failures_max <= report.failed.len() {
                    stop.store(true, Ordering::Relaxed);
                }
                report.real = begun.elapsed();
                progress(&report);
            }
        });
        report.failed.sort();
        let by_time = |a: &(f64, u64), b: &(f64, u64)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
        report.recoveries.sort_by(by_time);
        report.hubs.sort_by(by_time);
        report.real = begun.elapsed();
        report
    }

    fn work(
        &self,
        next: &AtomicU64,
        stop: &AtomicBool,
        begun: Instant,
        told: &Sender<(u64, Result<Outcome, String>)>,
    ) {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let late = self.time_max.is_some_and(|time_max| time_max <= begun.elapsed());
            let last = self.first.saturating_add(self.seeds);
            if late || stop.load(Ordering::Relaxed) || last <= seed {
                return;
            }
            SEED.set(seed);
            let result = play(Plan::draw(seed, &self.fixed));
            if told.send((seed, result)).is_err() {
                return;
            }
        }
    }
}

thread_local! {
    /// The seed that this thread plays.
    static SEED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
}

/// Panics of runs are results and not printed; where they abort the process, the seed is named.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| {
        if cfg!(panic = "abort") {
            match SEED.get() {
                0 => eprintln!("{info}"),
                seed => eprintln!("seed {seed}: {info}"),
            }
            eprintln!(
                "for what led to it, build with --profile sim: this build ends where a rule breaks"
            );
        }
    }));
}
