//! History files: what clients asked and were told, for `loggos check`.
//!
//! A header of 64 bytes, then records of different sizes, the last of which is an end record. All
//! integers of fixed size are little-endian. A *number* is unsigned, 7 bits a byte, the lowest first,
//! the high bit set in all bytes but the last, 10 bytes at most. A *signed* is a number that counts 0,
//! -1, 1, -2, 2, ….
//!
//! Header:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | magic `LOGGHIST` |
//! | 8 | 4 | format version, 1 |
//! | 12 | 4 | flags; 1: the keys may have held anything at the beginning, else they did not exist |
//! | 16 | 16 | the machine's boot id: files in which it is the same have the same clock |
//! | 32 | 8 | wall clock at the start, nanoseconds since 1970 |
//! | 40 | 8 | `CLOCK_MONOTONIC` at the same moment, nanoseconds |
//! | 48 | 8 | largest error of that pair, nanoseconds |
//! | 56 | 4 | process id |
//! | 60 | 4 | zero |
//!
//! Records, by their first byte:
//!
//! | record | first byte | then |
//! | --- | --- | --- |
//! | key | 1 | number: size of its name; the name. Keys count from 0 |
//! | operation | 2 | 1 byte: operation + 16 * outcome; number: client; number: key; signed: time of its end minus that of the operation before (the first: minus the header's); number: how long it took; what was asked; what was answered. Times in nanoseconds of `CLOCK_MONOTONIC` |
//! | end | 3 | 8 bytes: how many operations; 4 bytes: CRC-32 of all records before this one |
//!
//! | operation | what was asked | | outcome | what was answered |
//! | --- | --- | --- | --- | --- |
//! | 0 get | | | 0 unknown | |
//! | 1 put | value | | 1 failed | |
//! | 2 create | value | | 2 done | |
//! | 3 update | value | | 3 value | value |
//! | 4 delete | | | 4 integer | signed |
//! | 5 cas | value, value | | 5 refused | |
//! | 6 incr | signed | | 6 mismatch | value |
//!
//! | value | first byte | then |
//! | --- | --- | --- |
//! | absent | 0 | |
//! | integer | 1 | signed |
//! | numeral | 2 | signed; 4 bytes: low half of the xxh3-64 of its text |
//! | bytes | 3 | 8 bytes: xxh3-64 of the value |
//!
//! A file without an end record is cut short: its process ended too early, and what else its clients
//! did is not known. An operation stands where it ended; one of unknown outcome where its client gave
//! up. The times of files from one boot compare directly. Those of different machines are compared by
//! the wall clock, which needs to be told by how much their clocks may differ; every operation is then
//! taken to have begun that much earlier and ended that much later.

use std::fmt;
use std::io::{self, Write};

use super::model::{Op, Reply, Value};
use super::{History, Operation, Outcome};
use crate::trace;

pub const MAGIC: [u8; 8] = *b"LOGGHIST";
pub const VERSION: u32 = 1;
pub const HEADER_SIZE: usize = 64;

const FLAG_STARTS_UNKNOWN: u32 = 1;
const KEY: u8 = 1;
const OPERATION: u8 = 2;
const END: u8 = 3;
/// What is buffered before it is written.
const BUFFER_SIZE: usize = 64 * 1024;
/// Longest name of a key.
const NAME_SIZE_MAX: u64 = crate::limits::KEY_SIZE_MAX as u64;

/// Whose clock a file's times are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    pub boot: [u8; 16],
    pub wall_ns: u64,
    pub monotonic_ns: u64,
    pub error_ns: u64,
}

impl Clock {
    /// This machine's, now. Where the system does not tell its boot, it is all zero, and the files
    /// of one machine are still of one clock.
    pub fn here() -> Clock {
        let (wall_ns, monotonic_ns, error_ns) = trace::clock_pair();
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: Vec<u8> =
            text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
        let mut boot = [0; 16];
        for (byte, pair) in boot.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Clock { boot, wall_ns, monotonic_ns, error_ns }
    }
}

