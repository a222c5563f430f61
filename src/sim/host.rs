//! One node: it carries out `Effects` in the order that `Effects` gives, as the driver does.

mod process;
mod quarantine;
mod snapshots;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::driver::checkpoints::Checkpoints;
use crate::driver::held::Held;
use crate::driver::quarantine::Quarantine;
use crate::driver::replay::{corrupt_on_purpose, learned_values};
use crate::paxos::{
    Change, ChosenSlot, Command, CommandId, Effects, Epochs, Event, Expired, Health, LearnReply,
    Member, Message, Node, NodeId, Now, ReadWay, SessionId, Slot, SnapshotId,
};
use crate::snapshot;
use crate::store::{Applied, Outcome, Store};
use crate::wire::peer;

use super::clock::Clock;
use super::cluster::{Cluster, Happening, Reply, Settings};
use super::log::Log;
use super::members::Remembered;
use super::snapshots::{CLUSTER, Snapshots};

/// One input of a node.
#[derive(Debug)]
pub enum Input {
    Message(NodeId, Message),
    PeerUp(NodeId),
    PeerDown(NodeId),
    Command(Command, u64),
    Read(u64, ReadWay),
    Reconfigure(u64, Change),
    Transfer(Option<NodeId>),
    HandOver,
    /// So much of a snapshot from a peer is kept.
    Part(SnapshotId, u64),
    /// The state behind this slot is this node's now.
    Installed(Slot, Epochs),
    /// A snapshot from a peer was no good.
    Refused(SnapshotId),
    Tick,
}

pub struct Host {
    pub node: Option<Node>,
    pub store: Store,
    pub(super) log: Log,
    snapshots: Snapshots,
    /// Whether the newest snapshot was damaged since the last start.
    snapshot_is_damaged: bool,
    /// From where on the last life could tell from its log what is chosen.
    log_begin: Slot,
    quarantine: Quarantine,
    /// Whether the state is not what the slots make, known to the node or not.
    pub(super) is_wrong: bool,
    /// Snapshots that were there when it was found to be wrong.
    wrong_snapshots: Vec<Slot>,
    /// Who is in the cluster, as the data directory has it.
    pub(super) remembered: Remembered,
    pub(super) is_replica: bool,
    /// Whether it is, or may come to be, a member: a spare is not yet, and who left is not any more.
    pub is_used: bool,
    /// With whom it keeps links.
    pub(super) peers: Vec<NodeId>,
    /// The slot after the last one that was handed out.
    pub applied_end: Slot,
    pub(super) clock: Clock,
    lives: u64,
    sessions_open: u64,
    paused: Option<Vec<Input>>,
    /// Which sync is in flight, counted over all lives.
    sync: u64,
    syncing: bool,
    pub(super) disk: DiskState,
    /// Messages that wait for the sync.
    held: Held,
    tick_at_us: Option<u64>,
    /// By read token: what it must see.
    read_floors: BTreeMap<u64, Slot>,
}

/// What the disk does to the next syncs.
#[derive(Clone, Copy, Debug)]
pub(super) struct DiskState {
    /// How long a sync takes, from and to.
    pub sync_us: (u64, u64),
    /// Syncs do not end.
    pub stalled: bool,
    /// The next sync fails.
    pub fails: bool,
}

impl Host {
    pub(super) fn new(member: Member, settings: &Settings) -> Host {
        Host {
            node: None,
            store: Store::with_sessions(settings.sessions_open),
            log: Log::new(member.node, settings.segment_size),
            snapshots: Snapshots::new(CLUSTER),
            snapshot_is_damaged: false,
            log_begin: Slot::FIRST,
            quarantine: Quarantine::new(Checkpoints::new(0), 0),
            is_wrong: false,
            wrong_snapshots: Vec::new(),
            remembered: Remembered::default(),
            is_replica: member.roles.replica,
            is_used: usize::from(member.node.0) <= settings.roles.len(),
            peers: Vec::new(),
            applied_end: Slot::FIRST,
            clock: Clock::default(),
            lives: 0,
            sessions_open: settings.sessions_open,
            paused: None,
            sync: 0,
            syncing: false,
            disk: DiskState { sync_us: settings.sync_us, stalled: false, fails: false },
            held: Held::default(),
            tick_at_us: None,
            read_floors: BTreeMap::new(),
        }
    }

