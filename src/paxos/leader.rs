//! The leader: takes a ballot through phase 1 and then commands through phase 2 (PMMC, section 2.3
//! and figure 7).
//!
//! It branches on what its scout and commander return; they only count. It does not decide when to
//! lead: the election does. Commands that arrive together leave together, as one batch, the value of
//! one slot.

use std::collections::VecDeque;

use crate::limits;
use crate::mutants::{self, Mutant};

use super::batch::{self, Command};
use super::commander::{Commander, CommanderOutcome};
use super::effects::{Effects, Event};
use super::ids::{Ballot, NodeId, Slot};
use super::message::{Message, P1b, P2b};
use super::quorum::Membership;
use super::read_rounds::{ReadRequest, ReadRounds};
use super::scout::{Scout, ScoutOutcome};

#[derive(Clone, Debug, Hash)]
pub struct Leader {
    window_slots: usize,
    /// Our ballot, while not idle.
    ballot: Ballot,
    phase: Phase,
    queue: VecDeque<Queued>,
    /// Bytes of the queued commands.
    queue_size: usize,
    reads: ReadRounds,
}

#[derive(Clone, Debug, Hash)]
enum Phase {
    Idle,
    Scouting(Scout),
    Leading {
        commander: Commander,
        /// Slots below may hold values of earlier ballots: reads wait until they are chosen.
        adopted_end: Slot,
    },
}

#[derive(Clone, Debug, Hash)]
struct Queued {
    command: Command,
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
    pub fn new(window_slots: usize) -> Leader {
        Leader {
            window_slots,
            ballot: Ballot::NONE,
            phase: Phase::Idle,
            queue: VecDeque::new(),
            queue_size: 0,
            reads: ReadRounds::default(),
        }
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
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
        membership: &Membership,
        fx: &mut Effects,
    ) {
        assert!(self.ballot < ballot, "a ballot is used once");
        self.step_down();
        self.ballot = ballot;
        self.phase = Phase::Scouting(Scout::new(ballot, first_slot, membership.phase1()));
        fx.event(Event::ScoutStarted { ballot, first_slot });
        for acceptor in membership.acceptors() {
            fx.send_after_sync(acceptor, Message::P1a { ballot, first_slot });
        }
    }

    /// Stops leading. Commands in the queue are still known to the replicas they came from.
    pub fn step_down(&mut self) {
        self.phase = Phase::Idle;
        self.queue.clear();
        self.queue_size = 0;
        self.reads = ReadRounds::default();
    }

    pub fn on_p1b(
        &mut self,
        from: NodeId,
        p1b: P1b,
        membership: &Membership,
        fx: &mut Effects,
    ) -> LeaderOutcome {
        let ballot = self.ballot;
        let Phase::Scouting(scout) = &mut self.phase else { return LeaderOutcome::Nothing };
        match scout.on_p1b(from, p1b) {
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
            ScoutOutcome::Adopted { first_slot, values } => {
                fx.event(Event::Adopted { ballot, first_slot });
                let mut commander =
                    Commander::new(ballot, first_slot, membership, self.window_slots);
                for value in values {
                    commander.propose(value);
                }
                let adopted_end = commander.next_slot();
                commander.on_tick(fx);
                // Acceptors were told by their streams; the others must know whom to ask as well.
                let others = membership.members().iter().filter(|m| !m.roles.acceptor);
                for other in others {
                    let first_unchosen = first_slot;
                    fx.send(other.node, Message::Commit { ballot, first_unchosen });
                }
                self.phase = Phase::Leading { commander, adopted_end };
                LeaderOutcome::Chosen(ballot, first_slot)
            }
        }
    }

