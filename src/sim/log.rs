//! A node's log: the real one, on its disk, and beside it a shadow that it is held against.

use std::collections::BTreeSet;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::paxos::{NodeId, Record, Recovered, Slot};
use crate::wal::{Identity, Options, Wal, WalError};

use super::disk::{Damage, Loss, Mount, Place, SegmentCopy, SimDisk};
use super::shadow::{Kept, Shadow};
use super::snapshots::CLUSTER;

pub struct Log {
    pub shadow: Shadow,
    disk: SimDisk,
    /// While the process runs.
    wal: Option<Wal<Mount>>,
    identity: Identity,
    options: Options,
    /// The records, by sequence number, that damage has hit.
    lost: BTreeSet<u64>,
    /// Something of it was lost since it was opened last.
    is_damaged: bool,
    /// One copy of `meta` is damaged.
    meta_is_spoiled: bool,
    /// The power goes in the next recovery, after so many changes of the disk.
    recovery_ends_after: Option<u32>,
    /// A segment as it was once.
    old: Option<SegmentCopy>,
    /// Values of slots below may be gone.
    truncated_before: Slot,
}

/// What was there when the log was opened.
pub struct Opened {
    pub recovered: Recovered,
    /// Records that were not known to be durable, and are now.
    pub newly_durable: Vec<Record>,
}

impl Log {
    pub fn new(node: NodeId, segment_size: u64) -> Log {
        Log {
            shadow: Shadow::default(),
            disk: SimDisk::new(format!("{node}"), u64::from(node.0) << 32),
            wal: None,
            identity: Identity { cluster: CLUSTER, node },
            options: Options { segment_size, sync: true },
            lost: BTreeSet::new(),
            is_damaged: false,
            meta_is_spoiled: false,
            recovery_ends_after: None,
            old: None,
            truncated_before: Slot::FIRST,
        }
    }

    /// The process starts.
    ///
    /// # Panics
    /// If what was durable is not there, and not said to be lost; or if the log is refused.
    pub fn open(&mut self, dice: &mut StdRng) -> Result<Opened, WalError> {
        if let Some(changes) = self.recovery_ends_after.take() {
            self.disk.fail_after(changes);
            if self.mount().is_err() {
                self.disk.crash(Loss::draw(dice), dice);
            }
            self.wal = None;
        }
        let recovered = match self.mount() {
            Ok(recovered) => recovered,
            Err(error) => {
                let is_full = matches!(error, WalError::DiskFull { .. });
                assert!(is_full, "a log is refused that can be recovered: {error}");
                return Err(error);
            }
        };
        self.meta_is_spoiled = false;
        self.is_damaged = false;
        let end = self.wal().end().0 as usize;
        let (durable, len) = (self.shadow.durable(), self.shadow.len());
        assert!(durable <= end, "of {durable} durable records {end} are left");
        assert!(end <= len, "{end} records are found, and {len} were appended");
        if end < len {
            // What was torn off had never been told to be there, and stays away: its numbers are given anew.
            self.old = None;
        }
        self.shadow.truncate(end);
        // What was lost in segments that are gone is lost no more than the rest of them.
        self.lost = self.lost.split_off(&self.wal().first_sequence());
        // What is appended next takes the numbers of what was torn off.
        self.lost.split_off(&(end as u64 + 1));
        for it in self.wal().lost().to_vec().into_iter().flat_map(|it| it.sequences) {
            // Between damage and what is left behind it there may be records that no sync had reached
            // when the power went: nobody can tell those from what was damaged.
            let is_lost = self.lost.contains(&it) || durable < it as usize;
            assert!(is_lost, "record {it} is called lost, and is not");
            self.lost.insert(it);
        }
        let newly_durable = self.shadow.make_durable(end, &self.lost);
        if self.lost.is_empty() {
            let mut expected = self.shadow.recover();
            if expected.first_unchosen < recovered.first_unchosen {
                // What was truncated was chosen, whatever the hints say.
                let slot = recovered.first_unchosen;
                assert!(slot <= self.truncated_before, "{slot} was never truncated before");
                expected.first_unchosen = slot;
                expected.tail.retain(|entry| slot <= entry.slot);
            }
            if self.shadow.last_jump().0 < self.wal().first_sequence() {
                // The jump went with all that was before it.
                expected.log_begin = Slot(0);
            }
            assert_eq!(recovered, expected, "the log reads otherwise than it was written");
        }
        Ok(Opened { recovered, newly_durable })
    }

    /// What `open` has said, for a node that has the state behind all slots below `covered`, as the driver
    /// asks for it.
    ///
    /// # Panics
    /// If what was durable is not there, and not said to be lost.
    pub fn recovered_above(&mut self, opened: Recovered, covered: Slot) -> Recovered {
        if self.wal().lost().is_empty() {
            assert!(self.lost.is_empty(), "records {:?} are lost, and nobody is told", self.lost);
            return opened;
        }
        let recovered = self.wal_mut().recovered_above(covered);
        let kept = Kept { truncated_before: self.truncated_before, covered };
        self.shadow.check_recovered(&self.lost, kept, &recovered);
        recovered
    }

    fn mount(&mut self) -> Result<Recovered, WalError> {
        let mount = self.disk.mount();
        let (wal, recovered) = Wal::open_on(mount, self.identity, self.options, &mut |_, _| ())?;
        self.wal = Some(wal);
        Ok(recovered)
    }

    /// The process has ended; what it wrote stays in the page cache.
    pub fn close(&mut self) {
        self.wal = None;
    }

    /// The machine has lost power, after the process has ended.
    pub fn lose_power(&mut self, dice: &mut StdRng) {
        self.disk.crash(Loss::draw(dice), dice);
        if dice.random_range(0..4) == 0 {
            self.recovery_ends_after = Some(dice.random_range(0..8));
        }
    }

