//! Reading the log back: which records there are, and whether the end is torn or damaged.
//!
//! The algorithm:
//!
//! 1. Every segment from number 1 on must be there, as long as its header says, and the header
//!    blank or valid. Anything else no crash can bring about (see `segment`): an error.
//! 2. Records are read in order. At the first place that holds no valid record with the sequence
//!    number expected, reading goes on in the next segment if that begins with this number.
//!    Otherwise the record is missing.
//! 3. Torn or damaged? The pages of a batch that was not yet synced reach the disk in any order, so
//!    records behind the missing one do not prove that it was ever whole. But each record, and each
//!    segment header, carries the position that was durable when it was written. One that carries
//!    the missing sequence number or a higher one proves that the missing record was once durable:
//!    this is damage, the node may have voted on what is lost, and it must not start. Such a proof
//!    is searched at every aligned place behind, since damage may hide where records begin.
//! 4. Without a proof it is a torn tail, which nobody was ever told about: later segments are
//!    removed, the last one first, and zeros written over the rest of this one, before anything
//!    new is appended. So no byte of it can be taken for a new record later. A crash in between
//!    leaves a torn tail at the same place.
//! 5. All that is left is synced: it may have been written by a process that was killed before its
//!    sync, and so be in the page cache only, and from now on the node answers with it. What nothing
//!    proves to be on the disk is first written again, as it is: if that process ended because its
//!    sync failed, the kernel takes the pages for clean, and a sync alone would pass them over.
//!
//! What this can't see: damage to records behind which nothing was appended in a later turn. They
//! look like a torn tail.
//!
//! The rest of the last segment gets its zeros even if it has them: reading it may have brought
//! large folios into the page cache, which would make each append cost a hundredfold (see
//! `files`).

use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::mutants::{self, Mutant};
use crate::paxos::{Recovered, RecoveredSlot, Slot, Value};

use super::disk::{Disk, SegmentBytes};
use super::index::{Index, Location};
use super::meta::Meta;
use super::record::{RecordType, Stored, peek, seed};
use super::segment::{self, HEADER_SIZE, HeaderState, Segment, SegmentHeader};
use super::{WalError, record};

/// A segment to be scanned.
pub struct View<'a> {
    /// The directory that it lies in, for errors.
    pub wal_dir: &'a Path,
    pub number: u64,
    pub bytes: &'a [u8],
}

impl View<'_> {
    pub fn path(&self) -> PathBuf {
        segment::path_in(self.wal_dir, self.number)
    }
}

/// Where the log ends.
#[derive(Debug, PartialEq, Eq)]
pub struct End {
    /// Sequence number of the last record; 0 if there is none.
    pub sequence: u64,
    /// Which of the views holds the end, and at which offset the next record goes.
    pub view: usize,
    pub used: usize,
    /// Whether something lies behind the end that is not zero: a torn tail.
    pub torn: bool,
}

/// The log, ready to be appended to.
pub struct Log<D: Disk> {
    pub segments: Vec<Segment<D::Bytes>>,
    pub index: Index,
    pub end: u64,
    pub recovered: Recovered,
}

