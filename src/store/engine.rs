//! Where the entries of a store lie.

use std::io;
use std::path::Path;

use crate::paxos::Slot;

#[cfg(feature = "rocksdb")]
use super::disk::Disk;
#[cfg(feature = "rocksdb")]
use super::disk_table::read_checkpoint;
use super::table::Table;

/// What a configuration says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineChoice {
    Memory,
    /// `cache_size`: bytes of blocks that are kept in memory. `compress`: what lies on the disk.
    Rocksdb {
        cache_size: usize,
        compress: bool,
    },
}

/// All states that a node has, one after the other, lie in one.
#[derive(Clone, Debug, Default)]
pub enum Engine {
    #[default]
    Memory,
    #[cfg(feature = "rocksdb")]
    Disk(Disk),
}

impl EngineChoice {
    /// Whether this program has RocksDB.
    pub const HAS_ROCKSDB: bool = cfg!(feature = "rocksdb");

    /// In this data directory, which is locked.
    pub fn open(self, data_dir: &Path) -> io::Result<Engine> {
        match self {
            EngineChoice::Memory => Ok(Engine::Memory),
            #[cfg(feature = "rocksdb")]
            EngineChoice::Rocksdb { cache_size, compress } => {
                Disk::open(data_dir, cache_size, compress).map(Engine::Disk)
            }
            #[cfg(not(feature = "rocksdb"))]
            EngineChoice::Rocksdb { .. } => {
                Err(io::Error::other(format!("no RocksDB for {}", data_dir.display())))
            }
        }
    }
}

impl Engine {
    /// An empty one.
    pub(super) fn table(&self) -> Table {
        match self {
            Engine::Memory => Table::default(),
            #[cfg(feature = "rocksdb")]
            Engine::Disk(disk) => Table::Disk(disk.table()),
        }
    }

    /// Whether its tables make checkpoints, so that snapshots can be linked.
    pub fn has_checkpoints(&self) -> bool {
        !matches!(self, Engine::Memory)
    }

    /// One with the `len` entries behind `slot` that a checkpoint has. In RocksDB nothing of them is read.
    pub(super) fn linked_table(
        &self,
        checkpoint: &Path,
        slot: Slot,
        len: usize,
    ) -> Result<Table, String> {
        match self {
            #[cfg(feature = "rocksdb")]
            Engine::Memory => {
                let mut table = Table::default();
                read_checkpoint(checkpoint, slot, |key, value| table.restore(key, value))?;
                match table.len() == len {
                    true => Ok(table),
                    false => Err(format!("it has {} keys, and should have {len}", table.len())),
                }
            }
            #[cfg(not(feature = "rocksdb"))]
            Engine::Memory => Err(format!(
                "the {len} keys of slot {slot} lie in a checkpoint of RocksDB, {}, and this program was built without \
                 RocksDB: start it with one that was built with it (scripts/rocksdb.sh), with whatever store.engine",
                checkpoint.display()
            )),
            #[cfg(feature = "rocksdb")]
            Engine::Disk(disk) => disk.linked_table(checkpoint, slot, len).map(Table::Disk),
        }
    }
}
