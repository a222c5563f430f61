//! Segments that were truncated and are kept as room for the next ones.
//!
//! Blocks that a file has already take a store as it comes; new ones have to be found, written full of zeros
//! and noted by the file system, and where the disk is somebody's image file or frees what is discarded, its
//! owner does all that too. So a spare segment is made of a retired one where there is one.
//!
//! Invariant: the first page of what `reuse` returns is zeros, durably, before it has the name of a segment.
//! Behind that page lie records of the same log, which belonged to a segment with a lower number: none of them
//! has a right checksum where it is now (`record::Seed`).
//!
//! A retired file is taken only if the page cache still holds all of it as it was written, page by page. Any
//! other store would wait for the disk first, and what was read back since may lie in large folios (see
//! `files`); such a file is removed, and the spare made of zeros.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use super::disk::{Blank, PAGE_SIZE};
use super::files::{SegmentFile, sync_dir};
use super::{map, segment};

/// So many are kept: what one truncation lets go at usual sizes.
const RETIRED_MAX: usize = 4;
/// What their names end with.
pub const EXTENSION: &str = "old";

/// Shared by the thread that truncates and the one that makes spares.
#[derive(Debug, Default)]
pub struct Retired {
    /// Durable under these names, or already reused and gone.
    paths: Mutex<Vec<PathBuf>>,
}

impl Retired {
    /// Whether there is room for one more beside `others` that are still to come.
    pub fn has_room_beside(&self, others: usize) -> bool {
        self.list().len() + others < RETIRED_MAX
    }

    /// Keeps a file that the log no longer needs. Its name is durable.
    pub fn keep(&self, path: PathBuf) {
        self.list().push(path);
    }

    /// A retired file, made the segment `blank`; `None` if none is fit for it.
    pub fn reuse(&self, wal_dir: &Path, blank: Blank) -> io::Result<Option<SegmentFile>> {
        while let Some(old) = self.take() {
            let file = OpenOptions::new().read(true).write(true).open(&old)?;
            let is_fit = file.metadata()?.len() == blank.size && map::is_cached(&file)?;
            if !is_fit {
                fs::remove_file(&old)?;
                continue;
            }
            file.write_all_at(&[0; PAGE_SIZE], 0)?;
            if blank.sync {
                file.sync_data()?;
            }
            let path = segment::path_in(wal_dir, blank.number);
            fs::rename(&old, &path)?;
            if blank.sync {
                sync_dir(wal_dir)?;
            }
            return Ok(Some(SegmentFile { file, path }));
        }
        Ok(None)
    }

    fn take(&self) -> Option<PathBuf> {
        self.list().pop()
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<PathBuf>> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only the first page is touched, and the old name is gone.
    #[test]
    fn a_retired_file_becomes_a_segment() {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("0000000000000003.old");
        fs::write(&old, vec![7; 4 * PAGE_SIZE]).unwrap();
        let retired = Retired::default();
        retired.keep(old.clone());
        let blank = Blank { number: 9, size: 4 * PAGE_SIZE as u64, sync: true };
        let made = retired.reuse(dir.path(), blank).unwrap().expect("it was just written");
        assert_eq!(made.path, dir.path().join("0000000000000009.seg"));
        let bytes = fs::read(&made.path).unwrap();
        assert!(bytes[..PAGE_SIZE].iter().all(|byte| *byte == 0));
        assert!(bytes[PAGE_SIZE..].iter().all(|byte| *byte == 7));
        assert!(!old.exists());
        assert!(retired.reuse(dir.path(), blank).unwrap().is_none());
    }

    /// One of another size, and one that the page cache has let go, are of no use and take no room.
    #[test]
    fn what_does_not_fit_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let retired = Retired::default();
        for (name, pages) in [("1.old", 2), ("2.old", 4)] {
            let path = dir.path().join(name);
            fs::write(&path, vec![7; pages * PAGE_SIZE]).unwrap();
            let file = fs::File::open(&path).unwrap();
            file.sync_all().unwrap();
            crate::os::drop_cache(&file);
            retired.keep(path);
        }
        let blank = Blank { number: 9, size: 4 * PAGE_SIZE as u64, sync: true };
        assert!(retired.reuse(dir.path(), blank).unwrap().is_none());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn they_are_bounded() {
        let retired = Retired::default();
        for number in 0..RETIRED_MAX {
            assert!(retired.has_room_beside(0) && !retired.has_room_beside(RETIRED_MAX));
            retired.keep(PathBuf::from(format!("{number}.old")));
        }
        assert!(!retired.has_room_beside(0));
    }
}
