//! The leader: takes a ballot through phase 1 and then commands through phase 2 (PMMC, section 2.3
//! and figure 7).
//!
//! It branches on what its scout and commander return; they only count. It does not decide when to
//! lead: the election does. Commands that arrive together leave together, as one batch, the value of
//! one slot.
//!
//! A new configuration is proposed like a batch. Once it is chosen, the leader fills the slots up to where it
//! governs with no-ops, if no commands come, and meanwhile asks those acceptors of it that have not
//! promised its ballot; before a phase-1 quorum of the new configuration has, it proposes nothing where that
//! governs. A leader that finds a configuration among the values it adopted is in the same place.

use std::collections::{BTreeSet, VecDeque};

use crate::limits;
use crate::mutants::{self, Mutant};

use super::batch::{Command, Forming};
use super::commander::{Commander, CommanderOutcome};
use super::configuration::Configuration;
use super::configurations::Configurations;
use super::effects::{Effects, Event};
use super::ids::{Ballot, NodeId, Slot, Value};
use super::lease::{Lease, LeaseConfig};
use super::message::{Message, P1b, P2b};
use super::optimisations::Optimisations;
use super::read_rounds::{ReadRequest, ReadRounds};
use super::scout::{Scout, ScoutOutcome};

/// A larger buffer is not kept for the next batch.
const BUFFER_SIZE_MAX: usize = 64 * 1024;

#[derive(Clone, Debug, Hash)]
pub struct Leader {
    window_slots: usize,
    optimisations: Optimisations,
    /// Our ballot, while not idle.
    ballot: Ballot,
    phase: Phase,
    /// What waits for the window: batches already, of which the last one grows.
    queue: VecDeque<Queued>,
    /// Commands in the queue, and their bytes.
    queue_len: usize,
    queue_size: usize,
    /// What the last batch was formed in, for the next one.
    buffer: Vec<u8>,
    reads: ReadRounds,
    lease: Lease,
}

#[derive(Clone, Debug, Hash)]
enum Phase {
    Idle,
    Scouting(Scout),
    Leading {
        /// Who promised, and what of earlier ballots is still to be proposed.
        scout: Scout,
        commander: Commander,
        /// It was told that all slots below are chosen.
        began: Slot,
        /// Slots below may hold values of earlier ballots: reads wait until they are chosen.
        adopted_end: Slot,
        /// Configurations proposed and not known to be chosen.
        proposed: Vec<(Slot, Configuration)>,
        /// The epoch of the newest configuration when phase-1 quorums had promised of all that there were.
        covered: Option<u64>,
    },
}

#[derive(Clone, Debug, Hash)]
struct Queued {
    batch: Forming,
    /// When its first command came.
    arrived_us: u64,
}

/// What an input to the leader came to, for `Node` to act on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaderOutcome {
    Nothing,
    /// More slots are chosen, in our ballot and below this slot.
    Chosen(Ballot, Slot),
    /// A higher ballot beat ours.
    Preempted(Ballot),
}

