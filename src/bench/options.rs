//! What can be asked of the load generator, and which of it makes no sense.

use std::path::PathBuf;
use std::time::Duration;

use crate::limits::{COMMAND_SIZE_MAX, SESSION_WINDOW_MAX, SESSIONS_MAX, VALUE_SIZE_MAX};
use crate::wire::client::Consistency;

use super::keys::VALUE_STAMP_SIZE;

#[derive(Clone, Debug)]
pub struct Options {
    /// Connections, each with a session of its own
    pub clients: usize,
    /// Operations that each connection keeps in flight
    pub in_flight: usize,
    /// Measured time
    pub duration: Duration,
    /// Time under load before the measuring begins
    pub warmup: Duration,
    /// What is written (incr: counters, create: new keys, sql: rows)
    pub workload: Workload,
    /// Rows that one command inserts (sql)
    pub rows: usize,
    /// Keys to choose from (put, incr)
    pub keys: u64,
    /// Bytes of each value (put, create, sql)
    pub value_size: usize,
    /// Share of reads, 0 to 1; their keys are written first
    pub reads: f64,
    /// What reads may return, and how that is made sure: as the node is
    /// configured, by the leader, by its lease, by a quorum; or whatever a
    /// replica has
    /// [default: linearizable]
    pub consistency: Consistency,
    /// Zipf exponent of the choice of keys (0: uniform)
    pub skew: f64,
    /// Open loop: operations a second, whether or not the cluster keeps up;
    /// latency counts from the intended start. [default: closed loop, each
    /// connection waits for its reply]
    pub rate: Option<f64>,
    /// Spacing of the intended starts of an open loop
    pub arrivals: Spacing,
    /// Where connections go: the leader, or all nodes
    pub target: Target,
    /// Without reply for so long, an operation is sent again to another node,
    /// under the same id
    pub op_timeout: Duration,
    /// After so long an operation ends with an unknown outcome
    pub give_up: Duration,
    /// Seed of keys and arrivals [default: random, and reported in the JSON]
    pub seed: Option<u64>,
    /// Between two lines of progress (to a file: 5s or more)
    pub interval: Duration,
    /// Read everything back in the end and count what was lost or done twice
    /// (then the exit code is 5); with put, connections share no keys
    pub check: bool,
    /// Write all results as JSON; `-`: to standard output, without the table
    pub json: Option<PathBuf>,
    /// Write one trace record for every operation that ended
    pub trace: Option<PathBuf>,
    /// Write what every operation asked and was told, for `loggos check`; the
    /// keys are read once more at the end
    pub history: Option<PathBuf>,
    /// No progress on standard error
    pub quiet: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    Put,
    Incr,
    Create,
    Sql,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    Poisson,
    Uniform,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Leader,
    Spread,
}

pub const WORKLOADS: [(&str, Workload); 4] = [
    ("put", Workload::Put),
    ("incr", Workload::Incr),
    ("create", Workload::Create),
    ("sql", Workload::Sql),
];
pub const ARRIVALS: [(&str, Spacing); 2] =
    [("poisson", Spacing::Poisson), ("uniform", Spacing::Uniform)];
/// In words of the command line, for `bench` and for all that reads.
pub const CONSISTENCIES: [(&str, Consistency); 5] = [
    ("linearizable", Consistency::Linearizable),
    ("leader", Consistency::Leader),
    ("lease", Consistency::Lease),
    ("quorum", Consistency::Quorum),
    ("stale", Consistency::Stale),
];
pub const TARGETS: [(&str, Target); 2] = [("leader", Target::Leader), ("spread", Target::Spread)];

/// An option's value as it is written on the command line.
pub fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    let found = words.iter().find(|(_, it)| it == value);
    found.expect("there is a word for each").0
}

impl Options {
    /// Whether the numbers make sense together; else one line that says which does not.
    pub fn check(&self) -> Result<(), String> {
        let range = |name: &str, value: usize, max: usize| {
            if (1..=max).contains(&value) {
                Ok(())
            } else {
                Err(format!("--{name} is {value}; allowed is 1 to {max}"))
            }
        };
        range("clients", self.clients, SESSIONS_MAX / 2)?;
        // Half, so that one slow command does not stop the others of its session at once.
        range("in-flight", self.in_flight, SESSION_WINDOW_MAX / 2)?;
        range("keys", usize::try_from(self.keys).unwrap_or(usize::MAX), 100_000_000)?;
        if VALUE_SIZE_MAX < self.value_size {
            return Err(format!(
                "--value-size is {}; allowed is 0 to {VALUE_SIZE_MAX}",
                self.value_size
            ));
        }
        range("rows", self.rows, 10_000)?;
        if COMMAND_SIZE_MAX / 2 < self.rows * (self.value_size + 128) {
            return Err("--rows times --value-size is more than a command holds".to_owned());
        }
        if self.workload == Workload::Sql
            && (self.check || self.history.is_some() || 0.0 < self.reads)
        {
            return Err("--workload sql goes without --check, --history and --reads".to_owned());
        }
        if !(0.0..=1.0).contains(&self.reads) {
            return Err(format!("--reads is {}; allowed is 0 to 1", self.reads));
        }
        if !(0.0..=10.0).contains(&self.skew) {
            return Err(format!("--skew is {}; allowed is 0 to 10", self.skew));
        }
        if self.rate.is_some_and(|rate| !(0.001..=10_000_000.0).contains(&rate)) {
            return Err("--rate: allowed is 0.001 to 10000000 operations a second".to_owned());
        }
        if self.check && self.workload != Workload::Incr && self.value_size < VALUE_STAMP_SIZE {
            return Err(format!(
                "--check needs --value-size {VALUE_STAMP_SIZE} or more: values then say who wrote them"
            ));
        }
        let own_keys = (self.clients * self.in_flight) as u64;
        if self.check && self.workload == Workload::Put && self.keys < own_keys {
            return Err(format!(
                "--check needs --keys {own_keys} or more: each operation in flight has its own"
            ));
        }
        Ok(())
    }

    /// Whether each connection writes only keys of its own, so that the last write is known.
    pub fn partitioned(&self) -> bool {
        self.check && self.workload == Workload::Put
    }

    /// Whether the keys are written once before the load: a read of a missing key costs less.
    pub fn preloads(&self) -> bool {
        self.workload == Workload::Put && 0.0 < self.reads
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::cli::load;
    use crate::cli::manual::{MANUAL, Typed};

    /// The options of a command line.
    pub fn options(line: &str) -> Options {
        let page = MANUAL.page("loggos bench").unwrap();
        match page.parse(line.split_whitespace().map(Into::into).collect()).unwrap() {
            Typed::Line(line) => load::options(&line).unwrap(),
            Typed::Asked(text) => panic!("{text}"),
        }
    }

    #[test]
    fn defaults_make_sense() {
        assert_eq!(options("").check(), Ok(()));
        assert_eq!(options("--check").check(), Ok(()));
    }

    #[test]
    fn nonsense_is_named() {
        for (line, name) in [
            ("--clients 0", "--clients"),
            ("--in-flight 5000", "--in-flight"),
            ("--keys 0", "--keys"),
            ("--reads 1.5", "--reads"),
            ("--reads NaN", "--reads"),
            ("--skew 11", "--skew"),
            ("--rate 0", "--rate"),
            ("--value-size 99999999", "--value-size"),
            ("--check --value-size 8", "--value-size"),
            ("--check --keys 8 --clients 9", "--keys"),
        ] {
            let error = options(line).check().unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }
}
