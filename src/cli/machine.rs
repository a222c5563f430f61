//! `loggos bench disk` and `loggos bench network`: what the machine can do, as tables.

use std::io::{self, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::args::{MachineArgs, MachineCommand};
use super::server::wal_failure;
use super::{Failure, code};
use crate::machine::{Timed, disk, network};

/// From so many times what must be written on something is wrong, and worth a sentence.
const AMPLIFICATION_MAX: f64 = 4.0;

pub fn run(command: &MachineCommand) -> Result<(), Failure> {
    let mut out = Out { json: Map::new(), to: io::stdout().lock() };
    match command {
        MachineCommand::Disk { dir, how } => measure_disk(dir, how, &mut out),
        MachineCommand::Network { how } => measure_network(how, &mut out),
    }
}

/// Lines as they come, or one object in the end.
struct Out {
    json: Map<String, Value>,
    to: io::StdoutLock<'static>,
}

impl Out {
    fn line(&mut self, how: &MachineArgs, line: &str) -> Result<(), Failure> {
        if how.json {
            return Ok(());
        }
        writeln!(self.to, "{}", line.trim_end()).map_err(|error| Failure::output(&error))
    }

    fn end(&mut self, how: &MachineArgs) -> Result<(), Failure> {
        if !how.json {
            return Ok(());
        }
        let object = Value::Object(std::mem::take(&mut self.json));
        writeln!(self.to, "{object}").map_err(|error| Failure::output(&error))
    }
}

fn json_of(timed: &Timed) -> Map<String, Value> {
    let object = json!({ "per_s": timed.rate(), "p50_us": timed.p50_us, "p99_us": timed.p99_us });
    let Value::Object(object) = object else { unreachable!("it is written as one") };
    object
}

fn measure_disk(dir: &Path, how: &MachineArgs, out: &mut Out) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure {
        code: code::DISK,
        message: format!("cannot measure the disk below {}: {error}", dir.display()),
    };
    if !dir.is_dir() {
        return Err(Failure::usage(format!("{} is no directory", dir.display())));
    }
    out.line(how, "group commits of the log: appended, then synced, one after the other")?;
    out.line(how, "writers   bytes   commits/s   p50 us   p99 us   KiB written each   times")?;
    let (mut rows, mut worst) = (Vec::new(), 0.0);
    for (writers, size) in disk::CASES {
        let commits =
            disk::commits(dir, writers, size, how.duration).map_err(|error| wal_failure(&error))?;
        let (timed, times) = (&commits.timed, commits.amplification());
        let written = commits.written.map_or("?".into(), |it| format!("{:.1}", it / 1024.0));
        let shown = times.map_or("?".into(), |times| format!("{times:.2}"));
        out.line(
            how,
            &format!(
                "{writers:>7} {size:>7} {:>11.0} {:>8.1} {:>8.1} {written:>18} {shown:>7}",
                timed.rate(),
                timed.p50_us,
                timed.p99_us
            ),
        )?;
        let mut row = json_of(timed);
        row.insert("writers".into(), writers.into());
        row.insert("bytes".into(), size.into());
        row.insert("written_bytes".into(), json!(commits.written));
        row.insert("amplification".into(), json!(times));
        rows.push(Value::Object(row));
        worst = times.unwrap_or(0.0).max(worst);
    }
    let (write, read) = disk::sequential(dir).map_err(failed)?;
    let mib = |rate: f64| rate / f64::from(1 << 20);
    out.line(
        how,
        &format!(
            "one file from end to end: {:.0} MiB/s written, {:.0} MiB/s read",
            mib(write),
            mib(read)
        ),
    )?;
    if AMPLIFICATION_MAX < worst {
        out.line(
            how,
            &format!(
                "The disk writes up to {worst:.1} times the pages that commits change. If nobody\n\
             else writes to it, its file system copies or logs data, or keeps files in\n\
             large pieces."
            ),
        )?;
    }
    out.json.insert("commits".into(), rows.into());
    out.json.insert("write_bytes_per_s".into(), json!(write));
    out.json.insert("read_bytes_per_s".into(), json!(read));
    out.end(how)
}

fn measure_network(how: &MachineArgs, out: &mut Out) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::definite(format!("cannot measure loopback: {error}"));
    out.line(how, "messages to another thread and back, over loopback")?;
    out.line(how, "  bytes   round trips/s   p50 us   p99 us")?;
    let mut rows = Vec::new();
    for size in network::SIZES {
        let timed = network::round_trips(size, how.duration).map_err(failed)?;
        let (rate, p50, p99) = (timed.rate(), timed.p50_us, timed.p99_us);
        out.line(how, &format!("{size:>7} {rate:>15.0} {p50:>8.1} {p99:>8.1}"))?;
        let mut row = json_of(&timed);
        row.insert("bytes".into(), size.into());
        rows.push(Value::Object(row));
    }
    let rate = network::stream(how.duration).map_err(failed)?;
    out.line(how, &format!("in one direction: {:.0} MiB/s", rate / f64::from(1 << 20)))?;
    out.json.insert("round_trips".into(), rows.into());
    out.json.insert("stream_bytes_per_s".into(), json!(rate));
    out.end(how)
}
