//! The loop. A turn: wait; read what is there; let the node handle it; send what needs no durability;
//! start a sync if records wait and none is in flight; release what the last finished sync made true;
//! apply; reply; flush.
//!
//! The loop never waits for the disk: syncs run beside it (`wal`), and their end wakes it. Messages
//! that a sync makes true are held by log position.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::net::{TcpListener, UnixStream};
use mio::{Events, Interest, Poll, Token, Waker};
use sd_notify::NotifyState;

use crate::config::Config;
use crate::limits;
use crate::paxos::{
    Effects, Expired, LearnReply, Message, Node, NodeConfig, NodeId, Now, Record, Slot, Value,
};
use crate::store::Store;
use crate::trace;
use crate::wal::{Identity, LogPosition, Options, Wal};
use crate::wire::peer;

use super::ServeError;
use super::clients::PendingRead;
use super::connection::{Ended, ReadOutcome, Stage};
use super::held::Held;
use super::peers::Link;
use super::table::{ConnectionId, Table};
use super::tracer::Tracer;

const WAKER: Token = Token(0);
const SIGNALS: Token = Token(1);
const PEER_LISTENER: Token = Token(2);
const CLIENT_LISTENER: Token = Token(3);

/// How often connections are looked after: dialled, given up, or their handshake timed out.
const UPKEEP_US: u64 = 20_000;

pub struct Server {
    pub(super) config: Config,
    pub(super) poll: Poll,
    peer_listener: TcpListener,
    client_listener: TcpListener,
    /// A byte comes with each SIGTERM or SIGINT.
    signals: UnixStream,
    pub(super) table: Table,
    pub(super) links: BTreeMap<NodeId, Link>,
    /// Connections that have or may have more to read than the last turn took.
    pub(super) ready: Vec<ConnectionId>,
    /// Clients that must wait because the node is full.
    blocked: Vec<ConnectionId>,
    /// Connections with something to send.
    dirty: Vec<ConnectionId>,
    pub(super) node: Node,
    pub(super) fx: Effects,
    pub(super) wal: Wal,
    held: Held,
    pub(super) store: Store,
    /// Linearizable reads, by the token that the node has for each.
    pub(super) reads: BTreeMap<u64, PendingRead>,
    pub(super) next_read: u64,
    pub(super) tracer: Tracer,
    pub(super) started_us: u64,
    next_upkeep_us: u64,
    /// The slot after the highest one in the log, now and when the sync in flight began.
    appended_end: Slot,
    syncing: bool,
    syncing_end: Slot,
    syncing_from: LogPosition,
    watchdog_us: Option<u64>,
    next_watchdog_us: u64,
    /// The leader that systemd was last told of.
    told_leader: Option<Option<NodeId>>,
    /// Asked to stop: by when at the latest.
    pub(super) stopping_us: Option<u64>,
}

