//! One table of the configuration file, read key by key: every value is checked here, and every error
//! names the file, the key, the value and what is allowed, in one line.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use crate::limits::NODES_MAX;
use crate::paxos::{Addresses, Configuration, LeaseConfig, Member, NodeId, ReadWay, Roles};

use crate::store::EngineChoice;

use super::{
    CLOCK_ERROR_PERMILLE, CLOCK_ERROR_PERMILLE_DEFAULT, CLUSTER_NAME_SIZE_MAX, ConfigError,
    ELECTION_TIMEOUT_MS, ELECTION_TIMEOUT_MS_DEFAULT, KEYS, LEASE_MS, MIB, NODE_IDS, NodeConfig,
    QUORUM_SIZES, REQUEST_TIMEOUT_MS, REQUEST_TIMEOUT_MS_DEFAULT, STORE_CACHE_MIB,
    STORE_CACHE_MIB_DEFAULT,
};

/// A table of the file that is being read: each key is taken out of it once.
pub struct Section<'a> {
    origin: &'a str,
    /// Its name in `KEYS`.
    name: &'static str,
    /// What stands before a key in errors.
    prefix: String,
    table: Table,
}

impl<'a> Section<'a> {
    /// Refuses keys that the section does not have: a key misspelt would be a default unnoticed.
    pub fn new(
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

    pub fn known(&self) -> &'static [&'static str] {
        let section = KEYS.iter().find(|(name, _)| *name == self.name);
        section.expect("every section that is read stands in KEYS").1
    }

    pub fn take(&mut self, key: &'static str) -> Option<Value> {
        assert!(self.known().contains(&key), "{key} is read but does not stand in KEYS");
        self.table.remove(key)
    }

    pub fn bad(&self, key: &str, value: impl fmt::Display, what: impl fmt::Display) -> ConfigError {
        let value = excerpt(&value.to_string());
        ConfigError::new(format!("{}: {}{key} = {value}: {what}", self.origin, self.prefix))
    }

    pub fn missing(&self, key: &str, what: &str) -> ConfigError {
        ConfigError::new(format!("{}: {}{key} is missing: {what}", self.origin, self.prefix))
    }

