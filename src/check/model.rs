//! The sequential model of one key: which replies the store may give in which state, and what the
//! state is afterwards. It says the same as `store::kv`, a second time and in other words, about one
//! key and about values of which only a fingerprint is known.

use xxhash_rust::xxh3::xxh3_64;

use crate::store;

/// What a key holds. Values of any size are known by a fingerprint of 64 bits: two that differ are
/// taken for the same by a chance of one in 2^64, which could hide a violation and never invent one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// The key does not exist.
    Absent,
    /// The decimal text of this number, as `incr` writes it.
    Integer(i64),
    /// Other text that `incr` takes for the number (`007`): 32 bits of its fingerprint.
    Numeral { number: i64, spelling: u32 },
    /// Anything else: the fingerprint.
    Bytes(u64),
    /// Only at the beginning of a key space that was not empty: not known. Whatever is observed
    /// first is what it was.
    Any,
}

impl Value {
    /// The value of these bytes.
    pub fn of(bytes: &[u8]) -> Value {
        // Longer text is no number of 64 bits, unless it is padded with zeros to no end.
        match std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()) {
            Some(number) if is_canonical(bytes) => Value::Integer(number),
            Some(number) => Value::Numeral { number, spelling: xxh3_64(bytes) as u32 },
            None => Value::Bytes(xxh3_64(bytes)),
        }
    }

    /// The value of a key that may not exist.
    pub fn of_option(bytes: Option<&[u8]>) -> Value {
        bytes.map_or(Value::Absent, Value::of)
    }

    /// What `incr` adds to; a missing key counts as 0.
    pub fn number(self) -> Option<i64> {
        match self {
            Value::Absent => Some(0),
            Value::Integer(number) | Value::Numeral { number, .. } => Some(number),
            Value::Bytes(_) | Value::Any => None,
        }
    }
}

/// Whether a text that parses is the one that its number prints as.
fn is_canonical(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    match digits {
        [b'0'] => digits.len() == text.len(),
        [first, ..] => (b'1'..=b'9').contains(first),
        [] => false,
    }
}

/// What a client asked of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Op {
    Get,
    Put(Value),
    Create(Value),
    Update(Value),
    Delete,
    Cas { expect: Value, value: Value },
    Incr(i64),
}

/// What it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reply {
    /// Put, create, update, delete, cas: done.
    Done,
    /// Get: what is there.
    Value(Value),
    /// Incr: the sum.
    Integer(i64),
    /// The condition did not hold, and nothing was changed.
    Refused,
    /// Cas: refused, because this is there.
    Mismatch(Value),
}

impl Op {
    /// The key of a command and what it does to it.
    pub fn of_command<'a>(command: &store::Command<'a>) -> (&'a [u8], Op) {
        use store::Command;
        match *command {
            Command::Put { key, value } => (key, Op::Put(Value::of(value))),
            Command::Create { key, value } => (key, Op::Create(Value::of(value))),
            Command::Update { key, value } => (key, Op::Update(Value::of(value))),
            Command::Delete { key } => (key, Op::Delete),
            Command::Cas { key, expect, value } => {
                (key, Op::Cas { expect: Value::of_option(expect), value: Value::of(value) })
            }
            Command::Incr { key, by } => (key, Op::Incr(by)),
            // Nobody records any: they concern more than one key, or the time.
            Command::Transaction(_)
            | Command::PutFor { .. }
            | Command::Lock { .. }
            | Command::Renew { .. }
            | Command::Unlock { .. }
            | Command::SetImage { .. }
            | Command::DeleteImage { .. } => unreachable!("a history is of single keys"),
        }
    }
}

