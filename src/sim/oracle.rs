//! What the store must answer: the same commands carried out by a few lines that share nothing with it.
//!
//! The oracle is fed each slot once, in order, by the first replica that applies it. It knows of sessions
//! only that a command is executed once; whether the store may refuse a command (a session that expired, a
//! number out of its window) is taken from the store, and then the oracle does not execute it either. All
//! other replicas are held to the digest that the store had at that slot.

use std::collections::BTreeMap;

use crate::paxos::{Batch, CommandId, Slot};
use crate::store::{Applied, Command, Failure, Outcome, Reply, Store, changes};
use crate::wire::kv;

use super::sql;

type Changes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

pub struct Oracle {
    entries: BTreeMap<Vec<u8>, Vec<u8>>,
    /// When keys go that do, and their tokens.
    terms: BTreeMap<Vec<u8>, (u64, u64)>,
    pub last_token: u64,
    /// Keys whose time was over.
    pub expiries: u64,
    /// The log's time.
    time_us: u64,
    /// What the present slot did to keys of the map.
    changes: Changes,
    /// Where each command was executed, and its encoded reply.
    executed: BTreeMap<CommandId, (Slot, Vec<u8>)>,
    /// Digest of the store behind each slot, from slot 1.
    digests: Vec<u128>,
    /// The keys that were written, in order, with the slot: what scripted clusters show.
    words: Vec<(Slot, String)>,
    /// Copies of commands that were executed before.
    pub duplicates: u64,
    /// Commands of expired sessions, and those whose number was out of the window.
    pub refused: u64,
}

impl Oracle {
    pub fn new() -> Oracle {
        Oracle {
            entries: BTreeMap::new(),
            terms: BTreeMap::new(),
            last_token: 0,
            expiries: 0,
            time_us: 0,
            changes: Vec::new(),
            executed: BTreeMap::new(),
            digests: Vec::new(),
            words: Vec::new(),
            duplicates: 0,
            refused: 0,
        }
    }

    /// A replica applied `slot` and has this store behind it.
    pub fn on_applied(&mut self, slot: Slot, value: &[u8], applied: &[Applied], store: &Store) {
        let digest = store.digest();
        let index = slot.0 as usize - 1;
        if let Some(first) = self.digests.get(index) {
            assert!(*first == digest, "slot {slot}: two replicas differ behind it");
            return;
        }
        assert_eq!(index, self.digests.len(), "a replica leaves slots out");
        self.digests.push(digest);
        let batch = Batch::decode(value).expect("a chosen value is a batch");
        assert_eq!(batch.len(), applied.len(), "slot {slot}: an outcome for each command");
        self.time_us = self.time_us.max(batch.time_us);
        self.expire();
        for (command, applied) in batch.commands().zip(applied) {
            let id = command.id;
            assert_eq!(id, applied.id);
            match &applied.outcome {
                Outcome::Registered(_) => {}
                Outcome::SessionExpired | Outcome::Stale | Outcome::OutOfWindow => {
                    self.refused += 1;
                }
                Outcome::Reply(reply) => match self.executed.get(&id) {
                    Some((_, first)) => {
                        self.duplicates += 1;
                        assert!(
                            **first == **reply,
                            "slot {slot}: {id:?} is executed a second time"
                        );
                    }
                    None => {
                        let payload = sql::command_of(command.payload);
                        let is_sql = payload != command.payload;
                        let command = kv::decode_command(&payload).expect("we sent it");
                        let changes = self.changes.len();
                        let expected = self.execute(slot, &command);
                        if is_sql {
                            self.changes.truncate(changes);
                        }
                        let given = kv::decode_reply(reply).expect("a reply of the store");
                        let meant = sql::of_reply(&command, given);
                        assert!(
                            expected == meant,
                            "slot {slot}: {command:?} is answered {meant:?}, not {expected:?}"
                        );
                        self.executed.insert(id, (slot, reply.to_vec()));
                    }
                },
            }
        }
        let told = watched(store, slot);
        let expected = std::mem::take(&mut self.changes);
        assert!(told == expected, "slot {slot}: watchers are told {told:?}, not {expected:?}");
    }

    fn expire(&mut self) {
        let ended = self.terms.iter().filter(|(_, (end_us, _))| *end_us <= self.time_us);
        let mut ended: Vec<_> = ended.map(|(key, (end_us, _))| (*end_us, key.clone())).collect();
        ended.sort();
        for (_, key) in ended {
            self.expiries += 1;
            self.write(&key, None);
        }
    }

