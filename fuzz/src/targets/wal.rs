//! The log as it is found after a crash, or after something worse.
//!
//! An input is a picture of a data directory, short because most of a segment is zeros:
//!
//! | size | what |
//! | --- | --- |
//! | 1 | bit 0: make the checksums of segments and records right; bit 1: those of `meta` |
//! | 2 + n | size of `meta`, and its bytes |
//! | 4 + n, repeated | size of a segment in units of 8 bytes, size of what follows, the bytes; then zeros |
//!
//! With right checksums it is a log that some other program wrote: it may be refused, or be taken for
//! what it says, and must not bring recovery down.

use std::fs;
use std::ops::Range;
use std::path::Path;

use loggos::limits::ACCEPTOR_AHEAD_SLOTS_MAX;
use loggos::paxos::{Ballot, NodeId, Record, Slot, Value};
use loggos::wal::bounds::Bounds;
use loggos::wal::meta::{LogId, Meta, Proven};
use loggos::wal::record::{self, Seed};
use loggos::wal::scan::{End, Found, View, scan as scan_views};
use loggos::wal::segment::{self, SegmentHeader, Start};
use loggos::wal::{Identity, Options, Verdict, Wal, WalError, inspect};
use loggos::wire::ClusterId;

use super::memory::peak_of;

const LOG: LogId = LogId {
    identity: Identity { cluster: ClusterId(0x0102_0304_0506_0708), node: NodeId(3) },
    random: 0x1112_1314_1516_1718,
};
pub const META: Meta = Meta {
    log: LOG,
    first_segment: 1,
    first_sequence: 1,
    truncated_before: Slot::FIRST,
    proven: Proven { sequence: 0, bounds: NOTHING, first_unchosen: Slot::FIRST },
};
const NOTHING: Bounds = Bounds { promised: Ballot::NONE, own_round: 0, slot_end: Slot(0) };
pub const OPTIONS: Options = Options { segment_size: 8192, sync: true };
/// Segments of one picture.
const SEGMENTS_MAX: usize = 4;
/// For every record the index may begin a page, and recovery reads in units of 1 MiB.
const SIZE_FACTOR: usize = 512;
const SIZE_JUSTIFIED: usize = 2 * 1024 * 1024;

/// A data directory in memory.
pub struct Picture {
    pub meta: Vec<u8>,
    pub segments: Vec<Vec<u8>>,
}

/// Recovery's reading of segments, without files: what it takes for the log must be whole but for what it
/// says is lost, and must be all that is found once the rest is cleared away.
pub fn scan(input: &[u8]) {
    let Some(picture) = Picture::decode(input) else { return };
    if picture.segments.is_empty() {
        return;
    }
    let (scanned, peak) = peak_of(|| read(&picture.segments, &META));
    let size: usize = picture.segments.iter().map(Vec::len).sum();
    assert!(peak <= SIZE_FACTOR * size + SIZE_JUSTIFIED, "{peak} bytes for a log of {size}");
    let Ok(read_first) = scanned else { return };
    let Read { end, records, lost } = &read_first;
    let mut next = 1;
    let mut lost_at = lost.iter().peekable();
    for (sequence, ..) in records {
        while let Some(hole) = lost_at.next_if(|hole| hole.start == next && hole.end <= *sequence) {
            next = hole.end;
        }
        assert_eq!(*sequence, next);
        next += 1;
    }
    for hole in lost_at {
        assert_eq!(hole.start, next);
        next = hole.end;
    }
    assert_eq!(next, end.sequence + 1);
    assert!(end.used <= picture.segments[end.view].len());

    // As recovery leaves it behind.
    let mut settled = picture.segments;
    settled.truncate(end.view + 1);
    settled[end.view][end.used..].fill(0);
    let sequence = if lost.is_empty() { 0 } else { end.sequence };
    let meta = Meta { proven: Proven { sequence, ..META.proven }, ..META };
    let again = read(&settled, &meta).expect("what was recovered is recoverable");
    assert_eq!(again.end, End { torn: false, ..read_first.end });
    assert_eq!(again.records, read_first.records);
}

struct Read {
    end: End,
    /// Sequence number, segment, offset, size of the payload.
    records: Vec<(u64, u64, usize, usize)>,
    lost: Vec<Range<u64>>,
}

