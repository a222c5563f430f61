//! A disk in memory, as bad as disks are, for the real log to run on.
//!
//! It keeps each segment twice: as the process sees it (the page cache), and as a loss of power
//! would leave it. The simulator holds a `SimDisk`, which outlives the processes; each life of a
//! node takes a `Mount` of it for its `Wal`, and everything that goes wrong is a call of the
//! simulator. Nothing happens by itself, and all chance comes from dice that are passed in.
//!
//! Invariants:
//!
//! - What a finished sync covered is in the durable copy.
//! - Outside of the bytes marked dirty, syncing or failed, both copies are the same. So a sync and
//!   a crash cost as much as was written, however long the log is.
//!
//! Left out: a disk that says that a sync has ended and lies.

mod damage;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rand::{Rng, RngExt};

use crate::wal::disk::{Blank, Disk, Finished, PAGE_SIZE, SegmentBytes, SpareState};
use crate::wal::segment::{dir_in, path_in};
use crate::wal::{LogPosition, WalError, meta};

#[cfg(test)]
pub use damage::DiskCopy;
pub use damage::{Damage, Place, SegmentCopy};

/// Truncated segments that are kept.
const RETIRED_MAX: usize = 2;
/// What a disk writes whole or not at all.
pub const SECTOR_SIZE: usize = 512;

/// The simulator's handle of one data directory; clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    state: Rc<RefCell<State>>,
}

/// The disk as one process has it; its end is the end of the process.
pub struct Mount {
    dir: PathBuf,
    state: Rc<RefCell<State>>,
}

/// A segment that the process has open.
pub struct SimSegment {
    number: u64,
    bytes: Vec<u8>,
    /// What was written since the last sync began.
    dirty: Cell<Extent>,
    state: Rc<RefCell<State>>,
}

/// What a loss of power does to what was written and not synced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    All,
    /// Each sector is kept with this probability, whatever happens to the others.
    Sectors {
        keep: f64,
    },
    /// The first sector of each segment is lost, and all behind it is kept: what looks most like a log.
    First,
    /// It all had reached the disk by luck.
    Nothing,
}

/// What the disk has done so far, over all lives of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Syncs of the running log that ended well.
    pub syncs: u64,
    /// Bytes that these syncs covered.
    pub synced_bytes: u64,
    pub segments_created: u64,
    /// Those of them made of truncated ones.
    pub segments_reused: u64,
    pub crashes: u64,
}

/// `start..end` of a file's bytes; empty if `end` is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Extent {
    start: usize,
    end: usize,
}

#[derive(Default)]
struct Segment {
    /// As the process sees it; empty while a `SimSegment` has it.
    cached: Vec<u8>,
    durable: Vec<u8>,
    dirty: Extent,
    /// What the sync in flight covers, or one that the process did not live to see the end of.
    syncing: Extent,
    /// What these bytes were when that sync began.
    syncing_bytes: Vec<u8>,
    /// What a failed sync covered: taken for clean, and not on the disk.
    failed: Extent,
    /// Whether the page cache forgets that when the process ends.
    forgets_failed: bool,
    /// All from here on is zero in both copies.
    end: usize,
    name_is_durable: bool,
}

struct State {
    dir: PathBuf,
    log_id_next: u64,
    is_mounted: bool,
    is_full: bool,
    /// So many more changes that recovery makes go well.
    changes_left: Option<u32>,
    meta: Option<Vec<u8>>,
    /// What `meta` was, if it was replaced and that is not durable.
    meta_before: Option<Option<Vec<u8>>>,
    segments: BTreeMap<u64, Segment>,
    /// Truncated, and waiting to be spares.
    retired: Vec<Segment>,
    /// Removed, and that is not durable; in the order in which it happened.
    removed: Vec<(u64, Segment)>,
    /// At work in the background.
    truncation: Option<Truncation>,
    spare: Spare,
    in_flight: Option<InFlight>,
    counters: Counters,
}

