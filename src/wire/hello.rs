//! The handshake: the first frame of each side on every connection.
//!
//! Whoever dials speaks first. A hello of another protocol version, cluster or node is answered with
//! `Refused` and the connection is closed.

use serde::{Deserialize, Serialize};

use crate::paxos::NodeId;

/// Changes with every incompatible change of frames or messages.
pub const PROTOCOL_VERSION: u16 = 1;

/// Which cluster a connection is for: a hash of the cluster's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterId(pub u64);

impl ClusterId {
    pub fn of_name(name: &str) -> ClusterId {
        ClusterId(xxhash_rust::xxh3::xxh3_64(name.as_bytes()))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Hello {
    /// A node dials another's peer address.
    Peer { version: u16, cluster: ClusterId, from: NodeId, to: NodeId },
    /// A client dials a node's client address. A client that does not name a cluster takes any.
    Client { version: u16, cluster: Option<ClusterId> },
    /// The answer to either.
    Welcome { version: u16, cluster: ClusterId, node: NodeId },
    /// The answer before the connection is closed.
    Refused { version: u16, reason: String },
}
