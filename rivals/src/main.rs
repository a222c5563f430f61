//! `rival-load`: loads another system as `loggos bench` loads Loggos. The loop, the load's shapes and the files that
//! come of it are that program's; what is here is the protocols, and what a client does when a node fails it.

mod connection;
mod connections;
mod etcd;
mod leader;
mod omnipaxos;
mod options;
mod protocol;
mod redis;
mod system;
mod zookeeper;

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use loggos::bench::history::History;
use loggos::bench::keys::{Generator, Names};
use loggos::bench::load::{Finished, Load};
use loggos::bench::options as bench;
use loggos::bench::recorder::{Window, nanos};
use loggos::bench::report::{self, Setting};
use loggos::cli::bench::interrupt_flag;
use loggos::trace::{self, monotonic_ns, wall_ns};
use loggos::wire::client::Consistency;
use mio::Poll;
use serde_json::{Value, json};

use connection::Nodes;
use connections::RivalConnections;
use leader::Finder;
use options::{Operation, Options, Target};
use system::System;

/// Where nobody watches, progress is worth fewer lines.
const INTERVAL_UNWATCHED_MIN: Duration = Duration::from_secs(5);
/// For each node, when they are first asked who leads.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("rival-load: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(asked: &Options) -> Result<(), String> {
    let mut options = asked.bench()?;
    if !io::stderr().is_terminal() {
        options.interval = options.interval.max(INTERVAL_UNWATCHED_MIN);
    }
    let options = &options;
    let run = loggos::client::nonce()?;
    let seed = options.seed.unwrap_or(run >> 1);
    let names = Names::new(run);
    let trace = match options.trace.as_deref() {
        Some(path) => Some(
            trace::Writer::create(path, trace::Source::Client)
                .map_err(|error| cannot_write(path, &error))?,
        ),
        None => None,
    };
    let history = match options.history.as_deref() {
        Some(path) => Some(
            History::create(path, options, names.clone())
                .map_err(|error| cannot_write(path, &error))?,
        ),
        None => None,
    };
    // Fail now rather than after the load.
    if let Some(path) = &options.json {
        std::fs::write(path, "").map_err(|error| cannot_write(path, &error))?;
    }

    let connections = connect(asked, options)?;
    let generator = Generator::new(options, names, seed);
    let interrupted = interrupt_flag().map_err(|failure| failure.message)?;
    let cannot_poll = |error| format!("cannot poll: {error}");
    let poll = Poll::new().map_err(cannot_poll)?;
    let files = (trace, history);
    let load = Load::new(options, poll, connections, generator, seed, files, interrupted)
        .map_err(cannot_poll)?;
    let interval_s = options.interval.as_secs_f64();
    let mut finished = load.run(|window: &Window| {
        if !options.quiet {
            eprintln!("{}", report::progress(window, interval_s));
        }
    })?;
    if let (Some(history), Some(path)) = (finished.history.take(), options.history.as_deref()) {
        history.finish().map_err(|error| cannot_write(path, &error))?;
    }
    if 0 < finished.not_read && !options.quiet {
        eprintln!("{} keys of the history could not be read at the end", finished.not_read);
    }
    tell(
        asked,
        options,
        &Setting {
            options,
            nodes: &asked.nodes,
            run,
            seed,
            wall_minus_monotonic_ns: wall_ns().wrapping_sub(monotonic_ns()),
        },
        &finished,
    )
}

/// The connections, not yet dialled. At least one node has to answer.
fn connect(asked: &Options, options: &bench::Options) -> Result<RivalConnections, String> {
    let leader = find_leader(asked.system, &asked.nodes)?;
    let follow = asked.target == Target::Leader;
    let created = if asked.system.creates_first() { options.keys as usize } else { 0 };
    let nodes = Nodes {
        system: asked.system,
        addresses: asked.nodes.clone(),
        leader: leader.filter(|_| follow),
        generation: 0,
        suspicion: false,
        op_timeout_ns: nanos(options.op_timeout),
        give_up_ns: nanos(options.give_up),
        may_be_stale: options.consistency == Consistency::Stale,
        created: vec![false; created],
        errors: BTreeMap::new(),
        last_error: None,
    };
    let first = match asked.target {
        Target::Leader => leader,
        Target::Spread => None,
        Target::Node(node) => asked.nodes.iter().position(|&it| it == node),
    };
    let count = asked.nodes.len();
    let finder =
        (follow && 1 < count).then(|| Finder::start(asked.system, asked.nodes.clone(), leader));
    Ok(RivalConnections::new(options.clients, nodes, finder, |id| first.unwrap_or(id % count)))
}

/// Asks every node whether it leads. At least one has to answer.
fn find_leader(system: System, nodes: &[SocketAddr]) -> Result<Option<usize>, String> {
    let mut answers = 0;
    let mut last = String::new();
    for (at, &node) in nodes.iter().enumerate() {
        match system.leads(node, STATUS_TIMEOUT) {
            Ok(true) => return Ok(Some(at)),
            Ok(false) => answers += 1,
            Err(error) => last = format!("{node}: {error}"),
        }
    }
    if answers == 0 { Err(format!("no node answers ({last})")) } else { Ok(None) }
}

/// Writes the results to where they were asked for.
fn tell(
    asked: &Options,
    options: &bench::Options,
    setting: &Setting<'_>,
    finished: &Finished<RivalConnections>,
) -> Result<(), String> {
    let json = report_of(asked, setting, finished);
    match &options.json {
        Some(path) => {
            let text = format!("{json}\n");
            std::fs::write(path, text).map_err(|error| cannot_write(path, &error))?;
            print!("{}", report::table(setting, finished, None));
        }
        None => println!("{json}"),
    }
    if finished.recorder.ok_in_time == 0 {
        let errors = finished.connections.errors();
        let why = errors.iter().max_by_key(|(_, count)| **count);
        let why = why.map_or("", |(text, _)| text.as_str());
        return Err(format!("no operation succeeded while it was measured: {why}"));
    }
    Ok(())
}

fn report_of(
    asked: &Options,
    setting: &Setting<'_>,
    finished: &Finished<RivalConnections>,
) -> Value {
    let mut all = report::json(setting, finished, None);
    let parameters = &mut all["parameters"];
    parameters["system"] = json!(asked.system.name());
    parameters["workload"] = json!(match asked.operation {
        Operation::Put => "put",
        Operation::Get => "get",
    });
    if let Target::Node(node) = asked.target {
        parameters["target"] = json!(node.to_string());
    }
    all["errors"] = json!(finished.connections.errors());
    all["not_read"] = json!(finished.not_read);
    all
}

fn cannot_write(path: &Path, error: &io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}
