//! Real nodes for tests: processes of the built binary on loopback ports, each with a directory and
//! a log that tests can wait on.
//!
//! Nothing here sleeps: what a node has done is awaited as a line of its log.

#![allow(dead_code)] // Each test binary uses its own part of this.

pub mod load;
pub mod tour;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use loggos::client::{self, Client};
use loggos::trace::monotonic_ns;
use loggos::wire::status::NodeStatus;

/// However slow the machine: what has not happened by then will not happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Of a wait that begins now: `PATIENCE` from here.
pub struct Deadline {
    at_ns: u64,
}

impl Deadline {
    pub fn start() -> Deadline {
        Deadline { at_ns: monotonic_ns() + PATIENCE.as_nanos() as u64 }
    }

    /// Zero once it has passed.
    pub fn left(&self) -> Duration {
        Duration::from_nanos(self.at_ns.saturating_sub(monotonic_ns()))
    }
}

pub struct Cluster {
    dir: tempfile::TempDir,
    /// Of all nodes that are started from now on: a variable of their environment.
    pub variable: Option<(&'static str, &'static str)>,
    pub nodes: BTreeMap<u16, TestNode>,
}

pub struct TestNode {
    pub id: u16,
    pub peer_address: SocketAddr,
    pub client_address: SocketAddr,
    /// Of a node that joins or keeps its keys elsewhere; the others share one.
    config: Option<PathBuf>,
    process: Option<Process>,
}

struct Process {
    child: Child,
    lines: Receiver<String>,
    /// All lines seen so far, for the message of a failing test.
    seen: Vec<String>,
}

impl Cluster {
    /// A cluster of nodes that play all roles, started.
    pub fn start(nodes: u16) -> Cluster {
        let all = "acceptor leader replica";
        let mut cluster = Cluster::new(&vec![all; nodes as usize], "");
        cluster.start_all();
        cluster
    }

    /// A cluster with one node for each entry of `roles` (words), not started. `extra` is added to
    /// the configuration.
    pub fn new(roles: &[&str], extra: &str) -> Cluster {
        Cluster::named("test", roles, extra)
    }

    pub fn named(name: &str, roles: &[&str], extra: &str) -> Cluster {
        let dir = tempfile::tempdir().expect("a temporary directory");
        // All ports are taken at once, so that no two nodes get the same.
        let listeners: Vec<TcpListener> =
            (0..2 * roles.len()).map(|_| listener_on_a_free_port()).collect();
        let address = |i: usize| listeners[i].local_addr().expect("a bound address");
        let mut config = format!(
            "cluster = {name:?}\ndata_dir = {:?}\n{extra}\n{}",
            dir.path().join("unused").display().to_string(),
            store_section(extra)
        );
        let mut nodes = BTreeMap::new();
        for (i, roles) in roles.iter().enumerate() {
            let id = i as u16 + 1;
            let (peer_address, client_address) = (address(2 * i), address(2 * i + 1));
            let roles: Vec<String> =
                roles.split_whitespace().map(|role| format!("{role:?}")).collect();
            config += &format!(
                "[[nodes]]\nid = {id}\npeer_address = \"{peer_address}\"\n\
                 client_address = \"{client_address}\"\nroles = [{}]\n",
                roles.join(", ")
            );
            nodes.insert(
                id,
                TestNode { id, peer_address, client_address, config: None, process: None },
            );
        }
        std::fs::write(dir.path().join("loggos.toml"), config).expect("the configuration");
        Cluster { dir, variable: None, nodes }
    }

    pub fn start_all(&mut self) {
        let ids: Vec<u16> = self.nodes.keys().copied().collect();
        for id in ids {
            self.start_node(id);
        }
    }

    /// Starts a node and waits until it serves.
    pub fn start_node(&mut self, id: u16) {
        let data_dir = self.data_dir(id);
        let shared = self.config_path();
        let config = self.nodes[&id].config.clone().unwrap_or(shared);
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        assert!(node.process.is_none(), "n{id} runs already");
        node.process = Some(Process::start(&config, id, &data_dir, self.variable));
        self.wait_for(id, "serving as");
    }

