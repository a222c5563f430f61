//! What a log has come to at one of its places: carried by each record, so that whatever lies before
//! it may be dropped or damaged without a promise being forgotten.

use crate::paxos::{Ballot, NodeId, Slot};

use super::record::{RecordType, u16_at, u64_at};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The highest ballot promised, by a promise or by accepting.
    pub promised: Ballot,
    /// The round of the highest ballot that the log's own node took.
    pub own_round: u64,
    /// The slot after the highest one that has a value; 0 if none has.
    pub slot_end: Slot,
}

impl Bounds {
    /// Bytes, two of which lie apart from the others.
    pub const SIZE: usize = 24;

    /// As it is behind one more record.
    pub fn with(mut self, kind: RecordType, ballot: Ballot, slot: Slot) -> Bounds {
        match kind {
            RecordType::Promised | RecordType::Accepted => {
                self.promised = self.promised.max(ballot);
            }
            RecordType::OwnBallot => self.own_round = self.own_round.max(ballot.round),
            RecordType::Chosen | RecordType::FirstUnchosen | RecordType::Jumped => {}
        }
        if kind.has_value() {
            self.slot_end = self.slot_end.max(slot.next());
        }
        self
    }

    pub fn max(self, other: Bounds) -> Bounds {
        Bounds {
            promised: self.promised.max(other.promised),
            own_round: self.own_round.max(other.own_round),
            slot_end: self.slot_end.max(other.slot_end),
        }
    }

    /// The highest ballot that `node`, whose log it is, took.
    pub fn own_ballot(&self, node: NodeId) -> Ballot {
        match self.own_round {
            0 => Ballot::NONE,
            round => Ballot { round, node },
        }
    }

    /// The rounds and the slot, and then the node of the promise.
    pub fn encode(&self, out: &mut [u8], at: usize, node_at: usize) {
        out[at..at + 8].copy_from_slice(&self.promised.round.to_le_bytes());
        out[at + 8..at + 16].copy_from_slice(&self.own_round.to_le_bytes());
        out[at + 16..at + Bounds::SIZE].copy_from_slice(&self.slot_end.0.to_le_bytes());
        out[node_at..node_at + 2].copy_from_slice(&self.promised.node.0.to_le_bytes());
    }

    pub fn decode(bytes: &[u8], at: usize, node_at: usize) -> Bounds {
        let node = NodeId(u16_at(bytes, node_at));
        Bounds {
            promised: Ballot { round: u64_at(bytes, at), node },
            own_round: u64_at(bytes, at + 8),
            slot_end: Slot(u64_at(bytes, at + 16)),
        }
    }
}
