//! Ballot leader election by heartbeat rounds (Omni-Paxos, EuroSys 2023, section 5).
//!
//! Liveness only: whatever is elected here, `acceptor`, `scout` and `commander` stay safe.
//!
//! Each node asks all others twice an election timeout, *once a round*. A peer is *heard* while its last
//! answer is to one of the last two rounds; that answer says what the peer is taken for. At the end of
//! each round a node judges:
//!
//! - It is *quorum-connected* if it hears acceptors enough for either quorum (itself included).
//! - It is *happy* if it hears its leader and that is happy itself; the leader is happy if it is
//!   quorum-connected. Answers carry the highest leader ballot known, so ballots spread to nodes that
//!   cannot hear the leader.
//! - It *competes*, with a ballot above all it knows, if it is not happy, nobody whom it hears is, and
//!   it is quorum-connected and fit (`Health`; or nobody fit whom it hears could lead either).
//!
//! So a leader that lost its quorum is replaced by whoever reaches one, be its log old or new; and a
//! node that merely cannot hear the leader does not disturb a cluster that has one (the "chained"
//! scenario). One-way cuts count as cuts: an answer needs both ways.
//!
//! How long that takes at most, after links are cut, when messages take no time: a silent peer is given
//! up after one to one and a half election timeouts (two rounds without an answer, and what is left of
//! the round in which it gave the last), so after that a leader without a quorum knows. Another half
//! later whoever hears that leader knows too, and after one more half whoever heard of a leader only
//! through others. `tests/connectivity.rs` measures it.
//!
//! Only those who are happy tell of a leader. Others may name the ballot of one that has gone, or that
//! never came to lead; a leader that hears of such a ballot above its own takes one above that.
//!
//! While the configuration changes, a quorum means one of each configuration that governs or will govern.
//!
//! Departures from the paper: two rounds a timeout instead of one, so that what one node says of another
//! is younger, and silence no shorter; a higher ballot heard by any message is followed until its node
//! has had time to answer, which spares most duels; and after a broken connection to the leader (its
//! process died) the next rounds are short.

use std::collections::BTreeMap;

use crate::mutants::{self, Mutant};

use super::configurations::Configurations;
use super::effects::Effects;
use super::ids::{Ballot, NodeId, Slot};
use super::message::{Health, Message, Standing, StateStanding};

#[derive(Clone, Debug, Hash)]
pub struct Election {
    me: NodeId,
    can_lead: bool,
    /// `Optimisations::quorum_connected_election`.
    connected_only: bool,
    round_us: u64,
    round: u64,
    deadline_us: u64,
    /// The last answer of each peer, if it is to one of the last rounds.
    heard: BTreeMap<NodeId, Answer>,
    /// Our own last ballot.
    ballot: Ballot,
    /// The highest ballot that is, or wants to be, the leader's.
    leader: Ballot,
    /// The highest ballot that anybody named.
    named: Ballot,
    happy: bool,
    /// Ends of rounds still to come at which the leader may not have had time to answer.
    grace: u64,
    /// Short rounds still to come, after the connection to the leader broke.
    short_rounds: u32,
    /// The leader's ballot is our own, and we took it in this life of the process and still use it. A
    /// ballot of before a restart is spent: what it proposed is forgotten.
    leading: bool,
    quorum_connected: bool,
    /// What keeps us from leading well, if anything does.
    health: Health,
}

#[derive(Clone, Debug, Hash)]
struct Answer {
    /// The round that it answers.
    round: u64,
    standing: Standing,
}

/// Heartbeat rounds in an election timeout: a peer is silent when it answered none of so many.
const ROUNDS: u64 = 2;

/// Short rounds after the connection to the leader broke. The first often meets neighbours that have
/// not noticed yet and still say that they are happy.
const SHORT_ROUNDS: u32 = 3;

/// What the end of a round asks of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundOutcome {
    Nothing,
    /// Take this ballot, above all known ones, and scout.
    Compete(Ballot),
}

