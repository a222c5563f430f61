//! What goes into a statement and comes out of it. Plain data; its bytes are the business of `wire`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::pages::Pages;

/// When a command takes place, and what its chance comes from: the same at every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Time of the log, microseconds since 1970.
    pub time_us: u64,
    /// Of no other command.
    pub seed: u64,
}

/// What a statement may take before it is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Instructions of SQLite's machine.
    pub steps: u64,
    /// Monotonic nanoseconds when it ends; `None` where time must not matter.
    pub until_ns: Option<u64>,
    /// Bytes of the rows that it gives.
    pub rows_size: usize,
}

/// A database as a query sees it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub pages: &'a Pages,
    pub moment: Moment,
    pub budget: Budget,
}

/// Why a query that is none is refused.
pub const WOULD_CHANGE: &str = "it would change the database";

/// A value of SQLite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum SqlValue {
    Null,
    Integer(i64),
    /// Never NaN: SQLite makes NULL of that.
    Real(f64),
    Text(String),
    Blob(Vec<u8>),
}

impl Eq for SqlValue {}

impl SqlValue {
    /// Bytes that it takes in a reply, about.
    pub fn size(&self) -> usize {
        16 + match self {
            SqlValue::Null | SqlValue::Integer(_) | SqlValue::Real(_) => 0,
            SqlValue::Text(text) => text.len(),
            SqlValue::Blob(bytes) => bytes.len(),
        }
    }
}

/// As the `sqlite3` shell shows it.
impl fmt::Display for SqlValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SqlValue::Null => Ok(()),
            SqlValue::Integer(number) => write!(f, "{number}"),
            SqlValue::Real(number) => write!(f, "{number:?}"),
            SqlValue::Text(text) => f.write_str(text),
            SqlValue::Blob(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
        }
    }
}

/// One statement with what stands for its parameters, in their order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement<'a> {
    pub text: &'a str,
    pub parameters: Vec<SqlValue>,
}

/// A part of what a query gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub rows: Rows,
    /// How many rows are behind it then, if there are more.
    pub next: Option<u64>,
}

/// What a statement gave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rows {
    /// Names of the columns: none if the statement gives no rows.
    pub columns: Vec<String>,
    pub rows: Vec<Vec<SqlValue>>,
    /// Rows inserted, updated or deleted by the statement itself.
    pub changes: u64,
    /// The rowid of the last row inserted in this command so far, if there is one.
    pub last_row_id: Option<i64>,
}
