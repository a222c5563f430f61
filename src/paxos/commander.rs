//! The commander: phase 2 of all slots of one ballot (PMMC, section 2.3 and figure 5).
//!
//! Departure from PMMC: not one commander a slot but one for the whole ballot. Slots are proposed in
//! order and streamed to each acceptor, which answers cumulatively; a slot is chosen when a phase-2
//! quorum of acceptors has answered beyond it. So no slot is chosen before the one below it.
//!
//! It keeps the values of its window, and of chosen slots that some acceptor has not yet
//! acknowledged, up to a window more. An acceptor that is further behind is sent on from where the
//! window begins and learns the rest (`learner`).

use std::collections::{BTreeMap, VecDeque};

use crate::limits;
use crate::mutants::{self, Mutant};

use super::effects::Effects;
use super::ids::{Ballot, NodeId, Slot, Value};
use super::message::{Message, P2b};
use super::quorum::Membership;

#[derive(Clone, Debug, Hash)]
pub struct Commander {
    ballot: Ballot,
    phase2: usize,
    window_slots: usize,
    /// Every slot below is chosen. It begins where the scout said so.
    first_unchosen: Slot,
    /// Slot of `window[0]`.
    window_first: Slot,
    window: VecDeque<Proposed>,
    /// By acceptor.
    streams: BTreeMap<NodeId, Stream>,
    /// Replicas that are no acceptors: the slot up to which chosen values were sent to each.
    learners: BTreeMap<NodeId, Slot>,
}

#[derive(Clone, Debug, Hash)]
struct Proposed {
    value: Value,
    /// Bytes of all values that this commander proposed, up to and with this one.
    size_sum: u64,
}

#[derive(Clone, Debug, Hash)]
struct Stream {
    /// First slot that was not sent yet.
    next: Slot,
    /// The acceptor holds all slots below.
    acked: Slot,
    /// The `first_unchosen` that it was last told.
    told: Slot,
    /// Clients wait there: it forwarded commands or asked for a quorum read lately. So it is told at once
    /// what is chosen.
    eager: bool,
    /// It asked for slots again. Sent again at the next tick, not at once: the answers to what is on
    /// the way would each cause another copy.
    resend: bool,
    /// Ticks without progress while something was unacknowledged.
    stalled_ticks: u32,
}

/// What one P2b told the commander.
#[derive(Debug, PartialEq, Eq)]
pub enum CommanderOutcome {
    Waiting,
    /// More slots are chosen: see `first_unchosen`.
    Chosen,
    Preempted(Ballot),
}

/// Ticks without an acknowledgement after which the stream is sent again. Connections lose nothing, so
/// this matters only where an acceptor lost what it had not synced without its connection ending.
const STALLED_TICKS_MAX: u32 = 20;

impl Commander {
    pub fn new(
        ballot: Ballot,
        first_slot: Slot,
        membership: &Membership,
        window_slots: usize,
    ) -> Commander {
        let stream = || Stream {
            next: first_slot,
            acked: first_slot,
            told: Slot(0),
            eager: false,
            resend: false,
            stalled_ticks: 0,
        };
        let learns = |node: &NodeId| {
            membership.roles(*node).is_some_and(|roles| roles.replica && !roles.acceptor)
        };
        Commander {
            ballot,
            phase2: membership.phase2(),
            window_slots,
            first_unchosen: first_slot,
            window_first: first_slot,
            window: VecDeque::new(),
            streams: membership.acceptors().map(|acceptor| (acceptor, stream())).collect(),
            learners: membership
                .members()
                .iter()
                .map(|member| member.node)
                .filter(learns)
                .map(|node| (node, first_slot))
                .collect(),
        }
    }

    pub fn first_unchosen(&self) -> Slot {
        self.first_unchosen
    }

    /// The slot that is proposed next.
    pub fn next_slot(&self) -> Slot {
        self.window_first.plus(self.window.len())
    }

    pub fn can_propose(&self) -> bool {
        self.next_slot().since(self.first_unchosen) < self.window_slots
            && self.size_between(self.first_unchosen, self.next_slot())
                < limits::WINDOW_SIZE_SOFT_MAX
    }

