//! Which configuration governs which slot (Lamport's alpha; Ongaro's Multi-Paxos lecture).
//!
//! A configuration chosen in slot i governs from slot i + alpha. A leader proposes in a slot only when all
//! slots alpha below it are chosen and it knows their configurations; so nobody counts votes of a slot by
//! anything but the one configuration that governs it. What governs a slot is a fact of the log, the same
//! at every node; nodes differ only in how much of it they know.
//!
//! Known are all configurations chosen in slots below `known_below`, and so what governs each slot
//! from that of the oldest one kept up to `known_end`. Whoever hears more from a peer takes it over whole
//! (`merge`): the lists of two nodes never contradict each other.

use std::collections::BTreeSet;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::mutants::{self, Mutant};

use super::configuration::{Addresses, Configuration};
use super::ids::{NodeId, Slot};
use super::quorum::{Member, Roles};

/// Retired configurations that are kept, so that a peer that missed some can still join its list to ours.
const RETIRED_MAX: usize = 16;

/// A part of the log's configurations: what nodes tell each other, and what snapshots hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epochs {
    /// Every configuration chosen in a slot below is known.
    known_below: Slot,
    /// With the slot from which each governs, ascending; never empty.
    entries: Vec<(Slot, Arc<Configuration>)>,
}

#[derive(Clone, Debug)]
pub struct Configurations {
    alpha: usize,
    epochs: Epochs,
    /// All slots below are chosen, as far as this node knows: what governs only those is retired.
    first_unchosen: Slot,
    /// Members of configurations that govern only slots below are nobody's peers any more.
    left_below: Slot,
    /// What was learned of slots above `known_below`, with a gap to them.
    apart: Option<Apart>,
    /// Configurations from before a gap that the list begins behind. They say nothing of any slot any more; but
    /// who is in them may be the only one who can tell what was chosen in the gap.
    before: Vec<Arc<Configuration>>,
}

/// The configurations of a run of slots of which this node knows the values.
#[derive(Clone, Debug)]
struct Apart {
    first: Slot,
    end: Slot,
    chosen: Vec<(Slot, Configuration)>,
}

impl Configurations {
    /// As a cluster begins: `initial` governs from the first slot. Of epoch 0: nothing is known yet.
    pub fn new(initial: Configuration, alpha: usize) -> Configurations {
        let known_below = if initial.epoch() == 0 { Slot(0) } else { Slot::FIRST };
        let entries = vec![(Slot::FIRST, Arc::new(initial))];
        Configurations::of_epochs(Epochs { known_below, entries }, alpha)
    }

    /// As a snapshot says, or another file of the data directory.
    pub fn of_epochs(epochs: Epochs, alpha: usize) -> Configurations {
        assert!(0 < alpha);
        let first = Slot::FIRST;
        Configurations {
            alpha,
            epochs,
            first_unchosen: first,
            left_below: first,
            apart: None,
            before: Vec::new(),
        }
    }

    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    pub fn alpha(&self) -> usize {
        self.alpha
    }

    /// Whether this node joins and has not yet heard what cluster it joined.
    pub fn is_provisional(&self) -> bool {
        self.epochs.known_below == Slot(0)
    }

    pub fn known_below(&self) -> Slot {
        self.epochs.known_below
    }

    /// What governs each slot below is known.
    pub fn known_end(&self) -> Slot {
        self.epochs.known_below.plus(self.alpha)
    }

    /// Whether it is known what governs `slot` and all slots from there to `known_end`.
    pub fn covers(&self, slot: Slot) -> bool {
        !self.is_provisional() && self.epochs.entries[0].0 <= slot && slot < self.known_end()
    }

    /// The newest one, which may not govern yet, and from which slot on it does.
    pub fn latest(&self) -> (Slot, &Configuration) {
        let (from, configuration) = self.epochs.entries.last().expect("never empty");
        (*from, configuration)
    }

    /// The one that governs `slot`, as far as known.
    pub fn governing(&self, slot: Slot) -> &Configuration {
        &self.epochs.entries[self.at(slot)].1
    }

    /// The one that governs the first slot not known to be chosen, as far as known.
    pub fn in_force(&self) -> &Configuration {
        self.governing(self.first_unchosen)
    }

