//! OmniPaxos's `Storage`: its authors' `MemoryStorage`, and before it, if it shall be durable, a `LogFile`.
//!
//! An append is in the file's buffer when it returns, and durable once the loop has called `LogFile::sync`, which it
//! does before it tells anybody of it. The crate's own `PersistentStorage` would write to RocksDB, and sync, at every
//! call; that is a sync for each command at the leader.

use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::rc::Rc;

use omnipaxos::ballot_leader_election::Ballot;
use omnipaxos::storage::{NoSnapshot, StopSign, Storage, StorageOp, StorageResult};
use omnipaxos_storage::memory_storage::MemoryStorage;

use crate::command::Command;
use crate::log_file::{Change, LogFile};

#[derive(Default)]
pub struct Stored {
    memory: MemoryStorage<Command>,
    log: Option<Rc<RefCell<LogFile>>>,
}

impl Stored {
    /// What a file holds, and the file, to be synced.
    pub fn open(path: &Path) -> io::Result<(Stored, Rc<RefCell<LogFile>>)> {
        let (log, changes) = LogFile::open(path)?;
        let mut memory = MemoryStorage::default();
        let mut entries = 0;
        for change in changes {
            let done = match change {
                Change::Promised(ballot) => memory.set_promise(ballot),
                Change::AcceptedRound(ballot) => memory.set_accepted_round(ballot),
                Change::Decided(count) => memory.set_decided_idx(count),
                Change::Cut(count) => {
                    entries = count.min(entries);
                    memory.append_on_prefix(entries, Vec::new())
                }
                Change::Entries(more) => {
                    entries += more.len();
                    memory.append_entries(more)
                }
            };
            done.map_err(|error| io::Error::other(error.to_string()))?;
        }
        let log = Rc::new(RefCell::new(log));
        Ok((Stored { memory, log: Some(log.clone()) }, log))
    }

    /// Records what `write` adds as one.
    fn record(&self, write: impl FnOnce(&mut LogFile)) {
        if let Some(log) = &self.log {
            let mut log = log.borrow_mut();
            log.begin_record();
            write(&mut log);
            log.end_record();
        }
    }
}

fn write(op: &StorageOp<Command>, log: &mut LogFile) {
    match op {
        StorageOp::AppendEntry(entry) => log.entries(std::slice::from_ref(entry)),
        StorageOp::AppendEntries(entries) => log.entries(entries),
        StorageOp::AppendOnPrefix(from, entries) => {
            log.cut(*from);
            log.entries(entries);
        }
        StorageOp::SetPromise(ballot) => log.promised(*ballot),
        StorageOp::SetDecidedIndex(count) => log.decided(*count),
        StorageOp::SetAcceptedRound(ballot) => log.accepted_round(*ballot),
        StorageOp::SetCompactedIdx(_)
        | StorageOp::Trim(_)
        | StorageOp::SetStopsign(_)
        | StorageOp::SetSnapshot(_) => unreachable!("`is_kept` was asked"),
    }
}

/// Logs are never compacted and configurations never changed here; `peers` lets no message ask for it.
fn is_kept(op: &StorageOp<Command>) -> bool {
    !matches!(
        op,
        StorageOp::SetCompactedIdx(_)
            | StorageOp::Trim(_)
            | StorageOp::SetStopsign(_)
            | StorageOp::SetSnapshot(_)
    )
}

fn not_kept<T>() -> StorageResult<T> {
    Err("snapshots, trimming and stop signs are not kept here".into())
}

impl Storage<Command> for Stored {
    fn write_atomically(&mut self, ops: Vec<StorageOp<Command>>) -> StorageResult<()> {
        if !ops.iter().all(is_kept) {
            return not_kept();
        }
        self.record(|log| ops.iter().for_each(|op| write(op, log)));
        self.memory.write_atomically(ops)
    }

    fn append_entry(&mut self, entry: Command) -> StorageResult<()> {
        self.record(|log| log.entries(std::slice::from_ref(&entry)));
        self.memory.append_entry(entry)
    }

    fn append_entries(&mut self, entries: Vec<Command>) -> StorageResult<()> {
        if entries.is_empty() {
            return Ok(());
        }
        self.record(|log| log.entries(&entries));
        self.memory.append_entries(entries)
    }

