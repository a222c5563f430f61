//! The disk that a node really has: a data directory, its segments mapped into memory, one thread
//! that syncs (`syncer`), one that makes spare segments (`spare`), and now and then one that removes
//! what was truncated (`remover`).
//!
//! Zeros are written by calls of 4 KiB, on purpose: the page cache then holds the file in pages of
//! 4 KiB. With larger folios (which bigger writes, fallocate or readahead bring) the kernel writes
//! a whole folio for each changed byte, up to 256 times of what was appended. `MADV_RANDOM` keeps
//! readahead from bringing large folios back after the pages were evicted. When the log is read
//! at the start, readahead is welcome; so the rest of the last segment gets its zeros then even if
//! it has them, after the pages were dropped.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Deref;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use memmap2::{Advice, MmapMut};
use rand::TryRng;

use crate::os;

use super::disk::{Blank, Disk, Finished, PAGE_SIZE, SegmentBytes, SpareState};
use super::remover::Remover;
use super::retired::{self, Retired};
use super::spare::SpareMaker;
use super::syncer::{SyncFile, Syncer};
use super::{WalError, map, meta, segment};

/// Zeros are made durable in steps of this size, so that a sync of the log that comes in between
/// finds no long queue at the disk.
const FILL_STEP_SIZE: u64 = 1024 * 1024;
/// Who is so far behind what is wanted hurries.
const FILL_LAG_SIZE: u64 = 8 * FILL_STEP_SIZE;
/// At the start nobody appends here, and others on the same disk wait for no longer than this takes.
const CLEAR_STEP_SIZE: u64 = 8 * FILL_STEP_SIZE;
/// What the disk is asked for ahead of what is read.
const READ_AHEAD_SIZE: u64 = 8 * READ_SIZE as u64;
/// From so many bytes on a record's pages are made writable before it is stored.
const POPULATED_SIZE_MIN: usize = 4 * PAGE_SIZE;
/// Unit in which segments are read from the disk.
const READ_SIZE: usize = 1024 * 1024;

pub struct FileDisk {
    dir: PathBuf,
    wal_dir: PathBuf,
    // Dropped in this order: the threads end before the lock is released.
    remover: Remover,
    syncer: Syncer,
    spares: SpareMaker,
    _lock: File,
}

/// A file of the log, shared with the thread that syncs it.
#[derive(Debug)]
pub struct SegmentFile {
    pub file: File,
    pub path: PathBuf,
}

/// A segment, mapped.
pub struct MappedSegment {
    file: Arc<SegmentFile>,
    map: MmapMut,
    /// Whether the page cache has it as it was written, by this process and page by page: for all that is
    /// known here. What it holds after a read may be large folios.
    is_as_written: Cell<bool>,
}

impl Deref for MappedSegment {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl SegmentBytes for MappedSegment {
    fn write(&mut self, start: usize, end: usize) -> &mut [u8] {
        let first = start / PAGE_SIZE * PAGE_SIZE;
        if POPULATED_SIZE_MIN <= end - start {
            // All pages at once, and not by a fault for each. An old kernel refuses, which does no harm.
            let _ = self.map.advise_range(Advice::PopulateWrite, first, end - first);
        }
        &mut self.map[start..end]
    }

    fn note_read(&self) {
        self.is_as_written.set(false);
    }
}

impl MappedSegment {
    /// Maps a file, with advice on how it is going to be read. A refusal of that is no error.
    fn map(file: Arc<SegmentFile>, advice: Advice) -> Result<MappedSegment, WalError> {
        let map = map::map_shared(&file.file)
            .map_err(|error| WalError::io("map the log segment", &file.path, error))?;
        let _ = map.advise(advice);
        // What is going to be read at random was just written, or has been dropped from the cache.
        Ok(MappedSegment { file, map, is_as_written: Cell::new(advice == Advice::Random) })
    }

    /// Whether the file is worth keeping for a later segment.
    pub fn is_reusable(&self) -> bool {
        self.is_as_written.get()
    }

    /// Ends the mapping.
    pub fn into_file(self) -> Arc<SegmentFile> {
        let MappedSegment { file, map, .. } = self;
        drop(map);
        file
    }
}

impl FileDisk {
    /// Locks the data directory, and creates it if it is missing. `wake` is called, from a helper
    /// thread, whenever a sync has ended or failed.
    pub fn open(dir: &Path, wake: Box<dyn Fn() + Send>) -> Result<FileDisk, WalError> {
        FileDisk::open_with(dir, wake, Box::new(File::sync_data))
    }

