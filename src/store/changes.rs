//! What the last slots did to the keys: what watchers are told.
//!
//! Every replica has the same changes in the same slots, so a watcher that loses its node goes on at another one, from
//! the slot where it was. Changes are kept as the bytes in which they are sent. They are no part of the state: a node
//! that starts from a snapshot has none of the slots before it.

use std::collections::VecDeque;

use crate::limits::HISTORY_SIZE_MAX;
use crate::paxos::Slot;

/// One key's change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    pub key: &'a [u8],
    /// `None`: it was deleted.
    pub value: Option<&'a [u8]>,
}

/// The size of a value that is none.
const DELETED: u32 = u32::MAX;

/// Bytes of the changes that are kept together: an allocation for each slot would cost more than what it holds.
const PIECE_SIZE: usize = 64 * 1024;

impl Change<'_> {
    /// Appends it: the size of the key, that of the value, the key, the value.
    pub fn write(&self, out: &mut Vec<u8>) {
        let value = self.value.unwrap_or_default();
        let value_size = self.value.map_or(DELETED, |value| value.len() as u32);
        out.extend_from_slice(&(self.key.len() as u32).to_le_bytes());
        out.extend_from_slice(&value_size.to_le_bytes());
        out.extend_from_slice(self.key);
        out.extend_from_slice(value);
    }
}

/// The changes in some bytes. Ends early where they are none.
pub fn read(bytes: &[u8]) -> Changes<'_> {
    Changes { rest: bytes }
}

#[derive(Clone, Debug)]
pub struct Changes<'a> {
    rest: &'a [u8],
}

impl Changes<'_> {
    /// Whether all bytes have been read.
    pub fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    fn u32(&mut self) -> Option<u32> {
        let (size, rest) = self.rest.split_first_chunk()?;
        self.rest = rest;
        Some(u32::from_le_bytes(*size))
    }
}

impl<'a> Iterator for Changes<'a> {
    type Item = Change<'a>;

    fn next(&mut self) -> Option<Change<'a>> {
        let before = self.rest;
        let change = (|| {
            let (key_size, value_size) = (self.u32()?, self.u32()?);
            let (key, rest) = self.rest.split_at_checked(key_size as usize)?;
            let (value, rest) = match value_size {
                DELETED => (None, rest),
                size => {
                    let (value, rest) = rest.split_at_checked(size as usize)?;
                    (Some(value), rest)
                }
            };
            self.rest = rest;
            Some(Change { key, value })
        })();
        if change.is_none() {
            self.rest = before;
        }
        change
    }
}

/// The changes of the slots from `begin` on.
#[derive(Debug)]
pub struct History {
    begin: Slot,
    pieces: VecDeque<Piece>,
    /// Bytes of all pieces.
    size: usize,
}

/// Some slots in a row.
#[derive(Debug, Default)]
struct Piece {
    bytes: Vec<u8>,
    /// Each slot that changed something, and where its changes end.
    slots: Vec<(Slot, usize)>,
}

impl Piece {
    fn last(&self) -> Slot {
        self.slots.last().expect("a piece has slots").0
    }

    /// The changes of the slots from the one at this place on.
    fn from(&self, place: usize) -> impl Iterator<Item = (Slot, &[u8])> {
        (place..self.slots.len()).map(|at| {
            let begin = at.checked_sub(1).map_or(0, |before| self.slots[before].1);
            let (slot, end) = self.slots[at];
            (slot, &self.bytes[begin..end])
        })
    }
}

impl Default for History {
    fn default() -> History {
        History::from_slot(Slot::FIRST)
    }
}

impl History {
    pub fn from_slot(begin: Slot) -> History {
        History { begin, pieces: VecDeque::new(), size: 0 }
    }

    /// The first slot whose changes are known, with all behind it.
    pub fn begin(&self) -> Slot {
        self.begin
    }

    /// Keeps the changes of the slot that was just applied.
    pub fn push(&mut self, slot: Slot, changes: &[u8]) {
        if changes.is_empty() {
            return;
        }
        let fits = |piece: &Piece| piece.bytes.len() + changes.len() <= PIECE_SIZE;
        if !self.pieces.back().is_some_and(fits) {
            let next = self.forget().unwrap_or_default();
            self.pieces.push_back(next);
        }
        let piece = self.pieces.back_mut().expect("seen to above");
        piece.bytes.extend_from_slice(changes);
        piece.slots.push((slot, piece.bytes.len()));
        self.size += changes.len();
    }

    /// Lets go of the oldest, as long as there is too much; returns an empty one that has its memory.
    fn forget(&mut self) -> Option<Piece> {
        let mut free = None;
        while HISTORY_SIZE_MAX < self.size {
            let mut piece = self.pieces.pop_front()?;
            self.size -= piece.bytes.len();
            self.begin = piece.last().next();
            piece.bytes.clear();
            piece.slots.clear();
            free = Some(piece).filter(|piece| piece.bytes.capacity() <= PIECE_SIZE);
        }
        free
    }

    /// The changes of each slot that had any, from `first` on, which is at or behind `begin`.
    pub fn since(&self, first: Slot) -> impl Iterator<Item = (Slot, &[u8])> {
        let from = self.pieces.partition_point(|piece| piece.last() < first);
        self.pieces.range(from..).flat_map(move |piece| {
            piece.from(piece.slots.partition_point(|(slot, _)| *slot < first))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_read_as_written() {
        let changes = [
            Change { key: b"a", value: Some(b"") },
            Change { key: b"", value: None },
            Change { key: b"key", value: Some(b"value") },
        ];
        let mut bytes = Vec::new();
        changes.iter().for_each(|change| change.write(&mut bytes));
        let mut read_back = read(&bytes);
        assert_eq!(read_back.by_ref().collect::<Vec<_>>(), changes);
        assert!(read_back.is_done());
        for cut in 1..bytes.len() {
            let mut part = read(&bytes[..cut]);
            let count = part.by_ref().count();
            assert_eq!(part.is_done(), [9, 17].contains(&cut), "{cut}: {count}");
        }
    }

    /// The oldest go first, and `begin` tells.
    #[test]
    fn history_is_bounded() {
        let mut history = History::default();
        let change = vec![0; HISTORY_SIZE_MAX / 4];
        for slot in 1..=5 {
            history.push(Slot(2 * slot), &change);
            history.push(Slot(2 * slot + 1), b"");
        }
        assert_eq!(history.begin(), Slot(1));
        let since = |history: &History, slot| {
            history.since(Slot(slot)).map(|(slot, _)| slot.0).collect::<Vec<_>>()
        };
        assert_eq!(since(&history, 3), [4, 6, 8, 10]);
        history.push(Slot(12), b"x");
        assert_eq!(history.begin(), Slot(3));
        assert_eq!(since(&history, 12), [12]);
        assert_eq!(since(&history, 13), [0; 0]);
    }

    #[test]
    fn small_slots_share_pieces() {
        let mut history = History::default();
        let of = |slot: u64| vec![slot as u8; 1 + slot as usize % 300];
        for slot in (2..4000).step_by(2) {
            history.push(Slot(slot), &of(slot));
        }
        assert!((2..10).contains(&history.pieces.len()));
        for first in [1, 2, 3, 1000, 1001, 3998, 3999] {
            let expected: Vec<_> = (2..4000).step_by(2).filter(|slot| first <= *slot).collect();
            let found: Vec<_> = history.since(Slot(first)).collect();
            assert_eq!(found.len(), expected.len());
            for (slot, (found, bytes)) in expected.into_iter().zip(found) {
                assert_eq!((found, bytes), (Slot(slot), &of(slot)[..]));
            }
        }
    }
}
