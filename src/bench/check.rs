//! Was anything lost, or done twice? What every operation was told, against what is there in the end.
//!
//! Three workloads leave traces of different kinds:
//!
//! - *incr*: each counter ends between the increments acknowledged and those plus the unknown ones.
//! - *put*: each key has one writer, whose writes on it follow one another; it ends with the value of
//!   the last acknowledged write, or with one whose outcome is unknown. (Also with an unknown one
//!   that is older than the last acknowledged: its session was left, so it may still come late.)
//! - *create*: each acknowledged key is there with its value, and no key that only we make is ever
//!   told to exist already.
//!
//! While the load runs, each operation notes its `floor`, what the key was known to hold when it
//! started. A linearizable read or an increment that shows less is stale.

use std::collections::BTreeMap;

use crate::trace::{Operation, OperationOutcome};
use crate::wire::client::Consistency;

use super::keys::{Job, Key, parse_stamp};
use super::options::{Options, Workload};

/// Violations that are described in words.
const EXAMPLES_MAX: usize = 5;

/// What the reply to an operation showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    Nothing,
    /// Incr: the counter after it.
    Integer(i64),
    /// Read: the value.
    Value(Option<Vec<u8>>),
}

pub struct Check {
    keys: Keys,
    /// Of the workload put, key `k` belongs to worker `k % workers`.
    workers: usize,
    reads_are_linearizable: bool,
    verdict: Verdict,
}

enum Keys {
    Put(Vec<PutKey>),
    Incr(Vec<IncrKey>),
    /// By worker, then by number - 1.
    Create(Vec<Vec<Created>>),
}

#[derive(Clone, Default)]
struct PutKey {
    /// Number of the last acknowledged write; 0: none.
    acknowledged: u64,
    /// Numbers of the writes with unknown outcome.
    unknown: Vec<u64>,
    /// Numbers of the writes that certainly did not happen.
    failed: Vec<u64>,
}

#[derive(Clone, Copy, Default)]
struct IncrKey {
    acknowledged: u64,
    unknown: u64,
    /// Highest count that any reply showed.
    highest: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Created {
    /// In flight, or its outcome is unknown.
    Open,
    Acknowledged,
    Failed,
}

/// What the check found. All counts are 0 when all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Acknowledged and not there.
    pub lost: u64,
    /// Done more than once.
    pub duplicated: u64,
    /// Shown by a reply although something newer was acknowledged before it was asked for.
    pub stale: u64,
    /// There although nobody wrote it, or although it certainly did not happen.
    pub unexpected: u64,
    /// Keys that were compared.
    pub keys: u64,
    /// The first few of these, in words.
    pub examples: Vec<String>,
}

impl Verdict {
    pub fn is_well(&self) -> bool {
        self.lost == 0 && self.duplicated == 0 && self.stale == 0 && self.unexpected == 0
    }

    fn note(&mut self, example: impl FnOnce() -> String) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(example());
        }
    }
}

impl Check {
    pub fn new(options: &Options) -> Check {
        let keys = usize::try_from(options.keys).expect("the options are checked");
        Check {
            keys: match options.workload {
                Workload::Put => Keys::Put(vec![PutKey::default(); keys]),
                Workload::Incr => Keys::Incr(vec![IncrKey::default(); keys]),
                Workload::Create => Keys::Create(vec![Vec::new(); options.clients]),
                Workload::Sql => unreachable!("the options are checked"),
            },
            workers: options.clients,
            reads_are_linearizable: options.consistency != Consistency::Stale,
            verdict: Verdict::default(),
        }
    }

    /// An operation begins: notes it, and returns what its reply must at least show.
    pub fn start(&mut self, job: &Job) -> u64 {
        match (&mut self.keys, job.key) {
            (Keys::Put(keys), Key::Shared(key)) => keys[key as usize].acknowledged,
            (Keys::Incr(keys), Key::Shared(key)) => keys[key as usize].highest,
            (Keys::Create(workers), Key::Unique { worker, number }) => {
                let created = &mut workers[worker as usize];
                if job.operation == Operation::Create {
                    assert!(number == created.len() as u64 + 1, "creates are numbered in order");
                    created.push(Created::Open);
                    return 0;
                }
                let state = created.get(number as usize - 1);
                u64::from(state == Some(&Created::Acknowledged))
            }
            _ => unreachable!("a workload has one kind of keys"),
        }
    }

