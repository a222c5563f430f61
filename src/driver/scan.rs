//! Scans that take more than one reply, all of one state: the node holds the map as it was when the scan began, one for
//! each connection at most, until the last entry has gone.
//!
//! A map that is held costs nothing by itself, but what is written meanwhile is copied, so there are few of them, and one
//! that nobody asks for is let go of.

use std::collections::BTreeMap;

use crate::limits::{SCAN_HELD_US_MAX, SCANS_HELD_MAX};
use crate::paxos::{Ballot, Now, Slot};
use crate::store::{Query, Reply, ScanView};
use crate::wire::client::Response;
use crate::wire::kv;

use super::server::{Server, clock};
use super::table::ConnectionId;

/// Those of a node.
#[derive(Debug, Default)]
pub struct Scans(BTreeMap<ConnectionId, HeldScan>);

#[derive(Debug)]
struct HeldScan {
    /// The read that began it.
    of: u64,
    view: ScanView,
    slot: Slot,
    ballot: Ballot,
    /// Where it goes on, and behind how many entries.
    from: Vec<u8>,
    to: Option<Vec<u8>>,
    done: u64,
    used_us: u64,
}

impl Scans {
    pub fn on_closed(&mut self, client: ConnectionId) {
        self.0.remove(&client);
    }

    /// The state was wrong.
    pub fn forget_all(&mut self) {
        self.0.clear();
    }

    /// Lets go of those that nobody has asked for in a while.
    pub fn look_after(&mut self, now: Now) {
        self.0.retain(|_, scan| now.mono_us - scan.used_us < SCAN_HELD_US_MAX);
    }
}

impl Server {
    /// A query was answered: if it is a scan that wanted more than fits a reply, its state is held.
    pub(super) fn hold_scan(
        &mut self,
        client: ConnectionId,
        id: u64,
        query: &Query<'_>,
        reply: &Reply,
    ) {
        let Query::Scan { to, limit, .. } = *query else { return };
        let Reply::Entries { entries, next: Some(next) } = reply else { return };
        if limit as usize <= entries.len() {
            return;
        }
        self.scans.0.remove(&client);
        if SCANS_HELD_MAX <= self.scans.0.len() {
            return;
        }
        let scan = HeldScan {
            of: id,
            view: self.store.scan_view(),
            slot: self.store.applied(),
            ballot: self.node.view().ballot,
            from: next.clone(),
            to: to.map(<[u8]>::to_vec),
            done: entries.len() as u64,
            used_us: clock().mono_us,
        };
        self.scans.0.insert(client, scan);
    }

    /// Sends the next entries of a scan that is held, if this is one.
    pub(super) fn go_on_scan(&mut self, client: ConnectionId, id: u64, of: u64, skip: u64) -> bool {
        let Some(scan) = self.scans.0.get_mut(&client) else { return false };
        if (scan.of, scan.done) != (of, skip) {
            return false;
        }
        let reply = scan.view.scan(&scan.from, scan.to.as_deref(), u32::MAX);
        let (slot, ballot) = (scan.slot, scan.ballot);
        match &reply {
            Reply::Entries { entries, next: Some(next) } => {
                scan.from.clone_from(next);
                scan.done += entries.len() as u64;
                scan.used_us = clock().mono_us;
            }
            _ => _ = self.scans.0.remove(&client),
        }
        self.respond(client, &Response::Read { id, slot, ballot }, &kv::encode_reply(&reply));
        true
    }
}
