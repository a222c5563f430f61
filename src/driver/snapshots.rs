//! Snapshots of a running node: when one is taken, and that nobody waits for it.
//!
//! The loop freezes the state, which takes no time, and a thread writes it. Where the keys lie in RocksDB it makes linked
//! snapshots, by a checkpoint; and a whole one where somebody asks: a client for a backup, or a peer that
//! needs what the log no longer has.
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
//! Linked ones write next to nothing, and only the former counts; but while there is a whole one that a peer has
//! asked for, its size does, so that the log still has what follows when the peer has got it.
//!
//! The disk then holds at most, with S for the size of a snapshot, L for that growth, T for what
//! `snapshot.keep_slots` take, and W for what is logged while a snapshot is being written:
//!
//! > 3 S + max(2 L, T) + 2 W + three segments of the log

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::Arc;

use crate::limits::SNAPSHOT_RETRY_US;
use crate::mutants::{self, Mutant};
use crate::paxos::{Now, Slot, SnapshotId};
use crate::snapshot::files::KEPT;
use crate::snapshot::{Form, SnapshotDir, SnapshotError, Summary};
use crate::store::{Engine, Frozen, Hold};
use crate::trace::monotonic_ns;
use crate::wal::LogPosition;
use crate::wire::ClusterId;

use super::ServeError;
use super::helper::Helper;
use super::server::Server;
use super::table::ConnectionId;
use super::verify::Verifier;

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
    /// Those that are made unasked are linked.
    links: bool,
    /// The durable ones, two at most.
    durable: BTreeMap<Slot, Durable>,
    /// The one that is being written, or about to be.
    writing: Option<Writing>,
    /// A peer asked for a whole one.
    is_wanted: bool,
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

#[derive(Clone, Copy)]
struct Durable {
    id: SnapshotId,
    form: Form,
    /// A peer asked for it.
    for_peers: bool,
}

struct Writing {
    slot: Slot,
    form: Form,
    /// By how much the log had grown before it.
    log_size: u64,
    for_peers: bool,
}

/// A client that waits for a whole snapshot of this slot or a later one.
pub struct Waiting {
    pub slot: Slot,
    pub client: ConnectionId,
    pub id: u64,
}

