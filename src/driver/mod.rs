//! The driver: the mio loop of one node. It holds the sockets, the log, the store and the only clock,
//! and carries out what `paxos::Node` wants done, in the one safe order (`paxos::Effects`).
//!
//! It decides nothing about the protocol. Where it does decide, it is about resources: how much to
//! read in a turn, when to make a client wait, when to give up a connection.

mod backup;
mod catch_up;
pub(crate) mod checkpoints;
mod clients;
mod connection;
mod fetch;
mod freshness;
pub(crate) mod held;
mod helper;
mod logger;
mod members;
mod peers;
pub(crate) mod quarantine;
pub(crate) mod replay;
mod scan;
mod server;
pub(crate) mod snapshots;
mod sql;
mod start;
mod table;
mod tracer;
mod turn;
mod verify;
mod watch;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::config::Config;
use crate::paxos::NodeId;
use crate::snapshot::SnapshotError;
use crate::wal::WalError;

/// Why a node could not start, or had to stop.
#[derive(Debug)]
pub enum ServeError {
    Wal(WalError),
    Snapshot(SnapshotError),
    /// An address cannot be listened on.
    Listen {
        what: &'static str,
        address: SocketAddr,
        error: io::Error,
    },
    Io {
        doing: &'static str,
        error: io::Error,
    },
    /// The log lacks a slot that it says it has.
    SlotMissing {
        slot: u64,
    },
    /// The log does not reach back to the newest snapshot that can be used.
    LogTooShort {
        snapshot: u64,
        log_begin: u64,
    },
    /// The file that remembers the members cannot be read or written.
    ConfigurationsIo {
        path: PathBuf,
        error: io::Error,
    },
    /// The file that remembers the members holds what no node writes.
    ConfigurationsDamaged {
        path: PathBuf,
        what: String,
    },
    /// A node with an empty data directory has an id whose owner has voted.
    Forgotten {
        node: NodeId,
    },
    /// The log is whole, and holds what no node writes.
    LogForeign {
        what: String,
    },
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Wal(error) => write!(f, "{error}"),
            ServeError::Snapshot(error) => write!(f, "{error}"),
            ServeError::Listen { what, address, error } => write!(
                f,
                "cannot listen on {what} {address}: {error}; is another node running there, and \
                 does this machine have that address?"
            ),
            ServeError::Io { doing, error } => write!(f, "{doing}: {error}"),
            ServeError::SlotMissing { slot } => write!(
                f,
                "the log has no value for slot {slot}, which it says is chosen; inspect it with \
                 `loggos wal inspect`"
            ),
            ServeError::LogTooShort { snapshot, log_begin } => write!(
                f,
                "the log begins at slot {log_begin}, and the newest snapshot that can be used ends at \
                 slot {snapshot}: bring back the snapshot that was lost, or replace this node by one \
                 with a new id"
            ),
            ServeError::ConfigurationsIo { path, error } => {
                write!(f, "{}, which says who is in the cluster: {error}", path.display())
            }
            ServeError::ConfigurationsDamaged { path, what } => {
                write!(f, "{}, which says who is in the cluster: {what}", path.display())
            }
            ServeError::Forgotten { node } => write!(
                f,
                "{node} is an acceptor of this cluster, and its data directory is empty: what it \
                 promised is forgotten, so it must not come back under this id; replace it by a \
                 node with a new id (`loggos member replace`)"
            ),
            ServeError::LogForeign { what } => write!(
                f,
                "the log was not written by this program: {what}; inspect it with `loggos wal \
                 inspect`"
            ),
        }
    }
}

impl std::error::Error for ServeError {}

impl From<WalError> for ServeError {
    fn from(error: WalError) -> ServeError {
        ServeError::Wal(error)
    }
}

impl From<SnapshotError> for ServeError {
    fn from(error: SnapshotError) -> ServeError {
        ServeError::Snapshot(error)
    }
}

/// Runs a node until SIGTERM or SIGINT, or until something makes it impossible to go on.
pub fn serve(config: Config) -> Result<(), ServeError> {
    logger::init(config.node, config.log_level);
    server::Server::start(config)?.run()
}
