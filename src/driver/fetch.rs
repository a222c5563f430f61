//! Where a quarantined replica gets another state from (`quarantine`), and how it is put in place.

use std::fs::{self, File};
use std::io::{self, BufReader};
use std::net::SocketAddr;
use std::time::Duration;

use crate::client::Client;
use crate::paxos::{Health, Now, Slot, StateStanding};
use crate::snapshot::{self, Loaded, SnapshotDir};
use crate::trace;
use crate::wire::ClusterId;

use super::ServeError;
use super::checkpoints::Verdict;
use super::helper::Helper;
use super::quarantine::{Due, is_of_use};
use super::server::Server;

/// How long the fetching thread waits for a snapshot, and for each part of it.
const FETCH_TIMEOUT: Duration = Duration::from_secs(60);

/// A thread that fetches snapshots.
pub type Fetcher = Helper<Wanted, Result<Loaded, String>>;

/// A snapshot is wanted from one of these nodes, in the place of those.
pub struct Wanted {
    nodes: Vec<SocketAddr>,
    wrong: Vec<Slot>,
    /// Where this node's log begins.
    log_begin: Slot,
}

pub fn start_fetcher(
    dir: SnapshotDir,
    cluster: ClusterId,
    wake: impl Fn() + Send + 'static,
) -> io::Result<Fetcher> {
    Helper::start("snapshot-fetch", wake, move |wanted| fetch(&wanted, &dir, cluster))
}

fn fetch(wanted: &Wanted, dir: &SnapshotDir, cluster: ClusterId) -> Result<Loaded, String> {
    if wanted.nodes.is_empty() {
        return Err("there is no other replica".to_owned());
    }
    dir.remove_spare().map_err(|error| error.to_string())?;
    let part = dir.part_path(Slot(0));
    let file = File::options().write(true).create(true).truncate(true).open(&part);
    let file = file.map_err(|error| format!("cannot create {}: {error}", part.display()))?;
    let mut client = Client::new(&wanted.nodes, FETCH_TIMEOUT);
    let (id, _) =
        client.fetch_snapshot(&file, &mut |_, _| {}).map_err(|error| error.to_string())?;
    let read = File::open(&part).map_err(|error| error.to_string())?;
    let loaded = snapshot::load(&mut BufReader::new(read)).map_err(|error| error.to_string())?;
    if loaded.summary.id() != id || loaded.summary.head.cluster != cluster {
        return Err("the node sent another snapshot than it said".to_owned());
    }
    if !is_of_use(id.slot, wanted.log_begin) {
        return Err(format!("it is of slot {}, and the log begins later", id.slot));
    }
    fs::rename(&part, dir.part_path(id.slot)).map_err(|error| error.to_string())?;
    dir.complete_instead(id.slot, &file, &wanted.wrong).map_err(|error| error.to_string())?;
    Ok(loaded)
}

impl Server {
    /// The state behind `slot` was applied.
    pub(super) fn note_checkpoint(&mut self, slot: Slot) {
        let store = &self.store;
        if self.quarantine.on_applied(slot, || store.digest()) {
            self.tell_state();
        }
    }

    /// What heartbeats say of snapshots and digests.
    pub(super) fn tell_state(&mut self) {
        let snapshot = self.snapshots.newest().map_or(Slot(0), |newest| newest.slot);
        let checkpoint = self.quarantine.told();
        self.node.set_standing_of_state(StateStanding { snapshot, checkpoint });
    }

    /// Compares this replica's state with what others have said of theirs.
    pub(super) fn compare_states(&mut self, now: Now) {
        let me = self.config.node;
        let peers: Vec<_> = self.links.keys().copied().filter(|node| *node != me).collect();
        for peer in peers {
            if let Some(told) = self.node.heard(peer).and_then(|it| it.state.checkpoint) {
                self.quarantine.on_told(peer, told);
            }
        }
        match self.quarantine.judge() {
            Verdict::Sound => {}
            Verdict::OtherWrong(slot, node) => {
                log::warn!("{node} has another state behind slot {slot} than others and this one");
            }
            Verdict::Disputed(slot) => {
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
        self.quarantine.begin(now);
        self.node.set_health(Health { quarantined: true, ..self.node.health() });
        self.node.hand_over(&mut self.fx);
        self.tell_state();
    }

    /// Carries on with getting another state.
    pub(super) fn look_after_quarantine(&mut self, now: Now) -> Result<(), ServeError> {
        if let Some(fetched) = self.fetcher.poll() {
            if let Err(why) = &fetched {
                log::warn!(
                    "no snapshot from another replica: {why}; trying again (a restart makes the \
                     state from this node's own snapshot and log)"
                );
            }
            self.quarantine.on_fetched(now, fetched.ok());
        }
        match self.quarantine.due(now, self.store.applied()) {
            Due::Nothing => {}
            Due::Fetch => {
                // As they are now: the file tells how the cluster began.
                let members = self.node.configurations().members().into_iter();
                let others =
                    members.filter(|(it, _)| it.node != self.config.node && it.roles.replica);
                let nodes = others.map(|(_, addresses)| addresses.client).collect();
                let (wrong, log_begin) = (self.snapshots.wrong(), self.node.log_begin());
                self.fetcher.hand_over(Wanted { nodes, wrong, log_begin });
            }
            Due::Replace(loaded) => self.end_quarantine(*loaded)?,
        }
        Ok(())
    }

    /// Puts the fetched state in the place of the wrong one.
    fn end_quarantine(&mut self, loaded: Loaded) -> Result<(), ServeError> {
        let Loaded { store, summary } = loaded;
        let (slot, end) = (store.applied(), self.store.applied().next());
        let begun_ns = trace::monotonic_ns();
        if is_of_use(slot, self.node.log_begin()) {
            self.store = self.quarantine.renewed(store, &self.wal, end, &mut |_| {})?;
            self.snapshots.replace(summary.id());
            self.on_snapshots_changed()?;
        } else {
            // This node has lagged so far since then that the log jumped: its state is another one already.
            self.snapshots.drop_fetched(slot)?;
        }
        self.node.set_health(Health { quarantined: false, ..self.node.health() });
        self.tell_state();
        let ms = (trace::monotonic_ns() - begun_ns) / 1_000_000;
        log::info!("out of quarantine: the state is from the snapshot of slot {slot}, {ms} ms");
        Ok(())
    }
}
