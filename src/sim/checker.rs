//! The omniscient observer: sees every durable record and every message as it leaves, and stops the
//! run at the first step that breaks a safety rule.
//!
//! A slot is chosen here when a phase-2 quorum of write-ahead logs durably holds it in one ballot,
//! whether or not any node knows. So a second choice is seen when it happens, not when it is told.

use std::collections::{BTreeMap, BTreeSet};

use crate::paxos::{
    Ballot, CommandId, Configuration, Message, NodeId, P1b, Record, Recovered, Slot, Value,
};
use crate::store::{Applied, Store};

use super::oracle::Oracle;
use super::shadow::Shadow;

pub struct Checker {
    /// By the slot from which each governs.
    configurations: BTreeMap<Slot, Configuration>,
    alpha: usize,
    votes: BTreeMap<(Slot, Ballot), BTreeSet<NodeId>>,
    chosen: BTreeMap<Slot, (Ballot, Value)>,
    /// The highest ballot in which each node durably accepted each slot.
    accepted: BTreeMap<(NodeId, Slot), Ballot>,
    /// Each value that was proposed: one a ballot and slot, over all lives of its leader.
    proposed: BTreeMap<(Ballot, Slot), Value>,
    proposed_configurations: Vec<Configuration>,
    /// The highest promise that each node let others know of.
    told: BTreeMap<NodeId, Ballot>,
    /// How far each node's P2b in a ballot were checked.
    checked: BTreeMap<NodeId, (Ballot, Slot)>,
    pub oracle: Oracle,
    /// The slots below were chosen by another cluster: a backup of it was restored.
    begin: Slot,
    /// Commands whose clients were told, and the slot.
    acked: BTreeMap<CommandId, Slot>,
    /// A read that begins now must see all slots below.
    seen_end: Slot,
}

impl Checker {
    pub fn new(initial: Configuration, alpha: usize) -> Checker {
        Checker {
            configurations: BTreeMap::from([(Slot::FIRST, initial)]),
            alpha,
            votes: BTreeMap::new(),
            chosen: BTreeMap::new(),
            accepted: BTreeMap::new(),
            proposed: BTreeMap::new(),
            proposed_configurations: Vec::new(),
            told: BTreeMap::new(),
            checked: BTreeMap::new(),
            oracle: Oracle::new(),
            begin: Slot::FIRST,
            acked: BTreeMap::new(),
            seen_end: Slot::FIRST,
        }
    }

    /// Of a cluster that goes on behind all that `oracle` has seen.
    pub fn restored(initial: Configuration, alpha: usize, oracle: Oracle) -> Checker {
        let begin = oracle.end();
        Checker { oracle, begin, seen_end: begin, ..Checker::new(initial, alpha) }
    }

    pub fn acked(&self) -> &BTreeMap<CommandId, Slot> {
        &self.acked
    }

    pub fn seen_end(&self) -> Slot {
        self.seen_end
    }

    /// The slots of this run that are chosen.
    pub fn chosen_len(&self) -> usize {
        self.chosen.len()
    }

    /// A record became durable at `node`: an accepted pvalue is a vote from now on.
    pub fn on_durable(&mut self, node: NodeId, record: &Record) {
        let Record::Accepted { ballot, slot, value } = record else { return };
        self.on_proposed(*ballot, *slot, value);
        let accepted = self.accepted.entry((node, *slot)).or_default();
        *accepted = (*accepted).max(*ballot);
        let votes = self.votes.entry((*slot, *ballot)).or_default();
        votes.insert(node);
        let governing = self.configurations.range(..=*slot).next_back();
        let membership = governing.expect("one governs the first slot").1.membership();
        if votes.iter().filter(|node| membership.is_acceptor(**node)).count() < membership.phase2()
        {
            return;
        }
        match self.chosen.get(slot) {
            Some((first, chosen)) => assert!(
                chosen == value,
                "slot {slot}: two values chosen, {chosen:?} in {first} and {value:?} in {ballot}"
            ),
            None => {
                self.chosen.insert(*slot, (*ballot, value.clone()));
                if let Some(configuration) = Configuration::of_value(value) {
                    self.on_configuration(*slot, configuration);
                }
            }
        }
    }

    /// A configuration is chosen, and no other waits to govern: it is one step from the one that governs.
    fn on_configuration(&mut self, slot: Slot, configuration: Configuration) {
        let (from, before) = self.configurations.last_key_value().expect("never empty");
        let epoch = configuration.epoch();
        assert!(*from <= slot, "slot {slot}: a configuration while another waits to govern");
        assert_eq!(epoch, before.epoch() + 1, "slot {slot}: a configuration of another epoch");
        self.configurations.insert(slot.plus(self.alpha), configuration);
    }