impl Reply {
    /// What the store's reply tells of one key. `None`: nothing (a scan; a payload that was no
    /// command and changed nothing).
    pub fn of_reply(reply: &store::Reply) -> Option<Reply> {
        use store::Failure;
        match reply {
            store::Reply::Done => Some(Reply::Done),
            store::Reply::Integer(sum) => Some(Reply::Integer(*sum)),
            store::Reply::Value(value) => Some(Reply::Value(Value::of_option(value.as_deref()))),
            store::Reply::Failed(Failure::Mismatch { present }) => {
                Some(Reply::Mismatch(Value::of_option(present.as_deref())))
            }
            store::Reply::Entries { .. }
            | store::Reply::Transaction { .. }
            | store::Reply::Rows(_)
            | store::Reply::RowsPart { .. }
            | store::Reply::Ttl { .. }
            | store::Reply::Token(_)
            | store::Reply::Images { .. }
            | store::Reply::Failed(Failure::Invalid | Failure::Step { .. } | Failure::Sql { .. }) => {
                None
            }
            store::Reply::Failed(_) => Some(Reply::Refused),
        }
    }
}

/// The state after `op` took effect in `state`. With a reply: `None` if the store does not give that
/// reply in that state. Without one (an unknown outcome that did take effect): what the store would
/// have made of it.
pub fn step(state: Value, op: Op, reply: Option<Reply>) -> Option<Value> {
    let any = state == Value::Any;
    let absent = state == Value::Absent;
    let Some(reply) = reply else { return Some(effect(state, op)) };
    match (op, reply) {
        (Op::Get, Reply::Value(value)) => (any || state == value).then_some(value),
        (Op::Put(value), Reply::Done) => Some(value),
        (Op::Create(value), Reply::Done) => (any || absent).then_some(value),
        (Op::Create(_), Reply::Refused) => (!absent).then_some(state),
        (Op::Update(value), Reply::Done) => (!absent).then_some(value),
        (Op::Update(_) | Op::Delete, Reply::Refused) => (any || absent).then_some(Value::Absent),
        (Op::Delete, Reply::Done) => (!absent).then_some(Value::Absent),
        (Op::Cas { expect, value }, Reply::Done) => (any || state == expect).then_some(value),
        (Op::Cas { expect, .. }, Reply::Mismatch(present)) => {
            (present != expect && (any || state == present)).then_some(present)
        }
        (Op::Cas { expect, .. }, Reply::Refused) => (state != expect).then_some(state),
        (Op::Incr(by), Reply::Integer(sum)) => {
            let sums = any || state.number().and_then(|it| it.checked_add(by)) == Some(sum);
            sums.then_some(Value::Integer(sum))
        }
        (Op::Incr(by), Reply::Refused) => {
            state.number().is_none_or(|it| it.checked_add(by).is_none()).then_some(state)
        }
        _ => None,
    }
}

