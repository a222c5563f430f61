//! What can be done to a node's process, clock and disk.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use crate::driver::checkpoints::Checkpoints;
use crate::driver::held::Held;
use crate::driver::quarantine::Quarantine;
use crate::driver::replay::{recover_configurations, replay_into};
use crate::paxos::{Effects, Node, NodeConfig, NodeId, Roles, Slot};
use crate::snapshot::SnapshotError;
use crate::store::Store;
use crate::wal::WalError;

use super::super::clock::Clock;
use super::super::cluster::{Cluster, Happening, Reply};
use super::super::log::Opened;
use super::Input;
use super::snapshots::epochs_of;

const LEARNER: Roles = Roles { acceptor: false, leader: false, replica: true };

impl Cluster {
    /// Starts a node from its log, unless there is no room for that.
    pub fn start(&mut self, id: NodeId) {
        let now_us = self.now_us;
        assert!(!self.is_running(id));
        if !self.hosts[&id].is_used {
            return;
        }
        let seed = match self.settings.random_start {
            true => self.dice.next_u64(),
            false if id.0 == self.settings.first_leader => 0,
            false => u64::from(id.0) * self.settings.election_timeout_us / 20,
        };
        let (origin_us, drift_ppm) = if self.settings.random_start {
            let drift_max = self.settings.drift_ppm_max;
            (self.draw((0, 1 << 40)), self.dice.random_range(-drift_max..=drift_max))
        } else {
            (now_us, 0)
        };
        let host = self.hosts.get_mut(&id).expect("a member");
        let Opened { mut recovered, newly_durable } = match host.log.open(&mut self.dice) {
            Ok(opened) => opened,
            Err(error) => {
                self.note(|| format!("{id} does not start: {error}"));
                self.coverage.full_disks += 1;
                return;
            }
        };
        for record in newly_durable {
            self.checker.on_durable(id, &record);
        }
        // From here on as `driver::start` does.
        let log_begin = host.log.begin(recovered.first_unchosen);
        let loaded = match host.snapshots.load_newest() {
            Ok(loaded) => loaded,
            Err(SnapshotError::NoneUsable { .. }) if log_begin == Slot::FIRST => None,
            Err(error) => panic!("{id}: {error}"),
        };
        host.snapshot_is_damaged = false;
        let in_snapshot = loaded.as_ref().map(|loaded| epochs_of(&loaded.summary));
        host.store = match loaded {
            Some(loaded) => loaded.store,
            None => Store::with_sessions(host.sessions_open),
        };
        recovered = host.log.recovered_above(recovered, host.store.applied().next());
        let log_begin = host.log.begin(recovered.first_unchosen);
        recovered.snapshot = host.store.applied();
        assert!(
            recovered.snapshot < recovered.first_unchosen
                || !host.snapshots.newest_is_own()
                || host.log.has_lost(),
            "{id}: the log does not say that all in the snapshot of slot {} is chosen",
            recovered.snapshot
        );
        let begin = host.log.values_from();
        self.checker.on_recovered(id, &host.log.shadow, begin, &recovered);
        host.clock = Clock::new(now_us, origin_us, drift_ppm, host.clock.wall_ahead_us);
        let end = recovered.first_unchosen.max(recovered.snapshot.next());
        host.applied_end = end;
        let mut checkpoints = Checkpoints::new(self.settings.checkpoint_slots);
        if host.is_replica {
            let first = host.store.applied().next();
            assert!(end <= first || log_begin <= first, "{id}: the log begins behind the snapshot");
            let (begun, checker) = (std::mem::take(&mut host.store), &mut self.checker);
            host.store = replay_into(begun, host.log.wal(), end, &mut |done| {
                checkpoints.on_applied(done.slot, || done.store.digest());
                checker.on_applied(id, done.slot, done.value, done.applied, done.store);
            })
            .expect("the log has what it says it has");
        }
        host.quarantine = Quarantine::new(checkpoints, self.settings.election_timeout_us);
        let believed = self.believed(id);
        let host = self.hosts.get_mut(&id).expect("a member");
        let remembered = host.remembered.on_disk().into_iter().chain(in_snapshot);
        let configurations =
            recover_configurations(believed, remembered, host.log.wal(), log_begin, end)
                .expect("the log has what it says it has");
        host.remembered.on_start(&configurations);
        // Who was removed goes on as what it was, until it is switched off.
        let first = self.configuration.roles(id).unwrap_or(LEARNER);
        let roles = configurations.roles(id).unwrap_or(first);
        let host = self.hosts.get_mut(&id).expect("a member");
        host.peers = configurations.nodes();
        let config = NodeConfig {
            node: id,
            roles,
            configurations,
            election_timeout_us: self.settings.election_timeout_us,
            request_timeout_us: self.settings.request_timeout_us,
            window_slots: self.settings.window_slots,
            optimisations: self.settings.optimisations,
            lease: self.settings.lease(),
            snapshot_chunk_size: self.settings.snapshot_chunk_size,
        };
        let mut fx = Effects::new(id);
        host.node = Some(Node::new(config, &recovered, seed, host.now(now_us), &mut fx));
        host.lives += 1;
        if 1 < host.lives {
            self.coverage.restarts += 1;
        }
        self.note(|| {
            let (promised, first) = (recovered.promised, recovered.first_unchosen);
            let tail = recovered.tail.len();
            let unsure = recovered.unsure.len();
            format!(
                "{id} starts: promised {promised}, first unchosen slot {first}, tail {tail}, \
                 unsure of {unsure}"
            )
        });
        if !recovered.unsure.is_empty() {
            self.coverage.repairs += 1;
        }
        self.tell_of_snapshots(id, Slot::FIRST);
        let inputs = self.carry_out(id, fx);
        self.turn(id, inputs);
        self.schedule_tick(id);
        self.dial_all(id);
    }

