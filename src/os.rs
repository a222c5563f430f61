//! What the operating system is asked for and the standard library does not offer; all of it safe.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Advice, FlockOperation, fadvise, flock};
use rustix::io::Errno;
use rustix::process::setpriority_process;

use crate::trace::monotonic_ns;

/// Bytes of a large file that are freed at once.
const FREE_STEP_SIZE: u64 = 4 * 1024 * 1024;
/// How much longer than a step the rest after it is.
const RESTS: u64 = 2;
/// Of threads that work in the background: of 19 at most.
const BACKGROUND_NICENESS: i32 = 10;

/// Of long work beside the log that is done in steps: after each it rests for twice as long as that took. So
/// it has a third of a core and of the disk at most, and the loop finds both free most of the time.
pub struct Pace {
    begun_ns: u64,
}

impl Pace {
    /// The first step begins.
    pub fn start() -> Pace {
        Pace { begun_ns: monotonic_ns() }
    }

    /// A step has ended, and the next one begins.
    pub fn rest(&mut self) {
        // sleep: nobody waits for this thread, and many for what it would take from them.
        std::thread::sleep(Duration::from_nanos(RESTS * (monotonic_ns() - self.begun_ns)));
        self.begun_ns = monotonic_ns();
    }
}

/// Lets the other threads of the machine go before the calling one, for work that nobody waits for: its share of
/// a contended core is a tenth of theirs. Advice only.
pub fn yield_to_others() {
    // On Linux this is a matter of the calling thread, whatever the name says.
    let _ = setpriority_process(None, BACKGROUND_NICENESS);
}

/// Takes the lock of an open file, or says that somebody else has it. It is released when the file
/// is closed, also by the death of the process.
pub fn try_lock(file: &File, shared: bool) -> io::Result<bool> {
    let operation = match shared {
        true => FlockOperation::NonBlockingLockShared,
        false => FlockOperation::NonBlockingLockExclusive,
    };
    match flock(file, operation) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Has the kernel begin to read a part of a file. Advice only.
pub fn read_ahead(file: &File, start: u64, size: u64) {
    let _ = fadvise(file, start, NonZeroU64::new(size), Advice::WillNeed);
}

/// Asks the kernel to forget the clean cached pages of a file. Advice only: a failure is no error.
pub fn drop_cache(file: &File) {
    let _ = fadvise(file, 0, None, Advice::DontNeed);
}

/// Cuts a file that nobody else has open down to `size`, a little at a time. To free 300 MiB at once takes
/// ext4 50 ms, in which no sync of any other file comes to an end.
pub fn shrink_by_steps(file: &File, size: u64) -> io::Result<()> {
    let mut len = file.metadata()?.len();
    let mut pace = Pace::start();
    while size < len {
        len = len.saturating_sub(FREE_STEP_SIZE).max(size);
        file.set_len(len)?;
        pace.rest();
    }
    Ok(())
}

/// Removes a file that nobody else has open, in the same way.
pub fn remove_by_steps(path: &Path, file: &File) -> io::Result<()> {
    shrink_by_steps(file, 0)?;
    fs::remove_file(path)
}
