//! What one operation does: the choice of its kind, key and value, and their bytes.
//!
//! Keys lie under a prefix that is random for each run (not from the seed, which may be given twice),
//! so that no run meets another's state. Values begin with a stamp of who wrote them, by which the
//! check knows every one of them again.

use rand::{RngExt, SeedableRng, rngs::Xoshiro256PlusPlus};
use rand_distr::Zipf;

use crate::sql::{SqlValue, Statement};
use crate::store::{Command, Query, Step, Transaction};
use crate::trace::Operation;
use crate::wire::codec;
use crate::wire::kv::encode_transaction;

use super::options::{Options, Workload};

/// Where rows go.
pub const TABLE: &str = "CREATE TABLE IF NOT EXISTS bench (id INTEGER PRIMARY KEY, value BLOB)";

/// Bytes of the stamp: 8 hexadecimal digits of the worker, 16 of its operation's number.
pub const VALUE_STAMP_SIZE: usize = 24;

/// A key of this run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// One of the `--keys`.
    Shared(u64),
    /// Made by one operation of one worker, for good (create).
    Unique { worker: u32, number: u64 },
}

/// What one operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Job {
    pub operation: Operation,
    pub key: Key,
    /// Of writes: counts the worker's writes, from 1.
    pub number: u64,
    /// What the check knew of the key when the operation started (see `check`).
    pub floor: u64,
}

/// The names of this run's keys.
#[derive(Clone, Debug)]
pub struct Names {
    prefix: Vec<u8>,
}

impl Names {
    pub fn new(run: u64) -> Names {
        Names { prefix: format!("bench/{run:016x}/").into_bytes() }
    }

    /// What all keys of the run begin with.
    pub fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    pub fn write(&self, key: Key, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(&self.prefix);
        match key {
            Key::Shared(index) => {
                out.push(b'k');
                push_hex(index, 8, out);
            }
            Key::Unique { worker, number } => {
                out.push(b'c');
                push_hex(u64::from(worker), 8, out);
                out.push(b'-');
                push_hex(number, 16, out);
            }
        }
    }

    /// The key of this run that `name` names, if it does.
    pub fn parse(&self, name: &[u8]) -> Option<Key> {
        let name = name.strip_prefix(self.prefix.as_slice())?;
        match (name.split_first()?, name.len()) {
            ((b'k', index), 9) => Some(Key::Shared(parse_hex(index)?)),
            ((b'c', rest), 26) if rest[8] == b'-' => Some(Key::Unique {
                worker: u32::try_from(parse_hex(&rest[..8])?).ok()?,
                number: parse_hex(&rest[9..])?,
            }),
            _ => None,
        }
    }
}

/// The worker and number that a value is stamped with.
pub fn parse_stamp(value: &[u8]) -> Option<(u32, u64)> {
    let stamp = value.get(..VALUE_STAMP_SIZE)?;
    Some((u32::try_from(parse_hex(&stamp[..8])?).ok()?, parse_hex(&stamp[8..])?))
}

/// Writes into a value, if there is room, who writes it.
pub fn stamp(worker: u32, number: u64, value: &mut Vec<u8>) {
    if VALUE_STAMP_SIZE <= value.len() {
        let size = value.len();
        value.clear();
        push_hex(u64::from(worker), 8, value);
        push_hex(number, 16, value);
        value.resize(size, b'.');
    }
}

fn push_hex(value: u64, digits: u32, out: &mut Vec<u8>) {
    for digit in (0..digits).rev() {
        out.push(b"0123456789abcdef"[(value >> (digit * 4)) as usize & 15]);
    }
}

fn parse_hex(text: &[u8]) -> Option<u64> {
    // `from_str_radix` would take a sign.
    text.iter().all(u8::is_ascii_hexdigit).then_some(())?;
    u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok()
}

/// Which of some keys comes next.
pub struct Choice {
    keys: u64,
    zipf: Option<Zipf<f64>>,
    rng: Xoshiro256PlusPlus,
}