    /// What the node finds when it starts first: this state.
    pub(super) fn begin_with(&mut self, store: &Store, configurations: Arc<[u8]>) {
        let mut bytes = Vec::new();
        let summary = snapshot::write(&store.freeze(), CLUSTER, configurations, &mut bytes)
            .expect("memory takes everything, and a state that was just loaded is whole");
        self.snapshots.replace(summary.id(), bytes.into(), &[]);
    }

    pub fn is_running(&self) -> bool {
        self.node.is_some()
    }

    /// Whether it answers clients at all; if not, they are told so.
    pub fn is_quarantined(&self) -> bool {
        self.quarantine.is_on()
    }

    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    pub(super) fn expect_read(&mut self, read: u64, floor: Slot) {
        self.read_floors.insert(read, floor);
    }

    pub(super) fn now(&self, now_us: u64) -> Now {
        self.clock.read(now_us)
    }
}

impl Cluster {
    // Its loop.

    pub(super) fn input(&mut self, id: NodeId, input: Input) {
        let host = self.host(id);
        if host.node.is_none() {
            return;
        }
        match &mut host.paused {
            Some(waiting) => waiting.push(input),
            None => self.turn(id, vec![input]),
        }
    }

    fn turn(&mut self, id: NodeId, mut inputs: Vec<Input>) {
        while !inputs.is_empty() && self.is_running(id) {
            let is_tick = inputs.iter().any(|input| matches!(input, Input::Tick));
            self.note_room(id, is_tick);
            let mut fx = Effects::new(id);
            let now = self.hosts[&id].now(self.now_us);
            let mut changes: Vec<Change> = Vec::new();
            for input in inputs {
                if self.trace.messages {
                    self.note(|| format!("{id} <- {input:?}"));
                }
                self.coverage.on_input(&input);
                let host = self.host(id);
                let due_us = host.store.next_expiry_us().filter(|it| *it <= now.wall_us);
                let time_us = host.store.time_us();
                let node = host.node.as_mut().expect("running");
                match input {
                    Input::Message(from, message) => node.on_message(now, from, message, &mut fx),
                    Input::PeerUp(peer) => node.on_peer_up(now, peer, &mut fx),
                    Input::PeerDown(peer) => node.on_peer_down(now, peer, &mut fx),
                    Input::Command(command, client) => node.on_command(now, command, client),
                    Input::Read(read, way) => node.on_read(now, read, way),
                    Input::HandOver => node.hand_over(&mut fx),
                    Input::Reconfigure(epoch, change) => {
                        let result = node.reconfigure(now, epoch, &change);
                        if result.is_ok() {
                            changes.push(change.clone());
                        }
                        self.note(|| match result {
                            Ok(epoch) => format!("{id} proposes {change:?}, epoch {epoch}"),
                            Err(refusal) => format!("{id} refuses {change:?}: {refusal}"),
                        });
                    }
                    Input::Transfer(to) => {
                        let result = node.transfer(to, &mut fx);
                        self.note(|| format!("{id} is to hand the lead over: {result:?}"));
                    }
                    Input::Part(snapshot, size) => node.on_part(now, snapshot, size, &mut fx),
                    Input::Installed(slot, epochs) => {
                        node.on_snapshot_installed(now, slot, &epochs, &mut fx);
                    }
                    Input::Refused(snapshot) => node.on_snapshot_refused(snapshot),
                    Input::Tick => {
                        node.on_tick(now, &mut fx);
                        if let Some(due_us) = due_us {
                            node.on_due(now, due_us, time_us, &mut fx);
                        }
                        let due_us = node.next_deadline_us();
                        assert!(now.mono_us < due_us, "a deadline that does not move");
                    }
                }
            }
            self.host(id).node.as_mut().expect("running").end_turn(now, &mut fx);
            inputs = self.carry_out(id, fx);
            for change in changes {
                self.on_change(&change);
            }
        }
        self.follow_members(id);
        self.look_after_quarantine(id);
        self.schedule_tick(id);
    }

