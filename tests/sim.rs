//! Seeds of the simulator (`loggos::sim`), and plans that are hard on the code.
//!
//! `make sim` runs more of them; `loggos-sim --seed N` tells what happens in one.

use std::fs;
use std::path::Path;

use loggos::sim::batch::{Batch, play};
use loggos::sim::plan::{Fixed, Plan};

/// Enough to reach each place that `Coverage` counts.
const SEEDS: u64 = 1000;

/// Whatever fails, no rule is broken, and once all is healed every replica serves reads and commands
/// again.
#[test]
fn seeds_break_no_rule_and_reach_every_place() {
    let batch = Batch {
        first: 1,
        seeds: SEEDS,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
        fixed: Fixed::default(),
        time_max: None,
        failures_max: 1,
    };
    let report = batch.run(&mut |_| ());
    assert_eq!(report.failed, [], "play it: loggos-sim --seed N");
    println!("{:?}", report.coverage.counts());
    let not_reached: Vec<&str> = report
        .coverage
        .counts()
        .into_iter()
        .filter(|(name, count)| *count == 0 && *name != "undecided histories")
        .map(|(name, _)| name)
        .collect();
    assert_eq!(not_reached, [""; 0]);
}

/// Each file of `tests/plans` is a run that failed once, made smaller: with a defect that the code had, or
/// with the mutant that it is named after.
#[test]
fn plans_that_failed_once_do_no_more() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plans");
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|it| it == "json"));
    paths.sort();
    assert!(!paths.is_empty());
    for path in paths {
        let plan: Plan = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let result = play(plan).map(|_| ());
        assert_eq!(result, Ok(()), "{}", path.display());
    }
}

/// The same seed twice, step by step: everything that could differ would show in these counts.
#[test]
fn a_seed_plays_the_same_again() {
    for seed in 1..6 {
        let plan = Plan::draw(seed, &Fixed { duration_us: Some(5_000_000), ..Fixed::default() });
        let outcome = || {
            let outcome = play(plan.clone()).unwrap();
            (outcome.happenings, outcome.acked, outcome.chosen, outcome.coverage.counts())
        };
        assert_eq!(outcome(), outcome());
    }
}
