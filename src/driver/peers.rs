//! Connections to peers: dialled by the node with the higher id, accepted by the other; the handshake;
//! and giving up those that have gone silent.
//!
//! A connection that hears nothing for a while is closed and dialled again: heartbeats never stop, so
//! silence means a cut, and a new connection does not wait for the kernel's retransmission back-off
//! when the cut has healed.

use std::net::SocketAddr;

use mio::Interest;
use mio::net::TcpStream;

use crate::limits;
use crate::paxos::{NodeId, Now};
use crate::wire::frame::{self, Frame};
use crate::wire::status::LinkEnd;
use crate::wire::{Hello, PROTOCOL_VERSION, WireError, codec};

use super::connection::{Connection, Stage};
use super::server::Server;
use super::table::ConnectionId;

/// Why a connection on which nothing comes is closed.
const SILENCE: &str = "nothing heard for too long";

/// What we know of our connection to one peer.
pub struct Link {
    address: SocketAddr,
    /// Whether it is ours to dial: the higher id dials the lower.
    dials: bool,
    /// The connection that stands, or is being made.
    connection: Option<ConnectionId>,
    up: bool,
    /// How the last connection ended, if one ever stood.
    ended: Option<LinkEnd>,
    next_dial_us: u64,
    pause_us: u64,
    /// Why it refused us last: said once, however often we try.
    refused: Option<String>,
}

impl Link {
    fn new(address: SocketAddr, dials: bool, now_us: u64) -> Link {
        Link {
            address,
            dials,
            connection: None,
            up: false,
            ended: None,
            next_dial_us: now_us,
            pause_us: limits::DIAL_PAUSE_US_MIN,
            refused: None,
        }
    }

    /// How the last connection ended, if one stood and none does now.
    pub fn ended(&self) -> Option<LinkEnd> {
        self.ended.filter(|_| !self.up)
    }

    /// The connection, if messages can be sent over it.
    pub fn up(&self) -> Option<ConnectionId> {
        self.connection.filter(|_| self.up)
    }
}

/// The hello in the first frame of a connection.
pub fn decode_hello(frame: Frame<'_>) -> Result<Hello, WireError> {
    if frame.bulk.is_empty() {
        codec::decode(frame.head)
    } else {
        Err(WireError::Malformed("a hello carries nothing else"))
    }
}

impl Server {
    /// There is a link to each node with which this one has to do, and to no other.
    pub(super) fn follow_links(&mut self, now: Now) {
        let configurations = self.node.configurations();
        let me = self.config.node;
        // A node that joins dials whoever may tell it where it is.
        let joins = configurations.is_provisional();
        let members: Vec<(NodeId, SocketAddr)> = configurations
            .members()
            .into_iter()
            .filter(|(member, _)| member.node != me)
            .map(|(member, addresses)| (member.node, addresses.peer))
            .collect();
        let gone: Vec<NodeId> = self
            .links
            .iter()
            .filter(|(peer, link)| !members.contains(&(**peer, link.address)))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in gone {
            let link = self.links.get(&peer).expect("just listed");
            if let Some(id) = link.connection {
                self.close(now, id, "it has left the cluster");
            }
            self.links.remove(&peer);
        }
        for (peer, address) in members {
            let dials = peer < me || joins;
            let link =
                self.links.entry(peer).or_insert_with(|| Link::new(address, dials, now.mono_us));
            link.dials = dials;
        }
    }

    /// A connection was accepted; it has to say who it is before anything else.
    pub(super) fn on_accepted(&mut self, now: Now, stream: TcpStream, stage: Stage) {
        if stage == Stage::UnknownClient {
            self.table.client_came();
        }
        let id = self.add(now, stream, stage);
        if stage == Stage::UnknownClient && self.config.clients_max < self.table.clients() {
            self.refuse(id, "this node has as many clients as limits.clients_max allows");
        }
    }