    pub(super) fn open_with(
        dir: &Path,
        wake: Box<dyn Fn() + Send>,
        sync_file: SyncFile,
    ) -> Result<FileDisk, WalError> {
        let wal_dir = segment::dir_in(dir);
        create_dirs(dir, &wal_dir)?;
        let lock = lock(dir)?;
        remove_temporaries(&wal_dir)?;
        let retired = Arc::new(Retired::default());
        let thread_failed = |error| WalError::io("start the threads of", dir, error);
        Ok(FileDisk {
            dir: dir.to_owned(),
            remover: Remover::new(Arc::clone(&retired)),
            syncer: Syncer::start(sync_file, wake).map_err(thread_failed)?,
            spares: SpareMaker::start(wal_dir.clone(), retired).map_err(thread_failed)?,
            wal_dir,
            _lock: lock,
        })
    }
}

impl Disk for FileDisk {
    type Bytes = MappedSegment;

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn draw_log_id(&mut self) -> Result<u64, WalError> {
        rand::rngs::SysRng
            .try_next_u64()
            .map_err(|error| WalError::io("draw a log id for", &self.dir, io::Error::other(error)))
    }

    fn read_meta(&mut self) -> Result<Option<Vec<u8>>, WalError> {
        read_meta(&self.dir)
    }

    fn write_meta(&mut self, bytes: &[u8]) -> Result<(), WalError> {
        write_meta(&self.dir, bytes)
    }

    fn list_segments(&mut self) -> Result<Vec<u64>, WalError> {
        list(&self.wal_dir)
    }

    fn open_segment(&mut self, number: u64) -> Result<MappedSegment, WalError> {
        let file = open(&self.wal_dir, number, true)?;
        MappedSegment::map(Arc::new(file), Advice::Sequential)
    }

    fn read_through(&mut self, bytes: &MappedSegment) -> Result<(), WalError> {
        read_through(&bytes.file)
    }

    fn create_segment(&mut self, blank: Blank) -> Result<MappedSegment, WalError> {
        let file = create(&self.wal_dir, blank, &Wishes::hurry())?;
        MappedSegment::map(Arc::new(file), Advice::Random)
    }

    fn remove_segment(&mut self, number: u64) -> Result<(), WalError> {
        let path = segment::path_in(&self.wal_dir, number);
        fs::remove_file(&path).map_err(|error| WalError::io("remove", &path, error))
    }

    fn remove_first(
        &mut self,
        gone: Vec<(u64, MappedSegment)>,
        meta: &[u8],
    ) -> Result<(), WalError> {
        self.remover.start(&self.dir, gone, meta.to_vec())
    }

    fn is_removing(&mut self) -> bool {
        self.remover.is_at_work()
    }

    fn sync_names(&mut self) -> Result<(), WalError> {
        sync_dir(&self.wal_dir).map_err(|error| WalError::io("sync", &self.wal_dir, error))
    }

    fn sync_segment(&mut self, bytes: &MappedSegment) -> Result<(), WalError> {
        let file = &bytes.file;
        file.file
            .sync_data()
            .map_err(|error| WalError::io("sync the log segment", &file.path, error))
    }

    fn clear_rest(&mut self, bytes: MappedSegment, used: usize) -> Result<MappedSegment, WalError> {
        let MappedSegment { file, map, .. } = bytes;
        let size = map.len() as u64;
        // Pages that are mapped would stay.
        drop(map);
        os::drop_cache(&file.file);
        for begin in (used as u64..size).step_by(CLEAR_STEP_SIZE as usize) {
            let end = size.min(begin + CLEAR_STEP_SIZE);
            fill_with_zeros(&file.file, begin, end, true, &Wishes::hurry())
                .and_then(|()| file.file.sync_data())
                .map_err(|error| WalError::io("sync the log segment", &file.path, error))?;
        }
        MappedSegment::map(file, Advice::Random)
    }

    fn release(&mut self, bytes: &MappedSegment, start: usize, end: usize) {
        map::release_pages(&bytes.map, start, end);
    }

    /// From now on reads may bring their neighbours along.
    fn seal(&mut self, bytes: &MappedSegment) {
        map::release_pages(&bytes.map, 0, bytes.len());
        let _ = bytes.map.advise(Advice::Normal);
    }

    fn ask_spare(&mut self, blank: Blank) -> Result<(), WalError> {
        self.spares.ask(blank)
    }

    fn want_spare(&mut self, bytes: u64) {
        self.spares.want(bytes);
    }

    fn spare(&mut self) -> Result<SpareState, WalError> {
        self.spares.state()
    }

    fn take_spare(&mut self, blank: Blank) -> Result<MappedSegment, WalError> {
        let file = self.spares.take(blank)?;
        MappedSegment::map(Arc::new(file), Advice::Random)
    }

