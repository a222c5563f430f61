//! Bytes of the store's commands, queries and replies: the payload of client frames and batches.

use crate::limits::{
    IMAGE_HASH_SIZE_MAX, IMAGE_WITHIN_MAX, KEY_SIZE_MAX, TTL_US_MAX, VALUE_SIZE_MAX,
};
use crate::paxos::Slot;
use crate::sql::{self, Statement};
use crate::store::changes::{self, Change};
use crate::store::{Command, Query, Reply, Step, Transaction};

use super::{WireError, codec};

pub fn encode_command(command: &Command<'_>) -> Vec<u8> {
    codec::encode(command)
}

/// Decodes a command and checks its sizes.
pub fn decode_command(bytes: &[u8]) -> Result<Command<'_>, WireError> {
    let command = codec::decode(bytes)?;
    check_command(&command)?;
    Ok(command)
}

fn check_command(command: &Command<'_>) -> Result<(), WireError> {
    match *command {
        // What is in a transaction is checked where that is decoded.
        Command::Transaction(_) => {}
        Command::SetImage { hash, .. } | Command::DeleteImage { hash } => check_hash(hash)?,
        _ => check_key(command.key().expect("all others are about a key"))?,
    }
    let values = match *command {
        Command::Put { value, .. }
        | Command::Create { value, .. }
        | Command::Update { value, .. } => [Some(value), None],
        Command::Cas { expect, value, .. } => [expect, Some(value)],
        Command::PutFor { value, ttl_us, .. } | Command::Lock { value, ttl_us, .. } => {
            check_ttl(ttl_us)?;
            [Some(value), None]
        }
        Command::Renew { ttl_us, .. } => {
            check_ttl(ttl_us)?;
            [None, None]
        }
        Command::SetImage { meta, .. } => [Some(meta), None],
        Command::Delete { .. }
        | Command::Incr { .. }
        | Command::Unlock { .. }
        | Command::Transaction(_)
        | Command::DeleteImage { .. } => [None, None],
    };
    if values.into_iter().flatten().any(|value| value.len() > VALUE_SIZE_MAX) {
        return Err(WireError::Malformed("a value is longer than 1 MiB"));
    }
    Ok(())
}

pub fn encode_transaction(transaction: &Transaction<'_>) -> Vec<u8> {
    codec::encode(transaction)
}

/// Checks all of a command that a client sends, also what is in a transaction: an error can still be definite.
pub fn check_from_client(bytes: &[u8]) -> Result<(), WireError> {
    let Command::Transaction(bytes) = decode_command(bytes)? else { return Ok(()) };
    let transaction = decode_transaction(bytes)?;
    let mut steps = transaction.then.iter().chain(&transaction.otherwise);
    if !sql::IS_BUILT_IN && steps.any(|step| matches!(step, Step::Sql(_))) {
        return Err(WireError::Malformed("this node is built without SQL; ask another"));
    }
    Ok(())
}

/// Decodes a transaction and checks its sizes.
pub fn decode_transaction(bytes: &[u8]) -> Result<Transaction<'_>, WireError> {
    let transaction: Transaction<'_> = codec::decode(bytes)?;
    for condition in &transaction.conditions {
        check_key(condition.key)?;
    }
    for step in transaction.then.iter().chain(&transaction.otherwise) {
        match step {
            Step::Key(Command::Transaction(_)) => {
                return Err(WireError::Malformed("a transaction in a transaction"));
            }
            Step::Key(command) => check_command(command)?,
            Step::Get { key } => check_key(key)?,
            Step::Sql(_) => {}
            Step::Nearest { hash, within, .. } => check_nearest(hash, *within)?,
        }
    }
    Ok(transaction)
}

pub fn encode_statement(statement: &Statement<'_>) -> Vec<u8> {
    codec::encode(statement)
}

pub fn decode_statement(bytes: &[u8]) -> Result<Statement<'_>, WireError> {
    codec::decode(bytes)
}

pub fn encode_query(query: &Query<'_>) -> Vec<u8> {
    codec::encode(query)
}

/// Decodes a query and checks its sizes.
pub fn decode_query(bytes: &[u8]) -> Result<Query<'_>, WireError> {
    let query = codec::decode(bytes)?;
    match query {
        Query::Get { key } => check_key(key)?,
        Query::Scan { from, to, .. } => {
            if from.len() > KEY_SIZE_MAX + 1 || to.is_some_and(|to| to.len() > KEY_SIZE_MAX + 1) {
                return Err(WireError::Malformed("a scan's bound is longer than 4 KiB"));
            }
        }
        Query::Sql(bytes) => {
            decode_statement(bytes)?;
        }
        Query::Ttl { key } => check_key(key)?,
        Query::Nearest { hash, within, .. } => check_nearest(hash, within)?,
    }
    Ok(query)
}