struct Job {
    frozen: Frozen,
    /// For a linked one.
    hold: Option<Arc<Hold>>,
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
    /// `log_size`: bytes of the log behind the snapshot that the node has started from. `links`: the keys lie where
    /// linked snapshots can be made.
    pub fn start(
        dir: &SnapshotDir,
        cluster: ClusterId,
        rule: Rule,
        log_size: u64,
        links: bool,
        wake: impl Fn() + Send + 'static,
    ) -> Result<Snapshots, SnapshotError> {
        let mut durable = BTreeMap::new();
        for slot in dir.slots()? {
            if let (Some(id), Some(form)) = (dir.id(slot)?, dir.form(slot)) {
                durable.insert(slot, Durable { id, form, for_peers: false });
            }
        }
        let writing = dir.clone();
        let write = move |Job { frozen, hold, configurations }: Job| {
            let (slot, begun_ns) = (frozen.applied(), monotonic_ns());
            let result = match hold {
                Some(hold) => writing.link(&frozen, hold, cluster, configurations),
                None => writing.write(&frozen, cluster, configurations),
            };
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
            links,
            durable,
            writing,
            is_wanted: false,
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
        self.durable.clear();
        self.on_received(snapshot);
    }

    /// This one was fetched, and is of no use: the log begins behind it by now.
    pub fn drop_fetched(&self, slot: Slot) -> Result<(), SnapshotError> {
        let is_left = !self.durable.contains_key(&slot) && self.dir.path(slot).exists();
        if is_left { self.dir.remove_one(slot) } else { Ok(()) }
    }

    /// This one came from a peer and is durable. Older ones are gone: the log has a gap behind them.
    pub fn on_received(&mut self, snapshot: SnapshotId) {
        self.durable.retain(|slot, _| snapshot.slot < *slot);
        let durable = Durable { id: snapshot, form: Form::Whole, for_peers: false };
        self.durable.insert(snapshot.slot, durable);
        self.log_size = 0;
    }

    /// A value of this size was applied.
    pub fn on_applied(&mut self, value_size: usize) {
        self.log_size += size_in_log(value_size);
    }

    /// The slot of the newest durable one; 0 if there is none.
    pub fn newest(&self) -> Slot {
        self.durable.last_key_value().map_or(Slot(0), |(slot, _)| *slot)
    }

    /// The durable ones that can be sent, the newest last.
    fn whole(&self) -> impl DoubleEndedIterator<Item = SnapshotId> {
        self.durable.values().filter(|it| it.form == Form::Whole).map(|it| it.id)
    }

    /// The newest of them.
    pub fn newest_whole(&self) -> Option<SnapshotId> {
        self.whole().next_back()
    }

    /// A peer needs a whole one, and there is none that helps.
    pub fn want(&mut self) {
        self.is_wanted = true;
    }

    /// Slots below this are not needed in the log any more.
    fn needed_from(&self) -> Slot {
        needed_from(self.durable.keys().copied(), self.rule.keep_slots)
    }

    /// Opens one that is durable and whole; `None` if this is none, or not any more.
    pub fn open_file(&self, snapshot: SnapshotId) -> Option<Result<File, SnapshotError>> {
        let is_here = self.whole().any(|whole| whole == snapshot);
        is_here.then(|| self.dir.open_file(snapshot.slot))
    }

    /// The same for a peer.
    pub fn open_for_peer(&mut self, snapshot: SnapshotId) -> Option<Result<File, SnapshotError>> {
        let opened = self.open_file(snapshot)?;
        if let Some(durable) = self.durable.get_mut(&snapshot.slot) {
            durable.for_peers = true;
        }
        Some(opened)
    }

    /// Whether one is due of the state behind `applied`.
    fn is_due(&self, now: Now, applied: Slot) -> bool {
        let size = match self.links {
            false => self.durable.last_key_value().map(|(_, newest)| newest.id.size),
            true => self.durable.values().filter(|it| it.for_peers).map(|it| it.id.size).max(),
        };
        self.writing.is_none()
            && self.newest() < applied
            && self.rule.log_size_min.max(size.unwrap_or(0)) <= self.log_size
            && self.not_before_us <= now.mono_us
    }

    /// Whether a whole one is.
    fn is_asked_for(&self) -> bool {
        self.writing.is_none() && (self.is_wanted || !self.waiting.is_empty())
    }

    /// Begins the snapshot of a state whose slots lie in the log before `end`: a linked one, if it is held.
    fn begin(
        &mut self,
        frozen: Frozen,
        hold: Option<Arc<Hold>>,
        configurations: Arc<[u8]>,
        end: LogPosition,
    ) {
        let (slot, log_size) = (frozen.applied(), std::mem::take(&mut self.log_size));
        let (form, kind) = match hold {
            Some(_) => (Form::Linked, "linked "),
            None => (Form::Whole, ""),
        };
        log::info!(
            "writing a {kind}snapshot of slot {slot}: {} keys, {} sessions",
            frozen.keys(),
            frozen.sessions()
        );
        let for_peers = form == Form::Whole && std::mem::take(&mut self.is_wanted);
        self.writing = Some(Writing { slot, form, log_size, for_peers });
        self.held = Some((end, Job { frozen, hold, configurations }));
    }

    fn on_durable(&mut self, durable: LogPosition) {
        if let Some((_, job)) = self.held.take_if(|(end, _)| *end <= durable) {
            self.writer.hand_over(job);
        }
    }

    /// What became of the one that was written, if that has ended.
    fn poll(&mut self, now: Now) -> Option<Ended> {
        let Done { slot, result, duration_ns } = self.writer.poll()?;
        let writing = self.writing.take().expect("nobody else hands over jobs");
        assert!(writing.slot == slot, "one is written at a time");
        let Writing { form, for_peers, log_size, .. } = writing;
        let ms = duration_ns / 1_000_000;
        let distrusted = std::mem::take(&mut self.distrusted);
        let result = match result {
            Ok(_) if distrusted => self.dir.remove_one(slot).and(Err(SnapshotError::StateDamaged)),
            result => result,
        };
        match result {
            Ok(summary) => {
                log::info!("snapshot of slot {slot}: {} bytes in {ms} ms", summary.size);
                let id = summary.id();
                self.durable.insert(slot, Durable { id, form, for_peers });
                while KEPT < self.durable.len() {
                    self.durable.pop_first();
                }
                Some(Ended { form, result: Ok(id) })
            }
            Err(error) => {
                log::warn!("no snapshot of slot {slot}: {error}; the log is kept");
                self.not_before_us = now.mono_us + SNAPSHOT_RETRY_US;
                self.log_size += log_size;
                Some(Ended { form, result: Err(error) })
            }
        }
    }
}

/// A snapshot that is durable, or why it is not.
struct Ended {
    form: Form,
    result: Result<SnapshotId, SnapshotError>,
}

impl Server {
    /// Starts the thread that reads keys through, where they lie in RocksDB. `is_due`: the state was not read at the start.
    pub(super) fn start_verifier(
        engine: &Engine,
        rule: Rule,
        is_due: bool,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Option<Verifier>> {
        let has_checkpoints = engine.has_checkpoints();
        has_checkpoints.then(|| Verifier::start(rule.log_size_min, is_due, wake)).transpose()
    }

    /// Begins a snapshot if one is due, and acts on one that has become durable.
    pub(super) fn look_after_snapshots(&mut self, now: Now) -> Result<(), ServeError> {
        if let Some(Ended { form, result }) = self.snapshots.poll(now) {
            if result.is_ok() {
                self.on_snapshots_changed()?;
            }
            if form == Form::Whole {
                self.answer_waiting(&result);
            }
            if let Err(SnapshotError::StateDamaged) = result {
                self.begin_quarantine(now, "its digest is not what it should be");
            }
        }
        self.look_after_keys(now);
        if self.quarantine.is_on() {
            return Ok(());
        }
        let is_asked_for = self.snapshots.is_asked_for();
        if is_asked_for || self.snapshots.is_due(now, self.store.applied()) {
            // A node that has just joined may not have heard yet what governs there.
            if let Some(epochs) = self.node.configurations().as_of(self.store.applied().next()) {
                let configurations = Arc::from(epochs.to_bytes());
                self.node.record_progress(&mut self.fx);
                self.append_records()?;
                let hold = if is_asked_for { None } else { self.store.hold() };
                let frozen = self.store.freeze();
                self.snapshots.begin(frozen, hold, configurations, self.wal.end());
            }
        }
        self.snapshots.on_durable(self.wal.durable());
        Ok(())
    }

    /// Has the keys read through if that is due, and acts on what was found.
    fn look_after_keys(&mut self, now: Now) {
        let Some(verifier) = &mut self.verifier else { return };
        if let Some(why) = verifier.poll() {
            self.begin_quarantine(now, &why);
        } else if verifier.is_due() && !self.quarantine.is_on() {
            verifier.begin(self.store.freeze());
        }
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
        let snapshots = self.catch_up.with_served(self.snapshots.whole());
        let newest = self.snapshots.newest();
        self.node.on_snapshots(snapshots, newest, log_begin, &mut self.fx);
        self.tell_state();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn durable(slot: u64, size: u64, form: Form) -> Durable {
        let id = SnapshotId { slot: Slot(slot), size, checksum: 1 };
        Durable { id, form, for_peers: false }
    }

    /// With the two snapshots of these slots and this tail.
    fn needed_from(slots: &[u64], keep_slots: u64) -> u64 {
        let data_dir = tempfile::tempdir().unwrap();
        let dir = SnapshotDir::open(data_dir.path()).unwrap();
        let rule = Rule { log_size_min: 1, keep_slots };
        let mut snapshots = Snapshots::start(&dir, ClusterId(1), rule, 0, false, || {}).unwrap();
        for &slot in slots {
            snapshots.durable.insert(Slot(slot), durable(slot, 1, Form::Whole));
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
        let mut snapshots = Snapshots::start(&dir, ClusterId(1), rule, 900, false, || {}).unwrap();
        let (now, applied) = (Now { mono_us: 5, wall_us: 5 }, Slot(9));
        assert!(!snapshots.is_due(now, applied));
        snapshots.on_applied(100);
        assert!(snapshots.is_due(now, applied));
        snapshots.not_before_us = 6;
        assert!(!snapshots.is_due(now, applied));
        snapshots.not_before_us = 5;
        snapshots.durable.insert(Slot(3), durable(3, 10_000, Form::Whole));
        assert!(!snapshots.is_due(now, applied));
        snapshots.on_applied(9_000);
        assert!(snapshots.is_due(now, applied));
    }

    /// Linked ones cost nothing, and come by the log's growth alone; but what a peer is fetching must still be of use
    /// when it is there. A whole one for a backup holds up nothing.
    #[test]
    fn linked_snapshots_wait_for_a_peer_that_fetches() {
        let data_dir = tempfile::tempdir().unwrap();
        let dir = SnapshotDir::open(data_dir.path()).unwrap();
        let rule = Rule { log_size_min: 1_000, keep_slots: 0 };
        let mut snapshots = Snapshots::start(&dir, ClusterId(1), rule, 1_000, true, || {}).unwrap();
        let now = Now { mono_us: 5, wall_us: 5 };
        snapshots.durable.insert(Slot(3), durable(3, 10_000, Form::Whole));
        snapshots.durable.insert(Slot(4), durable(4, 10, Form::Linked));
        assert!(snapshots.is_due(now, Slot(5)));
        assert!(!snapshots.is_due(now, Slot(4)), "there is one of that slot");
        let whole = snapshots.newest_whole().unwrap();
        assert_eq!((whole.slot, snapshots.newest()), (Slot(3), Slot(4)));
        fs::write(dir.path(Slot(3)), b"whole").unwrap();
        fs::write(dir.path(Slot(4)), b"linked").unwrap();
        let linked = snapshots.durable[&Slot(4)].id;
        assert!(snapshots.open_file(linked).is_none(), "it is of no use to anybody else");
        assert!(snapshots.open_for_peer(whole).unwrap().is_ok());
        assert!(!snapshots.is_due(now, Slot(5)));
        snapshots.log_size = 10_000;
        assert!(snapshots.is_due(now, Slot(5)));
    }
}
