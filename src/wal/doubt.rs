//! What a node with a damaged log no longer knows.
//!
//! The bounds that the first record behind a hole carries say what this node promised, and below which
//! slot it accepted anything. What it accepted in each slot is another matter:
//!
//! - A value behind all holes is the last one of its slot.
//! - A value before a hole is so too if its slot was known to be chosen when the hole begins, by the last
//!   `FirstUnchosen` read before: chosen slots are not written again. (A node that starts with a damaged
//!   log, and so from a lower slot, first writes how low it starts.) Or if its record says `Chosen`.
//! - Any other value before a hole may have been followed by another one in it: the slot is in doubt.
//! - A slot without any value, below the end that the bounds tell, is in doubt as well.
//!
//! In a slot that is in doubt the acceptor does not vote in phase 1. Below `first_unchosen` such a slot is
//! chosen, but this node does not know what: it goes back to there, and learns it again from its peers.

use crate::limits;
use crate::mutants::{self, Mutant};
use crate::paxos::{Recovered, RecoveredSlot, Slot, SlotSet, Value};

use super::index::{Index, Location};
use super::record::{RecordType, Stored};

/// A place where records are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// Where it begins.
    pub at: Location,
    /// The slot of the last `FirstUnchosen` before it.
    pub first_unchosen: Slot,
    /// The slot after the highest one with a value in it, or before.
    pub slot_end: Slot,
}

/// Which slots a recovered log does not know the last value of.
#[derive(Clone, Debug, Default)]
pub struct Doubt {
    is_damaged: bool,
    /// Slots whose value lies before a hole that may hold a later one.
    doubtful: SlotSet,
    /// Slots from here on were not lost.
    slot_end: Slot,
    /// All slots below are chosen.
    first_unchosen: Slot,
    /// The slot of the last `Jumped`: the log is not asked for the values of chosen slots below.
    jumped: Slot,
}

impl Doubt {
    /// `record_at`: the bytes from a record of the index on.
    pub fn new<'a>(
        index: &Index,
        holes: &[Hole],
        first_unchosen: Slot,
        jumped: Slot,
        record_at: &dyn Fn(Location) -> &'a [u8],
    ) -> Doubt {
        let order = |at: Location| (at.segment, at.offset);
        let lowest = holes.iter().map(|hole| hole.first_unchosen).min();
        let mut doubtful = SlotSet::default();
        for (slot, at) in index.from(lowest.unwrap_or(Slot(u64::MAX))) {
            let is_before = |hole: &Hole| order(at) < order(hole.at) && hole.first_unchosen <= slot;
            if holes.iter().any(is_before)
                && Stored::kind_of(record_at(at)) != Some(RecordType::Chosen)
            {
                doubtful.insert(slot..slot.next());
            }
        }
        let slot_end = holes.iter().map(|hole| hole.slot_end).max().unwrap_or(Slot(0));
        Doubt { is_damaged: !holes.is_empty(), doubtful, slot_end, first_unchosen, jumped }
    }

    /// What the log says, but for promises. Slots below `truncated_before` are chosen. Nobody will ask the
    /// log for values of chosen slots below `covered`.
    pub fn recovered<'a>(
        &self,
        index: &Index,
        truncated_before: Slot,
        covered: Slot,
        record_at: &dyn Fn(Location) -> &'a [u8],
    ) -> Recovered {
        let chosen_end = self.first_unchosen.max(truncated_before).max(Slot::FIRST);
        let mut recovered = Recovered {
            first_unchosen: chosen_end,
            log_begin: self.jumped,
            ..Recovered::default()
        };
        if self.is_damaged {
            let covered = covered.max(truncated_before).max(self.jumped).max(Slot::FIRST);
            let below = self.unsure(index, Slot::FIRST, chosen_end);
            if below.runs_in(Slot::FIRST..covered).next().is_some()
                && !mutants::is_on(Mutant::TellBelowDamage)
            {
                // What is there may have lost, and must not be told as chosen.
                recovered.log_begin = covered.min(chosen_end);
            }
            recovered.unsure = below.runs_in(covered..Slot(u64::MAX)).collect();
            // Back to the first chosen slot whose value is not known.
            let lost = recovered.unsure.runs_in(covered..chosen_end).next();
            recovered.first_unchosen = lost.map_or(chosen_end, |run| run.start);
            recovered.unsure.remove_below(recovered.first_unchosen);
        }
        let first_unchosen = recovered.first_unchosen;
        let mut size = 0;
        for (slot, at) in index.from(recovered.first_unchosen) {
            let is_sure = !recovered.unsure.contains(slot);
            let bytes = record_at(at);
            let (ballot, value) = Stored::value_of(bytes);
            let is_far = limits::ACCEPTOR_AHEAD_SLOTS_MAX <= slot.since(first_unchosen)
                || limits::ACCEPTOR_AHEAD_SIZE_MAX <= size;
            if self.is_damaged && is_far {
                // A long way from the gap: no memory for that. It is learned from peers like the gap.
                recovered.unsure.insert(slot..slot.next());
                continue;
            }
            size += value.len();
            let is_chosen = Stored::kind_of(bytes) == Some(RecordType::Chosen);
            let chosen = is_chosen || (is_sure && slot < chosen_end);
            recovered.tail.push(RecoveredSlot { slot, ballot, value: Value(value.into()), chosen });
        }
        recovered
    }

    /// All slots in doubt from `covered` up.
    fn unsure(&self, index: &Index, covered: Slot, chosen_end: Slot) -> SlotSet {
        let mut unsure: SlotSet = self.doubtful.runs_in(covered..Slot(u64::MAX)).collect();
        let end = self.slot_end.max(chosen_end);
        let mut next = covered;
        for (slot, _) in index.from(covered) {
            unsure.insert(next..slot.min(end));
            next = slot.next();
        }
        unsure.insert(next..end);
        unsure
    }
}
