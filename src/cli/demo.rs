//! `loggos demo`: three nodes on this machine, one of them killed, and what comes of it.
//!
//! The nodes are this same program, run as `serve`. Whatever happens, they end with the demo: their
//! handles kill them when they are dropped.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Process, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Failure;
use super::args::DemoArgs;
use super::bench::interrupt_flag;
use crate::client::{Client, status_of};
use crate::store::{Command, Query, Reply, prefix_end};
use crate::trace::monotonic_ns;
use crate::wire::client::Consistency;
use crate::wire::status::NodeStatus;

const NODES: usize = 3;
/// Writes before the leader is killed, and after.
const WRITES: usize = 500;
/// For each thing that we wait for.
const PATIENCE: Duration = Duration::from_secs(10);
const STATUS_TIMEOUT: Duration = Duration::from_millis(500);
const POLL_MIN: Duration = Duration::from_millis(2);
const POLL_MAX: Duration = Duration::from_millis(50);

struct Cluster {
    dir: PathBuf,
    addresses: Vec<SocketAddr>,
    nodes: Vec<Option<Node>>,
    interrupted: Arc<AtomicBool>,
}

/// A running node; it ends when this is dropped.
struct Node(Child);

impl Node {
    fn kill(&mut self) {
        // The only error is that it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    let failed = |error| Failure::usage(format!("cannot make a temporary directory: {error}"));
    let mut dir = tempfile::Builder::new().prefix("loggos-demo-").tempdir().map_err(failed)?;
    dir.disable_cleanup(args.keep);
    // The nodes are dropped (and so killed) before their directory goes.
    let outcome = play(dir.path());
    if args.keep {
        println!("Configuration, logs and data are kept in {}.", dir.path().display());
    }
    outcome
}

fn play(dir: &Path) -> Result<(), Failure> {
    let mut cluster = Cluster::start(dir)?;
    let start_ns = monotonic_ns();
    println!("Started three nodes, each with acceptor, leader and replica, on free local ports.");
    let leader = cluster.wait_for_leader()?;
    println!("After {} {}.", since(start_ns), leads(&leader));

    let mut client = Client::new(&cluster.addresses, PATIENCE);
    let start_ns = monotonic_ns();
    cluster.write(&mut client, 0..WRITES)?;
    println!(
        "Wrote {WRITES} keys one after the other in {}; each was on the disks of two nodes before \
         its reply.",
        since(start_ns)
    );

    let killed = usize::from(leader.node.0) - 1;
    cluster.nodes[killed].as_mut().expect("it leads, so it runs").kill();
    let killed_ns = monotonic_ns();
    println!("Killed the leader, {}, as `kill -9` does.", leader.node);
    cluster.write(&mut client, WRITES..WRITES + 1)?;
    println!("The next write was acknowledged {} after that.", since(killed_ns));
    println!("Now {}.", leads(&cluster.wait_for_leader()?));
    cluster.write(&mut client, WRITES + 1..2 * WRITES)?;
    println!("Wrote {} more keys to the two nodes that are left.", WRITES - 1);

    let start_ns = monotonic_ns();
    cluster.spawn(killed)?;
    let status = cluster.wait_for_agreement()?;
    println!(
        "Started {} again; after {} it had caught up: all three have applied slot {} and hold the \
         same state (digest {}).",
        leader.node,
        since(start_ns),
        status.applied,
        &status.digest[..status.digest.len().min(8)]
    );

    let found = count(&mut client)?;
    if found != 2 * WRITES {
        let message = format!("{found} of {} acknowledged writes are there", 2 * WRITES);
        return Err(Failure { code: super::code::CHECK, message });
    }
    println!("All {found} acknowledged writes are there. Nothing was lost.");
    Ok(())
}

impl Cluster {
    /// Writes the configuration and starts all nodes.
    fn start(dir: &Path) -> Result<Cluster, Failure> {
        let interrupted = interrupt_flag()?;
        let ports = free_addresses(2 * NODES)?;
        let (peers, clients) = ports.split_at(NODES);
        let mut config = String::from("cluster = \"demo\"\n");
        for (id, (peer, client)) in (1..).zip(peers.iter().zip(clients)) {
            config.push_str(&format!(
                "\n[[nodes]]\nid = {id}\npeer_address = \"{peer}\"\nclient_address = \"{client}\"\n"
            ));
        }
        std::fs::write(dir.join("loggos.toml"), config).map_err(cannot_start)?;
        let mut cluster = Cluster {
            dir: dir.to_owned(),
            addresses: clients.to_vec(),
            nodes: (0..NODES).map(|_| None).collect(),
            interrupted,
        };
        for at in 0..NODES {
            cluster.spawn(at)?;
        }
        Ok(cluster)
    }

