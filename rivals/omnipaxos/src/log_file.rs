//! The durable form of what OmniPaxos stores: a file to which records are appended.
//!
//! | size | field |
//! | --- | --- |
//! | 4 | size of the payload; 0: the end |
//! | 4 | CRC-32 of the payload |
//! | | payload: changes, which happen together |
//!
//! All integers are little-endian. Changes, by their first byte:
//!
//! | byte | change | fields |
//! | --- | --- | --- |
//! | 1 | promised | ballot: configuration (4), n (4), priority (4), pid (8) |
//! | 2 | accepted round | ballot |
//! | 3 | decided | 8: how many entries |
//! | 4 | cut | 8: entries that stay |
//! | 5 | entries | 4: how many; each: node (8), life (8), number (8), size (4), bytes |
//!
//! What is appended is in memory until `sync`, which writes and syncs it once, however much it is. How far the log is
//! decided is no reason to sync, since any quorum knows it again. Recovery takes whole records up to the first that is
//! none; what follows is cut off. A record that was synced and is damaged later therefore ends the log: there is no
//! way to tell it from one that was being written.
//!
//! The file is filled with zeros ahead of the records, so that a sync need not write how long it is, too.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use omnipaxos::ballot_leader_election::Ballot;

use crate::command::{Command, Shared};

const HEAD_SIZE: usize = 8;
/// Zeros are written so far ahead.
const AHEAD: u64 = 4 << 20;
const ZEROS: &[u8] = &[0; 256 << 10];
/// What needs no sync is written without one beyond this.
const BUFFER_SIZE_MAX: usize = 1 << 20;

const PROMISED: u8 = 1;
const ACCEPTED_ROUND: u8 = 2;
const DECIDED: u8 = 3;
const CUT: u8 = 4;
const ENTRIES: u8 = 5;

#[derive(Debug)]
pub enum Change {
    Promised(Ballot),
    AcceptedRound(Ballot),
    Decided(usize),
    /// All entries from here on are gone.
    Cut(usize),
    Entries(Vec<Command>),
}

pub struct LogFile {
    file: File,
    /// Where the next record goes.
    end: u64,
    /// How far the file is filled.
    filled: u64,
    buffer: Vec<u8>,
    /// Where the record that is being made begins in `buffer`.
    record_at: usize,
    /// Something in `buffer` must be durable before others hear of it.
    must_sync: bool,
}

impl LogFile {
    /// Opens or makes the file; returns with it all changes that were recorded, in order.
    pub fn open(path: &Path) -> io::Result<(LogFile, Vec<Change>)> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let bytes = std::fs::read(path)?;
        let (changes, end) = recover(&bytes);
        // Whatever was being written must not come back behind what follows.
        file.set_len(end)?;
        file.sync_all()?;
        let log =
            LogFile { file, end, filled: end, buffer: Vec::new(), record_at: 0, must_sync: false };
        Ok((log, changes))
    }

    pub fn begin_record(&mut self) {
        self.record_at = self.buffer.len();
        self.buffer.extend_from_slice(&[0; HEAD_SIZE]);
    }

    pub fn promised(&mut self, ballot: Ballot) {
        self.ballot(PROMISED, ballot);
    }

    pub fn accepted_round(&mut self, ballot: Ballot) {
        self.ballot(ACCEPTED_ROUND, ballot);
    }

    pub fn decided(&mut self, count: usize) {
        self.buffer.push(DECIDED);
        self.buffer.extend_from_slice(&(count as u64).to_le_bytes());
    }

    pub fn cut(&mut self, count: usize) {
        self.must_sync = true;
        self.buffer.push(CUT);
        self.buffer.extend_from_slice(&(count as u64).to_le_bytes());
    }

    pub fn entries(&mut self, entries: &[Command]) {
        self.must_sync = true;
        let out = &mut self.buffer;
        out.push(ENTRIES);
        out.extend_from_slice(&(entries.len() as u32).to_le_bytes());
        for entry in entries {
            for number in [entry.node, entry.life, entry.number] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            let bytes = &entry.bytes.0;
            out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        }
    }

    pub fn end_record(&mut self) {
        let (head, payload) = self.buffer[self.record_at..].split_at_mut(HEAD_SIZE);
        let size = u32::try_from(payload.len()).expect("a message is smaller than 4 GiB");
        head[..4].copy_from_slice(&size.to_le_bytes());
        head[4..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
    }

    /// Makes durable what must be, if something must.
    pub fn sync(&mut self) -> io::Result<()> {
        if !self.must_sync && self.buffer.len() < BUFFER_SIZE_MAX {
            return Ok(());
        }
        let end = self.end + self.buffer.len() as u64;
        if self.filled < end {
            let to = (end + AHEAD).next_multiple_of(AHEAD);
            let mut at = end;
            while at < to {
                let size = ((to - at) as usize).min(ZEROS.len());
                self.file.write_all_at(&ZEROS[..size], at)?;
                at += size as u64;
            }
            self.filled = to;
        }
        self.file.write_all_at(&self.buffer, self.end)?;
        self.end = end;
        self.buffer.clear();
        if std::mem::take(&mut self.must_sync) { self.file.sync_data() } else { Ok(()) }
    }

    fn ballot(&mut self, kind: u8, ballot: Ballot) {
        self.must_sync = true;
        let out = &mut self.buffer;
        out.push(kind);
        for number in [ballot.config_id, ballot.n, ballot.priority] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&ballot.pid.to_le_bytes());
    }
}

