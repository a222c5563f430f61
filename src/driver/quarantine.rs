//! A replica whose state is wrong answers nobody with it, and gets another one.
//!
//! That it is wrong it hears from others (`checkpoints`), or finds when it writes a snapshot. It then serves
//! no client and does not lead, but goes on voting: what an acceptor promises and accepts stands in its
//! log and has nothing to do with the state. A thread fetches a snapshot from another replica, as a backup
//! would. The log from there on is this node's own, and replayed.

use std::fs::{self, File};
use std::io::BufReader;
use std::net::SocketAddr;
use std::time::Duration;

use crate::client::Client;
use crate::limits::QUARANTINE_RETRY_US;
use crate::paxos::{Health, Now, Slot, StateStanding};
use crate::snapshot::{self, Loaded, SnapshotDir};
use crate::trace;
use crate::wire::ClusterId;

use super::ServeError;
use super::checkpoints::{Checkpoints, Verdict};
use super::helper::Helper;
use super::replay::replay_into;
use super::server::Server;

/// How long the fetching thread waits for a snapshot, and for each part of it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Quarantine {
    pub checkpoints: Checkpoints,
    fetcher: Helper<Vec<SocketAddr>, Result<Loaded, String>>,
    stage: Stage,
    /// The last checkpoint that the log said is disputed.
    disputed: Slot,
}

enum Stage {
    /// Nothing is known against the state.
    Sound,
    /// A snapshot is on its way.
    Fetching,
    /// It could not be had; it is tried again then.
    Failed { retry_us: u64 },
    /// It is here, and is put in place once this node's log reaches over it.
    Fetched(Box<Loaded>),
}

impl Quarantine {
    /// `checkpoints`: of the state that the node begins with.
    pub fn start(
        dir: SnapshotDir,
        cluster: ClusterId,
        checkpoints: Checkpoints,
        wake: impl Fn() + Send + 'static,
    ) -> std::io::Result<Quarantine> {
        let fetch = move |nodes: Vec<SocketAddr>| fetch(&nodes, &dir, cluster);
        let fetcher = Helper::start("snapshot-fetch", wake, fetch)?;
        Ok(Quarantine { checkpoints, fetcher, stage: Stage::Sound, disputed: Slot(0) })
    }

    pub fn is_on(&self) -> bool {
        !matches!(self.stage, Stage::Sound)
    }
}

/// Fetches a snapshot from one of these nodes and makes it this node's only one.
fn fetch(nodes: &[SocketAddr], dir: &SnapshotDir, cluster: ClusterId) -> Result<Loaded, String> {
    if nodes.is_empty() {
        return Err("there is no other replica".to_owned());
    }
    dir.remove_spare().map_err(|error| error.to_string())?;
    let part = dir.part_path(Slot(0));
    let file = File::options().write(true).create(true).truncate(true).open(&part);
    let file = file.map_err(|error| format!("cannot create {}: {error}", part.display()))?;
    let mut client = Client::new(nodes, FETCH_TIMEOUT);
    let (id, _) =
        client.fetch_snapshot(&file, &mut |_, _| {}).map_err(|error| error.to_string())?;
    let read = File::open(&part).map_err(|error| error.to_string())?;
    let loaded = snapshot::load(&mut BufReader::new(read)).map_err(|error| error.to_string())?;
    if loaded.summary.id() != id || loaded.summary.head.cluster != cluster {
        return Err("the node sent another snapshot than it said".to_owned());
    }
    fs::rename(&part, dir.part_path(id.slot)).map_err(|error| error.to_string())?;
    dir.complete(id.slot, &file).map_err(|error| error.to_string())?;
    dir.remove_others(id.slot).map_err(|error| error.to_string())?;
    Ok(loaded)
}

impl Server {
    /// The state behind `slot` was applied.
    pub(super) fn note_checkpoint(&mut self, slot: Slot) {
        let store = &self.store;
        if self.quarantine.checkpoints.on_applied(slot, || store.digest()) {
            self.tell_state();
        }
    }

    /// What heartbeats say of snapshots and digests.
    pub(super) fn tell_state(&mut self) {
        let snapshot = self.snapshots.newest().map_or(Slot(0), |newest| newest.slot);
        let newest = self.quarantine.checkpoints.newest();
        let checkpoint = newest.filter(|_| !self.quarantine.is_on());
        self.node.set_standing_of_state(StateStanding { snapshot, checkpoint });
    }

