//! Quorum reads: linearizable reads at any replica, without the leader (Charapko, Ailijiang and
//! Demirbas, *Linearizable Quorum Reads in Paxos*, HotStorage 2019).
//!
//! A read must reflect every write acknowledged before it began. Each of those was durably accepted
//! by a phase-2 quorum, which every phase-1 quorum meets. So the replica asks the acceptors how far
//! they may have accepted anything: of a phase-1 quorum, the one that accepted most bounds all slots
//! that the read must see. It waits until these are chosen and applied here.
//!
//! The same answers mostly tell that they are. If a phase-2 quorum holds all slots below one in the
//! same ballot, those are chosen, whether or not their leader lives to say so: the replica counts
//! the votes itself, as a commander does. (The paper asks again, until the slot is chosen.)
//!
//! One round serves all reads that wait when it begins; reads that come later wait for the next.

use std::collections::BTreeMap;

use crate::mutants::{self, Mutant};

use super::ids::{Ballot, NodeId, Slot};
use super::message::Extent;
use super::quorum::Membership;

#[derive(Clone, Debug, Hash)]
pub struct QuorumReads {
    /// Number of the round in flight, or of the last one. It begins at random: an answer to an
    /// earlier life of this process must not fit.
    round: u64,
    answers: BTreeMap<NodeId, Extent>,
    /// Whether a phase-1 quorum answered the last round.
    complete: bool,
}

/// What one answer told.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct QuorumReadOutcome {
    /// The round is complete: its reads may be answered once all slots below are applied.
    pub read_slot: Option<Slot>,
    /// All slots below are chosen, and those that this ballot proposed hold what it proposed.
    pub chosen: Option<(Ballot, Slot)>,
}

impl QuorumReads {
    /// `first_round`: any number that no other life of this process begins at.
    pub fn new(first_round: u64) -> QuorumReads {
        QuorumReads { round: first_round, answers: BTreeMap::new(), complete: true }
    }

    /// Begins a round and returns its number. What comes for the one before counts no more.
    pub fn begin(&mut self) -> u64 {
        self.round = self.round.wrapping_add(1);
        self.answers.clear();
        self.complete = false;
        self.round
    }

    /// The number of the round in flight, to ask an acceptor again over a new connection.
    pub fn in_flight(&self) -> Option<u64> {
        (!self.complete).then_some(self.round)
    }

    /// An acceptor answered. Answers beyond the quorum still count as votes.
    pub fn on_reply(
        &mut self,
        from: NodeId,
        round: u64,
        extent: Extent,
        membership: &Membership,
    ) -> QuorumReadOutcome {
        let is_acceptor = membership.roles(from).is_some_and(|roles| roles.acceptor);
        if round != self.round || !is_acceptor {
            return QuorumReadOutcome::default();
        }
        self.answers.insert(from, extent);
        let mut outcome = QuorumReadOutcome { read_slot: None, chosen: self.chosen(membership) };
        if !self.complete && quorum(membership) <= self.answers.len() {
            self.complete = true;
            outcome.read_slot = self.answers.values().map(|extent| extent.end).max();
        }
        outcome
    }

    /// The slots below which a phase-2 quorum holds all in one ballot, the highest that it can be.
    fn chosen(&self, membership: &Membership) -> Option<(Ballot, Slot)> {
        let ballot = self.answers.values().map(|extent| extent.ballot).max()?;
        let same = self.answers.values().filter(|extent| extent.ballot == ballot);
        let mut ends: Vec<Slot> = same.map(|extent| extent.accepted_end).collect();
        ends.sort_unstable_by(|a, b| b.cmp(a));
        ends.get(membership.phase2() - 1).map(|end| (ballot, *end))
    }
}

/// Acceptors that must have told how far they accepted.
fn quorum(membership: &Membership) -> usize {
    if mutants::is_on(Mutant::QuorumReadFromMinority) { 1 } else { membership.phase1() }
}

#[cfg(test)]
mod tests {
    use super::super::quorum::{Member, Roles};
    use super::*;

    fn membership(n: u16, phase2: Option<usize>) -> Membership {
        let members = (1..=n).map(|id| Member { node: NodeId(id), roles: Roles::ALL }).collect();
        Membership::new(members, None, phase2).unwrap()
    }

    fn extent(end: u64, round: u64, accepted_end: u64) -> Extent {
        let ballot = Ballot { round, node: NodeId(1) };
        Extent { end: Slot(end), ballot, accepted_end: Slot(accepted_end) }
    }

    fn told(
        reads: &mut QuorumReads,
        membership: &Membership,
        from: u16,
        extent: Extent,
    ) -> (Option<u64>, Option<(u64, u64)>) {
        let outcome = reads.on_reply(NodeId(from), reads.round, extent, membership);
        let chosen = outcome.chosen.map(|(ballot, end)| (ballot.round, end.0));
        (outcome.read_slot.map(|slot| slot.0), chosen)
    }

    /// The read sees as far as any of a phase-1 quorum accepted. What not all of a phase-2 quorum
    /// hold is not taken for chosen.
    #[test]
    fn the_furthest_of_a_quorum_bounds_the_read() {
        let (m, mut reads) = (membership(3, None), QuorumReads::new(7));
        assert_eq!(reads.begin(), 8);
        assert_eq!(told(&mut reads, &m, 1, extent(9, 1, 9)), (None, None));
        assert_eq!(told(&mut reads, &m, 1, extent(9, 1, 9)), (None, None));
        assert_eq!(told(&mut reads, &m, 3, extent(5, 1, 5)), (Some(9), Some((1, 5))));
        // The third shows that the others' slots are chosen as well; the reads are served once.
        assert_eq!(reads.in_flight(), None);
        assert_eq!(told(&mut reads, &m, 2, extent(9, 1, 8)), (None, Some((1, 8))));
    }

    /// Votes in different ballots choose nothing together.
    #[test]
    fn votes_of_one_ballot_count_together() {
        let (m, mut reads) = (membership(5, None), QuorumReads::new(0));
        reads.begin();
        for (from, round) in [(1, 1), (2, 1), (3, 2)] {
            assert_eq!(told(&mut reads, &m, from, extent(4, round, 4)).1, None);
        }
        told(&mut reads, &m, 4, extent(4, 2, 3));
        assert_eq!(told(&mut reads, &m, 5, extent(4, 2, 4)).1, Some((2, 3)));
    }

    /// With flexible quorums the read needs a phase-1 quorum: one that chose alone may be the only
    /// one that knows.
    #[test]
    fn a_phase_1_quorum_is_asked() {
        let (m, mut reads) = (membership(3, Some(1)), QuorumReads::new(0));
        reads.begin();
        assert_eq!(told(&mut reads, &m, 1, extent(1, 0, 1)).0, None);
        assert_eq!(told(&mut reads, &m, 2, extent(1, 0, 1)).0, None);
        assert_eq!(told(&mut reads, &m, 3, extent(6, 2, 6)), (Some(6), Some((2, 6))));
    }

    /// An answer to an earlier round may be older than a write acknowledged since.
    #[test]
    fn an_answer_to_an_earlier_round_counts_for_nothing() {
        let (m, mut reads) = (membership(3, None), QuorumReads::new(0));
        let first = reads.begin();
        reads.begin();
        for from in 1..=3 {
            let outcome = reads.on_reply(NodeId(from), first, extent(1, 1, 1), &m);
            assert_eq!(outcome, QuorumReadOutcome::default());
        }
    }
}