    /// The epoch of the one that governs `slot`; 0 if that is not known.
    pub fn epoch_at(&self, slot: Slot) -> u64 {
        if self.covers(slot) { self.governing(slot).epoch() } else { 0 }
    }

    /// Below which slot all are chosen, as far as this node knows.
    pub fn first_unchosen(&self) -> Slot {
        self.first_unchosen
    }

    /// The one that governs `slot`, and the newer ones, each with the slots that it governs from there on.
    pub fn governing_from(
        &self,
        slot: Slot,
    ) -> impl Iterator<Item = (Slot, Slot, &Configuration)> + '_ {
        let at = self.at(slot);
        self.epochs.entries[at..].iter().enumerate().map(move |(i, (from, configuration))| {
            let next = self.epochs.entries.get(at + i + 1);
            let end = next.map_or(Slot(u64::MAX), |(from, _)| *from);
            ((*from).max(slot), end, &**configuration)
        })
    }

    /// The acceptors of all configurations that govern slots from `slot` up, ascending.
    pub fn acceptors_from(&self, slot: Slot) -> BTreeSet<NodeId> {
        let all = self.governing_from(slot);
        all.flat_map(|(_, _, configuration)| configuration.membership().acceptors()).collect()
    }

    /// Everybody with whom this node has to do, ascending by id: the members of each configuration that
    /// governs, will govern, or governed a moment ago, or before slots that this node has yet to learn. Of a
    /// node in several, what the newest says.
    pub fn members(&self) -> Vec<(Member, Addresses)> {
        let mut members: Vec<(Member, Addresses)> = Vec::new();
        let listed =
            self.governing_from(self.left_below).map(|(_, _, configuration)| configuration);
        for configuration in self.before.iter().map(|it| &**it).chain(listed) {
            for (member, addresses) in configuration.members() {
                match members.binary_search_by_key(&member.node, |(it, _)| it.node) {
                    Ok(at) => members[at] = (member, addresses),
                    Err(at) => members.insert(at, (member, addresses)),
                }
            }
        }
        members
    }

    pub fn nodes(&self) -> Vec<NodeId> {
        self.members().into_iter().map(|(member, _)| member.node).collect()
    }

    /// The roles of a node, in the newest configuration that has it.
    pub fn roles(&self, node: NodeId) -> Option<Roles> {
        self.latest().1.roles(node).or_else(|| {
            let mut all = self.epochs.entries[self.at(self.left_below)..].iter().rev();
            all.find_map(|(_, configuration)| configuration.roles(node))
        })
    }

    /// Whether the node is an acceptor in a configuration that governs or will govern.
    pub fn is_acceptor(&self, node: NodeId) -> bool {
        self.needed()
            .any(|configuration| configuration.roles(node).is_some_and(|roles| roles.acceptor))
    }

    /// Whether a node that reaches `acceptors` reaches both quorums of every configuration that governs
    /// or will govern: with less it would do no good as a leader for long.
    pub fn is_connected(&self, reaches: impl Fn(NodeId) -> bool) -> bool {
        self.needed().all(|configuration| {
            let membership = configuration.membership();
            let reached = membership.acceptors().filter(|node| reaches(*node)).count();
            membership.connected() <= reached
        })
    }

    /// All that govern or will govern unchosen slots.
    fn needed(&self) -> impl Iterator<Item = &Configuration> + '_ {
        self.governing_from(self.first_unchosen).map(|(_, _, configuration)| configuration)
    }

    /// The values of the slots `first..end` are known to be chosen; `chosen` are the configurations among
    /// them.
    ///
    /// A node that passed over slots, because others have a snapshot of them, does not know what was chosen
    /// there. What it learns behind must not make it believe that it knows all: it waits for a peer to
    /// tell it what came before (`merge`).
    pub fn on_values(&mut self, first: Slot, end: Slot, chosen: Vec<(Slot, Configuration)>) {
        if first <= self.epochs.known_below.max(Slot::FIRST) {
            for (slot, configuration) in chosen {
                self.on_chosen(slot, configuration);
            }
            self.on_known(end);
            return;
        }
        match &mut self.apart {
            Some(apart) if apart.end == first => {
                apart.chosen.extend(chosen);
                apart.end = end;
            }
            apart => *apart = Some(Apart { first, end, chosen }),
        }
    }

    /// The values of the slots `first..end` are known to be chosen, and none of them is a configuration. False if
    /// there is a gap before them: then that is for `on_values`.
    #[inline]
    pub fn on_commands(&mut self, first: Slot, end: Slot) -> bool {
        let follows = first <= self.epochs.known_below.max(Slot::FIRST);
        if follows {
            self.on_known(end);
        }
        follows
    }

    /// A configuration was chosen. Slots are told in order; those known already are passed over.
    pub fn on_chosen(&mut self, slot: Slot, configuration: Configuration) {
        if slot < self.epochs.known_below {
            return;
        }
        let from = if mutants::is_on(Mutant::ConfigurationGovernsAtOnce) {
            slot.next()
        } else {
            slot.plus(self.alpha)
        };
        if self.is_provisional() {
            self.epochs.entries.clear();
        }
        self.epochs.entries.push((from, Arc::new(configuration)));
        self.epochs.known_below = slot.next();
    }

    /// Those of a cluster that begins with `initial` and with a state that others made: it holds all that is
    /// behind slot `applied`, and the slots are counted on from there.
    pub fn restored(initial: Configuration, alpha: usize, applied: Slot) -> Epochs {
        let mut configurations = Configurations::new(initial, alpha);
        let known =
            if mutants::is_on(Mutant::RestoreBeginsAnew) { Slot::FIRST } else { applied.next() };
        configurations.on_known(known);
        configurations.as_of(known).expect("all up to there is known")
    }

    /// All slots below are chosen, and `on_chosen` was told of the configurations among them.
    pub fn on_known(&mut self, below: Slot) {
        // A node that joins counts slots before it knows in what cluster.
        if !self.is_provisional() {
            self.epochs.known_below = self.epochs.known_below.max(below);
        }
    }

    /// All slots below are chosen, as far as this node knows.
    pub fn advance(&mut self, first_unchosen: Slot) {
        self.first_unchosen = self.first_unchosen.max(first_unchosen);
    }

    /// Members that are in no configuration which governs or will govern are peers no longer.
    pub fn leave_all(&mut self) {
        self.left_below = self.first_unchosen;
        if self.covers(self.first_unchosen) {
            self.before.clear();
        }
        while RETIRED_MAX < self.epochs.entries.len() && self.epochs.entries[1].0 <= self.left_below
        {
            self.epochs.entries.remove(0);
        }
    }

    /// Whether everybody with whom this node has to do is in a configuration that governs or will govern.
    pub fn has_left_all(&self) -> bool {
        let gap_is_learned = !self.before.is_empty() && self.covers(self.first_unchosen);
        self.at(self.left_below) == self.at(self.first_unchosen) && !gap_is_learned
    }

    /// Takes over what a peer knows beyond this node's own. Returns whether that was anything.
    ///
    /// Between two lists that do not touch, configurations are missing that neither has: then only the
    /// newer list is kept, and `covers` says from which slot on it is of use. Members of the older one stay
    /// peers until then.
    pub fn merge(&mut self, other: &Epochs) -> bool {
        if other.known_below <= self.epochs.known_below {
            return false;
        }
        let known_end = self.known_end();
        let touches = !self.is_provisional() && other.entries[0].0 <= known_end;
        if !touches {
            let older = std::mem::take(&mut self.epochs.entries);
            if !self.is_provisional() {
                self.before.extend(older.into_iter().map(|(_, configuration)| configuration));
                let excess = self.before.len().saturating_sub(RETIRED_MAX);
                self.before.drain(..excess);
            }
        }
        let newer = other.entries.iter().filter(|(from, _)| !touches || known_end <= *from);
        let before = self.epochs.entries.len();
        self.epochs.entries.extend(newer.cloned());
        self.epochs.known_below = other.known_below;
        let known_below = other.known_below;
        if let Some(apart) = self.apart.take_if(|apart| apart.first <= known_below) {
            self.on_values(apart.first, apart.end, apart.chosen);
        }
        before < self.epochs.entries.len()
    }

    /// Where the one that governs `slot` stands.
    #[inline]
    fn at(&self, slot: Slot) -> usize {
        // Mostly it is the newest.
        let newest = self.epochs.entries.len() - 1;
        if self.epochs.entries[newest].0 <= slot {
            return newest;
        }
        self.epochs.entries.partition_point(|(from, _)| *from <= slot).saturating_sub(1)
    }

    /// What the log below `end` says, and nothing else: the same at every node. `None` if this node has not
    /// learned what governs `end`.
    pub fn as_of(&self, end: Slot) -> Option<Epochs> {
        if !self.covers(end) {
            return None;
        }
        let chosen = |from: Slot| from == Slot::FIRST || from < end.plus(self.alpha);
        let entries = self.epochs.entries[self.at(end)..].iter().filter(|(from, _)| chosen(*from));
        Some(Epochs { known_below: end, entries: entries.cloned().collect() })
    }
}

