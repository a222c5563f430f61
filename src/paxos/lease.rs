//! Leader leases: reads that the leader answers alone, without asking anybody (Gray and Cheriton, SOSP
//! 1989; Chandra, Griesemer and Redstone, *Paxos Made Live*, PODC 2007, section 5.2).
//!
//! An acceptor that grants a lease to a ballot promises nothing to other nodes until the lease ends on
//! its own clock. The leader holds the lease while enough grants run, on its clock and counted from when
//! it asked: so many that they meet each phase-1 quorum. Until then no other leader gets through phase 1,
//! and so none can have chosen anything.
//!
//! What is assumed of clocks is their rate alone: each runs too fast or too slow by at most
//! `clock_error_permille`. An acceptor whose clock is fast lets go early, a leader whose clock is slow
//! stops late; so the leader counts a lease of `L` as `L * (1000 - error) / (1000 + error)`.
//!
//! 1. A restarted acceptor has forgotten its grants: it promises nothing for one lease.
//! 2. Others than the leader may find out what is chosen by votes that they are told (`quorum_reads`). An
//!    acceptor whose grant runs tells none, and a grant says which votes were told before it.
//! 3. The clock must be read after the question came: if a process is halted in between, what it read is
//!    too early by as long. So both sides act at the end of a turn, which brings a time of its own.
//!
//! A leader that stops says so, and its grants end. One that dies leaves them behind: the next leader waits
//! for one lease at most. A node competes under a new ballot while it is granted a lease under the old one:
//! it has stopped using that.

use std::collections::BTreeMap;

use super::ids::{Ballot, NodeId};

/// How leases are configured: the same at all nodes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct LeaseConfig {
    /// How long an acceptor is bound, on its clock; 0 for no leases.
    pub lease_us: u64,
    /// How much too fast or too slow a clock may run, in thousandths.
    pub clock_error_permille: u64,
}

impl LeaseConfig {
    pub fn is_on(self) -> bool {
        0 < self.lease_us
    }

    /// How long the leader counts on a grant, on its clock.
    fn leader_us(self) -> u64 {
        let error = self.clock_error_permille;
        self.lease_us * (1000 - error.min(1000)) / (1000 + error)
    }
}

/// The leader's side: what it was granted under its ballot.
#[derive(Clone, Debug, Hash)]
pub struct Lease {
    config: LeaseConfig,
    /// By acceptor: when the leader asked for the last grant that came.
    grants: BTreeMap<NodeId, u64>,
}

impl Lease {
    pub fn new(config: LeaseConfig) -> Lease {
        Lease { config, grants: BTreeMap::new() }
    }

    pub fn config(&self) -> LeaseConfig {
        self.config
    }

    /// Under another ballot nothing is granted yet.
    pub fn reset(&mut self) {
        self.grants.clear();
    }

    /// An acceptor granted what was asked for at `asked_us`.
    pub fn on_grant(&mut self, from: NodeId, asked_us: u64) {
        let granted = self.grants.entry(from).or_default();
        *granted = (*granted).max(asked_us);
    }

    /// Whether the grant of this acceptor runs.
    pub fn runs(&self, acceptor: NodeId, now_us: u64) -> bool {
        let leader_us = self.config.leader_us();
        let runs = |asked_us: &u64| (*asked_us..*asked_us + leader_us).contains(&now_us);
        self.grants.get(&acceptor).is_some_and(runs)
    }
}

/// The acceptor's side: to whom it is bound.
#[derive(Clone, Debug, Hash)]
pub struct Grants {
    lease_us: u64,
    /// To which ballot, and until when on our clock.
    grant: Option<(Ballot, u64)>,
    /// What leaders asked for in this turn: who, under which ballot, and when it asked.
    asked: Vec<(NodeId, Ballot, u64)>,
}

impl Grants {
    /// `promised`: what the acceptor recovered. It may have granted a lease to that ballot.
    pub fn new(lease_us: u64, promised: Ballot, now_us: u64) -> Grants {
        let bound = 0 < lease_us && !promised.is_none();
        let grant = bound.then_some((promised, now_us + lease_us));
        Grants { lease_us, grant, asked: Vec::new() }
    }

    /// The leader of `ballot`, which is promised, asks for a lease of `lease_us`. One that counts on more
    /// than this acceptor remembers over a restart gets none.
    pub fn ask(&mut self, from: NodeId, ballot: Ballot, asked_us: u64, lease_us: u64) {
        if 0 < lease_us && lease_us <= self.lease_us {
            self.asked.push((from, ballot, asked_us));
        }
    }