    fn start_sync<'a>(
        &mut self,
        segments: impl Iterator<Item = &'a MappedSegment>,
        position: u64,
    ) -> Result<(), WalError> {
        self.syncer.sync(segments.map(|bytes| Arc::clone(&bytes.file)).collect(), position)
    }

    fn poll_sync(&mut self) -> Result<Option<Finished>, WalError> {
        self.syncer.try_finished()
    }

    fn wait_sync(&mut self) -> Result<Finished, WalError> {
        self.syncer.wait_finished()
    }
}

fn create_dirs(dir: &Path, wal_dir: &Path) -> Result<(), WalError> {
    let is_new = !dir.exists();
    let created = fs::create_dir_all(wal_dir).and_then(|()| {
        sync_dir(dir)?;
        match dir.parent() {
            // Only where it is needed: a service may lack the right to open the parent.
            Some(parent) if is_new && parent != Path::new("") => sync_dir(parent),
            _ => Ok(()),
        }
    });
    created.map_err(|error| WalError::io("create the data directory", dir, error))
}

pub fn lock_path_in(dir: &Path) -> PathBuf {
    dir.join("lock")
}

fn lock(dir: &Path) -> Result<File, WalError> {
    let path = lock_path_in(dir);
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|error| WalError::io("open", &path, error))?;
    if !os::try_lock(&file, false).map_err(|error| WalError::io("lock", &path, error))? {
        return Err(WalError::Locked { dir: dir.to_owned() });
    }
    Ok(file)
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The bytes of `meta`, `None` if there is no such file.
pub fn read_meta(dir: &Path) -> Result<Option<Vec<u8>>, WalError> {
    let path = meta::path_in(dir);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(WalError::io("read", &path, error)),
    }
}

/// Replaces `meta`: the file is written under another name, made durable and renamed.
pub fn write_meta(dir: &Path, bytes: &[u8]) -> Result<(), WalError> {
    let path = meta::path_in(dir);
    let temporary = dir.join("meta.tmp");
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|error| WalError::io("write", &temporary, error))?;
    fs::rename(&temporary, &path)
        .and_then(|()| sync_dir(dir))
        .map_err(|error| WalError::io("write", &path, error))
}

