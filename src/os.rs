//! What the operating system is asked for and the standard library does not offer; all of it safe.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Advice, FlockOperation, fadvise, flock};
use rustix::io::Errno;

use crate::trace::monotonic_ns;

/// Bytes of a large file that are freed at once, and how much longer than that the rest after it is.
const FREE_STEP_SIZE: u64 = 4 * 1024 * 1024;
const FREE_RESTS: u32 = 2;

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

/// Asks the kernel to forget the clean cached pages of a file. Advice only: a failure is no error.
pub fn drop_cache(file: &File) {
    let _ = fadvise(file, 0, None, Advice::DontNeed);
}

/// Removes a file that nobody else has open, a little at a time. To free 300 MiB at once takes ext4 50 ms, in
/// which no sync of any other file comes to an end.
pub fn remove_by_steps(path: &Path, file: &File) -> io::Result<()> {
    let mut size = file.metadata()?.len();
    while FREE_STEP_SIZE < size {
        let begun_ns = monotonic_ns();
        size -= FREE_STEP_SIZE;
        file.set_len(size)?;
        let took = Duration::from_nanos(monotonic_ns() - begun_ns);
        // sleep: nobody waits for this, and many for what it would take from them.
        std::thread::sleep(FREE_RESTS * took);
    }
    fs::remove_file(path)
}
