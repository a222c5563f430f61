//! Trace files: what happened when, in binary records of one size, cheap enough to leave on.
//!
//! All integers are little-endian. A file is a header of 64 bytes and then records of 40 bytes; a
//! reader ignores a last record that is cut short.
//!
//! Header:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic `LOGGTRAC` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | size of a record, 40 |
//! | 16 | 2 | source: 1 node, 2 client |
//! | 18 | 2 | node id, 0 for a client |
//! | 20 | 4 | process id |
//! | 24 | 8 | wall clock at the start, nanoseconds since 1970 |
//! | 32 | 8 | `CLOCK_MONOTONIC` at the same moment, nanoseconds |
//! | 40 | 8 | largest error of that pair, nanoseconds |
//! | 48 | 16 | zero |
//!
//! Record:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | time, `CLOCK_MONOTONIC` nanoseconds |
//! | 8 | 2 | kind, see [`Kind`] |
//! | 10 | 2 | node: see the kind |
//! | 12 | 4 | `aux` |
//! | 16 | 8 | `a` |
//! | 24 | 8 | `b` |
//! | 32 | 8 | `c` |
//!
//! Processes of one machine share `CLOCK_MONOTONIC`, so their records compare directly (all hosts of
//! a Mininet do). Across machines, add `wall - monotonic` of each file's header.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

pub const MAGIC: [u8; 8] = *b"LOGGTRAC";
pub const VERSION: u32 = 1;
pub const HEADER_SIZE: usize = 64;
pub const RECORD_SIZE: usize = 40;

/// What a record tells. Fields that are not named are 0; `node` is the writing node unless said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    /// The node serves. `a`: first unchosen slot after recovery.
    NodeStarted = 1,
    /// The node ended cleanly.
    NodeStopped = 2,
    /// This node follows a new leader. `node`: that leader, `a`: its ballot's round.
    LeaderChanged = 3,
    /// A scout began. `a`: the ballot's round, `b`: its first slot.
    ScoutStarted = 4,
    /// A phase-1 quorum adopted our ballot. `a`: round, `b`: first slot to propose.
    Adopted = 5,
    /// A higher ballot ended our lead or scout. `node`: its owner, `a`: our round, `b`: its round.
    Preempted = 6,
    /// A peer's connection stands. `node`: the peer.
    PeerUp = 7,
    /// A peer's connection ended. `node`: the peer.
    PeerDown = 8,
    /// A command arrived from a client. `a`: session, `b`: sequence number, `aux`: payload bytes.
    RequestReceived = 20,
    /// The leader formed a batch. `a`: slot, `aux`: commands, `b`: bytes, `c`: the time that its
    /// oldest command waited at the leader, nanoseconds.
    Proposed = 21,
    /// This node's own log is durable. `a`: every slot below is durable here, `b`: duration of the
    /// sync in nanoseconds, `aux`: records covered.
    Synced = 22,
    /// This node knows more slots to be chosen. `a`: first unchosen slot now, `b`: before.
    Chosen = 23,
    /// A slot was applied. `a`: slot, `aux`: commands, `b`: low half of the store's digest after it,
    /// `c`: xxh3-64 of the value that was chosen. (Traces of earlier builds have 0 in both.)
    Applied = 24,
    /// The reply to a command was handed to the client's connection. `a`: session, `b`: sequence
    /// number, `c`: slot.
    RequestReplied = 25,
    /// This node knows slots to be chosen that it will not apply one by one: the state behind them came
    /// from a peer. `a`: first unchosen slot now, `b`: before.
    Jumped = 26,
    /// Client: an operation ended, now. `node`: who replied (0: nobody), `a`: session, `b`: sequence
    /// number (of a read: 0), `c`: intended start (`CLOCK_MONOTONIC` nanoseconds), `aux`: operation
    /// in the low byte ([`Operation`]), outcome in the next ([`OperationOutcome`]).
    ClientOperation = 40,
    /// A lab's fault, written by the experiment's tooling. `aux`: number of the event in the schedule.
    Fault = 60,
}

