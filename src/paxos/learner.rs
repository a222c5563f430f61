//! The learner: fills gaps in this node's log by asking a peer for chosen values, or, where those are
//! gone from its log, for its snapshot.
//!
//! In the steady state it does nothing: what an acceptor accepted becomes chosen by the leader's word.
//! It asks when the log has stood still while a peer knew more: after a restart, a partition, or as a
//! new replica. One request is in flight at a time, and each answer is bounded, so a long catch-up
//! does not crowd out the rest.

use std::sync::Arc;

use super::by_node::ByNode;
use super::effects::{Effects, Receive};
use super::fetch::Fetch;
use super::ids::{NodeId, Slot};
use super::message::{Message, SnapshotId};

#[derive(Clone, Debug)]
pub struct Learner {
    peers: ByNode<Peer>,
    asked: Option<Asked>,
    /// A snapshot that is on its way to us. Meanwhile nobody is asked for values, unless nobody sends it.
    fetch: Option<Fetch>,
    chunk_size: usize,
    /// Where the log stood at the last tick.
    seen: Slot,
    /// After how many ticks without an answer another peer is asked: at least, and now. It doubles with each
    /// answer that was not waited for: on a slow link questions must not pile up faster than answers come.
    patience_ticks_min: u32,
    patience_ticks: u32,
    /// After how many ticks without a chunk another peer is asked. Chunks are sent at a pace, and may be
    /// long on their way.
    fetch_patience_ticks: u32,
}

#[derive(Clone, Debug)]
struct Peer {
    /// The highest first unchosen slot that it told.
    knows: Slot,
    /// It has nothing to tell of the slots below: neither their values nor a snapshot.
    tells_from: Slot,
}

#[derive(Clone, Debug)]
struct Asked {
    peer: NodeId,
    first_slot: Slot,
    ticks: u32,
}

impl Learner {
    /// `chunk_size`: bytes of a snapshot that are asked for at once.
    pub fn new(patience_ticks: u32, fetch_patience_ticks: u32, chunk_size: usize) -> Learner {
        Learner {
            peers: ByNode::default(),
            asked: None,
            fetch: None,
            chunk_size,
            seen: Slot(0),
            patience_ticks_min: patience_ticks,
            patience_ticks,
            fetch_patience_ticks,
        }
    }

    /// A peer that keeps chosen values knows all slots below `first_unchosen`.
    pub fn on_peer_knows(&mut self, peer: NodeId, first_unchosen: Slot) {
        let new = Peer { knows: first_unchosen, tells_from: Slot(0) };
        let peer = self.peers.get_or_insert(peer, new);
        peer.knows = peer.knows.max(first_unchosen);
    }

    pub fn peer_knows(&self, peer: NodeId) -> Option<Slot> {
        self.peers.get(peer).map(|peer| peer.knows)
    }

    /// The snapshot that is being received, if one is.
    pub fn fetching(&self) -> Option<SnapshotId> {
        self.fetch.as_ref().map(Fetch::snapshot)
    }

    /// What the peer knew, it may have forgotten when it is back (how far its log is chosen is only a
    /// hint there). It tells anew.
    pub fn on_peer_down(&mut self, peer: NodeId) {
        self.peers.remove(peer);
        self.asked.take_if(|asked| asked.peer == peer);
        if let Some(fetch) = &mut self.fetch {
            fetch.on_peer_down(peer);
        }
    }

    /// Values from `first_slot` on were taken, and the log now stands at `first_unchosen`: if that was the answer,
    /// ask for more if there is more.
    ///
    /// Not everything that comes is the answer: whoever asked once too often has two under way. Were each
    /// of them to lead to a question, there would be two to the end of the log, and three when that
    /// happens again: gigabytes for a log of some megabytes.
    pub fn on_answer(
        &mut self,
        from: NodeId,
        first_slot: Slot,
        first_unchosen: Slot,
        fx: &mut Effects,
    ) {
        self.give_up_below(first_unchosen, fx);
        let is_answer = |asked: &mut Asked| (asked.peer, asked.first_slot) == (from, first_slot);
        let Some(asked) = self.asked.take_if(is_answer) else { return };
        let took = self.patience_ticks_min.max(2 * asked.ticks);
        self.patience_ticks = took.max(self.patience_ticks / 2);
        if self.peers.get(from).is_some_and(|peer| first_unchosen < peer.knows) {
            self.ask(from, first_unchosen, fx);
        }
    }

