//! The scout: phase 1 for the whole log suffix (PMMC, section 2.3 and figure 6).
//!
//! Departures from PMMC: one scout covers every slot from its first one up (as Ongaro's "no more
//! accepted"); acceptors answer in parts, each of which the scout asks for; and each acceptor says
//! below which slot it knows all to be chosen, so that a leader need not be up to date.
//!
//! With several configurations in play it needs a phase-1 quorum of each that governs a slot from its first
//! one up. An answer counts for all of them: who promised this ballot accepts in none below it any more, in
//! whichever slot. So the scout lives on while its leader leads, and when a new configuration comes, only
//! the acceptors that have not answered yet are asked.
//! An acceptor whose log was damaged answers for all slots but those in which it may have lost what it
//! accepted (protocol-aware recovery, Alagappan et al., FAST 2018). So a quorum is counted slot by slot. To
//! take "nothing that I know of" for "nothing" could bury a chosen value under a no-op.
//!
//! The scout only counts. It does not send, and it does not decide what to do with what it learned.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::mutants::{self, Mutant};

use super::configuration::Configuration;
use super::configurations::Configurations;
use super::ids::{Ballot, NodeId, Slot, Value};
use super::message::P1b;
use super::slots::SlotSet;

#[derive(Clone, Debug, Hash)]
pub struct Scout {
    ballot: Ballot,
    first_slot: Slot,
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
    /// Slots below `covered` for which it could not answer.
    unsure: SlotSet,
}

/// What one P1b told the scout. The leader acts on it.
#[derive(Debug, PartialEq, Eq)]
pub enum ScoutOutcome {
    Waiting,
    /// The acceptor has more to tell, from this slot on.
    AskMore(Slot),
    /// Quorums promised: propose from `first_slot` up, below which all is chosen, what `take` hands out.
    Adopted {
        first_slot: Slot,
    },
    /// Somebody has a higher ballot.
    Preempted(Ballot),
}

impl Scout {
    /// `first_slot`: the first slot that its leader does not know to be chosen.
    pub fn new(ballot: Ballot, first_slot: Slot) -> Scout {
        Scout {
            ballot,
            first_slot,
            answers: BTreeMap::new(),
            highest: BTreeMap::new(),
            first_unchosen: first_slot,
        }
    }

    /// From which slot on an acceptor is to be asked: a new connection goes on where the last ended, and one
    /// that could not answer for all slots is asked for these again.
    ///
    /// While the scout waits, those that have answered are asked again as well: they may have learned by
    /// now what was chosen, so that acceptors of an older configuration need not answer any more. These may
    /// have left for good.
    pub fn ask_from(&self, acceptor: NodeId) -> Slot {
        let Some(answer) = self.answers.get(&acceptor) else { return self.first_slot };
        self.first_unsure(answer).filter(|_| answer.complete).unwrap_or(answer.covered)
    }

    /// Whether nothing is left to be asked.
    pub fn has_answered(&self, acceptor: NodeId) -> bool {
        let answer = self.answers.get(&acceptor);
        answer.is_some_and(|answer| answer.complete && self.first_unsure(answer).is_none())
    }

    fn first_unsure(&self, answer: &Answer) -> Option<Slot> {
        answer.unsure.runs_in(self.first_unchosen..Slot(u64::MAX)).next().map(|run| run.start)
    }

    /// Its leader, who leads by now, knows all slots below to be chosen.
    pub fn on_chosen_below(&mut self, slot: Slot) {
        self.first_unchosen = self.first_unchosen.max(slot);
    }

    /// The acceptors that are asked: all whose promise any of the quorums may need.
    pub fn asks(&self, configurations: &Configurations) -> Vec<NodeId> {
        configurations.acceptors_from(self.first_unchosen).into_iter().collect()
    }