    /// Compares this replica's state with what others have said of theirs.
    pub(super) fn compare_states(&mut self, now: Now) {
        let me = self.config.node;
        let peers: Vec<_> = self.links.keys().copied().filter(|node| *node != me).collect();
        for peer in peers {
            if let Some(told) = self.node.heard(peer).and_then(|it| it.state.checkpoint) {
                self.quarantine.checkpoints.on_told(peer, told);
            }
        }
        if self.quarantine.is_on() {
            return;
        }
        match self.quarantine.checkpoints.verdict() {
            Verdict::Sound => {}
            Verdict::Disputed(slot) | Verdict::OtherWrong(slot, _)
                if slot <= self.quarantine.disputed => {}
            Verdict::OtherWrong(slot, node) => {
                self.quarantine.disputed = slot;
                log::warn!("{node} has another state behind slot {slot} than others and this one");
            }
            Verdict::Disputed(slot) => {
                self.quarantine.disputed = slot;
                log::error!(
                    "replicas differ behind slot {slot}, and it cannot be told which is wrong: \
                     compare `loggos status --json` at all of them"
                );
            }
            Verdict::Wrong(slot) => {
                self.begin_quarantine(now, &format!("others agree on another behind slot {slot}"));
            }
        }
    }

    pub(super) fn begin_quarantine(&mut self, now: Now, why: &str) {
        if self.quarantine.is_on() {
            return;
        }
        log::error!("quarantined: the state of this replica is wrong ({why}); fetching another");
        self.snapshots.distrust();
        self.quarantine.stage = Stage::Failed { retry_us: now.mono_us };
        self.node.set_health(Health { quarantined: true, ..self.node.health() });
        self.node.hand_over(&mut self.fx);
        self.tell_state();
    }

    /// Carries on with getting another state.
    pub(super) fn look_after_quarantine(&mut self, now: Now) -> Result<(), ServeError> {
        match &self.quarantine.stage {
            Stage::Sound => {}
            Stage::Failed { retry_us } if now.mono_us < *retry_us => {}
            Stage::Failed { .. } => {
                let others = self.config.nodes.iter();
                let others =
                    others.filter(|node| node.id != self.config.node && node.roles.replica);
                self.quarantine.fetcher.hand_over(others.map(|node| node.client_address).collect());
                self.quarantine.stage = Stage::Fetching;
            }
            Stage::Fetching => match self.quarantine.fetcher.poll() {
                None => {}
                Some(Ok(loaded)) => self.quarantine.stage = Stage::Fetched(Box::new(loaded)),
                Some(Err(why)) => {
                    log::warn!(
                        "no snapshot from another replica: {why}; trying again (a restart makes the \
                         state from this node's own snapshot and log)"
                    );
                    let retry_us = now.mono_us + QUARANTINE_RETRY_US;
                    self.quarantine.stage = Stage::Failed { retry_us };
                }
            },
            Stage::Fetched(loaded) if self.store.applied() < loaded.store.applied() => {}
            Stage::Fetched(_) => self.end_quarantine()?,
        }
        Ok(())
    }

    /// Puts the fetched state in the place of the wrong one.
    fn end_quarantine(&mut self) -> Result<(), ServeError> {
        let stage = std::mem::replace(&mut self.quarantine.stage, Stage::Sound);
        let Stage::Fetched(loaded) = stage else { unreachable!("the caller has looked") };
        let Loaded { store, summary } = *loaded;
        let (slot, end) = (store.applied(), self.store.applied().next());
        let begun_ns = trace::monotonic_ns();
        let checkpoints = &mut self.quarantine.checkpoints;
        checkpoints.forget_own();
        if self.node.log_begin() <= slot.next() {
            self.store = replay_into(store, &self.wal, end, &mut |done| {
                checkpoints.on_applied(done.slot, || done.store.digest());
            })?;
            self.snapshots.replace(summary.id());
            self.on_snapshots_changed()?;
        }
        // Else this node has lagged so far meanwhile that the log jumped: its state is another one already.
        self.node.set_health(Health { quarantined: false, ..self.node.health() });
        self.tell_state();
        let ms = (trace::monotonic_ns() - begun_ns) / 1_000_000;
        log::info!("out of quarantine: the state is from the snapshot of slot {slot}, {ms} ms");
        Ok(())
    }
}
