//! Model checking: the real nodes of `src/paxos`, in every order of events that small bounds allow.
//!
//! What is modelled, what is left out and why, and the sizes: `docs/model-checking.md`. The large
//! configurations are run by hand:
//!
//! ```sh
//! cargo test --release --test model -- --ignored --nocapture --test-threads 1
//! ```

mod cluster;
mod process;
mod setup;
mod table;

use std::sync::atomic::Ordering;
use std::time::Instant;

use cluster::{Action, Cluster, State};
use loggos::paxos::Slot;
use setup::{ACCEPTOR, ALL, Bug, LEADER_REPLICA, Setup, Sync};
use stateright::{Checker, HasDiscoveries, Model, Path};

/// Three nodes of all roles; two of them compete, once each, and each has a command from the start.
const TWO_BALLOTS: Setup = Setup {
    name: "two ballots, two commands",
    roles: &[ALL, ALL, ALL],
    phase1: None,
    phase2: None,
    window_slots: 2,
    competes: &[1, 1, 0],
    commands: &[1, 2],
    commands_early: true,
    forwards: false,
    learns: false,
    sync: Sync::InTheTurn,
    crashes: 0,
    ticks: 0,
    reconnects: 0,
    last_slot: Slot(4),
    drops_dead: true,
    bug: None,
};

const ONE_COMMAND: Setup =
    Setup { name: "two ballots, one command", commands: &[1], ..TWO_BALLOTS };

const TWO_LATE: Setup = Setup { commands_early: false, ..TWO_BALLOTS };

const LARGE: [Setup; 11] = [
    Setup { name: "commands at any time", ..TWO_LATE },
    Setup {
        name: "leaders and acceptors apart",
        roles: &[LEADER_REPLICA, LEADER_REPLICA, ACCEPTOR, ACCEPTOR, ACCEPTOR],
        competes: &[1, 1, 0, 0, 0],
        ..ONE_COMMAND
    },
    Setup {
        name: "a leader with two slots, window of one, learning",
        commands: &[1, 1],
        window_slots: 1,
        learns: true,
        ..TWO_LATE
    },
    Setup { name: "two commands, a tick", ticks: 1, ..TWO_BALLOTS },
    Setup { name: "two crashes", crashes: 2, ..ONE_COMMAND },
    Setup { name: "two commands, a crash", crashes: 1, ..TWO_BALLOTS },
    Setup { name: "learning, a crash", crashes: 1, learns: true, ..ONE_COMMAND },
    Setup { name: "two commands, learning", learns: true, ..TWO_BALLOTS },
    Setup { name: "syncs later", sync: Sync::Later, ..ONE_COMMAND },
    Setup {
        name: "two ticks, a reconnect, learning",
        ticks: 2,
        reconnects: 1,
        learns: true,
        ..ONE_COMMAND
    },
    Setup { name: "three ballots", competes: &[2, 1, 0], ..ONE_COMMAND },
];

/// What an exploration came to.
struct Explored {
    unique: usize,
    /// Sets of process states that occur together, whatever messages are on the way.
    together: usize,
}

/// Explores all of it, and holds it to its properties.
#[allow(clippy::disallowed_methods)] // The time is told to the reader and decides nothing.
fn explore(setup: Setup) -> Explored {
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
fn must_fail(setup: Setup, bug: Bug, property: &'static str) {
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

fn trace(model: &Cluster, path: &Path<State, Action>) -> String {
    let actions = path.clone().into_actions();
    actions.into_iter().map(|action| format!("  {}\n", model.describe(action))).collect()
}

const AGREEMENT: &str = "at most one value is chosen a slot";

#[test]
fn two_ballots_two_commands() {
    explore(TWO_BALLOTS);
}

#[test]
fn a_crash() {
    explore(Setup { name: "a crash", crashes: 1, ..ONE_COMMAND });
}

#[test]
fn learning() {
    explore(Setup { name: "learning", learns: true, ..ONE_COMMAND });
}

#[test]
fn flexible_quorums() {
    let name = "quorums of three and one";
    explore(Setup { name, phase1: Some(3), phase2: Some(1), crashes: 1, ..ONE_COMMAND });
}

#[test]
fn a_tick_and_a_reconnect() {
    explore(Setup { name: "a tick and a reconnect", ticks: 1, reconnects: 1, ..ONE_COMMAND });
}

/// To drop messages that can have no effect any more must not hide anything: the same process states
/// occur together without it.
#[test]
fn dropping_dead_messages_hides_nothing() {
    let name = "two ballots, one command, all messages kept";
    let all = explore(Setup { name, drops_dead: false, ..ONE_COMMAND });
    let some = explore(ONE_COMMAND);
    assert_eq!(some.together, all.together);
    assert!(some.unique < all.unique);
}

/// The larger ones, smallest first.
#[test]
#[ignore = "minutes, in a release build"]
fn large() {
    let only = std::env::var("LOGGOS_MODEL").unwrap_or_default();
    for setup in LARGE.into_iter().filter(|setup| setup.name.contains(&only)) {
        explore(setup);
    }
}

#[test]
fn finds_a_restart_that_forgets_promises() {
    must_fail(Setup { crashes: 1, ..TWO_BALLOTS }, Bug::RestartForgetsPromise, AGREEMENT);
}

#[test]
fn finds_a_restart_that_forgets_what_was_accepted() {
    must_fail(Setup { crashes: 1, ..TWO_BALLOTS }, Bug::RestartForgetsAccepted, AGREEMENT);
}

/// One leader, which is no acceptor: its ballots are known to nobody but its own log.
#[test]
#[ignore = "minutes, in a debug build"]
fn finds_a_restart_that_forgets_its_ballot() {
    let setup = Setup {
        roles: &[LEADER_REPLICA, ACCEPTOR, ACCEPTOR, ACCEPTOR],
        competes: &[2, 0, 0, 0],
        commands: &[1, 1],
        commands_early: false,
        crashes: 1,
        ..TWO_BALLOTS
    };
    must_fail(setup, Bug::RestartForgetsOwnBallot, "one value a ballot and slot");
}

#[test]
fn finds_what_is_said_before_the_sync() {
    let setup = Setup { crashes: 1, ..TWO_BALLOTS };
    must_fail(setup, Bug::SpeaksBeforeSync, "nothing is revealed before durable");
    must_fail(setup, Bug::SpeaksBeforeSync, AGREEMENT);
}

#[test]
fn finds_hidden_pvalues() {
    must_fail(TWO_BALLOTS, Bug::HidesAccepted, AGREEMENT);
}

#[test]
fn finds_votes_counted_twice() {
    must_fail(TWO_BALLOTS, Bug::VoteCountsTwice, AGREEMENT);
}

#[test]
fn finds_promises_counted_twice() {
    must_fail(TWO_BALLOTS, Bug::PromiseCountsTwice, AGREEMENT);
}

#[test]
fn finds_quorums_that_differ() {
    must_fail(TWO_BALLOTS, Bug::QuorumsDiffer, AGREEMENT);
}

/// It takes three ballots.
#[test]
#[ignore = "half a minute in a debug build"]
fn finds_the_lowest_ballot_adopted() {
    must_fail(Setup { competes: &[2, 1, 0], ..TWO_BALLOTS }, Bug::LowestIsAdopted, AGREEMENT);
}
