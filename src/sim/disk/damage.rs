//! Damage to what was durable, while no process has the disk, and what it means for the log.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;

use rand::{Rng, RngExt};

use crate::wal::meta;
use crate::wal::record::{self, Seed, Stored};
use crate::wal::segment::{HEADER_SIZE, HeaderState, SegmentHeader};

#[cfg(test)]
use super::Segment;
use super::{SECTOR_SIZE, SimDisk, State};

/// Where the disk spoils what it once held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where recovery is able to see it, and to go on.
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
    pub lost: Vec<u64>,
    /// Those that can be read now.
    pub left: BTreeSet<u64>,
    /// Whether recovery sees of all of them that were durable that they are lost, and goes on behind. If
    /// not, it takes some of them for a torn tail, or refuses the log.
    pub provable: bool,
}

/// A copy of one segment as it is on the disk.
#[derive(Clone)]
pub struct SegmentCopy {
    pub number: u64,
    pub(super) bytes: Vec<u8>,
}

/// A copy of all that is on the disk.
#[cfg(test)]
#[derive(Clone)]
pub struct DiskCopy {
    meta: Option<Vec<u8>>,
    pub(super) segments: Vec<SegmentCopy>,
}

impl SimDisk {
    /// Spoils bytes of the segments while no process has them. `None` if there is no log yet, or no
    /// place was found where the damage could be proven. Records up to `durable` were told to be so.
    pub fn damage(&self, place: Place, durable: u64, dice: &mut impl Rng) -> Option<Damage> {
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
                    let number = state.any_segment(dice);
                    (number, dice.random_range(0..state.segments[&number].cached.len()))
                }
            };
            let old = state.segments[&segment].cached.clone();
            let (spoil, bytes) = state.spoil(segment, offset, &before, dice);
            let damage = state.assess(spoil, segment, bytes, &old, durable, &before);
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
    /// it. `None` if there is none of that number and size any more. For `durable` see `damage`.
    pub fn restore_segment(&self, copy: &SegmentCopy, durable: u64) -> Option<Damage> {
        let mut state = self.stopped();
        let before = state.records();
        let old = state.segments.get(&copy.number)?.cached.clone();
        if old.len() != copy.bytes.len() {
            return None;
        }
        state.write_both(copy.number, &copy.bytes);
        Some(state.assess(Spoil::OldSegment, copy.number, 0..old.len(), &old, durable, &before))
    }

    /// All segments as a process would see them.
    pub fn copy_cached(&self) -> Vec<SegmentCopy> {
        let state = self.stopped();
        let copy = |(number, it): (&u64, &super::Segment)| SegmentCopy {
            number: *number,
            bytes: it.cached.clone(),
        };
        state.segments.iter().map(copy).collect()
    }

    /// Takes a damage back: all is as `copy_cached` has seen it.
    pub fn put_back(&self, copies: Vec<SegmentCopy>) {
        let mut state = self.stopped();
        for SegmentCopy { number, bytes } in copies {
            if state.segments[&number].cached != bytes {
                state.write_both(number, &bytes);
            }
        }
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
}

impl State {
    fn any_segment(&self, dice: &mut impl Rng) -> u64 {
        let i = dice.random_range(0..self.segments.len());
        *self.segments.keys().nth(i).expect("there are so many")
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
                let from = &self.segments[&self.any_segment(dice)].cached;
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
        durable: u64,
        before: &Records,
    ) -> Damage {
        let new = &self.segments[&number].cached;
        let header = old[..HEADER_SIZE] != new[..HEADER_SIZE];
        let is_hit =
            |it: &&Placed| it.segment == number && old[it.bytes.clone()] != new[it.bytes.clone()];
        let lost: Vec<u64> = before.records.iter().filter(is_hit).map(|it| it.sequence).collect();
        // What is left proves what it says; nothing else does. An earlier damage counts as well: this one may
        // have hit what proved that.
        let after = self.records();
        let left: BTreeSet<u64> = after.records.iter().map(|it| it.sequence).collect();
        let last_missing = (after.before + 1..=durable).rev().find(|it| !left.contains(it));
        let is_proven = last_missing.is_none_or(|it| it <= after.durable.max(after.proven));
        // A header that is neither blank nor right is damage by itself, which recovery does not pass over
        // unless it finds something behind.
        let last = after.records.last().map_or(0, |it| it.segment).max(after.last_begun());
        let is_bad = |(number, segment): (&u64, &super::Segment)| {
            last < *number
                && !matches!(
                    SegmentHeader::decode(&segment.cached),
                    HeaderState::Blank | HeaderState::Valid(_)
                )
        };
        let refused = self.segments.range(after.first_segment..).any(is_bad) || last == 0;
        let provable = is_proven && !refused;
        Damage { spoil, segment: number, bytes, header, lost, left, provable }
    }

    /// The records that can be read, and what they prove, by a walk of our own.
    pub(super) fn records(&self) -> Records {
        let mut found = Records::default();
        let meta = self.meta.as_ref().and_then(|bytes| meta::parse(bytes, &self.dir).ok());
        let Some(meta) = meta.map(|copies| copies.meta) else { return found };
        found.before = meta.first_sequence - 1;
        found.proven = meta.proven.sequence;
        found.first_segment = meta.first_segment;
        for (&number, segment) in self.segments.range(meta.first_segment..) {
            if let HeaderState::Valid(header) = SegmentHeader::decode(&segment.cached) {
                found.begun.push(number);
                found.durable = found.durable.max(header.start.durable);
            }
            let seed = Seed::new(meta.log.random, number);
            let mut at = HEADER_SIZE;
            while let Some(place) = segment.cached.get(at..) {
                let Some((sequence, _)) = record::peek(place) else { break };
                let is_next = found.end() < sequence && sequence < 1 << 40;
                match is_next.then(|| Stored::decode(place, seed.at(at))) {
                    Some(Ok(Some(stored))) => {
                        found.durable = found.durable.max(stored.durable);
                        let bytes = at..at + record::HEADER_SIZE + stored.payload.len();
                        at += stored.extent();
                        found.records.push(Placed { segment: number, bytes, sequence });
                    }
                    _ => at += 8,
                }
            }
        }
        found
    }
}

/// The records of a log and where they lie.
#[derive(Default)]
pub(super) struct Records {
    /// The last record that was truncated, and the first segment that was not.
    before: u64,
    first_segment: u64,
    /// Numbers of the segments whose headers are right.
    begun: Vec<u64>,
    records: Vec<Placed>,
    /// The last sequence number that any record or header says was durable.
    durable: u64,
    /// The same from `meta`.
    proven: u64,
}

struct Placed {
    segment: u64,
    /// Without padding.
    bytes: Range<usize>,
    sequence: u64,
}

impl Records {
    pub(super) fn last_begun(&self) -> u64 {
        self.begun.last().copied().unwrap_or(0)
    }

    fn end(&self) -> u64 {
        self.records.last().map_or(self.before, |it| it.sequence)
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
