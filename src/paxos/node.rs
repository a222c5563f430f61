//! A node: the roles of one process, wired together.
//!
//! Each `on_*` takes one input and adds to one `Effects`; `end_turn` closes what one turn of the
//! caller's loop brought. A node does nothing by itself: `on_tick` is due at `next_deadline_us`.
//!
//! Here is where branches are: the roles return what they learned, and the node lets the others know.

mod catch_up;
#[cfg(test)]
mod fixtures;
mod reconfigure;
#[cfg(test)]
mod tests;
mod ways;

pub use reconfigure::Refusal;

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};

use crate::mutants::{self, Mutant};

use super::acceptor::Acceptor;
use super::batch::{Command, CommandId};
use super::configurations::Configurations;
use super::effects::{Effects, Event, SnapshotReply};
use super::election::{Election, RoundOutcome};
use super::ids::{Ballot, NodeId, Slot};
use super::leader::{Leader, LeaderOutcome};
use super::learner::Learner;
use super::lease::LeaseConfig;
use super::log::Log;
use super::message::{Health, Message, SnapshotId, Standing, StateStanding, Values};
use super::optimisations::Optimisations;
use super::overdue::Overdue;
use super::quorum::Roles;
use super::read_rounds::ReadRequest;
use super::reads::ReadWay;
use super::record::{Record, Recovered};
use super::replica::Replica;

/// The time of an input, from the only clock there is: the caller's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Microseconds that never go back; the origin is the caller's.
    pub mono_us: u64,
    /// Wall clock, microseconds since 1970. Only ever written into batches.
    pub wall_us: u64,
}

#[derive(Clone, Debug)]
pub struct NodeConfig {
    pub node: NodeId,
    /// The roles that it plays, by the newest configuration that has it. Configurations to come may let it
    /// accept and lead, or not; what it keeps (`Roles::learns`) and whether it is a replica stays.
    pub roles: Roles,
    /// Those of all slots below `Recovered::first_unchosen` among them, or what a node that joins goes by.
    pub configurations: Configurations,
    /// How long a silent peer is taken to be alive, at least.
    pub election_timeout_us: u64,
    /// How long a client's request may wait.
    pub request_timeout_us: u64,
    /// Slots proposed and not yet chosen: alpha at most.
    pub window_slots: usize,
    pub optimisations: Optimisations,
    /// Leader leases, or none.
    pub lease: LeaseConfig,
    /// Bytes of a snapshot that are asked for in one message.
    pub snapshot_chunk_size: usize,
}

#[derive(Clone, Debug)]
pub struct Node {
    me: NodeId,
    /// It joins with nothing, and has not heard yet what it is in the cluster.
    is_new: bool,
    is_forgotten: bool,
    /// Acceptors and replicas do: see `Roles::learns`.
    learns: bool,
    optimisations: Optimisations,
    configurations: Configurations,
    /// The newest configuration in force here (`configurations`), and the newest that is by a durable record.
    epoch_reached: u64,
    epoch_recorded: u64,
    /// The newest that this node has heard of, and told its peers of.
    epoch_told: u64,
    tick_us: u64,
    next_tick_us: u64,
    /// When there was a way to a leader last; at first, when the node started.
    leader_seen_us: u64,
    log: Log,
    learner: Learner,
    /// What can be sent to a peer that is behind where our log begins; the newest is the last.
    snapshots: Vec<SnapshotId>,
    /// Who waits for one.
    wanting: BTreeSet<NodeId>,
    election: Election,
    /// What the caller last said of its state, for the heartbeats.
    state: StateStanding,
    /// How far the log of whoever is furthest was chosen in the last round, and how many rounds since then
    /// it has stood still below where we began to lead.
    furthest: (Slot, u32),
    /// Over whom commands and reads went to the leader in the last round.
    route: Vec<NodeId>,
    overdue: Overdue,
    acceptor: Option<Acceptor>,
    leader: Option<Leader>,
    replica: Option<Replica>,
}