fn read(segments: &[Vec<u8>], meta: &Meta) -> Result<Read, WalError> {
    let wal_dir = Path::new("wal");
    let views: Vec<View> =
        (1..).zip(segments).map(|(number, bytes)| View { wal_dir, number, bytes }).collect();
    let (mut records, mut lost) = (Vec::new(), Vec::new());
    let mut visit = |found: Found| match found {
        Found::Header(..) => {}
        Found::Record(number, offset, record) => {
            records.push((record.sequence, number, offset, record.payload.len()));
        }
        Found::Lost(hole) => lost.push(hole.sequences.clone()),
    };
    let end = scan_views(&views, meta, &mut visit, &mut |_| Ok(()))?;
    Ok(Read { end, records, lost })
}

/// A whole data directory, in files: `inspect` and a start must say the same of it, a log that opens must
/// hold the same when it is opened again, and take a new record.
pub fn open(input: &[u8]) {
    let Some(picture) = Picture::decode(input) else { return };
    let dir = in_memory();
    picture.write(dir.path());
    let mut listing = Vec::new();
    let inspected = inspect(dir.path(), &mut listing);
    let opened = open_wal(dir.path());
    match (&inspected, &opened) {
        (Ok(Verdict::Refused { .. }), Ok(_)) => {
            panic!("inspect says {inspected:?}, and the log opens")
        }
        (Ok(_), Ok((wal, _))) => {
            let is_damaged = matches!(inspected, Ok(Verdict::Damaged { .. }));
            assert_eq!(is_damaged, !wal.lost().is_empty());
        }
        (Ok(Verdict::Refused { .. }), Err(_)) => {}
        (Ok(_), Err(WalError::Foreign { .. })) => {}
        // Without `meta` there is nothing to inspect, but perhaps a creation to finish.
        (Err(_), Ok(_)) => assert!(picture.meta.is_empty(), "{inspected:?}"),
        (Err(_), Err(_)) => {}
        (inspected, Err(error)) => panic!("inspect says {inspected:?}, opening {error}"),
    }
    let Ok((mut wal, recovered)) = opened else { return };
    assert!(recovered.tail.iter().all(|entry| recovered.first_unchosen <= entry.slot));
    for entry in &recovered.tail {
        assert_eq!(wal.read(entry.slot), Some((entry.ballot, &*entry.value.0)));
    }
    let ballot = Ballot { round: 1, node: NodeId(3) };
    let slot = Slot(5);
    let is_damaged = !wal.lost().is_empty();
    if is_damaged {
        // As a node does that starts from a log that has lost something: what lies before may claim more.
        wal.append(&Record::FirstUnchosen(recovered.first_unchosen)).expect("there is room");
    }
    let record = Record::Chosen { ballot, slot, value: Value(b"new".as_slice().into()) };
    let end = wal.append(&record).expect("there is room");
    wal.sync_now().expect("the file system works");
    drop(wal);
    let (again, second) = open_wal(dir.path()).expect("what was open can be opened");
    assert_eq!(again.end(), end);
    assert_eq!(again.read(slot), Some((ballot, &b"new"[..])));
    assert_eq!(second.promised, recovered.promised);
    assert_eq!(second.own_ballot, recovered.own_ballot);
    assert_eq!(second.first_unchosen, recovered.first_unchosen);
    let without = |tail: &[loggos::paxos::RecoveredSlot]| {
        let mut tail: Vec<_> = tail.iter().filter(|it| it.slot != slot).cloned().collect();
        if is_damaged {
            // What was known to be chosen above a gap is learned anew with it, and not kept if it is far.
            tail.retain(|it| it.slot.since(recovered.first_unchosen) < ACCEPTOR_AHEAD_SLOTS_MAX);
            tail.iter_mut().for_each(|it| it.chosen = false);
        }
        tail
    };
    assert_eq!(without(&second.tail), without(&recovered.tail));
}

fn open_wal(dir: &Path) -> Result<(Wal, loggos::paxos::Recovered), WalError> {
    Wal::open(dir, LOG.identity, OPTIONS, Box::new(|| ()), &mut |_, _| ())
}

/// A directory that no disk slows down, where the system has one.
pub fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .expect("a temporary directory")
}