    /// An operation ended.
    pub fn end(&mut self, job: &Job, outcome: OperationOutcome, observed: &Observed) {
        if job.operation == Operation::Read {
            if outcome == OperationOutcome::Ok && self.reads_are_linearizable {
                self.end_read(job, observed);
            }
            return;
        }
        match (&mut self.keys, job.key) {
            (Keys::Put(keys), Key::Shared(key)) => {
                let key = &mut keys[key as usize];
                match outcome {
                    OperationOutcome::Ok => key.acknowledged = job.number,
                    OperationOutcome::Unknown => key.unknown.push(job.number),
                    OperationOutcome::Refused | OperationOutcome::Failed => {
                        key.failed.push(job.number);
                    }
                }
            }
            (Keys::Incr(keys), Key::Shared(index)) => {
                let key = &mut keys[index as usize];
                match (outcome, observed) {
                    (OperationOutcome::Ok, &Observed::Integer(count)) => {
                        key.acknowledged += 1;
                        let count = u64::try_from(count).unwrap_or(0);
                        if count <= job.floor {
                            self.verdict.stale += 1;
                            self.verdict.note(|| {
                                format!(
                                    "an increment of {:?} gave {count} after {}",
                                    job.key, job.floor
                                )
                            });
                        }
                        key.highest = key.highest.max(count);
                    }
                    (OperationOutcome::Unknown, _) => key.unknown += 1,
                    _ => {}
                }
            }
            (Keys::Create(workers), Key::Unique { worker, number }) => {
                let state = &mut workers[worker as usize][number as usize - 1];
                match outcome {
                    OperationOutcome::Ok => *state = Created::Acknowledged,
                    OperationOutcome::Unknown => {}
                    OperationOutcome::Failed => *state = Created::Failed,
                    // Nobody else makes this key: the same command has run before.
                    OperationOutcome::Refused => {
                        self.verdict.duplicated += 1;
                        self.verdict.note(|| format!("{:?}, made once, existed already", job.key));
                    }
                }
            }
            _ => unreachable!("a workload has one kind of keys"),
        }
    }

    fn end_read(&mut self, job: &Job, observed: &Observed) {
        let Observed::Value(value) = observed else { return };
        let shown = match &self.keys {
            Keys::Put(keys) => {
                let Key::Shared(key) = job.key else { return };
                let number = value.as_deref().and_then(parse_stamp).map_or(0, |stamp| stamp.1);
                // An unknown write may come at any time, whatever was written after it.
                if keys[key as usize].unknown.contains(&number) { u64::MAX } else { number }
            }
            Keys::Incr(_) => value.as_deref().map_or(Some(0), parse_count).unwrap_or(0),
            Keys::Create(_) => u64::from(value.is_some()),
        };
        if shown < job.floor {
            self.verdict.stale += 1;
            self.verdict.note(|| {
                format!("a read of {:?} showed {shown} after {} was known", job.key, job.floor)
            });
        }
        if let (Keys::Incr(keys), Key::Shared(key)) = (&mut self.keys, job.key) {
            let highest = &mut keys[key as usize].highest;
            *highest = shown.max(*highest);
        }
    }

