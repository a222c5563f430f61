//! A write-ahead log in memory: what was appended, how much of it is durable, and what a restart finds.
//!
//! It keeps a view of the durable part of its own, built record by record as each becomes durable, so
//! that the checker can tell what a node may say without trusting what the node remembers.

use std::collections::{BTreeMap, BTreeSet};

use crate::limits::ACCEPTOR_AHEAD_SLOTS_MAX;
use crate::paxos::{Ballot, Record, Recovered, RecoveredSlot, Slot, Value};

/// What a node needs of its log no more.
#[derive(Clone, Copy, Debug)]
pub struct Kept {
    /// Values of slots below may be gone with their segments.
    pub truncated_before: Slot,
    /// The state behind all slots below is in a snapshot.
    pub covered: Slot,
}

#[derive(Default)]
pub struct Shadow {
    records: Vec<Record>,
    durable: usize,
    /// The last record of each slot, durable or not.
    latest: BTreeMap<Slot, usize>,
    /// The highest ballot promised in any record, durable or not.
    pub promised: Ballot,
    pub durable_promised: Ballot,
    pub durable_own_ballot: Ballot,
    /// The ballot of the last durable record of each slot.
    pub durable_slots: BTreeMap<Slot, Ballot>,
}

impl Shadow {
    pub fn len(&self) -> usize {
        self.records.len()
    }

    pub fn durable(&self) -> usize {
        self.durable
    }

    pub fn append(&mut self, record: Record) {
        match &record {
            Record::Promised(ballot) => self.promised = self.promised.max(*ballot),
            Record::Accepted { ballot, slot, .. } => {
                assert!(
                    self.promised <= *ballot,
                    "accepted {ballot} in slot {slot} below the promise {}",
                    self.promised
                );
                self.promised = *ballot;
                self.latest.insert(*slot, self.records.len());
            }
            Record::Chosen { slot, .. } => {
                self.latest.insert(*slot, self.records.len());
            }
            Record::OwnBallot(_) | Record::FirstUnchosen(_) | Record::Jumped(_) => {}
        }
        self.records.push(record);
    }

    /// All records up to `len` but the `lost` ones, which are counted from 1, are durable now; returns those
    /// that were not before. What a lost record promised is durable all the same: the bounds of those behind
    /// it tell, and recovery refuses a log that lacks them.
    pub fn make_durable(&mut self, len: usize, lost: &BTreeSet<u64>) -> Vec<Record> {
        let mut newly = Vec::new();
        for (sequence, record) in (1..).zip(&self.records[..len]).skip(self.durable) {
            let is_left = !lost.contains(&sequence);
            match record {
                Record::Promised(ballot) => {
                    self.durable_promised = self.durable_promised.max(*ballot);
                }
                Record::OwnBallot(ballot) => {
                    self.durable_own_ballot = self.durable_own_ballot.max(*ballot);
                }
                Record::Accepted { ballot, slot, .. } => {
                    self.durable_promised = self.durable_promised.max(*ballot);
                    if is_left {
                        self.durable_slots.insert(*slot, *ballot);
                    }
                }
                Record::Chosen { ballot, slot, .. } => {
                    if is_left {
                        self.durable_slots.insert(*slot, *ballot);
                    }
                }
                Record::FirstUnchosen(_) | Record::Jumped(_) => {}
            }
            if is_left {
                newly.push(record.clone());
            }
        }
        self.durable = self.durable.max(len);
        newly
    }

    /// The process has ended, and `len` records were left of its log.
    pub fn truncate(&mut self, len: usize) {
        assert!(self.durable <= len && len <= self.records.len());
        self.records.truncate(len);
        self.promised = Ballot::NONE;
        self.latest.clear();
        for (at, record) in self.records.iter().enumerate() {
            match record {
                Record::Promised(ballot) => self.promised = self.promised.max(*ballot),
                Record::Accepted { slot, ballot, .. } => {
                    self.promised = self.promised.max(*ballot);
                    self.latest.insert(*slot, at);
                }
                Record::Chosen { slot, .. } => {
                    self.latest.insert(*slot, at);
                }
                Record::OwnBallot(_) | Record::FirstUnchosen(_) | Record::Jumped(_) => {}
            }
        }
    }

