//! Clients: they open sessions, have some operations in flight, send the same one again elsewhere when
//! no reply comes, give up, pause; and keep a history of what they asked and were told.
//!
//! A lane is one operation in flight. A client's lanes share its session.

use rand::RngExt;
use rand::rngs::StdRng;

use crate::check::{History, Op, Reply as Told, Ticket};
use crate::paxos::{Bytes, Command, CommandId, NodeId, ReadWay, SessionId};
use crate::store;
use crate::wire::kv;

use super::cluster::{Cluster, Reply};
use super::images;
use super::plan::Load;
use super::sql;

/// Of how many commands one is about a lock.
const LOCKS_SHARE: u32 = 12;

pub struct Clients {
    load: Load,
    /// When they begin operations.
    storms: Vec<(u64, u64)>,
    clients: Vec<Client>,
    /// Those of client 0, then those of client 1, and so on.
    lanes: Vec<Lane>,
    reads: u64,
    nonces: u64,
    values: u64,
    /// Of the locks that clients were told of.
    last_token: u64,
    pub history: History,
    /// The times of the history: each event has one of its own.
    events: u64,
    /// No new operations.
    pub done: bool,
}

struct Client {
    session: Option<SessionId>,
    next_seq: u64,
    /// Operations left of the burst.
    burst: u64,
}

struct Lane {
    doing: Doing,
    /// When it does something next: begins anew, or loses patience. Other alarms are stale.
    wake_us: u64,
    /// Where the operation was sent last.
    at: Option<NodeId>,
    /// How many copies of it were sent.
    sent: u32,
}

enum Doing {
    Nothing,
    Registering {
        nonce: u64,
    },
    /// No ticket: a command that no history knows.
    Writing {
        id: CommandId,
        payload: Bytes,
        ticket: Option<Ticket>,
    },
    Reading {
        read: u64,
        key: Vec<u8>,
        way: ReadWay,
        ticket: Ticket,
    },
}

impl Clients {
    pub fn new(load: Load, storms: Vec<(u64, u64)>) -> Clients {
        let client = || Client { session: None, next_seq: 1, burst: 0 };
        let lane = || Lane { doing: Doing::Nothing, wake_us: 0, at: None, sent: 0 };
        Clients {
            clients: (0..load.clients).map(|_| client()).collect(),
            lanes: (0..load.clients * load.lanes).map(|_| lane()).collect(),
            load,
            storms,
            reads: 0,
            nonces: 0,
            values: 0,
            last_token: 0,
            history: History::new(),
            events: 0,
            done: false,
        }
    }

    pub fn lanes(&self) -> usize {
        self.lanes.len()
    }

    /// Begins; what `wake` says is when `on_wake` is due for each lane.
    pub fn wake(&mut self, cluster: &mut Cluster, lane: usize, in_us: u64) {
        self.lanes[lane].wake_us = cluster.now_us + in_us;
        cluster.alarm(in_us, lane as u64);
    }

    pub fn on_wake(&mut self, cluster: &mut Cluster, dice: &mut StdRng, lane: usize) {
        if self.lanes[lane].wake_us != cluster.now_us {
            return;
        }
        match self.lanes[lane].doing {
            Doing::Nothing if self.done => {}
            Doing::Nothing if !self.is_storm(cluster.now_us) => {
                // Some time in the beginning of the next one, if there is one.
                let next = self.storms.iter().find(|(start_us, _)| cluster.now_us < *start_us);
                if let Some((start_us, _)) = next {
                    let in_us =
                        start_us - cluster.now_us + dice.random_range(0..=self.load.pause_us);
                    self.wake(cluster, lane, in_us);
                }
            }
            Doing::Nothing => self.begin(cluster, dice, lane),
            _ => self.send_again(cluster, dice, lane),
        }
    }

    fn is_storm(&self, now_us: u64) -> bool {
        self.storms.iter().any(|(start_us, end_us)| (*start_us..*end_us).contains(&now_us))
    }

