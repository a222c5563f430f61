//! The write-ahead log: what a node must not forget, in preallocated segments mapped into memory.
//!
//! Invariants:
//!
//! - A record is durable once `durable()` has reached its position, and never before its sync has
//!   ended without an error. A failed sync is final.
//! - After a crash the log holds a prefix of what was appended that contains all that was durable;
//!   or, if the disk lost something of that, recovery says what.
//! - The append path does no system call except at a change of segments.
//!
//! A data directory holds `lock`, `meta` (see `meta`) and `wal/`, the segments (see `segment` and
//! `record` for their bytes, `scan` and `recovery` for how they are read back). One thread appends and
//! reads.
//! All that the log wants of the world goes through a `Disk`: `files` is the real one, in which two
//! helper threads sync (`syncer`) and make the next segment ready (`spare`), and a third removes what
//! was truncated (`remover`) or keeps it to be used again (`retired`). All unsafe code is in `map`.
//!
//! It does not know what a ballot is good for, nor when values may go: it is told to truncate.

pub mod bounds;
pub mod disk;
pub mod doubt;
pub mod error;
pub mod files;
pub mod index;
pub mod inspect;
pub mod map;
pub mod meta;
pub mod record;
pub mod recovery;
pub mod remover;
pub mod retired;
pub mod scan;
pub mod segment;
pub mod spare;
pub mod syncer;

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;

use crate::limits::SLOT_VALUE_SIZE_MAX;
use crate::mutants::{self, Mutant};
use crate::paxos::{Ballot, NodeId, Record, Recovered, Slot};
use crate::wire::ClusterId;

pub use disk::Disk;
pub use error::WalError;
pub use files::FileDisk;
pub use inspect::{Verdict, inspect};

use bounds::Bounds;
use disk::{Blank, Finished, PAGE_SIZE, SegmentBytes, SpareState};
use doubt::Doubt;
use index::Index;
use meta::{LogId, Meta};
use record::{RecordType, Stored};
use recovery::Log;
use scan::Lost;
use segment::{Segment, Start};

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

pub struct Wal<D: Disk = FileDisk> {
    meta: Meta,
    options: Options,
    /// All segments that were not truncated, by number; records are appended to the last one.
    segments: VecDeque<Segment<D::Bytes>>,
    index: Index,
    /// Sequence number of the last record appended.
    end: u64,
    /// What the records up to that one come to.
    bounds: Bounds,
    /// The slot of the last `Record::FirstUnchosen`.
    first_unchosen: Slot,
    /// The slot of the last `Record::Jumped`; 0 if there is none.
    jumped: Slot,
    /// All slots from the first to below the second have a value here.
    contiguous: (Slot, Slot),
    /// The last sequence number known to be on the disk; what records carry as `durable`.
    synced: u64,
    /// Where the sync in flight will bring `synced`.
    in_flight: Option<u64>,
    /// The first of `segments` that may hold records which no sync was started for.
    dirty_from: usize,
    /// Why a sync failed; final.
    failed: Option<String>,
    syncs: u64,
    /// As `is_full` said last.
    is_full: bool,
    /// What was damaged when the log was opened.
    lost: Vec<Lost>,
    doubt: Doubt,
    /// Dropped last: it holds the lock.
    disk: D,
}

/// Segments below this hold too little to be of use.
const SEGMENT_SIZE_LEAST: u64 = 8 * 1024;
/// So much of the log is written before it no longer counts as this process's memory.
const RELEASE_SIZE: usize = 8 * 1024 * 1024;
/// After so much of the log more is wanted of the next segment.
const SPARE_STEP_SIZE: usize = 1024 * 1024;

impl Wal<FileDisk> {
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
        // Before anything is created.
        let options = check_options(options)?;
        Wal::open_on(FileDisk::open(dir, wake)?, identity, options, progress)
    }
}