    /// The number of the last record that the log jumped, and where to; 0 if it never did.
    pub fn last_jump(&self) -> (u64, Slot) {
        let jumps = (1..).zip(&self.records).filter_map(|(sequence, record)| match record {
            Record::Jumped(slot) => Some((sequence, *slot)),
            _ => None,
        });
        jumps.last().unwrap_or((0, Slot(0)))
    }

    /// The slot whose value the record of this number has, if it has one.
    pub fn slot_of(&self, sequence: u64) -> Option<Slot> {
        value_of(self.records.get(sequence as usize - 1)?).map(|(slot, ..)| slot)
    }

    /// What reading the log back amounts to, word for word as `Recovered` says it.
    pub fn recover(&self) -> Recovered {
        let mut recovered = Recovered { first_unchosen: Slot::FIRST, ..Recovered::default() };
        let mut last: BTreeMap<Slot, RecoveredSlot> = BTreeMap::new();
        for record in &self.records {
            let (slot, ballot, value, chosen) = match record {
                Record::Promised(ballot) => {
                    recovered.promised = recovered.promised.max(*ballot);
                    continue;
                }
                Record::OwnBallot(ballot) => {
                    recovered.own_ballot = recovered.own_ballot.max(*ballot);
                    continue;
                }
                Record::FirstUnchosen(slot) => {
                    recovered.first_unchosen = *slot;
                    continue;
                }
                Record::Jumped(slot) => {
                    (recovered.first_unchosen, recovered.log_begin) = (*slot, *slot);
                    continue;
                }
                Record::Accepted { ballot, slot, value } => {
                    recovered.promised = recovered.promised.max(*ballot);
                    (*slot, *ballot, value.clone(), false)
                }
                Record::Chosen { ballot, slot, value } => (*slot, *ballot, value.clone(), true),
            };
            last.insert(slot, RecoveredSlot { slot, ballot, value, chosen });
        }
        let first_unchosen = recovered.first_unchosen;
        recovered.tail = last.split_off(&first_unchosen).into_values().collect();
        recovered
    }

    /// Slots of which a node that has `lost` these records, by sequence number, cannot tell what it accepted
    /// last; or more: what segments' headers tell is left out, and what is not yet durable may be lost as well.
    pub fn slots_in_doubt(&self, lost: &BTreeSet<u64>) -> BTreeSet<Slot> {
        let mut known = BTreeMap::new();
        let mut in_doubt = BTreeSet::new();
        let (mut first_unchosen, mut slot_end) = (Slot::FIRST, Slot::FIRST);
        for (sequence, record) in (1..).zip(&self.records) {
            let slot = value_of(record).map(|(slot, ..)| slot);
            slot_end = slot_end.max(slot.map_or(Slot::FIRST, Slot::next));
            if lost.contains(&sequence) {
                in_doubt.extend((first_unchosen.0..slot_end.0).map(Slot));
                in_doubt.retain(|slot| known.get(slot) != Some(&true));
                in_doubt.extend(slot.filter(|slot| !known.contains_key(slot)));
            } else if (self.durable as u64) < sequence {
                continue;
            } else if let Some(slot) = slot {
                known.insert(slot, matches!(record, Record::Chosen { .. }));
                in_doubt.remove(&slot);
            } else if let Record::FirstUnchosen(slot) | Record::Jumped(slot) = record {
                first_unchosen = *slot;
            }
        }
        in_doubt
    }

