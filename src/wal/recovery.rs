//! Reading the log back at the start of a node, and making it fit to be appended to.
//!
//! 1. Segments below the first one that `meta` names are what an interrupted truncation left: they are
//!    removed. All others are read (`scan`).
//! 2. If something is lost in the middle, `doubt` says what this node no longer knows; it starts all the
//!    same. First `meta` notes how far the log was proven to be durable: the next step may clear away what
//!    proves it, and then the next start would take the damage for a torn tail.
//! 3. A torn tail is cleared away: later segments are removed, the last one first, and zeros written
//!    over the rest of the one that holds the end, before anything new is appended. So no byte of it
//!    can be taken for a new record later. A crash in between leaves a torn tail at the same place.
//! 4. All that is left is synced: it may have been written by a process that was killed before its
//!    sync, and so be in the page cache only, and from now on the node answers with it. What nothing
//!    proves to be on the disk is first written again, as it is: if that process ended because its
//!    sync failed, the kernel takes the pages for clean, and a sync alone would pass them over.
//!
//! The rest of the last segment gets its zeros even if it has them: reading it may have brought
//! large folios into the page cache, which would make each append cost a hundredfold (see
//! `files`).

use std::collections::VecDeque;
use std::ops::Deref;
use std::path::Path;

use crate::mutants::{self, Mutant};
use crate::paxos::{Recovered, Slot};

use super::WalError;
use super::bounds::Bounds;
use super::disk::{Disk, SegmentBytes};
use super::doubt::{Doubt, Hole};
use super::index::{Index, Location};
use super::meta::{self, Meta, Proven};
use super::record::{RecordType, Stored};
use super::scan::{End, Found, Lost, View, scan};
use super::segment::{self, Segment};

/// The log, ready to be appended to.
pub struct Log<D: Disk> {
    pub segments: VecDeque<Segment<D::Bytes>>,
    pub index: Index,
    pub end: u64,
    pub bounds: Bounds,
    pub first_unchosen: Slot,
    /// The slot of the last `Record::Jumped`; 0 if there is none.
    pub jumped: Slot,
    pub doubt: Doubt,
    pub lost: Vec<Lost>,
    pub recovered: Recovered,
}