impl Kind {
    /// The kind with this number. `None`: a kind of a later release.
    pub fn of(number: u16) -> Option<Kind> {
        use Kind::*;
        let all = [
            NodeStarted,
            NodeStopped,
            LeaderChanged,
            ScoutStarted,
            Adopted,
            Preempted,
            PeerUp,
            PeerDown,
            RequestReceived,
            Proposed,
            Synced,
            Chosen,
            Applied,
            RequestReplied,
            Jumped,
            ClientOperation,
            Fault,
        ];
        all.into_iter().find(|kind| *kind as u16 == number)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Operation {
    Read = 0,
    Put = 1,
    Incr = 2,
    Create = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum OperationOutcome {
    Ok = 0,
    /// A reply that says no (a failed condition).
    Refused = 1,
    /// Certainly did not happen.
    Failed = 2,
    /// May have happened.
    Unknown = 3,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Node(u16),
    Client,
}

/// One record, ready to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    pub time_ns: u64,
    pub kind: Kind,
    pub node: u16,
    pub aux: u32,
    pub a: u64,
    pub b: u64,
    pub c: u64,
}

impl Event {
    /// An event of `kind` with all other fields 0.
    pub fn new(time_ns: u64, kind: Kind, node: u16) -> Event {
        Event { time_ns, kind, node, aux: 0, a: 0, b: 0, c: 0 }
    }

    fn encode(&self) -> [u8; RECORD_SIZE] {
        let mut out = [0; RECORD_SIZE];
        out[0..8].copy_from_slice(&self.time_ns.to_le_bytes());
        out[8..10].copy_from_slice(&(self.kind as u16).to_le_bytes());
        out[10..12].copy_from_slice(&self.node.to_le_bytes());
        out[12..16].copy_from_slice(&self.aux.to_le_bytes());
        out[16..24].copy_from_slice(&self.a.to_le_bytes());
        out[24..32].copy_from_slice(&self.b.to_le_bytes());
        out[32..40].copy_from_slice(&self.c.to_le_bytes());
        out
    }
}

/// The records of a trace file, and who wrote it; or why it is none. Kinds that are not known here
/// are left out, and a last record that is cut short.
pub fn read(bytes: &[u8]) -> Result<(Source, Vec<Event>), String> {
    let Some(header) = bytes.get(..HEADER_SIZE).filter(|header| header.starts_with(&MAGIC)) else {
        return Err("it is no trace (no LOGGTRAC at its begin)".to_owned());
    };
    let u16_at = |at: usize| u16::from_le_bytes(header[at..at + 2].try_into().expect("2 bytes"));
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
    if u32_at(8) != VERSION || u32_at(12) != RECORD_SIZE as u32 {
        return Err(format!("it has format {}; this program reads {VERSION}", u32_at(8)));
    }
    let source = match u16_at(16) {
        1 => Source::Node(u16_at(18)),
        2 => Source::Client,
        other => return Err(format!("nobody knows its source {other}")),
    };
    Ok((source, bytes[HEADER_SIZE..].chunks_exact(RECORD_SIZE).filter_map(decode).collect()))
}

fn decode(record: &[u8]) -> Option<Event> {
    let u16_at = |at: usize| u16::from_le_bytes(record[at..at + 2].try_into().expect("2 bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(record[at..at + 8].try_into().expect("8 bytes"));
    Some(Event {
        time_ns: u64_at(0),
        kind: Kind::of(u16_at(8))?,
        node: u16_at(10),
        aux: u32::from_le_bytes(record[12..16].try_into().expect("4 bytes")),
        a: u64_at(16),
        b: u64_at(24),
        c: u64_at(32),
    })
}

/// Writes a trace file through a buffer. What is buffered at a kill -9 is lost, so `flush` is called
/// when there is time for it.
pub struct Writer {
    out: BufWriter<File>,
}

impl Writer {
    /// Creates (or empties) the file and writes the header.
    pub fn create(path: &Path, source: Source) -> io::Result<Writer> {
        let (wall_ns, mono_ns, error_ns) = clock_pair();
        let (source, node) = match source {
            Source::Node(node) => (1u16, node),
            Source::Client => (2, 0),
        };
        let mut header = [0u8; HEADER_SIZE];
        header[0..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        header[12..16].copy_from_slice(&(RECORD_SIZE as u32).to_le_bytes());
        header[16..18].copy_from_slice(&source.to_le_bytes());
        header[18..20].copy_from_slice(&node.to_le_bytes());
        header[20..24].copy_from_slice(&std::process::id().to_le_bytes());
        header[24..32].copy_from_slice(&wall_ns.to_le_bytes());
        header[32..40].copy_from_slice(&mono_ns.to_le_bytes());
        header[40..48].copy_from_slice(&error_ns.to_le_bytes());
        let mut out = BufWriter::with_capacity(256 * 1024, File::create(path)?);
        out.write_all(&header)?;
        out.flush()?;
        Ok(Writer { out })
    }

    pub fn write(&mut self, event: &Event) -> io::Result<()> {
        self.out.write_all(&event.encode())
    }

    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds: the time base of all records.
#[allow(unsafe_code)]
pub fn monotonic_ns() -> u64 {
    let mut ts = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `ts` is a valid timespec to write to, and the clock exists on every Linux.
    let rc = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut ts) };
    assert!(rc == 0, "CLOCK_MONOTONIC is readable");
    ts.tv_sec as u64 * 1_000_000_000 + ts.tv_nsec as u64
}

/// The wall clock, nanoseconds since 1970.
#[allow(clippy::disallowed_methods)] // The clock of the driver and the clients lives here.
pub fn wall_ns() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

/// Wall clock and monotonic clock of one moment, and by how much they may be apart.
pub fn clock_pair() -> (u64, u64, u64) {
    let before = monotonic_ns();
    let wall = wall_ns();
    let after = monotonic_ns();
    (wall, before + (after - before) / 2, after - before)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Python reader depends on every offset.
    #[test]
    fn golden_record() {
        let event = Event {
            time_ns: 1,
            kind: Kind::ClientOperation,
            node: 2,
            aux: 3,
            a: 4,
            b: 5,
            c: 0x0102_0304_0506_0708,
        };
        let mut expected = [0u8; RECORD_SIZE];
        expected[0] = 1;
        expected[8] = 40;
        expected[10] = 2;
        expected[12] = 3;
        expected[16] = 4;
        expected[24] = 5;
        expected[32..40].copy_from_slice(&[8, 7, 6, 5, 4, 3, 2, 1]);
        assert_eq!(event.encode(), expected);
        assert_eq!(decode(&expected), Some(event));
        expected[8] = 99;
        assert_eq!(decode(&expected), None, "of a later release");
    }

    #[test]
    fn what_is_no_trace_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        Writer::create(&path, Source::Client).unwrap();
        let good = std::fs::read(&path).unwrap();
        assert_eq!(read(&good), Ok((Source::Client, Vec::new())));
        assert!(read(&good[..63]).is_err());
        for (at, what) in [(0, "no trace"), (8, "format"), (16, "source")] {
            let mut bad = good.clone();
            bad[at] = 9;
            assert!(read(&bad).unwrap_err().contains(what));
        }
    }

    #[test]
    fn header_then_records() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t");
        let mut writer = Writer::create(&path, Source::Node(9)).unwrap();
        writer.write(&Event::new(7, Kind::Applied, 9)).unwrap();
        writer.flush().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), HEADER_SIZE + RECORD_SIZE);
        assert_eq!(&bytes[..8], b"LOGGTRAC");
        assert_eq!(u16::from_le_bytes([bytes[18], bytes[19]]), 9);
        // One that was cut short by a kill -9 is left out.
        for size in [bytes.len(), bytes.len() - 1] {
            let (source, events) = read(&bytes[..size]).unwrap();
            assert_eq!(source, Source::Node(9));
            assert_eq!(events.len(), (size - HEADER_SIZE) / RECORD_SIZE);
        }
    }
}
