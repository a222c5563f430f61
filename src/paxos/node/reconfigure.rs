//! How a node follows the configurations, and how one that leads changes them.
//!
//! A change takes these steps. (1) The leader proposes the new configuration as the value of the next slot,
//! if nothing speaks against it (`Refusal`). (2) Chosen in slot i, it governs from i + alpha; the leader fills
//! up to there and gets the promises of the new acceptors meanwhile. (3) It is *in force* at a node
//! that knows all slots below to be chosen. (4) It is *settled* when a phase-2 quorum of its own
//! acceptors, and one of its replicas, knows that by durable records. From then on whoever left is not
//! needed any more, by anybody: there are votes without it, and somebody has the state.
//!
//! If who left were to stop at (3): (1) {1, 2} becomes {1}, in force at 1, not recorded there; (2) node 2
//! stops for good; (3) node 1 restarts, knows only that {1, 2} governs, and never gets its quorum. So leaders
//! that leave lead until (4), and links to those who left stay until then.

use std::fmt;

use crate::limits;

use super::super::batch;
use super::super::configuration::{Change, Configuration};
use super::super::configurations::Epochs;
use super::super::effects::{ChosenSlot, Effects};
use super::super::ids::{NodeId, Slot};
use super::super::message::Message;
use super::super::quorum::Roles;
use super::{Node, Now};

/// Why a change of the configuration is not made, or the lead not handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Only the leader changes the configuration.
    NotLeading { leader: Option<NodeId> },
    /// The configuration is another one by now than the change started from.
    OtherEpoch { epoch: u64 },
    /// A change is under way, or the lead is too new; it passes by itself.
    Busy(String),
    /// What is wrong with it, for the operator.
    No(String),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::NotLeading { leader: Some(leader) } => {
                write!(f, "this node does not lead, {leader} does")
            }
            Refusal::NotLeading { leader: None } => f.write_str("there is no leader"),
            Refusal::OtherEpoch { epoch } => {
                write!(f, "the configuration has changed meanwhile and is at epoch {epoch}")
            }
            Refusal::Busy(what) | Refusal::No(what) => f.write_str(what),
        }
    }
}

impl Node {
    /// Proposes a change of the configuration of epoch `epoch`. Returns the epoch that it leads to; whether
    /// it comes about shows in `settled_epoch`, here or at the next leader.
    pub fn reconfigure(&mut self, now: Now, epoch: u64, change: &Change) -> Result<u64, Refusal> {
        let leader = self.leader.as_mut().filter(|leader| leader.is_leading());
        let Some(leader) = leader else {
            return Err(Refusal::NotLeading { leader: self.view().leader });
        };
        if !leader.can_reconfigure(&self.configurations) {
            let what = "another change of the members is under way, or the leader is new";
            return Err(Refusal::Busy(what.to_string()));
        }
        let (_, latest) = self.configurations.latest();
        if latest.epoch() != epoch {
            return Err(Refusal::OtherEpoch { epoch: latest.epoch() });
        }
        let next = latest.changed(change).map_err(Refusal::No)?;
        self.has_caught_up(change).map_err(Refusal::Busy)?;
        self.may_become(&next).map_err(Refusal::No)?;
        let leader = self.leader.as_mut().expect("just seen");
        leader.reconfigure(&next, now.wall_us);
        Ok(next.epoch())
    }

    /// Whether who is to accept answers, and has learned almost all: otherwise it would have no vote for
    /// long, and the quorums be so much the smaller.
    fn has_caught_up(&self, change: &Change) -> Result<(), String> {
        if let Change::Promote { node } | Change::Replace { new: node, .. } = *change {
            let Some(standing) = self.election.heard(node) else {
                return Err(format!(
                    "{node} does not answer: start it, and see that it is reached"
                ));
            };
            // One that knows itself as a learner is no node that lost its disk: see `is_forgotten`.
            let latest = self.configurations.latest().1.epoch();
            if standing.epoch < latest {
                return Err(format!(
                    "{node} has not caught up: it has not recorded epoch {latest} of the cluster; try \
                     again later"
                ));
            }
            // A leader that keeps no log knows all the same what it had chosen.
            let own = self.leader.as_ref().and_then(|leader| leader.first_unchosen());
            let first_unchosen = own.unwrap_or(Slot::FIRST).max(self.log.first_unchosen());
            let behind = first_unchosen.since(standing.first_unchosen);
            if limits::PROMOTE_BEHIND_SLOTS_MAX < behind {
                return Err(format!(
                    "{node} has not caught up: it is {behind} slots behind; try again later"
                ));
            }
        }
        Ok(())
    }

