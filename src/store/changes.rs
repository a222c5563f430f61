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

/// Bytes that a kept slot takes beside its changes, about.
const SLOT_SIZE: usize = 64;

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
    /// Slots without changes are left out.
    slots: VecDeque<(Slot, Box<[u8]>)>,
    size: usize,
}

impl Default for History {
    fn default() -> History {
        History::from_slot(Slot::FIRST)
    }
}

impl History {
    pub fn from_slot(begin: Slot) -> History {
        History { begin, slots: VecDeque::new(), size: 0 }
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
        self.size += changes.len() + SLOT_SIZE;
        self.slots.push_back((slot, changes.into()));
        while HISTORY_SIZE_MAX < self.size && 1 < self.slots.len() {
            let (slot, changes) = self.slots.pop_front().expect("just seen");
            self.size -= changes.len() + SLOT_SIZE;
            self.begin = slot.next();
        }
    }

    /// The changes of each slot that had any, from `first` on, which is at or behind `begin`.
    pub fn since(&self, first: Slot) -> impl Iterator<Item = (Slot, &[u8])> {
        let from = self.slots.partition_point(|(slot, _)| *slot < first);
        self.slots.range(from..).map(|(slot, changes)| (*slot, &changes[..]))
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
        for slot in 1..=3 {
            history.push(Slot(2 * slot), &change);
            history.push(Slot(2 * slot + 1), b"");
        }
        assert_eq!(history.begin(), Slot(1));
        assert_eq!(history.since(Slot(3)).map(|(slot, _)| slot.0).collect::<Vec<_>>(), [4, 6]);
        history.push(Slot(8), &change);
        assert_eq!(history.begin(), Slot(3));
        assert_eq!(history.since(Slot(3)).count(), 3);
        // One that is larger than all that may be kept is kept alone.
        history.push(Slot(9), &vec![0; 2 * HISTORY_SIZE_MAX]);
        assert_eq!((history.begin(), history.since(Slot(9)).count()), (Slot(9), 1));
    }
}
