//! Watching keys: every change from a slot on, in order, once, whatever node dies meanwhile.
//!
//! Each node has the same changes in the same slots, so a watch that loses its node goes on at another one. Only where
//! it stands is remembered here.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use crate::paxos::Slot;
use crate::store::Query;
use crate::trace::monotonic_ns;
use crate::wire::client::{Consistency, ErrorKind, Request, RequestKey, Response};
use crate::wire::kv::read_slot_changes;

use super::{BACK_OFF_MAX, BACK_OFF_MIN, Client, Error, one_line};

/// A node tells every second how far it has come. One that is silent for longer is left.
const SILENCE_MAX_NS: u64 = 3_000_000_000;

/// One key's change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub slot: Slot,
    pub key: Vec<u8>,
    /// `None`: the key was deleted, or its time was over.
    pub value: Option<Vec<u8>>,
}

/// A watch; it has the client's connection for itself.
pub struct Watcher<'a> {
    client: &'a mut Client,
    prefix: Vec<u8>,
    /// The first slot that we were not told of.
    next: Slot,
    /// Told and not taken yet.
    events: VecDeque<Event>,
    /// Of the request that the connection answers.
    id: Option<u64>,
    /// For so long we shall yet wait for the node. Only waiting counts: whoever comes back after an hour finds what was
    /// sent meanwhile.
    patience_ns: u64,
    /// Nodes in a row that do not know what the next slot did.
    too_old: usize,
    back_off: Duration,
}

impl Client {
    /// Watches the keys that begin with `prefix`, from slot `from` on; `None`: from what follows every write that was
    /// acknowledged anywhere before.
    pub fn watch(&mut self, prefix: &[u8], from: Option<Slot>) -> Result<Watcher<'_>, Error> {
        let next = match from {
            Some(slot) => slot,
            None => {
                let nothing = Query::Scan { from: b"", to: None, limit: 0 };
                self.query(&nothing, Consistency::Linearizable)?.slot.next()
            }
        };
        Ok(Watcher {
            client: self,
            prefix: prefix.to_vec(),
            next,
            events: VecDeque::new(),
            id: None,
            patience_ns: SILENCE_MAX_NS,
            too_old: 0,
            back_off: BACK_OFF_MIN,
        })
    }
}

impl Watcher<'_> {
    /// Where to watch from to be told what `wait` has not returned yet.
    pub fn position(&self) -> Slot {
        self.events.front().map_or(self.next, |event| event.slot)
    }

    /// The next change; waits for it, for ever if there are nodes to ask. Fails if no node knows any more what happened
    /// in the slots that come next: then the keys have to be read anew, and watched from there.
    pub fn wait(&mut self) -> Result<Event, Error> {
        loop {
            if let Some(event) = self.next_until(monotonic_ns() + SILENCE_MAX_NS)? {
                return Ok(event);
            }
        }
    }

    /// As `wait`, for so long at most.
    pub fn wait_within(&mut self, patience: Duration) -> Result<Option<Event>, Error> {
        self.next_until(monotonic_ns() + patience.as_nanos() as u64)
    }

    fn next_until(&mut self, deadline_ns: u64) -> Result<Option<Event>, Error> {
        while self.events.is_empty() {
            if deadline_ns <= monotonic_ns() {
                return Ok(None);
            }
            let begun_ns = monotonic_ns();
            let silent_ns = begun_ns + self.patience_ns;
            match self.receive(deadline_ns.min(silent_ns)) {
                Ok(()) => {}
                Err(Ended::TooOld(why)) => {
                    self.too_old += 1;
                    self.leave();
                    if self.client.nodes.len() <= self.too_old {
                        return Err(Error::Definite(why));
                    }
                }
                // Our own patience is over, not the node's.
                Err(Ended::Waiting) if monotonic_ns() < silent_ns => {
                    let waited_ns = monotonic_ns().saturating_sub(begun_ns);
                    self.patience_ns = self.patience_ns.saturating_sub(waited_ns);
                    if self.id.is_none() {
                        self.client.connection = None;
                    }
                }
                Err(Ended::Waiting | Ended::Lost) => {
                    self.leave();
                    let left = Duration::from_nanos(deadline_ns.saturating_sub(monotonic_ns()));
                    // sleep: dialling is the only way to learn that a node is back.
                    std::thread::sleep(self.back_off.min(left));
                    self.back_off = (self.back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
        Ok(self.events.pop_front())
    }

    fn leave(&mut self) {
        self.id = None;
        self.patience_ns = SILENCE_MAX_NS;
        self.client.next_node(None, None);
    }

    /// Takes the next message of the watch, and begins the watch if there is none.
    fn receive(&mut self, until_ns: u64) -> Result<(), Ended> {
        let (response, bulk) = self.next_message(until_ns).map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => Ended::Waiting,
            _ => Ended::Lost,
        })?;
        match response {
            Response::Changes { id, end } if self.id == Some(id) => {
                let (next, events) = (self.next, &mut self.events);
                read_slot_changes(&bulk, |slot, change| {
                    if next <= slot && slot < end {
                        let (key, value) = (change.key.to_vec(), change.value.map(<[u8]>::to_vec));
                        events.push_back(Event { slot, key, value });
                    }
                })
                .map_err(|_| Ended::Lost)?;
                self.next = self.next.max(end);
                self.too_old = 0;
                self.patience_ns = SILENCE_MAX_NS;
                self.back_off = BACK_OFF_MIN;
                Ok(())
            }
            Response::Error { key: RequestKey::Watch { id }, error } if self.id == Some(id) => {
                Err(match error.kind {
                    ErrorKind::TooOld => Ended::TooOld(one_line(&error.message)),
                    _ => Ended::Lost,
                })
            }
            // The answer to an earlier request, which we had given up.
            _ => Ok(()),
        }
    }

    fn next_message(&mut self, until_ns: u64) -> io::Result<(Response, Vec<u8>)> {
        if self.id.is_none() {
            let id = self.client.take_id();
            let request = Request::Watch { id, from: self.next };
            self.client.connected(until_ns)?.send(&request, &self.prefix, until_ns)?;
            self.id = Some(id);
        }
        self.client.connected(until_ns)?.receive(until_ns)
    }
}

/// Why a node tells no more.
enum Ended {
    /// It has told nothing within the time.
    Waiting,
    Lost,
    TooOld(String),
}