    fn append_on_prefix(&mut self, from: usize, entries: Vec<Command>) -> StorageResult<()> {
        self.write_atomically(vec![StorageOp::AppendOnPrefix(from, entries)])
    }

    fn set_promise(&mut self, ballot: Ballot) -> StorageResult<()> {
        self.record(|log| log.promised(ballot));
        self.memory.set_promise(ballot)
    }

    fn set_decided_idx(&mut self, count: usize) -> StorageResult<()> {
        self.record(|log| log.decided(count));
        self.memory.set_decided_idx(count)
    }

    fn get_decided_idx(&self) -> StorageResult<usize> {
        self.memory.get_decided_idx()
    }

    fn set_accepted_round(&mut self, ballot: Ballot) -> StorageResult<()> {
        self.record(|log| log.accepted_round(ballot));
        self.memory.set_accepted_round(ballot)
    }

    fn get_accepted_round(&self) -> StorageResult<Option<Ballot>> {
        self.memory.get_accepted_round()
    }

    fn get_entries(&self, from: usize, to: usize) -> StorageResult<Vec<Command>> {
        self.memory.get_entries(from, to)
    }

    fn get_log_len(&self) -> StorageResult<usize> {
        self.memory.get_log_len()
    }

    fn get_suffix(&self, from: usize) -> StorageResult<Vec<Command>> {
        self.memory.get_suffix(from)
    }

    fn get_promise(&self) -> StorageResult<Option<Ballot>> {
        self.memory.get_promise()
    }

    fn set_stopsign(&mut self, _: Option<StopSign>) -> StorageResult<()> {
        not_kept()
    }

    fn get_stopsign(&self) -> StorageResult<Option<StopSign>> {
        self.memory.get_stopsign()
    }

    fn trim(&mut self, _: usize) -> StorageResult<()> {
        not_kept()
    }

    fn set_compacted_idx(&mut self, _: usize) -> StorageResult<()> {
        not_kept()
    }

    fn get_compacted_idx(&self) -> StorageResult<usize> {
        self.memory.get_compacted_idx()
    }

    fn set_snapshot(&mut self, _: Option<NoSnapshot>) -> StorageResult<()> {
        not_kept()
    }

    fn get_snapshot(&self) -> StorageResult<Option<NoSnapshot>> {
        self.memory.get_snapshot()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Shared;

    fn entries(numbers: std::ops::Range<u64>) -> Vec<Command> {
        let bytes = Shared(b"\x02\x01\0k".as_slice().into());
        numbers.map(|number| Command { node: 1, life: 1, number, bytes: bytes.clone() }).collect()
    }

    /// A new life finds what the last one synced, suffixes that were overwritten included.
    #[test]
    fn a_new_life_finds_the_last_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let ballot = Ballot::with(1, 5, 0, 2);
        {
            let (mut stored, log) = Stored::open(&path).unwrap();
            assert!(stored.get_promise().unwrap().is_none());
            stored.set_promise(ballot).unwrap();
            stored.append_entries(entries(0..4)).unwrap();
            let ops = vec![
                StorageOp::SetAcceptedRound(ballot),
                StorageOp::SetDecidedIndex(2),
                StorageOp::AppendOnPrefix(2, entries(10..13)),
            ];
            stored.write_atomically(ops).unwrap();
            stored.append_entry(entries(20..21).remove(0)).unwrap();
            assert!(stored.write_atomically(vec![StorageOp::Trim(1)]).is_err());
            log.borrow_mut().sync().unwrap();
            // Not synced, so it may be gone.
            stored.append_entries(entries(30..31)).unwrap();
        }
        let (stored, _) = Stored::open(&path).unwrap();
        let numbers: Vec<u64> =
            stored.get_suffix(0).unwrap().iter().map(|entry| entry.number).collect();
        assert_eq!(numbers, [0, 1, 10, 11, 12, 20]);
        assert_eq!(stored.get_promise().unwrap(), Some(ballot));
        assert_eq!(stored.get_accepted_round().unwrap(), Some(ballot));
        assert_eq!(stored.get_decided_idx().unwrap(), 2);
    }
}
