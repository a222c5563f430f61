//! Roles, the members of a cluster, and which sets of acceptors are quorums.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::mutants::{self, Mutant};

use super::ids::NodeId;

/// The roles that a node plays (PMMC, section 2). All three by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Roles {
    pub acceptor: bool,
    pub leader: bool,
    pub replica: bool,
}

impl Roles {
    pub const ALL: Roles = Roles { acceptor: true, leader: true, replica: true };

    /// Whether a node of these roles keeps chosen values: acceptors and replicas do, and serve them
    /// to whoever misses them. A node that only leads keeps nothing but its ballots.
    pub fn learns(self) -> bool {
        self.acceptor || self.replica
    }
}

impl fmt::Display for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named =
            [(self.acceptor, "acceptor"), (self.leader, "leader"), (self.replica, "replica")];
        let names: Vec<&str> =
            named.iter().filter(|(has, _)| *has).map(|(_, name)| *name).collect();
        f.write_str(&names.join("+"))
    }
}

/// One node of the cluster, as the protocol sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Member {
    pub node: NodeId,
    pub roles: Roles,
}

/// Who is in the cluster and what a quorum is. Checked at construction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Membership {
    /// By node id, ascending.
    members: Vec<Member>,
    /// Acceptors that a scout needs.
    phase1: usize,
    /// Acceptors that choose a value.
    phase2: usize,
}

impl Membership {
    /// Checks that every role is played and that each phase-1 quorum meets each phase-2 quorum
    /// (Flexible Paxos: `phase1 + phase2 > n`). `None` for a size means a majority, or what the
    /// other size leaves over.
    pub fn new(
        mut members: Vec<Member>,
        phase1: Option<usize>,
        phase2: Option<usize>,
    ) -> Result<Membership, String> {
        members.sort_by_key(|member| member.node);
        if members.windows(2).any(|pair| pair[0].node == pair[1].node) {
            return Err("two nodes have the same id".into());
        }
        if members.iter().any(|member| member.node == NodeId(0)) {
            return Err("node ids begin at 1".into());
        }
        for (name, plays) in [
            ("acceptor", (|r| r.acceptor) as fn(Roles) -> bool),
            ("leader", |r| r.leader),
            ("replica", |r| r.replica),
        ] {
            if !members.iter().any(|member| plays(member.roles)) {
                return Err(format!("no node has the role {name}"));
            }
        }
        let n = members.iter().filter(|member| member.roles.acceptor).count();
        let majority = n / 2 + 1;
        let (phase1, phase2) = match (phase1, phase2) {
            (None, None) => (majority, majority),
            (Some(phase1), Some(phase2)) => (phase1, phase2),
            (Some(phase1), None) => (phase1, (n + 1).saturating_sub(phase1)),
            (None, Some(phase2)) => ((n + 1).saturating_sub(phase2), phase2),
        };
        for (name, size) in [("phase1", phase1), ("phase2", phase2)] {
            if size < 1 || n < size {
                return Err(format!("a {name} quorum of {size} is impossible with {n} acceptors"));
            }
        }
        if phase1 + phase2 <= n {
            return Err(format!(
                "phase1 ({phase1}) + phase2 ({phase2}) must be more than the {n} acceptors, \
                 or two quorums could miss each other"
            ));
        }
        Ok(Membership { members, phase1, phase2 })
    }

    pub fn members(&self) -> &[Member] {
        &self.members
    }

    pub fn acceptors(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.members.iter().filter(|member| member.roles.acceptor).map(|member| member.node)
    }

    pub fn is_acceptor(&self, node: NodeId) -> bool {
        self.roles(node).is_some_and(|roles| roles.acceptor)
    }

    pub fn roles(&self, node: NodeId) -> Option<Roles> {
        self.members.iter().find(|member| member.node == node).map(|member| member.roles)
    }

    pub fn phase1(&self) -> usize {
        if mutants::is_on(Mutant::SmallQuorum) {
            return self.phase1.saturating_sub(1).max(1);
        }
        self.phase1
    }

    pub fn phase2(&self) -> usize {
        self.phase2
    }

    /// Acceptors that a node must reach to do any good as a leader: both quorums.
    pub fn connected(&self) -> usize {
        self.phase1.max(self.phase2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(n: u16) -> Vec<Member> {
        (1..=n).map(|id| Member { node: NodeId(id), roles: Roles::ALL }).collect()
    }

    #[test]
    fn majorities_by_default() {
        for (n, majority) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (9, 5)] {
            let membership = Membership::new(members(n), None, None).unwrap();
            assert_eq!((membership.phase1(), membership.phase2()), (majority, majority));
        }
    }

    /// Quorums that can miss each other would choose two values for a slot.
    #[test]
    fn quorums_must_intersect() {
        assert!(Membership::new(members(5), Some(2), Some(3)).is_err());
        assert!(Membership::new(members(5), Some(3), Some(3)).is_ok());
        let flexible = Membership::new(members(5), None, Some(2)).unwrap();
        assert_eq!((flexible.phase1(), flexible.phase2()), (4, 2));
        assert!(Membership::new(members(3), Some(4), Some(1)).is_err());
        assert!(Membership::new(members(3), None, Some(0)).is_err());
    }

    #[test]
    fn every_role_is_needed_and_ids_are_unique() {
        let only = |acceptor, leader, replica| {
            vec![Member { node: NodeId(1), roles: Roles { acceptor, leader, replica } }]
        };
        assert!(Membership::new(only(true, true, false), None, None).is_err());
        assert!(Membership::new(only(false, true, true), None, None).is_err());
        let mut twice = members(2);
        twice[1].node = NodeId(1);
        assert!(Membership::new(twice, None, None).is_err());
    }
}
