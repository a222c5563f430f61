//! Reading segments from front to back: which records there are, what is lost between them, and
//! where the log ends. It changes nothing; what is made of it is `recovery`'s.
//!
//! The algorithm:
//!
//! 1. Records are read in order, from the first segment that `meta` names. At the first place that
//!    holds no valid record with the sequence number expected, reading goes on in the next segment
//!    if that begins with this number. Otherwise the record is missing.
//! 2. Torn or damaged? The pages of a batch that was not yet synced reach the disk in any order, so
//!    records behind the missing one do not prove that it was ever whole. But each record, and each
//!    segment header, carries the position that was durable when it was written. One that carries
//!    the missing sequence number or a higher one proves that the missing record was once durable.
//!    Such a proof is searched at every aligned place behind, since damage may hide where records
//!    begin. `meta` proves what an earlier recovery has found proven.
//! 3. There is also evidence of damage that tells no number, since no crash can bring it about (see
//!    `segment`): a header with a wrong checksum, a segment that is shorter than it says, one that is
//!    missing although a later one is there.
//! 4. Without either it is a torn tail, which nobody was ever told about: the log ends there.
//! 5. With either, the records up to the next place that can be read are lost. That is the next
//!    aligned place with a valid record, or the header of a later segment; reading goes on there. If
//!    nothing behind can be read, the log ends there as well, but only if `meta` knows the bounds of
//!    what is lost. Otherwise nobody knows what this node promised last, and that is an error.
//!
//! What this can't see: damage to records behind which nothing was appended in a later turn. They
//! look like a torn tail.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::mutants::{self, Mutant};

use super::WalError;
use super::meta::Meta;
use super::record::{self, Seed, Stored, peek};
use super::segment::{self, HEADER_SIZE, HeaderState, SegmentHeader, Start};

/// A segment to be scanned.
pub struct View<'a> {
    /// The directory that it lies in, for errors.
    pub wal_dir: &'a Path,
    pub number: u64,
    pub bytes: &'a [u8],
}

/// What the scan comes by, in the order of the log.
#[derive(Clone, Copy)]
pub enum Found<'a> {
    /// The segment with this number begins.
    Header(u64, &'a Start),
    /// Segment, offset in it, and the record there.
    Record(u64, usize, &'a Stored<'a>),
    Lost(&'a Lost),
}

/// A hole in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Where it begins: segment and offset.
    pub segment: u64,
    pub offset: usize,
    /// The records that are lost; none if the damage hit a segment's header only.
    pub sequences: Range<u64>,
    /// How it is known.
    pub why: String,
}

/// Where the log ends.
#[derive(Debug, PartialEq, Eq)]
pub struct End {
    /// Sequence number of the last record; 0 if there is none.
    pub sequence: u64,
    /// Which of the views holds the end, and at which offset the next record goes.
    pub view: usize,
    pub used: usize,
    /// Whether the beginning of more was found behind the end: a torn tail. Of some tails nothing is left
    /// that can be told from what was there before.
    pub torn: bool,
}