pub fn encode_reply(reply: &Reply) -> Vec<u8> {
    codec::encode(reply)
}

pub fn decode_reply(bytes: &[u8]) -> Result<Reply, WireError> {
    codec::decode(bytes)
}

/// Appends the changes of a slot, if there are any: slot u64, their size u32, and they.
pub fn write_slot_changes<'a>(
    slot: Slot,
    changes: impl Iterator<Item = Change<'a>>,
    out: &mut Vec<u8>,
) {
    let begin = out.len();
    out.extend_from_slice(&slot.0.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    changes.for_each(|change| change.write(out));
    let size = out.len() - begin - 12;
    if size == 0 {
        out.truncate(begin);
    } else {
        out[begin + 8..begin + 12].copy_from_slice(&(size as u32).to_le_bytes());
    }
}

/// Calls `each` with all changes in what `write_slot_changes` wrote.
pub fn read_slot_changes<'a>(
    mut bytes: &'a [u8],
    mut each: impl FnMut(Slot, Change<'a>),
) -> Result<(), WireError> {
    const CUT: WireError = WireError::Malformed("changes are cut off");
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_first_chunk::<12>().ok_or(CUT)?;
        let slot = Slot(u64::from_le_bytes(head[..8].try_into().expect("eight bytes")));
        let size = u32::from_le_bytes(head[8..].try_into().expect("four bytes")) as usize;
        let (of_slot, rest) = rest.split_at_checked(size).ok_or(CUT)?;
        let mut changes = changes::read(of_slot);
        changes.by_ref().for_each(|change| each(slot, change));
        if !changes.is_done() {
            return Err(CUT);
        }
        bytes = rest;
    }
    Ok(())
}

fn check_ttl(ttl_us: u64) -> Result<(), WireError> {
    match ttl_us {
        1..=TTL_US_MAX => Ok(()),
        _ => Err(WireError::Malformed("a key lives for a microsecond to ten years")),
    }
}

fn check_key(key: &[u8]) -> Result<(), WireError> {
    if key.is_empty() {
        return Err(WireError::Malformed("a key is empty"));
    }
    if key.len() > KEY_SIZE_MAX {
        return Err(WireError::Malformed("a key is longer than 4 KiB"));
    }
    Ok(())
}

fn check_hash(hash: &[u8]) -> Result<(), WireError> {
    match hash.len() {
        1..=IMAGE_HASH_SIZE_MAX => Ok(()),
        _ => Err(WireError::Malformed("an image's hash has 1 to 128 bytes")),
    }
}

