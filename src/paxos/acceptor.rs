//! The acceptor: the durable memory of Paxos (PMMC, section 2.2 and figure 4).
//!
//! Invariant: `promised` never goes down, and no pvalue is accepted in a ballot above or below the
//! promise at that time. It does not know who leads, what a command means, or how its records reach
//! the disk. All that it says comes after the sync, refusals too: what it says may rest on any of its
//! records.
//!
//! Departure from PMMC: a P2a carries a run of slots and the answer is cumulative. Within a ballot
//! the acceptor takes slots only in order, so "accepted below `accepted_end`" says all.

use std::ops::Range;

use crate::limits;
use crate::mutants::{self, Mutant};

use super::configurations::Epochs;
use super::effects::Effects;
use super::ids::{Ballot, NodeId, Slot, Value};
use super::lease::Grants;
use super::log::Log;
use super::message::{Extent, Message, P1b, P2b, Values};
use super::record::{Record, Recovered};

#[derive(Clone, Debug, Hash)]
pub struct Acceptor {
    promised: Ballot,
    /// Each slot below `run_end` is accepted in `run_ballot`, or known here or to that ballot's
    /// leader to be chosen.
    run_ballot: Ballot,
    run_end: Slot,
    /// Others than the leader were told that we voted in `run_ballot` for slots below.
    told_end: Slot,
    grants: Grants,
}

impl Acceptor {
    /// `lease_us`: the longest lease that it grants, in this life and in the one before.
    pub fn new(recovered: &Recovered, log: &Log, lease_us: u64, now_us: u64) -> Acceptor {
        let promised = recovered.promised;
        let run_end = log.run_end(promised);
        // Whatever we had accepted may have been told.
        let told_end = log.accepted_end(promised);
        // And so may what damage took.
        let told_end = told_end.max(log.unsure().end().unwrap_or(told_end));
        let grants = Grants::new(lease_us, promised, now_us);
        Acceptor { promised, run_ballot: promised, run_end, told_end, grants }
    }

    pub fn promised(&self) -> Ballot {
        self.promised
    }

    /// Whether `ballot` cannot be promised yet: another node's leader holds our grant of a lease.
    pub fn is_bound_against(&self, ballot: Ballot, now_us: u64) -> bool {
        self.promised < ballot && self.grants.forbids(ballot, now_us)
    }

    /// Phase 1a: a scout asks for a promise and for what we accepted.
    ///
    /// We answer even when we refuse: the refusal carries the ballot that beat the leader, which is
    /// how it learns that it was preempted.
    pub fn on_p1a(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        first_slot: Slot,
        log: &Log,
        epochs: &Epochs,
        fx: &mut Effects,
    ) {
        if self.promised < ballot {
            self.promised = ballot;
            if !mutants::is_on(Mutant::PromiseNotRecorded) {
                fx.persist(Record::Promised(ballot));
            }
        }
        let mut p1b = P1b {
            ballot,
            promised: self.promised,
            first_slot,
            end: first_slot,
            no_more_accepted: false,
            first_unchosen: log.first_unchosen(),
            epochs: epochs.clone(),
            accepted: Vec::new(),
            unsure: Vec::new(),
        };
        if self.promised == ballot {
            let mut size = 0;
            p1b.no_more_accepted = true;
            p1b.end = log.end().max(first_slot);
            let far = log.first_unchosen().plus(limits::ACCEPTOR_AHEAD_SLOTS_MAX);
            for pvalue in log.accepted_from(first_slot, ballot) {
                if far <= pvalue.slot {
                    // Only damage far below brings us here. These are told when that is repaired.
                    break;
                }
                if limits::MESSAGE_VALUES_SIZE_SOFT_MAX <= size
                    || limits::MESSAGE_VALUES_MAX <= p1b.accepted.len()
                {
                    p1b.no_more_accepted = false;
                    p1b.end = pvalue.slot;
                    break;
                }
                size += pvalue.value.size();
                p1b.accepted.push(pvalue);
            }
            p1b.unsure = unsure_in(log, first_slot..p1b.end);
        }
        fx.send_after_sync(from, Message::P1b(Box::new(p1b)));
    }

