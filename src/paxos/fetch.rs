//! The fetch of a snapshot: chunk after chunk from a peer, to where this node's log begins anew.
//!
//! It pulls: a few requests are in flight, each for one chunk, and each answer leads to the next request.
//! So whoever serves decides how fast, and what comes is in order. It holds no bytes: they go to the
//! caller as they come, who says when they are kept, so that a slow disk slows the requests down. After a broken connection, a change of peer or a restart it goes on behind
//! what is there. Peers that have the same snapshot (`SnapshotId`) have the same bytes.
//!
//! Liveness only: whether the bytes are right is judged when all of them are there, by whoever decodes
//! them.

use std::sync::Arc;

use crate::limits;

use super::effects::{Effects, Receive};
use super::ids::NodeId;
use super::message::{Message, SnapshotId};

#[derive(Clone, Debug)]
pub struct Fetch {
    snapshot: SnapshotId,
    /// Who serves it to us; nobody, until a peer offers it again.
    source: Option<NodeId>,
    stage: Stage,
    chunk_size: usize,
    /// Ticks since something came.
    quiet_ticks: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// The caller looks what an earlier attempt left behind.
    Opening,
    /// All bytes below `kept` are kept by the caller, those below `have` have come, and those below
    /// `asked_end` are asked for.
    Receiving { kept: u64, have: u64, asked_end: u64 },
    /// All is there; the caller checks and installs it.
    Installing,
}

impl Fetch {
    /// `chunk_size`: bytes of one chunk.
    pub fn begin(
        snapshot: SnapshotId,
        source: NodeId,
        chunk_size: usize,
        fx: &mut Effects,
    ) -> Fetch {
        assert!(0 < chunk_size && chunk_size <= limits::SNAPSHOT_CHUNK_SIZE_MAX);
        fx.receive(Receive::Begin(snapshot));
        Fetch { snapshot, source: Some(source), stage: Stage::Opening, chunk_size, quiet_ticks: 0 }
    }

    pub fn snapshot(&self) -> SnapshotId {
        self.snapshot
    }

    pub fn source(&self) -> Option<NodeId> {
        self.source
    }

    pub fn is_installing(&self) -> bool {
        self.stage == Stage::Installing
    }

    /// The caller keeps the first `size` bytes of the snapshot: from an earlier attempt, or written now.
    pub fn on_part(&mut self, snapshot: SnapshotId, size: u64, fx: &mut Effects) {
        if snapshot != self.snapshot {
            return;
        }
        match &mut self.stage {
            Stage::Opening => {
                let kept = size.min(snapshot.size);
                self.stage = Stage::Receiving { kept, have: kept, asked_end: kept };
            }
            Stage::Receiving { kept, have, .. } => *kept = size.clamp(*kept, *have),
            Stage::Installing => return,
        }
        self.go_on(fx);
    }

    /// A peer has this snapshot: it is pulled from there now, behind what has come already.
    pub fn on_source(&mut self, source: NodeId, fx: &mut Effects) {
        self.source = Some(source);
        self.quiet_ticks = 0;
        if let Stage::Receiving { have, asked_end, .. } = &mut self.stage {
            *asked_end = *have;
            self.go_on(fx);
        }
    }

    pub fn on_peer_down(&mut self, peer: NodeId) {
        self.source.take_if(|source| *source == peer);
    }

    pub fn on_chunk(
        &mut self,
        snapshot: SnapshotId,
        offset: u64,
        bytes: Arc<[u8]>,
        fx: &mut Effects,
    ) {
        let Stage::Receiving { have, asked_end, .. } = &mut self.stage else { return };
        // Another's, a copy, or one behind a gap.
        if snapshot != self.snapshot || offset != *have {
            return;
        }
        *have += bytes.len() as u64;
        *asked_end = (*asked_end).max(*have);
        assert!(*have <= snapshot.size, "wire lets no chunk beyond the end in");
        self.quiet_ticks = 0;
        fx.receive(Receive::Chunk { snapshot, offset, bytes });
    }

    /// A tick has passed: whether the fetch needs a source, the last one being gone or silent for
    /// `patience_ticks`.
    pub fn on_tick(&mut self, patience_ticks: u32) -> bool {
        if !matches!(self.stage, Stage::Receiving { .. }) {
            // Our own disk is at work, or our own processor.
            return false;
        }
        self.quiet_ticks += 1;
        self.source.is_none() || patience_ticks <= self.quiet_ticks
    }

