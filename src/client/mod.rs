//! The client library: blocking, one request at a time, one answer whatever fails meanwhile.
//!
//! Invariant: a command keeps its id through every retry, so that the cluster applies it at most
//! once, wherever it was sent. What the caller hears is a reply, or an error that says whether the
//! command can have happened (`error`). Nothing here pipelines: the load generator
//! (`bench`) has its own, leaner loop.

pub mod connection;
mod error;
mod rows;
mod scan;
mod session;
mod snapshot;
mod watch;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::paxos::{Ballot, Change, NodeId, Slot};
use crate::store::{Command, Query, Reply};
use crate::trace::monotonic_ns;
use crate::wire::client::{Consistency, ErrorKind, ErrorReply, Request, RequestKey, Response};
use crate::wire::kv;
use crate::wire::status::NodeStatus;

use connection::{Connection, describe};
pub use error::Error;
pub use scan::Entry;
use session::Session;
pub use session::nonce;
pub use watch::{Event, Watcher};

/// Back-off between two rounds through all nodes: doubled from the first to the last.
const BACK_OFF_MIN: Duration = Duration::from_millis(5);
const BACK_OFF_MAX: Duration = Duration::from_millis(200);

/// A silent node is given up for the next after this part of the whole timeout, within these bounds;
/// doubled with each round, or what takes long everywhere would never be done.
const ATTEMPTS_PER_TIMEOUT: u32 = 4;
const ATTEMPT_MIN: Duration = Duration::from_millis(50);
const ATTEMPT_MAX: Duration = Duration::from_secs(1);

pub struct Client {
    nodes: Vec<Node>,
    /// Index into `nodes` of the one that we talk to, or shall try next.
    at: usize,
    timeout: Duration,
    connection: Option<Connection>,
    session: Option<Session>,
    /// Id of the next read or status request.
    next_id: u64,
}

struct Node {
    address: SocketAddr,
    /// Known once it has welcomed us; `ErrorReply.ask` names nodes by it.
    id: Option<NodeId>,
}

/// A reply, and where it was decided (slot and ballot grow together: fit for fencing).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub reply: Reply,
    pub slot: Slot,
    pub ballot: Ballot,
    /// Who replied.
    pub node: NodeId,
}

/// What one attempt at one node came to.
enum Attempt {
    Done(Response, Vec<u8>, NodeId),
    /// The request cannot have reached the node.
    NotSent(String),
    /// It was sent, at least in part, and the connection brought no answer.
    Lost(String),
    Refused(ErrorReply),
}

/// How a request ended without a response. `maybe`: some attempt may have taken effect.
enum CallError {
    Failed { maybe: bool, why: String },
    SessionExpired { maybe: bool },
}

impl Client {
    /// A client of the nodes at `addresses` (at least one), which gives each request `timeout`.
    pub fn new(addresses: &[SocketAddr], timeout: Duration) -> Client {
        assert!(!addresses.is_empty(), "callers check that there is an address");
        Client {
            nodes: addresses.iter().map(|&address| Node { address, id: None }).collect(),
            at: 0,
            timeout,
            connection: None,
            session: None,
            next_id: 1,
        }
    }

    /// Has `command` decided and applied, once.
    pub fn execute(&mut self, command: &Command<'_>) -> Result<Answer, Error> {
        let bulk = kv::encode_command(command);
        let deadline_ns = self.deadline_ns();
        loop {
            if deadline_ns <= monotonic_ns() {
                return Err(Error::Definite("the session expired again and again".to_owned()));
            }
            let session = self.session(deadline_ns)?;
            let (id, acknowledged) = session.number();
            match self.call(&Request::Command { id, acknowledged }, &bulk, deadline_ns) {
                Ok((Response::Reply { slot, ballot, .. }, bulk, node)) => {
                    return answer(&bulk, slot, ballot, node).map_err(Error::Indefinite);
                }
                Ok(_) => return Err(Error::Indefinite("the node answered with nonsense".into())),
                Err(CallError::SessionExpired { maybe: true }) => {
                    self.session = None;
                    return Err(Error::Indefinite(
                        "the session expired while the outcome was open".to_owned(),
                    ));
                }
                // Nothing was applied: the same command may go again, under a new session.
                Err(CallError::SessionExpired { maybe: false }) => self.session = None,
                Err(CallError::Failed { maybe: false, why }) => return Err(Error::Definite(why)),
                Err(CallError::Failed { maybe: true, why }) => {
                    // The number stays open for ever, and an acknowledgement above it would be a
                    // lie: leave the session to expire.
                    self.session = None;
                    return Err(Error::Indefinite(why));
                }
            }
        }
    }

