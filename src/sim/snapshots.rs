//! A node's snapshots: those on its disk, the one that is being written or checked, and what has come of
//! one from a peer.
//!
//! Their bytes are real, made by `snapshot::write` and read by `snapshot::load`. A model are the files: a
//! snapshot is durable at once when its writing ends, and not there at all before. It may be damaged while
//! no process has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::paxos::{Slot, SnapshotId};
use crate::snapshot::files::KEPT;
use crate::snapshot::{self, Loaded, SnapshotError, Summary};
use crate::store::Frozen;
use crate::wal::LogPosition;
use crate::wire::ClusterId;

/// The cluster whose snapshots these are.
pub const CLUSTER: ClusterId = ClusterId(7);

pub struct Snapshots {
    cluster: ClusterId,
    /// The files, the newest last.
    durable: BTreeMap<Slot, File>,
    /// Those that peers pull: they can be read for as long as they are asked for.
    open: BTreeMap<SnapshotId, Open>,
    work: Option<Work>,
    part: Option<Part>,
    /// Works begun, over all lives.
    begun: u64,
    /// One is to be taken, whether it is due or not.
    pub is_asked_for: bool,
}

struct File {
    id: SnapshotId,
    /// Made of this node's own state, and not another's.
    is_own: bool,
    bytes: Arc<[u8]>,
}

struct Open {
    bytes: Arc<[u8]>,
    /// When a peer asked for a part of it last.
    asked_us: u64,
}

/// What a helper thread does.
pub struct Work {
    pub number: u64,
    pub what: What,
}

pub enum What {
    /// The state, and the configurations that the log up to there has; and where the log must be durable
    /// up to before the snapshot may be.
    Take(Box<Frozen>, Arc<[u8]>, LogPosition),
    /// Checked, and on its way to the disk.
    Install(SnapshotId, Box<Loaded>),
}

/// Bytes from a peer. The file is as long as they are, and those behind `synced` may be lost with the
/// power.
struct Part {
    id: SnapshotId,
    bytes: Vec<u8>,
    synced: usize,
}

impl Snapshots {
    pub fn new(cluster: ClusterId) -> Snapshots {
        Snapshots {
            cluster,
            durable: BTreeMap::new(),
            open: BTreeMap::new(),
            work: None,
            part: None,
            begun: 0,
            is_asked_for: false,
        }
    }

    /// What peers can be given, the newest last.
    pub fn ids(&self) -> Vec<SnapshotId> {
        let durable = self.durable.values().map(|file| file.id);
        let all: BTreeMap<Slot, SnapshotId> =
            self.open.keys().copied().chain(durable).map(|id| (id.slot, id)).collect();
        all.into_values().collect()
    }

    /// The slots of those on the disk, ascending.
    pub fn slots(&self) -> Vec<Slot> {
        self.durable.keys().copied().collect()
    }

    /// The last slot in the newest; 0 if there is none.
    pub fn newest(&self) -> Slot {
        self.durable.keys().next_back().copied().unwrap_or(Slot(0))
    }

    /// Whether the newest was made of this node's own state.
    pub fn newest_is_own(&self) -> bool {
        self.durable.values().next_back().is_some_and(|file| file.is_own)
    }

    /// Reads the newest that can be used, as a start does, and lets newer ones go.
    pub fn load_newest(&mut self) -> Result<Option<Loaded>, SnapshotError> {
        let mut slots = self.slots();
        slots.reverse();
        let loaded = snapshot::load_newest(&slots, self.cluster, |slot| {
            snapshot::load(&mut &self.durable[&slot].bytes[..])
        });
        let usable = loaded.as_ref().ok().and_then(Option::as_ref);
        let newest = usable.map_or(Slot(0), |loaded| loaded.store.applied());
        self.durable.retain(|slot, _| *slot <= newest);
        loaded
    }

    /// Flips a bit of the newest one. There must be another, or nothing that is lost with it; see
    /// `load_newest`.
    pub fn damage(&mut self, dice: &mut StdRng) -> Option<Slot> {
        let (slot, file) = self.durable.iter_mut().next_back()?;
        let mut bytes = file.bytes.to_vec();
        let at = dice.random_range(0..bytes.len());
        bytes[at] ^= 1 << dice.random_range(0..8);
        file.bytes = bytes.into();
        Some(*slot)
    }

    pub fn is_working(&self) -> bool {
        self.work.is_some()
    }

    /// A helper thread begins; the number tells when it ends.
    pub fn begin(&mut self, what: What) -> u64 {
        assert!(!self.is_working());
        self.begun += 1;
        self.work = Some(Work { number: self.begun, what });
        self.begun
    }

    /// Whether the work of this number may not end before the log is durable further on.
    pub fn waits_for(&self, number: u64, durable: LogPosition) -> bool {
        let work = self.work.as_ref().filter(|work| work.number == number);
        work.is_some_and(|work| matches!(work.what, What::Take(_, _, end) if durable < end))
    }

    /// The work of this number has ended, unless it was given up.
    pub fn end(&mut self, number: u64) -> Option<What> {
        self.work.take_if(|work| work.number == number).map(|work| work.what)
    }