/// Reads the segments, whose numbers ascend from the one that `meta` names first. `load` is called for
/// each view before its records are looked at.
pub fn scan(
    views: &[View],
    meta: &Meta,
    visit: &mut dyn FnMut(Found),
    load: &mut dyn FnMut(usize) -> Result<(), WalError>,
) -> Result<End, WalError> {
    let headers = views.iter().map(|view| header_of(view, meta)).collect::<Result<_, _>>()?;
    let mut scan = Scan { views, headers, meta, sequence: meta.first_sequence - 1, at: None };
    let mut loaded = 0;
    let mut load_to = |end: usize| -> Result<(), WalError> {
        while loaded < end {
            load(loaded)?;
            loaded += 1;
        }
        Ok(())
    };
    loop {
        let next = scan.at.map_or(0, |at| at.view + 1);
        if scan.begins(next) {
            load_to(next + 1)?;
            scan.enter(next, visit);
            scan.read_on(visit)?;
            continue;
        }
        load_to(views.len())?;
        let Some(why) = scan.why_damaged().filter(|_| !mutants::is_on(Mutant::TrustTornTail))
        else {
            break;
        };
        let (segment, offset) = scan.hole();
        let first = scan.sequence + 1;
        let next = scan.next_readable();
        let end = match next {
            Some((_, sequence)) => sequence,
            None if scan.may_end_at(meta.proven.sequence) => meta.proven.sequence + 1,
            None => return Err(scan.unbounded(why)),
        };
        visit(Found::Lost(&Lost { segment, offset, sequences: first..end, why }));
        scan.sequence = end - 1;
        match next {
            // The header is read like that of any other segment.
            Some((at, _)) if at.offset == 0 => scan.enter(at.view, visit),
            Some((at, _)) => scan.at = Some(at),
            None => break,
        }
        scan.read_on(visit)?;
    }
    load_to(views.len())?;
    let Some(at) = scan.at else {
        let why = "the log does not begin here, and nothing behind it can be read";
        return Err(WalError::damaged(&views[0].path(), 0, why));
    };
    let next = peek(&views[at.view].bytes[at.offset..]).map(|(sequence, _)| sequence);
    let torn = next == Some(scan.sequence + 1)
        || scan.next_readable().is_some()
        || scan.headers[at.view + 1..].iter().any(|header| !matches!(header, Header::Blank));
    Ok(End { sequence: scan.sequence, view: at.view, used: at.offset, torn })
}

struct Scan<'a> {
    views: &'a [View<'a>],
    headers: Vec<Header>,
    meta: &'a Meta,
    /// The last record that was read, or is lost.
    sequence: u64,
    /// Where the next record is expected; nowhere before the first segment was entered.
    at: Option<Place>,
}

#[derive(Clone, Copy)]
struct Place {
    view: usize,
    offset: usize,
}

/// What the first bytes of a segment turned out to be.
enum Header {
    Good(SegmentHeader),
    Blank,
    /// No crash leaves it like that.
    Bad(String),
}

fn header_of(view: &View, meta: &Meta) -> Result<Header, WalError> {
    if view.bytes.len() < HEADER_SIZE {
        return Ok(Header::Bad(format!("it has {} bytes, and no header", view.bytes.len())));
    }
    let header = match SegmentHeader::decode(view.bytes) {
        HeaderState::Blank => return Ok(Header::Blank),
        HeaderState::Damaged => {
            return Ok(Header::Bad("its header has a wrong checksum".to_owned()));
        }
        HeaderState::Newer(found) => {
            let known = segment::VERSION;
            return Err(WalError::NewerVersion { path: view.path(), found, known });
        }
        HeaderState::Valid(header) => header,
    };
    if header.log != meta.log {
        return Err(WalError::damaged(&view.path(), 0, "it is a segment of another log"));
    }
    let Start { first_sequence, durable, .. } = header.start;
    let in_range = durable < first_sequence && first_sequence <= record::SEQUENCE_MAX;
    if header.number != view.number || !in_range {
        return Ok(Header::Bad("its header belongs to another place".to_owned()));
    }
    if header.size < view.bytes.len() as u64 {
        return Ok(Header::Bad("it is longer than it should be".to_owned()));
    }
    Ok(Header::Good(header))
}

