//! A whole run: its files found and read, histories of several clients joined, keys judged on all
//! processors.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::trace::{self, Source};

use super::file::{self, Clock};
use super::nodes::{self, Life};
use super::{History, Operation, Outcome, Verdict, Witness, judge_key};

/// Wrong keys that are shown; the others are only counted.
const WITNESSES_MAX: usize = 5;
/// Where the number of a client's file begins in the numbers of clients.
const FILE_SHIFT: u32 = 40;

/// What there is of a run.
#[derive(Debug, Default)]
pub struct Run {
    pub history: History,
    /// Files of histories, and those of them that are cut short.
    pub files: Vec<PathBuf>,
    pub cut_short: Vec<PathBuf>,
    pub lives: Vec<Life>,
}

/// What was found in all histories together.
#[derive(Clone, Debug, Default)]
pub struct Judgement {
    pub operations: usize,
    pub unknown: usize,
    pub keys: usize,
    /// Keys whose operations have no order, and the first few of them.
    pub violated: usize,
    pub witnesses: Vec<Witness>,
    pub undecided: Vec<Vec<u8>>,
}

/// The number of the file (from 1) and the number in it of a client of a joined history.
pub fn client_name(client: u64) -> String {
    let (file, number) = (client >> FILE_SHIFT, client & ((1 << FILE_SHIFT) - 1));
    format!("{}.{number}", file + 1)
}

impl Run {
    /// Reads these files, and of a folder all histories and traces in it and in the folders directly
    /// below it. `clock_error_ns`: by how much the wall clocks of different machines may differ.
    pub fn read(paths: &[PathBuf], clock_error_ns: Option<u64>) -> Result<Run, String> {
        let mut run = Run::default();
        let mut read = Vec::new();
        for path in find(paths)? {
            let failed = |why: String| format!("{}: {why}", path.display());
            let bytes = std::fs::read(&path).map_err(|error| failed(error.to_string()))?;
            if bytes.starts_with(&trace::MAGIC) {
                let (source, events) = trace::read(&bytes).map_err(failed)?;
                if let Source::Node(node) = source {
                    run.lives.push(Life { name: file_name(&path), node, events });
                }
                continue;
            }
            read.push(file::read(&bytes).map_err(|error| failed(error.to_string()))?);
            run.files.push(path);
        }
        let one_clock = read.iter().all(|it| it.clock.boot == read[0].clock.boot);
        if !one_clock && clock_error_ns.is_none() {
            return Err("the histories are of several machines (or boots of one): say with \
                        --clock-error by how much their clocks may differ"
                .to_owned());
        }
        let clock_error_ns = clock_error_ns.filter(|_| !one_clock);
        for (number, contents) in read.into_iter().enumerate() {
            if !contents.is_whole {
                run.cut_short.push(run.files[number].clone());
            }
            run.add(number as u64, contents.history, contents.clock, clock_error_ns);
        }
        Ok(run)
    }

    /// Joins one more history, of a client process of its own.
    fn add(&mut self, file: u64, history: History, clock: Clock, clock_error_ns: Option<u64>) {
        if history.starts_unknown {
            self.history.start_unknown();
        }
        // By the wall clock, because the machines have that in common, and as much wider as that may
        // be wrong at either of them.
        let error_ns = clock_error_ns.map(|error| error.saturating_add(clock.error_ns));
        let offset = clock.wall_ns.wrapping_sub(clock.monotonic_ns);
        let earlier = |time: u64| match error_ns {
            Some(error) => time.wrapping_add(offset).saturating_sub(error),
            None => time,
        };
        let later = |time: u64| match error_ns {
            Some(error) => time.wrapping_add(offset).saturating_add(error),
            None => time,
        };
        let keys: Vec<u32> = history.names.iter().map(|name| self.history.number(name)).collect();
        self.history.operations.extend(history.operations.into_iter().map(|operation| Operation {
            client: file << FILE_SHIFT | operation.client & ((1 << FILE_SHIFT) - 1),
            key: keys[operation.key as usize],
            invoked: earlier(operation.invoked),
            outcome: match operation.outcome {
                Outcome::Replied { at, reply } => Outcome::Replied { at: later(at), reply },
                other => other,
            },
            ..operation
        }));
    }

    /// Looks for an order for every key.
    pub fn judge(&self) -> Judgement {
        judge(&self.history)
    }

    /// What the nodes' traces show.
    pub fn verify_nodes(&self) -> nodes::Verdict {
        nodes::verify(&self.lives)
    }
}

fn judge(history: &History) -> Judgement {
    let keys = numbers_by_key(history);
    let next = AtomicUsize::new(0);
    let found = Mutex::new(Vec::new());
    let judge_some = || {
        loop {
            let key = next.fetch_add(1, Ordering::Relaxed);
            let Some(numbers) = keys.get(key) else { return };
            let operations: Vec<Operation> =
                numbers.iter().map(|&at| history.operations[at as usize]).collect();
            let verdict =
                judge_key(history.name(key as u32), history.start(), &operations, u64::MAX);
            if verdict != Verdict::Linearizable {
                found.lock().expect("nobody panics while holding it").push((key, verdict));
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(judge_some);
        }
        judge_some();
    });
    let mut found = found.into_inner().expect("nobody panicked while holding it");
    found.sort_by_key(|(key, _)| *key);
    let outcomes = history.operations.iter().map(|operation| operation.outcome);
    let mut judgement = Judgement {
        operations: history.len(),
        unknown: outcomes.filter(|outcome| *outcome == Outcome::Unknown).count(),
        keys: keys.iter().filter(|numbers| !numbers.is_empty()).count(),
        ..Judgement::default()
    };
    for (_, verdict) in found {
        match verdict {
            Verdict::Linearizable => {}
            Verdict::Violated(witness) => {
                judgement.violated += 1;
                if judgement.witnesses.len() < WITNESSES_MAX {
                    judgement.witnesses.push(witness);
                }
            }
            Verdict::Undecided { key } => judgement.undecided.push(key),
        }
    }
    judgement
}

/// The positions of each key's operations.
fn numbers_by_key(history: &History) -> Vec<Vec<u32>> {
    let mut keys = vec![Vec::new(); history.names.len()];
    for (at, operation) in (0..).zip(&history.operations) {
        keys[operation.key as usize].push(at);
    }
    keys
}

/// The files that are meant, ordered by their names.
fn find(paths: &[PathBuf]) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for path in paths {
        let failed = |error: std::io::Error| format!("{}: {error}", path.display());
        if !std::fs::metadata(path).map_err(failed)?.is_dir() {
            found.push(path.clone());
            continue;
        }
        let before = found.len();
        let mut below = Vec::new();
        for entry in std::fs::read_dir(path).map_err(failed)? {
            below.push(entry.map_err(failed)?.path());
        }
        for path in below {
            if path.is_dir() {
                for entry in std::fs::read_dir(&path).map_err(failed)? {
                    found.push(entry.map_err(failed)?.path());
                }
            } else {
                found.push(path);
            }
        }
        let ours = |path: &PathBuf| {
            path.extension().is_some_and(|it| it == "history" || it == "trace") && path.is_file()
        };
        let mut files: Vec<PathBuf> = found.drain(before..).filter(ours).collect();
        files.sort();
        if files.is_empty() {
            return Err(format!("{}: there are no histories and no traces", path.display()));
        }
        found.append(&mut files);
    }
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}
