//! What clients and nodes say to each other, after the handshake (`hello`).
//!
//! Requests may be pipelined; responses come in any order and carry the request's key. The payload
//! of a command or query and the bytes of a reply travel in the frame's bulk part and are encoded
//! by `kv`.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::paxos::{Ballot, Change, CommandId, NodeId, SessionId, Slot, SnapshotId};

use super::status::NodeStatus;

/// The head of a client's frame.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Asks for a session. `nonce` is random and comes back in the reply.
    Register { nonce: u64 },
    /// A command of a session; the bulk is an encoded `store::Command`.
    Command { id: CommandId, acknowledged: u64 },
    /// A query; the bulk is an encoded `store::Query`. `id` is the client's own.
    Read { id: u64, consistency: Consistency },
    /// Asks the node what it knows of itself and its cluster.
    Status { id: u64 },
    /// Asks for a snapshot that holds every write acknowledged anywhere before. It is kept for this
    /// connection, even if the node has newer ones meanwhile.
    Snapshot { id: u64 },
    /// Asks for bytes of a snapshot, from `offset` on: `limits::SNAPSHOT_CHUNK_SIZE`, or what there is.
    SnapshotChunk { id: u64, snapshot: SnapshotId, offset: u64 },
    /// Asks the leader to change the members, from the configuration of this epoch. The answer comes when
    /// the change is proposed; `Status` tells when it is settled.
    Reconfigure { id: u64, epoch: u64, change: Change },
    /// Asks the leader to hand the lead to this node, or to whom it suits best.
    TransferLead { id: u64, to: Option<NodeId> },
    /// Asks to be told what the slots from `from` on do to the keys that begin with the bulk; answered with
    /// `Changes` again and again until the connection ends.
    Watch { id: u64, from: Slot },
    /// Goes on with read `of` of this connection, whose rows did not fit one reply: those from `skip` on, of the same
    /// state.
    ReadOn { id: u64, of: u64, skip: u64 },
}

/// What a read may return.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Consistency {
    /// Reflects every write acknowledged anywhere before the read began, in the way that the node is
    /// configured for.
    #[default]
    Linearizable,
    /// The same, by asking the leader, which confirms its lead (read-index).
    Leader,
    /// The same, by asking the leader, which answers at once while it holds a lease.
    Lease,
    /// The same, by asking a phase-1 quorum of acceptors, without the leader.
    Quorum,
    /// What this replica has applied, at once; may be out of date, says its slot.
    Stale,
    /// The same, but all that was acknowledged anywhere so many microseconds ago is in it: at once if the replica
    /// knows that, else as a linearizable read.
    StaleWithin { age_us: u64 },
}

/// Which request a response answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RequestKey {
    Register {
        nonce: u64,
    },
    Command(CommandId),
    Read {
        id: u64,
    },
    Status {
        id: u64,
    },
    /// Of both requests for snapshots.
    Snapshot {
        id: u64,
    },
    /// Of those that change the members or the leader.
    Admin {
        id: u64,
    },
    Watch {
        id: u64,
    },
}

/// The head of a node's frame to a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// The session asked for with `nonce`.
    Registered {
        nonce: u64,
        session: SessionId,
        slot: Slot,
        ballot: Ballot,
    },
    /// The command is chosen, durable on a quorum and applied here; the bulk is an encoded
    /// `store::Reply`. Slot and ballot say where it was decided.
    Reply {
        id: CommandId,
        slot: Slot,
        ballot: Ballot,
    },
    /// The bulk is an encoded `store::Reply`; it reflects every slot below `slot`'s successor.
    Read {
        id: u64,
        slot: Slot,
        ballot: Ballot,
    },
    Status {
        id: u64,
        status: Box<NodeStatus>,
    },
    /// The snapshot is durable at this node, and its bytes can be asked for.
    Snapshot {
        id: u64,
        snapshot: SnapshotId,
    },
    /// The bulk is the bytes asked for.
    SnapshotChunk {
        id: u64,
    },
    /// The change is proposed; it leads to the configuration of this epoch, if nothing prevents it.
    Reconfiguring {
        id: u64,
        epoch: u64,
    },
    /// That node was told to take over.
    LeadTransferred {
        id: u64,
        to: NodeId,
    },
    Error {
        key: RequestKey,
        error: ErrorReply,
    },
    /// What the slots below `end` did, from where the `Changes` before ended; the bulk is as in
    /// `kv::write_slot_changes`. Comes at least every second.
    Changes {
        id: u64,
        end: Slot,
    },
}

/// Why a request was not served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorReply {
    pub kind: ErrorKind,
    /// Whether the command certainly did not happen and never will (definite), or may yet.
    pub definite: bool,
    /// The node to ask instead, if this one knows a better one, and where it serves clients: it may have
    /// come to the cluster after the client was told who is in it.
    pub ask: Option<NodeId>,
    pub ask_at: Option<SocketAddr>,
    /// One line for a person.
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// No leader could be reached in time. Definite if the command never left this node.
    Timeout,
    /// The session is not known (any more): register a new one.
    SessionExpired,
    /// The request is malformed or over a limit; sending it again cannot help.
    BadRequest,
    /// The node is at one of its limits; try later or elsewhere.
    Busy,
    /// This node does not play the role that the request needs; see `ask`.
    NotAReplica,
    /// The node is about to leave, or has left the cluster; ask another.
    Stopping,
    /// The disks of so many nodes are full that nothing can be chosen: free space on them.
    DiskFull,
    /// Only the leader does this; see `ask`.
    NotLeading,
    /// Asked of the leader, and it says no: the message says why.
    Refused,
    /// The node does not know any more what is asked for. Another may; if none does, read the state anew.
    TooOld,
}