    pub fn append(&mut self, record: Record) -> Result<(), WalError> {
        self.wal_mut().append(&record)?;
        self.shadow.append(record);
        Ok(())
    }

    /// Whether damage has taken any record that was not truncated since.
    pub fn has_lost(&self) -> bool {
        !self.lost.is_empty()
    }

    /// Whether something of it was lost since it was opened last.
    pub fn is_damaged(&self) -> bool {
        self.is_damaged
    }

    /// The values of slots below need not be there: they were truncated, or passed over.
    pub fn values_from(&self) -> Slot {
        self.truncated_before.max(self.shadow.last_jump().1)
    }

    pub fn wal(&self) -> &Wal<Mount> {
        self.wal.as_ref().expect("the process runs")
    }

    fn wal_mut(&mut self) -> &mut Wal<Mount> {
        self.wal.as_mut().expect("the process runs")
    }

    /// Lets go of the values of slots below. Returns how many segments went.
    ///
    /// # Panics
    /// If the node will not know any more that it lost something above.
    pub fn truncate_before(&mut self, slot: Slot) -> Result<usize, WalError> {
        self.truncated_before = self.truncated_before.max(slot);
        let removed = self.wal_mut().truncate_before(slot)?;
        let (first, slot) = (self.wal().first_sequence(), self.truncated_before);
        for it in self.lost.range(..first) {
            let lost = self.shadow.slot_of(*it);
            assert!(
                lost.is_none_or(|lost| lost < slot),
                "what tells that slot {lost:?} is lost goes, and only slots below {slot} are known"
            );
        }
        Ok(removed)
    }

    /// From where on all values below `end` can be read.
    pub fn begin(&mut self, end: Slot) -> Slot {
        self.wal_mut().log_begin(end)
    }

    /// Whether a sync is in flight now.
    pub fn start_sync(&mut self) -> Result<bool, WalError> {
        self.wal_mut().start_sync()
    }

    /// The slots in which the node may not know what it accepted last.
    pub fn slots_in_doubt(&self) -> BTreeSet<Slot> {
        self.shadow.slots_in_doubt(&self.lost)
    }

    /// Whether a sync has not yet ended.
    pub fn is_syncing(&self) -> bool {
        self.wal.is_some() && self.disk.syncing().is_some()
    }

    /// The sync in flight ends: `poll_sync` will say how.
    pub fn end_sync(&mut self, fails: bool, dice: &mut StdRng) {
        if fails {
            self.disk.fail_sync("Input/output error", 0, dice);
        } else {
            self.disk.finish_sync(0);
        }
    }

    /// The records that a finished sync made durable.
    pub fn poll_sync(&mut self) -> Result<Option<Vec<Record>>, WalError> {
        let done = self.wal_mut().poll_sync()?;
        Ok(done.map(|done| self.shadow.make_durable(done.position.0 as usize, &self.lost)))
    }

    /// Whether there is no room for values; `retry`: look for some.
    pub fn is_full(&mut self, retry: bool) -> Result<bool, WalError> {
        self.wal_mut().is_full(retry)
    }

    /// No segment can be created, or they can again.
    pub fn fill(&mut self, full: bool) {
        self.disk.set_full(full);
    }

    /// Damages the log while its process is down, and says how; where recovery is able to see it. What
    /// was appended last, and nothing behind it, may be lost unseen. If `may_lose` says no to the slots that
    /// would be in doubt, nothing happens.
    pub fn damage(
        &mut self,
        dice: &mut StdRng,
        may_lose: &dyn Fn(&BTreeSet<Slot>) -> bool,
    ) -> Option<String> {
        if dice.random_range(0..6) == 0 {
            // The other copy must be whole until the node has repaired this one.
            if std::mem::replace(&mut self.meta_is_spoiled, true) {
                return None;
            }
            return self.disk.damage_meta(dice).map(|copy| format!("copy {copy} of meta"));
        }
        if std::mem::replace(&mut self.is_damaged, true) {
            // What proves that something was lost must not be lost next.
            return None;
        }
        let before = self.disk.copy_cached();
        let durable = self.shadow.durable() as u64;
        let damage = self.disk.damage(Place::Provable, durable, dice)?;
        self.keep_if(&damage, before, may_lose)
    }

    /// After a loss of power: puts a segment back as it was when this was last called, where recovery is
    /// able to see that it is old.
    pub fn put_back_old_segment(
        &mut self,
        dice: &mut StdRng,
        may_lose: &dyn Fn(&BTreeSet<Slot>) -> bool,
    ) -> Option<String> {
        let segments = self.disk.counters().segments_created.max(1);
        let number = dice.random_range(1..=segments);
        let old = std::mem::replace(&mut self.old, self.disk.copy_segment(number))?;
        let before = self.disk.copy_cached();
        let damage = self.disk.restore_segment(&old, self.shadow.durable() as u64)?;
        self.keep_if(&damage, before, may_lose)
    }

    /// Segments that were made of truncated ones so far.
    pub fn reused_segments(&self) -> u64 {
        self.disk.counters().segments_reused
    }

    fn keep_if(
        &mut self,
        damage: &Damage,
        before: Vec<SegmentCopy>,
        may_lose: &dyn Fn(&BTreeSet<Slot>) -> bool,
    ) -> Option<String> {
        let mut lost = self.lost.clone();
        lost.extend(&damage.lost);
        // What was put back may be older than an earlier damage.
        lost.retain(|it| !damage.left.contains(it));
        if damage.provable && may_lose(&self.shadow.slots_in_doubt(&lost)) {
            self.lost = lost;
            return Some(damage.to_string());
        }
        self.disk.put_back(before);
        None
    }
}
