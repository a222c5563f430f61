//! A snapshot from a backup, a peer or a damaged disk.
//!
//! The first byte says whether what can be made right is: checksums, counts and the digest. It is then a
//! snapshot that some other program wrote, and must be refused, or be one that we would have written and
//! can go on from.

use std::sync::Arc;

use loggos::paxos::{Command, CommandId, SessionId, Slot, batch};
use loggos::snapshot::format::{self, CHUNK_HEADER_SIZE, FOOTER_SIZE, Footer, HEADER_SIZE};
use loggos::snapshot::{Loaded, load, read_head, verify, write};
use loggos::store::snapshot::Decoder;
use loggos::store::{Outcome, Store};
use loggos::wire::ClusterId;
use xxhash_rust::xxh3::xxh3_128;

use super::memory::peak_of;

/// An entry of a few bytes takes a node of the map, and a session one of two maps and a list of replies.
const SIZE_FACTOR: usize = 128;
const SIZE_JUSTIFIED: usize = 64 * 1024;

pub fn read(input: &[u8]) {
    let Some((&mend, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mend & 1 == 1 {
        make_right(&mut bytes);
    }
    let head = read_head(&mut &bytes[..]);
    let verified = verify(&mut &bytes[..]);
    let (loaded, peak) = peak_of(|| load(&mut &bytes[..]));
    let max = SIZE_FACTOR * bytes.len() + SIZE_JUSTIFIED;
    assert!(peak <= max, "{peak} bytes for a snapshot of {}", bytes.len());
    let Ok(Loaded { mut store, summary }) = loaded else {
        assert!(verified.is_err(), "{verified:?}");
        return;
    };
    assert_eq!(head.expect("a whole snapshot has a head"), summary.head);
    assert_eq!(verified.expect("what loads is right"), summary);
    let mut again = Vec::new();
    let configurations = Arc::clone(&summary.head.configurations);
    let rewritten = write(&store.freeze(), summary.head.cluster, configurations, &mut again);
    assert_eq!(rewritten.expect("memory"), summary);
    assert!(again == bytes, "there is one snapshot of a state");
    go_on(&mut store);
}

/// A registration and a command of the new session, in the slot after the snapshot's and the next.
fn go_on(store: &mut Store) {
    let mut applied = Vec::new();
    let register = CommandId { session: SessionId::NONE, seq: 1 };
    let command = |id| Command { id, acknowledged: 1, payload: [].into() };
    let slot = store.applied().next();
    store.apply(slot, &batch::encode(u64::MAX, [command(register)].iter()), &mut applied);
    let Outcome::Registered(session) = applied[0].outcome else { panic!("{applied:?}") };
    let id = CommandId { session, seq: 1 };
    applied.clear();
    store.apply(slot.next(), &batch::encode(0, [command(id)].iter()), &mut applied);
    assert!(matches!(applied[0].outcome, Outcome::Reply(_)));
}

/// A small snapshot, as our own writer makes it.
pub fn seed() -> Vec<u8> {
    let mut store = Store::new();
    super::seeds::values().iter().for_each(|value| {
        let slot = store.applied().next();
        store.apply(slot, value, &mut Vec::new());
    });
    let mut bytes = vec![1];
    write(&store.freeze(), ClusterId(7), Arc::from(&b"nodes"[..]), &mut bytes).expect("memory");
    bytes
}

/// Checksums, counts and digest of whatever structure can be found.
fn make_right(bytes: &mut [u8]) {
    let Some(header) = bytes.first_chunk::<HEADER_SIZE>() else { return };
    let Ok(size) = format::configurations_size(header) else { return };
    let head_end = HEADER_SIZE + size;
    if bytes.len() < head_end {
        return;
    }
    let slot = Slot(u64::from_le_bytes(bytes[24..32].try_into().expect("eight bytes")));
    let slot = slot.min(loggos::store::snapshot::SLOT_MAX);
    bytes[24..32].copy_from_slice(&slot.0.to_le_bytes());
    bytes[52..HEADER_SIZE].fill(0);
    let mut decoder = Decoder::new(slot);
    let (mut at, mut chunks) = (head_end, 0);
    while let Some(size) = bytes.get(at..at + 4) {
        let size = u32::from_le_bytes(size.try_into().expect("four bytes")) as usize;
        let start = at + CHUNK_HEADER_SIZE;
        let Some(chunk) = bytes.get(start..start.saturating_add(size)) else { return };
        if size == 0 {
            break;
        }
        let crc = format::chunk_crc(chunks, chunk);
        let _ = decoder.push(chunk, |_| {});
        bytes[at + 4..start].copy_from_slice(&crc.to_le_bytes());
        (at, chunks) = (start + size, chunks + 1);
    }
    let (keys, sessions, digest) = decoder.finish().unwrap_or_default();
    bytes[32..48].copy_from_slice(&digest.to_le_bytes());
    let mut crc = crc32fast::Hasher::new();
    crc.update(&bytes[..12]);
    crc.update(&bytes[16..head_end]);
    bytes[12..16].copy_from_slice(&crc.finalize().to_le_bytes());
    if bytes.len() == at + FOOTER_SIZE {
        let (size, checksum) = (bytes.len() as u64, xxh3_128(&bytes[..at]));
        let footer = Footer { chunks, keys, sessions, size, checksum };
        bytes[at..].copy_from_slice(&format::encode_footer(&footer));
    }
}
