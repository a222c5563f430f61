//! Clients: their requests become inputs of the node, and what was applied becomes their replies.

use crate::limits;
use crate::paxos::{
    Ballot, Bytes, Change, ChosenSlot, Command, CommandId, Health, NodeId, Now, ReadWay, SessionId,
    Slot, SnapshotId,
};
use crate::store::{Applied, Outcome, Query};
use crate::wire::client::{Consistency, ErrorKind, ErrorReply, Request, RequestKey, Response};
use crate::wire::frame::{self, Frame};
use crate::wire::status::{ConfigurationStatus, NodeStatus, PeerStatus};
use crate::wire::{codec, kv};

use super::connection::Readable;
use super::replay::corrupt_on_purpose;
use super::server::{Server, clock};
use super::table::ConnectionId;

/// What clients of a quarantined replica are told.
const WRONG_STATE: &str =
    "this replica's state is wrong, it is getting another; ask another replica";

/// A linearizable read that waits for its turn.
pub struct PendingRead {
    pub(super) client: ConnectionId,
    pub(super) id: u64,
    pub(super) what: What,
    arrived_us: u64,
    /// It would do with a state that old.
    within_us: Option<u64>,
}

pub enum What {
    /// An encoded query, checked.
    Query(Vec<u8>),
    /// A snapshot, with all that is acknowledged by now.
    Snapshot,
}

impl What {
    fn key(&self, id: u64) -> RequestKey {
        match self {
            What::Query(_) => RequestKey::Read { id },
            What::Snapshot => RequestKey::Snapshot { id },
        }
    }
}

/// A client's request, checked.
pub enum ClientInput {
    Command(Command),
    Read {
        id: u64,
        consistency: Consistency,
        query: Vec<u8>,
    },
    ReadOn {
        id: u64,
        of: u64,
        skip: u64,
    },
    Status {
        id: u64,
    },
    Snapshot {
        id: u64,
    },
    SnapshotChunk {
        id: u64,
        snapshot: SnapshotId,
        offset: u64,
    },
    Reconfigure {
        id: u64,
        epoch: u64,
        change: Change,
    },
    TransferLead {
        id: u64,
        to: Option<NodeId>,
    },
    Watch {
        id: u64,
        from: Slot,
        prefix: Vec<u8>,
    },
    /// Understood well enough to be answered with an error.
    Bad {
        key: RequestKey,
        message: String,
    },
}

/// The request of a frame; an error closes the connection.
pub fn decode(frame: Frame<'_>) -> Result<ClientInput, String> {
    let request: Request =
        codec::decode(frame.head).map_err(|error| format!("no request: {error}"))?;
    Ok(match request {
        Request::Register { nonce } => ClientInput::Command(Command {
            id: CommandId { session: SessionId::NONE, seq: nonce },
            acknowledged: 0,
            payload: Bytes::NONE,
        }),
        Request::Command { id, acknowledged } => {
            let key = RequestKey::Command(id);
            if id.session == SessionId::NONE {
                let message = "a command needs a session; register one first".to_string();
                return Ok(ClientInput::Bad { key, message });
            }
            if limits::COMMAND_SIZE_MAX < frame.bulk.len() {
                let message = "the command is too large".to_string();
                return Ok(ClientInput::Bad { key, message });
            }
            match kv::check_from_client(frame.bulk) {
                Ok(()) => {
                    let payload = Bytes::from(frame.bulk);
                    ClientInput::Command(Command { id, acknowledged, payload })
                }
                Err(error) => ClientInput::Bad { key, message: error.to_string() },
            }
        }
        Request::Read { id, consistency } => match kv::decode_query(frame.bulk) {
            Ok(_) => ClientInput::Read { id, consistency, query: frame.bulk.to_vec() },
            Err(error) => {
                ClientInput::Bad { key: RequestKey::Read { id }, message: error.to_string() }
            }
        },
        Request::Status { id } => ClientInput::Status { id },
        Request::Snapshot { id } => ClientInput::Snapshot { id },
        Request::SnapshotChunk { id, snapshot, offset } => {
            ClientInput::SnapshotChunk { id, snapshot, offset }
        }
        Request::Reconfigure { id, epoch, change } => {
            ClientInput::Reconfigure { id, epoch, change }
        }
        Request::TransferLead { id, to } => ClientInput::TransferLead { id, to },
        Request::Watch { id, from } => match frame.bulk.len() {
            0..=limits::KEY_SIZE_MAX => {
                ClientInput::Watch { id, from, prefix: frame.bulk.to_vec() }
            }
            _ => {
                let message = "the prefix is longer than any key".to_string();
                ClientInput::Bad { key: RequestKey::Watch { id }, message }
            }
        },
        Request::ReadOn { id, of, skip } => ClientInput::ReadOn { id, of, skip },
    })
}

