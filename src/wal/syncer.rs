//! The helper thread that makes appended records durable, so that the loop never waits for the
//! disk.
//!
//! Invariant: at most one sync is in flight, and its result covers all that was appended before it
//! was handed over. The thread sees open files only, never the mapping. After a failure it is not
//! asked again: the kernel may have dropped the pages that it could not write and marked them
//! clean, so that a second try would succeed without them.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::queue::{Receiver, Sender, queue};
use crate::trace::monotonic_ns;

use super::WalError;
use super::disk::Finished;
use super::files::SegmentFile;

/// Makes the data of one file durable: `fdatasync`, except in tests.
pub type SyncFile = Box<dyn Fn(&File) -> io::Result<()> + Send>;

struct Job {
    files: Vec<Arc<SegmentFile>>,
    position: u64,
}

pub struct Syncer {
    /// `None` only while this is dropped.
    jobs: Option<Sender<Job>>,
    finished: Receiver<Finished>,
    thread: Option<JoinHandle<()>>,
}

impl Syncer {
    /// `wake` is called after each sync, when its result can be had from `try_finished`.
    pub fn start(sync_file: SyncFile, wake: Box<dyn Fn() + Send>) -> io::Result<Syncer> {
        let (jobs, jobs_in) = queue::<Job>();
        let (finished_out, finished) = queue();
        let thread = std::thread::Builder::new().name("wal-sync".to_owned()).spawn(move || {
            while let Ok(job) = jobs_in.recv() {
                if finished_out.send(run(&job, &sync_file)).is_err() {
                    return;
                }
                wake();
            }
        })?;
        Ok(Syncer { jobs: Some(jobs), finished, thread: Some(thread) })
    }

    /// Hands over a sync of `files`, which covers the log up to `position`.
    pub fn sync(&self, files: Vec<Arc<SegmentFile>>, position: u64) -> Result<(), WalError> {
        let jobs = self.jobs.as_ref().expect("the sender lives as long as the syncer");
        jobs.send(Job { files, position }).map_err(|_| thread_gone())
    }

    pub fn try_finished(&self) -> Result<Option<Finished>, WalError> {
        self.finished.try_recv().map_err(|_| thread_gone())
    }

    /// Waits for the sync in flight.
    pub fn wait_finished(&self) -> Result<Finished, WalError> {
        self.finished.recv().map_err(|_| thread_gone())
    }
}

impl Drop for Syncer {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(job: &Job, sync_file: &SyncFile) -> Finished {
    let start_ns = monotonic_ns();
    let mut result = Ok(());
    for segment in &job.files {
        if let Err(error) = sync_file(&segment.file) {
            result = Err(format!("can't sync {}: {error}", segment.path.display()));
            break;
        }
    }
    let duration_ns = monotonic_ns() - start_ns;
    Finished { position: job.position, duration_ns, result }
}

fn thread_gone() -> WalError {
    WalError::SyncFailed { why: "the thread that syncs has ended".to_owned() }
}