/// `meta` replaced and segments removed, in this order, as far as that has come.
struct Truncation {
    meta_before: Option<Vec<u8>>,
    removed: Vec<(u64, Segment)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Spare {
    NotAsked,
    Ready(u64),
    Failed,
}

struct InFlight {
    position: u64,
    segments: Range<u64>,
    ended: Option<Finished>,
}

impl SimDisk {
    /// An empty disk. `dir` is what errors call it; `seed` is where log ids come from.
    pub fn new(dir: impl Into<PathBuf>, seed: u64) -> SimDisk {
        let state = State {
            dir: dir.into(),
            log_id_next: seed,
            is_mounted: false,
            is_full: false,
            changes_left: None,
            meta: None,
            meta_before: None,
            segments: BTreeMap::new(),
            retired: Vec::new(),
            removed: Vec::new(),
            truncation: None,
            spare: Spare::NotAsked,
            in_flight: None,
            counters: Counters::default(),
        };
        SimDisk { state: Rc::new(RefCell::new(state)) }
    }

    /// A process begins: what `Wal::open_on` wants. It ends when the `Wal` is dropped, and what it
    /// wrote stays in the page cache.
    pub fn mount(&self) -> Mount {
        let mut state = self.state.borrow_mut();
        assert!(!state.is_mounted, "one process at a time has the disk");
        state.is_mounted = true;
        // A node that starts makes the names in its directory durable, apart from the segments'.
        state.meta_before = None;
        state.truncation = None;
        state.retired.clear();
        for segment in state.segments.values_mut() {
            segment.dirty = segment.dirty.union(std::mem::take(&mut segment.syncing));
        }
        Mount { dir: state.dir.clone(), state: Rc::clone(&self.state) }
    }

    /// The position that the sync in flight will make durable, until it has ended.
    pub fn syncing(&self) -> Option<LogPosition> {
        let state = self.state.borrow();
        let in_flight = state.in_flight.as_ref().filter(|it| it.ended.is_none());
        in_flight.map(|it| LogPosition(it.position))
    }

    /// The sync in flight ends well. `Wal::poll_sync` then says so.
    pub fn finish_sync(&self, duration_ns: u64) {
        self.state.borrow_mut().finish_sync(duration_ns);
    }

    /// The sync in flight fails, for good: any sectors of it are written, and the kernel takes all for
    /// clean. So a later sync does not write the others, while the page cache still shows them to the
    /// next process, as with ext4, or has forgotten them, as with btrfs.
    pub fn fail_sync(&self, why: &str, duration_ns: u64, dice: &mut impl Rng) {
        let mut state = self.state.borrow_mut();
        let keep = dice.random_range(0.0..1.0);
        let forgets = dice.random_bool(0.5);
        state.end_sync(duration_ns, Err(why.to_owned()), |segment| {
            let bytes = std::mem::take(&mut segment.syncing_bytes);
            let syncing = std::mem::take(&mut segment.syncing);
            for sector in syncing.sectors() {
                if dice.random_bool(keep) {
                    syncing.overlay(&bytes, sector, &mut segment.durable);
                }
            }
            segment.syncing_bytes = bytes;
            segment.failed = segment.failed.union(syncing);
            segment.forgets_failed = forgets;
        });
    }

    /// While it is full, no segment can be created.
    pub fn set_full(&self, is_full: bool) {
        self.state.borrow_mut().is_full = is_full;
    }

    /// Recovery's next `changes` of the disk go well, and all later ones fail, until the process
    /// has ended: so that the power can go in the middle of a recovery.
    pub fn fail_after(&self, changes: u32) {
        self.state.borrow_mut().changes_left = Some(changes);
    }

    /// The power goes, after the process has ended. What was not synced is lost, or not.
    pub fn crash(&self, loss: Loss, dice: &mut impl Rng) {
        let mut state = self.stopped();
        let state = &mut *state;
        state.counters.crashes += 1;
        let keeps = |dice: &mut _| loss.keeps(dice);
        if let Some(before) = state.meta_before.take()
            && !keeps(dice)
        {
            state.meta = before;
        }
        if let Some(Truncation { meta_before, removed }) = state.truncation.take() {
            let done = (0..=removed.len()).take_while(|_| keeps(dice)).count();
            if done == 0 {
                state.meta = meta_before;
            }
            state.segments.extend(removed.into_iter().skip(done.saturating_sub(1)));
        }
        // Changes of a directory reach the disk in their order.
        let removals = std::mem::take(&mut state.removed);
        let done = removals.iter().take_while(|_| keeps(dice)).count();
        state.segments.extend(removals.into_iter().skip(done));
        let mut is_lost = false;
        state.segments.retain(|_, segment| {
            is_lost |= !segment.name_is_durable && !keeps(dice);
            segment.name_is_durable |= !is_lost;
            segment.name_is_durable
        });
        for segment in state.segments.values_mut() {
            segment.crash(loss, dice);
        }
    }