    /// Sets or deletes a key. A term goes with the key.
    fn write(&mut self, key: &[u8], value: Option<Vec<u8>>) {
        match &value {
            Some(value) => _ = self.entries.insert(key.to_vec(), value.clone()),
            None => {
                self.entries.remove(key);
                self.terms.remove(key);
            }
        }
        self.changes.push((key.to_vec(), value));
    }

    fn execute(&mut self, slot: Slot, command: &Command<'_>) -> Reply {
        let key = command.key().expect("clients of the simulator command single keys");
        self.words.push((slot, String::from_utf8_lossy(key).into_owned()));
        let present = self.entries.get(key).cloned();
        let (written, reply) = match (*command, present) {
            (Command::Put { value, .. }, _)
            | (Command::Create { value, .. }, None)
            | (Command::Update { value, .. }, Some(_)) => (Some(value.to_vec()), Reply::Done),
            (Command::Create { .. }, Some(_)) => return Reply::Failed(Failure::Exists),
            (Command::Update { .. } | Command::Delete { .. }, None) => {
                return Reply::Failed(Failure::NotFound);
            }
            (Command::Delete { .. }, Some(_)) => (None, Reply::Done),
            (Command::Cas { expect, value, .. }, present) => {
                if present.as_deref() != expect {
                    return Reply::Failed(Failure::Mismatch { present });
                }
                (Some(value.to_vec()), Reply::Done)
            }
            (Command::Incr { by, .. }, present) => {
                let present =
                    present.map_or(Some(0), |it| String::from_utf8(it).ok()?.parse().ok());
                let Some(before) = present else { return Reply::Failed(Failure::NotAnInteger) };
                let Some(sum) = i64::checked_add(before, by) else {
                    return Reply::Failed(Failure::Overflow);
                };
                (Some(sum.to_string().into_bytes()), Reply::Integer(sum))
            }
            (Command::PutFor { value, ttl_us, .. }, _) => {
                self.terms.insert(key.to_vec(), (self.time_us + ttl_us, 0));
                (Some(value.to_vec()), Reply::Done)
            }
            (Command::Lock { .. }, Some(present)) => {
                return Reply::Failed(Failure::Mismatch { present: Some(present) });
            }
            (Command::Lock { value, ttl_us, .. }, None) => {
                self.last_token += 1;
                self.terms.insert(key.to_vec(), (self.time_us + ttl_us, self.last_token));
                (Some(value.to_vec()), Reply::Token(self.last_token))
            }
            (Command::Renew { token, .. } | Command::Unlock { token, .. }, _)
                if token == 0 || self.terms.get(key).map(|(_, token)| *token) != Some(token) =>
            {
                return Reply::Failed(Failure::NotHeld);
            }
            (Command::Renew { token, ttl_us, .. }, _) => {
                self.terms.insert(key.to_vec(), (self.time_us + ttl_us, token));
                return Reply::Done;
            }
            (Command::Unlock { .. }, _) => (None, Reply::Done),
            (
                Command::Transaction(_) | Command::SetImage { .. } | Command::DeleteImage { .. },
                _,
            ) => unreachable!("see above"),
        };
        if let Command::Put { .. } = command {
            self.terms.remove(key);
        }
        self.write(key, written);
        reply
    }

    /// The first slot that no replica has applied.
    pub fn end(&self) -> Slot {
        Slot::FIRST.plus(self.digests.len())
    }

    /// Of the state behind a slot.
    pub fn digest(&self, slot: Slot) -> Option<u128> {
        self.digests.get((slot.0 as usize).checked_sub(1)?).copied()
    }

    /// What a key holds behind the last slot applied.
    pub fn get(&self, key: &[u8]) -> Option<&Vec<u8>> {
        self.entries.get(key)
    }

    /// The slot in which a command was executed.
    pub fn executed(&self, id: CommandId) -> Option<Slot> {
        self.executed.get(&id).map(|(slot, _)| *slot)
    }

    /// The keys written in the slots below `end`, in order.
    pub fn words(&self, end: Slot) -> impl Iterator<Item = &str> {
        self.words.iter().take_while(move |(slot, _)| *slot < end).map(|(_, word)| word.as_str())
    }
}

/// What a watcher is told that the slot did.
fn watched(store: &Store, slot: Slot) -> Changes {
    let mut since = store.changes_since(slot).expect("it was just applied");
    let Some((first, bytes)) = since.next() else { return Vec::new() };
    assert_eq!(first, slot);
    let copy =
        |change: changes::Change<'_>| (change.key.to_vec(), change.value.map(<[u8]>::to_vec));
    changes::read(bytes).map(copy).collect()
}