impl Leader {
    pub fn new(window_slots: usize, lease: LeaseConfig, optimisations: Optimisations) -> Leader {
        Leader {
            window_slots,
            optimisations,
            ballot: Ballot::NONE,
            phase: Phase::Idle,
            queue: VecDeque::new(),
            queue_len: 0,
            queue_size: 0,
            buffer: Vec::new(),
            reads: ReadRounds::default(),
            lease: Lease::new(lease),
        }
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// From which slot on we lead.
    pub fn began(&self) -> Option<Slot> {
        match self.phase {
            Phase::Leading { began, .. } => Some(began),
            _ => None,
        }
    }

    /// Whether phase 1 is done.
    pub fn is_leading(&self) -> bool {
        matches!(self.phase, Phase::Leading { .. })
    }

    /// Phase 1 with a ballot that is recorded in this turn: its P1a wait for the sync.
    pub fn scout(
        &mut self,
        ballot: Ballot,
        first_slot: Slot,
        configurations: &Configurations,
        fx: &mut Effects,
    ) {
        assert!(self.ballot < ballot, "a ballot is used once");
        let mut first_slot = first_slot;
        match self.first_unchosen().filter(|_| self.wants_phase1()) {
            Some(first_unchosen) => {
                // What was chosen in the last ballot is told before that is over: nobody tells it later.
                first_slot = first_slot.max(first_unchosen);
                let commit = Message::Commit { ballot: self.ballot, first_unchosen };
                for node in configurations.nodes().into_iter().filter(|it| *it != ballot.node) {
                    fx.send(node, commit.clone());
                }
                self.reads.give_up();
                self.lease.reset();
            }
            None => self.step_down(),
        }
        self.ballot = ballot;
        let scout = Scout::new(ballot, first_slot);
        fx.event(Event::ScoutStarted { ballot, first_slot });
        ask(&scout, ballot, configurations, fx);
        self.phase = Phase::Scouting(scout);
    }

    /// Whether this leader has to go through phase 1 again before it proposes what waits (`Optimisations`). What waits
    /// stays with it then.
    pub fn wants_phase1(&self) -> bool {
        if self.optimisations.phase1_skip {
            return false;
        }
        let Phase::Leading { commander, began, .. } = &self.phase else { return false };
        let next = commander.next_slot();
        !self.queue.is_empty() && *began < next && commander.first_unchosen() == next
    }

    /// Stops leading. Commands in the queue are still known to the replicas they came from.
    pub fn step_down(&mut self) {
        self.phase = Phase::Idle;
        self.queue.clear();
        (self.queue_len, self.queue_size) = (0, 0);
        self.reads = ReadRounds::default();
        self.lease.reset();
    }

    pub fn on_p1b(
        &mut self,
        from: NodeId,
        p1b: P1b,
        configurations: &Configurations,
        fx: &mut Effects,
    ) -> LeaderOutcome {
        let ballot = self.ballot;
        let scout = match &mut self.phase {
            Phase::Idle => return LeaderOutcome::Nothing,
            Phase::Scouting(scout) => scout,
            Phase::Leading { scout, commander, .. } => {
                let first = commander.first_unchosen();
                if scout.uncovered_from(first, configurations).is_none() {
                    return LeaderOutcome::Nothing;
                }
                scout.on_chosen_below(first);
                scout
            }
        };
        match scout.on_p1b(from, p1b, configurations) {
            ScoutOutcome::Waiting => LeaderOutcome::Nothing,
            ScoutOutcome::AskMore(first_slot) => {
                fx.send(from, Message::P1a { ballot, first_slot });
                LeaderOutcome::Nothing
            }
            ScoutOutcome::Preempted(by) => {
                fx.event(Event::Preempted { ballot, by });
                self.step_down();
                LeaderOutcome::Preempted(by)
            }
            ScoutOutcome::Adopted { first_slot } => {
                if let Phase::Leading { scout, commander, adopted_end, .. } = &mut self.phase {
                    // Quorums of the new configuration promised. What they report of the slots that it
                    // governs is adopted like all else, and reads wait until that is chosen.
                    *adopted_end = scout.taken_end(commander.next_slot()).max(*adopted_end);
                    return LeaderOutcome::Nothing;
                }
                fx.event(Event::Adopted { ballot, first_slot });
                self.lead(first_slot, configurations, fx);
                LeaderOutcome::Chosen(ballot, first_slot)
            }
        }
    }

    /// Phase 1 is done: phase 2 from `first_slot` on.
    fn lead(&mut self, first_slot: Slot, configurations: &Configurations, fx: &mut Effects) {
        let ballot = self.ballot;
        let Phase::Scouting(scout) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            unreachable!("only a scout adopts")
        };
        let commander = Commander::new(ballot, first_slot, configurations, self.window_slots);
        let adopted_end = scout.taken_end(first_slot);
        self.phase = Phase::Leading {
            scout,
            commander,
            began: first_slot,
            adopted_end,
            proposed: Vec::new(),
            covered: None,
        };
        self.propose_adopted(configurations);
        let Phase::Leading { commander, .. } = &mut self.phase else { unreachable!("just set") };
        commander.on_tick(fx);
        // Acceptors were told by their streams; the others must know whom to ask as well.
        for (other, _) in configurations.members().iter().filter(|(it, _)| !it.roles.acceptor) {
            let first_unchosen = first_slot;
            fx.send(other.node, Message::Commit { ballot, first_unchosen });
        }
    }