impl Hash for Epochs {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.known_below.hash(state);
        for (from, configuration) in self.entries() {
            (from, configuration.epoch()).hash(state);
        }
    }
}

impl Epochs {
    pub fn known_below(&self) -> Slot {
        self.known_below
    }

    pub fn newest_epoch(&self) -> u64 {
        self.entries.last().expect("never empty").1.epoch()
    }

    pub fn entries(&self) -> impl Iterator<Item = (Slot, &Configuration)> + '_ {
        self.entries.iter().map(|(from, configuration)| (*from, &**configuration))
    }

    /// `known_below` (8 bytes, little-endian), the number of configurations (8), and each with the slot from
    /// which it governs (8) before it.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&self.known_below.0.to_le_bytes());
        bytes.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for (from, configuration) in &self.entries {
            bytes.extend_from_slice(&from.0.to_le_bytes());
            configuration.encode(&mut bytes);
        }
        bytes
    }

    /// Reads what `to_bytes` wrote; `None` if it is anything else.
    pub fn from_bytes(bytes: &[u8]) -> Option<Epochs> {
        fn u64_of(bytes: &[u8]) -> Option<(u64, &[u8])> {
            let (number, rest) = bytes.split_first_chunk::<8>()?;
            Some((u64::from_le_bytes(*number), rest))
        }
        // Slots and epochs are counted on, and those of nobody's making must not overflow.
        let sound = |slot: u64| 0 < slot && slot < 1 << 62;
        let (known_below, rest) = u64_of(bytes)?;
        let (len, mut rest) = u64_of(rest)?;
        let mut entries: Vec<(Slot, Arc<Configuration>)> = Vec::new();
        for _ in 0..len {
            let (from, after) = u64_of(rest)?;
            let (configuration, after) = Configuration::decode(after)?;
            if !sound(from) || configuration.epoch() == 0 {
                return None;
            }
            entries.push((Slot(from), Arc::new(configuration)));
            rest = after;
        }
        let ascending = entries.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let whole = !entries.is_empty() && ascending && rest.is_empty() && sound(known_below);
        whole.then_some(Epochs { known_below: Slot(known_below), entries })
    }
}

