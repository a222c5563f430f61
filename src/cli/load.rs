//! The options of the load generator, as they were typed. A file of its own, because the tests of `bench` write
//! their options so, and are in another crate (`engine.rs`).

use std::path::PathBuf;
use std::str::FromStr;

use super::duration;
use super::manual::{Line, one_of};
use crate::bench::options::{ARRIVALS, CONSISTENCIES, Options, TARGETS, WORKLOADS};
use crate::wire::client::Consistency;

pub fn options(line: &Line) -> Result<Options, String> {
    let path = |name: &str| line.bytes(name).map(PathBuf::from);
    Ok(Options {
        clients: line.needed("--clients", usize::from_str)?,
        in_flight: line.needed("--in-flight", usize::from_str)?,
        duration: line.needed("--duration", duration::parse_positive)?,
        warmup: line.needed("--warmup", duration::parse)?,
        workload: line.needed("--workload", |text| one_of(&WORKLOADS, text))?,
        rows: line.needed("--rows", usize::from_str)?,
        keys: line.needed("--keys", u64::from_str)?,
        value_size: line.needed("--value-size", usize::from_str)?,
        reads: line.needed("--reads", f64::from_str)?,
        consistency: consistency(line)?,
        skew: line.needed("--skew", f64::from_str)?,
        rate: line.value("--rate", f64::from_str)?,
        arrivals: line.needed("--arrivals", |text| one_of(&ARRIVALS, text))?,
        target: line.needed("--target", |text| one_of(&TARGETS, text))?,
        op_timeout: line.needed("--op-timeout", duration::parse_positive)?,
        give_up: line.needed("--give-up", duration::parse_positive)?,
        seed: line.value("--seed", u64::from_str)?,
        interval: line.needed("--interval", duration::parse_positive)?,
        check: line.is_given("--check"),
        json: path("--json"),
        trace: path("--trace"),
        history: path("--history"),
        quiet: line.is_given("--quiet"),
    })
}

/// Of a read that may be stale up to some age.
pub fn consistency_within(line: &Line) -> Result<Consistency, String> {
    match (consistency(line)?, line.value("--max-age", duration::parse)?) {
        (Consistency::Stale, Some(age)) => {
            Ok(Consistency::StaleWithin { age_us: age.as_micros() as u64 })
        }
        (_, Some(_)) => Err("--max-age goes with --consistency stale".to_owned()),
        (consistency, None) => Ok(consistency),
    }
}

pub fn consistency(line: &Line) -> Result<Consistency, String> {
    line.needed("--consistency", |text| one_of(&CONSISTENCIES, text))
}
