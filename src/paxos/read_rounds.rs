//! Read-index rounds at the leader: linearizable reads without a log write (Ongaro's thesis, 6.4).
//!
//! A read must reflect every write acknowledged before it began. If it still leads, all of those lie
//! below the leader's `first_unchosen`, but for those that others found to be chosen before it did, by
//! counting votes that they were told (`quorum_reads`). So the leader notes that slot, and then asks
//! the acceptors whether they promised a higher ballot, and for which slots they told their votes. Those
//! that it asks meet each phase-1 quorum: no other leader had chosen anything when they answered; and
//! each phase-2 quorum: no other votes were told. With a lease that is known without asking (`lease`).
//!
//! Asked are the acceptors of all configurations that govern that slot or later ones: in the first slots
//! that another leader could have chosen behind this one's back, or that votes could have shown.
//!
//! One round serves all reads that wait when it begins; reads that come later wait for the next.

use std::collections::BTreeSet;

use super::ids::{NodeId, Slot};

/// A replica's request for all its waiting reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReadRequest {
    pub node: NodeId,
    /// The replica's own.
    pub id: u64,
    /// The nodes over which the answer goes, in order; `node` is the last.
    pub route: Vec<NodeId>,
    /// Whether it may be answered under a lease, without a round.
    pub lease: bool,
}

#[derive(Clone, Debug, Default, Hash)]
pub struct ReadRounds {
    waiting: Vec<ReadRequest>,
    /// Number of the round in flight, or of the last one.
    round: u64,
    in_flight: Option<Round>,
    /// Others than the leader may know slots below to be chosen. No read is answered until it knows too:
    /// before that, not even which acceptors to ask.
    told_end: Slot,
}

#[derive(Clone, Debug, Hash)]
struct Round {
    requests: Vec<ReadRequest>,
    read_slot: Slot,
    confirmed: BTreeSet<NodeId>,
}

impl ReadRounds {
    pub fn add(&mut self, request: ReadRequest) {
        // A replica asks again, under a new id, only when it gave up the old one.
        let same = |it: &ReadRequest| (it.node, it.lease) == (request.node, request.lease);
        self.waiting.retain(|waiting| !same(waiting));
        self.waiting.push(request);
    }

    /// Whether a request waits for a round, or for a lease.
    pub fn any_waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Begins a round for all that wait, unless one is in flight. Returns its number.
    pub fn begin(&mut self, read_slot: Slot) -> Option<u64> {
        if self.in_flight.is_some() || self.waiting.is_empty() || read_slot < self.told_end {
            return None;
        }
        self.round += 1;
        let requests = std::mem::take(&mut self.waiting);
        self.in_flight = Some(Round { requests, read_slot, confirmed: BTreeSet::new() });
        Some(self.round)
    }

    /// Votes for slots below `told_end` were told to others.
    pub fn on_told(&mut self, told_end: Slot) {
        self.told_end = self.told_end.max(told_end);
    }

    /// The leader holds a lease, and knows all slots below `read_slot` to be chosen: the requests that may
    /// be answered with that.
    pub fn under_lease(&mut self, read_slot: Slot) -> Vec<ReadRequest> {
        if read_slot < self.told_end {
            return Vec::new();
        }
        let waiting = std::mem::take(&mut self.waiting);
        let (served, left) = waiting.into_iter().partition(|waiting| waiting.lease);
        self.waiting = left;
        served
    }

    /// The round in flight and its slot, to ask acceptors again.
    pub fn in_flight(&self) -> Option<(u64, Slot)> {
        self.in_flight.as_ref().map(|round| (self.round, round.read_slot))
    }

    /// The round in flight waits for acceptors that may have left: what it was to serve waits for the next.
    pub fn give_up(&mut self) {
        if let Some(round) = self.in_flight.take() {
            self.waiting.splice(0..0, round.requests);
        }
    }