    /// Proposes what earlier ballots left behind, as far as it is known what governs the slots and that the
    /// acceptors there have promised.
    fn propose_adopted(&mut self, configurations: &Configurations) {
        let Phase::Leading { scout, commander, proposed, .. } = &mut self.phase else { return };
        let first = commander.first_unchosen();
        let uncovered = scout.uncovered_from(first, configurations).unwrap_or(Slot(u64::MAX));
        let end = first.plus(configurations.alpha()).min(uncovered);
        while commander.next_slot() < end {
            let Some(value) = scout.take(commander.next_slot()) else { break };
            propose(commander, proposed, value);
        }
    }

    /// The configurations that are newly known to be chosen, as this node proposed them, and below which
    /// slot it knows all to be chosen. Its own log may be behind that.
    pub fn take_chosen(&mut self) -> (Vec<(Slot, Configuration)>, Slot) {
        let Phase::Leading { commander, proposed, .. } = &mut self.phase else {
            return (Vec::new(), Slot::FIRST);
        };
        let first_unchosen = commander.first_unchosen();
        if proposed.is_empty() {
            return (Vec::new(), first_unchosen);
        }
        let len = proposed.iter().take_while(|(slot, _)| *slot < first_unchosen).count();
        (proposed.drain(..len).collect(), first_unchosen)
    }

    /// More is known of the configurations: acceptors that are asked for the first time are asked now.
    pub fn on_configurations(&mut self, configurations: &Configurations, fx: &mut Effects) {
        let ballot = self.ballot;
        match &mut self.phase {
            Phase::Idle => {}
            Phase::Scouting(scout) => ask(scout, ballot, configurations, fx),
            Phase::Leading { scout, commander, .. } => {
                scout.on_chosen_below(commander.first_unchosen());
                commander.on_configurations(configurations);
                ask_uncovered(scout, commander, ballot, configurations, fx);
            }
        }
    }

    /// Whether a change of configuration may be proposed: all that earlier ballots left is chosen, and no
    /// other change is under way.
    ///
    /// With two under way: (1) both are counted from what governs now, {1, 2, 3}: one removes 1, the next
    /// adds 4; (2) the second does not know of the first, and 1 is back.
    pub fn can_reconfigure(&self, configurations: &Configurations) -> bool {
        let Phase::Leading { commander, adopted_end, proposed, .. } = &self.phase else {
            return false;
        };
        let governs = configurations.latest().0 <= commander.first_unchosen();
        let calm = proposed.is_empty() && *adopted_end <= commander.first_unchosen();
        (calm && governs) || mutants::is_on(Mutant::TwoChangesInFlight)
    }

    /// Proposes a configuration in the next slot; `can_reconfigure` said yes.
    pub fn reconfigure(&mut self, configuration: &Configuration, wall_us: u64) -> Slot {
        let Phase::Leading { commander, proposed, .. } = &mut self.phase else {
            panic!("only a leader changes the configuration")
        };
        propose(commander, proposed, configuration.to_value(wall_us))
    }

    /// The first slot that this leader does not know to be chosen.
    pub fn first_unchosen(&self) -> Option<Slot> {
        match &self.phase {
            Phase::Leading { commander, .. } => Some(commander.first_unchosen()),
            _ => None,
        }
    }

    #[inline]
    pub fn on_p2b(
        &mut self,
        from: NodeId,
        p2b: P2b,
        configurations: &Configurations,
        fx: &mut Effects,
    ) -> LeaderOutcome {
        let ballot = self.ballot;
        let Phase::Leading { commander, .. } = &mut self.phase else {
            return LeaderOutcome::Nothing;
        };
        match commander.on_p2b(from, p2b, configurations) {
            CommanderOutcome::Waiting => LeaderOutcome::Nothing,
            CommanderOutcome::Chosen => LeaderOutcome::Chosen(ballot, commander.first_unchosen()),
            CommanderOutcome::Preempted(by) => {
                fx.event(Event::Preempted { ballot, by });
                self.step_down();
                LeaderOutcome::Preempted(by)
            }
        }
    }

