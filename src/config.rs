//! The configuration of a node: one TOML file, the same for all nodes of a cluster, plus what the
//! command line overrides. Checked once, here; nobody behind re-checks it.
//!
//! `systemd/loggos.toml` is the reference of every key. Tests hold it to this file: it parses, names
//! every key, and gives the true defaults and ranges.
//!
//! The table is read by hand and not by derive, so that every error can name the file, the key, its
//! value and what is allowed, all in one line.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::limits::{
    ACCEPTOR_AHEAD_SLOTS_MAX, CLIENTS_MAX_DEFAULT, NODES_MAX, WAL_SEGMENT_SIZE_DEFAULT,
    WAL_SEGMENT_SIZE_MIN, WINDOW_SLOTS_DEFAULT,
};
use crate::paxos::{Member, Membership, NodeId, Roles};
use crate::wire::ClusterId;

const NODE_IDS: RangeInclusive<u64> = 1..=u16::MAX as u64;
const QUORUM_SIZES: RangeInclusive<u64> = 1..=NODES_MAX as u64;
const CLUSTER_NAME_SIZE_MAX: usize = 64;
const ELECTION_TIMEOUT_MS: RangeInclusive<u64> = 10..=60_000;
const ELECTION_TIMEOUT_MS_DEFAULT: u64 = 100;
const REQUEST_TIMEOUT_MS: RangeInclusive<u64> = 100..=600_000;
const REQUEST_TIMEOUT_MS_DEFAULT: u64 = 5_000;
const SEGMENT_MIB: RangeInclusive<u64> = 8..=1_024;
const CLIENTS: RangeInclusive<u64> = 1..=65_536;
const WINDOW_SLOTS: RangeInclusive<u64> = 1..=1_024;
const MIB: u64 = 1024 * 1024;

/// Every section of the file with its keys; the first is what stands before all sections.
const KEYS: [(&str, &[&str]); 6] = [
    (
        "",
        &[
            "cluster",
            "node",
            "data_dir",
            "log_level",
            "trace",
            "nodes",
            "timing",
            "quorum",
            "wal",
            "limits",
        ],
    ),
    ("nodes", &["id", "peer_address", "client_address", "roles"]),
    ("timing", &["election_timeout_ms", "request_timeout_ms"]),
    ("quorum", &["phase1", "phase2"]),
    ("wal", &["segment_mib", "sync"]),
    ("limits", &["clients_max", "window_slots"]),
];

const _: () = assert!(*SEGMENT_MIB.start() * MIB == WAL_SEGMENT_SIZE_MIN);
const _: () = assert!(WAL_SEGMENT_SIZE_DEFAULT % MIB == 0);
const _: () = assert!(
    *WINDOW_SLOTS.end() <= ACCEPTOR_AHEAD_SLOTS_MAX as u64,
    "an acceptor must take what a leader may have in flight"
);

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
        let trace = root.path("trace")?;
        let trace = override_path("--trace", overrides.trace.as_deref())?.or(trace);
        let log_level = root.log_level(overrides.log_level.as_deref())?;

        let (election_timeout_ms, request_timeout_ms) = root.section("timing")?.timeouts_ms()?;
        let membership = root.section("quorum")?.membership(&nodes)?;
        let mut wal = root.section("wal")?;
        let segment_mib =
            wal.integer("segment_mib", &SEGMENT_MIB, WAL_SEGMENT_SIZE_DEFAULT / MIB)?;
        let wal_sync = wal.boolean("sync", true)?;
        let mut limits = root.section("limits")?;
        let clients_max = limits.integer("clients_max", &CLIENTS, CLIENTS_MAX_DEFAULT as u64)?;
        let window_slots =
            limits.integer("window_slots", &WINDOW_SLOTS, WINDOW_SLOTS_DEFAULT as u64)?;

        Ok(Config {
            cluster: ClusterId::of_name(&cluster_name),
            cluster_name,
            node,
            data_dir,
            nodes,
            membership,
            election_timeout_us: election_timeout_ms * 1_000,
            request_timeout_us: request_timeout_ms * 1_000,
            window_slots: window_slots as usize,
            wal_segment_size: segment_mib * MIB,
            wal_sync,
            clients_max: clients_max as usize,
            trace,
            log_level,
        })
    }
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