    /// The newest configuration that is chosen.
    pub fn latest(&self) -> &Configuration {
        self.configurations.last_key_value().expect("never empty").1
    }

    /// All that govern slots which not every node may know to be chosen, or may come to be chosen.
    pub fn in_question(&self) -> impl Iterator<Item = &Configuration> {
        let epoch = self.latest().epoch();
        let may_come = self.proposed_configurations.iter().filter(move |it| epoch < it.epoch());
        self.configurations.values().rev().take(2).chain(may_come)
    }

    fn on_proposed(&mut self, ballot: Ballot, slot: Slot, value: &Value) {
        let configurations = &mut self.proposed_configurations;
        let proposed = self.proposed.entry((ballot, slot)).or_insert_with(|| {
            configurations.extend(Configuration::of_value(value));
            value.clone()
        });
        assert!(proposed == value, "slot {slot}: two values proposed in {ballot}");
    }

    /// A node hands out a slot as chosen.
    pub fn on_handed_out(&self, node: NodeId, slot: Slot, value: &[u8]) {
        match self.chosen.get(&slot) {
            Some((_, chosen)) => {
                assert!(*chosen.0 == *value, "{node} hands out another value of slot {slot}");
            }
            None => panic!("{node} hands out slot {slot}, which is not chosen"),
        }
    }

    /// A node restarts with what it recovered from its log, which may have lost what lies before `begin`.
    pub fn on_recovered(&self, node: NodeId, log: &Shadow, begin: Slot, recovered: &Recovered) {
        if let Some(&told) = self.told.get(&node) {
            assert!(told <= recovered.promised, "{node} forgot its promise {told}");
        }
        // Of the slots below, the snapshot is held against the digest.
        let first = recovered.log_begin.max(recovered.snapshot.next()).max(begin).0;
        for slot in (first..recovered.first_unchosen.0).map(Slot) {
            let (_, value) = log.value(slot).unwrap_or_else(|| panic!("{node} lost slot {slot}"));
            self.on_handed_out(node, slot, &value.0);
        }
        let held: BTreeMap<Slot, (Ballot, bool)> =
            recovered.tail.iter().map(|entry| (entry.slot, (entry.ballot, entry.chosen))).collect();
        let first = (node, recovered.first_unchosen.max(recovered.snapshot.next()));
        for (&(_, slot), accepted) in self.accepted.range(first..=(node, Slot(u64::MAX))) {
            let held = held.get(&slot);
            assert!(
                held.is_some_and(|(held, chosen)| accepted <= held || *chosen)
                    || recovered.unsure.contains(slot),
                "{node} accepted slot {slot} in {accepted}, and {held:?} is left of that"
            );
        }
    }

    /// A message leaves `from`, or is handed to itself: whatever it reveals must be durable.
    pub fn on_message(&mut self, from: NodeId, log: &Shadow, message: &Message) {
        match message {
            Message::P1a { ballot, .. } => {
                assert!(*ballot <= log.durable_own_ballot, "{from} uses {ballot} before its sync");
            }
            Message::P1b(p1b) => {
                self.on_promise(from, log, p1b.promised);
                if p1b.promised != p1b.ballot {
                    return;
                }
                for pvalue in &p1b.accepted {
                    // Of a chosen slot the chosen value alone may have been learned since.
                    let durable = log.durable_slots.get(&pvalue.slot).copied();
                    let learned = durable.is_some() && self.chosen.contains_key(&pvalue.slot);
                    assert!(
                        learned || durable.is_some_and(|ballot| pvalue.ballot <= ballot),
                        "{from} tells of {pvalue:?} before its sync"
                    );
                }
                self.check_chosen_below(from, p1b.first_unchosen);
                self.check_whole(from, p1b);
            }
            Message::P2a { ballot, first_slot, first_unchosen, values } => {
                assert!(*ballot <= log.durable_own_ballot, "{from} uses {ballot} before its sync");
                for (i, value) in values.iter().enumerate() {
                    self.on_proposed(*ballot, first_slot.plus(i), value);
                }
                self.check_chosen_below(from, *first_unchosen);
            }
            Message::Commit { first_unchosen, .. } => {
                self.check_chosen_below(from, *first_unchosen);
            }
            Message::P2b(p2b) => {
                self.on_promise(from, log, p2b.promised);
                if p2b.promised == p2b.ballot {
                    self.check_accepted(from, log, p2b.ballot, p2b.accepted_end);
                }
            }
            Message::ConfirmAck { ballot, .. } => self.on_promise(from, log, *ballot),
            Message::LeaseGrant { ballot, .. } => self.on_promise(from, log, *ballot),
            Message::QuorumReadReply { extent, .. } => {
                self.on_promise(from, log, extent.ballot);
                self.check_accepted(from, log, extent.ballot, extent.accepted_end);
            }
            Message::SnapshotOffer { first_unchosen, snapshot, .. } => {
                self.check_chosen_below(from, *first_unchosen);
                if let Some(snapshot) = snapshot {
                    self.check_chosen_below(from, snapshot.slot.next());
                }
            }
            Message::Chosen { first_slot, values, .. } => {
                for (i, (_, value)) in values.iter().enumerate() {
                    self.on_handed_out(from, first_slot.plus(i), &value.0);
                }
            }
            _ => {}
        }
    }

