//! The configuration of a node: one TOML file, the same for all nodes of a cluster, plus what the
//! command line overrides. Checked once, here; nobody behind re-checks it.
//!
//! `systemd/loggos.toml` is the reference of every key. Tests hold it to this file: it parses, names
//! every key, and gives the true defaults and ranges.
//!
//! The table is read by hand and not by derive, so that every error can name the file, the key, its
//! value and what is allowed, all in one line.

mod section;
#[cfg(test)]
mod tests;

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::Table;

use crate::limits::{
    ALPHA_SLOTS, CLIENTS_MAX_DEFAULT, NODES_MAX, SNAPSHOT_KEEP_SLOTS_DEFAULT,
    SNAPSHOT_LOG_SIZE_DEFAULT, SNAPSHOT_TRANSFER_BYTES_S_DEFAULT, WAL_SEGMENT_SIZE_DEFAULT,
    WAL_SEGMENT_SIZE_MIN, WINDOW_SLOTS_DEFAULT,
};
use crate::paxos::{Addresses, Configuration, LeaseConfig, NodeId, Optimisations, ReadWay, Roles};
use crate::store::EngineChoice;
use crate::wire::ClusterId;

use section::{Section, override_path, syntax_error};

const NODE_IDS: RangeInclusive<u64> = 1..=u16::MAX as u64;
const QUORUM_SIZES: RangeInclusive<u64> = 1..=NODES_MAX as u64;
const CLUSTER_NAME_SIZE_MAX: usize = 64;
const ELECTION_TIMEOUT_MS: RangeInclusive<u64> = 10..=60_000;
const ELECTION_TIMEOUT_MS_DEFAULT: u64 = 100;
const REQUEST_TIMEOUT_MS: RangeInclusive<u64> = 100..=600_000;
const REQUEST_TIMEOUT_MS_DEFAULT: u64 = 5_000;
const LEASE_MS: RangeInclusive<u64> = 0..=10_000;
const CLOCK_ERROR_PERMILLE: RangeInclusive<u64> = 1..=500;
const CLOCK_ERROR_PERMILLE_DEFAULT: u64 = 10;
const SEGMENT_MIB: RangeInclusive<u64> = 8..=1_024;
const SNAPSHOT_LOG_MIB: RangeInclusive<u64> = 1..=1_048_576;
const SNAPSHOT_TRANSFER_MIB_S: RangeInclusive<u64> = 1..=10_000;
const SNAPSHOT_KEEP_SLOTS: RangeInclusive<u64> = 0..=1_000_000_000;
const STORE_CACHE_MIB: RangeInclusive<u64> = 8..=1_048_576;
const STORE_CACHE_MIB_DEFAULT: u64 = 64;
const CLIENTS: RangeInclusive<u64> = 1..=65_536;
const WINDOW_SLOTS: RangeInclusive<u64> = 1..=ALPHA_SLOTS as u64;
const MIB: u64 = 1024 * 1024;

/// Every section of the file with its keys; the first is what stands before all sections.
const KEYS: [(&str, &[&str]); 10] = [
    (
        "",
        &[
            "cluster",
            "node",
            "data_dir",
            "join",
            "log_level",
            "trace",
            "nodes",
            "timing",
            "quorum",
            "reads",
            "wal",
            "snapshot",
            "store",
            "limits",
            "optimisations",
        ],
    ),
    ("nodes", &["id", "peer_address", "client_address", "roles"]),
    ("timing", &["election_timeout_ms", "request_timeout_ms"]),
    ("quorum", &["phase1", "phase2"]),
    ("reads", &["way", "lease_ms", "clock_error_permille"]),
    ("wal", &["segment_mib", "sync"]),
    ("snapshot", &["log_mib", "keep_slots", "transfer_mib_s"]),
    ("store", &["engine", "cache_mib", "compress"]),
    ("limits", &["clients_max", "window_slots"]),
    ("optimisations", &["batching", "phase1_skip", "group_commit", "quorum_connected_election"]),
];

