//! The helper thread that keeps one blank segment ready.
//!
//! To create a segment takes as long as the disk needs for all its zeros, and neither an append nor
//! a sync should wait for that. So it is done ahead of need, and by a thread of its own: in the
//! syncer's it would stand in the way of the syncs.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use super::WalError;
use super::segment::{self, Segment, SegmentFile};

pub struct SpareMaker {
    /// `None` only while this is dropped.
    requests: Option<Sender<u64>>,
    made: Receiver<Result<SegmentFile, WalError>>,
    /// Number of the segment that was asked for and not yet taken.
    asked: Option<u64>,
    log_id: u64,
    abandon: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl SpareMaker {
    pub fn start(wal_dir: PathBuf, size: u64, sync: bool, log_id: u64) -> io::Result<SpareMaker> {
        let (requests, requests_in) = channel::<u64>();
        let (made_out, made) = channel();
        let abandon = Arc::new(AtomicBool::new(false));
        let give_up = abandon.clone();
        let thread = std::thread::Builder::new().name("wal-spare".to_owned()).spawn(move || {
            while let Ok(number) = requests_in.recv() {
                let result = segment::create(&wal_dir, number, size, sync, &give_up);
                if give_up.load(Ordering::Relaxed) {
                    return;
                }
                if let Err(error) = &result {
                    log::warn!("the next log segment can't be made ready: {error}");
                }
                if made_out.send(result).is_err() {
                    return;
                }
            }
        })?;
        Ok(SpareMaker {
            requests: Some(requests),
            made,
            asked: None,
            log_id,
            abandon,
            thread: Some(thread),
        })
    }

    /// Has segment `number` made ready in the background.
    pub fn ask(&mut self, number: u64) -> Result<(), WalError> {
        assert!(self.asked.is_none(), "one spare at a time");
        let requests = self.requests.as_ref().expect("the sender lives as long as the maker");
        requests.send(number).map_err(|_| thread_gone())?;
        self.asked = Some(number);
        Ok(())
    }

    /// The blank segment `number`, waiting for it if need be. A failure in the background may have
    /// been long ago: it counts only if a second try fails too.
    pub fn take(&mut self, number: u64) -> Result<Segment, WalError> {
        for last_try in [false, true] {
            if self.asked.is_none() {
                self.ask(number)?;
            }
            assert!(self.asked == Some(number), "the spare is the segment that comes next");
            let made = match self.made.try_recv() {
                Ok(made) => made,
                Err(TryRecvError::Empty) => {
                    log::warn!("an append waits until log segment {number} is ready");
                    self.made.recv().map_err(|_| thread_gone())?
                }
                Err(TryRecvError::Disconnected) => return Err(thread_gone()),
            };
            self.asked = None;
            match made {
                Ok(file) => return Segment::map(Arc::new(file), number, 0, self.log_id),
                Err(error) if last_try => return Err(error),
                Err(_) => {}
            }
        }
        unreachable!("the last try returns")
    }
}

impl Drop for SpareMaker {
    fn drop(&mut self) {
        self.abandon.store(true, Ordering::Relaxed);
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
