//! One node: it carries out `Effects` in the order that `Effects` gives, as the driver does.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, RngExt};

use crate::driver::replay::{learned_values, replay_into};
use crate::paxos::{
    ChosenSlot, Command, CommandId, Effects, Event, Expired, LearnReply, Member, Message, Node,
    NodeConfig, NodeId, Now, Roles, SessionId, Slot, Value,
};
use crate::store::{Applied, Outcome, Store};
use crate::wal::WalError;
use crate::wire::peer;

use super::clock::Clock;
use super::cluster::{Cluster, Happening, Reply, Settings};
use super::log::{Log, Opened};

/// One input of a node.
#[derive(Debug)]
pub enum Input {
    Message(NodeId, Message),
    PeerUp(NodeId),
    PeerDown(NodeId),
    Command(Command, u64),
    Read(u64),
    HandOver,
    Tick,
}

pub struct Host {
    pub node: Option<Node>,
    pub store: Store,
    pub(super) log: Log,
    is_replica: bool,
    /// The slot after the last one that was handed out.
    pub applied_end: Slot,
    pub(super) clock: Clock,
    /// Why it cannot start any more: its log is damaged.
    pub broken: Option<String>,
    lives: u64,
    sessions_open: u64,
    paused: Option<Vec<Input>>,
    /// Which sync is in flight, counted over all lives.
    sync: u64,
    syncing: bool,
    pub(super) disk: DiskState,
    /// Messages that wait until the log is durable up to this length.
    held: VecDeque<(u64, NodeId, Message)>,
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
            is_replica: member.roles.replica,
            applied_end: Slot::FIRST,
            clock: Clock::default(),
            broken: None,
            lives: 0,
            sessions_open: settings.sessions_open,
            paused: None,
            sync: 0,
            syncing: false,
            disk: DiskState { sync_us: settings.sync_us, stalled: false, fails: false },
            held: VecDeque::new(),
            tick_at_us: None,
            read_floors: BTreeMap::new(),
        }
    }

    pub fn is_running(&self) -> bool {
        self.node.is_some()
    }

    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    pub(super) fn expect_read(&mut self, read: u64, floor: Slot) {
        self.read_floors.insert(read, floor);
    }

    fn now(&self, now_us: u64) -> Now {
        self.clock.read(now_us)
    }
}

impl Cluster {
    // What can be done to a node.

    /// Starts a node from its log, unless that is damaged.
    pub fn start(&mut self, id: NodeId) {
        let now_us = self.now_us;
        assert!(!self.is_running(id));
        if self.hosts[&id].broken.is_some() {
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
        let Opened { recovered, newly_durable } = match host.log.open(&mut self.dice) {
            Ok(opened) => opened,
            Err(error) => return self.on_refused(id, &error),
        };
        for record in newly_durable {
            self.checker.on_durable(id, &record);
        }
        self.checker.on_recovered(id, &host.log.shadow, &recovered);
        host.clock = Clock::new(now_us, origin_us, drift_ppm, host.clock.wall_ahead_us);
        host.store = Store::with_sessions(host.sessions_open);
        host.applied_end = recovered.first_unchosen;
        if host.is_replica {
            let (empty, checker) = (std::mem::take(&mut host.store), &mut self.checker);
            let end = recovered.first_unchosen;
            host.store = replay_into(empty, host.log.wal(), end, &mut |done| {
                checker.on_applied(id, done.slot, done.value, done.applied, done.store.digest());
            })
            .expect("the log has what it says it has");
        }
        let config = NodeConfig {
            node: id,
            membership: self.membership.clone(),
            election_timeout_us: self.settings.election_timeout_us,
            request_timeout_us: self.settings.request_timeout_us,
            window_slots: self.settings.window_slots,
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
            format!("{id} starts: promised {promised}, first unchosen slot {first}, tail {tail}")
        });
        let inputs = self.carry_out(id, fx);
        assert!(inputs.is_empty());
        self.schedule_tick(id);
        self.dial_all(id);
    }

