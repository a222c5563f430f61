//! The ways of clients' commands and reads: to the leader, over another node where the leader is not heard, or to
//! a quorum of acceptors.

use crate::limits;
use crate::mutants::{self, Mutant};

use super::super::batch::Command;
use super::super::effects::Effects;
use super::super::ids::NodeId;
use super::super::message::{Extent, Message};
use super::super::read_rounds::ReadRequest;
use super::super::replica::Replica;
use super::{Node, Now, TICKS_PER_TIMEOUT};

impl Node {
    /// Commands from a replica. If we do not lead (any more) they are dropped here: that replica keeps
    /// them and hands them to the next leader as soon as it knows it.
    pub(super) fn on_propose(&mut self, now: Now, from: NodeId, commands: &[Command]) {
        if let Some(leader) = self.leader.as_mut().filter(|leader| !leader.is_idle()) {
            leader.on_propose(from, commands, now.mono_us);
            if commands.is_empty() {
                leader.let_time_pass(now.mono_us);
            }
        }
    }

    /// Something in the state machine is due at `due_us` by the clock of this node, and nothing happens to it unless
    /// the log's time, which is `time_us`, moves on: the leader is asked for a batch, which may be empty. If the leader
    /// is a replica itself it knows best, by the clock that will be in the batch; if not, `Overdue` sees to it that one
    /// clock that is ahead does not fill the log.
    pub fn on_due(&mut self, now: Now, due_us: u64, time_us: u64, fx: &mut Effects) {
        let leader = self.election.leader().node;
        let members = self.configurations.in_force().membership();
        let is_replica = members.roles(leader).is_some_and(|roles| roles.replica);
        let stands = mutants::is_on(Mutant::TimeStandsStill);
        if stands || self.election.leader().is_none() || !self.reaches_leader() {
            return;
        }
        if leader == self.me {
            self.on_propose(now, self.me, &[]);
        } else if !is_replica
            && self.overdue.asks(due_us, time_us, now.mono_us, TICKS_PER_TIMEOUT * self.tick_us)
        {
            fx.send_over(self.election.route(), Message::Propose { commands: Vec::new() });
        }
        self.run_local(now, fx);
    }

    pub(super) fn hand_to_leader(&mut self, now: Now, fx: &mut Effects) {
        if !self.replica.as_ref().is_some_and(Replica::has_to_send) {
            return;
        }
        let ballot = self.election.leader();
        if ballot.is_none() || !self.reaches_leader() {
            return;
        }
        let Some(replica) = &mut self.replica else { return };
        let mut commands = Vec::new();
        if ballot.node == self.me {
            // Without a message: what it cannot take waits at the replica, as if that had gone astray.
            let mut leader = self.leader.as_mut().filter(|leader| !leader.is_idle());
            replica.hand_over(ballot, now.mono_us, |command| {
                if let Some(leader) = &mut leader {
                    leader.expect_commit(self.me);
                    leader.queue_up(command, now.mono_us);
                }
            });
        } else {
            replica.hand_over(ballot, now.mono_us, |command| commands.push(command.clone()));
        }
        let read_requests: Vec<(u64, bool)> =
            std::iter::from_fn(|| replica.read_request(now.mono_us)).collect();
        let proposals = split(commands).into_iter().map(|commands| Message::Propose { commands });
        let requests =
            read_requests.into_iter().map(|(id, lease)| Message::ReadIndexRequest { id, lease });
        for message in proposals.chain(requests) {
            let route = if ballot.node == self.me { vec![self.me] } else { self.election.route() };
            fx.send_over(route, message);
        }
        self.run_local(now, fx);
    }

    /// Asks all acceptors: the slowest are not waited for.
    pub(super) fn begin_quorum_read(&mut self, now: Now, fx: &mut Effects) {
        let Some(replica) = &mut self.replica else { return };
        if let Some(round) = replica.begin_quorum_read(now.mono_us) {
            let first_unchosen = self.configurations.first_unchosen();
            for acceptor in self.configurations.acceptors_from(first_unchosen) {
                fx.send(acceptor, Message::QuorumRead { round });
            }
            self.run_local(now, fx);
        }
    }

    pub(super) fn on_quorum_read_reply(
        &mut self,
        from: NodeId,
        round: u64,
        extent: Extent,
        fx: &mut Effects,
    ) {
        let Some(replica) = &mut self.replica else { return };
        let chosen = replica.on_quorum_read_reply(from, round, extent, &self.configurations);
        if let Some((ballot, first_unchosen)) = chosen {
            self.log.commit(ballot, first_unchosen, fx);
        }
    }

    /// Whether there is a way to a leader that is well, as far as known here.
    pub(super) fn reaches_leader(&self) -> bool {
        self.election.is_happy() || !self.election.route().is_empty()
    }

    /// A message that goes over other nodes, or has come. Each passes it on to the one behind itself on the route,
    /// and only if it came from the one before: so it makes as many steps as the route has nodes.
    pub(super) fn on_relay(
        &mut self,
        now: Now,
        over: NodeId,
        origin: NodeId,
        route: Vec<NodeId>,
        message: Message,
        fx: &mut Effects,
    ) {
        let Some(at) = route.iter().position(|node| *node == self.me) else { return };
        if over != at.checked_sub(1).map_or(origin, |before| route[before]) {
            return;
        }
        if let Some(next) = route.get(at + 1) {
            fx.send(*next, Message::Relay { from: origin, route, message: Box::new(message) });
            return;
        }
        match message {
            Message::Propose { commands } => self.on_propose(now, over, &commands),
            Message::ReadIndexRequest { id, lease } => {
                // The answer goes back the way the question came.
                if let Some(leader) = self.leader.as_mut().filter(|leader| !leader.is_idle()) {
                    let back = route[..at].iter().rev().copied().chain([origin]).collect();
                    leader.on_read_request(ReadRequest { node: origin, id, route: back, lease });
                }
            }
            Message::ReadIndexReply { id, read_slot } => {
                if let Some(replica) = &mut self.replica {
                    replica.on_read_index(id, read_slot);
                }
            }
            // Nothing else is relayed.
            _ => {}
        }
    }
}

/// Cuts commands into messages that fit a frame.
fn split(commands: Vec<Command>) -> Vec<Vec<Command>> {
    let mut parts: Vec<Vec<Command>> = Vec::new();
    let mut size = 0;
    for command in commands {
        let full = limits::MESSAGE_VALUES_SIZE_SOFT_MAX <= size
            || parts.last().is_some_and(|part| limits::BATCH_COMMANDS_MAX <= part.len());
        if full || parts.is_empty() {
            parts.push(Vec::new());
            size = 0;
        }
        size += command.size();
        parts.last_mut().expect("just pushed").push(command);
    }
    parts
}
