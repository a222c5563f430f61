//! The fuzz targets of `fuzz/`, without the fuzzer: every input of the corpus is replayed, and the corpus
//! is mutated blindly for a while. What steers by coverage is `make fuzz`.
//!
//! `LOGGOS_FUZZ_SECONDS` says for how long each target is mutated, 1 by default; `LOGGOS_FUZZ_SEED` plays
//! one run of mutations again. `UPDATE_CORPUS=1` writes the seeds that the encoders make anew.

#[path = "../fuzz/src/targets/mod.rs"]
mod targets;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use targets::{TARGETS, Target};

fn corpus_dir(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name)
}

/// Name and bytes of each input, in the order of names.
fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let mut inputs: Vec<(String, Vec<u8>)> = fs::read_dir(corpus_dir(target))
        .unwrap_or_else(|error| panic!("the corpus of {}: {error}", target.name))
        .map(|entry| {
            let path = entry.expect("a directory entry").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("an input"))
        })
        .collect();
    inputs.sort();
    inputs
}

/// The corpus begins with what our own encoders make. If a format changes, it would stay behind, and the
/// fuzzer would start from bytes that mean nothing any more.
#[test]
fn the_seeds_are_those_of_the_encoders() {
    let update = std::env::var_os("UPDATE_CORPUS").is_some();
    for target in TARGETS {
        let seeds = targets::seeds(target.name);
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        for (n, seed) in seeds.iter().enumerate() {
            let path = corpus_dir(target).join(format!("seed-{n:02}"));
            if update {
                fs::create_dir_all(corpus_dir(target)).expect("a directory");
                fs::write(&path, seed).expect("it can be written");
            }
            let found = fs::read(&path).unwrap_or_default();
            assert!(found == *seed, "{} is out of date: UPDATE_CORPUS=1", path.display());
        }
    }
}

/// What once broke something, and what leads the fuzzer into every corner.
#[test]
fn the_corpus_is_replayed() {
    for target in TARGETS {
        for (name, input) in corpus(target) {
            assert!(input.len() <= target.size_max, "{}/{name} would be left out", target.name);
            check(target, &input, &name);
        }
    }
}

/// Mutations of the corpus. A failure leaves its input behind, to be put into the corpus.
#[test]
fn mutated_inputs_are_harmless() {
    let seconds: f64 = number("LOGGOS_FUZZ_SECONDS").unwrap_or(1.0);
    let seed: u64 = number("LOGGOS_FUZZ_SEED").unwrap_or_else(loggos::trace::monotonic_ns);
    std::thread::scope(|scope| {
        for target in TARGETS {
            scope.spawn(move || mutate_for(target, Duration::from_secs_f64(seconds), seed));
        }
    });
}

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text:?}, which is no number")))
}

fn mutate_for(target: &Target, time: Duration, seed: u64) {
    let corpus: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, input)| input).collect();
    let mut dice = StdRng::seed_from_u64(seed);
    let end_ns = loggos::trace::monotonic_ns() + time.as_nanos() as u64;
    let mut count = 0;
    while loggos::trace::monotonic_ns() < end_ns {
        let mut input = corpus[dice.random_range(0..corpus.len())].clone();
        for _ in 0..dice.random_range(1..=4) {
            mutate(&mut input, &corpus, &mut dice);
        }
        input.truncate(target.size_max);
        check(target, &input, &format!("mutation {count} of LOGGOS_FUZZ_SEED={seed}"));
        count += 1;
    }
    println!("{}: {count} mutations", target.name);
}

fn mutate(input: &mut Vec<u8>, corpus: &[Vec<u8>], dice: &mut StdRng) {
    const NUMBERS: [u64; 8] =
        [0, 1, 0x7f, 0xff, 0xffff, u32::MAX as u64, i64::MAX as u64, u64::MAX];
    let at = dice.random_range(0..=input.len());
    let size = dice.random_range(0..=16.min(input.len() - at));
    match dice.random_range(0..6) {
        0 if 0 < size => input[at] ^= 1 << dice.random_range(0..8),
        1 if 0 < size => input[at] = dice.random(),
        2 if 0 < size => {
            let number = NUMBERS[dice.random_range(0..NUMBERS.len())].to_le_bytes();
            let size = size.min(8);
            input[at..at + size].copy_from_slice(&number[..size]);
        }
        3 => drop(input.drain(at..at + size)),
        4 => {
            let part = input[at..at + size].to_vec();
            input.splice(at..at, part);
        }
        _ => {
            let other = &corpus[dice.random_range(0..corpus.len())];
            let from = dice.random_range(0..=other.len());
            input.splice(at.., other[from..].iter().copied());
        }
    }
}

fn check(target: &Target, input: &[u8], name: &str) {
    if catch_unwind(AssertUnwindSafe(|| targets::run(target, input))).is_err() {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("crash-{}", target.name));
        fs::write(&path, input).expect("it can be written");
        panic!("{}: {name} fails; the input is {}", target.name, path.display());
    }
}