const _: () = assert!(*SEGMENT_MIB.start() * MIB == WAL_SEGMENT_SIZE_MIN);
const _: () = assert!(WAL_SEGMENT_SIZE_DEFAULT.is_multiple_of(MIB));
const _: () = assert!(SNAPSHOT_LOG_SIZE_DEFAULT.is_multiple_of(MIB));

/// A checked configuration of one node.
#[derive(Clone, Debug)]
pub struct Config {
    pub cluster_name: String,
    pub cluster: ClusterId,
    pub node: NodeId,
    pub data_dir: PathBuf,
    pub nodes: Vec<NodeConfig>,
    /// The node comes to a cluster that exists: it asks the other nodes who is in it.
    pub join: bool,
    /// What `nodes` and the sizes of quorums say: the configuration that a new cluster begins with. Where the
    /// data directory knows better, it is not used.
    pub configuration: Configuration,
    /// How long a silent peer is taken to be alive, at least: two heartbeat rounds.
    pub election_timeout_us: u64,
    /// How long a command or read may wait at a replica before its client is told.
    pub request_timeout_us: u64,
    /// How linearizable reads are served where the client does not say.
    pub reads_way: ReadWay,
    pub lease: LeaseConfig,
    /// Slots that a leader may have proposed and not yet chosen.
    pub window_slots: usize,
    /// All on, but in the laboratory.
    pub optimisations: Optimisations,
    /// False only in the laboratory: a sync for each value accepted.
    pub group_commit: bool,
    pub wal_segment_size: u64,
    /// False only in the laboratory: acknowledge without waiting for the disk.
    pub wal_sync: bool,
    /// Bytes by which the log grows until a snapshot is taken.
    pub snapshot_log_size: u64,
    /// Slots that are kept in the log behind the newest snapshot, at least.
    pub snapshot_keep_slots: u64,
    /// How fast snapshots are sent to peers that lag, to all of them together, in bytes a second.
    pub snapshot_transfer_bytes_s: u64,
    /// Where the keys lie.
    pub engine: EngineChoice,
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

/// What the command line says instead of the file.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// `--node`
    pub node: Option<u16>,
    /// `--data-dir`
    pub data_dir: Option<PathBuf>,
    /// `--trace`
    pub trace: Option<PathBuf>,
    /// `--log-level`
    pub log_level: Option<String>,
}

