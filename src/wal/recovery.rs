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
//!    sync, and so be in the page cache only, and from now on the node answers with it.
//!
//! What this can't see: damage to records behind which nothing was appended in a later turn. They
//! look like a torn tail.
//!
//! The rest of the last segment gets its zeros even if it has them: reading it may have brought
//! large folios into the page cache, which would make each append cost a hundredfold (see
//! `segment`).

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use memmap2::{Advice, MmapMut};

use crate::paxos::{Recovered, RecoveredSlot, Slot, Value};

use super::index::{Index, Location};
use super::meta::{Meta, sync_dir};
use super::record::{RecordType, Stored, peek, seed};
use super::segment::{self, HEADER_SIZE, HeaderState, Segment, SegmentFile, SegmentHeader};
use super::{WalError, map, record};

/// Unit in which segments are read from the disk.
const READ_SIZE: usize = 1024 * 1024;

/// A segment to be scanned.
pub struct View<'a> {
    pub number: u64,
    pub file: &'a SegmentFile,
    pub bytes: &'a [u8],
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
pub struct Log {
    pub segments: Vec<Segment>,
    pub index: Index,
    pub end: u64,
    pub recovered: Recovered,
}

/// Recovers the log in `wal_dir`: all the steps above.
pub fn recover(
    wal_dir: &Path,
    meta: Meta,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Log, WalError> {
    let files = open_files(wal_dir, true)?;
    let maps = files
        .iter()
        .map(|(_, file)| {
            map::map_shared(&file.file)
                .map_err(|error| WalError::io("map the log segment", &file.path, error))
        })
        .collect::<Result<Vec<MmapMut>, WalError>>()?;
    let views: Vec<View> = files
        .iter()
        .zip(&maps)
        .map(|((number, file), map)| {
            let _ = map.advise(Advice::Sequential);
            View { number: *number, file, bytes: map }
        })
        .collect();

    let mut index = Index::default();
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
    };
    let end = scan(&views, meta, &mut note, progress)?;

    for (slot, at) in index.from(recovered.first_unchosen) {
        // Segment numbers start at 1 and have no gaps.
        let bytes = &views[at.segment as usize - 1].bytes[at.offset as usize..];
        let (ballot, value) = Stored::value_of(bytes);
        let chosen = Stored::kind_of(bytes) == Some(RecordType::Chosen);
        recovered.tail.push(RecoveredSlot { slot, ballot, value: Value(value.into()), chosen });
    }
    drop(views);
    drop(maps);

    let segments = settle(wal_dir, meta, files, &end)?;
    Ok(Log { segments, index, end: end.sequence, recovered })
}

pub fn location(number: u64, offset: usize) -> Location {
    Location {
        segment: u32::try_from(number).expect("segments are counted in 32 bits"),
        offset: u32::try_from(offset).expect("segments are smaller than 4 GiB"),
    }
}

/// Opens all segments, which are numbered from 1 without a gap.
pub fn open_files(wal_dir: &Path, write: bool) -> Result<Vec<(u64, SegmentFile)>, WalError> {
    let numbers = segment::list(wal_dir)?;
    if numbers.is_empty() {
        return Err(WalError::LogMissing { dir: wal_dir.to_owned() });
    }
    let mut files = Vec::with_capacity(numbers.len());
    for (expected, number) in (1..).zip(numbers) {
        let path = segment::path_in(wal_dir, expected);
        if number != expected {
            return Err(WalError::SegmentMissing { path });
        }
        let opened = OpenOptions::new().read(true).write(write).open(&path);
        let file = opened.map_err(|error| WalError::io("open", &path, error))?;
        let metadata = file.metadata().map_err(|error| WalError::io("open", &path, error))?;
        if metadata.len() < HEADER_SIZE as u64 {
            let expected = HEADER_SIZE as u64;
            return Err(WalError::SegmentTruncated { path, size: metadata.len(), expected });
        }
        if u64::from(u32::MAX) < metadata.len() {
            return Err(WalError::damaged(&path, 0, "it is larger than any segment"));
        }
        files.push((number, SegmentFile { file, path }));
    }
    Ok(files)
}