    pub fn counters(&self) -> Counters {
        self.state.borrow().counters
    }

    fn stopped(&self) -> std::cell::RefMut<'_, State> {
        let state = self.state.borrow_mut();
        assert!(!state.is_mounted, "the process has ended");
        state
    }
}

impl Loss {
    /// One crash in eight loses all, one nothing, one the first sector.
    pub fn draw(dice: &mut impl Rng) -> Loss {
        match dice.random_range(0..8) {
            0 => Loss::All,
            1 => Loss::Nothing,
            2 => Loss::First,
            // Mostly kept or mostly lost, so that long and short prefixes both come out.
            _ => Loss::Sectors { keep: dice.random_range(0.0..1.0) },
        }
    }

    fn keeps(self, dice: &mut impl Rng) -> bool {
        match self {
            Loss::All => false,
            Loss::Sectors { keep } => dice.random_bool(keep),
            Loss::First | Loss::Nothing => true,
        }
    }
}

impl Disk for Mount {
    type Bytes = SimSegment;

    fn dir(&self) -> &Path {
        &self.dir
    }

    fn draw_log_id(&mut self) -> Result<u64, WalError> {
        let mut state = self.state.borrow_mut();
        state.log_id_next = state.log_id_next.wrapping_add(1);
        Ok(state.log_id_next)
    }

    fn read_meta(&mut self) -> Result<Option<Vec<u8>>, WalError> {
        Ok(self.state.borrow().meta.clone())
    }

    fn write_meta(&mut self, bytes: &[u8]) -> Result<(), WalError> {
        let mut state = self.state.borrow_mut();
        let before = state.meta.replace(bytes.to_vec());
        state.meta_before.get_or_insert(before);
        state.change("write", || meta::path_in(&self.dir))?;
        state.meta_before = None;
        Ok(())
    }

    fn list_segments(&mut self) -> Result<Vec<u64>, WalError> {
        Ok(self.state.borrow().segments.keys().copied().collect())
    }

    fn open_segment(&mut self, number: u64) -> Result<SimSegment, WalError> {
        let mut state = self.state.borrow_mut();
        let segment = state.segments.get_mut(&number).expect("it was listed");
        let bytes = std::mem::take(&mut segment.cached);
        assert!(bytes.len() == segment.durable.len(), "a segment is opened once");
        let dirty = Cell::new(std::mem::take(&mut segment.dirty));
        Ok(SimSegment { number, bytes, dirty, state: Rc::clone(&self.state) })
    }

    /// What a disk can't read is not played: damage is.
    fn read_through(&mut self, _bytes: &SimSegment) -> Result<(), WalError> {
        Ok(())
    }

    fn create_segment(&mut self, blank: Blank) -> Result<SimSegment, WalError> {
        {
            let mut state = self.state.borrow_mut();
            state.create(Blank { sync: false, ..blank })?;
            state.change("create the log segment", || path_in(&dir_in(&self.dir), blank.number))?;
            let segment = state.segments.get_mut(&blank.number).expect("it was created");
            segment.name_is_durable = blank.sync;
        }
        self.open_segment(blank.number)
    }

    fn remove_segment(&mut self, number: u64) -> Result<(), WalError> {
        let mut state = self.state.borrow_mut();
        state.change("remove", || path_in(&dir_in(&self.dir), number))?;
        let segment = state.segments.remove(&number).expect("it was listed");
        state.removed.push((number, segment));
        Ok(())
    }