/// What a node shows of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    pub ballot: Ballot,
    /// The leader followed, if it is alive as far as this node knows.
    pub leader: Option<NodeId>,
    pub leading: bool,
    pub quorum_connected: bool,
    pub first_unchosen: Slot,
    pub promised: Ballot,
    /// Slots in which this node may have lost what it accepted, by damage to its log. It does not answer
    /// scouts for them until it has learned what was chosen.
    pub unsure: u64,
}

/// Ticks in an election timeout: the grain of retries and of what followers learn while nothing happens.
const TICKS_PER_TIMEOUT: u64 = 4;

/// Election timeouts without a way to a leader after which clients are told. An election takes less
/// wherever one is possible.
const LEADERLESS_TIMEOUTS_MAX: u64 = 4;

/// Heartbeat rounds after which a gap below where the leader began is taken for one that nobody can fill.
const GAP_ROUNDS: u32 = 3;

/// How long a peer may take for a part of a snapshot, while its connection stands: it may send to many, at
/// the slowest pace, over a slow link.
const FETCH_PATIENCE_US: u64 = 5_000_000;

impl Node {
    /// A node as it stands after recovery. `seed`, another in each life of the process, sets when its
    /// first heartbeat round ends and the ids of its read requests. The caller must apply `fx.chosen` at once, after all slots below `recovered.first_unchosen`.
    pub fn new(
        config: NodeConfig,
        recovered: &Recovered,
        seed: u64,
        now: Now,
        fx: &mut Effects,
    ) -> Node {
        let me = config.node;
        let roles = config.roles;
        let mut configurations = config.configurations;
        assert!(config.window_slots <= configurations.alpha());
        configurations.advance(recovered.first_unchosen);
        let timeout_us = config.election_timeout_us;
        let jitter_us = timeout_us / 2 + seed % (timeout_us / 2).max(1);
        let log = Log::new(recovered, fx);
        let (ballot, promised) = (recovered.own_ballot, recovered.promised);
        let mut election =
            Election::new(me, roles.leader, ballot, promised, timeout_us, now.mono_us, jitter_us);
        election.set_connected_only(config.optimisations.quorum_connected_election);
        let tick_us = (timeout_us / TICKS_PER_TIMEOUT).max(1);
        let learns = roles.learns();
        let first_unchosen = recovered.first_unchosen.min(Slot::FIRST);
        let has_nothing = *recovered == Recovered { first_unchosen, ..Recovered::default() };
        let mut node = Node {
            me,
            is_new: configurations.is_provisional() && has_nothing,
            is_forgotten: false,
            learns,
            optimisations: config.optimisations,
            epoch_reached: configurations.epoch_at(recovered.first_unchosen.max(Slot::FIRST)),
            epoch_recorded: configurations.epoch_at(recovered.first_unchosen.max(Slot::FIRST)),
            epoch_told: configurations.latest().1.epoch(),
            configurations,
            // Who may be promoted has what it takes from the start. Votes are counted by those who know
            // whose they are, and nobody leads whom the election does not let.
            acceptor: learns
                .then(|| Acceptor::new(recovered, &log, config.lease.lease_us, now.mono_us)),
            leader: (roles.leader || roles.replica)
                .then(|| Leader::new(config.window_slots, config.lease, config.optimisations)),
            replica: roles.replica.then(|| {
                // A healthy cluster has a quorum read done long before.
                let patience_us = (timeout_us / 2).max(1);
                Replica::new(config.request_timeout_us, patience_us, seed)
            }),
            tick_us,
            next_tick_us: now.mono_us + tick_us,
            leader_seen_us: now.mono_us,
            log,
            learner: {
                let patience_ticks = 2 * TICKS_PER_TIMEOUT as u32;
                let fetch_patience_ticks = (FETCH_PATIENCE_US / tick_us) as u32;
                let chunk_size = config.snapshot_chunk_size;
                Learner::new(patience_ticks, patience_ticks.max(fetch_patience_ticks), chunk_size)
            },
            snapshots: Vec::new(),
            wanting: BTreeSet::new(),
            election,
            state: StateStanding::default(),
            furthest: (Slot(0), 0),
            route: Vec::new(),
            overdue: Overdue::default(),
        };
        node.note_handed_out(0, fx);
        node
    }

