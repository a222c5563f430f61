//! Why the log can't be opened or written, each in one line that says what to do.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::Identity;

#[derive(Debug)]
pub enum WalError {
    Io {
        doing: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    /// There was no room for a segment. Nothing was written; the append may be tried again.
    DiskFull {
        path: PathBuf,
        size: u64,
    },
    /// Another process holds the data directory.
    Locked {
        dir: PathBuf,
    },
    /// The data directory belongs to another node or cluster.
    Foreign {
        dir: PathBuf,
        found: Identity,
        expected: Identity,
    },
    /// A file was written by a newer version of this program.
    NewerVersion {
        path: PathBuf,
        found: u32,
        known: u32,
    },
    /// Both copies of `meta` are damaged.
    MetaDamaged {
        path: PathBuf,
    },
    /// There are segments and no `meta`.
    MetaMissing {
        path: PathBuf,
    },
    /// There is a `meta` and no segment.
    LogMissing {
        dir: PathBuf,
    },
    SegmentMissing {
        path: PathBuf,
    },
    SegmentTruncated {
        path: PathBuf,
        size: u64,
        expected: u64,
    },
    /// The segment at `offset` does not hold what it once held, by the proof given in `why`, and nothing
    /// behind it says what this node promised last.
    Damaged {
        path: PathBuf,
        offset: u64,
        why: String,
    },
    /// The record does not fit a slot or a segment.
    TooLarge {
        size: u64,
        max: u64,
    },
    BadOption {
        what: String,
    },
    /// A sync failed, now or earlier. Final: nobody knows any more what the disk holds.
    SyncFailed {
        why: String,
    },
}

/// What an operator can do with a node whose log lost something.
const REMEDY: &str = "this node must not vote with it: restore the file from a copy, or move the \
                      data directory away and let a node with a new id take this one's place";

impl WalError {
    /// Names an I/O error; a full disk is told apart, since the remedy is another.
    pub(super) fn io(doing: &'static str, path: &Path, error: io::Error) -> WalError {
        WalError::Io { doing, path: path.to_owned(), error }
    }

    pub(super) fn damaged(path: &Path, offset: usize, why: impl Into<String>) -> WalError {
        WalError::Damaged { path: path.to_owned(), offset: offset as u64, why: why.into() }
    }
}

impl fmt::Display for WalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WalError::Io { doing, path, error } => {
                write!(f, "can't {doing} {}: {error}", path.display())
            }
            WalError::DiskFull { path, size } => write!(
                f,
                "no room for the log segment {} of {size} bytes: free space on that disk",
                path.display()
            ),
            WalError::Locked { dir } => write!(
                f,
                "the data directory {} is in use by another process: stop that one first",
                dir.display()
            ),
            WalError::Foreign { dir, found, expected } => write!(
                f,
                "the data directory {} belongs to {found}, and this is {expected}: \
                 give this node a data directory of its own (a cluster's number comes \
                 from its name)",
                dir.display()
            ),
            WalError::NewerVersion { path, found, known } => write!(
                f,
                "{} has format version {found}, and this program knows versions up to {known}: \
                 use a newer program",
                path.display()
            ),
            WalError::MetaDamaged { path } => {
                write!(f, "both copies in {} are damaged: {REMEDY}", path.display())
            }
            WalError::MetaMissing { path } => write!(
                f,
                "{} is missing, but there are log segments beside it: {REMEDY}",
                path.display()
            ),
            WalError::LogMissing { dir } => {
                write!(f, "there are no log segments in {}: {REMEDY}", dir.display())
            }
            WalError::SegmentMissing { path } => {
                write!(f, "the log segment {} is missing: {REMEDY}", path.display())
            }
            WalError::SegmentTruncated { path, size, expected } => write!(
                f,
                "the log segment {} has {size} bytes and should have {expected}: {REMEDY}",
                path.display()
            ),
            WalError::Damaged { path, offset, why } => write!(
                f,
                "the log segment {} is damaged at offset {offset} ({why}): {REMEDY}",
                path.display()
            ),
            WalError::TooLarge { size, max } => {
                write!(f, "a value of {size} bytes does not fit the log, whose limit is {max}")
            }
            WalError::BadOption { what } => write!(f, "{what}"),
            WalError::SyncFailed { why } => write!(
                f,
                "the log could not be made durable ({why}): check the disk, then start this \
                 node again"
            ),
        }
    }
}

impl std::error::Error for WalError {}