    /// Commands from a replica, our own or another's. What is over the limit is dropped: the replica
    /// keeps it and hands it over again later.
    pub fn on_propose(&mut self, from: NodeId, commands: &[Command], now_us: u64) {
        self.expect_commit(from);
        commands.iter().for_each(|command| self.queue_up(command, now_us));
    }

    /// Commands came from a replica, or are about to.
    pub fn expect_commit(&mut self, from: NodeId) {
        if let Phase::Leading { commander, .. } = &mut self.phase {
            commander.expect_commit(from);
        }
    }

    /// One command, as in `on_propose`.
    pub fn queue_up(&mut self, command: &Command, now_us: u64) {
        if limits::LEADER_QUEUE_COMMANDS_MAX <= self.queue_len
            || limits::LEADER_QUEUE_SIZE_MAX <= self.queue_size
        {
            return;
        }
        let is_full = |batch: &Forming| batch.is_full() || !self.optimisations.batching;
        if self.queue.back().is_none_or(|last| is_full(&last.batch)) {
            let batch = Forming::new(std::mem::take(&mut self.buffer));
            self.queue.push_back(Queued { batch, arrived_us: now_us });
        }
        let last = self.queue.back_mut().expect("just seen to");
        last.batch.push(command);
        self.queue_len += 1;
        self.queue_size += command.size();
    }

    /// Has the log's time move on, by a batch without commands, unless one is under way or waits that has some.
    pub fn let_time_pass(&mut self, now_us: u64) {
        let Phase::Leading { commander, .. } = &self.phase else { return };
        if self.queue.is_empty() && commander.first_unchosen() == commander.next_slot() {
            let batch = Forming::new(std::mem::take(&mut self.buffer));
            self.queue.push_back(Queued { batch, arrived_us: now_us });
        }
    }

    /// A replica waits for what is under way, to serve quorum reads: tell it soon what is chosen.
    pub fn on_quorum_read(&mut self, from: NodeId) {
        self.expect_commit(from);
    }

    pub fn on_read_request(&mut self, request: ReadRequest) {
        self.expect_commit(request.node);
        self.reads.add(request);
    }

    pub fn on_confirm_ack(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        (round, told_end): (u64, Slot),
        configurations: &Configurations,
        fx: &mut Effects,
    ) {
        if ballot != self.ballot || !self.is_leading() {
            return;
        }
        let is_quorum = |read_slot: Slot, confirmed: &BTreeSet<NodeId>| {
            are_enough(configurations, read_slot, |acceptor| confirmed.contains(&acceptor))
        };
        let confirmed = self.reads.on_confirmed(from, round, told_end, is_quorum);
        if let Some((requests, read_slot)) = confirmed {
            answer(requests, read_slot, fx);
        }
    }

    pub fn on_lease_grant(&mut self, from: NodeId, ballot: Ballot, asked_us: u64, told_end: Slot) {
        if ballot == self.ballot && self.is_leading() {
            self.lease.on_grant(from, asked_us);
            self.reads.on_told(told_end);
        }
    }

    /// Stops using the lease: to be called when this node is about to stop leading.
    pub fn release_lease(&mut self, configurations: &Configurations, fx: &mut Effects) {
        if self.is_leading() && self.lease.config().is_on() {
            self.lease.reset();
            let ballot = self.ballot;
            for node in configurations.nodes() {
                fx.send(node, Message::LeaseRelease { ballot });
            }
        }
    }

    pub fn on_peer_up(&mut self, peer: NodeId, configurations: &Configurations, fx: &mut Effects) {
        let ballot = self.ballot;
        match &mut self.phase {
            Phase::Idle => {}
            Phase::Scouting(scout) => {
                if scout.asks(configurations).contains(&peer) && !scout.has_answered(peer) {
                    // After the sync: the ballot may have been recorded in this very turn.
                    let first_slot = scout.ask_from(peer);
                    fx.send_after_sync(peer, Message::P1a { ballot, first_slot });
                }
            }
            Phase::Leading { scout, commander, .. } => {
                commander.on_peer_up(peer);
                // It may have just started, and wait for a leader to show itself.
                let first_unchosen = commander.first_unchosen();
                fx.send(peer, Message::Commit { ballot, first_unchosen });
                ask_uncovered(scout, commander, ballot, configurations, fx);
                if let Some((round, read_slot)) = self.reads.in_flight()
                    && configurations.acceptors_from(read_slot).contains(&peer)
                {
                    fx.send(peer, Message::Confirm { ballot, round });
                }
            }
        }
    }

