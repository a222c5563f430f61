//! How a node catches up with others and lets them catch up: chosen values from the log, and a snapshot where
//! a log no longer has them.
//!
//! Which peer is asked for what is the business of `learner` and `fetch`; bytes of snapshots are the
//! caller's. Here is what both mean for the log.

use crate::mutants::{self, Mutant};

use super::super::configuration::Configuration;
use super::super::configurations::Epochs;
use super::super::effects::{Effects, LearnReply};
use super::super::ids::{NodeId, Slot};
use super::super::message::{Message, SnapshotId};
use super::{Node, Now};

impl Node {
    /// These snapshots can be sent to peers, until the next call; the newest is the last. `durable`: the slot of the
    /// newest snapshot that is durable here, whether it can be sent or not; 0 if there is none. The write-ahead log
    /// has the values of the slots from `log_begin` on.
    ///
    /// To be called at start, when a snapshot comes or goes, and when the log was truncated.
    pub fn on_snapshots(
        &mut self,
        snapshots: Vec<SnapshotId>,
        durable: Slot,
        log_begin: Slot,
        fx: &mut Effects,
    ) {
        assert!(snapshots.windows(2).all(|pair| pair[0].slot < pair[1].slot));
        assert!(
            log_begin <= durable.next() || self.replica.is_none(),
            "what the log no longer has is in a snapshot"
        );
        self.state.snapshot = durable;
        self.snapshots = snapshots;
        self.log.begins_at(log_begin);
        if self.has_sendable() {
            for peer in std::mem::take(&mut self.wanting) {
                self.offer_snapshot(peer, fx);
            }
        }
    }

    /// Whether a snapshot can be sent from which a peer can go on by our log.
    fn has_sendable(&self) -> bool {
        self.snapshots.last().is_some_and(|newest| self.log.begin() <= newest.slot.next())
    }

    /// A snapshot of all that was handed out is about to be made: the log says that it is chosen.
    ///
    /// The snapshot must not be durable before those records are.
    pub fn record_progress(&mut self, fx: &mut Effects) {
        if !mutants::is_on(Mutant::SnapshotBeyondLog) {
            self.log.record_progress(fx);
        }
    }

    /// Of a snapshot that `Receive::Begin` asked for, the first `size` bytes are kept now.
    pub fn on_part(&mut self, now: Now, snapshot: SnapshotId, size: u64, fx: &mut Effects) {
        self.learner.on_part(snapshot, size, fx);
        self.run_local(now, fx);
    }

    /// The received snapshot is durable, and the caller's state is what it holds: all slots up to `slot`
    /// are applied. The log jumps behind it. To be called only where the caller's state was behind.
    /// `epochs`: the configurations in the snapshot, of all slots up to `slot`.
    pub fn on_snapshot_installed(
        &mut self,
        now: Now,
        slot: Slot,
        epochs: &Epochs,
        fx: &mut Effects,
    ) {
        assert!(self.log.first_unchosen() <= slot, "a state never goes back");
        self.merge(epochs, fx);
        assert!(slot < self.configurations.known_below(), "a snapshot has its configurations");
        let chosen_before = fx.chosen.len();
        self.log.jump(slot.next(), fx);
        self.note_chosen(chosen_before, fx);
        // Commands that were applied in the jump are answered when they come again: by their sessions.
        if let Some(replica) = &mut self.replica {
            replica.resend_all();
        }
        self.learner.on_fetched(self.log.first_unchosen(), fx);
        self.run_local(now, fx);
    }

    /// The received snapshot was no good, or cannot be kept.
    pub fn on_snapshot_refused(&mut self, snapshot: SnapshotId) {
        self.learner.on_refused(snapshot);
    }

    /// The last slot that a majority of the replicas have in durable snapshots, as far as the last heartbeat
    /// round told: an acceptor that keeps no state need not keep the values up to there. Of each
    /// configuration that governs or will govern: those that stay may be behind those that leave.
    pub fn covered_by_snapshots(&self) -> Slot {
        let snapshot = |node: NodeId| match node == self.me {
            true => self.state.snapshot,
            false => self.heard(node).map_or(Slot(0), |standing| standing.state.snapshot),
        };
        let covered = |configuration: &Configuration| {
            let members = configuration.membership().members().iter();
            let replicas = members.filter(|member| member.roles.replica);
            let mut snapshots: Vec<Slot> = replicas.map(|member| snapshot(member.node)).collect();
            snapshots.sort_unstable_by(|a, b| b.cmp(a));
            snapshots.get(snapshots.len() / 2).copied().unwrap_or(Slot(0))
        };
        let all = self.configurations.governing_from(self.configurations.first_unchosen());
        all.map(|(_, _, configuration)| covered(configuration)).min().expect("one governs")
    }