/// The numbers of the segments in the directory, in order.
pub fn list(wal_dir: &Path) -> Result<Vec<u64>, WalError> {
    let failed = |error| WalError::io("list the log segments in", wal_dir, error);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(wal_dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let stem = name.to_str().and_then(|name| name.strip_suffix(".seg"));
        let Some(stem) = stem.filter(|s| s.len() == 16 && s.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        numbers.push(stem.parse::<u64>().expect("16 digits are a u64"));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

/// Opens the file of a segment.
pub fn open(wal_dir: &Path, number: u64, write: bool) -> Result<SegmentFile, WalError> {
    let path = segment::path_in(wal_dir, number);
    let opened = OpenOptions::new().read(true).write(write).open(&path);
    let file = opened.map_err(|error| WalError::io("open", &path, error))?;
    Ok(SegmentFile { file, path })
}

/// Reads the file once by `read`, into the page cache: a sector that the disk can't read is an
/// error here that names the file, and would be a fatal signal in the mapping.
pub fn read_through(segment: &SegmentFile) -> Result<(), WalError> {
    let failed = |error| WalError::io("read the log segment", &segment.path, error);
    let size = segment.file.metadata().map_err(failed)?.len();
    let mut buffer = vec![0u8; READ_SIZE.min(size as usize)];
    let mut at = 0;
    while at < size {
        // The kernel's own readahead asks for so little at a time that the disk rests in between.
        os::read_ahead(&segment.file, at, READ_AHEAD_SIZE);
        match segment.file.read_at(&mut buffer, at).map_err(failed)? {
            0 => break,
            read => at += read as u64,
        }
    }
    Ok(())
}

/// Removes what an interrupted creation left, and what an earlier process kept to use again: where the page
/// cache has that from, nobody knows.
fn remove_temporaries(wal_dir: &Path) -> Result<(), WalError> {
    let failed = |error| WalError::io("clean", wal_dir, error);
    for entry in fs::read_dir(wal_dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let extension = path.extension();
        if extension.is_some_and(|it| it == "tmp" || it == retired::EXTENSION) {
            fs::remove_file(&path).map_err(|error| WalError::io("remove", &path, error))?;
        }
    }
    Ok(())
}

/// What others want of whoever creates a segment; it may change meanwhile.
#[derive(Debug, Default)]
pub struct Wishes {
    /// So many bytes of it should be there by now.
    pub wanted: AtomicU64,
    /// The log is being closed: it stops early, with an error.
    pub given_up: AtomicBool,
}

impl Wishes {
    /// Of whoever does it themselves, and waits.
    pub fn hurry() -> Wishes {
        Wishes { wanted: AtomicU64::new(u64::MAX), given_up: AtomicBool::new(false) }
    }
}

/// Creates a segment file full of zeros under another name, and renames it once it is complete.
pub fn create(wal_dir: &Path, blank: Blank, wishes: &Wishes) -> Result<SegmentFile, WalError> {
    let Blank { number, size, sync } = blank;
    let path = segment::path_in(wal_dir, number);
    let temporary = path.with_extension("tmp");
    let created = (|| {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(&temporary)?;
        fill_with_zeros(&file, 0, size, sync, wishes)?;
        if sync {
            file.sync_all()?;
        }
        fs::rename(&temporary, &path)?;
        if sync {
            sync_dir(wal_dir)?;
        }
        Ok(file)
    })();
    match created {
        Ok(file) => Ok(SegmentFile { file, path }),
        Err(error) => {
            // What was written so far only takes the room that is missing.
            let _ = fs::remove_file(&temporary);
            Err(if is_full(&error) {
                WalError::DiskFull { path, size }
            } else {
                WalError::io("create the log segment", &path, error)
            })
        }
    }
}

/// Writes zeros over `start..end`, page by page. They are durable when the caller has synced the file.
///
/// Where less is wanted it waits to be unparked: what takes the disk and the processor from the log goes on evenly
/// beside it, instead of in one go when the log needs them most.
pub fn fill_with_zeros(
    file: &File,
    start: u64,
    end: u64,
    sync: bool,
    wishes: &Wishes,
) -> io::Result<()> {
    let zeros = [0u8; PAGE_SIZE];
    let mut at = start;
    let mut step_end = start + FILL_STEP_SIZE;
    while at < end {
        // Up to the next page boundary: a write across two pages would bring a larger folio.
        let size = (PAGE_SIZE as u64 - at % PAGE_SIZE as u64).min(end - at);
        file.write_all_at(&zeros[..size as usize], at)?;
        at += size;
        if at < step_end || at == end {
            continue;
        }
        step_end = at + FILL_STEP_SIZE;
        let wanted = wishes.wanted.load(Ordering::Acquire);
        // Far behind, the steps would only take longer than one sync of all, which the caller makes.
        if sync && wanted < at + FILL_LAG_SIZE {
            file.sync_data()?;
        }
        while wishes.wanted.load(Ordering::Acquire) < at {
            if wishes.given_up.load(Ordering::Acquire) {
                break;
            }
            thread::park();
        }
        if wishes.given_up.load(Ordering::Acquire) {
            return Err(io::Error::other("given up, since the log is being closed"));
        }
    }
    Ok(())
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge
            | io::ErrorKind::WriteZero
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sparse page would be allocated at the first store to it, which on a full disk kills the
    /// process. So every page of a new segment must have its block already.
    #[test]
    fn a_new_segment_has_all_its_blocks() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let blank = Blank { number: 7, size: 64 * 1024, sync: true };
        let segment = create(dir.path(), blank, &Wishes::hurry()).unwrap();
        let metadata = segment.file.metadata().unwrap();
        assert_eq!(metadata.len(), 64 * 1024);
        assert!(64 * 1024 <= metadata.blocks() * 512);
        assert_eq!(list(dir.path()).unwrap(), [7]);
    }

    /// No more than what is wanted, in steps; and it can be given up meanwhile.
    #[test]
    fn a_segment_is_filled_as_it_is_wanted() {
        let file = tempfile::tempfile().unwrap();
        let len = || file.metadata().unwrap().len();
        let wishes = Wishes::default();
        wishes.wanted.store(FILL_STEP_SIZE + 1, Ordering::Release);
        thread::scope(|scope| {
            let filler =
                scope.spawn(|| fill_with_zeros(&file, 0, 8 * FILL_STEP_SIZE, true, &wishes));
            while len() < 2 * FILL_STEP_SIZE {
                thread::yield_now();
            }
            wishes.given_up.store(true, Ordering::Release);
            filler.thread().unpark();
            assert!(filler.join().unwrap().is_err());
        });
        assert_eq!(len(), 2 * FILL_STEP_SIZE);
        wishes.given_up.store(false, Ordering::Release);
        wishes.wanted.store(u64::MAX, Ordering::Release);
        fill_with_zeros(&file, len(), 8 * FILL_STEP_SIZE, true, &wishes).unwrap();
        assert_eq!(len(), 8 * FILL_STEP_SIZE);
    }

    #[test]
    fn other_files_are_no_segments() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["1.seg", "0000000000000001.tmp", "000000000000000x.seg", "notes"] {
            fs::write(dir.path().join(name), b"").unwrap();
        }
        assert!(list(dir.path()).unwrap().is_empty());
        remove_temporaries(dir.path()).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
    }
}
