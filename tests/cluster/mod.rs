//! A whole cluster in one thread from one seed: real `paxos::Node`s; time, network, disks and clients
//! are models. Every step is checked against the safety rules (`checker`).
//!
//! The cluster plays the driver: it carries out `Effects` in the order that `Effects` gives.
#![allow(dead_code)] // Each test binary uses its own part of it.

pub mod checker;
pub mod coverage;
pub mod link;
pub mod machine;
pub mod wal;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use loggos::paxos::{
    Command, CommandId, Effects, Event, Expired, Member, Membership, Message, Node, NodeConfig,
    NodeId, Now, Record, Slot,
};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};

use checker::Checker;
use coverage::Coverage;
use link::{Link, Parcel};
use machine::Machine;
use wal::Wal;

#[derive(Clone, Debug)]
pub struct Settings {
    pub members: Vec<Member>,
    pub phase1: Option<usize>,
    pub phase2: Option<usize>,
    pub election_timeout_us: u64,
    pub request_timeout_us: u64,
    pub window_slots: usize,
    /// Delay of a message, from and to.
    pub delay_us: (u64, u64),
    /// Duration of a sync.
    pub sync_us: (u64, u64),
    /// After how long each side closes a connection that is cut.
    pub stall_us: (u64, u64),
    /// How long a new connection takes.
    pub dial_us: (u64, u64),
    /// Values in one answer to a `LearnRequest`.
    pub learn_values_max: usize,
    /// Draw a seed for each node's first heartbeat round; otherwise `first_leader` ends its first one
    /// first, then the others by their ids.
    pub random_start: bool,
    pub first_leader: u16,
}

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

/// What a client hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    Done { client: u64, id: CommandId, node: NodeId, slot: Slot },
    Expired { client: u64, id: CommandId, definite: bool },
    Read { read: u64, node: NodeId, end: Slot },
    ReadExpired { read: u64 },
}

enum Happening {
    /// Something may be due on a connection, in the direction from this side.
    Arrival {
        link: usize,
        from: usize,
    },
    Dial {
        link: usize,
    },
    /// A side gives up a cut connection.
    GiveUp {
        link: usize,
        epoch: u64,
        side: usize,
    },
    Tick {
        node: NodeId,
        at_us: u64,
    },
    Synced {
        node: NodeId,
        life: u64,
        len: usize,
    },
    /// The caller's.
    Alarm(u64),
}

pub struct Host {
    pub node: Option<Node>,
    pub wal: Wal,
    pub machine: Machine,
    /// Which life of the process this is.
    life: u64,
    /// Reads the clock as this life does.
    clock_us: u64,
    is_replica: bool,
    paused: Option<Vec<Input>>,
    syncing: bool,
    sync_us: (u64, u64),
    /// Messages that wait until the log is durable up to this length.
    held: VecDeque<(usize, NodeId, Message)>,
    tick_at_us: Option<u64>,
    /// By read token: what it must see.
    read_floors: BTreeMap<u64, Slot>,
}

pub struct Cluster {
    pub settings: Settings,
    pub membership: Membership,
    pub now_us: u64,
    pub dice: StdRng,
    pub hosts: BTreeMap<NodeId, Host>,
    links: Vec<Link>,
    happenings: BinaryHeap<Reverse<(u64, u64)>>,
    happening: BTreeMap<u64, Happening>,
    happenings_len: u64,
    pub checker: Checker,
    pub coverage: Coverage,
    pub replies: Vec<Reply>,
    /// Some of the messages sent so far, for `replay`; none are kept if its length may be 0.
    sent: Vec<(NodeId, NodeId, Message)>,
    pub sent_len_max: usize,
    pub trace: Trace,
}

/// The last lines of what happened.
#[derive(Default)]
pub struct Trace {
    /// How many lines to keep; none are made if 0.
    pub len_max: usize,
    /// Whether messages and inputs are told too.
    pub messages: bool,
    pub lines: VecDeque<String>,
}

