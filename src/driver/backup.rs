//! Clients that fetch a snapshot: one is taken for them, and its bytes are read by a thread and sent as
//! they are asked for. So no client is sent more than it takes, and the loop never waits for the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use crate::limits;
use crate::paxos::SnapshotId;
use crate::snapshot::SnapshotError;
use crate::wire::client::{ErrorKind, RequestKey, Response};

use super::helper::Helper;
use super::server::Server;
use super::snapshots::Waiting;
use super::table::ConnectionId;

pub type ChunkReader = Helper<Chunk, ChunkRead>;

/// Bytes of a snapshot that a client has asked for.
pub struct Chunk {
    file: Arc<File>,
    offset: u64,
    size: usize,
    client: ConnectionId,
    id: u64,
}

pub struct ChunkRead {
    client: ConnectionId,
    id: u64,
    bytes: io::Result<Vec<u8>>,
}

/// Starts the thread that reads.
pub fn chunk_reader(wake: impl Fn() + Send + 'static) -> io::Result<ChunkReader> {
    Helper::start_in_background(
        "snapshot-read",
        wake,
        |Chunk { file, offset, size, client, id }| {
            let mut bytes = vec![0; size];
            let bytes = file.read_exact_at(&mut bytes, offset).map(|()| bytes);
            ChunkRead { client, id, bytes }
        },
    )
}

impl Server {
    /// A client wants a snapshot that holds all that is applied by now.
    pub(super) fn want_snapshot(&mut self, client: ConnectionId, id: u64) {
        let slot = self.store.applied();
        match self.snapshots.newest_whole().filter(|newest| newest.slot == slot) {
            Some(newest) => self.offer_snapshot(client, id, newest),
            None => self.snapshots.waiting.push(Waiting { slot, client, id }),
        }
    }

    /// A snapshot has become durable, or could not be made.
    pub(super) fn answer_waiting(&mut self, ended: &Result<SnapshotId, SnapshotError>) {
        for waiting in std::mem::take(&mut self.snapshots.waiting) {
            let Waiting { slot, client, id } = waiting;
            match ended {
                Ok(snapshot) if slot <= snapshot.slot => {
                    self.offer_snapshot(client, id, *snapshot);
                }
                Ok(_) => self.snapshots.waiting.push(waiting),
                Err(error) => self.refuse_snapshot(client, id, ErrorKind::Busy, error.to_string()),
            }
        }
    }

    fn offer_snapshot(&mut self, client: ConnectionId, id: u64, snapshot: SnapshotId) {
        if self.hold_file(client, id, snapshot).is_some() {
            self.respond(client, &Response::Snapshot { id, snapshot }, &[]);
        }
    }

    pub(super) fn read_chunk(
        &mut self,
        client: ConnectionId,
        id: u64,
        snapshot: SnapshotId,
        offset: u64,
    ) {
        if !self.may_serve(client, RequestKey::Snapshot { id }) {
            return;
        }
        let Some(file) = self.hold_file(client, id, snapshot) else { return };
        // The size is ours by now, not the client's word.
        if snapshot.size <= offset {
            let message = "there is nothing at that place of the snapshot".to_string();
            self.refuse_snapshot(client, id, ErrorKind::BadRequest, message);
            return;
        }
        if let Some(connection) = self.table.get_mut(client) {
            connection.chunks += 1;
        }
        let size = (limits::SNAPSHOT_CHUNK_SIZE as u64).min(snapshot.size - offset) as usize;
        self.chunks.hand_over(Chunk { file, offset, size, client, id });
    }

    /// The file of a snapshot, open for as long as the client's connection stands, or until it asks for
    /// another. `None` if there is none, and the client is told.
    fn hold_file(
        &mut self,
        client: ConnectionId,
        id: u64,
        snapshot: SnapshotId,
    ) -> Option<Arc<File>> {
        let connection = self.table.get_mut(client)?;
        if let Some((held, file)) = &connection.snapshot
            && *held == snapshot
        {
            return Some(Arc::clone(file));
        }
        match self.snapshots.open_file(snapshot) {
            Some(Ok(file)) => {
                let file = Arc::new(file);
                connection.snapshot = Some((snapshot, Arc::clone(&file)));
                return Some(file);
            }
            Some(Err(error)) => {
                self.refuse_snapshot(client, id, ErrorKind::Busy, error.to_string());
            }
            None => {
                let message = "that snapshot is not here any more; ask for a new one".to_string();
                self.refuse_snapshot(client, id, ErrorKind::BadRequest, message);
            }
        }
        None
    }

    /// Sends the chunks that were read.
    pub(super) fn send_chunks(&mut self) {
        while let Some(ChunkRead { client, id, bytes }) = self.chunks.poll() {
            if let Some(connection) = self.table.get_mut(client) {
                connection.chunks -= 1;
            }
            match bytes {
                Ok(bytes) => self.respond(client, &Response::SnapshotChunk { id }, &bytes),
                Err(error) => {
                    let message = format!("the snapshot cannot be read: {error}");
                    self.refuse_snapshot(client, id, ErrorKind::Busy, message);
                }
            }
        }
    }

    fn refuse_snapshot(&mut self, client: ConnectionId, id: u64, kind: ErrorKind, message: String) {
        self.respond_error(client, RequestKey::Snapshot { id }, kind, true, message);
    }
}