    /// Whether the cluster as it is now can live with the configuration.
    fn may_become(&self, next: &Configuration) -> Result<(), String> {
        let membership = next.membership();
        let answers = |node: &NodeId| *node == self.me || self.election.heard(*node).is_some();
        let alive = membership.acceptors().filter(answers).count();
        let (all, needed) = (membership.acceptors().count(), membership.connected());
        for (what, plays) in
            [("lead", (|it| it.leader) as fn(Roles) -> bool), ("serve clients", |it| it.replica)]
        {
            let mut able = membership.members().iter().filter(|it| plays(it.roles));
            if !able.any(|it| answers(&it.node)) {
                return Err(format!("nobody who answers would be left to {what}"));
            }
        }
        let was = self.configurations.latest().1.membership();
        // Learners that come or go change no quorum, whoever is alive.
        if alive < needed && !membership.acceptors().eq(was.acceptors()) {
            return Err(format!(
                "the cluster would lose its quorum: of the {all} acceptors that it would have, \
                 {alive} answer, and {needed} are needed"
            ));
        }
        Ok(())
    }

    /// Hands the lead to `to`, or to whom it suits best, and returns whom.
    pub fn transfer(&mut self, to: Option<NodeId>, fx: &mut Effects) -> Result<NodeId, Refusal> {
        if !self.leader.as_ref().is_some_and(|leader| leader.is_leading()) {
            return Err(Refusal::NotLeading { leader: self.view().leader });
        }
        let (_, latest) = self.configurations.latest();
        let successor = match to {
            Some(node) if node == self.me => {
                return Err(Refusal::No(format!("{node} leads already")));
            }
            Some(node) if !latest.roles(node).is_some_and(|roles| roles.leader) => {
                return Err(Refusal::No(format!("{node} is no member that may lead")));
            }
            Some(node) if self.election.heard(node).is_none() => {
                return Err(Refusal::No(format!("{node} does not answer")));
            }
            Some(node) if !self.election.could_lead(node, &self.configurations) => {
                return Err(Refusal::No(format!(
                    "{node} could not lead: it reaches no quorum, or its disk is not well"
                )));
            }
            Some(node) => node,
            None => self
                .successor()
                .ok_or_else(|| Refusal::No("no other node that may lead answers".to_string()))?,
        };
        self.hand_over_to(Some(successor), fx);
        Ok(successor)
    }

    /// Whether this node knows all configurations among the slots that it takes for chosen.
    pub(super) fn knows_configurations(&self) -> bool {
        let end = if self.learns { self.log.first_unchosen() } else { Slot(0) };
        !self.configurations.is_provisional() && end <= self.configurations.known_below()
    }

    /// The newest configuration if it governs all that this node does not know to be chosen.
    pub fn is_settled(&self) -> bool {
        let (from, latest) = self.configurations.latest();
        let first = self.leader.as_ref().and_then(|leader| leader.first_unchosen());
        let membership = latest.membership();
        let knows = |node: &NodeId| {
            let epoch = match *node == self.me {
                true => self.epoch_recorded,
                false => self.election.heard(*node).map_or(0, |standing| standing.epoch),
            };
            latest.epoch() <= epoch
        };
        let mut replicas = membership.members().iter().filter(|it| it.roles.replica);
        first.is_some_and(|first| from <= first)
            && membership.phase2() <= membership.acceptors().filter(knows).count()
            && replicas.any(|it| knows(&it.node))
    }