    /// A node that joins the cluster of the others, told of `seed` only; not started, and no member yet.
    pub fn newcomer(&mut self, id: u16, seed: u16) {
        let listeners = [0, 1].map(|_| listener_on_a_free_port());
        let [peer_address, client_address] =
            listeners.map(|listener| listener.local_addr().expect("a bound address"));
        let entry = |id: u16, peer: SocketAddr, client: SocketAddr| {
            format!(
                "[[nodes]]\nid = {id}\npeer_address = \"{peer}\"\nclient_address = \"{client}\"\n"
            )
        };
        let seed = &self.nodes[&seed];
        let config = format!(
            "cluster = \"test\"\ndata_dir = \"unused\"\njoin = true\n{}{}{}",
            store_section(""),
            entry(id, peer_address, client_address),
            entry(seed.id, seed.peer_address, seed.client_address)
        );
        let path = self.dir.path().join(format!("n{id}.toml"));
        std::fs::write(&path, config).expect("the configuration");
        let config = Some(path);
        let node = TestNode { id, peer_address, client_address, config, process: None };
        self.nodes.insert(id, node);
    }

    /// From its next start on a node keeps its keys in this engine, whatever the others do.
    pub fn set_engine(&mut self, id: u16, engine: &str) {
        let shared = std::fs::read_to_string(self.config_path()).expect("the configuration");
        assert!(!shared.contains("[store]"), "every node has an engine already");
        let path = self.dir.path().join(format!("n{id}-{engine}.toml"));
        let config = format!("{shared}[store]\nengine = {engine:?}\ncache_mib = 8\n");
        std::fs::write(&path, config).expect("the configuration");
        self.nodes.get_mut(&id).expect("a node of the cluster").config = Some(path);
    }

    /// Runs `loggos` with these words; what it printed, or its exit code and what it complained of.
    pub fn loggos(&self, line: &str) -> Result<String, (i32, String)> {
        let nodes: Vec<String> = self.addresses().iter().map(ToString::to_string).collect();
        let output = Command::new(env!("CARGO_BIN_EXE_loggos"))
            .args(line.split_whitespace())
            .env("LOGGOS_NODES", nodes.join(","))
            .output()
            .expect("the binary starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.code() {
            Some(0) => Ok(text(&output.stdout)),
            code => Err((code.expect("it ends by itself"), text(&output.stderr))),
        }
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("loggos.toml")
    }

    pub fn data_dir(&self, id: u16) -> PathBuf {
        self.dir.path().join(format!("n{id}"))
    }

    /// SIGKILL, as a crash of the process.
    pub fn kill(&mut self, id: u16) {
        let mut process = self.take_process(id);
        process.child.kill().expect("the process can be killed");
        process.child.wait().expect("the process ends");
    }

    /// SIGTERM; waits for the end.
    pub fn stop(&mut self, id: u16) -> ExitStatus {
        self.signal(id, "TERM");
        self.take_process(id).child.wait().expect("the process ends")
    }

    /// By name, without SIG.
    pub fn signal(&self, id: u16, name: &str) {
        let process = self.nodes[&id].process.as_ref().expect("the node runs");
        let (name, pid) = (format!("-{name}"), process.child.id().to_string());
        let kill = Command::new("kill").args([name, pid]).status().expect("kill runs");
        assert!(kill.success());
    }

    fn take_process(&mut self, id: u16) -> Process {
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        node.process.take().expect("the node runs")
    }

    /// Waits for a line of the node's log that contains `text`, and returns it.
    pub fn wait_for(&mut self, id: u16, text: &str) -> String {
        let node = self.nodes.get_mut(&id).expect("a node of the cluster");
        let process = node.process.as_mut().expect("the node runs");
        // In all, however much else it says meanwhile.
        let deadline = Deadline::start();
        loop {
            match process.lines.recv_timeout(deadline.left()) {
                Ok(line) => {
                    process.seen.push(line.clone());
                    if line.contains(text) {
                        return line;
                    }
                }
                Err(error) => {
                    let ended = matches!(error, RecvTimeoutError::Disconnected);
                    let why = if ended { "ended" } else { "has not said so in time" };
                    let log = process.seen.join("\n");
                    panic!("n{id} {why}; waited for {text:?} in its log:\n{log}");
                }
            }
        }
    }