    /// The snapshot that is on its way here, if one is.
    pub fn fetching(&self) -> Option<SnapshotId> {
        self.learner.fetching()
    }

    /// The first chosen slot whose value the write-ahead log can tell.
    pub fn log_begin(&self) -> Slot {
        self.log.begin()
    }

    pub(super) fn on_learn_request(&mut self, from: NodeId, first_slot: Slot, fx: &mut Effects) {
        let first_unchosen = self.log.first_unchosen();
        if !self.learns || first_unchosen <= first_slot {
            return;
        }
        if first_slot < self.log.begin() {
            self.offer_snapshot(from, fx);
        } else {
            fx.learn_replies.push(LearnReply { to: from, first_slot, first_unchosen });
        }
    }

    /// Says what there is to somebody who asked for what the log no longer has. If that could be sent once it is made, it
    /// is wanted, and said then: with nothing to hear, the peer asks again, us or others.
    pub(super) fn offer_snapshot(&mut self, to: NodeId, fx: &mut Effects) {
        if self.replica.is_some() && Slot::FIRST < self.log.begin() && !self.has_sendable() {
            self.wanting.insert(to);
            fx.snapshot_wanted = true;
            return;
        }
        let (log_begin, first_unchosen) = (self.log.begin(), self.log.first_unchosen());
        let snapshot = self.snapshots.last().copied();
        let epochs = self.configurations.epochs().clone();
        fx.send(to, Message::SnapshotOffer { log_begin, first_unchosen, snapshot, epochs });
    }

