//! What clients can ask of the store, and what it answers. `wire::kv` gives these their bytes.

use serde::{Deserialize, Serialize};

use crate::sql::Rows;

/// A command: decided in the log, applied once at every replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command<'a> {
    /// Sets the key, whether it exists or not.
    Put { key: &'a [u8], value: &'a [u8] },
    /// Sets a key that does not exist; fails with `Exists`.
    Create { key: &'a [u8], value: &'a [u8] },
    /// Sets a key that exists; fails with `NotFound`.
    Update { key: &'a [u8], value: &'a [u8] },
    /// Removes a key that exists; fails with `NotFound`.
    Delete { key: &'a [u8] },
    /// Sets the key if it holds `expect` (`None`: if it does not exist); fails with `Mismatch`.
    Cas { key: &'a [u8], expect: Option<&'a [u8]>, value: &'a [u8] },
    /// Adds to a decimal integer (a missing key counts as 0); fails with `NotAnInteger` or
    /// `Overflow` (outside of 64 bits, signed).
    Incr { key: &'a [u8], by: i64 },
    /// Several steps as a whole: the bytes of a [`Transaction`](super::Transaction).
    Transaction(&'a [u8]),
    /// Put, and the key is deleted when so much of the log's time has passed.
    PutFor { key: &'a [u8], value: &'a [u8], ttl_us: u64 },
    /// Creates a key that is a lock for so long, and answers with its token; fails with `Mismatch`, which says
    /// what who has it put there.
    Lock { key: &'a [u8], value: &'a [u8], ttl_us: u64 },
    /// Has a lock end so long from now; fails with `NotHeld` if it is not the one with this token.
    Renew { key: &'a [u8], token: u64, ttl_us: u64 },
    /// Deletes a lock; fails with `NotHeld` if it is not the one with this token.
    Unlock { key: &'a [u8], token: u64 },
    /// Sets what is kept of the image with this perceptual hash, whether it is there or not.
    SetImage { hash: &'a [u8], meta: &'a [u8] },
    /// Removes an image that is there; fails with `NotFound`.
    DeleteImage { hash: &'a [u8] },
}

impl<'a> Command<'a> {
    /// The key that it is about; a transaction may be about many, and images have none.
    pub fn key(&self) -> Option<&'a [u8]> {
        match *self {
            Command::Put { key, .. }
            | Command::Create { key, .. }
            | Command::Update { key, .. }
            | Command::Delete { key }
            | Command::Cas { key, .. }
            | Command::Incr { key, .. }
            | Command::PutFor { key, .. }
            | Command::Lock { key, .. }
            | Command::Renew { key, .. }
            | Command::Unlock { key, .. } => Some(key),
            Command::Transaction(_) | Command::SetImage { .. } | Command::DeleteImage { .. } => {
                None
            }
        }
    }
}

/// A query: answered from the applied state, not logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query<'a> {
    Get {
        key: &'a [u8],
    },
    /// The entries with `from <= key` and, where `to` is given, `key < to`, in key order, at most
    /// `limit` of them (and never more than `limits::SCAN_ENTRIES_MAX`). A prefix is a range: see
    /// [`prefix_end`].
    Scan {
        from: &'a [u8],
        to: Option<&'a [u8]>,
        limit: u32,
    },
    /// A statement of SQL that only reads: the bytes of a [`Statement`](crate::sql::Statement).
    Sql(&'a [u8]),
    /// The images with a hash of this size of which at most `within` bits differ, the nearest first and those as near
    /// by their hashes, at most `limit` of them (and never more than `limits::SCAN_ENTRIES_MAX`).
    Nearest {
        hash: &'a [u8],
        within: u32,
        limit: u32,
    },
    /// How long the key has to live yet, and whether it is a lock; fails with `NotFound`.
    Ttl {
        key: &'a [u8],
    },
}

/// The answer to a command or a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// Put, create, update, delete, cas: done.
    Done,
    /// Incr: the value after it.
    Integer(i64),
    /// Get: the value, or that there is none.
    Value(Option<Vec<u8>>),
    /// Scan. `next`: where to go on (`from` of the next scan) if the limit or the size of a reply
    /// ended this one.
    Entries { entries: Vec<(Vec<u8>, Vec<u8>)>, next: Option<Vec<u8>> },
    /// The condition did not hold, nothing was changed.
    Failed(Failure),
    /// A transaction: whether its conditions held, and what each step of that side gave.
    Transaction { held: bool, steps: Vec<StepReply> },
    /// A query of SQL.
    Rows(Rows),
    /// Lock: what proves that it is held.
    Token(u64),
    /// Nearest. `more`: there are others, but the limit or the size of a reply ended this one.
    Images { images: Vec<Image>, more: bool },
    /// The first rows of what a query of SQL gives, or some from further on; rows so far are `next`.
    RowsPart { rows: Rows, next: u64 },
    /// Ttl, in microseconds of the log's time. `left_us`: `None` if the key stays. `token`: 0 if it is no lock.
    Ttl { left_us: Option<u64>, token: u64 },
}

/// An image that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub hash: Vec<u8>,
    pub meta: Vec<u8>,
    /// Bits that differ from the hash that was asked for.
    pub distance: u32,
}

/// What a step of a transaction gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StepReply {
    Done,
    Integer(i64),
    Value(Option<Vec<u8>>),
    Rows(Rows),
    Token(u64),
    Images(Vec<Image>),
}

/// Why a command changed nothing. This is a reply, decided in the log like any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    Exists,
    NotFound,
    /// Cas: what the key holds instead.
    Mismatch {
        present: Option<Vec<u8>>,
    },
    NotAnInteger,
    Overflow,
    /// A key or value is over its limit, or the payload is no command.
    Invalid,
    /// A step of a transaction, counted from 0, and so nothing of it was done. The step behind the last one stands
    /// for the whole.
    Step {
        step: u32,
        why: String,
    },
    /// A query of SQL.
    Sql {
        why: String,
    },
    /// The lock is another's, or nobody's.
    NotHeld,
}

/// The end of the range of all keys that begin with `prefix`: `None` if there is no such key (the
/// prefix is empty or all 0xff), and the range is open.
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|&b| b != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_ends() {
        assert_eq!(prefix_end(b"ab"), Some(b"ac".to_vec()));
        assert_eq!(prefix_end(b"a\xff\xff"), Some(b"b".to_vec()));
        assert_eq!(prefix_end(b"\xff"), None);
        assert_eq!(prefix_end(b""), None);
    }
}