    /// Whether leaders asked in this turn.
    pub fn are_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    /// What is granted now: to whom, under which ballot, and when it asked.
    pub fn grant(&mut self, promised: Ballot, now_us: u64) -> Vec<(NodeId, Ballot, u64)> {
        let mut asked = std::mem::take(&mut self.asked);
        asked.retain(|(_, ballot, _)| *ballot == promised);
        if !asked.is_empty() {
            self.grant = Some((promised, now_us + self.lease_us));
        }
        asked
    }

    /// The leader of `ballot` leads no more.
    pub fn release(&mut self, ballot: Ballot) {
        self.asked.retain(|(_, asked, _)| *asked != ballot);
        self.grant.take_if(|(granted, _)| *granted == ballot);
    }

    /// Whether a grant runs.
    pub fn is_bound(&self, now_us: u64) -> bool {
        self.grant.is_some_and(|(_, until_us)| now_us < until_us)
    }

    /// Whether nothing may be promised to the node of `ballot` now.
    pub fn forbids(&self, ballot: Ballot, now_us: u64) -> bool {
        self.is_bound(now_us) && self.grant.is_some_and(|(granted, _)| granted.node != ballot.node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINE: Ballot = Ballot { round: 3, node: NodeId(1) };
    const OTHER: Ballot = Ballot { round: 4, node: NodeId(2) };

    /// The lease is over at the leader before it is over at any acceptor, however wrong both clocks are
    /// within their bound.
    #[test]
    fn the_leader_stops_first() {
        for error in [0, 1, 10, 200, 500] {
            let config = LeaseConfig { lease_us: 1_000_000, clock_error_permille: error };
            let mut lease = Lease::new(config);
            let asked_us = 77;
            lease.on_grant(NodeId(1), asked_us);
            let last_us = asked_us + config.leader_us() - 1;
            assert!(lease.runs(NodeId(1), asked_us) && lease.runs(NodeId(1), last_us));
            assert!(!lease.runs(NodeId(1), last_us + 1) && !lease.runs(NodeId(2), last_us));
            // True time at both, when the leader's clock is as slow and the acceptor's as fast as may be.
            let leader_true_us = (last_us - asked_us) * 1000 / (1000 - error);
            let acceptor_true_us = config.lease_us * 1000 / (1000 + error);
            assert!(leader_true_us < acceptor_true_us, "{error}");
        }
    }

    /// A grant that comes late counts from when it was asked for, and an older one takes nothing back.
    #[test]
    fn grants_count_from_the_question() {
        let mut lease = Lease::new(LeaseConfig { lease_us: 100, clock_error_permille: 0 });
        lease.on_grant(NodeId(1), 50);
        lease.on_grant(NodeId(1), 20);
        assert!(lease.runs(NodeId(1), 149) && !lease.runs(NodeId(1), 150));
    }

    /// Bound to one node, an acceptor promises to no other until the grant has run out, or was released.
    #[test]
    fn a_grant_binds() {
        let mut grants = Grants::new(100, Ballot::NONE, 0);
        assert!(!grants.is_bound(0));
        grants.ask(NodeId(1), MINE, 7, 100);
        grants.ask(NodeId(2), OTHER, 8, 100);
        grants.ask(NodeId(1), MINE, 9, 101);
        assert_eq!(grants.grant(MINE, 10), [(NodeId(1), MINE, 7)]);
        assert!(grants.forbids(OTHER, 109) && !grants.forbids(OTHER, 110));
        assert!(!grants.forbids(Ballot { round: 9, node: NodeId(1) }, 50));
        grants.release(OTHER);
        assert!(grants.forbids(OTHER, 109));
        grants.release(MINE);
        assert!(!grants.forbids(OTHER, 50));
    }

    /// What a former life granted is not known any more: so nothing is promised for as long as it may run.
    #[test]
    fn a_restarted_acceptor_waits() {
        let grants = Grants::new(100, MINE, 1000);
        assert!(grants.forbids(OTHER, 1099) && !grants.forbids(OTHER, 1100));
        assert!(!Grants::new(0, MINE, 1000).forbids(OTHER, 1000));
        assert!(!Grants::new(100, Ballot::NONE, 1000).forbids(OTHER, 1000));
    }
}
