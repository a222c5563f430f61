//! Finds the leader while the load runs: a thread that asks the nodes, one after the other, on connections of its own.
//!
//! The leader is who says so itself: no connection of the load is ever sent to a node on the word of another.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use crate::system::System;

/// Between two questions while the leader is known, and while it is not.
const CALM: Duration = Duration::from_millis(500);
const SEARCH: Duration = Duration::from_millis(20);
/// A node that takes longer to say what it is does not lead, for all that matters to us.
const PATIENCE: Duration = Duration::from_millis(100);
/// A known leader is announced again after so many questions, for connections that had to leave it meanwhile.
const ANNOUNCE: u32 = 4;

pub struct Finder {
    /// Announcements so far, and in the low half the index of the leader + 1.
    announced: Arc<AtomicU64>,
    suspect: SyncSender<()>,
}

impl Finder {
    /// Begins to look; `first` is who led a moment ago.
    pub fn start(system: System, nodes: Vec<SocketAddr>, first: Option<usize>) -> Finder {
        let announced = Arc::new(AtomicU64::new(0));
        let (suspect, suspected) = sync_channel(1);
        let at = first.unwrap_or_default();
        let search =
            Search { system, nodes, at, announced: announced.clone(), leader: None, said: 0 };
        std::thread::spawn(move || search.run(&suspected));
        Finder { announced, suspect }
    }

    /// How often a leader was announced, and who it was last.
    pub fn announced(&self) -> (u32, Option<usize>) {
        let both = self.announced.load(Ordering::Relaxed);
        ((both >> 32) as u32, (both as u32).checked_sub(1).map(|at| at as usize))
    }

    /// Something takes longer than it should: ask now.
    pub fn suspect(&self) {
        // One that waits already is enough.
        let _ = self.suspect.try_send(());
    }
}

struct Search {
    system: System,
    nodes: Vec<SocketAddr>,
    /// Whom to ask next.
    at: usize,
    announced: Arc<AtomicU64>,
    leader: Option<usize>,
    /// How often the present leader has said so.
    said: u32,
}

impl Search {
    /// Until the finder is gone.
    fn run(mut self, suspected: &Receiver<()>) {
        loop {
            let leads = self.system.leads(self.nodes[self.at], PATIENCE).unwrap_or(false);
            let pause = if leads {
                self.found();
                CALM
            } else {
                self.leader = None;
                self.at = (self.at + 1) % self.nodes.len();
                SEARCH
            };
            match suspected.recv_timeout(pause) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn found(&mut self) {
        self.said = if self.leader == Some(self.at) { self.said + 1 } else { 0 };
        self.leader = Some(self.at);
        if self.said % ANNOUNCE == 0 {
            let count = (self.announced.load(Ordering::Relaxed) >> 32) + 1;
            self.announced.store(count << 32 | (self.at as u64 + 1), Ordering::Relaxed);
        }
    }
}
