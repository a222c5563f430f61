//! Snapshots of the whole state, fetched from a node: what a backup is made of.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::limits::{SNAPSHOT_CHUNK_SIZE, SNAPSHOT_CHUNKS_IN_FLIGHT};
use crate::paxos::{NodeId, SnapshotId};
use crate::trace::monotonic_ns;
use crate::wire::client::{ErrorKind, Request, RequestKey, Response};

use super::connection::describe;
use super::{Client, Error, never_happened, one_line};

/// How often a snapshot is asked for if the node loses it before all of it has come.
const SNAPSHOTS_MAX: usize = 3;
/// Pause before the node that makes it is dialled again.
const REDIAL_PAUSE: Duration = Duration::from_millis(50);

/// What fetching one snapshot came to.
enum Fetched {
    Whole,
    /// The node does not have it any more.
    Gone(String),
}

impl Client {
    /// Has a node take a snapshot that holds every write acknowledged anywhere by now, and says which it
    /// is and who has it.
    pub fn snapshot(&mut self) -> Result<(SnapshotId, NodeId), Error> {
        let (id, deadline_ns) = (self.take_id(), self.deadline_ns());
        match self.call(&Request::Snapshot { id }, &[], deadline_ns) {
            Ok((Response::Snapshot { snapshot, .. }, _, node)) => Ok((snapshot, node)),
            other => Err(never_happened(other)),
        }
    }

    /// Takes a snapshot, see `snapshot`, and copies it into `file`. A broken connection costs nothing of
    /// what has come. The timeout is for taking it and then for each part of it. `progress` gets bytes
    /// that have come and bytes in all. The bytes are not checked here: `snapshot::verify` does that.
    pub fn fetch_snapshot(
        &mut self,
        file: &File,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(SnapshotId, NodeId), Error> {
        let mut why = String::new();
        for _ in 0..SNAPSHOTS_MAX {
            let (snapshot, node) = self.snapshot()?;
            file.set_len(0).map_err(|error| Error::Definite(error.to_string()))?;
            match self.fetch(snapshot, file, progress)? {
                Fetched::Whole => return Ok((snapshot, node)),
                Fetched::Gone(reason) => why = reason,
            }
        }
        Err(Error::Definite(why))
    }

    fn fetch(
        &mut self,
        snapshot: SnapshotId,
        file: &File,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Fetched, Error> {
        let mut done = 0;
        let mut deadline_ns = self.deadline_ns();
        loop {
            let before = done;
            let outcome = self.fetch_from(snapshot, file, &mut done, deadline_ns, progress);
            let why = match outcome {
                Ok(fetched) => return Ok(fetched),
                Err(Interrupted::Disk(error)) => return Err(Error::Definite(error)),
                Err(Interrupted::Connection(why)) => why,
            };
            self.connection = None;
            if before < done {
                deadline_ns = self.deadline_ns();
            } else if deadline_ns <= monotonic_ns() {
                let node = self.nodes[self.at].address;
                return Err(Error::Definite(format!("{node}: {why}")));
            }
            // sleep: the node that has it may be on its way back, and only dialling tells.
            std::thread::sleep(REDIAL_PAUSE);
        }
    }

    /// Fetches what follows the first `done` bytes over one connection.
    fn fetch_from(
        &mut self,
        snapshot: SnapshotId,
        file: &File,
        done: &mut u64,
        mut deadline_ns: u64,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Fetched, Interrupted> {
        let mut asked = *done;
        // Id and size of each part that is asked for; they come in this order.
        let mut in_flight = VecDeque::new();
        while *done < snapshot.size {
            while asked < snapshot.size && in_flight.len() < SNAPSHOT_CHUNKS_IN_FLIGHT {
                let id = self.take_id();
                let request = Request::SnapshotChunk { id, snapshot, offset: asked };
                let connection = self.connected(deadline_ns)?;
                connection.send(&request, &[], deadline_ns)?;
                let size = (SNAPSHOT_CHUNK_SIZE as u64).min(snapshot.size - asked);
                in_flight.push_back((id, size));
                asked += size;
            }
            let connection = self.connected(deadline_ns)?;
            match connection.receive(deadline_ns)? {
                (Response::SnapshotChunk { id }, bytes) => {
                    if in_flight.pop_front() != Some((id, bytes.len() as u64)) {
                        let why = "the node answered with nonsense".to_owned();
                        return Err(Interrupted::Connection(why));
                    }
                    file.write_all_at(&bytes, *done)
                        .map_err(|error| Interrupted::Disk(error.to_string()))?;
                    *done += bytes.len() as u64;
                    deadline_ns = self.deadline_ns();
                    progress(*done, snapshot.size);
                }
                (Response::Error { key: RequestKey::Snapshot { .. }, error }, _) => {
                    let why = one_line(&error.message);
                    return match error.kind {
                        ErrorKind::BadRequest => Ok(Fetched::Gone(why)),
                        _ => Err(Interrupted::Connection(why)),
                    };
                }
                // The answer to an earlier request, which we had given up.
                _ => {}
            }
        }
        Ok(Fetched::Whole)
    }
}

/// Why fetching stopped half-way.
enum Interrupted {
    Connection(String),
    /// Our own file cannot be written.
    Disk(String),
}

impl From<std::io::Error> for Interrupted {
    fn from(error: std::io::Error) -> Interrupted {
        Interrupted::Connection(describe(&error))
    }
}