/// Recovers the log: all the steps above. `progress` gets bytes read and bytes in all.
pub fn recover<D: Disk>(
    disk: &mut D,
    meta: Meta,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Log<D>, WalError> {
    let wal_dir = &segment::dir_in(disk.dir());
    let numbers = disk.list_segments()?;
    let opened = open_all(wal_dir, numbers, |number| disk.open_segment(number))?;
    let views: Vec<View> =
        (1..).zip(&opened).map(|(number, bytes)| View { wal_dir, number, bytes }).collect();

    let mut index = Index::default();
    let mut proven = 0;
    let mut recovered = Recovered { first_unchosen: Slot::FIRST, ..Recovered::default() };
    let mut note = |number: u64, offset: usize, record: &Stored| {
        match record.kind {
            RecordType::Promised => recovered.promised = recovered.promised.max(record.ballot),
            RecordType::OwnBallot => recovered.own_ballot = recovered.own_ballot.max(record.ballot),
            RecordType::Accepted => recovered.promised = recovered.promised.max(record.ballot),
            RecordType::Chosen => {}
            RecordType::FirstUnchosen => recovered.first_unchosen = record.slot.max(Slot::FIRST),
        }
        if record.kind.has_value() {
            index.set(record.slot, location(number, offset));
        }
        proven = proven.max(record.durable);
    };
    let size_total: u64 = views.iter().map(|view| view.bytes.len() as u64).sum();
    let mut size_done = 0;
    progress(0, size_total);
    let mut load = |i: usize| {
        disk.read_through(&opened[i])?;
        size_done += opened[i].len() as u64;
        progress(size_done, size_total);
        Ok(())
    };
    let end = scan(&views, meta, &mut note, &mut load)?;

    for (slot, at) in index.from(recovered.first_unchosen) {
        // Segment numbers start at 1 and have no gaps.
        let bytes = &views[at.segment as usize - 1].bytes[at.offset as usize..];
        let (ballot, value) = Stored::value_of(bytes);
        let chosen = Stored::kind_of(bytes) == Some(RecordType::Chosen);
        recovered.tail.push(RecoveredSlot { slot, ballot, value: Value(value.into()), chosen });
    }
    drop(views);

    let segments = settle(disk, meta, opened, &end, proven)?;
    Ok(Log { segments, index, end: end.sequence, recovered })
}

pub fn location(number: u64, offset: usize) -> Location {
    Location {
        segment: u32::try_from(number).expect("segments are counted in 32 bits"),
        offset: u32::try_from(offset).expect("segments are smaller than 4 GiB"),
    }
}

/// Opens all segments, whose `numbers` must go from 1 on without a gap.
pub fn open_all<B: Deref<Target = [u8]>>(
    wal_dir: &Path,
    numbers: Vec<u64>,
    mut open: impl FnMut(u64) -> Result<B, WalError>,
) -> Result<Vec<B>, WalError> {
    if numbers.is_empty() {
        return Err(WalError::LogMissing { dir: wal_dir.to_owned() });
    }
    let mut opened = Vec::with_capacity(numbers.len());
    for (expected, number) in (1..).zip(numbers) {
        let path = || segment::path_in(wal_dir, expected);
        if number != expected {
            return Err(WalError::SegmentMissing { path: path() });
        }
        let bytes = open(number)?;
        if bytes.len() < HEADER_SIZE {
            let (size, expected) = (bytes.len() as u64, HEADER_SIZE as u64);
            return Err(WalError::SegmentTruncated { path: path(), size, expected });
        }
        if (u32::MAX as usize) < bytes.len() {
            return Err(WalError::damaged(&path(), 0, "it is larger than any segment"));
        }
        opened.push(bytes);
    }
    Ok(opened)
}

/// Steps 1 to 3: calls `visit` with segment number, offset and record for each record, in order, and
/// `load` for each view before its records are looked at.
pub fn scan(
    views: &[View],
    meta: Meta,
    visit: &mut dyn FnMut(u64, usize, &Stored),
    load: &mut dyn FnMut(usize) -> Result<(), WalError>,
) -> Result<End, WalError> {
    let headers =
        views.iter().map(|view| check_header(view, meta)).collect::<Result<Vec<_>, _>>()?;
    let mut end = End { sequence: 0, view: 0, used: 0, torn: false };
    let mut loaded = 0;
    for (i, view) in views.iter().enumerate() {
        load(i)?;
        loaded = i + 1;
        match &headers[i] {
            Some(header) if header.first_sequence == end.sequence + 1 => {}
            None if i == 0 => {
                let why = "its header is blank, and was once written";
                return Err(WalError::damaged(&view.path(), 0, why));
            }
            Some(_) if i == 0 => {
                let why = "its header does not say that the log begins here";
                return Err(WalError::damaged(&view.path(), 0, why));
            }
            _ => break,
        }
        end.view = i;
        end.used = scan_segment(view, meta, &mut end.sequence, visit)?;
    }
    for i in loaded..views.len() {
        load(i)?;
    }

    let missing = end.sequence + 1;
    let proof = find_proof(views, &headers, meta, &end, missing);
    if let Some(proof) = proof.filter(|_| !mutants::is_on(Mutant::TrustTornTail)) {
        let next_is_blank = headers.get(end.view + 1).is_some_and(Option::is_none);
        let (view, offset) = if next_is_blank && is_zero(&views[end.view].bytes[end.used..]) {
            (&views[end.view + 1], 0)
        } else {
            (&views[end.view], end.used)
        };
        let why = format!("record {missing} is missing, and {proof} says that it was durable");
        return Err(WalError::damaged(&view.path(), offset, why));
    }
    end.torn = !is_zero(&views[end.view].bytes[end.used..])
        || views[end.view + 1..].iter().any(|view| !is_zero(view.bytes));
    Ok(end)
}

/// The header of a segment, `None` if it is blank.
fn check_header(view: &View, meta: Meta) -> Result<Option<SegmentHeader>, WalError> {
    let damaged = |why: &str| Err(WalError::damaged(&view.path(), 0, why));
    let header = match SegmentHeader::decode(view.bytes) {
        HeaderState::Blank => return Ok(None),
        HeaderState::Damaged => return damaged("its header has a wrong checksum"),
        HeaderState::Newer(found) => {
            let known = segment::VERSION;
            return Err(WalError::NewerVersion { path: view.path(), found, known });
        }
        HeaderState::Valid(header) => header,
    };
    let size = view.bytes.len() as u64;
    if header.meta != meta || header.number != view.number {
        return damaged("it is a segment of another place or log");
    }
    if header.size != size {
        let expected = header.size;
        return Err(WalError::SegmentTruncated { path: view.path(), size, expected });
    }
    if header.first_sequence == 0 || header.first_sequence <= header.durable {
        return damaged("its header makes no sense");
    }
    Ok(Some(header))
}

/// Visits the records of one segment and returns the offset behind the last one.
fn scan_segment(
    view: &View,
    meta: Meta,
    sequence: &mut u64,
    visit: &mut dyn FnMut(u64, usize, &Stored),
) -> Result<usize, WalError> {
    let seed = seed(meta.log_id, view.number);
    let mut offset = HEADER_SIZE;
    while let Some(bytes) = view.bytes.get(offset..) {
        match Stored::decode(bytes, seed) {
            Ok(Some(record)) if record.sequence == *sequence + 1 => {
                visit(view.number, offset, &record);
                *sequence += 1;
                // The last record's padding may be cut off by a file size that is no multiple of 8.
                offset = (offset + record.extent()).min(view.bytes.len());
            }
            Ok(_) => break,
            Err(why) => return Err(WalError::damaged(&view.path(), offset, why)),
        }
    }
    Ok(offset)
}

/// Something behind the end of the log that says that record `missing` was once durable.
fn find_proof(
    views: &[View],
    headers: &[Option<SegmentHeader>],
    meta: Meta,
    end: &End,
    missing: u64,
) -> Option<String> {
    let name = |view: &View| segment::path_in(Path::new(""), view.number).display().to_string();
    let size_behind: usize = views[end.view..].iter().map(|view| view.bytes.len()).sum();
    let sequence_max = missing + (size_behind / record::HEADER_SIZE) as u64;
    for (i, view) in views.iter().enumerate().skip(end.view) {
        if i > end.view && headers[i].is_some_and(|header| missing <= header.durable) {
            return Some(format!("the header of {}", name(view)));
        }
        let seed = seed(meta.log_id, view.number);
        let start = if i == end.view { end.used } else { HEADER_SIZE };
        let mut rest = view.bytes.get(start..).unwrap_or(&[]);
        while let Some((sequence, durable)) = peek(rest) {
            // Nearly every place is passed over here, without a checksum.
            if missing <= durable
                && durable < sequence
                && sequence <= sequence_max
                && !matches!(Stored::decode(rest, seed), Ok(None))
            {
                let offset = view.bytes.len() - rest.len();
                return Some(format!("record {sequence} at {} offset {offset}", name(view)));
            }
            rest = &rest[8..];
        }
    }
    None
}

/// Whole pages are or-ed together, which the compiler turns into wide instructions.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|page| page.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Steps 4 and 5: nothing is left behind the end, and everything before it is on the disk, where
/// the records up to `proven` are already.
fn settle<D: Disk>(
    disk: &mut D,
    meta: Meta,
    mut opened: Vec<D::Bytes>,
    end: &End,
    proven: u64,
) -> Result<Vec<Segment<D::Bytes>>, WalError> {
    let number_last = end.view as u64 + 1;
    if end.torn {
        log::warn!(
            "torn tail: what was not yet durable behind record {} ({} offset {}) is dropped",
            end.sequence,
            segment::path_in(&segment::dir_in(disk.dir()), number_last).display(),
            end.used
        );
    }
    while opened.len() as u64 > number_last {
        let number = opened.len() as u64;
        drop(opened.pop());
        disk.remove_segment(number)?;
    }
    disk.sync_names()?;

    let (unproven_segment, unproven_offset) = unproven_from(&opened, proven);
    let mut segments = Vec::with_capacity(opened.len());
    for (number, mut bytes) in (1..).zip(opened) {
        let i = number as usize - 1;
        let used = if number == number_last { end.used } else { bytes.len() };
        let start = if i == unproven_segment { unproven_offset } else { 0 };
        if unproven_segment <= i && start < used && !mutants::is_on(Mutant::TrustPageCache) {
            write_again(bytes.write(start, used));
        }
        if !mutants::is_on(Mutant::RecoverWithoutSync) {
            disk.sync_segment(&bytes)?;
        }
        if number == number_last {
            if !mutants::is_on(Mutant::KeepTornTail) {
                bytes = disk.clear_rest(bytes, used)?;
            }
        } else {
            disk.seal(&bytes);
        }
        segments.push(Segment::new(bytes, number, used, meta.log_id));
    }
    Ok(segments)
}

/// Where what may not be on the disk begins: segment, as an index of `opened`, and offset.
fn unproven_from<B: Deref<Target = [u8]>>(opened: &[B], proven: u64) -> (usize, usize) {
    let first_sequence = |bytes: &B| match SegmentHeader::decode(bytes) {
        HeaderState::Valid(header) => header.first_sequence,
        _ => unreachable!("the scan has read this header"),
    };
    let i = opened.iter().rposition(|bytes| first_sequence(bytes) <= proven + 1);
    let i = i.expect("the first segment begins with record 1");
    let mut sequence = first_sequence(&opened[i]);
    if proven < sequence {
        // Not even its header is proven.
        return (i, 0);
    }
    let mut offset = HEADER_SIZE;
    while sequence <= proven {
        let size = Stored::value_of(&opened[i][offset..]).1.len();
        offset += (record::HEADER_SIZE + size).next_multiple_of(8);
        sequence += 1;
    }
    (i, offset)
}

/// Stores bytes over themselves, one at least in each sector, so that all of it is written.
fn write_again(bytes: &mut [u8]) {
    let (last, others) = bytes.split_last_mut().expect("it is not empty");
    for byte in others.iter_mut().step_by(512).chain([last]) {
        *byte = std::hint::black_box(*byte);
    }
}