    /// Holds what was read back against what was written, where the `lost` records, by sequence number,
    /// were hit by damage: no promise is forgotten, what the log still tells of a slot was its last value
    /// or is in doubt, what is in doubt has a reason, and so has going back.
    pub fn check_recovered(&self, lost: &BTreeSet<u64>, kept: Kept, recovered: &Recovered) {
        let whole = self.recover();
        let ballots = |it: &Recovered| (it.promised, it.own_ballot);
        assert_eq!(ballots(recovered), ballots(&whole), "promises in a damaged log");
        let last_lost = lost.last().copied().unwrap_or(0);
        let mut last: BTreeMap<Slot, (u64, &Record)> = BTreeMap::new();
        let mut left: BTreeMap<Slot, (u64, &Record)> = BTreeMap::new();
        let mut chosen_end = Slot::FIRST;
        for (sequence, record) in (1..).zip(&self.records) {
            if let Record::FirstUnchosen(slot) | Record::Jumped(slot) = record {
                chosen_end = chosen_end.max(*slot);
            }
            let Some((slot, ..)) = value_of(record) else { continue };
            last.insert(slot, (sequence, record));
            if !lost.contains(&sequence) {
                left.insert(slot, (sequence, record));
            }
        }
        let covered = self.last_jump().1.max(kept.covered);
        let first = recovered.first_unchosen;
        assert!(first <= chosen_end, "{first} is not known to be chosen");
        let told: BTreeMap<Slot, &RecoveredSlot> =
            recovered.tail.iter().map(|entry| (entry.slot, entry)).collect();
        for (slot, (_, record)) in last.range(kept.truncated_before..) {
            let (_, ballot, value) = value_of(record).expect("it has one");
            if recovered.unsure.contains(*slot) {
                continue;
            }
            if *slot < first {
                // A value that was learned for certain may lie in a record of another ballot.
                let left = left.get(slot).and_then(|(_, record)| value_of(record));
                if *slot < covered && (*slot < recovered.log_begin || left.is_none()) {
                    continue;
                }
                let same = left.is_some_and(|(.., left)| left == value);
                assert!(same, "slot {slot} below {first} is lost, and nobody is told");
                continue;
            }
            if *slot < covered {
                continue;
            }
            let Some(entry) = told.get(slot) else {
                panic!("slot {slot} is lost, and not in doubt")
            };
            let is_last = entry.chosen || entry.ballot == ballot;
            assert!(is_last && entry.value == *value, "slot {slot}: {entry:?} was not its last");
        }
        for run in recovered.unsure.runs_in(Slot::FIRST..Slot(u64::MAX)) {
            assert!(first <= run.start, "{run:?} is known to be chosen, and in doubt");
            for slot in (run.start.0..run.end.0).map(Slot) {
                // Far behind the gap there may be too much to keep until it is learned.
                let is_far = ACCEPTOR_AHEAD_SLOTS_MAX <= slot.since(first);
                let at = left.get(&slot).map_or(0, |(sequence, _)| *sequence);
                assert!(at < last_lost || is_far, "slot {slot} is in doubt for no reason");
            }
        }
    }

    /// The last value recorded of a slot.
    pub fn value(&self, slot: Slot) -> Option<(Ballot, &Value)> {
        match &self.records[*self.latest.get(&slot)?] {
            Record::Accepted { ballot, value, .. } | Record::Chosen { ballot, value, .. } => {
                Some((*ballot, value))
            }
            _ => None,
        }
    }
}

/// Slot, ballot and value of a record that has them.
fn value_of(record: &Record) -> Option<(Slot, Ballot, &Value)> {
    match record {
        Record::Accepted { ballot, slot, value } | Record::Chosen { ballot, slot, value } => {
            Some((*slot, *ballot, value))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::NodeId;

    /// The power went before a promise was synced; recovery finds the record behind it, whose bounds tell
    /// of the promise, and only that one is left to be found again.
    #[test]
    fn what_a_lost_record_promised_is_durable_with_the_record_behind_it() {
        let ballot = |round| Ballot { round, node: NodeId(1) };
        let mut shadow = Shadow::default();
        shadow.append(Record::Promised(ballot(2)));
        shadow.append(Record::OwnBallot(ballot(3)));
        shadow.append(Record::FirstUnchosen(Slot(1)));
        let newly = shadow.make_durable(3, &BTreeSet::from([1, 2]));
        assert_eq!(newly, [Record::FirstUnchosen(Slot(1))]);
        assert_eq!((shadow.durable_promised, shadow.durable_own_ballot), (ballot(2), ballot(3)));
    }
}
