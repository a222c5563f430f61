//! The databases of RocksDB that tables lie in: how they are made, linked, and what is done when one fails.
//!
//! A checkpoint is a directory of RocksDB's files as they were at one slot, hard links for the most part: these files
//! are written once and never changed. It is nobody's to write: a table that begins with it links its files anew.
//!
//! A disk that fails ends the process, as under the log: a replica that cannot tell what a key holds cannot go on. Where
//! it is a block that has gone bad in a file of a checkpoint, the next start would meet it again; so that checkpoint
//! is marked before, by a file [`DAMAGED`] in it, and not opened any more.
//!
//! | column family | key | value |
//! | --- | --- | --- |
//! | `default` | of the entry | of the entry |
//! | `applied` | empty | the slot, u64, little-endian |

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, Error,
    ErrorKind, Options, WriteBatch,
};

use crate::paxos::Slot;

/// The directory of all tables, in the data directory.
const DIR: &str = "keys";
const DEFAULT: &str = "default";
const APPLIED: &str = "applied";
/// Says in a checkpoint what is wrong with it.
const DAMAGED: &str = "DAMAGED";
/// The extension of a directory beside a checkpoint, for whoever reads it.
const READ: &str = "read";
/// What has been written and is not in a file yet, of one table: a part of the cache's size, within bounds.
const WRITE_BUFFER_SIZE_MIN: usize = 4 * 1024 * 1024;
const WRITE_BUFFER_SIZE_MAX: usize = 64 * 1024 * 1024;
const OPEN_FILES_MAX: i32 = 512;
const BLOOM_BITS: f64 = 10.0;
/// Of the cache where a checkpoint is read through once.
const CACHE_SIZE_ONCE: usize = 8 * 1024 * 1024;

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
        remove_dir(&dir)?;
        fs::create_dir_all(&dir)?;
        Disk::new(dir, cache_size, compress)
    }

    fn new(dir: PathBuf, cache_size: usize, compress: bool) -> io::Result<Disk> {
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
        // The entries and the slot that they are of reach the files together.
        options.set_atomic_flush(true);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_max_open_files(OPEN_FILES_MAX);
        options.set_max_background_jobs(2);
        // In steps, so that a sync of the log in between finds no long queue at the disk.
        options.set_bytes_per_sync(1024 * 1024);
        options.set_keep_log_file_num(1);
        options
    }

    /// A directory that nothing lies in, for a database.
    fn place(&self) -> Removed {
        Removed(self.dir.join(self.next.fetch_add(1, Ordering::Relaxed).to_string()))
    }

    /// An empty database.
    pub fn create(&self) -> Files {
        let place = self.place();
        let opened = self.open_in(&place.0, |options, path, families| {
            DB::open_cf_descriptors(options, path, families)
        });
        let db = opened.unwrap_or_else(|error| end(&error));
        let files = Files { db, origins: Mutex::default(), disk: self.clone(), place };
        files.write(WriteBatch::default(), Slot(0));
        files
    }

    fn open_in(
        &self,
        path: &Path,
        open: impl Fn(&Options, &Path, Vec<ColumnFamilyDescriptor>) -> Result<DB, Error>,
    ) -> Result<DB, Error> {
        let open = |compression| {
            let options = self.options(compression);
            // Each has options of its own, and the default ones unless it is told.
            let family = |name| ColumnFamilyDescriptor::new(name, options.clone());
            open(&options, path, [DEFAULT, APPLIED].map(family).into())
        };
        match self.compress {
            // A library may be built without it.
            true => open(DBCompressionType::Lz4).or_else(|error| match error.kind() {
                ErrorKind::InvalidArgument | ErrorKind::NotSupported => {
                    open(DBCompressionType::None)
                }
                _ => Err(error),
            }),
            false => open(DBCompressionType::None),
        }
    }

    /// A database that begins with what this checkpoint holds, which must be the entries behind `slot`.
    pub fn link(&self, checkpoint: &Path, slot: Slot) -> Result<Files, String> {
        self.open_linked(checkpoint, slot, self.place(), |options, path, families| {
            DB::open_cf_descriptors(options, path, families)
        })
    }

    /// The same to be read only, in a directory beside the checkpoint.
    fn link_to_read(&self, checkpoint: &Path, slot: Slot) -> Result<Files, String> {
        let place = Removed(checkpoint.with_extension(READ));
        remove_dir(&place.0).map_err(|error| error.to_string())?;
        self.open_linked(checkpoint, slot, place, |options, path, families| {
            DB::open_cf_descriptors_read_only(options, path, families, false)
        })
    }

    fn open_linked(
        &self,
        checkpoint: &Path,
        slot: Slot,
        place: Removed,
        open: impl Fn(&Options, &Path, Vec<ColumnFamilyDescriptor>) -> Result<DB, Error>,
    ) -> Result<Files, String> {
        if let Ok(why) = fs::read_to_string(checkpoint.join(DAMAGED)) {
            return Err(format!("it was found damaged: {}", why.trim_end()));
        }
        link_files(checkpoint, &place.0)
            .map_err(|error| format!("cannot link its files: {error}"))?;
        let db = self.open_in(&place.0, open).map_err(Error::into_string)?;
        let origins = Mutex::new(vec![checkpoint.to_owned()]);
        let files = Files { db, origins, disk: self.clone(), place };
        match files.slot() {
            Ok(Some(found)) if found == slot => Ok(files),
            Ok(found) => {
                let found = found.map_or("none".to_owned(), |found| found.to_string());
                Err(format!("it is of slot {found}, and should be of slot {slot}"))
            }
            Err(error) => Err(error.into_string()),
        }
    }
}