    /// Phase 2a: a leader proposes values for the slots from `first_slot` up, and tells below which
    /// slot all is chosen.
    #[allow(clippy::too_many_arguments)] // The fields of one message, and what it works on.
    pub fn on_p2a(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        first_slot: Slot,
        first_unchosen: Slot,
        values: Values,
        log: &mut Log,
        fx: &mut Effects,
    ) {
        if ballot < self.promised && !mutants::is_on(Mutant::AcceptBelowPromise) {
            let promised = self.promised;
            let p2b = P2b { ballot, promised, accepted_end: Slot(0), resend: false };
            fx.send_after_sync(from, Message::P2b(p2b));
            return;
        }
        if self.promised < ballot {
            self.promised = ballot;
            fx.persist(Record::Promised(ballot));
        }
        if self.run_ballot != ballot {
            self.run_ballot = ballot;
            self.run_end = log.first_unchosen();
            self.told_end = Slot(0);
        }
        self.run_end = self.run_end.max(log.first_unchosen());
        if first_slot <= first_unchosen {
            // What lies between our run and the leader's window is chosen. We need not vote on it; we
            // learn it from whoever has it.
            self.run_end = self.run_end.max(first_slot);
        }

        let in_run = first_slot <= self.run_end;
        let took_all = match values {
            Values::One(value) => self.take(first_slot, ballot, value, log, fx),
            Values::Many(values) => {
                let mut slots = (first_slot.0..).map(Slot);
                values
                    .into_iter()
                    .zip(&mut slots)
                    .all(|(value, slot)| self.take(slot, ballot, value, log, fx))
            }
        };
        log.commit(ballot, first_unchosen, fx);
        let resend = !in_run || !took_all;
        let p2b = P2b { ballot, promised: ballot, accepted_end: self.run_end, resend };
        fx.send_after_sync(from, Message::P2b(p2b));
    }

    /// Accepts a value that goes on with the run, or is in it. False if it does neither, or comes too early.
    #[inline]
    fn take(
        &mut self,
        slot: Slot,
        ballot: Ballot,
        value: Value,
        log: &mut Log,
        fx: &mut Effects,
    ) -> bool {
        if slot < self.run_end {
            return true;
        }
        if self.run_end < slot || Self::too_far_ahead(slot, log) {
            return false;
        }
        // Of one that is known to be chosen we know the value, and this may be one that lost.
        if !log.is_chosen(slot) {
            assert!(ballot == self.promised || mutants::is_on(Mutant::AcceptBelowPromise));
            log.accept(slot, ballot, value, fx);
        }
        self.run_end = slot.next();
        true
    }

    /// A leader asks whether it may still answer reads: only if we promised nothing above its ballot.
    ///
    /// If we promised less, we promise it now. We were away in its phase 1, and until it proposes
    /// something nothing else brings us to its ballot: reads would wait for a write.
    pub fn on_confirm(&mut self, from: NodeId, ballot: Ballot, round: u64, fx: &mut Effects) {
        if self.promised < ballot {
            self.promised = ballot;
            fx.persist(Record::Promised(ballot));
        }
        if self.promised == ballot {
            let told_end = self.told_end(ballot);
            fx.send_after_sync(from, Message::ConfirmAck { ballot, round, told_end });
        } else {
            let promised = self.promised;
            let p2b = P2b { ballot, promised, accepted_end: Slot(0), resend: false };
            fx.send_after_sync(from, Message::P2b(p2b));
        }
    }

    /// A replica asks how far we may have accepted, for its quorum reads. It may take the answer for a
    /// vote, so that it waits for the sync like one.
    ///
    /// So a slot may be known to be chosen, and what is in it be acknowledged, before the leader knows: its
    /// reads must see that too, and it hears of it from us.
    /// While a leader holds our grant of a lease, others are told no votes: it would not hear of that.
    pub fn on_quorum_read(
        &mut self,
        from: NodeId,
        round: u64,
        now_us: u64,
        log: &Log,
        fx: &mut Effects,
    ) {
        let votes = !self.grants.is_bound(now_us) || mutants::is_on(Mutant::VotesToldUnderLease);
        let ballot = self.run_ballot;
        let accepted_end = if votes { self.run_end } else { Slot(0) };
        self.told_end = self.told_end.max(accepted_end);
        let extent = Extent { end: log.end(), ballot, accepted_end };
        fx.send_after_sync(from, Message::QuorumReadReply { round, extent });
    }

    /// A leader asks for a lease.
    pub fn on_lease_request(&mut self, from: NodeId, ballot: Ballot, asked_us: u64, lease_us: u64) {
        self.grants.ask(from, ballot, asked_us, lease_us);
    }

    pub fn on_lease_release(&mut self, ballot: Ballot) {
        self.grants.release(ballot);
    }

