//! Three nodes as processes on loopback: they serve while one of them dies, come back with what they promised, and what
//! clients were told has an order.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use loggos::check::{History, Op, Reply, Value, Verdict, linearizable};
use loggos::trace::monotonic_ns;

const PATIENCE_NS: u64 = 60_000_000_000;
const ANSWER_TIMEOUT: Duration = Duration::from_millis(300);
const KEYS: u64 = 5;

struct Cluster {
    dir: tempfile::TempDir,
    kind: &'static str,
    peers: Vec<SocketAddr>,
    clients: Vec<SocketAddr>,
    nodes: Vec<Option<Child>>,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        (0..self.nodes.len()).for_each(|at| self.kill(at));
    }
}

impl Cluster {
    fn start(kind: &'static str) -> Cluster {
        let listeners: Vec<TcpListener> =
            (0..6).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let mut addresses: Vec<SocketAddr> =
            listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        let clients = addresses.split_off(3);
        let dir = tempfile::tempdir().unwrap();
        let nodes = vec![None, None, None];
        let mut cluster = Cluster { dir, kind, peers: addresses, clients, nodes };
        drop(listeners);
        (0..3).for_each(|at| cluster.spawn(at));
        cluster
    }

    fn command(&self, at: usize) -> Command {
        let peer = |(at, address): (usize, &SocketAddr)| format!("{}={address}", at + 1);
        let peers: Vec<String> = self.peers.iter().enumerate().map(peer).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_omnipaxos-kv"));
        command.args(["--id", &(at + 1).to_string(), "--peers", &peers.join(",")]);
        command.args(["--clients", &self.clients[at].to_string(), "--storage", self.kind]);
        command.arg("--data").arg(self.dir.path().join(format!("n{at}")));
        command.args(["--election-timeout-ms", "50"]).stdin(Stdio::null());
        command
    }

    fn spawn(&mut self, at: usize) {
        let log = File::create(self.dir.path().join(format!("n{at}.log"))).unwrap();
        let child = self.command(at).stdout(log.try_clone().unwrap()).stderr(log).spawn();
        self.nodes[at] = Some(child.unwrap());
    }

    /// SIGKILL.
    fn kill(&mut self, at: usize) {
        if let Some(mut node) = self.nodes[at].take() {
            let _ = node.kill();
            let _ = node.wait();
        }
    }

    /// Index of the node that says that it leads.
    fn leader(&self) -> usize {
        let mut found = None;
        wait_for("nobody leads", || {
            let leads = |at: &usize| state(self.clients[*at]).is_some_and(|state| state.leads);
            found = (0..3).find(leads);
            found.is_some()
        });
        found.unwrap()
    }
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun_ns = monotonic_ns();
    while !is_so() {
        assert!(monotonic_ns() - begun_ns < PATIENCE_NS, "{what}");
        // sleep: other processes tell nobody when they are ready.
        thread::sleep(Duration::from_millis(10));
    }
}

/// A connection with one request at a time.
struct Client(TcpStream);

impl Client {
    fn connect(address: SocketAddr) -> Option<Client> {
        let mut stream = TcpStream::connect_timeout(&address, ANSWER_TIMEOUT).ok()?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT)).unwrap();
        stream.write_all(b"OPKV\x01").ok()?;
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting).ok()?;
        assert_eq!(greeting, *b"OPKV\x01");
        Some(Client(stream))
    }

    /// Kind and rest of the answer; `None`: there was none.
    fn ask(&mut self, kind: u8, rest: &[u8]) -> Option<(u8, Vec<u8>)> {
        let size = (5 + rest.len()) as u32;
        let frame = [&size.to_le_bytes()[..], b"tick", &[kind], rest].concat();
        self.0.write_all(&frame).ok()?;
        let mut head = [0; 9];
        self.0.read_exact(&mut head).ok()?;
        let size = u32::from_le_bytes(head[..4].try_into().unwrap()) as usize;
        assert_eq!(head[4..8], *b"tick");
        let mut rest = vec![0; size - 5];
        self.0.read_exact(&mut rest).ok()?;
        Some((head[8], rest))
    }
}

