//! The configuration of a node: one TOML file, the same for all nodes of a cluster, plus what the
//! command line overrides. Checked once, here; nobody behind re-checks it.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::paxos::{Membership, NodeId, Roles};
use crate::wire::ClusterId;

/// A checked configuration of one node.
#[derive(Clone, Debug)]
pub struct Config {
    pub cluster_name: String,
    pub cluster: ClusterId,
    pub node: NodeId,
    pub data_dir: PathBuf,
    pub nodes: Vec<NodeConfig>,
    pub membership: Membership,
    /// Length of a heartbeat round, which is the election timeout of Omni-Paxos.
    pub election_timeout_us: u64,
    /// How long a command or read may wait at a replica before its client is told.
    pub request_timeout_us: u64,
    /// Slots that a leader may have proposed and not yet chosen (alpha).
    pub window_slots: usize,
    pub wal_segment_size: u64,
    /// False only in the laboratory: acknowledge without waiting for the disk.
    pub wal_sync: bool,
    pub clients_max: usize,
    pub trace: Option<PathBuf>,
    pub log_level: log::LevelFilter,
}

/// One `[[nodes]]` entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    pub id: NodeId,
    /// Where the other nodes reach it.
    pub peer_address: SocketAddr,
    /// Where clients reach it.
    pub client_address: SocketAddr,
    pub roles: Roles,
}
