//! What a node must remember over a restart: the records of its write-ahead log, and what reading
//! them back amounts to.
//!
//! The core says *what* is written and in which order; `wal` says how it lies on the disk. The
//! order of records is the order in which the facts became true at this node.

use super::ids::{Ballot, Slot, Value};
use super::slots::SlotSet;

/// One fact for the write-ahead log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// The acceptor promised not to accept anything below this ballot.
    Promised(Ballot),
    /// This node took this ballot as a leader. Durable before the ballot is used, or a restarted
    /// leader could propose a second value under the same ballot and slot.
    OwnBallot(Ballot),
    /// The acceptor accepted this pvalue (and so promised its ballot).
    Accepted { ballot: Ballot, slot: Slot, value: Value },
    /// This node learned that the value is chosen, without having accepted it. `ballot` is one in
    /// which it was proposed; it may be lower or higher than the one that chose it.
    Chosen { ballot: Ballot, slot: Slot, value: Value },
    /// Every slot below is chosen, and the last `Accepted` or `Chosen` record of each holds the
    /// chosen value. A hint that is written along with other records: it may lag, never lead.
    FirstUnchosen(Slot),
    /// Every slot below is chosen, and this log cannot tell the values: those it holds of these slots were
    /// accepted, and may have lost. The state behind them stands in a durable snapshot, here or, for an
    /// acceptor that keeps no state, at others.
    Jumped(Slot),
}

/// What the write-ahead log says at start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The highest of all `Promised` and `Accepted` ballots.
    pub promised: Ballot,
    /// The highest of all `OwnBallot`s.
    pub own_ballot: Ballot,
    /// From the last `FirstUnchosen` or `Jumped`, at least `Slot::FIRST`; lower if the log is damaged and has lost a
    /// chosen value below.
    pub first_unchosen: Slot,
    /// From the last `Jumped`, 0 if there is none: the log holds the values of the chosen slots from here up.
    pub log_begin: Slot,
    /// The last slot in the newest snapshot; 0 if there is none. The log does not know: whoever has loaded
    /// the snapshot says so here.
    pub snapshot: Slot,
    /// The last `Accepted` or `Chosen` record of each slot from `first_unchosen` up that has one,
    /// in slot order.
    pub tail: Vec<RecoveredSlot>,
    /// The log is damaged: in these slots, none below `first_unchosen`, this node may have accepted
    /// something that is lost, later than what `tail` says of them.
    pub unsure: SlotSet,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RecoveredSlot {
    pub slot: Slot,
    pub ballot: Ballot,
    pub value: Value,
    /// Whether the value is known to be chosen: the record was `Chosen`, or lies below the last
    /// `FirstUnchosen` of a damaged log.
    pub chosen: bool,
}