fn check_nearest(hash: &[u8], within: u32) -> Result<(), WireError> {
    check_hash(hash)?;
    if IMAGE_WITHIN_MAX < within {
        return Err(WireError::Malformed("no two images differ by more than 1024 bits"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Failure, Image, StepReply};

    /// These bytes are in logs and between versions.
    #[test]
    fn golden_bytes() {
        let bytes = encode_command(&Command::Put { key: b"k", value: b"vw" });
        let expected: &[u8] = &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, b'k', 2, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(&bytes[..expected.len()], expected);
        let bytes = encode_command(&Command::Incr { key: b"k", by: -1 });
        assert_eq!(bytes[0], 5);
        assert_eq!(&bytes[13..], &[0xff; 8]);
        assert_eq!(encode_reply(&Reply::Integer(3)), [1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        let (one, two) = (&[1, 0, 0, 0, 0, 0, 0, 0][..], &[2, 0, 0, 0, 0, 0, 0, 0][..]);
        let set = encode_command(&Command::SetImage { hash: b"h", meta: b"mn" });
        assert_eq!(set, [&[11, 0, 0, 0], one, b"h", two, b"mn"].concat());
        let delete = encode_command(&Command::DeleteImage { hash: b"h" });
        assert_eq!(delete, [&[12, 0, 0, 0], one, b"h"].concat());
        let nearest = encode_query(&Query::Nearest { hash: b"h", within: 5, limit: 9 });
        assert_eq!(nearest, [&[3, 0, 0, 0], one, b"h", &[5, 0, 0, 0, 9, 0, 0, 0]].concat());
        let image = Image { hash: b"h".to_vec(), meta: b"mn".to_vec(), distance: 3 };
        let found = encode_reply(&Reply::Images { images: vec![image.clone()], more: true });
        let bytes = [one, one, b"h", two, b"mn", &[3, 0, 0, 0]].concat();
        assert_eq!(found, [&[8, 0, 0, 0], &bytes[..], &[1]].concat());
        let bytes = codec::encode(&StepReply::Images(vec![image]));
        assert_eq!(bytes[..4], [5, 0, 0, 0]);
        let bytes = codec::encode(&Step::Nearest { hash: b"h", within: 5, limit: 9 });
        assert_eq!(bytes[..4], [3, 0, 0, 0]);
        assert_eq!(encode_reply(&Reply::Failed(Failure::NotHeld)), [4, 0, 0, 0, 8, 0, 0, 0]);
    }

    /// What is in a transaction is checked like what comes alone, and none is in another.
    #[test]
    fn transactions_are_checked_through_and_through() {
        let check = |steps: Vec<Step<'_>>| {
            let bytes = encode_transaction(&Transaction { then: steps, ..Transaction::default() });
            check_from_client(&encode_command(&Command::Transaction(&bytes)))
        };
        assert!(check(vec![]).is_ok());
        assert!(check(vec![Step::Get { key: b"k" }]).is_ok());
        assert!(check(vec![Step::Get { key: b"" }]).is_err());
        let long = vec![1; KEY_SIZE_MAX + 1];
        assert!(check(vec![Step::Key(Command::Delete { key: &long })]).is_err());
        assert!(check(vec![Step::Key(Command::Transaction(b""))]).is_err());
        assert!(check(vec![Step::Key(Command::DeleteImage { hash: b"" })]).is_err());
        assert!(check(vec![Step::Nearest { hash: b"h", within: 1025, limit: 1 }]).is_err());
        assert!(check_from_client(&encode_command(&Command::Transaction(b"x"))).is_err());
        let select = Statement { text: "SELECT 1", parameters: vec![] };
        assert_eq!(check(vec![Step::Sql(select)]).is_ok(), sql::IS_BUILT_IN);
    }

    #[test]
    fn changes_of_slots_are_read_as_written() {
        let mut bytes = Vec::new();
        let change = |key, value| Change { key, value };
        let first = [change(&b"a"[..], Some(&b"1"[..])), change(b"b", None)];
        write_slot_changes(Slot(3), first.into_iter(), &mut bytes);
        write_slot_changes(Slot(4), std::iter::empty(), &mut bytes);
        write_slot_changes(Slot(7), first[..1].iter().copied(), &mut bytes);
        let mut found = Vec::new();
        read_slot_changes(&bytes, |slot, change| found.push((slot.0, change))).unwrap();
        assert_eq!(found, [(3, first[0]), (3, first[1]), (7, first[0])]);
        let ends =
            (1..bytes.len()).filter(|&cut| read_slot_changes(&bytes[..cut], |_, _| ()).is_ok());
        assert_eq!(ends.collect::<Vec<_>>(), [12 + 10 + 9]);
    }

    /// Whatever a client sends, decoding ends in a value or an error.
    #[test]
    fn cut_and_hostile_bytes_are_errors() {
        let bytes = encode_command(&Command::Cas { key: b"key", expect: Some(b"a"), value: b"b" });
        for cut in 0..bytes.len() {
            assert!(decode_command(&bytes[..cut]).is_err());
        }
        let mut huge = bytes;
        huge[4..12].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode_command(&huge).is_err());
        let long = vec![1; KEY_SIZE_MAX + 1];
        assert!(decode_command(&encode_command(&Command::Delete { key: &long })).is_err());
        assert!(decode_command(&encode_command(&Command::Delete { key: b"" })).is_err());
    }

    #[test]
    fn images_are_bounded() {
        let set = |hash: usize, meta: usize| {
            let (hash, meta) = (&vec![1; hash][..], &vec![1; meta][..]);
            decode_command(&encode_command(&Command::SetImage { hash, meta })).is_ok()
        };
        let sizes = [(1, 0), (128, VALUE_SIZE_MAX), (0, 0), (129, 0), (1, VALUE_SIZE_MAX + 1)];
        assert_eq!(sizes.map(|(hash, meta)| set(hash, meta)), [true, true, false, false, false]);
        let nearest = |hash: &[u8], within| {
            decode_query(&encode_query(&Query::Nearest { hash, within, limit: 1 })).is_ok()
        };
        assert!(nearest(&[0; 128], 1024) && !nearest(&[0; 129], 0) && !nearest(&[0; 1], 1025));
    }
}
