//! The write-ahead log: what a node must not forget, in preallocated segments mapped into memory.
//!
//! Invariants:
//!
//! - A record is durable once `durable()` has reached its position, and never before its sync has
//!   ended without an error. A failed sync is final.
//! - After a crash the log holds a prefix of what was appended that contains all that was durable;
//!   or, if the disk lost something of that, it is refused.
//! - The append path does no system call except at a change of segments.
//!
//! A data directory holds `lock`, `meta` (see `meta`) and `wal/`, the segments (see `segment` and
//! `record` for their bytes, `recovery` for how they are read back). One thread appends and reads;
//! two helper threads sync (`syncer`) and make the next segment ready (`spare`). All unsafe code is
//! in `map`.
//!
//! It does not know what a ballot is good for, and does not truncate yet: all segments are kept.

pub mod error;
pub mod index;
pub mod inspect;
pub mod map;
pub mod meta;
pub mod record;
pub mod recovery;
pub mod segment;
pub mod spare;
pub mod syncer;

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rand::TryRng;

use crate::limits::SLOT_VALUE_SIZE_MAX;
use crate::paxos::{Ballot, NodeId, Record, Recovered, Slot};
use crate::wire::ClusterId;

pub use error::WalError;
pub use inspect::{Verdict, inspect};

use index::Index;
use meta::Meta;
use record::Stored;
use recovery::Log;
use segment::Segment;
use spare::SpareMaker;
use syncer::{SyncFile, Syncer};

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: ClusterId,
    pub node: NodeId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Bytes of each new segment; rounded up to a multiple of 4 KiB. It may change between runs.
    pub segment_size: u64,
    /// Off in the laboratory only: `durable()` then follows `end()` at once, and a crash of the
    /// machine may lose what the node has answered with.
    pub sync: bool,
}

/// Position in the log: the number of records appended so far, over all restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition(pub u64);

/// One finished sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncDone {
    /// All below is durable.
    pub position: LogPosition,
    pub duration_ns: u64,
}

pub struct Wal {
    meta: Meta,
    options: Options,
    /// All segments, from number 1 on; records are appended to the last one.
    segments: Vec<Segment>,
    index: Index,
    /// Sequence number of the last record appended.
    end: u64,
    /// The last sequence number known to be on the disk; what records carry as `durable`.
    synced: u64,
    /// Where the sync in flight will bring `synced`.
    in_flight: Option<u64>,
    /// The first of `segments` that may hold records which no sync was started for.
    dirty_from: usize,
    /// Why a sync failed; final.
    failed: Option<String>,
    syncs: u64,
    // Dropped in this order: the threads end before the lock is released.
    syncer: Syncer,
    spares: SpareMaker,
    _lock: File,
}

/// Segments below this hold too little to be of use.
const SEGMENT_SIZE_LEAST: u64 = 8 * 1024;
const PAGE_SIZE: u64 = 4096;

impl Wal {
    /// Locks the data directory, creates it if it is missing, and recovers the log.
    ///
    /// `wake` is called, from a helper thread, whenever a sync has ended or failed. `progress` gets
    /// bytes done and bytes in all while the log is read.
    pub fn open(
        dir: &Path,
        identity: Identity,
        options: Options,
        wake: Box<dyn Fn() + Send>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Wal, Recovered), WalError> {
        Wal::open_with(dir, identity, options, wake, progress, Box::new(File::sync_data))
    }

    fn open_with(
        dir: &Path,
        identity: Identity,
        options: Options,
        wake: Box<dyn Fn() + Send>,
        progress: &mut dyn FnMut(u64, u64),
        sync_file: SyncFile,
    ) -> Result<(Wal, Recovered), WalError> {
        let options = check_options(options)?;
        let wal_dir = dir.join("wal");
        create_dirs(dir, &wal_dir)?;
        let lock = lock(dir)?;
        segment::remove_temporaries(&wal_dir)?;
        let (meta, log) = match meta::read(dir)? {
            Some(copies) => {
                let found = copies.meta.identity;
                if found != identity {
                    return Err(WalError::Foreign {
                        dir: dir.to_owned(),
                        found,
                        expected: identity,
                    });
                }
                if copies.repair {
                    log::warn!("one copy in {} was damaged", meta::path_in(dir).display());
                    meta::write(dir, &copies.meta)?;
                }
                (copies.meta, recovery::recover(&wal_dir, copies.meta, progress)?)
            }
            None => create(dir, &wal_dir, identity, options)?,
        };

        let thread_failed = |error| WalError::io("start the threads of", dir, error);
        let syncer = Syncer::start(sync_file, wake).map_err(thread_failed)?;
        let size = options.segment_size;
        let mut spares =
            SpareMaker::start(wal_dir, size, options.sync, meta.log_id).map_err(thread_failed)?;
        spares.ask(log.segments.len() as u64 + 1)?;
        let wal = Wal {
            meta,
            options,
            dirty_from: log.segments.len() - 1,
            segments: log.segments,
            index: log.index,
            end: log.end,
            synced: log.end,
            in_flight: None,
            failed: None,
            syncs: 0,
            syncer,
            spares,
            _lock: lock,
        };
        Ok((wal, log.recovered))
    }