/// Recovers the log. `progress` gets bytes read and bytes in all.
pub fn recover<D: Disk>(
    disk: &mut D,
    meta: &mut Meta,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Log<D>, WalError> {
    let wal_dir = &segment::dir_in(disk.dir());
    let numbers = disk.list_segments()?;
    let truncated = numbers.partition_point(|number| *number < meta.first_segment);
    for number in &numbers[..truncated] {
        disk.remove_segment(*number)?;
    }
    let numbers = &numbers[truncated..];
    let opened = open_all(wal_dir, numbers, |number| disk.open_segment(number))?;
    let views: Vec<View> = numbers
        .iter()
        .zip(&opened)
        .map(|(&number, bytes)| View { wal_dir, number, bytes })
        .collect();

    let size_total: u64 = views.iter().map(|view| view.bytes.len() as u64).sum();
    let mut size_done = 0;
    progress(0, size_total);
    let mut load = |i: usize| {
        disk.read_through(&opened[i])?;
        size_done += opened[i].len() as u64;
        progress(size_done, size_total);
        Ok(())
    };
    let mut reading = Reading::new(meta);
    let end = scan(&views, meta, &mut |found| reading.note(found), &mut load)?;
    reading.finish(&meta.proven);
    let record_at = |at: Location| {
        let view = numbers.partition_point(|number| *number < u64::from(at.segment));
        &views[view].bytes[at.offset as usize..]
    };
    let node = meta.log.identity.node;
    let Reading { index, holes, first_unchosen, jumped, .. } = &reading;
    let doubt = Doubt::new(index, holes, *first_unchosen, *jumped, &record_at);
    let mut recovered = {
        let truncated = meta.truncated_before;
        doubt.recovered(&reading.index, truncated, truncated, &record_at)
    };
    recovered.promised = reading.bounds.promised;
    recovered.own_ballot = reading.bounds.own_ballot(node);
    drop(views);

    if !reading.lost.is_empty() && meta.proven.sequence < end.sequence {
        let Reading { bounds, first_unchosen, .. } = reading;
        meta.proven = Proven { sequence: end.sequence, bounds, first_unchosen };
        disk.write_meta(&meta::file_of(meta))?;
    }
    let segments = settle(disk, meta, numbers, opened, &end, &reading)?;
    let Reading { index, bounds, first_unchosen, lost, .. } = reading;
    let jumped = recovered.log_begin;
    let end = end.sequence;
    Ok(Log { segments, index, end, bounds, first_unchosen, jumped, doubt, lost, recovered })
}

/// What the scan has come by so far.
struct Reading {
    index: Index,
    bounds: Bounds,
    first_unchosen: Slot,
    jumped: Slot,
    lost: Vec<Lost>,
    holes: Vec<Hole>,
    /// Nothing was read since the last of them.
    in_hole: bool,
    /// For each segment with records: its number, that of the first record, and the end of its slots, those
    /// included that it lost.
    segments: Vec<(u64, u64, Slot)>,
    /// The end of the slots that were lost before the first segment with records.
    lost_end: Slot,
    /// The last record that another one, or a header, says was durable.
    proven: u64,
    /// Where records lie that nothing has proven yet: number, segment and offset of the first one in
    /// each stretch.
    unproven: VecDeque<(u64, u64, usize)>,
}

/// Bytes that are written again at most although they are proven.
const STRETCH_SIZE: usize = 64 * 1024;

impl Reading {
    fn new(meta: &Meta) -> Reading {
        Reading {
            index: Index::default(),
            bounds: Bounds::default(),
            first_unchosen: meta.truncated_before,
            jumped: Slot(0),
            lost: Vec::new(),
            holes: Vec::new(),
            in_hole: false,
            segments: Vec::new(),
            lost_end: Slot(0),
            proven: 0,
            unproven: VecDeque::new(),
        }
    }

    fn note(&mut self, found: Found) {
        match found {
            Found::Header(number, start) => {
                self.note_bounds(start.bounds);
                self.first_unchosen = start.first_unchosen.max(Slot::FIRST);
                self.begin_segment(number, start.first_sequence);
                self.note_proven(start.durable);
                self.unproven.push_back((start.first_sequence, number, 0));
            }
            Found::Record(number, offset, record) => {
                if mutants::is_on(Mutant::ForgetPromiseInDamage) {
                    let Stored { kind, ballot, slot, .. } = *record;
                    self.bounds = self.bounds.with(kind, ballot, slot);
                }
                self.note_bounds(record.bounds);
                if matches!(record.kind, RecordType::FirstUnchosen | RecordType::Jumped) {
                    self.first_unchosen = record.slot.max(Slot::FIRST);
                }
                if record.kind == RecordType::Jumped {
                    self.jumped = record.slot;
                }
                if self.segments.last().is_none_or(|(last, ..)| *last != number) {
                    self.begin_segment(number, record.sequence);
                }
                if record.kind.has_value() {
                    self.index.set(record.slot, location(number, offset));
                    let (.., slot_end) = self.segments.last_mut().expect("it was just pushed");
                    *slot_end = record.slot.next().max(*slot_end);
                }
                self.note_proven(record.durable);
                let last = self.unproven.back();
                let stretch = |offset| (number, offset / STRETCH_SIZE);
                if last.is_none_or(|last| (last.1, last.2 / STRETCH_SIZE) != stretch(offset)) {
                    self.unproven.push_back((record.sequence, number, offset));
                }
            }
            Found::Lost(lost) => {
                if !lost.sequences.is_empty() {
                    let at = location(lost.segment, lost.offset);
                    let slot_end = Slot(0);
                    let first_unchosen = self.first_unchosen;
                    self.holes.push(Hole { at, first_unchosen, slot_end });
                    self.in_hole = true;
                }
                self.lost.push(lost.clone());
            }
        }
    }

    fn begin_segment(&mut self, number: u64, first_sequence: u64) {
        self.segments.push((number, first_sequence, std::mem::take(&mut self.lost_end)));
    }

    /// Those of a place behind all that was read so far.
    fn note_bounds(&mut self, bounds: Bounds) {
        if let (true, Some(hole)) = (std::mem::take(&mut self.in_hole), self.holes.last_mut()) {
            hole.slot_end = bounds.slot_end;
            // Only when all that was lost is known elsewhere may the log forget that something was.
            let forgets = mutants::is_on(Mutant::TruncateOverDamage);
            match self.segments.last_mut() {
                _ if forgets => {}
                Some((.., slot_end)) => *slot_end = bounds.slot_end.max(*slot_end),
                None => self.lost_end = bounds.slot_end,
            }
        }
        if !mutants::is_on(Mutant::ForgetPromiseInDamage) {
            self.bounds = self.bounds.max(bounds);
        }
    }

    /// If the log ends in a hole, `meta` knows what the records that are lost there came to.
    fn finish(&mut self, proven: &Proven) {
        if self.in_hole {
            self.note_bounds(proven.bounds);
            self.first_unchosen = proven.first_unchosen;
        }
    }

    fn note_proven(&mut self, durable: u64) {
        self.proven = self.proven.max(durable);
        while self.unproven.get(1).is_some_and(|second| second.0 <= self.proven + 1) {
            self.unproven.pop_front();
        }
    }
}

pub fn location(number: u64, offset: usize) -> Location {
    Location {
        segment: u32::try_from(number).expect("segments are counted in 32 bits"),
        offset: u32::try_from(offset).expect("segments are smaller than 4 GiB"),
    }
}

/// Opens the segments.
pub fn open_all<B: Deref<Target = [u8]>>(
    wal_dir: &Path,
    numbers: &[u64],
    mut open: impl FnMut(u64) -> Result<B, WalError>,
) -> Result<Vec<B>, WalError> {
    if numbers.is_empty() {
        return Err(WalError::LogMissing { dir: wal_dir.to_owned() });
    }
    let mut opened = Vec::with_capacity(numbers.len());
    for &number in numbers {
        let bytes = open(number)?;
        if (u32::MAX as usize) < bytes.len() {
            let path = segment::path_in(wal_dir, number);
            return Err(WalError::damaged(&path, 0, "it is larger than any segment"));
        }
        opened.push(bytes);
    }
    Ok(opened)
}

/// Steps 2 and 3: nothing is left behind the end, and everything before it is on the disk.
fn settle<D: Disk>(
    disk: &mut D,
    meta: &Meta,
    numbers: &[u64],
    mut opened: Vec<D::Bytes>,
    end: &End,
    reading: &Reading,
) -> Result<VecDeque<Segment<D::Bytes>>, WalError> {
    let number_last = numbers[end.view];
    if end.torn {
        log::warn!(
            "torn tail: what was not yet durable behind record {} ({} offset {}) is dropped",
            end.sequence,
            segment::path_in(&segment::dir_in(disk.dir()), number_last).display(),
            end.used
        );
    }
    for number in numbers[end.view + 1..].iter().rev() {
        drop(opened.pop());
        disk.remove_segment(*number)?;
    }
    disk.sync_names()?;

    let unproven = reading.unproven.front().map_or((0, 0), |(_, number, at)| (*number, *at));
    let mut segments = VecDeque::with_capacity(opened.len());
    for (&number, mut bytes) in numbers.iter().zip(opened) {
        let used = if number == number_last { end.used } else { bytes.len() };
        let start = if number == unproven.0 { unproven.1 } else { 0 };
        if unproven.0 <= number && start < used && !mutants::is_on(Mutant::TrustPageCache) {
            write_again(bytes.write(start, used));
        }
        if !mutants::is_on(Mutant::RecoverWithoutSync) {
            disk.sync_segment(&bytes)?;
        }
        if number == number_last {
            if !mutants::is_on(Mutant::KeepTornTail) {
                bytes = disk.clear_rest(bytes, used)?;
            }
        } else {
            disk.seal(&bytes);
        }
        // One in which nothing could be read is kept for those that can do more with it.
        if let Some(of) = reading.segments.iter().find(|(it, ..)| *it == number) {
            let (_, first_sequence, slot_end) = *of;
            let log = meta.log;
            segments.push_back(Segment::recovered(
                bytes,
                number,
                log,
                first_sequence,
                slot_end,
                used,
            ));
        }
    }
    Ok(segments)
}

/// Stores bytes over themselves, one at least in each sector, so that all of it is written.
fn write_again(bytes: &mut [u8]) {
    let (last, others) = bytes.split_last_mut().expect("it is not empty");
    for byte in others.iter_mut().step_by(512).chain([last]) {
        *byte = std::hint::black_box(*byte);
    }
}
