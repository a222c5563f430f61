//! What a node tells of itself: `loggos status`.

use serde::{Deserialize, Serialize};

use crate::paxos::{
    Addresses, Ballot, Change, Configurations, Health, Member, NodeId, Roles, Slot,
};

use super::ClusterId;

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
    /// Over whom its clients' commands reach that leader, the leader last. Empty if it leads, or there is no way.
    pub route: Vec<NodeId>,
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
    pub configuration: ConfigurationStatus,
}

#[cfg(any(test, feature = "fake"))]
impl NodeStatus {
    /// Node `id` of `n` with all roles, which hears nobody: for tests, which change what matters to them.
    pub fn made_up(id: u16, n: u16) -> NodeStatus {
        let peer = |node: u16| PeerStatus {
            node: NodeId(node),
            connected: false,
            heard: false,
            first_unchosen: Slot(0),
            hears: vec![],
            health: Health::default(),
            ended: None,
        };
        NodeStatus {
            node: NodeId(id),
            version: "made up".to_owned(),
            pid: 1,
            uptime_ms: 1,
            roles: Roles::ALL,
            members: (1..=n).map(|node| (NodeId(node), Roles::ALL)).collect(),
            quorum: n / 2 + 1,
            leader: None,
            ballot: Ballot::NONE,
            route: vec![],
            leading: false,
            quorum_connected: false,
            health: Health::default(),
            first_unchosen: Slot(5),
            applied: Slot(4),
            digest: "0".repeat(32),
            keys: 1,
            sessions: 1,
            clients: 0,
            syncs: 1,
            lost_records: 0,
            unsure_slots: 0,
            peers: (1..=n).filter(|node| *node != id).map(peer).collect(),
            configuration: ConfigurationStatus {
                cluster: 1,
                epoch: 1,
                epoch_in_force: 1,
                settled: true,
                removed: false,
                phase1: 1,
                phase2: 1,
                members: vec![],
                left: vec![],
            },
        }
    }

    /// The same, of a node that hears these, and was told by them whom they hear.
    pub fn hearing(mut self, told: &[(u16, &[u16])]) -> NodeStatus {
        for (node, hears) in told {
            let peer = self.peers.iter_mut().find(|peer| peer.node.0 == *node).expect("a peer");
            (peer.connected, peer.heard) = (true, true);
            peer.first_unchosen = self.first_unchosen;
            peer.hears = hears.iter().copied().map(NodeId).collect();
        }
        self
    }
}

/// What a node knows of who is in the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationStatus {
    /// The cluster's id (`ClusterId`): a hash of its name.
    pub cluster: u64,
    /// Of the newest configuration that is chosen.
    pub epoch: u64,
    /// Of the one in force here: it governs the first slot not known to be chosen.
    pub epoch_in_force: u64,
    /// Only of a leader: the newest one is in force at a phase-2 quorum of its acceptors, for good. Who left
    /// is not needed by anybody any more.
    pub settled: bool,
    /// This node was a member and is none any more.
    pub removed: bool,
    /// Sizes of the newest one's quorums.
    pub phase1: u64,
    pub phase2: u64,
    /// The newest one's, by id.
    pub members: Vec<MemberStatus>,
    /// Ids that were members and are never used again.
    pub left: Vec<NodeId>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    pub node: NodeId,
    pub roles: Roles,
    pub addresses: Addresses,
}

impl ConfigurationStatus {
    pub fn of(configurations: &Configurations, cluster: ClusterId) -> ConfigurationStatus {
        let (_, latest) = configurations.latest();
        let member = |(member, addresses): (Member, Addresses)| MemberStatus {
            node: member.node,
            roles: member.roles,
            addresses,
        };
        ConfigurationStatus {
            cluster: cluster.0,
            epoch: latest.epoch(),
            epoch_in_force: configurations.epoch_at(configurations.first_unchosen()),
            settled: false,
            removed: false,
            phase1: latest.membership().phase1() as u64,
            phase2: latest.membership().phase2() as u64,
            members: latest.members().map(member).collect(),
            left: latest.left().to_vec(),
        }
    }

    pub fn member(&self, node: NodeId) -> Option<&MemberStatus> {
        self.members.iter().find(|member| member.node == node)
    }

    /// Whether the change has been made already.
    pub fn has_done(&self, change: &Change) -> bool {
        let all = |node: NodeId| self.member(node).is_some_and(|it| it.roles == Roles::ALL);
        match *change {
            Change::Add { node, addresses } => {
                self.member(node).is_some_and(|it| it.addresses == addresses)
            }
            Change::Promote { node } => all(node),
            Change::Remove { node } => self.left.contains(&node),
            Change::Replace { old, new } => self.left.contains(&old) && all(new),
        }
    }
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