fn effect(state: Value, op: Op) -> Value {
    let (any, absent) = (state == Value::Any, state == Value::Absent);
    match op {
        Op::Put(value) => value,
        Op::Create(value) if any || absent => value,
        Op::Update(value) if !absent => value,
        Op::Delete => Value::Absent,
        Op::Cas { expect, value } if any || state == expect => value,
        Op::Incr(by) => {
            state.number().and_then(|it| it.checked_add(by)).map_or(state, Value::Integer)
        }
        Op::Get | Op::Create(_) | Op::Update(_) | Op::Cas { .. } => state,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::{Batch, CommandId, SessionId, Slot, batch};
    use crate::store::{Applied, Command, Outcome, Query, Store};
    use crate::wire::kv::{decode_reply, encode_command};

    #[test]
    fn values_are_told_apart() {
        for number in [0, 7, -7, i64::MAX, i64::MIN] {
            assert_eq!(Value::of(number.to_string().as_bytes()), Value::Integer(number));
        }
        for (text, number) in [("+7", 7), ("007", 7), ("-0", 0), ("00", 0), ("-07", -7)] {
            let value = Value::of(text.as_bytes());
            assert!(matches!(value, Value::Numeral { .. }), "{text}");
            assert_eq!(value.number(), Some(number));
        }
        for text in ["", "x", "-", "9223372036854775808", "1 "] {
            assert!(matches!(Value::of(text.as_bytes()), Value::Bytes(_)), "{text}");
        }
        assert_ne!(Value::of(b"a"), Value::of(b"b"));
        assert_ne!(Value::of(b"+7"), Value::of(b"07"));
    }

    /// Every command in every state: the real store's reply is one that the model allows, leads to
    /// the state that the model says, and no other of the replies that occur is allowed.
    #[test]
    fn the_model_says_what_the_store_does() {
        let values = ["0", "5", "007", "9223372036854775807", "x"];
        let states: Vec<Option<&str>> =
            std::iter::once(None).chain(values.iter().copied().map(Some)).collect();
        let key = b"k";
        let mut commands = vec![
            Command::Delete { key },
            Command::Incr { key, by: 1 },
            Command::Incr { key, by: -5 },
        ];
        for value in &values {
            let value = value.as_bytes();
            commands.push(Command::Put { key, value });
            commands.push(Command::Create { key, value });
            commands.push(Command::Update { key, value });
            commands.push(Command::Cas { key, expect: None, value });
            commands.push(Command::Cas { key, expect: Some(b"5"), value });
        }
        let mut replies = vec![Reply::Done, Reply::Refused];
        for value in states.iter().map(|state| Value::of_option(state.map(str::as_bytes))) {
            replies.push(Reply::Mismatch(value));
        }
        for sum in [-5, 0, 1, 2, 5, 6, 8] {
            replies.push(Reply::Integer(sum));
        }
        for state in &states {
            for command in &commands {
                let (reply, after) = on_the_store(*state, command);
                let (_, op) = Op::of_command(command);
                let before = Value::of_option(state.map(str::as_bytes));
                let given = Reply::of_reply(&reply).unwrap();
                assert_eq!(step(before, op, Some(given)), Some(after), "{command:?} in {state:?}");
                assert_eq!(step(before, op, None), Some(after), "{command:?} in {state:?}");
                for &other in replies.iter().filter(|&&it| it != given) {
                    // `Refused` is what a mismatch is if nobody noted what was there.
                    let vague = other == Reply::Refused && matches!(given, Reply::Mismatch(_));
                    let found = step(before, op, Some(other));
                    assert_eq!(found.is_some(), vague, "{command:?} in {state:?}: {other:?}");
                }
            }
            let before = Value::of_option(state.map(str::as_bytes));
            assert_eq!(step(before, Op::Get, Some(Reply::Value(before))), Some(before));
            assert_eq!(step(before, Op::Get, Some(Reply::Value(Value::Bytes(1)))), None);
        }
    }

    /// What the real store replies to `command` in `state`, and what the key holds then.
    fn on_the_store(state: Option<&str>, command: &Command<'_>) -> (store::Reply, Value) {
        let mut store = Store::new();
        let mut out: Vec<Applied> = Vec::new();
        let mut apply = |store: &mut Store, id: CommandId, payload: Vec<u8>| {
            let command = batch::Command { id, acknowledged: 1, payload: payload.into() };
            out.clear();
            let value = batch::encode(1, std::iter::once(&command));
            assert_eq!(Batch::decode(&value.0).unwrap().len(), 1);
            store.apply(Slot(store.applied().0 + 1), &value, &mut out);
            out[0].outcome.clone()
        };
        let nobody = CommandId { session: SessionId::NONE, seq: 1 };
        let Outcome::Registered(session) = apply(&mut store, nobody, Vec::new()) else { panic!() };
        if let Some(value) = state {
            let put = encode_command(&Command::Put { key: b"k", value: value.as_bytes() });
            apply(&mut store, CommandId { session, seq: 1 }, put);
        }
        let id = CommandId { session, seq: 2 };
        let Outcome::Reply(reply) = apply(&mut store, id, encode_command(command)) else {
            panic!()
        };
        let store::Reply::Value(after) = store.query(&Query::Get { key: b"k" }) else { panic!() };
        (decode_reply(&reply).unwrap(), Value::of_option(after.as_deref()))
    }

    /// An unknown beginning allows everything once, and is known from then on.
    #[test]
    fn an_unknown_beginning() {
        let any = Value::Any;
        let five = Value::Integer(5);
        assert_eq!(step(any, Op::Get, Some(Reply::Value(five))), Some(five));
        assert_eq!(step(any, Op::Incr(1), Some(Reply::Integer(6))), Some(Value::Integer(6)));
        assert_eq!(step(any, Op::Create(five), Some(Reply::Refused)), Some(any));
        assert_eq!(step(any, Op::Update(five), Some(Reply::Refused)), Some(Value::Absent));
        assert_eq!(step(any, Op::Incr(1), None), Some(any));
    }
}