/// A checkpoint that is only read, by a program whose tables lie elsewhere.
pub fn open_to_read(checkpoint: &Path, slot: Slot) -> Result<Files, String> {
    let disk = Disk::new(PathBuf::new(), CACHE_SIZE_ONCE, false);
    disk.map_err(|error| error.to_string())?.link_to_read(checkpoint, slot)
}

/// Makes a directory `to` with the files of a checkpoint. Tables are linked: nobody changes them. The few small others
/// are copied, to be gone on with.
fn link_files(checkpoint: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(checkpoint)? {
        let (from, to) = {
            let entry = entry?;
            (entry.path(), to.join(entry.file_name()))
        };
        let is_table = from.extension().is_some_and(|extension| extension == "sst");
        match is_table.then(|| fs::hard_link(&from, &to)) {
            Some(Ok(())) => {}
            Some(Err(error)) if error.kind() != io::ErrorKind::CrossesDevices => return Err(error),
            _ => _ = fs::copy(&from, &to)?,
        }
    }
    Ok(())
}

/// Makes a checkpoint durable: its files, which RocksDB should have made so already, and their names. A sync that fails
/// ends the process: the next checkpoint has the same files, and would take for durable what was lost here.
fn sync_files(dir: &Path) -> io::Result<()> {
    let parent = dir.parent().expect("it lies in the directory of snapshots");
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir)? {
        paths.push(entry?.path());
    }
    paths.extend([dir.to_owned(), parent.to_owned()]);
    for path in paths {
        if let Err(error) = File::open(&path)?.sync_all() {
            panic!("{} cannot be synced: {error}; the disk may hold anything", path.display());
        }
    }
    Ok(())
}

/// Removes a directory, if it is there.
pub fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn end(error: &Error) -> ! {
    panic!(
        "the keys in RocksDB cannot be read or written: {error}; a restart makes them anew from the newest \
         snapshot that is not damaged, and the log"
    )
}

/// An open database. Its directory goes with it.
pub struct Files {
    // Before its directory: fields are dropped in this order.
    db: DB,
    /// Checkpoints that have files of it.
    origins: Mutex<Vec<PathBuf>>,
    disk: Disk,
    place: Removed,
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        if let Err(error) = remove_dir(&self.0) {
            log::warn!("cannot remove {}: {error}", self.0.display());
        }
    }
}