    /// Whether this node was a member once and is none any more, as far as it knows.
    pub fn is_removed(&self) -> bool {
        self.configurations.in_force().has_removed(self.me)
    }

    /// An input was handled, before which so much was handed out. Mostly nothing has come of it.
    pub(super) fn note_chosen(&mut self, before: usize, fx: &mut Effects) {
        let known = self.configurations.first_unchosen();
        if fx.chosen.len() == before && self.learns && self.log.first_unchosen() <= known {
            return;
        }
        self.note_handed_out(before, fx);
    }

    /// Configurations among what was handed out since `before`.
    pub(super) fn note_handed_out(&mut self, before: usize, fx: &mut Effects) {
        let new = &fx.chosen[before..];
        if let (Some(first), Some(last)) = (new.first(), new.last()) {
            let (first, end) = (first.slot, last.slot.next());
            let holds = |chosen: &ChosenSlot| batch::configuration_bytes(&chosen.value.0).is_some();
            let chosen = if new.iter().any(holds) { configurations_in(new) } else { Vec::new() };
            if !chosen.is_empty() || !self.configurations.on_commands(first, end) {
                self.configurations.on_values(first, end, chosen);
            }
        }
        if self.learns {
            self.configurations.advance(self.log.first_unchosen());
        }
        self.on_configurations(fx);
    }

    /// Configurations that this node proposed and now counts as chosen: its own log may be behind.
    pub(super) fn note_proposed_chosen(&mut self, fx: &mut Effects) {
        let Some(leader) = &mut self.leader else { return };
        let (chosen, first_unchosen) = leader.take_chosen();
        for (slot, configuration) in chosen {
            self.configurations.on_chosen(slot, configuration);
        }
        self.configurations.on_known(first_unchosen);
        if !self.learns {
            self.configurations.advance(first_unchosen);
        }
        self.on_configurations(fx);
    }

    /// Until it has heard who is in the cluster, a node that joins only listens for that: under its id another
    /// may have voted.
    pub(super) fn may_take_part(&self, message: &Message) -> bool {
        if self.is_forgotten || !self.configurations.is_provisional() {
            return !self.is_forgotten;
        }
        matches!(
            message,
            Message::Configurations(_)
                | Message::SnapshotOffer { .. }
                | Message::HeartbeatRequest { .. }
                | Message::HeartbeatReply { .. }
        )
    }

    /// What a peer knows of the configurations.
    pub(super) fn merge(&mut self, epochs: &Epochs, fx: &mut Effects) {
        self.configurations.merge(epochs);
        self.on_configurations(fx);
    }

    /// If there is a newer configuration: the roles go by it, and peers that keep no log hear of it. If one
    /// has come into force here, that is recorded.
    #[inline]
    fn on_configurations(&mut self, fx: &mut Effects) {
        let newest = self.configurations.latest().1.epoch();
        if (self.epoch_told, self.epoch_reached) != (newest, newest) || self.is_new {
            self.follow_configurations(fx);
        }
    }

    fn follow_configurations(&mut self, fx: &mut Effects) {
        // The first that it hears of: learners are promoted when they have said that they know of themselves.
        if self.is_new && !self.configurations.is_provisional() {
            self.is_new = false;
            self.is_forgotten = self.configurations.is_acceptor(self.me);
        }
        if self.is_forgotten {
            return;
        }
        let first_unchosen = self.configurations.first_unchosen();
        let in_force = self.configurations.epoch_at(first_unchosen);
        if self.epoch_reached < in_force {
            self.epoch_reached = in_force;
            if self.learns {
                self.log.record_progress(fx);
            }
            fx.send_after_sync(self.me, Message::Recorded { first_unchosen });
        }
        let (_, latest) = self.configurations.latest();
        let epoch = latest.epoch();
        if epoch == self.epoch_told {
            return;
        }
        self.epoch_told = epoch;
        let can_lead = latest.roles(self.me).is_some_and(|roles| roles.leader);
        self.election.set_can_lead(can_lead);
        if let Some(leader) = &mut self.leader {
            leader.on_configurations(&self.configurations, fx);
        }
        if let Some(replica) = &mut self.replica {
            replica.on_configurations();
        }
        let epochs = self.configurations.epochs();
        for (member, _) in self.configurations.members() {
            if member.node != self.me {
                fx.send(member.node, Message::Configurations(epochs.clone()));
            }
        }
    }