/// Writes a history file as it happens.
pub struct Writer<W: Write> {
    out: W,
    buffer: Vec<u8>,
    crc: crc32fast::Hasher,
    operations: u64,
    keys: u64,
    last_ns: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a file on keys that do not exist (or, `starts_unknown`, of which nothing is known).
    pub fn new(mut out: W, clock: &Clock, starts_unknown: bool) -> io::Result<Writer<W>> {
        let mut header = [0u8; HEADER_SIZE];
        header[0..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let flags = if starts_unknown { FLAG_STARTS_UNKNOWN } else { 0 };
        header[12..16].copy_from_slice(&flags.to_le_bytes());
        header[16..32].copy_from_slice(&clock.boot);
        header[32..40].copy_from_slice(&clock.wall_ns.to_le_bytes());
        header[40..48].copy_from_slice(&clock.monotonic_ns.to_le_bytes());
        header[48..56].copy_from_slice(&clock.error_ns.to_le_bytes());
        header[56..60].copy_from_slice(&std::process::id().to_le_bytes());
        out.write_all(&header)?;
        Ok(Writer {
            out,
            buffer: Vec::with_capacity(BUFFER_SIZE + 8192),
            crc: crc32fast::Hasher::new(),
            operations: 0,
            keys: 0,
            last_ns: clock.monotonic_ns,
        })
    }

    /// Gives a key the next number, from 0. A name that has one already would be another key.
    pub fn key(&mut self, name: &[u8]) -> io::Result<u32> {
        self.buffer.push(KEY);
        number(name.len() as u64, &mut self.buffer);
        self.buffer.extend_from_slice(name);
        self.keys += 1;
        self.flush_full()?;
        Ok(u32::try_from(self.keys - 1).expect("a process does not ask for so many keys"))
    }

    /// An operation that ended: with a reply at its time, or was given up at `ended_ns`.
    pub fn operation(&mut self, operation: &Operation, ended_ns: u64) -> io::Result<()> {
        assert!(u64::from(operation.key) < self.keys, "a key is named before it is used");
        let out = &mut self.buffer;
        let (op, outcome) = (op_code(operation.op), outcome_code(operation.outcome));
        out.extend_from_slice(&[OPERATION, op | outcome << 4]);
        number(operation.client, out);
        number(u64::from(operation.key), out);
        let ended_ns = match operation.outcome {
            Outcome::Replied { at, .. } => at,
            Outcome::Unknown | Outcome::Failed => ended_ns.max(operation.invoked),
        };
        signed(ended_ns.wrapping_sub(self.last_ns) as i64, out);
        number(ended_ns - operation.invoked, out);
        match operation.op {
            Op::Get | Op::Delete => {}
            Op::Put(it) | Op::Create(it) | Op::Update(it) => value(it, out),
            Op::Cas { expect, value: it } => {
                value(expect, out);
                value(it, out);
            }
            Op::Incr(by) => signed(by, out),
        }
        if let Outcome::Replied { reply, .. } = operation.outcome {
            match reply {
                Reply::Done | Reply::Refused => {}
                Reply::Value(it) | Reply::Mismatch(it) => value(it, out),
                Reply::Integer(sum) => signed(sum, out),
            }
        }
        self.last_ns = ended_ns;
        self.operations += 1;
        self.flush_full()
    }

    /// Writes the end record and hands back what was written to.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        let mut end = vec![END];
        end.extend_from_slice(&self.operations.to_le_bytes());
        end.extend_from_slice(&self.crc.finalize().to_le_bytes());
        self.out.write_all(&end)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn flush_full(&mut self) -> io::Result<()> {
        if self.buffer.len() < BUFFER_SIZE { Ok(()) } else { self.flush() }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.crc.update(&self.buffer);
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

fn op_code(op: Op) -> u8 {
    match op {
        Op::Get => 0,
        Op::Put(_) => 1,
        Op::Create(_) => 2,
        Op::Update(_) => 3,
        Op::Delete => 4,
        Op::Cas { .. } => 5,
        Op::Incr(_) => 6,
    }
}

fn outcome_code(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Unknown => 0,
        Outcome::Failed => 1,
        Outcome::Replied { reply, .. } => match reply {
            Reply::Done => 2,
            Reply::Value(_) => 3,
            Reply::Integer(_) => 4,
            Reply::Refused => 5,
            Reply::Mismatch(_) => 6,
        },
    }
}

fn number(mut it: u64, out: &mut Vec<u8>) {
    while 0x80 <= it {
        out.push(it as u8 | 0x80);
        it >>= 7;
    }
    out.push(it as u8);
}

fn signed(it: i64, out: &mut Vec<u8>) {
    number((it << 1 ^ it >> 63) as u64, out);
}

fn value(it: Value, out: &mut Vec<u8>) {
    match it {
        Value::Absent => out.push(0),
        Value::Integer(number) => {
            out.push(1);
            signed(number, out);
        }
        Value::Numeral { number, spelling } => {
            out.push(2);
            signed(number, out);
            out.extend_from_slice(&spelling.to_le_bytes());
        }
        Value::Bytes(fingerprint) => {
            out.push(3);
            out.extend_from_slice(&fingerprint.to_le_bytes());
        }
        Value::Any => unreachable!("nobody asks for or is answered what nobody knows"),
    }
}

/// What a file holds.
#[derive(Debug)]
pub struct Contents {
    pub clock: Clock,
    pub history: History,
    /// The end record is there.
    pub is_whole: bool,
}

/// Why bytes are no history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FormatError {
    NotAHistory,
    Newer {
        version: u32,
    },
    /// What does not read, and at which byte.
    Malformed {
        at: usize,
        what: &'static str,
    },
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FormatError::NotAHistory => write!(f, "it is no history (no LOGGHIST at its begin)"),
            FormatError::Newer { version } => {
                write!(f, "it has format {version}; this program reads {VERSION}")
            }
            FormatError::Malformed { at, what } => write!(f, "damaged at byte {at}: {what}"),
        }
    }
}