impl Files {
    pub fn db(&self) -> &DB {
        &self.db
    }

    pub fn applied(&self) -> &ColumnFamily {
        self.db.cf_handle(APPLIED).expect("it was opened with it")
    }

    /// What the disk has given, or the end of the process.
    pub fn sound<T>(&self, result: Result<T, Error>) -> T {
        result.unwrap_or_else(|error| {
            self.note_damage(&error);
            end(&error)
        })
    }

    /// Sees to it that a checkpoint in which a block has gone bad is not opened any more.
    pub fn note_damage(&self, error: &Error) {
        if error.kind() == ErrorKind::Corruption {
            self.mark_damaged(error.as_ref());
        }
    }

    pub fn write(&self, mut batch: WriteBatch, slot: Slot) {
        batch.put_cf(self.applied(), b"", slot.0.to_le_bytes());
        self.sound(self.db.write_without_wal(batch));
    }

    fn slot(&self) -> Result<Option<Slot>, Error> {
        let bytes = self.db.get_cf(self.applied(), b"")?;
        Ok(bytes.and_then(|bytes| Some(Slot(u64::from_le_bytes(bytes.try_into().ok()?)))))
    }

    /// Makes a checkpoint of the entries behind `slot`, while nobody writes; `made` is called when writing may go on.
    /// It is durable then, and was opened once: what a start does with it has been done.
    pub fn checkpoint(
        &self,
        path: &Path,
        slot: Slot,
        made: impl FnOnce() -> Result<(), &'static str>,
    ) -> Result<(), String> {
        let failed = |error: io::Error| error.to_string();
        // Of an attempt that failed, here or in RocksDB.
        remove_dir(path)
            .and_then(|()| remove_dir(&path.with_extension("keys.tmp")))
            .map_err(failed)?;
        let checkpoint = Checkpoint::new(&self.db).and_then(|it| it.create_checkpoint(path));
        let result = made().map_err(str::to_owned).and_then(|()| {
            checkpoint.map_err(Error::into_string)?;
            self.disk.link_to_read(path, slot)?;
            sync_files(path).map_err(failed)
        });
        match result {
            Ok(()) => {
                let mut origins = self.origins.lock().unwrap_or_else(PoisonError::into_inner);
                origins.retain(|origin| origin.is_dir());
                origins.push(path.to_owned());
            }
            // What cannot be removed is no snapshot, and goes at the next start.
            Err(_) => _ = remove_dir(path),
        }
        result
    }

    /// Marks the checkpoints that have the file in which this was found; or the newest, if that is not said. As well
    /// as can be: the process is about to end.
    fn mark_damaged(&self, why: &str) {
        let Ok(origins) = self.origins.try_lock() else { return };
        let has_it = |origin: &PathBuf| match table_in(why) {
            Some(name) => is_linked(&self.place.0.join(&name), &origin.join(&name)),
            None => Some(origin) == origins.last(),
        };
        for origin in origins.iter().filter(|origin| has_it(origin)) {
            log::error!("{} is damaged, and is not used any more", origin.display());
            if let Err(error) = fs::write(origin.join(DAMAGED), why) {
                log::error!("that cannot be noted there: {error}");
            }
        }
    }
}

/// Whether these are one file; or may be copies, for want of links between their file systems.
fn is_linked(a: &Path, b: &Path) -> bool {
    match (fs::metadata(a), fs::metadata(b)) {
        (Ok(a), Ok(b)) => a.dev() != b.dev() || a.ino() == b.ino(),
        _ => false,
    }
}

/// The name of the table's file that a message of RocksDB speaks of.
fn table_in(message: &str) -> Option<String> {
    let before = message.split_once(".sst")?.0;
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next()?;
    (!digits.is_empty()).then(|| format!("{digits}.sst"))
}

// What RocksDB has cannot be shown.

impl std::fmt::Debug for Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Disk").field("dir", &self.dir).finish_non_exhaustive()
    }
}