    fn spawn(&mut self, at: usize) -> Result<(), Failure> {
        let id = (at + 1).to_string();
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path(at))
            .map_err(cannot_start)?;
        let program = std::env::current_exe().map_err(cannot_start)?;
        let child = Process::new(program)
            .arg("serve")
            .arg("--config")
            .arg(self.dir.join("loggos.toml"))
            .args(["--node", &id, "--data-dir"])
            .arg(self.dir.join(format!("n{id}")))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(cannot_start)?;
        self.nodes[at] = Some(Node(child));
        Ok(())
    }

    fn log_path(&self, at: usize) -> PathBuf {
        self.dir.join(format!("n{}.log", at + 1))
    }

    /// Polls the nodes until `wanted` is content with what they say.
    fn wait<T>(
        &mut self,
        what: &str,
        wanted: impl Fn(&[NodeStatus]) -> Option<T>,
    ) -> Result<T, Failure> {
        let until_ns = monotonic_ns() + PATIENCE.as_nanos() as u64;
        let mut pause = POLL_MIN;
        loop {
            self.check()?;
            let answers: Vec<NodeStatus> = self
                .addresses
                .iter()
                .filter_map(|&address| status_of(address, STATUS_TIMEOUT).ok())
                .collect();
            if let Some(found) = wanted(&answers) {
                return Ok(found);
            }
            if until_ns <= monotonic_ns() {
                let message =
                    format!("waited {PATIENCE:?} for {what} in vain (--keep keeps the logs)");
                return Err(Failure::definite(message));
            }
            // sleep: another process's state can only be asked for.
            std::thread::sleep(pause);
            pause = (pause * 2).min(POLL_MAX);
        }
    }

    fn wait_for_leader(&mut self) -> Result<NodeStatus, Failure> {
        self.wait("a leader", |answers| answers.iter().find(|status| status.leading).cloned())
    }

    fn wait_for_agreement(&mut self) -> Result<NodeStatus, Failure> {
        self.wait("all nodes to agree", |answers| {
            let first = answers.first()?;
            let same = |status: &NodeStatus| {
                status.applied == first.applied && status.digest == first.digest
            };
            (answers.len() == NODES && answers.iter().all(same)).then(|| first.clone())
        })
    }

    /// Whether we may go on: not interrupted, and no node has ended by itself.
    fn check(&mut self) -> Result<(), Failure> {
        if self.interrupted.load(Ordering::Relaxed) {
            return Err(Failure { code: super::code::DEFINITE, message: "interrupted".to_owned() });
        }
        for at in 0..NODES {
            let Some(node) = &mut self.nodes[at] else { continue };
            // One that we killed has no status left to take: its handle remembers that it ended.
            if let Ok(Some(status)) = node.0.try_wait()
                && status.code().is_some()
            {
                let log = std::fs::read_to_string(self.log_path(at)).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it said nothing").to_owned();
                return Err(Failure::definite(format!("node n{} ended: {last}", at + 1)));
            }
        }
        Ok(())
    }

    fn write(
        &mut self,
        client: &mut Client,
        numbers: std::ops::Range<usize>,
    ) -> Result<(), Failure> {
        for number in numbers {
            let key = format!("demo/{number:04}");
            let value = format!("value {number}");
            client.execute(&Command::Create { key: key.as_bytes(), value: value.as_bytes() })?;
            self.check()?;
        }
        Ok(())
    }
}

/// How many of the demo's keys there are.
fn count(client: &mut Client) -> Result<usize, Failure> {
    let end = prefix_end(b"demo/");
    let query = Query::Scan { from: b"demo/", to: end.as_deref(), limit: 2 * WRITES as u32 + 1 };
    match client.query(&query, Consistency::Linearizable)?.reply {
        Reply::Entries { entries, .. } => Ok(entries.len()),
        _ => Ok(0),
    }
}

/// Addresses that nobody listens on: held all at once, so that they differ, and then let go.
fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, Failure> {
    let held = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<Vec<_>, _>>()
        .map_err(cannot_start)?;
    held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>().map_err(cannot_start)
}

#[allow(clippy::needless_pass_by_value)] // It is what `map_err` hands over.
fn cannot_start(error: std::io::Error) -> Failure {
    Failure::definite(format!("cannot start the nodes: {error}"))
}

fn leads(status: &NodeStatus) -> String {
    format!("{} leads with ballot {}", status.node, status.ballot)
}

fn since(start_ns: u64) -> String {
    format!("{:.0} ms", (monotonic_ns() - start_ns) as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_addresses_differ() {
        let mut addresses = free_addresses(6).unwrap();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 6);
    }
}
