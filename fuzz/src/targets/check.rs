//! What `loggos check` reads: histories of clients and traces of nodes, recorded by processes that may have
//! been killed, and kept by people who may mix them up.

use loggos::check::file::{self, FormatError};
use loggos::check::nodes::{self, Life};
use loggos::check::{Verdict, linearizable};
use loggos::trace::{self, Source};

use super::memory::peak_of;

/// An operation is about 100 bytes in memory, and a few in the file; keys are kept twice.
const SIZE_FACTOR: usize = 128;
const SIZE_JUSTIFIED: usize = 64 * 1024;
/// A search may take long, by design; that of few operations does not.
const OPERATIONS_MAX: usize = 12;

/// First byte: whether an end record that fits is put behind the rest.
pub fn history(input: &[u8]) {
    let Some((&flag, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if flag & 1 == 1 {
        append_end(&mut bytes);
    }
    let (read, peak) = peak_of(|| file::read(&bytes));
    let bound = SIZE_FACTOR * bytes.len() + SIZE_JUSTIFIED;
    assert!(peak <= bound, "{peak} bytes were allocated for a file of {}", bytes.len());
    let Ok(contents) = read else { return };
    assert!(contents.history.len() <= bytes.len());

    // Whatever a killed process left of it is less, and no error.
    let cut = file::HEADER_SIZE + (bytes.len() - file::HEADER_SIZE) / 2;
    let less = file::read(&bytes[..cut]).expect("a file that is cut short is read");
    assert!(less.history.len() <= contents.history.len());
    assert!(!less.is_whole || cut == bytes.len());
    assert_eq!(file::read(&bytes[..60]).err(), Some(FormatError::NotAHistory));

    if contents.history.len() <= OPERATIONS_MAX {
        let verdict = linearizable(&contents.history);
        assert_eq!(linearizable(&contents.history), verdict);
        if let Verdict::Violated(witness) = verdict {
            assert!(!witness.operations.is_empty());
            assert!(!witness.lines().is_empty());
        }
    }
}

fn append_end(bytes: &mut Vec<u8>) {
    let Ok(contents) = file::read(bytes) else { return };
    if contents.is_whole {
        return;
    }
    let crc = crc32fast::hash(&bytes[file::HEADER_SIZE..]);
    bytes.push(3);
    bytes.extend_from_slice(&(contents.history.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&crc.to_le_bytes());
}

/// First byte: where the rest is cut into the traces of two lives of one node.
pub fn trace(input: &[u8]) {
    let Some((&cut, bytes)) = input.split_first() else { return };
    let (read, peak) = peak_of(|| trace::read(bytes));
    // A list that grows is there twice for a moment, the second time twice as large.
    assert!(peak <= 5 * bytes.len() + 1024, "{peak} bytes for a trace of {}", bytes.len());
    let Ok((source, mut events)) = read else { return };
    assert!(trace::HEADER_SIZE + events.len() * trace::RECORD_SIZE <= bytes.len());
    let node = if let Source::Node(node) = source { node } else { 0 };
    let second = events.split_off(usize::from(cut).min(events.len()));
    let life = |name: &str, events| Life { name: name.to_owned(), node, events };
    let lives = [life("first", events), life("second", second)];
    let verdict = nodes::verify(&lives);
    assert_eq!(verdict.is_well(), verdict.examples.is_empty());
    assert_eq!(nodes::verify(&lives), verdict);
}