    fn add(&mut self, now: Now, stream: TcpStream, stage: Stage) -> ConnectionId {
        // Every frame is flushed as a whole; waiting for more would only delay it. Fails only on a
        // connection that is already gone, which reading will tell.
        let _ = stream.set_nodelay(true);
        let registry = self.poll.registry();
        let id = self.table.insert(|generation| {
            // The stream is registered below, when its token is known.
            Connection::new(stream, stage, generation, now.mono_us)
        });
        let connection = self.table.get_mut(id).expect("just inserted");
        stream_register(registry, &mut connection.stream, id);
        id
    }

    /// Dials peers whose time has come, and gives up connections that are silent or never began.
    pub(super) fn look_after_connections(&mut self, now: Now) {
        let timeout_us = self.config.election_timeout_us;
        let silence_us = limits::PEER_SILENCE_US_MIN.max(4 * timeout_us);
        // Whoever takes longer than a heartbeat round to answer is of no use to an election. The kernel
        // itself asks again only after a second.
        let answer_us = limits::DIAL_ANSWER_US_MIN.max(timeout_us);
        for id in self.table.ids() {
            let Some(connection) = self.table.get_mut(id) else { continue };
            connection.relax();
            let silent_us = now.mono_us.saturating_sub(connection.heard_us);
            let (limit_us, why) = match connection.stage {
                Stage::Peer(_) => (silence_us, SILENCE),
                Stage::Dialling(_) | Stage::Greeting(_) => (answer_us, "no answer"),
                Stage::UnknownPeer | Stage::UnknownClient | Stage::Closing => {
                    (limits::HANDSHAKE_US_MAX, "no hello in time")
                }
                Stage::Client => continue,
            };
            if limit_us < silent_us {
                self.close(now, id, why);
            }
        }
        // Whom nobody talks to any more dials everybody: it may have been removed while it was away, and
        // whoever should dial it does not.
        if self.links.values().any(|link| link.up) {
            self.linked_us = now.mono_us;
        }
        let is_lonely = limits::LONELY_US_MIN <= now.mono_us - self.linked_us;
        let due: Vec<(NodeId, SocketAddr)> = self
            .links
            .iter()
            .filter(|(_, link)| (link.dials || is_lonely) && link.connection.is_none())
            .filter(|(_, link)| link.next_dial_us <= now.mono_us)
            .map(|(&peer, link)| (peer, link.address))
            .collect();
        for (peer, address) in due {
            self.dial(now, peer, address);
        }
    }

    fn dial(&mut self, now: Now, peer: NodeId, address: SocketAddr) {
        match TcpStream::connect(address) {
            Ok(stream) => {
                let id = self.add(now, stream, Stage::Dialling(peer));
                self.links.get_mut(&peer).expect("dialled by its link").connection = Some(id);
            }
            Err(error) => {
                log::debug!("cannot dial {peer} at {address}: {error}");
                self.pause_link(now, peer);
            }
        }
    }

    /// The TCP connection that we dialled stands, or failed.
    pub(super) fn on_dialled(&mut self, now: Now, id: ConnectionId, peer: NodeId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let failed = match connection.stream.take_error() {
            Ok(None) => connection.stream.peer_addr().err(),
            Ok(Some(error)) | Err(error) => Some(error),
        };
        if let Some(error) = failed {
            self.close(now, id, &error.to_string());
            return;
        }
        let (cluster, from) = (self.config.cluster, self.config.node);
        let hello = Hello::Peer { version: PROTOCOL_VERSION, cluster, from, to: peer };
        connection.stage = Stage::Greeting(peer);
        frame::write(&hello, &[], connection.output());
        self.touch(id);
    }

