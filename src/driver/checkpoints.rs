//! Digests of this replica's state at known slots, and what other replicas have there.
//!
//! Replicas that applied the same slots hold the same. One that does not has a damaged memory, or a defect
//! that the others do not have; whatever it answers may be wrong. Each notes its digest at every so many
//! slots (`limits::CHECKPOINT_SLOTS`), and heartbeats carry the newest.
//!
//! A replica finds itself wrong if others, two at least, agree with one another on something else, and are
//! more than those who agree with it. So a single replica never brings down another, and of two halves
//! that differ neither gives in.

use std::collections::{BTreeMap, VecDeque};

use crate::limits::CHECKPOINTS_MAX;
use crate::mutants::{self, Mutant};
use crate::paxos::{Checkpoint, NodeId, Slot};

#[derive(Debug)]
pub struct Checkpoints {
    /// From one to the next, in slots; 0 for none at all.
    every: u64,
    /// The newest ones of this replica, ascending.
    own: VecDeque<Checkpoint>,
    /// The newest ones of others: what they have at each slot.
    told: BTreeMap<Slot, BTreeMap<NodeId, u128>>,
}

/// What others say of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is known against it.
    Sound,
    /// This other replica differs, and is outvoted: it will find out by itself.
    OtherWrong(Slot, NodeId),
    /// Another replica differs, and it cannot be told which one is wrong.
    Disputed(Slot),
    /// This replica is wrong.
    Wrong(Slot),
}

impl Checkpoints {
    pub fn new(every: u64) -> Checkpoints {
        Checkpoints { every, own: VecDeque::new(), told: BTreeMap::new() }
    }

    /// The state behind `slot` has this digest. True if that is a checkpoint.
    pub fn on_applied(&mut self, slot: Slot, digest: impl FnOnce() -> u128) -> bool {
        if self.every == 0 || !slot.0.is_multiple_of(self.every) {
            return false;
        }
        self.own.push_back(Checkpoint { slot, digest: digest() });
        if CHECKPOINTS_MAX < self.own.len() {
            self.own.pop_front();
        }
        true
    }

    pub fn newest(&self) -> Option<Checkpoint> {
        self.own.back().copied()
    }

    /// What a heartbeat of another replica says.
    pub fn on_told(&mut self, from: NodeId, checkpoint: Checkpoint) {
        self.told.entry(checkpoint.slot).or_default().insert(from, checkpoint.digest);
        while CHECKPOINTS_MAX < self.told.len() {
            self.told.pop_first();
        }
    }

    pub fn verdict(&self) -> Verdict {
        let mut verdict = Verdict::Sound;
        for own in &self.own {
            let Some(told) = self.told.get(&own.slot) else { continue };
            let count = |digest: u128| told.values().filter(|told| **told == digest).count();
            let with_us = 1 + count(own.digest);
            let others = told.iter().filter(|(_, digest)| **digest != own.digest);
            match others.map(|(node, digest)| (count(*digest), *node)).max() {
                None => {}
                Some((against, _)) if is_outvoted(with_us, against) => {
                    return Verdict::Wrong(own.slot);
                }
                Some((against, node)) if 2 <= with_us && against < with_us => {
                    verdict = Verdict::OtherWrong(own.slot, node);
                }
                Some(_) => verdict = Verdict::Disputed(own.slot),
            }
        }
        verdict
    }

    /// The state was replaced: what it was before is no longer this replica's.
    pub fn forget_own(&mut self) {
        self.own.clear();
    }
}

/// Whether so many who agree on something else are believed, and not this replica and who agrees with it.
fn is_outvoted(with_us: usize, against: usize) -> bool {
    (2 <= against && with_us < against) || mutants::is_on(Mutant::OutvotedByOne)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::CHECKPOINT_SLOTS;

    const SLOT: Slot = Slot(CHECKPOINT_SLOTS);

    /// Of a replica that has digest 1 at `SLOT`, told these of the others.
    fn verdict(told: &[u128]) -> Verdict {
        let mut checkpoints = Checkpoints::new(CHECKPOINT_SLOTS);
        for (node, &digest) in (2..).zip(told) {
            checkpoints.on_told(NodeId(node), Checkpoint { slot: SLOT, digest });
        }
        assert_eq!(checkpoints.verdict(), Verdict::Sound, "its own is not known yet");
        assert!(!checkpoints.on_applied(Slot(SLOT.0 - 1), || unreachable!()));
        assert!(checkpoints.on_applied(SLOT, || 1));
        assert_eq!(checkpoints.newest(), Some(Checkpoint { slot: SLOT, digest: 1 }));
        checkpoints.verdict()
    }

    #[test]
    fn who_is_wrong() {
        assert_eq!(verdict(&[]), Verdict::Sound);
        assert_eq!(verdict(&[1, 1, 1, 1]), Verdict::Sound);
        assert_eq!(verdict(&[2]), Verdict::Disputed(SLOT), "one of two: which?");
        assert_eq!(verdict(&[2, 3]), Verdict::Disputed(SLOT), "all differ");
        assert_eq!(verdict(&[1, 2]), Verdict::OtherWrong(SLOT, NodeId(3)));
        assert_eq!(verdict(&[2, 2]), Verdict::Wrong(SLOT));
        assert_eq!(verdict(&[1, 2, 2]), Verdict::Disputed(SLOT), "two halves");
        assert_eq!(verdict(&[1, 2, 2, 2]), Verdict::Wrong(SLOT));
        assert_eq!(verdict(&[1, 1, 2, 2]), Verdict::OtherWrong(SLOT, NodeId(5)));
        assert_eq!(verdict(&[2, 2, 3, 3]), Verdict::Wrong(SLOT));
    }

    /// A node that says the same again and again is one node, and what is old is forgotten.
    #[test]
    fn what_is_told_is_counted_once_and_bounded() {
        let mut checkpoints = Checkpoints::new(CHECKPOINT_SLOTS);
        for n in 1..100 {
            let slot = Slot(n * CHECKPOINT_SLOTS);
            checkpoints.on_applied(slot, || 1);
            for _ in 0..3 {
                checkpoints.on_told(NodeId(2), Checkpoint { slot, digest: 2 });
            }
        }
        assert!(matches!(checkpoints.verdict(), Verdict::Disputed(_)));
        assert_eq!(checkpoints.own.len(), CHECKPOINTS_MAX);
        assert_eq!(checkpoints.told.len(), CHECKPOINTS_MAX);
        checkpoints.forget_own();
        assert_eq!((checkpoints.verdict(), checkpoints.newest()), (Verdict::Sound, None));
    }
}