    fn remove_first(&mut self, gone: Vec<(u64, SimSegment)>, meta: &[u8]) -> Result<(), WalError> {
        let numbers: Vec<u64> = gone.iter().map(|(number, _)| *number).collect();
        // What the process wrote goes back to the disk first.
        drop(gone);
        let mut state = self.state.borrow_mut();
        assert!(state.truncation.is_none(), "one truncation at a time");
        let meta_before = state.meta.replace(meta.to_vec());
        let take = |number| Some((number, state.segments.remove(&number)?));
        let removed = numbers.into_iter().filter_map(take).collect();
        state.truncation = Some(Truncation { meta_before, removed });
        Ok(())
    }

    /// It ends when the next sync does.
    fn is_removing(&mut self) -> bool {
        self.state.borrow().truncation.is_some()
    }

    fn sync_names(&mut self) -> Result<(), WalError> {
        let mut state = self.state.borrow_mut();
        state.change("sync", || dir_in(&self.dir))?;
        state.removed.clear();
        for segment in state.segments.values_mut() {
            segment.name_is_durable = true;
        }
        Ok(())
    }

    fn sync_segment(&mut self, bytes: &SimSegment) -> Result<(), WalError> {
        let mut state = self.state.borrow_mut();
        state.change("sync the log segment", || path_in(&dir_in(&self.dir), bytes.number))?;
        let segment = state.segments.get_mut(&bytes.number).expect("what is open is there");
        let dirty = bytes.dirty.take();
        segment.durable[dirty.start..dirty.end].copy_from_slice(&bytes[dirty.start..dirty.end]);
        segment.end = segment.end.max(dirty.end);
        Ok(())
    }

    fn clear_rest(&mut self, mut bytes: SimSegment, used: usize) -> Result<SimSegment, WalError> {
        let end = self.state.borrow().segments[&bytes.number].end.max(bytes.dirty.get().end);
        if used < end {
            bytes.write(used, end).fill(0);
        }
        self.sync_segment(&bytes)?;
        let mut state = self.state.borrow_mut();
        state.segments.get_mut(&bytes.number).expect("what is open is there").end = used;
        Ok(bytes)
    }

    fn release(&mut self, _bytes: &SimSegment, _start: usize, _end: usize) {}

    fn seal(&mut self, _bytes: &SimSegment) {}

    /// It is ready at once, and if not, then because the disk is full.
    fn ask_spare(&mut self, blank: Blank) -> Result<(), WalError> {
        let mut state = self.state.borrow_mut();
        assert!(state.spare == Spare::NotAsked, "one spare at a time");
        state.spare = match state.reuse_or_create(blank) {
            Ok(()) => Spare::Ready(blank.number),
            Err(_) => Spare::Failed,
        };
        Ok(())
    }

    fn want_spare(&mut self, _bytes: u64) {}

    fn spare(&mut self) -> Result<SpareState, WalError> {
        let mut state = self.state.borrow_mut();
        Ok(match state.spare {
            Spare::Ready(_) => SpareState::Ready,
            Spare::NotAsked | Spare::Failed => {
                state.spare = Spare::NotAsked;
                SpareState::Failed
            }
        })
    }

    fn take_spare(&mut self, blank: Blank) -> Result<SimSegment, WalError> {
        {
            let mut state = self.state.borrow_mut();
            match std::mem::replace(&mut state.spare, Spare::NotAsked) {
                Spare::Ready(number) => assert!(number == blank.number, "it comes next"),
                Spare::Failed => return Err(state.full(blank)),
                Spare::NotAsked => state.create(blank)?,
            }
        }
        self.open_segment(blank.number)
    }

