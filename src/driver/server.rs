//! The loop. A turn: wait; read what is there; let the node handle it; send what needs no durability;
//! start a sync if records wait and none is in flight; release what the last finished sync made true;
//! apply; reply; flush.
//!
//! What ends a turn is in `turn`; how the node comes to its first one is in `start`.
//!
//! The loop never waits for the disk: syncs run beside it (`wal`), and their end wakes it. Messages
//! that a sync makes true are held by log position.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use mio::net::{TcpListener, UnixStream};
use mio::{Events, Poll, Token};
use sd_notify::NotifyState;

use crate::config::Config;
use crate::limits;
use crate::paxos::{Effects, Health, Node, NodeId, Now, Slot};
use crate::store::Store;
use crate::trace;
use crate::wal::{LogPosition, Wal};
use crate::wire::peer;

use super::ServeError;
use super::backup::ChunkReader;
use super::catch_up::CatchUp;
use super::clients::PendingRead;
use super::connection::{Ended, ReadOutcome, Stage};
use super::fetch::Fetcher;
use super::freshness::Freshness;
use super::held::Held;
use super::peers::Link;
use super::quarantine::Quarantine;
use super::scan::Scans;
use super::snapshots::Snapshots;
use super::sql::SqlQueries;
use super::start::io_error;
use super::table::{ConnectionId, Table};
use super::tracer::Tracer;
use super::verify::Verifier;
use super::watch::Watches;

pub(super) const WAKER: Token = Token(0);
pub(super) const SIGNALS: Token = Token(1);
pub(super) const PEER_LISTENER: Token = Token(2);
pub(super) const CLIENT_LISTENER: Token = Token(3);

/// How often connections are looked after: dialled, given up, or their handshake timed out. Twice an election
/// timeout within these bounds if there is one to each peer, and else as often as may be.
const UPKEEP_US_MIN: u64 = 20_000;
const UPKEEP_US_MAX: u64 = 100_000;
/// How often room for the log is looked for while there is none.
const ROOM_RETRY_US: u64 = 1_000_000;

pub struct Server {
    pub(super) config: Config,
    pub(super) poll: Poll,
    pub(super) peer_listener: TcpListener,
    pub(super) client_listener: TcpListener,
    /// A byte comes with each SIGTERM or SIGINT.
    pub(super) signals: UnixStream,
    /// Listeners whose queue could not be emptied: no event will tell of what is in it.
    pub(super) accept_again: Vec<Token>,
    /// How many descriptors this process may have open.
    pub(super) descriptors_max: usize,
    pub(super) next_full_warning_us: u64,
    /// What connections are read into.
    pub(super) scratch: Box<[u8]>,
    pub(super) table: Table,
    pub(super) links: BTreeMap<NodeId, Link>,
    /// When a connection to any of them stood last.
    pub(super) linked_us: u64,
    /// The newest configuration that the data directory was told of.
    pub(super) members_epoch: u64,
    /// Connections that have or may have more to read than the last turn took.
    pub(super) ready: Vec<ConnectionId>,
    /// Clients that must wait because the node is full.
    pub(super) blocked: Vec<ConnectionId>,
    /// Connections with something to send.
    pub(super) dirty: Vec<ConnectionId>,
    pub(super) node: Node,
    pub(super) fx: Effects,
    pub(super) wal: Wal,
    pub(super) held: Held,
    pub(super) store: Store,
    pub(super) snapshots: Snapshots,
    /// Where the keys lie in RocksDB.
    pub(super) verifier: Option<Verifier>,
    pub(super) chunks: ChunkReader,
    pub(super) sql_queries: SqlQueries,
    pub(super) watches: Watches,
    pub(super) scans: Scans,
    pub(super) quarantine: Quarantine,
    pub(super) fetcher: Fetcher,
    pub(super) catch_up: CatchUp,
    /// Linearizable reads, by the token that the node has for each.
    pub(super) reads: BTreeMap<u64, PendingRead>,
    pub(super) next_read: u64,
    pub(super) freshness: Freshness,
    pub(super) tracer: Tracer,
    pub(super) started_us: u64,
    pub(super) next_upkeep_us: u64,
    /// The slot after the highest one in the log, now and when the sync in flight began.
    pub(super) appended_end: Slot,
    pub(super) syncing: bool,
    pub(super) syncing_end: Slot,
    pub(super) syncing_from: LogPosition,
    pub(super) syncing_since_us: u64,
    pub(super) watchdog_us: Option<u64>,
    pub(super) next_watchdog_us: u64,
    pub(super) next_room_us: u64,
    /// The leader that systemd was last told of.
    pub(super) told_leader: Option<Option<NodeId>>,
    /// Whether damage to the log is not yet made good.
    pub(super) is_repairing: bool,
    /// Asked to stop: by when at the latest.
    pub(super) stopping_us: Option<u64>,
}