    /// The first frame of a connection. An error closes it.
    pub(super) fn on_hello(
        &mut self,
        now: Now,
        id: ConnectionId,
        stage: Stage,
        hello: Result<Hello, WireError>,
    ) -> Result<(), String> {
        let hello = hello.map_err(|error| format!("no hello: {error}"))?;
        let cluster = self.config.cluster;
        let refusal = match (&hello, stage) {
            (
                Hello::Peer { version, .. }
                | Hello::Client { version, .. }
                | Hello::Welcome { version, .. },
                _,
            ) if *version != PROTOCOL_VERSION => Some(format!(
                "protocol version {version} is not spoken here, but {PROTOCOL_VERSION}"
            )),
            (
                Hello::Peer { cluster: theirs, .. }
                | Hello::Client { cluster: Some(theirs), .. }
                | Hello::Welcome { cluster: theirs, .. },
                _,
            ) if *theirs != cluster => {
                Some(format!("this is a node of cluster {:?}, not yours", self.config.cluster_name))
            }
            (Hello::Peer { to, .. }, Stage::UnknownPeer) if *to != self.config.node => {
                Some(format!("this is {}, not {to}", self.config.node))
            }
            (Hello::Peer { from, .. }, Stage::UnknownPeer) if !self.links.contains_key(from) => {
                Some(self.no_member(*from))
            }
            (Hello::Welcome { node, .. }, Stage::Greeting(peer)) if *node != peer => {
                return Err(format!("{node} answered where {peer} was dialled"));
            }
            (Hello::Refused { reason, .. }, Stage::Greeting(peer)) => {
                if let Some(link) = self.links.get_mut(&peer)
                    && link.refused.as_ref() != Some(reason)
                {
                    log::warn!("{peer} refused us: {reason}");
                    link.refused = Some(reason.clone());
                }
                return Err(format!("refused: {reason}"));
            }
            (Hello::Peer { .. }, Stage::UnknownPeer)
            | (Hello::Client { .. }, Stage::UnknownClient)
            | (Hello::Welcome { .. }, Stage::Greeting(_)) => None,
            (Hello::Client { .. }, _) => {
                Some("clients are served at the node's client_address, not here".to_string())
            }
            (Hello::Peer { .. }, _) => {
                Some("peers are heard at the node's peer_address, not here".to_string())
            }
            _ => Some("that is not the hello which belongs here".to_string()),
        };
        if let Some(reason) = refusal {
            self.refuse(id, &reason);
            return Ok(());
        }
        match hello {
            Hello::Peer { from, .. } => {
                self.welcome(id);
                self.peer_up(now, id, from);
            }
            Hello::Client { .. } => {
                self.welcome(id);
                self.table.get_mut(id).expect("it just spoke").stage = Stage::Client;
            }
            Hello::Welcome { node, .. } => self.peer_up(now, id, node),
            Hello::Refused { .. } => unreachable!("handled above"),
        }
        Ok(())
    }

    /// Why a node is not heard here, for its operator.
    fn no_member(&self, node: NodeId) -> String {
        let (_, latest) = self.node.configurations().latest();
        if latest.has_removed(node) {
            format!("{node} was removed from this cluster, for good")
        } else if node == self.config.node {
            format!("{node} is this node's own id")
        } else {
            format!("{node} is no member of this cluster: `loggos member add` makes it one")
        }
    }

    fn welcome(&mut self, id: ConnectionId) {
        let (cluster, node) = (self.config.cluster, self.config.node);
        let welcome = Hello::Welcome { version: PROTOCOL_VERSION, cluster, node };
        let connection = self.table.get_mut(id).expect("it just spoke");
        frame::write(&welcome, &[], connection.output());
        self.touch(id);
    }

    /// Says why, and closes when that is sent.
    fn refuse(&mut self, id: ConnectionId, reason: &str) {
        let Some(connection) = self.table.get_mut(id) else { return };
        log::warn!("refused {}: {reason}", describe(connection));
        if connection.stage == Stage::UnknownClient {
            self.table.client_went();
        }
        let connection = self.table.get_mut(id).expect("just seen");
        connection.stage = Stage::Closing;
        let refused = Hello::Refused { version: PROTOCOL_VERSION, reason: reason.to_string() };
        frame::write(&refused, &[], connection.output());
        self.touch(id);
    }

