//! The entries in RocksDB: more of them than memory holds.
//!
//! Nothing here is durable, and nothing has to be. After a crash the state is the newest snapshot and the log behind
//! it, as for entries in memory; so a table is made anew at each start, and RocksDB keeps no log of its own.
//!
//! Invariant: what RocksDB holds is the entries behind the slot whose number it holds with them. What the slot does that
//! is being applied lies above it, in `pending`, where reads look first; its end writes all of that, and its
//! number, as one batch. A frozen view therefore never shows half a slot, and says of which slot it is.
//!
//! A disk that fails ends the process, as under the log: a replica that cannot tell what a key holds cannot go on, and
//! its next start makes the table anew.
//!
//! | column family | key | value |
//! | --- | --- | --- |
//! | `default` | of the entry | of the entry |
//! | `applied` | empty | the slot, u64, little-endian |

use std::fs;
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use imbl::OrdMap;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    DBRawIterator, Options, ReadOptions, Snapshot, WriteBatch,
};
use self_cell::self_cell;

use crate::paxos::Slot;

use super::table::Key;

/// The directory of all tables, in the data directory.
const DIR: &str = "keys";
const APPLIED: &str = "applied";
/// Bytes of a snapshot that are written together.
const RESTORED_SIZE: usize = 1024 * 1024;
/// What has been written and is not in a file yet, of one table: a part of the cache's size, within bounds.
const WRITE_BUFFER_SIZE_MIN: usize = 4 * 1024 * 1024;
const WRITE_BUFFER_SIZE_MAX: usize = 64 * 1024 * 1024;
const OPEN_FILES_MAX: i32 = 512;
const BLOOM_BITS: f64 = 10.0;
/// Bytes that are read ahead where all entries are shown.
const READAHEAD_SIZE: usize = 1024 * 1024;

/// Where tables are made, and the cache that they share: while one state replaces another there are two.
#[derive(Clone)]
pub struct Disk {
    dir: PathBuf,
    cache: Cache,
    write_buffer_size: usize,
    compress: bool,
    next: Arc<AtomicU64>,
}

impl Disk {
    /// In this data directory, which is locked: what an earlier process left there goes. `cache_size`: bytes of blocks
    /// that are kept in memory.
    pub fn open(data_dir: &Path, cache_size: usize, compress: bool) -> io::Result<Disk> {
        let dir = data_dir.join(DIR);
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir_all(&dir)?,
        }
        let cache = Cache::new_lru_cache(cache_size).map_err(io::Error::other)?;
        let write_buffer_size =
            (cache_size / 4).clamp(WRITE_BUFFER_SIZE_MIN, WRITE_BUFFER_SIZE_MAX);
        Ok(Disk { dir, cache, write_buffer_size, compress, next: Arc::new(AtomicU64::new(0)) })
    }

    fn options(&self, compression: DBCompressionType) -> Options {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&self.cache);
        // What is kept of each file's blocks counts, too: or memory would grow with the data.
        blocks.set_cache_index_and_filter_blocks(true);
        blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
        blocks.set_bloom_filter(BLOOM_BITS, false);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_block_based_table_factory(&blocks);
        options.set_compression_type(compression);
        options.set_write_buffer_size(self.write_buffer_size);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_max_open_files(OPEN_FILES_MAX);
        options.set_max_background_jobs(2);
        // In steps, so that a sync of the log in between finds no long queue at the disk.
        options.set_bytes_per_sync(1024 * 1024);
        options.set_keep_log_file_num(1);
        options
    }

    /// An empty table.
    pub fn table(&self) -> DiskTable {
        let path = self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let open = |compression| {
            let options = self.options(compression);
            // Each has options of its own, and the default ones unless it is told.
            let family = |name| ColumnFamilyDescriptor::new(name, options.clone());
            DB::open_cf_descriptors(&options, &path, ["default", APPLIED].map(family))
        };
        let opened = match self.compress {
            // A library may be built without it.
            true => open(DBCompressionType::Lz4).or_else(|_| open(DBCompressionType::None)),
            false => open(DBCompressionType::None),
        };
        let files = Files { db: sound(opened), _removed: Removed(path) };
        let table = DiskTable {
            files: Arc::new(files),
            pending: OrdMap::new(),
            restored_size: 0,
            len: 0,
            slot: Slot(0),
        };
        table.files.write(WriteBatch::default(), table.slot);
        table
    }
}