impl Election {
    /// `ballot`: the last one that this node took before its restart; `leader`: the highest one that
    /// it knew. `jitter_us` is when the first round ends, so that nodes started together do not
    /// compete together.
    pub fn new(
        me: NodeId,
        can_lead: bool,
        ballot: Ballot,
        leader: Ballot,
        timeout_us: u64,
        now_us: u64,
        jitter_us: u64,
    ) -> Election {
        Election {
            me,
            can_lead,
            connected_only: true,
            round_us: (timeout_us / ROUNDS).max(1),
            round: 0,
            deadline_us: now_us + jitter_us,
            heard: BTreeMap::new(),
            ballot,
            leader: leader.max(ballot),
            named: Ballot::NONE,
            happy: false,
            grace: 0,
            short_rounds: 0,
            leading: false,
            quorum_connected: false,
            health: Health::default(),
        }
    }

    /// The configuration has changed: this node has the role, or has it no more.
    pub fn set_can_lead(&mut self, can_lead: bool) {
        self.can_lead = can_lead;
    }

    /// See `Optimisations`.
    pub fn set_connected_only(&mut self, connected_only: bool) {
        self.connected_only = connected_only;
    }

    pub fn deadline_us(&self) -> u64 {
        self.deadline_us
    }

    /// The ballot of the leader that this node follows.
    pub fn leader(&self) -> Ballot {
        self.leader
    }

    /// Whether that leader is alive and quorum-connected, as far as this node knows.
    pub fn is_happy(&self) -> bool {
        self.happy
    }

    pub fn is_quorum_connected(&self) -> bool {
        self.quorum_connected
    }

    /// What a peer said of itself last, if it is heard.
    pub fn heard(&self, peer: NodeId) -> Option<&Standing> {
        self.heard.get(&peer).map(|answer| &answer.standing)
    }

    /// The peers that are heard, and what they said last.
    pub fn all_heard(&self) -> impl Iterator<Item = (NodeId, &Standing)> {
        self.heard.iter().map(|(&peer, answer)| (peer, &answer.standing))
    }

    pub fn health(&self) -> Health {
        self.health
    }

    pub fn set_health(&mut self, health: Health) {
        self.health = health;
    }

    /// The ballot above all that this node knows of.
    pub fn next_ballot(&self) -> Ballot {
        self.leader.max(self.ballot).max(self.named).next_for(self.me)
    }

    /// This node has taken `ballot`.
    pub fn took(&mut self, ballot: Ballot) {
        assert!(self.ballot < ballot && self.leader < ballot);
        self.ballot = ballot;
        self.leader = ballot;
        self.happy = true;
        self.grace = 0;
        self.leading = true;
    }

    /// This node stops leading although it knows no higher ballot.
    pub fn resign(&mut self) {
        self.leading = false;
        self.happy = false;
        self.grace = 0;
    }

    /// A message of any kind showed this ballot. Returns whether it is a new leader's.
    pub fn observe(&mut self, ballot: Ballot) -> bool {
        if ballot <= self.leader {
            return false;
        }
        self.leader = ballot;
        self.happy = true;
        self.grace = ROUNDS;
        self.leading = false;
        true
    }

    /// What this node says of itself; how far its log and state are, its owner knows.
    pub fn standing(&self, first_unchosen: Slot, epoch: u64, state: StateStanding) -> Standing {
        Standing {
            ballot: self.ballot,
            leader: self.leader,
            happy: self.happy,
            first_unchosen,
            epoch,
            hears: self.heard.keys().copied().collect(),
            route: self.route(),
            health: self.health,
            state,
        }
    }

    /// The nodes over which this node's messages reach its leader, in order, the leader last: the shortest way
    /// that those know who are heard. Empty if it leads itself, or there is none.
    pub fn route(&self) -> Vec<NodeId> {
        if self.leader.is_none() || self.leader.node == self.me {
            return Vec::new();
        }
        let direct = || vec![self.leader.node];
        if self.happy && self.heard(self.leader.node).is_some() {
            return direct();
        }
        let leads_there = |(peer, standing): &(NodeId, &Standing)| {
            let passes = |node: &NodeId| node == peer || *node == self.me;
            standing.leader == self.leader
                && standing.route.last() == Some(&self.leader.node)
                && !standing.route.iter().any(passes)
        };
        let over = self.all_heard().filter(leads_there);
        let shortest = over.min_by_key(|(_, standing)| standing.route.len());
        match shortest {
            Some((peer, standing)) => [&[peer], &*standing.route].concat(),
            // It may be on its way to be heard.
            None if self.happy => direct(),
            None => Vec::new(),
        }
    }

