//! The configurations that are small enough for every test run, by their names in
//! `docs/model-checking.md`; larger ones are made from them.

#![allow(dead_code)] // `main.rs` and `large.rs` each use a part of it.

use super::setup::{ALL, Setup, Sync};
use loggos::paxos::Slot;

/// Three nodes of all roles; two of them compete, once each, and each has a command from the start.
pub const TWO_BALLOTS: Setup = Setup {
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

pub const ONE_COMMAND: Setup =
    Setup { name: "two ballots, one command", commands: &[1], ..TWO_BALLOTS };

pub const TWO_LATE: Setup = Setup { commands_early: false, ..TWO_BALLOTS };

pub const A_CRASH: Setup = Setup { name: "a crash", crashes: 1, ..ONE_COMMAND };

pub const LEARNING: Setup = Setup { name: "learning", learns: true, ..ONE_COMMAND };

pub const FLEXIBLE_QUORUMS: Setup = Setup {
    name: "quorums of three and one, a crash",
    phase1: Some(3),
    phase2: Some(1),
    crashes: 1,
    ..ONE_COMMAND
};

pub const A_TICK_AND_A_RECONNECT: Setup =
    Setup { name: "a tick and a reconnect", ticks: 1, reconnects: 1, ..ONE_COMMAND };

/// Here a follower may have accepted in another ballot what it hears to be chosen.
pub const TWO_COMMANDS_A_TICK: Setup =
    Setup { name: "two commands, window of one, a tick", window_slots: 1, ticks: 1, ..TWO_BALLOTS };

/// All of these.
pub const SMALL: &[Setup] = &[
    ONE_COMMAND,
    TWO_BALLOTS,
    LEARNING,
    FLEXIBLE_QUORUMS,
    A_CRASH,
    A_TICK_AND_A_RECONNECT,
    TWO_COMMANDS_A_TICK,
];
