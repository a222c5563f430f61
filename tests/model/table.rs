//! Every process state, message and value that was met, once, under a number; and what came of each
//! input to each process state.
//!
//! A state of the whole model is then a few numbers and a set of messages, and the core runs once for
//! each process state and input, however many global states they occur in: a node's answer depends on
//! nothing else.

#![allow(clippy::disallowed_types)] // Hash maps are looked up here, never walked.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use loggos::paxos::{Ballot, Message, NodeId, Slot, Value};

use super::process::{Fault, Input, Output, Process, Tear, commands_of};
use super::setup::Setup;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Envelope {
    pub from: NodeId,
    pub to: NodeId,
    pub message: Message,
}

/// An input to a process, by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    Message(u16),
    /// The process crashes while it handles this message.
    MessageAndCrash(u16, Tear),
    Compete,
    CompeteAndCrash(Tear),
    Command(u8),
    Tick,
    PeerUp(NodeId),
    Sync,
    Crash(u8),
}

#[derive(Clone, Debug)]
pub struct Step {
    pub process: u32,
    pub sends: Vec<u16>,
    pub faults: Vec<Fault>,
    pub proposed: Slot,
    /// Where a crash may tear the step apart.
    pub tears: Vec<Tear>,
    /// An assertion of the core, or of the model, failed.
    pub panicked: bool,
}

/// What the properties look at in a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub votes: Vec<(Ballot, Slot, u8)>,
    pub applied: Vec<u8>,
    /// It used a ballot and now follows a higher one.
    pub preempted: bool,
    /// It leads: it will not scout with this ballot again.
    pub leading: bool,
    /// What its acceptor has promised durably.
    pub promised: Ballot,
    /// It learned a chosen value that it had not accepted.
    pub learned: bool,
    pub voted_again: bool,
    pub pending: u8,
    pub can_tick: bool,
}

pub struct Table {
    setup: Setup,
    processes: Vec<(Process, Summary)>,
    process_ids: HashMap<u128, u32>,
    envelopes: Vec<Envelope>,
    envelope_ids: HashMap<Envelope, u16>,
    values: Vec<Value>,
    steps: HashMap<(u32, Cause), Step>,
    /// The process states that were met together.
    together: HashSet<Vec<u32>>,
}

impl Table {
    pub fn new(setup: Setup) -> Table {
        Table {
            setup,
            processes: Vec::new(),
            process_ids: HashMap::new(),
            envelopes: Vec::new(),
            envelope_ids: HashMap::new(),
            values: Vec::new(),
            steps: HashMap::new(),
            together: HashSet::new(),
        }
    }

    pub fn processes(&self) -> usize {
        self.processes.len()
    }

    pub fn meet(&mut self, processes: &[u32]) {
        if !self.together.contains(processes) {
            self.together.insert(processes.to_vec());
        }
    }

    pub fn together(&self) -> usize {
        self.together.len()
    }

    pub fn envelopes(&self) -> &[Envelope] {
        &self.envelopes
    }

    pub fn summary(&self, process: u32) -> &Summary {
        &self.processes[process as usize].1
    }

    /// The commands that a value holds, as bits, if clients sent them.
    pub fn commands_of(&self, value: u8) -> Option<u8> {
        commands_of(&self.values[usize::from(value)], &self.setup)
    }

    /// The processes as they are first started.
    pub fn first(&mut self) -> Vec<u32> {
        let setup = self.setup;
        setup.nodes().map(|node| self.keep(Process::first(&setup, node))).collect()
    }

    pub fn step(&mut self, process: u32, cause: Cause) -> &Step {
        if !self.steps.contains_key(&(process, cause)) {
            let step = self.play(process, cause);
            self.steps.insert((process, cause), step);
        }
        &self.steps[&(process, cause)]
    }

    fn play(&mut self, process: u32, cause: Cause) -> Step {
        let setup = self.setup;
        let before = self.processes[process as usize].0.clone();
        let input = match cause {
            Cause::Message(id) | Cause::MessageAndCrash(id, _) => {
                let Envelope { from, message, .. } = self.envelopes[usize::from(id)].clone();
                Some(Input::Message(from, message))
            }
            Cause::Compete | Cause::CompeteAndCrash(_) => Some(Input::Compete),
            Cause::Command(number) => Some(Input::Command(number)),
            Cause::Tick => Some(Input::Tick),
            Cause::PeerUp(peer) => Some(Input::PeerUp(peer)),
            Cause::Sync | Cause::Crash(_) => None,
        };
        let torn = match cause {
            Cause::MessageAndCrash(_, torn) | Cause::CompeteAndCrash(torn) => Some(torn),
            _ => None,
        };
        let played = std::panic::catch_unwind(|| {
            let mut after = before;
            let mut out = Output::default();
            match cause {
                Cause::Crash(kept) => after.crash(&setup, usize::from(kept), &mut out),
                Cause::Sync => after.sync(&setup, &mut out),
                _ => after.turns(&setup, input.expect("all others are inputs"), torn, &mut out),
            }
            (after, out)
        });
        let Ok((after, out)) = played else {
            let (sends, faults) = (Vec::new(), Vec::new());
            let (proposed, tears) = (Slot(0), Vec::new());
            return Step { process, sends, faults, proposed, tears, panicked: true };
        };
        let from = after.node.id();
        let process = self.keep(after);
        let mut sends: Vec<u16> =
            out.sends.into_iter().map(|(to, message)| self.envelope(from, to, message)).collect();
        sends.sort_unstable();
        sends.dedup();
        let Output { faults, proposed, tears, .. } = out;
        Step { process, sends, faults, proposed, tears, panicked: false }
    }

    fn keep(&mut self, process: Process) -> u32 {
        let key = key(&process);
        if let Some(id) = self.process_ids.get(&key) {
            return *id;
        }
        let summary = self.summarize(&process);
        let id = u32::try_from(self.processes.len()).expect("few processes");
        self.processes.push((process, summary));
        self.process_ids.insert(key, id);
        id
    }

    fn summarize(&mut self, process: &Process) -> Summary {
        let own_ballot = process.wal.own_ballot;
        Summary {
            votes: process.votes.iter().map(|((b, s), v)| (*b, *s, self.value(v))).collect(),
            applied: process.applied.iter().map(|value| self.value(value)).collect(),
            preempted: !own_ballot.is_none() && own_ballot < process.node.view().ballot,
            leading: process.node.view().leading,
            promised: process.wal.promised,
            learned: process.wal.slots.values().any(|last| last.chosen),
            voted_again: process.voted_again,
            pending: u8::try_from(process.pending()).expect("few records"),
            can_tick: process.can_tick(),
        }
    }

    fn value(&mut self, value: &Value) -> u8 {
        let known = self.values.iter().position(|it| it == value);
        let id = known.unwrap_or_else(|| {
            self.values.push(value.clone());
            self.values.len() - 1
        });
        u8::try_from(id).expect("few values")
    }

    fn envelope(&mut self, from: NodeId, to: NodeId, message: Message) -> u16 {
        let envelope = Envelope { from, to, message };
        if let Some(id) = self.envelope_ids.get(&envelope) {
            return *id;
        }
        let id = u16::try_from(self.envelopes.len()).expect("few messages");
        self.envelopes.push(envelope.clone());
        self.envelope_ids.insert(envelope, id);
        id
    }
}

/// 128 bits of hash: with a million process states, two of them fall together once in 10^26 times.
fn key(process: &Process) -> u128 {
    let half = |salt: u64| {
        let mut hasher = DefaultHasher::new();
        (salt, process).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(1) << 64 | half(2)
}
