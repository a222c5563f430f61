//! Everything but the command line: what serves, what loads and judges it, and the library for clients. A package
//! of its own, because cargo optimises by the package (`Cargo.toml`); `loggos` shows all of it as its own.

// In the library alone: a test that unwraps is a test that fails, as it should.
#![warn(clippy::unwrap_used)]

pub mod bench;
pub mod check;
pub mod client;
pub mod config;
pub mod driver;
pub mod limits;
pub mod mutants;
pub mod os;
pub mod paxos;
mod queue;
#[cfg(feature = "sim")]
pub mod sim;
pub mod snapshot;
pub mod sql;
pub mod store;
pub mod trace;
pub mod wal;
pub mod wire;

/// The tests of the load generator write its options as people do, and the simulator has its own.
#[cfg(any(test, feature = "sim"))]
pub mod cli {
    pub mod duration;
    pub mod load;
    pub mod manual;
}
