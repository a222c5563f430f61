//! The operator of a simulated cluster: nodes are added, promoted, removed and replaced while everything
//! else goes wrong, and those that left are switched off for good as soon as that is said to be safe.
//!
//! Nodes that may be added are there from the beginning, switched off and with an empty log.

use rand::RngExt;
use rand::rngs::StdRng;

use crate::paxos::{Change, Configuration, Configurations, Epochs, NodeId, Roles};

use super::cluster::Cluster;
use super::host::Input;
use super::plan::addresses;

/// How long it takes to write down the members.
const REMEMBER_US: u64 = 20_000;

/// What the data directory of a node says of the members. It is written beside the loop, and so may lag.
#[derive(Default)]
pub(super) struct Remembered {
    written: Option<Epochs>,
    /// On its way to the disk, where it is from this time on.
    writing: Option<(u64, Epochs)>,
}

impl Remembered {
    /// As a node finds it at start.
    pub fn on_disk(&self) -> Option<Epochs> {
        self.written.clone()
    }

    /// A node that starts writes down what it recovered before it does anything else.
    pub fn on_start(&mut self, recovered: &Configurations) {
        if !recovered.is_provisional() {
            self.written = Some(recovered.epochs().clone());
        }
    }

    /// What a node knows after a turn: a new epoch is written down.
    pub fn note(&mut self, now_us: u64, known: &Configurations) {
        self.settle(now_us);
        let newest = self.writing.as_ref().map(|(_, epochs)| epochs).or(self.written.as_ref());
        let is_noted = newest.is_some_and(|it| it.newest_epoch() == known.epochs().newest_epoch());
        if !known.is_provisional() && !is_noted {
            self.writing = Some((now_us + REMEMBER_US, known.epochs().clone()));
        }
    }

    /// The process ends, perhaps before the newest is written.
    pub fn on_end(&mut self, now_us: u64) {
        self.settle(now_us);
        self.writing = None;
    }

    fn settle(&mut self, now_us: u64) {
        if let Some((_, epochs)) = self.writing.take_if(|(at_us, _)| *at_us <= now_us) {
            self.written = Some(epochs);
        }
    }
}

impl Cluster {
    /// The newest configuration that is chosen, whoever knows.
    pub fn latest(&self) -> &Configuration {
        self.checker.latest()
    }

    /// What a node that starts goes by before it has read its log.
    pub(super) fn believed(&self, id: NodeId) -> Configurations {
        let alpha = self.settings.alpha_slots;
        if self.configuration.roles(id).is_some() {
            return Configurations::new(self.configuration.clone(), alpha);
        }
        // Whoever is there when it comes; an operator writes down some of them.
        let others = self.hosts.keys().copied().filter(|node| *node != id);
        let seeds = others.map(|node| (node, addresses(node)));
        let provisional = Configuration::provisional((id, addresses(id)), seeds.collect());
        Configurations::new(provisional.expect("a cluster has members"), alpha)
    }

    /// The operator changes something, as the dice say, if a leader is found and agrees.
    pub fn change_members(&mut self, dice: &mut StdRng) {
        self.switch_off_who_left();
        let Some(leader) = self.leader() else { return };
        let node = self.hosts[&leader].node.as_ref().expect("it leads");
        let known = node.configurations().latest().1.clone();
        let (epoch, members) = (known.epoch(), known.membership().members().to_vec());
        let any = |dice: &mut StdRng, of: Vec<NodeId>| {
            (!of.is_empty()).then(|| of[dice.random_range(0..of.len())])
        };
        let all: Vec<NodeId> = members.iter().map(|member| member.node).collect();
        let is_learner = |roles: Roles| roles.replica && roles != Roles::ALL;
        let learners: Vec<NodeId> =
            members.iter().filter(|it| is_learner(it.roles)).map(|it| it.node).collect();
        let unused = self.hosts.iter().find(|(id, host)| {
            !host.is_used && !known.has_removed(**id) && known.roles(**id).is_none()
        });
        let unused = unused.map(|(id, _)| *id);
        let change = match dice.random_range(0..7) {
            0..=1 => unused.map(|node| Change::Add { node, addresses: addresses(node) }),
            2..=3 => any(dice, learners).map(|node| Change::Promote { node }),
            4 => any(dice, all.clone()).map(|node| Change::Remove { node }),
            _ => any(dice, all.clone())
                .zip(any(dice, learners))
                .map(|(old, new)| Change::Replace { old, new }),
        };
        let Some(change) = change else { return };
        self.input(leader, Input::Reconfigure(epoch, change.clone()));
        if dice.random_bool(0.2) {
            // And at once another: one of the two must be refused.
            let again = any(dice, all).map(|node| Change::Remove { node });
            self.input(leader, Input::Reconfigure(epoch, again.unwrap_or(change)));
        }
    }

    pub fn transfer(&mut self, dice: &mut StdRng) {
        let Some(leader) = self.leader() else { return };
        let nodes = self.nodes();
        let to = dice.random_bool(0.5).then(|| nodes[dice.random_range(0..nodes.len())]);
        self.input(leader, Input::Transfer(to));
    }

    /// A change was proposed by `leader`: a node that is to be added is started, as a real one may be
    /// before or after.
    pub(super) fn on_change(&mut self, change: &Change) {
        self.coverage.changes += 1;
        if let Change::Add { node, .. } = *change
            && !self.hosts[&node].is_used
        {
            self.host(node).is_used = true;
            self.start(node);
        }
    }

    /// Nodes that left a configuration which is settled are not needed by anybody, ever again.
    pub fn switch_off_who_left(&mut self) {
        let settled = self.hosts.values().filter_map(|host| host.node.as_ref());
        let settled = settled.filter(|node| node.is_settled());
        let Some(latest) = settled
            .map(|node| node.configurations().latest().1.clone())
            .max_by_key(|it| it.epoch())
        else {
            return;
        };
        for id in self.nodes() {
            if latest.has_removed(id) && self.hosts[&id].is_used {
                self.note(|| format!("{id} has left and is switched off for good"));
                self.coverage.departures += 1;
                self.crash(id, false);
                self.host(id).is_used = false;
            }
        }
    }

    /// After a turn: links follow the configurations that a node knows.
    pub(super) fn follow_members(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).expect("a member");
        let Some(node) = &host.node else { return };
        let peers = node.configurations().nodes();
        host.remembered.note(self.now_us, node.configurations());
        if host.peers == peers {
            return;
        }
        let before = std::mem::replace(&mut host.peers, peers.clone());
        for other in self.nodes() {
            if other != id && before.contains(&other) != peers.contains(&other) {
                self.on_link_wanted(id, other, peers.contains(&other));
            }
        }
    }
}
