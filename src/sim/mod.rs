//! The simulator: a whole cluster in one thread from one seed, over the code that ships.
//!
//! Real are the core (`paxos`), the store with its sessions, the log with its encoding, recovery and
//! spare segments (`wal`), and the bytes of the messages (`wire`). Models are time, the network, the
//! disk under the log, and the clients. A step lets the next thing happen; the observer (`checker`)
//! judges every record that becomes durable, every message that leaves, every slot that is applied and
//! every reply.
//!
//! - `cluster` is the world: time, what can be done to it, and what happens next.
//! - `host` is one node: it carries out `Effects` in the order that `Effects` gives, as the driver does;
//!   `host/process` is what can be done to it, `host/snapshots` and `host/quarantine` what it does with
//!   snapshots, and when its state is wrong.
//! - `network` and `link` are the connections.
//! - `snapshots` are a node's snapshots and what comes of them from peers.
//! - `log` is a node's log on its `disk`, beside a `shadow` that it is held against; `oracle` is what the
//!   store must answer.
//! - `plan` draws from a seed what a run will be: cluster, network, clients, faults. It is data, so it
//!   can be written down, played again, and made smaller (`shrink`).
//! - `members` is the operator, who changes who is in the cluster.
//! - `run` plays a plan, and asks in the end what every cluster must be able to do; `clients` and `faults`
//!   are what it does to the cluster.
//! - `sql` is what clients do to a part of the keys by SQL.
//! - `coverage` counts how often runs came to the places that matter.
//!
//! A broken rule is a panic: in the core, whose own assertions count as well, or in the checker.

pub mod batch;
mod checker;
pub mod cli;
mod clients;
mod clock;
mod cluster;
pub mod coverage;
mod disk;
mod faults;
mod host;
mod images;
mod link;
mod log;
mod members;
mod network;
mod oracle;
pub mod plan;
mod run;
mod shadow;
pub mod shrink;
mod snapshots;
mod sql;
mod trace;

pub use cluster::{Cluster, Reply, Settings};
pub use host::{Host, command};
pub use run::{Outcome, Run};
pub use sql::statements as sql_command;
