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

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::{Deref, Range};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rand::{Rng, RngExt};

use crate::wal::disk::{Blank, Disk, Finished, SegmentBytes};
use crate::wal::record::{self, Stored};
use crate::wal::segment::{HEADER_SIZE, HeaderState, SegmentHeader, dir_in, path_in};
use crate::wal::{LogPosition, WalError, meta};

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

/// Where the disk spoils what it once held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where recovery is able to see it, and so must refuse the log.
    Provable,
    Anywhere,
}

/// What happened to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoil {
    FlippedBit,
    /// A sector reads as zeros.
    Zeroed,
    /// A sector reads as it was before records were appended to it.
    Stale,
    /// A sector holds what was meant for another one.
    Misplaced,
    /// The whole segment is an older version of itself.
    OldSegment,
}

/// One damage, and what it means for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    pub spoil: Spoil,
    pub segment: u64,
    /// The bytes of the segment that were hit.
    pub bytes: Range<usize>,
    /// Whether the segment's header is among them.
    pub header: bool,
    /// The records, by sequence number, that could be read before and can't be any more.
    pub lost: Range<u64>,
    /// Whether recovery must refuse the log. If not, it takes what is lost for a torn tail.
    pub provable: bool,
}

/// A copy of one segment as it is on the disk.
#[derive(Clone)]
pub struct SegmentCopy {
    pub number: u64,
    bytes: Vec<u8>,
}

/// A copy of all that is on the disk.
#[cfg(test)]
#[derive(Clone)]
pub struct DiskCopy {
    meta: Option<Vec<u8>>,
    segments: Vec<SegmentCopy>,
}