/// What governs from where says all: configurations of one epoch are the same. And while there was never
/// but one, that governs whatever is known of the slots.
impl Hash for Configurations {
    fn hash<H: Hasher>(&self, state: &mut H) {
        if self.epochs.entries.len() == 1 && self.latest().1.epoch() == 1 {
            return;
        }
        for (from, configuration) in &self.epochs.entries {
            (from, configuration.epoch()).hash(state);
        }
        (self.epochs.known_below, self.first_unchosen, self.left_below).hash(state);
        self.before.iter().for_each(|configuration| configuration.epoch().hash(state));
    }
}

/// For the tests of the roles.
#[cfg(test)]
pub mod fixtures {
    use core::net::{IpAddr, Ipv4Addr, SocketAddr};

    use super::super::configuration::Change;
    use super::*;

    pub fn addresses(id: u16) -> Addresses {
        let [high, low] = id.to_be_bytes();
        let at = |port| SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, high, low)), port);
        Addresses { peer: at(7400), client: at(7401) }
    }

    /// Nodes 1 to `nodes`, of all roles, as a cluster begins.
    pub fn initial(nodes: u16, phase2: Option<usize>) -> Configuration {
        let member = |id| (Member { node: NodeId(id), roles: Roles::ALL }, addresses(id));
        Configuration::initial((1..=nodes).map(member).collect(), None, phase2).unwrap()
    }

    /// The same as epoch `epoch`: what it comes to, whatever steps led there.
    pub fn configuration(epoch: u64, nodes: u16, phase2: Option<usize>) -> Configuration {
        initial(nodes, phase2).at_epoch(epoch)
    }

    pub fn without(configuration: &Configuration, node: u16) -> Configuration {
        configuration.changed(&Change::Remove { node: NodeId(node) }).unwrap()
    }

    pub fn configurations(nodes: u16, phase2: Option<usize>, alpha: usize) -> Configurations {
        Configurations::new(initial(nodes, phase2), alpha)
    }
}

