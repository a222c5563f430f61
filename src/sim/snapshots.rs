//! A node's snapshots: those on its disk, the one that is being written or checked, and what has come of
//! one from a peer.
//!
//! Their bytes are real, made by `snapshot::write` and read by `snapshot::load`. A model are the files: a
//! snapshot is durable at once when its writing ends, and not there at all before.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::RngExt;
use rand::rngs::StdRng;

use crate::paxos::{Slot, SnapshotId};
use crate::snapshot::{self, Loaded, SnapshotError, Summary};
use crate::store::Frozen;
use crate::wire::ClusterId;

/// Snapshots that are kept; older ones are only while a peer pulls them.
const KEPT: usize = 2;

pub const CLUSTER: ClusterId = ClusterId(7);

#[derive(Default)]
pub struct Snapshots {
    held: BTreeMap<SnapshotId, Held>,
    work: Option<Work>,
    part: Option<Part>,
    /// Works begun, over all lives.
    begun: u64,
}

struct Held {
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
    /// The state, and the configurations that the log up to there has.
    Take(Frozen, Arc<[u8]>),
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

fn id_of(summary: &Summary) -> SnapshotId {
    SnapshotId { slot: summary.head.slot, size: summary.size, checksum: summary.checksum }
}

impl Snapshots {
    /// What peers can be given, the newest last.
    pub fn ids(&self) -> Vec<SnapshotId> {
        self.held.keys().copied().collect()
    }

    /// The last slot in the newest; 0 if there is none.
    pub fn newest(&self) -> Slot {
        self.held.keys().next_back().map_or(Slot(0), |id| id.slot)
    }

    /// Reads the newest as a start does.
    pub fn load_newest(&self) -> Option<Loaded> {
        let (id, held) = self.held.last_key_value()?;
        let loaded = snapshot::load(&mut &held.bytes[..]).expect("what was durable is whole");
        assert_eq!(id_of(&loaded.summary), *id);
        Some(loaded)
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

    /// The work of this number has ended, unless it was given up.
    pub fn end(&mut self, number: u64) -> Option<What> {
        self.work.take_if(|work| work.number == number).map(|work| work.what)
    }

    /// The state becomes a durable snapshot.
    pub fn take(&mut self, frozen: &Frozen, configurations: Arc<[u8]>) -> Summary {
        let mut bytes = Vec::new();
        let summary = snapshot::write(frozen, CLUSTER, configurations, &mut bytes)
            .expect("memory takes everything");
        self.held.insert(id_of(&summary), Held { bytes: bytes.into(), asked_us: 0 });
        summary
    }

    /// Whatever a helper thread does is of no use any more.
    pub fn abandon(&mut self) {
        self.work = None;
    }

    /// What came from a peer is whole, checked, and durable.
    pub fn install(&mut self, id: SnapshotId) {
        let part = self.part.take_if(|part| part.id == id).expect("it was just checked");
        self.held.insert(id, Held { bytes: part.bytes.into(), asked_us: 0 });
    }

    /// Lets those go that are not kept and that nobody has asked for since `since_us`.
    pub fn let_go(&mut self, since_us: u64) {
        let kept: Vec<SnapshotId> = self.held.keys().rev().take(KEPT).copied().collect();
        self.held.retain(|id, held| kept.contains(id) || since_us <= held.asked_us);
    }

    /// A part of a snapshot, if it is still there.
    pub fn part_of(
        &mut self,
        id: SnapshotId,
        offset: u64,
        size: u32,
        now_us: u64,
    ) -> Option<Arc<[u8]>> {
        let held = self.held.get_mut(&id)?;
        held.asked_us = now_us;
        let offset = offset as usize;
        Some(Arc::from(&held.bytes[offset..offset + size as usize]))
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
            Ok(loaded) => assert_eq!(id_of(&loaded.summary), id, "it is what was offered"),
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
