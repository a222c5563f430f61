//! Transactions: conditions, and steps on keys and by SQL that happen as a whole or not at all.

use serde::{Deserialize, Serialize};

use crate::limits::TRANSACTION_REPLY_SIZE_MAX;
use crate::sql::{Database, Moment, SqlValue, Statement};

use super::command::{Command, Failure, Query, Reply, StepReply};
use super::images::Images;
use super::kv::{Kv, Mark};

/// If all conditions hold, the steps `then` are done, else the steps `otherwise`: all of them, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction<'a> {
    #[serde(borrow)]
    pub conditions: Vec<Condition<'a>>,
    #[serde(borrow)]
    pub then: Vec<Step<'a>>,
    #[serde(borrow)]
    pub otherwise: Vec<Step<'a>>,
}

/// What a key must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition<'a> {
    pub key: &'a [u8],
    pub holds: Holds<'a>,
}

/// Only `Missing` is true of a key that does not exist. Values compare as bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holds<'a> {
    Missing,
    Something,
    Equal(&'a [u8]),
    NotEqual(&'a [u8]),
    Less(&'a [u8]),
    Greater(&'a [u8]),
    /// The key is a lock that was given with this token and not lost since.
    Token(u64),
}

/// A step sees what those before it did. One that fails undoes them all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step<'a> {
    /// A command on one key or image.
    #[serde(borrow)]
    Key(Command<'a>),
    Get {
        key: &'a [u8],
    },
    #[serde(borrow)]
    Sql(Statement<'a>),
    /// As the query of this name.
    Nearest {
        hash: &'a [u8],
        within: u32,
        limit: u32,
    },
}

/// Carries it out. `moment`: when, for SQL.
pub fn transact(
    kv: &mut Kv,
    images: &mut Images,
    database: &mut Database,
    moment: Moment,
    transaction: &Transaction<'_>,
) -> Reply {
    let held = transaction.conditions.iter().all(|condition| holds(kv, condition));
    let steps = if held { &transaction.then } else { &transaction.otherwise };
    let has_sql = steps.iter().any(|step| matches!(step, Step::Sql(_)));
    if has_sql {
        database.begin(moment);
    }
    images.begin();
    let before = kv.mark();
    let failed = |kv: &mut Kv, images: &mut Images, before: Mark, step: usize, why: String| {
        kv.go_back(before);
        images.roll_back();
        Reply::Failed(Failure::Step { step: step as u32, why })
    };
    let (mut replies, mut size) = (Vec::with_capacity(steps.len()), 0);
    for (number, step) in steps.iter().enumerate() {
        let done = do_step(kv, images, database, moment.time_us, step).and_then(|reply| {
            size += reply_size(&reply);
            match size <= TRANSACTION_REPLY_SIZE_MAX {
                true => Ok(reply),
                false => Err("the reply is too large".to_owned()),
            }
        });
        match done {
            Ok(reply) => replies.push(reply),
            Err(why) => {
                if has_sql {
                    database.roll_back();
                }
                return failed(kv, images, before, number, why);
            }
        }
    }
    if has_sql && let Err(why) = database.commit() {
        return failed(kv, images, before, steps.len(), why);
    }
    images.commit();
    Reply::Transaction { held, steps: replies }
}

fn holds(kv: &Kv, condition: &Condition<'_>) -> bool {
    let value = kv.get(condition.key);
    let value = value.as_deref();
    match (condition.holds, value) {
        (Holds::Missing, value) => value.is_none(),
        (Holds::Token(token), _) => kv.is_held(condition.key, token),
        (_, None) => false,
        (Holds::Something, Some(_)) => true,
        (Holds::Equal(expected), Some(value)) => value == expected,
        (Holds::NotEqual(expected), Some(value)) => value != expected,
        (Holds::Less(bound), Some(value)) => value < bound,
        (Holds::Greater(bound), Some(value)) => bound < value,
    }
}

fn do_step(
    kv: &mut Kv,
    images: &mut Images,
    database: &mut Database,
    now_us: u64,
    step: &Step<'_>,
) -> Result<StepReply, String> {
    let reply = match *step {
        Step::Key(Command::SetImage { hash, meta }) => images.set(hash, meta),
        Step::Key(Command::DeleteImage { hash }) => match images.delete(hash) {
            Reply::Failed(_) => return Err("there is no such image".to_owned()),
            done => done,
        },
        Step::Key(ref command) => kv.apply(command, now_us),
        Step::Get { key } => kv.query(&Query::Get { key }),
        Step::Nearest { hash, within, limit } => images.nearest(hash, within, limit),
        Step::Sql(ref statement) => return database.run(statement).map(StepReply::Rows),
    };
    match reply {
        Reply::Done => Ok(StepReply::Done),
        Reply::Integer(integer) => Ok(StepReply::Integer(integer)),
        Reply::Token(token) => Ok(StepReply::Token(token)),
        Reply::Value(value) => Ok(StepReply::Value(value)),
        Reply::Images { images, .. } => Ok(StepReply::Images(images)),
        Reply::Failed(Failure::Exists) => Err("the key exists".to_owned()),
        Reply::Failed(Failure::NotFound) => Err("the key does not exist".to_owned()),
        Reply::Failed(Failure::Mismatch { .. }) => Err("the key holds another value".to_owned()),
        Reply::Failed(Failure::NotAnInteger) => Err("the value is no integer".to_owned()),
        Reply::Failed(Failure::NotHeld) => Err("the lock is not held".to_owned()),
        Reply::Failed(Failure::Overflow) => Err("the sum is out of range".to_owned()),
        Reply::Failed(Failure::Invalid) => Err("there is no such step".to_owned()),
        other => unreachable!("no step gives {other:?}"),
    }
}

/// Bytes of a reply, about.
fn reply_size(reply: &StepReply) -> usize {
    16 + match reply {
        StepReply::Done | StepReply::Integer(_) | StepReply::Token(_) | StepReply::Value(None) => 0,
        StepReply::Images(images) => {
            images.iter().map(|image| 24 + image.hash.len() + image.meta.len()).sum()
        }
        StepReply::Value(Some(value)) => value.len(),
        StepReply::Rows(rows) => {
            let names: usize = rows.columns.iter().map(|name| 8 + name.len()).sum();
            let values: usize = rows.rows.iter().flatten().map(SqlValue::size).sum();
            names + values + 8 * rows.rows.len()
        }
    }
}
