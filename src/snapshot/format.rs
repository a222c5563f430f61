//! The bytes of a snapshot: a header, chunks of the state, a footer. Little-endian.
//!
//! | offset | size | header |
//! | --- | --- | --- |
//! | 0 | 8 | magic `LOGGOSSN` |
//! | 8 | 4 | version: 1, or 2 of a linked snapshot |
//! | 12 | 4 | CRC-32 of bytes 0..12 and 16 up to the first chunk |
//! | 16 | 8 | cluster id |
//! | 24 | 8 | slot: the last one applied |
//! | 32 | 16 | digest of the state |
//! | 48 | 4 | size of the configurations |
//! | 52 | 12 | zero |
//! | 64 | | configurations, as the core encodes them |
//!
//! | offset | size | chunk |
//! | --- | --- | --- |
//! | 0 | 4 | size of what follows the CRC, never 0 |
//! | 4 | 4 | CRC-32 of the chunk's number (u64, from 0), its size and its bytes |
//! | 8 | | items of the state (`store::snapshot`) |
//!
//! | offset | size | footer |
//! | --- | --- | --- |
//! | 0 | 4 | 0, where a chunk has its size |
//! | 4 | 4 | CRC-32 of the rest of the footer |
//! | 8 | 8 | number of chunks |
//! | 16 | 8 | number of keys |
//! | 24 | 8 | number of sessions |
//! | 32 | 8 | size of the whole file |
//! | 40 | 16 | checksum: XXH3 (128 bits) of all bytes before the footer |
//!
//! A *linked* snapshot has all of the state but the entries: these lie beside it, in a checkpoint of their table. It is of
//! use at the node that made it and nowhere else. A *whole* one has everything, and is the same at every node.
//!
//! A snapshot is valid if all of this is right, the items keep to their order and limits, the digest of
//! what they amount to is that of the header, and nothing follows the footer. Magic and version stay in
//! place in every later version, so that a newer one can be named.

use std::sync::Arc;

use crate::limits::SNAPSHOT_CONFIGURATIONS_SIZE_MAX;
use crate::paxos::Slot;
use crate::store::snapshot::SLOT_MAX;
use crate::wire::ClusterId;

use super::{Head, SnapshotError};

/// The newest that is known.
pub const VERSION: u32 = VERSION_LINKED;
const VERSION_WHOLE: u32 = 1;
const VERSION_LINKED: u32 = 2;
pub const HEADER_SIZE: usize = 64;
pub const CHUNK_HEADER_SIZE: usize = 8;
pub const FOOTER_SIZE: usize = 56;
const MAGIC: [u8; 8] = *b"LOGGOSSN";

/// Where the entries of a snapshot's state are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// In it.
    Whole,
    /// In a checkpoint of their table.
    Linked,
}

