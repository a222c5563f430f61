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

use super::disk::PAGE_SIZE;

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

/// Whether the page cache holds the whole file.
pub fn is_cached(file: &File) -> io::Result<bool> {
    let map = map_read_only(file)?;
    let mut pages = vec![0u8; map.len().div_ceil(PAGE_SIZE)];
    // SAFETY: the mapping lives to the end of this function, begins at a page as all do, and the vector has a
    // byte for each page of it. Nothing is read through the mapping.
    let code = unsafe { libc::mincore(map.as_ptr() as *mut _, map.len(), pages.as_mut_ptr()) };
    if code != 0 {
        return Err(io::Error::last_os_error());
    }
    // Of each byte only the lowest bit means something.
    Ok(pages.iter().all(|page| page & 1 == 1))
}

/// Takes the pages of a mapping out of this process: they stay in the page cache, and come back when
/// they are read. So old records do not count as this process's memory. `start` is a multiple of a page's size.
/// Advice only.
pub fn release_pages(map: &MmapMut, start: usize, end: usize) {
    // SAFETY: the mapping is of a file and shared, so what was stored lies in the page cache, dirty or
    // not, and a later read finds the same bytes.
    let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, start, end - start) };
}
