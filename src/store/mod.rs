//! What is replicated: the key-value store and the sessions of its clients.

pub mod command;

pub use command::{Command, Failure, Query, Reply, prefix_end};
