//! The loop of a node: one thread, one poll.
//!
//! A turn takes what came from all connections, lets OmniPaxos make of it what it will, and then, in this order:
//!
//! 1. sends what says nothing of what this node stored (`peers::may_go_first`): so followers' disks work while ours does;
//! 2. syncs the log, once, if something in it must be durable;
//! 3. applies what is decided, and answers the clients that wait here;
//! 4. sends everything else.
//!
//! So all that came in while the last sync ran shares the next one, without anybody waiting for a batch to fill.
//! Messages to one peer keep their order.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use loggos::trace::monotonic_ns;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use omnipaxos::OmniPaxos;
use omnipaxos::messages::Message;
use omnipaxos::util::LogEntry;

use crate::clients::{self, Request, State};
use crate::command::{Command, Shared};
use crate::links::{Links, Role};
use crate::log_file::LogFile;
use crate::peers::{self, GREETING_SIZE};
use crate::storage::Stored;
use crate::store::Store;

pub const TICKS_PER_ELECTION: u64 = 10;
const CLIENTS: Token = Token(usize::MAX - 1);
const PEERS: Token = Token(usize::MAX - 2);
const BUFFER_SIZE: usize = 256 * 1024;
/// A connection that has so much to take and takes nothing is closed.
const OUT_SIZE_MAX: usize = 64 << 20;
const CLIENTS_MAX: usize = 10_000;
const CLIENT_IN_FLIGHT_MAX: usize = 4096;
/// Between two attempts to reach a peer.
const DIAL_PAUSE_NS: u64 = 50_000_000;
/// A peer that is silent for so many election timeouts, each of which brings a heartbeat, or for this long if that is
/// longer, is dialled anew: after a partition the kernel would take seconds to try again.
const SILENT_ELECTIONS: u64 = 4;
const SILENT_MIN_NS: u64 = 500_000_000;
/// A leader whose heartbeats no quorum has answered for so many election timeouts says that it cannot serve.
const ALONE_ELECTIONS: u64 = 3;

pub struct Node {
    pub id: u64,
    pub peers: BTreeMap<u64, SocketAddr>,
    pub life: u64,
    pub tick: Duration,
    pub omnipaxos: OmniPaxos<Command, Stored>,
    /// `None`: what is stored is in memory only.
    pub log: Option<Rc<RefCell<LogFile>>>,
}

struct Peer {
    address: SocketAddr,
    /// The connection that stands, if one does.
    slot: Option<usize>,
    /// One that was dialled and not answered yet.
    dialled: Option<usize>,
    dial_at_ns: u64,
    /// In this turn: messages that must wait for the sync, and those behind them.
    held: Vec<Message<Command>>,
}

/// Who waits for an entry.
struct Waiting {
    slot: usize,
    number: u64,
    ticket: u32,
}

pub struct Server {
    node: Node,
    cluster: u32,
    poll: Poll,
    client_listener: TcpListener,
    peer_listener: TcpListener,
    links: Links,
    clients: usize,
    peers: BTreeMap<u64, Peer>,
    store: Store,
    /// Entries applied.
    applied: usize,
    /// By the number of the command.
    waiting: BTreeMap<u64, Waiting>,
    next_command: u64,
    next_tick_ns: u64,
    /// When a quorum last answered a round of heartbeats; 0: never.
    connected_ns: u64,
    /// One has, of late.
    is_connected: bool,
    outgoing: Vec<Message<Command>>,
}

impl Server {
    /// Listens, for peers at the node's own address among them.
    pub fn new(node: Node, clients: SocketAddr) -> io::Result<Server> {
        let poll = Poll::new()?;
        let named = |what: &str, address: SocketAddr| {
            TcpListener::bind(address).map_err(|error| {
                io::Error::new(
                    error.kind(),
                    format!("cannot listen for {what} at {address}: {error}"),
                )
            })
        };
        let mut client_listener = named("clients", clients)?;
        let mut peer_listener = named("peers", node.peers[&node.id])?;
        poll.registry().register(&mut client_listener, CLIENTS, Interest::READABLE)?;
        poll.registry().register(&mut peer_listener, PEERS, Interest::READABLE)?;
        let text: Vec<String> =
            node.peers.iter().map(|(id, address)| format!("{id}={address}")).collect();
        let peers = node.peers.iter().filter(|(id, _)| **id != node.id);
        let peers = peers.map(|(&id, &address)| {
            (id, Peer { address, slot: None, dialled: None, dial_at_ns: 0, held: Vec::new() })
        });
        Ok(Server {
            cluster: crc32fast::hash(text.join(",").as_bytes()),
            peers: peers.collect(),
            node,
            poll,
            client_listener,
            peer_listener,
            links: Links::default(),
            clients: 0,
            store: Store::default(),
            applied: 0,
            waiting: BTreeMap::new(),
            next_command: 1,
            next_tick_ns: 0,
            connected_ns: 0,
            is_connected: false,
            outgoing: Vec::new(),
        })
    }