    pub fn id(&self) -> NodeId {
        self.me
    }

    /// The roles that it plays by the newest configuration that has it.
    pub fn roles(&self) -> Roles {
        let none = Roles { acceptor: false, leader: false, replica: false };
        let roles = self.configurations.roles(self.me).unwrap_or(none);
        Roles { replica: self.replica.is_some(), ..roles }
    }

    pub fn configurations(&self) -> &Configurations {
        &self.configurations
    }

    /// Whether the node came with nothing under the id of one that votes: what it promised and accepted is
    /// lost. It takes part in nothing any more.
    pub fn is_forgotten(&self) -> bool {
        self.is_forgotten
    }

    pub fn view(&self) -> View {
        let ballot = self.election.leader();
        let leading = self.leader.as_ref().is_some_and(Leader::is_leading);
        View {
            ballot,
            leader: (self.election.is_happy() && !ballot.is_none()).then_some(ballot.node),
            leading: leading && self.election.is_happy(),
            quorum_connected: self.election.is_quorum_connected(),
            first_unchosen: self.log.first_unchosen(),
            promised: self.acceptor.as_ref().map_or(Ballot::NONE, Acceptor::promised),
            unsure: self.log.unsure().len(),
        }
    }

    /// What a peer said of itself last, if it is heard.
    pub fn heard(&self, peer: NodeId) -> Option<&Standing> {
        self.election.heard(peer)
    }

    /// What this node tells its peers of itself.
    pub fn standing(&self) -> Standing {
        let first_unchosen = self.log.first_unchosen();
        let epoch = if self.knows_configurations() { self.epoch_recorded } else { 0 };
        self.election.standing(first_unchosen, epoch, self.state)
    }

    /// The caller's snapshots and digests, which heartbeats tell the peers of.
    pub fn set_standing_of_state(&mut self, state: StateStanding) {
        self.state = state;
    }

    /// The nodes over which commands reach the leader, in order, the leader last.
    pub fn route(&self) -> Vec<NodeId> {
        self.election.route()
    }

    pub fn health(&self) -> Health {
        self.election.health()
    }

    /// Whether nothing can be chosen for want of room: a quorum of acceptors is heard, and too many of them
    /// have a full disk. A command that comes now is better refused than left to wait.
    pub fn lacks_room(&self) -> bool {
        let membership = self.configurations.governing(self.log.first_unchosen()).membership();
        let (mut heard, mut with_room) = (0, 0);
        for acceptor in membership.acceptors() {
            let mine = (acceptor == self.me).then(|| self.health());
            let theirs = self.election.heard(acceptor).map(|standing| standing.health);
            let Some(health) = mine.or(theirs) else { continue };
            heard += 1;
            with_room += usize::from(!health.disk_full);
        }
        with_room < membership.phase2() && membership.phase2() <= heard
    }

    /// How this node is now. If it is not fit to lead, and leads, it hands over at the end of the round, as
    /// long as somebody fit could lead.
    pub fn set_health(&mut self, health: Health) {
        self.election.set_health(health);
    }

    /// When `on_tick` is due, on the clock of `Now::mono_us`.
    pub fn next_deadline_us(&self) -> u64 {
        self.election.deadline_us().min(self.next_tick_us)
    }

    /// Whether clients must wait before they send more.
    pub fn is_full(&self) -> bool {
        self.replica.as_ref().is_some_and(Replica::is_full)
    }

    /// Whether no client waits for anything here.
    pub fn is_quiet(&self) -> bool {
        self.replica.as_ref().is_none_or(Replica::is_quiet)
    }