impl<D: Disk> Wal<D> {
    /// Recovers the log on a disk, or begins one if it is empty.
    pub fn open_on(
        mut disk: D,
        identity: Identity,
        options: Options,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(Wal<D>, Recovered), WalError> {
        let options = check_options(options)?;
        let (meta, log) = match disk.read_meta()? {
            Some(bytes) => {
                let copies = meta::parse(&bytes, disk.dir())?;
                let found = copies.meta.log.identity;
                if found != identity {
                    return Err(WalError::Foreign {
                        dir: disk.dir().to_owned(),
                        found,
                        expected: identity,
                    });
                }
                if copies.repair {
                    let path = meta::path_in(disk.dir());
                    log::warn!("one copy in {} was damaged", path.display());
                    disk.write_meta(&meta::file_of(&copies.meta))?;
                }
                let mut meta = copies.meta;
                let log = recovery::recover(&mut disk, &mut meta, progress)?;
                (meta, log)
            }
            None => create(&mut disk, identity, options)?,
        };

        let held = log.index.held().0;
        let mut wal = Wal {
            meta,
            options,
            dirty_from: log.segments.len() - 1,
            segments: log.segments,
            index: log.index,
            end: log.end,
            bounds: log.bounds,
            first_unchosen: log.first_unchosen,
            jumped: log.jumped,
            contiguous: (held, held),
            synced: log.end,
            in_flight: None,
            failed: None,
            syncs: 0,
            is_full: false,
            lost: log.lost,
            doubt: log.doubt,
            disk,
        };
        wal.ask_spare()?;
        Ok((wal, log.recovered))
    }

    /// Appends a record and returns the position behind it: the record is durable once `durable()`
    /// has reached that.
    pub fn append(&mut self, record: &Record) -> Result<LogPosition, WalError> {
        self.check_not_failed()?;
        let stored = Stored::new(record, self.end + 1, self.synced, self.bounds);
        self.check_size(&stored)?;
        if !self.last().fits(&stored) {
            self.begin_segment()?;
        }
        let last = self.segments.back_mut().expect("there is always a segment");
        let offset = last.append(&stored);
        let (number, used) = (last.number, offset + stored.extent());
        if offset / RELEASE_SIZE < used / RELEASE_SIZE {
            let end = used / RELEASE_SIZE * RELEASE_SIZE;
            self.disk.release(&last.bytes, offset / RELEASE_SIZE * RELEASE_SIZE, end);
        }
        if stored.kind.has_value() {
            self.index.set(stored.slot, recovery::location(number, offset));
        } else if matches!(stored.kind, RecordType::FirstUnchosen | RecordType::Jumped) {
            self.first_unchosen = stored.slot;
        }
        if stored.kind == RecordType::Jumped {
            self.jumped = stored.slot;
        }
        if offset / SPARE_STEP_SIZE < used / SPARE_STEP_SIZE {
            self.disk.want_spare(spare_wanted(used));
        }
        self.bounds = stored.bounds;
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
        let dirty = self.segments.range(self.dirty_from..);
        self.disk.start_sync(dirty.map(|segment| &segment.bytes), self.end)?;
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
        match self.disk.poll_sync() {
            Ok(None) => Ok(None),
            Ok(Some(finished)) => self.on_finished(finished).map(Some),
            Err(error) => Err(self.fail(error.to_string())),
        }
    }

    /// Waits until all that was appended is durable.
    pub fn sync_now(&mut self) -> Result<(), WalError> {
        while self.start_sync()? {
            match self.disk.wait_sync() {
                Ok(finished) => self.on_finished(finished)?,
                Err(error) => return Err(self.fail(error.to_string())),
            };
        }
        assert!(self.durable() == self.end());
        Ok(())
    }

    /// Where the log was damaged when it was opened.
    pub fn lost(&self) -> &[Lost] {
        &self.lost
    }

    /// What `open` has said, for a node that has the state behind all slots below `covered` elsewhere:
    /// damage to what lies there does not matter to it. To be asked before anything is appended.
    pub fn recovered_above(&mut self, covered: Slot) -> Recovered {
        let record_at = |at: index::Location| {
            let segment = self.segment(at).expect("what is in the index is there");
            segment.record_at(at.offset as usize)
        };
        let truncated = self.meta.truncated_before;
        let mut recovered = self.doubt.recovered(&self.index, truncated, covered, &record_at);
        recovered.promised = self.bounds.promised;
        recovered.own_ballot = self.bounds.own_ballot(self.meta.log.identity.node);
        self.jumped = self.jumped.max(recovered.log_begin);
        recovered
    }

    /// Whether the next segment is there already; it is wanted at once. An error if it could not be made.
    pub fn has_spare(&mut self) -> Result<bool, WalError> {
        self.disk.want_spare(u64::MAX);
        match self.disk.spare()? {
            SpareState::Ready => Ok(true),
            SpareState::Failed => Err(WalError::DiskFull {
                path: segment::path_in(&segment::dir_in(self.disk.dir()), self.last().number + 1),
                size: self.options.segment_size,
            }),
            _ => Ok(false),
        }
    }

    /// Whether the log has no room for values any more: there is no next segment, and the last half of this
    /// one is kept for promises and for what is on its way. Appending is not refused; once all room is
    /// gone it fails. If `retry`, a segment that could not be made is asked for again.
    pub fn is_full(&mut self, retry: bool) -> Result<bool, WalError> {
        let state = self.disk.spare()?;
        if state == SpareState::Ready || self.last().bytes.len() / 2 <= self.last().room() {
            self.is_full = false;
        } else if state == SpareState::Failed {
            self.is_full = true;
        }
        if state == SpareState::Failed && retry {
            self.ask_spare()?;
        }
        Ok(self.is_full)
    }

    /// Ballot and value of the last accepted or chosen record of `slot`, as they lie in the log.
    pub fn read(&self, slot: Slot) -> Option<(Ballot, &[u8])> {
        let at = self.index.find(slot)?;
        let segment = self.segment(at)?;
        if segment.number != self.last().number {
            segment.bytes.note_read();
        }
        Some(Stored::value_of(segment.record_at(at.offset as usize)))
    }

    fn segment(&self, at: index::Location) -> Option<&Segment<D::Bytes>> {
        let i = self.segments.binary_search_by_key(&u64::from(at.segment), |it| it.number).ok()?;
        Some(&self.segments[i])
    }

    /// The first slot held and the slot after the last one; equal if there is none. There may be
    /// holes between them.
    pub fn held(&self) -> (Slot, Slot) {
        self.index.held()
    }

    /// The lowest slot from which on each slot below `end` can be read; `end` if not even the one
    /// below it can. What lies further down was truncated, or never came here, or lies below a jump: it
    /// may not be what was chosen.
    pub fn log_begin(&mut self, end: Slot) -> Slot {
        // Each slot is looked up once: what is held stays, except for what is truncated.
        let (begin, checked) = &mut self.contiguous;
        for slot in (checked.0..end.0).map(Slot) {
            if self.index.find(slot).is_none() {
                *begin = slot.next();
            }
            *checked = slot.next();
        }
        (*begin).max(self.jumped).min(end)
    }

    /// Lets go of the values of slots below `slot`: the caller has them elsewhere, durably. Removes the
    /// first segments, as many as hold nothing else and are durable, in the background; never the last
    /// one. Returns how many are removed; while an earlier call is still at work, none.
    pub fn truncate_before(&mut self, slot: Slot) -> Result<usize, WalError> {
        self.check_not_failed()?;
        // The header behind what goes holds the promises from now on, so it must be durable.
        let durable = self.durable().0;
        let goes = |pair: (&Segment<D::Bytes>, &Segment<D::Bytes>)| {
            pair.0.slot_end <= slot && pair.1.first_sequence <= durable
        };
        let pairs = self.segments.iter().zip(self.segments.iter().skip(1));
        let count = pairs.take_while(|pair| goes(*pair)).count();
        if count == 0 || self.disk.is_removing() {
            return Ok(0);
        }
        let first = &self.segments[count];
        let slot_end = self.segments.range(..count).map(|it| it.slot_end).max();
        let meta = Meta {
            first_segment: first.number,
            first_sequence: first.first_sequence,
            truncated_before: slot_end.unwrap_or(Slot(0)).max(self.meta.truncated_before),
            ..self.meta
        };
        let gone: Vec<_> = self.segments.drain(..count).map(|it| (it.number, it.bytes)).collect();
        self.dirty_from -= count;
        let slot_end = meta.truncated_before;
        self.index.truncate(slot_end, u32::try_from(meta.first_segment).expect("as for locations"));
        let (begin, checked) = self.contiguous;
        self.contiguous = (begin, begin);
        self.log_begin(checked.min(slot_end));
        self.contiguous.1 = self.contiguous.1.max(checked);
        self.meta = meta;
        self.disk.remove_first(gone, &meta::file_of(&meta))?;
        Ok(count)
    }

    /// The number of the first record that was not truncated.
    pub fn first_sequence(&self) -> u64 {
        self.meta.first_sequence
    }

    /// Bytes of the segments that are there, the spare one apart.
    pub fn size(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes.len() as u64).sum()
    }

