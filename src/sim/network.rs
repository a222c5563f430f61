//! The connections between the nodes, and what can be done to them.

use std::collections::VecDeque;

use rand::RngExt;

use crate::paxos::{Message, NodeId};
use crate::wire::{frame, peer};

use super::cluster::{Cluster, Happening};
use super::host::Input;
use super::link::{Link, Parcel};

/// When a lost packet is sent again if nothing is sent behind it, in hundredths of an election timeout: Linux
/// waits for 200 ms at least, which is two of the default timeouts.
const RETRANSMISSION_PERCENT: u64 = 200;

pub struct Network {
    links: Vec<Link>,
    nodes_len: usize,
    /// Some of the frames sent so far, for `replay`; none are kept if its length may be 0.
    sent: Vec<(NodeId, NodeId, Vec<u8>)>,
    pub sent_len_max: usize,
}

impl Network {
    pub fn new(nodes: &[NodeId], delay_us: (u64, u64)) -> Network {
        let mut links = Vec::new();
        for (i, &a) in nodes.iter().enumerate() {
            links.extend(nodes[i + 1..].iter().map(|&b| Link::new(a, b, delay_us)));
        }
        Network { links, nodes_len: nodes.len(), sent: Vec::new(), sent_len_max: 0 }
    }

    /// Which link is that of `a` and `b`: they lie as `new` makes them.
    fn index(&self, a: NodeId, b: NodeId) -> usize {
        let (low, high) = (usize::from(a.min(b).0) - 1, usize::from(a.max(b).0) - 1);
        let before = low * self.nodes_len - low * (low + 1) / 2;
        before + high - low - 1
    }
}

impl Cluster {
    /// Packets from `a` to `b` are lost from now on.
    pub fn cut(&mut self, a: NodeId, b: NodeId) {
        let link = self.network.index(a, b);
        let state = &mut self.network.links[link];
        let was_cut = state.is_cut();
        let side = state.side(a);
        state.cut[side] = true;
        self.note(|| format!("cut {a}>{b}"));
        if !was_cut {
            for side in 0..2 {
                self.give_up_later(link, side);
            }
        }
    }

    pub fn cut_both(&mut self, a: NodeId, b: NodeId) {
        self.cut(a, b);
        self.cut(b, a);
    }

    pub fn heal(&mut self, a: NodeId, b: NodeId) {
        let link = self.network.index(a, b);
        if self.network.links[link].is_cut() {
            self.network.links[link].cut = [false; 2];
            self.note(|| format!("heal {a}-{b}"));
            for from in 0..2 {
                self.schedule(0, Happening::Arrival { link, from });
            }
            self.dial_later(link);
        }
    }

    pub fn heal_all(&mut self) {
        for link in 0..self.network.links.len() {
            let [a, b] = self.network.links[link].nodes;
            self.heal(a, b);
        }
    }

    /// Only the links for which `keep` says so are left.
    pub fn partition(&mut self, keep: impl Fn(NodeId, NodeId) -> bool) {
        for link in 0..self.network.links.len() {
            let [a, b] = self.network.links[link].nodes;
            if keep(a, b) {
                self.heal(a, b);
            } else {
                self.cut_both(a, b);
            }
        }
    }

    /// The connection of a pair breaks; what was on the way is lost.
    pub fn reset(&mut self, a: NodeId, b: NodeId) {
        let link = self.network.index(a, b);
        self.note(|| format!("the connection {a}-{b} breaks"));
        for side in 0..2 {
            self.network.links[link].pipe[side].clear();
            self.close_side(link, side, false);
        }
    }

    /// Messages of any time before arrive once more. Safety must not lean on connections.
    pub fn replay(&mut self, count: usize) {
        for _ in 0..count.min(self.network.sent.len()) {
            let at = self.dice.random_range(0..self.network.sent.len());
            let (from, to, frame) = self.network.sent[at].clone();
            self.deliver(from, to, &frame);
        }
    }

    /// How many of the frames sent are kept for `replay`.
    pub fn keep_sent(&mut self, len_max: usize) {
        self.network.sent_len_max = len_max;
    }