    /// Appends a record and returns the position behind it: the record is durable once `durable()`
    /// has reached that.
    pub fn append(&mut self, record: &Record) -> Result<LogPosition, WalError> {
        self.check_not_failed()?;
        let stored = Stored::new(record, self.end + 1, self.synced);
        self.check_size(&stored)?;
        if !self.last().fits(&stored) {
            self.begin_segment()?;
        }
        let last = self.segments.last_mut().expect("there is always a segment");
        let offset = last.append(&stored);
        let number = last.number;
        if stored.kind.has_value() {
            self.index.set(stored.slot, recovery::location(number, offset));
        }
        self.end += 1;
        Ok(LogPosition(self.end))
    }

    /// The position behind the last record appended.
    pub fn end(&self) -> LogPosition {
        LogPosition(self.end)
    }

    /// The position up to which the log is on the disk, as far as `poll_sync` has learned.
    pub fn durable(&self) -> LogPosition {
        LogPosition(if self.options.sync { self.synced } else { self.end })
    }

    /// If something appended is not covered by a sync and none is in flight, starts one. Returns
    /// whether a sync is in flight afterwards.
    pub fn start_sync(&mut self) -> Result<bool, WalError> {
        self.check_not_failed()?;
        if self.in_flight.is_some() {
            return Ok(true);
        }
        if self.durable() == self.end() {
            return Ok(false);
        }
        let dirty = &self.segments[self.dirty_from..];
        let files = dirty.iter().map(|segment| Arc::clone(&segment.file)).collect();
        self.syncer.sync(files, self.end)?;
        self.in_flight = Some(self.end);
        self.dirty_from = self.segments.len() - 1;
        Ok(true)
    }

    /// What has finished since this was last asked; never waits. An error is final.
    pub fn poll_sync(&mut self) -> Result<Option<SyncDone>, WalError> {
        self.check_not_failed()?;
        if self.in_flight.is_none() {
            return Ok(None);
        }
        match self.syncer.try_finished() {
            Ok(None) => Ok(None),
            Ok(Some(finished)) => self.on_finished(finished).map(Some),
            Err(error) => Err(self.fail(error.to_string())),
        }
    }

    /// Waits until all that was appended is durable.
    pub fn sync_now(&mut self) -> Result<(), WalError> {
        while self.start_sync()? {
            match self.syncer.wait_finished() {
                Ok(finished) => self.on_finished(finished)?,
                Err(error) => return Err(self.fail(error.to_string())),
            };
        }
        assert!(self.durable() == self.end());
        Ok(())
    }

    /// Ballot and value of the last accepted or chosen record of `slot`, as they lie in the log.
    pub fn read(&self, slot: Slot) -> Option<(Ballot, &[u8])> {
        let at = self.index.find(slot)?;
        let segment = &self.segments[at.segment as usize - 1];
        Some(Stored::value_of(segment.record_at(at.offset as usize)))
    }

    /// The first slot held and the slot after the last one; equal if there is none. There may be
    /// holes between them.
    pub fn held(&self) -> (Slot, Slot) {
        self.index.held()
    }

