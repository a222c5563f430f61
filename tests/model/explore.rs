//! Explores a configuration to its end, or a broken one until it fails.

#![allow(dead_code)] // `main.rs` and `large.rs` each use a part of it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::cluster::{Action, Cluster, State};
use super::setup::{Bug, Setup};
use stateright::{Checker, HasDiscoveries, Model, Path};

pub const AGREEMENT: &str = "at most one value is chosen a slot";

/// What an exploration came to.
pub struct Explored {
    pub unique: usize,
    /// Sets of process states that occur together, whatever messages are on the way.
    pub together: usize,
}

/// Explores all of it, and holds it to its properties.
#[allow(clippy::disallowed_methods)] // The time is told to the reader and decides nothing.
pub fn explore(setup: Setup) -> Explored {
    let begin = Instant::now();
    let checker = Cluster::new(setup).checker().spawn_bfs().join();
    let model = checker.model();
    let (processes, messages, together) = {
        let table = model.table.lock().expect("nothing panicked");
        (table.processes(), table.envelopes().len(), table.together())
    };
    println!(
        "{}: {} unique states, {} generated, depth {}, {processes} process states, {together} sets \
         of them, {messages} messages, {} steps cut off, {:.1} s",
        setup.name,
        checker.unique_state_count(),
        checker.state_count(),
        checker.max_depth(),
        model.cut.load(Ordering::Relaxed),
        begin.elapsed().as_secs_f64(),
    );
    let mut failed = Vec::new();
    for property in model.properties() {
        let found = checker.discovery(property.name);
        let is_failure = property.expectation.discovery_is_failure();
        if let (true, Some(path)) = (is_failure, &found) {
            println!("{}", trace(model, path));
        }
        if found.is_some() == is_failure {
            failed.push(property.name);
        }
    }
    assert!(failed.is_empty(), "{}: does not hold: {failed:?}", setup.name);
    assert!(checker.is_done(), "{}: not all was explored", setup.name);
    Explored { unique: checker.unique_state_count(), together }
}

/// Explores a cluster that is broken on purpose until `property` is found not to hold.
#[allow(clippy::disallowed_methods)]
pub fn must_fail(setup: Setup, bug: Bug, property: &'static str) {
    let begin = Instant::now();
    let finish = HasDiscoveries::AllOf([property].into());
    let setup = Setup { bug: Some(bug), ..setup };
    let checker = Cluster::new(setup).checker().finish_when(finish).spawn_bfs().join();
    let model = checker.model();
    let path = checker.discovery(property);
    let path = path.unwrap_or_else(|| panic!("{bug:?} is not found by \"{property}\""));
    println!(
        "{bug:?}: \"{property}\" fails after {} steps; {} unique states, {:.1} s\n{}",
        path.clone().into_actions().len(),
        checker.unique_state_count(),
        begin.elapsed().as_secs_f64(),
        trace(model, &path),
    );
}

/// What failed first, and after how many steps: no counterexample of it is shorter.
pub struct Failure {
    pub property: &'static str,
    pub steps: usize,
}

/// Explores until anything fails.
pub fn failure(setup: Setup) -> Option<Failure> {
    let finish = HasDiscoveries::AnyFailures;
    let checker = Cluster::new(setup).checker().finish_when(finish).spawn_bfs().join();
    let failures = checker.model().properties().into_iter().filter_map(|property| {
        let path = checker.discovery(property.name)?;
        let is_failure = property.expectation.discovery_is_failure();
        is_failure.then(|| Failure { property: property.name, steps: path.into_actions().len() })
    });
    failures.min_by_key(|failure| failure.steps)
}

fn trace(model: &Cluster, path: &Path<State, Action>) -> String {
    let actions = path.clone().into_actions();
    actions.into_iter().map(|action| format!("  {}\n", model.describe(action))).collect()
}
