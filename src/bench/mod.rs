//! The load generator: `loggos bench`.
//!
//! Closed loop (each connection waits for its reply) or open loop (operations start when they are
//! meant to, whatever the cluster does), on one thread. What it reports is what a client would have
//! seen: latency from the intended start, outages as gaps, unknown outcomes as such. `check` reads
//! everything back and says whether anything was lost or done twice.
//!
//! What is public here serves other systems' load generator too (`rivals/`), so that both measure alike.

mod arrivals;
pub mod check;
mod control;
pub mod history;
pub mod keys;
mod link;
pub mod load;
pub mod options;
pub mod recorder;
pub mod report;
pub mod socket;
mod timer;
mod worker;
mod workers;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use mio::Poll;

use crate::client::{self, Client};
use crate::limits::SCAN_ENTRIES_MAX;
use crate::sql::Statement;
use crate::store::{Command, Query, Reply, Step, Transaction, prefix_end};
use crate::trace::{self, monotonic_ns, wall_ns};
use crate::wire::client::Consistency;
use crate::wire::kv::encode_transaction;

use history::History;
use keys::{Generator, Key, Names, TABLE};
use load::Load;
use options::{Options, Workload};
use recorder::{Window, nanos};
use report::Setting;
use worker::Nodes;
use workers::Workers;

/// Time for the questions around the load: who leads, and what is there in the end.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(30);
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there is no result.
#[derive(Debug, PartialEq, Eq)]
pub enum Error {
    /// The options make no sense, or a file cannot be written.
    Usage(String),
    /// The cluster did not serve us.
    Unreachable(String),
}

/// A run that came to its end.
pub struct Outcome {
    /// For standard output.
    pub text: String,
    /// False if the check found something.
    pub is_well: bool,
    /// Operations that succeeded while it was measured.
    pub ok: u64,
}

/// Runs a load against the nodes. `progress` gets a line now and then; `interrupted` ends the load
/// early, with a report.
pub fn run(
    options: &Options,
    addresses: &[SocketAddr],
    progress: &mut dyn FnMut(&str),
    interrupted: Arc<AtomicBool>,
) -> Result<Outcome, Error> {
    options.check().map_err(Error::Usage)?;
    let run = client::nonce().map_err(Error::Unreachable)?;
    let seed = options.seed.unwrap_or(run >> 1);
    let names = Names::new(run);
    let trace = open_trace(options.trace.as_deref())?;
    let history = match options.history.as_deref() {
        Some(path) => Some(
            History::create(path, options, names.clone())
                .map_err(|error| cannot_write(path, &error))?,
        ),
        None => None,
    };
    // Fail now rather than after the load.
    if let Some(path) = options.json.as_deref().filter(|path| *path != Path::new("-")) {
        std::fs::write(path, "").map_err(|error| cannot_write(path, &error))?;
    }

    let nodes = find_nodes(options, addresses)?;
    if options.workload == Workload::Sql {
        make_table(addresses)?;
    }
    let generator = Generator::new(options, names.clone(), seed);
    let workers = Workers::new(options, nodes, run);
    let load = Poll::new()
        .and_then(|poll| {
            Load::new(options, poll, workers, generator, seed, (trace, history), interrupted)
        })
        .map_err(|error| Error::Unreachable(format!("cannot poll: {error}")))?;
    let interval_s = options.interval.as_secs_f64();
    let mut finished = load
        .run(|window: &Window| progress(&report::progress(window, interval_s)))
        .map_err(Error::Unreachable)?;

    let history = finished.history.take();
    let mut verdict = None;
    if finished.check.is_some() || history.is_some() {
        let from_ns = monotonic_ns();
        let present = read_back(&names, addresses)?;
        if let (Some(mut history), Some(path)) = (history, options.history.as_deref()) {
            let written = history
                .read_back(from_ns, monotonic_ns(), &present)
                .and_then(|()| history.finish());
            written.map_err(|error| cannot_write(path, &error))?;
        }
        verdict = finished.check.take().map(|check| check.verdict(&present));
    }
    let setting = Setting {
        options,
        nodes: addresses,
        run,
        seed,
        wall_minus_monotonic_ns: wall_ns().wrapping_sub(monotonic_ns()),
    };
    let mut text = report::table(&setting, &finished, verdict.as_ref());
    if let Some(path) = &options.json {
        let mut json = report::json(&setting, &finished, verdict.as_ref()).to_string();
        json.push('\n');
        if path == Path::new("-") {
            text = json;
        } else {
            std::fs::write(path, json).map_err(|error| cannot_write(path, &error))?;
        }
    }
    let is_well = verdict.is_none_or(|verdict| verdict.is_well());
    Ok(Outcome { text, is_well, ok: finished.recorder.ok_in_time })
}