    fn begin(&mut self, cluster: &mut Cluster, dice: &mut StdRng, lane: usize) {
        let number = lane / self.load.lanes;
        let client = &mut self.clients[number];
        if client.burst == 0 {
            client.burst = dice.random_range(1..=self.load.burst);
        }
        client.burst -= 1;
        let is_read = dice.random_range(0..100) < self.load.reads_percent;
        if is_read {
            let key = self.pick_key(dice);
            self.begin_read(cluster, dice, lane, key);
            return;
        }
        let Some(session) = client.session else {
            self.nonces += 1;
            self.lanes[lane].doing = Doing::Registering { nonce: self.nonces };
            self.lanes[lane].sent = 0;
            self.send(cluster, dice, lane);
            return;
        };
        let id = CommandId { session, seq: client.next_seq };
        client.next_seq += 1;
        let is_of_lock = !self.load.keys_only && dice.random_range(0..LOCKS_SHARE) == 0;
        let (payload, ticket) = if is_of_lock {
            (self.draw_lock_command(dice), None)
        } else {
            let payload = self.draw_command(dice);
            let command = kv::decode_command(&payload).expect("just encoded");
            let (key, op) = Op::of_command(&command);
            let time = self.time();
            let ticket = self.history.invoke(number as u64, time, key, op);
            (sql::of_command(payload, &self.load), Some(ticket))
        };
        self.lanes[lane].doing = Doing::Writing { id, payload: payload.into(), ticket };
        self.lanes[lane].sent = 0;
        self.send(cluster, dice, lane);
    }

    pub fn begin_read(
        &mut self,
        cluster: &mut Cluster,
        dice: &mut StdRng,
        lane: usize,
        key: Vec<u8>,
    ) {
        let time = self.time();
        let client = (lane / self.load.lanes) as u64;
        let ticket = self.history.invoke(client, time, &key, Op::Get);
        let way = self.draw_way(dice);
        self.lanes[lane].doing = Doing::Reading { read: 0, key, way, ticket };
        self.lanes[lane].sent = 0;
        self.send(cluster, dice, lane);
    }

    /// How a read is to be served.
    pub fn draw_way(&self, dice: &mut StdRng) -> ReadWay {
        let Load { quorum_reads_percent: quorum, lease_reads_percent: lease, .. } = self.load;
        if quorum + lease == 0 {
            return ReadWay::Leader;
        }
        match dice.random_range(0..100) {
            at if at < quorum => ReadWay::Quorum,
            at if at < quorum + lease => ReadWay::Lease,
            _ => ReadWay::Leader,
        }
    }

    /// Event number of the history.
    pub fn time(&mut self) -> u64 {
        self.events += 1;
        self.events
    }

    fn pick_key(&self, dice: &mut StdRng) -> Vec<u8> {
        format!("k{}", dice.random_range(0..self.load.keys)).into_bytes()
    }

    /// A command on some key. Even keys are mostly counters, so that `incr` finds numbers.
    fn draw_command(&mut self, dice: &mut StdRng) -> Vec<u8> {
        let key = self.pick_key(dice);
        let is_counter = key[1].is_multiple_of(2);
        self.values += 1;
        let mut value = format!("v{}", self.values).into_bytes();
        if 0 < self.load.value_size && self.values.is_multiple_of(2) {
            value.resize(self.load.value_size, b'.');
        }
        let before = format!("v{}", self.values.saturating_sub(dice.random_range(0..4)));
        let (key, value) = (&key[..], &value[..]);
        let command = match dice.random_range(0..if is_counter { 14 } else { 7 }) {
            0 | 1 => store::Command::Put { key, value },
            2 => store::Command::Create { key, value },
            3 => store::Command::Update { key, value },
            4 | 5 => store::Command::Delete { key },
            6 => {
                let expect = dice.random_bool(0.5).then_some(before.as_bytes());
                store::Command::Cas { key, expect, value }
            }
            _ => store::Command::Incr { key, by: dice.random_range(1..4) },
        };
        let drawn = if self.load.keys_only { command } else { images::drawn(command) };
        kv::encode_command(&drawn)
    }