    fn start_sync<'a>(
        &mut self,
        segments: impl Iterator<Item = &'a SimSegment>,
        position: u64,
    ) -> Result<(), WalError> {
        let mut state = self.state.borrow_mut();
        assert!(state.in_flight.is_none(), "one sync at a time");
        let mut numbers = 0..0;
        for bytes in segments {
            if numbers.is_empty() {
                numbers.start = bytes.number;
            }
            numbers.end = bytes.number + 1;
            let segment = state.segments.get_mut(&bytes.number).expect("what is open is there");
            segment.syncing = bytes.dirty.take();
            let Extent { start, end } = segment.syncing;
            segment.end = segment.end.max(end);
            segment.syncing_bytes.clear();
            segment.syncing_bytes.extend_from_slice(&bytes[start..end]);
        }
        state.in_flight = Some(InFlight { position, segments: numbers, ended: None });
        Ok(())
    }

    fn poll_sync(&mut self) -> Result<Option<Finished>, WalError> {
        let mut state = self.state.borrow_mut();
        let ended = state.in_flight.as_mut().and_then(|it| it.ended.take());
        if ended.is_some() {
            state.in_flight = None;
        }
        Ok(ended)
    }

    /// The loop does not wait for a sync until it stops: then it ends well, at once.
    fn wait_sync(&mut self) -> Result<Finished, WalError> {
        {
            let mut state = self.state.borrow_mut();
            if state.in_flight.as_ref().is_some_and(|it| it.ended.is_none()) {
                state.finish_sync(0);
            }
        }
        Ok(self.poll_sync()?.expect("a sync is in flight and has ended"))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        state.is_mounted = false;
        state.changes_left = None;
        if let Spare::Ready(number) = std::mem::replace(&mut state.spare, Spare::NotAsked) {
            // It may as well not have been ready yet when the process ended.
            let spare = state.segments.get_mut(&number).expect("a spare stays");
            spare.name_is_durable = false;
        }
        state.in_flight = None;
    }
}

