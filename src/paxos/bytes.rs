//! Bytes that many hold and nobody changes: in place while they are few, shared beyond that.
//!
//! To count who shares something takes two atomic operations for each holder, which are dearer than a copy of so
//! few bytes; and what lies in place is never allocated.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

#[derive(Clone)]
pub struct Bytes(Place);

#[derive(Clone)]
enum Place {
    Here { len: u8, bytes: [u8; HERE_MAX] },
    Shared(Arc<[u8]>),
}

/// With this, `Bytes` is 56 bytes. A batch of one command has 44 and its payload.
const HERE_MAX: usize = 54;

impl Bytes {
    pub const NONE: Bytes = Bytes(Place::Here { len: 0, bytes: [0; HERE_MAX] });
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Here { len, bytes } => &bytes[..usize::from(*len)],
            Place::Shared(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Bytes {
    fn from(from: &[u8]) -> Bytes {
        if HERE_MAX < from.len() {
            return Bytes(Place::Shared(Arc::from(from)));
        }
        let mut bytes = [0; HERE_MAX];
        bytes[..from.len()].copy_from_slice(from);
        Bytes(Place::Here { len: from.len() as u8, bytes })
    }
}

impl<const LEN: usize> From<[u8; LEN]> for Bytes {
    fn from(from: [u8; LEN]) -> Bytes {
        Bytes::from(&from[..])
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(from: Vec<u8>) -> Bytes {
        Bytes::from(&from[..])
    }
}

impl PartialEq for Bytes {
    fn eq(&self, other: &Bytes) -> bool {
        **self == **other
    }
}

impl Eq for Bytes {}

impl Hash for Bytes {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// However many there are, the bytes are what they were made of, and two of the same are equal.
    #[test]
    fn they_are_what_they_were_made_of() {
        for len in [0, 1, HERE_MAX - 1, HERE_MAX, HERE_MAX + 1, 300] {
            let from: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let bytes = Bytes::from(&from[..]);
            assert_eq!(*bytes, *from);
            assert_eq!(bytes.clone(), Bytes::from(from));
            assert_ne!(bytes, Bytes::from(vec![9; len + 1]));
        }
        assert_eq!(Bytes::NONE, Bytes::from([]));
        assert!(size_of::<Bytes>() <= 56);
    }
}