impl Server {
    /// Recovers the node's state and opens its doors.
    pub fn start(config: Config) -> Result<Server, ServeError> {
        let poll = Poll::new().map_err(io_error("cannot make an event poll"))?;
        let waker = Waker::new(poll.registry(), WAKER);
        let waker = Arc::new(waker.map_err(io_error("cannot make a waker"))?);
        let signals = register_signals(&poll).map_err(io_error("cannot watch signals"))?;
        let mut tracer = Tracer::new(&config).map_err(io_error("cannot create the trace file"))?;

        let identity = Identity { cluster: config.cluster, node: config.node };
        let options = Options { segment_size: config.wal_segment_size, sync: config.wal_sync };
        if !config.wal_sync {
            log::warn!("wal.sync = false: a power cut may lose what was acknowledged");
        }
        // A lost wake-up would leave a sync unnoticed, so a failing waker is fatal.
        let wake = Box::new(move || waker.wake().expect("the waker's descriptor stays open"));
        let (wal, recovered) =
            Wal::open(&config.data_dir, identity, options, wake, &mut report_progress())?;

        let store = replay(&wal, recovered.first_unchosen, &config)?;
        let now = clock();
        let node_config = NodeConfig {
            node: config.node,
            membership: config.membership.clone(),
            election_timeout_us: config.election_timeout_us,
            request_timeout_us: config.request_timeout_us,
            window_slots: config.window_slots,
        };
        let mut fx = Effects::new(config.node);
        // Any number will do: it only spreads the first heartbeat rounds of nodes started together.
        let seed = now.wall_us ^ u64::from(std::process::id()) << 20;
        let node = Node::new(node_config, &recovered, seed, now, &mut fx);

        let me = config.nodes.iter().find(|n| n.id == config.node).expect("checked by Config");
        let listen = |what, address, token| -> Result<TcpListener, ServeError> {
            let result = TcpListener::bind(address).and_then(|mut listener| {
                poll.registry().register(&mut listener, token, Interest::READABLE)?;
                Ok(listener)
            });
            result.map_err(|error| ServeError::Listen { what, address, error })
        };
        let peer_listener = listen("peer_address", me.peer_address, PEER_LISTENER)?;
        let client_listener = listen("client_address", me.client_address, CLIENT_LISTENER)?;
        log::info!(
            "serving as {} of cluster {:?}: clients on {}, peers on {}, first unchosen slot {}",
            me.roles,
            config.cluster_name,
            me.client_address,
            me.peer_address,
            node.view().first_unchosen,
        );
        tracer.started(node.view().first_unchosen);

        let links = Link::all(&config, now.mono_us);
        Ok(Server {
            poll,
            peer_listener,
            client_listener,
            signals,
            table: Table::default(),
            links,
            ready: Vec::new(),
            blocked: Vec::new(),
            dirty: Vec::new(),
            node,
            fx,
            appended_end: recovered.tail.last().map_or(recovered.first_unchosen, |t| t.slot.next()),
            syncing: false,
            syncing_end: Slot::FIRST,
            syncing_from: wal.durable(),
            wal,
            held: Held::default(),
            store,
            reads: BTreeMap::new(),
            next_read: 0,
            tracer,
            started_us: now.mono_us,
            next_upkeep_us: now.mono_us,
            watchdog_us: sd_notify::watchdog_enabled().map(|limit| limit.as_micros() as u64 / 3),
            next_watchdog_us: now.mono_us,
            told_leader: None,
            stopping_us: None,
            config,
        })
    }