    pub fn on_tick(&mut self, now_us: u64, configurations: &Configurations, fx: &mut Effects) {
        let ballot = self.ballot;
        match &mut self.phase {
            Phase::Idle => {}
            Phase::Scouting(scout) => {
                for acceptor in scout.asks(configurations) {
                    let first_slot = scout.ask_from(acceptor);
                    fx.send_after_sync(acceptor, Message::P1a { ballot, first_slot });
                }
            }
            Phase::Leading { scout, commander, .. } => {
                commander.on_tick(fx);
                let LeaseConfig { lease_us, .. } = self.lease.config();
                if 0 < lease_us {
                    for acceptor in configurations.acceptors_from(commander.first_unchosen()) {
                        let request = Message::LeaseRequest { ballot, asked_us: now_us, lease_us };
                        fx.send(acceptor, request);
                    }
                }
                ask_uncovered(scout, commander, ballot, configurations, fx);
                if let Some((round, read_slot)) = self.reads.in_flight() {
                    let asked = configurations.acceptors_from(read_slot);
                    if asked != configurations.acceptors_from(commander.first_unchosen()) {
                        self.reads.give_up();
                    } else {
                        for acceptor in asked {
                            fx.send(acceptor, Message::Confirm { ballot, round });
                        }
                    }
                }
            }
        }
    }

    /// Makes batches of what is queued, as the window allows; sends what the acceptors lack; begins a
    /// read round if reads wait. Once a turn, so that what came in one turn is one batch.
    pub fn end_turn(&mut self, now: super::Now, configurations: &Configurations, fx: &mut Effects) {
        if let Phase::Leading { scout, .. } = &self.phase
            && !scout.has_handed_out_all()
        {
            self.propose_adopted(configurations);
        }
        let Phase::Leading { scout, commander, began, adopted_end, covered, .. } = &mut self.phase
        else {
            return;
        };
        let end = covered_end(scout, commander.first_unchosen(), configurations, covered);
        // All that earlier ballots left is proposed before anything new.
        let may_propose = |commander: &Commander| {
            let next = commander.next_slot();
            *adopted_end <= next && next < end && commander.can_propose()
        };
        // Where phase 1 is not skipped, this ballot is for what is proposed in one turn.
        let is_spent = !self.optimisations.phase1_skip && commander.next_slot() != *began;
        while !self.queue.is_empty() && !is_spent && may_propose(commander) {
            let Queued { batch, arrived_us } = self.queue.pop_front().expect("just seen");
            let commands = batch.len();
            self.queue_len -= commands;
            self.queue_size -= batch.commands_size();
            let (value, buffer) = batch.finish(now.wall_us);
            if buffer.capacity() <= BUFFER_SIZE_MAX {
                self.buffer = buffer;
            }
            let size = value.size();
            let slot = commander.propose(value);
            let waited_us = now.mono_us.saturating_sub(arrived_us);
            fx.event(Event::Proposed { slot, commands, size, waited_us });
        }
        // A configuration that waits to govern is brought there by no-ops, if nothing else comes.
        while commander.next_slot() < configurations.latest().0 && may_propose(commander) {
            commander.propose(Value::noop());
        }
        commander.pump(fx);
        if !self.reads.any_waits() {
            return;
        }
        // What governs the first unchosen slot must have promised: an earlier leader may have had more
        // slots chosen by that, which only its quorums can tell of.
        let first_unchosen = commander.first_unchosen();
        let adopted = *adopted_end <= first_unchosen && first_unchosen < end;
        if adopted || mutants::is_on(Mutant::ReadBeforeAdopted) {
            let runs = |acceptor| self.lease.runs(acceptor, now.mono_us);
            if are_enough(configurations, first_unchosen, runs) {
                answer(self.reads.under_lease(first_unchosen), first_unchosen, fx);
            }
            if let Some(round) = self.reads.begin(first_unchosen) {
                let ballot = self.ballot;
                for acceptor in configurations.acceptors_from(first_unchosen) {
                    fx.send(acceptor, Message::Confirm { ballot, round });
                }
            }
        }
    }
}