impl Deref for SimSegment {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl SegmentBytes for SimSegment {
    fn write(&mut self, start: usize, end: usize) -> &mut [u8] {
        self.dirty.set(self.dirty.get().union(Extent { start, end }));
        &mut self.bytes[start..end]
    }
}

impl Drop for SimSegment {
    fn drop(&mut self) {
        let mut state = self.state.borrow_mut();
        let segment = state.segments.get_mut(&self.number).expect("what is open is there");
        segment.cached = std::mem::take(&mut self.bytes);
        segment.dirty = self.dirty.take();
        segment.end = segment.end.max(segment.dirty.end);
        if !std::mem::take(&mut segment.forgets_failed) {
            return;
        }
        let dirty = segment.dirty;
        for sector in std::mem::take(&mut segment.failed).sectors() {
            if dirty.touches(&sector) {
                // It was written again since, and is dirty with all that is in it.
                segment.dirty = segment.dirty.union(Extent::of(&sector));
            } else {
                segment.cached[sector.clone()].copy_from_slice(&segment.durable[sector]);
            }
        }
    }
}

impl State {
    /// Counts one change that recovery makes, or fails.
    fn change(&mut self, doing: &'static str, path: impl Fn() -> PathBuf) -> Result<(), WalError> {
        match &mut self.changes_left {
            None => Ok(()),
            Some(0) => {
                Err(WalError::Io { doing, path: path(), error: io::Error::other("it broke") })
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }

    fn create(&mut self, blank: Blank) -> Result<(), WalError> {
        if self.is_full {
            return Err(self.full(blank));
        }
        let zeros = vec![0; blank.size as usize];
        let segment = Segment {
            cached: zeros.clone(),
            durable: zeros,
            name_is_durable: blank.sync,
            ..Segment::default()
        };
        self.segments.insert(blank.number, segment);
        self.counters.segments_created += 1;
        Ok(())
    }

    /// A segment that was truncated becomes the spare one, if there is one; the disk need not have room.
    fn reuse_or_create(&mut self, blank: Blank) -> Result<(), WalError> {
        let fits = |it: &Segment| it.durable.len() as u64 == blank.size;
        let Some(at) = self.retired.iter().position(fits) else { return self.create(blank) };
        let mut segment = self.retired.swap_remove(at);
        segment.durable[..PAGE_SIZE].fill(0);
        segment.cached.clone_from(&segment.durable);
        segment.name_is_durable = blank.sync;
        self.segments.insert(blank.number, segment);
        self.counters.segments_created += 1;
        self.counters.segments_reused += 1;
        Ok(())
    }

    fn full(&self, blank: Blank) -> WalError {
        WalError::DiskFull { path: path_in(&dir_in(&self.dir), blank.number), size: blank.size }
    }

    fn finish_sync(&mut self, duration_ns: u64) {
        if let Some(Truncation { removed, .. }) = self.truncation.take() {
            // What was truncated is durable, or it would not have been.
            let as_is = removed.into_iter().filter(|(_, it)| it.is_durable());
            self.retired.extend(as_is.map(|(_, segment)| segment));
            self.retired.truncate(RETIRED_MAX);
        }
        let mut bytes = 0;
        self.end_sync(duration_ns, Ok(()), |segment| {
            let Extent { start, end } = std::mem::take(&mut segment.syncing);
            segment.durable[start..end].copy_from_slice(&segment.syncing_bytes);
            bytes += (end - start) as u64;
        });
        self.counters.syncs += 1;
        self.counters.synced_bytes += bytes;
    }

    fn end_sync(
        &mut self,
        duration_ns: u64,
        result: Result<(), String>,
        mut write: impl FnMut(&mut Segment),
    ) {
        let in_flight = self.in_flight.as_mut().expect("a sync is in flight");
        assert!(in_flight.ended.is_none(), "a sync ends once");
        let position = in_flight.position;
        in_flight.ended = Some(Finished { position, duration_ns, result });
        for (_, segment) in self.segments.range_mut(in_flight.segments.clone()) {
            write(segment);
        }
    }
}

impl Segment {
    /// A segment that holds the same in cache and on the disk.
    #[cfg(test)]
    fn holding(bytes: &[u8]) -> Segment {
        Segment {
            cached: bytes.to_vec(),
            durable: bytes.to_vec(),
            end: bytes.len(),
            name_is_durable: true,
            ..Segment::default()
        }
    }

    /// Whether a loss of power would leave it as it is.
    fn is_durable(&self) -> bool {
        self.dirty.end == 0 && self.syncing.end == 0 && self.failed.end == 0
    }

    /// For each sector that was written since the last sync ended: what the disk held, what the
    /// sync in flight brought, or what was written last.
    fn crash(&mut self, loss: Loss, dice: &mut impl Rng) {
        let syncing = std::mem::take(&mut self.syncing);
        let dirty = std::mem::take(&mut self.dirty);
        let failed = std::mem::take(&mut self.failed);
        let mut is_first = true;
        for sector in dirty.union(syncing).union(failed).sectors() {
            let is_hole = std::mem::take(&mut is_first) && loss == Loss::First;
            let is_syncing = syncing.touches(&sector);
            let is_written = is_syncing || dirty.touches(&sector);
            if is_written && !is_hole && loss.keeps(dice) {
                self.durable[sector.clone()].copy_from_slice(&self.cached[sector]);
                continue;
            }
            if is_syncing && !is_hole && loss != Loss::All && dice.random_bool(0.5) {
                syncing.overlay(&self.syncing_bytes, sector.clone(), &mut self.durable);
            }
            self.cached[sector.clone()].copy_from_slice(&self.durable[sector]);
        }
    }
}

impl Extent {
    fn of(range: &Range<usize>) -> Extent {
        Extent { start: range.start, end: range.end }
    }

    /// The smallest extent that holds both.
    fn union(self, other: Extent) -> Extent {
        match (self.end, other.end) {
            (0, _) => other,
            (_, 0) => self,
            _ => Extent { start: self.start.min(other.start), end: self.end.max(other.end) },
        }
    }

    fn touches(self, sector: &Range<usize>) -> bool {
        self.start < sector.end && sector.start < self.end
    }

    /// The sectors that it touches. Segments are multiples of them.
    fn sectors(self) -> impl Iterator<Item = Range<usize>> {
        let first = self.start / SECTOR_SIZE;
        (first..self.end.div_ceil(SECTOR_SIZE)).map(|i| i * SECTOR_SIZE..(i + 1) * SECTOR_SIZE)
    }

    /// Writes to one sector of `file` what of it lies in this extent, whose bytes are `bytes`.
    fn overlay(self, bytes: &[u8], sector: Range<usize>, file: &mut [u8]) {
        let (start, end) = (self.start.max(sector.start), self.end.min(sector.end));
        file[start..end].copy_from_slice(&bytes[start - self.start..end - self.start]);
    }
}

#[cfg(test)]
mod tests;