    /// Asks for what may be in flight; or, with all there, has it installed.
    fn go_on(&mut self, fx: &mut Effects) {
        let (snapshot, size) = (self.snapshot, self.chunk_size as u64);
        let Stage::Receiving { kept, asked_end, .. } = &mut self.stage else { return };
        if *kept == snapshot.size {
            self.stage = Stage::Installing;
            fx.receive(Receive::Install(snapshot));
            return;
        }
        let Some(source) = self.source else { return };
        let window_end = *kept + size * limits::SNAPSHOT_CHUNKS_IN_FLIGHT as u64;
        while *asked_end < snapshot.size && *asked_end + size <= window_end {
            let (offset, size) = (*asked_end, size.min(snapshot.size - *asked_end));
            *asked_end += size;
            let size = u32::try_from(size).expect("bounded by SNAPSHOT_CHUNK_SIZE_MAX");
            fx.send(source, Message::SnapshotRequest { snapshot, offset, size });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ids::Slot;
    use super::*;

    const SNAPSHOT: SnapshotId = SnapshotId { slot: Slot(9), size: 95, checksum: 7 };

    fn requests(fx: &mut Effects) -> Vec<(u16, u64, u32)> {
        let sent = fx.sends.drain(..).map(|(to, message)| match message {
            Message::SnapshotRequest { snapshot: SNAPSHOT, offset, size } => (to.0, offset, size),
            other => panic!("unexpected {other:?}"),
        });
        sent.collect()
    }

    /// A chunk comes, and is kept at once.
    fn chunk(fetch: &mut Fetch, offset: u64, size: usize, fx: &mut Effects) {
        let before = fx.receives.len();
        fetch.on_chunk(SNAPSHOT, offset, vec![0; size].into(), fx);
        if before < fx.receives.len() {
            fetch.on_part(SNAPSHOT, offset + size as u64, fx);
        }
    }

    fn begun() -> (Fetch, Effects) {
        let mut fx = Effects::new(NodeId(1));
        let fetch = Fetch::begin(SNAPSHOT, NodeId(2), 10, &mut fx);
        assert_eq!(fx.receives, [Receive::Begin(SNAPSHOT)]);
        fx.receives.clear();
        (fetch, fx)
    }

    /// A window of chunks is asked for, then one for each that comes, until all are there.
    #[test]
    fn asks_for_each_chunk_once() {
        let (mut fetch, mut fx) = begun();
        assert_eq!(requests(&mut fx), []);
        fetch.on_part(SNAPSHOT, 0, &mut fx);
        let window = limits::SNAPSHOT_CHUNKS_IN_FLIGHT as u64;
        let mut asked = requests(&mut fx);
        assert_eq!(asked.len() as u64, window);
        for offset in (0..90).step_by(10) {
            chunk(&mut fetch, offset, 10, &mut fx);
            // A copy leads to nothing.
            chunk(&mut fetch, offset, 10, &mut fx);
            asked.append(&mut requests(&mut fx));
        }
        assert!(!fetch.is_installing());
        chunk(&mut fetch, 90, 5, &mut fx);
        assert!(fetch.is_installing());
        let all: Vec<_> = (0..10).map(|i| (2, i * 10, if i == 9 { 5 } else { 10 })).collect();
        assert_eq!(asked, all);
        assert_eq!(fx.receives.len(), 11);
        assert_eq!(fx.receives[10], Receive::Install(SNAPSHOT));
    }

    /// A chunk was lost with the connection: what comes behind the gap is not taken, and the next source
    /// is asked from the gap on.
    #[test]
    fn goes_on_behind_what_is_there() {
        let (mut fetch, mut fx) = begun();
        fetch.on_part(SNAPSHOT, 40, &mut fx);
        chunk(&mut fetch, 40, 10, &mut fx);
        chunk(&mut fetch, 60, 10, &mut fx);
        assert_eq!(fx.receives.len(), 1);
        requests(&mut fx);
        fetch.on_peer_down(NodeId(2));
        assert!(fetch.on_tick(3));
        fetch.on_source(NodeId(3), &mut fx);
        assert!(!fetch.on_tick(3));
        assert_eq!(requests(&mut fx)[0], (3, 50, 10));
    }

    /// All of it had come before the restart.
    #[test]
    fn nothing_is_asked_for_when_all_is_there() {
        let (mut fetch, mut fx) = begun();
        fetch.on_part(SNAPSHOT, 95, &mut fx);
        assert!(fetch.is_installing() && requests(&mut fx).is_empty());
        assert_eq!(fx.receives, [Receive::Install(SNAPSHOT)]);
    }

    /// What has come and is not kept yet counts as in flight: a disk that stalls is not sent more.
    #[test]
    fn no_more_is_asked_for_than_is_kept() {
        let (mut fetch, mut fx) = begun();
        fetch.on_part(SNAPSHOT, 0, &mut fx);
        let asked = requests(&mut fx).len();
        assert_eq!(asked, limits::SNAPSHOT_CHUNKS_IN_FLIGHT);
        for offset in 0..asked as u64 {
            fetch.on_chunk(SNAPSHOT, 10 * offset, vec![0; 10].into(), &mut fx);
        }
        assert_eq!(requests(&mut fx), []);
        fetch.on_part(SNAPSHOT, 20, &mut fx);
        assert_eq!(requests(&mut fx).len(), 2);
    }

    /// A silent source is noticed; one that is slow but speaks is not taken for silent.
    #[test]
    fn a_silent_source_is_noticed() {
        let (mut fetch, mut fx) = begun();
        fetch.on_part(SNAPSHOT, 0, &mut fx);
        assert!(!fetch.on_tick(2));
        chunk(&mut fetch, 0, 10, &mut fx);
        assert!(!fetch.on_tick(2));
        assert!(fetch.on_tick(2));
    }
}
