//! One process of the model: the real `Node`, what of its log is durable, and what it has told others.
//!
//! A `Process` is a value: the checker copies it, gives the copy one input, and has a new one.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use loggos::paxos::{
    Ballot, Batch, Command, CommandId, Configurations, Effects, Event, LeaseConfig, Message, Node,
    NodeConfig, NodeId, Now, Optimisations, Record, Recovered, RecoveredSlot, SessionId, Slot,
    Value,
};

use super::setup::{Bug, Setup, Sync};

/// A tick of the node; far below the end of the first heartbeat round, which the model never reaches.
const TICK_US: u64 = 1 << 20;

/// Ticks that a process may take in one life before its first heartbeat round would end.
const TICKS_PER_LIFE: u8 = 3;

#[derive(Clone, Hash)]
pub struct Process {
    pub node: Node,
    pub wal: Wal,
    /// Records that are not durable yet.
    pending: Vec<Record>,
    /// Messages that wait for them.
    held: Vec<(NodeId, Message)>,
    /// The value of each pvalue that this acceptor ever accepted durably: what is chosen rests on these,
    /// whatever the nodes think.
    pub votes: BTreeMap<(Ballot, Slot), Value>,
    /// The values handed out for applying, from slot 1 up.
    pub applied: Vec<Value>,
    /// The highest promise that this acceptor told anybody.
    told_promise: Ballot,
    /// How often it was started again.
    pub lives: u8,
    /// Whether it accepted something durably after it was started again.
    pub voted_again: bool,
    ticks: u8,
}

/// What is durable, as far as a restart looks at it.
#[derive(Clone, Default, Hash)]
pub struct Wal {
    pub promised: Ballot,
    pub own_ballot: Ballot,
    first_unchosen: Slot,
    /// The last record of each slot.
    pub slots: BTreeMap<Slot, RecoveredSlot>,
}

/// What happens to a process.
#[derive(Clone, Debug)]
pub enum Input {
    Message(NodeId, Message),
    /// The election says: compete now.
    Compete,
    /// A client's command, by its number.
    Command(u8),
    Tick,
    PeerUp(NodeId),
}

/// What came of it.
#[derive(Default)]
pub struct Output {
    pub sends: Vec<(NodeId, Message)>,
    /// What must never happen and did.
    pub faults: Vec<Fault>,
    /// The highest slot that a value was newly proposed for.
    pub proposed: Slot,
    /// Where a crash may tear the step apart.
    pub tears: Vec<Tear>,
    /// Messages of the node to itself, which come after their sync at once and for certain.
    own: Vec<Message>,
}

/// A crash in the middle of a step: in which of its turns, and how many of that turn's records are
/// durable. What waited for their sync is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tear {
    turn: u8,
    kept: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A promise went back, at a restart or otherwise.
    PromiseWentBack,
    /// A message left before a record that it rests on was durable.
    RevealedBeforeDurable,
    /// An acceptor accepted two values in one ballot and slot.
    TwoValuesInOneBallot,
}

impl Process {
    /// A process that never ran before.
    pub fn first(setup: &Setup, me: NodeId) -> Process {
        let wal = Wal { first_unchosen: Slot::FIRST, ..Wal::default() };
        let (node, applied) = start(setup, me, &wal, 0);
        Process {
            node,
            wal,
            pending: Vec::new(),
            held: Vec::new(),
            votes: BTreeMap::new(),
            applied,
            told_promise: Ballot::NONE,
            lives: 0,
            voted_again: false,
            ticks: 0,
        }
    }

    pub fn can_tick(&self) -> bool {
        self.ticks < TICKS_PER_LIFE
    }

    /// Records that a crash may lose.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// A turn with one input; where syncs are part of the turn, the sync too, and then a turn for each
    /// message of the node to itself.
    pub fn turns(&mut self, setup: &Setup, input: Input, torn: Option<Tear>, out: &mut Output) {
        let me = self.node.id();
        let mut inputs = VecDeque::from([input]);
        let mut turn = 0;
        while let Some(input) = inputs.pop_front() {
            self.turn(setup, input, out);
            if setup.sync == Sync::Later {
                return;
            }
            if let Some(Tear { kept, .. }) = torn.filter(|torn| torn.turn == turn) {
                return self.crash(setup, kept.into(), out);
            }
            let written = u8::try_from(self.pending.len()).expect("a turn writes few records");
            // With all records kept and nothing to follow, a crash is one after the step.
            let kept = 0..written + u8::from(!self.held.is_empty());
            out.tears.extend(kept.map(|kept| Tear { turn, kept }));
            self.make_all_durable(setup, out);
            inputs.extend(out.own.drain(..).map(|message| Input::Message(me, message)));
            turn += 1;
        }
    }

