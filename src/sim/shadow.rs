//! A write-ahead log in memory: what was appended, how much of it is durable, and what a restart finds.
//!
//! It keeps a view of the durable part of its own, built record by record as each becomes durable, so
//! that the checker can tell what a node may say without trusting what the node remembers.

use std::collections::BTreeMap;

use crate::paxos::{Ballot, Record, Recovered, RecoveredSlot, Slot, Value};

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

    /// All records up to `len` are durable now; returns those that were not before.
    pub fn make_durable(&mut self, len: usize) -> Vec<Record> {
        let newly: Vec<Record> = self.records[self.durable.min(len)..len].to_vec();
        for record in &newly {
            match record {
                Record::Promised(ballot) => {
                    self.durable_promised = self.durable_promised.max(*ballot);
                }
                Record::OwnBallot(ballot) => {
                    self.durable_own_ballot = self.durable_own_ballot.max(*ballot);
                }
                Record::Accepted { ballot, slot, .. } => {
                    self.durable_promised = self.durable_promised.max(*ballot);
                    self.durable_slots.insert(*slot, *ballot);
                }
                Record::Chosen { ballot, slot, .. } => {
                    self.durable_slots.insert(*slot, *ballot);
                }
                Record::FirstUnchosen(_) | Record::Jumped(_) => {}
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
