//! One simulated client: a connection, a session, and the operations that it has in flight.
//!
//! Invariant: a command keeps its id from the first time it is sent until it ends, through every
//! reconnect, so that a retry is never a second execution. An operation ends once: with a reply, with
//! a definite error, or with an unknown outcome when it is given up; then the session is left too, as
//! soon as nothing else of it is in flight, because its number stays open for ever.

mod replies;

use std::io;
use std::net::SocketAddr;

use mio::{Registry, Token};
use rand::{Rng, SeedableRng, rngs::Xoshiro256PlusPlus};

use crate::limits::SESSION_WINDOW_MAX;
use crate::paxos::{CommandId, NodeId, SessionId};
use crate::trace::{Operation, OperationOutcome};
use crate::wire::client::{Consistency, Request};

use super::check::Observed;
use super::keys::Job;
use super::link::Link;
use super::load::Ended;

/// Back-off once every node has failed: doubled from the first to the last.
const BACK_OFF_MIN_NS: u64 = 5_000_000;
const BACK_OFF_MAX_NS: u64 = 50_000_000;
/// An operation in flight for longer raises the suspicion that the leader is gone; once another node
/// is known to lead, it is not waited for.
const STUCK_NS: u64 = 50_000_000;
/// Pause before an operation goes again to a node that was busy.
const BUSY_PAUSE_NS: u64 = 10_000_000;

/// What all workers know of the cluster.
pub struct Nodes {
    pub addresses: Vec<SocketAddr>,
    pub ids: Vec<Option<NodeId>>,
    /// Index of the leader, if `control` knows it.
    pub leader: Option<usize>,
    /// Counts the announcements of `leader`; workers move when it changes.
    pub generation: u64,
    /// Why a connection could not even be begun: this machine's limits, mostly.
    pub last_error: Option<String>,
    /// Some worker waits longer than it should: ask the leader whether it is one.
    pub suspicion: bool,
    pub op_timeout_ns: u64,
    pub give_up_ns: u64,
    pub consistency: Consistency,
}

impl Nodes {
    pub fn index_of(&self, node: NodeId) -> Option<usize> {
        self.ids.iter().position(|&id| id == Some(node))
    }
}

struct Op {
    job: Job,
    /// Of a command: its number in the session, 0 until it is first sent. Of a read: the request's.
    number: u64,
    bulk: Vec<u8>,
    intended_ns: u64,
    started_ns: u64,
    /// When it was last sent; means something while `outstanding`.
    sent_ns: u64,
    /// Sent over the present connection and not answered.
    outstanding: bool,
    /// An attempt may have taken effect that brought no reply.
    maybe: bool,
    /// When to send it again to a node that was busy; 0: not waiting for that.
    resend_ns: u64,
}

impl Op {
    fn is_read(&self) -> bool {
        self.job.operation == Operation::Read
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Down {
        until_ns: u64,
    },
    /// Until the welcome.
    Dialling {
        until_ns: u64,
    },
    Ready,
}

pub struct Worker {
    pub id: u32,
    token: Token,
    link: Option<Link>,
    state: State,
    /// Index of the node that we talk to or shall dial.
    at: usize,
    node: NodeId,
    /// Since the last reply.
    failures: usize,
    session: Option<SessionId>,
    /// When the registration that was sent is too late.
    registering_until_ns: Option<u64>,
    nonce: u64,
    rng: Xoshiro256PlusPlus,
    next_seq: u64,
    next_read: u64,
    ops: Vec<Op>,
    /// Starts nothing more in this session; a new one once `ops` is empty.
    leaving_session: bool,
    /// Starts nothing more on this connection; goes to the leader once nothing young is in flight.
    moving: bool,
    generation: u64,
    /// What the frames of one event ask to be done when the link is free again.
    resume: bool,
    leave: Option<Option<NodeId>>,
    spare: Vec<Vec<u8>>,
    /// Writes started so far: their numbers.
    pub writes: u64,
    /// What ended and has not been taken by the owner.
    pub ended: Vec<Ended>,
}

/// The surroundings of one turn, and what the workers share.
pub struct Turn<'a> {
    pub now_ns: u64,
    pub registry: &'a Registry,
    pub nodes: &'a mut Nodes,
}

impl Worker {
    /// A worker that will dial the node with index `at`. `run` makes its nonces differ from those of
    /// other runs.
    pub fn new(id: u32, at: usize, run: u64) -> Worker {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(run ^ (u64::from(id) << 32));
        Worker {
            id,
            token: Token(id as usize),
            link: None,
            state: State::Down { until_ns: 0 },
            at,
            node: NodeId(0),
            failures: 0,
            session: None,
            registering_until_ns: None,
            nonce: rng.next_u64(),
            rng,
            next_seq: 1,
            next_read: 1,
            ops: Vec::new(),
            leaving_session: false,
            moving: false,
            generation: 0,
            resume: false,
            leave: None,
            spare: Vec::new(),
            writes: 0,
            ended: Vec::new(),
        }
    }