    fn on_refused(&mut self, id: NodeId, error: &WalError) {
        self.note(|| format!("{id} does not start: {error}"));
        match error {
            WalError::DiskFull { .. } => self.coverage.full_disks += 1,
            _ => {
                self.coverage.refused_logs += 1;
                self.host(id).broken = Some(error.to_string());
            }
        }
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
    fn on_disk_error(&mut self, id: NodeId, error: &WalError) {
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
        host.node = None;
        host.log.close();
        if power {
            host.log.lose_power(&mut self.dice);
        }
        host.paused = None;
        host.syncing = false;
        host.held.clear();
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

    /// Whether the cluster can go on for ever without this node's log, and those that are damaged.
    pub fn may_lose(&self, id: NodeId) -> bool {
        let left = |has: fn(Roles) -> bool| {
            let whole = self.hosts.iter().filter(|(it, host)| **it != id && !host.log.is_spoiled());
            whole.filter(|(it, _)| has(self.roles(**it))).count()
        };
        let quorum = self.membership.phase1().max(self.membership.phase2());
        quorum <= left(|roles| roles.acceptor)
            && 0 < left(|roles| roles.leader)
            && 0 < left(|roles| roles.replica)
            && !self.hosts[&id].log.is_spoiled()
    }

    /// Damages the log of a node that is down: in a place that recovery is able to see.
    pub fn damage(&mut self, id: NodeId, stale: bool, dice: &mut StdRng) {
        let host = self.hosts.get_mut(&id).expect("a member");
        assert!(!host.is_running());
        let damage =
            if stale { host.log.put_back_old_segment(dice) } else { host.log.damage(dice) };
        if let Some(what) = damage {
            self.coverage.damages += 1;
            self.note(|| format!("the disk of {id} is damaged: {what}"));
        }
    }

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
            let mut fx = Effects::new(id);
            let now = self.hosts[&id].now(self.now_us);
            for input in inputs {
                if self.trace.messages {
                    self.note(|| format!("{id} <- {input:?}"));
                }
                self.coverage.on_input(&input);
                let node = self.host(id).node.as_mut().expect("running");
                match input {
                    Input::Message(from, message) => node.on_message(now, from, message, &mut fx),
                    Input::PeerUp(peer) => node.on_peer_up(now, peer, &mut fx),
                    Input::PeerDown(peer) => node.on_peer_down(now, peer, &mut fx),
                    Input::Command(command, client) => node.on_command(now, command, client),
                    Input::Read(read) => node.on_read(now, read),
                    Input::HandOver => node.hand_over(&mut fx),
                    Input::Tick => {
                        node.on_tick(now, &mut fx);
                        let due_us = node.next_deadline_us();
                        assert!(now.mono_us < due_us, "a deadline that does not move");
                    }
                }
            }
            self.host(id).node.as_mut().expect("running").end_turn(now, &mut fx);
            inputs = self.carry_out(id, fx);
        }
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
        let end = host.log.end();
        host.held.extend(fx.sends_after_sync.into_iter().map(|(to, message)| (end, to, message)));
        let inputs = self.release_held(id);
        self.start_sync(id);
        for chosen in &fx.chosen {
            self.apply(id, chosen);
        }
        for read in fx.reads_ready {
            self.serve_read(id, read);
        }
        for reply in fx.learn_replies {
            self.send_chosen(id, reply);
        }
        for expired in fx.expired {
            self.on_expired(id, expired);
        }
        inputs
    }

    fn apply(&mut self, id: NodeId, chosen: &ChosenSlot) {
        let ChosenSlot { slot, value, .. } = chosen;
        self.checker.on_handed_out(id, *slot, value);
        let host = self.hosts.get_mut(&id).expect("a member");
        assert_eq!(*slot, host.applied_end, "handed out in order");
        host.applied_end = slot.next();
        if !host.is_replica {
            return;
        }
        let mut applied = Vec::new();
        host.store.apply(*slot, value, &mut applied);
        self.checker.on_applied(id, *slot, value, &applied, host.store.digest());
        for Applied { id: command, outcome } in applied {
            let node = self.host(id).node.as_mut().expect("running");
            if let Some(client) = node.finish(command) {
                self.answer(id, client, command, *slot, outcome);
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
                Reply::Done { client, id: command, node: id, slot, reply }
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
            let value = Value(Arc::from(*value));
            self.checker.on_handed_out(id, reply.first_slot.plus(i), &value);
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

    fn start_sync(&mut self, id: NodeId) {
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
        if !disk.stalled {
            let in_us = self.draw(disk.sync_us);
            self.schedule(in_us, Happening::Synced { node: id, sync });
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

    /// The disk no longer stalls: the sync in flight ends.
    pub(super) fn unstall(&mut self, id: NodeId) {
        let host = self.host(id);
        if std::mem::take(&mut host.disk.stalled) && host.syncing {
            let sync = host.sync;
            self.schedule(0, Happening::Synced { node: id, sync });
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
            match host.held.front() {
                Some((end, ..)) if *end <= host.log.durable() => {}
                _ => return inputs,
            }
            let (_, to, message) = host.held.pop_front().expect("just seen");
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
        });
    }
}

/// A command of a session.
pub fn command(session: u64, seq: u64, acknowledged: u64, payload: &[u8]) -> Command {
    let id = CommandId { session: SessionId(session), seq };
    Command { id, acknowledged, payload: Arc::from(payload) }
}