struct State {
    leads: bool,
    decided: u64,
}

fn state(address: SocketAddr) -> Option<State> {
    let (kind, rest) = Client::connect(address)?.ask(3, b"")?;
    assert_eq!((kind, rest.len()), (4, 25));
    Some(State {
        leads: rest[16] == 1,
        decided: u64::from_le_bytes(rest[17..].try_into().unwrap()),
    })
}

/// Clients that put and get, and go to the next node from one that does not answer. No put is sent twice, and all
/// values differ.
struct Load {
    history: Arc<Mutex<History>>,
    acknowledged: Arc<AtomicU64>,
    next: Arc<AtomicU64>,
    clients: Vec<SocketAddr>,
}

impl Load {
    fn new(clients: &[SocketAddr]) -> Load {
        Load {
            history: Arc::default(),
            acknowledged: Arc::default(),
            next: Arc::default(),
            clients: clients.to_vec(),
        }
    }

    /// Runs until so many more operations are acknowledged.
    fn run(&self, count: u64) {
        let wanted = self.acknowledged.load(Ordering::SeqCst) + count;
        let until_ns = monotonic_ns() + PATIENCE_NS;
        thread::scope(|scope| {
            for id in 0..4 {
                scope.spawn(move || self.client(id, wanted, until_ns));
            }
        });
    }

    fn client(&self, id: usize, wanted: u64, until_ns: u64) {
        let mut connection = None;
        let mut at = id;
        while self.acknowledged.load(Ordering::SeqCst) < wanted {
            assert!(monotonic_ns() < until_ns, "it does not go on");
            if connection.is_none() {
                at += 1;
                connection = Client::connect(self.clients[at % self.clients.len()]);
            }
            if let Some(client) = &mut connection
                && !self.operation(id as u64, client)
            {
                connection = None;
            }
            if connection.is_none() {
                // sleep: a node that is being elected answers at once that it cannot serve.
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    /// One operation; false: this node does not serve.
    fn operation(&self, id: u64, client: &mut Client) -> bool {
        let number = self.next.fetch_add(1, Ordering::SeqCst);
        let key = format!("k{}", number / 2 % KEYS);
        let value = format!("value {number}");
        let is_put = !number.is_multiple_of(3);
        let op = if is_put { Op::Put(Value::of(value.as_bytes())) } else { Op::Get };
        let ticket = self.history.lock().unwrap().invoke(id, monotonic_ns(), key.as_bytes(), op);
        let answer = if is_put {
            let size = (key.len() as u16).to_le_bytes();
            client.ask(1, &[&size[..], key.as_bytes(), value.as_bytes()].concat())
        } else {
            client.ask(2, key.as_bytes())
        };
        let ended_ns = monotonic_ns();
        let mut history = self.history.lock().unwrap();
        let reply = match answer {
            Some((1, _)) if is_put => Reply::Done,
            Some((2, value)) if !is_put => Reply::Value(Value::of(&value)),
            Some((3, _)) if !is_put => Reply::Value(Value::Absent),
            Some((5, _)) => {
                history.fail(ticket);
                return false;
            }
            Some(other) => panic!("{other:?}"),
            None => return false,
        };
        history.reply(ticket, ended_ns, reply);
        self.acknowledged.fetch_add(1, Ordering::SeqCst);
        true
    }

    fn judge(&self) {
        let history = self.history.lock().unwrap();
        let verdict = linearizable(&history);
        assert_eq!(verdict, Verdict::Linearizable, "of {} operations", history.len());
    }
}

/// The leader is killed under load, by SIGKILL: the others go on, and nothing that was told is taken back.
#[test]
fn a_leader_dies() {
    for kind in ["memory", "durable"] {
        let mut cluster = Cluster::start(kind);
        let leader = cluster.leader();
        let load = Load::new(&cluster.clients);
        load.run(300);
        thread::scope(|scope| {
            let running = scope.spawn(|| load.run(2000));
            wait_for("it does not begin", || 500 < load.acknowledged.load(Ordering::SeqCst));
            cluster.kill(leader);
            running.join().unwrap();
        });
        load.run(300);
        assert_ne!(cluster.leader(), leader);
        load.judge();
    }
}

/// All nodes are killed at once and come back: what was acknowledged is there. Then one after the other is killed and
/// comes back under load, so that each quorum has one that has come back.
#[test]
fn durable_nodes_come_back() {
    let mut cluster = Cluster::start("durable");
    let load = Load::new(&cluster.clients);
    load.run(300);
    let decided = state(cluster.clients[cluster.leader()]).unwrap().decided;
    (0..3).for_each(|at| cluster.kill(at));
    (0..3).for_each(|at| cluster.spawn(at));
    load.run(100);
    assert!(decided < state(cluster.clients[cluster.leader()]).unwrap().decided);
    for at in 0..3 {
        cluster.kill(at);
        load.run(100);
        cluster.spawn(at);
        let least = state(cluster.clients[cluster.leader()]).unwrap().decided;
        wait_for("it does not catch up", || {
            state(cluster.clients[at]).is_some_and(|state| least <= state.decided)
        });
    }
    load.run(100);
    load.judge();
}

fn ended(mut command: Command) -> Output {
    command.output().unwrap()
}

/// In memory nothing is remembered, so nobody comes back; and one directory is one node's.
#[test]
fn who_may_not_start_says_why() {
    let mut cluster = Cluster::start("memory");
    cluster.leader();
    let output = ended(cluster.command(0));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("in use"), "{error}");
    cluster.kill(0);
    let output = ended(cluster.command(0));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("must not come back"), "{error}");
    cluster.kind = "durable";
    let output = ended(cluster.command(0));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && error.contains("another node"), "{error}");
    let two = "1=127.0.0.1:1,2=127.0.0.1:2";
    for (id, peers, timeout, wanted) in [
        ("4", two, "50", "has no node 4"),
        ("1", "1=nowhere", "50", "no IP:PORT"),
        ("1", "1=127.0.0.1:1,1=127.0.0.1:2", "50", "twice"),
        ("0", "0=127.0.0.1:1,2=127.0.0.1:2", "50", "from 1 to"),
        ("1", "1=127.0.0.1:1", "50", "more than 1 node"),
        ("1", two, "0", "election-timeout"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_omnipaxos-kv"));
        command.args(["--id", id, "--peers", peers, "--election-timeout-ms", timeout]);
        command.args(["--clients", "127.0.0.1:3", "--storage", "memory", "--data"]);
        command.arg(cluster.dir.path().join(wanted));
        let output = ended(command);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(wanted), "{error}");
    }
}

