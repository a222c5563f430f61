//! One segment: a preallocated file of records, mapped.
//!
//! `DIR/wal/0000000000000001.seg`, numbered from 1 in decimal without gaps; truncation removes the
//! first ones, and `meta` says up to where. Little-endian header:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic `LOGGOSWL` |
//! | 8 | 4 | format version: 1 |
//! | 12 | 4 | CRC-32 of bytes 0..12 and 16..112 |
//! | 16 | 8 | cluster id |
//! | 24 | 2 | node id |
//! | 26 | 6 | zero |
//! | 32 | 8 | log id, as in `meta` |
//! | 40 | 8 | number of the segment |
//! | 48 | 8 | sequence number of its first record |
//! | 56 | 8 | durable: the last sequence number known to be on the disk when the segment was begun |
//! | 64 | 8 | size of the file |
//! | 72 | 24 | bounds of all records before: round of the highest promise, round of the highest own ballot, the slot after the highest one with a value |
//! | 96 | 8 | the slot that the last `first unchosen` record named; 1 if there was none |
//! | 104 | 2 | bounds: node of the highest promise |
//! | 106 | 6 | zero |
//!
//! Records (see `record`) follow from offset 112, each behind the other. Behind the last one lies what
//! was there before: zeros, or what an earlier segment of this log left whose file this one reuses
//! (`retired`). None of that is taken for a record, for a record's checksum depends on the segment's
//! number. No record spans segments.
//!
//! A file is named `.seg` only once all its blocks are there and its first page is zeros, durably, and
//! its header is written when its first record is. So a crash leaves each 512-byte sector of it either
//! as it was or as written, the header (one sector) is either blank or whole, and a file that is shorter
//! than its header says was shortened by somebody else.

use std::path::{Path, PathBuf};

use crate::paxos::{NodeId, Slot};
use crate::wire::ClusterId;

use super::Identity;
use super::bounds::Bounds;
use super::disk::SegmentBytes;
use super::meta::LogId;
use super::record::{Seed, Stored, u16_at, u32_at, u64_at};

pub const VERSION: u32 = 1;
pub const HEADER_SIZE: usize = 112;
const MAGIC: [u8; 8] = *b"LOGGOSWL";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub log: LogId,
    pub number: u64,
    pub size: u64,
    pub start: Start,
}

/// Where the log stood when a segment was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    pub first_sequence: u64,
    pub durable: u64,
    pub bounds: Bounds,
    pub first_unchosen: Slot,
}

/// What the first bytes of a segment are.
#[derive(Debug, PartialEq, Eq)]
pub enum HeaderState {
    /// Not begun, or its header did not reach the disk.
    Blank,
    Valid(SegmentHeader),
    Newer(u32),
    Damaged,
}

/// A segment that records are read from, and, if it is the last one, appended to.
pub struct Segment<B: SegmentBytes> {
    pub number: u64,
    pub bytes: B,
    pub first_sequence: u64,
    /// The slot after the highest one that has a value in this segment; 0 if none has.
    pub slot_end: Slot,
    /// Where the next record goes.
    used: usize,
    seed: Seed,
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0u8; HEADER_SIZE];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.log.identity.cluster.0.to_le_bytes());
        bytes[24..26].copy_from_slice(&self.log.identity.node.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.log.random.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.number.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.start.first_sequence.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.start.durable.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.size.to_le_bytes());
        self.start.bounds.encode(&mut bytes, 72, 104);
        bytes[96..104].copy_from_slice(&self.start.first_unchosen.0.to_le_bytes());
        let crc = checksum(&bytes);
        bytes[12..16].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `bytes` are those of the segment, at least a header long.
    pub fn decode(bytes: &[u8]) -> HeaderState {
        let bytes = &bytes[..HEADER_SIZE];
        if bytes.iter().all(|byte| *byte == 0) {
            return HeaderState::Blank;
        }
        if bytes[0..8] != MAGIC || u32_at(bytes, 12) != checksum(bytes) {
            return HeaderState::Damaged;
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return HeaderState::Newer(version);
        }
        let identity =
            Identity { cluster: ClusterId(u64_at(bytes, 16)), node: NodeId(u16_at(bytes, 24)) };
        HeaderState::Valid(SegmentHeader {
            log: LogId { identity, random: u64_at(bytes, 32) },
            number: u64_at(bytes, 40),
            size: u64_at(bytes, 64),
            start: Start {
                first_sequence: u64_at(bytes, 48),
                durable: u64_at(bytes, 56),
                bounds: Bounds::decode(bytes, 72, 104),
                first_unchosen: Slot(u64_at(bytes, 96)),
            },
        })
    }
}

