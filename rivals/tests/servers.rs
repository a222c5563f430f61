//! `rival-load` against real servers, where they are installed: what the golden bytes of the unit tests can't tell,
//! namely that others understand them.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use loggos::check::run::Run;
use loggos::trace::monotonic_ns;
use serde_json::Value;

const PATIENCE_NS: u64 = 60_000_000_000;

/// A server that ends with the test.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Server {
    fn start(command: &mut Command, dir: &Path) -> Server {
        let log = File::create(dir.join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Server(command.spawn().unwrap())
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// Whether a program is there; says so if it is not.
fn is_installed(program: &str) -> bool {
    let found = ["/usr/bin", "/usr/local/bin", "/usr/sbin"]
        .iter()
        .any(|dir| Path::new(dir).join(program).exists());
    if !found {
        eprintln!("left out: {program} is not installed");
    }
    found
}

fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let begun_ns = monotonic_ns();
    while !is_so() {
        assert!(monotonic_ns() - begun_ns < PATIENCE_NS, "{what}");
        // sleep: another program starts, and tells nobody when it has.
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn load(system: &str, operation: &str, node: SocketAddr, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rival-load"))
        .args([system, operation, "--nodes", &node.to_string(), "--duration", "200ms"])
        .args(["--warmup", "50ms", "--keys", "100"])
        .args(more)
        .output()
        .unwrap()
}

/// Puts and gets with one and with several in flight; all of them succeed.
fn serves(system: &str, node: SocketAddr) {
    for (operation, class) in [("put", "writes"), ("get", "reads")] {
        for more in [["--clients", "1", "--in-flight", "1"], ["--clients", "3", "--in-flight", "8"]]
        {
            let output = load(system, operation, node, &more);
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{system} {operation}: {error}");
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert!(0.0 < report["throughput"].as_f64().unwrap(), "{report}");
            assert!(0 < report[class]["latency_us"]["p50"].as_u64().unwrap(), "{report}");
            assert_eq!(report[class]["failed"], 0, "{}", report["errors"]);
            assert_eq!(report["parameters"]["system"], system);
        }
    }
    let large = load(system, "put", node, &["--value-size", "30000", "--in-flight", "4"]);
    let error = String::from_utf8_lossy(&large.stderr);
    assert!(large.status.success(), "{system}, 30000 bytes: {error}");
    is_linearizable(system, node);
}

/// Puts and reads of a few keys: the history has an order, and everything was read at the end.
fn is_linearizable(system: &str, node: SocketAddr) {
    let dir = tempfile::tempdir().unwrap();
    let history = dir.path().join("history");
    let path = history.to_str().unwrap();
    let line = ["--reads", "0.5", "--clients", "4", "--in-flight", "2"];
    let consistent = ["--consistency", "linearizable", "--history", path];
    let output = load(system, "put", node, &[&line[..], &consistent].concat());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{system}, with a history: {error}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["not_read"], 0, "{report}");
    let found = Run::read(&[history], None).unwrap().judge();
    assert_eq!((found.violated, found.undecided.len()), (0, 0), "{system}: {found:?}");
    assert_eq!(found.keys, 100, "{found:?}");
}

#[test]
fn etcd_serves() {
    if !is_installed("etcd") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (client, peer) = (free(), free());
    let (client_url, peer_url) = (format!("http://{client}"), format!("http://{peer}"));
    let mut command = Command::new("etcd");
    command.args(["--name", "n1", "--initial-cluster", &format!("n1={peer_url}")]);
    command.args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url]);
    command.args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url]);
    command.arg("--data-dir").arg(dir.path().join("data"));
    let _server = Server::start(&mut command, dir.path());
    // It opens its port before it can decide anything.
    wait_for("etcd does not answer", || {
        load("etcd", "put", client, &["--clients", "1"]).status.success()
    });
    serves("etcd", client);

    let output = load("etcd", "put", client, &["--value-size", "100000"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("use smaller values"), "{error}");
    let output = load("redis", "put", client, &[]);
    assert!(!output.status.success(), "etcd does not speak RESP");
}

#[test]
fn redis_serves() {
    if !is_installed("redis-server") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let node = free();
    let mut command = Command::new("redis-server");
    command.args(["--bind", "127.0.0.1", "--port", &node.port().to_string(), "--save", ""]);
    command.arg("--dir").arg(dir.path());
    let _server = Server::start(&mut command, dir.path());
    wait_for("Redis does not answer", || TcpStream::connect(node).is_ok());
    serves("redis", node);

    let output = load("etcd", "put", node, &[]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("no node answers (127.0.0.1"), "{error}");
}

#[test]
fn zookeeper_serves() {
    if !is_installed("java") || !Path::new("/usr/share/java/zookeeper.jar").exists() {
        eprintln!("left out: ZooKeeper is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let node = free();
    let config = dir.path().join("zoo.cfg");
    let data = dir.path().join("data");
    let text = format!(
        "dataDir={}\nclientPortAddress=127.0.0.1\nclientPort={}\nadmin.enableServer=false\n\
         maxClientCnxns=0\n",
        data.display(),
        node.port()
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new("java");
    command.args(["-cp", "/usr/share/java/zookeeper.jar", "-Xmx256m"]);
    command.arg("org.apache.zookeeper.server.ZooKeeperServerMain").arg(&config);
    let _server = Server::start(&mut command, dir.path());
    // It opens its port before it serves.
    wait_for("ZooKeeper does not answer", || {
        load("zookeeper", "put", node, &["--clients", "1"]).status.success()
    });
    serves("zookeeper", node);
}

/// Three nodes; in the same workspace, but in a package that not every build builds.
#[test]
fn omnipaxos_serves() {
    let program = Path::new(env!("CARGO_BIN_EXE_rival-load")).with_file_name("omnipaxos-kv");
    if !program.exists() {
        eprintln!("left out: omnipaxos-kv is not built");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let peers = [free(), free(), free()];
    let clients = [free(), free(), free()];
    let all: Vec<String> = (1..).zip(peers).map(|(id, peer)| format!("{id}={peer}")).collect();
    let _servers: Vec<Server> = (1..)
        .zip(clients)
        .map(|(id, client)| {
            let mut command = Command::new(&program);
            command.args(["--id", &id.to_string(), "--peers", &all.join(",")]);
            command.args(["--clients", &client.to_string(), "--storage", "durable", "--data"]);
            command.arg(dir.path().join(id.to_string()));
            Server::start(&mut command, dir.path())
        })
        .collect();
    wait_for("OmniPaxos does not answer", || {
        load("omnipaxos", "put", clients[0], &["--clients", "1"]).status.success()
    });
    serves("omnipaxos", clients[1]);
}

/// A node that is not there is an error, and no panic or wait.
#[test]
fn nobody_answers() {
    let output = load("redis", "put", free(), &[]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("refused"), "{error}");
    assert_eq!(error.lines().count(), 1);
}