impl Server {
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
                self.note_disk(now);
                self.tracer.synced(self.syncing_end, done.duration_ns, records);
            }
            self.look_after_catch_up(now)?;
            self.note_room(now)?;
            self.read_connections(now);
            self.upkeep(now)?;
            if self.node.next_deadline_us() <= now.mono_us {
                self.node.on_tick(now, &mut self.fx);
            }
            if self.node.is_forgotten() {
                return Err(ServeError::Forgotten { node: self.config.node });
            }
            self.finish_turn(now)?;
            self.look_after_snapshots(now)?;
            self.send_chunks();
            self.end_sql_queries();
            self.look_after_quarantine(now)?;
            if self.stopping_us.is_some_and(|at| at <= now.mono_us || self.is_quiet()) {
                return self.stop();
            }
        }
    }

    /// How long the poll may sleep.
    fn timeout(&self) -> Duration {
        if !self.ready.is_empty()
            || !self.dirty.is_empty()
            || (!self.blocked.is_empty() && !self.node.is_full())
        {
            return Duration::ZERO;
        }
        let deadline = self.node.next_deadline_us().min(self.next_upkeep_us);
        Duration::from_micros(deadline.saturating_sub(trace::monotonic_ns() / 1000))
    }

    fn read_connections(&mut self, now: Now) {
        let mut ready = std::mem::take(&mut self.ready);
        if !self.node.is_full() {
            for id in std::mem::take(&mut self.blocked) {
                if let Some(connection) = self.table.get_mut(id) {
                    connection.blocked = false;
                    ready.push(id);
                }
            }
        }
        // Peers come first: what they wait for is small, and all wait for them. Clients share a budget,
        // or a turn would last as long as all of them have to say, and the peers would hear nothing.
        let is_peer = |id: &ConnectionId| {
            let connection = self.table.get(*id);
            connection.is_some_and(|connection| matches!(connection.stage, Stage::Peer(_)))
        };
        let (peers, others): (Vec<_>, Vec<_>) = ready.into_iter().partition(is_peer);
        for id in peers {
            self.read_connection(now, id, &mut { limits::READ_BUDGET_PER_TURN });
        }
        let mut budget = limits::CLIENTS_READ_BUDGET_PER_TURN;
        for id in others {
            if budget == 0 {
                self.ready.push(id);
                continue;
            }
            let mut own = budget.min(limits::READ_BUDGET_PER_TURN);
            budget -= own;
            self.read_connection(now, id, &mut own);
            budget += own;
        }
    }

    /// Handles the frames that a connection has, and reads more, up to `budget` bytes.
    fn read_connection(&mut self, now: Now, id: ConnectionId, budget: &mut usize) {
        loop {
            if !self.handle_frames(now, id) {
                return;
            }
            let Some(connection) = self.table.get_mut(id) else { return };
            if !connection.readable {
                return;
            }
            match connection.fill(now.mono_us, &mut self.scratch, budget) {
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
                if limits::CLIENT_OUT_SIZE_MAX <= connection.unsent()
                    || limits::CLIENT_READS_MAX <= connection.reads
                    || limits::SNAPSHOT_CHUNKS_IN_FLIGHT <= connection.chunks
                {
                    // It does not read its replies, or has many to come; it is looked at again
                    // when some are sent.
                    return false;
                }
                if self.node.is_full() {
                    if !connection.blocked {
                        self.blocked.push(id);
                        self.table.get_mut(id).expect("just seen").blocked = true;
                    }
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
        self.touch(id);
    }

    fn accept(&mut self, now: Now, listener: Token) {
        loop {
            let (from, stage) = if listener == PEER_LISTENER {
                (&self.peer_listener, Stage::UnknownPeer)
            } else {
                (&self.client_listener, Stage::UnknownClient)
            };
            match from.accept() {
                Ok((stream, _)) => {
                    let reserved = if stage == Stage::UnknownPeer {
                        limits::DESCRIPTORS_RESERVED / 2
                    } else {
                        limits::DESCRIPTORS_RESERVED
                    };
                    // The lowest free number is given out, so a high one means that few are left.
                    if self.descriptors_max <= stream.as_raw_fd() as usize + reserved {
                        if self.next_full_warning_us <= now.mono_us {
                            self.next_full_warning_us = now.mono_us + 1_000_000;
                            log::warn!("connections are closed at once: too many open files");
                        }
                        continue;
                    }
                    self.on_accepted(now, stream, stage);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.accept_again.retain(|other| *other != listener);
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // Out of descriptors, or the other side has gone: the listener itself is fine.
                    if !self.accept_again.contains(&listener) {
                        log::warn!("connections cannot be accepted now: {error}");
                        self.accept_again.push(listener);
                    }
                    return;
                }
            }
        }
    }

    fn upkeep(&mut self, now: Now) -> Result<(), ServeError> {
        if now.mono_us < self.next_upkeep_us {
            return Ok(());
        }
        self.tracer.flush();
        self.follow_members(now)?;
        self.look_after_connections(now);
        let is_whole = self.links.values().all(|link| link.up().is_some());
        let calm_us = (self.config.election_timeout_us / 2).clamp(UPKEEP_US_MIN, UPKEEP_US_MAX);
        self.next_upkeep_us = now.mono_us + if is_whole { calm_us } else { UPKEEP_US_MIN };
        self.note_disk(now);
        self.compare_states(now);
        if let Some(due_us) = self.store.next_expiry_us().filter(|due_us| *due_us <= now.wall_us) {
            self.node.on_due(now, due_us, self.store.time_us(), &mut self.fx);
        }
        self.look_after_watches(now);
        self.scans.look_after(now);
        for listener in self.accept_again.clone() {
            self.accept(now, listener);
        }
        if let Some(interval_us) = self.watchdog_us.filter(|_| self.next_watchdog_us <= now.mono_us)
        {
            self.next_watchdog_us = now.mono_us + interval_us;
            notify(&[NotifyState::Watchdog]);
        }
        if self.is_repairing && self.node.view().unsure == 0 {
            self.is_repairing = false;
            log::info!("the log is repaired: all that damage took from it is known again");
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
        Ok(())
    }

    /// Tells the node whether a sync takes so long that another should lead.
    fn note_disk(&mut self, now: Now) {
        let limit_us = limits::DISK_STALL_US_MIN.max(self.config.election_timeout_us);
        let took_us = now.mono_us.saturating_sub(self.syncing_since_us);
        let disk_stalled = self.syncing && limit_us <= took_us;
        let health = self.node.health();
        if health.disk_stalled == disk_stalled {
            return;
        }
        if disk_stalled {
            log::warn!(
                "the disk stalls: a sync has been under way for {} ms; this node does not lead until it \
                 ends, if another can",
                took_us / 1000
            );
        } else {
            log::info!("the disk stalls no more: the sync took {} ms", took_us / 1000);
        }
        self.node.set_health(Health { disk_stalled, ..health });
    }

    /// Tells the node, before each turn, whether the log has room for values.
    fn note_room(&mut self, now: Now) -> Result<(), ServeError> {
        let retry = self.next_room_us <= now.mono_us;
        if retry {
            self.next_room_us = now.mono_us + ROOM_RETRY_US;
        }
        let disk_full = self.wal.is_full(retry)?;
        let health = self.node.health();
        if health.disk_full != disk_full {
            if disk_full {
                log::error!(
                    "the disk is full: this node accepts no values until there is room for the next segment \
                     of the log; it goes on to serve reads"
                );
            } else {
                log::info!("there is room for the log again");
            }
            self.node.set_health(Health { disk_full, ..health });
        }
        Ok(())
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
        self.node.is_quiet()
            && self.reads.is_empty()
            && self.sql_queries.is_idle()
            && self.wal.durable() == self.wal.end()
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

/// Tells systemd; does nothing where it is not there.
pub(super) fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        log::warn!("systemd could not be told: {error}");
    }
}

pub(super) fn clock() -> Now {
    Now { mono_us: trace::monotonic_ns() / 1000, wall_us: trace::wall_ns() / 1000 }
}

/// For the log; empty where an end is nothing to speak of.
pub(super) fn reason(ended: Ended) -> String {
    match ended {
        Ended::Closed => String::new(),
        Ended::Failed(error) => error.to_string(),
    }
}
