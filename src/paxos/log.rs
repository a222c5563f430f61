//! The tail of this node's log: what is accepted here and not yet known to be chosen.
//!
//! Invariant: every slot below `first_unchosen` is chosen and was handed out for applying, once and in
//! order; its value is in the write-ahead log and no longer here. Whether a value was accepted by
//! this node's acceptor or only learned makes no difference here.

use std::collections::VecDeque;

use crate::mutants::{self, Mutant};

use super::effects::{ChosenSlot, Effects, Event};
use super::ids::{Ballot, Slot, Value};
use super::message::PValue;
use super::record::{Record, Recovered};
use super::slots::SlotSet;

#[derive(Clone, Debug, Hash)]
pub struct Log {
    /// The values of the slots from here to `first_unchosen` are in the write-ahead log. Those below are
    /// in a snapshot at most.
    begin: Slot,
    first_unchosen: Slot,
    /// Accepted pvalues by slot, from `first_unchosen` up.
    tail: VecDeque<Option<Accepted>>,
    /// Bytes of the values in `tail`.
    tail_size: usize,
    /// Slots from `first_unchosen` up in which damage to the write-ahead log may have hit what was accepted
    /// last. What `tail` has of them is older, or what was lost.
    unsure: SlotSet,
    /// A leader's word: every slot below `commit_end` is chosen, and what `commit_ballot` proposed
    /// for it is what was chosen.
    commit_ballot: Ballot,
    commit_end: Slot,
    /// The last `Record::FirstUnchosen` written.
    recorded: Slot,
}

#[derive(Clone, Debug, Hash)]
struct Accepted {
    ballot: Ballot,
    value: Value,
    /// Known to be chosen, while a slot below is not.
    chosen: bool,
}

impl Log {
    /// The log as it was recovered; slots above `first_unchosen` that were learned as chosen are
    /// handed out as well.
    pub fn new(recovered: &Recovered, fx: &mut Effects) -> Log {
        let known = recovered.first_unchosen.max(Slot::FIRST);
        let mut log = Log {
            begin: recovered.log_begin.max(Slot::FIRST),
            first_unchosen: known,
            tail: VecDeque::new(),
            tail_size: 0,
            unsure: recovered.unsure.clone(),
            commit_ballot: Ballot::NONE,
            commit_end: Slot::FIRST,
            recorded: recovered.first_unchosen,
        };
        // A snapshot may be from a peer, and the process have ended before the log said so; what the log
        // holds of the slots below must then not be told as chosen.
        if known <= recovered.snapshot {
            log.begin_anew(recovered.snapshot.next(), fx);
        }
        for entry in &recovered.tail {
            if entry.chosen && entry.slot == log.first_unchosen {
                log.hand_out(entry.ballot, entry.value.clone(), fx);
            } else if log.first_unchosen <= entry.slot {
                log.put(entry.slot, entry.ballot, entry.value.clone(), entry.chosen);
            }
        }
        if !log.unsure.is_empty() {
            // The log may say that more is chosen, and lack the values. From here on it says how far it has
            // them: what follows may be lost as well one day, and is then held against this.
            fx.persist(Record::FirstUnchosen(log.first_unchosen));
            log.recorded = log.first_unchosen;
        }
        log
    }

    pub fn first_unchosen(&self) -> Slot {
        self.first_unchosen
    }

    /// The first chosen slot whose value the write-ahead log can still tell.
    pub fn begin(&self) -> Slot {
        self.begin
    }

    /// The write-ahead log has chosen values from `begin` up only.
    pub fn begins_at(&mut self, begin: Slot) {
        assert!(begin <= self.first_unchosen, "a log is truncated where all is chosen");
        self.begin = self.begin.max(begin);
    }

    /// All slots below `end` are chosen, and what they came to is known without their values: it stands in
    /// a snapshot, here or at others.
    ///
    /// From now on the log begins at `end`. What it holds of earlier slots was accepted and never known
    /// to be chosen: it may have lost, and must not be told as chosen.
    pub fn jump(&mut self, end: Slot, fx: &mut Effects) {
        let before = self.first_unchosen;
        if end <= before {
            return;
        }
        let dropped = end.since(before).min(self.tail.len());
        if !mutants::is_on(Mutant::JumpKeepsOldTail) {
            for entry in self.tail.drain(..dropped).flatten() {
                self.tail_size -= entry.value.size();
            }
        }
        self.begin_anew(end, fx);
        fx.event(Event::Jumped { before, first_unchosen: end });
        self.advance_from(end, fx);
    }

