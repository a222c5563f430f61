//! The commander: phase 2 of all slots of one ballot (PMMC, section 2.3 and figure 5).
//!
//! Departure from PMMC: not one commander a slot but one for the whole ballot. Slots are proposed in
//! order and streamed to each acceptor, which answers cumulatively; a slot is chosen when a phase-2
//! quorum of acceptors has answered beyond it. So no slot is chosen before the one below it.
//!
//! The votes of a slot are counted by the configuration that governs it, and by no other. All acceptors of
//! all configurations that govern slots of the window get all of them: whoever votes in a slot without being
//! an acceptor there is not counted, and does no harm.
//!
//! It keeps the values of its window, and of chosen slots that some acceptor has not yet
//! acknowledged, up to a window more. An acceptor that is further behind is sent on from where the
//! window begins and learns the rest (`learner`).

use std::collections::VecDeque;

use crate::limits;
use crate::mutants::{self, Mutant};

use super::by_node::ByNode;
use super::configurations::Configurations;
use super::effects::Effects;
use super::ids::{Ballot, NodeId, Slot, Value};
use super::message::{Message, P2b, Values};
use super::quorum::Roles;

#[derive(Clone, Debug, Hash)]
pub struct Commander {
    ballot: Ballot,
    window_slots: usize,
    /// Every slot below is chosen. It begins where the scout said so.
    first_unchosen: Slot,
    /// Slot of `window[0]`.
    window_first: Slot,
    window: VecDeque<Proposed>,
    /// Of each acceptor.
    streams: ByNode<Stream>,
    /// Replicas that are no acceptors: the slot up to which chosen values were sent to each.
    learners: ByNode<Slot>,
    /// Whether anything has happened since the last `pump` that could give it something to send.
    to_pump: bool,
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
        configurations: &Configurations,
        window_slots: usize,
    ) -> Commander {
        let mut commander = Commander {
            ballot,
            window_slots,
            first_unchosen: first_slot,
            window_first: first_slot,
            window: VecDeque::new(),
            streams: ByNode::default(),
            learners: ByNode::default(),
            to_pump: true,
        };
        commander.on_configurations(configurations);
        commander
    }

    /// Members came or went. Whoever is new is sent on from the first slot that is not chosen, and learns
    /// what lies below.
    pub fn on_configurations(&mut self, configurations: &Configurations) {
        let first_unchosen = self.first_unchosen;
        let members = configurations.members();
        let mut acceptors = configurations.acceptors_from(first_unchosen);
        // One that has just left may not know it yet.
        let is = |role: fn(Roles) -> bool| {
            members.iter().filter(move |(it, _)| role(it.roles)).map(|(it, _)| it.node)
        };
        acceptors.extend(is(|roles| roles.acceptor));
        let learners: Vec<NodeId> =
            is(|roles| roles.replica).filter(|node| !acceptors.contains(node)).collect();
        self.to_pump = true;
        self.streams.retain(|node| acceptors.contains(&node));
        for acceptor in acceptors {
            let stream = Stream {
                next: first_unchosen,
                acked: first_unchosen,
                told: Slot(0),
                eager: false,
                resend: false,
                stalled_ticks: 0,
            };
            self.streams.get_or_insert(acceptor, stream);
        }
        self.learners.retain(|node| learners.contains(&node));
        for learner in learners {
            self.learners.get_or_insert(learner, first_unchosen);
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
        self.to_pump = true;
        slot
    }

    pub fn on_p2b(
        &mut self,
        from: NodeId,
        p2b: P2b,
        configurations: &Configurations,
    ) -> CommanderOutcome {
        if self.ballot < p2b.promised {
            return CommanderOutcome::Preempted(p2b.promised);
        }
        if (p2b.ballot != self.ballot || p2b.promised != self.ballot)
            && !mutants::is_on(Mutant::CountForeignVotes)
        {
            return CommanderOutcome::Waiting;
        }
        let next_slot = self.next_slot();
        let Some(stream) = self.streams.get_mut(from) else { return CommanderOutcome::Waiting };
        // An acceptor that knows more slots to be chosen than we do may answer beyond our last one.
        let acked = p2b.accepted_end.min(next_slot);
        if stream.acked < acked {
            stream.acked = acked;
            stream.next = stream.next.max(acked);
            stream.stalled_ticks = 0;
            // There may be room for what was held back.
            self.to_pump |= stream.next < next_slot;
        }
        stream.resend |= p2b.resend;
        if self.count_votes(configurations) {
            self.to_pump = true;
            CommanderOutcome::Chosen
        } else {
            CommanderOutcome::Waiting
        }
    }

    /// A new connection to a peer: what was on the way is lost.
    pub fn on_peer_up(&mut self, peer: NodeId) {
        self.to_pump = true;
        if let Some(stream) = self.streams.get_mut(peer) {
            stream.rewind();
        }
        if let Some(sent) = self.learners.get_mut(peer) {
            *sent = self.window_first;
        }
    }

    /// Clients of this peer wait for commands or reads: tell it soon what is chosen.
    pub fn expect_commit(&mut self, peer: NodeId) {
        if let Some(stream) = self.streams.get_mut(peer) {
            stream.eager = true;
            self.to_pump = true;
        }
    }

    /// Now and then: sends again what acceptors asked for or never answered, and tells all of them
    /// what is chosen.
    pub fn on_tick(&mut self, fx: &mut Effects) {
        let Commander { ballot, first_unchosen, .. } = *self;
        for (acceptor, stream) in self.streams.iter_mut() {
            stream.stalled_ticks += u32::from(stream.acked < stream.next);
            if stream.resend || STALLED_TICKS_MAX <= stream.stalled_ticks {
                stream.rewind();
            }
            stream.eager = false;
            stream.told = first_unchosen;
            fx.send(acceptor, Message::Commit { ballot, first_unchosen });
        }
        self.to_pump = true;
        self.pump(fx);
    }

    /// Sends each acceptor what it lacks, as far as its stream allows.
    pub fn pump(&mut self, fx: &mut Effects) {
        if !std::mem::take(&mut self.to_pump) {
            return;
        }
        let (ballot, first_unchosen) = (self.ballot, self.first_unchosen);
        let next_slot = self.next_slot();
        let mut streams = std::mem::take(&mut self.streams);
        for (acceptor, stream) in streams.iter_mut() {
            while stream.next < next_slot && self.may_send(stream) {
                let first_slot = stream.next.max(self.window_first);
                let values = self.values_from(first_slot, next_slot);
                stream.next = first_slot.plus(values.len());
                stream.told = first_unchosen;
                fx.send(acceptor, Message::P2a { ballot, first_slot, first_unchosen, values });
            }
            if stream.eager && stream.told < first_unchosen {
                stream.told = first_unchosen;
                fx.send(acceptor, Message::Commit { ballot, first_unchosen });
            }
        }
        self.streams = streams;
        self.pump_learners(fx);
        self.trim();
    }

    /// Whether an acceptor may be sent more, with what it has not acknowledged yet.
    fn may_send(&self, stream: &Stream) -> bool {
        let (acked, next) =
            (stream.acked.max(self.window_first), stream.next.max(self.window_first));
        self.size_between(acked, next) < limits::STREAM_UNACKED_SIZE_MAX
    }

    fn pump_learners(&mut self, fx: &mut Effects) {
        if self.learners.is_empty() {
            return;
        }
        let mut learners = std::mem::take(&mut self.learners);
        for (learner, sent) in learners.iter_mut() {
            let mut first = (*sent).max(self.window_first);
            while first < self.first_unchosen {
                let values = self.values_from(first, self.first_unchosen);
                let next = first.plus(values.len());
                let values = values.iter().map(|value| (self.ballot, value.clone())).collect();
                let first_unchosen = self.first_unchosen;
                fx.send(learner, Message::Chosen { first_slot: first, values, first_unchosen });
                first = next;
            }
            *sent = first;
        }
        self.learners = learners;
    }

    /// Values of `first..end` up to the limits of a message.
    #[inline]
    fn values_from(&self, first: Slot, end: Slot) -> Values {
        let at = first.since(self.window_first);
        if first.next() == end {
            return Values::One(self.window[at].value.clone());
        }
        self.many_values_from(at, end)
    }

    fn many_values_from(&self, at: usize, end: Slot) -> Values {
        let mut size = 0;
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
        Values::from(values)
    }

    /// A slot is chosen when a phase-2 quorum of the configuration that governs it holds it: up to the
    /// `phase2`-th highest acknowledgement among its acceptors, as far as it governs.
    fn count_votes(&mut self, configurations: &Configurations) -> bool {
        let before = self.first_unchosen;
        // Most votes are the first in a slot, or come when it is chosen already.
        let beyond = self.streams.iter().filter(|(_, stream)| before < stream.acked).count();
        if beyond < configurations.governing(before).membership().phase2() {
            return false;
        }
        for (_, end, configuration) in configurations.governing_from(before) {
            let membership = configuration.membership();
            let acked = || {
                let beyond = self.streams.iter().filter(|(_, stream)| before < stream.acked);
                let voters = beyond.filter(|(node, _)| membership.is_acceptor(*node));
                voters.map(|(_, stream)| stream.acked)
            };
            // They are few: to count for each how many reach as far is less work than to sort them.
            let is_held =
                |end: &Slot| membership.phase2() <= acked().filter(|it| end <= it).count();
            let Some(held_end) = acked().filter(is_held).max() else { break };
            self.first_unchosen = self.first_unchosen.max(held_end.min(end));
            if self.first_unchosen < end {
                break;
            }
        }
        before < self.first_unchosen
    }

    /// Forgets values that are chosen and that every acceptor holds, or that are a window behind.
    fn trim(&mut self) {
        let acked = self.streams.iter().map(|(_, stream)| stream.acked);
        let acked_by_all = acked.min().unwrap_or(self.first_unchosen);
        let learned_by_all =
            self.learners.iter().map(|(_, sent)| *sent).min().unwrap_or(acked_by_all);
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
    #[inline]
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
    use super::super::configurations::fixtures::{self, configurations};
    use super::*;

    const MINE: Ballot = Ballot { round: 1, node: NodeId(1) };

    /// A commander and what it goes by.
    struct Fixture(Commander, Configurations);

    impl std::ops::Deref for Fixture {
        type Target = Commander;
        fn deref(&self) -> &Commander {
            &self.0
        }
    }

    impl std::ops::DerefMut for Fixture {
        fn deref_mut(&mut self) -> &mut Commander {
            &mut self.0
        }
    }

    impl Fixture {
        fn on_p2b(&mut self, from: NodeId, p2b: P2b) -> CommanderOutcome {
            self.0.on_p2b(from, p2b, &self.1)
        }
    }

    fn commander(nodes: u16, phase2: Option<usize>) -> Fixture {
        let configurations = configurations(nodes, phase2, 4);
        Fixture(Commander::new(MINE, Slot(1), &configurations, 4), configurations)
    }

    fn ack(end: u64) -> P2b {
        P2b { ballot: MINE, promised: MINE, accepted_end: Slot(end), resend: false }
    }

    fn value() -> Value {
        Value([1, 2, 3].into())
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

    /// Node 4 comes to 1, 2 and 3 and votes from slot 5 on. Two votes choose slot 4 and not slot 5, which
    /// takes three of the four; and a vote of node 4 in slot 4 is none.
    #[test]
    fn votes_are_counted_by_what_governs_the_slot() {
        let mut c = commander(3, None);
        let four = fixtures::configuration(2, 4, None);
        c.1.on_chosen(Slot(1), four);
        c.0.on_configurations(&c.1);
        for _ in 1..=6 {
            c.propose(value());
        }
        c.on_p2b(NodeId(4), ack(7));
        assert_eq!(c.on_p2b(NodeId(1), ack(7)), CommanderOutcome::Waiting);
        assert_eq!(c.on_p2b(NodeId(2), ack(7)), CommanderOutcome::Chosen);
        assert_eq!(c.first_unchosen(), Slot(7), "1, 2 and 4 hold all of it");
        let mut c = commander(3, None);
        c.1.on_chosen(Slot(1), fixtures::configuration(2, 4, None));
        c.0.on_configurations(&c.1);
        for _ in 1..=6 {
            c.propose(value());
        }
        c.on_p2b(NodeId(1), ack(7));
        assert_eq!(c.on_p2b(NodeId(3), ack(7)), CommanderOutcome::Chosen);
        assert_eq!(c.first_unchosen(), Slot(5));
        assert_eq!(c.on_p2b(NodeId(4), ack(7)), CommanderOutcome::Chosen);
        assert_eq!(c.first_unchosen(), Slot(7));
    }

    /// The votes of a node that left count in the slots of the old configuration and in no others.
    #[test]
    fn who_left_has_no_vote() {
        let mut c = commander(3, None);
        c.1.on_chosen(Slot(1), fixtures::without(&fixtures::configuration(1, 3, None), 3));
        c.0.on_configurations(&c.1);
        for _ in 1..=6 {
            c.propose(value());
        }
        c.on_p2b(NodeId(1), ack(7));
        assert_eq!(c.on_p2b(NodeId(3), ack(7)), CommanderOutcome::Chosen);
        assert_eq!(c.first_unchosen(), Slot(5));
        c.on_p2b(NodeId(2), ack(7));
        assert_eq!(c.first_unchosen(), Slot(7));
    }
}
