//! `omnipaxos-kv`: a key-value server around the library OmniPaxos, to be measured beside Loggos.
//!
//! What it does: everything that a client asks is an entry of the log, reads too, so that all of it is linearizable
//! (OmniPaxos has no other linearizable read). A request is answered by the node that got it, once its entry is
//! decided and applied there; one that does not lead hands entries to the leader, which is OmniPaxos's own doing.
//!
//! How it is made fast (`server`): one thread and no runtime; messages in one write a turn and connection, without
//! Nagle's delay; a durable node syncs once a turn, and its leader sends entries before it syncs them. The authors'
//! own server (`omnipaxos-kv`) has tasks of tokio with queues between them, and a sync for each command at the leader.
//!
//! What is durable: with `--storage durable`, promises, accepted rounds and entries are synced (`fdatasync`) before any
//! other node or client hears of them, so nothing that was acknowledged is lost to crashes or losses of power, of all
//! nodes too. With `--storage memory` nothing is: a node that ends has forgotten what it promised, and OmniPaxos has no
//! way back for it under its number (its recovery is for nodes that remember; its way to replace one is a new
//! configuration). It could vote twice, and entries that were acknowledged could be lost. So a second start is refused,
//! and a cluster of three in memory survives one node's end, for good.
//!
//! What it does not do: the log is never trimmed, as in the authors' server (a put takes its bytes and some 100 more in
//! memory; a node that missed entries gets all of them in one message, which has 1 GiB at most); clients are not told
//! apart, so a put that is sent twice is done twice; members do not change.

mod clients;
mod command;
mod data;
mod links;
mod log_file;
mod peers;
mod server;
mod storage;
mod store;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use omnipaxos::{ClusterConfig, OmniPaxosConfig, ServerConfig};

use data::Data;
use server::{Node, Server, TICKS_PER_ELECTION};
use storage::Stored;

/// OmniPaxos keeps a list up to the highest number.
const ID_MAX: u64 = 1000;

/// A key-value server around the library OmniPaxos, to be measured
#[derive(Parser)]
#[command(name = "omnipaxos-kv", max_term_width = 80, override_usage = "omnipaxos-kv [OPTIONS]")]
struct Options {
    /// Number of this node
    #[arg(long, value_name = "N")]
    id: u64,
    /// All nodes, this one too, and where each listens for the others
    #[arg(long, value_name = "N=IP:PORT,…", value_delimiter = ',', required = true, value_parser = peer)]
    peers: Vec<(u64, SocketAddr)>,
    /// Where this node listens for clients
    #[arg(long, value_name = "IP:PORT")]
    clients: SocketAddr,
    /// Whether what it promised and accepted outlives it
    #[arg(long, value_enum)]
    storage: Kind,
    /// Its directory; made if it is not there
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
    /// Between two rounds of heartbeats; a leader is replaced after two or three
    #[arg(long, value_name = "T", default_value_t = 100, value_parser = clap::value_parser!(u64).range(10..=60_000))]
    election_timeout_ms: u64,
    /// Entries that OmniPaxos gathers before it proposes them, or a tenth of an
    /// election timeout; with 1 all that came in one turn goes at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    batch: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Memory,
    Durable,
}

fn peer(text: &str) -> Result<(u64, SocketAddr), String> {
    let (id, address) = text.split_once('=').ok_or("a peer looks like 1=10.0.0.1:7400")?;
    let id = id.parse().map_err(|_| format!("{id:?} is no number of a node"))?;
    let address = address.parse().map_err(|_| format!("{address:?} is no IP:PORT"))?;
    Ok((id, address))
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("omnipaxos-kv: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let peers: BTreeMap<u64, SocketAddr> = options.peers.iter().copied().collect();
    if peers.len() != options.peers.len() {
        return Err("--peers names a node twice".to_owned());
    }
    if !peers.contains_key(&options.id) {
        return Err(format!("--peers has no node {}", options.id));
    }
    if !peers.keys().all(|id| (1..=ID_MAX).contains(id)) {
        return Err(format!("--peers: nodes have numbers from 1 to {ID_MAX}"));
    }
    let data = Data::open(&options.data, options.id, options.storage)?;
    let (stored, log) = match options.storage {
        Kind::Memory => (Stored::default(), None),
        Kind::Durable => {
            let path = data.log();
            let (stored, log) = Stored::open(&path)
                .map_err(|error| format!("cannot open {}: {error}", path.display()))?;
            (stored, Some(log))
        }
    };
    let config = OmniPaxosConfig {
        cluster_config: ClusterConfig {
            configuration_id: 1,
            nodes: peers.keys().copied().collect(),
            flexible_quorum: None,
        },
        server_config: ServerConfig {
            pid: options.id,
            election_tick_timeout: TICKS_PER_ELECTION,
            resend_message_tick_timeout: TICKS_PER_ELECTION,
            flush_batch_tick_timeout: 1,
            batch_size: options.batch as usize,
            ..ServerConfig::default()
        },
    };
    let omnipaxos = config.build(stored).map_err(|error| format!("--peers: {error}"))?;
    let tick = Duration::from_millis(options.election_timeout_ms) / TICKS_PER_ELECTION as u32;
    let life = loggos::client::nonce()?;
    let node = Node { id: options.id, peers, life, tick, omnipaxos, log };
    let server = Server::new(node, options.clients).map_err(|error| error.to_string())?;
    eprintln!("omnipaxos-kv: node {} serves clients at {}", options.id, options.clients);
    server.run().map_err(|error| error.to_string())
}
