//! Where the entries of a store lie.

use std::io;
use std::path::Path;

#[cfg(feature = "rocksdb")]
use super::disk_table::Disk;
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
}