/// Reads a file. One that is cut short gives what there is of it.
pub fn read(bytes: &[u8]) -> Result<Contents, FormatError> {
    let Some(header) = bytes.get(..HEADER_SIZE).filter(|header| header.starts_with(&MAGIC)) else {
        return Err(FormatError::NotAHistory);
    };
    let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("4 bytes"));
    let u64_at = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("8 bytes"));
    if u32_at(8) != VERSION {
        return Err(FormatError::Newer { version: u32_at(8) });
    }
    if FLAG_STARTS_UNKNOWN < u32_at(12) {
        return Err(FormatError::Malformed { at: 12, what: "an unknown flag" });
    }
    let boot = header[16..32].try_into().expect("16 bytes");
    let (wall_ns, monotonic_ns) = (u64_at(32), u64_at(40));
    let clock = Clock { boot, wall_ns, monotonic_ns, error_ns: u64_at(48) };
    let mut history = History::new();
    if u32_at(12) == FLAG_STARTS_UNKNOWN {
        history.start_unknown();
    }
    let mut reader = Reader { bytes, at: HEADER_SIZE, last_ns: monotonic_ns, end: None };
    while reader.at < bytes.len() && reader.end.is_none() {
        let begin = reader.at;
        match reader.record(&mut history) {
            Ok(()) => {}
            Err(Stop::Short) => return Ok(Contents { clock, history, is_whole: false }),
            Err(Stop::Malformed(what)) => return Err(FormatError::Malformed { at: begin, what }),
        }
    }
    let malformed = |what| Err(FormatError::Malformed { at: reader.at, what });
    match reader.end {
        Some(_) if reader.at < bytes.len() => malformed("bytes behind the end"),
        Some((operations, _)) if operations != history.len() as u64 => {
            malformed("another number of operations than the end says")
        }
        Some((_, crc)) if crc != crc32fast::hash(&bytes[HEADER_SIZE..reader.at - END_SIZE]) => {
            malformed("the checksum does not fit")
        }
        end => Ok(Contents { clock, history, is_whole: end.is_some() }),
    }
}

const END_SIZE: usize = 13;

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
    last_ns: u64,
    /// What the end record says: how many operations, and the checksum.
    end: Option<(u64, u32)>,
}

/// Why a record does not read.
enum Stop {
    /// The file ends in it.
    Short,
    Malformed(&'static str),
}

impl Reader<'_> {
    fn record(&mut self, history: &mut History) -> Result<(), Stop> {
        match self.byte()? {
            KEY => {
                let size = self.number()?;
                if NAME_SIZE_MAX < size {
                    return Err(Stop::Malformed("a key that is too long"));
                }
                let name = self.take(size as usize)?;
                let before = history.names.len();
                if history.number(name) as usize != before {
                    return Err(Stop::Malformed("a key that was named before"));
                }
            }
            OPERATION => {
                let operation = self.operation(history.names.len())?;
                history.operations.push(operation);
            }
            END => {
                let operations = u64::from_le_bytes(self.array()?);
                self.end = Some((operations, u32::from_le_bytes(self.array()?)));
            }
            _ => return Err(Stop::Malformed("an unknown record")),
        }
        Ok(())
    }