    pub fn run(mut self) -> Result<(), ServeError> {
        notify(&[NotifyState::Ready, NotifyState::Status("serving")]);
        let mut events = Events::with_capacity(1024);
        loop {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                result => result.map_err(io_error("cannot wait for events"))?,
            }
            let now = clock();
            for event in &events {
                match event.token() {
                    WAKER => {}
                    SIGNALS => self.on_signal(now),
                    PEER_LISTENER => self.accept(now, PEER_LISTENER),
                    CLIENT_LISTENER => self.accept(now, CLIENT_LISTENER),
                    token => self.on_connection_event(now, token, event),
                }
            }
            if let Some(done) = self.wal.poll_sync()? {
                let records = done.position.0 - self.syncing_from.0;
                self.syncing = false;
                self.tracer.synced(self.syncing_end, done.duration_ns, records);
            }
            self.read_connections(now);
            self.upkeep(now);
            if self.node.next_deadline_us() <= now.mono_us {
                self.node.on_tick(now, &mut self.fx);
            }
            self.finish_turn(now)?;
            if self.stopping_us.is_some_and(|at| at <= now.mono_us || self.is_quiet()) {
                return self.stop();
            }
        }
    }

    /// How long the poll may sleep.
    fn timeout(&self) -> Duration {
        if !self.ready.is_empty() || (!self.blocked.is_empty() && !self.node.is_full()) {
            return Duration::ZERO;
        }
        let deadline = self.node.next_deadline_us().min(self.next_upkeep_us);
        Duration::from_micros(deadline.saturating_sub(trace::monotonic_ns() / 1000))
    }

    fn read_connections(&mut self, now: Now) {
        let mut ready = std::mem::take(&mut self.ready);
        if !self.node.is_full() {
            ready.append(&mut self.blocked);
        }
        for id in ready {
            self.read_connection(now, id);
        }
    }

    /// Handles the frames that a connection has, and reads more.
    fn read_connection(&mut self, now: Now, id: ConnectionId) {
        loop {
            if !self.handle_frames(now, id) {
                return;
            }
            let Some(connection) = self.table.get_mut(id) else { return };
            if !connection.readable {
                return;
            }
            match connection.fill(now.mono_us) {
                Ok(ReadOutcome::Drained) => {}
                Ok(ReadOutcome::Budget) => {
                    // The rest waits for the next turn, so that others have theirs.
                    self.handle_frames(now, id);
                    self.ready.push(id);
                    return;
                }
                Err(ended) => {
                    self.handle_frames(now, id);
                    self.close(now, id, &reason(ended));
                    return;
                }
            }
        }
    }

    /// Handles the whole frames that were read. False if the rest must wait.
    fn handle_frames(&mut self, now: Now, id: ConnectionId) -> bool {
        loop {
            let Some(connection) = self.table.get(id) else { return false };
            let stage = connection.stage;
            if stage == Stage::Client {
                if limits::CLIENT_OUT_SIZE_MAX <= connection.unsent() {
                    // It does not read its replies; it is looked at again when it has.
                    return false;
                }
                if self.node.is_full() {
                    self.blocked.push(id);
                    return false;
                }
            }
            let (size, result) = match connection.next_frame() {
                Ok(None) => return true,
                Ok(Some((frame, size))) => match stage {
                    Stage::Peer(from) => match peer::read(frame) {
                        Ok(message) => {
                            self.node.on_message(now, from, message, &mut self.fx);
                            (size, Ok(()))
                        }
                        Err(error) => (size, Err(error.to_string())),
                    },
                    Stage::Client => {
                        let input = super::clients::decode(frame);
                        (size, self.on_client_input(now, id, input))
                    }
                    Stage::Closing | Stage::Dialling(_) => (size, Ok(())),
                    Stage::UnknownPeer | Stage::UnknownClient | Stage::Greeting(_) => {
                        let hello = super::peers::decode_hello(frame);
                        (size, self.on_hello(now, id, stage, hello))
                    }
                },
                Err(error) => (0, Err(error.to_string())),
            };
            match (result, self.table.get_mut(id)) {
                (Ok(()), Some(connection)) => connection.consume(size),
                (Ok(()), None) => return false,
                (Err(why), _) => {
                    self.close(now, id, &why);
                    return false;
                }
            }
        }
    }

    /// Carries out what this turn asked for, again as long as what it made durable leads to more.
    fn finish_turn(&mut self, now: Now) -> Result<(), ServeError> {
        loop {
            self.node.end_turn(now, &mut self.fx);
            self.carry_out()?;
            if !self.release(now) {
                break;
            }
        }
        for id in std::mem::take(&mut self.dirty) {
            self.flush(now, id);
        }
        Ok(())
    }

    fn carry_out(&mut self) -> Result<(), ServeError> {
        // First of all out of the door: while the others write, we do.
        for (to, message) in std::mem::take(&mut self.fx.sends) {
            self.send(to, &message);
        }
        for record in std::mem::take(&mut self.fx.records) {
            self.wal.append(&record)?;
            if let Record::Accepted { slot, .. } | Record::Chosen { slot, .. } = record {
                self.appended_end = self.appended_end.max(slot.next());
            }
        }
        let position = self.wal.end();
        for (to, message) in std::mem::take(&mut self.fx.sends_after_sync) {
            self.held.push(position, to, message);
        }
        let before = self.wal.durable();
        let in_flight = self.wal.start_sync()?;
        if in_flight && !self.syncing {
            (self.syncing_from, self.syncing_end) = (before, self.appended_end);
        }
        self.syncing = in_flight;
        for event in std::mem::take(&mut self.fx.events) {
            self.tracer.on_core_event(event);
        }
        self.apply_chosen();
        for read in std::mem::take(&mut self.fx.reads_ready) {
            self.serve_read(read);
        }
        for reply in std::mem::take(&mut self.fx.learn_replies) {
            self.send_chosen(reply)?;
        }
        for expired in std::mem::take(&mut self.fx.expired) {
            match expired {
                Expired::Command { id, client, definite } => {
                    self.command_expired(id, client, definite);
                }
                Expired::Read { read } => self.read_expired(read),
            }
        }
        Ok(())
    }

    /// Lets go what the log's durability has made true. True if the node itself was told something.
    fn release(&mut self, now: Now) -> bool {
        let mut told = false;
        while let Some((to, message)) = self.held.pop(self.wal.durable()) {
            if to == self.config.node {
                told = true;
                self.node.on_message(now, to, message, &mut self.fx);
            } else {
                self.send(to, &message);
            }
        }
        told
    }

    /// Sends to a peer, if a connection to it stands: the protocol expects losses only there.
    fn send(&mut self, to: NodeId, message: &Message) {
        let Some(id) = self.links.get(&to).and_then(Link::up) else { return };
        let Some(connection) = self.table.get_mut(id) else { return };
        peer::write(message, connection.output());
        self.dirty.push(id);
    }

    /// Answers a learner from the log: as many chosen values as fit a message.
    fn send_chosen(&mut self, reply: LearnReply) -> Result<(), ServeError> {
        let Some(id) = self.links.get(&reply.to).and_then(Link::up) else { return Ok(()) };
        let Some(connection) = self.table.get_mut(id) else { return Ok(()) };
        let (mut values, mut size, mut slot) = (Vec::new(), 0, reply.first_slot);
        while slot < reply.first_unchosen
            && values.len() < limits::MESSAGE_VALUES_MAX
            && size < limits::MESSAGE_VALUES_SIZE_SOFT_MAX
        {
            let value = self.wal.read(slot).ok_or(ServeError::SlotMissing { slot: slot.0 })?;
            size += value.1.len();
            values.push(value);
            slot = slot.next();
        }
        let out = connection.output();
        peer::write_chosen(reply.first_slot, &values, reply.first_unchosen, out);
        self.dirty.push(id);
        Ok(())
    }

    /// Marks that something waits to be sent.
    pub(super) fn touch(&mut self, id: ConnectionId) {
        self.dirty.push(id);
    }

    pub(super) fn flush(&mut self, now: Now, id: ConnectionId) {
        let Some(connection) = self.table.get_mut(id) else { return };
        let stage = connection.stage;
        if let Err(ended) = connection.flush() {
            self.close(now, id, &reason(ended));
            return;
        }
        let unsent = connection.unsent();
        match stage {
            Stage::Closing if unsent == 0 => self.close(now, id, ""),
            Stage::Peer(_) if limits::PEER_OUT_SIZE_MAX < unsent => {
                self.close(now, id, "it does not take what we send");
            }
            // It may have been held back because of its unsent replies.
            Stage::Client
                if unsent < limits::CLIENT_OUT_SIZE_MAX
                    && (connection.readable || connection.has_input()) =>
            {
                self.ready.push(id);
            }
            _ => {}
        }
    }

    fn on_connection_event(&mut self, now: Now, token: Token, event: &mio::event::Event) {
        let Some(id) = self.table.by_mio_token(token) else { return };
        let Some(connection) = self.table.get_mut(id) else { return };
        connection.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        connection.ending |= event.is_read_closed() || event.is_error();
        connection.writable |= event.is_writable() || event.is_write_closed();
        if let (Stage::Dialling(peer), true) = (connection.stage, event.is_writable()) {
            self.on_dialled(now, id, peer);
        }
        self.ready.push(id);
        self.dirty.push(id);
    }

    fn accept(&mut self, now: Now, listener: Token) {
        loop {
            let (from, stage) = if listener == PEER_LISTENER {
                (&self.peer_listener, Stage::UnknownPeer)
            } else {
                (&self.client_listener, Stage::UnknownClient)
            };
            match from.accept() {
                Ok((stream, _)) => self.on_accepted(now, stream, stage),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Out of descriptors, or the other side has gone: the listener itself is fine.
                    log::warn!("a connection could not be accepted: {error}");
                    return;
                }
            }
        }
    }

    fn upkeep(&mut self, now: Now) {
        if now.mono_us < self.next_upkeep_us {
            return;
        }
        self.next_upkeep_us = now.mono_us + UPKEEP_US;
        self.tracer.flush();
        self.look_after_connections(now);
        if let Some(interval_us) = self.watchdog_us.filter(|_| self.next_watchdog_us <= now.mono_us)
        {
            self.next_watchdog_us = now.mono_us + interval_us;
            notify(&[NotifyState::Watchdog]);
        }
        let leader = self.node.view().leader;
        if self.told_leader != Some(leader) {
            self.told_leader = Some(leader);
            let status = match leader {
                Some(leader) if leader == self.config.node => "leading".to_string(),
                Some(leader) => format!("following {leader}"),
                None => "no leader".to_string(),
            };
            notify(&[NotifyState::Status(&status)]);
        }
    }

    fn on_signal(&mut self, now: Now) {
        let mut bytes = [0; 16];
        while matches!(io::Read::read(&mut self.signals, &mut bytes), Ok(size) if 0 < size) {}
        if self.stopping_us.is_some() {
            // Asked twice: do not wait for anybody.
            self.stopping_us = Some(now.mono_us);
            return;
        }
        log::info!("asked to stop: finishing what is in flight");
        notify(&[NotifyState::Stopping]);
        self.stopping_us = Some(now.mono_us + limits::STOP_US_MAX);
        self.node.hand_over(&mut self.fx);
    }

    /// Nothing waits here any more, so that a stop loses nobody's answer.
    fn is_quiet(&self) -> bool {
        self.node.is_quiet() && self.reads.is_empty() && self.wal.durable() == self.wal.end()
    }

    fn stop(mut self) -> Result<(), ServeError> {
        for id in self.table.ids() {
            if let Some(connection) = self.table.get_mut(id) {
                // What the kernel does not take now is lost, as at any end of a connection.
                let _ = connection.flush();
            }
        }
        self.wal.sync_now()?;
        self.tracer.stopped();
        log::info!("stopped with all slots below {} applied", self.store.applied().next());
        Ok(())
    }
}

