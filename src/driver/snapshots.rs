//! Snapshots of a running node: when one is taken, and that nobody waits for it.
//!
//! The loop freezes the state, which takes no time, and a thread writes it.
//!
//! Invariant: a snapshot is durable only when the log is up to its slot, and says that all up to there is
//! chosen. A node that starts from it then has in its log what it is going to be asked for, as after any
//! other start. (If it did not say so, it could only pass over what it lacks, and begin anew behind the
//! snapshot: `paxos::Log::jump`. There would be no way back to the one before.)
//!
//! Invariant: what the log may forget is behind two durable snapshots. Should the newest one turn out to be
//! damaged, the one before and the log from there are still whole.
//!
//! A snapshot is due when the log has grown by `snapshot.log_mib` since the state was last frozen, or by
//! the size of the snapshot made of that, whichever is more: so snapshots write no more than the log does.
//! The disk then holds at most, with S for the size of a snapshot, L for that growth, T for what
//! `snapshot.keep_slots` take, and W for what is logged while a snapshot is being written:
//!
//! > 3 S + max(2 L, T) + 2 W + three segments of the log

use std::collections::BTreeMap;
use std::fs::File;
use std::sync::Arc;

use crate::limits::SNAPSHOT_RETRY_US;
use crate::mutants::{self, Mutant};
use crate::paxos::{Now, Slot, SnapshotId};
use crate::snapshot::files::KEPT;
use crate::snapshot::{SnapshotDir, SnapshotError, Summary};
use crate::store::Frozen;
use crate::trace::monotonic_ns;
use crate::wal::LogPosition;
use crate::wire::ClusterId;

use super::ServeError;
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

/// When a snapshot is due, and what of the log is kept behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// By how much the log grows, at least, until the next one is due, in bytes.
    pub log_size_min: u64,
    /// Slots that are kept in the log behind the newest one, at least.
    pub keep_slots: u64,
}

pub struct Snapshots {
    dir: SnapshotDir,
    rule: Rule,
    writer: Helper<Job, Done>,
    /// The durable ones, two at most.
    durable: BTreeMap<Slot, SnapshotId>,
    /// The one that is being written, or about to be, and by how much the log had grown before it.
    writing: Option<(Slot, u64)>,
    /// It waits for the log to be durable up to here.
    held: Option<(LogPosition, Job)>,
    /// Bytes that the log has grown by since the state was last frozen, about.
    log_size: u64,
    /// The state was found to be wrong while it was being written.
    distrusted: bool,
    /// Those that were made of a wrong state, or may have been.
    wrong: Vec<Slot>,
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

/// From where on a node needs its log that has snapshots of these slots, in ascending order, and keeps so
/// many slots for those who are slow. The newest snapshot may turn out to be damaged, and a single one too.
pub fn needed_from(durable: impl Iterator<Item = Slot>, keep_slots: u64) -> Slot {
    let slots: Vec<Slot> = durable.collect();
    let (Some(oldest), Some(newest)) = (slots.first(), slots.last()) else { return Slot::FIRST };
    let kept_from = Slot(newest.0.saturating_sub(keep_slots)).next();
    if mutants::is_on(Mutant::TruncateBehindNewest) {
        return kept_from;
    }
    match slots.len() {
        KEPT => oldest.next().min(kept_from),
        _ => Slot::FIRST,
    }
}

impl Snapshots {
    /// `log_size`: bytes of the log behind the snapshot that the node has started from.
    pub fn start(
        dir: &SnapshotDir,
        cluster: ClusterId,
        rule: Rule,
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
        let writer = Helper::start_in_background("snapshot-write", wake, write)
            .map_err(|error| dir.error("start a thread for", error))?;
        let (writing, held, not_before_us) = (None, None, 0);
        let dir = dir.clone();
        Ok(Snapshots {
            dir,
            rule,
            writer,
            durable,
            writing,
            held,
            log_size,
            not_before_us,
            distrusted: false,
            wrong: Vec::new(),
            waiting: Vec::new(),
        })
    }

    /// The state is wrong: what is being written of it is not kept, and what was is in doubt.
    pub fn distrust(&mut self) {
        self.wrong = self.durable.keys().copied().collect();
        self.distrusted = self.writing.is_some();
        if self.held.take().is_some() {
            (self.writing, self.distrusted) = (None, false);
        }
    }

    /// Those that must go when another state is here.
    pub fn wrong(&self) -> Vec<Slot> {
        self.wrong.clone()
    }

    /// The state is what this snapshot holds, and it is the only one.
    pub fn replace(&mut self, snapshot: SnapshotId) {
        self.durable = BTreeMap::from([(snapshot.slot, snapshot)]);
        self.log_size = 0;
    }

    /// This one was fetched, and is of no use: the log begins behind it by now.
    pub fn drop_fetched(&self, slot: Slot) -> Result<(), SnapshotError> {
        let is_left = !self.durable.contains_key(&slot) && self.dir.path(slot).exists();
        if is_left { self.dir.remove_one(slot) } else { Ok(()) }
    }

    /// This one came from a peer and is durable. Older ones are gone: the log has a gap behind them.
    pub fn on_received(&mut self, snapshot: SnapshotId) {
        self.durable.retain(|slot, _| snapshot.slot < *slot);
        self.durable.insert(snapshot.slot, snapshot);
        self.log_size = 0;
    }

    /// A value of this size was applied.
    pub fn on_applied(&mut self, value_size: usize) {
        self.log_size += size_in_log(value_size);
    }

