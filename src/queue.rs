//! Values from one thread to another, in order: a queue behind a lock.
//!
//! The standard library's channel does this and far more, and puts three kinds of it into the binary for each type
//! of value: 150 KB for all of ours. Nothing here is so frequent that its lock-free kind would be noticed: a job
//! and its result for each sync. When one end is dropped, what is still in the queue can be received, and then both
//! ends are told.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

pub struct Sender<T>(Arc<Queue<T>>);

pub struct Receiver<T>(Arc<Queue<T>>);

/// The other end was dropped, and nothing is left to be received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

struct Queue<T> {
    state: Mutex<State<T>>,
    changed: Condvar,
}

struct State<T> {
    values: VecDeque<T>,
    /// Both ends are there.
    is_open: bool,
}

pub fn queue<T>() -> (Sender<T>, Receiver<T>) {
    let state = Mutex::new(State { values: VecDeque::new(), is_open: true });
    let queue = Arc::new(Queue { state, changed: Condvar::new() });
    (Sender(queue.clone()), Receiver(queue))
}

impl<T> Queue<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().expect("nothing panics while it holds the lock")
    }

    fn close(&self) {
        self.lock().is_open = false;
        self.changed.notify_all();
    }
}

impl<T> Sender<T> {
    pub fn send(&self, value: T) -> Result<(), Gone> {
        let mut state = self.0.lock();
        if !state.is_open {
            return Err(Gone);
        }
        state.values.push_back(value);
        drop(state);
        self.0.changed.notify_one();
        Ok(())
    }
}

impl<T> Receiver<T> {
    /// The next value; waits for it.
    pub fn recv(&self) -> Result<T, Gone> {
        let mut state = self.0.lock();
        loop {
            if let Some(value) = state.values.pop_front() {
                return Ok(value);
            }
            if !state.is_open {
                return Err(Gone);
            }
            state = self.0.changed.wait(state).expect("nothing panics while it holds the lock");
        }
    }

    /// The next value, if it is there.
    pub fn try_recv(&self) -> Result<Option<T>, Gone> {
        let mut state = self.0.lock();
        match state.values.pop_front() {
            None if !state.is_open => Err(Gone),
            value => Ok(value),
        }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_order_and_across_threads() {
        let (jobs, jobs_in) = queue();
        let (done_out, done) = queue();
        let thread = std::thread::spawn(move || {
            while let Ok(job) = jobs_in.recv() {
                done_out.send(2 * job).unwrap();
            }
        });
        for job in 0..1000 {
            jobs.send(job).unwrap();
        }
        for job in 0..1000 {
            assert_eq!(done.recv(), Ok(2 * job));
        }
        drop(jobs);
        thread.join().unwrap();
        assert_eq!((done.recv(), done.try_recv()), (Err(Gone), Err(Gone)));
    }

    /// What was sent before the end can still be had; what nobody would receive is not taken.
    #[test]
    fn the_end_comes_behind_the_rest() {
        let (sender, receiver) = queue();
        assert_eq!(receiver.try_recv(), Ok(None));
        sender.send('a').unwrap();
        drop(sender);
        assert_eq!((receiver.try_recv(), receiver.try_recv()), (Ok(Some('a')), Err(Gone)));
        let (sender, receiver) = queue();
        drop(receiver);
        assert_eq!(sender.send('a'), Err(Gone));
    }
}
