//! Was it linearizable? Histories of clients, judged against the model of the store.
//!
//! A history is a list of operations, each with the time it was invoked and the time its reply came,
//! or without a reply. It is linearizable if the operations of each key can be put in one order that
//! a single copy of the store could have executed, in which nothing comes before what had ended
//! before it began. An operation without a reply may have taken effect at any time since, or never.
//! Keys are independent: each is judged on its own (linearizability is local).
//!
//! `model` says what the store may reply, `telling` what replies tell of the state, `search` looks for
//! the order (and `zones` does without a search where it can), `shrink` reduces what has none to the few
//! operations that show it. This part has no threads, files or clocks; the same history always gets the
//! same verdict. Around it, for `loggos check`: `file` is the format of
//! recorded histories, `run` reads the files of a run and judges on all processors, `nodes` compares
//! the nodes' traces, `timeline` shows what is wrong.
//!
//! ```
//! # use loggos_engine as loggos;
//! use loggos::check::{History, Op, Reply, Value, Verdict, linearizable};
//!
//! let mut history = History::new();
//! let put = history.invoke(1, 100, b"key", Op::Put(Value::of(b"new")));
//! history.reply(put, 200, Reply::Done);
//! let get = history.invoke(2, 300, b"key", Op::Get);
//! history.reply(get, 400, Reply::Value(Value::Absent));
//! assert!(matches!(linearizable(&history), Verdict::Violated(_)));
//! ```

pub mod file;
mod model;
pub mod nodes;
pub mod run;
mod search;
mod shrink;
mod telling;
mod timeline;
mod values;
mod zones;

#[cfg(test)]
mod tests;

pub use model::{Op, Reply, Value};
use search::{Found, Search};

/// What many clients did to many keys.
#[derive(Clone, Debug, Default)]
pub struct History {
    operations: Vec<Operation>,
    names: Vec<Box<[u8]>>,
    /// Only looked up, never walked through: its order is of no consequence.
    #[allow(clippy::disallowed_types)]
    numbers: std::collections::HashMap<Box<[u8]>, u32>,
    starts_unknown: bool,
}

/// One operation of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Whoever asked; only to show it.
    pub client: u64,
    /// Number of the key in its history.
    pub key: u32,
    pub op: Op,
    pub invoked: u64,
    pub outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No reply: it may take effect at any time after it was invoked, or never.
    Unknown,
    /// Certainly without effect, now and for ever.
    Failed,
    Replied {
        at: u64,
        reply: Reply,
    },
}

/// An operation that was invoked and whose outcome is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "an operation without a reply has an unknown outcome"]
pub struct Ticket(usize);

impl History {
    /// No operations yet, on keys of which none exists.
    pub fn new() -> History {
        History::default()
    }

    /// The keys may hold anything at the beginning.
    pub fn start_unknown(&mut self) {
        self.starts_unknown = true;
    }

    /// A client asks at `time`. Times are any numbers that grow (nanoseconds, or the steps of a
    /// simulator); where an invocation and a reply have the same time, the two overlap.
    ///
    /// Until more is told, the outcome is unknown.
    pub fn invoke(&mut self, client: u64, time: u64, key: &[u8], op: Op) -> Ticket {
        let key = self.number(key);
        let outcome = Outcome::Unknown;
        self.operations.push(Operation { client, key, op, invoked: time, outcome });
        Ticket(self.operations.len() - 1)
    }

    /// The reply came at `time`.
    pub fn reply(&mut self, ticket: Ticket, time: u64, reply: Reply) {
        let operation = &mut self.operations[ticket.0];
        assert!(operation.invoked <= time, "a reply comes after its question");
        operation.outcome = Outcome::Replied { at: time, reply };
    }

    /// The operation certainly did not happen and never will.
    pub fn fail(&mut self, ticket: Ticket) {
        self.operations[ticket.0].outcome = Outcome::Failed;
    }

    pub fn len(&self) -> usize {
        self.operations.len()
    }

    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The name of a key by its number.
    pub fn name(&self, key: u32) -> &[u8] {
        &self.names[key as usize]
    }

    fn number(&mut self, key: &[u8]) -> u32 {
        if let Some(&number) = self.numbers.get(key) {
            return number;
        }
        let number = u32::try_from(self.names.len()).expect("so many keys do not fit in memory");
        self.names.push(key.into());
        self.numbers.insert(key.into(), number);
        number
    }

    /// The state of each key at the beginning.
    fn start(&self) -> Value {
        if self.starts_unknown { Value::Any } else { Value::Absent }
    }

    /// The operations of each key, in the order in which the keys were first named.
    fn by_key(&self) -> Vec<Vec<Operation>> {
        let mut keys = vec![Vec::new(); self.names.len()];
        for operation in &self.operations {
            keys[operation.key as usize].push(*operation);
        }
        keys
    }
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// There is an order for each key.
    Linearizable,
    /// There is none for the operations of this key.
    Violated(Witness),
    /// The search was given up before it found an order for this key or saw that there is none.
    Undecided { key: Vec<u8> },
}

/// Few operations of one key that cannot be put in any order, whatever the others did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    pub key: Vec<u8>,
    /// In the order in which they were invoked.
    pub operations: Vec<Operation>,
    /// How many more may have taken effect at some time, and help nothing.
    pub others: usize,
    /// How many operations the key had.
    pub of: usize,
}

impl Witness {
    /// The witness for people, a line each, within 80 columns.
    pub fn lines(&self) -> Vec<String> {
        timeline::lines(self)
    }
}

/// Judges a history; of several violated keys the one that was named first.
pub fn linearizable(history: &History) -> Verdict {
    linearizable_within(history, u64::MAX)
}

/// Judges a history, and gives up each key after `points_max` points of the search or what its number of
/// operations allows, if that is less.
pub fn linearizable_within(history: &History, points_max: u64) -> Verdict {
    let mut undecided = None;
    for (number, operations) in (0..).zip(history.by_key()) {
        let key = history.name(number);
        match judge_key(key, history.start(), &operations, points_max) {
            Verdict::Linearizable => {}
            Verdict::Violated(witness) => return Verdict::Violated(witness),
            verdict @ Verdict::Undecided { .. } => undecided = undecided.or(Some(verdict)),
        }
    }
    undecided.unwrap_or(Verdict::Linearizable)
}

/// Judges the operations of one key, which held `start` before them.
fn judge_key(key: &[u8], start: Value, operations: &[Operation], points_max: u64) -> Verdict {
    match zones::judge(start, operations) {
        zones::Found::Order => return Verdict::Linearizable,
        zones::Found::NoOrder(few) => {
            let witness = shrink::witness(key, start, &few, u64::MAX);
            return Verdict::Violated(Witness { of: operations.len(), ..witness });
        }
        zones::Found::NotForUs => {}
    }
    let mut search = Search::new(start, operations);
    match search.run(search::budget(operations.len()).min(points_max)) {
        Found::Order => Verdict::Linearizable,
        Found::GivenUp => Verdict::Undecided { key: key.to_vec() },
        Found::NoOrder => {
            Verdict::Violated(shrink::witness(key, start, operations, search.furthest()))
        }
    }
}
