//! `DIR/meta`: whose data directory this is, and where its log begins.
//!
//! Two copies of one block of 4096 bytes, so that a damaged sector does not cost the node its
//! identity. Little-endian; every byte not named is zero:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic `LOGGOSMT` |
//! | 8 | 4 | version of the format of the whole directory: 1 |
//! | 12 | 4 | CRC-32 of bytes 0..12 and 16..128 |
//! | 16 | 8 | cluster id |
//! | 24 | 2 | node id |
//! | 32 | 8 | log id: random, from which the checksums of all records start |
//! | 40 | 8 | number of the first segment: those before it are truncated |
//! | 48 | 8 | sequence number of its first record |
//! | 56 | 8 | slot: values of slots below may be truncated |
//! | 64 | 8 | sequence number up to which the log is known to have been durable, by what a recovery found behind damage; 0 if none did |
//! | 72 | 24 | bounds (see `bounds`) of the record with that number: the rounds and the slot |
//! | 96 | 8 | the slot that the last `first unchosen` record up to it named |
//! | 104 | 2 | bounds: node of the highest promise |
//!
//! A copy is valid if magic and checksum are right; these stay in place in every later version, so
//! that a newer version can be named. One valid copy is enough, and the other is then written
//! anew. With no valid copy nothing can be trusted.
//!
//! The file comes into being whole, after the first segment: so a directory without `meta` whose log
//! is empty is one whose creation was interrupted, and only that. It is replaced before segments are
//! truncated, so that a segment that is missing can be told from one that was removed.

use std::path::{Path, PathBuf};

use crate::paxos::{NodeId, Slot};
use crate::wire::ClusterId;

use super::bounds::Bounds;
use super::record::{self, u16_at, u32_at, u64_at};
use super::{Identity, WalError};

pub const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"LOGGOSMT";
const BLOCK_SIZE: usize = 4096;
const CHECKED_SIZE: usize = 128;

/// Which log it is, of all there ever were.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogId {
    pub identity: Identity,
    pub random: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub log: LogId,
    /// Segments below this number were truncated.
    pub first_segment: u64,
    /// Of that segment.
    pub first_sequence: u64,
    /// Values of slots below may have been truncated with them.
    pub truncated_before: Slot,
    pub proven: Proven,
}

/// So much was once durable, whatever the segments still show: noted by a recovery that found damage,
/// before it clears what may have been the proof of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Sequence number of the last record of that; 0 for nothing.
    pub sequence: u64,
    pub bounds: Bounds,
    pub first_unchosen: Slot,
}

impl Meta {
    /// Of a log that begins.
    pub fn new(log: LogId) -> Meta {
        let bounds = Bounds::default();
        Meta {
            log,
            first_segment: 1,
            first_sequence: 1,
            truncated_before: Slot::FIRST,
            proven: Proven { sequence: 0, bounds, first_unchosen: Slot::FIRST },
        }
    }
}

/// What the two copies say.
#[derive(Debug, PartialEq, Eq)]
pub struct Copies {
    pub meta: Meta,
    /// Whether one copy was damaged, and the file should be written anew.
    pub repair: bool,
}

pub fn path_in(dir: &Path) -> PathBuf {
    dir.join("meta")
}

/// Reads the bytes of `meta`, which lies in `dir`.
pub fn parse(bytes: &[u8], dir: &Path) -> Result<Copies, WalError> {
    let first = decode(bytes.get(..BLOCK_SIZE).unwrap_or(bytes));
    let second = decode(bytes.get(BLOCK_SIZE..).unwrap_or(&[]));
    let repair = first.is_none() || first != second;
    let path = path_in(dir);
    match first.or(second) {
        Some(Ok(meta)) => Ok(Copies { meta, repair }),
        Some(Err(found)) => Err(WalError::NewerVersion { path, found, known: VERSION }),
        None => Err(WalError::MetaDamaged { path }),
    }
}

/// Both copies.
pub fn file_of(meta: &Meta) -> Vec<u8> {
    encode(meta).repeat(2)
}

