//! A thread that does one job after the other beside the loop, and wakes it after each.

use std::io;

use crate::os;
use crate::queue::{Receiver, Sender, queue};

pub struct Helper<J, R> {
    jobs: Sender<J>,
    done: Receiver<R>,
}

impl<J: Send + 'static, R: Send + 'static> Helper<J, R> {
    /// `wake` is called whenever a result can be had from `poll`. The thread ends after the job in hand
    /// once this is dropped. Nobody waits for that: a stop must not take as long as a snapshot.
    pub fn start(
        name: &str,
        wake: impl Fn() + Send + 'static,
        run: impl FnMut(J) -> R + Send + 'static,
    ) -> io::Result<Helper<J, R>> {
        Helper::spawn(name, wake, run, || {})
    }

    /// The same for jobs that should leave a contended core to others.
    pub fn start_in_background(
        name: &str,
        wake: impl Fn() + Send + 'static,
        run: impl FnMut(J) -> R + Send + 'static,
    ) -> io::Result<Helper<J, R>> {
        Helper::spawn(name, wake, run, os::yield_to_others)
    }

    fn spawn(
        name: &str,
        wake: impl Fn() + Send + 'static,
        mut run: impl FnMut(J) -> R + Send + 'static,
        begin: fn(),
    ) -> io::Result<Helper<J, R>> {
        let (jobs, jobs_in) = queue::<J>();
        let (done_out, done) = queue();
        std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            begin();
            while let Ok(job) = jobs_in.recv() {
                if done_out.send(run(job)).is_err() {
                    return;
                }
                wake();
            }
        })?;
        Ok(Helper { jobs, done })
    }

    pub fn hand_over(&self, job: J) {
        self.jobs.send(job).expect("the thread waits for jobs as long as it is asked for results");
    }

    /// The next result, in the order of the jobs; never waits.
    pub fn poll(&self) -> Option<R> {
        self.done.try_recv().ok()?
    }
}
