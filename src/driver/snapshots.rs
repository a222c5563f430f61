//! Snapshots of a running node: when one is taken, and that nobody waits for it.
//!
//! The loop freezes the state, which takes no time, and a thread writes it.
//!
//! Invariant: a snapshot is durable only when the log is up to its slot. A node that starts from it then
//! has in its log what it is going to be asked for, as after any other start.
//!
//! A snapshot is due when the log has grown by `snapshot.log_mib` since the state was last frozen, or by
//! the size of the snapshot made of that, whichever is more: so snapshots write no more than the log does.

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use crate::limits::SNAPSHOT_RETRY_US;
use crate::paxos::{Now, Slot, SnapshotId};
use crate::snapshot::{SnapshotDir, SnapshotError, Summary};
use crate::store::Frozen;
use crate::trace::monotonic_ns;
use crate::wal::LogPosition;
use crate::wire::ClusterId;

use super::helper::Helper;
use super::server::Server;
use super::table::ConnectionId;

/// Bytes that a slot takes in the log beside its value: the head of its record, its padding, and the
/// records that are written along with it, about.
const SLOT_OVERHEAD_SIZE: u64 = 64;

/// What a slot with a value of this size adds to the log, in bytes.
pub fn size_in_log(value_size: usize) -> u64 {
    value_size as u64 + SLOT_OVERHEAD_SIZE
}

pub struct Snapshots {
    dir: SnapshotDir,
    /// By how much the log grows, at least, until the next one is due.
    log_size_min: u64,
    writer: Helper<Job, Done>,
    /// The durable ones, two at most.
    durable: BTreeMap<Slot, SnapshotId>,
    /// The one that is being written, or about to be, and by how much the log had grown before it.
    writing: Option<(Slot, u64)>,
    /// It waits for the log to be durable up to here.
    held: Option<(LogPosition, Job)>,
    /// Bytes that the log has grown by since the state was last frozen, about.
    log_size: u64,
    /// After a failure: when it is tried again.
    not_before_us: u64,
    /// Clients that asked for one.
    pub waiting: Vec<Waiting>,
}

/// A client that waits for a snapshot of this slot or a later one.
pub struct Waiting {
    pub slot: Slot,
    pub client: ConnectionId,
    pub id: u64,
}

struct Job {
    frozen: Frozen,
    configurations: Arc<[u8]>,
}

struct Done {
    slot: Slot,
    result: Result<Summary, SnapshotError>,
    duration_ns: u64,
}

impl Snapshots {
    /// `log_size_min`: by how much the log grows, at least, until one is due. `log_size`: how much of it
    /// there is behind the snapshot that the node has started from. In bytes.
    pub fn start(
        dir: &SnapshotDir,
        cluster: ClusterId,
        log_size_min: u64,
        log_size: u64,
        wake: impl Fn() + Send + 'static,
    ) -> Result<Snapshots, SnapshotError> {
        let mut durable = BTreeMap::new();
        for slot in dir.slots()? {
            durable.extend(dir.id(slot)?.map(|snapshot| (slot, snapshot)));
        }
        let writing = dir.clone();
        let write = move |Job { frozen, configurations }: Job| {
            let (slot, begun_ns) = (frozen.applied(), monotonic_ns());
            let result = writing.write(&frozen, cluster, configurations);
            // Here and not in the loop: what the store has replaced meanwhile is freed with it.
            drop(frozen);
            Done { slot, result, duration_ns: monotonic_ns() - begun_ns }
        };
        let writer = Helper::start("snapshot-write", wake, write)
            .map_err(|error| dir.error("start a thread for", error))?;
        let (writing, held, not_before_us) = (None, None, 0);
        let dir = dir.clone();
        Ok(Snapshots {
            dir,
            log_size_min,
            writer,
            durable,
            writing,
            held,
            log_size,
            not_before_us,
            waiting: Vec::new(),
        })
    }

    /// A value of this size was applied.
    pub fn on_applied(&mut self, value_size: usize) {
        self.log_size += size_in_log(value_size);
    }

    /// The newest durable one.
    pub fn newest(&self) -> Option<SnapshotId> {
        self.durable.last_key_value().map(|(_, newest)| *newest)
    }

    /// Opens one that is durable; `None` if this is none, or not any more.
    pub fn open_file(&self, snapshot: SnapshotId) -> Option<Result<File, SnapshotError>> {
        let durable = self.durable.get(&snapshot.slot) == Some(&snapshot);
        durable.then(|| self.dir.open_file(snapshot.slot))
    }

    fn is_due(&self, now: Now) -> bool {
        let size = self.newest().map_or(0, |newest| newest.size);
        self.writing.is_none()
            && self.log_size_min.max(size) <= self.log_size
            && self.not_before_us <= now.mono_us
    }

    fn is_asked_for(&self) -> bool {
        self.writing.is_none() && !self.waiting.is_empty()
    }

    /// Begins the snapshot of a state whose slots lie in the log before `end`.
    fn begin(&mut self, frozen: Frozen, configurations: Arc<[u8]>, end: LogPosition) {
        log::info!(
            "writing a snapshot of slot {}: {} keys, {} sessions",
            frozen.applied(),
            frozen.keys(),
            frozen.sessions()
        );
        self.writing = Some((frozen.applied(), std::mem::take(&mut self.log_size)));
        self.held = Some((end, Job { frozen, configurations }));
    }

    fn on_durable(&mut self, durable: LogPosition) {
        if let Some((_, job)) = self.held.take_if(|(end, _)| *end <= durable) {
            self.writer.hand_over(job);
        }
    }

    /// What became of the one that was written, if that has ended: durable, or why not.
    fn poll(&mut self, now: Now) -> Option<Result<SnapshotId, SnapshotError>> {
        let Done { slot, result, duration_ns } = self.writer.poll()?;
        let (writing, log_size) = self.writing.take().expect("nobody else hands over jobs");
        assert!(writing == slot, "one is written at a time");
        let ms = duration_ns / 1_000_000;
        match result {
            Ok(summary) => {
                log::info!("snapshot of slot {slot}: {} bytes in {ms} ms", summary.size);
                self.durable.insert(slot, summary.id());
                while crate::snapshot::files::KEPT < self.durable.len() {
                    self.durable.pop_first();
                }
                Some(Ok(summary.id()))
            }
            Err(error) => {
                log::warn!("no snapshot of slot {slot}: {error}; the log is kept");
                self.not_before_us = now.mono_us + SNAPSHOT_RETRY_US;
                self.log_size += log_size;
                Some(Err(error))
            }
        }
    }
}

impl Server {
    /// Begins a snapshot if one is due, and acts on one that has become durable.
    pub(super) fn look_after_snapshots(&mut self, now: Now) {
        let ended = self.snapshots.poll(now);
        if let Some(Ok(snapshot)) = &ended {
            self.state_standing.snapshot = snapshot.slot;
            self.node.set_standing_of_state(self.state_standing);
        }
        if let Some(ended) = ended {
            self.answer_waiting(&ended);
        }
        if self.snapshots.is_due(now) || self.snapshots.is_asked_for() {
            self.snapshots.begin(self.store.freeze(), Arc::from([]), self.wal.end());
        }
        self.snapshots.on_durable(self.wal.durable());
    }
}