    /// Records stay pending, and what waits for them is held.
    fn turn(&mut self, setup: &Setup, input: Input, out: &mut Output) {
        let me = self.node.id();
        self.ticks += u8::from(matches!(input, Input::Tick));
        let now = Now { mono_us: u64::from(self.ticks) * TICK_US, wall_us: me.0.into() };
        let mut fx = Effects::new(me);
        let node = &mut self.node;
        let promised = node.view().promised;
        match input {
            Input::Message(from, message) => {
                if let Some(other) = counted_as(setup, from, &message) {
                    node.on_message(now, other, message.clone(), &mut fx);
                }
                node.on_message(now, from, message, &mut fx);
            }
            Input::Compete => {
                // The one input that makes a node compete at once: with it, the model has all that an
                // election can do and none of its clocks.
                let ballot = node.view().ballot;
                node.on_message(now, me, Message::TakeOver { ballot }, &mut fx);
            }
            Input::Command(number) => node.on_command(now, command(number), 0),
            Input::Tick => node.on_tick(now, &mut fx),
            Input::PeerUp(peer) => node.on_peer_up(now, peer, &mut fx),
        }
        node.end_turn(now, &mut fx);

        if node.view().promised < promised {
            out.faults.push(Fault::PromiseWentBack);
        }
        self.carry_out(setup, fx, out);
        if setup.learns {
            self.tell_chosen(setup, now, out);
        }
    }

    /// In the order that `Effects` demands.
    fn carry_out(&mut self, setup: &Setup, fx: Effects, out: &mut Output) {
        self.pending.extend(fx.records);
        for (to, message) in fx.sends {
            self.leave(setup, to, message, out);
        }
        for (to, message) in fx.sends_after_sync {
            if setup.bug == Some(Bug::SpeaksBeforeSync) {
                self.leave(setup, to, message, out);
            } else {
                self.hold(to, message);
            }
        }
        for chosen in fx.chosen {
            assert_eq!(chosen.slot, Slot::FIRST.plus(self.applied.len()), "in order, each once");
            let batch = Batch::decode(&chosen.value.0).expect("a chosen value is a batch");
            for command in batch.commands() {
                self.node.finish(command.id);
            }
            self.applied.push(chosen.value);
        }
        for event in fx.events {
            if let Event::Proposed { slot, .. } = event {
                out.proposed = out.proposed.max(slot);
            }
        }
        assert!(fx.expired.is_empty(), "no time passes that a client would notice");
    }

    /// Of messages that are equal one is enough, and their order does not matter to the network.
    fn hold(&mut self, to: NodeId, message: Message) {
        let rank = |held: &(NodeId, Message)| {
            let mut hasher = DefaultHasher::new();
            held.hash(&mut hasher);
            hasher.finish()
        };
        let held = (to, message);
        if !self.held.contains(&held) {
            self.held.push(held);
            self.held.sort_by_cached_key(rank);
        }
    }

    /// All that was written is durable now; what waited for that leaves, or is handled if it is the
    /// node's own.
    pub fn sync(&mut self, setup: &Setup, out: &mut Output) {
        let me = self.node.id();
        self.make_all_durable(setup, out);
        for message in std::mem::take(&mut out.own) {
            self.turn(setup, Input::Message(me, message), out);
        }
    }

    fn make_all_durable(&mut self, setup: &Setup, out: &mut Output) {
        for record in std::mem::take(&mut self.pending) {
            self.make_durable(record, out);
        }
        for (to, message) in std::mem::take(&mut self.held) {
            self.leave(setup, to, message, out);
        }
    }

    /// The process dies and starts again. Of what it wrote, the first `kept` records are durable.
    pub fn crash(&mut self, setup: &Setup, kept: usize, out: &mut Output) {
        for record in std::mem::take(&mut self.pending).into_iter().take(kept) {
            self.make_durable(record, out);
        }
        self.held.clear();
        self.lives += 1;
        self.ticks = 0;
        (self.node, self.applied) = start(setup, self.node.id(), &self.wal, self.lives);
        if self.node.view().promised < self.told_promise {
            out.faults.push(Fault::PromiseWentBack);
        }
    }