/// The header with the configurations behind it.
pub fn encode_head(head: &Head, form: Form) -> Vec<u8> {
    let configurations_size = head.configurations.len();
    assert!(configurations_size <= SNAPSHOT_CONFIGURATIONS_SIZE_MAX);
    let mut bytes = vec![0; HEADER_SIZE];
    bytes[0..8].copy_from_slice(&MAGIC);
    let version = match form {
        Form::Whole => VERSION_WHOLE,
        Form::Linked => VERSION_LINKED,
    };
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    bytes[16..24].copy_from_slice(&head.cluster.0.to_le_bytes());
    bytes[24..32].copy_from_slice(&head.slot.0.to_le_bytes());
    bytes[32..48].copy_from_slice(&head.digest.to_le_bytes());
    bytes[48..52].copy_from_slice(&(configurations_size as u32).to_le_bytes());
    bytes.extend_from_slice(&head.configurations);
    let crc = head_crc(&bytes);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What a header says that a snapshot is. Nothing else of it is believed yet.
pub fn form(header: &[u8; HEADER_SIZE]) -> Result<Form, SnapshotError> {
    if header[0..8] != MAGIC {
        return Err(SnapshotError::damaged(0, "this is no snapshot"));
    }
    match u32_at(header, 8) {
        VERSION_WHOLE => Ok(Form::Whole),
        VERSION_LINKED => Ok(Form::Linked),
        found => Err(SnapshotError::NewerVersion { found }),
    }
}

/// How many bytes of configurations follow it.
pub fn configurations_size(header: &[u8; HEADER_SIZE]) -> Result<usize, SnapshotError> {
    form(header)?;
    let size = u32_at(header, 48) as usize;
    if SNAPSHOT_CONFIGURATIONS_SIZE_MAX < size {
        return Err(SnapshotError::damaged(48, "the configurations are over their limit"));
    }
    Ok(size)
}

/// The header, of which `configurations_size` was asked, and what followed it.
pub fn decode_head(bytes: &[u8]) -> Result<Head, SnapshotError> {
    if head_crc(bytes) != u32_at(bytes, 12) {
        return Err(SnapshotError::damaged(0, "the header has a wrong checksum"));
    }
    let slot = Slot(u64_at(bytes, 24));
    if SLOT_MAX < slot || bytes[52..HEADER_SIZE].iter().any(|byte| *byte != 0) {
        return Err(SnapshotError::damaged(24, "the header makes no sense"));
    }
    Ok(Head {
        cluster: ClusterId(u64_at(bytes, 16)),
        slot,
        digest: u128_at(bytes, 32),
        configurations: Arc::from(&bytes[HEADER_SIZE..]),
    })
}

pub fn chunk_header(number: u64, chunk: &[u8]) -> [u8; CHUNK_HEADER_SIZE] {
    assert!(!chunk.is_empty(), "0 announces the footer");
    let size = u32::try_from(chunk.len()).expect("a chunk is far below 4 GiB");
    let mut bytes = [0; CHUNK_HEADER_SIZE];
    bytes[0..4].copy_from_slice(&size.to_le_bytes());
    bytes[4..8].copy_from_slice(&chunk_crc(number, chunk).to_le_bytes());
    bytes
}

pub fn chunk_crc(number: u64, chunk: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&number.to_le_bytes());
    hasher.update(&(chunk.len() as u32).to_le_bytes());
    hasher.update(chunk);
    hasher.finalize()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    pub chunks: u64,
    pub keys: u64,
    pub sessions: u64,
    pub size: u64,
    pub checksum: u128,
}

pub fn encode_footer(footer: &Footer) -> [u8; FOOTER_SIZE] {
    let mut bytes = [0; FOOTER_SIZE];
    bytes[8..16].copy_from_slice(&footer.chunks.to_le_bytes());
    bytes[16..24].copy_from_slice(&footer.keys.to_le_bytes());
    bytes[24..32].copy_from_slice(&footer.sessions.to_le_bytes());
    bytes[32..40].copy_from_slice(&footer.size.to_le_bytes());
    bytes[40..56].copy_from_slice(&footer.checksum.to_le_bytes());
    let crc = crc32fast::hash(&bytes[8..]);
    bytes[4..8].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The footer of these bytes, if its checksum is right.
pub fn decode_footer(bytes: &[u8; FOOTER_SIZE]) -> Option<Footer> {
    if u32_at(bytes, 0) != 0 || u32_at(bytes, 4) != crc32fast::hash(&bytes[8..]) {
        return None;
    }
    Some(Footer {
        chunks: u64_at(bytes, 8),
        keys: u64_at(bytes, 16),
        sessions: u64_at(bytes, 24),
        size: u64_at(bytes, 32),
        checksum: u128_at(bytes, 40),
    })
}

fn head_crc(bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..12]);
    hasher.update(&bytes[16..]);
    hasher.finalize()
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u128_at(bytes: &[u8], at: usize) -> u128 {
    u128::from_le_bytes(bytes[at..at + 16].try_into().expect("sixteen bytes"))
}