    /// Compares with all that is there in the end.
    pub fn verdict(mut self, present: &BTreeMap<Key, Vec<u8>>) -> Verdict {
        let mut verdict = std::mem::take(&mut self.verdict);
        match &self.keys {
            Keys::Put(keys) => {
                for (index, key) in keys.iter().enumerate() {
                    let value = present.get(&Key::Shared(index as u64));
                    let owner = (index % self.workers) as u32;
                    compare_put(index, owner, key, value.map(Vec::as_slice), &mut verdict);
                }
                verdict.keys = keys.len() as u64;
            }
            Keys::Incr(keys) => {
                for (index, key) in keys.iter().enumerate() {
                    let value = present.get(&Key::Shared(index as u64));
                    compare_incr(index, *key, value.map(Vec::as_slice), &mut verdict);
                }
                verdict.keys = keys.len() as u64;
            }
            Keys::Create(workers) => {
                for (worker, created) in workers.iter().enumerate() {
                    compare_created(worker as u32, created, present, &mut verdict);
                    verdict.keys += created.len() as u64;
                }
            }
        }
        for key in present.keys().filter(|key| !self.knows(**key)) {
            verdict.unexpected += 1;
            verdict.note(|| format!("{key:?} is there and nobody wrote it"));
        }
        verdict
    }

    fn knows(&self, key: Key) -> bool {
        match (&self.keys, key) {
            (Keys::Put(keys), Key::Shared(key)) => key < keys.len() as u64,
            (Keys::Incr(keys), Key::Shared(key)) => key < keys.len() as u64,
            (Keys::Create(workers), Key::Unique { worker, number }) => workers
                .get(worker as usize)
                .is_some_and(|created| (1..=created.len() as u64).contains(&number)),
            _ => false,
        }
    }
}

fn compare_put(
    index: usize,
    owner: u32,
    key: &PutKey,
    value: Option<&[u8]>,
    verdict: &mut Verdict,
) {
    let Some(value) = value else {
        if key.acknowledged != 0 {
            verdict.lost += 1;
            verdict.note(|| format!("key {index}: write {} is gone", key.acknowledged));
        }
        return;
    };
    match parse_stamp(value) {
        Some((worker, number))
            if worker == owner && (number == key.acknowledged || key.unknown.contains(&number)) => {
        }
        Some((worker, number))
            if worker == owner && number < key.acknowledged && !key.failed.contains(&number) =>
        {
            verdict.lost += 1;
            verdict.note(|| {
                format!("key {index}: holds write {number}, {} was acknowledged", key.acknowledged)
            });
        }
        other => {
            verdict.unexpected += 1;
            verdict.note(|| format!("key {index}: holds {other:?}, which nobody wrote"));
        }
    }
}

fn compare_incr(index: usize, key: IncrKey, value: Option<&[u8]>, verdict: &mut Verdict) {
    let Some(count) = value.map_or(Some(0), parse_count) else {
        verdict.unexpected += 1;
        verdict.note(|| format!("key {index}: holds no count"));
        return;
    };
    let most = key.acknowledged + key.unknown;
    if count < key.acknowledged {
        verdict.lost += key.acknowledged - count;
        verdict.note(|| format!("key {index}: {count} of {} increments", key.acknowledged));
    } else if most < count {
        verdict.duplicated += count - most;
        verdict.note(|| format!("key {index}: {count} of at most {most} increments"));
    }
}

fn compare_created(
    worker: u32,
    created: &[Created],
    present: &BTreeMap<Key, Vec<u8>>,
    verdict: &mut Verdict,
) {
    for (number, state) in (1..).zip(created) {
        let key = Key::Unique { worker, number };
        match (state, present.get(&key)) {
            (Created::Acknowledged, None) => {
                verdict.lost += 1;
                verdict.note(|| format!("{key:?} is gone"));
            }
            (Created::Failed, Some(_)) => {
                verdict.unexpected += 1;
                verdict.note(|| format!("{key:?} is there and was told not to have happened"));
            }
            (_, Some(value)) if parse_stamp(value) != Some((worker, number)) => {
                verdict.unexpected += 1;
                verdict.note(|| format!("{key:?} holds another's value"));
            }
            _ => {}
        }
    }
}