    /// Answers `query`. A read changes nothing, so its errors are all definite. One of SQL gives what fits one reply:
    /// `query_rows` goes on.
    pub fn query(&mut self, query: &Query<'_>, consistency: Consistency) -> Result<Answer, Error> {
        self.begin_read(query, consistency).map(|(_, answer)| answer)
    }

    /// What the first node that answers tells of itself.
    pub fn status(&mut self) -> Result<NodeStatus, Error> {
        let deadline_ns = self.deadline_ns();
        let id = self.take_id();
        match self.call(&Request::Status { id }, &[], deadline_ns) {
            Ok((Response::Status { status, .. }, _, _)) => Ok(*status),
            other => Err(never_happened(other)),
        }
    }

    /// The session, registered now if there is none.
    fn session(&mut self, deadline_ns: u64) -> Result<&mut Session, Error> {
        self.session.take_if(|session| !session.is_fresh(monotonic_ns()));
        if self.session.is_none() {
            let nonce = nonce().map_err(Error::Definite)?;
            match self.call(&Request::Register { nonce }, &[], deadline_ns) {
                Ok((Response::Registered { session, .. }, _, _)) => {
                    self.session = Some(Session::new(session));
                }
                // A session that nobody uses harms nobody: to the caller, nothing happened.
                other => return Err(never_happened(other)),
            }
        }
        Ok(self.session.as_mut().expect("registered above"))
    }

    /// Sends `request` to one node after the other until one answers or the time is over.
    fn call(
        &mut self,
        request: &Request,
        bulk: &[u8],
        deadline_ns: u64,
    ) -> Result<(Response, Vec<u8>, NodeId), CallError> {
        let patience = match request {
            // It takes the time that it takes, and a second node would take as long.
            Request::Snapshot { .. } => self.timeout,
            _ => self.first_patience(),
        };
        self.call_patiently(request, bulk, deadline_ns, patience)
    }

    /// The same, where the first nodes may take so long each.
    fn call_patiently(
        &mut self,
        request: &Request,
        bulk: &[u8],
        deadline_ns: u64,
        mut patience: Duration,
    ) -> Result<(Response, Vec<u8>, NodeId), CallError> {
        let mut maybe = false;
        let mut failures = 0usize;
        let mut back_off = BACK_OFF_MIN;
        loop {
            let address = self.nodes[self.at].address;
            let attempt_ns = deadline_ns.min(monotonic_ns() + patience.as_nanos() as u64);
            let why = match self.attempt(request, bulk, attempt_ns) {
                Attempt::Done(response, bulk, node) => return Ok((response, bulk, node)),
                Attempt::NotSent(why) => {
                    self.next_node(None, None);
                    format!("{address}: {why}")
                }
                Attempt::Lost(why) => {
                    maybe = true;
                    self.next_node(None, None);
                    format!("{address}: {why}")
                }
                Attempt::Refused(error) => {
                    maybe |= !error.definite;
                    let why = format!("{address}: {}", one_line(&error.message));
                    match error.kind {
                        ErrorKind::SessionExpired => {
                            return Err(CallError::SessionExpired { maybe });
                        }
                        ErrorKind::BadRequest
                        | ErrorKind::DiskFull
                        | ErrorKind::Refused
                        | ErrorKind::TooOld => {
                            return Err(CallError::Failed { maybe, why });
                        }
                        ErrorKind::Timeout
                        | ErrorKind::Busy
                        | ErrorKind::NotAReplica
                        | ErrorKind::NotLeading
                        | ErrorKind::Stopping => self.next_node(error.ask, error.ask_at),
                    }
                    why
                }
            };

            failures += 1;
            if failures.is_multiple_of(self.nodes.len()) {
                let left = Duration::from_nanos(deadline_ns.saturating_sub(monotonic_ns()));
                // sleep: every node has had its turn, and a dead cluster would cost a whole core.
                std::thread::sleep(back_off.min(left));
                back_off = (back_off * 2).min(BACK_OFF_MAX);
                patience = (patience * 2).min(self.timeout);
            }
            if deadline_ns <= monotonic_ns() {
                let why = if maybe || self.nodes.len() == 1 {
                    format!("no reply within {:?} ({why})", self.timeout)
                } else {
                    format!("no node served it within {:?} (last: {why})", self.timeout)
                };
                return Err(CallError::Failed { maybe, why });
            }
        }
    }