impl Server {
    pub(super) fn on_client_input(
        &mut self,
        now: Now,
        client: ConnectionId,
        input: Result<ClientInput, String>,
    ) -> Result<(), String> {
        match input? {
            ClientInput::Status { id } => {
                let status = Box::new(self.status());
                self.respond(client, &Response::Status { id, status }, &[]);
            }
            ClientInput::Reconfigure { id, epoch, change } => {
                self.on_reconfigure(now, client, id, epoch, &change);
            }
            ClientInput::TransferLead { id, to } => self.on_transfer(client, id, to),
            ClientInput::Watch { id, from, prefix } => self.begin_watch(client, id, from, prefix),
            ClientInput::Bad { key, message } => {
                self.respond_error(client, key, ErrorKind::BadRequest, true, message);
            }
            ClientInput::Command(command) => {
                let key = key_of(command.id);
                if !self.may_serve(client, key) {
                    return Ok(());
                }
                if self.node.lacks_room() {
                    let message = "too many nodes have no room on their disks".to_string();
                    self.respond_error(client, key, ErrorKind::DiskFull, true, message);
                    return Ok(());
                }
                if self.tracer.is_on() {
                    self.tracer.received(command.id, command.payload.len());
                }
                self.node.on_command(now, command, client.to_token());
            }
            ClientInput::Read { id, consistency, query } => {
                if !self.may_serve(client, RequestKey::Read { id }) {
                    return Ok(());
                }
                let (way, within_us) = match consistency {
                    Consistency::Stale => {
                        self.answer_read(client, id, Readable::Query(query));
                        return Ok(());
                    }
                    // By the clock as it is now: the turn may have begun before the client asked.
                    Consistency::StaleWithin { age_us }
                        if self.freshness.is_within(age_us, clock().mono_us) =>
                    {
                        self.answer_read(client, id, Readable::Query(query));
                        return Ok(());
                    }
                    Consistency::StaleWithin { age_us } => (self.config.reads_way, Some(age_us)),
                    Consistency::Linearizable => (self.config.reads_way, None),
                    Consistency::Leader => (ReadWay::Leader, None),
                    Consistency::Lease => (ReadWay::Lease, None),
                    Consistency::Quorum => (ReadWay::Quorum, None),
                };
                self.read(now, client, id, What::Query(query), way, within_us);
            }
            ClientInput::ReadOn { id, of, skip } => {
                if self.may_serve(client, RequestKey::Read { id }) {
                    self.answer_read(client, id, Readable::On { of, skip });
                }
            }
            ClientInput::Snapshot { id } => {
                if self.may_serve(client, RequestKey::Snapshot { id }) {
                    self.read(now, client, id, What::Snapshot, self.config.reads_way, None);
                }
            }
            ClientInput::SnapshotChunk { id, snapshot, offset } => {
                self.read_chunk(client, id, snapshot, offset);
            }
        }
        Ok(())
    }

    /// Has a read confirmed: `serve_read` comes when it may be answered.
    fn read(
        &mut self,
        now: Now,
        client: ConnectionId,
        id: u64,
        what: What,
        way: ReadWay,
        within_us: Option<u64>,
    ) {
        if let Some(connection) = self.table.get_mut(client) {
            connection.reads += 1;
        }
        self.next_read += 1;
        let arrived_us = now.mono_us;
        let pending = PendingRead { client, id, what, arrived_us, within_us };
        self.reads.insert(self.next_read, pending);
        self.node.on_read(now, self.next_read, way);
    }

    /// Whether this node can take requests at all; if not, the client is told.
    pub(super) fn may_serve(&mut self, client: ConnectionId, key: RequestKey) -> bool {
        if self.stopping_us.is_some() {
            let message = "this node is about to stop; ask another".to_string();
            self.respond_error(client, key, ErrorKind::Stopping, true, message);
            return false;
        }
        if self.node.is_removed() {
            let message = format!("{} has left the cluster; ask another", self.config.node);
            self.respond_error(client, key, ErrorKind::Stopping, true, message);
            return false;
        }
        if !self.node.roles().replica {
            let message = format!("{} is no replica; ask one", self.config.node);
            self.respond_error(client, key, ErrorKind::NotAReplica, true, message);
            return false;
        }
        if self.quarantine.is_on() {
            let message = WRONG_STATE.to_string();
            self.respond_error(client, key, ErrorKind::Busy, true, message);
            return false;
        }
        true
    }