impl Scan<'_> {
    /// Whether a view goes on with the very next record.
    fn begins(&self, view: usize) -> bool {
        let header = self.headers.get(view);
        matches!(header, Some(Header::Good(it)) if it.start.first_sequence == self.sequence + 1)
    }

    fn enter(&mut self, view: usize, visit: &mut dyn FnMut(Found)) {
        if let Header::Good(header) = &self.headers[view] {
            visit(Found::Header(header.number, &header.start));
        }
        self.at = Some(Place { view, offset: HEADER_SIZE });
    }

    /// Reads records for as long as each has the number that is expected.
    fn read_on(&mut self, visit: &mut dyn FnMut(Found)) -> Result<(), WalError> {
        let Some(Place { view: i, mut offset }) = self.at else { return Ok(()) };
        let view = &self.views[i];
        let seed = Seed::new(self.meta.log.random, view.number);
        while let Some(bytes) = view.bytes.get(offset..) {
            match Stored::decode(bytes, seed.at(offset)) {
                Ok(Some(record)) if record.sequence == self.sequence + 1 => {
                    visit(Found::Record(view.number, offset, &record));
                    self.sequence += 1;
                    // The padding may be cut off by a file size that is no multiple of 8.
                    offset = (offset + record.extent()).min(view.bytes.len());
                }
                Ok(_) => break,
                Err(why) => return Err(WalError::damaged(&view.path(), offset, why)),
            }
        }
        self.at = Some(Place { view: i, offset });
        Ok(())
    }

    /// Where the next record should be.
    fn hole(&self) -> (u64, usize) {
        match self.at {
            None => (self.meta.first_segment, 0),
            Some(Place { view, offset }) => {
                let next = self.views.get(view + 1);
                let here = &self.views[view];
                let number = here.number + 1;
                let is_next_bad = match next {
                    Some(next) if next.number != number => true,
                    Some(_) => matches!(self.headers[view + 1], Header::Bad(_) | Header::Blank),
                    None => false,
                };
                // What is zero behind the last record is as it should be: the next segment is not. (Where this
                // one is a segment used again, old records lie there, and the place is told as in this one:
                // no record lies between the two.)
                if is_next_bad && is_zero(&here.bytes[offset..]) {
                    (number, 0)
                } else {
                    (here.number, offset)
                }
            }
        }
    }

    /// Why the next record is lost, and not merely torn off; `None` if it is.
    fn why_damaged(&self) -> Option<String> {
        let missing = self.sequence + 1;
        let proof = match self.find_proof(missing) {
            None if missing <= self.meta.proven.sequence => Some("`meta`".to_owned()),
            proof => proof,
        };
        let (here, behind) = self.evidence();
        let Some(proof) = proof else { return here.or(behind) };
        let says = format!("record {missing} is missing, and {proof} says that it was durable");
        Some(here.unwrap_or(says))
    }

    /// What is wrong where the next record should be, and with what lies behind, by itself: no crash
    /// brings that about.
    fn evidence(&self) -> (Option<String>, Option<String>) {
        let bad = |view: usize| match self.headers.get(view) {
            Some(Header::Bad(why)) => Some(why.clone()),
            _ => None,
        };
        let Some(Place { view, .. }) = self.at else {
            let blank = "its header is blank, and was once written";
            let here = match self.headers.first() {
                Some(Header::Blank) => Some(blank.to_owned()),
                _ => bad(0),
            };
            return (here.or(Some("the log does not begin here".to_owned())), None);
        };
        if let Header::Good(header) = &self.headers[view] {
            let (size, expected) = (self.views[view].bytes.len() as u64, header.size);
            if size < expected {
                return (Some(format!("it has {size} bytes and should have {expected}")), None);
            }
        }
        let missing = |view: usize| {
            let next = self.views.get(view + 1)?;
            let is_gap = next.number != self.views[view].number + 1;
            is_gap.then(|| "the segment is missing".to_owned())
        };
        let mut all = (view..self.views.len()).map(|i| missing(i).or_else(|| bad(i + 1)));
        let next = all.next().flatten();
        if self.hole().0 == self.views[view].number {
            (None, next.or(all.flatten().next()))
        } else {
            (next, all.flatten().next())
        }
    }

    /// Something behind the end of what was read that says that record `missing` was once durable.
    fn find_proof(&self, missing: u64) -> Option<String> {
        self.places_behind(missing, |start| missing <= start.durable, |durable| missing <= durable)
            .map(|(at, sequence)| {
                let view = &self.views[at.view];
                let name = segment::path_in(Path::new(""), view.number).display().to_string();
                match at.offset {
                    0 => format!("the header of {name}"),
                    offset => format!("record {sequence} at {name} offset {offset}"),
                }
            })
    }

    /// The next place from which records can be read on, and the number of the first record there.
    fn next_readable(&self) -> Option<(Place, u64)> {
        let missing = self.sequence + 1;
        self.places_behind(missing, |start| missing <= start.first_sequence, |_| true)
    }

    /// The first header that `header` accepts, with offset 0, or valid record of at least number
    /// `missing` whose durable position `record` accepts; and the number of the record that is there.
    fn places_behind(
        &self,
        missing: u64,
        header: impl Fn(&Start) -> bool,
        record: impl Fn(u64) -> bool,
    ) -> Option<(Place, u64)> {
        let begin = self.at.unwrap_or(Place { view: 0, offset: HEADER_SIZE });
        for (i, view) in self.views.iter().enumerate().skip(begin.view) {
            if self.at.is_none_or(|at| at.view < i)
                && let Header::Good(it) = &self.headers[i]
                && header(&it.start)
                && it.start.first_sequence <= self.sequence_max(view)
            {
                return Some((Place { view: i, offset: 0 }, it.start.first_sequence));
            }
            let sequence_max = self.sequence_max(view);
            let seed = Seed::new(self.meta.log.random, view.number);
            let start = if i == begin.view { begin.offset } else { HEADER_SIZE };
            let mut rest = view.bytes.get(start.next_multiple_of(8)..).unwrap_or(&[]);
            while let Some((sequence, durable)) = peek(rest) {
                // Nearly every place is passed over here, without a checksum.
                if missing <= sequence
                    && durable < sequence
                    && sequence <= sequence_max
                    && record(durable)
                {
                    let offset = view.bytes.len() - rest.len();
                    if matches!(Stored::decode(rest, seed.at(offset)), Ok(Some(_))) {
                        return Some((Place { view: i, offset }, sequence));
                    }
                }
                rest = &rest[8..];
            }
        }
        None
    }

    /// What number a record in a segment has at most, whatever the sizes of those that are gone.
    fn sequence_max(&self, view: &View) -> u64 {
        let records_max = u64::from(u32::MAX) / record::HEADER_SIZE as u64;
        let segments = view.number.saturating_sub(self.meta.first_segment) + 1;
        self.meta.first_sequence.saturating_add(segments.saturating_mul(records_max))
    }

    /// Whether the log may end, where it is read to, with this record as the last that is lost.
    fn may_end_at(&self, sequence: u64) -> bool {
        let Some(at) = self.at else { return false };
        self.sequence < sequence && sequence < self.sequence_max(&self.views[at.view])
    }

    /// The error where damage ends the log, and nobody can say any more what was promised in it.
    fn unbounded(&self, why: String) -> WalError {
        let (number, offset) = self.hole();
        let path = segment::path_in(self.views[0].wal_dir, number);
        if !self.views.iter().any(|view| view.number == number) {
            return WalError::SegmentMissing { path };
        }
        let view = self.at.map(|at| (&self.views[at.view], &self.headers[at.view]));
        match view {
            Some((view, Header::Good(header))) if (view.bytes.len() as u64) < header.size => {
                let (size, expected) = (view.bytes.len() as u64, header.size);
                WalError::SegmentTruncated { path: view.path(), size, expected }
            }
            _ => WalError::damaged(&path, offset, why),
        }
    }
}

impl View<'_> {
    pub fn path(&self) -> PathBuf {
        segment::path_in(self.wal_dir, self.number)
    }
}

/// Whole pages are or-ed together, which the compiler turns into wide instructions.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(4096).all(|page| page.iter().fold(0, |all, byte| all | byte) == 0)
}