    pub fn delay(&mut self, a: NodeId, b: NodeId, delay_us: (u64, u64)) {
        let link = self.network.index(a, b);
        self.network.links[link].delay_us = delay_us;
    }

    /// Of a hundred packets between the two so many are lost from now on.
    pub fn lose(&mut self, a: NodeId, b: NodeId, percent: u32) {
        let link = self.network.index(a, b);
        let state = &mut self.network.links[link];
        state.loss_percent = percent;
        if percent != 0 {
            return;
        }
        // What was lost over and over comes through soon now, and holds up no more what is behind it.
        let soon_us = self.now_us + 3 * state.delay_us.1.max(1);
        for side in 0..2 {
            let late = state.pipe[side].iter_mut().filter(|(at_us, _)| soon_us < *at_us);
            late.for_each(|(at_us, _)| *at_us = soon_us);
        }
        for from in 0..2 {
            self.schedule(soon_us - self.now_us, Happening::Arrival { link, from });
        }
    }

    /// Whether packets pass in both directions.
    pub fn is_linked(&self, a: NodeId, b: NodeId) -> bool {
        a == b || !self.network.links[self.network.index(a, b)].is_cut()
    }

    pub(super) fn transmit(&mut self, from: NodeId, to: NodeId, message: &Message) {
        self.checker.on_message(from, &self.hosts[&from].log.shadow, message);
        self.coverage.on_send(to, message);
        let mut bytes = Vec::new();
        peer::write(message, &mut bytes);
        self.transmit_frame(from, to, bytes);
    }

    pub(super) fn transmit_frame(&mut self, from: NodeId, to: NodeId, frame: Vec<u8>) {
        let sent_len_max = self.network.sent_len_max;
        if self.network.sent.len() < sent_len_max {
            self.network.sent.push((from, to, frame.clone()));
        } else if 0 < sent_len_max {
            let at = self.dice.random_range(0..sent_len_max);
            self.network.sent[at] = (from, to, frame.clone());
        }
        let link = self.network.index(from, to);
        let side = self.network.links[link].side(from);
        if self.network.links[link].up[side] {
            self.push(link, side, Parcel::Frame(frame));
        }
    }

    fn push(&mut self, link: usize, side: usize, parcel: Parcel) {
        let delay_us = self.network.links[link].delay_us;
        let in_us = self.draw(delay_us).max(1);
        let lossy = 0 < self.network.links[link].loss_percent;
        let late_us = if lossy { self.retransmissions_us(link) } else { 0 };
        let pipe = &mut self.network.links[link].pipe[side];
        if lossy && late_us == 0 {
            // What is acknowledged behind a lost packet tells the sender to repeat that at once.
            let again_us = self.now_us + 3 * in_us;
            let held_back = pipe.iter_mut().rev().take_while(|(at_us, _)| again_us < *at_us);
            held_back.for_each(|(at_us, _)| *at_us = again_us);
        }
        let soonest_us = self.now_us + in_us + late_us;
        let at_us = soonest_us.max(pipe.back().map_or(0, |(at_us, _)| *at_us));
        pipe.push_back((at_us, parcel));
        self.schedule(at_us - self.now_us, Happening::Arrival { link, from: side });
    }

    /// How much later a packet arrives because it was lost, as often as it is: the kernel waits twice as
    /// long each time.
    fn retransmissions_us(&mut self, link: usize) -> u64 {
        let percent = self.network.links[link].loss_percent;
        let mut wait_us = self.settings.election_timeout_us * RETRANSMISSION_PERCENT / 100;
        let mut late_us = 0;
        while self.dice.random_range(0..100) < percent {
            late_us += wait_us;
            wait_us *= 2;
        }
        late_us
    }

    pub(super) fn on_arrival(&mut self, link: usize, from: usize) {
        loop {
            let state = &mut self.network.links[link];
            let (sender, receiver) = (state.nodes[from], state.nodes[1 - from]);
            let due = state.pipe[from].front().is_some_and(|(at_us, _)| *at_us <= self.now_us);
            if !due || state.cut[from] {
                return;
            }
            let (_, parcel) = state.pipe[from].pop_front().expect("just seen");
            if !state.up[1 - from] {
                continue;
            }
            match parcel {
                Parcel::Frame(frame) => self.deliver(sender, receiver, &frame),
                Parcel::End => self.close_side(link, 1 - from, false),
            }
        }
    }

