//! One segment: a preallocated file of records, mapped.
//!
//! `DIR/wal/0000000000000001.seg`, numbered from 1 in decimal without gaps. Little-endian header:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic `LOGGOSWL` |
//! | 8 | 4 | format version: 1 |
//! | 12 | 4 | CRC-32 of bytes 0..12 and 16..72 |
//! | 16 | 8 | cluster id |
//! | 24 | 2 | node id |
//! | 26 | 6 | zero |
//! | 32 | 8 | log id, as in `meta` |
//! | 40 | 8 | number of the segment |
//! | 48 | 8 | sequence number of its first record |
//! | 56 | 8 | durable: the last sequence number known to be on the disk when the segment was begun |
//! | 64 | 8 | size of the file |
//!
//! Records (see `record`) follow from offset 72, each behind the other; what lies behind the last
//! one is zero. No record spans segments.
//!
//! A file is named `.seg` only once it is complete, all zeros and durable, and its header is
//! written when its first record is. So a crash leaves each 512-byte sector of it either zero or
//! as written, the header (one sector) is either blank or whole, and a file that is shorter than
//! its header says was shortened by somebody else.

use std::path::{Path, PathBuf};

use crate::paxos::NodeId;
use crate::wire::ClusterId;

use super::Identity;
use super::disk::SegmentBytes;
use super::meta::Meta;
use super::record::{Stored, seed, u16_at, u32_at, u64_at};

pub const VERSION: u32 = 1;
pub const HEADER_SIZE: usize = 72;
const MAGIC: [u8; 8] = *b"LOGGOSWL";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    pub meta: Meta,
    pub number: u64,
    pub first_sequence: u64,
    pub durable: u64,
    pub size: u64,
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
    /// Where the next record goes.
    used: usize,
    seed: u32,
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut bytes = [0u8; HEADER_SIZE];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.meta.identity.cluster.0.to_le_bytes());
        bytes[24..26].copy_from_slice(&self.meta.identity.node.0.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.meta.log_id.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.number.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.first_sequence.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.durable.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.size.to_le_bytes());
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
            meta: Meta { identity, log_id: u64_at(bytes, 32) },
            number: u64_at(bytes, 40),
            first_sequence: u64_at(bytes, 48),
            durable: u64_at(bytes, 56),
            size: u64_at(bytes, 64),
        })
    }
}

impl<B: SegmentBytes> Segment<B> {
    /// A segment whose records end at `used`; 0 if it is blank.
    pub fn new(bytes: B, number: u64, used: usize, log_id: u64) -> Segment<B> {
        assert!(used <= bytes.len());
        Segment { number, bytes, used, seed: seed(log_id, number) }
    }

    /// Begins a blank segment.
    pub fn begin(&mut self, meta: Meta, first_sequence: u64, durable: u64) {
        assert!(self.used == 0, "a segment is begun once");
        assert!(durable < first_sequence);
        let size = self.bytes.len() as u64;
        let header = SegmentHeader { meta, number: self.number, first_sequence, durable, size };
        self.bytes.write(0, HEADER_SIZE).copy_from_slice(&header.encode());
        self.used = HEADER_SIZE;
    }

    pub fn fits(&self, record: &Stored) -> bool {
        record.extent() <= self.bytes.len() - self.used
    }

    /// Appends the record and returns its offset.
    pub fn append(&mut self, record: &Stored) -> usize {
        assert!(self.used >= HEADER_SIZE, "a segment is begun before it is appended to");
        let offset = self.used;
        let end = offset + record.extent();
        record.encode(self.seed, self.bytes.write(offset, end));
        self.used = end;
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

    fn header() -> SegmentHeader {
        SegmentHeader {
            meta: Meta {
                identity: Identity { cluster: ClusterId(0x1122), node: NodeId(3) },
                log_id: 0x0102_0304_0506_0708,
            },
            number: 2,
            first_sequence: 0x0900,
            durable: 0x0800,
            size: 65536,
        }
    }

    #[test]
    fn golden_header() {
        let bytes = header().encode();
        let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "4c4f47474f53574c010000000df887e222110000000000000300000000000000",
                "0807060504030201020000000000000000090000000000000008000000000000",
                "0000010000000000"
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
