//! How fast the disk makes the log durable, by the very log that a node writes, and what the disk is made to
//! write for it.
//!
//! One group commit is timed after the other: records of one size, and a sync. Several writers stand for several
//! nodes on one disk. The kernel counts what reaches the device; others' writes are in it too.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use crate::limits::WAL_SEGMENT_SIZE_MIN;
use crate::os;
use crate::paxos::{Ballot, NodeId, Record, Slot, Value};
use crate::trace::monotonic_ns;
use crate::wal::{Identity, Options, Wal, WalError};
use crate::wire::ClusterId;

use super::{Clock, Timed};

/// What is measured: so many writers, each with commits of so many bytes.
pub const CASES: [(usize, usize); 6] =
    [(1, 256), (1, 4096), (1, 65536), (3, 256), (3, 4096), (3, 65536)];
/// Bytes of the file that is written and read from end to end.
const FILE_SIZE: usize = 256 << 20;
const STEP_SIZE: usize = 1 << 20;
/// Large enough that small commits fill none while they are measured.
const SEGMENT_SIZE: u64 = 64 << 20;

/// Bytes that the log puts before a value, about.
const RECORD_HEAD_SIZE: usize = 100;

/// Group commits of one size.
#[derive(Clone, Debug)]
pub struct Commits {
    /// Bytes of values in each.
    pub size: usize,
    pub timed: Timed,
    /// Bytes that reached the device in the same time, for each commit; `None` if nobody counts them.
    pub written: Option<f64>,
}

impl Commits {
    /// How many times more the device wrote than pages of 4 KiB were changed, about: a record has a head, may
    /// lie in one more page than it needs, and the file system adds a little.
    pub fn amplification(&self) -> Option<f64> {
        let pages = (self.size + RECORD_HEAD_SIZE).div_ceil(4096) as f64;
        Some(self.written? / (pages * 4096.0))
    }
}

/// Measures one of `CASES` below `dir` for so long.
pub fn commits(
    dir: &Path,
    writers: usize,
    size: usize,
    lasts: Duration,
) -> Result<Commits, WalError> {
    let below = tempfile::Builder::new().prefix("loggos-bench-").tempdir_in(dir);
    let below = below.map_err(|error| WalError::Io {
        doing: "create a directory in",
        path: dir.to_owned(),
        error,
    })?;
    let device = Device::of(dir);
    let start = Arc::new(Barrier::new(writers + 1));
    let threads: Vec<_> = (1..)
        .take(writers)
        .map(|writer| {
            let (dir, start) = (below.path().join(format!("n{writer}")), Arc::clone(&start));
            thread::spawn(move || write(&dir, NodeId(writer), size, lasts, &start))
        })
        .collect();
    start.wait();
    let before = device.as_ref().and_then(Device::written);
    let mut all: Option<Clock> = None;
    for thread in threads {
        let clock = thread.join().expect("a panic would have ended the process")?;
        match &mut all {
            Some(all) => all.add(&clock),
            None => all = Some(clock),
        }
    }
    let after = device.as_ref().and_then(Device::written);
    let timed = all.expect("there is a writer").timed();
    let written = before.zip(after).map(|(before, after)| after - before);
    let written = written.map(|written| written as f64 / timed.operations as f64);
    Ok(Commits { size, timed, written })
}

fn write(
    dir: &Path,
    node: NodeId,
    size: usize,
    lasts: Duration,
    start: &Barrier,
) -> Result<Clock, WalError> {
    let identity = Identity { cluster: ClusterId(0), node };
    let options = Options { segment_size: SEGMENT_SIZE.max(WAL_SEGMENT_SIZE_MIN), sync: true };
    let opened = Wal::open(dir, identity, options, Box::new(|| {}), &mut |_, _| {});
    let ready = opened.and_then(|(mut wal, _)| {
        while !wal.has_spare()? {
            // sleep: the thread that fills the next segment tells nobody; it must not count.
            thread::sleep(Duration::from_millis(1));
        }
        Ok(wal)
    });
    // Whoever fails must not let the others wait for ever.
    start.wait();
    let mut wal = ready?;
    let ballot = Ballot { round: 1, node };
    let value = Value(vec![b'.'; size].into());
    let mut clock = Clock::start();
    let mut slot = Slot::FIRST;
    loop {
        wal.append(&Record::Accepted { ballot, slot, value: value.clone() })?;
        wal.sync_now()?;
        slot = slot.next();
        if lasts.as_nanos() <= u128::from(clock.lap()) {
            return Ok(clock);
        }
        if slot.0.is_multiple_of(256) {
            // So that it takes no more room than some segments, however long it lasts.
            wal.truncate_before(slot)?;
        }
    }
}

/// Writes and reads a large file from end to end. Returns bytes a second of both; what is written is durable,
/// and read from the disk, as far as the kernel follows the advice to forget it.
pub fn sequential(dir: &Path) -> io::Result<(f64, f64)> {
    let mut file = tempfile::Builder::new().prefix("loggos-bench-").tempfile_in(dir)?;
    let mut step = vec![0x5a; STEP_SIZE];
    let begun_ns = monotonic_ns();
    for _ in 0..FILE_SIZE / STEP_SIZE {
        file.write_all(&step)?;
    }
    file.as_file().sync_data()?;
    let written_ns = monotonic_ns();
    os::drop_cache(file.as_file());
    let mut read = File::open(file.path())?;
    let begun_read_ns = monotonic_ns();
    while 0 < read.read(&mut step)? {}
    let rate = |ns: u64| FILE_SIZE as f64 / (ns as f64 / 1e9);
    Ok((rate(written_ns - begun_ns), rate(monotonic_ns() - begun_read_ns)))
}

/// The kernel's counters of the device that a directory is on.
struct Device {
    stat: String,
}

impl Device {
    fn of(dir: &Path) -> Option<Device> {
        let number = fs::metadata(dir).ok()?.dev();
        let (major, minor) = ((number >> 8) & 0xfff, (number & 0xff) | ((number >> 12) & 0xfff00));
        let stat = format!("/sys/dev/block/{major}:{minor}/stat");
        Path::new(&stat).exists().then_some(Device { stat })
    }

    /// Bytes written so far.
    fn written(&self) -> Option<u64> {
        written_of(&fs::read_to_string(&self.stat).ok()?)
    }
}

/// The seventh number counts sectors of 512 bytes (Documentation/block/stat.rst in the kernel).
fn written_of(stat: &str) -> Option<u64> {
    Some(stat.split_whitespace().nth(6)?.parse::<u64>().ok()? * 512)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        let stat = "  1 2 3 4 5 6 70 8 9 10 11\n";
        assert_eq!(written_of(stat), Some(70 * 512));
        assert_eq!((written_of("1 2 3"), written_of("")), (None, None));
    }

    #[test]
    fn several_writers_are_counted_together() {
        let dir = tempfile::tempdir().unwrap();
        let commits = commits(dir.path(), 3, 4096, Duration::from_millis(50)).unwrap();
        assert!(3 <= commits.timed.operations && 0.05 <= commits.timed.seconds);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "nothing is left behind");
    }
}
