//! The only unsafe code of the log: mapping a file.
//!
//! Invariant: a mapped file keeps its size for as long as the mapping lives. The process that maps
//! holds the lock of the data directory, and a segment is shortened and removed only after its mapping
//! is gone. A stored byte reaches the disk by `fdatasync` of the file, which
//! covers the pages dirtied through a shared mapping.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;

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
