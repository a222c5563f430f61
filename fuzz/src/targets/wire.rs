//! Frames, messages of peers and clients, commands and replies, batches.

use std::fmt::Debug;

use loggos::limits::{KEY_SIZE_MAX, VALUE_SIZE_MAX};
use loggos::paxos::Slot;
use loggos::paxos::{Batch, Command, Configuration, Value, batch as batches};
use loggos::store::changes::Change;
use loggos::store::{self, Query, StepReply};
use loggos::wire::client::{Request, Response};
use loggos::wire::frame::{self as frames, Frame, HEADER_SIZE};
use loggos::wire::{Hello, WireError, codec, kv as kvs, peer as peers};
use serde::{Deserialize, Serialize};

use super::memory::peak_of;

/// What decoding may cost beside a multiple of its input: serde sets aside up to 1 MiB for a sequence, by
/// its length field, and they lie at most four deep: the steps of a transaction's reply, the rows of a
/// step, the values of a row, the bytes of a value.
const SIZE_JUSTIFIED: usize = 4 * 1024 * 1024 + 64 * 1024;
/// The smallest thing with a place of its own has four bytes, and becomes the reply to a step, in a
/// sequence that has grown to twice what it needs.
const SIZE_FACTOR: usize = 2 * size_of::<StepReply>() / 4;

fn within_bounds<T>(input: &[u8], decode: impl FnOnce() -> T) -> T {
    let (result, peak) = peak_of(decode);
    let bound = SIZE_FACTOR * input.len() + SIZE_JUSTIFIED;
    assert!(peak <= bound, "{peak} bytes were allocated for an input of {}", input.len());
    result
}