    fn make_durable(&mut self, record: Record, out: &mut Output) {
        if let Record::Accepted { ballot, slot, value } = &record {
            let voted = self.votes.entry((*ballot, *slot)).or_insert(value.clone());
            if voted != value {
                out.faults.push(Fault::TwoValuesInOneBallot);
            }
            self.voted_again |= 0 < self.lives;
        }
        self.wal.write(record);
    }

    fn leave(&mut self, setup: &Setup, to: NodeId, mut message: Message, out: &mut Output) {
        if !self.rests_on_durable(&message) {
            out.faults.push(Fault::RevealedBeforeDurable);
        }
        match &mut message {
            // Whom to ask for chosen values is liveness: here everybody is asked by everybody, always.
            Message::LearnRequest { .. } => return,
            Message::Propose { .. } if !setup.forwards => return,
            Message::P1b(p1b) => {
                self.told_promise = self.told_promise.max(p1b.promised);
                match setup.bug {
                    Some(Bug::HidesAccepted) => p1b.accepted.clear(),
                    Some(Bug::LowestIsAdopted) => {
                        for pvalue in &mut p1b.accepted {
                            pvalue.ballot.round = 100 - pvalue.ballot.round;
                        }
                    }
                    _ => {}
                }
            }
            Message::P2b(p2b) => self.told_promise = self.told_promise.max(p2b.promised),
            _ => {}
        }
        if to == self.node.id() {
            out.own.push(message);
        } else {
            out.sends.push((to, message));
        }
    }

    /// Whether all records that the message rests on are durable.
    fn rests_on_durable(&self, message: &Message) -> bool {
        let me = self.node.id();
        let wal = &self.wal;
        match message {
            Message::P1a { ballot, .. }
            | Message::P2a { ballot, .. }
            | Message::Confirm { ballot, .. } => ballot.node == me && *ballot <= wal.own_ballot,
            Message::P1b(p1b) => {
                p1b.promised <= wal.promised
                    && p1b.first_unchosen <= wal.known_chosen()
                    && p1b.accepted.iter().all(|pvalue| {
                        wal.slots.get(&pvalue.slot).is_some_and(|last| pvalue.ballot <= last.ballot)
                    })
            }
            Message::P2b(p2b) => {
                let unwritten = self.pending.iter().any(|record| match record {
                    Record::Accepted { ballot, slot, .. } => {
                        *ballot == p2b.ballot && *slot < p2b.accepted_end
                    }
                    _ => false,
                });
                p2b.promised <= wal.promised && !unwritten
            }
            Message::ConfirmAck { ballot, .. } => *ballot <= wal.promised,
            _ => true,
        }
    }

    /// Answers the request for chosen values that every other node may have sent at any time.
    fn tell_chosen(&mut self, setup: &Setup, now: Now, out: &mut Output) {
        let me = self.node.id();
        for peer in setup.nodes().filter(|peer| *peer != me) {
            let mut fx = Effects::new(me);
            let request = Message::LearnRequest { first_slot: Slot::FIRST };
            self.node.on_message(now, peer, request, &mut fx);
            for reply in fx.learn_replies {
                let slots = reply.first_slot.0..reply.first_unchosen.0;
                let values = slots.map(|slot| self.recorded(Slot(slot))).collect();
                let (first_slot, first_unchosen) = (reply.first_slot, reply.first_unchosen);
                out.sends.push((reply.to, Message::Chosen { first_slot, values, first_unchosen }));
            }
        }
    }

    /// The last record of a slot that is known to be chosen, durable or not.
    fn recorded(&self, slot: Slot) -> (Ballot, Value) {
        let unwritten = self.pending.iter().rev().find_map(|record| match record {
            Record::Accepted { ballot, slot: of, value }
            | Record::Chosen { ballot, slot: of, value }
                if *of == slot =>
            {
                Some((*ballot, value.clone()))
            }
            _ => None,
        });
        unwritten.unwrap_or_else(|| {
            let last = self.wal.slots.get(&slot).expect("a slot known to be chosen has a record");
            (last.ballot, last.value.clone())
        })
    }
}

