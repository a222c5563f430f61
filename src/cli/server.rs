//! The commands that are the server's own: `serve` and `wal inspect`, and what a cluster's
//! configuration tells clients.
//!
//! Everything that the command line needs of `driver`, `wal` and `config` is called here and nowhere
//! else.

use std::net::SocketAddr;
use std::path::Path;

use super::Failure;
use super::args::ServeArgs;

/// Runs a node until it is told to stop.
#[allow(clippy::needless_pass_by_value)] // The overrides will take these fields.
pub fn serve(args: ServeArgs) -> Result<(), Failure> {
    Err(not_joined(&format!("serve with {}", args.config.display())))
}

/// The client addresses of all nodes of a cluster.
pub fn client_addresses(path: &Path) -> Result<Vec<SocketAddr>, Failure> {
    Err(not_joined(&format!("take addresses from {}", path.display())))
}

/// Lists a log on standard output.
pub fn inspect(dir: &Path) -> Result<(), Failure> {
    Err(not_joined(&format!("inspect {}", dir.display())))
}

/// Until the server is joined to the command line.
fn not_joined(what: &str) -> Failure {
    Failure::usage(format!("this build cannot {what}: it has no server"))
}
