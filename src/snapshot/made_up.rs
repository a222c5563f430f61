//! States and their snapshots, for tests.

#![allow(clippy::unwrap_used)] // A test helper that fails is a failed test.

use std::sync::Arc;

use super::{ClusterId, Summary, write};
use crate::paxos::{Command, CommandId, SessionId, batch};
use crate::store::{self, Store};
use crate::wire::kv::encode_command;

pub const CLUSTER: ClusterId = ClusterId(0x0102_0304_0506_0708);

/// A session, and `keys` keys with values of `size` bytes.
pub fn store(keys: u64, size: usize) -> Store {
    let mut store = Store::new();
    let mut apply = |id, payload: &[u8]| {
        let (acknowledged, payload) = (id, payload.into());
        let session = SessionId(if id == 0 { 0 } else { 4096 });
        let command = Command { id: CommandId { session, seq: id }, acknowledged, payload };
        let slot = store.applied().next();
        store.apply(slot, &batch::encode(id, [command].iter()), &mut Vec::new());
    };
    apply(0, b"");
    for id in 1..=keys {
        let (key, value) = (format!("{id:04}"), vec![id as u8; size]);
        let put = store::Command::Put { key: key.as_bytes(), value: &value };
        apply(id, &encode_command(&put));
    }
    store
}

pub fn bytes_of(store: &Store) -> (Vec<u8>, Summary) {
    let mut bytes = Vec::new();
    let configurations = Arc::from(&b"three nodes"[..]);
    let summary = write(&store.freeze(), CLUSTER, configurations, &mut bytes).unwrap();
    assert_eq!(summary.size, bytes.len() as u64);
    (bytes, summary)
}