/// What is wrong with the configuration and what to do, in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError(String);

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Config, ConfigError> {
        let (origin, text) = read(path)?;
        Config::parse(&text, &origin, overrides)
    }

    /// The client addresses of all nodes in the file at `path`: all that a client needs of it, so it
    /// does not have to say which node it is for.
    pub fn client_addresses(path: &Path) -> Result<Vec<SocketAddr>, ConfigError> {
        let (origin, text) = read(path)?;
        let table = text.parse::<Table>().map_err(|error| syntax_error(&origin, &text, &error))?;
        let nodes = Section::new(&origin, "", String::new(), table)?.nodes()?;
        Ok(nodes.iter().map(|node| node.client_address).collect())
    }

    /// Checks the configuration in `text`. `origin` says in errors where it is from.
    pub fn parse(text: &str, origin: &str, overrides: &Overrides) -> Result<Config, ConfigError> {
        let table = text.parse::<Table>().map_err(|error| syntax_error(origin, text, &error))?;
        let mut root = Section::new(origin, "", String::new(), table)?;

        let cluster_name = root.cluster_name()?;
        let nodes = root.nodes()?;
        let node = root.node(overrides.node, &nodes)?;
        let data_dir = root.data_dir(overrides.data_dir.as_deref())?;
        let join = root.join(&nodes)?;
        let trace = root.path("trace")?;
        let trace = override_path("--trace", overrides.trace.as_deref())?.or(trace);
        let log_level = root.log_level(overrides.log_level.as_deref())?;

        let (election_timeout_ms, request_timeout_ms) = root.section("timing")?.timeouts_ms()?;
        let initial = root.section("quorum")?.configuration(&nodes)?;
        let configuration = if join { provisional(node, &nodes) } else { initial };
        let (reads_way, lease) = root.section("reads")?.reads(election_timeout_ms)?;
        let mut wal = root.section("wal")?;
        let segment_mib =
            wal.integer("segment_mib", &SEGMENT_MIB, WAL_SEGMENT_SIZE_DEFAULT / MIB)?;
        let wal_sync = wal.boolean("sync", true)?;
        let mut snapshot = root.section("snapshot")?;
        let log_mib_default = SNAPSHOT_LOG_SIZE_DEFAULT / MIB;
        let snapshot_log_mib = snapshot.integer("log_mib", &SNAPSHOT_LOG_MIB, log_mib_default)?;
        let snapshot_keep_slots =
            snapshot.integer("keep_slots", &SNAPSHOT_KEEP_SLOTS, SNAPSHOT_KEEP_SLOTS_DEFAULT)?;
        let transfer_default = SNAPSHOT_TRANSFER_BYTES_S_DEFAULT / MIB;
        let snapshot_transfer_mib_s =
            snapshot.integer("transfer_mib_s", &SNAPSHOT_TRANSFER_MIB_S, transfer_default)?;
        let engine = root.section("store")?.engine()?;
        let mut limits = root.section("limits")?;
        let clients_max = limits.integer("clients_max", &CLIENTS, CLIENTS_MAX_DEFAULT as u64)?;
        let window_slots =
            limits.integer("window_slots", &WINDOW_SLOTS, WINDOW_SLOTS_DEFAULT as u64)?;
        let mut switches = root.section("optimisations")?;
        let optimisations = Optimisations {
            batching: switches.boolean("batching", true)?,
            phase1_skip: switches.boolean("phase1_skip", true)?,
            quorum_connected_election: switches.boolean("quorum_connected_election", true)?,
        };
        let group_commit = switches.boolean("group_commit", true)?;

        Ok(Config {
            cluster: ClusterId::of_name(&cluster_name),
            cluster_name,
            node,
            data_dir,
            nodes,
            join,
            configuration,
            election_timeout_us: election_timeout_ms * 1_000,
            request_timeout_us: request_timeout_ms * 1_000,
            reads_way,
            lease,
            window_slots: window_slots as usize,
            optimisations,
            group_commit,
            wal_segment_size: segment_mib * MIB,
            wal_sync,
            snapshot_log_size: snapshot_log_mib * MIB,
            snapshot_keep_slots,
            snapshot_transfer_bytes_s: snapshot_transfer_mib_s * MIB,
            engine,
            clients_max: clients_max as usize,
            trace,
            log_level,
        })
    }
}

/// What a node that joins goes by until it hears of the cluster's configuration.
fn provisional(me: NodeId, nodes: &[NodeConfig]) -> Configuration {
    let place = |node: &NodeConfig| {
        (node.id, Addresses { peer: node.peer_address, client: node.client_address })
    };
    let own = nodes.iter().find(|node| node.id == me).map(place).expect("checked");
    let seeds = nodes.iter().filter(|node| node.id != me).map(place).collect();
    Configuration::provisional(own, seeds).expect("there is a seed, and ids are unique")
}

fn read(path: &Path) -> Result<(String, String), ConfigError> {
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| {
        ConfigError::new(format!("{origin}: the configuration cannot be read: {error}"))
    })?;
    Ok((origin, text))
}

impl ConfigError {
    /// One line, whatever bytes the file holds.
    fn new(message: impl fmt::Display) -> ConfigError {
        let mut line = String::new();
        for c in message.to_string().chars() {
            if c.is_control() { line.extend(c.escape_default()) } else { line.push(c) }
        }
        ConfigError(line)
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ConfigError {}