#[cfg(test)]
mod tests {
    use super::fixtures::{configuration, configurations, initial};
    use super::*;

    fn epochs(of: &Configurations, slots: std::ops::RangeInclusive<u64>) -> Vec<u64> {
        slots.map(|slot| of.governing(Slot(slot)).epoch()).collect()
    }

    /// Chosen in slot 3 with alpha 2: it governs from slot 5, and not before.
    #[test]
    fn governs_from_alpha_slots_further_on() {
        let mut it = configurations(3, None, 2);
        it.on_chosen(Slot(3), configuration(2, 4, None));
        it.on_known(Slot(7));
        assert_eq!(epochs(&it, 3..=6), [1, 1, 2, 2]);
        it.on_chosen(Slot(3), configuration(9, 5, None));
        assert_eq!(it.latest().1.epoch(), 2, "told twice, it counts once");
        it.on_chosen(Slot(7), configuration(3, 5, None));
        let spans = |from| it.governing_from(Slot(from)).map(|(a, b, c)| (a.0, b.0, c.epoch()));
        let max = u64::MAX;
        assert_eq!(spans(4).collect::<Vec<_>>(), [(4, 5, 1), (5, 9, 2), (9, max, 3)]);
        assert_eq!(spans(6).collect::<Vec<_>>(), [(6, 9, 2), (9, max, 3)]);
    }

    /// Who is to come and who is to go both count until the change is over.
    #[test]
    fn quorums_of_all_that_govern_or_will() {
        let mut it = configurations(3, None, 2);
        it.on_chosen(Slot(1), configuration(2, 5, None));
        let reaches = |nodes: &'static [u16]| move |node: NodeId| nodes.contains(&node.0);
        assert!(!it.is_connected(reaches(&[1, 2])) && !it.is_connected(reaches(&[3, 4, 5])));
        assert!(it.is_connected(reaches(&[1, 2, 5])));
        it.advance(Slot(3));
        assert!(it.is_connected(reaches(&[3, 4, 5])));
        assert_eq!(it.nodes().len(), 5);
        let mut it = configurations(3, None, 2);
        it.on_chosen(Slot(1), fixtures::without(&initial(3, None), 3));
        it.advance(Slot(3));
        assert!(it.nodes().contains(&NodeId(3)), "it may not know yet that it left");
        it.leave_all();
        assert!(!it.nodes().contains(&NodeId(3)) && it.has_left_all());
    }

    /// A peer that knows more is right, one that knows less changes nothing; lists that do not touch are
    /// not joined, for what is between them is known to neither.
    #[test]
    fn lists_are_joined_where_they_touch() {
        let mut old = configurations(3, None, 2);
        let mut new = old.clone();
        for epoch in 2..40u64 {
            new.on_chosen(Slot(10 * epoch), configuration(epoch, 4, None));
            if epoch == 3 {
                assert!(old.merge(new.epochs()));
                assert_eq!(epochs(&old, 21..=22), [1, 2]);
            }
        }
        assert!(!new.merge(&old.epochs));
        new.advance(Slot(400));
        new.leave_all();
        assert!(new.epochs.entries.len() <= RETIRED_MAX + 1);
        assert!(old.merge(new.epochs()));
        assert!(old.covers(Slot(380)) && !old.covers(Slot(33)), "what governs 33 it never heard");
        assert_eq!(old.governing(Slot(392)).epoch(), 39);
    }

