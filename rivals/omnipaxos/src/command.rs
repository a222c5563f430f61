//! An entry of the log: what one client asked, and where its answer is waited for.
//!
//! Its bytes are shared: OmniPaxos clones entries for each peer and each step, and the store keeps them as they came.
//!
//! | size | field |
//! | --- | --- |
//! | 1 | 1 put, 2 get |
//! | 2 | size of the key (little-endian) |
//! | | the key |
//! | | of a put: the value |

use std::fmt;
use std::rc::Rc;

use omnipaxos::storage::{Entry, NoSnapshot};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub const PUT: u8 = 1;
pub const GET: u8 = 2;
/// Before the key.
const HEAD_SIZE: usize = 3;

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Command {
    /// Which node's client asks.
    pub node: u64,
    /// Which life of that node: numbers begin anew with each.
    pub life: u64,
    pub number: u64,
    pub bytes: Shared,
}

impl Entry for Command {
    type Snapshot = NoSnapshot;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared(pub Rc<[u8]>);

/// What a command asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked<'a> {
    Put {
        key: &'a [u8],
        /// Where the value begins in the command's bytes.
        value_at: usize,
    },
    Get {
        key: &'a [u8],
    },
}

/// Bytes that ask for nothing are of somebody who is not us.
pub fn parse(bytes: &[u8]) -> Option<Asked<'_>> {
    let (&[kind, low, high], rest) = bytes.split_first_chunk::<HEAD_SIZE>()?;
    let size = usize::from(u16::from_le_bytes([low, high]));
    let key = rest.get(..size)?;
    match kind {
        PUT => Some(Asked::Put { key, value_at: HEAD_SIZE + size }),
        GET if rest.len() == size => Some(Asked::Get { key }),
        _ => None,
    }
}

/// The bytes that ask for the value of a key.
pub fn get(key: &[u8]) -> Option<Shared> {
    let size = u16::try_from(key.len()).ok()?.to_le_bytes();
    Some(Shared([&[GET][..], &size, key].concat().into()))
}

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Shared {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Shared, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Shared;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Shared, E> {
                Ok(Shared(bytes.into()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_bytes() {
        let put = b"\x01\x03\0keyvalue";
        assert_eq!(parse(put), Some(Asked::Put { key: b"key", value_at: 6 }));
        let get = get(b"key").unwrap();
        assert_eq!(*get.0, *b"\x02\x03\0key");
        assert_eq!(parse(&get.0), Some(Asked::Get { key: b"key" }));
    }

    #[test]
    fn nonsense_asks_for_nothing() {
        for bytes in [b"".as_slice(), b"\x01\x03", b"\x01\x04\0key", b"\x02\x03\0keyx", b"\x07\0\0"]
        {
            assert_eq!(parse(bytes), None, "{bytes:?}");
        }
    }
}