/// Asks each acceptor that has not answered in full. After the sync: the ballot may have been recorded in
/// this very turn.
fn ask(scout: &Scout, ballot: Ballot, configurations: &Configurations, fx: &mut Effects) {
    for acceptor in scout.asks(configurations) {
        if !scout.has_answered(acceptor) {
            let first_slot = scout.ask_from(acceptor);
            fx.send_after_sync(acceptor, Message::P1a { ballot, first_slot });
        }
    }
}

/// Asks, while leading, if promises of a newer configuration are missing.
fn ask_uncovered(
    scout: &Scout,
    commander: &Commander,
    ballot: Ballot,
    configurations: &Configurations,
    fx: &mut Effects,
) {
    if scout.uncovered_from(commander.first_unchosen(), configurations).is_some() {
        ask(scout, ballot, configurations, fx);
    }
}

fn propose(
    commander: &mut Commander,
    proposed: &mut Vec<(Slot, Configuration)>,
    value: Value,
) -> Slot {
    let configuration = Configuration::of_value(&value);
    let slot = commander.propose(value);
    proposed.extend(configuration.map(|configuration| (slot, configuration)));
    slot
}

/// Whether the acceptors of whom this is true meet every quorum of either phase that can have to do with
/// slots from `read_slot` up.
fn are_enough(
    configurations: &Configurations,
    read_slot: Slot,
    counts: impl Fn(NodeId) -> bool,
) -> bool {
    configurations.governing_from(read_slot).all(|(_, _, configuration)| {
        let membership = configuration.membership();
        let counted = membership.acceptors().filter(|acceptor| counts(*acceptor)).count();
        let unconfirmed = mutants::is_on(Mutant::ReadUnconfirmed);
        (if unconfirmed { 1 } else { membership.connected() }) <= counted
    })
}

fn answer(requests: Vec<ReadRequest>, read_slot: Slot, fx: &mut Effects) {
    for ReadRequest { id, route, .. } in requests {
        fx.send_over(route, Message::ReadIndexReply { id, read_slot });
    }
}

/// Up to which slot a leader may propose: below the first that is governed by a configuration of which no
/// phase-1 quorum has promised. `covered` remembers where there was none; the slots that matter only become
/// fewer, and so it stays until there is a newer configuration.
fn covered_end(
    scout: &Scout,
    first_unchosen: Slot,
    configurations: &Configurations,
    covered: &mut Option<u64>,
) -> Slot {
    let newest = Some(configurations.latest().1.epoch());
    if *covered == newest {
        debug_assert!(scout.uncovered_from(first_unchosen, configurations).is_none());
        return Slot(u64::MAX);
    }
    let uncovered = scout.uncovered_from(first_unchosen, configurations);
    *covered = newest.filter(|_| uncovered.is_none());
    uncovered.unwrap_or(Slot(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::super::batch::CommandId;
    use super::*;

    /// Replicas hand over again what waits, and a leader whose window is full (a quorum's disks are
    /// stalled) must not gather copies without end.
    #[test]
    fn the_queue_is_bounded() {
        let mut leader = Leader::new(4, LeaseConfig::default(), Optimisations::default());
        let command = Command { id: CommandId::default(), acknowledged: 1, payload: [0; 8].into() };
        for _ in 0..3 {
            let copies = vec![command.clone(); limits::LEADER_QUEUE_COMMANDS_MAX / 2 + 1];
            leader.on_propose(NodeId(2), &copies, 0);
        }
        assert_eq!(leader.queue_len, limits::LEADER_QUEUE_COMMANDS_MAX);
        let large = Command { payload: vec![0; limits::VALUE_SIZE_MAX].into(), ..command };
        leader.step_down();
        leader.on_propose(NodeId(2), &vec![large; 300], 0);
        assert!(leader.queue_len <= limits::LEADER_QUEUE_SIZE_MAX / limits::VALUE_SIZE_MAX);
    }
}