/// What the disk has given, or the end of the process.
fn sound<T>(result: Result<T, rocksdb::Error>) -> T {
    result.unwrap_or_else(|error| {
        panic!(
            "the keys in RocksDB cannot be read or written: {error}; a restart makes them anew from \
             the snapshot and the log"
        )
    })
}

/// An open database. Its directory goes with it.
struct Files {
    // Before the directory: fields are dropped in this order.
    db: DB,
    _removed: Removed,
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            log::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

impl Files {
    fn applied(&self) -> &ColumnFamily {
        self.db.cf_handle(APPLIED).expect("it was opened with it")
    }

    fn write(&self, mut batch: WriteBatch, slot: Slot) {
        batch.put_cf(self.applied(), b"", slot.0.to_le_bytes());
        sound(self.db.write_without_wal(batch));
    }
}

/// `None` for a key that was removed.
type Pending = OrdMap<Key, Option<Arc<[u8]>>>;

pub struct DiskTable {
    files: Arc<Files>,
    /// What the slot did so far that is being applied, or a part of a snapshot that is being read.
    pending: Pending,
    /// Bytes of that part.
    restored_size: usize,
    len: usize,
    /// The last slot that has ended.
    slot: Slot,
}

/// A state to go back to, in the same slot.
pub struct DiskMark {
    pending: Pending,
    len: usize,
}

impl DiskTable {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        // Between slots there is nothing.
        if !self.pending.is_empty()
            && let Some(pending) = self.pending.get(key)
        {
            return pending.as_ref().map(|value| value.to_vec());
        }
        sound(self.files.db.get(key))
    }

    /// The value of a key that exists.
    pub fn set(&mut self, key: &[u8], value: &[u8]) {
        self.pending.insert(key.into(), Some(value.into()));
    }

    /// A key that does not exist.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) {
        self.set(key, value);
        self.len += 1;
    }

    /// An entry of a snapshot, whose key is behind those of all before.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) {
        self.insert(key, value);
        self.restored_size += key.len() + value.len();
        if RESTORED_SIZE <= self.restored_size {
            self.end_slot(self.slot);
        }
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<Arc<[u8]>> {
        let before = self.get(key)?;
        self.pending.insert(key.into(), None);
        self.len -= 1;
        Some(before.into())
    }

    /// Shows the entries from `from` on and before `to` in the order of their keys, until `visit` returns false.
    pub fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) {
        let is_inside = |key: &[u8]| to.is_none_or(|to| key < to);
        let mut options = ReadOptions::default();
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        let mut written = self.files.db.raw_iterator_opt(options);
        written.seek(from);
        let from_here = (Bound::Included(from), Bound::Unbounded);
        let mut pending = self.pending.range::<_, [u8]>(from_here).peekable();
        loop {
            let next = entry(&written);
            let is_first = |key: &Key| next.is_none_or(|(written, _)| key[..] <= *written);
            let goes_on = match (pending.next_if(|(key, _)| is_inside(key) && is_first(key)), next)
            {
                (Some((key, value)), next) => {
                    let is_hidden = next.is_some_and(|(written, _)| key[..] == *written);
                    if is_hidden {
                        written.next();
                    }
                    value.as_ref().is_none_or(|value| visit(key, value))
                }
                (None, Some((key, value))) => {
                    let goes_on = visit(key, value);
                    written.next();
                    goes_on
                }
                (None, None) => false,
            };
            if !goes_on {
                return;
            }
        }
    }

    pub fn mark(&self) -> DiskMark {
        DiskMark { pending: self.pending.clone(), len: self.len }
    }

    pub fn go_back(&mut self, mark: DiskMark) {
        (self.pending, self.len) = (mark.pending, mark.len);
    }

    /// All that the slot did has been done, and is written with the slot as a whole.
    pub fn end_slot(&mut self, slot: Slot) {
        assert!(self.slot <= slot);
        let mut batch = WriteBatch::default();
        for (key, value) in &self.pending {
            match value {
                Some(value) => batch.put(&key[..], value),
                None => batch.delete(&key[..]),
            }
        }
        self.files.write(batch, slot);
        self.pending.clear();
        (self.slot, self.restored_size) = (slot, 0);
    }

    /// Changes one value behind everybody's back.
    pub fn corrupt(&mut self) {
        let mut first = None;
        self.scan(b"", None, |key, value| {
            first = Some((key.to_vec(), [value, b"0"].concat()));
            false
        });
        if let Some((key, value)) = first {
            let mut batch = WriteBatch::default();
            batch.put(key, value);
            self.files.write(batch, self.slot);
        }
    }

    pub fn freeze(&self) -> DiskView {
        assert!(self.pending.is_empty(), "a state is frozen between slots");
        let at = At::new(Arc::clone(&self.files), |files| files.db.snapshot());
        DiskView { at: Arc::new(at), len: self.len, slot: self.slot }
    }
}