    fn begin_anew(&mut self, at: Slot, fx: &mut Effects) {
        self.first_unchosen = at;
        if !mutants::is_on(Mutant::JumpKeepsOldLog) {
            self.begin = at;
        }
        self.unsure.remove_below(at);
        self.recorded = at;
        fx.persist(Record::Jumped(at));
    }

    /// The slot after the last one in which anything may have been accepted.
    pub fn end(&self) -> Slot {
        let end = self.first_unchosen.plus(self.tail.len());
        end.max(self.unsure.end().unwrap_or(end))
    }

    /// Slots in which damage may have hit what was accepted.
    pub fn unsure(&self) -> &SlotSet {
        &self.unsure
    }

    /// Whether a slot above `first_unchosen` is known to be chosen, and its value is here.
    pub fn is_chosen(&self, slot: Slot) -> bool {
        let at = slot.since(self.first_unchosen);
        matches!(self.tail.get(at), Some(Some(entry)) if entry.chosen)
    }

    /// Bytes of accepted values that are not known to be chosen.
    pub fn tail_size(&self) -> usize {
        self.tail_size
    }

    /// The end of the run of slots from `first_unchosen` that are accepted in `ballot`.
    pub fn run_end(&self, ballot: Ballot) -> Slot {
        let len = self
            .tail
            .iter()
            .take_while(|entry| entry.as_ref().is_some_and(|entry| entry.ballot == ballot))
            .count();
        self.first_unchosen.plus(len)
    }

    /// The slot after the last that is accepted in `ballot`, or known to be chosen.
    pub fn accepted_end(&self, ballot: Ballot) -> Slot {
        let last = self
            .tail
            .iter()
            .rposition(|entry| entry.as_ref().is_some_and(|entry| entry.ballot == ballot));
        last.map_or(self.first_unchosen, |at| self.first_unchosen.plus(at + 1))
    }

