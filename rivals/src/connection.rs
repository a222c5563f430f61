//! One connection of the load, and the operations that are under way on it: dialling, sending again, going elsewhere.
//!
//! None of these systems knows a write again that it is sent twice. So each attempt that brought no reply may take
//! effect on its own, whenever, even after the write was acknowledged for a later attempt and others wrote the key. A
//! put that does so harms nobody here, where values are random; but a history has to tell it (`Ended::lost_ns`).

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use loggos::bench::check::Observed;
use loggos::bench::keys::{Job, Key};
use loggos::bench::load::{Ended, Turn};
use loggos::bench::socket::Socket;
use loggos::paxos::{NodeId, SessionId};
use loggos::trace::{Operation, OperationOutcome};
use mio::Token;

use crate::protocol::{Outcome, Protocol, Reply, Request, Unsent};
use crate::system::System;

/// Back-off once every node has failed: doubled from the first to the last.
const BACK_OFF_MIN_NS: u64 = 5_000_000;
const BACK_OFF_MAX_NS: u64 = 50_000_000;
/// An operation in flight for longer raises the suspicion that the leader is gone; once another node is known to
/// lead, it is not waited for.
const STUCK_NS: u64 = 50_000_000;
/// Different errors that are kept to be told.
const ERRORS_MAX: usize = 8;

/// What all connections know of the system.
pub struct Nodes {
    pub system: System,
    pub addresses: Vec<SocketAddr>,
    /// Index of the leader, if it is looked for and known.
    pub leader: Option<usize>,
    /// Counts the announcements of `leader`; connections move when it changes.
    pub generation: u32,
    /// Some connection waits longer than it should.
    pub suspicion: bool,
    pub op_timeout_ns: u64,
    pub give_up_ns: u64,
    pub may_be_stale: bool,
    /// Keys that are known to exist, by index, for a system that creates them.
    pub created: Vec<bool>,
    /// What went wrong, and how often.
    pub errors: BTreeMap<String, u64>,
    /// The last of these.
    pub last_error: Option<String>,
}

impl Nodes {
    pub fn note(&mut self, error: String) {
        if self.errors.len() < ERRORS_MAX || self.errors.contains_key(&error) {
            *self.errors.entry(error.clone()).or_default() += 1;
        }
        self.last_error = Some(error);
    }

    /// Whether a put of the key has to create it.
    fn is_to_create(&self, key: Key) -> bool {
        matches!(key, Key::Shared(at) if self.created.get(at as usize) == Some(&false))
    }

    fn created(&mut self, key: Key) {
        if let Key::Shared(at) = key
            && let Some(created) = self.created.get_mut(at as usize)
        {
            *created = true;
        }
    }
}

struct Op {
    job: Job,
    key: Vec<u8>,
    /// Of a read: empty.
    value: Vec<u8>,
    intended_ns: u64,
    started_ns: u64,
    /// When it was last sent; means something while `outstanding`.
    sent_ns: u64,
    /// Sent over the present connection and not answered.
    outstanding: bool,
    /// It cannot be sent, and ends at the next tick: not at once, or a closed loop would start such ones for ever.
    is_refused: bool,
    lost_ns: Vec<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Down {
        until_ns: u64,
    },
    /// Until the greeting is answered.
    Dialling {
        until_ns: u64,
    },
    Ready,
}

pub struct Connection {
    id: u32,
    socket: Option<Socket>,
    protocol: Box<dyn Protocol>,
    state: State,
    /// Index of the node that we talk to or shall dial.
    at: usize,
    /// Since the last reply.
    failures: usize,
    /// By ticket.
    ops: Vec<Option<Op>>,
    free: Vec<u32>,
    in_flight: usize,
    /// Starts nothing more; goes to the leader once nothing young is in flight.
    moving: bool,
    generation: u32,
    /// Keys and values of operations that have ended, to be used again.
    spare: Vec<(Vec<u8>, Vec<u8>)>,
    replies: Vec<Reply>,
    /// Writes started so far: their numbers.
    pub writes: u64,
    /// What ended and has not been taken.
    pub ended: Vec<Ended>,
}

