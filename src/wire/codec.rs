//! The one place where bincode is called for the wire: heads of frames, commands and replies.
//!
//! bincode 2.0.1 has no maintainer any more (RUSTSEC-2025-0141); it is pinned, kept behind these
//! three functions, and its layout is held by golden-bytes tests (`docs/dependencies.md`).

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use serde::{Deserialize, Serialize};

use super::WireError;

const fn config<const LIMIT: usize>() -> Configuration<LittleEndian, Fixint, Limit<LIMIT>> {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<LIMIT>()
}

/// Nothing that we decode is longer.
const SIZE_MAX: usize = 16 * 1024 * 1024;

/// Appends the encoding of `value` to `out` and returns how many bytes that were.
pub fn encode_into<T: Serialize>(value: &T, out: &mut Vec<u8>) -> usize {
    bincode::serde::encode_into_std_write(value, out, config::<SIZE_MAX>())
        .expect("plain data written to memory always encodes")
}

pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // What most messages fit, so that they do not grow eight times on the way.
    let mut out = Vec::with_capacity(256);
    encode_into(value, &mut out);
    out
}

/// Decodes a value that fills `bytes` exactly; it may borrow from them.
///
/// bincode sets aside what a string's length says, up to its limit, before it looks whether so much is
/// there; so the limit is one that goes with the size of what came. Memory for a sequence is bounded by
/// serde, to 1 MiB, until its items are there.
pub fn decode<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, WireError> {
    match bytes.len() {
        0..=65_536 => decode_within::<T, 65_536>(bytes),
        _ => decode_within::<T, SIZE_MAX>(bytes),
    }
}

fn decode_within<'de, T: Deserialize<'de>, const LIMIT: usize>(
    bytes: &'de [u8],
) -> Result<T, WireError> {
    match bincode::serde::borrow_decode_from_slice(bytes, config::<LIMIT>()) {
        Ok((value, size)) if size == bytes.len() => Ok(value),
        Ok(_) => Err(WireError::Malformed("bytes left over behind the message")),
        Err(_) => Err(WireError::Malformed("the message does not decode")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The limit that goes with a size must not refuse anything of that size: strings, byte slices and
    /// lists that just fit under each step, and just do not.
    #[test]
    fn no_size_is_refused() {
        for size in [0, 100, 1000, 1015, 1016, 1017, 65_527, 65_528, 65_529, 1_000_000] {
            let text = "x".repeat(size);
            assert_eq!(decode::<String>(&encode(&text)), Ok(text.clone()));
            assert_eq!(decode::<&[u8]>(&encode(&text.as_bytes())), Ok(text.as_bytes()));
            let words: Vec<(u8, u64)> = vec![(1, 2); size / 9];
            assert_eq!(decode::<Vec<(u8, u64)>>(&encode(&words)), Ok(words.clone()));
            let texts: Vec<String> = vec!["xyz".to_owned(); size / 11];
            assert_eq!(decode::<Vec<String>>(&encode(&texts)), Ok(texts.clone()));
        }
    }
}