/// A table of the file that is being read: each key is taken out of it once.
struct Section<'a> {
    origin: &'a str,
    /// Its name in `KEYS`.
    name: &'static str,
    /// What stands before a key in errors.
    prefix: String,
    table: Table,
}

impl<'a> Section<'a> {
    /// Refuses keys that the section does not have: a key misspelt would be a default unnoticed.
    fn new(
        origin: &'a str,
        name: &'static str,
        prefix: String,
        table: Table,
    ) -> Result<Section<'a>, ConfigError> {
        let section = Section { origin, name, prefix, table };
        let known = section.known();
        if let Some((key, value)) = section.table.iter().find(|(k, _)| !known.contains(&&k[..])) {
            let what = format!("is no key here; the keys are {}", known.join(", "));
            return Err(section.bad(key, value, what));
        }
        Ok(section)
    }

    fn known(&self) -> &'static [&'static str] {
        let section = KEYS.iter().find(|(name, _)| *name == self.name);
        section.expect("every section that is read stands in KEYS").1
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        assert!(self.known().contains(&key), "{key} is read but does not stand in KEYS");
        self.table.remove(key)
    }

    fn bad(&self, key: &str, value: impl fmt::Display, what: impl fmt::Display) -> ConfigError {
        let value = excerpt(&value.to_string());
        ConfigError::new(format!("{}: {}{key} = {value}: {what}", self.origin, self.prefix))
    }

    fn missing(&self, key: &str, what: &str) -> ConfigError {
        ConfigError::new(format!("{}: {}{key} is missing: {what}", self.origin, self.prefix))
    }

    /// The table under `name`, which may be left out.
    fn section(&mut self, name: &'static str) -> Result<Section<'a>, ConfigError> {
        let table = match self.take(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                return Err(self.bad(name, other, format!("must be a table, [{name}]")));
            }
        };
        Section::new(self.origin, name, format!("{name}."), table)
    }

    fn optional_integer(
        &mut self,
        key: &'static str,
        range: &RangeInclusive<u64>,
    ) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        let integer = value.as_integer().and_then(|integer| u64::try_from(integer).ok());
        match integer.filter(|integer| range.contains(integer)) {
            Some(integer) => Ok(Some(integer)),
            None => Err(self.bad(key, value, must_be_in(range))),
        }
    }

    fn integer(
        &mut self,
        key: &'static str,
        range: &RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, ConfigError> {
        Ok(self.optional_integer(key, range)?.unwrap_or(default))
    }

    fn boolean(&mut self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Boolean(value)) => Ok(value),
            Some(other) => Err(self.bad(key, other, "must be true or false")),
        }
    }

    fn string(&mut self, key: &'static str) -> Result<Option<String>, ConfigError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.bad(key, other, "must be a string, in quotes")),
        }
    }

    fn path(&mut self, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        match self.string(key)? {
            Some(path) if path.is_empty() => {
                Err(self.bad(key, "\"\"", "must be a path, not empty"))
            }
            path => Ok(path.map(PathBuf::from)),
        }
    }

    fn cluster_name(&mut self) -> Result<String, ConfigError> {
        let what =
            format!("must be 1 to {CLUSTER_NAME_SIZE_MAX} letters, digits or signs, no space");
        let Some(name) = self.string("cluster")? else {
            return Err(self.missing("cluster", "name the cluster, the same at all its nodes"));
        };
        let fits = (1..=CLUSTER_NAME_SIZE_MAX).contains(&name.len());
        if !fits || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(self.bad("cluster", Value::String(name), what));
        }
        Ok(name)
    }

    /// Which of the nodes this one is. Where the command line says so, the file need not.
    fn node(&mut self, given: Option<u16>, nodes: &[NodeConfig]) -> Result<NodeId, ConfigError> {
        let in_file = self.optional_integer("node", &NODE_IDS)?;
        let id = given.map(u64::from).or(in_file);
        let id = id.ok_or_else(|| {
            self.missing("node", "say which of the nodes this is, here or by --node")
        })?;
        if let Some(node) = nodes.iter().find(|node| u64::from(node.id.0) == id) {
            return Ok(node.id);
        }
        let ids: Vec<String> = nodes.iter().map(|node| node.id.0.to_string()).collect();
        let what = format!("must be the id of one of the [[nodes]]: {}", ids.join(", "));
        Err(match given {
            Some(id) => ConfigError::new(format!("--node {id}: {what} ({})", self.origin)),
            None => self.bad("node", id, what),
        })
    }

    fn data_dir(&mut self, given: Option<&Path>) -> Result<PathBuf, ConfigError> {
        let in_file = self.path("data_dir")?;
        let dir = override_path("--data-dir", given)?.or(in_file);
        dir.ok_or_else(|| {
            self.missing("data_dir", "name the directory of the node's log, here or by --data-dir")
        })
    }

    fn log_level(&mut self, given: Option<&str>) -> Result<log::LevelFilter, ConfigError> {
        const WHAT: &str = "must be error, warn, info, debug or trace";
        let level = |name: &str| match name {
            "error" => Some(log::LevelFilter::Error),
            "warn" => Some(log::LevelFilter::Warn),
            "info" => Some(log::LevelFilter::Info),
            "debug" => Some(log::LevelFilter::Debug),
            "trace" => Some(log::LevelFilter::Trace),
            _ => None,
        };
        let in_file = match self.string("log_level")? {
            None => log::LevelFilter::Info,
            Some(name) => {
                level(&name).ok_or_else(|| self.bad("log_level", Value::String(name), WHAT))?
            }
        };
        let Some(given) = given else { return Ok(in_file) };
        level(given)
            .ok_or_else(|| ConfigError::new(format!("--log-level {}: {WHAT}", excerpt(given))))
    }

    /// The election timeout and the request timeout.
    fn timeouts_ms(mut self) -> Result<(u64, u64), ConfigError> {
        let election =
            self.integer("election_timeout_ms", &ELECTION_TIMEOUT_MS, ELECTION_TIMEOUT_MS_DEFAULT)?;
        let request =
            self.integer("request_timeout_ms", &REQUEST_TIMEOUT_MS, REQUEST_TIMEOUT_MS_DEFAULT)?;
        // A request that cannot outlive an election would fail at every change of the leader.
        if request < 2 * election {
            let what = format!(
                "must be at least twice timing.election_timeout_ms ({election}): set it to {} or more",
                2 * election
            );
            return Err(self.bad("request_timeout_ms", request, what));
        }
        Ok((election, request))
    }

    fn membership(mut self, nodes: &[NodeConfig]) -> Result<Membership, ConfigError> {
        let members: Vec<Member> =
            nodes.iter().map(|node| Member { node: node.id, roles: node.roles }).collect();
        let phase1 = self.optional_integer("phase1", &QUORUM_SIZES)?;
        let phase2 = self.optional_integer("phase2", &QUORUM_SIZES)?;
        // Majorities always fit: what is wrong even with them is wrong with the nodes.
        let majorities = Membership::new(members.clone(), None, None).map_err(|why| {
            ConfigError::new(format!(
                "{}: nodes: {why}: change the roles in [[nodes]]",
                self.origin
            ))
        })?;
        let sizes: Vec<String> = [("phase1", phase1), ("phase2", phase2)]
            .iter()
            .filter_map(|(key, size)| size.map(|size| format!("quorum.{key} = {size}")))
            .collect();
        if sizes.is_empty() {
            return Ok(majorities);
        }
        let size = |size: Option<u64>| size.map(|size| size as usize);
        Membership::new(members, size(phase1), size(phase2)).map_err(|why| {
            ConfigError::new(format!(
                "{}: {}: {why}: change the sizes, or leave both out for majorities",
                self.origin,
                sizes.join(", ")
            ))
        })
    }

    fn nodes(&mut self) -> Result<Vec<NodeConfig>, ConfigError> {
        let entries = match self.take("nodes") {
            None => Vec::new(),
            Some(Value::Array(entries)) => entries,
            Some(other) => return Err(self.bad("nodes", other, "must be tables, [[nodes]]")),
        };
        if entries.is_empty() {
            return Err(
                self.missing("nodes", "list every node of the cluster, each in a [[nodes]]")
            );
        }
        if NODES_MAX < entries.len() {
            let what = format!("a cluster has at most {NODES_MAX} nodes");
            return Err(self.bad("nodes", format!("[{} entries]", entries.len()), what));
        }
        let (mut ids, mut addresses) = (BTreeMap::new(), BTreeMap::new());
        let mut nodes = Vec::with_capacity(entries.len());
        for (index, entry) in entries.into_iter().enumerate() {
            // An entry is named by its place, for its id may be what is wrong.
            let place = index + 1;
            let Value::Table(table) = entry else {
                return Err(self.bad("nodes", entry, "must be tables, [[nodes]]"));
            };
            let mut entry =
                Section::new(self.origin, "nodes", format!("[[nodes]] number {place}: "), table)?;
            let id = entry.integer_required("id", &NODE_IDS)?;
            if let Some(other) = ids.insert(id, place) {
                let what = format!("is the id of number {other} too: every node needs its own");
                return Err(entry.bad("id", id, what));
            }
            let [peer_address, client_address] =
                ["peer_address", "client_address"].map(|key| entry.address(key, &mut addresses));
            nodes.push(NodeConfig {
                id: NodeId(id as u16),
                peer_address: peer_address?,
                client_address: client_address?,
                roles: entry.roles()?,
            });
        }
        Ok(nodes)
    }

    fn integer_required(
        &mut self,
        key: &'static str,
        range: &RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let integer = self.optional_integer(key, range)?;
        integer.ok_or_else(|| self.missing(key, &must_be_in(range)))
    }

    /// An address that no other key has; `taken` tells which key has which.
    fn address(
        &mut self,
        key: &'static str,
        taken: &mut BTreeMap<SocketAddr, String>,
    ) -> Result<SocketAddr, ConfigError> {
        const WHAT: &str = "must be IP:port, such as 10.0.0.1:7400 or [fd00::1]:7400; host names are \
                            not looked up";
        let text = self.string(key)?.ok_or_else(|| self.missing(key, WHAT))?;
        let shown = Value::String(text.clone());
        let Ok(address) = text.parse::<SocketAddr>() else {
            return Err(self.bad(key, shown, WHAT));
        };
        if address.port() == 0 {
            return Err(self.bad(key, shown, "must have a port from 1 to 65535"));
        }
        if address.ip().is_unspecified() {
            let what = "must be the address under which others reach the node, not all addresses";
            return Err(self.bad(key, shown, what));
        }
        if let Some(other) = taken.insert(address, format!("{}{key}", self.prefix)) {
            let what = format!("is used by {other} too: every address needs a port of its own");
            return Err(self.bad(key, shown, what));
        }
        Ok(address)
    }

    fn roles(&mut self) -> Result<Roles, ConfigError> {
        const WHAT: &str =
            "must list one or more of \"acceptor\", \"leader\", \"replica\", each once";
        let Some(value) = self.take("roles") else { return Ok(Roles::ALL) };
        let mut roles = Roles { acceptor: false, leader: false, replica: false };
        let names = value.as_array().filter(|names| !names.is_empty());
        for name in names.ok_or_else(|| self.bad("roles", &value, WHAT))? {
            let role = match name.as_str() {
                Some("acceptor") => &mut roles.acceptor,
                Some("leader") => &mut roles.leader,
                Some("replica") => &mut roles.replica,
                _ => return Err(self.bad("roles", &value, WHAT)),
            };
            if std::mem::replace(role, true) {
                return Err(self.bad("roles", &value, WHAT));
            }
        }
        Ok(roles)
    }
}

