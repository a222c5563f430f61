//! What a node does with snapshots: it takes them, lets its log begin later, and serves and installs them.

use std::sync::Arc;

use rand::RngExt;

use crate::driver::snapshots::needed_from;
use crate::paxos::{Effects, Epochs, Message, NodeId, Receive, Slot, SnapshotId, SnapshotReply};
use crate::snapshot::Summary;
use crate::wire::peer;

use super::super::cluster::{Cluster, Happening};
use super::super::snapshots::What;
use super::Input;

/// The configurations in a snapshot.
pub(super) fn epochs_of(summary: &Summary) -> Epochs {
    Epochs::from_bytes(&summary.head.configurations).expect("the core wrote them")
}

impl Cluster {
    /// Takes a snapshot of a node's state now.
    pub fn take_snapshot(&mut self, id: NodeId) {
        let host = self.host(id);
        if !host.is_replica || host.snapshots.is_working() || host.store.applied() == Slot(0) {
            return;
        }
        if host.quarantine.is_on() {
            return;
        }
        let Some(node) = &host.node else { return };
        // A node that joins may not know whose slots these are.
        let Some(epochs) = node.configurations().as_of(host.store.applied().next()) else { return };
        let configurations = Arc::from(epochs.to_bytes());
        host.snapshots.is_asked_for = false;
        let mut fx = Effects::new(id);
        host.node.as_mut().expect("it runs").record_progress(&mut fx);
        for record in fx.records {
            if let Err(error) = host.log.append(record) {
                return self.on_disk_error(id, &error);
            }
        }
        let what = What::Take(host.store.freeze().into(), configurations, host.log.wal().end());
        let number = host.snapshots.begin(what);
        self.start_sync(id);
        self.work_on_snapshot(id, number);
    }

    pub(super) fn take_snapshot_if_due(&mut self, id: NodeId) {
        let slots = self.settings.snapshot_slots;
        let host = &self.hosts[&id];
        let is_due =
            0 < slots && slots <= host.store.applied().since(host.snapshots.newest()) as u64;
        if is_due || host.snapshots.is_asked_for {
            self.take_snapshot(id);
        }
    }

    /// A helper thread is at work; it takes some syncs of the disk.
    fn work_on_snapshot(&mut self, id: NodeId, number: u64) {
        let sync_us = self.hosts[&id].disk.sync_us;
        let syncs = self.draw((1, 4));
        let in_us = syncs * self.draw(sync_us);
        self.schedule(in_us, Happening::SnapshotDone { node: id, number });
    }

    pub(in crate::sim) fn on_snapshot_done(&mut self, id: NodeId, number: u64) {
        let host = self.host(id);
        let waits = host.is_running() && host.snapshots.waits_for(number, host.log.wal().durable());
        if host.is_paused() || host.disk.stalled || waits {
            self.work_on_snapshot(id, number);
            return;
        }
        match host.snapshots.end(number) {
            // The process has ended meanwhile, or given it up.
            None => {}
            Some(What::Take(frozen, configurations, _)) => {
                let summary = match host.snapshots.take(&frozen, configurations) {
                    Ok(summary) => summary,
                    Err(error) => return self.begin_quarantine(id, &error.to_string()),
                };
                let slot = summary.head.slot;
                self.coverage.snapshots += 1;
                if !self.hosts[&id].is_wrong {
                    self.checker.on_state(id, slot, summary.head.digest);
                }
                self.note(|| format!("{id} has a snapshot of slot {slot}"));
                self.truncate(id);
            }
            // The log has come as far meanwhile.
            Some(What::Install(snapshot, _)) if snapshot.slot <= host.store.applied() => {
                self.input(id, Input::Refused(snapshot));
            }
            Some(What::Install(snapshot, loaded)) => {
                let slot = snapshot.slot;
                host.snapshots.install(snapshot);
                self.coverage.installs += 1;
                self.checker.on_state(id, slot, loaded.store.digest());
                self.note(|| format!("{id} installs a snapshot of slot {slot}"));
                // The snapshot is durable, and the log does not say so yet.
                if self.ends_here(id, 8) {
                    return;
                }
                let host = self.host(id);
                host.store = loaded.store;
                host.is_wrong = false;
                host.quarantine.on_replaced();
                let epochs = epochs_of(&loaded.summary);
                self.input(id, Input::Installed(slot, epochs));
                if self.is_running(id) {
                    self.truncate(id);
                }
            }
        }
    }

    /// Once in `times`, and only while faults strike: the process ends at this step, and begins again.
    pub(super) fn ends_here(&mut self, id: NodeId, times: u32) -> bool {
        if !self.ends_at_steps || self.dice.random_range(0..times) != 0 {
            return false;
        }
        let power = self.dice.random_bool(0.5);
        self.crash(id, power);
        let in_us = self.draw((0, self.settings.election_timeout_us));
        self.schedule(in_us, Happening::Restart { node: id });
        true
    }