fn encode(meta: &Meta) -> [u8; BLOCK_SIZE] {
    let mut block = [0u8; BLOCK_SIZE];
    block[0..8].copy_from_slice(&MAGIC);
    block[8..12].copy_from_slice(&VERSION.to_le_bytes());
    block[16..24].copy_from_slice(&meta.log.identity.cluster.0.to_le_bytes());
    block[24..26].copy_from_slice(&meta.log.identity.node.0.to_le_bytes());
    block[32..40].copy_from_slice(&meta.log.random.to_le_bytes());
    block[40..48].copy_from_slice(&meta.first_segment.to_le_bytes());
    block[48..56].copy_from_slice(&meta.first_sequence.to_le_bytes());
    block[56..64].copy_from_slice(&meta.truncated_before.0.to_le_bytes());
    block[64..72].copy_from_slice(&meta.proven.sequence.to_le_bytes());
    meta.proven.bounds.encode(&mut block, 72, 104);
    block[96..104].copy_from_slice(&meta.proven.first_unchosen.0.to_le_bytes());
    let crc = checksum(&block);
    block[12..16].copy_from_slice(&crc.to_le_bytes());
    block
}

/// What one copy says: `None` if it is damaged, `Err` with its version if that is not known here.
fn decode(block: &[u8]) -> Option<Result<Meta, u32>> {
    if block.len() < CHECKED_SIZE || block[0..8] != MAGIC || u32_at(block, 12) != checksum(block) {
        return None;
    }
    let version = u32_at(block, 8);
    if version != VERSION {
        return Some(Err(version));
    }
    let cluster = ClusterId(u64_at(block, 16));
    let node = NodeId(u16_at(block, 24));
    if record::SEQUENCE_MAX < u64_at(block, 48).max(u64_at(block, 64)) {
        return None;
    }
    let log = LogId { identity: Identity { cluster, node }, random: u64_at(block, 32) };
    Some(Ok(Meta {
        log,
        // (The first ones of any log are 1.)
        first_segment: u64_at(block, 40).max(1),
        first_sequence: u64_at(block, 48).max(1),
        truncated_before: Slot(u64_at(block, 56)).max(Slot::FIRST),
        proven: Proven {
            sequence: u64_at(block, 64),
            bounds: Bounds::decode(block, 72, 104),
            first_unchosen: Slot(u64_at(block, 96)).max(Slot::FIRST),
        },
    }))
}

fn checksum(block: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&block[0..12]);
    hasher.update(&block[16..CHECKED_SIZE]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::Ballot;

    fn meta() -> Meta {
        let identity = Identity { cluster: ClusterId(0x1122), node: NodeId(3) };
        Meta {
            log: LogId { identity, random: 0x0102_0304_0506_0708 },
            first_segment: 9,
            first_sequence: 0x0a,
            truncated_before: Slot(0x11),
            proven: Proven {
                sequence: 0x12,
                bounds: Bounds {
                    promised: Ballot { round: 0x13, node: NodeId(2) },
                    own_round: 0x14,
                    slot_end: Slot(0x15),
                },
                first_unchosen: Slot(0x10),
            },
        }
    }

    #[test]
    fn golden_block() {
        let block = encode(&meta());
        let hex: String = block[..128].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "4c4f47474f534d5401000000bf40207822110000000000000300000000000000",
                "080706050403020109000000000000000a000000000000001100000000000000",
                "1200000000000000130000000000000014000000000000001500000000000000",
                "1000000000000000020000000000000000000000000000000000000000000000"
            )
        );
        assert!(block[128..].iter().all(|b| *b == 0));
        assert_eq!(decode(&block), Some(Ok(meta())));
    }

    /// A sector goes bad under one copy: the other must answer, and be told to repair it. Under
    /// both: nothing may be guessed.
    #[test]
    fn one_copy_is_enough_and_none_is_not() {
        let dir = Path::new("dir");
        let good = file_of(&meta());
        assert_eq!(good.len(), 2 * BLOCK_SIZE);
        assert_eq!(parse(&good, dir).unwrap(), Copies { meta: meta(), repair: false });
        for at in [0usize, 20, BLOCK_SIZE + 9] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            let copies = parse(&bad, dir).unwrap();
            assert_eq!(copies, Copies { meta: meta(), repair: true }, "byte {at}");
            bad[(at + BLOCK_SIZE) % (2 * BLOCK_SIZE)] ^= 1;
            assert!(matches!(parse(&bad, dir), Err(WalError::MetaDamaged { .. })));
        }
        for size in [0, 10, 127] {
            assert!(matches!(parse(&good[..size], dir), Err(WalError::MetaDamaged { .. })));
        }
    }

    /// A downgrade: the directory was written by a program that we know nothing of.
    #[test]
    fn a_newer_version_is_named() {
        let mut block = encode(&meta());
        block[8] = 9;
        let crc = checksum(&block);
        block[12..16].copy_from_slice(&crc.to_le_bytes());
        let error = parse(&block, Path::new("dir")).unwrap_err();
        assert!(matches!(error, WalError::NewerVersion { found: 9, .. }), "{error}");
    }
}
