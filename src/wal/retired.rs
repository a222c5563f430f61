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
//! It is taken as it is if the page cache still holds all of it as it was written, page by page. Any other store
//! would wait for the disk first, and what was read back since may lie in large folios (see `files`). A file that
//! the kernel has let go of, in part or as a whole, is filled with zeros like a new one: it keeps its blocks, so
//! nothing of that goes through the file system's journal, where others' syncs would wait for it.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::os;

use super::disk::{Blank, PAGE_SIZE};
use super::files::{SegmentFile, Wishes, fill_with_zeros, sync_dir};
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

    /// A retired file, made the segment `blank`; `None` if there is none of its size.
    pub fn reuse(
        &self,
        wal_dir: &Path,
        blank: Blank,
        wishes: &Wishes,
    ) -> io::Result<Option<SegmentFile>> {
        while let Some(old) = self.take() {
            let file = OpenOptions::new().read(true).write(true).open(&old)?;
            if file.metadata()?.len() != blank.size {
                os::remove_by_steps(&old, &file)?;
                continue;
            }
            if map::is_cached(&file)? {
                file.write_all_at(&[0; PAGE_SIZE], 0)?;
            } else {
                // What is left of it in the cache would keep its folios.
                file.sync_data()?;
                os::drop_cache(&file);
                fill_with_zeros(&file, 0, blank.size, blank.sync, wishes)?;
            }
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

    const BLANK: Blank = Blank { number: 9, size: 4 * PAGE_SIZE as u64, sync: true };

    /// A retired file of some pages of sevens, in a directory of its own.
    fn retired(pages: usize) -> (tempfile::TempDir, PathBuf, Retired) {
        let dir = tempfile::tempdir().unwrap();
        let old = dir.path().join("0000000000000003.old");
        fs::write(&old, vec![7; pages * PAGE_SIZE]).unwrap();
        let retired = Retired::default();
        retired.keep(old.clone());
        (dir, old, retired)
    }

    /// Only the first page is touched, and the old name is gone.
    #[test]
    fn a_retired_file_becomes_a_segment() {
        let (dir, old, retired) = retired(4);
        let made = retired.reuse(dir.path(), BLANK, &Wishes::hurry()).unwrap();
        let made = made.expect("it was just written");
        assert_eq!(made.path, dir.path().join("0000000000000009.seg"));
        let bytes = fs::read(&made.path).unwrap();
        assert!(bytes[..PAGE_SIZE].iter().all(|byte| *byte == 0));
        assert!(bytes[PAGE_SIZE..].iter().all(|byte| *byte == 7));
        assert!(!old.exists());
        assert!(retired.reuse(dir.path(), BLANK, &Wishes::hurry()).unwrap().is_none());
    }

    /// One that the page cache has let go of is filled with zeros where it lies.
    #[test]
    fn what_is_not_cached_is_written_over() {
        use std::os::unix::fs::MetadataExt;
        let (dir, old, retired) = retired(4);
        let file = fs::File::open(&old).unwrap();
        file.sync_all().unwrap();
        os::drop_cache(&file);
        assert!(!map::is_cached(&file).unwrap(), "this file system keeps all in memory");
        let made = retired.reuse(dir.path(), BLANK, &Wishes::hurry()).unwrap().expect("it fits");
        assert_eq!(made.file.metadata().unwrap().ino(), file.metadata().unwrap().ino());
        assert_eq!(fs::read(&made.path).unwrap(), [0; 4 * PAGE_SIZE]);
        assert!(map::is_cached(&made.file).unwrap());
    }

    #[test]
    fn one_of_another_size_is_removed() {
        let (dir, _, retired) = retired(2);
        assert!(retired.reuse(dir.path(), BLANK, &Wishes::hurry()).unwrap().is_none());
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