    /// Does what the core wants done, in the order of `Effects`. Returns what the node said to itself
    /// and may hear at once.
    fn carry_out(&mut self, id: NodeId, fx: Effects) -> Vec<Input> {
        for event in &fx.events {
            self.coverage.on_event(event);
            self.note_event(id, event);
        }
        for (to, message) in &fx.sends {
            assert!(*to != id, "messages to oneself stay inside or wait for the sync");
            self.transmit(id, *to, message);
        }
        for record in fx.records {
            let host = self.hosts.get_mut(&id).expect("a member");
            self.coverage.on_record(&host.log.shadow, &record);
            if let Err(error) = host.log.append(record) {
                self.on_disk_error(id, &error);
                return Vec::new();
            }
        }
        let host = self.host(id);
        let end = host.log.wal().end();
        for (to, message) in fx.sends_after_sync {
            host.held.push(end, to, message);
        }
        let mut inputs = self.release_held(id);
        self.start_sync(id);
        for event in &fx.events {
            if let Event::Jumped { first_unchosen, .. } = event {
                self.on_jumped(id, *first_unchosen);
            }
        }
        for chosen in &fx.chosen {
            self.apply(id, chosen);
        }
        self.take_snapshot_if_due(id);
        for read in fx.reads_ready {
            self.serve_read(id, read);
        }
        for reply in fx.learn_replies {
            self.send_chosen(id, reply);
        }
        for reply in fx.snapshot_replies {
            self.send_part(id, reply);
        }
        for receive in fx.receives {
            if self.is_running(id) {
                inputs.extend(self.receive(id, receive));
            }
        }
        for expired in fx.expired {
            self.on_expired(id, expired);
        }
        inputs
    }

    fn apply(&mut self, id: NodeId, chosen: &ChosenSlot) {
        let ChosenSlot { slot, value, .. } = chosen;
        self.checker.on_handed_out(id, *slot, &value.0);
        let host = self.hosts.get_mut(&id).expect("a member");
        assert_eq!(*slot, host.applied_end, "handed out in order");
        host.applied_end = slot.next();
        if !host.is_replica {
            return;
        }
        let mut applied = Vec::new();
        host.store.apply(*slot, value, &mut applied);
        corrupt_on_purpose(&mut host.store, id, *slot);
        let (is_wrong, store) = (host.is_wrong, &host.store);
        let is_checkpoint = host.quarantine.on_applied(*slot, || store.digest());
        if !is_wrong {
            self.checker.on_applied(id, *slot, &value.0, &applied, &host.store);
        }
        if is_checkpoint {
            self.tell_state(id);
        }
        for Applied { id: command, outcome } in applied {
            let host = self.host(id);
            let node = host.node.as_mut().expect("running");
            match node.finish(command) {
                Some(client) if is_wrong || host.is_quarantined() => {
                    self.replies.push(Reply::Expired { client, id: command, definite: false });
                }
                Some(client) => self.answer(id, client, command, *slot, outcome),
                None => {}
            }
        }
    }