    /// Serves until the process is killed, or its disk fails.
    pub fn run(mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; BUFFER_SIZE];
        loop {
            let left_ns = self.next_tick_ns.saturating_sub(monotonic_ns());
            match self.poll.poll(&mut events, Some(Duration::from_nanos(left_ns))) {
                Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            let now_ns = monotonic_ns();
            for event in events.iter() {
                let closing = event.is_read_closed() || event.is_write_closed() || event.is_error();
                match event.token() {
                    CLIENTS | PEERS => self.accept(event.token(), now_ns),
                    Token(slot) => self.receive(slot, closing, &mut buffer, now_ns),
                }
            }
            if self.next_tick_ns <= now_ns {
                // Ticks that were missed are not made up for: peers had no chance to answer in between.
                self.next_tick_ns = now_ns + self.node.tick.as_nanos() as u64;
                self.tick(now_ns);
            }
            self.send_first(now_ns);
            if let Some(log) = &self.node.log {
                log.borrow_mut().sync()?;
            }
            self.apply();
            self.send_held();
            self.flush(now_ns);
        }
    }

    fn tick(&mut self, now_ns: u64) {
        self.node.omnipaxos.tick();
        let heard = self.node.omnipaxos.get_ui_states().heartbeats.len();
        let election_ns = self.node.tick.as_nanos() as u64 * TICKS_PER_ELECTION;
        // With ourselves, more than half of all.
        if self.peers.len().div_ceil(2) <= heard {
            self.connected_ns = now_ns;
        }
        self.is_connected = now_ns < self.connected_ns + election_ns * ALONE_ELECTIONS;
        let silent_ns = (election_ns * SILENT_ELECTIONS).max(SILENT_MIN_NS);
        let is_silent = |link: &crate::links::Link| {
            !matches!(link.role, Role::Client { .. }) && link.heard_ns + silent_ns <= now_ns
        };
        let silent = self.links.iter().filter(|(_, link)| is_silent(link));
        for slot in silent.map(|(slot, _)| slot).collect::<Vec<_>>() {
            self.close(slot, now_ns);
        }
        // Of two nodes, the one with the higher number dials.
        let us = self.node.id;
        for (&id, peer) in self.peers.range_mut(..us) {
            if peer.slot.is_some() || peer.dialled.is_some() || now_ns < peer.dial_at_ns {
                continue;
            }
            peer.dial_at_ns = now_ns + DIAL_PAUSE_NS;
            let role = Role::Stranger { dialled: Some(id) };
            let registry = self.poll.registry();
            if let Ok(slot) = self.links.dial(registry, peer.address, role, now_ns) {
                peer.dialled = Some(slot);
                let out = self.links.out(slot).expect("it was just made");
                out.extend(peers::greeting(us, id, self.cluster));
            }
        }
    }

