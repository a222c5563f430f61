//! The reads that wait at a replica, by the way in which each is to be made linearizable.
//!
//! A way answers with a slot: the read may be served once all slots below are applied here. Any way's
//! answer is right for any read that waited when it was asked; so a quorum read that is not served
//! soon (a phase-1 quorum cannot be reached from here, or what a minority accepted is not chosen by
//! anybody) asks the leader too, and the first answer that comes true serves it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::mutants::{self, Mutant};

use super::effects::{Effects, Expired};
use super::ids::Slot;

/// How a linearizable read learns what it must see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ReadWay {
    /// The leader says, after a round that confirmed its lead (`read_rounds`).
    #[default]
    Leader,
    /// The leader says, at once while it holds a lease (`lease`), or after such a round.
    Lease,
    /// A phase-1 quorum of acceptors says (`quorum_reads`).
    Quorum,
}

#[derive(Clone, Debug, Hash)]
pub struct Reads {
    /// All that wait, by token.
    waiting: BTreeMap<u64, Waiting>,
    leader: Queue,
    lease: Queue,
    quorum: Queue,
    /// Answered by their way: served once all slots below are applied. One that was served meanwhile
    /// may still be listed.
    answered: BTreeMap<Slot, Vec<u64>>,
    /// The same, by a quorum: as long as no newer configuration shows.
    answered_by_quorum: BTreeMap<Slot, Vec<u64>>,
    /// Id of the last request to the leader. It begins at random: an answer
    /// that is still on its way, over a relay, to an earlier life of this process must not fit.
    leader_request: u64,
}

#[derive(Clone, Debug, Hash)]
struct Waiting {
    arrived_us: u64,
    /// Whether it asks the leader, or will with the next request.
    asks_leader: bool,
}

/// Tokens of the reads that go one way.
#[derive(Clone, Debug, Default, Hash)]
struct Queue {
    /// No request covers these yet.
    new: Vec<u64>,
    /// Covered by the request in flight.
    asked: Vec<u64>,
    asked_us: u64,
    /// Id of that request, if it goes to the leader.
    request: u64,
}

impl Queue {
    /// Whether a request is to be sent now: reads wait and none is in flight.
    fn ask(&mut self, now_us: u64) -> bool {
        if self.new.is_empty() || !self.asked.is_empty() {
            return false;
        }
        self.asked = std::mem::take(&mut self.new);
        self.asked_us = now_us;
        true
    }

    /// The request in flight may be lost: another will cover its reads.
    fn ask_again(&mut self) {
        self.new.append(&mut self.asked);
    }
}