    /// Now and then: forgets those who left, and leaves itself.
    pub(super) fn leave(&mut self, fx: &mut Effects) {
        if self.configurations.has_left_all() {
            return;
        }
        let leads = self.leader.as_ref().is_some_and(|leader| leader.is_leading());
        if self.epoch_recorded < self.epoch_reached || (leads && !self.is_settled()) {
            return;
        }
        if leads && !self.configurations.latest().1.roles(self.me).is_some_and(|it| it.leader) {
            self.hand_over_to(self.successor(), fx);
        }
        self.configurations.leave_all();
        if let Some(leader) = &mut self.leader {
            leader.on_configurations(&self.configurations, fx);
        }
    }
}

fn configurations_in(chosen: &[ChosenSlot]) -> Vec<(Slot, Configuration)> {
    let of = |chosen: &ChosenSlot| Some((chosen.slot, Configuration::of_value(&chosen.value)?));
    chosen.iter().filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::configurations::Configurations;
    use super::super::super::configurations::fixtures::{addresses, configurations};
    use super::super::super::ids::Ballot;
    use super::super::super::message::{Health, P1b, P2b, Standing, StateStanding};
    use super::super::super::quorum::Member;
    use super::super::fixtures::{hear, node_in};
    use super::*;

    const BALLOT: Ballot = Ballot { round: 1, node: NodeId(2) };

    /// Node 2, which only leads, of a cluster with one acceptor, 1, and the replicas 3 and 4. It leads from slot
    /// `first` on.
    fn leader(first: u64) -> Node {
        let only = |acceptor, leader, replica| Roles { acceptor, leader, replica };
        let roles = [
            only(true, false, false),
            only(false, true, false),
            only(false, false, true),
            only(false, false, true),
        ];
        let member = |(roles, id)| (Member { node: NodeId(id), roles }, addresses(id));
        let members = roles.into_iter().zip(1..).map(member).collect();
        let initial = Configuration::initial(members, None, None).unwrap();
        let configurations = Configurations::new(initial, 4);
        let mut theirs = configurations.clone();
        theirs.on_known(Slot(first));
        let mut node = node_in(2, roles[1], configurations);
        hear(&mut node, 1, Message::TakeOver { ballot: Ballot::NONE });
        let p1b = P1b {
            ballot: BALLOT,
            promised: BALLOT,
            first_slot: Slot(1),
            end: Slot(first),
            no_more_accepted: true,
            first_unchosen: Slot(first),
            epochs: theirs.epochs().clone(),
            accepted: vec![],
            unsure: vec![],
        };
        hear(&mut node, 1, Message::P1b(p1b.into()));
        node
    }

    /// A peer answers in a round of heartbeats.
    fn stands(node: &mut Node, id: u16, round: u64, first_unchosen: u64, epoch: u64) {
        let standing = Standing {
            ballot: Ballot::NONE,
            leader: BALLOT,
            happy: true,
            first_unchosen: Slot(first_unchosen),
            epoch,
            hears: vec![],
            route: vec![],
            health: Health::default(),
            state: StateStanding::default(),
        };
        hear(node, id, Message::HeartbeatReply { round, standing: standing.into() });
    }

    fn accepts(node: &mut Node, accepted_end: u64) {
        let accepted_end = Slot(accepted_end);
        let p2b = P2b { ballot: BALLOT, promised: BALLOT, accepted_end, resend: false };
        hear(node, 1, Message::P2b(p2b));
    }

    /// Node 3 has the state and is removed; as long as 4 has not come to where it is not needed, it is.
    #[test]
    fn who_has_the_state_is_needed_until_another_has_it() {
        let mut node = leader(1);
        for id in [1, 3, 4] {
            stands(&mut node, id, 0, 1, 1);
        }
        let change = Change::Remove { node: NodeId(3) };
        assert_eq!(node.reconfigure(Now::default(), 1, &change), Ok(2));
        for end in 1..=5 {
            accepts(&mut node, end);
        }
        assert_eq!(node.configurations().first_unchosen(), Slot(5));
        let later = Now { mono_us: 100, ..Now::default() };
        node.on_tick(later, &mut Effects::new(NodeId(2)));
        stands(&mut node, 1, 1, 5, 2);
        assert!(!node.is_settled(), "nobody else has the state");
        stands(&mut node, 4, 1, 5, 2);
        assert!(node.is_settled());
    }

    /// A leader that keeps no log knows who is behind: by what it had chosen.
    #[test]
    fn a_leader_without_a_log_knows_who_is_behind() {
        let change = Change::Promote { node: NodeId(3) };
        let far = limits::PROMOTE_BEHIND_SLOTS_MAX as u64;
        for (first, is_near) in [(1, true), (far + 1, true), (far + 2, false)] {
            let mut node = leader(first);
            stands(&mut node, 3, 0, 1, 1);
            assert_eq!(node.has_caught_up(&change).is_ok(), is_near, "{first}");
        }
    }

    /// Node 4 with an empty directory, told of node 1 only.
    fn newcomer() -> Node {
        let me = (NodeId(4), addresses(4));
        let seed = (NodeId(1), addresses(1));
        let provisional = Configuration::provisional(me, vec![seed]).unwrap();
        let learner = Roles { acceptor: false, leader: false, replica: true };
        node_in(4, learner, Configurations::new(provisional, 4))
    }

    fn votes(node: &mut Node) -> bool {
        let fx = hear(node, 1, Message::P1a { ballot: BALLOT, first_slot: Slot(1) });
        let confirm = hear(node, 1, Message::Confirm { ballot: BALLOT, round: 1 });
        let read = hear(node, 1, Message::QuorumRead { round: 1 });
        let all = [fx, confirm, read];
        all.iter().any(|fx| !(fx.records.is_empty() && fx.sends_after_sync.is_empty()))
    }

    /// What was known of node 4 when it was added in slot 1, and when it was promoted in slot 2.
    fn added_and_promoted() -> (Message, Message) {
        let mut known = configurations(3, None, 4);
        let node = NodeId(4);
        let added = Change::Add { node, addresses: addresses(4) };
        let added = known.latest().1.changed(&added).unwrap();
        known.on_chosen(Slot(1), added.clone());
        let before = Message::Configurations(known.epochs().clone());
        known.on_chosen(Slot(2), added.changed(&Change::Promote { node }).unwrap());
        (before, Message::Configurations(known.epochs().clone()))
    }

    /// Added and promoted before it did anything: as when it was slow, and both messages wait for it.
    #[test]
    fn a_learner_may_be_promoted_at_any_time() {
        let (added, promoted) = added_and_promoted();
        let mut node = newcomer();
        assert!(!votes(&mut node), "under its id another may have voted");
        hear(&mut node, 1, added);
        hear(&mut node, 1, promoted);
        assert!(!node.is_forgotten() && node.roles().acceptor);
        assert!(votes(&mut node));
    }

    /// It never was a learner here: it voted, and lost what it knew of that.
    #[test]
    fn who_comes_with_nothing_under_the_id_of_an_acceptor_is_forgotten() {
        let (_, promoted) = added_and_promoted();
        let mut node = newcomer();
        hear(&mut node, 1, promoted);
        assert!(node.is_forgotten() && !votes(&mut node));
    }

    /// Or what was lost with a disk could be promoted.
    #[test]
    fn who_does_not_know_that_it_learns_is_not_promoted() {
        let change = Change::Promote { node: NodeId(3) };
        let mut node = leader(1);
        stands(&mut node, 3, 0, 1, 0);
        let why = node.has_caught_up(&change).unwrap_err();
        assert!(why.contains("has not recorded epoch 1"), "{why}");
    }
}
