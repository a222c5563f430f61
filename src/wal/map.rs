//! The only unsafe code of the log: mapping a file, and two system calls that std does not offer.
//!
//! Invariant: a mapped file keeps its size for as long as the mapping lives. The process that maps
//! holds the lock of the data directory, and no code here shortens a segment; it is removed only
//! after its mapping is gone. A stored byte reaches the disk by `fdatasync` of the file, which
//! covers the pages dirtied through a shared mapping.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use memmap2::{Mmap, MmapMut, UncheckedAdvice};

/// Maps the whole file, for reading and writing.
pub fn map_shared(file: &File) -> io::Result<MmapMut> {
    // SAFETY: the file is a segment in a data directory that this process has locked. Nobody else
    // writes or shortens it (see the invariant above), so the bytes change through this mapping
    // only, and Rust's borrows order these accesses.
    unsafe { MmapMut::map_mut(file) }
}

/// Maps the whole file for reading.
pub fn map_read_only(file: &File) -> io::Result<Mmap> {
    // SAFETY: as above; whoever reads holds the directory's lock, at least shared.
    unsafe { Mmap::map(file) }
}

/// Takes the pages of a mapping out of this process: they stay in the page cache, and come back when
/// they are read. So an old segment does not count as this process's memory. Advice only.
pub fn release_pages(map: &MmapMut) {
    // SAFETY: the mapping is of a file and shared, so what was stored lies in the page cache, dirty or
    // not, and a later read finds the same bytes.
    let _ = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
}

/// Takes the lock of an open file, or says that somebody else has it. It is released when the file
/// is closed, also by the death of the process.
pub fn try_lock(file: &File, shared: bool) -> io::Result<bool> {
    let operation = if shared { libc::LOCK_SH } else { libc::LOCK_EX } | libc::LOCK_NB;
    // SAFETY: flock takes no pointers, and the descriptor is open while `file` is borrowed.
    if unsafe { libc::flock(file.as_raw_fd(), operation) } == 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::EWOULDBLOCK) { Ok(false) } else { Err(error) }
}

/// Asks the kernel to forget the clean cached pages of a file. Advice only: a failure is no error.
pub fn drop_cache(file: &File) {
    // SAFETY: posix_fadvise takes no pointers, and the descriptor is open while `file` is borrowed.
    let _ = unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}