    /// Who was a member before a gap may be the only one who can tell what was chosen in it: it stays a peer
    /// until that is learned.
    #[test]
    fn members_from_before_a_gap_stay_until_it_is_learned() {
        let (mut it, mut peer) = (configurations(5, None, 2), configurations(5, None, 2));
        it.on_known(Slot(4));
        it.advance(Slot(4));
        peer.on_chosen(Slot(18), configuration(2, 3, None));
        peer.on_known(Slot(20));
        assert!(it.merge(&peer.as_of(Slot(20)).unwrap()));
        assert!(!it.covers(Slot(4)) && it.covers(Slot(20)));
        assert_eq!(it.nodes(), [1, 2, 3, 4, 5].map(NodeId));
        it.advance(Slot(19));
        it.leave_all();
        assert_eq!(it.nodes().len(), 5);
        it.advance(Slot(20));
        assert!(!it.has_left_all());
        it.leave_all();
        assert!(it.has_left_all());
        assert_eq!(it.nodes(), [1, 2, 3].map(NodeId));
    }

    /// A node that passed over slots 4 to 9 must not take what it learns behind for all there is: between
    /// them members came or went. A peer that knows lets it join the two.
    #[test]
    fn what_lies_behind_a_gap_waits_for_what_is_in_it() {
        let (mut it, mut peer) = (configurations(3, None, 2), configurations(3, None, 2));
        peer.on_values(Slot(1), Slot(9), vec![(Slot(5), configuration(2, 4, None))]);
        it.on_values(Slot(1), Slot(4), Vec::new());
        it.on_values(Slot(9), Slot(12), vec![(Slot(10), configuration(3, 5, None))]);
        it.on_values(Slot(12), Slot(20), Vec::new());
        assert_eq!((it.known_below(), it.latest().1.epoch()), (Slot(4), 1));
        assert!(it.merge(peer.epochs()));
        assert_eq!((it.known_below(), it.latest().1.epoch()), (Slot(20), 3));
        assert_eq!(epochs(&it, 6..=12), [1, 2, 2, 2, 2, 2, 3]);
    }

    /// A node that joins takes over what any peer tells it.
    #[test]
    fn a_node_that_joins_believes_its_peers() {
        let me = (NodeId(7), fixtures::addresses(7));
        let seeds = vec![(NodeId(2), fixtures::addresses(2))];
        let provisional = Configuration::provisional(me, seeds).unwrap();
        let mut it = Configurations::new(provisional, 2);
        it.on_known(Slot(5));
        assert!(it.is_provisional() && !it.covers(Slot(1)));
        assert_eq!(it.nodes(), [NodeId(2), NodeId(7)]);
        assert!(it.merge(configurations(3, None, 2).epochs()));
        assert!(!it.is_provisional() && it.covers(Slot(1)));
        assert_eq!(it.nodes(), [1, 2, 3].map(NodeId));
    }

    /// Snapshots of the same slot hold the same bytes at each replica, whatever it has heard beyond.
    #[test]
    fn as_of_a_slot_all_say_the_same() {
        let mut one = configurations(3, None, 2);
        one.on_known(Slot(5));
        let mut other = one.clone();
        other.on_chosen(Slot(5), configuration(2, 4, None));
        other.on_known(Slot(9));
        other.on_chosen(Slot(9), configuration(3, 5, None));
        let bytes = one.as_of(Slot(5)).unwrap().to_bytes();
        assert_eq!(other.as_of(Slot(5)).unwrap().to_bytes(), bytes);
        let both = other.as_of(Slot(6)).unwrap();
        assert_eq!(
            both.entries().map(|(from, it)| (from.0, it.epoch())).collect::<Vec<_>>(),
            [(1, 1), (7, 2)]
        );
        assert_eq!(Epochs::from_bytes(&both.to_bytes()), Some(both));
        for cut in 0..bytes.len() {
            assert_eq!(Epochs::from_bytes(&bytes[..cut]), None);
        }
    }
}
