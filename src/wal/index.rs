//! Where the last value of each slot lies: eight bytes a slot, and no values.
//!
//! The slots are kept in pages, found through a tree, because a node that installs a snapshot goes
//! on far above the slots that it holds, and the gap must cost nothing.

use std::collections::BTreeMap;

use crate::paxos::Slot;

/// Slots of one page.
const PAGE_SLOTS: u64 = 1024;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Location {
    pub segment: u32,
    /// In the segment; 0, where its header lies, means that nothing is held.
    pub offset: u32,
}

#[derive(Default)]
pub struct Index {
    pages: BTreeMap<u64, Box<[Location]>>,
    /// Slots held lie in `first..end`, which may have holes.
    held: Option<(Slot, Slot)>,
}

impl Index {
    /// Takes `location` for the last value of `slot`.
    pub fn set(&mut self, slot: Slot, location: Location) {
        assert!(location.offset > 0);
        let page = self
            .pages
            .entry(slot.0 / PAGE_SLOTS)
            .or_insert_with(|| vec![Location::default(); PAGE_SLOTS as usize].into());
        page[(slot.0 % PAGE_SLOTS) as usize] = location;
        let (first, end) = self.held.unwrap_or((slot, slot.next()));
        self.held = Some((first.min(slot), end.max(slot.next())));
    }

    pub fn find(&self, slot: Slot) -> Option<Location> {
        let page = self.pages.get(&(slot.0 / PAGE_SLOTS))?;
        let location = page[(slot.0 % PAGE_SLOTS) as usize];
        (location.offset > 0).then_some(location)
    }

    /// The slots held from `first` up, in order.
    pub fn from(&self, first: Slot) -> impl Iterator<Item = (Slot, Location)> + '_ {
        self.pages
            .range(first.0 / PAGE_SLOTS..)
            .flat_map(|(page, locations)| {
                let start = page * PAGE_SLOTS;
                locations.iter().enumerate().map(move |(i, at)| (Slot(start + i as u64), *at))
            })
            .filter(move |(slot, location)| first <= *slot && location.offset > 0)
    }

    /// Forgets what lies in segments before `first_segment`: values of slots below `end` only.
    pub fn truncate(&mut self, end: Slot, first_segment: u32) {
        let pages = self.pages.range_mut(..=end.0 / PAGE_SLOTS);
        let mut empty = Vec::new();
        for (&page, locations) in pages {
            let mut is_empty = true;
            for at in locations.iter_mut() {
                if at.segment < first_segment {
                    *at = Location::default();
                }
                is_empty &= at.offset == 0;
            }
            if is_empty {
                empty.push(page);
            }
        }
        for page in empty {
            self.pages.remove(&page);
        }
        let first = self.from(Slot(0)).next().map(|(slot, _)| slot);
        self.held = first.zip(self.held).map(|(first, (_, end))| (first, end));
    }

    /// First slot held and the slot after the last one; equal if there is none.
    pub fn held(&self) -> (Slot, Slot) {
        self.held.unwrap_or((Slot::FIRST, Slot::FIRST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node that installed a snapshot continues a trillion slots higher.
    #[test]
    fn a_gap_costs_nothing() {
        let mut index = Index::default();
        assert_eq!(index.held(), (Slot(1), Slot(1)));
        let at = |offset| Location { segment: 1, offset };
        index.set(Slot(5), at(72));
        index.set(Slot(1_000_000_000_000), at(128));
        index.set(Slot(3), at(200));
        index.set(Slot(5), at(300));
        assert_eq!(index.pages.len(), 2);
        assert_eq!(index.held(), (Slot(3), Slot(1_000_000_000_001)));
        assert_eq!(index.find(Slot(5)), Some(at(300)));
        assert_eq!(index.find(Slot(4)), None);
        let above: Vec<u64> = index.from(Slot(4)).map(|(slot, _)| slot.0).collect();
        assert_eq!(above, [5, 1_000_000_000_000]);
    }

    /// What is truncated takes no memory, and what lies among it in a later segment stays.
    #[test]
    fn truncated_slots_are_forgotten() {
        let mut index = Index::default();
        for slot in 1..=5000 {
            index.set(Slot(slot), Location { segment: slot as u32 / 1000 + 1, offset: 72 });
        }
        index.set(Slot(7), Location { segment: 5, offset: 72 });
        index.truncate(Slot(4000), 5);
        assert_eq!(index.held(), (Slot(7), Slot(5001)));
        assert_eq!((index.find(Slot(8)), index.find(Slot(3999))), (None, None));
        assert!(index.find(Slot(7)).is_some() && index.find(Slot(4000)).is_some());
        assert_eq!(index.pages.len(), 3);
        index.truncate(Slot(5001), 7);
        assert_eq!(index.held(), (Slot(1), Slot(1)));
        assert!(index.pages.is_empty());
    }
}
