//! The model: processes, the messages between them, and everything that may happen next.
//!
//! The network is the set of all messages that were ever sent. Each may be delivered at any time, again
//! and again, or never: so it delays, reorders, duplicates and loses without limit, and a state in which
//! a message was lost needs no state of its own. Only commands on their way to a leader leave the set
//! when they are delivered, or there would be no end of proposals; they are duplicated by replicas, which
//! hand them to each new leader.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use loggos::paxos::{Ballot, Message, NodeId, Slot};
use stateright::{Model, Property};

use super::process::Fault;
use super::setup::{Setup, Sync};
use super::table::{Cause, Envelope, Summary, Table};

/// As many processes as a model may have.
const NODES_MAX: usize = 5;

pub struct Cluster {
    pub setup: Setup,
    pub table: Mutex<Table>,
    /// Steps that were cut off because they propose for a slot beyond the last.
    pub cut: AtomicUsize,
    /// Which properties were found broken: told once, so that the trace is that of the first state.
    told: [AtomicBool; 16],
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// Numbers in the table.
    processes: [u32; NODES_MAX],
    network: Network,
    /// What may still happen.
    competes: [u8; NODES_MAX],
    commands_given: u8,
    crashes: u8,
    ticks: u8,
    reconnects: u8,
    /// What holds in this state; bits by `Fact`. It follows from the rest, but for what must never
    /// happen: that stays.
    facts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Action {
    pub node: NodeId,
    pub cause: Cause,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    // What must never be.
    Disagreement,
    AppliedNotChosen,
    NobodyProposed,
    TwoValuesInOneBallot,
    PromiseWentBack,
    RevealedBeforeDurable,
    Panicked,
    // What must be possible.
    Chosen,
    TwoChosen,
    Adopted,
    Lost,
    Preempted,
    Learned,
    VotedAgain,
}

impl Fact {
    fn bit(self) -> u32 {
        1 << self as u32
    }
}

impl Cluster {
    pub fn new(setup: Setup) -> Cluster {
        assert!(setup.roles.len() <= NODES_MAX && setup.roles.len() == setup.competes.len());
        let table = Mutex::new(Table::new(setup));
        Cluster { setup, table, cut: AtomicUsize::new(0), told: Default::default() }
    }

    /// One line of a trace.
    pub fn describe(&self, action: Action) -> String {
        let Action { node, cause } = action;
        let table = self.table.lock().expect("no step panics outside catch_unwind");
        let message = |id: u16| {
            let envelope = &table.envelopes()[usize::from(id)];
            format!("{} -> {node}: {:?}", envelope.from, envelope.message)
        };
        match cause {
            Cause::Message(id) => message(id),
            Cause::MessageAndCrash(id, tear) => format!("{}; it crashes: {tear:?}", message(id)),
            Cause::CompeteAndCrash(tear) => format!("{node} competes; it crashes: {tear:?}"),
            Cause::Crash(kept) => format!("{node} crashes, {kept} records are durable"),
            Cause::Command(number) => format!("{node} gets command {number}"),
            Cause::Compete => format!("{node} competes"),
            Cause::Sync => format!("{node}: its records are durable"),
            Cause::Tick => format!("{node} ticks"),
            Cause::PeerUp(peer) => format!("{node} is connected to {peer} anew"),
        }
    }

    /// What holds now, from the processes alone.
    fn facts(&self, table: &Table, state: &State) -> u32 {
        let processes = &state.processes[..self.setup.roles.len()];
        let summaries: Vec<&Summary> = processes.iter().map(|id| table.summary(*id)).collect();
        let mut facts = 0;
        let mut found = |fact: Fact, holds: bool| facts |= if holds { fact.bit() } else { 0 };

        let votes: Vec<(Ballot, Slot, u8)> =
            summaries.iter().flat_map(|summary| &summary.votes).copied().collect();
        let mut chosen: Vec<(Ballot, Slot, u8)> = Vec::new();
        for vote in &votes {
            let (ballot, slot, value) = *vote;
            let same = votes.iter().filter(|other| *other == vote).count();
            let quorum = self.setup.configuration(ballot.node).membership().phase2();
            if quorum <= same && !chosen.contains(vote) {
                chosen.push(*vote);
            }
            let differs = votes.iter().any(|(b, s, v)| (*b, *s) == (ballot, slot) && *v != value);
            found(Fact::TwoValuesInOneBallot, differs);
        }
        let mut taken: Vec<(Slot, u8)> = chosen.iter().map(|(_, s, v)| (*s, *v)).collect();
        for summary in &summaries {
            for (i, value) in summary.applied.iter().enumerate() {
                let taken_here = (Slot::FIRST.plus(i), *value);
                let is_chosen = chosen.iter().any(|(_, s, v)| (*s, *v) == taken_here);
                found(Fact::AppliedNotChosen, !is_chosen);
                taken.push(taken_here);
            }
            found(Fact::Preempted, summary.preempted);
            found(Fact::Learned, summary.learned);
            found(Fact::VotedAgain, summary.voted_again);
        }
        for (slot, value) in &taken {
            let differs = taken.iter().any(|(s, v)| s == slot && v != value);
            found(Fact::Disagreement, differs);
            // A no-op holds no commands, and needs none to have been given.
            let known = table.commands_of(*value).is_some_and(|of| of & !state.commands_given == 0);
            found(Fact::NobodyProposed, !known);
            let lost = votes.iter().any(|(_, s, v)| s == slot && v != value);
            found(Fact::Lost, lost);
            found(Fact::TwoChosen, taken.iter().any(|(s, _)| s != slot));
        }
        found(Fact::Chosen, !taken.is_empty());
        let adopted = chosen.iter().any(|(ballot, slot, value)| {
            let older = |(b, s, v): &(Ballot, Slot, u8)| {
                b < ballot && b.node != ballot.node && (s, v) == (slot, value)
            };
            votes.iter().any(older)
        });
        found(Fact::Adopted, adopted);
        facts
    }