    /// Grants what was asked for in this turn: `now_us` is later than all that it brought.
    pub fn end_turn(&mut self, now_us: u64, fx: &mut Effects) {
        if !self.grants.are_asked() {
            return;
        }
        for (leader, ballot, asked_us) in self.grants.grant(self.promised, now_us) {
            let told_end = self.told_end(ballot);
            fx.send_after_sync(leader, Message::LeaseGrant { ballot, asked_us, told_end });
        }
    }

    /// Slots below may be known to others to be chosen in `ballot`, by our vote.
    fn told_end(&self, ballot: Ballot) -> Slot {
        if self.run_ballot != ballot || mutants::is_on(Mutant::VotesToldInSecret) {
            return Slot(0);
        }
        self.told_end
    }

    /// A node that misses many chosen slots learns them before it takes more, so that its memory
    /// stays bounded.
    fn too_far_ahead(slot: Slot, log: &Log) -> bool {
        limits::ACCEPTOR_AHEAD_SLOTS_MAX <= slot.since(log.first_unchosen())
            || limits::ACCEPTOR_AHEAD_SIZE_MAX <= log.tail_size()
    }
}

/// Runs of slots of which an answer to a scout has to say that it is none: where the log may have lost
/// something, and what lies too far ahead to be told. If there are too many runs, the last ones become
/// one: to be unsure of more than need be costs time at most.
fn unsure_in(log: &Log, slots: Range<Slot>) -> Vec<Range<Slot>> {
    if mutants::is_on(Mutant::VoteOnForgotten) {
        return Vec::new();
    }
    let far = log.first_unchosen().plus(limits::ACCEPTOR_AHEAD_SLOTS_MAX);
    let mut runs: Vec<_> = log.unsure().runs_in(slots.start..slots.end.min(far)).collect();
    if far < slots.end {
        runs.push(far.max(slots.start)..slots.end);
    }
    if limits::MESSAGE_VALUES_MAX < runs.len() {
        let end = runs[runs.len() - 1].end;
        runs.truncate(limits::MESSAGE_VALUES_MAX);
        runs[limits::MESSAGE_VALUES_MAX - 1].end = end;
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::super::configurations::fixtures::configurations;
    use super::*;

    const ME: NodeId = NodeId(1);
    const LEADER: NodeId = NodeId(2);
    const LEASE_US: u64 = 100;

    fn ballot(round: u64) -> Ballot {
        Ballot { round, node: LEADER }
    }

    fn values(bytes: &[u8]) -> Vec<Value> {
        bytes.iter().map(|&byte| Value([byte].into())).collect()
    }

    struct Fixture {
        acceptor: Acceptor,
        log: Log,
        fx: Effects,
    }

    impl Fixture {
        fn new() -> Fixture {
            let mut fx = Effects::new(ME);
            let log = Log::new(&Recovered::default(), &mut fx);
            Fixture { acceptor: Acceptor::new(&Recovered::default(), &log, LEASE_US, 0), log, fx }
        }

        fn p1a(&mut self, round: u64, first_slot: u64) -> P1b {
            let (log, fx) = (&self.log, &mut self.fx);
            let epochs = configurations(3, None, 4).epochs().clone();
            self.acceptor.on_p1a(LEADER, ballot(round), Slot(first_slot), log, &epochs, fx);
            match self.fx.sends_after_sync.pop() {
                Some((LEADER, Message::P1b(p1b))) => *p1b,
                other => panic!("expected a P1b, got {other:?}"),
            }
        }

        fn p2a(&mut self, round: u64, first: u64, first_unchosen: u64, bytes: &[u8]) -> P2b {
            self.acceptor.on_p2a(
                LEADER,
                ballot(round),
                Slot(first),
                Slot(first_unchosen),
                values(bytes).into(),
                &mut self.log,
                &mut self.fx,
            );
            match self.fx.sends_after_sync.pop() {
                Some((LEADER, Message::P2b(p2b))) => p2b,
                other => panic!("expected a P2b, got {other:?}"),
            }
        }
    }

    /// A promise is kept: neither a lower P1a nor a lower P2a gets anything but a refusal.
    #[test]
    fn refuses_below_its_promise() {
        let mut f = Fixture::new();
        assert_eq!(f.p1a(3, 1).promised, ballot(3));
        let refusal = f.p1a(2, 1);
        assert_eq!((refusal.ballot, refusal.promised), (ballot(2), ballot(3)));
        assert!(!refusal.no_more_accepted);
        let refusal = f.p2a(2, 1, 1, &[7]);
        assert_eq!((refusal.promised, refusal.accepted_end), (ballot(3), Slot(0)));
        assert_eq!(f.log.end(), Slot(1));
        assert_eq!(f.fx.records, [Record::Promised(ballot(3))]);
    }

    /// Repeated and overlapping P2a accept each slot once; a gap is not accepted over.
    #[test]
    fn accepts_in_order_and_once() {
        let mut f = Fixture::new();
        assert_eq!(f.p2a(1, 1, 1, &[1, 2]).accepted_end, Slot(3));
        assert_eq!(f.p2a(1, 1, 1, &[1, 2, 3]).accepted_end, Slot(4));
        let gap = f.p2a(1, 6, 1, &[6]);
        assert_eq!((gap.accepted_end, gap.resend), (Slot(4), true));
        let accepted = |r: &&Record| matches!(r, Record::Accepted { .. });
        assert_eq!(f.fx.records.iter().filter(accepted).count(), 3);
    }

    /// A new ballot overwrites what an older one left, slot by slot, and reports both until then.
    #[test]
    fn a_new_ballot_overwrites() {
        let mut f = Fixture::new();
        f.p2a(1, 1, 1, &[1, 2, 3]);
        assert_eq!(f.p2a(2, 1, 1, &[9]).accepted_end, Slot(2));
        let p1b = f.p1a(3, 1);
        let ballots: Vec<u64> = p1b.accepted.iter().map(|p| p.ballot.round).collect();
        assert_eq!(ballots, [2, 1, 1]);
        assert!(p1b.no_more_accepted);
        assert_eq!(p1b.end, Slot(4));
    }

    /// The leader's window begins above our run: what lies between is chosen, and only learned.
    #[test]
    fn jumps_over_chosen_slots() {
        let mut f = Fixture::new();
        let p2b = f.p2a(1, 10, 10, &[1]);
        assert_eq!((p2b.accepted_end, p2b.resend), (Slot(11), false));
        assert_eq!(f.log.first_unchosen(), Slot(1));
        assert!(f.log.misses_chosen());
    }

    /// After a restart a leader of the same ballot goes on where it was.
    #[test]
    fn a_run_survives_a_restart() {
        let mut f = Fixture::new();
        f.p2a(1, 1, 1, &[1, 2]);
        let recovered = Recovered {
            promised: ballot(1),
            first_unchosen: Slot(1),
            tail: f
                .log
                .accepted_from(Slot(1), Ballot::NONE)
                .map(|p| super::super::record::RecoveredSlot {
                    slot: p.slot,
                    ballot: p.ballot,
                    value: p.value,
                    chosen: false,
                })
                .collect(),
            ..Recovered::default()
        };
        let mut fx = Effects::new(ME);
        let log = Log::new(&recovered, &mut fx);
        let acceptor = Acceptor::new(&recovered, &log, LEASE_US, 0);
        let mut f = Fixture { acceptor, log, fx };
        let p2b = f.p2a(1, 3, 1, &[3]);
        assert_eq!((p2b.accepted_end, p2b.resend), (Slot(4), false));
    }

    /// Memory is bounded: an acceptor that misses too much does not accept more.
    #[test]
    fn does_not_run_too_far_ahead() {
        let mut f = Fixture::new();
        let far = limits::ACCEPTOR_AHEAD_SLOTS_MAX as u64;
        let p2b = f.p2a(1, far, far, &[1, 2, 3]);
        assert_eq!((p2b.accepted_end, p2b.resend), (Slot(far + 1), true));
    }

    /// A leader may answer reads on our word only while we promised nothing higher.
    #[test]
    fn confirms_only_the_promised_ballot() {
        let mut f = Fixture::new();
        f.p1a(2, 1);
        f.acceptor.on_confirm(LEADER, ballot(2), 5, &mut f.fx);
        let ack = Message::ConfirmAck { ballot: ballot(2), round: 5, told_end: Slot(0) };
        assert_eq!(f.fx.sends_after_sync.pop(), Some((LEADER, ack)));
        f.acceptor.on_confirm(LEADER, ballot(1), 6, &mut f.fx);
        assert!(matches!(f.fx.sends_after_sync.pop(), Some((_, Message::P2b(_)))));
    }

    /// A quorum read sees all that was accepted in any ballot, and takes for votes only what was accepted
    /// before a higher promise: what is learned or accepted behind it, another leader may know nothing of.
    #[test]
    fn tells_how_far_it_accepted() {
        let mut f = Fixture::new();
        f.p2a(1, 1, 1, &[1, 2, 3]);
        f.p1a(2, 1);
        f.log.learn(Slot(1), vec![(ballot(3), Value::noop()); 5], &mut f.fx);
        f.acceptor.on_quorum_read(LEADER, 7, 0, &f.log, &mut f.fx);
        let extent = Extent { end: Slot(6), ballot: ballot(1), accepted_end: Slot(4) };
        let reply = Message::QuorumReadReply { round: 7, extent };
        assert_eq!(f.fx.sends_after_sync.pop(), Some((LEADER, reply)));
    }

    /// Votes that were told to a replica may show it a chosen slot before the leader has counted them: the
    /// leader hears of them with the next confirmation, also after a restart of the acceptor; and a leader of
    /// another ballot, which adopted what there was, does not.
    #[test]
    fn a_leader_hears_of_votes_that_others_were_told() {
        let mut f = Fixture::new();
        let told_end = |f: &mut Fixture, round| {
            f.acceptor.on_confirm(LEADER, ballot(round), 5, &mut f.fx);
            match f.fx.sends_after_sync.pop() {
                Some((_, Message::ConfirmAck { told_end, .. })) => told_end,
                other => panic!("expected a confirmation, got {other:?}"),
            }
        };
        f.p2a(1, 1, 1, &[1, 2, 3]);
        assert_eq!(told_end(&mut f, 1), Slot(0));
        f.acceptor.on_quorum_read(NodeId(3), 7, 0, &f.log, &mut f.fx);
        assert_eq!(told_end(&mut f, 1), Slot(4));
        let slot = |p: super::super::message::PValue| super::super::record::RecoveredSlot {
            slot: p.slot,
            ballot: p.ballot,
            value: p.value,
            chosen: false,
        };
        let tail = f.log.accepted_from(Slot(1), Ballot::NONE).map(slot).collect();
        let recovered = Recovered { promised: ballot(1), tail, ..Recovered::default() };
        let log = Log::new(&recovered, &mut f.fx);
        let acceptor = Acceptor::new(&recovered, &log, LEASE_US, 0);
        let mut again = Fixture { acceptor, log, fx: Effects::new(ME) };
        assert_eq!(told_end(&mut again, 1), Slot(4));
        assert_eq!(told_end(&mut f, 2), Slot(0));
    }

    /// Votes told under a lease would show others what its leader does not know of. Before it, they are told
    /// with the grant; and a scout of another node is put off until it has run out.
    #[test]
    fn a_grant_binds_and_tells() {
        let mut f = Fixture::new();
        f.p2a(1, 1, 1, &[1, 2]);
        f.acceptor.on_quorum_read(NodeId(3), 7, 10, &f.log, &mut f.fx);
        f.acceptor.on_lease_request(LEADER, ballot(1), 5, LEASE_US);
        f.fx.sends_after_sync.clear();
        f.acceptor.end_turn(20, &mut f.fx);
        let grant = Message::LeaseGrant { ballot: ballot(1), asked_us: 5, told_end: Slot(3) };
        assert_eq!(f.fx.sends_after_sync.pop(), Some((LEADER, grant)));
        f.p2a(1, 3, 1, &[3]);
        let other = Ballot { round: 2, node: NodeId(3) };
        for (now_us, told, bound) in [(119, Slot(0), true), (120, Slot(4), false)] {
            f.acceptor.on_quorum_read(NodeId(3), 8, now_us, &f.log, &mut f.fx);
            let extent = Extent { end: Slot(4), ballot: ballot(1), accepted_end: told };
            let reply = Message::QuorumReadReply { round: 8, extent };
            assert_eq!(f.fx.sends_after_sync.pop(), Some((NodeId(3), reply)));
            assert_eq!(f.acceptor.is_bound_against(other, now_us), bound);
            assert!(!f.acceptor.is_bound_against(ballot(2), now_us));
        }
    }

    /// An acceptor that was away in phase 1 confirms too, and keeps what it thereby promised:
    /// otherwise reads of an idle cluster could wait for ever for a quorum.
    #[test]
    fn confirming_promises() {
        let mut f = Fixture::new();
        f.acceptor.on_confirm(LEADER, ballot(2), 5, &mut f.fx);
        assert_eq!(f.fx.records, [Record::Promised(ballot(2))]);
        let ack = Message::ConfirmAck { ballot: ballot(2), round: 5, told_end: Slot(0) };
        assert_eq!(f.fx.sends_after_sync.pop(), Some((LEADER, ack)));
        assert_eq!(f.p2a(1, 1, 1, &[7]).promised, ballot(2));
    }
}