    /// Proposes the value for the next slot. `pump` sends it.
    pub fn propose(&mut self, value: Value) -> Slot {
        let slot = self.next_slot();
        let before = self.window.back().map_or(0, |proposed| proposed.size_sum);
        self.window.push_back(Proposed { size_sum: before + value.size() as u64, value });
        slot
    }

    pub fn on_p2b(&mut self, from: NodeId, p2b: P2b) -> CommanderOutcome {
        if self.ballot < p2b.promised {
            return CommanderOutcome::Preempted(p2b.promised);
        }
        if (p2b.ballot != self.ballot || p2b.promised != self.ballot)
            && !mutants::is_on(Mutant::CountForeignVotes)
        {
            return CommanderOutcome::Waiting;
        }
        let next_slot = self.next_slot();
        let Some(stream) = self.streams.get_mut(&from) else { return CommanderOutcome::Waiting };
        // An acceptor that knows more slots to be chosen than we do may answer beyond our last one.
        let acked = p2b.accepted_end.min(next_slot);
        if stream.acked < acked {
            stream.acked = acked;
            stream.next = stream.next.max(acked);
            stream.stalled_ticks = 0;
        }
        stream.resend |= p2b.resend;
        if self.count_votes() { CommanderOutcome::Chosen } else { CommanderOutcome::Waiting }
    }

    /// A new connection to a peer: what was on the way is lost.
    pub fn on_peer_up(&mut self, peer: NodeId) {
        if let Some(stream) = self.streams.get_mut(&peer) {
            stream.rewind();
        }
        if let Some(sent) = self.learners.get_mut(&peer) {
            *sent = self.window_first;
        }
    }

    /// Clients of this peer wait for commands or reads: tell it soon what is chosen.
    pub fn expect_commit(&mut self, peer: NodeId) {
        if let Some(stream) = self.streams.get_mut(&peer) {
            stream.eager = true;
        }
    }

    /// Now and then: sends again what acceptors asked for or never answered, and tells all of them
    /// what is chosen.
    pub fn on_tick(&mut self, fx: &mut Effects) {
        let Commander { ballot, first_unchosen, .. } = *self;
        for (&acceptor, stream) in &mut self.streams {
            stream.stalled_ticks += u32::from(stream.acked < stream.next);
            if stream.resend || STALLED_TICKS_MAX <= stream.stalled_ticks {
                stream.rewind();
            }
            stream.eager = false;
            stream.told = first_unchosen;
            fx.send(acceptor, Message::Commit { ballot, first_unchosen });
        }
        self.pump(fx);
    }

    /// Sends each acceptor what it lacks, as far as its stream allows.
    pub fn pump(&mut self, fx: &mut Effects) {
        let (ballot, first_unchosen) = (self.ballot, self.first_unchosen);
        let acceptors: Vec<NodeId> = self.streams.keys().copied().collect();
        for acceptor in acceptors {
            while let Some((first_slot, values)) = self.next_values(acceptor) {
                let stream = self.streams.get_mut(&acceptor).expect("just listed");
                stream.next = first_slot.plus(values.len());
                stream.told = first_unchosen;
                fx.send(acceptor, Message::P2a { ballot, first_slot, first_unchosen, values });
            }
            let stream = self.streams.get_mut(&acceptor).expect("just listed");
            if stream.eager && stream.told < first_unchosen {
                stream.told = first_unchosen;
                fx.send(acceptor, Message::Commit { ballot, first_unchosen });
            }
        }
        self.pump_learners(fx);
        self.trim();
    }

    /// The next values for an acceptor and their first slot, if there are any and it may be sent more.
    fn next_values(&self, acceptor: NodeId) -> Option<(Slot, Vec<Value>)> {
        let stream = &self.streams[&acceptor];
        let first = stream.next.max(self.window_first);
        let unacked = self.size_between(stream.acked.max(self.window_first), first);
        if self.next_slot() <= first || limits::STREAM_UNACKED_SIZE_MAX <= unacked {
            return None;
        }
        Some((first, self.values_from(first, self.next_slot())))
    }

