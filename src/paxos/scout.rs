//! The scout: phase 1 for the whole log suffix (PMMC, section 2.3 and figure 6).
//!
//! Departures from PMMC: one scout covers every slot from its first one up (as Ongaro's "no more
//! accepted"); acceptors answer in parts, each of which the scout asks for; and each acceptor says
//! below which slot it knows all to be chosen, so that a leader need not be up to date.
//!
//! The scout only counts. It does not send, and it does not decide what to do with what it learned.

use std::collections::BTreeMap;

use crate::mutants::{self, Mutant};

use super::ids::{Ballot, NodeId, Slot, Value};
use super::message::P1b;

#[derive(Clone, Debug, Hash)]
pub struct Scout {
    ballot: Ballot,
    first_slot: Slot,
    /// Acceptors that must have answered in full.
    quorum: usize,
    answers: BTreeMap<NodeId, Answer>,
    /// The pvalue of the highest ballot of each slot, over all answers so far.
    highest: BTreeMap<Slot, (Ballot, Value)>,
    /// The highest `first_unchosen` told: all slots below are chosen.
    first_unchosen: Slot,
}

#[derive(Clone, Debug, Hash)]
struct Answer {
    /// The acceptor has told all that it accepted below this slot.
    covered: Slot,
    complete: bool,
}

/// What one P1b told the scout. The leader acts on it.
#[derive(Debug, PartialEq, Eq)]
pub enum ScoutOutcome {
    Waiting,
    /// The acceptor has more to tell, from this slot on.
    AskMore(Slot),
    /// A quorum promised. Propose `values` for the slots from `first_slot` up; below it all is chosen.
    Adopted {
        first_slot: Slot,
        values: Vec<Value>,
    },
    /// Somebody has a higher ballot.
    Preempted(Ballot),
}

impl Scout {
    /// `first_slot`: the first slot that its leader does not know to be chosen.
    pub fn new(ballot: Ballot, first_slot: Slot, quorum: usize) -> Scout {
        Scout {
            ballot,
            first_slot,
            quorum,
            answers: BTreeMap::new(),
            highest: BTreeMap::new(),
            first_unchosen: first_slot,
        }
    }

    /// From which slot on an acceptor is to be asked: a new connection goes on where the last ended.
    pub fn ask_from(&self, acceptor: NodeId) -> Slot {
        self.answers.get(&acceptor).map_or(self.first_slot, |answer| answer.covered)
    }

    pub fn has_answered(&self, acceptor: NodeId) -> bool {
        self.answers.get(&acceptor).is_some_and(|answer| answer.complete)
    }

    pub fn on_p1b(&mut self, from: NodeId, p1b: P1b) -> ScoutOutcome {
        if self.ballot < p1b.promised {
            return ScoutOutcome::Preempted(p1b.promised);
        }
        if p1b.ballot != self.ballot || p1b.promised != self.ballot {
            return ScoutOutcome::Waiting;
        }
        let first_slot = self.first_slot;
        let answer =
            self.answers.entry(from).or_insert(Answer { covered: first_slot, complete: false });
        // A part counts only behind those before it: a gap could hide what was accepted.
        if answer.complete || answer.covered < p1b.first_slot || p1b.end < answer.covered {
            return ScoutOutcome::Waiting;
        }
        // A part that we have: asking on behind each copy of it would double all that follows.
        if p1b.end == answer.covered && !p1b.no_more_accepted {
            return ScoutOutcome::Waiting;
        }
        answer.covered = p1b.end;
        answer.complete = p1b.no_more_accepted || mutants::is_on(Mutant::TakePartForWhole);
        let complete = answer.complete;
        self.first_unchosen = self.first_unchosen.max(p1b.first_unchosen);
        for pvalue in p1b.accepted {
            // PMMC's pmax: of each slot, the value of the highest ballot.
            let highest = self.highest.entry(pvalue.slot).or_insert((Ballot::NONE, Value::noop()));
            let better = if mutants::is_on(Mutant::AdoptLowerBallot) {
                highest.0.is_none() || pvalue.ballot < highest.0
            } else {
                highest.0 < pvalue.ballot
            };
            if better {
                *highest = (pvalue.ballot, pvalue.value);
            }
        }
        if !complete {
            return ScoutOutcome::AskMore(p1b.end);
        }
        if self.answers.values().filter(|answer| answer.complete).count() < self.quorum {
            return ScoutOutcome::Waiting;
        }
        self.adopted()
    }