impl<B: SegmentBytes> Segment<B> {
    /// A blank segment.
    pub fn blank(bytes: B, number: u64, log: LogId) -> Segment<B> {
        let seed = Seed::new(log.random, number);
        Segment { number, bytes, first_sequence: 0, slot_end: Slot(0), used: 0, seed }
    }

    /// A segment whose records, the first of which is `first_sequence`, end at `used`.
    pub fn recovered(
        bytes: B,
        number: u64,
        log: LogId,
        first_sequence: u64,
        slot_end: Slot,
        used: usize,
    ) -> Segment<B> {
        assert!(HEADER_SIZE <= used && used <= bytes.len());
        let seed = Seed::new(log.random, number);
        Segment { number, bytes, first_sequence, slot_end, used, seed }
    }

    /// Begins a blank segment.
    pub fn begin(&mut self, log: LogId, start: Start) {
        assert!(self.used == 0, "a segment is begun once");
        assert!(start.durable < start.first_sequence);
        let size = self.bytes.len() as u64;
        let header = SegmentHeader { log, number: self.number, size, start };
        self.bytes.write(0, HEADER_SIZE).copy_from_slice(&header.encode());
        self.first_sequence = start.first_sequence;
        self.used = HEADER_SIZE;
    }

    /// Bytes left for records.
    pub fn room(&self) -> usize {
        self.bytes.len() - self.used
    }

    pub fn fits(&self, record: &Stored) -> bool {
        record.extent() <= self.room()
    }

    /// Appends the record and returns its offset.
    pub fn append(&mut self, record: &Stored) -> usize {
        assert!(self.used >= HEADER_SIZE, "a segment is begun before it is appended to");
        let offset = self.used;
        let end = offset + record.extent();
        record.encode(self.seed.at(offset), self.bytes.write(offset, end));
        self.used = end;
        if record.kind.has_value() {
            self.slot_end = self.slot_end.max(record.slot.next());
        }
        offset
    }

    /// The bytes from a record of the index on.
    pub fn record_at(&self, offset: usize) -> &[u8] {
        &self.bytes[offset..self.used]
    }
}

fn checksum(header: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[0..12]);
    hasher.update(&header[16..HEADER_SIZE]);
    hasher.finalize()
}

/// Where the segments of a data directory lie.
pub fn dir_in(dir: &Path) -> PathBuf {
    dir.join("wal")
}

pub fn path_in(wal_dir: &Path, number: u64) -> PathBuf {
    wal_dir.join(format!("{number:016}.seg"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::Ballot;

    fn header() -> SegmentHeader {
        SegmentHeader {
            log: LogId {
                identity: Identity { cluster: ClusterId(0x1122), node: NodeId(3) },
                random: 0x0102_0304_0506_0708,
            },
            number: 2,
            size: 65536,
            start: Start {
                first_sequence: 0x0900,
                durable: 0x0800,
                bounds: Bounds {
                    promised: Ballot { round: 0x21, node: NodeId(4) },
                    own_round: 0x22,
                    slot_end: Slot(0x23),
                },
                first_unchosen: Slot(0x20),
            },
        }
    }

    #[test]
    fn golden_header() {
        let bytes = header().encode();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "4c4f47474f53574c010000007f1184d222110000000000000300000000000000",
                "0807060504030201020000000000000000090000000000000008000000000000",
                "0000010000000000210000000000000022000000000000002300000000000000",
                "20000000000000000400000000000000"
            )
        );
        assert_eq!(SegmentHeader::decode(&bytes), HeaderState::Valid(header()));
    }

    /// A header is blank, whole, or damaged: no flipped bit passes.
    #[test]
    fn every_bit_of_the_header_counts() {
        assert_eq!(SegmentHeader::decode(&[0u8; HEADER_SIZE]), HeaderState::Blank);
        for bit in 0..HEADER_SIZE * 8 {
            let mut bytes = header().encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(SegmentHeader::decode(&bytes), HeaderState::Damaged, "bit {bit}");
        }
    }
}