    fn pump_learners(&mut self, fx: &mut Effects) {
        let learners: Vec<(NodeId, Slot)> = self.learners.iter().map(|(&n, &s)| (n, s)).collect();
        for (learner, sent) in learners {
            let mut first = sent.max(self.window_first);
            while first < self.first_unchosen {
                let values = self.values_from(first, self.first_unchosen);
                let next = first.plus(values.len());
                let values = values.into_iter().map(|value| (self.ballot, value)).collect();
                let first_unchosen = self.first_unchosen;
                fx.send(learner, Message::Chosen { first_slot: first, values, first_unchosen });
                first = next;
            }
            self.learners.insert(learner, first);
        }
    }

    /// Values of `first..end` up to the limits of a message.
    fn values_from(&self, first: Slot, end: Slot) -> Vec<Value> {
        let mut size = 0;
        let at = first.since(self.window_first);
        let mut values = Vec::new();
        for proposed in self.window.range(at..end.since(self.window_first)) {
            if limits::MESSAGE_VALUES_SIZE_SOFT_MAX <= size
                || limits::MESSAGE_VALUES_MAX <= values.len()
            {
                break;
            }
            size += proposed.value.size();
            values.push(proposed.value.clone());
        }
        values
    }

    /// A slot is chosen when a phase-2 quorum holds it: the `phase2`-th highest acknowledgement.
    fn count_votes(&mut self) -> bool {
        let mut acked: Vec<Slot> = self.streams.values().map(|stream| stream.acked).collect();
        acked.sort_unstable_by(|a, b| b.cmp(a));
        let chosen_end = acked[self.phase2 - 1];
        let more = self.first_unchosen < chosen_end;
        if more {
            self.first_unchosen = chosen_end;
        }
        more
    }

    /// Forgets values that are chosen and that every acceptor holds, or that are a window behind.
    fn trim(&mut self) {
        let acked_by_all =
            self.streams.values().map(|stream| stream.acked).min().expect("there are acceptors");
        let learned_by_all = self.learners.values().copied().min().unwrap_or(acked_by_all);
        let oldest = Slot(self.first_unchosen.0.saturating_sub(self.window_slots as u64));
        let keep_from = acked_by_all.min(learned_by_all).max(oldest).min(self.first_unchosen);
        while self.window_first < keep_from {
            // The last one stays while it is all that knows `size_sum`.
            if self.window.len() == 1 {
                break;
            }
            self.window.pop_front();
            self.window_first = self.window_first.next();
        }
        // Retained values are bounded in bytes too.
        while self.window_first < self.first_unchosen
            && 1 < self.window.len()
            && limits::WINDOW_SIZE_SOFT_MAX
                < self.size_between(self.window_first, self.first_unchosen)
        {
            self.window.pop_front();
            self.window_first = self.window_first.next();
        }
    }

    /// Bytes of the values of `first..end`, which lie in the window.
    fn size_between(&self, first: Slot, end: Slot) -> usize {
        let sum_below = |slot: Slot| {
            let at = slot.since(self.window_first);
            if at == 0 {
                self.window.front().map_or(0, |p| p.size_sum - p.value.size() as u64)
            } else {
                self.window[at - 1].size_sum
            }
        };
        if end <= first { 0 } else { (sum_below(end) - sum_below(first)) as usize }
    }
}

