//! The numbers of the protocol, each with a type of its own, and the value of a slot.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::bytes::Bytes;

/// A process of the cluster. Ids are given by the operator, from 1, and never reused.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u16);

/// A position of the log. The first slot is 1, so that 0 can mean "nothing yet".
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Slot(pub u64);

/// A ballot: a round and the node that owns it, ordered by round first (PMMC, section 2.1).
///
/// The default, round 0, is below every ballot that anybody uses.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Ballot {
    pub round: u64,
    pub node: NodeId,
}

/// The value of one slot: an encoded batch (see `batch`), or nothing at all for a no-op.
///
/// Unless they are few, the bytes are shared, never copied inside the core: the same allocation is
/// appended to the log, sent to every peer and applied.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Value(pub Bytes);

impl Slot {
    pub const FIRST: Slot = Slot(1);

    pub fn next(self) -> Slot {
        Slot(self.0 + 1)
    }

    /// The slot `count` after this one.
    pub fn plus(self, count: usize) -> Slot {
        Slot(self.0 + count as u64)
    }

    /// How many slots lie in `first..self`; 0 when `first` is not below `self`.
    pub fn since(self, first: Slot) -> usize {
        self.0.saturating_sub(first.0) as usize
    }
}

impl Ballot {
    pub const NONE: Ballot = Ballot { round: 0, node: NodeId(0) };

    /// The lowest ballot of `node` that is above this one.
    pub fn next_for(self, node: NodeId) -> Ballot {
        Ballot { round: self.round + 1, node }
    }

    pub fn is_none(self) -> bool {
        self == Ballot::NONE
    }
}

impl Value {
    /// What a leader proposes for a slot in which nothing was accepted.
    pub fn noop() -> Value {
        Value(Bytes::NONE)
    }

    pub fn is_noop(&self) -> bool {
        self.0.is_empty()
    }

    /// Bytes.
    pub fn size(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.0)
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.round, self.node.0)
    }
}

impl fmt::Debug for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b{}.{}", self.round, self.node.0)
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_noop() { write!(f, "no-op") } else { write!(f, "{}B", self.size()) }
    }
}