    fn accept(&mut self, token: Token, now_ns: u64) {
        loop {
            let (listener, role) = match token {
                CLIENTS => (&self.client_listener, Role::Client { greeted: false, in_flight: 0 }),
                _ => (&self.peer_listener, Role::Stranger { dialled: None }),
            };
            match listener.accept() {
                Ok((stream, _)) if token == CLIENTS && self.clients == CLIENTS_MAX => drop(stream),
                Ok((stream, _)) => {
                    if self.links.accept(self.poll.registry(), stream, role, now_ns).is_ok() {
                        self.clients += usize::from(token == CLIENTS);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // None waits; or there are no descriptors, and whoever waits will be there at the next event.
                Err(_) => return,
            }
        }
    }

    /// Takes what came on one connection.
    fn receive(&mut self, slot: usize, closing: bool, buffer: &mut [u8], now_ns: u64) {
        let Some(link) = self.links.get(slot) else { return };
        link.heard_ns = now_ns;
        let number = link.number;
        let mut role = link.role;
        let mut taken = Taken::default();
        let us = (self.node.id, self.cluster);
        let received = link.socket.flush().and_then(|()| {
            link.socket.receive(buffer, closing, |bytes, _| {
                taken.take(&mut role, bytes, us).map_err(io::Error::other)
            })
        });
        link.role = role;
        for peer in taken.greetings {
            if !self.on_greeting(slot, peer) {
                return self.close(slot, now_ns);
            }
        }
        if taken.greets_client {
            self.links.out(slot).expect("it is open").extend_from_slice(clients::GREETING);
        }
        for message in taken.messages {
            self.node.omnipaxos.handle_incoming(message);
        }
        for (ticket, request) in taken.requests {
            self.on_request(slot, number, ticket, request);
        }
        if received.is_err() {
            self.close(slot, now_ns);
        }
    }

    /// A peer said who it is; false: it is nobody to talk to.
    fn on_greeting(&mut self, slot: usize, id: u64) -> bool {
        let Some(peer) = self.peers.get_mut(&id) else { return false };
        let Some(link) = self.links.get(slot) else { return false };
        let Role::Stranger { dialled } = link.role else { return false };
        // Whom we dialled has to be whom we meant, and those dial us whose numbers are higher.
        if dialled.map_or(id < self.node.id, |dialled| dialled != id) {
            return false;
        }
        link.role = Role::Peer(id);
        peer.dialled = None;
        if let Some(old) = peer.slot.replace(slot) {
            self.links.close(old);
        }
        if dialled.is_none() {
            let greeting = peers::greeting(self.node.id, id, self.cluster);
            self.links.out(slot).expect("it is open").extend(greeting);
        }
        self.node.omnipaxos.reconnected(id);
        true
    }

    fn on_request(&mut self, slot: usize, number: u64, ticket: u32, request: Request) {
        let command = match request {
            Request::Command(bytes) => self.may_propose().map(|()| bytes),
            Request::State => {
                let state = self.state();
                let Some(out) = self.links.out(slot) else { return };
                return clients::state(ticket, state, out);
            }
            Request::Nonsense => {
                let Some(out) = self.links.out(slot) else { return };
                return clients::refused(ticket, "no such request", out);
            }
        };
        let Some(link) = self.links.get(slot) else { return };
        let Role::Client { in_flight, .. } = &mut link.role else { return };
        let command = command.and_then(|bytes| {
            if CLIENT_IN_FLIGHT_MAX <= *in_flight {
                return Err("too many requests in flight");
            }
            *in_flight += 1;
            Ok(bytes)
        });
        match command {
            Ok(bytes) => self.propose(Waiting { slot, number, ticket }, bytes),
            Err(why) => {
                let Some(out) = self.links.out(slot) else { return };
                clients::unavailable(ticket, why, out);
            }
        }
    }

    fn propose(&mut self, who: Waiting, bytes: Shared) {
        let number = self.next_command;
        self.next_command += 1;
        self.waiting.insert(number, who);
        let command = Command { node: self.node.id, life: self.node.life, number, bytes };
        // Only a log that was stopped for a new configuration refuses entries, and there is none.
        self.node.omnipaxos.append(command).expect("the log is never stopped");
    }

    /// Whether a proposal has somewhere to go: to ourselves or a leader that we are connected to.
    fn may_propose(&self) -> Result<(), &'static str> {
        match self.node.omnipaxos.get_current_leader() {
            None => Err("no leader is known"),
            Some((leader, _)) if leader == self.node.id => {
                if self.is_connected {
                    Ok(())
                } else {
                    Err("the leader has no quorum")
                }
            }
            Some((leader, _)) => match self.peers.get(&leader).and_then(|peer| peer.slot) {
                Some(_) => Ok(()),
                None => Err("the leader cannot be reached"),
            },
        }
    }

    fn state(&self) -> State {
        let leader = self.node.omnipaxos.get_current_leader();
        let node = self.node.id;
        State {
            node,
            leader: leader.map_or(0, |(leader, _)| leader),
            leads: leader == Some((node, true)) && self.is_connected,
            decided: self.node.omnipaxos.get_decided_idx() as u64,
        }
    }

    /// Applies what is decided, and answers who waits for it here.
    fn apply(&mut self) {
        if self.node.omnipaxos.get_decided_idx() <= self.applied {
            return;
        }
        let entries = self.node.omnipaxos.read_decided_suffix(self.applied).unwrap_or_default();
        for entry in entries {
            let LogEntry::Decided(command) = entry else {
                unreachable!("what is decided is neither compacted nor stopped")
            };
            self.applied += 1;
            let answer = self.store.apply(&command);
            if command.node != self.node.id || command.life != self.node.life {
                continue;
            }
            let Some(who) = self.waiting.remove(&command.number) else { continue };
            let Some(link) = self.links.get(who.slot) else { continue };
            let Role::Client { in_flight, .. } = &mut link.role else { continue };
            if link.number == who.number {
                *in_flight -= 1;
                let out = self.links.out(who.slot).expect("it was just looked at");
                let answer = answer.expect("we propose what asks for something");
                clients::answer(who.ticket, answer, out);
            }
        }
    }

    /// Sends what may go before the sync, and keeps the rest.
    fn send_first(&mut self, now_ns: u64) {
        self.node.omnipaxos.take_outgoing_messages(&mut self.outgoing);
        let mut sent = false;
        for message in std::mem::take(&mut self.outgoing) {
            let Some(peer) = self.peers.get_mut(&message.get_receiver()) else { continue };
            // What is not sent, `reconnected` makes up for.
            let Some(slot) = peer.slot else { continue };
            if peer.held.is_empty() && peers::may_go_first(&message) {
                sent |= send(&mut self.links, slot, &message);
            } else {
                peer.held.push(message);
            }
        }
        if sent && self.node.log.is_some() {
            self.flush(now_ns);
        }
    }

    fn send_held(&mut self) {
        for peer in self.peers.values_mut() {
            for message in std::mem::take(&mut peer.held) {
                if let Some(slot) = peer.slot {
                    send(&mut self.links, slot, &message);
                }
            }
        }
    }

    fn flush(&mut self, now_ns: u64) {
        for slot in self.links.take_dirty() {
            let Some(link) = self.links.get(slot) else { continue };
            if link.socket.flush().is_err() || OUT_SIZE_MAX < link.socket.waiting() {
                self.close(slot, now_ns);
            }
        }
    }

    fn close(&mut self, slot: usize, now_ns: u64) {
        let Some(link) = self.links.close(slot) else { return };
        match link.role {
            Role::Client { .. } => {
                self.clients -= 1;
                self.waiting.retain(|_, who| who.number != link.number);
            }
            Role::Stranger { dialled: Some(id) } => {
                if let Some(peer) = self.peers.get_mut(&id) {
                    peer.dialled = None;
                }
            }
            Role::Stranger { dialled: None } => {}
            Role::Peer(id) => {
                let peer = self.peers.get_mut(&id).expect("only peers have this role");
                if peer.slot == Some(slot) {
                    peer.slot = None;
                    peer.dial_at_ns = now_ns;
                }
            }
        }
    }
}

/// Queues a message; one that does not fit into a frame is as good as lost.
fn send(links: &mut Links, slot: usize, message: &Message<Command>) -> bool {
    let Some(out) = links.out(slot) else { return false };
    if let Err(why) = peers::write(message, out) {
        eprintln!("omnipaxos-kv: a message is not sent: {why}");
        return false;
    }
    true
}

/// What came on one connection in one event.
#[derive(Default)]
struct Taken {
    greets_client: bool,
    greetings: Vec<u64>,
    messages: Vec<Message<Command>>,
    requests: Vec<(u32, Request)>,
}

impl Taken {
    /// Takes whole messages off the front of `bytes`; returns how many bytes they had.
    fn take(
        &mut self,
        role: &mut Role,
        bytes: &[u8],
        (us, cluster): (u64, u32),
    ) -> Result<usize, String> {
        let mut at = 0;
        loop {
            let rest = &bytes[at..];
            // Who has just said who it is has not been looked at yet, but sends already.
            let peer = match *role {
                Role::Peer(id) => Some(id),
                Role::Stranger { .. } => self.greetings.first().copied(),
                Role::Client { .. } => None,
            };
            match (&mut *role, peer) {
                (Role::Client { greeted: false, .. }, _)
                    if rest.len() < clients::GREETING.len() =>
                {
                    return Ok(at);
                }
                (Role::Client { greeted, .. }, _) if !*greeted => {
                    if !rest.starts_with(clients::GREETING) {
                        return Err("no client of ours".to_owned());
                    }
                    (*greeted, self.greets_client) = (true, true);
                    at += clients::GREETING.len();
                }
                (Role::Client { .. }, _) => match clients::parse(rest)? {
                    Some((ticket, request, size)) => {
                        self.requests.push((ticket, request));
                        at += size;
                    }
                    None => return Ok(at),
                },
                (_, Some(id)) => match peers::read(rest, id, us)? {
                    Some((message, size)) => {
                        self.messages.push(message);
                        at += size;
                    }
                    None => return Ok(at),
                },
                (_, None) if rest.len() < GREETING_SIZE => return Ok(at),
                (_, None) => {
                    self.greetings.push(peers::greeted_by(rest, us, cluster)?);
                    at += GREETING_SIZE;
                }
            }
        }
    }
}
