//! The ways of clients' commands and reads: to the leader, over another node where the leader is not heard, or to
//! a quorum of acceptors.

use crate::limits;

use super::super::batch::Command;
use super::super::effects::Effects;
use super::super::ids::NodeId;
use super::super::message::{Extent, Message};
use super::super::read_rounds::ReadRequest;
use super::{Node, Now};

impl Node {
    /// Commands from a replica. If we do not lead (any more) they are dropped here: that replica keeps
    /// them and hands them to the next leader as soon as it knows it.
    pub(super) fn on_propose(&mut self, now: Now, from: NodeId, commands: Vec<Command>) {
        if let Some(leader) = self.leader.as_mut().filter(|leader| !leader.is_idle()) {
            leader.on_propose(from, commands, now.mono_us);
        }
    }

    pub(super) fn hand_to_leader(&mut self, now: Now, fx: &mut Effects) {
        let ballot = self.election.leader();
        // A node that cannot hear the leader is not happy, but somebody whom it hears may be.
        if ballot.is_none() || !(self.election.is_happy() || self.relay().is_some()) {
            return;
        }
        let Some(replica) = &mut self.replica else { return };
        let commands = replica.commands_to_send(ballot, now.mono_us);
        let read_requests: Vec<(u64, bool)> =
            std::iter::from_fn(|| replica.read_request(now.mono_us)).collect();
        for commands in split(commands) {
            self.send_to_leader(Message::Propose { commands }, fx);
        }
        for (id, lease) in read_requests {
            self.send_to_leader(Message::ReadIndexRequest { id, lease }, fx);
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

    /// Sends to the leader, over a node that hears it if we do not.
    fn send_to_leader(&self, message: Message, fx: &mut Effects) {
        let (from, to, over) = (self.me, self.election.leader().node, self.route());
        if over == to {
            fx.send(to, message);
        } else {
            fx.send(over, Message::Relay { from, to, message: Box::new(message) });
        }
    }

    /// The leader itself, or the node over which we reach it.
    pub(super) fn route(&self) -> NodeId {
        let leader = self.election.leader().node;
        let nobody = self.election.all_heard().next().is_none();
        if nobody || self.election.heard(leader).is_some() {
            return leader;
        }
        self.relay().unwrap_or(leader)
    }

    /// A node that hears the leader, for one that does not.
    pub(super) fn relay(&self) -> Option<NodeId> {
        let leader = self.election.leader();
        if leader.node == self.me {
            return None;
        }
        let relay = self.election.all_heard().find(|(_, s)| s.happy && s.leader == leader);
        relay.map(|(node, _)| node)
    }

    pub(super) fn on_relay(
        &mut self,
        now: Now,
        over: NodeId,
        origin: NodeId,
        to: NodeId,
        message: Message,
        fx: &mut Effects,
    ) {
        if to != self.me {
            // One hop: only what the origin itself handed us goes on.
            if over == origin {
                fx.send(to, Message::Relay { from: origin, to, message: Box::new(message) });
            }
            return;
        }
        match message {
            Message::Propose { commands } => self.on_propose(now, over, commands),
            Message::ReadIndexRequest { id, lease } => {
                // The answer goes back the way the question came.
                if let Some(leader) = self.leader.as_mut().filter(|leader| !leader.is_idle()) {
                    leader.on_read_request(ReadRequest { node: origin, id, over, lease });
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
