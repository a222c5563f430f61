//! What the replies of a key tell of its state, and so which unknown outcomes can matter (rule 4 of
//! `search`).

// Looked up, never walked through: hash order is of no consequence.
#![allow(clippy::disallowed_types)]

use std::collections::HashSet;

use super::model::{Op, Reply, Value};
use super::{Operation, Outcome};

/// Which of the operations of a key can have a part in whether there is an order (rule 4).
pub fn that_matter(operations: &[Operation]) -> Vec<bool> {
    let mut telling = Telling::default();
    operations.iter().for_each(|operation| match operation.outcome {
        Outcome::Replied { reply, .. } => telling.note(operation.op, Some(reply)),
        Outcome::Unknown => telling.note(operation.op, None),
        Outcome::Failed => {}
    });
    let matters = operations.iter().map(|operation| match operation.outcome {
        Outcome::Replied { .. } => true,
        Outcome::Unknown => telling.of(operation.op),
        Outcome::Failed => false,
    });
    matters.collect()
}

/// What of the state the replies and conditions on a key tell.
#[derive(Default)]
pub struct Telling {
    /// Values that are told from all others.
    values: HashSet<Value>,
    /// That there is some value, whichever.
    presence: bool,
    /// Numbers from others.
    numbers: bool,
}

impl Telling {
    pub fn note(&mut self, op: Op, reply: Option<Reply>) {
        match (op, reply) {
            // Before a sum there may be a number of any spelling, or nothing.
            (Op::Incr(by), Some(Reply::Integer(sum))) => match sum.checked_sub(by) {
                Some(0) | None => self.numbers = true,
                Some(number) => self.values.extend([Value::Integer(number)]),
            },
            (Op::Incr(_), _) => self.numbers = true,
            (_, Some(reply)) => self.values.extend(sees(op, reply)),
            (Op::Create(_), None) => self.values.extend([Value::Absent]),
            (Op::Cas { expect, .. }, None) => self.values.extend([expect]),
            (_, None) => {}
        }
        self.presence |= matches!(
            (op, reply),
            (Op::Create(_) | Op::Incr(_) | Op::Cas { .. }, Some(Reply::Refused))
                | (Op::Update(_), None | Some(Reply::Done))
                | (Op::Delete, Some(Reply::Done))
        );
    }

    /// Whether they can tell that this unknown outcome took effect.
    pub fn of(&self, op: Op) -> bool {
        match made_if_it_happened(op) {
            Some(value) => {
                let counted = self.numbers && value.number().is_some();
                let spelled = matches!(value, Value::Numeral { .. });
                self.presence || counted || spelled || self.values.contains(&value)
            }
            None => matches!(op, Op::Incr(_)),
        }
    }
}

/// The one value that must be there for this reply.
pub fn sees(op: Op, reply: Reply) -> Option<Value> {
    match (op, reply) {
        (Op::Get, Reply::Value(value)) => Some(value),
        (Op::Create(_), Reply::Done) | (Op::Update(_) | Op::Delete, Reply::Refused) => {
            Some(Value::Absent)
        }
        (Op::Cas { expect, .. }, Reply::Done) => Some(expect),
        (Op::Cas { .. }, Reply::Mismatch(present)) => Some(present),
        // Before the sum `by` there may be a 0 or nothing.
        (Op::Incr(by), Reply::Integer(sum)) => {
            sum.checked_sub(by).filter(|&number| number != 0).map(Value::Integer)
        }
        _ => None,
    }
}

/// The value that is there after this reply, if it changed any.
pub fn makes(op: Op, reply: Reply) -> Option<Value> {
    match (op, reply) {
        (_, Reply::Integer(sum)) => Some(Value::Integer(sum)),
        (Op::Delete, Reply::Done) => Some(Value::Absent),
        (_, Reply::Done) => made_if_it_happened(op),
        _ => None,
    }
}

/// What an unknown outcome would leave, if that is one value only.
pub fn made_if_it_happened(op: Op) -> Option<Value> {
    match op {
        Op::Put(value) | Op::Create(value) | Op::Update(value) | Op::Cas { value, .. } => {
            Some(value)
        }
        Op::Delete => Some(Value::Absent),
        Op::Get | Op::Incr(_) => None,
    }
}