    /// The state becomes a durable snapshot, if it is what it should be.
    pub fn take(
        &mut self,
        frozen: &Frozen,
        configurations: Arc<[u8]>,
    ) -> Result<Summary, SnapshotError> {
        let mut bytes = Vec::new();
        let summary = snapshot::write(frozen, self.cluster, configurations, &mut bytes)?;
        self.keep(summary.id(), bytes.into(), true);
        while KEPT < self.durable.len() {
            self.durable.pop_first();
        }
        Ok(summary)
    }

    fn keep(&mut self, id: SnapshotId, bytes: Arc<[u8]>, is_own: bool) {
        self.durable.insert(id.slot, File { id, is_own, bytes });
    }

    /// Whatever a helper thread does is of no use any more.
    pub fn abandon(&mut self) {
        self.work = None;
    }

    /// What is being made of the state is of no use: the state is wrong.
    pub fn distrust(&mut self) {
        self.work.take_if(|work| matches!(work.what, What::Take(..)));
    }

    /// What came from a peer is whole, checked, and durable. Between those before and it the log has a gap.
    pub fn install(&mut self, id: SnapshotId) {
        let part = self.part.take_if(|part| part.id == id).expect("it was just checked");
        self.durable.retain(|slot, _| id.slot < *slot);
        self.keep(id, part.bytes.into(), false);
    }

    /// The bytes of one, for whom asks as a client.
    pub fn bytes_of(&self, slot: Slot) -> Option<Arc<[u8]>> {
        Some(Arc::clone(&self.durable.get(&slot)?.bytes))
    }

    /// One that was fetched is durable, and those of `wrong` go.
    pub fn replace(&mut self, id: SnapshotId, bytes: Arc<[u8]>, wrong: &[Slot]) {
        self.durable.retain(|slot, _| !wrong.contains(slot));
        self.keep(id, bytes, false);
    }

    /// One that was fetched came too late to be of use.
    pub fn remove(&mut self, slot: Slot) {
        self.durable.remove(&slot);
    }

    /// Closes those that nobody has asked for since `since_us`.
    pub fn let_go(&mut self, since_us: u64) {
        self.open.retain(|_, open| since_us <= open.asked_us);
    }

    /// A part of a snapshot, if it is still there.
    pub fn part_of(
        &mut self,
        id: SnapshotId,
        offset: u64,
        size: u32,
        now_us: u64,
    ) -> Option<Arc<[u8]>> {
        if !self.open.contains_key(&id) {
            let bytes = Arc::clone(&self.durable.get(&id.slot).filter(|it| it.id == id)?.bytes);
            self.open.insert(id, Open { bytes, asked_us: now_us });
        }
        let open = self.open.get_mut(&id).expect("just put there");
        open.asked_us = now_us;
        let offset = offset as usize;
        Some(Arc::from(&open.bytes[offset..offset + size as usize]))
    }

    // From a peer.

    /// How much is there of it.
    pub fn begin_part(&mut self, id: SnapshotId) -> u64 {
        self.part.take_if(|part| part.id != id);
        let part = self.part.get_or_insert(Part { id, bytes: Vec::new(), synced: 0 });
        part.bytes.len() as u64
    }

    /// Keeps a chunk and says how much is there now.
    pub fn on_chunk(
        &mut self,
        id: SnapshotId,
        offset: u64,
        bytes: &[u8],
        dice: &mut StdRng,
    ) -> u64 {
        let part = self.part.as_mut().filter(|part| part.id == id).expect("it was begun");
        assert_eq!(part.bytes.len() as u64, offset, "chunks come in order");
        part.bytes.extend_from_slice(bytes);
        if dice.random_range(0..3) == 0 {
            part.synced = part.bytes.len();
        }
        part.bytes.len() as u64
    }

    /// Checks what has come. What is no good is dropped.
    pub fn check_part(&mut self, id: SnapshotId) -> Result<Loaded, SnapshotError> {
        let part = self.part.as_ref().filter(|part| part.id == id).expect("it was begun");
        let loaded = snapshot::load(&mut &part.bytes[..]);
        match &loaded {
            Ok(loaded) => assert_eq!(loaded.summary.id(), id, "it is what was offered"),
            Err(_) => self.part = None,
        }
        loaded
    }

    pub fn give_up(&mut self, id: SnapshotId) {
        self.part.take_if(|part| part.id == id);
        self.work.take_if(|work| matches!(work.what, What::Install(it, _) if it == id));
    }

    /// The process has ended.
    pub fn on_end(&mut self, power: bool, dice: &mut StdRng) {
        self.work = None;
        self.open.clear();
        if let Some(part) = self.part.as_mut().filter(|_| power) {
            // The file is as long as it was, or shorter, and sectors that were not synced read as zeros.
            let len = dice.random_range(part.synced..=part.bytes.len());
            part.bytes.truncate(len);
            for sector in part.bytes[part.synced..].chunks_mut(512) {
                if dice.random_bool(0.3) {
                    sector.fill(0);
                }
            }
        }
    }
}