    /// Applies what is newly chosen and answers the clients that wait for it here.
    pub(super) fn apply_chosen(&mut self) {
        let mut applied = Vec::new();
        for ChosenSlot { slot, ballot, value } in std::mem::take(&mut self.fx.chosen) {
            if !self.node.roles().replica {
                continue;
            }
            self.store.apply(slot, &value, &mut applied);
            corrupt_on_purpose(&mut self.store, self.config.node, slot);
            self.note_checkpoint(slot);
            self.snapshots.on_applied(value.size());
            if let Some(verifier) = &mut self.verifier {
                verifier.on_applied(value.size());
            }
            if self.tracer.is_on() {
                self.tracer.applied(slot, applied.len(), self.store.digest(), &value);
            }
            for Applied { id, outcome } in applied.drain(..) {
                if let Some(client) = self.node.finish(id) {
                    let client = ConnectionId::from_token(client);
                    if self.quarantine.is_on() {
                        let message = WRONG_STATE.to_string();
                        self.respond_error(client, key_of(id), ErrorKind::Busy, false, message);
                    } else {
                        self.answer_command(client, id, outcome, slot, ballot);
                    }
                }
            }
        }
    }

    fn answer_command(
        &mut self,
        client: ConnectionId,
        id: CommandId,
        outcome: Outcome,
        slot: Slot,
        ballot: Ballot,
    ) {
        // None of these is definite: an earlier copy of the same command may have been applied.
        let error = match outcome {
            Outcome::Registered(session) => {
                let nonce = id.seq;
                let registered = Response::Registered { nonce, session, slot, ballot };
                self.respond(client, &registered, &[]);
                None
            }
            Outcome::Reply(reply) => {
                self.respond(client, &Response::Reply { id, slot, ballot }, &reply);
                None
            }
            Outcome::SessionExpired => Some((
                ErrorKind::SessionExpired,
                "the session has expired or never was; register a new one",
            )),
            Outcome::Stale => Some((
                ErrorKind::BadRequest,
                "the command's number is below what the client has acknowledged",
            )),
            Outcome::OutOfWindow => Some((
                ErrorKind::BadRequest,
                "the session has too many commands in flight; acknowledge replies",
            )),
        };
        if let Some((kind, message)) = error {
            self.respond_error(client, key_of(id), kind, false, message.to_string());
        }
        if self.tracer.is_on() {
            self.tracer.replied(id, slot);
        }
    }

    pub(super) fn command_expired(&mut self, id: CommandId, client: u64, definite: bool) {
        let message = if definite {
            "no leader in time; the command was not handed to any"
        } else {
            "not decided in time; it may still happen"
        };
        let client = ConnectionId::from_token(client);
        self.respond_error(client, key_of(id), ErrorKind::Timeout, definite, message.to_string());
    }

    pub(super) fn serve_read(&mut self, read: u64) {
        match self.take_read(read) {
            Some(PendingRead { client, id, what, .. }) if self.quarantine.is_on() => {
                let message = WRONG_STATE.to_string();
                self.respond_error(client, what.key(id), ErrorKind::Busy, true, message);
            }
            Some(PendingRead { client, id, what: What::Query(query), arrived_us, .. }) => {
                self.freshness.note(arrived_us);
                self.answer_read(client, id, Readable::Query(query));
            }
            Some(PendingRead { client, id, what: What::Snapshot, arrived_us, .. }) => {
                self.freshness.note(arrived_us);
                self.want_snapshot(client, id);
            }
            None => {}
        }
    }

    pub(super) fn read_expired(&mut self, read: u64) {
        if let Some(pending) = self.take_read(read) {
            let key = pending.what.key(pending.id);
            let message = match pending.within_us {
                Some(age_us) => self.freshness.complaint(age_us, clock().mono_us),
                None => "no leader and no quorum confirmed the read in time".to_string(),
            };
            self.respond_error(pending.client, key, ErrorKind::Timeout, true, message);
        }
    }

    fn take_read(&mut self, read: u64) -> Option<PendingRead> {
        let pending = self.reads.remove(&read)?;
        if let Some(connection) = self.table.get_mut(pending.client) {
            connection.reads -= 1;
        }
        Some(pending)
    }

    /// Answers a read that may be served, from now on at any time: later is as good, if the client does
    /// not take what it has been sent. Requests are small and replies are not, so a limit on what is
    /// read of its requests would come too late.
    fn answer_read(&mut self, client: ConnectionId, id: u64, what: Readable) {
        let Some(connection) = self.table.get_mut(client) else { return };
        if limits::CLIENT_OUT_SIZE_MAX <= connection.unsent() {
            connection.answerable.push_back((id, what));
            return;
        }
        if self.quarantine.is_on() {
            let (key, message) = (RequestKey::Read { id }, WRONG_STATE.to_string());
            self.respond_error(client, key, ErrorKind::Busy, true, message);
            return;
        }
        let query = match &what {
            Readable::Query(query) => kv::decode_query(query).expect("checked when it came"),
            Readable::On { of, skip } => {
                if !self.go_on_scan(client, id, *of, *skip) {
                    self.go_on_sql_query(client, id, *of, *skip);
                }
                return;
            }
        };
        if let Query::Sql(statement) = query {
            self.begin_sql_query(client, id, statement);
            return;
        }
        let reply = self.store.query(&query);
        self.hold_scan(client, id, &query, &reply);
        let (slot, ballot) = (self.store.applied(), self.node.view().ballot);
        self.respond(client, &Response::Read { id, slot, ballot }, &kv::encode_reply(&reply));
    }

