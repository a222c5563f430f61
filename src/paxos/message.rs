//! What nodes say to each other. `wire::peer` gives these their bytes.
//!
//! Every handler is right whatever arrives, in any order, any number of times, at any time later:
//! safety never leans on the connection. Liveness does: between two `on_peer_up`, a connection is
//! first-in first-out and loses nothing.

use std::ops::{Deref, Range};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::batch::Command;
use super::configurations::Epochs;
use super::ids::{Ballot, NodeId, Slot, Value};

/// A slot's value in a ballot (PMMC, section 2.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PValue {
    pub ballot: Ballot,
    pub slot: Slot,
    pub value: Value,
}

/// The values of a run of slots. One lies in place, because most runs are that short.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Values {
    One(Value),
    /// None, or more than one.
    Many(Vec<Value>),
}

impl Values {
    pub const NONE: Values = Values::Many(Vec::new());
}

impl From<Value> for Values {
    fn from(value: Value) -> Values {
        Values::One(value)
    }
}

impl From<Vec<Value>> for Values {
    fn from(mut values: Vec<Value>) -> Values {
        match values.len() {
            1 => Values::from(values.remove(0)),
            _ => Values::Many(values),
        }
    }
}

impl Deref for Values {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        match self {
            Values::One(value) => std::slice::from_ref(value),
            Values::Many(values) => values,
        }
    }
}

/// Small, because messages are handed on some times on their way; what is large or rare is boxed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Opens heartbeat round `round` of the sender (`election`).
    HeartbeatRequest {
        round: u64,
    },
    HeartbeatReply {
        round: u64,
        standing: Box<Standing>,
    },

    /// Phase 1a: promise `ballot`, and say what you accepted from `first_slot` up.
    P1a {
        ballot: Ballot,
        first_slot: Slot,
    },
    P1b(Box<P1b>),
    /// Phase 2a: accept `values` in `ballot` for the slots from `first_slot` up. Every slot below
    /// `first_unchosen` is chosen; those that this ballot proposed hold what it proposed.
    P2a {
        ballot: Ballot,
        first_slot: Slot,
        first_unchosen: Slot,
        values: Values,
    },
    P2b(P2b),
    /// What a P2a says about chosen slots, without values.
    Commit {
        ballot: Ballot,
        first_unchosen: Slot,
    },

    /// Asks for the chosen values from `first_slot` up.
    LearnRequest {
        first_slot: Slot,
    },
    /// Chosen values (each with a ballot in which it was chosen) for the slots from `first_slot`
    /// up. The sender knows all slots below `first_unchosen`.
    Chosen {
        first_slot: Slot,
        values: Vec<(Ballot, Value)>,
        first_unchosen: Slot,
    },

    /// Answers a `LearnRequest` for slots that the sender's log no longer has: it has those from
    /// `log_begin` up. What came of all before is in `snapshot`; acceptors that are no replicas have none.
    /// Whoever jumps over slots must know the configurations among them.
    SnapshotOffer {
        log_begin: Slot,
        first_unchosen: Slot,
        snapshot: Option<SnapshotId>,
        epochs: Epochs,
    },
    /// Asks for `size` bytes of a snapshot from `offset` on. If the receiver has it no more, the answer
    /// is what it offers instead.
    SnapshotRequest {
        snapshot: SnapshotId,
        offset: u64,
        size: u32,
    },
    SnapshotChunk {
        snapshot: SnapshotId,
        offset: u64,
        bytes: Arc<[u8]>,
    },

    /// Commands of clients, on their way from a replica to the leader.
    Propose {
        commands: Vec<Command>,
    },
    /// Asks the leader from which slot on a linearizable read may be served. One for all reads
    /// that wait at the sender.
    ReadIndexRequest {
        id: u64,
        /// Whether the leader's lease is proof enough that it leads.
        lease: bool,
    },
    /// Reads of request `id` reflect all that was acknowledged once every slot below `read_slot` is
    /// applied.
    ReadIndexReply {
        id: u64,
        read_slot: Slot,
    },
    /// The leader of `ballot` asks whether it still leads, for its waiting reads.
    Confirm {
        ballot: Ballot,
        round: u64,
    },
    /// The acceptor has promised nothing above `ballot`. Others may know slots below `told_end` to be
    /// chosen, by the votes in this ballot that it told them, before the leader does.
    ConfirmAck {
        ballot: Ballot,
        round: u64,
        told_end: Slot,
    },

    /// The leader of `ballot` asks for a lease of `lease_us`, at `asked_us` on its clock.
    LeaseRequest {
        ballot: Ballot,
        asked_us: u64,
        lease_us: u64,
    },
    /// Granted, as asked for at `asked_us`. Votes for slots below `told_end` were told before, as in
    /// `ConfirmAck`.
    LeaseGrant {
        ballot: Ballot,
        asked_us: u64,
        told_end: Slot,
    },
    /// The leader of `ballot` leads no more.
    LeaseRelease {
        ballot: Ballot,
    },

    /// Asks an acceptor how far it may have accepted anything, for the quorum reads that wait at the
    /// sender.
    QuorumRead {
        round: u64,
    },
    QuorumReadReply {
        round: u64,
        extent: Extent,
    },

    /// The leader of `ballot` is about to leave: take over now.
    TakeOver {
        ballot: Ballot,
    },
    /// The configurations that the sender knows, for a peer that may have missed some.
    Configurations(Epochs),
    /// From a node to itself, after the sync: its log says that all slots below are chosen.
    Recorded {
        first_unchosen: Slot,
    },
    /// Carries a message between two nodes that cannot reach each other, over others that can.
    Relay {
        from: NodeId,
        /// The nodes over which it goes, in order; the last is whom it is for.
        route: Vec<NodeId>,
        message: Box<Message>,
    },
}