impl Cluster {
    /// All nodes running, nothing connected yet; connections follow at once.
    pub fn new(settings: Settings, seed: u64) -> Cluster {
        let membership =
            Membership::new(settings.members.clone(), settings.phase1, settings.phase2)
                .expect("the settings are valid");
        let mut cluster = Cluster {
            now_us: 0,
            dice: StdRng::seed_from_u64(seed),
            hosts: BTreeMap::new(),
            links: Vec::new(),
            happenings: BinaryHeap::new(),
            happening: BTreeMap::new(),
            happenings_len: 0,
            checker: Checker::new(membership.clone()),
            coverage: Coverage::default(),
            replies: Vec::new(),
            sent: Vec::new(),
            sent_len_max: 0,
            trace: Trace::default(),
            membership,
            settings,
        };
        let nodes = cluster.nodes();
        for (i, &a) in nodes.iter().enumerate() {
            let is_replica = cluster.membership.roles(a).expect("a member").replica;
            cluster.hosts.insert(a, Host::new(is_replica, cluster.settings.sync_us));
            for &b in &nodes[i + 1..] {
                cluster.links.push(Link::new(a, b, cluster.settings.delay_us));
            }
        }
        cluster
    }

    pub fn start_all(&mut self) {
        for node in self.nodes() {
            if !self.is_running(node) {
                self.start(node);
            }
        }
    }

    pub fn nodes(&self) -> Vec<NodeId> {
        self.membership.members().iter().map(|member| member.node).collect()
    }

    pub fn replicas(&self) -> Vec<NodeId> {
        let members = self.membership.members().iter();
        members.filter(|member| member.roles.replica).map(|member| member.node).collect()
    }

    pub fn is_running(&self, node: NodeId) -> bool {
        self.hosts[&node].node.is_some()
    }

    pub fn is_paused(&self, node: NodeId) -> bool {
        self.hosts[&node].paused.is_some()
    }

    /// The node that leads and says so, if it is one.
    pub fn leader(&self) -> Option<NodeId> {
        let leading = |host: &Host| host.node.as_ref().is_some_and(|node| node.view().leading);
        let mut leaders = self.hosts.iter().filter(|(_, host)| leading(host));
        let leader = *leaders.next()?.0;
        leaders.next().is_none().then_some(leader)
    }