    /// A client's command; `client` comes back from `finish` or in `Expired`. Only for replicas.
    pub fn on_command(&mut self, now: Now, command: Command, client: u64) {
        let replica = self.replica.as_mut().expect("clients are served by replicas");
        replica.on_command(command, client, now.mono_us);
    }

    /// A client's linearizable read; `read` comes back in `reads_ready` or `Expired`. Only for
    /// replicas.
    pub fn on_read(&mut self, now: Now, read: u64, way: ReadWay) {
        let replica = self.replica.as_mut().expect("clients are served by replicas");
        replica.on_read(read, way, now.mono_us);
    }

    /// A command was applied: the token of the client that waits for it here, if one does.
    pub fn finish(&mut self, id: CommandId) -> Option<u64> {
        self.replica.as_mut()?.finish(id)
    }

    /// A connection to a peer stands anew. Nothing that was sent before is certain to have come.
    pub fn on_peer_up(&mut self, now: Now, peer: NodeId, fx: &mut Effects) {
        if let Some(leader) = &mut self.leader {
            leader.on_peer_up(peer, &self.configurations, fx);
        }
        let configurations = &self.configurations;
        let knows_more = 1 < configurations.latest().1.epoch()
            || configurations.alpha() < configurations.known_below().since(Slot::FIRST);
        if peer != self.me && knows_more {
            // It may be new, or have been away while members came and went; or it passed over slots, and
            // did not learn whether members came or went in them.
            fx.send(peer, Message::Configurations(self.configurations.epochs().clone()));
        }
        if let Some(replica) = &mut self.replica {
            if self.election.leader().node == peer {
                replica.resend_all();
            }
            let is_acceptor = self.configurations.is_acceptor(peer);
            if let (true, Some(round)) = (is_acceptor, replica.quorum_read_in_flight()) {
                fx.send(peer, Message::QuorumRead { round });
            }
        }
        self.run_local(now, fx);
    }

    pub fn on_peer_down(&mut self, now: Now, peer: NodeId, fx: &mut Effects) {
        self.learner.on_peer_down(peer);
        self.election.on_peer_down(peer, now.mono_us, &self.configurations, fx);
        self.run_local(now, fx);
    }

    /// The node is about to stop: let another take over, if this one leads, or is about to.
    pub fn hand_over(&mut self, fx: &mut Effects) {
        self.hand_over_to(self.successor(), fx);
    }

    fn hand_over_to(&mut self, successor: Option<NodeId>, fx: &mut Effects) {
        let ballot = self.election.leader();
        let Some(leader) = self.leader.as_mut().filter(|leader| !leader.is_idle()) else {
            return;
        };
        // Before all else, or those whom the successor asks are bound for a while.
        leader.release_lease(&self.configurations, fx);
        if let Some(successor) = successor {
            fx.send(successor, Message::TakeOver { ballot });
        }
        leader.step_down();
        self.election.resign();
    }

    /// Who takes over best: of those who may lead and answer, one that is fit and reaches a quorum, and of
    /// these the one that knows most, because it needs least before it can serve.
    fn successor(&self) -> Option<NodeId> {
        let (election, (_, latest)) = (&self.election, self.configurations.latest());
        let may_lead = |node| latest.roles(node).is_some_and(|roles| roles.leader);
        let heard = election.all_heard().map(|(node, _)| node).filter(|node| may_lead(*node));
        heard.max_by_key(|node| {
            let could_lead = election.could_lead(*node, &self.configurations);
            (could_lead, self.learner.peer_knows(*node))
        })
    }

    /// Leaves the lead to somebody who is fit, if this node is not.
    fn yield_lead(&mut self, fx: &mut Effects) {
        let fit = self.election.health().is_fit() || mutants::is_on(Mutant::LeadUnfit);
        let could_lead = |node: &NodeId| self.election.could_lead(*node, &self.configurations);
        if !fit && self.successor().as_ref().is_some_and(could_lead) {
            self.hand_over(fx);
        }
    }