/// A byte stream. First byte: whether the checksum is made right, if the sizes are.
pub fn frame(input: &[u8]) {
    let Some((&flag, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if flag & 1 == 1 {
        make_checksum_right(&mut bytes);
    }
    let whole = within_bounds(&bytes, || frames::read(&bytes).map(|found| found.map(sizes)));
    if let Ok(Some((head, bulk, size))) = whole {
        assert_eq!(size, HEADER_SIZE + head + bulk);
        assert!(size <= bytes.len());
        // Nothing behind a frame has a say in it.
        assert_eq!(frames::read(&bytes[..size]).map(|found| found.map(sizes)), whole);
    }
    // However the bytes come in, it ends the same way: waited for until it is there, or refused.
    let end = whole.as_ref().ok().and_then(|found| *found).map_or(bytes.len(), |(.., size)| size);
    let mut refused = None;
    for cut in 0..end {
        match (frames::read(&bytes[..cut]), &refused) {
            (Ok(None), None) => {}
            (Ok(Some(_)), _) => panic!("{cut} bytes of a frame of {end} are a frame"),
            (Ok(None), Some(_)) => panic!("what was refused is waited for at {cut}"),
            (Err(error), _) => refused = Some(error),
        }
    }
    if let Some(error) = refused {
        assert_eq!(whole.map(|_| ()), Err(error));
    }
}

fn sizes((frame, size): (Frame<'_>, usize)) -> (usize, usize, usize) {
    (frame.head.len(), frame.bulk.len(), size)
}

fn make_checksum_right(bytes: &mut [u8]) {
    let Some(header) = bytes.get(..HEADER_SIZE) else { return };
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let size = HEADER_SIZE + word(4) as usize + word(8) as usize;
    let Some(frame) = bytes.get(..size) else { return };
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&frame[..12]);
    hasher.update(&frame[HEADER_SIZE..]);
    let crc = hasher.finalize();
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
}

/// First two bytes: how long the head is; then head and bulk of a peer's frame.
pub fn peer(input: &[u8]) {
    let Some((size, rest)) = input.split_first_chunk::<2>() else { return };
    let Some((head, bulk)) = rest.split_at_checked(u16::from_le_bytes(*size).into()) else {
        return;
    };
    let frame = Frame { head, bulk };
    let Ok(message) = within_bounds(input, || peers::read(frame)) else { return };
    let mut again = Vec::new();
    peers::write(&message, &mut again);
    let (written, size) = frames::read(&again).expect("we read what we write").expect("in full");
    assert_eq!(size, again.len());
    assert_eq!(written, frame, "the encoding of {message:?} is not the only one");
    assert_eq!(peers::read(written), Ok(message));
}

/// First byte: as what the rest is read.
pub fn client(input: &[u8]) {
    let Some((&kind, bytes)) = input.split_first() else { return };
    match kind % 3 {
        0 => canonical::<Hello>(bytes),
        1 => canonical::<Request>(bytes),
        _ => canonical::<Response>(bytes),
    }
}

fn canonical<'de, T: Deserialize<'de> + Serialize + PartialEq + Debug>(bytes: &'de [u8]) {
    if let Ok(value) = within_bounds(bytes, || codec::decode::<T>(bytes)) {
        assert_eq!(codec::encode(&value), bytes, "the encoding of {value:?} is not the only one");
    }
}

/// First byte: as what the rest is read.
pub fn kv(input: &[u8]) {
    let Some((&kind, bytes)) = input.split_first() else { return };
    match kind % 4 {
        0 => kv_command(bytes),
        1 => kv_query(bytes),
        3 => kv_changes(bytes),
        _ => _ = again(bytes, within_bounds(bytes, || kvs::decode_reply(bytes)), kvs::encode_reply),
    }
}

fn kv_command(bytes: &[u8]) {
    let decoded = kvs::decode_command(bytes);
    let Ok(command) = &decoded else { return };
    if let store::Command::Transaction(inner) = *command {
        let transaction = within_bounds(inner, || kvs::decode_transaction(inner));
        assert_eq!(kvs::check_from_client(bytes).is_ok(), transaction.is_ok());
        again(inner, transaction, kvs::encode_transaction);
    } else {
        assert!(bytes.len() <= 2 * VALUE_SIZE_MAX + KEY_SIZE_MAX + 64);
    }
    again(bytes, decoded, kvs::encode_command);
}

/// Whatever a node sends, it is told slot by slot and change by change, or refused.
fn kv_changes(bytes: &[u8]) {
    let mut slots: Vec<(Slot, Vec<Change<'_>>)> = Vec::new();
    let read = kvs::read_slot_changes(bytes, |slot, change| match slots.last_mut() {
        Some((last, changes)) if *last == slot => changes.push(change),
        _ => slots.push((slot, vec![change])),
    });
    if read.is_ok() {
        let mut again = Vec::new();
        for (slot, changes) in slots {
            kvs::write_slot_changes(slot, changes.into_iter(), &mut again);
        }
        // A slot may come in two parts, or in none.
        assert!(again.len() <= bytes.len());
    }
}

fn kv_query(bytes: &[u8]) {
    let decoded = within_bounds(bytes, || kvs::decode_query(bytes));
    if let Ok(Query::Sql(inner)) = decoded {
        let statement = kvs::decode_statement(inner);
        assert!(again(inner, statement, kvs::encode_statement), "a query has what was checked");
    }
    again(bytes, decoded, kvs::encode_query);
}

fn again<T>(bytes: &[u8], decoded: Result<T, WireError>, encode: impl Fn(&T) -> Vec<u8>) -> bool {
    let Ok(value) = decoded else { return false };
    assert_eq!(encode(&value), bytes);
    true
}

/// The value of a slot.
pub fn batch(input: &[u8]) {
    let Some(batch) = within_bounds(input, || Batch::decode(input)) else { return };
    let commands: Vec<Command> = batch
        .commands()
        .map(|it| Command { id: it.id, acknowledged: it.acknowledged, payload: it.payload.into() })
        .collect();
    assert_eq!(commands.len(), batch.len());
    if let Some(configuration) = Configuration::of_bytes(input) {
        assert_eq!(&*configuration.to_value(batch.time_us).0, input);
    } else if !input.is_empty() {
        let again: Value = batches::encode(batch.time_us, commands.iter());
        assert_eq!(&*again.0, input);
    }
}
