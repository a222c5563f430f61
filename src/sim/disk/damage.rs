//! Damage to what was durable, while no process has the disk, and what it means for the log.

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
                    let number = state.any_segment(dice);
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
                HeaderState::Valid(header) => missing <= header.start.durable,
                _ => false,
            };
            let seed = Seed::new(log_id, *number);
            let mut places = (HEADER_SIZE..bytes.len()).step_by(8);
            of_header
                || places.any(|at| {
                    let place = &bytes[at..];
                    let claimed = record::peek(place);
                    claimed.is_some_and(|(sequence, durable)| {
                        missing <= durable
                            && durable < sequence
                            && matches!(Stored::decode(place, seed.at(at)), Ok(Some(_)))
                    })
                })
        })
    }

    /// The records that recovery reads, by a walk of our own.
    pub(super) fn records(&self) -> Records {
        let mut found = Records::default();
        let meta = self.meta.as_ref().and_then(|bytes| meta::parse(bytes, &self.dir).ok());
        let Some(meta) = meta.map(|copies| copies.meta) else { return found };
        found.before = meta.first_sequence - 1;
        for (&number, segment) in self.segments.range(meta.first_segment..) {
            let HeaderState::Valid(header) = SegmentHeader::decode(&segment.cached) else { break };
            if header.start.first_sequence != found.end() + 1 {
                break;
            }
            found.begun.push(number);
            found.end_segment = number;
            found.log_id = header.log.random;
            found.durable = found.durable.max(header.start.durable);
            let seed = Seed::new(header.log.random, number);
            let mut at = HEADER_SIZE;
            while let Some(Ok(Some(stored))) =
                segment.cached.get(at..).map(|bytes| Stored::decode(bytes, seed.at(at)))
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
pub(super) struct Records {
    log_id: u64,
    /// The last record that was truncated.
    before: u64,
    /// Numbers of the segments that hold them.
    begun: Vec<u64>,
    pub(super) end_segment: u64,
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