    fn adopted(&mut self) -> ScoutOutcome {
        let first_slot = self.first_unchosen;
        let mut values: Vec<Value> = Vec::new();
        for (slot, (_, value)) in std::mem::take(&mut self.highest).split_off(&first_slot) {
            // A slot in which no acceptor of a quorum accepted anything gets a no-op.
            values.resize(slot.since(first_slot), Value::noop());
            values.push(value);
        }
        ScoutOutcome::Adopted { first_slot, values }
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::PValue;
    use super::*;
    use std::sync::Arc;

    const MINE: Ballot = Ballot { round: 5, node: NodeId(1) };

    fn pvalue(round: u64, slot: u64, byte: u8) -> PValue {
        let ballot = Ballot { round, node: NodeId(2) };
        PValue { ballot, slot: Slot(slot), value: Value(Arc::from([byte])) }
    }

    fn whole(first_unchosen: u64, accepted: Vec<PValue>) -> P1b {
        let end = accepted.last().map_or(Slot(1), |p| p.slot.next());
        P1b {
            ballot: MINE,
            promised: MINE,
            first_slot: Slot(1),
            end,
            no_more_accepted: true,
            first_unchosen: Slot(first_unchosen),
            accepted,
        }
    }

    fn adopted(outcome: ScoutOutcome) -> (u64, Vec<Vec<u8>>) {
        match outcome {
            ScoutOutcome::Adopted { first_slot, values } => {
                (first_slot.0, values.iter().map(|v| v.0.to_vec()).collect())
            }
            other => panic!("expected adoption, got {other:?}"),
        }
    }

    /// Of each slot the value of the highest ballot; a no-op where there is none.
    #[test]
    fn adopts_the_highest_ballot_and_fills_gaps() {
        let mut scout = Scout::new(MINE, Slot(1), 2);
        let first = whole(1, vec![pvalue(1, 1, 10), pvalue(3, 2, 20)]);
        assert_eq!(scout.on_p1b(NodeId(1), first), ScoutOutcome::Waiting);
        let second = whole(1, vec![pvalue(2, 1, 11), pvalue(1, 2, 21), pvalue(1, 4, 40)]);
        let outcome = scout.on_p1b(NodeId(2), second);
        assert_eq!(adopted(outcome), (1, vec![vec![11], vec![20], vec![], vec![40]]));
    }

    /// One acceptor's answer counts once, however often it comes.
    #[test]
    fn counts_each_acceptor_once() {
        let mut scout = Scout::new(MINE, Slot(1), 2);
        for _ in 0..3 {
            assert_eq!(scout.on_p1b(NodeId(1), whole(1, vec![])), ScoutOutcome::Waiting);
        }
        assert_eq!(adopted(scout.on_p1b(NodeId(2), whole(1, vec![]))), (1, vec![]));
    }

    /// What an acceptor knows to be chosen is not proposed again.
    #[test]
    fn begins_above_what_is_known_to_be_chosen() {
        let mut scout = Scout::new(MINE, Slot(1), 2);
        scout.on_p1b(NodeId(1), whole(1, vec![pvalue(1, 2, 2), pvalue(1, 7, 7)]));
        let outcome = scout.on_p1b(NodeId(2), whole(6, vec![]));
        assert_eq!(adopted(outcome), (6, vec![vec![], vec![7]]));
    }

    /// An answer in parts counts when its last part is there; a part out of turn is not taken.
    #[test]
    fn parts_are_joined_without_gaps() {
        let mut scout = Scout::new(MINE, Slot(1), 1);
        let part = |first: u64, end: u64, more: bool, accepted| P1b {
            ballot: MINE,
            promised: MINE,
            first_slot: Slot(first),
            end: Slot(end),
            no_more_accepted: !more,
            first_unchosen: Slot(1),
            accepted,
        };
        let late = part(3, 4, false, vec![pvalue(1, 3, 3)]);
        assert_eq!(scout.on_p1b(NodeId(1), late.clone()), ScoutOutcome::Waiting);
        let first = part(1, 3, true, vec![pvalue(1, 1, 1), pvalue(1, 2, 2)]);
        assert_eq!(scout.on_p1b(NodeId(1), first), ScoutOutcome::AskMore(Slot(3)));
        assert_eq!(scout.ask_from(NodeId(1)), Slot(3));
        assert_eq!(adopted(scout.on_p1b(NodeId(1), late)), (1, vec![vec![1], vec![2], vec![3]]));
    }

    /// A tick asks again for what is on its way: the second copy of a part must not be answered by a
    /// second question, or each tick of a long phase 1 would add another stream of parts.
    #[test]
    fn a_repeated_part_asks_for_nothing() {
        let mut scout = Scout::new(MINE, Slot(1), 1);
        let mut part = whole(1, vec![pvalue(1, 1, 1), pvalue(1, 2, 2)]);
        part.no_more_accepted = false;
        assert_eq!(scout.on_p1b(NodeId(1), part.clone()), ScoutOutcome::AskMore(Slot(3)));
        assert_eq!(scout.on_p1b(NodeId(1), part), ScoutOutcome::Waiting);
    }

    /// A refusal names the ballot to beat; an answer to another ballot of ours counts for nothing.
    #[test]
    fn preempted_by_a_higher_promise() {
        let mut scout = Scout::new(MINE, Slot(1), 1);
        let mut refusal = whole(1, vec![]);
        refusal.promised = Ballot { round: 6, node: NodeId(3) };
        let outcome = scout.on_p1b(NodeId(2), refusal.clone());
        assert_eq!(outcome, ScoutOutcome::Preempted(refusal.promised));
        let mut old = whole(1, vec![]);
        old.ballot.round = 4;
        old.promised.round = 4;
        assert_eq!(scout.on_p1b(NodeId(2), old), ScoutOutcome::Waiting);
    }
}