impl Choice {
    /// Of the keys 0 to `keys`, not included, which is 1 or more; uniform if the Zipf exponent `skew` is 0.
    pub fn new(keys: u64, skew: f64, seed: u64) -> Choice {
        assert!(0 < keys, "the options are checked");
        Choice {
            keys,
            zipf: (0.0 < skew)
                .then(|| Zipf::new(keys as f64, skew).expect("the options are checked")),
            rng: Xoshiro256PlusPlus::seed_from_u64(seed),
        }
    }

    pub fn draw(&mut self) -> u64 {
        match &self.zipf {
            None => self.rng.random_range(0..self.keys),
            // Ranks count from 1; the cast saturates, so a rank out of range cannot come of it.
            Some(zipf) => (self.rng.sample(zipf) as u64).clamp(1, self.keys) - 1,
        }
    }
}

/// Chooses jobs and writes their bytes.
pub struct Generator {
    workload: Workload,
    reads: f64,
    partitioned: bool,
    workers: u64,
    choice: Choice,
    names: Names,
    rows: usize,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Generator {
    pub fn new(options: &Options, names: Names, seed: u64) -> Generator {
        let workers = options.clients as u64;
        // A partition is the same for all but the first few workers; the choice uses the smallest.
        let choices =
            if options.partitioned() { (options.keys / workers).max(1) } else { options.keys };
        Generator {
            workload: options.workload,
            reads: options.reads,
            partitioned: options.partitioned(),
            workers,
            choice: Choice::new(choices, options.skew, seed),
            names,
            rows: options.rows,
            key: Vec::new(),
            value: vec![b'.'; options.value_size],
        }
    }

    /// The next job of `worker`, which has started `writes` writes so far and has one in flight on
    /// the keys that are `busy`.
    pub fn job(&mut self, worker: u32, writes: u64, busy: impl Fn(Key) -> bool) -> Job {
        let read = 0.0 < self.reads && self.choice.rng.random::<f64>() < self.reads;
        let operation = match self.workload {
            _ if read => Operation::Read,
            // As traces have it: a write.
            Workload::Put | Workload::Sql => Operation::Put,
            Workload::Incr => Operation::Incr,
            Workload::Create => Operation::Create,
        };
        let key = match self.workload {
            Workload::Create if read => {
                // One of its own; before the first create, one that will come.
                Key::Unique { worker, number: self.choice.rng.random_range(1..=writes.max(1)) }
            }
            Workload::Create | Workload::Sql => Key::Unique { worker, number: writes + 1 },
            Workload::Put | Workload::Incr => {
                let mut choice = self.choice.draw();
                // Two writes of one worker in flight on one key would have no order to check.
                while self.partitioned && !read && busy(self.own(worker, choice)) {
                    choice = (choice + 1) % self.choice.keys;
                }
                if self.partitioned { self.own(worker, choice) } else { Key::Shared(choice) }
            }
        };
        Job { operation, key, number: if read { 0 } else { writes + 1 }, floor: 0 }
    }

    /// The write that puts a key there before the load.
    pub fn preload(key: u64, writes: u64) -> Job {
        Job { operation: Operation::Put, key: Key::Shared(key), number: writes + 1, floor: 0 }
    }

    /// Writes the payload of `job` (an encoded command or query) into `bulk`.
    pub fn encode(&mut self, worker: u32, job: &Job, bulk: &mut Vec<u8>) {
        bulk.clear();
        if self.workload == Workload::Sql {
            stamp(worker, job.number, &mut self.value);
            codec::encode_into(&Command::Transaction(&self.insert()), bulk);
            return;
        }
        self.names.write(job.key, &mut self.key);
        let key = self.key.as_slice();
        match job.operation {
            Operation::Read => codec::encode_into(&Query::Get { key }, bulk),
            Operation::Incr => codec::encode_into(&Command::Incr { key, by: 1 }, bulk),
            Operation::Put | Operation::Create => {
                stamp(worker, job.number, &mut self.value);
                let value = self.value.as_slice();
                match job.operation {
                    Operation::Create => codec::encode_into(&Command::Create { key, value }, bulk),
                    _ => codec::encode_into(&Command::Put { key, value }, bulk),
                }
            }
        };
    }

    /// The name of a key.
    pub fn name(&mut self, key: Key) -> &[u8] {
        self.names.write(key, &mut self.key);
        &self.key
    }

    /// The value that `worker`'s write of this number puts or creates.
    pub fn value(&mut self, worker: u32, number: u64) -> &[u8] {
        stamp(worker, number, &mut self.value);
        &self.value
    }

    /// Rows for the table of `TABLE`, all with the value of the present job.
    fn insert(&self) -> Vec<u8> {
        let insert = || Statement {
            text: "INSERT INTO bench (value) VALUES (?)",
            parameters: vec![SqlValue::Blob(self.value.clone())],
        };
        let then = (0..self.rows).map(|_| Step::Sql(insert())).collect();
        encode_transaction(&Transaction { then, ..Transaction::default() })
    }

    fn own(&self, worker: u32, choice: u64) -> Key {
        Key::Shared(choice * self.workers + u64::from(worker))
    }
}

#[cfg(test)]
mod tests {
    use super::super::options::tests::options;
    use super::*;
    use crate::wire::kv;