    /// A peer whose log begins at `log_begin` has a snapshot, or none. It was asked for values; or for a
    /// part of a snapshot that it has no more.
    pub fn on_offer(
        &mut self,
        from: NodeId,
        log_begin: Slot,
        snapshot: Option<SnapshotId>,
        first_unchosen: Slot,
        fx: &mut Effects,
    ) {
        let asked = self.asked.take_if(|asked| asked.peer == from).is_some();
        if self.fetch.as_ref().is_some_and(Fetch::is_installing) {
            return;
        }
        let source = self.fetch.as_ref().and_then(Fetch::source) == Some(from);
        let useful = snapshot.filter(|snapshot| first_unchosen <= snapshot.slot);
        let Some(snapshot) = useful else {
            if let Some(peer) = self.peers.get_mut(from).filter(|_| asked) {
                peer.tells_from = log_begin;
                self.ask_best(None, first_unchosen, fx);
            }
            return;
        };
        match &mut self.fetch {
            Some(fetch) if asked && fetch.snapshot() == snapshot => fetch.on_source(from, fx),
            // It has a newer one only: what came of ours is of no use without somebody who has the rest.
            Some(fetch) if asked || (source && fetch.snapshot().slot < snapshot.slot) => {
                *fetch = Fetch::begin(snapshot, from, self.chunk_size, fx);
            }
            None if asked => {
                self.fetch = Some(Fetch::begin(snapshot, from, self.chunk_size, fx));
            }
            // An old message.
            _ => {}
        }
    }

    /// So many bytes are kept of the snapshot that was begun.
    pub fn on_part(&mut self, snapshot: SnapshotId, size: u64, fx: &mut Effects) {
        if let Some(fetch) = &mut self.fetch {
            fetch.on_part(snapshot, size, fx);
        }
    }

    pub fn on_chunk(
        &mut self,
        snapshot: SnapshotId,
        offset: u64,
        bytes: Arc<[u8]>,
        fx: &mut Effects,
    ) {
        if let Some(fetch) = &mut self.fetch {
            fetch.on_chunk(snapshot, offset, bytes, fx);
        }
    }

    /// The snapshot is installed: go on from where the log stands now.
    pub fn on_fetched(&mut self, first_unchosen: Slot, fx: &mut Effects) {
        self.fetch = None;
        self.on_gap(first_unchosen, fx);
    }

    /// The bytes of a snapshot were not right. The next one is asked for in time; it may be the same.
    pub fn on_refused(&mut self, snapshot: SnapshotId) {
        self.fetch.take_if(|fetch| fetch.snapshot() == snapshot);
    }

    /// The log is known to have a gap that no stream will fill.
    pub fn on_gap(&mut self, first_unchosen: Slot, fx: &mut Effects) {
        if self.asked.is_none() && self.fetch.is_none() {
            self.ask_best(None, first_unchosen, fx);
        }
    }

    /// Asks if the log has not moved since the last tick although somebody knows more.
    pub fn on_tick(&mut self, first_unchosen: Slot, fx: &mut Effects) {
        let stood_still = self.seen == first_unchosen;
        self.seen = first_unchosen;
        self.give_up_below(first_unchosen, fx);
        let mut silent = None;
        if let Some(fetch) = &mut self.fetch {
            if !fetch.on_tick(self.fetch_patience_ticks) {
                return;
            }
            silent = fetch.source();
        }
        if let Some(asked) = &mut self.asked {
            asked.ticks += 1;
            if asked.ticks < self.patience_ticks {
                return;
            }
            silent = Some(asked.peer);
            self.patience_ticks = (2 * self.patience_ticks).min(64 * self.patience_ticks_min);
        }
        self.asked = None;
        if stood_still {
            self.ask_best(silent, first_unchosen, fx);
        }
    }

    /// The log has come further than a snapshot that is on its way.
    fn give_up_below(&mut self, first_unchosen: Slot, fx: &mut Effects) {
        let passed = |fetch: &mut Fetch| fetch.snapshot().slot < first_unchosen;
        if let Some(fetch) = self.fetch.take_if(passed) {
            fx.receive(Receive::GiveUp(fetch.snapshot()));
        }
    }