    fn peer_up(&mut self, now: Now, id: ConnectionId, peer: NodeId) {
        // It may have left while it dialled.
        let Some(link) = self.links.get_mut(&peer) else { return };
        let old = link.connection.replace(id).filter(|old| *old != id);
        if let Some(old) = old {
            // The peer has begun anew; what it left behind is dead.
            if link.up {
                link.up = false;
                self.node.on_peer_down(now, peer, &mut self.fx);
            }
            self.discard(old);
        }
        let link = self.links.get_mut(&peer).expect("just seen");
        link.up = true;
        link.refused = None;
        link.pause_us = limits::DIAL_PAUSE_US_MIN;
        let connection = self.table.get_mut(id).expect("it just spoke");
        (connection.stage, connection.heard_us) = (Stage::Peer(peer), now.mono_us);
        log::info!("connected to {peer}");
        self.tracer.peer(peer, true);
        self.node.on_peer_up(now, peer, &mut self.fx);
    }

    /// Ends a connection. `why` is logged unless it is empty.
    pub(super) fn close(&mut self, now: Now, id: ConnectionId, why: &str) {
        let Some(connection) = self.table.get(id) else { return };
        let (stage, who) = (connection.stage, describe(connection));
        self.discard(id);
        match stage {
            Stage::Peer(peer) => {
                let what = if why.is_empty() { "it was closed" } else { why };
                log::info!("lost the connection to {peer}: {what}");
                self.tracer.peer(peer, false);
                self.pause_link(now, peer);
                let ended = if why == SILENCE { LinkEnd::Silent } else { LinkEnd::Closed };
                self.links.get_mut(&peer).expect("just seen").ended = Some(ended);
                self.node.on_peer_down(now, peer, &mut self.fx);
            }
            Stage::Dialling(peer) | Stage::Greeting(peer) => {
                log::debug!("no connection to {peer}: {why}");
                self.pause_link(now, peer);
            }
            Stage::Client | Stage::UnknownClient => {
                self.table.client_went();
                self.watches.on_closed(id);
                self.scans.on_closed(id);
                if !why.is_empty() {
                    log::info!("closed {who}: {why}");
                }
            }
            Stage::UnknownPeer => {
                if !why.is_empty() {
                    log::info!("closed {who}: {why}");
                }
            }
            Stage::Closing => {}
        }
    }

    /// Dropping the stream closes it and takes it out of the poll.
    fn discard(&mut self, id: ConnectionId) {
        if self.table.remove(id).is_some_and(|connection| connection.has_held) {
            self.sql_queries.forget(id);
        }
    }

    /// The link is down; the next attempt comes after a pause that grows while attempts fail.
    fn pause_link(&mut self, now: Now, peer: NodeId) {
        let Some(link) = self.links.get_mut(&peer) else { return };
        link.connection = None;
        link.up = false;
        link.next_dial_us = now.mono_us + link.pause_us;
        let pause_us_max = self.config.election_timeout_us / 2;
        let pause_us_max = pause_us_max.clamp(limits::DIAL_PAUSE_US_MIN, limits::DIAL_PAUSE_US_MAX);
        link.pause_us = (2 * link.pause_us).min(pause_us_max);
        self.next_upkeep_us = self.next_upkeep_us.min(link.next_dial_us);
    }
}

fn stream_register(registry: &mio::Registry, stream: &mut TcpStream, id: ConnectionId) {
    let interest = Interest::READABLE | Interest::WRITABLE;
    if let Err(error) = registry.register(stream, id.mio_token(), interest) {
        // It will hear nothing and be given up for its silence.
        log::warn!("a connection could not be watched: {error}");
    }
}

fn describe(connection: &Connection) -> String {
    let what = match connection.stage {
        Stage::Client | Stage::UnknownClient => "client",
        _ => "peer",
    };
    match connection.stream.peer_addr() {
        Ok(address) => format!("{what} {address}"),
        Err(_) => format!("a {what} that has gone"),
    }
}