    fn operation(&mut self, keys: usize) -> Result<Operation, Stop> {
        let what = self.byte()?;
        let client = self.number()?;
        let key = self.number()?;
        if keys as u64 <= key {
            return Err(Stop::Malformed("an operation on a key that has no name"));
        }
        let ended_ns = self.last_ns.wrapping_add(self.signed()? as u64);
        let took_ns = self.number()?;
        let invoked = ended_ns.checked_sub(took_ns);
        let invoked = invoked.ok_or(Stop::Malformed("an operation from before the clock"))?;
        self.last_ns = ended_ns;
        let op = match what & 15 {
            0 => Op::Get,
            1 => Op::Put(self.value()?),
            2 => Op::Create(self.value()?),
            3 => Op::Update(self.value()?),
            4 => Op::Delete,
            5 => Op::Cas { expect: self.value()?, value: self.value()? },
            6 => Op::Incr(self.signed()?),
            _ => return Err(Stop::Malformed("an unknown operation")),
        };
        let reply = match what >> 4 {
            0 | 1 => None,
            2 => Some(Reply::Done),
            3 => Some(Reply::Value(self.value()?)),
            4 => Some(Reply::Integer(self.signed()?)),
            5 => Some(Reply::Refused),
            6 => Some(Reply::Mismatch(self.value()?)),
            _ => return Err(Stop::Malformed("an unknown outcome")),
        };
        let outcome = match (reply, what >> 4) {
            (Some(reply), _) => Outcome::Replied { at: ended_ns, reply },
            (None, 0) => Outcome::Unknown,
            (None, _) => Outcome::Failed,
        };
        Ok(Operation { client, key: key as u32, op, invoked, outcome })
    }

    fn value(&mut self) -> Result<Value, Stop> {
        match self.byte()? {
            0 => Ok(Value::Absent),
            1 => Ok(Value::Integer(self.signed()?)),
            2 => {
                let number = self.signed()?;
                Ok(Value::Numeral { number, spelling: u32::from_le_bytes(self.array()?) })
            }
            3 => Ok(Value::Bytes(u64::from_le_bytes(self.array()?))),
            _ => Err(Stop::Malformed("an unknown value")),
        }
    }