    /// Asks the peer that knows most, another than the one that was silent if there is one.
    fn ask_best(&mut self, silent: Option<NodeId>, first_unchosen: Slot, fx: &mut Effects) {
        let ahead = self
            .peers
            .iter()
            .filter(|(_, peer)| first_unchosen < peer.knows && peer.tells_from <= first_unchosen);
        let best = ahead.max_by_key(|(id, peer)| (Some(*id) != silent, peer.knows));
        if let Some((peer, _)) = best {
            self.ask(peer, first_unchosen, fx);
        }
    }

    fn ask(&mut self, peer: NodeId, first_slot: Slot, fx: &mut Effects) {
        self.asked = Some(Asked { peer, first_slot, ticks: 0 });
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
        let (mut learner, mut fx) = (Learner::new(3, 3, 10), Effects::new(NodeId(1)));
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
        let (mut learner, mut fx) = (Learner::new(3, 3, 10), Effects::new(NodeId(1)));
        learner.on_peer_knows(NodeId(2), Slot(10));
        learner.on_gap(Slot(1), &mut fx);
        learner.on_answer(NodeId(2), Slot(1), Slot(6), &mut fx);
        // A copy of the answer asks for nothing.
        learner.on_answer(NodeId(2), Slot(1), Slot(6), &mut fx);
        learner.on_answer(NodeId(2), Slot(6), Slot(10), &mut fx);
        assert_eq!(asked(&fx), [(2, 1), (2, 6)]);
        assert!(learner.asked.is_none());
    }

    /// Two peers knew most, restarted, and know less now; a third knows enough. Asked for what they
    /// forgot, those two do not answer: asking them in turns would go on for ever.
    #[test]
    fn what_a_restarted_peer_knew_counts_no_more() {
        let (mut learner, mut fx) = (Learner::new(1, 1, 10), Effects::new(NodeId(1)));
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
        let (mut learner, mut fx) = (Learner::new(2, 2, 10), Effects::new(NodeId(1)));
        learner.on_peer_knows(NodeId(2), Slot(20));
        learner.on_peer_knows(NodeId(3), Slot(10));
        for _ in 0..4 {
            learner.on_tick(Slot(1), &mut fx);
        }
        assert_eq!(asked(&fx), [(2, 1), (3, 1)]);
    }

    /// Answers that take long are waited for, once that is known.
    #[test]
    fn patience_grows_on_a_slow_link() {
        let (mut learner, mut fx) = (Learner::new(2, 2, 10), Effects::new(NodeId(1)));
        learner.on_peer_knows(NodeId(2), Slot(90));
        let tick = |learner: &mut Learner, slot, times| {
            let mut fx = Effects::new(NodeId(1));
            (0..times).for_each(|_| learner.on_tick(Slot(slot), &mut fx));
            asked(&fx).len()
        };
        assert_eq!(tick(&mut learner, 1, 16), 4, "at ticks 2, 4, 8 and 16");
        // Answers that take seven ticks each are waited for by then.
        for (first_slot, slot) in [(1, 10), (10, 20), (20, 30)] {
            learner.on_answer(NodeId(2), Slot(first_slot), Slot(slot), &mut fx);
            assert_eq!(tick(&mut learner, slot, 7), 0);
        }
    }

    const SNAPSHOT: SnapshotId = SnapshotId { slot: Slot(15), size: 30, checksum: 7 };

    fn offered(snapshot: SnapshotId) -> (Learner, Effects) {
        let (mut learner, mut fx) = (Learner::new(2, 2, 10), Effects::new(NodeId(1)));
        learner.on_peer_knows(NodeId(2), Slot(20));
        learner.on_gap(Slot(5), &mut fx);
        learner.on_offer(NodeId(2), Slot(14), Some(snapshot), Slot(5), &mut fx);
        fx.sends.clear();
        (learner, fx)
    }