/// Bytes of strangers end their connections, and nothing else.
#[test]
fn strangers_do_no_harm() {
    let cluster = Cluster::start("memory");
    let load = Load::new(&cluster.clients);
    load.run(50);
    let greeting = |from: u64, to: u64| {
        [&b"OPKP\x01"[..], &from.to_le_bytes(), &to.to_le_bytes(), &[0; 4]].concat()
    };
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n                                        ".to_vec(),
        b"OPKV\x01\xff\xff\xff\xff".to_vec(),
        b"OPKV\x01\x01\0\0\0".to_vec(),
        greeting(1, 2),
        greeting(u64::MAX, 1),
        [greeting(3, 1), vec![0xff; 100]].concat(),
    ] {
        for address in cluster.clients.iter().chain(&cluster.peers) {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            stream.write_all(&bytes).unwrap();
            let mut rest = Vec::new();
            let ended = stream.read_to_end(&mut rest);
            let is_reset =
                |error: std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
            assert!(ended.is_ok() || ended.is_err_and(is_reset), "{}", bytes.escape_ascii());
        }
    }
    // Half a request, and a kind that there is not.
    let mut half = TcpStream::connect(cluster.clients[0]).unwrap();
    half.write_all(b"OPKV\x01\x09\0\0\0ti").unwrap();
    let mut client = Client::connect(cluster.clients[0]).unwrap();
    assert_eq!(client.ask(9, b"").map(|(kind, _)| kind), Some(6));
    assert_eq!(client.ask(1, b"\xff\xffk").map(|(kind, _)| kind), Some(6));
    load.run(50);
    load.judge();
}
