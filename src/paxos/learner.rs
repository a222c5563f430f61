//! The learner: fills gaps in this node's log by asking a peer for chosen values.
//!
//! In the steady state it does nothing: what an acceptor accepted becomes chosen by the leader's word.
//! It asks when the log has stood still while a peer knew more: after a restart, a partition, or as a
//! new replica. One request is in flight at a time, and each answer is bounded, so a long catch-up
//! does not crowd out the rest.

use std::collections::BTreeMap;

use super::effects::Effects;
use super::ids::{NodeId, Slot};
use super::message::Message;

#[derive(Clone, Debug)]
pub struct Learner {
    /// The highest first unchosen slot that each peer told.
    peers: BTreeMap<NodeId, Slot>,
    asked: Option<Asked>,
    /// Where the log stood at the last tick.
    seen: Slot,
    /// After how many ticks without an answer another peer is asked.
    patience_ticks: u32,
}

#[derive(Clone, Debug)]
struct Asked {
    peer: NodeId,
    ticks: u32,
}

impl Learner {
    pub fn new(patience_ticks: u32) -> Learner {
        Learner { peers: BTreeMap::new(), asked: None, seen: Slot(0), patience_ticks }
    }

    /// A peer that keeps chosen values knows all slots below `first_unchosen`.
    pub fn on_peer_knows(&mut self, peer: NodeId, first_unchosen: Slot) {
        let known = self.peers.entry(peer).or_insert(first_unchosen);
        *known = (*known).max(first_unchosen);
    }

    pub fn peer_knows(&self, peer: NodeId) -> Option<Slot> {
        self.peers.get(&peer).copied()
    }

    /// What the peer knew, it may have forgotten when it is back (how far its log is chosen is only a
    /// hint there). It tells anew.
    pub fn on_peer_down(&mut self, peer: NodeId) {
        self.peers.remove(&peer);
        self.asked.take_if(|asked| asked.peer == peer);
    }

    /// An answer was taken and the log now stands at `first_unchosen`: ask for more if there is more.
    pub fn on_answer(&mut self, from: NodeId, first_unchosen: Slot, fx: &mut Effects) {
        if self.asked.take_if(|asked| asked.peer == from).is_none() {
            return;
        }
        if self.peers.get(&from).is_some_and(|&known| first_unchosen < known) {
            self.ask(from, first_unchosen, fx);
        }
    }

    /// The log is known to have a gap that no stream will fill.
    pub fn on_gap(&mut self, first_unchosen: Slot, fx: &mut Effects) {
        if self.asked.is_none() {
            self.ask_best(None, first_unchosen, fx);
        }
    }

    /// Asks if the log has not moved since the last tick although somebody knows more.
    pub fn on_tick(&mut self, first_unchosen: Slot, fx: &mut Effects) {
        let stood_still = self.seen == first_unchosen;
        self.seen = first_unchosen;
        let silent = match &mut self.asked {
            Some(asked) => {
                asked.ticks += 1;
                if asked.ticks < self.patience_ticks {
                    return;
                }
                Some(asked.peer)
            }
            None => None,
        };
        self.asked = None;
        if stood_still {
            self.ask_best(silent, first_unchosen, fx);
        }
    }

    /// Asks the peer that knows most, another than the one that was silent if there is one.
    fn ask_best(&mut self, silent: Option<NodeId>, first_unchosen: Slot, fx: &mut Effects) {
        let ahead = self.peers.iter().filter(|(_, known)| first_unchosen < **known);
        let best = ahead.max_by_key(|(peer, known)| (Some(**peer) != silent, **known));
        if let Some((&peer, _)) = best {
            self.ask(peer, first_unchosen, fx);
        }
    }

    fn ask(&mut self, peer: NodeId, first_slot: Slot, fx: &mut Effects) {
        self.asked = Some(Asked { peer, ticks: 0 });
        fx.send(peer, Message::LearnRequest { first_slot });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(fx: &Effects) -> Vec<(u16, u64)> {
        fx.sends
            .iter()
            .map(|(to, message)| match message {
                Message::LearnRequest { first_slot } => (to.0, first_slot.0),
                other => panic!("unexpected {other:?}"),
            })
            .collect()
    }

    /// Slots that are merely on their way are not asked for; those that do not come are.
    #[test]
    fn asks_only_when_standing_still() {
        let (mut learner, mut fx) = (Learner::new(3), Effects::new(NodeId(1)));
        learner.on_peer_knows(NodeId(2), Slot(10));
        learner.on_tick(Slot(1), &mut fx);
        learner.on_tick(Slot(5), &mut fx);
        assert!(asked(&fx).is_empty());
        learner.on_tick(Slot(5), &mut fx);
        assert_eq!(asked(&fx), [(2, 5)]);
        learner.on_tick(Slot(5), &mut fx);
        assert_eq!(asked(&fx).len(), 1);
    }

    /// One answer leads to the next question until the peer has no more.
    #[test]
    fn goes_on_until_it_is_level() {
        let (mut learner, mut fx) = (Learner::new(3), Effects::new(NodeId(1)));
        learner.on_peer_knows(NodeId(2), Slot(10));
        learner.on_gap(Slot(1), &mut fx);
        learner.on_answer(NodeId(2), Slot(6), &mut fx);
        learner.on_answer(NodeId(2), Slot(10), &mut fx);
        learner.on_answer(NodeId(2), Slot(10), &mut fx);
        assert_eq!(asked(&fx), [(2, 1), (2, 6)]);
        assert!(learner.asked.is_none());
    }

    /// Two peers knew most, restarted, and know less now; a third knows enough. Asked for what they
    /// forgot, those two do not answer: asking them in turns would go on for ever.
    #[test]
    fn what_a_restarted_peer_knew_counts_no_more() {
        let (mut learner, mut fx) = (Learner::new(1), Effects::new(NodeId(1)));
        for (peer, known, now_known) in [(2, 20, 5), (3, 20, 5), (4, 10, 10)] {
            learner.on_peer_knows(NodeId(peer), Slot(known));
            learner.on_peer_down(NodeId(peer));
            learner.on_peer_knows(NodeId(peer), Slot(now_known));
        }
        learner.on_gap(Slot(7), &mut fx);
        assert_eq!(asked(&fx), [(4, 7)]);
    }

    /// A peer that does not answer is not asked for ever.
    #[test]
    fn a_silent_peer_is_replaced() {
        let (mut learner, mut fx) = (Learner::new(2), Effects::new(NodeId(1)));
        learner.on_peer_knows(NodeId(2), Slot(20));
        learner.on_peer_knows(NodeId(3), Slot(10));
        for _ in 0..4 {
            learner.on_tick(Slot(1), &mut fx);
        }
        assert_eq!(asked(&fx), [(2, 1), (3, 1)]);
    }
}