impl Wal {
    fn write(&mut self, record: Record) {
        match record {
            Record::Promised(ballot) => self.promised = self.promised.max(ballot),
            Record::OwnBallot(ballot) => self.own_ballot = self.own_ballot.max(ballot),
            Record::FirstUnchosen(slot) => self.first_unchosen = slot,
            Record::Jumped(_) => unreachable!("nobody has a snapshot"),
            Record::Accepted { ballot, slot, value } => {
                self.promised = self.promised.max(ballot);
                self.slots.insert(slot, RecoveredSlot { slot, ballot, value, chosen: false });
            }
            Record::Chosen { ballot, slot, value } => {
                self.slots.insert(slot, RecoveredSlot { slot, ballot, value, chosen: true });
            }
        }
    }

    /// What reading the log back amounts to.
    fn recover(&self) -> Recovered {
        Recovered {
            promised: self.promised,
            own_ballot: self.own_ballot,
            first_unchosen: self.first_unchosen,
            tail: self.slots.range(self.first_unchosen..).map(|(_, last)| last.clone()).collect(),
            ..Recovered::default()
        }
    }

    /// A restart would know all slots below to be chosen.
    fn known_chosen(&self) -> Slot {
        let mut slot = self.first_unchosen;
        while self.slots.get(&slot).is_some_and(|last| last.chosen) {
            slot = slot.next();
        }
        slot
    }
}

/// More than any of these clusters comes to.
const ALPHA_SLOTS: usize = 16;

/// A node as it starts, and the values that it knows to be chosen.
fn start(setup: &Setup, me: NodeId, wal: &Wal, lives: u8) -> (Node, Vec<Value>) {
    let mut recovered = wal.recover();
    match setup.bug {
        Some(Bug::RestartForgetsPromise) => recovered.promised = Ballot::NONE,
        Some(Bug::RestartForgetsAccepted) => recovered.tail.retain(|slot| slot.chosen),
        Some(Bug::RestartForgetsOwnBallot) => recovered.own_ballot = Ballot::NONE,
        _ => {}
    }
    let config = NodeConfig {
        node: me,
        roles: setup.roles[usize::from(me.0) - 1],
        configurations: Configurations::new(setup.configuration(me), ALPHA_SLOTS),
        election_timeout_us: 4 * TICK_US,
        request_timeout_us: 1 << 40,
        window_slots: setup.window_slots,
        optimisations: Optimisations::default(),
        lease: LeaseConfig::default(),
        snapshot_chunk_size: 1,
    };
    // The last moment at which a first heartbeat round may end: behind all ticks of this life.
    let seed = 2 * TICK_US - 1 - u64::from(lives);
    let mut fx = Effects::new(me);
    let node = Node::new(config, &recovered, seed, Now::default(), &mut fx);
    let mut applied: Vec<Value> =
        wal.slots.range(..recovered.first_unchosen).map(|(_, last)| last.value.clone()).collect();
    applied.extend(fx.chosen.into_iter().map(|chosen| chosen.value));
    (node, applied)
}

/// A second sender for which the message is taken as well, if that is the bug.
fn counted_as(setup: &Setup, from: NodeId, message: &Message) -> Option<NodeId> {
    let twice = matches!(
        (setup.bug?, message),
        (Bug::VoteCountsTwice, Message::P2b(_)) | (Bug::PromiseCountsTwice, Message::P1b(_))
    );
    let others = setup.nodes().filter(|node| setup.roles[usize::from(node.0) - 1].acceptor);
    twice.then(|| others.cycle().skip_while(|node| *node != from).nth(1).expect("a next one"))
}

fn command(number: u8) -> Command {
    let id = CommandId { session: SessionId(1), seq: number.into() };
    Command { id, acknowledged: 1, payload: [number].into() }
}

/// Which commands a value holds, as bits by their numbers; `None` if no client ever sent what it holds.
pub fn commands_of(value: &Value, setup: &Setup) -> Option<u8> {
    let mut bits = 0;
    for held in Batch::decode(&value.0)?.commands() {
        let number = held.payload.first().copied()?;
        let sent = command(number);
        if setup.commands.len() <= usize::from(number)
            || (held.id, held.payload) != (sent.id, &sent.payload[..])
        {
            return None;
        }
        bits |= 1 << number;
    }
    Some(bits)
}
