//! The commands that are the server's own: `serve` and `wal inspect`, and what a cluster's
//! configuration tells clients.
//!
//! Everything that the command line needs of `driver`, `wal` and `config` is called here and nowhere
//! else.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{Config, ConfigError, Overrides};
use crate::driver::{self, ServeError};
use crate::limits::{ALPHA_SLOTS, WAL_SEGMENT_SIZE_MIN};
#[cfg(feature = "mutants")]
use crate::mutants::{self, Mutant};
use crate::paxos::{Configuration, Configurations, Slot};
use crate::snapshot::SnapshotError;
use crate::store::EngineChoice;
use crate::wal::{self, Identity, Options, Verdict, Wal, WalError};

use super::args::{IdentityArgs, ServeArgs};
use super::{Failure, code};

/// Runs a node until it is told to stop.
pub fn serve(args: ServeArgs) -> Result<(), Failure> {
    let overrides = Overrides {
        node: args.node,
        data_dir: args.data_dir,
        trace: args.trace,
        log_level: args.log_level,
    };
    let config = Config::load(&args.config, &overrides)?;
    #[cfg(feature = "mutants")]
    if let Ok(name) = std::env::var("LOGGOS_MUTANT") {
        mutants::switch_on(Mutant::by_name(&name));
    }
    driver::serve(config).map_err(|error| {
        let code = match &error {
            ServeError::Wal(error) => code_of(error),
            ServeError::Snapshot(error) => snapshot_code(error),
            ServeError::SlotMissing { .. }
            | ServeError::LogTooShort { .. }
            | ServeError::LogForeign { .. }
            | ServeError::ConfigurationsDamaged { .. } => code::CHECK,
            ServeError::ConfigurationsIo { .. } => code::DISK,
            ServeError::Forgotten { .. } => code::USAGE,
            ServeError::Listen { .. } | ServeError::Io { .. } => code::DEFINITE,
        };
        Failure { code, message: error.to_string() }
    })
}

/// The client addresses of all nodes of a cluster.
pub fn client_addresses(path: &Path) -> Result<Vec<SocketAddr>, Failure> {
    Ok(Config::client_addresses(path)?)
}

/// What a configuration says of the node whose data directory is to be made.
pub struct Restored {
    pub cluster_name: String,
    pub identity: Identity,
    pub data_dir: PathBuf,
    pub engine: EngineChoice,
    configuration: Configuration,
}

pub fn restored(args: &IdentityArgs) -> Result<Restored, Failure> {
    let overrides =
        Overrides { node: args.node, data_dir: args.data_dir.clone(), ..Overrides::default() };
    let config = Config::load(&args.config, &overrides)?;
    Ok(Restored {
        cluster_name: config.cluster_name,
        identity: Identity { cluster: config.cluster, node: config.node },
        data_dir: config.data_dir,
        engine: config.engine,
        configuration: config.configuration,
    })
}

impl Restored {
    /// The configurations of the new cluster behind slot `applied`: the one that it begins with.
    pub fn configurations(&self, applied: Slot) -> Arc<[u8]> {
        let initial = self.configuration.clone();
        Configurations::restored(initial, ALPHA_SLOTS, applied).to_bytes().into()
    }
}

/// Whether a directory is a node's.
pub fn is_data_dir(dir: &Path) -> bool {
    wal::meta::path_in(dir).exists()
}

/// Begins an empty log.
pub fn create_log(dir: &Path, identity: Identity) -> Result<(), Failure> {
    let options = Options { segment_size: WAL_SEGMENT_SIZE_MIN, sync: true };
    let opened = Wal::open(dir, identity, options, Box::new(|| {}), &mut |_, _| {});
    opened.map_err(|error| wal_failure(&error))?;
    Ok(())
}

/// What is wrong with a snapshot, behind where it is from.
pub fn snapshot_failure(error: &SnapshotError, origin: &str) -> Failure {
    Failure { code: snapshot_code(error), message: format!("{origin}: {error}") }
}

/// Lists a log on standard output.
pub fn inspect(dir: &Path) -> Result<(), Failure> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    let verdict =
        wal::inspect(dir, &mut out).and_then(|verdict| match io::Write::flush(&mut out) {
            Ok(()) => Ok(verdict),
            Err(error) => {
                Err(WalError::Io { doing: "write to", path: "standard output".into(), error })
            }
        });
    match verdict {
        Ok(Verdict::Clean | Verdict::TornTail { .. }) => Ok(()),
        // The listing has said what and where.
        Ok(Verdict::Damaged { .. } | Verdict::Refused { .. }) => {
            Err(Failure { code: code::CHECK, message: String::new() })
        }
        Err(WalError::Io { error, .. }) if error.kind() == io::ErrorKind::BrokenPipe => {
            Err(Failure::output(&error))
        }
        // A mistyped path is not a disk that failed.
        Err(WalError::Io { error, .. }) if error.kind() == io::ErrorKind::NotFound => {
            let dir = dir.display();
            Err(Failure::usage(format!("{dir} is no data directory: it holds no log of a node")))
        }
        Err(error) => Err(wal_failure(&error)),
    }
}

/// The exit code of a snapshot that cannot be written or read.
fn snapshot_code(error: &SnapshotError) -> u8 {
    match error {
        SnapshotError::Read(error) if error.kind() == io::ErrorKind::UnexpectedEof => code::CHECK,
        SnapshotError::Io { .. } | SnapshotError::Read(_) | SnapshotError::Write(_) => code::DISK,
        SnapshotError::Foreign { .. } | SnapshotError::NewerVersion { .. } => code::USAGE,
        SnapshotError::Damaged { .. }
        | SnapshotError::StateDamaged
        | SnapshotError::Checkpoint { .. }
        | SnapshotError::Linked
        | SnapshotError::NoneUsable { .. } => code::CHECK,
    }
}

/// What is wrong with a log, or its disk.
pub fn wal_failure(error: &WalError) -> Failure {
    Failure { code: code_of(error), message: error.to_string() }
}

fn code_of(error: &WalError) -> u8 {
    match error {
        WalError::Io { .. } | WalError::DiskFull { .. } | WalError::SyncFailed { .. } => code::DISK,
        WalError::Locked { .. } => code::DEFINITE,
        WalError::Foreign { .. }
        | WalError::NewerVersion { .. }
        | WalError::TooLarge { .. }
        | WalError::BadOption { .. } => code::USAGE,
        WalError::MetaDamaged { .. }
        | WalError::MetaMissing { .. }
        | WalError::LogMissing { .. }
        | WalError::SegmentMissing { .. }
        | WalError::SegmentTruncated { .. }
        | WalError::Damaged { .. } => code::CHECK,
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::usage(error.to_string())
    }
}
