//! A replica whose memory changes by itself, what it does when it finds out, and clients that fetch snapshots.
//!
//! Until it finds out, its answers may be wrong, and nobody can tell. So clients here hear nothing of what it
//! holds from the moment on at which its memory changes. Nor is it held against the oracle, until its state
//! is another one.

use std::sync::Arc;

use crate::driver::checkpoints::Verdict;
use crate::driver::quarantine::{Due, is_of_use};
use crate::paxos::{Health, NodeId, Slot, StateStanding};
use crate::snapshot;

use super::super::cluster::{Cluster, Happening};
use super::Input;

impl Cluster {
    /// A bit of a replica's memory changes, unless there is too little to find that by: another one that is
    /// wrong, or no others. False if nothing happened.
    pub fn corrupt(&mut self, id: NodeId) -> bool {
        let replicas = self.replicas();
        if !self.wrong().is_empty()
            || replicas.len() < 3
            || !replicas.contains(&id)
            || !self.is_running(id)
        {
            return false;
        }
        let host = self.host(id);
        if host.store.keys() == 0 || !host.is_replica {
            return false;
        }
        host.store.corrupt();
        self.on_wrong(id);
        true
    }

    /// A replica's state goes another way, as by a defect, and looks whole.
    pub fn derail(&mut self, id: NodeId) {
        self.host(id).store.derail();
        self.on_wrong(id);
    }

    fn on_wrong(&mut self, id: NodeId) {
        let host = self.host(id);
        host.is_wrong = true;
        self.coverage.corruptions += 1;
        self.note(|| format!("the state of {id} is wrong"));
    }

    /// The operator has a snapshot taken. A memory that has changed shows by that.
    pub fn ask_for_snapshot(&mut self, id: NodeId) {
        if self.is_running(id) {
            self.host(id).snapshots.is_asked_for = true;
            self.take_snapshot_if_due(id);
        }
    }

    /// What heartbeats say of snapshots and digests.
    pub(super) fn tell_state(&mut self, id: NodeId) {
        let host = self.host(id);
        let state =
            StateStanding { snapshot: host.snapshots.newest(), checkpoint: host.quarantine.told() };
        if let Some(node) = &mut host.node {
            node.set_standing_of_state(state);
        }
    }

    /// After each turn, as the driver does now and then.
    pub(super) fn look_after_quarantine(&mut self, id: NodeId) {
        let others = self.nodes();
        let host = self.host(id);
        let Some(node) = &host.node else { return };
        if !host.is_replica {
            return;
        }
        for other in others.into_iter().filter(|other| *other != id) {
            if let Some(told) = node.heard(other).and_then(|it| it.state.checkpoint) {
                host.quarantine.on_told(other, told);
            }
        }
        if let Verdict::Wrong(slot) = host.quarantine.judge() {
            self.coverage.outvoted += 1;
            self.begin_quarantine(id, &format!("others agree on another behind slot {slot}"));
        }
        let now_us = self.now_us;
        let host = self.host(id);
        match host.quarantine.due(host.now(now_us), host.store.applied()) {
            Due::Nothing => {}
            Due::Fetch => self.fetch_state(id),
            Due::Replace(loaded) => {
                let slot = loaded.store.applied();
                self.note(|| format!("{id} has the state behind slot {slot} from another"));
                self.end_quarantine(id, *loaded);
            }
        }
    }

    pub(super) fn begin_quarantine(&mut self, id: NodeId, why: &str) {
        let now_us = self.now_us;
        let host = self.hosts.get_mut(&id).expect("a member");
        if host.quarantine.is_on() {
            return;
        }
        assert!(host.is_wrong, "{id} is sound, and in quarantine: {why}");
        host.snapshots.distrust();
        host.wrong_snapshots = host.snapshots.slots();
        host.quarantine.begin(host.clock.read(now_us));
        let node = host.node.as_mut().expect("it runs");
        node.set_health(Health { quarantined: true, ..node.health() });
        self.coverage.quarantines += 1;
        self.note(|| format!("{id} is in quarantine: {why}"));
        self.tell_state(id);
        self.input(id, Input::HandOver);
    }

