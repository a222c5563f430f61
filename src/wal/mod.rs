//! The write-ahead log: what a node must not forget, in preallocated segments mapped into memory.
//!
//! See `meta`, `segment` and `record` for the bytes. All unsafe code is in `map`.

pub mod error;
pub mod index;
pub mod map;
pub mod meta;
pub mod record;
pub mod segment;

use std::fmt;

use crate::paxos::NodeId;
use crate::wire::ClusterId;

pub use error::WalError;

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub cluster: ClusterId,
    pub node: NodeId,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node {} of cluster {:016x}", self.node.0, self.cluster.0)
    }
}