    fn attempt(&mut self, request: &Request, bulk: &[u8], attempt_ns: u64) -> Attempt {
        let connection = match self.connected(attempt_ns) {
            Ok(connection) => connection,
            Err(error) => return Attempt::NotSent(describe(&error)),
        };
        // Even a failed send may have delivered the whole frame.
        if let Err(error) = connection.send(request, bulk, attempt_ns) {
            return Attempt::Lost(describe(&error));
        }
        let key = key_of(request);
        loop {
            match connection.receive(attempt_ns) {
                Ok((Response::Error { key: of, error }, _)) if of == key => {
                    return Attempt::Refused(error);
                }
                Ok((response, bulk)) if response_key(&response) == key => {
                    return Attempt::Done(response, bulk, connection.node());
                }
                // The answer to an earlier request, which we had given up.
                Ok(_) => {}
                Err(error) => return Attempt::Lost(describe(&error)),
            }
        }
    }

    /// The connection to the node that we talk to, dialled now if there is none.
    fn connected(&mut self, until_ns: u64) -> io::Result<&mut Connection> {
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let connection = Connection::open(self.nodes[self.at].address, None, until_ns)?;
                self.nodes[self.at].id = Some(connection.node());
                connection
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Leaves the current node, for the one to `ask` if it is known.
    fn next_node(&mut self, ask: Option<NodeId>, ask_at: Option<SocketAddr>) {
        self.connection = None;
        let is_asked = |it: &Node| ask.is_some() && it.id == ask || Some(it.address) == ask_at;
        self.at = match (self.nodes.iter().position(is_asked), ask_at) {
            (Some(known), _) => known,
            (None, Some(address)) => {
                // It came to the cluster after we were told who is in it.
                self.nodes.push(Node { address, id: ask });
                self.nodes.len() - 1
            }
            (None, None) => (self.at + 1) % self.nodes.len(),
        };
    }

    fn first_patience(&self) -> Duration {
        (self.timeout / ATTEMPTS_PER_TIMEOUT).clamp(ATTEMPT_MIN, ATTEMPT_MAX)
    }

    fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id - 1
    }

    fn deadline_ns(&self) -> u64 {
        monotonic_ns() + self.timeout.as_nanos() as u64
    }
}

/// What the node at `address` tells of itself: one attempt, no other node.
pub fn status_of(address: SocketAddr, timeout: Duration) -> Result<NodeStatus, String> {
    let mut client = Client::new(&[address], timeout);
    let deadline_ns = client.deadline_ns();
    match client.attempt(&Request::Status { id: 0 }, &[], deadline_ns) {
        Attempt::Done(Response::Status { status, .. }, _, _) => Ok(*status),
        Attempt::Done(..) => Err("the node answered with nonsense".to_owned()),
        Attempt::NotSent(why) | Attempt::Lost(why) => Err(why),
        Attempt::Refused(error) => Err(one_line(&error.message)),
    }
}

/// Why the leader did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotDone {
    /// It says no, and why.
    Refused(String),
    /// It may do it later, or another node may, or there was no answer: then it may have been done.
    Later(String),
}