impl Stream {
    fn rewind(&mut self) {
        self.next = self.acked;
        self.resend = false;
        self.stalled_ticks = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::quorum::{Member, Roles};
    use super::*;
    use std::sync::Arc;

    const MINE: Ballot = Ballot { round: 1, node: NodeId(1) };

    fn commander(nodes: u16, phase2: Option<usize>) -> Commander {
        let members =
            (1..=nodes).map(|id| Member { node: NodeId(id), roles: Roles::ALL }).collect();
        Commander::new(MINE, Slot(1), &Membership::new(members, None, phase2).unwrap(), 4)
    }

    fn ack(end: u64) -> P2b {
        P2b { ballot: MINE, promised: MINE, accepted_end: Slot(end), resend: false }
    }

    fn value() -> Value {
        Value(Arc::from([1, 2, 3]))
    }

    fn sent_to(fx: &Effects, to: u16) -> Vec<(u64, usize)> {
        fx.sends
            .iter()
            .filter(|(node, _)| *node == NodeId(to))
            .filter_map(|(_, message)| match message {
                Message::P2a { first_slot, values, .. } => Some((first_slot.0, values.len())),
                _ => None,
            })
            .collect()
    }

    /// Chosen means a quorum, each acceptor counted once, whatever the order of their answers.
    #[test]
    fn a_quorum_chooses() {
        let mut c = commander(5, None);
        for _ in 0..3 {
            c.propose(value());
        }
        assert_eq!(c.on_p2b(NodeId(1), ack(4)), CommanderOutcome::Waiting);
        assert_eq!(c.on_p2b(NodeId(1), ack(4)), CommanderOutcome::Waiting);
        assert_eq!(c.on_p2b(NodeId(2), ack(2)), CommanderOutcome::Waiting);
        assert_eq!(c.on_p2b(NodeId(3), ack(3)), CommanderOutcome::Chosen);
        assert_eq!(c.first_unchosen(), Slot(2));
        assert_eq!(c.on_p2b(NodeId(2), ack(4)), CommanderOutcome::Chosen);
        assert_eq!(c.first_unchosen(), Slot(3));
    }

    #[test]
    fn flexible_quorums_choose_with_fewer() {
        let mut c = commander(5, Some(2));
        c.propose(value());
        c.on_p2b(NodeId(4), ack(2));
        assert_eq!(c.on_p2b(NodeId(5), ack(2)), CommanderOutcome::Chosen);
    }

    /// A vote for another ballot, or by somebody who is no acceptor, is no vote.
    #[test]
    fn foreign_votes_do_not_count() {
        let mut c = commander(3, None);
        c.propose(value());
        c.on_p2b(NodeId(1), ack(2));
        let other = Ballot { round: 1, node: NodeId(0) };
        let stale = P2b { ballot: other, promised: other, ..ack(2) };
        assert_eq!(c.on_p2b(NodeId(2), stale), CommanderOutcome::Waiting);
        assert_eq!(c.on_p2b(NodeId(9), ack(2)), CommanderOutcome::Waiting);
        let higher = P2b { promised: Ballot { round: 2, node: NodeId(3) }, ..ack(0) };
        assert!(matches!(c.on_p2b(NodeId(2), higher), CommanderOutcome::Preempted(_)));
    }

    /// The window is a limit on slots that are proposed and not chosen.
    #[test]
    fn the_window_limits_proposals() {
        let mut c = commander(3, None);
        while c.can_propose() {
            c.propose(value());
        }
        assert_eq!(c.next_slot(), Slot(5));
        c.on_p2b(NodeId(1), ack(3));
        c.on_p2b(NodeId(2), ack(3));
        assert!(c.can_propose());
    }

    /// A reconnected acceptor gets what it had not acknowledged; what is no longer kept is jumped.
    #[test]
    fn a_new_connection_resumes_or_jumps() {
        let mut c = commander(3, None);
        let mut fx = Effects::new(NodeId(1));
        for end in 2..=12 {
            c.propose(value());
            c.pump(&mut fx);
            c.on_p2b(NodeId(1), ack(end));
            c.on_p2b(NodeId(2), ack(end));
            c.pump(&mut fx);
        }
        assert_eq!(sent_to(&fx, 3).len(), 11);
        let mut fx = Effects::new(NodeId(1));
        c.on_peer_up(NodeId(2));
        c.on_peer_up(NodeId(3));
        c.pump(&mut fx);
        assert!(sent_to(&fx, 2).is_empty());
        // A window of 4 below the first unchosen slot, 12, is kept.
        assert_eq!(sent_to(&fx, 3), [(8, 4)]);
    }

    /// Asked for again, slots are sent once, at the tick, not once for each answer.
    #[test]
    fn resends_at_the_tick() {
        let mut c = commander(3, None);
        let mut fx = Effects::new(NodeId(1));
        c.propose(value());
        c.propose(value());
        c.pump(&mut fx);
        for _ in 0..3 {
            c.on_p2b(NodeId(2), P2b { resend: true, ..ack(1) });
            c.pump(&mut fx);
        }
        assert_eq!(sent_to(&fx, 2), [(1, 2)]);
        c.on_tick(&mut fx);
        assert_eq!(sent_to(&fx, 2), [(1, 2), (1, 2)]);
    }
}
