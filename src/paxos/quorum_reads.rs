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
//! While the configuration changes, a phase-1 quorum of each that governs or will govern is needed, as far
//! as the replica knows them. It may lag: (1) it knows that {1, 2, 3} governs and asks 1 and 2; (2) these
//! left long ago, and what {4, 5, 6} chose since they never heard of. But then a phase-2 quorum of the
//! first three chose the configuration that replaced them, so that the read must see that slot; when it
//! does, the replica knows of the others, and asks again (`Reads::on_configurations`).
//!
//! One round serves all reads that wait when it begins; reads that come later wait for the next.

use std::collections::BTreeMap;

use crate::mutants::{self, Mutant};

use super::configuration::Configuration;
use super::configurations::Configurations;
use super::ids::{Ballot, NodeId, Slot};
use super::message::Extent;

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
        configurations: &Configurations,
    ) -> QuorumReadOutcome {
        if round != self.round || !configurations.is_acceptor(from) {
            return QuorumReadOutcome::default();
        }
        self.answers.insert(from, extent);
        let mut outcome =
            QuorumReadOutcome { read_slot: None, chosen: self.chosen(configurations) };
        let first_unchosen = configurations.first_unchosen();
        let mut governing = configurations.governing_from(first_unchosen);
        if !self.complete && governing.all(|(_, _, configuration)| self.is_quorum(configuration)) {
            self.complete = true;
            outcome.read_slot = self.answers.values().map(|extent| extent.end).max();
        }
        outcome
    }

    /// Whether acceptors enough of the configuration have told how far they accepted.
    fn is_quorum(&self, configuration: &Configuration) -> bool {
        let membership = configuration.membership();
        let answered = membership.acceptors().filter(|node| self.answers.contains_key(node));
        let from_minority = mutants::is_on(Mutant::QuorumReadFromMinority);
        (if from_minority { 1 } else { membership.phase1() }) <= answered.count()
    }

    /// The slots below which a phase-2 quorum holds all in one ballot, the highest that it can be; votes
    /// are counted by what governs each slot, and where that is not known not at all.
    fn chosen(&self, configurations: &Configurations) -> Option<(Ballot, Slot)> {
        let ballot = self.answers.values().map(|extent| extent.ballot).max()?;
        let mut chosen_end = None;
        for (_, end, configuration) in
            configurations.governing_from(configurations.first_unchosen())
        {
            let membership = configuration.membership();
            let answers = membership.acceptors().filter_map(|node| self.answers.get(&node));
            let same = answers.filter(|extent| extent.ballot == ballot);
            let mut ends: Vec<Slot> = same.map(|extent| extent.accepted_end).collect();
            ends.sort_unstable_by(|a, b| b.cmp(a));
            let Some(&held_end) = ends.get(membership.phase2() - 1) else { break };
            let end = end.min(configurations.known_end());
            chosen_end = Some((ballot, held_end.min(end)));
            if held_end < end {
                break;
            }
        }
        chosen_end
    }
}

#[cfg(test)]
mod tests {
    use super::super::configurations::fixtures::{self, configurations};
    use super::*;

    fn membership(n: u16, phase2: Option<usize>) -> Configurations {
        configurations(n, phase2, 64)
    }

    fn extent(end: u64, round: u64, accepted_end: u64) -> Extent {
        let ballot = Ballot { round, node: NodeId(1) };
        Extent { end: Slot(end), ballot, accepted_end: Slot(accepted_end) }
    }

    fn told(
        reads: &mut QuorumReads,
        membership: &Configurations,
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

    /// Nodes 4 and 5 come to 1, 2 and 3: a quorum of the three does not do, and their votes choose nothing
    /// where the five govern; nor do any votes where it is not known who governs.
    #[test]
    fn quorums_of_all_that_govern_are_asked() {
        let mut m = configurations(3, None, 4);
        m.on_chosen(Slot(1), fixtures::configuration(2, 5, None));
        let mut reads = QuorumReads::new(0);
        reads.begin();
        assert_eq!(told(&mut reads, &m, 1, extent(9, 1, 9)), (None, None));
        assert_eq!(told(&mut reads, &m, 2, extent(9, 1, 9)), (None, Some((1, 5))));
        assert_eq!(told(&mut reads, &m, 5, extent(9, 1, 9)), (Some(9), Some((1, 6))));
    }
}