    /// The process is killed, or its machine loses `power`. What it had sent may still arrive. Its peers
    /// hear of a killed process soon, and of a machine when they give up.
    pub fn crash(&mut self, id: NodeId, power: bool) {
        if self.is_running(id) {
            let what = if power { "loses power" } else { "crashes" };
            self.note(|| format!("{id} {what}"));
            self.end_process(id, power);
        }
    }

    /// The process ends by itself: its disk failed it.
    pub(super) fn on_disk_error(&mut self, id: NodeId, error: &WalError) {
        match error {
            WalError::DiskFull { .. } => self.coverage.full_disks += 1,
            WalError::SyncFailed { .. } => self.coverage.failed_syncs += 1,
            other => panic!("{id}: {other}"),
        }
        self.note(|| format!("{id} stops: {error}"));
        self.end_process(id, false);
    }

    fn end_process(&mut self, id: NodeId, power: bool) {
        let host = self.hosts.get_mut(&id).expect("a member");
        let node = host.node.take().expect("it runs");
        host.log_begin = node.log_begin();
        host.log.close();
        if power {
            host.log.lose_power(&mut self.dice);
        }
        host.snapshots.on_end(power, &mut self.dice);
        // The next life makes its state anew, from what is durable.
        host.quarantine = Quarantine::new(Checkpoints::new(0), 0);
        (host.is_wrong, host.wrong_snapshots) = (false, Vec::new());
        host.remembered.on_end(self.now_us);
        host.paused = None;
        host.syncing = false;
        host.held = Held::default();
        host.tick_at_us = None;
        host.read_floors.clear();
        self.replies.push(Reply::Died { node: id });
        self.close_all(id, !power);
    }

    pub fn pause(&mut self, id: NodeId) {
        let host = self.host(id);
        if host.is_running() && host.paused.is_none() {
            host.paused = Some(Vec::new());
            self.note(|| format!("{id} is paused"));
        }
    }