    /// Syncs finished since the log was opened.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    fn on_finished(&mut self, finished: syncer::Finished) -> Result<SyncDone, WalError> {
        let expected = self.in_flight.take();
        if let Err(why) = finished.result {
            return Err(self.fail(why));
        }
        assert!(expected == Some(finished.position), "results come in the order of the syncs");
        assert!(self.synced <= finished.position && finished.position <= self.end);
        self.synced = finished.position;
        self.syncs += 1;
        Ok(SyncDone { position: LogPosition(finished.position), duration_ns: finished.duration_ns })
    }

    fn fail(&mut self, why: String) -> WalError {
        self.failed = Some(why.clone());
        WalError::SyncFailed { why }
    }

    fn check_not_failed(&self) -> Result<(), WalError> {
        match &self.failed {
            Some(why) => Err(WalError::SyncFailed { why: why.clone() }),
            None => Ok(()),
        }
    }

    fn check_size(&self, stored: &Stored) -> Result<(), WalError> {
        let room = self.options.segment_size as usize - segment::HEADER_SIZE - record::HEADER_SIZE;
        let max = room.min(SLOT_VALUE_SIZE_MAX);
        let size = stored.payload.len();
        // Segments are multiples of 8 and so is the header, so padding never makes the difference.
        if size <= max {
            Ok(())
        } else {
            Err(WalError::TooLarge { size: size as u64, max: max as u64 })
        }
    }

    fn last(&self) -> &Segment {
        self.segments.last().expect("there is always a segment")
    }

    /// Goes on in the spare segment. Its file and name are durable already.
    fn begin_segment(&mut self) -> Result<(), WalError> {
        let number = self.segments.len() as u64 + 1;
        let mut next = self.spares.take(number)?;
        next.begin(self.meta, self.end + 1, self.synced);
        self.last().seal();
        self.segments.push(next);
        self.spares.ask(number + 1)
    }
}

/// A new, empty log. `meta` comes last: only then is the directory a log.
fn create(
    dir: &Path,
    wal_dir: &Path,
    identity: Identity,
    options: Options,
) -> Result<(Meta, Log), WalError> {
    check_interrupted_creation(dir, wal_dir)?;
    let log_id = rand::rngs::SysRng
        .try_next_u64()
        .map_err(|error| WalError::io("draw a log id for", dir, std::io::Error::other(error)))?;
    let meta = Meta { identity, log_id };
    let never = AtomicBool::new(false);
    let file = segment::create(wal_dir, 1, options.segment_size, true, &never)?;
    let mut segment = Segment::map(Arc::new(file), 1, 0, log_id)?;
    segment.begin(meta, 1, 0);
    let file = &segment.file;
    file.file.sync_data().map_err(|error| WalError::io("sync", &file.path, error))?;
    meta::write(dir, &meta)?;
    let recovered = Recovered { first_unchosen: Slot::FIRST, ..Recovered::default() };
    Ok((meta, Log { segments: vec![segment], index: Index::default(), end: 0, recovered }))
}

/// Without `meta`, segments may be there only if their creation was interrupted: then there is one,
/// with nothing behind its header.
fn check_interrupted_creation(dir: &Path, wal_dir: &Path) -> Result<(), WalError> {
    for number in segment::list(wal_dir)? {
        let path = segment::path_in(wal_dir, number);
        let bytes = fs::read(&path).map_err(|error| WalError::io("read", &path, error))?;
        let records = bytes.get(segment::HEADER_SIZE..).unwrap_or(&[]);
        if number != 1 || records.iter().any(|byte| *byte != 0) {
            return Err(WalError::MetaMissing { path: meta::path_in(dir) });
        }
    }
    Ok(())
}

fn check_options(options: Options) -> Result<Options, WalError> {
    let size_max = u64::from(u32::MAX) / PAGE_SIZE * PAGE_SIZE;
    if !(SEGMENT_SIZE_LEAST..=size_max).contains(&options.segment_size) {
        let what = format!(
            "the segment size is {}, and must be {SEGMENT_SIZE_LEAST} to {size_max} bytes",
            options.segment_size
        );
        return Err(WalError::BadOption { what });
    }
    Ok(Options { segment_size: options.segment_size.next_multiple_of(PAGE_SIZE), ..options })
}

fn create_dirs(dir: &Path, wal_dir: &Path) -> Result<(), WalError> {
    let is_new = !dir.exists();
    let created = fs::create_dir_all(wal_dir).and_then(|()| {
        meta::sync_dir(dir)?;
        match dir.parent() {
            // Only where it is needed: a service may lack the right to open the parent.
            Some(parent) if is_new && parent != Path::new("") => meta::sync_dir(parent),
            _ => Ok(()),
        }
    });
    created.map_err(|error| WalError::io("create the data directory", dir, error))
}

fn lock_path_in(dir: &Path) -> PathBuf {
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
    if !map::try_lock(&file, false).map_err(|error| WalError::io("lock", &path, error))? {
        return Err(WalError::Locked { dir: dir.to_owned() });
    }
    Ok(file)
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of cluster {:016x}", self.node.0, self.cluster.0)
    }
}

#[cfg(test)]
mod tests;