/// Asks the node at `address`, which should lead, to change the members of the configuration of `epoch`:
/// one attempt, no other node. Whether the change comes about shows in the status.
pub fn reconfigure(
    address: SocketAddr,
    epoch: u64,
    change: &Change,
    timeout: Duration,
) -> Result<(), NotDone> {
    let request = Request::Reconfigure { id: 0, epoch, change: change.clone() };
    match ask_leader(address, &request, timeout)? {
        Response::Reconfiguring { .. } => Ok(()),
        _ => Err(NotDone::Refused("the node answered with nonsense".to_owned())),
    }
}

/// Asks the node at `address`, which should lead, to hand the lead over, and returns to whom.
pub fn transfer_lead(
    address: SocketAddr,
    to: Option<NodeId>,
    timeout: Duration,
) -> Result<NodeId, NotDone> {
    match ask_leader(address, &Request::TransferLead { id: 0, to }, timeout)? {
        Response::LeadTransferred { to, .. } => Ok(to),
        _ => Err(NotDone::Refused("the node answered with nonsense".to_owned())),
    }
}

fn ask_leader(
    address: SocketAddr,
    request: &Request,
    timeout: Duration,
) -> Result<Response, NotDone> {
    let mut client = Client::new(&[address], timeout);
    let deadline_ns = client.deadline_ns();
    match client.attempt(request, &[], deadline_ns) {
        Attempt::Done(response, _, _) => Ok(response),
        Attempt::NotSent(why) | Attempt::Lost(why) => Err(NotDone::Later(why)),
        Attempt::Refused(error) => {
            let why = one_line(&error.message);
            match error.kind {
                ErrorKind::Refused | ErrorKind::BadRequest => Err(NotDone::Refused(why)),
                _ => Err(NotDone::Later(why)),
            }
        }
    }
}

fn answer(bulk: &[u8], slot: Slot, ballot: Ballot, node: NodeId) -> Result<Answer, String> {
    match kv::decode_reply(bulk) {
        Ok(reply) => Ok(Answer { reply, slot, ballot, node }),
        Err(error) => Err(format!("the reply is damaged ({error})")),
    }
}

/// The error of a request that changes nothing, however it ended.
fn never_happened(outcome: Result<(Response, Vec<u8>, NodeId), CallError>) -> Error {
    Error::Definite(match outcome {
        Ok(_) => "the node answered with nonsense".to_owned(),
        Err(CallError::Failed { why, .. }) => why,
        Err(CallError::SessionExpired { .. }) => "the node speaks of a session".to_owned(),
    })
}

pub fn key_of(request: &Request) -> RequestKey {
    match *request {
        Request::Register { nonce } => RequestKey::Register { nonce },
        Request::Command { id, .. } => RequestKey::Command(id),
        Request::Read { id, .. } | Request::ReadOn { id, .. } => RequestKey::Read { id },
        Request::Status { id } => RequestKey::Status { id },
        Request::Snapshot { id } | Request::SnapshotChunk { id, .. } => RequestKey::Snapshot { id },
        Request::Reconfigure { id, .. } | Request::TransferLead { id, .. } => {
            RequestKey::Admin { id }
        }
        Request::Watch { id, .. } => RequestKey::Watch { id },
    }
}

pub fn response_key(response: &Response) -> RequestKey {
    match *response {
        Response::Registered { nonce, .. } => RequestKey::Register { nonce },
        Response::Reply { id, .. } => RequestKey::Command(id),
        Response::Read { id, .. } => RequestKey::Read { id },
        Response::Status { id, .. } => RequestKey::Status { id },
        Response::Snapshot { id, .. } | Response::SnapshotChunk { id } => {
            RequestKey::Snapshot { id }
        }
        Response::Reconfiguring { id, .. } | Response::LeadTransferred { id, .. } => {
            RequestKey::Admin { id }
        }
        Response::Changes { id, .. } => RequestKey::Watch { id },
        Response::Error { key, .. } => key,
    }
}

/// A node's text as part of one line, whatever it holds.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(any(test, feature = "fake"))]
pub mod fake;
#[cfg(test)]
mod tests;