    /// `configurations` must hold what `p1b` says of them, so that they reach as far as it says that slots
    /// are chosen.
    pub fn on_p1b(
        &mut self,
        from: NodeId,
        p1b: P1b,
        configurations: &Configurations,
    ) -> ScoutOutcome {
        if self.ballot < p1b.promised {
            return ScoutOutcome::Preempted(p1b.promised);
        }
        if p1b.ballot != self.ballot || p1b.promised != self.ballot {
            return ScoutOutcome::Waiting;
        }
        let first_slot = self.first_slot;
        let none = Answer { covered: first_slot, complete: false, unsure: SlotSet::default() };
        let answer = self.answers.entry(from).or_insert(none);
        if answer.complete {
            // Asked again: it may know more slots to be chosen by now, and be sure of what it was unsure of.
            let end = if p1b.no_more_accepted { Slot(u64::MAX) } else { p1b.end };
            answer.unsure.remove_in(p1b.first_slot..end);
        } else {
            // A part counts only behind those before it: a gap could hide what was accepted.
            if answer.covered < p1b.first_slot || p1b.end < answer.covered {
                return ScoutOutcome::Waiting;
            }
            // A part that we have: asking on behind each copy of it would double all that follows.
            if p1b.end == answer.covered && !p1b.no_more_accepted {
                return ScoutOutcome::Waiting;
            }
            answer.covered = p1b.end;
            answer.complete = p1b.no_more_accepted || mutants::is_on(Mutant::TakePartForWhole);
        }
        p1b.unsure.into_iter().for_each(|run| answer.unsure.insert(run));
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
        let first_slot = self.first_unchosen;
        // A slot must not be proposed in while it is not known what governs it. (It is known, if the lists
        // of peers are what they should be.)
        if !configurations.covers(first_slot)
            || self.uncovered_from(first_slot, configurations).is_some()
        {
            return ScoutOutcome::Waiting;
        }
        ScoutOutcome::Adopted { first_slot }
    }

    /// The first slot from `slot` up that is governed by a configuration no phase-1 quorum of which has
    /// promised; none if there is no such configuration among those known.
    ///
    /// Proposing there would go wrong like this: (1) node 4 replaces 3 beside 1 and 2, from slot s on; (2) the
    /// leader that did it has a value chosen in s by the votes of 2 and 4; (3) another, with a higher ballot that
    /// 1 and 3 promised, never heard of that and proposes another value in s, and 1 and 4 accept it. A quorum
    /// of the new three would have told of the first value.
    pub fn uncovered_from(&self, slot: Slot, configurations: &Configurations) -> Option<Slot> {
        let mut all = configurations.governing_from(slot);
        all.find(|(from, end, it)| !self.has_quorum(it, *from..*end)).map(|(from, _, _)| from)
    }

    /// Whether for each of these slots a phase-1 quorum has answered.
    fn has_quorum(&self, configuration: &Configuration, slots: Range<Slot>) -> bool {
        let membership = configuration.membership();
        let complete = || {
            let answers = membership.acceptors().filter_map(|acceptor| self.answers.get(&acceptor));
            answers.filter(|answer| answer.complete)
        };
        let (mut count, mut any_unsure) = (0, false);
        for answer in complete() {
            count += 1;
            any_unsure |= !answer.unsure.is_empty();
        }
        // This is asked with every vote; that somebody lost something is rare.
        if !any_unsure {
            return membership.phase1() <= count;
        }
        // How many more could not answer from each of these slots on, or fewer.
        let mut changes: BTreeMap<Slot, isize> = BTreeMap::new();
        for run in complete().flat_map(|answer| answer.unsure.runs_in(slots.clone())) {
            *changes.entry(run.start).or_default() += 1;
            *changes.entry(run.end).or_default() -= 1;
        }
        let (mut unsure, mut most) = (0, 0);
        for change in changes.into_values() {
            unsure += change;
            most = unsure.max(most);
        }
        membership.phase1() + most.unsigned_abs() <= count
    }

    /// The value to be proposed in `slot`: the one of the highest ballot, or a no-op where there is none.
    /// `None` if nothing is known to be accepted from there up. Slots are taken in order.
    pub fn take(&mut self, slot: Slot) -> Option<Value> {
        while self.highest.first_key_value().is_some_and(|(first, _)| *first < slot) {
            self.highest.pop_first();
        }
        let (first, _) = self.highest.first_key_value()?;
        if slot < *first {
            return Some(Value::noop());
        }
        self.highest.pop_first().map(|(_, (_, value))| value)
    }