    fn answer(
        &mut self,
        id: NodeId,
        client: u64,
        command: CommandId,
        applied: Slot,
        outcome: Outcome,
    ) {
        let reply = match outcome {
            Outcome::Registered(session) => {
                self.coverage.sessions += 1;
                Reply::Registered { client, nonce: command.seq, session }
            }
            Outcome::Reply(reply) => {
                let slot = self.checker.oracle.executed(command).expect("it was applied");
                self.checker.on_acked(command, slot, applied.next());
                self.note(|| format!("{id} tells client {client}: done in slot {slot}"));
                Reply::Done { client, id: command, node: id, slot, reply: reply.to_vec() }
            }
            Outcome::SessionExpired | Outcome::Stale | Outcome::OutOfWindow => {
                self.note(|| format!("{id} tells client {client}: {outcome:?}"));
                Reply::Refused { client, id: command }
            }
        };
        self.replies.push(reply);
    }

    fn serve_read(&mut self, id: NodeId, read: u64) {
        let host = self.host(id);
        let floor = host.read_floors.remove(&read).expect("a read is answered once");
        let end = host.applied_end;
        if host.is_wrong || host.is_quarantined() {
            self.replies.push(Reply::ReadExpired { read });
            return;
        }
        self.checker.on_read(id, floor, end);
        self.coverage.reads += 1;
        self.note(|| format!("{id} answers read {read} from the slots below {end}"));
        self.replies.push(Reply::Read { read, node: id, end });
    }

    /// Answers a learner from the log.
    fn send_chosen(&mut self, id: NodeId, reply: LearnReply) {
        let wal = self.hosts[&id].log.wal();
        let values = learned_values(wal, reply, self.settings.learn_values_max)
            .expect("the log has what is chosen");
        if values.is_empty() {
            return;
        }
        for (i, (_, value)) in values.iter().enumerate() {
            self.checker.on_handed_out(id, reply.first_slot.plus(i), value);
        }
        let mut frame = Vec::new();
        peer::write_chosen(reply.first_slot, &values, reply.first_unchosen, &mut frame);
        self.transmit_frame(id, reply.to, frame);
    }

    fn on_expired(&mut self, id: NodeId, expired: Expired) {
        let reply = match expired {
            Expired::Command { id: command, client, definite } => {
                let sure = if definite { "certainly not done" } else { "perhaps done" };
                self.note(|| format!("{id} tells client {client}: too late, {sure}"));
                Reply::Expired { client, id: command, definite }
            }
            Expired::Read { read } => {
                self.note(|| format!("{id} gives up read {read}"));
                self.host(id).read_floors.remove(&read);
                Reply::ReadExpired { read }
            }
        };
        self.replies.push(reply);
    }

    // Its disk.

    pub(super) fn start_sync(&mut self, id: NodeId) {
        let host = self.host(id);
        if host.syncing || host.node.is_none() {
            return;
        }
        match host.log.start_sync() {
            Ok(true) => host.syncing = true,
            Ok(false) => return,
            Err(error) => return self.on_disk_error(id, &error),
        }
        host.sync += 1;
        let (sync, disk) = (host.sync, host.disk);
        let stalls_us = self.settings.election_timeout_us;
        self.schedule(stalls_us, Happening::Stalled { node: id, sync });
        if !disk.stalled {
            let in_us = self.draw(disk.sync_us);
            self.schedule(in_us, Happening::Synced { node: id, sync });
        }
    }

    /// A sync that is still in flight after an election timeout has stalled, as the driver judges it.
    pub(super) fn on_stalled(&mut self, id: NodeId, sync: u64) {
        let stalls_us = self.settings.election_timeout_us;
        let host = self.host(id);
        if host.sync != sync || !host.syncing {
            return;
        }
        if host.is_paused() {
            return self.schedule(stalls_us, Happening::Stalled { node: id, sync });
        }
        self.note(|| format!("{id} finds its disk stalled"));
        self.coverage.stalls += 1;
        self.set_stalled(id, true);
    }

    fn set_stalled(&mut self, id: NodeId, disk_stalled: bool) {
        if let Some(node) = &mut self.host(id).node {
            node.set_health(Health { disk_stalled, ..node.health() });
        }
    }