fn parse_count(value: &[u8]) -> Option<u64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::options::tests::options;
    use super::*;
    use OperationOutcome::{Failed, Ok, Refused, Unknown};

    /// A history of one key, played in order; each operation ends before the next begins.
    struct Play {
        check: Check,
        key: Key,
        number: u64,
    }

    fn play(workload: &str) -> Play {
        let line = format!("--check --workload {workload} --clients 1 --keys 1");
        Play { check: Check::new(&options(&line)), key: Key::Shared(0), number: 0 }
    }

    impl Play {
        fn put(mut self, outcome: OperationOutcome) -> Play {
            self.number += 1;
            self.write(Operation::Put, outcome, &Observed::Nothing)
        }

        fn incr(self, outcome: OperationOutcome, count: i64) -> Play {
            self.write(Operation::Incr, outcome, &Observed::Integer(count))
        }

        fn create(mut self, outcome: OperationOutcome) -> Play {
            self.number += 1;
            self.key = Key::Unique { worker: 0, number: self.number };
            self.write(Operation::Create, outcome, &Observed::Nothing)
        }

        fn read(mut self, value: Option<&[u8]>) -> Play {
            let mut job = Job { operation: Operation::Read, key: self.key, number: 0, floor: 0 };
            job.floor = self.check.start(&job);
            self.check.end(&job, Ok, &Observed::Value(value.map(<[u8]>::to_vec)));
            self
        }

        fn write(
            mut self,
            operation: Operation,
            outcome: OperationOutcome,
            observed: &Observed,
        ) -> Play {
            let mut job = Job { operation, key: self.key, number: self.number, floor: 0 };
            job.floor = self.check.start(&job);
            self.check.end(&job, outcome, observed);
            self
        }

        /// (lost, duplicated, stale, unexpected), if this is there in the end.
        fn ends(self, present: &[(Key, &[u8])]) -> (u64, u64, u64, u64) {
            let present = present.iter().map(|(k, v)| (*k, v.to_vec())).collect();
            let v = self.check.verdict(&present);
            let well = v.lost + v.duplicated + v.stale + v.unexpected == 0;
            assert_eq!((v.is_well(), v.examples.is_empty()), (well, well), "{v:?}");
            (v.lost, v.duplicated, v.stale, v.unexpected)
        }
    }

    const WELL: (u64, u64, u64, u64) = (0, 0, 0, 0);
    const LOST: (u64, u64, u64, u64) = (1, 0, 0, 0);
    const TWICE: (u64, u64, u64, u64) = (0, 1, 0, 0);
    const STALE: (u64, u64, u64, u64) = (0, 0, 1, 0);
    const ODD: (u64, u64, u64, u64) = (0, 0, 0, 1);
    const KEY: Key = Key::Shared(0);

    fn stamp(number: u64) -> Vec<u8> {
        format!("{:08x}{number:016x}..", 0).into_bytes()
    }

    #[test]
    fn puts_that_are_well() {
        let two = stamp(2);
        assert_eq!(play("put").ends(&[]), WELL);
        assert_eq!(play("put").put(Ok).put(Ok).ends(&[(KEY, &two)]), WELL);
        assert_eq!(play("put").put(Ok).put(Unknown).ends(&[(KEY, &two)]), WELL);
        assert_eq!(play("put").put(Ok).put(Unknown).ends(&[(KEY, &stamp(1))]), WELL);
        assert_eq!(play("put").put(Unknown).put(Ok).ends(&[(KEY, &stamp(1))]), WELL);
        assert_eq!(play("put").put(Unknown).ends(&[]), WELL);
        assert_eq!(play("put").put(Ok).put(Ok).read(Some(&two)).ends(&[(KEY, &two)]), WELL);
    }

    #[test]
    fn puts_that_are_not() {
        let (one, two) = (stamp(1), stamp(2));
        assert_eq!(play("put").put(Ok).ends(&[]), LOST);
        assert_eq!(play("put").put(Ok).put(Ok).ends(&[(KEY, &one)]), LOST);
        assert_eq!(play("put").put(Ok).put(Failed).ends(&[(KEY, &two)]), ODD);
        assert_eq!(play("put").put(Ok).ends(&[(KEY, &two)]), ODD, "never written");
        assert_eq!(play("put").put(Ok).ends(&[(KEY, b"foreign")]), ODD);
        let other = format!("{:08x}{:016x}", 1, 1).into_bytes();
        assert_eq!(play("put").put(Ok).ends(&[(KEY, &other)]), ODD, "another's");
        assert_eq!(play("put").put(Ok).ends(&[(KEY, &one), (Key::Shared(1), &one)]), ODD);
        assert_eq!(play("put").put(Ok).put(Ok).read(Some(&one)).ends(&[(KEY, &two)]), STALE);
        assert_eq!(play("put").put(Ok).read(None).ends(&[(KEY, &one)]), STALE);
    }

    #[test]
    fn increments_that_are_well() {
        let three = || play("incr").incr(Ok, 1).incr(Unknown, 0).incr(Ok, 3);
        assert_eq!(three().ends(&[(KEY, b"3")]), WELL);
        assert_eq!(play("incr").incr(Ok, 1).incr(Unknown, 0).ends(&[(KEY, b"1")]), WELL);
        assert_eq!(play("incr").incr(Ok, 1).incr(Failed, 0).ends(&[(KEY, b"1")]), WELL);
        assert_eq!(play("incr").ends(&[]), WELL);
    }

    #[test]
    fn increments_that_are_not() {
        assert_eq!(play("incr").incr(Ok, 1).ends(&[]), LOST);
        assert_eq!(play("incr").incr(Ok, 1).incr(Ok, 2).ends(&[(KEY, b"1")]), LOST);
        assert_eq!(play("incr").incr(Ok, 1).ends(&[(KEY, b"2")]), TWICE);
        assert_eq!(play("incr").incr(Ok, 1).incr(Unknown, 0).ends(&[(KEY, b"3")]), TWICE);
        assert_eq!(play("incr").incr(Ok, 1).incr(Failed, 0).ends(&[(KEY, b"2")]), TWICE);
        assert_eq!(play("incr").incr(Ok, 1).incr(Ok, 1).ends(&[(KEY, b"2")]), STALE);
        assert_eq!(play("incr").incr(Ok, 1).read(None).ends(&[(KEY, b"1")]), STALE);
        assert_eq!(play("incr").incr(Ok, 1).ends(&[(KEY, b"x")]), ODD);
        // A read that was once shown binds the reads behind it.
        let shown = play("incr").incr(Unknown, 0).read(Some(b"1"));
        assert_eq!(shown.read(Some(b"0")).ends(&[(KEY, b"1")]), STALE);
    }

    #[test]
    fn creates() {
        let (key, value) = (Key::Unique { worker: 0, number: 1 }, stamp(1));
        assert_eq!(play("create").create(Ok).ends(&[(key, &value)]), WELL);
        assert_eq!(play("create").create(Unknown).ends(&[(key, &value)]), WELL);
        assert_eq!(play("create").create(Unknown).ends(&[]), WELL);
        assert_eq!(play("create").create(Failed).ends(&[]), WELL);
        assert_eq!(play("create").create(Ok).read(Some(&value)).ends(&[(key, &value)]), WELL);

        assert_eq!(play("create").create(Ok).ends(&[]), LOST);
        assert_eq!(play("create").create(Refused).ends(&[(key, &value)]), TWICE);
        assert_eq!(play("create").create(Failed).ends(&[(key, &value)]), ODD);
        assert_eq!(play("create").create(Ok).ends(&[(key, &stamp(2))]), ODD);
        assert_eq!(play("create").ends(&[(key, &value)]), ODD, "nobody made it");
        assert_eq!(play("create").create(Ok).read(None).ends(&[(key, &value)]), STALE);
    }

    /// A stale read is what was asked for: nothing to complain of.
    #[test]
    fn stale_consistency_may_be_stale() {
        let line = "--check --clients 1 --keys 1 --consistency stale";
        let play = Play { check: Check::new(&options(line)), key: KEY, number: 0 };
        assert_eq!(play.put(Ok).read(None).ends(&[(KEY, &stamp(1))]), WELL);
    }
}