    /// Whether `take` has nothing left.
    pub fn has_handed_out_all(&self) -> bool {
        self.highest.is_empty()
    }

    /// The slot after the last in which an earlier ballot's value is known and not taken; `slot` if none is.
    pub fn taken_end(&self, slot: Slot) -> Slot {
        self.highest.last_key_value().map_or(slot, |(last, _)| last.next().max(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::super::configurations::fixtures::{self, configurations};
    use super::super::message::PValue;
    use super::*;

    const MINE: Ballot = Ballot { round: 5, node: NodeId(1) };

    fn pvalue(round: u64, slot: u64, byte: u8) -> PValue {
        let ballot = Ballot { round, node: NodeId(2) };
        PValue { ballot, slot: Slot(slot), value: Value([byte].into()) }
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
            epochs: configurations(3, None, 4).epochs().clone(),
            accepted,
            unsure: vec![],
        }
    }

    /// A scout and what it goes by.
    struct Fixture(Scout, Configurations);

    impl Fixture {
        /// Of `nodes` nodes, with phase-1 quorums of `phase1`.
        fn new(nodes: u16, phase1: usize) -> Fixture {
            let phase2 = usize::from(nodes) + 1 - phase1;
            Fixture(Scout::new(MINE, Slot(1)), configurations(nodes, Some(phase2), 4))
        }

        fn on_p1b(&mut self, from: NodeId, p1b: P1b) -> ScoutOutcome {
            let learned = self.1.merge(&p1b.epochs);
            assert!(!learned || 1 < self.1.latest().1.epoch());
            self.1.on_known(p1b.first_unchosen);
            self.0.on_p1b(from, p1b, &self.1)
        }

        /// The first slot proposed in, and the values.
        fn adopted(&mut self, outcome: &ScoutOutcome) -> (u64, Vec<Vec<u8>>) {
            let &ScoutOutcome::Adopted { first_slot } = outcome else {
                panic!("expected adoption, got {outcome:?}")
            };
            let (mut slot, mut values) = (first_slot, Vec::new());
            while let Some(value) = self.0.take(slot) {
                values.push(value.0.to_vec());
                slot = slot.next();
            }
            (first_slot.0, values)
        }
    }

    /// Of each slot the value of the highest ballot; a no-op where there is none.
    #[test]
    fn adopts_the_highest_ballot_and_fills_gaps() {
        let mut scout = Fixture::new(3, 2);
        let first = whole(1, vec![pvalue(1, 1, 10), pvalue(3, 2, 20)]);
        assert_eq!(scout.on_p1b(NodeId(1), first), ScoutOutcome::Waiting);
        let second = whole(1, vec![pvalue(2, 1, 11), pvalue(1, 2, 21), pvalue(1, 4, 40)]);
        let outcome = scout.on_p1b(NodeId(2), second);
        assert_eq!(scout.adopted(&outcome), (1, vec![vec![11], vec![20], vec![], vec![40]]));
    }

    /// One acceptor's answer counts once, however often it comes.
    #[test]
    fn counts_each_acceptor_once() {
        let mut scout = Fixture::new(3, 2);
        for _ in 0..3 {
            assert_eq!(scout.on_p1b(NodeId(1), whole(1, vec![])), ScoutOutcome::Waiting);
        }
        let outcome = scout.on_p1b(NodeId(2), whole(1, vec![]));
        assert_eq!(scout.adopted(&outcome), (1, vec![]));
    }

    /// What an acceptor knows to be chosen is not proposed again.
    #[test]
    fn begins_above_what_is_known_to_be_chosen() {
        let mut scout = Fixture::new(3, 2);
        scout.on_p1b(NodeId(1), whole(1, vec![pvalue(1, 2, 2), pvalue(1, 7, 7)]));
        let outcome = scout.on_p1b(NodeId(2), whole(6, vec![]));
        assert_eq!(scout.adopted(&outcome), (6, vec![vec![], vec![7]]));
    }

    /// An answer in parts counts when its last part is there; a part out of turn is not taken.
    #[test]
    fn parts_are_joined_without_gaps() {
        let mut scout = Fixture::new(2, 1);
        let part = |first: u64, end: u64, more: bool, accepted| P1b {
            ballot: MINE,
            promised: MINE,
            first_slot: Slot(first),
            end: Slot(end),
            no_more_accepted: !more,
            first_unchosen: Slot(1),
            epochs: configurations(3, None, 4).epochs().clone(),
            accepted,
            unsure: vec![],
        };
        let late = part(3, 4, false, vec![pvalue(1, 3, 3)]);
        assert_eq!(scout.on_p1b(NodeId(1), late.clone()), ScoutOutcome::Waiting);
        let first = part(1, 3, true, vec![pvalue(1, 1, 1), pvalue(1, 2, 2)]);
        assert_eq!(scout.on_p1b(NodeId(1), first), ScoutOutcome::AskMore(Slot(3)));
        assert_eq!(scout.0.ask_from(NodeId(1)), Slot(3));
        let outcome = scout.on_p1b(NodeId(1), late);
        assert_eq!(scout.adopted(&outcome), (1, vec![vec![1], vec![2], vec![3]]));
    }

    /// A tick asks again for what is on its way: the second copy of a part must not be answered by a
    /// second question, or each tick of a long phase 1 would add another stream of parts.
    #[test]
    fn a_repeated_part_asks_for_nothing() {
        let mut scout = Fixture::new(2, 1);
        let mut part = whole(1, vec![pvalue(1, 1, 1), pvalue(1, 2, 2)]);
        part.no_more_accepted = false;
        assert_eq!(scout.on_p1b(NodeId(1), part.clone()), ScoutOutcome::AskMore(Slot(3)));
        assert_eq!(scout.on_p1b(NodeId(1), part), ScoutOutcome::Waiting);
    }

    /// A refusal names the ballot to beat; an answer to another ballot of ours counts for nothing.
    #[test]
    fn preempted_by_a_higher_promise() {
        let mut scout = Fixture::new(2, 1);
        let mut refusal = whole(1, vec![]);
        refusal.promised = Ballot { round: 6, node: NodeId(3) };
        let outcome = scout.on_p1b(NodeId(2), refusal.clone());
        assert_eq!(outcome, ScoutOutcome::Preempted(refusal.promised));
        let mut old = whole(1, vec![]);
        old.ballot.round = 4;
        old.promised.round = 4;
        assert_eq!(scout.on_p1b(NodeId(2), old), ScoutOutcome::Waiting);
    }

    /// Nodes 4 and 5 came to 1, 2 and 3 in slots that this scout's leader never saw. An acceptor that
    /// knows says so, and from there on a quorum of the five is needed as well.
    #[test]
    fn a_configuration_that_others_know_is_asked_too() {
        let mut scout = Fixture::new(3, 2);
        assert_eq!(scout.on_p1b(NodeId(1), whole(1, vec![])), ScoutOutcome::Waiting);
        let mut theirs = configurations(3, None, 4);
        theirs.on_chosen(Slot(1), fixtures::configuration(2, 5, None));
        theirs.on_known(Slot(3));
        let mut knows = whole(3, vec![pvalue(1, 6, 6)]);
        knows.epochs = theirs.epochs().clone();
        assert_eq!(scout.on_p1b(NodeId(2), knows), ScoutOutcome::Waiting);
        assert_eq!(scout.0.asks(&scout.1), [1, 2, 3, 4, 5].map(NodeId));
        // Two of the three promised, which do for slots 3 and 4; slot 5 is governed by the five.
        assert_eq!(scout.0.uncovered_from(Slot(3), &scout.1), Some(Slot(5)));
        let outcome = scout.on_p1b(NodeId(5), whole(1, vec![pvalue(2, 5, 5)]));
        assert_eq!(scout.adopted(&outcome), (3, vec![vec![], vec![], vec![5], vec![6]]));
    }

    /// Node 1 scouts while the other two of its configuration leave: once it has recorded that all slots that
    /// they governed are chosen, nobody waits for them.
    #[test]
    fn who_left_need_not_answer() {
        let alone = fixtures::without(&fixtures::configuration(2, 3, None), 2);
        let alone = fixtures::without(&alone, 3);
        let mut scout = Fixture::new(3, 2);
        scout.1.on_chosen(Slot(1), alone);
        let epochs = scout.1.epochs().clone();
        let own = |first_unchosen, accepted| P1b {
            epochs: epochs.clone(),
            ..whole(first_unchosen, accepted)
        };
        let outcome = scout.on_p1b(NodeId(1), own(2, vec![pvalue(1, 7, 7)]));
        assert_eq!(outcome, ScoutOutcome::Waiting);
        assert_eq!(scout.0.ask_from(NodeId(1)), Slot(8));
        assert_eq!(scout.on_p1b(NodeId(1), own(4, vec![])), ScoutOutcome::Waiting);
        let outcome = scout.on_p1b(NodeId(1), own(5, vec![]));
        assert_eq!(scout.adopted(&outcome), (5, vec![vec![], vec![], vec![7]]));
    }

    /// It is known that slots are chosen, and not what governs the next: nothing is proposed there.
    #[test]
    fn what_nobody_knows_to_govern_is_not_proposed_in() {
        let mut scout = Fixture::new(3, 2);
        let p1b = P1b { first_unchosen: Slot(9), ..whole(1, vec![]) };
        for node in 1..=3 {
            let outcome = scout.0.on_p1b(NodeId(node), p1b.clone(), &scout.1);
            assert_eq!(outcome, ScoutOutcome::Waiting);
        }
    }

    /// A slot that was damaged at one acceptor is counted at two others, and slots that were damaged at
    /// different acceptors do not add up; one that was damaged at two of three waits for the third, or for
    /// its repair. Whatever the damaged ones know of it counts as a value.
    #[test]
    fn a_quorum_is_counted_slot_by_slot() {
        let unsure = |slots: &[u64], accepted| {
            let runs = slots.iter().map(|slot| Slot(*slot)..Slot(*slot + 1)).collect();
            let end = Slot(9);
            P1b { unsure: runs, end, ..whole(1, accepted) }
        };
        let mut scout = Fixture::new(3, 2);
        let first = unsure(&[2, 4], vec![pvalue(1, 4, 40)]);
        assert_eq!(scout.on_p1b(NodeId(1), first.clone()), ScoutOutcome::Waiting);
        let second = unsure(&[6], vec![pvalue(2, 1, 10)]);
        assert_eq!(scout.on_p1b(NodeId(2), second), ScoutOutcome::Waiting);
        let outcome = scout.on_p1b(NodeId(3), unsure(&[], vec![]));
        assert_eq!(scout.adopted(&outcome), (1, vec![vec![10], vec![], vec![], vec![40]]));

        let mut scout = Fixture::new(3, 2);
        scout.on_p1b(NodeId(1), first);
        scout.on_p1b(NodeId(2), unsure(&[4], vec![]));
        assert_eq!(scout.on_p1b(NodeId(3), unsure(&[4], vec![])), ScoutOutcome::Waiting);
        // Asked again, one of them has learned what was chosen there.
        assert!([1, 2, 3].iter().all(|id| !scout.0.has_answered(NodeId(*id))));
        assert_eq!([1, 2].map(|id| scout.0.ask_from(NodeId(id))), [Slot(2), Slot(4)]);
        let again = |mut p1b: P1b| {
            p1b.first_slot = Slot(4);
            p1b
        };
        assert_eq!(scout.on_p1b(NodeId(2), again(unsure(&[4], vec![]))), ScoutOutcome::Waiting);
        let learned = again(P1b { first_unchosen: Slot(5), ..unsure(&[], vec![]) });
        let mut theirs = configurations(3, None, 4);
        theirs.on_known(Slot(5));
        let learned = P1b { epochs: theirs.epochs().clone(), ..learned };
        let outcome = scout.on_p1b(NodeId(3), learned);
        assert_eq!(scout.adopted(&outcome), (5, vec![]));
    }
}
