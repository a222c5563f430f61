//! What clients may send, all the way into the store: two replicas apply the same batches and must hold
//! the same and have answered the same.

use loggos::paxos::{Batch, Slot, Value};
use loggos::store::{Outcome, Query, Store};
use loggos::wire::kv;

/// Values of slots, each behind its size in two bytes.
pub fn apply(input: &[u8]) {
    let mut replicas = [Store::new(), Store::new()];
    let mut rest = input;
    let mut slot = Slot::FIRST;
    while let Some((size, behind)) = rest.split_first_chunk::<2>() {
        let size = usize::from(u16::from_le_bytes(*size)).min(behind.len());
        let (bytes, behind) = behind.split_at(size);
        rest = behind;
        // A frame with such a value is refused.
        let Some(batch) = Batch::decode(bytes) else { continue };
        let value = Value(bytes.into());
        let [first, second] = replicas.each_mut().map(|store| {
            let mut applied = Vec::new();
            store.apply(slot, &value, &mut applied);
            applied
        });
        assert_eq!(first, second);
        assert_eq!(first.len(), batch.len());
        for applied in &first {
            if let Outcome::Reply(reply) = &applied.outcome {
                kv::decode_reply(reply).expect("a client can read its reply");
            }
        }
        for command in batch.commands() {
            if let Ok(query) = kv::decode_query(command.payload) {
                let reply = replicas[0].query(&query);
                assert_eq!(reply, replicas[1].query(&query));
                kv::decode_reply(&kv::encode_reply(&reply)).expect("a client can read its reply");
            }
        }
        slot = slot.next();
    }
    let [first, second] = &replicas;
    assert_eq!(first.digest(), second.digest());
    assert_eq!((first.keys(), first.sessions()), (second.keys(), second.sessions()));
    let everything = first.query(&Query::Scan { from: b"", to: None, limit: u32::MAX });
    kv::decode_reply(&kv::encode_reply(&everything)).expect("a client can read its reply");
}
