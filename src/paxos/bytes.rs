//! Bytes that many hold and nobody changes: in place while they are few, shared beyond that.
//!
//! To count who shares something takes two atomic operations for each holder, which are dearer than a copy of few
//! bytes; what lies in place is never allocated; and keys that lie in the nodes of a tree are compared without
//! following a pointer to each.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// Up to `N` of them, at most 255, lie in place. Two less than a multiple of eight wastes no memory. Of values and
/// payloads 54: a batch of one command has 44 and its payload.
#[derive(Clone)]
pub struct Bytes<const N: usize = 54>(Place<N>);

#[derive(Clone)]
enum Place<const N: usize> {
    Here { len: u8, bytes: [u8; N] },
    Shared(Arc<[u8]>),
}

impl<const N: usize> Bytes<N> {
    pub const NONE: Bytes<N> = Bytes(Place::Here { len: 0, bytes: [0; N] });
}

impl<const N: usize> Deref for Bytes<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Here { len, bytes } => &bytes[..usize::from(*len)],
            Place::Shared(bytes) => bytes,
        }
    }
}

impl<const N: usize> From<&[u8]> for Bytes<N> {
    fn from(from: &[u8]) -> Bytes<N> {
        const { assert!(N <= u8::MAX as usize) };
        if N < from.len() {
            return Bytes(Place::Shared(Arc::from(from)));
        }
        let mut bytes = [0; N];
        bytes[..from.len()].copy_from_slice(from);
        Bytes(Place::Here { len: from.len() as u8, bytes })
    }
}

impl<const N: usize, const LEN: usize> From<[u8; LEN]> for Bytes<N> {
    fn from(from: [u8; LEN]) -> Bytes<N> {
        Bytes::from(&from[..])
    }
}

impl<const N: usize> From<Vec<u8>> for Bytes<N> {
    fn from(from: Vec<u8>) -> Bytes<N> {
        Bytes::from(&from[..])
    }
}

impl<const N: usize> Borrow<[u8]> for Bytes<N> {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl<const N: usize> PartialEq for Bytes<N> {
    fn eq(&self, other: &Bytes<N>) -> bool {
        **self == **other
    }
}

impl<const N: usize> Eq for Bytes<N> {}

impl<const N: usize> PartialOrd for Bytes<N> {
    fn partial_cmp(&self, other: &Bytes<N>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<const N: usize> Ord for Bytes<N> {
    fn cmp(&self, other: &Bytes<N>) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl<const N: usize> Hash for Bytes<N> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In place or not, bytes come back as they were and compare as slices do: zeros behind the end of
    /// the shorter one must not count.
    #[test]
    fn the_place_makes_no_difference() {
        let all: Vec<Vec<u8>> = [&b""[..], b"\0", b"\0\0", b"a", b"a\0", b"ab", b"b"]
            .into_iter()
            .flat_map(|begin| [0, 4, 5, 6, 7, 300].map(|more| [begin, &vec![0; more]].concat()))
            .collect();
        for one in &all {
            let left: Bytes<6> = one.as_slice().into();
            assert_eq!((&*left, left.clone()), (one.as_slice(), Bytes::from(one.clone())));
            for other in &all {
                let right: Bytes<6> = other.as_slice().into();
                assert_eq!(left.cmp(&right), one.cmp(other), "{one:?} {other:?}");
                assert_eq!(left == right, one == other);
            }
        }
        assert_eq!(Bytes::<6>::NONE, Bytes::from([]));
    }

    #[test]
    fn no_memory_is_wasted() {
        assert_eq!((size_of::<Bytes<22>>(), size_of::<Bytes<38>>()), (24, 40));
        assert_eq!(size_of::<Bytes>(), 56);
    }
}