/// Steps 1 to 3: calls `visit` with segment number, offset and record for each record, in order.
pub fn scan(
    views: &[View],
    meta: Meta,
    visit: &mut dyn FnMut(u64, usize, &Stored),
    progress: &mut dyn FnMut(u64, u64),
) -> Result<End, WalError> {
    let headers =
        views.iter().map(|view| check_header(view, meta)).collect::<Result<Vec<_>, _>>()?;
    let size_total: u64 = views.iter().map(|view| view.bytes.len() as u64).sum();
    let mut size_done = 0;
    progress(0, size_total);
    let mut load = |view: &View| -> Result<(), WalError> {
        read_through(view)?;
        size_done += view.bytes.len() as u64;
        progress(size_done, size_total);
        Ok(())
    };

    let mut end = End { sequence: 0, view: 0, used: 0, torn: false };
    let mut loaded = 0;
    for (i, view) in views.iter().enumerate() {
        load(view)?;
        loaded = i + 1;
        match &headers[i] {
            Some(header) if header.first_sequence == end.sequence + 1 => {}
            None if i == 0 => {
                let why = "its header is blank, and was once written";
                return Err(WalError::damaged(&view.file.path, 0, why));
            }
            _ => break,
        }
        end.view = i;
        end.used = scan_segment(view, meta, &mut end.sequence, visit)?;
    }
    for view in &views[loaded..] {
        load(view)?;
    }

    let missing = end.sequence + 1;
    if let Some(proof) = find_proof(views, &headers, meta, &end, missing) {
        let next_is_blank = headers.get(end.view + 1).is_some_and(Option::is_none);
        let (view, offset) = if next_is_blank && is_zero(&views[end.view].bytes[end.used..]) {
            (&views[end.view + 1], 0)
        } else {
            (&views[end.view], end.used)
        };
        let why = format!("record {missing} is missing, and {proof} says that it was durable");
        return Err(WalError::damaged(&view.file.path, offset, why));
    }
    end.torn = !is_zero(&views[end.view].bytes[end.used..])
        || views[end.view + 1..].iter().any(|view| !is_zero(view.bytes));
    Ok(end)
}

/// The header of a segment, `None` if it is blank.
fn check_header(view: &View, meta: Meta) -> Result<Option<SegmentHeader>, WalError> {
    let path = &view.file.path;
    let header = match SegmentHeader::decode(view.bytes) {
        HeaderState::Blank => return Ok(None),
        HeaderState::Damaged => {
            return Err(WalError::damaged(path, 0, "its header has a wrong checksum"));
        }
        HeaderState::Newer(found) => {
            let known = segment::VERSION;
            return Err(WalError::NewerVersion { path: path.clone(), found, known });
        }
        HeaderState::Valid(header) => header,
    };
    let size = view.bytes.len() as u64;
    if header.meta != meta || header.number != view.number {
        return Err(WalError::damaged(path, 0, "it is a segment of another place or log"));
    }
    if header.size != size {
        let expected = header.size;
        return Err(WalError::SegmentTruncated { path: path.clone(), size, expected });
    }
    if header.first_sequence == 0 || header.first_sequence <= header.durable {
        return Err(WalError::damaged(path, 0, "its header makes no sense"));
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
            Err(why) => return Err(WalError::damaged(&view.file.path, offset, why)),
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

/// Reads the file once by `read`, into the page cache: a sector that the disk can't read is an
/// error here that names the file, and would be a fatal signal in the mapping.
fn read_through(view: &View) -> Result<(), WalError> {
    let mut buffer = vec![0u8; READ_SIZE.min(view.bytes.len())];
    let mut at = 0;
    while at < view.bytes.len() {
        let failed = |error| WalError::io("read the log segment", &view.file.path, error);
        match view.file.file.read_at(&mut buffer, at as u64).map_err(failed)? {
            0 => break,
            size => at += size,
        }
    }
    Ok(())
}

/// Whole pages are or-ed together, which the compiler turns into wide instructions.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|page| page.iter().fold(0, |all, byte| all | byte) == 0)
}

/// Steps 4 and 5: nothing is left behind the end, and everything before it is on the disk.
fn settle(
    wal_dir: &Path,
    meta: Meta,
    mut files: Vec<(u64, SegmentFile)>,
    end: &End,
) -> Result<Vec<Segment>, WalError> {
    if end.torn {
        let path = &files[end.view].1.path;
        log::warn!(
            "torn tail: what was not yet durable behind record {} ({} offset {}) is dropped",
            end.sequence,
            path.display(),
            end.used
        );
    }
    while end.view + 1 < files.len() {
        let (_, file) = files.pop().expect("there is a file behind the last one");
        fs::remove_file(&file.path).map_err(|error| WalError::io("remove", &file.path, error))?;
    }
    sync_dir(wal_dir).map_err(|error| WalError::io("sync", wal_dir, error))?;

    let mut segments = Vec::with_capacity(files.len());
    for (i, (number, file)) in files.into_iter().enumerate() {
        let failed = |error| WalError::io("sync the log segment", &file.path, error);
        file.file.sync_data().map_err(failed)?;
        let size = file.file.metadata().map_err(failed)?.len();
        let used = if i == end.view {
            map::drop_cache(&file.file);
            let never = AtomicBool::new(false);
            segment::fill_with_zeros(&file.file, end.used as u64, size, true, &never)
                .and_then(|()| file.file.sync_data())
                .map_err(failed)?;
            end.used
        } else {
            size as usize
        };
        let segment = Segment::map(Arc::new(file), number, used, meta.log_id)?;
        if i != end.view {
            segment.seal();
        }
        segments.push(segment);
    }
    Ok(segments)
}