    /// Time has passed.
    pub fn on_tick(&mut self, now: Now, fx: &mut Effects) {
        if self.election.deadline_us() <= now.mono_us {
            match self.election_round(now, fx) {
                RoundOutcome::Nothing if self.began_above_a_gap() => {
                    self.compete(self.election.next_ballot(), fx);
                }
                RoundOutcome::Nothing => {}
                RoundOutcome::Compete(ballot) => self.compete(ballot, fx),
            }
            self.yield_lead(fx);
        }
        if self.next_tick_us <= now.mono_us {
            self.next_tick_us = now.mono_us + self.tick_us;
            if let Some(leader) = &mut self.leader {
                leader.on_tick(now.mono_us, &self.configurations, fx);
            }
            if self.learns {
                self.learner.on_tick(self.log.first_unchosen(), fx);
                self.log.record_progress(fx);
            }
            self.leave(fx);
            let patience_us = self.patience_without_leader(now);
            if let Some(replica) = &mut self.replica {
                replica.on_tick(now.mono_us, patience_us, fx);
            }
        }
        self.run_local(now, fx);
    }

    /// How long clients wait at most, while there has been no way to a leader for so long that waiting is of no
    /// use: an election timeout, in which a quorum read may yet be served.
    fn patience_without_leader(&mut self, now: Now) -> Option<u64> {
        let limit_us = LEADERLESS_TIMEOUTS_MAX * TICKS_PER_TIMEOUT * self.tick_us;
        if self.reaches_leader() {
            self.leader_seen_us = now.mono_us;
        }
        let timeout_us = TICKS_PER_TIMEOUT * self.tick_us;
        (limit_us <= now.mono_us - self.leader_seen_us).then_some(timeout_us)
    }

    /// A message from a peer, or (`from` is this node) one that waited for the sync.
    pub fn on_message(&mut self, now: Now, from: NodeId, message: Message, fx: &mut Effects) {
        self.handle(now, from, message, fx);
        self.run_local(now, fx);
    }

    /// Closes a turn: hands commands and reads to the leader, forms batches, serves reads.
    pub fn end_turn(&mut self, now: Now, fx: &mut Effects) {
        if let Some(acceptor) = &mut self.acceptor {
            acceptor.end_turn(now.mono_us, fx);
        }
        self.hand_to_leader(now, fx);
        self.begin_quorum_read(now, fx);
        if self.leader.as_ref().is_some_and(Leader::wants_phase1) {
            self.compete(self.election.next_ballot(), fx);
        }
        if let Some(leader) = &mut self.leader {
            leader.end_turn(now, &self.configurations, fx);
        }
        self.run_local(now, fx);
        if let Some(replica) = &mut self.replica {
            replica.serve_reads(self.log.first_unchosen(), fx);
        }
        if !fx.records.is_empty() && self.learns {
            self.log.record_progress(fx);
        }
    }

    #[inline]
    fn run_local(&mut self, now: Now, fx: &mut Effects) {
        while let Some(message) = fx.local.pop_front() {
            self.handle(now, self.me, message, fx);
        }
    }

    /// Whether our acceptor cannot promise `ballot` yet, because another node's leader holds its grant.
    fn is_bound_against(&self, ballot: Ballot, now: Now) -> bool {
        let acceptor = self.acceptor.as_ref();
        acceptor.is_some_and(|acceptor| acceptor.is_bound_against(ballot, now.mono_us))
    }

    fn handle(&mut self, now: Now, from: NodeId, message: Message, fx: &mut Effects) {
        let chosen_before = fx.chosen.len();
        self.dispatch(now, from, message, fx);
        self.note_chosen(chosen_before, fx);
    }

