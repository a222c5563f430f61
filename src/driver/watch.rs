//! Watches: a client is sent what the slots did to some keys, from a slot on, in order, without gaps and repeats.
//!
//! A watch is where it has come to and nothing more. What a client does not take is not queued for it: it is read from
//! the store's history when there is room. A client that is so slow that the history has gone past it is told, as is
//! one that asks for slots that are too old.

use std::collections::BTreeMap;

use crate::limits::{
    CHANGES_SIZE_SOFT_MAX, CLIENT_OUT_SIZE_MAX, WATCHES_MAX, WATCHES_PER_CLIENT_MAX,
};
use crate::paxos::{Now, Slot};
use crate::store::changes;
use crate::wire::client::{ErrorKind, RequestKey, Response};
use crate::wire::kv::write_slot_changes;

use super::server::Server;
use super::table::ConnectionId;

/// How often a client hears that its watch is well, and how far it has come, in microseconds.
const WATCH_SIGN_US: u64 = 1_000_000;

/// All watches of a node.
#[derive(Debug, Default)]
pub struct Watches {
    of: BTreeMap<ConnectionId, Vec<Watch>>,
    count: usize,
    /// The slot behind the last one that all were looked at for.
    seen_end: Slot,
    next_sign_us: u64,
}

#[derive(Debug)]
struct Watch {
    id: u64,
    prefix: Vec<u8>,
    /// The first slot that it was not told of.
    next: Slot,
}

impl Watches {
    /// A connection is gone.
    pub fn on_closed(&mut self, client: ConnectionId) {
        if let Some(watches) = self.of.remove(&client) {
            self.count -= watches.len();
        }
    }
}

impl Server {
    /// Begins to tell a client of the slots from `from` on.
    pub(super) fn begin_watch(
        &mut self,
        client: ConnectionId,
        id: u64,
        from: Slot,
        prefix: Vec<u8>,
    ) {
        let key = RequestKey::Watch { id };
        if !self.may_serve(client, key) {
            return;
        }
        let mine = self.watches.of.entry(client).or_default();
        if WATCHES_PER_CLIENT_MAX <= mine.len() || WATCHES_MAX <= self.watches.count {
            let message = "too many watches".to_owned();
            self.respond_error(client, key, ErrorKind::Busy, true, message);
            return;
        }
        mine.push(Watch { id, prefix, next: from });
        self.watches.count += 1;
        self.tell_watcher(client, true);
    }

    /// Tells all watchers of what was applied since the last time.
    pub(super) fn tell_watchers(&mut self) {
        let end = self.store.applied().next();
        if self.watches.count == 0 || self.watches.seen_end == end {
            return;
        }
        self.watches.seen_end = end;
        let clients: Vec<ConnectionId> = self.watches.of.keys().copied().collect();
        clients.into_iter().for_each(|client| self.tell_watcher(client, false));
    }

    /// Lets all watchers know how far they have come. Those of a node that is cut off are sent away: it would go on
    /// telling them that all is well and nothing happens.
    pub(super) fn look_after_watches(&mut self, now: Now) {
        if self.watches.count == 0 || now.mono_us < self.watches.next_sign_us {
            return;
        }
        self.watches.next_sign_us = now.mono_us + WATCH_SIGN_US;
        let is_cut_off = self.node.view().leader.is_none();
        let clients: Vec<ConnectionId> = self.watches.of.keys().copied().collect();
        for client in clients {
            if is_cut_off || self.quarantine.is_on() || self.stopping_us.is_some() {
                self.end_watches(client);
            } else {
                self.tell_watcher(client, true);
            }
        }
    }

    fn end_watches(&mut self, client: ConnectionId) {
        let Some(watches) = self.watches.of.remove(&client) else { return };
        self.watches.count -= watches.len();
        for Watch { id, .. } in watches {
            let message = "this node does not know any more what happens; ask another".to_owned();
            self.respond_error(client, RequestKey::Watch { id }, ErrorKind::Busy, true, message);
        }
    }

    /// Tells a client what it has room for; with `sign` also that there is nothing to tell.
    pub(super) fn tell_watcher(&mut self, client: ConnectionId, sign: bool) {
        let Some(mut watches) = self.watches.of.remove(&client) else { return };
        let count = watches.len();
        watches.retain_mut(|watch| self.tell(client, watch, sign));
        self.watches.count -= count - watches.len();
        if !watches.is_empty() {
            self.watches.of.insert(client, watches);
        }
    }

    /// Whether the watch goes on.
    fn tell(&mut self, client: ConnectionId, watch: &mut Watch, mut sign: bool) -> bool {
        // A replica whose state is wrong tells nothing until it is sent away or well.
        if self.quarantine.is_on() {
            return true;
        }
        let (id, applied) = (watch.id, self.store.applied());
        loop {
            let Some(connection) = self.table.get_mut(client) else { return false };
            if CLIENT_OUT_SIZE_MAX / 2 < connection.unsent() || !sign && applied < watch.next {
                return true;
            }
            let Some(history) = self.store.changes_since(watch.next) else {
                let message = format!(
                    "what slot {} did is not known any more, the first that is known is slot {}",
                    watch.next,
                    self.store.history_begin()
                );
                let key = RequestKey::Watch { id };
                self.respond_error(client, key, ErrorKind::TooOld, true, message);
                return false;
            };
            let mut bulk = Vec::new();
            let mut end = watch.next.max(applied.next());
            for (slot, bytes) in history {
                if CHANGES_SIZE_SOFT_MAX <= bulk.len() {
                    end = slot;
                    break;
                }
                let wanted = changes::read(bytes).filter(|it| it.key.starts_with(&watch.prefix));
                write_slot_changes(slot, wanted, &mut bulk);
            }
            watch.next = end;
            if sign || !bulk.is_empty() {
                self.respond(client, &Response::Changes { id, end }, &bulk);
            }
            sign = false;
        }
    }
}
