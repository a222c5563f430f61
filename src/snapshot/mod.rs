//! Snapshots: the state behind one slot, as a file that replaces the log up to there.
//!
//! Invariant: the bytes are a function of cluster, slot, state and configurations. Two replicas make the
//! same file of the same slot, so that a transfer can go on from another peer.
//!
//! That is a whole snapshot. Where the keys lie in RocksDB a node makes linked ones for itself, which cost no copying:
//! `format` says what they are, and `files` how they lie.
//!
//! `format` holds the bytes, `write` and `read` go through them as a stream, in bounded memory, and
//! `files` keeps a data directory's snapshots, each written as a `part`. When one is taken is the driver's
//! business, and what the state is made of the store's (`store::snapshot`).

pub mod files;
pub mod format;
mod part;
pub mod read;
pub mod write;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::paxos::{Slot, SnapshotId};
use crate::wire::ClusterId;

pub use files::SnapshotDir;
pub use format::Form;
pub use read::{Loaded, load, load_into, load_newest, read_head, verify};
pub use write::write;

/// What a snapshot is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub cluster: ClusterId,
    /// The last slot applied, 0 before the first.
    pub slot: Slot,
    /// `Store::digest` of the state.
    pub digest: u128,
    /// The configurations known at this slot, as the core encodes them.
    pub configurations: Arc<[u8]>,
}

/// A whole snapshot, as its writer or a reader found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub head: Head,
    pub keys: u64,
    pub sessions: u64,
    /// Bytes of the file.
    pub size: u64,
    /// Of the whole file: equal for equal snapshots, and unequal for others.
    pub checksum: u128,
}

impl Summary {
    pub fn id(&self) -> SnapshotId {
        SnapshotId { slot: self.head.slot, size: self.size, checksum: self.checksum }
    }
}

/// Why a snapshot cannot be used.
#[derive(Debug)]
pub enum SnapshotError {
    Io {
        doing: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    /// Reading failed, or ended too early.
    Read(io::Error),
    Write(io::Error),
    /// The bytes are not those of a snapshot, or not any more.
    Damaged {
        offset: u64,
        why: &'static str,
    },
    /// The state to be written is not the one whose digest was kept: memory was damaged.
    StateDamaged,
    /// The checkpoint with the keys of a linked snapshot cannot be made, or not be used.
    Checkpoint {
        path: PathBuf,
        why: String,
    },
    /// A linked snapshot stands where a whole one is needed, or the other way round.
    Linked,
    NewerVersion {
        found: u32,
    },
    Foreign {
        found: ClusterId,
        expected: ClusterId,
    },
    /// There are snapshots, and none of them can be used.
    NoneUsable {
        slot: Slot,
        error: Box<SnapshotError>,
    },
}

impl SnapshotError {
    fn io(doing: &'static str, path: &Path, error: io::Error) -> SnapshotError {
        SnapshotError::Io { doing, path: path.to_owned(), error }
    }

    fn checkpoint(path: &Path, why: String) -> SnapshotError {
        SnapshotError::Checkpoint { path: path.to_owned(), why }
    }

    fn damaged(offset: u64, why: &'static str) -> SnapshotError {
        SnapshotError::Damaged { offset, why }
    }
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Io { doing, path, error } => {
                write!(f, "cannot {doing} {}: {error}", path.display())
            }
            SnapshotError::Read(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                write!(f, "the snapshot is cut off")
            }
            SnapshotError::Read(error) => write!(f, "the snapshot cannot be read: {error}"),
            SnapshotError::Write(error) => write!(f, "the snapshot cannot be written: {error}"),
            SnapshotError::Damaged { offset, why } => {
                write!(f, "the snapshot is damaged at offset {offset}: {why}")
            }
            SnapshotError::StateDamaged => {
                write!(f, "the state in memory is damaged: its digest is not what it should be")
            }
            SnapshotError::Checkpoint { path, why } => {
                write!(f, "the keys of the snapshot, in {}: {why}", path.display())
            }
            SnapshotError::Linked => write!(
                f,
                "the snapshot has no keys in it: they lie beside it in RocksDB, and it is of use at its own node \
                 alone (a backup has all)"
            ),
            SnapshotError::NewerVersion { found } => write!(
                f,
                "the snapshot has format version {found}, and this program knows versions up to {}: \
                 use a newer program",
                format::VERSION
            ),
            SnapshotError::Foreign { found, expected } => write!(
                f,
                "the snapshot is one of cluster {:016x}, and this is cluster {:016x}",
                found.0, expected.0
            ),
            SnapshotError::NoneUsable { slot, error } => write!(
                f,
                "none of the snapshots can be used; of the newest one, of slot {slot}: {error}. A new node in this \
                 one's place gets the state from the others (`loggos member`); of a backup a cluster is made anew \
                 (`loggos restore`)"
            ),
        }
    }
}

impl std::error::Error for SnapshotError {}

#[cfg(all(test, feature = "rocksdb"))]
mod linked_tests;
#[cfg(any(test, feature = "fake"))]
pub mod made_up;
#[cfg(test)]
mod tests;