    pub fn on_reply(&mut self, from: NodeId, round: u64, standing: Standing) {
        // Of an earlier life of this process, or too late to say anything.
        let foreign = self.round < round || round + ROUNDS <= self.round;
        let newer = self.heard.get(&from).is_none_or(|answer| answer.round < round);
        if !foreign && newer {
            self.heard.insert(from, Answer { round, standing });
        }
    }

    /// The connection to a peer ended. If it was our leader, its process is probably gone: ask the
    /// others at once, and judge soon.
    pub fn on_peer_down(
        &mut self,
        peer: NodeId,
        now_us: u64,
        configurations: &Configurations,
        fx: &mut Effects,
    ) {
        self.heard.remove(&peer);
        // Once only: a leader's process that dies again and again would put the judgement off each
        // time.
        if self.leader.node != peer || self.leader.is_none() || !self.happy {
            return;
        }
        self.happy = false;
        self.grace = 0;
        self.short_rounds = SHORT_ROUNDS;
        self.begin_round(now_us, configurations, fx);
    }

    /// A round that only asks whether the others have lost the leader too. Candidates take turns,
    /// lowest id first, so that the first one's P1a reaches the others before they compete themselves.
    fn short_round_us(&self, configurations: &Configurations) -> u64 {
        let lost = self.leader.node;
        let members = configurations.members().into_iter().map(|(member, _)| member);
        let candidates = members.filter(|member| member.roles.leader && member.node != lost);
        let rank = candidates.take_while(|member| member.node != self.me).count() as u64;
        (self.round_us * ROUNDS / 8 * (rank + 1)).min(self.round_us)
    }

    /// Judges the round that ends and begins the next.
    pub fn end_round(
        &mut self,
        now_us: u64,
        configurations: &Configurations,
        fx: &mut Effects,
    ) -> RoundOutcome {
        let round = self.round;
        self.heard.retain(|_, answer| round < answer.round + ROUNDS);
        let heard = |node: NodeId| node == self.me || self.heard.contains_key(&node);
        self.quorum_connected =
            configurations.is_connected(heard) || mutants::is_on(Mutant::ElectUnconnected);

        let named = self.all_heard().map(|(_, standing)| standing.leader).max();
        self.named = self.named.max(named.unwrap_or_default());
        let (able, alone) = match self.connected_only {
            true => self.judge(configurations),
            false => self.judge_by_silence(),
        };
        self.grace = self.grace.saturating_sub(1);
        if self.happy {
            self.short_rounds = 0;
        }
        self.begin_round(now_us, configurations, fx);
        if able && (alone || self.is_outbid()) {
            RoundOutcome::Compete(self.next_ballot())
        } else {
            RoundOutcome::Nothing
        }
    }

    /// Whether this node may compete, and whether there is no leader, as far as anybody tells.
    fn judge(&mut self, configurations: &Configurations) -> (bool, bool) {
        // Whoever is not happy names a ballot that may be nobody's any more.
        let happy = self.all_heard().filter(|(_, standing)| standing.happy);
        let highest = happy.map(|(_, standing)| standing.leader).max();
        self.observe(highest.unwrap_or_default());
        self.happy = self.judge_happiness(configurations);
        let alone =
            !self.happy && (!self.somebody_is_happy() || mutants::is_on(Mutant::ElectOverLeader));
        let able = self.can_lead && self.quorum_connected && self.may_lead(configurations);
        (able, alone)
    }

    /// The same without asking whether anybody reaches a quorum: there is a leader if it is heard.
    fn judge_by_silence(&mut self) -> (bool, bool) {
        self.happy = match self.leader.node == self.me {
            true => self.leading,
            false => self.heard(self.leader.node).is_some() || 0 < self.grace,
        };
        (self.can_lead, !self.happy)
    }

    /// Whether this node leads, and somebody holds to a higher ballot whose leader is gone. It would
    /// refuse ours for ever: better to take one above that at once than to be preempted by it later.
    fn is_outbid(&self) -> bool {
        self.leading && self.happy && self.leader.node == self.me && self.leader < self.named
    }

    fn judge_happiness(&self, configurations: &Configurations) -> bool {
        if self.leader.node == self.me {
            let follows = |node: NodeId| {
                node == self.me || self.heard(node).is_some_and(|it| it.leader <= self.ballot)
            };
            let followed =
                configurations.is_connected(follows) || mutants::is_on(Mutant::ElectUnconnected);
            return self.leading && followed;
        }
        self.word_of(self.leader).unwrap_or(0 < self.grace)
    }