    /// A line of the node's log so far that contains `text`.
    pub fn seen(&self, id: u16, text: &str) -> String {
        let process = self.nodes[&id].process.as_ref().expect("the node runs");
        let found = process.seen.iter().find(|line| line.contains(text));
        found
            .unwrap_or_else(|| panic!("n{id} has not said {text:?}:\n{}", process.seen.join("\n")))
            .clone()
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.nodes.values().map(|node| node.client_address).collect()
    }

    /// A client that knows all nodes.
    pub fn client(&self) -> Client {
        Client::new(&self.addresses(), PATIENCE)
    }

    pub fn status(&self, id: u16) -> NodeStatus {
        client::status_of(self.nodes[&id].client_address, PATIENCE).expect("the node answers")
    }

    /// The leader, once there is one that running nodes agree on. Asking again is the event here: each
    /// question is a round trip.
    pub fn leader(&self) -> u16 {
        self.wait_until("a leader", |statuses| {
            let leaders: Vec<_> = statuses.iter().map(|status| status.leader).collect();
            let first = leaders[0]?;
            let leading = statuses.iter().any(|status| status.node == first && status.leading);
            (leading && leaders.iter().all(|leader| *leader == Some(first))).then_some(first.0)
        })
    }

    /// Waits until all running replicas have applied the same slots, and checks that they hold the
    /// same.
    pub fn assert_agreement(&self) {
        let digests = self.wait_until("the same applied slot everywhere", |statuses| {
            let replicas = statuses.iter().filter(|status| status.roles.replica);
            let seen: Vec<_> = replicas.map(|s| (s.applied, s.digest.clone())).collect();
            seen.iter().all(|(applied, _)| *applied == seen[0].0).then_some(seen)
        });
        assert!(digests.iter().all(|digest| *digest == digests[0]), "replicas differ: {digests:?}");
    }

    /// Waits until what the running nodes tell of themselves is what `judge` looks for.
    pub fn wait_until<T>(
        &self,
        what: &str,
        mut judge: impl FnMut(&[NodeStatus]) -> Option<T>,
    ) -> T {
        let deadline = Deadline::start();
        loop {
            let running = self.nodes.values().filter(|node| node.process.is_some());
            let statuses: Vec<NodeStatus> = running.map(|node| self.status(node.id)).collect();
            if let Some(found) = judge(&statuses) {
                return found;
            }
            assert!(!deadline.left().is_zero(), "waited in vain for {what}: {statuses:#?}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in self.nodes.values_mut() {
            if let Some(mut process) = node.process.take() {
                if std::thread::panicking() {
                    process.seen.extend(process.lines.try_iter());
                    eprintln!("--- log of n{}:\n{}", node.id, process.seen.join("\n"));
                }
                let _ = process.child.kill();
                let _ = process.child.wait();
            }
        }
    }
}

/// Where all nodes keep their keys: `LOGGOS_TEST_ENGINE`, or in memory.
fn store_section(extra: &str) -> String {
    let engine = std::env::var("LOGGOS_TEST_ENGINE").ok().filter(|_| !extra.contains("[store]"));
    engine
        .map_or_else(String::new, |engine| format!("[store]\nengine = {engine:?}\ncache_mib = 8\n"))
}

/// Below what the kernel gives to outgoing connections: one of those would take the port of a node that is
/// down.
fn listener_on_a_free_port() -> TcpListener {
    const FIRST: u32 = 10_000;
    const LEN: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Another process of the tests begins elsewhere.
    let begin = std::process::id().wrapping_mul(211);
    let mut ports = std::iter::repeat_with(|| {
        FIRST + begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % LEN
    });
    ports
        .by_ref()
        .take(LEN as usize)
        .find_map(|port| TcpListener::bind(("127.0.0.1", port as u16)).ok())
        .expect("a free port")
}

impl Process {
    fn start(
        config: &Path,
        id: u16,
        data_dir: &Path,
        variable: Option<(&'static str, &'static str)>,
    ) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_loggos"))
            .envs(variable)
            .args(["serve", "--node", &id.to_string(), "--config"])
            .arg(config)
            .arg("--data-dir")
            .arg(data_dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let stderr = child.stderr.take().expect("it is piped");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Process { child, lines, seen: Vec::new() }
    }
}