impl Picture {
    pub fn decode(input: &[u8]) -> Option<Picture> {
        let (&flags, rest) = input.split_first()?;
        let (size, rest) = rest.split_first_chunk::<2>()?;
        let (meta, mut rest) = rest.split_at_checked(u16::from_le_bytes(*size).into())?;
        let mut picture = Picture { meta: meta.to_vec(), segments: Vec::new() };
        while let Some((sizes, behind)) = rest.split_first_chunk::<4>() {
            if picture.segments.len() == SEGMENTS_MAX {
                break;
            }
            let size = 8 * usize::from(u16::from_le_bytes([sizes[0], sizes[1]]) % 4096);
            let used = usize::from(u16::from_le_bytes([sizes[2], sizes[3]]));
            let (data, behind) = behind.split_at(used.min(behind.len()));
            rest = behind;
            let mut bytes = data.to_vec();
            // Shorter ones are refused before anything else looks at them.
            bytes.resize(size.max(segment::HEADER_SIZE), 0);
            picture.segments.push(bytes);
        }
        if flags & 1 == 1 {
            for (number, bytes) in (1..).zip(&mut picture.segments) {
                make_segment_right(number, bytes);
            }
        }
        if flags & 2 == 2 {
            picture.meta.chunks_mut(4096).for_each(make_meta_right);
        }
        Some(picture)
    }

    pub fn encode(&self, flags: u8) -> Vec<u8> {
        let word = |size: usize| u16::try_from(size).expect("a small picture").to_le_bytes();
        let mut out = vec![flags];
        out.extend(word(self.meta.len()));
        out.extend(&self.meta);
        for bytes in &self.segments {
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            out.extend(word(bytes.len() / 8));
            out.extend(word(used));
            out.extend(&bytes[..used]);
        }
        out
    }

    pub fn read(dir: &Path) -> Picture {
        let wal_dir = dir.join("wal");
        let paths = (1..).map(|number| segment::path_in(&wal_dir, number));
        let read = |path: &Path| fs::read(path).expect("it can be read");
        Picture {
            // One copy, without the zeros behind it, is as good as the whole file.
            meta: Picture::meta_with_known_id(&read(&dir.join("meta"))[..128]),
            segments: paths.take_while(|path| path.exists()).map(|path| read(&path)).collect(),
        }
    }

    fn meta_with_known_id(meta: &[u8]) -> Vec<u8> {
        let mut meta = meta.to_vec();
        meta[32..40].copy_from_slice(&LOG.random.to_le_bytes());
        meta
    }

    fn write(&self, dir: &Path) {
        let wal_dir = dir.join("wal");
        fs::create_dir(&wal_dir).expect("a new directory");
        if !self.meta.is_empty() {
            fs::write(dir.join("meta"), &self.meta).expect("it can be written");
        }
        for (number, bytes) in (1..).zip(&self.segments) {
            fs::write(segment::path_in(&wal_dir, number), bytes).expect("it can be written");
        }
    }
}

/// A header of this log, with the sequence numbers that were there, and records with right checksums as
/// far as their sizes lead.
fn make_segment_right(number: u64, bytes: &mut [u8]) {
    let word = |bytes: &[u8], at: usize| {
        u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
    };
    if bytes.iter().all(|byte| *byte == 0) {
        return;
    }
    let size = bytes.len() as u64;
    let start = Start {
        first_sequence: word(bytes, 48),
        durable: word(bytes, 56),
        bounds: Bounds::decode(bytes, 72, 104),
        first_unchosen: Slot(word(bytes, 96)),
    };
    let header = SegmentHeader { log: LOG, number, size, start };
    bytes[..segment::HEADER_SIZE].copy_from_slice(&header.encode());
    let seed = Seed::new(LOG.random, number);
    let mut at = segment::HEADER_SIZE;
    while at + record::HEADER_SIZE <= bytes.len() {
        let room = bytes.len() - at - record::HEADER_SIZE;
        let size = u32::from_le_bytes(bytes[at + 4..at + 8].try_into().expect("four bytes"));
        let size = size as usize;
        // A sequence number of zero is where nothing was written.
        if room < size || word(bytes, at + 8) == 0 {
            break;
        }
        let mut hasher = crc32fast::Hasher::new_with_initial(seed.at(at));
        hasher.update(&bytes[at + 4..at + record::HEADER_SIZE + size]);
        let crc = hasher.finalize();
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        at += (record::HEADER_SIZE + size).next_multiple_of(8);
    }
}

fn make_meta_right(block: &mut [u8]) {
    if 128 <= block.len() {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&block[0..12]);
        hasher.update(&block[16..128]);
        let crc = hasher.finalize();
        block[12..16].copy_from_slice(&crc.to_le_bytes());
    }
}