fn override_path(flag: &str, given: Option<&Path>) -> Result<Option<PathBuf>, ConfigError> {
    if given.is_some_and(|path| path.as_os_str().is_empty()) {
        return Err(ConfigError::new(format!("{flag} \"\": must be a path, not empty")));
    }
    Ok(given.map(Path::to_path_buf))
}

fn must_be_in(range: &RangeInclusive<u64>) -> String {
    format!("must be {} to {}", range.start(), range.end())
}

/// What the TOML reader found, with the number of the line and without its drawing of it.
fn syntax_error(origin: &str, text: &str, error: &toml::de::Error) -> ConfigError {
    let line = error.span().and_then(|span| text.get(..span.start)).map_or_else(
        || "line unknown".to_string(),
        |before| format!("line {}", 1 + before.matches('\n').count()),
    );
    ConfigError::new(format!("{origin}: {line}: no valid TOML: {}", error.message()))
}

/// The beginning of a long value: enough to find it by.
fn excerpt(value: &str) -> String {
    const CHARS_MAX: usize = 80;
    match value.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../systemd/loggos.toml");

    const MINIMAL: &str = r#"
        cluster = "demo"
        node = 1
        data_dir = "/data"
        [[nodes]]
        id = 1
        peer_address = "10.0.0.1:7400"
        client_address = "10.0.0.1:7401"
    "#;

    fn parse(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text, "loggos.toml", &Overrides::default())
    }

    /// The error of a text, which must be one line that begins with the file.
    fn error(text: &str) -> String {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.starts_with("loggos.toml: ") && error.lines().count() == 1, "{error}");
        error
    }

    /// The minimal file with `lines` in their sections.
    fn minimal_with(lines: &str) -> String {
        format!("{MINIMAL}{lines}\n")
    }

    /// A file of `n` nodes with `entry` added to each.
    fn nodes(n: usize, entry: &str) -> String {
        let mut text = String::from("cluster = \"demo\"\nnode = 1\ndata_dir = \"/data\"\n");
        for id in 1..=n {
            text += &format!(
                "[[nodes]]\nid = {id}\npeer_address = \"10.0.0.{id}:7400\"\n\
                 client_address = \"10.0.0.{id}:7401\"\n{entry}\n"
            );
        }
        text
    }

    /// The example with the keys that stand in it as comments: `#key = value`, no space.
    fn example_in_full() -> String {
        let uncomment = |line: &str| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_lowercase()) => rest.to_string(),
            _ => line.to_string(),
        };
        EXAMPLE.lines().map(uncomment).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn a_minimal_file_gets_the_defaults() {
        let config = parse(MINIMAL).unwrap();
        assert_eq!(config.cluster, ClusterId::of_name("demo"));
        assert_eq!((config.node, config.data_dir.to_str()), (NodeId(1), Some("/data")));
        assert_eq!(config.nodes[0].roles, Roles::ALL);
        assert_eq!((config.election_timeout_us, config.request_timeout_us), (100_000, 5_000_000));
        assert_eq!((config.window_slots, config.clients_max), (256, 4_096));
        assert_eq!((config.wal_segment_size, config.wal_sync), (64 * MIB, true));
        assert_eq!((config.trace, config.log_level), (None, log::LevelFilter::Info));
    }

    #[test]
    fn the_file_is_followed() {
        let config = parse(
            r#"
            cluster = "c"
            node = 7
            data_dir = "d"
            log_level = "debug"
            trace = "t"
            nodes = [
                { id = 7, peer_address = "[::1]:1", client_address = "[::1]:2", roles = ["leader", "acceptor"] },
                { id = 2, peer_address = "10.0.0.2:1", client_address = "10.0.0.2:2" },
            ]
            timing = { election_timeout_ms = 10, request_timeout_ms = 100 }
            quorum = { phase1 = 1 }
            wal = { segment_mib = 8, sync = false }
            limits = { clients_max = 1, window_slots = 1024 }
            "#,
        )
        .unwrap();
        assert_eq!((config.node, config.log_level), (NodeId(7), log::LevelFilter::Debug));
        assert_eq!(config.nodes[0].roles, Roles { replica: false, ..Roles::ALL });
        assert_eq!(config.nodes[0].peer_address, "[::1]:1".parse().unwrap());
        assert_eq!(config.trace.as_deref(), Some(Path::new("t")));
        assert_eq!((config.membership.phase1(), config.membership.phase2()), (1, 2));
        assert_eq!((config.election_timeout_us, config.request_timeout_us), (10_000, 100_000));
        assert_eq!((config.wal_segment_size, config.wal_sync), (8 * MIB, false));
        assert_eq!((config.clients_max, config.window_slots), (1, 1_024));
    }

    #[test]
    fn the_command_line_overrides_the_file() {
        let overrides = Overrides {
            node: Some(2),
            data_dir: Some("/other".into()),
            trace: Some("/trace".into()),
            log_level: Some("warn".into()),
        };
        // What it gives may be left out of the file.
        for drop in ["none", "node = 1\n", "data_dir = \"/data\"\n"] {
            let text = nodes(2, "").replace(drop, "");
            let config = Config::parse(&text, "f", &overrides).unwrap();
            assert_eq!((config.node, config.log_level), (NodeId(2), log::LevelFilter::Warn));
            assert_eq!(config.data_dir, Path::new("/other"));
            assert_eq!(config.trace.as_deref(), Some(Path::new("/trace")));
        }
        let error = |overrides: &Overrides| {
            Config::parse(&nodes(2, ""), "f", overrides).expect_err("must fail").to_string()
        };
        assert_eq!(
            error(&Overrides { node: Some(9), ..overrides.clone() }),
            "--node 9: must be the id of one of the [[nodes]]: 1, 2 (f)"
        );
        assert_eq!(
            error(&Overrides { log_level: Some("loud".into()), ..overrides.clone() }),
            "--log-level loud: must be error, warn, info, debug or trace"
        );
        assert_eq!(
            error(&Overrides { data_dir: Some("".into()), ..overrides }),
            "--data-dir \"\": must be a path, not empty"
        );
    }

    #[test]
    fn errors_name_the_key_the_value_and_what_is_allowed() {
        for (lines, expected) in [
            (
                "[timing]\nelection_timeout_ms = 0",
                "timing.election_timeout_ms = 0: must be 10 to 60000",
            ),
            (
                "[timing]\nelection_timeout_ms = 60001",
                "timing.election_timeout_ms = 60001: must be 10 to 60000",
            ),
            (
                "[timing]\nelection_timeout_ms = -5",
                "timing.election_timeout_ms = -5: must be 10 to 60000",
            ),
            (
                "[timing]\nelection_timeout_ms = 50.0",
                "timing.election_timeout_ms = 50.0: must be 10 to 60000",
            ),
            (
                "[timing]\nrequest_timeout_ms = 99",
                "timing.request_timeout_ms = 99: must be 100 to 600000",
            ),
            (
                "[timing]\nelection_timeout_ms = 4000",
                "timing.request_timeout_ms = 5000: must be at least twice timing.election_timeout_ms (4000): set it to 8000 or more",
            ),
            ("[wal]\nsegment_mib = 7", "wal.segment_mib = 7: must be 8 to 1024"),
            ("[wal]\nsync = \"no\"", "wal.sync = \"no\": must be true or false"),
            ("[limits]\nclients_max = 65537", "limits.clients_max = 65537: must be 1 to 65536"),
            ("[limits]\nwindow_slots = 0", "limits.window_slots = 0: must be 1 to 1024"),
            ("[quorum]\nphase1 = 0", "quorum.phase1 = 0: must be 1 to 64"),
            (
                "[quorum]\nphase1 = 2",
                "quorum.phase1 = 2: a phase1 quorum of 2 is impossible with 1 acceptors: change the sizes, or leave both out for majorities",
            ),
            (
                "[timing]\nelection = 1",
                "timing.election = 1: is no key here; the keys are election_timeout_ms, request_timeout_ms",
            ),
            (
                "port = 1",
                "[[nodes]] number 1: port = 1: is no key here; the keys are id, peer_address, client_address, roles",
            ),
            (
                "roles = []",
                "[[nodes]] number 1: roles = []: must list one or more of \"acceptor\", \"leader\", \"replica\", each once",
            ),
            (
                "roles = [\"leader\", \"leader\"]",
                "[[nodes]] number 1: roles = [\"leader\", \"leader\"]: must list one or more of \"acceptor\", \"leader\", \"replica\", each once",
            ),
            (
                "roles = [\"leader\", \"acceptor\"]",
                "nodes: no node has the role replica: change the roles in [[nodes]]",
            ),
        ] {
            assert_eq!(error(&minimal_with(lines)), format!("loggos.toml: {expected}"));
        }
    }

    #[test]
    fn errors_in_the_first_lines_are_told_as_well() {
        for (from, to, expected) in [
            (
                "\"demo\"",
                "\"\"",
                "cluster = \"\": must be 1 to 64 letters, digits or signs, no space",
            ),
            (
                "\"demo\"",
                "\"a b\"",
                "cluster = \"a b\": must be 1 to 64 letters, digits or signs, no space",
            ),
            ("\"demo\"", "5", "cluster = 5: must be a string, in quotes"),
            (
                "cluster = \"demo\"",
                "",
                "cluster is missing: name the cluster, the same at all its nodes",
            ),
            ("node = 1", "", "node is missing: say which of the nodes this is, here or by --node"),
            ("node = 1", "node = 0", "node = 0: must be 1 to 65535"),
            ("node = 1", "node = 2", "node = 2: must be the id of one of the [[nodes]]: 1"),
            (
                "node = 1",
                "clutser = 1",
                "clutser = 1: is no key here; the keys are cluster, node, data_dir, log_level, trace, nodes, timing, quorum, wal, limits",
            ),
            ("node = 1", "node = 1\nwal = 3", "wal = 3: must be a table, [wal]"),
            ("node = 1", "node = 1\ntrace = ''", "trace = \"\": must be a path, not empty"),
            (
                "node = 1",
                "node = 1\nlog_level = 'off'",
                "log_level = \"off\": must be error, warn, info, debug or trace",
            ),
            (
                "data_dir = \"/data\"",
                "",
                "data_dir is missing: name the directory of the node's log, here or by --data-dir",
            ),
            (
                "10.0.0.1:7400",
                "localhost:7400",
                "[[nodes]] number 1: peer_address = \"localhost:7400\": must be IP:port, such as 10.0.0.1:7400 or [fd00::1]:7400; host names are not looked up",
            ),
            (
                "10.0.0.1:7400",
                "10.0.0.1:0",
                "[[nodes]] number 1: peer_address = \"10.0.0.1:0\": must have a port from 1 to 65535",
            ),
            (
                "10.0.0.1:7401",
                "10.0.0.1:0",
                "[[nodes]] number 1: client_address = \"10.0.0.1:0\": must have a port from 1 to 65535",
            ),
            (
                "10.0.0.1:7400",
                "0.0.0.0:7400",
                "[[nodes]] number 1: peer_address = \"0.0.0.0:7400\": must be the address under which others reach the node, not all addresses",
            ),
            (
                "10.0.0.1:7401",
                "10.0.0.1:7400",
                "[[nodes]] number 1: client_address = \"10.0.0.1:7400\": is used by [[nodes]] number 1: peer_address too: every address needs a port of its own",
            ),
            ("id = 1", "id = 65536", "[[nodes]] number 1: id = 65536: must be 1 to 65535"),
            ("id = 1", "", "[[nodes]] number 1: id is missing: must be 1 to 65535"),
        ] {
            assert_eq!(error(&MINIMAL.replace(from, to)), format!("loggos.toml: {expected}"));
        }
        assert_eq!(
            error("cluster = 'c'"),
            "loggos.toml: nodes is missing: list every node of the cluster, each in a [[nodes]]"
        );
    }

    #[test]
    fn nodes_are_distinct_and_not_too_many() {
        assert_eq!(parse(&nodes(NODES_MAX, "")).unwrap().nodes.len(), NODES_MAX);
        assert_eq!(
            error(&nodes(NODES_MAX + 1, "")),
            "loggos.toml: nodes = [65 entries]: a cluster has at most 64 nodes"
        );
        assert_eq!(
            error(&nodes(3, "").replace("id = 3", "id = 1")),
            "loggos.toml: [[nodes]] number 3: id = 1: is the id of number 1 too: every node needs its own"
        );
        assert_eq!(
            error(&nodes(3, "").replace("10.0.0.3:7400", "10.0.0.1:7401")),
            "loggos.toml: [[nodes]] number 3: peer_address = \"10.0.0.1:7401\": is used by \
             [[nodes]] number 1: client_address too: every address needs a port of its own"
        );
    }

    /// Quorums that can miss each other would choose two values for a slot.
    #[test]
    fn quorums_must_meet() {
        let error = error(&(nodes(5, "") + "[quorum]\nphase1 = 2\nphase2 = 3\n"));
        assert!(error.contains("quorum.phase1 = 2, quorum.phase2 = 3: "), "{error}");
        assert!(error.contains("must be more than the 5 acceptors"), "{error}");
        let flexible = parse(&(nodes(5, "") + "[quorum]\nphase1 = 4\nphase2 = 2\n")).unwrap();
        assert_eq!((flexible.membership.phase1(), flexible.membership.phase2()), (4, 2));
    }

    /// Whatever stands in the file, the error is one line: it goes to a log.
    #[test]
    fn errors_are_one_line() {
        let unclosed = error("cluster = \"demo\"\nnode = 1\n[timing\n");
        assert!(unclosed.starts_with("loggos.toml: line 3: no valid TOML: "), "{unclosed}");
        let twice = error("node = 1\nnode = 2\n");
        assert!(twice.starts_with("loggos.toml: line 2: no valid TOML: "), "{twice}");
        error("cluster = \"\"\"a\nb\"\"\"");
        error("\"a\\nb\" = 1");
        error("cluster = \"\\u001b[31m\"");
        error(&format!("cluster = \"{}\"", "long ".repeat(1_000)));
        for cut in 0..MINIMAL.len() - 40 {
            error(&MINIMAL[..cut]);
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let load = |path: &Path| Config::load(path, &Overrides::default());
        for path in [dir.path().join("none.toml"), dir.path().to_path_buf()] {
            let error = load(&path).unwrap_err().to_string();
            let expected = format!("{}: the configuration cannot be read: ", path.display());
            assert!(error.starts_with(&expected), "{error}");
        }
        let path = dir.path().join("loggos.toml");
        std::fs::write(&path, MINIMAL).unwrap();
        assert_eq!(load(&path).unwrap().cluster_name, "demo");
        std::fs::write(&path, b"cluster = \"\xff\"").unwrap();
        assert!(load(&path).unwrap_err().to_string().contains("UTF-8"));
    }

    /// The example is what operators begin with: it works as it stands, its commented keys show the
    /// true defaults, and no key is missing from it.
    #[test]
    fn the_example_is_complete_and_true() {
        let short = parse(EXAMPLE).unwrap();
        let full = example_in_full();
        let mut long = parse(&full).unwrap();
        assert_eq!(long.trace.take().as_deref(), Some(Path::new("/var/lib/loggos/trace")));
        assert_eq!(format!("{short:?}"), format!("{long:?}"));

        let table: Table = full.parse().unwrap();
        for (section, keys) in KEYS {
            let table = match section {
                "" => &table,
                "nodes" => table["nodes"][0].as_table().unwrap(),
                _ => table[section].as_table().unwrap(),
            };
            for key in keys {
                assert!(table.contains_key(*key), "{section}.{key} is not in the example");
            }
        }
        for (key, range) in [
            ("node", &NODE_IDS),
            ("id", &NODE_IDS),
            ("election_timeout_ms", &ELECTION_TIMEOUT_MS),
            ("request_timeout_ms", &REQUEST_TIMEOUT_MS),
            ("phase1", &QUORUM_SIZES),
            ("phase2", &QUORUM_SIZES),
            ("segment_mib", &SEGMENT_MIB),
            ("clients_max", &CLIENTS),
            ("window_slots", &WINDOW_SLOTS),
        ] {
            // The comment stands above the key, behind an empty line.
            let at = EXAMPLE.find(&format!("{key} = ")).unwrap();
            let comment = EXAMPLE[..at].rsplit("\n\n").next().unwrap();
            let expected = format!("{} to {}", range.start(), range.end());
            assert!(comment.contains(&expected), "{key}: {expected} is not in: {comment}");
        }
    }

    /// A key that is listed and not read would be accepted with any value.
    #[test]
    fn every_key_is_read() {
        for (section, keys) in KEYS {
            for key in keys {
                let mut table: Table = example_in_full().parse().unwrap();
                let place = match section {
                    "" => &mut table,
                    "nodes" => table["nodes"][0].as_table_mut().unwrap(),
                    _ => table[section].as_table_mut().unwrap(),
                };
                place.insert(key.to_string(), Value::Array(vec![]));
                assert!(error(&table.to_string()).contains(key));
            }
        }
    }
}