    /// Accepted pvalues from `first` up, in slot order, for an answer to the scout of `asked`.
    ///
    /// Of a value that is known to be chosen the record may tell a lower ballot than that of our own vote
    /// for it, which was lost. So it is told in the ballot that is asked for. If not: (1) we and another
    /// node choose it in ballot 9, (2) our vote is lost, and we learn the value, as one of ballot 5, (3) a
    /// scout hears of it from us, and from a third node of another value of ballot 7, and adopts that.
    pub fn accepted_from(&self, first: Slot, asked: Ballot) -> impl Iterator<Item = PValue> + '_ {
        let skip = first.since(self.first_unchosen);
        self.tail.iter().enumerate().skip(skip).filter_map(move |(i, entry)| {
            let entry = entry.as_ref()?;
            let slot = self.first_unchosen.plus(i);
            let ballot = if entry.chosen { asked } else { entry.ballot };
            Some(PValue { ballot, slot, value: entry.value.clone() })
        })
    }

    /// Takes an accepted pvalue, in place of one of a lower ballot.
    #[inline]
    pub fn accept(&mut self, slot: Slot, ballot: Ballot, value: Value, fx: &mut Effects) {
        assert!(self.first_unchosen <= slot, "chosen slots are not accepted again");
        fx.persist(Record::Accepted { ballot, slot, value: value.clone() });
        self.put(slot, ballot, value, false);
        // Whatever was lost of it was accepted in no higher ballot.
        if !self.unsure.is_empty() {
            self.unsure.remove(slot);
        }
    }

    /// A leader says that all slots below `end` are chosen, and that where `ballot` proposed a value
    /// for one, it is this value.
    pub fn commit(&mut self, ballot: Ballot, end: Slot, fx: &mut Effects) {
        if ballot < self.commit_ballot {
            return;
        }
        self.commit_ballot = ballot;
        self.commit_end = self.commit_end.max(end);
        if self.first_unchosen < self.commit_end || self.is_chosen(self.first_unchosen) {
            self.advance_from(self.first_unchosen, fx);
        }
    }

    /// Learns chosen values. Those that would leave a gap are of no use and dropped.
    pub fn learn(&mut self, first_slot: Slot, values: Vec<(Ballot, Value)>, fx: &mut Effects) {
        let before = self.first_unchosen;
        if before < first_slot {
            return;
        }
        let known = before.since(first_slot);
        for (ballot, value) in values.into_iter().skip(known) {
            // If we accepted this value, in whichever ballot, the log has it. Its record must stay the
            // last one: `ballot` may be lower than the one in which our vote chose the value, and
            // after a restart a scout would be told of the lower one. A value that lost, in a ballot
            // between the two, could then win.
            let have = matches!(self.tail.front(), Some(Some(entry)) if entry.value == value);
            let slot = self.first_unchosen;
            if !have || self.unsure.contains(slot) {
                fx.persist(Record::Chosen { ballot, slot, value: value.clone() });
            }
            self.pop_front();
            self.hand_out(ballot, value, fx);
        }
        self.advance_from(before, fx);
    }

    /// Whether slots are known to be chosen that cannot be handed out yet.
    pub fn misses_chosen(&self) -> bool {
        self.first_unchosen < self.commit_end
    }

    /// Notes how far the log is chosen, if that moved. Called when other records are written anyway,
    /// and now and then; recovery needs no more than a hint.
    pub fn record_progress(&mut self, fx: &mut Effects) {
        if self.recorded < self.first_unchosen {
            self.recorded = self.first_unchosen;
            fx.persist(Record::FirstUnchosen(self.first_unchosen));
        }
    }

    /// Hands out what the leader's word covers, and tells of all that is chosen since `before`.
    ///
    /// A slot accepted in another ballot than the word's is not covered: its value may have lost to
    /// one that we never saw, and must be learned.
    fn advance_from(&mut self, before: Slot, fx: &mut Effects) {
        while self.first_unchosen < self.commit_end || self.is_chosen(self.first_unchosen) {
            let covered = |entry: &Accepted| {
                entry.chosen
                    || entry.ballot == self.commit_ballot
                    || mutants::is_on(Mutant::CommitForeignBallot)
            };
            if !matches!(self.tail.front(), Some(Some(entry)) if covered(entry)) {
                break;
            }
            let Some(Some(Accepted { ballot, value, .. })) = self.tail.pop_front() else {
                unreachable!("the front was just seen")
            };
            self.tail_size -= value.size();
            let slot = self.first_unchosen;
            if !self.unsure.is_empty() && self.unsure.contains(slot) {
                // Behind the damage, so that the next start need not doubt it again.
                fx.persist(Record::Chosen { ballot, slot, value: value.clone() });
            }
            self.hand_out(ballot, value, fx);
        }
        if before < self.first_unchosen {
            fx.event(Event::Chosen { before, first_unchosen: self.first_unchosen });
        }
    }

    #[inline]
    fn hand_out(&mut self, ballot: Ballot, value: Value, fx: &mut Effects) {
        fx.chosen.push(ChosenSlot { slot: self.first_unchosen, ballot, value });
        if !self.unsure.is_empty() {
            self.unsure.remove(self.first_unchosen);
        }
        self.first_unchosen = self.first_unchosen.next();
    }

    fn pop_front(&mut self) -> Option<Accepted> {
        let entry = self.tail.pop_front().flatten();
        self.tail_size -= entry.as_ref().map_or(0, |entry| entry.value.size());
        entry
    }

    #[inline]
    fn put(&mut self, slot: Slot, ballot: Ballot, value: Value, chosen: bool) {
        let at = slot.since(self.first_unchosen);
        self.tail_size += value.size();
        if self.tail.len() == at {
            self.tail.push_back(Some(Accepted { ballot, value, chosen }));
            return;
        }
        if self.tail.len() < at {
            self.tail.resize(at + 1, None);
        }
        let old = self.tail[at].replace(Accepted { ballot, value, chosen });
        self.tail_size -= old.map_or(0, |old| old.value.size());
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::NodeId;
    use super::*;

    fn ballot(round: u64) -> Ballot {
        Ballot { round, node: NodeId(1) }
    }

    fn value(byte: u8) -> Value {
        Value([byte].into())
    }

    fn empty() -> (Log, Effects) {
        let mut fx = Effects::new(NodeId(1));
        (Log::new(&Recovered::default(), &mut fx), fx)
    }

    fn slots(fx: &Effects) -> Vec<u64> {
        fx.chosen.iter().map(|chosen| chosen.slot.0).collect()
    }

    /// The leader's word covers only what we accepted in its own ballot: a slot of an older ballot
    /// may hold a value that lost.
    #[test]
    fn commit_covers_only_its_own_ballot() {
        let (mut log, mut fx) = empty();
        log.accept(Slot(1), ballot(2), value(1), &mut fx);
        log.accept(Slot(2), ballot(1), value(2), &mut fx);
        log.accept(Slot(3), ballot(2), value(3), &mut fx);
        log.commit(ballot(2), Slot(4), &mut fx);
        assert_eq!(slots(&fx), [1]);
        assert!(log.misses_chosen());
        // Learning the missing one releases the next, which we have.
        log.learn(Slot(2), vec![(ballot(2), value(9))], &mut fx);
        assert_eq!(slots(&fx), [1, 2, 3]);
        assert!(!log.misses_chosen());
        assert_eq!(log.tail_size(), 0);
    }

    /// Learned values that overlap what is known are skipped, a gap is refused.
    #[test]
    fn learning_overlaps_and_gaps() {
        let (mut log, mut fx) = empty();
        log.learn(Slot(2), vec![(ballot(1), value(2))], &mut fx);
        assert_eq!(log.first_unchosen(), Slot(1));
        log.learn(Slot(1), vec![(ballot(1), value(1)), (ballot(1), value(2))], &mut fx);
        log.learn(Slot(1), vec![(ballot(1), value(1)); 3], &mut fx);
        assert_eq!(slots(&fx), [1, 2, 3]);
        assert_eq!(fx.records.len(), 3);
    }

    /// What was accepted need not be written again when it is chosen, and in no lower ballot.
    #[test]
    fn learning_what_was_accepted_writes_nothing() {
        let (mut log, mut fx) = empty();
        log.accept(Slot(1), ballot(1), value(1), &mut fx);
        log.learn(Slot(1), vec![(ballot(1), value(1))], &mut fx);
        assert_eq!(fx.records.len(), 1);
        log.accept(Slot(2), ballot(1), value(2), &mut fx);
        log.learn(Slot(2), vec![(ballot(3), value(7))], &mut fx);
        assert_eq!(fx.records.len(), 3);
        log.accept(Slot(3), ballot(3), value(3), &mut fx);
        log.learn(Slot(3), vec![(ballot(1), value(3))], &mut fx);
        assert_eq!(fx.records.len(), 4);
    }

    /// A jump drops what was accepted below and keeps what was accepted above; what is known to be chosen
    /// of that is handed out behind it, and the log no longer tells what came before.
    #[test]
    fn a_jump_leaves_no_old_slots() {
        let (mut log, mut fx) = empty();
        for slot in [1, 2, 6, 7] {
            log.accept(Slot(slot), ballot(2), value(slot as u8), &mut fx);
        }
        log.commit(ballot(2), Slot(7), &mut fx);
        assert_eq!(slots(&fx), [1, 2]);
        log.accept(Slot(4), ballot(2), value(4), &mut fx);
        log.jump(Slot(6), &mut fx);
        assert_eq!(slots(&fx), [1, 2, 6]);
        assert_eq!(fx.chosen[2].value, value(6));
        assert_eq!((log.begin(), log.first_unchosen(), log.end()), (Slot(6), Slot(7), Slot(8)));
        assert_eq!(log.tail_size(), 1);
        assert_eq!(fx.records.last(), Some(&Record::Jumped(Slot(6))));
        // A jump to where the log has been leads nowhere.
        log.jump(Slot(3), &mut fx);
        assert_eq!(log.begin(), Slot(6));
        // One beyond all that was accepted leaves nothing.
        log.jump(Slot(20), &mut fx);
        assert_eq!((log.end(), log.tail_size()), (Slot(20), 0));
    }

    /// The process ended when a snapshot from a peer was durable and the log did not say so yet: what the
    /// log has below was perhaps not chosen. A log that knows more than the snapshot goes on as it is.
    #[test]
    fn a_snapshot_ahead_of_the_log_is_a_jump() {
        let entry = |slot| super::super::record::RecoveredSlot {
            slot: Slot(slot),
            ballot: ballot(1),
            value: value(slot as u8),
            chosen: true,
        };
        let mut recovered = Recovered {
            first_unchosen: Slot(3),
            tail: (3..8).map(entry).collect(),
            snapshot: Slot(5),
            ..Recovered::default()
        };
        let mut fx = Effects::new(NodeId(1));
        let log = Log::new(&recovered, &mut fx);
        assert_eq!((log.begin(), slots(&fx)), (Slot(6), vec![6, 7]));
        assert_eq!(fx.records, [Record::Jumped(Slot(6))]);

        recovered.snapshot = Slot(2);
        let mut fx = Effects::new(NodeId(1));
        let log = Log::new(&recovered, &mut fx);
        assert_eq!((log.begin(), slots(&fx)), (Slot(1), vec![3, 4, 5, 6, 7]));
        assert_eq!(fx.records, []);
    }

    #[test]
    fn recovery_restores_the_tail() {
        let (mut log, mut fx) = empty();
        log.accept(Slot(1), ballot(1), value(1), &mut fx);
        log.accept(Slot(2), ballot(1), value(2), &mut fx);
        log.accept(Slot(4), ballot(1), value(4), &mut fx);
        let recovered = Recovered {
            promised: ballot(1),
            first_unchosen: Slot(1),
            tail: log
                .accepted_from(Slot(1), Ballot::NONE)
                .map(|p| super::super::record::RecoveredSlot {
                    slot: p.slot,
                    ballot: p.ballot,
                    value: p.value,
                    chosen: p.slot == Slot(1),
                })
                .collect(),
            ..Recovered::default()
        };
        let mut fx = Effects::new(NodeId(1));
        let again = Log::new(&recovered, &mut fx);
        assert_eq!(slots(&fx), [1]);
        assert_eq!(again.end(), Slot(5));
        assert_eq!(again.run_end(ballot(1)), Slot(3));
        assert!(again.unsure().is_empty() && fx.records.is_empty());
        assert_eq!(
            again.accepted_from(Slot(3), Ballot::NONE).map(|p| p.slot.0).collect::<Vec<_>>(),
            [4]
        );
    }

    /// A damaged log: slot 2 is chosen and its value lost, 3 is there and known to be chosen, 4 was accepted
    /// and may have been accepted again. What is learned or committed of these is written once more, behind
    /// the damage, even if the value is here.
    #[test]
    fn what_was_lost_is_learned_and_written_again() {
        let entry = |slot, chosen| super::super::record::RecoveredSlot {
            slot: Slot(slot),
            ballot: ballot(2),
            value: value(slot as u8),
            chosen,
        };
        let recovered = Recovered {
            promised: ballot(7),
            first_unchosen: Slot(2),
            tail: vec![entry(3, true), entry(4, false), entry(5, false)],
            unsure: [Slot(2)..Slot(3), Slot(4)..Slot(6), Slot(8)..Slot(9)].into_iter().collect(),
            ..Recovered::default()
        };
        let mut fx = Effects::new(NodeId(1));
        let mut log = Log::new(&recovered, &mut fx);
        assert_eq!(fx.records, [Record::FirstUnchosen(Slot(2))]);
        assert_eq!((log.end(), log.unsure().len()), (Slot(9), 4));
        // The chosen one is told in the ballot that asks.
        let told: Vec<_> = log.accepted_from(Slot(2), ballot(9)).map(|p| p.ballot.round).collect();
        assert_eq!(told, [9, 2, 2]);

        log.learn(Slot(2), vec![(ballot(1), value(2))], &mut fx);
        assert_eq!(slots(&fx), [2, 3]);
        log.learn(Slot(4), vec![(ballot(1), value(4))], &mut fx);
        log.commit(ballot(2), Slot(6), &mut fx);
        assert_eq!(slots(&fx), [2, 3, 4, 5]);
        let written: Vec<_> = fx
            .records
            .iter()
            .filter_map(|record| match record {
                Record::Chosen { slot, .. } => Some(slot.0),
                _ => None,
            })
            .collect();
        assert_eq!(written, [2, 4, 5]);
        log.accept(Slot(8), ballot(8), value(8), &mut fx);
        assert!(log.unsure().is_empty());
    }
}