    /// An acceptor confirmed, and told its votes for slots below `told_end`. When a quorum did (`is_quorum`,
    /// of what governs the slots from the round's on): the requests served and their slot.
    pub fn on_confirmed(
        &mut self,
        from: NodeId,
        round: u64,
        told_end: Slot,
        is_quorum: impl Fn(Slot, &BTreeSet<NodeId>) -> bool,
    ) -> Option<(Vec<ReadRequest>, Slot)> {
        if round != self.round {
            return None;
        }
        let in_flight = self.in_flight.as_mut()?;
        in_flight.confirmed.insert(from);
        self.told_end = self.told_end.max(told_end);
        if !is_quorum(in_flight.read_slot, &in_flight.confirmed) {
            return None;
        }
        let round = self.in_flight.take().expect("just seen");
        if round.read_slot < self.told_end {
            self.waiting.splice(0..0, round.requests);
            return None;
        }
        Some((round.requests, round.read_slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A read that comes while a round is in flight must not be served by it: the round's answers
    /// may be older than a write that was acknowledged before this read began.
    #[test]
    fn late_reads_wait_for_the_next_round() {
        let mut rounds = ReadRounds::default();
        let request = |node, id| ReadRequest {
            node: NodeId(node),
            id,
            route: vec![NodeId(node)],
            lease: false,
        };
        rounds.add(request(1, 7));
        assert_eq!(rounds.begin(Slot(5)), Some(1));
        rounds.add(request(2, 8));
        assert_eq!(rounds.begin(Slot(6)), None);
        let two = |_, confirmed: &BTreeSet<NodeId>| 2 <= confirmed.len();
        assert_eq!(rounds.on_confirmed(NodeId(1), 1, Slot(0), two), None);
        assert_eq!(rounds.on_confirmed(NodeId(1), 1, Slot(0), two), None);
        let served = rounds.on_confirmed(NodeId(3), 1, Slot(4), two);
        assert_eq!(served, Some((vec![request(1, 7)], Slot(5))));
        // An answer to the old round does not count for the new one.
        assert_eq!(rounds.begin(Slot(6)), Some(2));
        assert_eq!(rounds.on_confirmed(NodeId(2), 1, Slot(0), |_, _| true), None);
        // Others may know of more to be chosen than the leader knew: it waits until it knows.
        assert_eq!(rounds.on_confirmed(NodeId(2), 2, Slot(8), |_, _| true), None);
        assert_eq!(rounds.begin(Slot(7)), None);
        assert_eq!(rounds.begin(Slot(8)), Some(3));
        let served = rounds.on_confirmed(NodeId(2), 3, Slot(8), |_, _| true);
        assert_eq!(served, Some((vec![request(2, 8)], Slot(8))));
    }

    /// Acceptors that left the cluster answer no more: their round is given up, late answers to it count for
    /// nothing, and the next serves its requests too, in their order.
    #[test]
    fn a_round_given_up_is_served_by_the_next() {
        let mut rounds = ReadRounds::default();
        let request =
            |id| ReadRequest { node: NodeId(id as u16), id, route: vec![NodeId(1)], lease: false };
        rounds.add(request(1));
        assert_eq!(rounds.begin(Slot(5)), Some(1));
        rounds.add(request(2));
        rounds.give_up();
        assert_eq!(rounds.on_confirmed(NodeId(1), 1, Slot(0), |_, _| true), None);
        assert_eq!(rounds.begin(Slot(6)), Some(2));
        assert_eq!(rounds.on_confirmed(NodeId(1), 1, Slot(0), |_, _| true), None);
        let served = rounds.on_confirmed(NodeId(1), 2, Slot(0), |_, _| true);
        assert_eq!(served, Some((vec![request(1), request(2)], Slot(6))));
    }

    /// A lease answers those that asked for it, and only while nobody knows more than the leader.
    #[test]
    fn a_lease_serves_those_that_allow_it() {
        let mut rounds = ReadRounds::default();
        let request =
            |id, lease| ReadRequest { node: NodeId(1), id, route: vec![NodeId(1)], lease };
        rounds.add(request(1, false));
        rounds.add(request(2, true));
        rounds.on_told(Slot(5));
        assert_eq!(rounds.under_lease(Slot(4)), []);
        assert_eq!(rounds.under_lease(Slot(5)), [request(2, true)]);
        assert_eq!(rounds.begin(Slot(5)), Some(1));
        let served = rounds.on_confirmed(NodeId(1), 1, Slot(0), |_, _| true);
        assert_eq!(served, Some((vec![request(1, false)], Slot(5))));
    }
}