    fn deliver(&mut self, from: NodeId, to: NodeId, bytes: &[u8]) {
        let (frame, size) = frame::read(bytes).expect("we wrote it").expect("whole");
        assert_eq!(size, bytes.len());
        let message = peer::read(frame).expect("a node's message is within all limits");
        self.input(to, Input::Message(from, message));
    }

    /// One side no longer has the connection; if `tell`, the other hears of it behind all that was
    /// sent, and in any case when it gives up.
    pub(super) fn close_side(&mut self, link: usize, side: usize, tell: bool) {
        let state = &mut self.network.links[link];
        if !state.up[side] {
            return;
        }
        state.up[side] = false;
        let (node, peer) = (state.nodes[side], state.nodes[1 - side]);
        state.pipe[1 - side].clear();
        if state.up[1 - side] {
            if tell {
                self.push(link, side, Parcel::End);
            }
            self.give_up_later(link, 1 - side);
        }
        self.input(node, Input::PeerDown(peer));
        self.dial_later(link);
    }

    fn give_up_later(&mut self, link: usize, side: usize) {
        let epoch = self.network.links[link].epoch;
        let in_us = self.draw(self.settings.stall_us);
        self.schedule(in_us, Happening::GiveUp { link, epoch, side });
    }

    pub(super) fn on_give_up(&mut self, link: usize, epoch: u64, side: usize) {
        let state = &self.network.links[link];
        if state.epoch == epoch && state.up[side] {
            let other = state.nodes[1 - side];
            if state.is_cut() || !self.is_running(other) {
                self.close_side(link, side, true);
            }
        }
    }

    /// The process of a node has ended: `tell` its peers, or let them find out.
    pub(super) fn close_all(&mut self, id: NodeId, tell: bool) {
        for link in 0..self.network.links.len() {
            if self.network.links[link].nodes.contains(&id) {
                let side = self.network.links[link].side(id);
                self.close_side(link, side, tell);
            }
        }
    }

    pub(super) fn dial_all(&mut self, id: NodeId) {
        for link in 0..self.network.links.len() {
            if self.network.links[link].nodes.contains(&id) {
                self.dial_later(link);
            }
        }
    }

    /// A node has to do with another from now on, or no more.
    pub(super) fn on_link_wanted(&mut self, node: NodeId, other: NodeId, wanted: bool) {
        let link = self.network.index(node, other);
        if wanted {
            self.dial_later(link);
        } else {
            let side = self.network.links[link].side(node);
            self.close_side(link, side, true);
        }
    }

    fn dial_later(&mut self, link: usize) {
        let in_us = self.draw(self.settings.dial_us);
        self.schedule(in_us, Happening::Dial { link });
    }

    pub(super) fn on_dial(&mut self, link: usize) {
        let state = &self.network.links[link];
        let nodes = state.nodes;
        let is_paused = |node: &NodeId| self.hosts[node].is_paused();
        let reachable =
            !state.is_cut() && nodes.iter().all(|node| self.is_running(*node) && !is_paused(node));
        let wanted =
            |node: usize, other: usize| self.hosts[&nodes[node]].peers.contains(&nodes[other]);
        if state.up == [true; 2] || !wanted(0, 1) || !wanted(1, 0) {
            return;
        }
        if !reachable {
            // Healing and restarting dial again; only the end of a pause does not.
            if nodes.iter().any(is_paused) {
                self.dial_later(link);
            }
            return;
        }
        // A side that still has the old connection loses it to the new one.
        for side in 0..2 {
            if self.network.links[link].up[side] {
                self.network.links[link].up[side] = false;
                self.input(nodes[side], Input::PeerDown(nodes[1 - side]));
            }
        }
        let state = &mut self.network.links[link];
        state.epoch += 1;
        state.up = [true; 2];
        state.pipe = [VecDeque::new(), VecDeque::new()];
        let [a, b] = nodes;
        if self.trace.messages {
            self.note(|| format!("connected {a}-{b}"));
        }
        self.input(a, Input::PeerUp(b));
        self.input(b, Input::PeerUp(a));
    }
}
