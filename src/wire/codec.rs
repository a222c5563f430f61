//! The one place where bincode is called for the wire: heads of frames, commands and replies.
//!
//! bincode 2.0.1 has no maintainer any more (RUSTSEC-2025-0141); it is pinned, kept behind these
//! three functions, and its layout is held by golden-bytes tests (`docs/dependencies.md`).

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::{Deserialize, Serialize};

use super::WireError;

/// Nothing that we decode may make us allocate more than this, whatever its length fields say.
const DECODE_LIMIT: usize = 16 * 1024 * 1024;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<DECODE_LIMIT>> =
    bincode::config::standard().with_fixed_int_encoding().with_limit::<DECODE_LIMIT>();

/// Appends the encoding of `value` to `out` and returns how many bytes that were.
pub fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) -> usize {
    bincode::serde::encode_into_std_write(value, out, CONFIG)
        .expect("plain data written to memory always encodes")
}

pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut out = Vec::new();
    encode_into(value, &mut out);
    out
}

/// Decodes a value that fills `bytes` exactly; it may borrow from them.
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, WireError> {
    match bincode::serde::borrow_decode_from_slice(bytes, CONFIG) {
        Ok((value, size)) if size == bytes.len() => Ok(value),
        Ok(_) => Err(WireError::Malformed("bytes left over behind the message")),
        Err(_) => Err(WireError::Malformed("the message does not decode")),
    }
}