    /// Answers the reads that waited for room to answer them in.
    pub(super) fn answer_reads(&mut self, client: ConnectionId) {
        while let Some(connection) = self.table.get_mut(client) {
            if limits::CLIENT_OUT_SIZE_MAX <= connection.unsent() {
                return;
            }
            let Some((id, what)) = connection.answerable.pop_front() else { return };
            self.answer_read(client, id, what);
        }
    }

    pub(super) fn respond(&mut self, client: ConnectionId, response: &Response, bulk: &[u8]) {
        let Some(connection) = self.table.get_mut(client) else { return };
        frame::write(response, &[bulk], connection.output());
        self.touch(client);
    }

    pub(super) fn respond_error(
        &mut self,
        client: ConnectionId,
        key: RequestKey,
        kind: ErrorKind,
        definite: bool,
        message: String,
    ) {
        let me = self.config.node;
        let leader = self.node.view().leader;
        let (_, latest) = self.node.configurations().latest();
        let others = latest.members().map(|(member, _)| member).filter(|it| it.node != me);
        let replicas: Vec<NodeId> =
            others.filter(|it| it.roles.replica).map(|it| it.node).collect();
        let serves = leader.filter(|node| replicas.contains(node));
        let ask = match kind {
            ErrorKind::Timeout | ErrorKind::Busy => serves,
            ErrorKind::NotAReplica | ErrorKind::Stopping => serves.or(replicas.first().copied()),
            ErrorKind::NotLeading => leader.filter(|node| *node != me),
            ErrorKind::SessionExpired
            | ErrorKind::BadRequest
            | ErrorKind::DiskFull
            | ErrorKind::Refused
            | ErrorKind::TooOld => None,
        };
        let ask_at = ask.and_then(|node| latest.addresses(node)).map(|addresses| addresses.client);
        let error = ErrorReply { kind, definite, ask, ask_at, message };
        self.respond(client, &Response::Error { key, error }, &[]);
    }

    fn status(&self) -> NodeStatus {
        let view = self.node.view();
        let peer = |(&node, link): (&crate::paxos::NodeId, &super::peers::Link)| {
            let heard = self.node.heard(node);
            PeerStatus {
                node,
                connected: link.up().is_some(),
                heard: heard.is_some(),
                first_unchosen: heard.map_or(Slot(0), |standing| standing.first_unchosen),
                hears: heard.map_or_else(Vec::new, |standing| standing.hears.clone()),
                health: heard.map_or_else(Health::default, |standing| standing.health),
                ended: link.ended(),
            }
        };
        let membership = self.node.configurations().in_force().membership();
        NodeStatus {
            node: self.config.node,
            version: env!("CARGO_PKG_VERSION").to_string(),
            pid: std::process::id(),
            uptime_ms: (clock().mono_us - self.started_us) / 1000,
            roles: self.node.roles(),
            members: membership.members().iter().map(|it| (it.node, it.roles)).collect(),
            quorum: membership.connected() as u16,
            leader: view.leader,
            ballot: view.ballot,
            route: self.node.route(),
            leading: view.leading,
            quorum_connected: view.quorum_connected,
            health: self.node.health(),
            first_unchosen: view.first_unchosen,
            applied: self.store.applied(),
            digest: format!("{:032x}", self.store.digest()),
            keys: self.store.keys() as u64,
            sessions: self.store.sessions() as u64,
            clients: self.table.clients() as u64,
            syncs: self.wal.syncs(),
            lost_records: self
                .wal
                .lost()
                .iter()
                .map(|it| it.sequences.end - it.sequences.start)
                .sum(),
            unsure_slots: view.unsure,
            peers: self.links.iter().map(peer).collect(),
            configuration: ConfigurationStatus {
                settled: self.node.is_settled(),
                removed: self.node.is_removed(),
                ..ConfigurationStatus::of(self.node.configurations(), self.config.cluster)
            },
        }
    }
}

fn key_of(id: CommandId) -> RequestKey {
    if id.session == SessionId::NONE {
        RequestKey::Register { nonce: id.seq }
    } else {
        RequestKey::Command(id)
    }
}