    /// The newest durable one.
    pub fn newest(&self) -> Option<SnapshotId> {
        self.durable.last_key_value().map(|(_, newest)| *newest)
    }

    /// The durable ones, the newest last.
    fn all(&self) -> Vec<SnapshotId> {
        self.durable.values().copied().collect()
    }

    /// Slots below this are not needed in the log any more.
    fn needed_from(&self) -> Slot {
        needed_from(self.durable.keys().copied(), self.rule.keep_slots)
    }

    /// Opens one that is durable; `None` if this is none, or not any more.
    pub fn open_file(&self, snapshot: SnapshotId) -> Option<Result<File, SnapshotError>> {
        let durable = self.durable.get(&snapshot.slot) == Some(&snapshot);
        durable.then(|| self.dir.open_file(snapshot.slot))
    }

    fn is_due(&self, now: Now) -> bool {
        let size = self.newest().map_or(0, |newest| newest.size);
        self.writing.is_none()
            && self.rule.log_size_min.max(size) <= self.log_size
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
        let distrusted = std::mem::take(&mut self.distrusted);
        let result = match result {
            Ok(_) if distrusted => self.dir.remove_one(slot).and(Err(SnapshotError::StateDamaged)),
            result => result,
        };
        match result {
            Ok(summary) => {
                log::info!("snapshot of slot {slot}: {} bytes in {ms} ms", summary.size);
                self.durable.insert(slot, summary.id());
                while KEPT < self.durable.len() {
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
    pub(super) fn look_after_snapshots(&mut self, now: Now) -> Result<(), ServeError> {
        if let Some(ended) = self.snapshots.poll(now) {
            if ended.is_ok() {
                self.on_snapshots_changed()?;
            }
            self.answer_waiting(&ended);
            if let Err(SnapshotError::StateDamaged) = ended {
                self.begin_quarantine(now, "its digest is not what it should be");
            }
        }
        if self.quarantine.is_on() {
            return Ok(());
        }
        if self.snapshots.is_due(now) || self.snapshots.is_asked_for() {
            // A node that has just joined may not have heard yet what governs there.
            if let Some(epochs) = self.node.configurations().as_of(self.store.applied().next()) {
                let configurations = Arc::from(epochs.to_bytes());
                self.node.record_progress(&mut self.fx);
                self.append_records()?;
                self.snapshots.begin(self.store.freeze(), configurations, self.wal.end());
            }
        }
        self.snapshots.on_durable(self.wal.durable());
        Ok(())
    }

    /// Lets the log forget what is in snapshots, and tells the node what can be had from here.
    pub(super) fn on_snapshots_changed(&mut self) -> Result<(), ServeError> {
        let needed_from = self.snapshots.needed_from();
        let removed = self.wal.truncate_before(needed_from)?;
        if 0 < removed {
            log::info!(
                "removing {removed} files of the log: slots below {needed_from} are not needed"
            );
        }
        let log_begin = self.wal.log_begin(self.node.view().first_unchosen);
        let snapshots = self.catch_up.with_served(self.snapshots.all());
        self.node.on_snapshots(snapshots, log_begin);
        self.tell_state();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With the two snapshots of these slots and this tail.
    fn needed_from(slots: &[u64], keep_slots: u64) -> u64 {
        let data_dir = tempfile::tempdir().unwrap();
        let dir = SnapshotDir::open(data_dir.path()).unwrap();
        let rule = Rule { log_size_min: 1, keep_slots };
        let mut snapshots = Snapshots::start(&dir, ClusterId(1), rule, 0, || {}).unwrap();
        for &slot in slots {
            let snapshot = SnapshotId { slot: Slot(slot), size: 1, checksum: 1 };
            snapshots.durable.insert(Slot(slot), snapshot);
        }
        snapshots.needed_from().0
    }

    /// If the newest snapshot is damaged, the log must reach back to the one before.
    #[test]
    fn the_log_reaches_back_to_the_snapshot_before_and_over_the_tail() {
        assert_eq!(needed_from(&[], 0), 1);
        assert_eq!(needed_from(&[100], 0), 1, "the only one may turn out to be damaged");
        assert_eq!(needed_from(&[100, 200], 0), 101);
        assert_eq!(needed_from(&[100, 200], 99), 101);
        assert_eq!(needed_from(&[100, 200], 150), 51);
        assert_eq!(needed_from(&[100, 200], 1_000), 1);
    }

    /// Too small a growth is not due, a failure waits, and what is due is at least the snapshot's size.
    #[test]
    fn a_snapshot_is_due_by_growth() {
        let data_dir = tempfile::tempdir().unwrap();
        let dir = SnapshotDir::open(data_dir.path()).unwrap();
        let rule = Rule { log_size_min: 1_000, keep_slots: 0 };
        let mut snapshots = Snapshots::start(&dir, ClusterId(1), rule, 900, || {}).unwrap();
        let now = Now { mono_us: 5, wall_us: 5 };
        assert!(!snapshots.is_due(now));
        snapshots.on_applied(100);
        assert!(snapshots.is_due(now));
        snapshots.not_before_us = 6;
        assert!(!snapshots.is_due(now));
        snapshots.not_before_us = 5;
        let snapshot = SnapshotId { slot: Slot(3), size: 10_000, checksum: 1 };
        snapshots.durable.insert(Slot(3), snapshot);
        assert!(!snapshots.is_due(now));
        snapshots.on_applied(9_000);
        assert!(snapshots.is_due(now));
    }
}
