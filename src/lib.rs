//! Loggos: one log of commands, identical on several machines, and a store on it.
//!
//! `ARCHITECTURE.md` is the map. In one line: client bytes -> `driver` -> `wire` -> `paxos::Node`
//! -> effects -> `driver` carries them out with `wal` and `store`.

// In the library alone: a test that unwraps is a test that fails, as it should.
#![warn(clippy::unwrap_used)]

pub mod bench;
pub mod check;
pub mod cli;
pub mod client;
pub mod config;
pub mod driver;
pub mod limits;
mod machine;
pub mod mutants;
mod os;
pub mod paxos;
#[cfg(feature = "sim")]
pub mod sim;
pub mod snapshot;
pub mod store;
pub mod trace;
pub mod wal;
pub mod wire;