/// Names a snapshot: the state behind `slot`, all slots up to which are chosen and applied in it. Two of
/// the same name have the same bytes, whoever made them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SnapshotId {
    pub slot: Slot,
    /// Bytes of all of it.
    pub size: u64,
    /// Of all of its bytes.
    pub checksum: u128,
}

/// What a node says of itself in a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Standing {
    /// The sender's own last ballot.
    pub ballot: Ballot,
    /// The highest ballot that it takes for the leader's.
    pub leader: Ballot,
    /// Whether that leader is alive and quorum-connected as far as the sender knows.
    pub happy: bool,
    pub first_unchosen: Slot,
    /// The newest configuration that governs all slots which the sender does not know to be chosen, and
    /// will after a restart too: it needs no quorum of an older one any more.
    pub epoch: u64,
    /// The peers that the sender hears (they answered one of its last rounds), by id, ascending: over these
    /// links messages pass in both directions.
    pub hears: Vec<NodeId>,
    /// The nodes over which messages of the sender reach that leader, in order, the leader last. Empty if it
    /// leads itself, or knows no way.
    pub route: Vec<NodeId>,
    pub health: Health,
    pub state: StateStanding,
}

/// What keeps a node from leading well, the network aside. All false in a node that is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Health {
    /// A sync of its log does not come to an end.
    pub disk_stalled: bool,
    /// Its log has no room for more values.
    pub disk_full: bool,
    /// Its state differs from what other replicas have at the same slot; it serves nobody.
    pub quarantined: bool,
}

impl Health {
    /// Whether a node in this condition may compete and lead.
    pub fn is_fit(self) -> bool {
        self == Health::default()
    }
}

/// How far a node's state is, and what it is: for others to compare with, and to leave behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct StateStanding {
    /// The last slot in its newest durable snapshot; 0 if it has none.
    pub snapshot: Slot,
    /// The newest slot at which it noted its state's digest.
    pub checkpoint: Option<Checkpoint>,
}

/// What a replica's state is after it applied `slot`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Checkpoint {
    pub slot: Slot,
    /// Digest of the store's content, sessions included.
    pub digest: u128,
}

/// How far an acceptor has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Extent {
    /// Nothing is accepted here from this slot up, in any ballot.
    pub end: Slot,
    /// Each slot below `accepted_end` was accepted in `ballot`, or known to be chosen, at a time when
    /// nothing above `ballot` was promised: the same as in a P2b.
    pub ballot: Ballot,
    pub accepted_end: Slot,
}

/// Phase 1b: an acceptor's answer to a scout.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct P1b {
    /// The ballot asked for.
    pub ballot: Ballot,
    /// What the acceptor has promised; above `ballot` it is a refusal, and the rest is empty.
    pub promised: Ballot,
    /// The answer is complete for the slots of `first_slot..end`: what is not in `accepted` was not
    /// accepted, or lies below `first_unchosen`.
    pub first_slot: Slot,
    pub end: Slot,
    /// Nothing was accepted from `end` up.
    pub no_more_accepted: bool,
    /// The acceptor knows all slots below to be chosen.
    pub first_unchosen: Slot,
    /// The configurations that it knows, those of all slots below `first_unchosen` among them: the leader
    /// may begin above what it has learned itself, and must know what governs there.
    pub epochs: Epochs,
    /// A value that is known to be chosen comes in the ballot asked for: nothing can beat it.
    pub accepted: Vec<PValue>,
    /// Runs of slots of `first_slot..end`, in order, in which the acceptor may have accepted something
    /// that it lost: for these the answer is none, whatever `accepted` says of them.
    pub unsure: Vec<Range<Slot>>,
}

/// Phase 2b: an acceptor's cumulative answer to P2a.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct P2b {
    /// The ballot of the P2a.
    pub ballot: Ballot,
    /// What the acceptor has promised; above `ballot` it is a refusal.
    pub promised: Ballot,
    /// Each slot below is accepted in `ballot`, or known to be chosen.
    pub accepted_end: Slot,
    /// The acceptor did not take all of the P2a: it misses slots from `accepted_end` on, or is too
    /// far behind to take more.
    pub resend: bool,
}
