//! Model checking of what takes too long for every test run (`make model`): larger configurations, and
//! defects that only they find. See `docs/model-checking.md`.

mod cluster;
mod configurations;
mod explore;
mod process;
mod setup;
mod table;

use std::sync::{Mutex, MutexGuard, PoisonError};

use configurations::*;
use explore::{AGREEMENT, explore, must_fail};
use setup::{ACCEPTOR, Bug, LEADER_REPLICA, Setup, Sync};

/// Smallest first. `LOGGOS_MODEL` chooses by these names.
const LARGE: &[Setup] = &[
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

/// Two leaders, one of which competes twice, each with a command.
const THREE_BALLOTS: Setup =
    Setup { name: "three ballots, two commands", competes: &[2, 1, 0], ..TWO_BALLOTS };

/// One leader, which competes twice and crashes.
const LEADER_APART: Setup = Setup {
    name: "a leader apart, two ballots, a crash",
    roles: &[LEADER_REPLICA, ACCEPTOR, ACCEPTOR, ACCEPTOR],
    competes: &[2, 0, 0, 0],
    commands: &[1, 1],
    commands_early: false,
    crashes: 1,
    ..TWO_BALLOTS
};

/// One leader, which competes twice: a vote in its first ballot may come when it has its second.
#[cfg(feature = "mutants")]
const LEADER_TWICE: Setup =
    Setup { name: "a leader apart, two ballots", crashes: 0, commands_early: true, ..LEADER_APART };

/// Held by each test: a mutant is switched on for the whole process, and memory is for one exploration.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    // Another test that failed says so itself.
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Those whose names contain `LOGGOS_MODEL`, or all.
#[test]
fn explores() {
    let _alone = alone();
    let only = std::env::var("LOGGOS_MODEL").unwrap_or_default();
    let chosen: Vec<&Setup> = LARGE.iter().filter(|setup| setup.name.contains(&only)).collect();
    assert!(!chosen.is_empty(), "LOGGOS_MODEL: no configuration is called so: {only:?}");
    for setup in chosen {
        explore(*setup);
    }
}

/// One leader, which is no acceptor: its ballots are known to nobody but its own log.
#[test]
fn finds_a_restart_that_forgets_its_ballot() {
    let _alone = alone();
    must_fail(LEADER_APART, Bug::RestartForgetsOwnBallot, "one value a ballot and slot");
}

/// It takes three ballots.
#[test]
fn finds_the_lowest_ballot_adopted() {
    let _alone = alone();
    must_fail(THREE_BALLOTS, Bug::LowestIsAdopted, AGREEMENT);
}

/// Each mutant of the core that a model can see, at its first failure in each small configuration, or in a
/// larger one where no small one fails. Prints the table of `docs/model-checking.md`.
#[cfg(feature = "mutants")]
#[test]
fn finds_mutants_of_the_core() {
    use loggos::mutants::{self, Mutant};

    let _alone = alone();
    let visible = [
        (Mutant::ReplyBeforeSync, None),
        (Mutant::PromiseNotRecorded, None),
        (Mutant::BallotNotRecorded, None),
        (Mutant::AcceptBelowPromise, None),
        (Mutant::AdoptLowerBallot, Some(THREE_BALLOTS)),
        (Mutant::SmallQuorum, None),
        (Mutant::CountForeignVotes, Some(LEADER_TWICE)),
        (Mutant::CommitForeignBallot, None),
    ];
    let mut missed = Vec::new();
    println!("| mutant | small ones | shortest in | fails | steps |");
    for (mutant, larger) in visible {
        mutants::switch_on(Some(mutant));
        let failing = |setup: &Setup| explore::failure(*setup).map(|failure| (setup.name, failure));
        let by_small: Vec<_> = SMALL.iter().filter_map(failing).collect();
        let count = by_small.len();
        let shortest = by_small.into_iter().min_by_key(|(_, failure)| failure.steps);
        match shortest.or_else(|| larger.as_ref().and_then(failing)) {
            Some((setup, failure)) => println!(
                "| `{}` | {count} of {} | {setup} | {} | {} |",
                mutant.name(),
                SMALL.len(),
                failure.property,
                failure.steps,
            ),
            None => missed.push(mutant),
        }
        mutants::switch_on(None);
    }
    assert_eq!(missed, []);
}
