//! A set of slots that lie in few runs.

use std::collections::BTreeMap;
use std::ops::Range;

use super::ids::Slot;

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SlotSet {
    /// First slot of each run, and the slot after its last; no two touch.
    runs: BTreeMap<Slot, Slot>,
}

impl SlotSet {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// How many slots there are.
    pub fn len(&self) -> u64 {
        self.runs.iter().map(|(first, end)| end.0 - first.0).sum()
    }

    pub fn contains(&self, slot: Slot) -> bool {
        self.runs.range(..=slot).next_back().is_some_and(|(_, end)| slot < *end)
    }

    /// The slot after the last one, if there is one.
    pub fn end(&self) -> Option<Slot> {
        self.runs.values().next_back().copied()
    }

    pub fn insert(&mut self, slots: Range<Slot>) {
        if slots.is_empty() {
            return;
        }
        let Range { mut start, mut end } = slots;
        // Runs that touch become one.
        while let Some((&first, &old_end)) = self.runs.range(..=end).next_back() {
            if old_end < start {
                break;
            }
            self.runs.remove(&first);
            (start, end) = (start.min(first), end.max(old_end));
        }
        self.runs.insert(start, end);
    }

    pub fn remove(&mut self, slot: Slot) {
        let run = self.runs.range(..=slot).next_back().map(|(first, end)| (*first, *end));
        let Some((first, end)) = run.filter(|(_, end)| slot < *end) else { return };
        self.runs.remove(&first);
        if first < slot {
            self.runs.insert(first, slot);
        }
        if slot.next() < end {
            self.runs.insert(slot.next(), end);
        }
    }

    pub fn remove_in(&mut self, slots: Range<Slot>) {
        let kept =
            self.runs_in(Slot(0)..slots.start).chain(self.runs_in(slots.end..Slot(u64::MAX)));
        let kept = kept.collect();
        *self = kept;
    }

    /// Removes all slots below `end`.
    pub fn remove_below(&mut self, end: Slot) {
        while let Some(run) = self.runs.first_entry() {
            let (first, run_end) = (*run.key(), *run.get());
            if end <= first {
                return;
            }
            run.remove();
            if end < run_end {
                self.runs.insert(end, run_end);
            }
        }
    }

    /// The runs, as far as they lie in `within`, in order.
    pub fn runs_in(&self, within: Range<Slot>) -> impl Iterator<Item = Range<Slot>> + '_ {
        let Range { start, end } = within;
        let runs = self.runs.iter().map(move |(first, last)| start.max(*first)..end.min(*last));
        runs.filter(|run| !run.is_empty())
    }
}

impl FromIterator<Range<Slot>> for SlotSet {
    fn from_iter<T: IntoIterator<Item = Range<Slot>>>(runs: T) -> SlotSet {
        let mut set = SlotSet::default();
        runs.into_iter().for_each(|run| set.insert(run));
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against a plain list of slots.
    #[test]
    fn it_is_a_set() {
        let mut dice = 7u64;
        let mut draw = |below: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (dice >> 33) % below
        };
        for _ in 0..200 {
            let (mut set, mut list) = (SlotSet::default(), [false; 40]);
            for _ in 0..12 {
                let first = draw(39);
                let end = first + draw(40 - first) + 1;
                match draw(4) {
                    0 => {
                        set.remove(Slot(first));
                        list[first as usize] = false;
                    }
                    3 if draw(2) == 0 => {
                        set.remove_in(Slot(first)..Slot(end));
                        list[first as usize..end as usize].fill(false);
                    }
                    1 => {
                        set.remove_below(Slot(first / 4));
                        list[..first as usize / 4].fill(false);
                    }
                    _ => {
                        set.insert(Slot(first)..Slot(end));
                        list[first as usize..end as usize].fill(true);
                    }
                }
                let slots: Vec<u64> =
                    set.runs_in(Slot(0)..Slot(40)).flat_map(|run| run.start.0..run.end.0).collect();
                let expected: Vec<u64> = (0..40).filter(|i| list[*i as usize]).collect();
                assert_eq!(slots, expected);
                assert_eq!(set.len() as usize, expected.len());
                assert_eq!(set.end().map(|end| end.0 - 1), expected.last().copied());
                assert!((0..40).all(|i| set.contains(Slot(i)) == list[i as usize]));
                assert_eq!(set.is_empty(), expected.is_empty());
            }
            let part: Vec<u64> =
                set.runs_in(Slot(5)..Slot(9)).flat_map(|run| run.start.0..run.end.0).collect();
            assert!(part.iter().all(|slot| (5..9).contains(slot) && list[*slot as usize]));
        }
    }
}