    /// Whether a message can have no effect any more, whatever happens.
    ///
    /// A leader that follows a higher ballot never uses its own again, and one that leads never scouts
    /// with it again. If it may not compete again either, answers to it are read by
    /// nobody, and what it proposes to an acceptor that promised a higher ballot durably is refused
    /// without a trace.
    fn is_dead(&self, table: &Table, state: &State, id: u16) -> bool {
        let is_over = |node: NodeId| {
            0 == state.competes[index(node)]
                && table.summary(state.processes[index(node)]).preempted
        };
        let Envelope { to, message, .. } = &table.envelopes()[usize::from(id)];
        let receiver = table.summary(state.processes[index(*to)]);
        match message {
            Message::P1b(_) => is_over(*to) || 0 == state.competes[index(*to)] && receiver.leading,
            Message::P2b(_) => is_over(*to),
            Message::P2a { ballot, .. } => *ballot < receiver.promised && is_over(ballot.node),
            _ => false,
        }
    }

    /// Whether `fact`, which must never be, is so in this state; says so of the first state only.
    fn is_news(&self, state: &State, fact: Fact) -> bool {
        state.has(fact) && !self.told[fact as usize].swap(true, Ordering::Relaxed)
    }
}

impl State {
    pub fn has(&self, fact: Fact) -> bool {
        self.facts & fact.bit() != 0
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let mut processes = [0; NODES_MAX];
        let mut competes = [0; NODES_MAX];
        let mut table = self.table.lock().expect("nothing panicked");
        let mut first = table.first();
        let mut commands_given = 0;
        if self.setup.commands_early {
            for (number, node) in (0u8..).zip(self.setup.commands) {
                let process = &mut first[index(NodeId(*node))];
                *process = table.step(*process, Cause::Command(number)).process;
                commands_given |= 1 << number;
            }
        }
        processes[..first.len()].copy_from_slice(&first);
        competes[..first.len()].copy_from_slice(self.setup.competes);
        vec![State {
            processes,
            network: Network::default(),
            competes,
            commands_given,
            crashes: self.setup.crashes,
            ticks: self.setup.ticks,
            reconnects: self.setup.reconnects,
            facts: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let table = &mut self.table.lock().expect("nothing panicked");
        let tears = 0 < state.crashes && self.setup.sync == Sync::InTheTurn;
        for id in state.network.iter() {
            let node = table.envelopes()[usize::from(id)].to;
            actions.push(Action { node, cause: Cause::Message(id) });
            if tears {
                let process = state.processes[index(node)];
                let tears = &table.step(process, Cause::Message(id)).tears;
                let torn = tears.iter().map(|tear| Cause::MessageAndCrash(id, *tear));
                actions.extend(torn.map(|cause| Action { node, cause }));
            }
        }
        for node in self.setup.nodes() {
            let process = state.processes[index(node)];
            let (pending, can_tick) = {
                let summary = table.summary(process);
                (summary.pending, summary.can_tick)
            };
            let mut may = |cause| actions.push(Action { node, cause });
            if 0 < state.competes[index(node)] {
                may(Cause::Compete);
                if tears {
                    let tears = &table.step(process, Cause::Compete).tears;
                    tears.iter().for_each(|tear| may(Cause::CompeteAndCrash(*tear)));
                }
            }
            for (number, at) in (0u8..).zip(self.setup.commands) {
                if NodeId(*at) == node && state.commands_given & 1 << number == 0 {
                    may(Cause::Command(number));
                }
            }
            if self.setup.sync == Sync::Later {
                may(Cause::Sync);
            }
            if 0 < state.crashes {
                (0..=pending).for_each(|kept| may(Cause::Crash(kept)));
            }
            if 0 < state.ticks && can_tick {
                may(Cause::Tick);
            }
            if 0 < state.reconnects {
                let peers = self.setup.nodes().filter(|peer| *peer != node);
                peers.for_each(|peer| may(Cause::PeerUp(peer)));
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let Action { node, cause } = action;
        let table = &mut self.table.lock().expect("nothing panicked");
        let before = last.processes[index(node)];
        let mut state = last.clone();
        match cause {
            Cause::Message(id) | Cause::MessageAndCrash(id, _) => {
                let message = &table.envelopes()[usize::from(id)].message;
                if matches!(message, Message::Propose { .. }) {
                    state.network.remove(id);
                }
            }
            Cause::Compete | Cause::CompeteAndCrash(_) => state.competes[index(node)] -= 1,
            Cause::Command(number) => state.commands_given |= 1 << number,
            Cause::Tick => state.ticks -= 1,
            Cause::PeerUp(_) => state.reconnects -= 1,
            Cause::Sync | Cause::Crash(_) => {}
        }
        if let Cause::MessageAndCrash(..) | Cause::CompeteAndCrash(_) | Cause::Crash(_) = cause {
            state.crashes -= 1;
        }

        let step = table.step(before, cause);
        if self.setup.last_slot < step.proposed {
            self.cut.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let after = step.process;
        state.processes[index(node)] = after;
        step.sends.iter().for_each(|id| state.network.insert(*id));
        for fault in &step.faults {
            state.facts |= match fault {
                Fault::PromiseWentBack => Fact::PromiseWentBack.bit(),
                Fault::RevealedBeforeDurable => Fact::RevealedBeforeDurable.bit(),
                Fault::TwoValuesInOneBallot => Fact::TwoValuesInOneBallot.bit(),
            };
        }
        if step.panicked {
            state.facts |= Fact::Panicked.bit();
        }
        if before != after && table.summary(before) != table.summary(after) {
            state.facts |= self.facts(table, &state);
        }
        table.meet(&state.processes);
        if self.setup.drops_dead {
            let dead: Vec<u16> =
                state.network.iter().filter(|id| self.is_dead(table, &state, *id)).collect();
            dead.into_iter().for_each(|id| state.network.remove(id));
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let mut properties = vec![
            Property::always("at most one value is chosen a slot", |model: &Cluster, state| {
                !model.is_news(state, Fact::Disagreement)
            }),
            Property::always("what is handed out is chosen", |model: &Cluster, state| {
                !model.is_news(state, Fact::AppliedNotChosen)
            }),
            Property::always("what is chosen was proposed", |model: &Cluster, state| {
                !model.is_news(state, Fact::NobodyProposed)
            }),
            Property::always("one value a ballot and slot", |model: &Cluster, state| {
                !model.is_news(state, Fact::TwoValuesInOneBallot)
            }),
            Property::always("promises never go back", |model: &Cluster, state| {
                !model.is_news(state, Fact::PromiseWentBack)
            }),
            Property::always("nothing is revealed before durable", |model: &Cluster, state| {
                !model.is_news(state, Fact::RevealedBeforeDurable)
            }),
            Property::always("no assertion fails", |model: &Cluster, state| {
                !model.is_news(state, Fact::Panicked)
            }),
            Property::sometimes("a value is chosen", |_, state: &State| state.has(Fact::Chosen)),
        ];
        let several = 1 < self.setup.competes.iter().map(|it| u32::from(*it)).sum::<u32>();
        if several {
            properties.extend([
                Property::sometimes("an older ballot's value is adopted", |_, state: &State| {
                    state.has(Fact::Adopted)
                }),
                Property::sometimes("a leader is preempted", |_, state: &State| {
                    state.has(Fact::Preempted)
                }),
            ]);
        }
        if self.setup.learns {
            properties
                .push(Property::sometimes("a chosen value is learned", |_, state: &State| {
                    state.has(Fact::Learned)
                }));
        }
        if 1 < self.setup.commands.len() {
            properties.push(Property::sometimes("two slots are chosen", |_, state: &State| {
                state.has(Fact::TwoChosen)
            }));
            let rivals = self.setup.commands.iter().any(|at| *at != self.setup.commands[0]);
            if several && rivals {
                properties
                    .push(Property::sometimes("an accepted value loses", |_, state: &State| {
                        state.has(Fact::Lost)
                    }));
            }
        }
        if 0 < self.setup.crashes {
            properties
                .push(Property::sometimes("a restarted acceptor votes", |_, state: &State| {
                    state.has(Fact::VotedAgain)
                }));
        }
        properties
    }
}

fn index(node: NodeId) -> usize {
    usize::from(node.0) - 1
}

/// A set of messages, by their numbers in the table.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Network {
    words: Vec<u64>,
}

impl Network {
    fn insert(&mut self, id: u16) {
        let word = usize::from(id) / 64;
        if self.words.len() <= word {
            self.words.resize(word + 1, 0);
        }
        self.words[word] |= 1 << (id % 64);
    }

    fn remove(&mut self, id: u16) {
        self.words[usize::from(id) / 64] &= !(1 << (id % 64));
        // One set, one form.
        while self.words.last() == Some(&0) {
            self.words.pop();
        }
    }

    fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.words.iter().zip(0u16..).flat_map(|(word, i)| {
            (0..64).filter(move |bit| word & 1 << bit != 0).map(move |bit| i * 64 + bit)
        })
    }
}
