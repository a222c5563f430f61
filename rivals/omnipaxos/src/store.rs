//! What the log makes: the values of the keys, and who waits for which entry.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::command::{Asked, Command, parse};

/// What one decided entry answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    Done,
    Value(&'a [u8]),
    Absent,
}

#[derive(Default)]
pub struct Store {
    values: BTreeMap<Box<[u8]>, Value>,
}

/// The command that put a value, and where in it that begins.
struct Value {
    command: Rc<[u8]>,
    at: usize,
}

impl Store {
    /// Does what a command asks. One that asks for nothing does nothing, at every node.
    pub fn apply(&mut self, command: &Command) -> Option<Answer<'_>> {
        let bytes = &command.bytes.0;
        match parse(bytes)? {
            Asked::Put { key, value_at } => {
                let value = Value { command: bytes.clone(), at: value_at };
                match self.values.get_mut(key) {
                    Some(present) => *present = value,
                    None => drop(self.values.insert(key.into(), value)),
                }
                Some(Answer::Done)
            }
            Asked::Get { key } => match self.values.get(key) {
                Some(value) => Some(Answer::Value(&value.command[value.at..])),
                None => Some(Answer::Absent),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Shared, get};

    fn command(bytes: &[u8]) -> Command {
        Command { node: 1, life: 1, number: 1, bytes: Shared(bytes.into()) }
    }

    #[test]
    fn the_last_put_counts() {
        let mut store = Store::default();
        let get = command(&get(b"key").unwrap().0);
        assert_eq!(store.apply(&get), Some(Answer::Absent));
        assert_eq!(store.apply(&command(b"\x01\x03\0keyone")), Some(Answer::Done));
        assert_eq!(store.apply(&command(b"\x01\x03\0keytwo")), Some(Answer::Done));
        assert_eq!(store.apply(&command(b"\x01\x03\0kexthree")), Some(Answer::Done));
        assert_eq!(store.apply(&get), Some(Answer::Value(b"two")));
        assert_eq!(store.apply(&command(b"\x09")), None);
    }
}
