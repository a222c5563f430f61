//! `DIR/meta`: whose data directory this is.
//!
//! Two copies of one block of 4096 bytes, so that a damaged sector does not cost the node its
//! identity. Little-endian; every byte not named is zero:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic `LOGGOSMT` |
//! | 8 | 4 | version of the format of the whole directory: 1 |
//! | 12 | 4 | CRC-32 of bytes 0..12 and 16..64 |
//! | 16 | 8 | cluster id |
//! | 24 | 2 | node id |
//! | 32 | 8 | log id: random, from which the checksums of all records start |
//!
//! A copy is valid if magic and checksum are right; these stay in place in every later version, so
//! that a newer version can be named. One valid copy is enough, and the other is then written
//! anew. With no valid copy nothing can be trusted.
//!
//! The file comes into being whole, after the first segment: so a directory without `meta` whose log is empty is one whose creation was interrupted, and only that.

use std::path::{Path, PathBuf};

use crate::paxos::NodeId;
use crate::wire::ClusterId;

use super::record::{u16_at, u32_at, u64_at};
use super::{Identity, WalError};

pub const VERSION: u32 = 1;
const MAGIC: [u8; 8] = *b"LOGGOSMT";
const BLOCK_SIZE: usize = 4096;
const CHECKED_SIZE: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    pub identity: Identity,
    pub log_id: u64,
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
    block[16..24].copy_from_slice(&meta.identity.cluster.0.to_le_bytes());
    block[24..26].copy_from_slice(&meta.identity.node.0.to_le_bytes());
    block[32..40].copy_from_slice(&meta.log_id.to_le_bytes());
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
    Some(Ok(Meta { identity: Identity { cluster, node }, log_id: u64_at(block, 32) }))
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

    fn meta() -> Meta {
        Meta {
            identity: Identity { cluster: ClusterId(0x1122), node: NodeId(3) },
            log_id: 0x0102_0304_0506_0708,
        }
    }

    #[test]
    fn golden_block() {
        let block = encode(&meta());
        let hex: String = block[..64].iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(
            hex,
            concat!(
                "4c4f47474f534d540100000035e1045e22110000000000000300000000000000",
                "0807060504030201000000000000000000000000000000000000000000000000"
            )
        );
        assert!(block[64..].iter().all(|b| *b == 0));
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
        for size in [0, 10, 63] {
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
