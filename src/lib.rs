//! Loggos: one log of commands, identical on several machines, and a store on it.
//!
//! `ARCHITECTURE.md` is the map. In one line: client bytes -> `driver` -> `wire` -> `paxos::Node`
//! -> effects -> `driver` carries them out with `wal` and `store`.

// In the library alone: a test that unwraps is a test that fails, as it should.
#![warn(clippy::unwrap_used)]

pub use loggos_engine::{
    bench, check, client, config, driver, limits, mutants, os, paxos, snapshot, sql, store, trace,
    wal, wire,
};

#[cfg(feature = "sim")]
pub use loggos_engine::sim;

pub mod cli;
mod machine;