    fn dispatch(&mut self, now: Now, from: NodeId, message: Message, fx: &mut Effects) {
        if !self.may_take_part(&message) {
            return;
        }
        match message {
            Message::HeartbeatRequest { round } => {
                fx.send(from, Message::HeartbeatReply { round, standing: self.standing().into() });
            }
            Message::HeartbeatReply { round, standing } => {
                self.note_peer(from, standing.first_unchosen);
                if standing.epoch == 0 && Slot::FIRST < self.configurations.known_below() {
                    // It joins, or passed over slots and cannot know what was chosen there.
                    fx.send(from, Message::Configurations(self.configurations.epochs().clone()));
                }
                if !self.learns {
                    // It keeps no log that would tell it which configurations are over, and would wait for
                    // quorums of nodes that left long ago.
                    let known = self.configurations.known_below();
                    self.configurations.advance(standing.first_unchosen.min(known));
                }
                self.election.on_reply(from, round, *standing);
            }
            // The scout asks again. Until it may be answered, the leader that holds our grant goes on.
            Message::P1a { ballot, .. } if self.is_bound_against(ballot, now) => {}
            Message::P1a { ballot, first_slot } => {
                self.observe(ballot, fx);
                // An answer tells which configurations are among the slots that it calls chosen. One who
                // passed over slots, or joins, waits until it has heard of theirs.
                let knows = self.knows_configurations();
                if let Some(acceptor) = self.acceptor.as_mut().filter(|_| knows) {
                    let epochs = self.configurations.epochs();
                    acceptor.on_p1a(from, ballot, first_slot, &self.log, epochs, fx);
                    // The answer says below which slot all is chosen, and its leader begins there.
                    // Forgotten after a restart, slots below could be nobody's: not proposed by this
                    // leader, and known to be chosen by none who is alive.
                    self.log.record_progress(fx);
                }
            }
            Message::P1b(p1b) => {
                self.note_peer(from, p1b.first_unchosen);
                self.merge(&p1b.epochs, fx);
                if let Some(leader) = &mut self.leader {
                    let outcome = leader.on_p1b(from, *p1b, &self.configurations, fx);
                    self.on_leader_outcome(outcome, fx);
                }
            }
            Message::P2a { ballot, first_slot, first_unchosen, mut values } => {
                self.observe(ballot, fx);
                self.note_peer(from, first_unchosen);
                // Without room nothing is accepted, and what is chosen goes on to be noted. Others make up the
                // quorum; what is left out here is sent again, or learned.
                if self.election.health().disk_full {
                    values = Values::NONE;
                }
                if let Some(acceptor) = &mut self.acceptor {
                    let log = &mut self.log;
                    acceptor.on_p2a(from, ballot, first_slot, first_unchosen, values, log, fx);
                    if self.log.first_unchosen() < first_slot.min(first_unchosen) {
                        self.learner.on_gap(self.log.first_unchosen(), fx);
                    }
                }
            }
            Message::P2b(p2b) => {
                if let Some(leader) = &mut self.leader {
                    let outcome = leader.on_p2b(from, p2b, &self.configurations, fx);
                    self.on_leader_outcome(outcome, fx);
                }
            }
            Message::Commit { ballot, first_unchosen } => {
                self.observe(ballot, fx);
                self.note_peer(from, first_unchosen);
                if self.learns {
                    self.log.commit(ballot, first_unchosen, fx);
                }
            }
            Message::LearnRequest { first_slot } => self.on_learn_request(from, first_slot, fx),
            Message::Chosen { first_slot, values, first_unchosen } => {
                self.note_peer(from, first_unchosen);
                if self.learns && !self.election.health().disk_full {
                    self.log.learn(first_slot, values, fx);
                    let now_at = self.log.first_unchosen();
                    self.learner.on_answer(from, first_slot, now_at, fx);
                    if now_at < first_slot {
                        self.learner.on_gap(now_at, fx);
                    }
                }
            }
            Message::SnapshotOffer { log_begin, first_unchosen, snapshot, epochs } => {
                self.note_peer(from, first_unchosen);
                self.merge(&epochs, fx);
                self.on_snapshot_offer(from, log_begin, snapshot, fx);
            }
            Message::SnapshotRequest { snapshot, offset, size } => {
                if self.snapshots.contains(&snapshot) {
                    fx.snapshot_replies.push(SnapshotReply { to: from, snapshot, offset, size });
                } else {
                    self.offer_snapshot(from, fx);
                }
            }
            Message::SnapshotChunk { snapshot, offset, bytes } => {
                self.learner.on_chunk(snapshot, offset, bytes, fx);
            }
            Message::Propose { commands } => self.on_propose(now, from, &commands),
            Message::ReadIndexRequest { id, lease } => {
                if let Some(leader) = self.leader.as_mut().filter(|leader| !leader.is_idle()) {
                    let route = vec![from];
                    leader.on_read_request(ReadRequest { node: from, id, route, lease });
                }
            }
            Message::ReadIndexReply { id, read_slot } => {
                if let Some(replica) = &mut self.replica {
                    replica.on_read_index(id, read_slot);
                }
            }
            Message::Confirm { ballot, round } => {
                if let Some(acceptor) = &mut self.acceptor {
                    acceptor.on_confirm(from, ballot, round, fx);
                }
            }
            Message::ConfirmAck { ballot, round, told_end } => {
                if let Some(leader) = &mut self.leader {
                    let told = (round, told_end);
                    leader.on_confirm_ack(from, ballot, told, &self.configurations, fx);
                }
            }
            Message::LeaseRequest { ballot, asked_us, lease_us } => {
                if let Some(acceptor) = &mut self.acceptor {
                    acceptor.on_lease_request(from, ballot, asked_us, lease_us);
                }
            }
            Message::LeaseGrant { ballot, asked_us, told_end } => {
                if let Some(leader) = &mut self.leader {
                    leader.on_lease_grant(from, ballot, asked_us, told_end);
                }
            }
            Message::LeaseRelease { ballot } => {
                if let Some(acceptor) = &mut self.acceptor {
                    acceptor.on_lease_release(ballot);
                }
            }
            Message::QuorumRead { round } => {
                if let Some(acceptor) = &mut self.acceptor {
                    acceptor.on_quorum_read(from, round, now.mono_us, &self.log, fx);
                }
                if let Some(leader) = &mut self.leader {
                    leader.on_quorum_read(from);
                }
            }
            Message::QuorumReadReply { round, extent } => {
                self.on_quorum_read_reply(from, round, extent, fx);
            }
            Message::TakeOver { ballot } => {
                let fit = self.election.health().is_fit() || mutants::is_on(Mutant::LeadUnfit);
                if self.roles().leader && fit && ballot == self.election.leader() {
                    self.compete(self.election.next_ballot(), fx);
                }
            }
            Message::Configurations(epochs) => self.merge(&epochs, fx),
            Message::Recorded { first_unchosen } => {
                if from == self.me {
                    let epoch = self.configurations.epoch_at(first_unchosen);
                    self.epoch_recorded = self.epoch_recorded.max(epoch);
                }
            }
            Message::Relay { from: origin, route, message } => {
                self.on_relay(now, from, origin, route, *message, fx);
            }
        }
    }

