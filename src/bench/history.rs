//! Records what every operation asked and was told, for `loggos check`.
//!
//! An operation begins no later than its first byte is sent and ends no earlier than its reply has been
//! read: both times may only be further apart than the truth. So the end is a time of its own, taken
//! after the socket was read; the time that latencies are measured with is from before.
//!
//! Left out is what tells nothing: reads that brought no value, and reads that were allowed to be stale.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::check::file::{Clock, Writer};
use crate::check::{Op, Operation, Outcome, Reply, Value};
use crate::trace::{Operation as Kind, OperationOutcome};
use crate::wire::client::Consistency;

use super::check::Observed;
use super::keys::{Generator, Key, Names};
use super::load::Ended;
use super::options::Options;

pub struct History {
    out: Writer<File>,
    names: Names,
    /// Numbers in the file of the keys that all workers share, by index; 0: not named yet, else + 1.
    shared: Vec<u32>,
    /// The keys in the order of their numbers.
    keys: Vec<Key>,
    /// Of keys that one worker made; ordered, so that it needs no hashing.
    unique: BTreeMap<(u32, u64), u32>,
    name: Vec<u8>,
    /// Number of the client that reads everything at the end: the one after the workers.
    last_client: u64,
    records_reads: bool,
}

impl History {
    /// Begins a file. The keys of a run are its own, so none of them exists yet.
    pub fn create(path: &Path, options: &Options, names: Names) -> io::Result<History> {
        Ok(History {
            out: Writer::new(File::create(path)?, &Clock::here(), false)?,
            names,
            shared: Vec::new(),
            keys: Vec::new(),
            unique: BTreeMap::new(),
            name: Vec::new(),
            last_client: options.clients as u64,
            records_reads: options.consistency != Consistency::Stale,
        })
    }

    /// An operation of `worker` ended at `ended_ns`, read after its reply.
    pub fn end(
        &mut self,
        worker: u32,
        ended: &Ended,
        ended_ns: u64,
        generator: &mut Generator,
    ) -> io::Result<()> {
        let job = &ended.job;
        let read = job.operation == Kind::Read;
        if read && (!self.records_reads || ended.outcome != OperationOutcome::Ok) {
            return Ok(());
        }
        let op = match job.operation {
            Kind::Read => Op::Get,
            Kind::Put => Op::Put(Value::of(generator.value(worker, job.number))),
            Kind::Create => Op::Create(Value::of(generator.value(worker, job.number))),
            Kind::Incr => Op::Incr(1),
        };
        let outcome = match (ended.outcome, &ended.observed) {
            (OperationOutcome::Unknown, _) => Outcome::Unknown,
            (OperationOutcome::Failed, _) => Outcome::Failed,
            (OperationOutcome::Refused, _) => {
                Outcome::Replied { at: ended_ns, reply: Reply::Refused }
            }
            (OperationOutcome::Ok, observed) => {
                let reply = match observed {
                    Observed::Nothing => Reply::Done,
                    Observed::Integer(sum) => Reply::Integer(*sum),
                    Observed::Value(value) => Reply::Value(Value::of_option(value.as_deref())),
                };
                Outcome::Replied { at: ended_ns, reply }
            }
        };
        let key = self.number(job.key)?;
        let client = u64::from(worker);
        // Attempts that the system takes for writes of their own: they may happen at any time since, or never.
        for &invoked in &ended.lost_ns {
            let outcome = Outcome::Unknown;
            self.out.operation(&Operation { client, key, op, invoked, outcome }, ended_ns)?;
        }
        let invoked = ended.started_ns;
        self.out.operation(&Operation { client, key, op, invoked, outcome }, ended_ns)
    }

    /// The keys that were named, to be read in the end by operations like all others; all reads count from now on.
    pub fn begin_read_back(&mut self) -> Vec<Key> {
        self.records_reads = true;
        self.keys.clone()
    }

    /// The reads at the end, which began and ended then: every key that was named, with its value
    /// among `present`, or without one.
    pub fn read_back(
        &mut self,
        from_ns: u64,
        to_ns: u64,
        present: &BTreeMap<Key, Vec<u8>>,
    ) -> io::Result<()> {
        // One that is there and was never named is nobody's of this run; it is shown too.
        for &key in present.keys() {
            self.number(key)?;
        }
        for number in 0..self.keys.len() {
            let value = present.get(&self.keys[number]).map(Vec::as_slice);
            let reply = Reply::Value(Value::of_option(value));
            let operation = Operation {
                client: self.last_client,
                key: number as u32,
                op: Op::Get,
                invoked: from_ns,
                outcome: Outcome::Replied { at: to_ns, reply },
            };
            self.out.operation(&operation, to_ns)?;
        }
        Ok(())
    }

    /// Says that the file is whole.
    pub fn finish(self) -> io::Result<()> {
        self.out.finish().map(drop)
    }

    /// The number of a key; names it if it is new.
    fn number(&mut self, key: Key) -> io::Result<u32> {
        let known = match key {
            Key::Shared(index) => self.shared.get(index as usize).copied().unwrap_or(0),
            Key::Unique { worker, number } => {
                self.unique.get(&(worker, number)).copied().unwrap_or(0)
            }
        };
        if known != 0 {
            return Ok(known - 1);
        }
        self.names.write(key, &mut self.name);
        let number = self.out.key(&self.name)?;
        self.keys.push(key);
        match key {
            Key::Shared(index) => {
                let size = self.shared.len().max(index as usize + 1);
                self.shared.resize(size, 0);
                self.shared[index as usize] = number + 1;
            }
            Key::Unique { worker, number: own } => {
                self.unique.insert((worker, own), number + 1);
            }
        }
        Ok(number)
    }
}