    /// A command on one of two keys that are locks, or go at a time. When they go is the log's business, so these are
    /// in no history; the oracle has the times.
    fn draw_lock_command(&mut self, dice: &mut StdRng) -> Vec<u8> {
        let key: &[u8] = if dice.random_bool(0.5) { b"l1" } else { b"l2" };
        self.values += 1;
        let value = format!("v{}", self.values).into_bytes();
        let value = &value[..];
        let ttl_us = dice.random_range(1..2_000_000);
        let token = self.last_token.saturating_sub(dice.random_range(0..2));
        kv::encode_command(&match dice.random_range(0..12) {
            0..4 => store::Command::Lock { key, value, ttl_us },
            4 | 5 => store::Command::Renew { key, token, ttl_us },
            6 | 7 => store::Command::Unlock { key, token },
            8 => store::Command::PutFor { key, value, ttl_us },
            9 => store::Command::Put { key, value },
            10 => store::Command::Update { key, value },
            _ => store::Command::Delete { key },
        })
    }

    fn send_again(&mut self, cluster: &mut Cluster, dice: &mut StdRng, lane: usize) {
        if self.load.sends_max <= self.lanes[lane].sent || self.done {
            // Given up. What it asked for may have happened, or may still.
            cluster.coverage.given_up += 1;
            self.finish(cluster, dice, lane);
        } else {
            self.send(cluster, dice, lane);
        }
    }

    fn send(&mut self, cluster: &mut Cluster, dice: &mut StdRng, lane: usize) {
        let replicas = cluster.replicas();
        let (from_us, to_us) = self.load.patience_us;
        let patience_us = dice.random_range(from_us..=to_us);
        self.wake(cluster, lane, patience_us);
        // Now and then to two at once: sessions must see to it that it is executed once all the same.
        let copies = if dice.random_range(0..10) == 0 { 2 } else { 1 };
        for _ in 0..copies {
            let node = replicas[dice.random_range(0..replicas.len())];
            let acknowledged = self.acknowledged(lane);
            let state = &mut self.lanes[lane];
            state.at = Some(node);
            state.sent += 1;
            let sent = match &mut state.doing {
                Doing::Nothing => unreachable!("it sends something"),
                Doing::Registering { nonce } => {
                    let id = CommandId { session: SessionId::NONE, seq: *nonce };
                    let command = Command { id, acknowledged: 0, payload: Bytes::NONE };
                    cluster.command(node, command, lane as u64)
                }
                Doing::Writing { id, payload, .. } => {
                    let command = Command { id: *id, acknowledged, payload: payload.clone() };
                    cluster.command(node, command, lane as u64)
                }
                Doing::Reading { read, way, .. } => {
                    self.reads += 1;
                    *read = self.reads;
                    cluster.read(node, self.reads, *way)
                }
            };
            if !sent {
                // Nobody listens there: it tries another soon.
                let in_us = cluster.settings.election_timeout_us / 10;
                self.wake(cluster, lane, dice.random_range(1..=in_us));
            }
        }
    }

    /// The lowest number that this lane's session still waits for.
    fn acknowledged(&self, lane: usize) -> u64 {
        let Doing::Writing { id, .. } = &self.lanes[lane].doing else { return 0 };
        let first = lane / self.load.lanes * self.load.lanes;
        let of_session = self.lanes[first..first + self.load.lanes].iter().filter_map(|other| {
            let Doing::Writing { id: other, .. } = &other.doing else { return None };
            (other.session == id.session).then_some(other.seq)
        });
        of_session.min().expect("this lane's at least")
    }

    /// The lane has nothing more to do with its operation.
    fn finish(&mut self, cluster: &mut Cluster, dice: &mut StdRng, lane: usize) {
        self.lanes[lane].doing = Doing::Nothing;
        let client = &self.clients[lane / self.load.lanes];
        let in_us = match client.burst {
            0 => dice.random_range(0..=2 * self.load.pause_us),
            _ => dice.random_range(self.load.think_us / 4..=self.load.think_us),
        };
        self.wake(cluster, lane, in_us);
    }