    /// Syncs finished since the log was opened.
    pub fn syncs(&self) -> u64 {
        self.syncs
    }

    fn on_finished(&mut self, finished: Finished) -> Result<SyncDone, WalError> {
        let expected = self.in_flight.take();
        if let (Err(why), false) = (finished.result, mutants::is_on(Mutant::IgnoreFailedSync)) {
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

    fn last(&self) -> &Segment<D::Bytes> {
        self.segments.back().expect("there is always a segment")
    }

    /// Goes on in the spare segment. Its file and name are durable already.
    fn begin_segment(&mut self) -> Result<(), WalError> {
        let number = self.last().number + 1;
        let blank = self.options.blank(number);
        // A failure in the background may have been long ago: it counts only if a second try fails
        // too.
        let bytes = self.disk.take_spare(blank).or_else(|_| self.disk.take_spare(blank))?;
        let mut next = Segment::blank(bytes, number, self.meta.log);
        let start = Start {
            first_sequence: self.end + 1,
            durable: self.synced,
            bounds: self.bounds,
            first_unchosen: self.first_unchosen,
        };
        next.begin(self.meta.log, start);
        let last = self.segments.back().expect("there is always a segment");
        self.disk.seal(&last.bytes);
        self.segments.push_back(next);
        self.ask_spare()
    }

    fn ask_spare(&mut self) -> Result<(), WalError> {
        let last = self.last();
        let (blank, used) = (self.options.blank(last.number + 1), last.bytes.len() - last.room());
        self.disk.ask_spare(blank)?;
        self.disk.want_spare(spare_wanted(used));
        Ok(())
    }
}

/// How much of the next segment should be there when so much of the last one is used: all of it at half, from
/// where on it is known whether there is room for it (`Wal::is_full`).
fn spare_wanted(used: usize) -> u64 {
    2 * (used + SPARE_STEP_SIZE) as u64
}

/// A new, empty log. `meta` comes last: only then is the directory a log.
fn create<D: Disk>(
    disk: &mut D,
    identity: Identity,
    options: Options,
) -> Result<(Meta, Log<D>), WalError> {
    check_interrupted_creation(disk)?;
    let log = LogId { identity, random: disk.draw_log_id()? };
    let meta = Meta::new(log);
    let bytes = disk.create_segment(Blank { sync: true, ..options.blank(1) })?;
    let mut segment = Segment::blank(bytes, 1, log);
    let (bounds, first_unchosen) = (Bounds::default(), Slot::FIRST);
    segment.begin(log, Start { first_sequence: 1, durable: 0, bounds, first_unchosen });
    disk.sync_segment(&segment.bytes)?;
    disk.write_meta(&meta::file_of(&meta))?;
    let recovered = Recovered { first_unchosen, ..Recovered::default() };
    let log = Log {
        segments: VecDeque::from([segment]),
        index: Index::default(),
        end: 0,
        bounds,
        first_unchosen,
        jumped: Slot(0),
        doubt: Doubt::default(),
        lost: Vec::new(),
        recovered,
    };
    Ok((meta, log))
}

/// Without `meta`, segments may be there only if their creation was interrupted: then there is one,
/// with nothing behind its header.
fn check_interrupted_creation<D: Disk>(disk: &mut D) -> Result<(), WalError> {
    for number in disk.list_segments()? {
        let bytes = disk.open_segment(number)?;
        disk.read_through(&bytes)?;
        let records = bytes.get(segment::HEADER_SIZE..).unwrap_or(&[]);
        if number != 1 || records.iter().any(|byte| *byte != 0) {
            return Err(WalError::MetaMissing { path: meta::path_in(disk.dir()) });
        }
    }
    Ok(())
}

fn check_options(options: Options) -> Result<Options, WalError> {
    let page_size = PAGE_SIZE as u64;
    let size_max = u64::from(u32::MAX) / page_size * page_size;
    if !(SEGMENT_SIZE_LEAST..=size_max).contains(&options.segment_size) {
        let what = format!(
            "the segment size is {}, and must be {SEGMENT_SIZE_LEAST} to {size_max} bytes",
            options.segment_size
        );
        return Err(WalError::BadOption { what });
    }
    Ok(Options { segment_size: options.segment_size.next_multiple_of(page_size), ..options })
}

impl Options {
    /// The blank segment of this number.
    fn blank(&self, number: u64) -> Blank {
        Blank { number, size: self.segment_size, sync: self.sync }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of cluster {:016x}", self.node.0, self.cluster.0)
    }
}

#[cfg(test)]
mod tests;