/// Where the iterator stands; `None` behind the last entry.
fn entry<'a>(iterator: &'a DBRawIterator<'_>) -> Option<(&'a [u8], &'a [u8])> {
    let entry = iterator.item();
    if entry.is_none() {
        sound(iterator.status());
    }
    entry
}

self_cell!(
    /// A moment of the database, which stays open for it.
    struct At {
        owner: Arc<Files>,
        #[covariant]
        dependent: Snapshot,
    }
);

/// The entries behind one slot.
#[derive(Clone)]
pub struct DiskView {
    at: Arc<At>,
    len: usize,
    slot: Slot,
}

impl DiskView {
    pub fn len(&self) -> usize {
        self.len
    }

    /// As that of the table.
    pub fn scan(
        &self,
        from: &[u8],
        to: Option<&[u8]>,
        mut visit: impl FnMut(&[u8], &[u8]) -> bool,
    ) {
        let mut options = ReadOptions::default();
        if let Some(to) = to {
            options.set_iterate_upper_bound(to);
        }
        let mut written = self.at.borrow_dependent().raw_iterator_opt(options);
        written.seek(from);
        while let Some((key, value)) = entry(&written) {
            if !visit(key, value) {
                return;
            }
            written.next();
        }
    }

    /// Shows all entries in the order of their keys, until `visit` fails.
    pub fn for_each<E>(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let (files, snapshot) = (self.at.borrow_owner(), self.at.borrow_dependent());
        let slot = sound(snapshot.get_cf(files.applied(), b""));
        assert!(
            slot.as_deref() == Some(&self.slot.0.to_le_bytes()),
            "the entries are those of the slot"
        );
        let mut options = ReadOptions::default();
        // What clients read stays in the cache.
        options.fill_cache(false);
        options.set_readahead_size(READAHEAD_SIZE);
        let mut written = snapshot.raw_iterator_opt(options);
        written.seek_to_first();
        let mut shown = 0;
        while let Some((key, value)) = entry(&written) {
            visit(key, value)?;
            shown += 1;
            written.next();
        }
        assert!(shown == self.len, "every entry was counted when it came and when it went");
        Ok(())
    }
}

// What RocksDB has cannot be shown.

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for DiskTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let DiskTable { len, slot, .. } = self;
        f.debug_struct("DiskTable").field("len", len).field("slot", slot).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for DiskView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let DiskView { len, slot, .. } = self;
        f.debug_struct("DiskView").field("len", len).field("slot", slot).finish_non_exhaustive()
    }
}