    /// Lets the log begin behind the newest snapshot, less what is kept for those who are slow.
    pub(super) fn truncate(&mut self, id: NodeId) {
        let (now_us, timeout_us) = (self.now_us, self.settings.election_timeout_us);
        let keep_slots = self.settings.keep_slots;
        let host = self.host(id);
        host.snapshots.let_go(now_us.saturating_sub(2 * timeout_us));
        let node = host.node.as_mut().expect("it runs");
        let slots = host.snapshots.slots();
        let needed_from = if host.is_replica {
            let before = slots.iter().rev().nth(1).copied().unwrap_or(Slot(0));
            let needed_from = needed_from(slots.into_iter(), keep_slots);
            assert!(
                needed_from <= before.next(),
                "{id} truncates up to {needed_from}, and has one snapshot alone behind that"
            );
            needed_from
        } else {
            let known = node.view().first_unchosen;
            Slot(node.covered_by_snapshots().0.saturating_sub(keep_slots)).next().min(known)
        };
        let truncated = host.log.truncate_before(needed_from);
        match truncated {
            Ok(segments) => self.coverage.truncations += segments as u64,
            Err(error) => return self.on_disk_error(id, &error),
        }
        self.tell_of_snapshots(id, needed_from);
    }

    /// As the driver does when snapshots have come or gone: the node hears of them, and what it tells others.
    /// It tells nobody of slots below `needed_from`, as if each had a segment of its own.
    pub(super) fn tell_of_snapshots(&mut self, id: NodeId, needed_from: Slot) {
        let host = self.host(id);
        let Some(node) = &mut host.node else { return };
        let first_unchosen = node.view().first_unchosen;
        let log_begin = host.log.begin(first_unchosen).max(needed_from.min(first_unchosen));
        let ids = host.snapshots.ids();
        let durable = ids.last().map_or(Slot(0), |newest| newest.slot);
        let mut fx = Effects::new(id);
        node.on_snapshots(ids, durable, log_begin, &mut fx);
        assert!(fx.sends.is_empty(), "whatever is durable can be sent: nobody waits");
        self.tell_state(id);
    }

    /// An acceptor that keeps no state goes by the snapshots of others.
    pub(super) fn truncate_if_stateless(&mut self, id: NodeId) {
        if !self.hosts[&id].is_replica && self.roles(id).acceptor && self.is_running(id) {
            self.truncate(id);
        }
    }

    /// The core has jumped; the store is there already.
    pub(super) fn on_jumped(&mut self, id: NodeId, first_unchosen: Slot) {
        let host = self.host(id);
        if host.is_replica {
            assert_eq!(host.store.applied().next(), first_unchosen);
        } else {
            self.coverage.passed_over += 1;
        }
        let host = self.host(id);
        host.applied_end = first_unchosen;
        let log_begin = host.node.as_ref().expect("it runs").log_begin();
        assert!(first_unchosen <= log_begin, "{id} may tell what it held before it jumped");
    }

    /// A chunk for a peer.
    pub(super) fn send_part(&mut self, id: NodeId, reply: SnapshotReply) {
        let SnapshotReply { to, snapshot, offset, size } = reply;
        let now_us = self.now_us;
        let part = self.host(id).snapshots.part_of(snapshot, offset, size, now_us);
        let bytes = part.expect("the core asks for what it was told of");
        let message = Message::SnapshotChunk { snapshot, offset, bytes };
        let mut frame = Vec::new();
        peer::write(&message, &mut frame);
        self.transmit_frame(id, to, frame);
    }

    /// A step of receiving. Returns what the core is to hear of it at once.
    pub(super) fn receive(&mut self, id: NodeId, receive: Receive) -> Option<Input> {
        let host = self.hosts.get_mut(&id).expect("a member");
        match receive {
            Receive::Begin(snapshot) => {
                let size = host.snapshots.begin_part(snapshot);
                self.coverage.resumed += u64::from(0 < size);
                self.note(|| {
                    format!("{id} pulls the snapshot of slot {}, has {size} bytes", snapshot.slot)
                });
                Some(Input::Part(snapshot, size))
            }
            Receive::Chunk { snapshot, offset, bytes } => {
                let size = host.snapshots.on_chunk(snapshot, offset, &bytes, &mut self.dice);
                (!self.ends_here(id, 40)).then_some(Input::Part(snapshot, size))
            }
            Receive::Install(snapshot) => self.check_part(id, snapshot),
            Receive::GiveUp(snapshot) => {
                host.snapshots.give_up(snapshot);
                None
            }
        }
    }

    fn check_part(&mut self, id: NodeId, snapshot: SnapshotId) -> Option<Input> {
        let host = self.host(id);
        if host.snapshots.is_working() {
            // It takes one itself: that one is of no use any more.
            host.snapshots.abandon();
        }
        match host.snapshots.check_part(snapshot) {
            Ok(loaded) => {
                let number = host.snapshots.begin(What::Install(snapshot, Box::new(loaded)));
                self.work_on_snapshot(id, number);
                None
            }
            Err(error) => {
                self.coverage.refused_parts += 1;
                self.note(|| format!("{id} drops a snapshot of slot {}: {error}", snapshot.slot));
                Some(Input::Refused(snapshot))
            }
        }
    }
}