    pub fn on_reply(&mut self, cluster: &mut Cluster, dice: &mut StdRng, reply: Reply) {
        match reply {
            Reply::Registered { client, nonce, session } => {
                let lane = client as usize;
                // Or a late answer to the run's own command (`write_own`), which it does not wait for any more.
                let waits = self.lanes.get(lane).is_some_and(
                    |it| matches!(it.doing, Doing::Registering { nonce: mine } if mine == nonce),
                );
                if waits {
                    let client = &mut self.clients[lane / self.load.lanes];
                    client.session = Some(session);
                    client.next_seq = 1;
                    self.finish(cluster, dice, lane);
                }
            }
            Reply::Done { client, id, reply, .. } => {
                if let Some(ticket) = self.waits_for(client, id) {
                    let reply = kv::decode_reply(&reply).expect("a reply of the store");
                    if let store::Reply::Token(token) = reply {
                        self.last_token = token;
                    }
                    let Doing::Writing { payload, .. } = &self.lanes[client as usize].doing else {
                        unreachable!("it waits for a command");
                    };
                    let encoded = sql::command_of(payload);
                    let command = kv::decode_command(&encoded).expect("we sent it");
                    if let Some(ticket) = ticket {
                        self.tell(ticket, &sql::of_reply(&command, reply));
                    }
                    self.finish(cluster, dice, client as usize);
                }
            }
            Reply::Refused { client, id } => {
                if self.waits_for(client, id).is_some() {
                    let lane = client as usize;
                    let client = &mut self.clients[lane / self.load.lanes];
                    if client.session == Some(id.session) {
                        client.session = None;
                    }
                    self.finish(cluster, dice, lane);
                }
            }
            Reply::Expired { client, id, definite } => {
                if let Some(ticket) = self.waits_for(client, id) {
                    let lane = client as usize;
                    // The only copy was never handed to any leader.
                    if definite && self.lanes[lane].sent == 1 {
                        cluster.coverage.definite_errors += 1;
                        if let Some(ticket) = ticket {
                            self.history.fail(ticket);
                        }
                        self.finish(cluster, dice, lane);
                    } else {
                        self.send_again(cluster, dice, lane);
                    }
                }
            }
            Reply::Read { read, node, .. } => {
                let reads = |lane: &Lane| matches!(lane.doing, Doing::Reading { read: mine, .. } if mine == read);
                let Some(lane) = self.lanes.iter().position(reads) else { return };
                let Doing::Reading { key, ticket, .. } = &self.lanes[lane].doing else { return };
                let reply = sql::get(&cluster.hosts[&node].store, key, &self.load);
                let ticket = *ticket;
                self.tell(ticket, &reply);
                self.finish(cluster, dice, lane);
            }
            Reply::ReadExpired { read } => {
                let reads = |lane: &Lane| matches!(lane.doing, Doing::Reading { read: mine, .. } if mine == read);
                if let Some(lane) = self.lanes.iter().position(reads) {
                    self.send_again(cluster, dice, lane);
                }
            }
            Reply::Died { node } => {
                for lane in 0..self.lanes.len() {
                    let state = &self.lanes[lane];
                    if state.at == Some(node) && !matches!(state.doing, Doing::Nothing) {
                        let in_us = cluster.settings.election_timeout_us / 10;
                        self.wake(cluster, lane, dice.random_range(1..=in_us));
                    }
                }
            }
        }
    }

    /// The command's ticket, if it has one, if the lane still waits for it.
    fn waits_for(&self, lane: u64, command: CommandId) -> Option<Option<Ticket>> {
        match &self.lanes.get(lane as usize)?.doing {
            Doing::Writing { id, ticket, .. } if *id == command => Some(*ticket),
            _ => None,
        }
    }

    fn tell(&mut self, ticket: Ticket, reply: &store::Reply) {
        let told = Told::of_reply(reply).expect("an answer about one key");
        let time = self.time();
        self.history.reply(ticket, time, told);
    }

    /// A last read of each key, from one replica, when all is level.
    pub fn read_all(&mut self, cluster: &Cluster, node: NodeId) {
        for key in 0..self.load.keys {
            let key = format!("k{key}").into_bytes();
            let time = self.time();
            let ticket = self.history.invoke(u64::MAX, time, &key, Op::Get);
            let reply = sql::get(&cluster.hosts[&node].store, &key, &self.load);
            self.tell(ticket, &reply);
        }
    }
}
