//! Removing truncated segments, beside the loop: to unmap and unlink large files takes a while. Some are
//! kept for the next ones instead (`retired`).
//!
//! `meta` says where the log begins before the first file goes, and files go in the order of their
//! numbers. So a crash in between leaves files that the next start knows to be truncated, and never
//! a log that misses one it needs. A failure is told and no more: what is left takes room until the
//! next start.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::os;

use super::files::{MappedSegment, sync_dir, write_meta};
use super::retired::{self, Retired};
use super::{WalError, segment};

pub struct Remover {
    retired: Arc<Retired>,
    thread: Option<JoinHandle<()>>,
}

impl Remover {
    pub fn new(retired: Arc<Retired>) -> Remover {
        Remover { retired, thread: None }
    }

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
        let retired = Arc::clone(&self.retired);
        let thread = builder.spawn(move || {
            os::yield_to_others();
            if let Err(error) = remove(&owned, gone, &meta, &retired) {
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

fn remove(
    dir: &Path,
    gone: Vec<(u64, MappedSegment)>,
    meta: &[u8],
    retired: &Retired,
) -> Result<(), WalError> {
    write_meta(dir, meta)?;
    let wal_dir = segment::dir_in(dir);
    let mut kept = Vec::new();
    for (number, mapped) in gone {
        let path = segment::path_in(&wal_dir, number);
        if mapped.is_reusable() && retired.has_room_beside(kept.len()) {
            let old = path.with_extension(retired::EXTENSION);
            fs::rename(&path, &old).map_err(|error| WalError::io("rename", &path, error))?;
            kept.push(old);
            continue;
        }
        let file = mapped.into_file();
        os::remove_by_steps(&path, &file.file)
            .map_err(|error| WalError::io("remove", &path, error))?;
    }
    sync_dir(&wal_dir).map_err(|error| WalError::io("sync", &wal_dir, error))?;
    // Only now: else a crash could leave one file under two names.
    kept.into_iter().for_each(|old| retired.keep(old));
    Ok(())
}