/// What the disk has done so far, over all lives of the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Syncs of the running log that ended well.
    pub syncs: u64,
    /// Bytes that these syncs covered.
    pub synced_bytes: u64,
    pub segments_created: u64,
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
    /// Removed, and that is not durable; in the order in which it happened.
    removed: Vec<(u64, Segment)>,
    spare: Spare,
    in_flight: Option<InFlight>,
    counters: Counters,
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
            removed: Vec::new(),
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
        if let Some(before) = state.meta_before.take() {
            if !keeps(dice) {
                state.meta = before;
            }
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

    /// Spoils bytes of the segments while no process has them. `None` if there is no log yet, or no
    /// place was found where the damage could be proven.
    pub fn damage(&self, place: Place, dice: &mut impl Rng) -> Option<Damage> {
        let mut state = self.stopped();
        let before = state.records();
        if before.begun.is_empty() {
            return None;
        }
        let provable = before.records.partition_point(|it| it.sequence <= before.durable);
        let provable = &before.records[..provable];
        for _ in 0..64 {
            let (segment, offset) = match place {
                // One in eight hits a header, of which there are few.
                Place::Provable if provable.is_empty() || dice.random_ratio(1, 8) => {
                    let begun = &before.begun;
                    (begun[dice.random_range(0..begun.len())], dice.random_range(0..HEADER_SIZE))
                }
                Place::Provable => {
                    let it = &provable[dice.random_range(0..provable.len())];
                    (it.segment, dice.random_range(it.bytes.clone()))
                }
                Place::Anywhere => {
                    let number = dice.random_range(1..=state.segments.len() as u64);
                    (number, dice.random_range(0..state.segments[&number].cached.len()))
                }
            };
            let old = state.segments[&segment].cached.clone();
            let (spoil, bytes) = state.spoil(segment, offset, &before, dice);
            let damage = state.assess(spoil, segment, bytes, &old, &before);
            if place == Place::Anywhere || damage.provable {
                return Some(damage);
            }
            state.write_both(segment, &old);
        }
        None
    }

    /// Spoils one copy of `meta` and returns which, 0 or 1. `None` if there is no `meta` yet.
    pub fn damage_meta(&self, dice: &mut impl Rng) -> Option<usize> {
        let mut state = self.stopped();
        let bytes = state.meta.as_mut()?;
        let copy = dice.random_range(0..2);
        let size = bytes.len() / 2;
        // Behind its first 64 bytes a copy says nothing.
        bytes[copy * size + dice.random_range(0..64)] ^= 1 << dice.random_range(0..8);
        Some(copy)
    }

    /// A copy of one segment as a loss of all that is not synced would leave it.
    pub fn copy_segment(&self, number: u64) -> Option<SegmentCopy> {
        let state = self.state.borrow();
        let segment = state.segments.get(&number)?;
        Some(SegmentCopy { number, bytes: segment.durable.clone() })
    }

    /// Puts an old copy of a segment in the place of the one that is there, while no process has
    /// it. `None` if there is none of that number and size any more.
    pub fn restore_segment(&self, copy: &SegmentCopy) -> Option<Damage> {
        let mut state = self.stopped();
        let before = state.records();
        let old = state.segments.get(&copy.number)?.cached.clone();
        if old.len() != copy.bytes.len() {
            return None;
        }
        state.write_both(copy.number, &copy.bytes);
        Some(state.assess(Spoil::OldSegment, copy.number, 0..old.len(), &old, &before))
    }

    /// A copy of the disk as a loss of all that is not synced would leave it.
    #[cfg(test)]
    pub fn copy(&self) -> DiskCopy {
        let state = self.state.borrow();
        let segments = state.segments.iter();
        let segments = segments
            .map(|(number, it)| SegmentCopy { number: *number, bytes: it.durable.clone() })
            .collect();
        DiskCopy { meta: state.meta.clone(), segments }
    }

    /// Puts an old copy of the whole disk in place, while no process has it. Nobody can tell by the
    /// disk alone, so the simulator does not do it: the node would vote on what it has forgotten.
    #[cfg(test)]
    pub fn restore(&self, copy: &DiskCopy) {
        let mut state = self.stopped();
        state.meta.clone_from(&copy.meta);
        state.meta_before = None;
        state.removed.clear();
        let segments = copy.segments.iter();
        state.segments = segments.map(|it| (it.number, Segment::holding(&it.bytes))).collect();
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

    fn seal(&mut self, _bytes: &SimSegment) {}

    /// It is ready at once, and if not, then because the disk is full.
    fn ask_spare(&mut self, blank: Blank) -> Result<(), WalError> {
        let mut state = self.state.borrow_mut();
        assert!(state.spare == Spare::NotAsked, "one spare at a time");
        state.spare = match state.create(blank) {
            Ok(()) => Spare::Ready(blank.number),
            Err(_) => Spare::Failed,
        };
        Ok(())
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

    fn full(&self, blank: Blank) -> WalError {
        WalError::DiskFull { path: path_in(&dir_in(&self.dir), blank.number), size: blank.size }
    }

    fn finish_sync(&mut self, duration_ns: u64) {
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

    fn write_both(&mut self, number: u64, bytes: &[u8]) {
        let segment = self.segments.get_mut(&number).expect("there is such a segment");
        segment.cached.copy_from_slice(bytes);
        segment.durable.copy_from_slice(bytes);
        segment.end = bytes.len();
    }

    /// Spoils the byte at `offset`, or its sector, in a way that changes something.
    fn spoil(
        &mut self,
        number: u64,
        offset: usize,
        before: &Records,
        dice: &mut impl Rng,
    ) -> (Spoil, Range<usize>) {
        let sector = offset / SECTOR_SIZE * SECTOR_SIZE..(offset / SECTOR_SIZE + 1) * SECTOR_SIZE;
        let mut bytes = self.segments[&number].cached.clone();
        let old = bytes[sector.clone()].to_vec();
        let spoil = match dice.random_range(0..5) {
            0 => {
                bytes[sector.clone()].fill(0);
                Spoil::Zeroed
            }
            1 => {
                // The log ended before one of the records that begin here.
                let begin_here: Vec<usize> = before
                    .records
                    .iter()
                    .filter(|it| it.segment == number && sector.contains(&it.bytes.start))
                    .map(|it| it.bytes.start)
                    .collect();
                if !begin_here.is_empty() {
                    let end = begin_here[dice.random_range(0..begin_here.len())];
                    bytes[end..sector.end].fill(0);
                }
                Spoil::Stale
            }
            2 => {
                let from = dice.random_range(1..=self.segments.len() as u64);
                let from = &self.segments[&from].cached;
                let at = dice.random_range(0..from.len() / SECTOR_SIZE) * SECTOR_SIZE;
                bytes[sector.clone()].copy_from_slice(&from[at..at + SECTOR_SIZE]);
                Spoil::Misplaced
            }
            _ => Spoil::FlippedBit,
        };
        if spoil != Spoil::FlippedBit && bytes[sector.clone()] != old[..] {
            self.write_both(number, &bytes);
            return (spoil, sector);
        }
        bytes[offset] ^= 1 << dice.random_range(0..8);
        self.write_both(number, &bytes);
        (Spoil::FlippedBit, offset..offset + 1)
    }

    /// What a damage of segment `number`, which was `old`, means.
    fn assess(
        &self,
        spoil: Spoil,
        number: u64,
        bytes: Range<usize>,
        old: &[u8],
        before: &Records,
    ) -> Damage {
        let new = &self.segments[&number].cached;
        let header = old[..HEADER_SIZE] != new[..HEADER_SIZE];
        let header_is_blank = SegmentHeader::decode(new) == HeaderState::Blank;
        let after = self.records();
        let first_lost = after.end() + 1;
        let lost = first_lost..first_lost.max(before.end() + 1);
        // A header says itself what it is, unless nothing is left of it; and the first segment was
        // once begun.
        let provable = (header && (!header_is_blank || number == 1))
            || (!lost.is_empty() && self.proves(first_lost, &after));
        Damage { spoil, segment: number, bytes, header, lost, provable }
    }

    /// Whether anything behind the records that can be read says that `missing` was durable.
    fn proves(&self, missing: u64, readable: &Records) -> bool {
        let log_id = readable.log_id;
        self.segments.range(readable.end_segment..).any(|(number, segment)| {
            let bytes = &segment.cached;
            let of_header = match SegmentHeader::decode(bytes) {
                HeaderState::Valid(header) => missing <= header.durable,
                _ => false,
            };
            let seed = record::seed(log_id, *number);
            let mut places = (HEADER_SIZE..bytes.len()).step_by(8).map(|at| &bytes[at..]);
            of_header
                || places.any(|place| {
                    let claimed = record::peek(place);
                    claimed.is_some_and(|(sequence, durable)| {
                        missing <= durable
                            && durable < sequence
                            && matches!(Stored::decode(place, seed), Ok(Some(_)))
                    })
                })
        })
    }

    /// The records that recovery reads, by a walk of our own.
    fn records(&self) -> Records {
        let mut found = Records::default();
        for (&number, segment) in &self.segments {
            let HeaderState::Valid(header) = SegmentHeader::decode(&segment.cached) else { break };
            if header.first_sequence != found.end() + 1 {
                break;
            }
            found.begun.push(number);
            found.end_segment = number;
            found.log_id = header.meta.log_id;
            found.durable = found.durable.max(header.durable);
            let seed = record::seed(header.meta.log_id, number);
            let mut at = HEADER_SIZE;
            while let Some(Ok(Some(stored))) =
                segment.cached.get(at..).map(|bytes| Stored::decode(bytes, seed))
            {
                if stored.sequence != found.end() + 1 {
                    break;
                }
                found.durable = found.durable.max(stored.durable);
                let bytes = at..at + record::HEADER_SIZE + stored.payload.len();
                let sequence = stored.sequence;
                at += stored.extent();
                found.records.push(Placed { segment: number, bytes, sequence });
            }
        }
        found
    }
}

/// The records of a log and where they lie.
#[derive(Default)]
struct Records {
    log_id: u64,
    /// Numbers of the segments that hold them.
    begun: Vec<u64>,
    end_segment: u64,
    records: Vec<Placed>,
    /// The last sequence number that any of them says was durable.
    durable: u64,
}

struct Placed {
    segment: u64,
    /// Without padding.
    bytes: Range<usize>,
    sequence: u64,
}

impl Records {
    fn end(&self) -> u64 {
        self.records.last().map_or(0, |it| it.sequence)
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

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { spoil, segment, bytes, lost, .. } = self;
        write!(f, "{spoil:?} at segment {segment} bytes {bytes:?}, records {lost:?} lost")?;
        if self.header {
            write!(f, ", in the header")?;
        }
        write!(f, ", {}", if self.provable { "provable" } else { "not provable" })
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use crate::paxos::{Ballot, NodeId, Record, Recovered, Slot, Value};
    use crate::wal::{Identity, Options, Wal};
    use crate::wire::ClusterId;

    use super::*;

    const IDENTITY: Identity = Identity { cluster: ClusterId(0x1122), node: NodeId(1) };
    const OPTIONS: Options = Options { segment_size: 16 * 1024, sync: true };

    fn open(disk: &SimDisk) -> Result<(Wal<Mount>, Recovered), WalError> {
        Wal::open_on(disk.mount(), IDENTITY, OPTIONS, &mut |_, _| ())
    }

    /// The record with this sequence number: its value says which it is, and of which `era`.
    fn record(sequence: u64, era: u8) -> Record {
        let size = sequence as usize * 379 % 1900;
        let mut value = vec![sequence as u8 | 1; size + 1];
        value[0] = era;
        let ballot = Ballot { round: 1, node: NodeId(1) };
        Record::Accepted { ballot, slot: Slot(sequence), value: Value(value.into()) }
    }

    /// Opens the log and checks that it holds exactly the first of `written`; returns how many.
    fn check(disk: &SimDisk, written: &[Record]) -> usize {
        let (wal, recovered) = open(disk).unwrap_or_else(|error| panic!("{error}"));
        check_opened(&wal, &recovered, written)
    }

    fn check_opened(wal: &Wal<Mount>, recovered: &Recovered, written: &[Record]) -> usize {
        let count = wal.end().0 as usize;
        assert!(count <= written.len());
        assert_eq!(recovered.tail.len(), count);
        for (record, found) in written.iter().zip(&recovered.tail) {
            let Record::Accepted { slot, value, .. } = record else { unreachable!() };
            assert_eq!((found.slot, &found.value), (*slot, value));
        }
        count
    }

    /// A log of `count` records, each synced before the next one: all but the last are provable.
    fn synced_log(disk: &SimDisk, count: u64) -> Vec<Record> {
        let (mut wal, _) = open(disk).unwrap();
        let records: Vec<Record> = (1..=count).map(|sequence| record(sequence, 0)).collect();
        for record in &records {
            wal.append(record).unwrap();
            wal.sync_now().unwrap();
        }
        records
    }

    /// Lives of a node, each ended by a kill or a crash, some in the middle of a recovery or after
    /// a sync that failed. Returns what was on the disk at last, and how often the log came back
    /// short, with part of what was not synced, and whole.
    fn live(seed: u64) -> (DiskCopy, [u32; 3]) {
        let mut dice = StdRng::seed_from_u64(seed);
        let disk = SimDisk::new("disk", seed);
        let mut written: Vec<Record> = Vec::new();
        // At least so many come back; exactly all if the page cache is whole.
        let (mut durable, mut is_cache_whole) = (0, true);
        let mut ends = [0; 3];
        for era in 0..12 {
            if dice.random_ratio(1, 4) {
                disk.fail_after(dice.random_range(0..6));
            }
            let (mut wal, recovered) = match open(&disk) {
                Ok(opened) => opened,
                Err(WalError::Io { .. }) => {
                    if dice.random_bool(0.5) {
                        disk.crash(Loss::draw(&mut dice), &mut dice);
                        is_cache_whole = false;
                    }
                    continue;
                }
                Err(error) => panic!("seed {seed}: a crash is no damage: {error}"),
            };
            let count = check_opened(&wal, &recovered, &written);
            assert!(durable <= count, "seed {seed}: {durable} were durable, {count} came back");
            assert!(!is_cache_whole || count == written.len());
            let end = if count == written.len() { 2 } else { usize::from(durable < count) };
            ends[end] += u32::from(durable < written.len());
            written.truncate(count);
            (durable, is_cache_whole) = (count, true);
            for _ in 0..dice.random_range(0..40) {
                match dice.random_range(0..8) {
                    0..4 => {
                        written.push(record(wal.end().0 + 1, era));
                        wal.append(&written[written.len() - 1]).unwrap();
                    }
                    4..6 => drop(wal.start_sync().unwrap()),
                    6 if disk.syncing().is_some() => {
                        let position = disk.syncing().unwrap();
                        disk.finish_sync(1);
                        assert_eq!(wal.poll_sync().unwrap().unwrap().position, position);
                        durable = position.0 as usize;
                    }
                    7 if disk.syncing().is_some() && dice.random_ratio(1, 8) => {
                        disk.fail_sync("played", 1, &mut dice);
                        assert!(wal.poll_sync().is_err());
                        is_cache_whole = false;
                        break;
                    }
                    _ => {}
                }
            }
            assert_eq!(wal.durable().0 as usize, durable);
            drop(wal);
            if dice.random_ratio(3, 4) {
                disk.crash(Loss::draw(&mut dice), &mut dice);
                is_cache_whole = false;
            }
        }
        (disk.copy(), ends)
    }

    /// Whatever happens between, the log comes back with all that was durable and a prefix of the
    /// rest; and all ends of that must come up.
    #[test]
    fn what_was_synced_survives_and_the_rest_is_a_prefix() {
        let mut sums = [0; 3];
        for seed in 0..300 {
            let (_, ends) = live(seed);
            (0..3).for_each(|i| sums[i] += ends[i]);
        }
        assert!(sums.iter().all(|sum| 50 < *sum), "{sums:?}");
    }

    #[test]
    fn the_same_seed_leaves_the_same_bytes() {
        let bytes = |seed| -> Vec<Vec<u8>> {
            let (copy, _) = live(seed);
            copy.segments.into_iter().map(|it| it.bytes).collect()
        };
        for seed in 0..10 {
            assert!(bytes(seed) == bytes(seed));
            assert!(bytes(seed) != bytes(seed + 1));
        }
    }

    /// Sectors go each its own way: every combination of old, middle and new comes up.
    #[test]
    fn sectors_are_lost_in_any_combination() {
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..300 {
            let mut dice = StdRng::seed_from_u64(seed);
            let disk = SimDisk::new("disk", 1);
            let mut mount = disk.mount();
            let blank = Blank { number: 1, size: 4096, sync: true };
            let mut segment = mount.create_segment(blank).unwrap();
            segment.write(0, 1024).fill(1);
            mount.start_sync([&segment].into_iter(), 1).unwrap();
            segment.write(512, 1536).fill(2);
            drop(segment);
            drop(mount);
            disk.crash(Loss::Sectors { keep: 0.5 }, &mut dice);
            let bytes = disk.copy_segment(1).unwrap().bytes;
            for sector in bytes.chunks(SECTOR_SIZE) {
                assert!(sector.iter().all(|byte| *byte == sector[0]), "sectors are not torn");
            }
            seen.insert([bytes[0], bytes[512], bytes[1024], bytes[1536]]);
        }
        // The first: written by the sync or not; the second: not, by the sync, or since; the third:
        // since or not; the fourth was never written.
        assert_eq!(seen.len(), 2 * 3 * 2);
        assert!(seen.iter().all(|it| it[0] < 2 && it[2] != 1 && it[3] == 0), "{seen:?}");
    }

    /// The kernel takes for clean what a failed sync did not write. If the next life only synced what
    /// it finds, a loss of power would then take what that life has answered with.
    #[test]
    fn a_failed_sync_is_final() {
        let mut shorter = 0;
        for seed in 0..100 {
            let mut dice = StdRng::seed_from_u64(seed);
            let disk = SimDisk::new("disk", 1);
            let mut written = synced_log(&disk, 3);
            let (mut wal, _) = open(&disk).unwrap();
            for sequence in 4..=6 {
                written.push(record(sequence, 0));
                wal.append(&written[sequence as usize - 1]).unwrap();
            }
            assert!(wal.start_sync().unwrap());
            assert_eq!(disk.syncing(), Some(LogPosition(6)));
            disk.fail_sync("the disk is gone", 5, &mut dice);
            assert_eq!(disk.syncing(), None);
            for _ in 0..2 {
                let error = wal.poll_sync().unwrap_err();
                assert!(error.to_string().contains("the disk is gone"), "{error}");
            }
            assert!(wal.append(&record(7, 0)).is_err() && wal.start_sync().is_err());
            assert_eq!(wal.durable(), LogPosition(3));
            drop(wal);
            let count = check(&disk, &written);
            assert!((3..=6).contains(&count));
            shorter += u32::from(count < 6);
            disk.crash(Loss::All, &mut dice);
            assert_eq!(check(&disk, &written), count);
        }
        assert!((50..100).contains(&shorter), "whole and short both come up: {shorter}");
    }

    #[test]
    fn a_full_disk_is_an_error_and_harms_nothing() {
        let disk = SimDisk::new("disk", 1);
        let mut written = synced_log(&disk, 2);
        for _ in 0..2 {
            disk.set_full(true);
            let (mut wal, _) = open(&disk).unwrap();
            let error = loop {
                let next = record(wal.end().0 + 1, 0);
                match wal.append(&next) {
                    Ok(_) => written.push(next),
                    Err(error) => break error,
                }
            };
            assert!(matches!(error, WalError::DiskFull { .. }), "{error}");
            wal.sync_now().unwrap();
            assert!(wal.append(&record(wal.end().0 + 1, 0)).is_err());
            disk.set_full(false);
            written.push(record(wal.end().0 + 1, 0));
            wal.append(&written[written.len() - 1]).unwrap();
        }
        assert_eq!(check(&disk, &written), written.len());
    }

    /// Every way to spoil durable bytes: the log is refused exactly if that can be proven, and the
    /// error names the segment; otherwise it comes back with what can still be read.
    #[test]
    fn provable_damage_is_refused_by_name() {
        let disk = SimDisk::new("disk", 1);
        let mut written = synced_log(&disk, 40);
        {
            // A tail that was killed before its sync: nothing proves its records, and only they prove
            // the last one before, since no segment begins with them.
            let (mut wal, _) = open(&disk).unwrap();
            for sequence in 41..=42 {
                written.push(record(sequence, 0));
                wal.append(&written[sequence as usize - 1]).unwrap();
            }
        }
        assert_eq!(check(&disk, &written), 42);
        let good = disk.copy();
        assert!(3 <= good.segments.len());
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..1500 {
            let mut dice = StdRng::seed_from_u64(seed);
            let place = if seed % 2 == 0 { Place::Provable } else { Place::Anywhere };
            let damage = disk.damage(place, &mut dice).unwrap();
            assert!(damage.provable || place == Place::Anywhere);
            assert_ne!(
                disk.copy().segments[damage.segment as usize - 1].bytes,
                good.segments[damage.segment as usize - 1].bytes
            );
            match open(&disk) {
                Err(error) => {
                    assert!(damage.provable, "seed {seed}: {damage}, and yet: {error}");
                    let name = format!("{:016}.seg", damage.segment);
                    assert!(error.to_string().contains(&name), "seed {seed}: {damage}: {error}");
                }
                Ok((wal, recovered)) => {
                    assert!(!damage.provable, "seed {seed}: {damage}, and not refused");
                    let count = check_opened(&wal, &recovered, &written) as u64;
                    let expected = if damage.lost.is_empty() { 42 } else { damage.lost.start - 1 };
                    assert_eq!(count, expected, "seed {seed}: {damage}");
                }
            }
            seen.insert((damage.spoil as u8, damage.header, damage.provable));
            disk.restore(&good);
        }
        // Four ways, provable or not; three of them also in a header, which is always provable here.
        assert!(10 <= seen.len(), "{seen:?}");
    }

    /// One copy of `meta` is enough, and is repaired; with none there is nothing to trust.
    #[test]
    fn one_copy_of_meta_is_enough() {
        let disk = SimDisk::new("disk", 1);
        let mut dice = StdRng::seed_from_u64(1);
        assert_eq!(disk.damage_meta(&mut dice), None);
        assert_eq!(disk.damage(Place::Anywhere, &mut dice), None);
        let written = synced_log(&disk, 3);
        let mut copies = [0; 2];
        for _ in 0..20 {
            copies[disk.damage_meta(&mut dice).unwrap()] += 1;
            assert_eq!(check(&disk, &written), 3);
        }
        assert!(copies.iter().all(|count| 0 < *count));
        while copies != [1, 1] {
            let good = disk.copy();
            copies = [0; 2];
            (0..2).for_each(|_| copies[disk.damage_meta(&mut dice).unwrap()] += 1);
            if copies != [1, 1] {
                disk.restore(&good);
            }
        }
        assert!(matches!(open(&disk).err(), Some(WalError::MetaDamaged { .. })));
    }

    /// A segment comes back as it was before. If it is the last one, the witnesses of what it lost
    /// are lost with it; any other one is refused, or is what it was.
    #[test]
    fn a_stale_segment_is_refused_unless_it_is_the_last() {
        let (mut refused, mut same, mut unproven) = (0, 0, 0);
        for seed in 0..100 {
            let mut dice = StdRng::seed_from_u64(seed);
            let disk = SimDisk::new("disk", 1);
            synced_log(&disk, dice.random_range(1..30));
            let copies = disk.copy().segments;
            let copy = copies[dice.random_range(0..copies.len())].clone();
            let (mut wal, _) = open(&disk).unwrap();
            let mut written: Vec<Record> = (1..=wal.end().0).map(|it| record(it, 0)).collect();
            for _ in 0..dice.random_range(0..20) {
                written.push(record(wal.end().0 + 1, 0));
                wal.append(&written[written.len() - 1]).unwrap();
                wal.sync_now().unwrap();
            }
            drop(wal);
            let last = disk.stopped().records().end_segment;
            let damage = disk.restore_segment(&copy).unwrap();
            match open(&disk) {
                Err(error) => {
                    assert!(damage.provable, "seed {seed}: {damage}, and yet: {error}");
                    refused += 1;
                }
                Ok((wal, recovered)) => {
                    assert!(!damage.provable, "seed {seed}: {damage}, and not refused");
                    let count = check_opened(&wal, &recovered, &written);
                    if count == written.len() {
                        same += 1;
                    } else {
                        assert_eq!(last, copy.number, "seed {seed}: {damage}");
                        unproven += 1;
                    }
                }
            }
        }
        assert!(10 <= refused.min(same).min(unproven), "{refused} {same} {unproven}");
    }

    /// The power goes at every step of a recovery that has a torn tail over segments to clear: what
    /// is recovered then is what would have been.
    #[test]
    fn a_recovery_can_be_broken_off_anywhere() {
        for seed in 0..40 {
            let mut dice = StdRng::seed_from_u64(seed);
            let disk = SimDisk::new("disk", 1);
            let mut written = synced_log(&disk, 5);
            let (mut wal, _) = open(&disk).unwrap();
            for sequence in 6..=40 {
                written.push(record(sequence, 0));
                wal.append(&written[sequence as usize - 1]).unwrap();
            }
            drop(wal);
            disk.crash(Loss::Sectors { keep: 0.8 }, &mut dice);
            let torn = disk.copy();
            let expected = check(&disk, &written);
            let mut breaks = 0;
            loop {
                disk.restore(&torn);
                disk.fail_after(breaks);
                if open(&disk).is_ok() {
                    break;
                }
                disk.crash(Loss::draw(&mut dice), &mut dice);
                assert_eq!(check(&disk, &written), expected, "seed {seed}, step {breaks}");
                breaks += 1;
            }
            assert!(4 <= breaks);
        }
    }
}