    fn election_round(&mut self, now: Now, fx: &mut Effects) -> RoundOutcome {
        let before = self.election.leader();
        let outcome = self.election.end_round(now.mono_us, &self.configurations, fx);
        if before != self.election.leader() {
            self.on_new_leader(before.node, fx);
        }
        // What went the old way may be stuck there, in a connection that is cut and not closed yet.
        let route = self.election.route();
        if !route.is_empty() && route != self.route {
            self.route = route;
            if let Some(replica) = &mut self.replica {
                replica.resend_all();
            }
        }
        outcome
    }

    /// Whether this node leads from a slot below which something is missing that nobody whom it hears
    /// knows to be chosen: the one that said so is gone, or has lost it. Then another ballot, from further
    /// down, must find out what was chosen there. Once a heartbeat round.
    fn began_above_a_gap(&mut self) -> bool {
        let Some(began) = self.leader.as_ref().and_then(Leader::began) else { return false };
        let mine = self.learns.then(|| self.log.first_unchosen());
        let heard = self.election.all_heard();
        let theirs =
            heard.filter(|(id, _)| self.configurations.roles(*id).is_some_and(Roles::learns));
        let furthest = mine.into_iter().chain(theirs.map(|(_, it)| it.first_unchosen)).max();
        let furthest = furthest.unwrap_or(began);
        let (before, rounds) = self.furthest;
        let still = if furthest < began && furthest == before { rounds + 1 } else { 0 };
        self.furthest = (furthest, still);
        if still < GAP_ROUNDS {
            return false;
        }
        self.furthest = (furthest, 0);
        true
    }

