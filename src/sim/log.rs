//! A node's log: the real one, on its disk, and beside it a shadow that it is held against.

use rand::RngExt;
use rand::rngs::StdRng;

use crate::paxos::{NodeId, Record, Recovered};
use crate::wal::{Identity, Options, Wal, WalError};
use crate::wire::ClusterId;

use super::disk::{Loss, Mount, Place, SegmentCopy, SimDisk};
use super::shadow::Shadow;

pub struct Log {
    pub shadow: Shadow,
    disk: SimDisk,
    /// While the process runs.
    wal: Option<Wal<Mount>>,
    identity: Identity,
    options: Options,
    /// Recovery must see that something is damaged, and refuse.
    spoiled: bool,
    /// One copy of `meta` is damaged.
    meta_is_spoiled: bool,
    /// The power goes in the next recovery, after so many changes of the disk.
    recovery_ends_after: Option<u32>,
    /// A segment as it was once.
    old: Option<SegmentCopy>,
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
            identity: Identity { cluster: ClusterId(7), node },
            options: Options { segment_size, sync: true },
            spoiled: false,
            meta_is_spoiled: false,
            recovery_ends_after: None,
            old: None,
        }
    }

    /// The process starts.
    ///
    /// # Panics
    /// If what was durable is not there, or the log refuses what is sound or takes what is not.
    pub fn open(&mut self, dice: &mut StdRng) -> Result<Opened, WalError> {
        // (A damaged log may lose with its tail what proves the damage.)
        let recovery_ends_after = self.recovery_ends_after.take().filter(|_| !self.spoiled);
        if let Some(changes) = recovery_ends_after {
            self.disk.fail_after(changes);
            if self.mount().is_err() {
                self.disk.crash(Loss::draw(dice), dice);
            }
            self.wal = None;
        }
        let recovered = match self.mount() {
            Ok(recovered) => recovered,
            Err(error) => {
                let expected = self.spoiled || matches!(error, WalError::DiskFull { .. });
                assert!(expected, "a sound log is refused: {error}");
                return Err(error);
            }
        };
        self.meta_is_spoiled = false;
        assert!(!self.spoiled, "a damaged log is taken for a sound one");
        let end = self.wal().end().0 as usize;
        let (durable, len) = (self.shadow.durable(), self.shadow.len());
        assert!(durable <= end, "of {durable} durable records {end} are left");
        assert!(end <= len, "{end} records are found, and {len} were appended");
        self.shadow.truncate(end);
        let newly_durable = self.shadow.make_durable(end);
        assert_eq!(recovered, self.shadow.recover(), "the log reads otherwise than it was written");
        Ok(Opened { recovered, newly_durable })
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

    pub fn wal(&self) -> &Wal<Mount> {
        self.wal.as_ref().expect("the process runs")
    }

    fn wal_mut(&mut self) -> &mut Wal<Mount> {
        self.wal.as_mut().expect("the process runs")
    }

    /// Whether a sync is in flight now.
    pub fn start_sync(&mut self) -> Result<bool, WalError> {
        self.wal_mut().start_sync()
    }

    pub fn is_spoiled(&self) -> bool {
        self.spoiled
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
        Ok(done.map(|done| self.shadow.make_durable(done.position.0 as usize)))
    }

    /// No segment can be created, or they can again.
    pub fn fill(&mut self, full: bool) {
        self.disk.set_full(full);
    }

    /// Damages the log while its process is down, and says how; where recovery is able to see it. What
    /// was appended last, and nothing behind it, may be lost unseen.
    pub fn damage(&mut self, dice: &mut StdRng) -> Option<String> {
        if dice.random_range(0..6) == 0 {
            // The other copy must be whole until the node has repaired this one.
            if std::mem::replace(&mut self.meta_is_spoiled, true) {
                return None;
            }
            return self.disk.damage_meta(dice).map(|copy| format!("copy {copy} of meta"));
        }
        let damage = self.disk.damage(Place::Provable, dice)?;
        self.spoiled |= damage.provable;
        Some(damage.to_string())
    }

    /// After a loss of power: puts a segment back as it was when this was last called, where recovery is
    /// able to see that it is old.
    pub fn put_back_old_segment(&mut self, dice: &mut StdRng) -> Option<String> {
        let segments = self.disk.counters().segments_created.max(1);
        let number = dice.random_range(1..=segments);
        let old = std::mem::replace(&mut self.old, self.disk.copy_segment(number));
        let old = old?;
        let now = self.disk.copy_segment(old.number)?;
        let damage = self.disk.restore_segment(&old)?;
        if damage.provable {
            self.spoiled = true;
        } else if !damage.lost.is_empty() {
            self.disk.restore_segment(&now);
            return None;
        }
        Some(damage.to_string())
    }
}
