//! The state as bytes: frozen without a pause, encoded in chunks, and read back.
//!
//! Invariant: the bytes are a function of the state and of nothing else. Equal states have equal bytes,
//! at every replica, and only those bytes are read back: items come in their one order, each once.
//!
//! The state is a sequence of items, little-endian, packed into chunks; an item is never divided:
//!
//! | item | bytes | order |
//! | --- | --- | --- |
//! | time | 1, time u64 | first, once |
//! | session | 2, id u64, acknowledged u64, last used u64 | by id |
//! | reply of the session before | 3, number u64, size u32, bytes | by number |
//! | last token given to a lock | 7, u64 | after all sessions, if one was given |
//! | entry | 4, size of key u32, size of value u32, key, value | after that, by key |
//! | entry with a term | 6, end u64, token u64 (0: no lock), then as an entry | among the entries |
//! | image | 8, size of hash u32, size of metadata u32, hash, metadata | after all entries, by hash |
//! | page of the database | 5, 4096 bytes | after all images, from the first page on |
//!
//! The entries may lie elsewhere, in a checkpoint of their table. The state is *linked* then, and is of use with that
//! checkpoint alone, so it never leaves its node. In the place of all entries, with a term or without, it has:
//!
//! | item | bytes | order |
//! | --- | --- | --- |
//! | entries elsewhere | 9, their number u64, their digest u128 | where the first entry would be, once |
//! | term of one of them | 10, end u64, token u64 (0: no lock), size of key u32, key | after that, by key |
//!
//! A chunk is closed once it holds [`CHUNK_SIZE_SOFT_MAX`] bytes; one item may overshoot it. What lies
//! around the chunks in a file, and their checksums, is the business of `crate::snapshot`.

mod decode;
#[cfg(test)]
pub mod fixtures;
mod freeze;
mod load;
#[cfg(test)]
mod tests;

use crate::limits::{KEY_SIZE_MAX, VALUE_SIZE_MAX};
use crate::paxos::Slot;

pub use decode::{Decoder, Item};
pub use freeze::Frozen;
pub use load::Loader;

/// A chunk is closed once it holds this many bytes.
pub const CHUNK_SIZE_SOFT_MAX: usize = 256 * 1024;
/// No chunk is larger, in bytes.
pub const CHUNK_SIZE_MAX: usize = CHUNK_SIZE_SOFT_MAX + ITEM_SIZE_MAX;
/// The largest slot of a snapshot, far above what a log can reach: session ids, which are made of
/// slots, stay within 64 bits.
pub const SLOT_MAX: Slot = Slot(1 << 50);

/// Keys that no log has ever set, and whose number is in no danger of overflowing.
const KEYS_MAX: u64 = 1 << 50;

/// The largest reply that the store gives to a command: `Mismatch` with what the key holds.
const REPLY_SIZE_MAX: usize = VALUE_SIZE_MAX + 64;
const ITEM_SIZE_MAX: usize = VALUE_SIZE_MAX + KEY_SIZE_MAX + 64;

const TIME: u8 = 1;
const SESSION: u8 = 2;
const REPLY: u8 = 3;
const ENTRY: u8 = 4;
const PAGE: u8 = 5;
const ENTRY_WITH_TERM: u8 = 6;
const LAST_TOKEN: u8 = 7;
const IMAGE: u8 = 8;
const ELSEWHERE: u8 = 9;
const TERM: u8 = 10;