    /// As the driver does before each turn.
    fn note_room(&mut self, id: NodeId, retry: bool) {
        let host = self.host(id);
        let disk_full = host.log.is_full(retry).expect("a disk in memory tells");
        let node = host.node.as_mut().expect("running");
        let health = node.health();
        if health.disk_full != disk_full {
            node.set_health(Health { disk_full, ..health });
            self.note(|| format!("{id} has no room for its log: {disk_full}"));
            self.coverage.full_disks += u64::from(disk_full);
        }
    }

    pub(super) fn on_synced(&mut self, id: NodeId, sync: u64) {
        let host = self.hosts.get_mut(&id).expect("a member");
        // It may have ended already, while the process was paused.
        if host.sync != sync || !host.log.is_syncing() {
            return;
        }
        let fails = std::mem::take(&mut host.disk.fails);
        host.log.end_sync(fails, &mut self.dice);
        if !host.is_paused() {
            self.poll_sync(id);
            self.release(id);
            self.start_sync(id);
        }
    }

    /// Learns how a sync ended.
    fn poll_sync(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).expect("a member");
        if !host.syncing {
            return;
        }
        match host.log.poll_sync() {
            Ok(None) => {}
            Ok(Some(newly_durable)) => {
                host.syncing = false;
                for record in newly_durable {
                    self.checker.on_durable(id, &record);
                }
                self.set_stalled(id, false);
            }
            Err(error) => self.on_disk_error(id, &error),
        }
    }

    /// Sends what waited for the sync.
    fn release(&mut self, id: NodeId) {
        if self.is_running(id) {
            let inputs = self.release_held(id);
            self.turn(id, inputs);
        }
    }

    fn release_held(&mut self, id: NodeId) -> Vec<Input> {
        let mut inputs = Vec::new();
        loop {
            let host = self.host(id);
            let Some((to, message)) = host.held.pop(host.log.wal().durable()) else {
                return inputs;
            };
            if to == id {
                self.checker.on_message(id, &self.hosts[&id].log.shadow, &message);
                inputs.push(Input::Message(id, message));
            } else {
                self.transmit(id, to, &message);
            }
        }
    }

    // Its timers.

    fn schedule_tick(&mut self, id: NodeId) {
        let now_us = self.now_us;
        let host = self.host(id);
        let Some(node) = &host.node else { return };
        let in_us = host.clock.until(now_us, node.next_deadline_us());
        let at_us = now_us + in_us;
        if host.tick_at_us != Some(at_us) {
            host.tick_at_us = Some(at_us);
            self.schedule(in_us, Happening::Tick { node: id, at_us });
        }
    }

    pub(super) fn on_tick(&mut self, id: NodeId, at_us: u64) {
        let host = self.host(id);
        if host.tick_at_us == Some(at_us) {
            host.tick_at_us = None;
            self.input(id, Input::Tick);
            self.truncate_if_stateless(id);
        }
    }

    fn note_event(&mut self, id: NodeId, event: &Event) {
        self.note(|| match event {
            Event::LeaderChanged { ballot } => format!("{id} follows {ballot}"),
            Event::ScoutStarted { ballot, first_slot } => {
                format!("{id} scouts with {ballot} from slot {first_slot}")
            }
            Event::Adopted { ballot, first_slot } => {
                format!("{id} leads with {ballot} from slot {first_slot}")
            }
            Event::Preempted { ballot, by } => format!("{id}: {by} preempts {ballot}"),
            Event::Proposed { slot, commands, .. } => {
                format!("{id} proposes slot {slot}, commands: {commands}")
            }
            Event::Chosen { before, first_unchosen } => {
                format!("{id} knows slots {before}..{first_unchosen} to be chosen")
            }
            Event::Jumped { before, first_unchosen } => {
                format!("{id} goes from slot {before} to {first_unchosen} at once")
            }
        });
    }
}

/// A command of a session.
pub fn command(session: u64, seq: u64, acknowledged: u64, payload: &[u8]) -> Command {
    let id = CommandId { session: SessionId(session), seq };
    Command { id, acknowledged, payload: payload.into() }
}