    /// Another replica is asked for a snapshot of all that it has applied, and some time from now it has come.
    fn fetch_state(&mut self, id: NodeId) {
        let life = self.hosts[&id].lives;
        let mut others = self.replicas();
        others.retain(|other| *other != id && self.is_linked(id, *other));
        let from = match others.len() {
            0 => id,
            len => others[self.draw((0, len as u64 - 1)) as usize],
        };
        let slot = self.hosts[&from].store.applied();
        if self.hosts[&from].snapshots.newest() < slot {
            self.ask_for_snapshot(from);
        }
        let in_us = self.draw(self.settings.dial_us) + 4 * self.draw(self.settings.sync_us);
        self.schedule(in_us, Happening::Fetched { node: id, life, from, slot });
    }

    pub(in crate::sim) fn on_fetched(&mut self, id: NodeId, life: u64, from: NodeId, slot: Slot) {
        let host = &self.hosts[&id];
        if !host.is_running() || host.lives != life {
            return;
        }
        if host.is_paused() {
            let again = Happening::Fetched { node: id, life, from, slot };
            return self.schedule(self.settings.election_timeout_us, again);
        }
        let bytes = self.backup(from, slot).filter(|_| from != id && self.is_linked(id, from));
        let log_begin = self.hosts[&id].node.as_ref().expect("it runs").log_begin();
        let loaded = bytes.and_then(|bytes| {
            let loaded = snapshot::load(&mut &bytes[..]).expect("its node can load it");
            if !is_of_use(loaded.store.applied(), log_begin) {
                return None;
            }
            let host = self.host(id);
            let wrong = std::mem::take(&mut host.wrong_snapshots);
            host.snapshots.replace(loaded.summary.id(), bytes, &wrong);
            Some(loaded)
        });
        self.coverage.fetches += u64::from(loaded.is_some());
        // What is on the disk is sound now; and the process may end before it is put in place.
        if self.ends_here(id, 8) {
            return;
        }
        let now_us = self.now_us;
        let host = self.host(id);
        host.quarantine.on_fetched(host.now(now_us), loaded);
        self.look_after_quarantine(id);
    }

    /// The bytes of the newest snapshot, for a client that wants one of this slot at least; `None` if there is
    /// none such, or nobody serves.
    pub fn backup(&self, id: NodeId, slot: Slot) -> Option<Arc<[u8]>> {
        let host = &self.hosts[&id];
        let serves = host.is_running() && !host.is_paused() && !host.is_quarantined();
        let newest = host.snapshots.newest();
        if serves && slot <= newest { host.snapshots.bytes_of(newest) } else { None }
    }

    fn end_quarantine(&mut self, id: NodeId, loaded: snapshot::Loaded) {
        let host = self.hosts.get_mut(&id).expect("a member");
        let (slot, end) = (loaded.store.applied(), host.applied_end);
        self.checker.on_state(id, slot, loaded.store.digest());
        let node = host.node.as_mut().expect("it runs");
        node.set_health(Health { quarantined: false, ..node.health() });
        if is_of_use(slot, node.log_begin()) {
            let checker = &mut self.checker;
            host.store = host
                .quarantine
                .renewed(loaded.store, host.log.wal(), end, &mut |done| {
                    checker.on_applied(id, done.slot, done.value, done.applied, done.store);
                })
                .expect("the log has what it says it has");
            host.is_wrong = false;
            assert_eq!(host.store.applied().next(), end, "{id}: the new state lags behind the log");
            self.truncate(id);
        } else {
            assert!(!host.is_wrong, "{id} jumped, and its state is still wrong");
            host.snapshots.remove(slot);
            self.tell_of_snapshots(id, Slot::FIRST);
        }
    }

    /// Replicas that are wrong, whether they know or not.
    pub fn wrong(&self) -> Vec<NodeId> {
        let wrong = self.hosts.iter().filter(|(_, host)| host.is_wrong || host.quarantine.is_on());
        wrong.map(|(id, _)| *id).collect()
    }

    /// Damages the newest snapshot of a node that is down, where the log reaches back to the one before it, or
    /// to the first slot.
    pub fn damage_snapshot(&mut self, id: NodeId, dice: &mut rand::rngs::StdRng) {
        assert!(!self.is_running(id));
        let host = self.host(id);
        let before = host.snapshots.slots().into_iter().rev().nth(1).unwrap_or(Slot(0));
        let can_do_without = host.log_begin <= before.next() && !host.log.is_damaged();
        if !can_do_without || host.snapshot_is_damaged {
            return;
        }
        if let Some(slot) = host.snapshots.damage(dice) {
            host.snapshot_is_damaged = true;
            self.coverage.damaged_snapshots += 1;
            self.note(|| format!("the snapshot of slot {slot} of {id} is damaged"));
        }
    }
}