impl Reads {
    /// `first_request`: any number that no other life of this process begins at.
    pub fn new(first_request: u64) -> Reads {
        Reads {
            waiting: BTreeMap::new(),
            leader: Queue::default(),
            lease: Queue::default(),
            quorum: Queue::default(),
            answered: BTreeMap::new(),
            answered_by_quorum: BTreeMap::new(),
            leader_request: first_request,
        }
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn on_read(&mut self, read: u64, way: ReadWay, now_us: u64) {
        let asks_leader = way != ReadWay::Quorum;
        self.waiting.insert(read, Waiting { arrived_us: now_us, asks_leader });
        match way {
            ReadWay::Leader => self.leader.new.push(read),
            ReadWay::Lease => self.lease.new.push(read),
            ReadWay::Quorum => self.quorum.new.push(read),
        }
    }

    /// The leader changed, or a connection to it is new.
    pub fn ask_leader_again(&mut self) {
        self.leader.ask_again();
        self.lease.ask_again();
    }

    /// The id of a request to send to the leader now, if reads wait for it and none is in flight; and whether
    /// a lease may answer it.
    pub fn leader_request(&mut self, now_us: u64) -> Option<(u64, bool)> {
        for (queue, lease) in [(&mut self.leader, false), (&mut self.lease, true)] {
            if queue.ask(now_us) {
                self.leader_request = self.leader_request.wrapping_add(1);
                queue.request = self.leader_request;
                return Some((queue.request, lease));
            }
        }
        None
    }

    /// Whether `leader_request` has one to send.
    pub fn ask_leader(&self) -> bool {
        let waits = |queue: &Queue| !queue.new.is_empty() && queue.asked.is_empty();
        waits(&self.leader) || waits(&self.lease)
    }

    /// The leader answered request `id`.
    pub fn on_leader_answer(&mut self, id: u64, read_slot: Slot) {
        for queue in [&mut self.leader, &mut self.lease] {
            if id == queue.request {
                self.answered.entry(read_slot).or_default().append(&mut queue.asked);
            }
        }
    }

    /// Whether to begin a round for quorum reads now.
    pub fn quorum_request(&mut self, now_us: u64) -> bool {
        self.quorum.ask(now_us)
    }

    /// A phase-1 quorum answered the round in flight.
    pub fn on_quorum_answer(&mut self, read_slot: Slot) {
        let waits = !mutants::is_on(Mutant::QuorumReadDoesNotWait);
        let read_slot = if waits { read_slot } else { Slot::FIRST };
        let answered = self.answered_by_quorum.entry(read_slot).or_default();
        answered.append(&mut self.quorum.asked);
    }

    /// There is a newer configuration than those whose acceptors were asked: they may not have known what
    /// its acceptors chose. Only a read that has already been served need not be asked for again.
    pub fn on_configurations(&mut self) {
        self.quorum.ask_again();
        for (_, mut reads) in std::mem::take(&mut self.answered_by_quorum) {
            self.quorum.new.append(&mut reads);
        }
    }

    /// Hands out the reads that may be served once all slots below `first_unchosen` are applied.
    pub fn serve(&mut self, first_unchosen: Slot, fx: &mut Effects) {
        if self.waiting.is_empty() {
            return;
        }
        for answered in [&mut self.answered, &mut self.answered_by_quorum] {
            while let Some(entry) = answered.first_entry() {
                if first_unchosen < *entry.key() {
                    break;
                }
                for read in entry.remove() {
                    if self.waiting.remove(&read).is_some() {
                        fx.reads_ready.push(read);
                    }
                }
            }
        }
    }

    /// Now and then: tells which waited for `limit_us`, asks again what may have been lost
    /// (`retry_us`), and asks the leader for quorum reads that were not served in `patience_us`.
    pub fn on_tick(
        &mut self,
        now_us: u64,
        limit_us: u64,
        retry_us: u64,
        patience_us: u64,
        fx: &mut Effects,
    ) {
        let old = |at_us: u64, limit_us: u64| limit_us <= now_us.saturating_sub(at_us);
        for queue in [&mut self.leader, &mut self.lease] {
            if old(queue.asked_us, retry_us) {
                queue.ask_again();
            }
        }
        if old(self.quorum.asked_us, patience_us) {
            self.quorum.ask_again();
        }
        self.waiting.retain(|&read, waiting| {
            if old(waiting.arrived_us, limit_us) {
                fx.expired.push(Expired::Read { read });
                return false;
            }
            if !waiting.asks_leader && old(waiting.arrived_us, patience_us) {
                waiting.asks_leader = true;
                self.leader.new.push(read);
            }
            true
        });
        // Those served or expired meanwhile need no answer.
        let waiting = &self.waiting;
        for queue in [&mut self.leader, &mut self.lease, &mut self.quorum] {
            queue.new.retain(|read| waiting.contains_key(read));
            queue.asked.retain(|read| waiting.contains_key(read));
        }
        for answered in [&mut self.answered, &mut self.answered_by_quorum] {
            answered.retain(|_, reads| {
                reads.retain(|read| waiting.contains_key(read));
                !reads.is_empty()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::NodeId;
    use super::*;

    fn fx() -> Effects {
        Effects::new(NodeId(1))
    }

    fn served(reads: &mut Reads, first_unchosen: u64) -> Vec<u64> {
        let mut fx = fx();
        reads.serve(Slot(first_unchosen), &mut fx);
        fx.reads_ready
    }

    /// Reads wait for the leader's answer to their own request and until its slot is applied here.
    #[test]
    fn reads_wait_for_their_slot() {
        let mut reads = Reads::new(0);
        reads.on_read(1, ReadWay::Leader, 0);
        let first = reads.leader_request(0).unwrap().0;
        reads.on_read(2, ReadWay::Leader, 0);
        assert_eq!(reads.leader_request(0), None);
        reads.on_leader_answer(first + 1, Slot(1));
        reads.on_leader_answer(first, Slot(5));
        assert!(served(&mut reads, 4).is_empty());
        assert_eq!(served(&mut reads, 5), [1]);
        assert!(reads.leader_request(0).is_some());
    }

    /// An answer to a request of before a restart, delayed at a relay, must not serve a read of now:
    /// writes were acknowledged in between.
    #[test]
    fn an_answer_to_an_earlier_life_serves_nothing() {
        let mut reads = Reads::new(77);
        reads.on_read(1, ReadWay::Leader, 0);
        let earlier = reads.leader_request(0).unwrap().0;
        let mut reads = Reads::new(123_456);
        reads.on_read(2, ReadWay::Leader, 0);
        reads.leader_request(0).unwrap();
        reads.on_leader_answer(earlier, Slot(1));
        assert!(served(&mut reads, 1).is_empty());
    }

    /// What a minority accepted in a dead leader's ballot may never be chosen. A quorum read that waits
    /// for it asks the leader, and is served once, by the answer that comes true first.
    #[test]
    fn a_quorum_read_that_waits_asks_the_leader() {
        let mut reads = Reads::new(0);
        reads.on_read(1, ReadWay::Quorum, 0);
        assert!(reads.quorum_request(0));
        reads.on_quorum_answer(Slot(9));
        assert!(served(&mut reads, 8).is_empty());
        reads.on_tick(49, 1000, 250, 50, &mut fx());
        assert_eq!(reads.leader_request(49), None);
        reads.on_tick(50, 1000, 250, 50, &mut fx());
        let id = reads.leader_request(50).unwrap().0;
        reads.on_leader_answer(id, Slot(8));
        assert_eq!(served(&mut reads, 8), [1]);
        assert!(served(&mut reads, 9).is_empty());
        assert_eq!(reads.len(), 0);
    }

    /// A quorum answered, and the slot that it named holds a configuration which replaces them all: what
    /// the new ones chose since, the old ones never heard of.
    #[test]
    fn a_newer_configuration_is_asked_too() {
        let mut reads = Reads::new(0);
        reads.on_read(1, ReadWay::Quorum, 0);
        assert!(reads.quorum_request(0));
        reads.on_quorum_answer(Slot(9));
        reads.on_configurations();
        assert!(served(&mut reads, 9).is_empty());
        assert!(reads.quorum_request(0));
        reads.on_quorum_answer(Slot(12));
        assert!(served(&mut reads, 11).is_empty());
        assert_eq!(served(&mut reads, 12), [1]);
    }

    /// A round that gets no answers is repeated, and in the end the client is told.
    #[test]
    fn a_round_without_answers_is_repeated() {
        let mut reads = Reads::new(0);
        reads.on_read(1, ReadWay::Quorum, 0);
        assert!(reads.quorum_request(0));
        assert!(!reads.quorum_request(0));
        reads.on_tick(50, 1000, 250, 50, &mut fx());
        assert!(reads.quorum_request(50));
        let mut fx = fx();
        reads.on_tick(1000, 1000, 250, 50, &mut fx);
        assert_eq!(fx.expired, [Expired::Read { read: 1 }]);
        assert_eq!(reads.len(), 0);
        assert!(!reads.quorum_request(1000));
        reads.on_quorum_answer(Slot(1));
        assert!(served(&mut reads, 9).is_empty());
    }
}
