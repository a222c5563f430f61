//! `loggos wal inspect DIR`: what lies in the log of a stopped node, without changing a byte.

use std::fs::File;
use std::io::{self, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::os;

use super::files::{self, SegmentFile};
use super::meta::{self, Meta};
use super::record::Stored;
use super::recovery;
use super::scan::{Found, Lost, View, scan};
use super::segment::{self, HeaderState, SegmentHeader};
use super::{WalError, map};

/// What a node would find if it were started now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Clean,
    /// What was not yet durable at a crash; the next start drops it.
    TornTail {
        segment: PathBuf,
        offset: u64,
    },
    /// Records are lost. The node starts, does not vote on what it may have forgotten, and has its peers
    /// fill the gap. Here the first one lies.
    Damaged {
        segment: PathBuf,
        offset: u64,
    },
    /// The node would refuse to start.
    Refused {
        why: String,
    },
}

struct MappedReadOnly {
    file: SegmentFile,
    map: Mmap,
}

impl Deref for MappedReadOnly {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

/// Prints `meta`, the segments, one line a record, and the verdict. Errors are those that say
/// nothing about records: no such directory, a running node, no readable `meta`, a segment missing.
pub fn inspect(dir: &Path, out: &mut dyn Write) -> Result<Verdict, WalError> {
    // Held to the end of this function, so that no node starts on the directory meanwhile.
    let _lock = lock(dir)?;
    let Some(bytes) = files::read_meta(dir)? else {
        let why = "there is no `meta` in it: it is no data directory";
        let why = io::Error::new(io::ErrorKind::NotFound, why);
        return Err(WalError::io("inspect", dir, why));
    };
    let copies = meta::parse(&bytes, dir)?;
    let wal_dir = &segment::dir_in(dir);
    let mut numbers = files::list(wal_dir)?;
    // What an interrupted truncation left.
    numbers.retain(|number| copies.meta.first_segment <= *number);
    let opened = recovery::open_all(wal_dir, &numbers, |number| {
        let file = files::open(wal_dir, number, false)?;
        let map = map::map_read_only(&file.file)
            .map_err(|error| WalError::io("map the log segment", &file.path, error))?;
        Ok(MappedReadOnly { file, map })
    })?;
    let views: Vec<View> = numbers
        .iter()
        .zip(&opened)
        .map(|(&number, segment)| View { wal_dir, number, bytes: &segment.map })
        .collect();

    let printed = |error| WalError::io("write about", dir, error);
    print_head(out, &copies.meta, copies.repair, &views).map_err(printed)?;
    let mut failed = None;
    let mut lost = None;
    let mut print = |found: Found| {
        if let Found::Lost(it) = &found {
            lost.get_or_insert_with(|| (*it).clone());
        }
        if failed.is_none() {
            failed = print_found(out, wal_dir, &found).err();
        }
    };
    let mut load = |i: usize| files::read_through(&opened[i].file);
    let scanned = scan(&views, &copies.meta, &mut print, &mut load);
    if let Some(error) = failed {
        return Err(printed(error));
    }
    let (verdict, line) = match (scanned, lost) {
        (Ok(end), Some(Lost { segment, offset, .. })) => {
            let segment = segment::path_in(wal_dir, segment);
            let line = format!(
                "damaged at segment {} offset {offset}, to be repaired from peers; {} records",
                segment.display(),
                end.sequence
            );
            (Verdict::Damaged { segment, offset: offset as u64 }, line)
        }
        (Ok(end), None) if end.torn => {
            let segment = views[end.view].path();
            let line = format!("torn tail at segment {} offset {}", segment.display(), end.used);
            (Verdict::TornTail { segment, offset: end.used as u64 }, line)
        }
        (Ok(end), None) => (Verdict::Clean, format!("clean, {} records", end.sequence)),
        (Err(error @ (WalError::Io { .. } | WalError::NewerVersion { .. })), _) => {
            return Err(error);
        }
        (Err(error), _) => (Verdict::Refused { why: error.to_string() }, error.to_string()),
    };
    writeln!(out, "{line}").map_err(printed)?;
    Ok(verdict)
}

fn lock(dir: &Path) -> Result<Option<File>, WalError> {
    let path = files::lock_path_in(dir);
    let file = match File::open(&path) {
        Ok(file) => file,
        // A copy of a data directory may come without it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(WalError::io("open", &path, error)),
    };
    if !os::try_lock(&file, true).map_err(|error| WalError::io("lock", &path, error))? {
        return Err(WalError::Locked { dir: dir.to_owned() });
    }
    Ok(Some(file))
}

fn print_head(out: &mut dyn Write, meta: &Meta, repair: bool, views: &[View]) -> io::Result<()> {
    let damaged = if repair { ", one copy damaged" } else { "" };
    writeln!(out, "meta: {}, log {:016x}{damaged}", meta.log.identity, meta.log.random)?;
    if 1 < meta.first_segment {
        let Meta { first_segment, truncated_before, .. } = meta;
        writeln!(
            out,
            "truncated: begins with segment {first_segment}, values below slot \
             {truncated_before} may be gone"
        )?;
    }
    for view in views {
        let name = segment::path_in(Path::new(""), view.number);
        write!(out, "segment {}: {} bytes, ", name.display(), view.bytes.len())?;
        match SegmentHeader::decode(view.bytes) {
            HeaderState::Blank => writeln!(out, "blank")?,
            HeaderState::Damaged => writeln!(out, "header damaged")?,
            HeaderState::Newer(version) => writeln!(out, "of unknown version {version}")?,
            HeaderState::Valid(SegmentHeader { start, .. }) => writeln!(
                out,
                "from record {}, durable up to {}, promised {}",
                start.first_sequence, start.durable, start.bounds.promised
            )?,
        }
    }
    writeln!(
        out,
        "{:>10} {:>7} {:>10} {:<14} {:>10} {:>10} {:>8}",
        "sequence", "segment", "offset", "type", "ballot", "slot", "size"
    )
}

fn print_found(out: &mut dyn Write, wal_dir: &Path, found: &Found) -> io::Result<()> {
    match found {
        Found::Header(..) => Ok(()),
        Found::Record(number, offset, record) => print_record(out, *number, *offset, record),
        Found::Lost(Lost { segment, offset, sequences, why }) => {
            let path = segment::path_in(wal_dir, *segment);
            let (first, end) = (sequences.start, sequences.end);
            writeln!(out, "records {first}..{end} lost: {} offset {offset}, {why}", path.display())
        }
    }
}

fn print_record(
    out: &mut dyn Write,
    number: u64,
    offset: usize,
    record: &Stored,
) -> io::Result<()> {
    writeln!(
        out,
        "{:>10} {number:>7} {offset:>10} {:<14} {:>10} {:>10} {:>8}",
        record.sequence,
        record.kind.name(),
        record.ballot.to_string(),
        record.slot.0,
        record.payload.len()
    )
}