/// Brings the store to where the log says that all is chosen.
fn replay(wal: &Wal, first_unchosen: Slot, config: &Config) -> Result<Store, ServeError> {
    let mut store = Store::new();
    let me = config.nodes.iter().find(|n| n.id == config.node).expect("checked by Config");
    if !me.roles.replica {
        return Ok(store);
    }
    let begun_ns = trace::monotonic_ns();
    let mut told_ns = begun_ns;
    let mut applied = Vec::new();
    let mut slot = Slot::FIRST;
    while slot < first_unchosen {
        let (_, value) = wal.read(slot).ok_or(ServeError::SlotMissing { slot: slot.0 })?;
        store.apply(slot, &Value(Arc::from(value)), &mut applied);
        applied.clear();
        slot = slot.next();
        let now_ns = trace::monotonic_ns();
        if 1_000_000_000 < now_ns - told_ns {
            told_ns = now_ns;
            log::info!("replaying the log: {} of {} slots", slot.0 - 1, first_unchosen.0 - 1);
        }
    }
    let ms = (trace::monotonic_ns() - begun_ns) / 1_000_000;
    log::info!("replayed {} slots in {ms} ms", first_unchosen.0 - 1);
    Ok(store)
}

/// Says now and then how far reading the log has come.
fn report_progress() -> impl FnMut(u64, u64) {
    let mut told_ns = trace::monotonic_ns();
    move |done, total| {
        let now_ns = trace::monotonic_ns();
        if 1_000_000_000 < now_ns - told_ns {
            told_ns = now_ns;
            log::info!("reading the log: {} of {} MiB", done >> 20, total >> 20);
        }
    }
}

fn register_signals(poll: &Poll) -> io::Result<UnixStream> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, theirs.try_clone()?)?;
    }
    let mut ours = UnixStream::from_std(ours);
    poll.registry().register(&mut ours, SIGNALS, Interest::READABLE)?;
    Ok(ours)
}

/// Tells systemd; does nothing where it is not there.
fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("systemd could not be told: {error}");
    }
}

pub(super) fn clock() -> Now {
    Now { mono_us: trace::monotonic_ns() / 1000, wall_us: trace::wall_ns() / 1000 }
}

fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> ServeError {
    move |error| ServeError::Io { doing, error }
}

/// For the log; empty where an end is nothing to speak of.
fn reason(ended: Ended) -> String {
    match ended {
        Ended::Closed => String::new(),
        Ended::Failed(error) => error.to_string(),
    }
}