    /// A number of `from..=to`.
    pub fn draw(&mut self, (from, to): (u64, u64)) -> u64 {
        self.dice.random_range(from..=to)
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.dice.random_range(0..of.len())]
    }

    // What can be done to it.

    /// Starts a node from its log.
    pub fn start(&mut self, id: NodeId) {
        let seed = match self.settings.random_start {
            true => self.dice.next_u64(),
            false if id.0 == self.settings.first_leader => 0,
            false => u64::from(id.0) * self.settings.election_timeout_us / 20,
        };
        // Each life has its own origin of the monotonic clock.
        let clock_us = if self.settings.random_start { self.draw((0, 1 << 40)) } else { 0 };
        let now_us = self.now_us;
        let host = self.hosts.get_mut(&id).expect("a member");
        assert!(host.node.is_none());
        let recovered = host.wal.recover();
        self.checker.on_recovered(id, &host.wal, recovered.first_unchosen);
        host.machine = Machine::new();
        if host.is_replica {
            for slot in (1..recovered.first_unchosen.0).map(Slot) {
                let (_, value) = host.wal.value(slot).expect("just checked");
                host.machine.apply(slot, value);
            }
        } else {
            host.machine.applied_end = recovered.first_unchosen;
        }
        host.clock_us = clock_us.wrapping_sub(now_us);
        let config = NodeConfig {
            node: id,
            membership: self.membership.clone(),
            election_timeout_us: self.settings.election_timeout_us,
            request_timeout_us: self.settings.request_timeout_us,
            window_slots: self.settings.window_slots,
        };
        let mut fx = Effects::new(id);
        host.node = Some(Node::new(config, &recovered, seed, host.now(now_us), &mut fx));
        if 0 < host.life {
            self.coverage.restarts += 1;
        }
        host.life += 1;
        self.note(|| format!("{id} starts: {recovered:?}"));
        let inputs = self.carry_out(id, fx);
        assert!(inputs.is_empty());
        self.schedule_tick(id);
        self.dial_all(id);
    }

    /// The process dies. What it had sent may still arrive. Its peers hear of it soon if its machine
    /// lives (`power`: false), or when they give up.
    pub fn crash(&mut self, id: NodeId, power: bool) {
        let host = self.hosts.get_mut(&id).expect("a member");
        if host.node.take().is_none() {
            return;
        }
        host.life += 1;
        // Some of what was not synced may have reached the disk.
        let len = self.dice.random_range(host.wal.durable()..=host.wal.len());
        self.make_durable(id, len);
        let host = self.hosts.get_mut(&id).expect("a member");
        host.wal.crash();
        host.paused = None;
        host.syncing = false;
        host.held.clear();
        host.tick_at_us = None;
        host.read_floors.clear();
        self.note(|| format!("{id} crashes"));
        for link in 0..self.links.len() {
            if self.links[link].nodes.contains(&id) {
                let side = self.links[link].side(id);
                self.close_side(link, side, !power);
            }
        }
    }

    pub fn pause(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).expect("a member");
        if host.node.is_some() && host.paused.is_none() {
            host.paused = Some(Vec::new());
            self.note(|| format!("{id} is paused"));
        }
    }

    /// All that came meanwhile is there at once, in one turn.
    pub fn resume(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).expect("a member");
        if let Some(mut inputs) = host.paused.take() {
            inputs.push(Input::Tick);
            self.note(|| format!("{id} goes on"));
            self.turn(id, inputs);
            self.release(id);
        }
    }

    /// Packets from `a` to `b` are lost from now on.
    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        let link = self.link(a, b);
        let side = self.links[link].side(a);
        let was_cut = self.links[link].is_cut();
        self.links[link].cut[side] = true;
        self.note(|| format!("cut {a}>{b}"));
        if !was_cut {
            for side in 0..2 {
                self.give_up_later(link, side);
            }
        }
    }

    pub fn cut_both(&mut self, a: NodeId, b: NodeId) {
        self.cut(a, b);
        self.cut(b, a);
    }

    pub fn heal(&mut self, a: NodeId, b: NodeId) {
        let link = self.link(a, b);
        if self.links[link].is_cut() {
            self.links[link].cut = [false; 2];
            self.note(|| format!("heal {a}-{b}"));
            for from in 0..2 {
                self.schedule(0, Happening::Arrival { link, from });
            }
            self.dial_later(link);
        }
    }

    pub fn heal_all(&mut self) {
        for link in 0..self.links.len() {
            let [a, b] = self.links[link].nodes;
            self.heal(a, b);
        }
    }

    /// The connection of a pair breaks; what was on the way is lost.
    pub fn reset(&mut self, a: NodeId, b: NodeId) {
        let link = self.link(a, b);
        self.note(|| format!("the connection {a}-{b} breaks"));
        for side in 0..2 {
            self.links[link].pipe[side].clear();
            self.close_side(link, side, false);
        }
    }

    /// Messages of any time before arrive once more. Safety must not lean on connections.
    pub fn replay(&mut self, count: usize) {
        for _ in 0..count.min(self.sent.len()) {
            let (from, to, message) = self.sent[self.dice.random_range(0..self.sent.len())].clone();
            self.input(to, Input::Message(from, message));
        }
    }

    pub fn delay(&mut self, a: NodeId, b: NodeId, delay_us: (u64, u64)) {
        let link = self.link(a, b);
        self.links[link].delay_us = delay_us;
    }

    pub fn slow_disk(&mut self, id: NodeId, sync_us: (u64, u64)) {
        self.hosts.get_mut(&id).expect("a member").sync_us = sync_us;
    }

    /// A client's command; false if nobody is there to take it.
    pub fn command(&mut self, id: NodeId, command: Command, client: u64) -> bool {
        if !self.is_running(id) {
            return false;
        }
        self.input(id, Input::Command(command, client));
        true
    }

    /// A client's read; false if nobody is there to take it.
    pub fn read(&mut self, id: NodeId, read: u64) -> bool {
        if !self.is_running(id) {
            return false;
        }
        let floor = self.checker.seen_end();
        self.hosts.get_mut(&id).expect("a member").read_floors.insert(read, floor);
        self.input(id, Input::Read(read));
        true
    }

    pub fn hand_over(&mut self, id: NodeId) {
        if self.is_running(id) {
            self.note(|| format!("{id} hands over"));
            self.input(id, Input::HandOver);
        }
    }

    pub fn alarm(&mut self, in_us: u64, token: u64) {
        self.schedule(in_us, Happening::Alarm(token));
    }

    /// Lets the next thing happen, if it does not lie behind `until_us`; otherwise time goes there.
    /// Returns the token of an alarm that is due.
    pub fn step(&mut self, until_us: u64) -> Option<u64> {
        let Some(&Reverse((at_us, key))) = self.happenings.peek() else {
            self.now_us = until_us;
            return None;
        };
        if until_us < at_us {
            self.now_us = until_us;
            return None;
        }
        self.happenings.pop();
        assert!(self.now_us <= at_us);
        self.now_us = at_us;
        match self.happening.remove(&key).expect("one for each key") {
            Happening::Arrival { link, from } => self.on_arrival(link, from),
            Happening::Dial { link } => self.on_dial(link),
            Happening::GiveUp { link, epoch, side } => {
                let link_now = &self.links[link];
                if link_now.epoch == epoch && link_now.up[side] {
                    let other = link_now.nodes[1 - side];
                    if link_now.is_cut() || !self.is_running(other) {
                        self.close_side(link, side, true);
                    }
                }
            }
            Happening::Tick { node, at_us } => {
                if self.hosts[&node].tick_at_us == Some(at_us) {
                    self.hosts.get_mut(&node).expect("a member").tick_at_us = None;
                    self.input(node, Input::Tick);
                }
            }
            Happening::Synced { node, life, len } => {
                if self.hosts[&node].life == life {
                    self.make_durable(node, len);
                    self.hosts.get_mut(&node).expect("a member").syncing = false;
                    self.release(node);
                    self.sync(node);
                }
            }
            Happening::Alarm(token) => return Some(token),
        }
        None
    }

    /// Lets time pass; alarms are for callers that step by themselves.
    pub fn run(&mut self, for_us: u64) {
        let until_us = self.now_us + for_us;
        while self.now_us < until_us {
            self.step(until_us);
        }
    }

    // The driver of one node.

    fn input(&mut self, id: NodeId, input: Input) {
        let host = self.hosts.get_mut(&id).expect("a member");
        if host.node.is_none() {
            return;
        }
        match &mut host.paused {
            Some(waiting) => waiting.push(input),
            None => self.turn(id, vec![input]),
        }
    }

    fn turn(&mut self, id: NodeId, mut inputs: Vec<Input>) {
        while !inputs.is_empty() {
            let now_us = self.now_us;
            let mut fx = Effects::new(id);
            for input in inputs {
                if self.trace.messages {
                    self.note(|| format!("{id} <- {input:?}"));
                }
                self.coverage.on_input(&input);
                let host = self.hosts.get_mut(&id).expect("a member");
                let now = host.now(now_us);
                let node = host.node.as_mut().expect("running");
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
            let host = self.hosts.get_mut(&id).expect("a member");
            let now = host.now(now_us);
            host.node.as_mut().expect("running").end_turn(now, &mut fx);
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
        let host = self.hosts.get_mut(&id).expect("a member");
        for record in fx.records {
            self.coverage.on_record(&host.wal, &record);
            host.wal.append(record);
        }
        for (to, message) in fx.sends {
            assert!(to != id, "messages to oneself stay inside or wait for the sync");
            self.transmit(id, to, message);
        }
        let host = self.hosts.get_mut(&id).expect("a member");
        let len = host.wal.len();
        host.held.extend(fx.sends_after_sync.into_iter().map(|(to, message)| (len, to, message)));
        let inputs = self.release_held(id);
        self.sync(id);

        for chosen in fx.chosen {
            self.checker.on_handed_out(id, chosen.slot, &chosen.value);
            let host = self.hosts.get_mut(&id).expect("a member");
            if !host.is_replica {
                assert_eq!(chosen.slot, host.machine.applied_end, "handed out in order");
                host.machine.applied_end = chosen.slot.next();
                continue;
            }
            for applied in host.machine.apply(chosen.slot, &chosen.value) {
                self.checker.on_executed(id, applied.id, applied.executed);
                let host = self.hosts.get_mut(&id).expect("a member");
                let waiting = host.node.as_mut().and_then(|node| node.finish(applied.id));
                if let Some(client) = waiting {
                    if applied.executed < chosen.slot {
                        self.coverage.duplicates += 1;
                    }
                    self.checker.on_acked(applied.id, applied.executed, chosen.slot.next());
                    let (command, slot) = (applied.id, applied.executed);
                    self.note(|| format!("{id} tells client {client}: done in slot {slot}"));
                    self.replies.push(Reply::Done { client, id: command, node: id, slot });
                }
            }
        }
        for read in fx.reads_ready {
            let host = self.hosts.get_mut(&id).expect("a member");
            let floor = host.read_floors.remove(&read).expect("a read is answered once");
            let end = host.machine.applied_end;
            self.checker.on_read(id, floor, end);
            self.coverage.reads += 1;
            self.note(|| format!("{id} answers read {read} from the slots below {end}"));
            self.replies.push(Reply::Read { read, node: id, end });
        }
        for reply in fx.learn_replies {
            let (first_slot, first_unchosen) = (reply.first_slot, reply.first_unchosen);
            let len_max = self.settings.learn_values_max;
            let host = &self.hosts[&id];
            let values = host.wal.values(first_slot, first_unchosen, len_max);
            if !values.is_empty() {
                self.transmit(id, reply.to, Message::Chosen { first_slot, values, first_unchosen });
            }
        }
        for expired in fx.expired {
            self.note(|| match expired {
                Expired::Command { client, definite, .. } => {
                    let sure = if definite { "certainly not done" } else { "perhaps done" };
                    format!("{id} tells client {client}: too late, {sure}")
                }
                Expired::Read { read } => format!("{id} gives up read {read}"),
            });
            self.replies.push(match expired {
                Expired::Command { id, client, definite } => {
                    Reply::Expired { client, id, definite }
                }
                Expired::Read { read } => {
                    self.hosts.get_mut(&id).expect("a member").read_floors.remove(&read);
                    Reply::ReadExpired { read }
                }
            });
        }
        inputs
    }

    fn make_durable(&mut self, id: NodeId, len: usize) {
        let host = self.hosts.get_mut(&id).expect("a member");
        for record in host.wal.make_durable(len) {
            self.checker.on_durable(id, &record);
        }
    }

    fn sync(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).expect("a member");
        let len = host.wal.len();
        if host.syncing || len == host.wal.durable() || host.node.is_none() {
            return;
        }
        host.syncing = true;
        let (life, sync_us) = (host.life, host.sync_us);
        let in_us = self.draw(sync_us);
        self.schedule(in_us, Happening::Synced { node: id, life, len });
    }

    /// Sends what waited for the sync, unless the process is paused.
    fn release(&mut self, id: NodeId) {
        if self.hosts[&id].paused.is_none() && self.hosts[&id].node.is_some() {
            let inputs = self.release_held(id);
            self.turn(id, inputs);
        }
    }

    fn release_held(&mut self, id: NodeId) -> Vec<Input> {
        let mut inputs = Vec::new();
        loop {
            let host = self.hosts.get_mut(&id).expect("a member");
            match host.held.front() {
                Some((len, ..)) if *len <= host.wal.durable() => {}
                _ => return inputs,
            }
            let (_, to, message) = host.held.pop_front().expect("just seen");
            if to == id {
                self.checker.on_message(id, &host.wal, &message);
                inputs.push(Input::Message(id, message));
            } else {
                self.transmit(id, to, message);
            }
        }
    }

    fn schedule_tick(&mut self, id: NodeId) {
        let now_us = self.now_us;
        let host = self.hosts.get_mut(&id).expect("a member");
        let Some(node) = &host.node else { return };
        let in_us = node.next_deadline_us().saturating_sub(host.now(now_us).mono_us);
        let at_us = now_us + in_us;
        if host.tick_at_us != Some(at_us) {
            host.tick_at_us = Some(at_us);
            self.schedule(in_us, Happening::Tick { node: id, at_us });
        }
    }

    // The network.

    fn link(&self, a: NodeId, b: NodeId) -> usize {
        let nodes = [a.min(b), a.max(b)];
        self.links.iter().position(|link| link.nodes == nodes).expect("a pair of members")
    }

    fn transmit(&mut self, from: NodeId, to: NodeId, message: Message) {
        self.checker.on_message(from, &self.hosts[&from].wal, &message);
        self.coverage.on_send(to, &message);
        if self.sent.len() < self.sent_len_max {
            self.sent.push((from, to, message.clone()));
        } else if 0 < self.sent_len_max {
            let at = self.dice.random_range(0..self.sent_len_max);
            self.sent[at] = (from, to, message.clone());
        }
        let link = self.link(from, to);
        let side = self.links[link].side(from);
        if self.links[link].up[side] {
            self.push(link, side, Parcel::Message(message));
        }
    }

    fn push(&mut self, link: usize, side: usize, parcel: Parcel) {
        let delay_us = self.links[link].delay_us;
        let in_us = self.draw(delay_us).max(1);
        let pipe = &mut self.links[link].pipe[side];
        let at_us = (self.now_us + in_us).max(pipe.back().map_or(0, |(at_us, _)| *at_us));
        pipe.push_back((at_us, parcel));
        self.schedule(at_us - self.now_us, Happening::Arrival { link, from: side });
    }

    fn on_arrival(&mut self, link: usize, from: usize) {
        loop {
            let state = &mut self.links[link];
            let (sender, receiver) = (state.nodes[from], state.nodes[1 - from]);
            let due = state.pipe[from].front().is_some_and(|(at_us, _)| *at_us <= self.now_us);
            if !due || state.cut[from] {
                return;
            }
            let (_, parcel) = state.pipe[from].pop_front().expect("just seen");
            if !state.up[1 - from] {
                continue;
            }
            match parcel {
                Parcel::Message(message) => self.input(receiver, Input::Message(sender, message)),
                Parcel::End => self.close_side(link, 1 - from, false),
            }
        }
    }

    /// One side no longer has the connection; if `tell`, the other hears of it behind all that was
    /// sent, and in any case when it gives up.
    fn close_side(&mut self, link: usize, side: usize, tell: bool) {
        let state = &mut self.links[link];
        if !state.up[side] {
            return;
        }
        state.up[side] = false;
        let (node, peer) = (state.nodes[side], state.nodes[1 - side]);
        state.pipe[1 - side].clear();
        if state.up[1 - side] {
            if tell {
                self.push(link, side, Parcel::End);
            }
            self.give_up_later(link, 1 - side);
        }
        self.input(node, Input::PeerDown(peer));
        self.dial_later(link);
    }

    fn give_up_later(&mut self, link: usize, side: usize) {
        let epoch = self.links[link].epoch;
        let in_us = self.draw(self.settings.stall_us);
        self.schedule(in_us, Happening::GiveUp { link, epoch, side });
    }

    fn dial_all(&mut self, id: NodeId) {
        for link in 0..self.links.len() {
            if self.links[link].nodes.contains(&id) {
                self.dial_later(link);
            }
        }
    }

    fn dial_later(&mut self, link: usize) {
        let in_us = self.draw(self.settings.dial_us);
        self.schedule(in_us, Happening::Dial { link });
    }

    fn on_dial(&mut self, link: usize) {
        let state = &self.links[link];
        let nodes = state.nodes;
        let reachable = !state.is_cut()
            && nodes.iter().all(|node| self.is_running(*node) && !self.is_paused(*node));
        if state.up == [true; 2] {
            return;
        }
        if !reachable {
            // Healing and restarting dial again; only the end of a pause does not.
            if nodes.iter().any(|node| self.is_paused(*node)) {
                self.dial_later(link);
            }
            return;
        }
        // A side that still has the old connection loses it to the new one.
        for side in 0..2 {
            if self.links[link].up[side] {
                self.links[link].up[side] = false;
                self.input(nodes[side], Input::PeerDown(nodes[1 - side]));
            }
        }
        let state = &mut self.links[link];
        state.epoch += 1;
        state.up = [true; 2];
        state.pipe = [VecDeque::new(), VecDeque::new()];
        let [a, b] = nodes;
        if self.trace.messages {
            self.note(|| format!("connected {a}-{b}"));
        }
        self.input(a, Input::PeerUp(b));
        self.input(b, Input::PeerUp(a));
    }

    fn schedule(&mut self, in_us: u64, happening: Happening) {
        let key = self.happenings_len;
        self.happenings_len += 1;
        self.happenings.push(Reverse((self.now_us + in_us, key)));
        self.happening.insert(key, happening);
    }

    // The trace.

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        if self.trace.len_max == 0 {
            return;
        }
        if self.trace.lines.len() == self.trace.len_max {
            self.trace.lines.pop_front();
        }
        let ms = self.now_us as f64 / 1000.0;
        self.trace.lines.push_back(format!("{ms:9.3} {}", line()));
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

impl Host {
    fn new(is_replica: bool, sync_us: (u64, u64)) -> Host {
        Host {
            node: None,
            wal: Wal::default(),
            machine: Machine::new(),
            life: 0,
            clock_us: 0,
            is_replica,
            paused: None,
            syncing: false,
            sync_us,
            held: VecDeque::new(),
            tick_at_us: None,
            read_floors: BTreeMap::new(),
        }
    }

    fn now(&self, now_us: u64) -> Now {
        Now { mono_us: now_us.wrapping_add(self.clock_us), wall_us: now_us }
    }
}

/// A command of a session with a short text.
pub fn command(session: u64, seq: u64, payload: &[u8]) -> Command {
    let id = CommandId { session: loggos::paxos::SessionId(session), seq };
    Command { id, acknowledged: 1, payload: std::sync::Arc::from(payload) }
}

/// Whether a record is a vote.
pub fn is_accepted(record: &Record) -> bool {
    matches!(record, Record::Accepted { .. })
}