    pub fn on_p2b(&mut self, from: NodeId, p2b: P2b, fx: &mut Effects) -> LeaderOutcome {
        let ballot = self.ballot;
        let Phase::Leading { commander, .. } = &mut self.phase else {
            return LeaderOutcome::Nothing;
        };
        match commander.on_p2b(from, p2b) {
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
    pub fn on_propose(&mut self, from: NodeId, commands: Vec<Command>, now_us: u64) {
        if let Phase::Leading { commander, .. } = &mut self.phase {
            commander.expect_commit(from);
        }
        for command in commands {
            if limits::LEADER_QUEUE_COMMANDS_MAX <= self.queue.len()
                || limits::LEADER_QUEUE_SIZE_MAX <= self.queue_size
            {
                break;
            }
            self.queue_size += command.size();
            self.queue.push_back(Queued { command, arrived_us: now_us });
        }
    }

    /// A replica waits for what is under way, to serve quorum reads: tell it soon what is chosen.
    pub fn on_quorum_read(&mut self, from: NodeId) {
        if let Phase::Leading { commander, .. } = &mut self.phase {
            commander.expect_commit(from);
        }
    }

    pub fn on_read_request(&mut self, request: ReadRequest) {
        self.reads.add(request);
    }

    pub fn on_confirm_ack(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        round: u64,
        membership: &Membership,
        fx: &mut Effects,
    ) {
        if ballot != self.ballot || !self.is_leading() {
            return;
        }
        if let Some((requests, read_slot)) =
            self.reads.on_confirmed(from, round, confirmations(membership))
        {
            for ReadRequest { node, id, over } in requests {
                let reply = Message::ReadIndexReply { id, read_slot };
                if over == node {
                    fx.send(node, reply);
                } else {
                    let (from, message) = (fx.me, Box::new(reply));
                    fx.send(over, Message::Relay { from, to: node, message });
                }
            }
        }
    }

    pub fn on_peer_up(&mut self, peer: NodeId, membership: &Membership, fx: &mut Effects) {
        let ballot = self.ballot;
        let is_acceptor = membership.roles(peer).is_some_and(|roles| roles.acceptor);
        match &mut self.phase {
            Phase::Idle => {}
            Phase::Scouting(scout) => {
                if is_acceptor && !scout.has_answered(peer) {
                    // After the sync: the ballot may have been recorded in this very turn.
                    let first_slot = scout.ask_from(peer);
                    fx.send_after_sync(peer, Message::P1a { ballot, first_slot });
                }
            }
            Phase::Leading { commander, .. } => {
                commander.on_peer_up(peer);
                // It may have just started, and wait for a leader to show itself.
                let first_unchosen = commander.first_unchosen();
                fx.send(peer, Message::Commit { ballot, first_unchosen });
                if let (true, Some(round)) = (is_acceptor, self.reads.in_flight()) {
                    fx.send(peer, Message::Confirm { ballot, round });
                }
            }
        }
    }

    pub fn on_tick(&mut self, membership: &Membership, fx: &mut Effects) {
        let ballot = self.ballot;
        match &mut self.phase {
            Phase::Idle => {}
            Phase::Scouting(scout) => {
                for acceptor in membership.acceptors() {
                    if !scout.has_answered(acceptor) {
                        let first_slot = scout.ask_from(acceptor);
                        fx.send_after_sync(acceptor, Message::P1a { ballot, first_slot });
                    }
                }
            }
            Phase::Leading { commander, .. } => {
                commander.on_tick(fx);
                if let Some(round) = self.reads.in_flight() {
                    for acceptor in membership.acceptors() {
                        fx.send(acceptor, Message::Confirm { ballot, round });
                    }
                }
            }
        }
    }

    /// Makes batches of what is queued, as the window allows; sends what the acceptors lack; begins a
    /// read round if reads wait. Once a turn, so that what came in one turn is one batch.
    pub fn end_turn(&mut self, now: super::Now, membership: &Membership, fx: &mut Effects) {
        let Phase::Leading { commander, adopted_end } = &mut self.phase else { return };
        while !self.queue.is_empty() && commander.can_propose() {
            let len = batch_len(&self.queue);
            let oldest_us = self.queue[0].arrived_us;
            let value =
                batch::encode(now.wall_us, self.queue.range(..len).map(|queued| &queued.command));
            let taken = self.queue.drain(..len);
            self.queue_size -= taken.map(|queued| queued.command.size()).sum::<usize>();
            let size = value.size();
            let slot = commander.propose(value);
            let waited_us = now.mono_us.saturating_sub(oldest_us);
            fx.event(Event::Proposed { slot, commands: len, size, waited_us });
        }
        commander.pump(fx);
        if *adopted_end <= commander.first_unchosen() || mutants::is_on(Mutant::ReadBeforeAdopted) {
            if let Some(round) = self.reads.begin(commander.first_unchosen()) {
                let ballot = self.ballot;
                for acceptor in membership.acceptors() {
                    fx.send(acceptor, Message::Confirm { ballot, round });
                }
            }
        }
    }
}

/// Acceptors that must confirm the lead before a read is answered.
fn confirmations(membership: &Membership) -> usize {
    if mutants::is_on(Mutant::ReadUnconfirmed) { 1 } else { membership.phase2() }
}

/// How many of the queued commands the next batch takes.
fn batch_len(queue: &VecDeque<Queued>) -> usize {
    let mut size = 0;
    for (i, queued) in queue.iter().enumerate().take(limits::BATCH_COMMANDS_MAX) {
        if limits::BATCH_SIZE_SOFT_MAX <= size {
            return i;
        }
        size += queued.command.size();
    }
    queue.len().min(limits::BATCH_COMMANDS_MAX)
}

#[cfg(test)]
mod tests {
    use super::super::batch::CommandId;
    use super::*;
    use std::sync::Arc;

    /// Replicas hand over again what waits, and a leader whose window is full (a quorum's disks are
    /// stalled) must not gather copies without end.
    #[test]
    fn the_queue_is_bounded() {
        let mut leader = Leader::new(4);
        let command =
            Command { id: CommandId::default(), acknowledged: 1, payload: Arc::from([0; 8]) };
        for _ in 0..3 {
            let copies = vec![command.clone(); limits::LEADER_QUEUE_COMMANDS_MAX / 2 + 1];
            leader.on_propose(NodeId(2), copies, 0);
        }
        assert_eq!(leader.queue.len(), limits::LEADER_QUEUE_COMMANDS_MAX);
        let large = Command { payload: Arc::from(vec![0; limits::VALUE_SIZE_MAX]), ..command };
        leader.step_down();
        leader.on_propose(NodeId(2), vec![large; 300], 0);
        assert!(leader.queue.len() <= limits::LEADER_QUEUE_SIZE_MAX / limits::VALUE_SIZE_MAX);
    }
}