    /// Whether the leader of `ballot` says that it is happy; `None` if it is not heard with that ballot.
    fn word_of(&self, ballot: Ballot) -> Option<bool> {
        let standing = self.heard(ballot.node)?;
        (standing.ballot == ballot).then_some(standing.happy)
    }

    /// Whether anybody who is heard has a leader, unless that leader itself tells us otherwise.
    fn somebody_is_happy(&self) -> bool {
        self.all_heard().any(|(_, it)| it.happy && self.word_of(it.leader) != Some(false))
    }

    /// Whether this node is fit, or nobody fit whom it hears could lead in its place.
    fn may_lead(&self, configurations: &Configurations) -> bool {
        self.health.is_fit()
            || !self.all_heard().any(|(node, _)| self.could_lead(node, configurations))
            || mutants::is_on(Mutant::LeadUnfit)
    }

    /// Whether a peer that is heard is fit, reaches a quorum, and has the role.
    pub fn could_lead(&self, peer: NodeId, configurations: &Configurations) -> bool {
        let Some(standing) = self.heard(peer) else { return false };
        let reaches = |node: NodeId| node == peer || standing.hears.contains(&node);
        standing.health.is_fit()
            && configurations.roles(peer).is_some_and(|roles| roles.leader)
            && configurations.is_connected(reaches)
    }