    pub fn in_flight(&self) -> usize {
        self.ops.len()
    }

    pub fn has_session(&self) -> bool {
        self.session.is_some()
    }

    /// Whether a write on `key` is in flight.
    pub fn writes_on(&self, key: super::keys::Key) -> bool {
        self.ops.iter().any(|op| !op.is_read() && op.job.key == key)
    }

    /// Whether it may start one more operation, of `limit` in flight.
    pub fn can_start(&self, limit: usize) -> bool {
        self.state == State::Ready
            && self.session.is_some()
            && !self.leaving_session
            && !self.moving
            && self.ops.len() < limit
            && ((self.next_seq - self.floor()) as usize) < SESSION_WINDOW_MAX
    }

    /// An empty buffer for the payload of an operation.
    pub fn spare(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Starts an operation; `flush` sends it.
    pub fn start(&mut self, job: Job, bulk: Vec<u8>, intended_ns: u64, turn: &Turn<'_>) {
        let read = job.operation == Operation::Read;
        if read {
            self.next_read += 1;
        } else {
            assert!(job.number == self.writes + 1, "writes are numbered in order");
            self.writes += 1;
        }
        self.ops.push(Op {
            job,
            number: if read { self.next_read } else { 0 },
            bulk,
            intended_ns,
            started_ns: turn.now_ns,
            sent_ns: 0,
            outstanding: false,
            maybe: false,
            resend_ns: 0,
        });
        self.send(self.ops.len() - 1, turn);
    }

    pub fn flush(&mut self, turn: &mut Turn<'_>) {
        if let Some(link) = &mut self.link
            && link.flush().is_err()
        {
            self.leave_node(None, turn);
        }
    }

    /// The socket is readable or writable.
    pub fn on_event(&mut self, closing: bool, buffer: &mut [u8], turn: &mut Turn<'_>) {
        let Some(mut link) = self.link.take() else { return };
        let outcome = self.receive(&mut link, closing, buffer, turn);
        match (outcome, self.leave.take()) {
            (Err(_), _) => self.leave_node(None, turn),
            (Ok(()), Some(ask)) => self.leave_node(ask, turn),
            (Ok(()), None) => {
                self.link = Some(link);
                if std::mem::take(&mut self.resume) {
                    self.resume(turn);
                }
                self.settle(turn);
            }
        }
    }

    fn receive(
        &mut self,
        link: &mut Link,
        closing: bool,
        buffer: &mut [u8],
        turn: &mut Turn<'_>,
    ) -> io::Result<()> {
        link.flush()?;
        link.receive(buffer, closing, |frame| self.on_frame(frame, turn))
    }

    /// What time asks for: dialling, giving up, moving, leaving a node that does not answer.
    pub fn tick(&mut self, turn: &mut Turn<'_>) {
        self.give_up(turn);
        if self.generation != turn.nodes.generation {
            self.generation = turn.nodes.generation;
            self.moving = turn.nodes.leader.is_some_and(|leader| leader != self.at);
        }
        match self.state {
            State::Down { .. } => self.dial(turn),
            State::Dialling { until_ns } if until_ns <= turn.now_ns => {
                self.leave_node(None, turn);
            }
            State::Dialling { .. } => {}
            State::Ready => self.tick_ready(turn),
        }
    }

    fn tick_ready(&mut self, turn: &mut Turn<'_>) {
        let timeout_ns = turn.nodes.op_timeout_ns;
        let late = |op: &Op| op.outstanding && op.sent_ns + timeout_ns <= turn.now_ns;
        let stuck = |op: &Op| op.outstanding && op.sent_ns + STUCK_NS <= turn.now_ns;
        if self.ops.iter().any(stuck) {
            turn.nodes.suspicion = true;
            if self.moving {
                // The node that led is silent: what it has of ours goes to the new leader as well.
                return self.move_to_leader(turn);
            }
        }
        if self.registering_until_ns.is_some_and(|until_ns| until_ns <= turn.now_ns)
            || self.ops.iter().any(late)
        {
            return self.leave_node(None, turn);
        }
        for at in 0..self.ops.len() {
            if 0 < self.ops[at].resend_ns && self.ops[at].resend_ns <= turn.now_ns {
                self.send(at, turn);
            }
        }
        self.settle(turn);
        self.flush(turn);
    }

    fn give_up(&mut self, turn: &Turn<'_>) {
        let mut at = 0;
        while at < self.ops.len() {
            let op = &self.ops[at];
            if turn.now_ns < op.started_ns + turn.nodes.give_up_ns {
                at += 1;
                continue;
            }
            let unknown = !op.is_read() && (op.maybe || op.outstanding);
            self.leaving_session |= unknown;
            self.end(at, outcome_of(unknown), Observed::Nothing, NodeId(0));
        }
    }

    /// Once nothing is in flight: leaves the session or the node, if that is due.
    fn settle(&mut self, turn: &mut Turn<'_>) {
        if !self.ops.is_empty() || self.state != State::Ready {
            return;
        }
        if self.leaving_session {
            self.forget_session();
            self.resume(turn);
        }
        if self.moving {
            self.move_to_leader(turn);
        }
    }

    fn move_to_leader(&mut self, turn: &mut Turn<'_>) {
        self.moving = false;
        if let Some(leader) = turn.nodes.leader.filter(|&leader| leader != self.at) {
            self.at = leader;
            self.hang_up(turn.now_ns);
            self.dial(turn);
        }
    }

    fn forget_session(&mut self) {
        self.leaving_session = false;
        self.session = None;
        self.next_seq = 1;
        self.nonce = self.rng.next_u64();
    }

    fn dial(&mut self, turn: &mut Turn<'_>) {
        while let State::Down { until_ns } = self.state {
            if turn.now_ns < until_ns {
                return;
            }
            match Link::dial(turn.registry, self.token, turn.nodes.addresses[self.at]) {
                Ok(link) => {
                    self.link = Some(link);
                    let until_ns = turn.now_ns + turn.nodes.op_timeout_ns;
                    self.state = State::Dialling { until_ns };
                }
                Err(error) => {
                    turn.nodes.last_error = Some(error.to_string());
                    self.count_failure(None, turn);
                }
            }
        }
    }

    /// This node does not serve us: tries `ask`, or the next one.
    fn leave_node(&mut self, ask: Option<NodeId>, turn: &mut Turn<'_>) {
        self.count_failure(ask, turn);
        self.dial(turn);
    }

    fn count_failure(&mut self, ask: Option<NodeId>, turn: &mut Turn<'_>) {
        let count = turn.nodes.addresses.len();
        self.failures += 1;
        // The first round through the nodes costs no pause.
        let rounds = self.failures / count;
        let pause_ns = match rounds {
            0 => 0,
            _ => (BACK_OFF_MIN_NS << (rounds - 1).min(8)).min(BACK_OFF_MAX_NS),
        };
        let asked = ask.and_then(|ask| turn.nodes.index_of(ask)).filter(|&at| at != self.at);
        self.at = asked.unwrap_or((self.at + 1) % count);
        self.hang_up(turn.now_ns + pause_ns);
    }

    /// Ends the connection. What was under way over it may have happened.
    fn hang_up(&mut self, until_ns: u64) {
        self.link = None;
        self.state = State::Down { until_ns };
        self.registering_until_ns = None;
        self.resume = false;
        for op in &mut self.ops {
            op.maybe |= std::mem::take(&mut op.outstanding);
            op.resend_ns = 0;
        }
    }

    /// Welcome, or a new session: sends whatever is not under way.
    fn resume(&mut self, turn: &mut Turn<'_>) {
        if self.session.is_none() && self.registering_until_ns.is_none() {
            self.registering_until_ns = Some(turn.now_ns + turn.nodes.op_timeout_ns);
            let link = self.link.as_mut().expect("a ready worker has a link");
            link.queue(&Request::Register { nonce: self.nonce }, &[]);
        }
        for at in 0..self.ops.len() {
            if !self.ops[at].outstanding {
                self.send(at, turn);
            }
        }
        self.flush(turn);
    }

    fn send(&mut self, at: usize, turn: &Turn<'_>) {
        let op = &mut self.ops[at];
        let request = if op.is_read() {
            Request::Read { id: op.number, consistency: turn.nodes.consistency }
        } else {
            // Without a session it waits; `resume` comes back to it.
            let Some(session) = self.session else { return };
            if op.number == 0 {
                op.number = self.next_seq;
                self.next_seq += 1;
            }
            let id = CommandId { session, seq: op.number };
            Request::Command { id, acknowledged: self.floor() }
        };
        let op = &mut self.ops[at];
        op.sent_ns = turn.now_ns;
        op.outstanding = true;
        op.resend_ns = 0;
        let link = self.link.as_mut().expect("only a ready worker sends");
        link.queue(&request, &op.bulk);
    }

    /// All commands of the session below this number are answered.
    fn floor(&self) -> u64 {
        let open = self.ops.iter().filter(|op| !op.is_read() && op.number != 0);
        open.map(|op| op.number).min().unwrap_or(self.next_seq)
    }

    fn end(&mut self, at: usize, outcome: OperationOutcome, observed: Observed, node: NodeId) {
        let op = self.ops.swap_remove(at);
        let read = op.is_read();
        self.ended.push(Ended {
            job: op.job,
            outcome,
            observed,
            intended_ns: op.intended_ns,
            started_ns: op.started_ns,
            // The session makes one of all attempts.
            lost_ns: Vec::new(),
            session: if read { SessionId::NONE } else { self.session.unwrap_or(SessionId::NONE) },
            seq: if read { 0 } else { op.number },
            node,
        });
        self.spare.push(op.bulk);
    }
}

fn outcome_of(unknown: bool) -> OperationOutcome {
    if unknown { OperationOutcome::Unknown } else { OperationOutcome::Failed }
}
