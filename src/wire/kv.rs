//! Bytes of the store's commands, queries and replies: the payload of client frames and batches.

use crate::limits::{KEY_SIZE_MAX, VALUE_SIZE_MAX};
use crate::store::{Command, Query, Reply};

use super::{WireError, codec};

pub fn encode_command(command: &Command<'_>) -> Vec<u8> {
    codec::encode(command)
}

/// Decodes a command and checks its sizes.
pub fn decode_command(bytes: &[u8]) -> Result<Command<'_>, WireError> {
    let command = codec::decode(bytes)?;
    let (key, values): (&[u8], [Option<&[u8]>; 2]) = match command {
        Command::Put { key, value }
        | Command::Create { key, value }
        | Command::Update { key, value } => (key, [Some(value), None]),
        Command::Cas { key, expect, value } => (key, [expect, Some(value)]),
        Command::Delete { key } | Command::Incr { key, .. } => (key, [None, None]),
    };
    check_key(key)?;
    if values.into_iter().flatten().any(|value| value.len() > VALUE_SIZE_MAX) {
        return Err(WireError::Malformed("a value is longer than 1 MiB"));
    }
    Ok(command)
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
    }
    Ok(query)
}

pub fn encode_reply(reply: &Reply) -> Vec<u8> {
    codec::encode(reply)
}

pub fn decode_reply(bytes: &[u8]) -> Result<Reply, WireError> {
    codec::decode(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
