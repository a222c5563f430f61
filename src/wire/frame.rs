//! Frames: how messages are cut out of a byte stream.
//!
//! A frame is a header, a head (bincode, see `codec`) and a bulk part (raw bytes: values, payloads).
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 2 | magic `Lg` |
//! | 2 | 1 | version of the frame format, 1 |
//! | 3 | 1 | zero |
//! | 4 | 4 | size of the head in bytes |
//! | 8 | 4 | size of the bulk in bytes |
//! | 12 | 4 | CRC-32 (IEEE) of the bytes 0 to 11, the head and the bulk |
//! | 16 | | head, then bulk |
//!
//! A frame is whole or not there: a wrong magic, version, size or CRC ends the connection, because
//! where the next frame would begin is then unknown.

use serde::Serialize;

use crate::limits::{FRAME_BULK_SIZE_MAX, FRAME_HEAD_SIZE_MAX};

use super::{WireError, codec};

pub const HEADER_SIZE: usize = 16;
const MAGIC: [u8; 2] = *b"Lg";
const VERSION: u8 = 1;

/// A frame inside a receive buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub head: &'a [u8],
    pub bulk: &'a [u8],
}

/// Appends a frame to `out`; the bulk is the concatenation of `bulk`.
pub fn write<T: Serialize>(head: &T, bulk: &[&[u8]], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_SIZE]);
    let head_size = codec::encode_into(head, out);
    let mut bulk_size = 0;
    for part in bulk {
        bulk_size += part.len();
        out.extend_from_slice(part);
    }
    assert!(head_size <= FRAME_HEAD_SIZE_MAX, "senders keep to the limit of a head");
    assert!(bulk_size <= FRAME_BULK_SIZE_MAX, "senders keep to the limit of a bulk");

    let header = &mut out[start..start + HEADER_SIZE];
    header[0..2].copy_from_slice(&MAGIC);
    header[2] = VERSION;
    header[4..8].copy_from_slice(&(head_size as u32).to_le_bytes());
    header[8..12].copy_from_slice(&(bulk_size as u32).to_le_bytes());
    let crc = crc(&out[start..]);
    out[start + 12..start + 16].copy_from_slice(&crc.to_le_bytes());
}

/// The first frame of `buffer` and its size, or `None` if it is not there in full yet.
///
/// The header is judged as soon as it is there: a size over its limit is an error at once, not after
/// we have waited for that many bytes.
pub fn read(buffer: &[u8]) -> Result<Option<(Frame<'_>, usize)>, WireError> {
    if buffer.len() < HEADER_SIZE {
        // Even a part of a header can be wrong; say so before the other side makes us wait.
        if !MAGIC.starts_with(&buffer[..buffer.len().min(2)]) {
            return Err(WireError::Malformed("this is no Loggos frame"));
        }
        return Ok(None);
    }
    if buffer[0..2] != MAGIC {
        return Err(WireError::Malformed("this is no Loggos frame"));
    }
    if buffer[2] != VERSION || buffer[3] != 0 {
        return Err(WireError::FrameVersion(buffer[2]));
    }
    let word = |at: usize| u32::from_le_bytes(buffer[at..at + 4].try_into().expect("four bytes"));
    let (head_size, bulk_size) = (word(4) as usize, word(8) as usize);
    if head_size > FRAME_HEAD_SIZE_MAX || bulk_size > FRAME_BULK_SIZE_MAX {
        return Err(WireError::TooLarge { head_size, bulk_size });
    }
    let size = HEADER_SIZE + head_size + bulk_size;
    if buffer.len() < size {
        return Ok(None);
    }
    if crc(&buffer[..size]) != word(12) {
        return Err(WireError::Malformed("the frame's checksum is wrong"));
    }
    let head = &buffer[HEADER_SIZE..HEADER_SIZE + head_size];
    let bulk = &buffer[HEADER_SIZE + head_size..size];
    Ok(Some((Frame { head, bulk }, size)))
}

fn crc(frame: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..12]);
    hasher.update(&frame[HEADER_SIZE..]);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame() -> Vec<u8> {
        let mut out = Vec::new();
        write(&0x0102u16, &[b"ab", b"c"], &mut out);
        out
    }

    #[test]
    fn golden_bytes() {
        let bytes = frame();
        assert_eq!(&bytes[..12], b"Lg\x01\x00\x02\x00\x00\x00\x03\x00\x00\x00");
        assert_eq!(&bytes[16..], b"\x02\x01abc");
        let (frame, size) = read(&bytes).unwrap().unwrap();
        assert_eq!((frame.head, frame.bulk, size), (&b"\x02\x01"[..], &b"abc"[..], 21));
    }

    /// Cut anywhere, a frame is waited for; no cut is an error or a frame.
    #[test]
    fn a_cut_frame_is_waited_for() {
        let bytes = frame();
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
    }

    /// A flipped bit anywhere is noticed: as an error, or as a longer frame that never completes.
    #[test]
    fn a_flipped_bit_is_never_a_frame() {
        for bit in 0..frame().len() * 8 {
            let mut bytes = frame();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(read(&bytes), Ok(Some(_))), "bit {bit}");
        }
    }

    /// A length field alone must not make us wait for (or allocate) more than the limit.
    #[test]
    fn an_oversized_frame_is_refused_by_its_header() {
        let mut bytes = frame();
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert!(matches!(read(&bytes[..16]), Err(WireError::TooLarge { .. })));
        assert!(read(b"GET / HT").is_err());
    }
}