    fn generator(line: &str) -> Generator {
        Generator::new(&options(line), Names::new(0xab), 1)
    }

    #[test]
    fn names_are_read_back() {
        let names = Names::new(0xab);
        let mut name = Vec::new();
        for key in [Key::Shared(77), Key::Unique { worker: 5, number: u64::MAX }] {
            names.write(key, &mut name);
            assert_eq!(names.parse(&name), Some(key));
        }
        names.write(Key::Shared(1), &mut name);
        assert_eq!(name, b"bench/00000000000000ab/k00000001");
        assert_eq!(Names::new(0xac).parse(&name), None, "another run's");
        assert_eq!(names.parse(b"bench/00000000000000ab/k+0000001"), None);
        assert_eq!(names.parse(b"bench/00000000000000ab/"), None);
    }

    #[test]
    fn values_say_who_wrote_them() {
        let mut generator = generator("--value-size 30");
        let mut bulk = Vec::new();
        let job = Job { operation: Operation::Put, key: Key::Shared(3), number: 9, floor: 0 };
        generator.encode(4, &job, &mut bulk);
        let Command::Put { key, value } = kv::decode_command(&bulk).unwrap() else { panic!() };
        assert_eq!(key, b"bench/00000000000000ab/k00000003");
        assert_eq!((value.len(), parse_stamp(value)), (30, Some((4, 9))));
    }

    /// Uniform: each key about as often; skewed: rank 1 is 2^theta times as frequent as rank 2.
    #[test]
    fn the_skew_of_the_choice() {
        let count = |line: &str| {
            let mut generator = generator(line);
            let mut counts = vec![0u32; 10];
            for _ in 0..100_000 {
                let Key::Shared(key) = generator.job(0, 0, |_| false).key else { panic!() };
                counts[key as usize] += 1;
            }
            counts
        };
        assert!(count("--keys 10").iter().all(|&c| (9_500..10_500).contains(&c)));
        let skewed = count("--keys 10 --skew 1");
        let ratio = f64::from(skewed[0]) / f64::from(skewed[1]);
        assert!((1.9..2.1).contains(&ratio), "{ratio}");
        assert!(skewed.iter().all(|&c| 0 < c));
    }

    #[test]
    fn the_share_of_reads() {
        let mut generator = generator("--reads 0.9");
        let reads = (0..10_000)
            .filter(|_| generator.job(0, 0, |_| false).operation == Operation::Read)
            .count();
        assert!((8_800..9_200).contains(&reads), "{reads}");
    }

    /// With --check, no key is written by two workers, or twice at once by one.
    #[test]
    fn partitions_do_not_overlap() {
        let mut generator = generator("--check --clients 3 --in-flight 2 --keys 6");
        for worker in 0..3u32 {
            for _ in 0..100 {
                let first = generator.job(worker, 0, |_| false).key;
                let second = generator.job(worker, 0, |key| key == first).key;
                assert_ne!(first, second);
                let (Key::Shared(a), Key::Shared(b)) = (first, second) else { panic!() };
                assert_eq!((a % 3, b % 3), (u64::from(worker), u64::from(worker)));
                assert!(a < 6 && b < 6);
            }
        }
    }

    #[test]
    fn creates_count_up() {
        let mut generator = generator("--workload create");
        let job = generator.job(2, 7, |_| false);
        assert_eq!(job.key, Key::Unique { worker: 2, number: 8 });
    }
}
