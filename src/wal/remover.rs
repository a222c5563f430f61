//! Removing truncated segments, beside the loop: to unmap and unlink large files takes a while.
//!
//! `meta` says where the log begins before the first file goes, and files go in the order of their
//! numbers. So a crash in between leaves files that the next start knows to be truncated, and never
//! a log that misses one it needs. A failure is told and no more: what is left takes room until the
//! next start.

use std::path::Path;
use std::thread::JoinHandle;

use crate::os;

use super::files::{MappedSegment, sync_dir, write_meta};
use super::{WalError, segment};

#[derive(Default)]
pub struct Remover {
    thread: Option<JoinHandle<()>>,
}

impl Remover {
    /// Writes `meta`, then removes the segments.
    pub fn start(
        &mut self,
        dir: &Path,
        gone: Vec<(u64, MappedSegment)>,
        meta: Vec<u8>,
    ) -> Result<(), WalError> {
        assert!(!self.is_at_work(), "one truncation at a time");
        let failed = |error| WalError::io("start a thread to truncate", dir, error);
        let builder = std::thread::Builder::new().name("wal-truncate".to_owned());
        let owned = dir.to_owned();
        let thread = builder.spawn(move || {
            if let Err(error) = remove(&owned, gone, &meta) {
                log::warn!("truncated segments of the log stay for now: {error}");
            }
        });
        self.thread = Some(thread.map_err(failed)?);
        Ok(())
    }

    pub fn is_at_work(&mut self) -> bool {
        if let Some(thread) = self.thread.take_if(|thread| thread.is_finished()) {
            let _ = thread.join();
        }
        self.thread.is_some()
    }
}

impl Drop for Remover {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn remove(dir: &Path, gone: Vec<(u64, MappedSegment)>, meta: &[u8]) -> Result<(), WalError> {
    write_meta(dir, meta)?;
    let wal_dir = segment::dir_in(dir);
    for (number, mapped) in gone {
        let file = mapped.into_file();
        let path = segment::path_in(&wal_dir, number);
        os::remove_by_steps(&path, &file.file)
            .map_err(|error| WalError::io("remove", &path, error))?;
    }
    sync_dir(&wal_dir).map_err(|error| WalError::io("sync", &wal_dir, error))
}