/// Makes the table in which rows are inserted, if it is not there.
fn make_table(addresses: &[SocketAddr]) -> Result<(), Error> {
    let then = vec![Step::Sql(Statement { text: TABLE, parameters: Vec::new() })];
    let bytes = encode_transaction(&Transaction { then, ..Transaction::default() });
    let made = Client::new(addresses, QUESTION_TIMEOUT).execute(&Command::Transaction(&bytes));
    match made.map(|answer| answer.reply) {
        Ok(Reply::Transaction { .. }) => Ok(()),
        Ok(other) => Err(Error::Unreachable(format!("the table cannot be made: {other:?}"))),
        Err(error) => Err(Error::Unreachable(error.to_string())),
    }
}

/// Asks every node who it is and who leads. At least one has to answer.
fn find_nodes(options: &Options, addresses: &[SocketAddr]) -> Result<Nodes, Error> {
    let mut nodes = Nodes {
        addresses: addresses.to_vec(),
        ids: vec![None; addresses.len()],
        leader: None,
        generation: 0,
        last_error: None,
        suspicion: false,
        op_timeout_ns: nanos(options.op_timeout),
        give_up_ns: nanos(options.give_up),
        consistency: options.consistency,
    };
    let mut last = String::new();
    for (at, &address) in addresses.iter().enumerate() {
        match client::status_of(address, STATUS_TIMEOUT) {
            Ok(status) => {
                nodes.ids[at] = Some(status.node);
                if status.leading {
                    nodes.leader = Some(at);
                }
            }
            Err(why) => last = format!("{address}: {why}"),
        }
    }
    if nodes.ids.iter().all(Option::is_none) {
        return Err(Error::Unreachable(format!("no node answers ({last})")));
    }
    Ok(nodes)
}

/// Reads all keys of the run.
fn read_back(names: &Names, addresses: &[SocketAddr]) -> Result<BTreeMap<Key, Vec<u8>>, Error> {
    let mut client = Client::new(addresses, QUESTION_TIMEOUT);
    let failed = |why: String| Error::Unreachable(format!("the check cannot read: {why}"));
    let end = prefix_end(names.prefix());
    let mut from = names.prefix().to_vec();
    let mut present: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
    loop {
        let limit = SCAN_ENTRIES_MAX as u32;
        let query = Query::Scan { from: &from, to: end.as_deref(), limit };
        let answer = client
            .query(&query, Consistency::Linearizable)
            .map_err(|error| failed(error.to_string()))?;
        let Reply::Entries { entries, next } = answer.reply else {
            return Err(failed("a scan was not answered with entries".to_owned()));
        };
        for (name, value) in entries {
            let key = names.parse(&name).ok_or_else(|| failed("a key of no name".to_owned()))?;
            present.insert(key, value);
        }
        match next {
            Some(next) => from = next,
            None => return Ok(present),
        }
    }
}

fn open_trace(path: Option<&Path>) -> Result<Option<trace::Writer>, Error> {
    let Some(path) = path else { return Ok(None) };
    match trace::Writer::create(path, trace::Source::Client) {
        Ok(writer) => Ok(Some(writer)),
        Err(error) => Err(cannot_write(path, &error)),
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> Error {
    Error::Usage(format!("cannot write {}: {error}", path.display()))
}
