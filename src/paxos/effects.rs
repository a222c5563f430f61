//! What the core wants done: data, filled in by `Node` and carried out by the driver.
//!
//! The order in which the driver must do it, each turn:
//!
//! 1. `records` are appended to the write-ahead log, in order.
//! 2. `sends` may leave at any time.
//! 3. `sends_after_sync` leave once all that is appended so far is durable, this turn's records
//!    included. They may be addressed to the node itself: that is how it counts its own vote.
//! 4. `chosen` is applied, in order; then `reads_ready` are answered.
//! 5. `learn_replies` are made from the log, `snapshot_replies` from a snapshot.
//! 6. `receives` are carried out, in order.
//!
//! If 3 went before 1 is durable: (1) an acceptor says that it accepted, (2) a quorum with it chooses
//! the value and a client is told, (3) the acceptor crashes and forgets, (4) another quorum, which
//! meets the first only in this acceptor, chooses another value.

use std::sync::Arc;

use crate::mutants::{self, Mutant};

use super::batch::CommandId;
use super::ids::{Ballot, NodeId, Slot, Value};
use super::message::{Message, SnapshotId};
use super::record::Record;

#[derive(Debug, Default)]
pub struct Effects {
    pub records: Vec<Record>,
    pub sends: Vec<(NodeId, Message)>,
    pub sends_after_sync: Vec<(NodeId, Message)>,
    /// Slots now known to be chosen, without a gap to those of earlier turns.
    pub chosen: Vec<ChosenSlot>,
    /// Tokens of linearizable reads that may be answered once `chosen` is applied.
    pub reads_ready: Vec<u64>,
    /// Chosen values to be read from this node's log and sent as `Message::Chosen`.
    pub learn_replies: Vec<LearnReply>,
    /// Chunks to be read from a snapshot and sent as `Message::SnapshotChunk`, at the caller's pace.
    pub snapshot_replies: Vec<SnapshotReply>,
    /// A peer needs a snapshot, and none of those that can be sent would help it: one is to be made. Those who wait
    /// are told when `Node::on_snapshots` brings it.
    pub snapshot_wanted: bool,
    /// What to do with a snapshot that comes from a peer.
    pub receives: Vec<Receive>,
    /// Commands and reads that waited too long.
    pub expired: Vec<Expired>,
    /// What happened, for traces and logs.
    pub events: Vec<Event>,
    /// Messages of the node to itself, handled before `Node` returns.
    pub(super) local: std::collections::VecDeque<Message>,
    pub(super) me: NodeId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenSlot {
    pub slot: Slot,
    /// A ballot in which it was chosen.
    pub ballot: Ballot,
    pub value: Value,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LearnReply {
    pub to: NodeId,
    pub first_slot: Slot,
    /// The slot after the last that may be sent.
    pub first_unchosen: Slot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotReply {
    pub to: NodeId,
    pub snapshot: SnapshotId,
    pub offset: u64,
    /// Bytes; they lie within the snapshot.
    pub size: u32,
}

/// Steps of receiving a snapshot. There is one at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receive {
    /// Make ready to take this one, or find what an earlier attempt left of it, and say how much there is
    /// by `Node::on_part`. What is there of any other is given up.
    Begin(SnapshotId),
    /// Keep these bytes, and say so by `Node::on_part`. All before `offset` came before.
    Chunk { snapshot: SnapshotId, offset: u64, bytes: Arc<[u8]> },
    /// All bytes are kept. Check them, make them durable and the state that they hold this node's, and
    /// say so by `Node::on_snapshot_installed`; or, if they are no good, drop them and say so by
    /// `Node::on_snapshot_refused`.
    Install(SnapshotId),
    /// It is not needed any more: drop what has come. Of one that is being installed nothing is heard
    /// any more.
    GiveUp(SnapshotId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expired {
    Command {
        id: CommandId,
        /// The token it came with.
        client: u64,
        /// It was never handed to any leader, so it certainly does not happen.
        definite: bool,
    },
    Read {
        /// The token it came with.
        read: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    LeaderChanged {
        ballot: Ballot,
    },
    ScoutStarted {
        ballot: Ballot,
        first_slot: Slot,
    },
    Adopted {
        ballot: Ballot,
        first_slot: Slot,
    },
    Preempted {
        ballot: Ballot,
        by: Ballot,
    },
    /// `waited_us`: how long the oldest command of the batch was queued at the leader.
    Proposed {
        slot: Slot,
        commands: usize,
        size: usize,
        waited_us: u64,
    },
    Chosen {
        before: Slot,
        first_unchosen: Slot,
    },
    /// All slots below `first_unchosen` are known to be chosen although not all of them were learned:
    /// from a snapshot, or from the word of a peer that has one.
    Jumped {
        before: Slot,
        first_unchosen: Slot,
    },
}

impl Effects {
    pub fn new(me: NodeId) -> Effects {
        Effects { me, ..Effects::default() }
    }

    #[inline]
    pub fn persist(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Sends at once: nothing in the message depends on this turn's records.
    #[inline(always)]
    pub fn send(&mut self, to: NodeId, message: Message) {
        if to == self.me {
            self.local.push_back(message);
        } else {
            self.sends.push((to, message));
        }
    }

    /// Sends over other nodes, to the last of `route`; nowhere if there is none.
    pub fn send_over(&mut self, route: Vec<NodeId>, message: Message) {
        match *route {
            [] => {}
            [to] => self.send(to, message),
            [over, ..] => {
                let (from, message) = (self.me, Box::new(message));
                self.send(over, Message::Relay { from, route, message });
            }
        }
    }

    /// Sends when all that was recorded so far is durable; to the node itself too.
    #[inline]
    pub fn send_after_sync(&mut self, to: NodeId, message: Message) {
        if mutants::is_on(Mutant::ReplyBeforeSync) {
            return self.send(to, message);
        }
        self.sends_after_sync.push((to, message));
    }

    pub fn receive(&mut self, receive: Receive) {
        self.receives.push(receive);
    }

    pub fn event(&mut self, event: Event) {
        self.events.push(event);
    }
}