    /// All that came meanwhile is there at once, in one turn.
    pub fn resume(&mut self, id: NodeId) {
        if let Some(mut inputs) = self.host(id).paused.take() {
            inputs.push(Input::Tick);
            self.note(|| format!("{id} goes on"));
            self.poll_sync(id);
            self.turn(id, inputs);
            self.release(id);
        }
    }

    /// The wall clock of a node jumps.
    pub fn jump_wall_clock(&mut self, id: NodeId, by_us: i64) {
        self.coverage.clock_jumps += 1;
        self.note(|| format!("the wall clock of {id} jumps by {} s", by_us / 1_000_000));
        self.host(id).clock.wall_ahead_us += by_us;
    }

    pub fn slow_disk(&mut self, id: NodeId, sync_us: (u64, u64)) {
        self.note(|| format!("the disk of {id} is slow"));
        self.host(id).disk.sync_us = sync_us;
    }

    /// Syncs end no more, until `mend_disk`.
    pub fn stall_disk(&mut self, id: NodeId) {
        self.note(|| format!("the disk of {id} stalls"));
        self.host(id).disk.stalled = true;
    }

    pub fn fail_next_sync(&mut self, id: NodeId) {
        self.note(|| format!("the next sync of {id} will fail"));
        self.host(id).disk.fails = true;
    }

    pub fn fill_disk(&mut self, id: NodeId, full: bool) {
        self.note(|| format!("the disk of {id} is full: {full}"));
        self.host(id).log.fill(full);
    }

    /// The disk is as fast as others again, has room, and syncs.
    pub fn mend_disk(&mut self, id: NodeId) {
        let sync_us = self.settings.sync_us;
        let host = self.host(id);
        host.disk.sync_us = sync_us;
        host.disk.fails = false;
        host.log.fill(false);
        self.unstall(id);
    }

    /// Damages the log of a node that is down: in a place that recovery is able to see. Of each slot enough
    /// acceptors keep what they accepted that phase 1 has a quorum of them.
    pub fn damage(&mut self, id: NodeId, stale: bool, dice: &mut StdRng) {
        assert!(!self.is_running(id));
        if self.hosts[&id].snapshot_is_damaged {
            // The log must do in its stead.
            return;
        }
        // Of each configuration whose votes may still matter: how many have lost each slot, and may.
        let mut tolerances: Vec<(BTreeMap<Slot, usize>, usize)> = Vec::new();
        for configuration in self.checker.in_question() {
            let membership = configuration.membership();
            if !membership.is_acceptor(id) {
                continue;
            }
            let mut lost: BTreeMap<Slot, usize> = BTreeMap::new();
            for other in membership.acceptors().filter(|other| *other != id) {
                for slot in self.hosts[&other].log.slots_in_doubt() {
                    *lost.entry(slot).or_default() += 1;
                }
            }
            tolerances.push((lost, membership.acceptors().count() - membership.phase1()));
        }
        let may_lose = |slots: &BTreeSet<Slot>| {
            tolerances.iter().all(|(lost, spare)| {
                slots.iter().all(|slot| lost.get(slot).copied().unwrap_or(0) < *spare)
            })
        };
        let host = self.hosts.get_mut(&id).expect("a member");
        let damage = if stale {
            host.log.put_back_old_segment(dice, &may_lose)
        } else {
            host.log.damage(dice, &may_lose)
        };
        if let Some(what) = damage {
            self.coverage.damages += 1;
            self.note(|| format!("the disk of {id} is damaged: {what}"));
        }
    }

    /// The disk no longer stalls: the sync in flight ends.
    pub(in crate::sim) fn unstall(&mut self, id: NodeId) {
        let host = self.host(id);
        if std::mem::take(&mut host.disk.stalled) && host.syncing {
            let sync = host.sync;
            self.schedule(0, Happening::Synced { node: id, sync });
        }
    }
}