    /// The table under `name`, which may be left out.
    pub fn section(&mut self, name: &'static str) -> Result<Section<'a>, ConfigError> {
        let table = match self.take(name) {
            None => Table::new(),
            Some(Value::Table(table)) => table,
            Some(other) => {
                return Err(self.bad(name, other, format!("must be a table, [{name}]")));
            }
        };
        Section::new(self.origin, name, format!("{name}."), table)
    }

    pub fn optional_integer(
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

    pub fn integer(
        &mut self,
        key: &'static str,
        range: &RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, ConfigError> {
        Ok(self.optional_integer(key, range)?.unwrap_or(default))
    }

    pub fn boolean(&mut self, key: &'static str, default: bool) -> Result<bool, ConfigError> {
        match self.take(key) {
            None => Ok(default),
            Some(Value::Boolean(value)) => Ok(value),
            Some(other) => Err(self.bad(key, other, "must be true or false")),
        }
    }

    pub fn string(&mut self, key: &'static str) -> Result<Option<String>, ConfigError> {
        match self.take(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.bad(key, other, "must be a string, in quotes")),
        }
    }

    pub fn path(&mut self, key: &'static str) -> Result<Option<PathBuf>, ConfigError> {
        match self.string(key)? {
            Some(path) if path.is_empty() => {
                Err(self.bad(key, "\"\"", "must be a path, not empty"))
            }
            path => Ok(path.map(PathBuf::from)),
        }
    }

    pub fn engine(&mut self) -> Result<EngineChoice, ConfigError> {
        let cache_mib = self.integer("cache_mib", &STORE_CACHE_MIB, STORE_CACHE_MIB_DEFAULT)?;
        let compress = self.boolean("compress", true)?;
        match self.string("engine")?.as_deref() {
            None | Some("memory") => Ok(EngineChoice::Memory),
            Some("rocksdb") if !EngineChoice::HAS_ROCKSDB => Err(self.bad(
                "engine",
                "\"rocksdb\"",
                "this loggos was built without RocksDB: build it with scripts/rocksdb.sh (cargo's \
                 --features rocksdb)",
            )),
            Some("rocksdb") => {
                let cache_size = usize::try_from(cache_mib * MIB).unwrap_or(usize::MAX);
                Ok(EngineChoice::Rocksdb { cache_size, compress })
            }
            Some(other) => {
                let value = Value::String(other.to_owned());
                Err(self.bad("engine", value, "must be \"memory\" or \"rocksdb\""))
            }
        }
    }

    pub fn cluster_name(&mut self) -> Result<String, ConfigError> {
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
    pub fn node(
        &mut self,
        given: Option<u16>,
        nodes: &[NodeConfig],
    ) -> Result<NodeId, ConfigError> {
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

    pub fn data_dir(&mut self, given: Option<&Path>) -> Result<PathBuf, ConfigError> {
        let in_file = self.path("data_dir")?;
        let dir = override_path("--data-dir", given)?.or(in_file);
        dir.ok_or_else(|| {
            self.missing("data_dir", "name the directory of the node's log, here or by --data-dir")
        })
    }

    pub fn log_level(&mut self, given: Option<&str>) -> Result<log::LevelFilter, ConfigError> {
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
    pub fn timeouts_ms(mut self) -> Result<(u64, u64), ConfigError> {
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

    pub fn join(&mut self, nodes: &[NodeConfig]) -> Result<bool, ConfigError> {
        let join = self.boolean("join", false)?;
        if join && nodes.len() < 2 {
            let what = "needs a node of the cluster to ask, beside the node itself, in [[nodes]]";
            return Err(self.bad("join", join, what));
        }
        Ok(join)
    }

    /// How reads are served, and the leases.
    pub fn reads(mut self, election_ms: u64) -> Result<(ReadWay, LeaseConfig), ConfigError> {
        let lease_ms = self.integer("lease_ms", &LEASE_MS, 0)?;
        if 0 < lease_ms && lease_ms < election_ms / 2 {
            let what = format!(
                "must be 0, or at least half of timing.election_timeout_ms ({election_ms}): it is renewed each \
                 quarter of that"
            );
            return Err(self.bad("lease_ms", lease_ms, what));
        }
        let (errors, default) = (&CLOCK_ERROR_PERMILLE, CLOCK_ERROR_PERMILLE_DEFAULT);
        let clock_error_permille = self.integer("clock_error_permille", errors, default)?;
        let lease = LeaseConfig { lease_us: lease_ms * 1_000, clock_error_permille };
        let way = match self.string("way")?.as_deref() {
            None | Some("leader") => ReadWay::Leader,
            Some("lease") if lease.is_on() => ReadWay::Lease,
            Some("lease") => {
                let shown = Value::String("lease".to_string());
                return Err(self.bad("way", shown, "needs a lease: set reads.lease_ms"));
            }
            Some("quorum") => ReadWay::Quorum,
            Some(other) => {
                let shown = Value::String(other.to_string());
                return Err(self.bad("way", shown, "must be \"leader\", \"lease\" or \"quorum\""));
            }
        };
        Ok((way, lease))
    }

    pub fn configuration(mut self, nodes: &[NodeConfig]) -> Result<Configuration, ConfigError> {
        let member = |node: &NodeConfig| {
            let addresses = Addresses { peer: node.peer_address, client: node.client_address };
            (Member { node: node.id, roles: node.roles }, addresses)
        };
        let members: Vec<(Member, Addresses)> = nodes.iter().map(member).collect();
        let phase1 = self.optional_integer("phase1", &QUORUM_SIZES)?;
        let phase2 = self.optional_integer("phase2", &QUORUM_SIZES)?;
        // Majorities always fit: what is wrong even with them is wrong with the nodes.
        let majorities = Configuration::initial(members.clone(), None, None).map_err(|why| {
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
        Configuration::initial(members, size(phase1), size(phase2)).map_err(|why| {
            ConfigError::new(format!(
                "{}: {}: {why}: change the sizes, or leave both out for majorities",
                self.origin,
                sizes.join(", ")
            ))
        })
    }

    pub fn nodes(&mut self) -> Result<Vec<NodeConfig>, ConfigError> {
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

    pub fn integer_required(
        &mut self,
        key: &'static str,
        range: &RangeInclusive<u64>,
    ) -> Result<u64, ConfigError> {
        let integer = self.optional_integer(key, range)?;
        integer.ok_or_else(|| self.missing(key, &must_be_in(range)))
    }

    /// An address that no other key has; `taken` tells which key has which.
    pub fn address(
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

    pub fn roles(&mut self) -> Result<Roles, ConfigError> {
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

pub fn override_path(flag: &str, given: Option<&Path>) -> Result<Option<PathBuf>, ConfigError> {
    if given.is_some_and(|path| path.as_os_str().is_empty()) {
        return Err(ConfigError::new(format!("{flag} \"\": must be a path, not empty")));
    }
    Ok(given.map(Path::to_path_buf))
}

fn must_be_in(range: &RangeInclusive<u64>) -> String {
    format!("must be {} to {}", range.start(), range.end())
}

/// What the TOML reader found, with the number of the line and without its drawing of it.
pub fn syntax_error(origin: &str, text: &str, error: &toml::de::Error) -> ConfigError {
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