    /// An acceptor tells of all that it ever accepted and had durable, though damage took it since: what it
    /// accepted last, or the chosen value, or that it cannot tell.
    fn check_whole(&self, from: NodeId, p1b: &P1b) {
        let first = p1b.first_slot.max(p1b.first_unchosen);
        let end = if p1b.no_more_accepted { Slot(u64::MAX) } else { p1b.end };
        for (&(_, slot), accepted) in self.accepted.range((from, first)..(from, end.max(first))) {
            if p1b.ballot <= *accepted {
                // That was later.
                continue;
            }
            let told = p1b.accepted.iter().find(|pvalue| pvalue.slot == slot);
            let is_told = told.is_some_and(|pvalue| {
                let chosen = self.chosen.get(&slot);
                *accepted <= pvalue.ballot || chosen.is_some_and(|(_, it)| *it == pvalue.value)
            });
            assert!(
                is_told || p1b.unsure.iter().any(|run| run.contains(&slot)),
                "{from} accepted slot {slot} in {accepted}, and answers a scout with {told:?}"
            );
        }
    }

    fn on_promise(&mut self, from: NodeId, log: &Shadow, promised: Ballot) {
        assert!(promised <= log.durable_promised, "{from} promises {promised} before its sync");
        let told = self.told.entry(from).or_default();
        *told = promised.max(*told);
    }

    /// Slots below are chosen. Only the last one is looked up: those below it were, when they were
    /// last.
    fn check_chosen_below(&self, from: NodeId, first_unchosen: Slot) {
        if self.begin < first_unchosen {
            let last = Slot(first_unchosen.0 - 1);
            assert!(self.chosen.contains_key(&last), "{from} calls slot {last} chosen, it is not");
        }
    }

    fn check_accepted(&mut self, from: NodeId, log: &Shadow, ballot: Ballot, end: Slot) {
        let checked = self.checked.entry(from).or_insert((ballot, self.begin));
        if checked.0 != ballot {
            *checked = (ballot, self.begin);
        }
        for slot in (checked.1.0..end.0).map(Slot) {
            let durable = log.durable_slots.get(&slot).copied();
            assert!(
                self.chosen.contains_key(&slot) || durable.is_some_and(|held| ballot <= held),
                "{from} says that it accepted slot {slot} in {ballot}, durable is {durable:?}"
            );
        }
        checked.1 = checked.1.max(end);
    }

    /// A replica applied a slot, now or when it was replayed.
    pub fn on_applied(
        &mut self,
        node: NodeId,
        slot: Slot,
        value: &[u8],
        applied: &[Applied],
        store: &Store,
    ) {
        self.on_handed_out(node, slot, value);
        self.oracle.on_applied(slot, value, applied, store);
    }

    /// The state behind `slot` is what a node has, by a snapshot.
    pub fn on_state(&self, node: NodeId, slot: Slot, digest: u128) {
        assert!(
            self.oracle.digest(slot) == Some(digest),
            "{node}: another state behind slot {slot}"
        );
    }

    /// A client is told that its command is done, by a node that applied all slots below `end`.
    pub fn on_acked(&mut self, id: CommandId, slot: Slot, end: Slot) {
        self.acked.insert(id, slot);
        self.seen_end = self.seen_end.max(end);
    }

    /// A read that began when `floor` was `seen_end` is answered from the slots below `end`.
    pub fn on_read(&mut self, node: NodeId, floor: Slot, end: Slot) {
        assert!(floor <= end, "{node} answers a read up to {end} that must see up to {floor}");
        self.seen_end = self.seen_end.max(end);
    }
}