/// The changes in whole records, and where these end.
fn recover(bytes: &[u8]) -> (Vec<Change>, u64) {
    let mut all = Vec::new();
    let mut at = 0;
    while let Some((changes, size)) = record(&bytes[at..]) {
        all.extend(changes);
        at += size;
    }
    (all, at as u64)
}

/// The record at the beginning, and its size; `None`: there is none.
fn record(bytes: &[u8]) -> Option<(Vec<Change>, usize)> {
    let mut reader = Reader { bytes };
    let size = reader.u32()? as usize;
    let crc = reader.u32()?;
    let payload = reader.take(size)?;
    if size == 0 || crc32fast::hash(payload) != crc {
        return None;
    }
    let mut reader = Reader { bytes: payload };
    let mut changes = Vec::new();
    while !reader.bytes.is_empty() {
        changes.push(reader.change()?);
    }
    Some((changes, HEAD_SIZE + size))
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(size)?;
        self.bytes = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn change(&mut self) -> Option<Change> {
        Some(match self.take(1)?[0] {
            PROMISED => Change::Promised(self.ballot()?),
            ACCEPTED_ROUND => Change::AcceptedRound(self.ballot()?),
            DECIDED => Change::Decided(usize::try_from(self.u64()?).ok()?),
            CUT => Change::Cut(usize::try_from(self.u64()?).ok()?),
            ENTRIES => {
                let count = self.u32()?;
                Change::Entries((0..count).map(|_| self.entry()).collect::<Option<_>>()?)
            }
            _ => return None,
        })
    }

    fn ballot(&mut self) -> Option<Ballot> {
        Some(Ballot::with(self.u32()?, self.u32()?, self.u32()?, self.u64()?))
    }

    fn entry(&mut self) -> Option<Command> {
        let (node, life, number) = (self.u64()?, self.u64()?, self.u64()?);
        let size = self.u32()? as usize;
        Some(Command { node, life, number, bytes: Shared(self.take(size)?.into()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(number: u64) -> Command {
        Command { node: 2, life: 9, number, bytes: Shared(b"\x02\x01\0k".as_slice().into()) }
    }

    fn written(path: &Path) {
        let (mut log, changes) = LogFile::open(path).unwrap();
        assert!(changes.is_empty());
        log.begin_record();
        log.promised(Ballot::with(1, 2, 3, 4));
        log.end_record();
        log.begin_record();
        log.accepted_round(Ballot::with(1, 2, 3, 4));
        log.cut(0);
        log.entries(&[command(1), command(2)]);
        log.end_record();
        log.begin_record();
        log.decided(1);
        log.end_record();
        log.sync().unwrap();
    }

    #[test]
    fn what_was_synced_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        written(&path);
        let golden =
            b"\x15\0\0\0\x86\x24\x4a\x1b\x01\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\0\0\0\0";
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes[8..29], golden[8..]);
        assert_eq!(bytes[..4], golden[..4]);
        assert_eq!(bytes.len() as u64 % AHEAD, 0);

        let (mut log, changes) = LogFile::open(&path).unwrap();
        let text = format!("{changes:?}");
        for part in ["Promised(", "AcceptedRound(", "Cut(0)", "number: 2", "Decided(1)"] {
            assert!(text.contains(part), "{text}");
        }
        // What follows is behind it, over restarts too.
        log.begin_record();
        log.entries(&[command(3)]);
        log.end_record();
        log.sync().unwrap();
        let (_, changes) = LogFile::open(&path).unwrap();
        assert!(format!("{changes:?}").contains("number: 3"));
    }

    /// That something is decided waits for the next sync, and is not lost to a clean end of the buffer.
    #[test]
    fn only_votes_are_synced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let (mut log, _) = LogFile::open(&path).unwrap();
        log.begin_record();
        log.decided(7);
        log.end_record();
        log.sync().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        log.begin_record();
        log.promised(Ballot::default());
        log.end_record();
        log.sync().unwrap();
        let (_, changes) = LogFile::open(&path).unwrap();
        assert!(matches!(changes[..], [Change::Decided(7), Change::Promised(_)]), "{changes:?}");
    }

    /// Cut anywhere, or damaged: whole records, in order, and what is written then is found.
    #[test]
    fn a_torn_tail_is_left_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        written(&path);
        let whole = std::fs::read(&path).unwrap();
        let end = recover(&whole).1 as usize;
        let mut counts = Vec::new();
        for cut in 0..=end {
            let mut bytes = whole[..cut].to_vec();
            bytes.resize(end + 40, 0);
            let (changes, at) = recover(&bytes);
            assert_eq!(bytes[..at as usize], whole[..at as usize]);
            counts.push(changes.len());
        }
        assert!(counts.is_sorted());
        assert_eq!((counts[0], counts[end]), (0, 5));
        let mut bytes = whole;
        bytes[40] ^= 1;
        assert_eq!(recover(&bytes).0.len(), 1, "the second record is damaged");
    }
}
