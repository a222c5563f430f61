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
//!
//! Zeros are written by calls of 4 KiB, on purpose: the page cache then holds the file in pages of
//! 4 KiB. With larger folios (which bigger writes, fallocate or readahead bring) the kernel writes
//! a whole folio for each changed byte, up to 256 times of what was appended. `MADV_RANDOM` keeps
//! readahead from bringing large folios back after the pages were evicted.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::{Advice, MmapMut};

use crate::paxos::NodeId;
use crate::wire::ClusterId;

use super::meta::{Meta, sync_dir};
use super::record::{Stored, seed, u16_at, u32_at, u64_at};
use super::{Identity, WalError, map};

pub const VERSION: u32 = 1;
pub const HEADER_SIZE: usize = 72;
const MAGIC: [u8; 8] = *b"LOGGOSWL";

/// The unit of the page cache, in which zeros are written.
const PAGE_SIZE: usize = 4096;
/// Zeros are made durable in steps of this size, so that a sync of the log that comes in between
/// finds no long queue at the disk.
const FILL_STEP_SIZE: u64 = 4 * 1024 * 1024;

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

/// A file of the log, shared with the thread that syncs it.
#[derive(Debug)]
pub struct SegmentFile {
    pub file: File,
    pub path: PathBuf,
}

/// A segment that records are read from, and, if it is the last one, appended to.
pub struct Segment {
    pub number: u64,
    pub file: Arc<SegmentFile>,
    map: MmapMut,
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

impl Segment {
    /// Maps a file whose records end at `used`.
    pub fn map(
        file: Arc<SegmentFile>,
        number: u64,
        used: usize,
        log_id: u64,
    ) -> Result<Segment, WalError> {
        let map = map::map_shared(&file.file)
            .map_err(|error| WalError::io("map the log segment", &file.path, error))?;
        // Advice only; see the head of this file for what it is good for.
        let _ = map.advise(Advice::Random);
        assert!(used <= map.len());
        Ok(Segment { number, file, map, used, seed: seed(log_id, number) })
    }

    /// Begins a blank segment.
    pub fn begin(&mut self, meta: Meta, first_sequence: u64, durable: u64) {
        assert!(self.used == 0, "a segment is begun once");
        assert!(durable < first_sequence);
        let size = self.map.len() as u64;
        let header = SegmentHeader { meta, number: self.number, first_sequence, durable, size };
        self.map[..HEADER_SIZE].copy_from_slice(&header.encode());
        self.used = HEADER_SIZE;
    }

    pub fn fits(&self, record: &Stored) -> bool {
        record.extent() <= self.map.len() - self.used
    }

    /// Appends the record and returns its offset.
    pub fn append(&mut self, record: &Stored) -> usize {
        assert!(self.used >= HEADER_SIZE, "a segment is begun before it is appended to");
        let offset = self.used;
        let end = offset + record.extent();
        record.encode(self.seed, &mut self.map[offset..end]);
        self.used = end;
        offset
    }

    /// Nothing is appended any more: from now on reads may bring their neighbours along.
    pub fn seal(&self) {
        map::release_pages(&self.map);
        let _ = self.map.advise(Advice::Normal);
    }

    /// The bytes from a record of the index on.
    pub fn record_at(&self, offset: usize) -> &[u8] {
        &self.map[offset..self.used]
    }
}

fn checksum(header: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&header[0..12]);
    hasher.update(&header[16..HEADER_SIZE]);
    hasher.finalize()
}

pub fn path_in(wal_dir: &Path, number: u64) -> PathBuf {
    wal_dir.join(format!("{number:016}.seg"))
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

/// Removes what an interrupted creation left.
pub fn remove_temporaries(wal_dir: &Path) -> Result<(), WalError> {
    let failed = |error| WalError::io("clean", wal_dir, error);
    for entry in fs::read_dir(wal_dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|extension| extension == "tmp") {
            fs::remove_file(&path).map_err(|error| WalError::io("remove", &path, error))?;
        }
    }
    Ok(())
}

/// Creates a segment file full of zeros and, if `sync`, makes it and its name durable. Stops early,
/// with an error, when `abandon` is set.
pub fn create(
    wal_dir: &Path,
    number: u64,
    size: u64,
    sync: bool,
    abandon: &AtomicBool,
) -> Result<SegmentFile, WalError> {
    let path = path_in(wal_dir, number);
    let temporary = path.with_extension("tmp");
    let created = (|| {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(true).open(&temporary)?;
        fill_with_zeros(&file, 0, size, sync, abandon)?;
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

/// Writes zeros over `start..end`, page by page.
pub fn fill_with_zeros(
    file: &File,
    start: u64,
    end: u64,
    sync: bool,
    abandon: &AtomicBool,
) -> io::Result<()> {
    let zeros = [0u8; PAGE_SIZE];
    let mut at = start;
    let mut synced = start;
    while at < end {
        // Up to the next page boundary: a write across two pages would bring a larger folio.
        let size = (PAGE_SIZE as u64 - at % PAGE_SIZE as u64).min(end - at);
        file.write_all_at(&zeros[..size as usize], at)?;
        at += size;
        if FILL_STEP_SIZE <= at - synced {
            if abandon.load(Ordering::Relaxed) {
                return Err(io::Error::other("given up, since the log is being closed"));
            }
            if sync {
                file.sync_data()?;
            }
            synced = at;
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

    /// A sparse page would be allocated at the first store to it, which on a full disk kills the
    /// process. So every page of a new segment must have its block already.
    #[test]
    fn a_new_segment_has_all_its_blocks() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let never = AtomicBool::new(false);
        let segment = create(dir.path(), 7, 64 * 1024, true, &never).unwrap();
        let metadata = segment.file.metadata().unwrap();
        assert_eq!(metadata.len(), 64 * 1024);
        assert!(64 * 1024 <= metadata.blocks() * 512);
        assert_eq!(list(dir.path()).unwrap(), [7]);
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