    /// Takes a ballot and goes through phase 1 with it.
    fn compete(&mut self, ballot: Ballot, fx: &mut Effects) {
        let leader = self.leader.as_mut().expect("only nodes with the leader role compete");
        // The ballot is recorded before it is used: `scout` sends its P1a after the sync.
        if !mutants::is_on(Mutant::BallotNotRecorded) {
            fx.persist(Record::OwnBallot(ballot));
        }
        let led_before = self.election.leader().node;
        self.election.took(ballot);
        leader.scout(ballot, self.log.first_unchosen(), &self.configurations, fx);
        self.after_leader_change(led_before, fx);
    }

    /// Any message with a higher ballot names a new leader.
    fn observe(&mut self, ballot: Ballot, fx: &mut Effects) {
        let led_before = self.election.leader().node;
        if self.election.observe(ballot) {
            self.on_new_leader(led_before, fx);
        }
    }

    fn on_new_leader(&mut self, led_before: NodeId, fx: &mut Effects) {
        if let Some(leader) = &mut self.leader {
            leader.release_lease(&self.configurations, fx);
            leader.step_down();
        }
        self.after_leader_change(led_before, fx);
    }

    fn after_leader_change(&mut self, led_before: NodeId, fx: &mut Effects) {
        let ballot = self.election.leader();
        fx.event(Event::LeaderChanged { ballot });
        // A leader that takes ballot after ballot keeps what it was given.
        let kept = !self.optimisations.phase1_skip && ballot.node == led_before;
        if let Some(replica) = &mut self.replica
            && !kept
        {
            replica.resend_all();
        }
    }

    fn on_leader_outcome(&mut self, outcome: LeaderOutcome, fx: &mut Effects) {
        match outcome {
            LeaderOutcome::Nothing => {}
            LeaderOutcome::Chosen(ballot, first_unchosen) => {
                self.note_proposed_chosen(fx);
                if self.learns {
                    self.log.commit(ballot, first_unchosen, fx);
                    if self.log.misses_chosen() {
                        // All that we proposed is in our own log; what is missing lies below it.
                        self.learner.on_gap(self.log.first_unchosen(), fx);
                    }
                }
            }
            LeaderOutcome::Preempted(by) => self.observe(by, fx),
        }
    }

    #[inline(always)]
    fn note_peer(&mut self, peer: NodeId, first_unchosen: Slot) {
        if peer != self.me && self.learner.peer_knows(peer) < Some(first_unchosen) {
            self.note_peer_knows(peer, first_unchosen);
        }
    }

    fn note_peer_knows(&mut self, peer: NodeId, first_unchosen: Slot) {
        let learns = self.configurations.roles(peer).is_some_and(Roles::learns);
        if learns && !self.configurations.is_provisional() {
            self.learner.on_peer_knows(peer, first_unchosen);
        }
    }
}

/// Of two nodes with the same configuration that hash alike, each does what the other does: for the
/// model checker, which visits such a node once. Left out is what decides when something is sent and
/// never what it says: when ticks are due, and whom the learner asks.
impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let Node { log, election, acceptor, leader, replica, configurations, .. } = self;
        (log, election, acceptor, leader, replica, configurations).hash(state);
    }
}
