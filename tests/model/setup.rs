//! What a model is made of: who takes part, what may go wrong and how often, and whether the nodes are
//! broken on purpose.

#![allow(dead_code)] // `main.rs` and `large.rs` each use a part of it.

use std::net::SocketAddr;

use loggos::paxos::{Addresses, Configuration, Member, NodeId, Roles, Slot};

/// One configuration. Whatever is not bounded here is not bounded: messages are delayed, reordered,
/// duplicated and lost without limit.
#[derive(Clone, Copy)]
pub struct Setup {
    pub name: &'static str,
    /// Of the nodes 1, 2, ...
    pub roles: &'static [Roles],
    /// Sizes of the quorums; `None` is a majority.
    pub phase1: Option<usize>,
    pub phase2: Option<usize>,
    /// Slots proposed and not yet chosen (alpha).
    pub window_slots: usize,
    /// How often each node may compete, each time with the next ballot above all that it knows.
    pub competes: &'static [u8],
    /// At which node each command of a client arrives, once.
    pub commands: &'static [u16],
    /// Whether commands are there from the start, not from any time on.
    pub commands_early: bool,
    /// Whether replicas reach leaders on other nodes.
    pub forwards: bool,
    /// Whether nodes tell each other chosen values (the learner).
    pub learns: bool,
    pub sync: Sync,
    /// How often in all a process crashes and starts again.
    pub crashes: u8,
    /// How often in all a node ticks: it sends again what was not answered, and announces what is
    /// chosen.
    pub ticks: u8,
    /// How often in all a connection is made anew.
    pub reconnects: u8,
    /// A step that would propose for a slot above this one is cut off (and counted).
    pub last_slot: Slot,
    /// Whether messages that can have no effect any more leave the network (see `Cluster::is_dead`).
    pub drops_dead: bool,
    pub bug: Option<Bug>,
}

/// When records become durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// With the turn that wrote them, unless the process crashes in that very turn; then any prefix of
    /// them is durable, and what waited for the sync is not sent.
    InTheTurn,
    /// At any later time: the process takes more turns meanwhile, and a crash leaves any prefix.
    Later,
}

/// A way in which nodes are wrong. The core is as it is; what goes in or comes out is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A restart forgets what the acceptor promised.
    RestartForgetsPromise,
    /// A restart forgets what the acceptor accepted.
    RestartForgetsAccepted,
    /// A restart forgets which ballots the leader used.
    RestartForgetsOwnBallot,
    /// What should wait for the sync does not.
    SpeaksBeforeSync,
    /// An acceptor tells scouts that it accepted nothing.
    HidesAccepted,
    /// An acceptor's pvalues seem the older the higher their ballot: the lowest is adopted.
    LowestIsAdopted,
    /// A vote that comes twice is counted as two acceptors' votes.
    VoteCountsTwice,
    /// A promise that comes twice is counted as two acceptors' promises.
    PromiseCountsTwice,
    /// Node 1 is configured with quorums of 1 and 3, the others with 3 and 1.
    QuorumsDiffer,
}

pub const ALL: Roles = Roles::ALL;
pub const LEADER_REPLICA: Roles = Roles { acceptor: false, leader: true, replica: true };
pub const ACCEPTOR: Roles = Roles { acceptor: true, leader: false, replica: false };

impl Setup {
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> + Clone + use<> {
        (1..=self.roles.len() as u16).map(NodeId)
    }

    /// As `node` is configured; the same for all nodes, or else it is a bug.
    pub fn configuration(&self, node: NodeId) -> Configuration {
        let (phase1, phase2) = match self.bug {
            Some(Bug::QuorumsDiffer) if node == NodeId(1) => (Some(1), Some(3)),
            Some(Bug::QuorumsDiffer) => (Some(3), Some(1)),
            _ => (self.phase1, self.phase2),
        };
        let member = |(i, &roles): (usize, &Roles)| {
            let at = |port| SocketAddr::from(([10, 0, 0, i as u8 + 1], port));
            let addresses = Addresses { peer: at(7400), client: at(7401) };
            (Member { node: NodeId(i as u16 + 1), roles }, addresses)
        };
        Configuration::initial(self.roles.iter().enumerate().map(member).collect(), phase1, phase2)
            .expect("a configuration that a file may hold")
    }
}
