//! Model checking: the real nodes of `src/paxos`, in every order of events that small bounds allow.
//!
//! What is modelled, what is left out and why, and the sizes: `docs/model-checking.md`. What takes too long
//! for every test run is in `large.rs` (`make model`).

mod cluster;
mod configurations;
mod explore;
mod process;
mod setup;
mod table;

use configurations::*;
use explore::{AGREEMENT, explore, must_fail};
use setup::{Bug, Setup};

#[test]
fn two_ballots_two_commands() {
    explore(TWO_BALLOTS);
}

#[test]
fn a_crash() {
    explore(A_CRASH);
}

#[test]
fn learning() {
    explore(LEARNING);
}

#[test]
fn flexible_quorums() {
    explore(FLEXIBLE_QUORUMS);
}

#[test]
fn a_tick_and_a_reconnect() {
    explore(A_TICK_AND_A_RECONNECT);
}

#[test]
fn two_commands_a_tick() {
    explore(TWO_COMMANDS_A_TICK);
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

#[test]
fn finds_a_restart_that_forgets_promises() {
    must_fail(Setup { crashes: 1, ..TWO_BALLOTS }, Bug::RestartForgetsPromise, AGREEMENT);
}

#[test]
fn finds_a_restart_that_forgets_what_was_accepted() {
    must_fail(Setup { crashes: 1, ..TWO_BALLOTS }, Bug::RestartForgetsAccepted, AGREEMENT);
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