    fn begin_round(&mut self, now_us: u64, configurations: &Configurations, fx: &mut Effects) {
        self.round += 1;
        self.deadline_us = now_us + self.round_us;
        if 0 < self.short_rounds {
            self.short_rounds -= 1;
            self.deadline_us = now_us + self.short_round_us(configurations);
        }
        let round = self.round;
        for node in configurations.nodes() {
            if node != self.me {
                fx.send(node, Message::HeartbeatRequest { round });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::configurations::fixtures::configurations;
    use super::*;

    fn ballot(round: u64, node: u16) -> Ballot {
        Ballot { round, node: NodeId(node) }
    }

    fn standing(own: Ballot, leader: Ballot, happy: bool) -> Standing {
        let first_unchosen = Slot::FIRST;
        let (health, state) = (Health::default(), StateStanding::default());
        // Everybody else of three.
        let hears = vec![NodeId(1), NodeId(2), NodeId(3)];
        let (ballot, epoch) = (own, 1);
        let route = if happy && own != leader { vec![leader.node] } else { vec![] };
        Standing { ballot, leader, happy, first_unchosen, epoch, hears, route, health, state }
    }

    /// Node 1 of `n`, in its first round, following `leader`.
    fn election(n: u16, leader: Ballot) -> (Election, Configurations, Effects) {
        let (membership, mut fx) = (configurations(n, None, 4), Effects::new(NodeId(1)));
        let mut election = Election::new(NodeId(1), true, Ballot::NONE, Ballot::NONE, 100, 0, 10);
        election.observe(leader);
        election.end_round(10, &membership, &mut fx);
        (election, membership, fx)
    }

    fn end_round(
        e: &mut Election,
        m: &Configurations,
        answers: &[(u16, Standing)],
    ) -> RoundOutcome {
        for (node, standing) in answers {
            e.on_reply(NodeId(*node), e.round, standing.clone());
        }
        let now = e.deadline_us;
        let outcome = e.end_round(now, m, &mut Effects::new(NodeId(1)));
        assert!(now < e.deadline_us, "a deadline that does not move is a busy loop");
        outcome
    }

    const OLD: Ballot = Ballot { round: 3, node: NodeId(3) };

    /// While the leader answers, nobody competes; when it does not, and nobody else is happy, a
    /// quorum-connected node does, with a higher ballot.
    #[test]
    fn competes_when_the_leader_is_silent() {
        let (mut e, m, _) = election(3, OLD);
        let alive = [(2, standing(ballot(0, 0), OLD, true)), (3, standing(OLD, OLD, true))];
        assert_eq!(end_round(&mut e, &m, &alive), RoundOutcome::Nothing);
        let silent = [(2, standing(ballot(0, 0), OLD, false))];
        assert_eq!(
            end_round(&mut e, &m, &silent),
            RoundOutcome::Nothing,
            "silent for one round only"
        );
        assert_eq!(end_round(&mut e, &m, &silent), RoundOutcome::Compete(ballot(4, 1)));
    }

    /// An answer that takes longer than a round, and less than an election timeout, is one.
    #[test]
    fn late_answers_count() {
        let (mut e, m, _) = election(3, OLD);
        for _ in 0..5 {
            let late = e.round;
            end_round(&mut e, &m, &[]);
            for (node, own) in [(2, ballot(0, 0)), (3, OLD)] {
                e.on_reply(NodeId(node), late, standing(own, OLD, true));
            }
        }
        assert!(e.is_quorum_connected() && e.is_happy());
        end_round(&mut e, &m, &[]);
        let too_late = e.round - 2;
        e.on_reply(NodeId(2), too_late, standing(ballot(0, 0), OLD, true));
        end_round(&mut e, &m, &[]);
        assert!(!e.is_quorum_connected());
        e.on_reply(NodeId(2), u64::MAX, standing(ballot(0, 0), OLD, true));
        assert_eq!(e.heard(NodeId(2)), None, "no answer to what was asked");
    }

    /// A neighbour has not heard yet that the leader lost its quorum; we have, from the leader itself.
    #[test]
    fn the_leaders_own_word_counts_most() {
        let (mut e, m, _) = election(5, OLD);
        let behind = (2, standing(ballot(0, 0), OLD, true));
        let answers = [behind, (3, standing(OLD, OLD, false)), (4, standing(OLD, OLD, false))];
        assert_eq!(end_round(&mut e, &m, &answers), RoundOutcome::Compete(ballot(4, 1)));
    }

    /// A node whose disk stalls leaves the lead to others, unless there is no other who could have it.
    #[test]
    fn an_unfit_node_competes_for_want_of_others_only() {
        let stalled = Health { disk_stalled: true, ..Health::default() };
        let fit = standing(ballot(0, 0), OLD, false);
        let alone = Standing { hears: vec![], ..fit.clone() };
        let unfit = Standing { health: stalled, ..fit.clone() };
        for (other, competes) in [(fit, false), (alone, true), (unfit, true)] {
            let (mut e, m, _) = election(3, OLD);
            e.set_health(stalled);
            end_round(&mut e, &m, &[]);
            let outcome = end_round(&mut e, &m, &[(2, other.clone())]);
            assert_eq!(outcome != RoundOutcome::Nothing, competes, "{other:?}");
        }
    }

    /// Chained: we do not hear the leader, but a neighbour does. Competing would only disturb.
    #[test]
    fn does_not_compete_while_a_neighbour_is_happy() {
        let (mut e, m, _) = election(3, OLD);
        let chained = [(2, standing(ballot(0, 0), OLD, true))];
        for _ in 0..5 {
            assert_eq!(end_round(&mut e, &m, &chained), RoundOutcome::Nothing);
        }
    }

    /// Links along a chain: messages reach the leader over as many nodes as it takes, by the shortest way,
    /// and never over a node that would send them back.
    #[test]
    fn a_route_goes_over_those_that_know_one() {
        let (mut e, m, _) = election(5, OLD);
        assert_eq!(e.route(), [NodeId(3)], "the leader itself, as long as it may be there");
        let over = |route: &[u16]| Standing {
            route: route.iter().copied().map(NodeId).collect(),
            ..standing(ballot(0, 0), OLD, false)
        };
        let routes = |e: &mut Election, answers: &[(u16, &[u16])]| {
            let answers: Vec<_> = answers.iter().map(|(node, it)| (*node, over(it))).collect();
            (0..2).for_each(|_| _ = end_round(e, &m, &answers));
            e.route().into_iter().map(|it| it.0).collect::<Vec<_>>()
        };
        assert_eq!(routes(&mut e, &[(2, &[]), (4, &[5, 3])]), [4, 5, 3]);
        assert_eq!(routes(&mut e, &[(2, &[3]), (4, &[5, 3])]), [2, 3]);
        for no_way in [&[][..], &[1, 3], &[2, 3], &[5, 4]] {
            assert_eq!(routes(&mut e, &[(2, no_way)]), [0; 0]);
        }
    }

    /// Without a quorum there is no use in competing.
    #[test]
    fn does_not_compete_alone() {
        let (mut e, m, _) = election(3, OLD);
        for _ in 0..5 {
            assert_eq!(end_round(&mut e, &m, &[]), RoundOutcome::Nothing);
        }
        assert!(!e.is_quorum_connected());
    }

    /// Quorum-loss: the leader still answers us, but it lost its quorum and says so.
    #[test]
    fn competes_when_the_leader_has_lost_its_quorum() {
        let (mut e, m, _) = election(5, OLD);
        let answers = [
            (2, standing(ballot(0, 0), OLD, false)),
            (3, standing(OLD, OLD, false)),
            (4, standing(ballot(0, 0), OLD, false)),
        ];
        assert_eq!(end_round(&mut e, &m, &answers), RoundOutcome::Compete(ballot(4, 1)));
    }

    /// A leader without a quorum is not happy, so that others may replace it.
    #[test]
    fn a_leader_without_quorum_is_unhappy() {
        let (mut e, m, _) = election(3, Ballot::NONE);
        let RoundOutcome::Compete(mine) =
            end_round(&mut e, &m, &[(2, standing(ballot(0, 0), Ballot::NONE, false))])
        else {
            panic!("expected to compete")
        };
        e.took(mine);
        end_round(&mut e, &m, &[(2, standing(ballot(0, 0), mine, true))]);
        end_round(&mut e, &m, &[]);
        assert!(e.is_happy());
        end_round(&mut e, &m, &[]);
        assert!(!e.is_happy());
    }

    /// Node 3 took a ballot that nobody promised, and comes back with it: the leader that all others hear
    /// goes on, with a ballot above that one.
    #[test]
    fn the_ballot_of_nobodys_leader_deposes_none() {
        let (mut e, m, _) = election(3, Ballot::NONE);
        let alone = [(2, standing(ballot(0, 0), Ballot::NONE, false))];
        let RoundOutcome::Compete(mine) = end_round(&mut e, &m, &alone) else {
            panic!("expected to compete")
        };
        e.took(mine);
        let dead = ballot(9, 3);
        let follower = (2, standing(ballot(0, 0), mine, true));
        let back = [follower, (3, standing(dead, dead, false))];
        assert_eq!(end_round(&mut e, &m, &back), RoundOutcome::Compete(ballot(10, 1)));
        // And those who follow go on to follow.
        let (mut e, m, _) = election(3, OLD);
        let back = [(2, standing(dead, dead, false)), (3, standing(OLD, OLD, true))];
        assert_eq!(end_round(&mut e, &m, &back), RoundOutcome::Nothing);
        assert_eq!((e.leader(), e.is_happy()), (OLD, true));
    }

    /// Its connection to the leader broken, a node asks the others at once and judges soon.
    #[test]
    fn a_broken_connection_to_the_leader_hurries() {
        let (mut e, m, mut fx) = election(3, OLD);
        let alive = [(2, standing(ballot(0, 0), OLD, true)), (3, standing(OLD, OLD, true))];
        end_round(&mut e, &m, &alive);
        let now = e.deadline_us - 45;
        e.on_peer_down(NodeId(3), now, &m, &mut fx);
        assert!(e.deadline_us <= now + 100 / 8);
        let soon = e.deadline_us;
        e.on_peer_down(NodeId(3), now + 5, &m, &mut fx);
        assert_eq!(e.deadline_us, soon, "a connection that flaps must not put the judgement off");
        // The neighbour has not noticed yet; a moment later it has.
        let unaware = [(2, standing(ballot(0, 0), OLD, true))];
        assert_eq!(end_round(&mut e, &m, &unaware), RoundOutcome::Nothing);
        assert!(e.deadline_us <= soon + 100 / 8);
        let silent = [(2, standing(ballot(0, 0), OLD, false))];
        assert_eq!(end_round(&mut e, &m, &silent), RoundOutcome::Compete(ballot(4, 1)));
    }

    /// Where the others answer more slowly than that, full rounds come back by themselves.
    #[test]
    fn short_rounds_come_to_an_end() {
        let (mut e, m, mut fx) = election(3, OLD);
        e.on_peer_down(NodeId(3), 20, &m, &mut fx);
        for _ in 0..SHORT_ROUNDS {
            end_round(&mut e, &m, &[]);
        }
        let before = e.deadline_us;
        end_round(&mut e, &m, &[]);
        assert_eq!(e.deadline_us, before + 50);
    }
}
