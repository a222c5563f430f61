//! What a node tells of itself: `loggos status`.

use serde::{Deserialize, Serialize};

use crate::paxos::{Ballot, Health, NodeId, Roles, Slot};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub node: NodeId,
    pub version: String,
    pub pid: u32,
    pub uptime_ms: u64,
    pub roles: Roles,
    /// The members of the cluster by the configuration in force, by id, and how many of its acceptors a
    /// leader must reach.
    pub members: Vec<(NodeId, Roles)>,
    pub quorum: u16,
    /// The leader that this node follows, and its ballot.
    pub leader: Option<NodeId>,
    pub ballot: Ballot,
    /// Whether this node is itself the leader and has finished phase 1.
    pub leading: bool,
    /// Whether a quorum answered this node's last heartbeat round.
    pub quorum_connected: bool,
    /// Why it should not lead, if so.
    pub health: Health,
    /// First slot that this node does not know to be chosen.
    pub first_unchosen: Slot,
    /// Last slot applied to the store; 0 before the first. Only where there is a replica.
    pub applied: Slot,
    /// Digest of the store's content after `applied`, 32 hexadecimal digits.
    pub digest: String,
    pub keys: u64,
    pub sessions: u64,
    pub clients: u64,
    /// Syncs of the write-ahead log since the start.
    pub syncs: u64,
    /// Records of its log that were found damaged at the start.
    pub lost_records: u64,
    /// Slots in which it may have lost what it accepted, and is having repaired. 0 in a sound node.
    pub unsure_slots: u64,
    pub peers: Vec<PeerStatus>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    pub node: NodeId,
    /// Whether a connection to it stands.
    pub connected: bool,
    /// Whether it answered one of the last heartbeat rounds.
    pub heard: bool,
    /// The first unchosen slot that it last told us.
    pub first_unchosen: Slot,
    /// Whom it said it hears, and how it is. Nobody, and well, if it is not heard.
    pub hears: Vec<NodeId>,
    pub health: Health,
    /// How the last connection to it ended, if none stands and one did.
    pub ended: Option<LinkEnd>,
}

/// How a connection between two nodes ended. A cut in one direction shows in both: the node that hears
/// nothing gives the connection up, and the other hears of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LinkEnd {
    /// Nothing was heard for too long.
    Silent,
    /// The other side closed it, or it broke.
    Closed,
}