    pub(super) fn on_snapshot_offer(
        &mut self,
        from: NodeId,
        log_begin: Slot,
        snapshot: Option<SnapshotId>,
        fx: &mut Effects,
    ) {
        let first_unchosen = self.log.first_unchosen();
        let useful = snapshot.filter(|snapshot| first_unchosen <= snapshot.slot);
        let known_below = self.configurations.known_below();
        match useful {
            _ if !self.learns => {}
            // An acceptor needs to know that all is chosen, and not what: others keep that.
            Some(snapshot) if self.replica.is_none() && snapshot.slot < known_below => {
                self.log.jump(snapshot.slot.next(), fx);
                self.learner.on_answer(from, first_unchosen, self.log.first_unchosen(), fx);
            }
            // It has not heard yet what governs there.
            Some(_) if self.replica.is_none() => {}
            _ => self.learner.on_offer(from, log_begin, useful, first_unchosen, fx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::configurations::fixtures::configurations;
    use super::super::super::effects::SnapshotReply;
    use super::super::super::ids::{Ballot, Value};
    use super::super::super::quorum::Roles;
    use super::super::super::record::Record;
    use super::super::fixtures::{hear, node, node_of};
    use super::*;

    /// What a peer that knows all slots below `end` tells of the configurations.
    fn epochs(end: u64) -> Epochs {
        let mut configurations = configurations(3, None, 4);
        configurations.on_known(Slot(end));
        configurations.epochs().clone()
    }

    const SNAPSHOT: SnapshotId = SnapshotId { slot: Slot(15), size: 30, checksum: 7 };

    /// What the log no longer has is not told as chosen values: whatever it held there may have lost.
    /// What it has is told from the log, however many snapshots there are.
    #[test]
    fn what_is_gone_from_the_log_is_offered_as_a_snapshot() {
        let mut node = node();
        let mut fx = Effects::new(node.id());
        node.on_snapshot_installed(Now::default(), SNAPSHOT.slot, &epochs(16), &mut fx);
        node.on_snapshots(vec![SNAPSHOT], SNAPSHOT.slot, Slot(16), &mut fx);
        let values = vec![(Ballot::NONE, Value::noop()); 2];
        let first_unchosen = Slot(18);
        hear(&mut node, 1, Message::Chosen { first_slot: Slot(16), values, first_unchosen });

        let fx = hear(&mut node, 3, Message::LearnRequest { first_slot: Slot(15) });
        let log_begin = Slot(16);
        let (snapshot, epochs) = (Some(SNAPSHOT), epochs(18));
        let offer = Message::SnapshotOffer { log_begin, first_unchosen, snapshot, epochs };
        assert_eq!((&fx.sends[..], fx.learn_replies.len()), (&[(NodeId(3), offer.clone())][..], 0));
        let fx = hear(&mut node, 3, Message::LearnRequest { first_slot: Slot(16) });
        assert_eq!((fx.sends.len(), fx.learn_replies.len()), (0, 1));

        let request = |snapshot| Message::SnapshotRequest { snapshot, offset: 10, size: 5 };
        let fx = hear(&mut node, 3, request(SNAPSHOT));
        let reply = SnapshotReply { to: NodeId(3), snapshot: SNAPSHOT, offset: 10, size: 5 };
        assert_eq!(fx.snapshot_replies, [reply]);
        // One that it has no more, or never had.
        let fx = hear(&mut node, 3, request(SnapshotId { checksum: 8, ..SNAPSHOT }));
        assert_eq!((fx.sends, fx.snapshot_replies.len()), (vec![(NodeId(3), offer)], 0));
    }

    /// A node whose own snapshots cannot be sent makes one for who needs it, offers it when it is there, and an
    /// old one from which its log does not go on is of no use.
    #[test]
    fn what_cannot_be_sent_is_made_for_who_needs_it() {
        let mut node = node();
        let mut fx = Effects::new(node.id());
        node.on_snapshot_installed(Now::default(), SNAPSHOT.slot, &epochs(16), &mut fx);
        let old = SnapshotId { slot: Slot(12), ..SNAPSHOT };
        node.on_snapshots(vec![old], Slot(15), Slot(16), &mut fx);
        for _ in 0..2 {
            let fx = hear(&mut node, 3, Message::LearnRequest { first_slot: Slot(2) });
            assert_eq!((&fx.sends[..], fx.snapshot_wanted), (&[][..], true));
        }
        let mut fx = Effects::new(node.id());
        node.on_snapshots(vec![old], Slot(15), Slot(16), &mut fx);
        assert_eq!(fx.sends, [], "it is not there yet");
        node.on_snapshots(vec![old, SNAPSHOT], Slot(15), Slot(16), &mut fx);
        let offered: Vec<_> = fx
            .sends
            .iter()
            .map(|(to, message)| match message {
                Message::SnapshotOffer { snapshot, .. } => (*to, *snapshot),
                other => panic!("unexpected {other:?}"),
            })
            .collect();
        assert_eq!(offered, [(NodeId(3), Some(SNAPSHOT))], "once");
        let fx = hear(&mut node, 1, Message::LearnRequest { first_slot: Slot(2) });
        assert_eq!((fx.sends.len(), fx.snapshot_wanted), (1, false));
    }

    /// An acceptor that keeps no state needs none: it passes over what only a snapshot tells, and goes on
    /// with the values behind.
    #[test]
    fn an_acceptor_jumps_by_an_offer_alone() {
        let mut node = node_of(Roles { acceptor: true, leader: false, replica: false });
        let commit = Message::Commit { ballot: Ballot::NONE, first_unchosen: Slot(18) };
        hear(&mut node, 1, commit);
        let mut fx = Effects::new(node.id());
        node.on_tick(Now { mono_us: 30, wall_us: 0 }, &mut fx);
        node.on_tick(Now { mono_us: 60, wall_us: 0 }, &mut fx);
        assert!(fx.sends.contains(&(NodeId(1), Message::LearnRequest { first_slot: Slot(1) })));
        let (log_begin, first_unchosen) = (Slot(14), Slot(18));
        let (snapshot, epochs) = (Some(SNAPSHOT), epochs(18));
        let offer = Message::SnapshotOffer { log_begin, first_unchosen, snapshot, epochs };
        let fx = hear(&mut node, 1, offer);
        assert_eq!(fx.sends, [(NodeId(1), Message::LearnRequest { first_slot: Slot(16) })]);
        assert_eq!((fx.receives.len(), node.log_begin()), (0, Slot(16)));
        assert_eq!(fx.records, [Record::Jumped(Slot(16))]);

        // Who offers nothing that helps is asked no more, or the two would go on for ever.
        let snapshot = Some(SnapshotId { slot: Slot(0), ..SNAPSHOT });
        let (log_begin, epochs) = (Slot(17), node.configurations().epochs().clone());
        let offer = Message::SnapshotOffer { log_begin, first_unchosen, snapshot, epochs };
        assert_eq!(hear(&mut node, 1, offer).sends, []);
    }
}
