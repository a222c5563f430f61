//! The helper thread that keeps one blank segment ready.
//!
//! To create a segment takes as long as the disk needs for all its zeros, and neither an append nor
//! a sync should wait for that. So it is done ahead of need, and by a thread of its own: in the
//! syncer's it would stand in the way of the syncs.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crate::os;
use crate::queue::{Receiver, Sender, queue};

use super::WalError;
use super::disk::{Blank, SpareState};
use super::files::{self, SegmentFile, Wishes};
use super::retired::Retired;

pub struct SpareMaker {
    /// `None` only while this is dropped.
    requests: Option<Sender<Blank>>,
    made: Receiver<Result<SegmentFile, WalError>>,
    /// What was asked for and not yet taken.
    asked: Option<Blank>,
    /// It, if it is there.
    ready: Option<SegmentFile>,
    wishes: Arc<Wishes>,
    thread: Option<JoinHandle<()>>,
}

impl SpareMaker {
    pub fn start(wal_dir: PathBuf, retired: Arc<Retired>) -> io::Result<SpareMaker> {
        let (requests, requests_in) = queue::<Blank>();
        let (made_out, made) = queue();
        let wishes = Arc::new(Wishes::default());
        let heard = wishes.clone();
        // Told once: it is tried again and again.
        let mut has_failed = false;
        let thread = std::thread::Builder::new().name("wal-spare".to_owned()).spawn(move || {
            os::yield_to_others();
            while let Ok(blank) = requests_in.recv() {
                let result = make(&wal_dir, blank, &retired, &heard);
                if heard.given_up.load(Ordering::Acquire) {
                    return;
                }
                if let (Err(error), false) = (&result, has_failed) {
                    log::warn!("the next log segment can't be made ready: {error}");
                }
                has_failed = result.is_err();
                if made_out.send(result).is_err() {
                    return;
                }
            }
        })?;
        Ok(SpareMaker {
            requests: Some(requests),
            made,
            asked: None,
            ready: None,
            wishes,
            thread: Some(thread),
        })
    }

    /// Has a segment made ready in the background, as fast as it is wanted.
    pub fn ask(&mut self, blank: Blank) -> Result<(), WalError> {
        assert!(self.asked.is_none(), "one spare at a time");
        let requests = self.requests.as_ref().expect("the sender lives as long as the maker");
        self.wishes.wanted.store(0, Ordering::Release);
        requests.send(blank).map_err(|_| thread_gone())?;
        self.asked = Some(blank);
        Ok(())
    }

    /// So many bytes of what was asked for should be there by now.
    pub fn want(&self, bytes: u64) {
        self.wishes.wanted.fetch_max(bytes, Ordering::AcqRel);
        self.unpark();
    }

    fn unpark(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }

    /// What became of what was asked for.
    pub fn state(&mut self) -> Result<SpareState, WalError> {
        if self.ready.is_some() {
            return Ok(SpareState::Ready);
        }
        if self.asked.is_none() {
            return Ok(SpareState::Failed);
        }
        match self.made.try_recv().map_err(|_| thread_gone())? {
            Some(Ok(file)) => {
                self.ready = Some(file);
                Ok(SpareState::Ready)
            }
            Some(Err(_)) => {
                self.asked = None;
                Ok(SpareState::Failed)
            }
            None => Ok(SpareState::Asked),
        }
    }

    /// The segment that was asked for, or is asked for now, waiting for it if need be.
    pub fn take(&mut self, blank: Blank) -> Result<SegmentFile, WalError> {
        if self.asked.is_none() {
            self.ask(blank)?;
        }
        assert!(self.asked == Some(blank), "the spare is the segment that comes next");
        if let Some(file) = self.ready.take() {
            self.asked = None;
            return Ok(file);
        }
        let made = match self.made.try_recv().map_err(|_| thread_gone())? {
            Some(made) => made,
            None => {
                self.want(u64::MAX);
                log::warn!("an append waits until log segment {} is ready", blank.number);
                self.made.recv().map_err(|_| thread_gone())?
            }
        };
        self.asked = None;
        made
    }
}

impl Drop for SpareMaker {
    fn drop(&mut self) {
        self.wishes.given_up.store(true, Ordering::Release);
        self.unpark();
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A retired segment saves new blocks; without one they are written full of zeros.
fn make(
    wal_dir: &Path,
    blank: Blank,
    retired: &Retired,
    wishes: &Wishes,
) -> Result<SegmentFile, WalError> {
    match retired.reuse(wal_dir, blank, wishes) {
        Ok(Some(file)) => return Ok(file),
        Ok(None) => {}
        Err(_) if wishes.given_up.load(Ordering::Acquire) => {}
        Err(error) => log::warn!("a truncated log segment can't be used again: {error}"),
    }
    files::create(wal_dir, blank, wishes)
}

fn thread_gone() -> WalError {
    let error = io::Error::other("the thread that makes segments has ended");
    WalError::io("continue", &PathBuf::from("the log"), error)
}
