//! Bytes of which there mostly are few: up to `N` of them lie in place, more behind a shared pointer.
//!
//! Keys are compared dozens of times for each time that they are stored, and a comparison that has to
//! follow a pointer waits for memory. Replies are two to a command, written and dropped.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// `N` is at most 255. Two less than a multiple of eight wastes no memory.
#[derive(Clone)]
pub struct Bytes<const N: usize>(Place<N>);

#[derive(Clone)]
enum Place<const N: usize> {
    Here { size: u8, bytes: [u8; N] },
    Elsewhere(Arc<[u8]>),
}

impl<const N: usize> Deref for Bytes<N> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Place::Here { size, bytes } => &bytes[..usize::from(*size)],
            Place::Elsewhere(bytes) => bytes,
        }
    }
}

impl<const N: usize> From<&[u8]> for Bytes<N> {
    fn from(all: &[u8]) -> Bytes<N> {
        const { assert!(N <= u8::MAX as usize) };
        if N < all.len() {
            return Bytes(Place::Elsewhere(all.into()));
        }
        let mut bytes = [0; N];
        bytes[..all.len()].copy_from_slice(all);
        Bytes(Place::Here { size: all.len() as u8, bytes })
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

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
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
            assert_eq!(*left, **one);
            for other in &all {
                let right: Bytes<6> = other.as_slice().into();
                assert_eq!(left.cmp(&right), one.cmp(other), "{one:?} {other:?}");
                assert_eq!(left == right, one == other);
            }
        }
    }

    #[test]
    fn no_memory_is_wasted() {
        assert_eq!((size_of::<Bytes<22>>(), size_of::<Bytes<38>>()), (24, 40));
    }
}
