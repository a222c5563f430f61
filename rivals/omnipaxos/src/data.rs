//! A node's directory: whose it is, that nobody else uses it, and that a node in memory does not come back to it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::Kind;

/// A node's directory, locked for as long as this lives.
pub struct Data {
    dir: PathBuf,
    _identity: File,
}

impl Data {
    /// Opens or makes it; an error says what is wrong and what to do.
    pub fn open(dir: &Path, id: u64, kind: Kind) -> Result<Data, String> {
        let at = |error: std::io::Error| format!("cannot use {}: {error}", dir.display());
        std::fs::create_dir_all(dir).map_err(at)?;
        let path = dir.join("node");
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).open(path).map_err(at)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(format!("{} is in use by another process", dir.display()));
            }
            Err(TryLockError::Error(error)) => return Err(at(error)),
        }
        let mut found = String::new();
        file.read_to_string(&mut found).map_err(at)?;
        let ours = format!("omnipaxos-kv 1 node {id} {kind:?}\n");
        if found.is_empty() {
            file.rewind().map_err(at)?;
            file.write_all(ours.as_bytes()).map_err(at)?;
            file.sync_all().map_err(at)?;
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(at)?;
        } else if found != ours {
            return Err(format!("{} belongs to another node: {}", dir.display(), found.trim_end()));
        } else if kind == Kind::Memory {
            return Err(format!(
                "node {id} has run before, in memory, and has forgotten what it promised: it must not come back \
                 under its number; for a new cluster, remove {} at all nodes",
                dir.display()
            ));
        }
        Ok(Data { dir: dir.to_owned(), _identity: file })
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_node() {
        let dir = tempfile::tempdir().unwrap();
        let durable = dir.path().join("durable");
        let first = Data::open(&durable, 1, Kind::Durable).unwrap();
        let error = |id, kind| Data::open(&durable, id, kind).err().unwrap_or_default();
        assert!(error(1, Kind::Durable).contains("in use"));
        drop(first);
        assert!(error(2, Kind::Durable).contains("another node"));
        assert!(error(1, Kind::Memory).contains("another node"));
        assert_eq!(error(1, Kind::Durable), "");
    }

    /// It would vote again, as if it had not voted yet.
    #[test]
    fn a_node_in_memory_does_not_come_back() {
        let dir = tempfile::tempdir().unwrap();
        drop(Data::open(dir.path(), 1, Kind::Memory).unwrap());
        let error = Data::open(dir.path(), 1, Kind::Memory).err().unwrap();
        assert!(error.contains("must not come back"), "{error}");
    }
}