impl Connection {
    /// One that will dial the node with index `at`.
    pub fn new(id: u32, at: usize, nodes: &Nodes) -> Connection {
        Connection {
            id,
            socket: None,
            protocol: nodes.system.protocol(nodes.addresses[at]),
            state: State::Down { until_ns: 0 },
            at,
            failures: 0,
            ops: Vec::new(),
            free: Vec::new(),
            in_flight: 0,
            moving: false,
            generation: 0,
            spare: Vec::new(),
            replies: Vec::new(),
            writes: 0,
            ended: Vec::new(),
        }
    }

    pub fn is_ready(&self) -> bool {
        self.state == State::Ready
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Whether a write on `key` is in flight.
    pub fn writes_on(&self, key: Key) -> bool {
        self.ops.iter().flatten().any(|op| !op.is_read() && op.job.key == key)
    }

    /// Whether it may start one more operation, of `limit` in flight.
    pub fn can_start(&self, limit: usize) -> bool {
        self.is_ready() && !self.moving && self.in_flight < limit
    }

    /// Empty buffers for the key and the value of an operation.
    pub fn spare(&mut self) -> (Vec<u8>, Vec<u8>) {
        self.spare.pop().unwrap_or_default()
    }

    /// Starts an operation; `flush` sends it.
    pub fn start(
        &mut self,
        job: Job,
        (key, value): (Vec<u8>, Vec<u8>),
        intended_ns: u64,
        nodes: &mut Nodes,
        turn: Turn<'_>,
    ) {
        if job.operation != Operation::Read {
            assert!(job.number == self.writes + 1, "writes are numbered in order");
            self.writes += 1;
        }
        let ticket = self.free.pop().unwrap_or_else(|| {
            self.ops.push(None);
            self.ops.len() as u32 - 1
        });
        self.in_flight += 1;
        self.ops[ticket as usize] = Some(Op {
            job,
            key,
            value,
            intended_ns,
            started_ns: turn.now_ns,
            sent_ns: 0,
            outstanding: false,
            is_refused: false,
            lost_ns: Vec::new(),
        });
        if let Err(why) = self.send(ticket, nodes, turn) {
            nodes.note(why);
            self.leave_node(nodes, turn);
        }
    }

    pub fn flush(&mut self, nodes: &mut Nodes, turn: Turn<'_>) {
        let flushed = self.socket.as_mut().map_or(Ok(()), Socket::flush);
        self.or_leave(flushed, nodes, turn);
    }

    /// The socket is readable or writable.
    pub fn on_event(
        &mut self,
        closing: bool,
        buffer: &mut [u8],
        nodes: &mut Nodes,
        turn: Turn<'_>,
    ) {
        let Some(mut socket) = self.socket.take() else { return };
        let Connection { protocol, replies, .. } = self;
        let received = socket.flush().and_then(|()| {
            socket.receive(buffer, closing, |bytes, out| {
                protocol.receive(bytes, out, replies).map_err(io::Error::other)
            })
        });
        self.socket = Some(socket);
        // What came before the connection broke has come.
        let taken = self.take_replies(nodes, turn);
        if let Err(error) = received {
            return self.or_leave(Err(error), nodes, turn);
        }
        if let Err(why) = taken {
            nodes.note(why);
            return self.leave_node(nodes, turn);
        }
        if matches!(self.state, State::Dialling { .. }) && self.protocol.is_ready() {
            self.state = State::Ready;
            self.send_all(nodes, turn);
        }
        self.flush(nodes, turn);
        self.settle(nodes, turn);
    }

    /// What time asks for: dialling, giving up, moving, leaving a node that does not answer.
    pub fn tick(&mut self, nodes: &mut Nodes, turn: Turn<'_>) {
        if self.give_up(nodes, turn) {
            // Its reply may come yet, and would be taken for another's.
            self.leave_node(nodes, turn);
        }
        if self.generation != nodes.generation {
            self.generation = nodes.generation;
            self.moving = nodes.leader.is_some_and(|leader| leader != self.at);
        }
        match self.state {
            State::Down { .. } => self.dial(nodes, turn),
            State::Dialling { until_ns } if until_ns <= turn.now_ns => {
                nodes.note("a node did not greet us in time".to_owned());
                self.leave_node(nodes, turn);
            }
            State::Dialling { .. } => {}
            State::Ready => self.tick_ready(nodes, turn),
        }
    }

    fn tick_ready(&mut self, nodes: &mut Nodes, turn: Turn<'_>) {
        let waits = |op: &&Op| op.outstanding;
        let oldest_ns = self.ops.iter().flatten().filter(waits).map(|op| op.sent_ns).min();
        let waiting_ns = oldest_ns.map_or(0, |sent_ns| turn.now_ns.saturating_sub(sent_ns));
        if STUCK_NS <= waiting_ns {
            nodes.suspicion = true;
            if self.moving {
                return self.move_to_leader(nodes, turn);
            }
        }
        if nodes.op_timeout_ns <= waiting_ns {
            nodes.note("a node did not answer in time".to_owned());
            return self.leave_node(nodes, turn);
        }
        self.settle(nodes, turn);
    }

    /// Ends what has waited for too long or cannot be sent; returns whether some of it was outstanding.
    fn give_up(&mut self, nodes: &Nodes, turn: Turn<'_>) -> bool {
        let mut was_outstanding = false;
        for ticket in 0..self.ops.len() {
            let Some(op) = &self.ops[ticket] else { continue };
            if op.is_refused || op.started_ns + nodes.give_up_ns <= turn.now_ns {
                was_outstanding |= op.outstanding;
                let unknown = !op.is_read() && (op.outstanding || !op.lost_ns.is_empty());
                self.end(ticket as u32, outcome_of(unknown), Observed::Nothing, NodeId(0));
            }
        }
        was_outstanding
    }

    /// Once nothing is in flight: goes to the leader, if that is due.
    fn settle(&mut self, nodes: &mut Nodes, turn: Turn<'_>) {
        if self.moving && self.in_flight == 0 && self.is_ready() {
            self.move_to_leader(nodes, turn);
        }
    }

    fn move_to_leader(&mut self, nodes: &mut Nodes, turn: Turn<'_>) {
        self.moving = false;
        if let Some(leader) = nodes.leader.filter(|&leader| leader != self.at) {
            self.at = leader;
            self.hang_up(turn.now_ns);
            self.dial(nodes, turn);
        }
    }

    fn dial(&mut self, nodes: &mut Nodes, turn: Turn<'_>) {
        while let State::Down { until_ns } = self.state {
            if turn.now_ns < until_ns {
                return;
            }
            let address = nodes.addresses[self.at];
            match Socket::dial(turn.registry, Token(self.id as usize), address) {
                Ok(mut socket) => {
                    self.protocol = nodes.system.protocol(address);
                    self.protocol.greet(socket.out());
                    self.socket = Some(socket);
                    let until_ns = turn.now_ns + nodes.op_timeout_ns;
                    self.state = State::Dialling { until_ns };
                }
                Err(error) => {
                    nodes.note(format!("cannot connect: {error}"));
                    self.count_failure(nodes, turn.now_ns);
                }
            }
        }
    }

    fn or_leave(&mut self, result: io::Result<()>, nodes: &mut Nodes, turn: Turn<'_>) {
        if let Err(error) = result {
            nodes.note(error.to_string());
            self.leave_node(nodes, turn);
        }
    }

    /// This node does not serve us: tries the next one.
    fn leave_node(&mut self, nodes: &mut Nodes, turn: Turn<'_>) {
        self.count_failure(nodes, turn.now_ns);
        self.dial(nodes, turn);
    }

    fn count_failure(&mut self, nodes: &Nodes, now_ns: u64) {
        let count = nodes.addresses.len();
        self.failures += 1;
        // The first round through the nodes costs no pause.
        let pause_ns = match self.failures / count {
            0 => 0,
            round => (BACK_OFF_MIN_NS << (round - 1).min(8)).min(BACK_OFF_MAX_NS),
        };
        let leader = nodes.leader.filter(|&leader| leader != self.at && self.failures < count);
        self.at = leader.unwrap_or((self.at + 1) % count);
        self.hang_up(now_ns + pause_ns);
    }

    /// Ends the connection. What was under way over it may have happened, or may yet.
    fn hang_up(&mut self, until_ns: u64) {
        self.socket = None;
        self.state = State::Down { until_ns };
        self.replies.clear();
        for op in self.ops.iter_mut().flatten() {
            if std::mem::take(&mut op.outstanding) && !op.is_read() {
                op.lost_ns.push(op.sent_ns);
            }
        }
    }

    /// Sends whatever is not under way.
    fn send_all(&mut self, nodes: &mut Nodes, turn: Turn<'_>) {
        for ticket in 0..self.ops.len() {
            if self.ops[ticket].as_ref().is_some_and(|op| !op.outstanding && !op.is_refused)
                && let Err(why) = self.send(ticket as u32, nodes, turn)
            {
                nodes.note(why);
                return self.leave_node(nodes, turn);
            }
        }
    }

    /// Queues an operation; an error says why this connection is of no more use.
    fn send(&mut self, ticket: u32, nodes: &mut Nodes, turn: Turn<'_>) -> Result<(), String> {
        let op = self.ops[ticket as usize].as_mut().expect("only what is under way is sent");
        let (key, value) = (op.key.as_slice(), op.value.as_slice());
        let request = if op.is_read() {
            Request::Get { key, may_be_stale: nodes.may_be_stale }
        } else if nodes.is_to_create(op.job.key) {
            Request::Create { key, value }
        } else {
            Request::Put { key, value }
        };
        let socket = self.socket.as_mut().expect("only a ready connection sends");
        match self.protocol.request(ticket, request, socket.out()) {
            Ok(()) => {
                op.sent_ns = turn.now_ns;
                op.outstanding = true;
                Ok(())
            }
            Err(Unsent::WornOut(why)) => Err(why),
            Err(Unsent::Refused(why)) => {
                nodes.note(why);
                op.is_refused = true;
                Ok(())
            }
        }
    }

    /// Takes what was answered; an error says why this node is to be left.
    fn take_replies(&mut self, nodes: &mut Nodes, turn: Turn<'_>) -> Result<(), String> {
        let node = NodeId(u16::try_from(self.at + 1).expect("the options are checked"));
        let mut leave = Ok(());
        for Reply { ticket, outcome } in std::mem::take(&mut self.replies) {
            let slot = self.ops.get_mut(ticket as usize).and_then(Option::as_mut);
            let Some(op) = slot.filter(|op| op.outstanding) else {
                return Err("a reply that nobody waits for".to_owned());
            };
            let key = op.job.key;
            match outcome {
                Outcome::Done if !op.is_read() => {
                    nodes.created(key);
                    self.failures = 0;
                    self.end(ticket, OperationOutcome::Ok, Observed::Nothing, node);
                }
                Outcome::Value(value) if op.is_read() => {
                    self.failures = 0;
                    self.end(ticket, OperationOutcome::Ok, Observed::Value(value), node);
                }
                Outcome::Exists if !op.is_read() => {
                    // An earlier attempt did that; ours is to be written all the same.
                    op.outstanding = false;
                    nodes.created(key);
                    self.send(ticket, nodes, turn)?;
                }
                Outcome::Refused(why) => {
                    let unknown = !op.is_read() && !op.lost_ns.is_empty();
                    nodes.note(why);
                    self.end(ticket, outcome_of(unknown), Observed::Nothing, node);
                }
                Outcome::NotHere(why) => {
                    op.outstanding = false;
                    leave = Err(why);
                }
                // It stays outstanding, and is lost with the connection.
                Outcome::Unsure(why) => leave = Err(why),
                Outcome::Done | Outcome::Value(_) | Outcome::Exists | Outcome::Leads(_) => {
                    return Err("an answer to something else".to_owned());
                }
            }
        }
        leave
    }

    fn end(&mut self, ticket: u32, outcome: OperationOutcome, observed: Observed, node: NodeId) {
        let mut op = self.ops[ticket as usize].take().expect("what ends was under way");
        self.free.push(ticket);
        self.in_flight -= 1;
        if outcome == OperationOutcome::Unknown && !op.outstanding {
            // One of the attempts is the operation itself.
            op.lost_ns.pop();
        }
        let read = op.is_read();
        self.ended.push(Ended {
            job: op.job,
            outcome,
            observed,
            intended_ns: op.intended_ns,
            started_ns: op.started_ns,
            lost_ns: op.lost_ns,
            session: if read { SessionId::NONE } else { SessionId(u64::from(self.id) + 1) },
            seq: op.job.number,
            node,
        });
        op.key.clear();
        op.value.clear();
        self.spare.push((op.key, op.value));
    }
}

impl Op {
    fn is_read(&self) -> bool {
        self.job.operation == Operation::Read
    }
}

fn outcome_of(unknown: bool) -> OperationOutcome {
    if unknown { OperationOutcome::Unknown } else { OperationOutcome::Failed }
}