    fn signed(&mut self) -> Result<i64, Stop> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    fn number(&mut self) -> Result<u64, Stop> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            // The tenth byte has room for one bit.
            if shift == 63 && 1 < byte {
                break;
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Stop::Malformed("a number that is too large"))
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        Ok(self.take(N)?.try_into().expect("as many as were taken"))
    }

    fn take(&mut self, size: usize) -> Result<&[u8], Stop> {
        let taken = self.bytes[self.at..].get(..size).ok_or(Stop::Short)?;
        self.at += size;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLOCK: Clock = Clock { boot: [7; 16], wall_ns: 9000, monotonic_ns: 1000, error_ns: 5 };

    fn operation(op: Op, invoked: u64, outcome: Outcome) -> Operation {
        Operation { client: 300, key: 0, op, invoked, outcome }
    }

    fn replied(at: u64, reply: Reply) -> Outcome {
        Outcome::Replied { at, reply }
    }

    /// One operation of each kind and outcome.
    fn sample() -> Vec<Operation> {
        let numeral = Value::Numeral { number: -7, spelling: 0x0102_0304 };
        let bytes = Value::Bytes(0x1122_3344_5566_7788);
        vec![
            operation(Op::Get, 1000, replied(1064, Reply::Value(Value::Absent))),
            operation(Op::Put(bytes), 1001, replied(1065, Reply::Done)),
            operation(Op::Create(numeral), 900, replied(1066, Reply::Refused)),
            operation(Op::Update(Value::Integer(i64::MIN)), 1002, Outcome::Failed),
            operation(Op::Delete, 1003, Outcome::Unknown),
            operation(
                Op::Cas { expect: Value::Absent, value: bytes },
                1004,
                replied(2000, Reply::Mismatch(numeral)),
            ),
            operation(Op::Incr(-1), 1005, replied(1500, Reply::Integer(i64::MAX))),
        ]
    }

    fn written(operations: &[Operation]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &CLOCK, false).unwrap();
        assert_eq!(writer.key(b"key").unwrap(), 0);
        for operation in operations {
            writer.operation(operation, 1100).unwrap();
        }
        writer.finish().unwrap()
    }

    #[test]
    fn golden_bytes() {
        let file = written(&sample()[..2]);
        let mut header = b"LOGGHIST\x01\0\0\0\0\0\0\0".to_vec();
        header.extend_from_slice(&[7; 16]);
        for number in [9000u64, 1000, 5] {
            header.extend_from_slice(&number.to_le_bytes());
        }
        assert_eq!(file[..56], header);
        assert_eq!(file[60..64], [0; 4]);
        let records = [
            &b"\x01\x03key"[..],
            // get -> value; client 300, key 0; 64 after the clock, took 64; absent.
            &[2, 0x30, 0xac, 2, 0, 0x80, 1, 64, 0],
            // put -> done; 1 later, took 64; bytes.
            &[2, 0x21, 0xac, 2, 0, 2, 64, 3, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11],
        ]
        .concat();
        assert_eq!(file[64..file.len() - END_SIZE], records);
        let end = [&[3, 2, 0, 0, 0, 0, 0, 0, 0][..], &crc32fast::hash(&records).to_le_bytes()];
        assert_eq!(file[file.len() - END_SIZE..], end.concat());
    }

    #[test]
    fn what_was_written_is_read() {
        let contents = read(&written(&sample())).unwrap();
        assert_eq!((contents.clock, contents.is_whole), (CLOCK, true));
        assert_eq!(contents.history.operations, sample());
        assert_eq!(contents.history.name(0), b"key");
        assert!(!contents.history.starts_unknown);
        let unknown = Writer::new(Vec::new(), &CLOCK, true).unwrap().finish().unwrap();
        assert!(read(&unknown).unwrap().history.starts_unknown);
        assert_ne!(Clock::here().boot, [0; 16]);
    }

    /// A process that is killed leaves any number of bytes: never an error, never taken for whole.
    #[test]
    fn a_file_cut_short_is_known_as_such() {
        let file = written(&sample());
        for size in HEADER_SIZE..file.len() {
            let contents = read(&file[..size]).unwrap();
            assert!(!contents.is_whole);
            assert!(sample().starts_with(&contents.history.operations));
        }
        for size in 0..HEADER_SIZE {
            assert_eq!(read(&file[..size]).unwrap_err(), FormatError::NotAHistory);
        }
    }

    /// Whatever bit flips, the file is refused or taken for cut short; nothing panics.
    #[test]
    fn flipped_bits_are_noticed() {
        let file = written(&sample());
        for at in HEADER_SIZE * 8..file.len() * 8 {
            let mut file = file.clone();
            file[at / 8] ^= 1 << (at % 8);
            assert!(read(&file).is_ok_and(|it| !it.is_whole) || read(&file).is_err(), "bit {at}");
        }
    }

    #[test]
    fn rubbish_is_refused_by_name() {
        let refused = |records: &[u8], what: &str| {
            let mut file = written(&[]);
            file.truncate(HEADER_SIZE);
            file.extend_from_slice(records);
            let error = read(&file).unwrap_err().to_string();
            assert!(error.starts_with("damaged at byte ") && error.contains(what), "{error}");
        };
        refused(&[9], "an unknown record");
        refused(&[1, 0xff, 0xff, 1], "too long");
        refused(&[1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2], "too large");
        refused(&[1, 1, b'k', 1, 1, b'k'], "named before");
        refused(&[2, 0, 0, 0, 0, 0], "no name");
        refused(&[1, 1, b'k', 2, 7, 0, 0, 0, 0], "an unknown operation");
        refused(&[1, 1, b'k', 2, 0x70, 0, 0, 0, 0], "an unknown outcome");
        refused(&[1, 1, b'k', 2, 1, 0, 0, 0, 0, 9], "an unknown value");
        refused(&[1, 1, b'k', 2, 0, 0, 0, 0, 0xff, 0xff, 3], "before the clock");
        refused(&[3, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "number of operations");
        refused(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], "checksum");
        refused(&[3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "behind the end");
        let mut file = written(&[]);
        file[8] = 2;
        assert_eq!(read(&file).unwrap_err(), FormatError::Newer { version: 2 });
        file[8] = 1;
        file[12] = 2;
        assert!(matches!(read(&file).unwrap_err(), FormatError::Malformed { at: 12, .. }));
    }
}
