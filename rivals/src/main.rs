//! `rival-load`: loads another system as `loggos bench` loads Loggos, and prints what it measured as JSON under the
//! same names. One thread, some connections with some requests in flight each, random keys.

mod etcd;
mod load;
mod protocol;
mod redis;
mod zookeeper;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use loggos::bench::report;
use loggos::cli::duration;
use serde_json::{Value, json};

use load::{Finished, Load, Shape};
use protocol::Protocol;

const CLIENTS_MAX: usize = 4096;
const IN_FLIGHT_MAX: usize = 1024;
const KEYS_MAX: u64 = 100_000_000;
const VALUE_SIZE_MAX: usize = 1 << 20;

/// Loads another system as `loggos bench` loads Loggos
#[derive(Parser)]
#[command(name = "rival-load")]
struct Options {
    /// What the node is
    #[arg(value_enum)]
    system: System,
    /// What is done to keys
    #[arg(value_enum)]
    operation: Operation,
    /// Where all connections go: the leader
    #[arg(long, value_name = "IP:PORT")]
    node: SocketAddr,
    /// Connections
    #[arg(long, short = 'c', value_name = "N", default_value_t = 16)]
    clients: usize,
    /// Requests that each connection keeps in flight
    #[arg(long, value_name = "N", default_value_t = 1)]
    in_flight: usize,
    /// Measured time
    #[arg(long, short = 'd', value_name = "TIME", default_value = "10s", value_parser = duration::parse_positive)]
    duration: Duration,
    /// Time under load before the measuring begins
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration::parse)]
    warmup: Duration,
    /// Keys to choose from; what is read is written first
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    keys: u64,
    /// Bytes of each value
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    value_size: usize,
    /// Seed of the choice of keys [default: random]
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum System {
    Etcd,
    Redis,
    Zookeeper,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Operation {
    Put,
    Get,
}

impl Options {
    fn check(&self) -> Result<(), String> {
        let range = |name: &str, value: u64, min: u64, max: u64| {
            if (min..=max).contains(&value) {
                Ok(())
            } else {
                Err(format!("--{name} is {value}; allowed is {min} to {max}"))
            }
        };
        range("clients", self.clients as u64, 1, CLIENTS_MAX as u64)?;
        range("in-flight", self.in_flight as u64, 1, IN_FLIGHT_MAX as u64)?;
        range("keys", self.keys, 1, KEYS_MAX)?;
        range("value-size", self.value_size as u64, 0, VALUE_SIZE_MAX as u64)
    }
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("rival-load: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<Value, String> {
    options.check()?;
    let run = loggos::client::nonce()?;
    let shape = Shape {
        node: options.node,
        reads: options.operation == Operation::Get,
        clients: options.clients,
        in_flight: options.in_flight,
        warmup: options.warmup,
        duration: options.duration,
        keys: options.keys,
        value_size: options.value_size,
        run,
        seed: options.seed.unwrap_or(run >> 1),
    };
    let load = Load::new(&shape, || -> Box<dyn Protocol> {
        match options.system {
            System::Etcd => Box::new(etcd::Etcd::new(options.node)),
            System::Redis => Box::new(redis::Redis::default()),
            System::Zookeeper => Box::new(zookeeper::ZooKeeper::default()),
        }
    })?;
    let finished = load.run()?;
    if finished.recorder.ok_in_time == 0 {
        let why = finished.errors.keys().next().map_or("", String::as_str);
        return Err(format!("no operation succeeded while it was measured: {why}"));
    }
    Ok(report(options, &shape, &finished))
}

fn report(options: &Options, shape: &Shape, finished: &Finished) -> Value {
    let name = |value: Option<clap::builder::PossibleValue>| {
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    };
    let mut all = json!({
        "parameters": {
            "system": name(options.system.to_possible_value()),
            "workload": name(options.operation.to_possible_value()),
            "nodes": [shape.node.to_string()],
            "clients": shape.clients,
            "in_flight": shape.in_flight,
            "duration_s": shape.duration.as_secs_f64(),
            "warmup_s": shape.warmup.as_secs_f64(),
            "keys": shape.keys,
            "value_size": shape.value_size,
            "reads": if shape.reads { 1.0 } else { 0.0 },
            "seed": shape.seed,
        },
        "errors": finished.errors,
    });
    let measured = report::measured(&finished.recorder, finished.cpu_ns);
    all.as_object_mut().expect("it is written as one").extend(measured);
    all
}