    /// The log is gone at the peer: its snapshot is pulled, and then the values behind that.
    #[test]
    fn a_snapshot_leads_to_the_values_behind_it() {
        let (mut learner, mut fx) = offered(SNAPSHOT);
        assert_eq!(fx.receives, [Receive::Begin(SNAPSHOT)]);
        learner.on_part(SNAPSHOT, 0, &mut fx);
        fx.sends.clear();
        // Meanwhile no gap and no tick leads to another question.
        learner.on_gap(Slot(5), &mut fx);
        learner.on_tick(Slot(5), &mut fx);
        for offset in [0, 10, 20] {
            learner.on_chunk(SNAPSHOT, offset, vec![0; 10].into(), &mut fx);
            learner.on_part(SNAPSHOT, offset + 10, &mut fx);
        }
        assert_eq!(fx.receives.last(), Some(&Receive::Install(SNAPSHOT)));
        fx.sends.clear();
        for _ in 0..9 {
            learner.on_tick(Slot(5), &mut fx);
        }
        assert!(fx.sends.is_empty());
        learner.on_fetched(Slot(16), &mut fx);
        assert_eq!(asked(&fx), [(2, 16)]);
        assert_eq!(learner.fetching(), None);
    }

    /// An offer that nobody asked for, as an old message, begins nothing; nor does one of what is known.
    #[test]
    fn only_what_was_asked_for_and_helps_is_fetched() {
        let (mut learner, mut fx) = (Learner::new(2, 2, 10), Effects::new(NodeId(1)));
        learner.on_peer_knows(NodeId(2), Slot(20));
        learner.on_offer(NodeId(2), Slot(14), Some(SNAPSHOT), Slot(5), &mut fx);
        learner.on_gap(Slot(16), &mut fx);
        learner.on_offer(NodeId(2), Slot(14), Some(SNAPSHOT), Slot(16), &mut fx);
        assert!(fx.receives.is_empty());
    }

    /// The source has gone. Another peer with the same snapshot goes on where it ended; one that has
    /// another begins anew; one that still has the log makes an end of it.
    #[test]
    fn another_peer_takes_over() {
        let (mut learner, mut fx) = offered(SNAPSHOT);
        learner.on_part(SNAPSHOT, 10, &mut fx);
        learner.on_peer_down(NodeId(2));
        learner.on_peer_knows(NodeId(3), Slot(20));
        fx.sends.clear();
        learner.on_tick(Slot(5), &mut fx);
        learner.on_tick(Slot(5), &mut fx);
        assert_eq!(asked(&fx), [(3, 5)]);
        fx.sends.clear();
        learner.on_offer(NodeId(3), Slot(16), Some(SNAPSHOT), Slot(5), &mut fx);
        let request = Message::SnapshotRequest { snapshot: SNAPSHOT, offset: 10, size: 10 };
        assert_eq!(fx.sends[0], (NodeId(3), request));

        // It drops that snapshot meanwhile, and says what it has instead.
        let newer = SnapshotId { slot: Slot(17), ..SNAPSHOT };
        learner.on_offer(NodeId(3), Slot(17), Some(newer), Slot(5), &mut fx);
        assert_eq!(learner.fetching(), Some(newer));
        // An old message of an older one changes nothing.
        learner.on_offer(NodeId(3), Slot(14), Some(SNAPSHOT), Slot(5), &mut fx);
        assert_eq!(learner.fetching(), Some(newer));

        learner.on_answer(NodeId(4), Slot(5), Slot(18), &mut fx);
        assert_eq!(fx.receives.last(), Some(&Receive::GiveUp(newer)));
        assert_eq!(learner.fetching(), None);
    }

    /// Acceptors that keep no state have nothing to offer below where their logs begin. Two of them that
    /// know most must not be asked in turns for ever.
    #[test]
    fn who_has_nothing_is_asked_no_more() {
        let (mut learner, mut fx) = (Learner::new(1, 1, 10), Effects::new(NodeId(1)));
        for (peer, knows) in [(2, 30), (3, 30), (4, 20)] {
            learner.on_peer_knows(NodeId(peer), Slot(knows));
        }
        learner.on_gap(Slot(5), &mut fx);
        learner.on_offer(NodeId(3), Slot(14), None, Slot(5), &mut fx);
        learner.on_offer(NodeId(2), Slot(14), None, Slot(5), &mut fx);
        assert_eq!(asked(&fx), [(3, 5), (2, 5), (4, 5)]);
    }
}
