//! The helper thread that keeps one blank segment ready.
//!
//! To create a segment takes as long as the disk needs for all its zeros, and neither an append nor
//! a sync should wait for that. So it is done ahead of need, and by a thread of its own: in the
//! syncer's it would stand in the way of the syncs.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use crate::queue::{Receiver, Sender, queue};

use super::WalError;
use super::disk::{Blank, SpareState};
use super::files::{self, SegmentFile, Wishes};

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
    pub fn start(wal_dir: PathBuf) -> io::Result<SpareMaker> {
        let (requests, requests_in) = queue::<Blank>();
        let (made_out, made) = queue();
        let wishes = Arc::new(Wishes::default());
        let heard = wishes.clone();
        // Told once: it is tried again and again.
        let mut has_failed = false;
        let thread = std::thread::Builder::new().name("wal-spare".to_owned()).spawn(move || {
            while let Ok(blank) = requests_in.recv() {
                let result = files::create(&wal_dir, blank, &heard);
                if heard.given_up.load(Ordering::Relaxed) {
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

    /// Has a segment made ready in the background.
    pub fn ask(&mut self, blank: Blank) -> Result<(), WalError> {
        assert!(self.asked.is_none(), "one spare at a time");
        let requests = self.requests.as_ref().expect("the sender lives as long as the maker");
        self.wishes.hurry.store(false, Ordering::Relaxed);
        requests.send(blank).map_err(|_| thread_gone())?;
        self.asked = Some(blank);
        Ok(())
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
                self.wishes.hurry.store(true, Ordering::Relaxed);
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
        self.wishes.given_up.store(true, Ordering::Relaxed);
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn thread_gone() -> WalError {
    let error = io::Error::other("the thread that makes segments has ended");
    WalError::io("continue", &PathBuf::from("the log"), error)
}
