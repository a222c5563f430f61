//! SQL on the log: SQLite as a part of the replicated state.
//!
//! SQLite runs on `pages`, a persistent map in memory, by a file system of our own (`vfs`). So a database is frozen,
//! digested, written to snapshots, sent to peers and simulated like the key-value map beside it, and what makes it
//! durable is the log. `database` runs commands and queries, `context` gives them their time, chance and budget,
//! `rules` says what they may not do, `value` is the data that goes in and out.
//!
//! Without the feature `sql` there is no SQLite in the program, and `absent` stands for `database`.

pub mod pages;
pub mod text;
mod value;

#[cfg(feature = "sql")]
mod context;
#[cfg(feature = "sql")]
mod database;
#[cfg(feature = "sql")]
mod rules;
#[cfg(feature = "sql")]
mod vfs;

#[cfg(not(feature = "sql"))]
mod absent;
#[cfg(not(feature = "sql"))]
use absent as database;

#[cfg(all(test, feature = "sql"))]
mod tests;

/// Whether this program has SQLite in it.
pub const IS_BUILT_IN: bool = cfg!(feature = "sql");

pub use database::{Database, Reader};
pub use pages::Pages;
pub use value::{Budget, Moment, Page, Rows, SqlValue, Statement, View, WOULD_CHANGE};
