//! What can be asked, and which of it makes no sense.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use loggos::bench::keys::VALUE_STAMP_SIZE;
use loggos::bench::options::{self as bench, Spacing, Workload};
use loggos::cli::duration::{parse, parse_positive};
use loggos::wire::client::Consistency;

use crate::system::System;

/// Their numbers go into traces.
const NODES_MAX: usize = 1000;

/// Loads another system as `loggos bench` loads Loggos
#[derive(Parser)]
#[command(name = "rival-load", max_term_width = 80)]
pub struct Options {
    /// What the nodes are
    #[arg(value_enum)]
    pub system: System,
    /// What is done to keys
    #[arg(value_enum)]
    pub operation: Operation,
    /// All nodes; from one that breaks, is silent or does not lead,
    /// connections go to the next
    #[arg(long, value_name = "IP:PORT,…", value_delimiter = ',', required = true)]
    pub nodes: Vec<SocketAddr>,
    /// Where connections go: the leader, all nodes, or one of them first
    #[arg(long, value_name = "leader|spread|IP:PORT", default_value = "leader", value_parser = target)]
    pub target: Target,
    /// Connections
    #[arg(long, short = 'c', value_name = "N", default_value_t = 16)]
    clients: usize,
    /// Requests that each connection keeps in flight
    #[arg(long, value_name = "N", default_value_t = 1)]
    in_flight: usize,
    /// Measured time
    #[arg(long, short = 'd', value_name = "TIME", default_value = "10s", value_parser = parse_positive)]
    duration: Duration,
    /// Time under load before the measuring begins
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse)]
    warmup: Duration,
    /// Keys to choose from; what is read is written first
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    keys: u64,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    value_size: usize,
    /// Share of reads among puts, 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = 0.0)]
    reads: f64,
    /// What reads may return [default: linearizable, of ZooKeeper stale; there
    /// a linearizable read has a sync before it]
    #[arg(long, value_enum)]
    consistency: Option<Reads>,
    /// Zipf exponent of the choice of keys (0: uniform)
    #[arg(long, value_name = "THETA", default_value_t = 0.0)]
    skew: f64,
    /// Open loop: operations a second, whether or not the system keeps up;
    /// latency counts from the intended start [default: closed loop]
    #[arg(long, value_name = "OPS")]
    rate: Option<f64>,
    /// Spacing of the intended starts of an open loop
    #[arg(long, value_enum, default_value = "poisson")]
    arrivals: Arrivals,
    /// Without reply for so long, an operation is sent again to another node
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_positive)]
    op_timeout: Duration,
    /// After so long an operation ends with an unknown outcome
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = parse_positive)]
    give_up: Duration,
    /// Seed of keys and arrivals [default: random, and reported]
    #[arg(long)]
    seed: Option<u64>,
    /// Between two lines of progress (to a file: 5s or more)
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_positive)]
    interval: Duration,
    /// Write all results as JSON to a file, and a table to standard output
    /// [default: JSON to standard output]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write one trace record for every operation that ended
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Write what every operation asked and was told, for `loggos check`; the
    /// keys are read once more at the end
    #[arg(long, value_name = "FILE")]
    history: Option<PathBuf>,
    /// No progress on standard error
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Operation {
    Put,
    Get,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Reads {
    Linearizable,
    Stale,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Arrivals {
    Poisson,
    Uniform,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Leader,
    Spread,
    Node(SocketAddr),
}

fn target(text: &str) -> Result<Target, String> {
    match text {
        "leader" => Ok(Target::Leader),
        "spread" => Ok(Target::Spread),
        _ => text.parse().map(Target::Node).map_err(|_| "leader, spread or IP:PORT".to_owned()),
    }
}

impl Options {
    /// The same as options of `loggos bench`, checked; else what makes no sense.
    pub fn bench(&self) -> Result<bench::Options, String> {
        if NODES_MAX < self.nodes.len() {
            return Err(format!("--nodes has more than {NODES_MAX}"));
        }
        if let Target::Node(node) = self.target
            && !self.nodes.contains(&node)
        {
            return Err(format!("--target {node} is none of --nodes"));
        }
        if self.operation == Operation::Get && self.reads != 0.0 {
            return Err("--reads goes with put: get reads only".to_owned());
        }
        let reads = if self.operation == Operation::Get { 1.0 } else { self.reads };
        let default =
            if self.system == System::Zookeeper { Reads::Stale } else { Reads::Linearizable };
        let consistency = self.consistency.unwrap_or(default);
        if consistency == Reads::Stale && !matches!(self.system, System::Zookeeper | System::Etcd) {
            let name = self.system.name();
            return Err(format!("--consistency stale: {name} has no such reads"));
        }
        if self.history.is_some() && self.value_size < VALUE_STAMP_SIZE {
            return Err(format!(
                "--history needs --value-size {VALUE_STAMP_SIZE} or more: then no two values are alike"
            ));
        }
        let options = bench::Options {
            clients: self.clients,
            in_flight: self.in_flight,
            duration: self.duration,
            warmup: self.warmup,
            workload: Workload::Put,
            rows: 1,
            keys: self.keys,
            value_size: self.value_size,
            reads,
            consistency: match consistency {
                Reads::Linearizable => Consistency::Linearizable,
                Reads::Stale => Consistency::Stale,
            },
            skew: self.skew,
            rate: self.rate,
            arrivals: match self.arrivals {
                Arrivals::Poisson => Spacing::Poisson,
                Arrivals::Uniform => Spacing::Uniform,
            },
            target: match self.target {
                Target::Leader => bench::Target::Leader,
                Target::Spread | Target::Node(_) => bench::Target::Spread,
            },
            op_timeout: self.op_timeout,
            give_up: self.give_up,
            seed: self.seed,
            interval: self.interval,
            check: false,
            json: self.json.clone().filter(|path| path.as_os_str() != "-"),
            trace: self.trace.clone(),
            history: self.history.clone(),
            quiet: self.quiet,
        };
        options.check()?;
        Ok(options)
    }
}
