//! Commands and batches: how the value of a slot lies in bytes.
//!
//! A batch is encoded once, by the leader that forms it, and these bytes go unchanged into every
//! log, to every peer and into the state machine. All integers are little-endian.
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | `time_us`: the leader's wall clock, microseconds since 1970 |
//! | 8 | 4 | number of commands |
//! | 12 | 4 | kind: 0 for commands, 1 for a configuration |
//! | 16 | | the commands, one behind the other; or the configuration (`configuration`) |
//!
//! A command:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 8 | session (0: register a session) |
//! | 8 | 8 | sequence number in the session, from 1 (of a registration: the client's nonce) |
//! | 16 | 8 | `acknowledged`: the client has the replies of all commands below this number |
//! | 24 | 4 | size of the payload in bytes |
//! | 28 | | the payload, which only the state machine understands |
//!
//! A no-op is a value of no bytes. Batches come from our own leaders over checked frames and checked
//! log records, so a malformed one is a broken invariant and `Batch::decode` is an `Option` only
//! where bytes from outside first become a value (`wire`).

use serde::{Deserialize, Serialize};

use crate::limits::{BATCH_COMMANDS_MAX, BATCH_SIZE_SOFT_MAX};

use super::bytes::Bytes;
use super::configuration::Configuration;
use super::ids::Value;

const BATCH_HEADER_SIZE: usize = 16;
const COMMAND_HEADER_SIZE: usize = 28;

/// What a value other than a no-op holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Commands = 0,
    Configuration = 1,
}

/// A client's session: `SessionId::NONE` until it has registered.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct SessionId(pub u64);

impl SessionId {
    /// The session of a command that registers one.
    pub const NONE: SessionId = SessionId(0);
}

/// What a command is known by: applied at most once, whichever replicas it was sent to.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct CommandId {
    pub session: SessionId,
    /// From 1 in each session. Of a registration: a random number of the client's.
    pub seq: u64,
}

/// A client's command on its way into a batch.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Command {
    pub id: CommandId,
    /// The client has the replies of all its commands below this number.
    pub acknowledged: u64,
    pub payload: Bytes,
}

impl Command {
    /// Bytes that this command takes in a batch.
    pub fn size(&self) -> usize {
        COMMAND_HEADER_SIZE + self.payload.len()
    }
}

/// A command inside a batch; borrows the batch's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandRef<'a> {
    pub id: CommandId,
    pub acknowledged: u64,
    pub payload: &'a [u8],
}

/// A decoded batch; borrows the value's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Batch<'a> {
    /// The leader's wall clock when it formed the batch, microseconds since 1970. It may go back
    /// from one leader to the next; the state machine takes the highest seen.
    pub time_us: u64,
    len: usize,
    commands: &'a [u8],
}

/// A batch to which commands come yet: the bytes as they will be, but for its time.
#[derive(Clone, Debug, Hash)]
pub(super) struct Forming {
    bytes: Vec<u8>,
    len: usize,
}

impl Forming {
    /// `buffer` is empty.
    pub fn new(buffer: Vec<u8>) -> Forming {
        assert!(buffer.is_empty());
        let mut bytes = buffer;
        bytes.extend_from_slice(&[0; BATCH_HEADER_SIZE]);
        Forming { bytes, len: 0 }
    }

    pub fn push(&mut self, command: &Command) {
        assert!(self.len < BATCH_COMMANDS_MAX);
        let size = u32::try_from(command.payload.len()).expect("bounded by COMMAND_SIZE_MAX");
        let mut header = [0; COMMAND_HEADER_SIZE];
        header[..8].copy_from_slice(&command.id.session.0.to_le_bytes());
        header[8..16].copy_from_slice(&command.id.seq.to_le_bytes());
        header[16..24].copy_from_slice(&command.acknowledged.to_le_bytes());
        header[24..].copy_from_slice(&size.to_le_bytes());
        self.bytes.extend_from_slice(&header);
        self.bytes.extend_from_slice(&command.payload);
        self.len += 1;
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// Bytes of the commands.
    pub fn commands_size(&self) -> usize {
        self.bytes.len() - BATCH_HEADER_SIZE
    }

    /// Whether the next command goes into another batch.
    pub fn is_full(&self) -> bool {
        BATCH_COMMANDS_MAX <= self.len || BATCH_SIZE_SOFT_MAX <= self.commands_size()
    }

    /// The value of a slot, and the buffer to be used again.
    pub fn finish(self, time_us: u64) -> (Value, Vec<u8>) {
        let mut bytes = self.bytes;
        bytes[..BATCH_HEADER_SIZE].copy_from_slice(&header(
            time_us,
            self.len as u32,
            Kind::Commands,
        ));
        let value = Value(Bytes::from(&bytes[..]));
        bytes.clear();
        (value, bytes)
    }
}

/// Encodes `commands` into the value of one slot.
pub fn encode<'a>(time_us: u64, commands: impl Iterator<Item = &'a Command>) -> Value {
    let mut forming = Forming::new(Vec::new());
    commands.for_each(|command| forming.push(command));
    forming.finish(time_us).0
}

/// What a value other than a no-op begins with.
pub(super) fn header(time_us: u64, len: u32, kind: Kind) -> [u8; BATCH_HEADER_SIZE] {
    let mut bytes = [0; BATCH_HEADER_SIZE];
    bytes[..8].copy_from_slice(&time_us.to_le_bytes());
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    bytes[12..].copy_from_slice(&(kind as u32).to_le_bytes());
    bytes
}

/// The bytes of the configuration in a value, if it holds one.
pub(super) fn configuration_bytes(value: &[u8]) -> Option<&[u8]> {
    let (header, bytes) = value.split_at_checked(BATCH_HEADER_SIZE)?;
    (u32_at(header, 12) == Kind::Configuration as u32).then_some(bytes)
}

impl<'a> Batch<'a> {
    /// The batch that `value` holds, or `None` if it is neither a batch nor a no-op. A configuration is a
    /// batch without commands: the state machine has nothing to do with it.
    pub fn decode(value: &'a [u8]) -> Option<Batch<'a>> {
        if value.is_empty() {
            return Some(Batch { time_us: 0, len: 0, commands: &[] });
        }
        if value.len() < BATCH_HEADER_SIZE {
            return None;
        }
        if let Some(bytes) = configuration_bytes(value) {
            let sound = Configuration::decode(bytes).is_some_and(|(_, rest)| rest.is_empty());
            let empty = Batch { time_us: u64_at(value, 0), len: 0, commands: &[] };
            return (sound && u32_at(value, 8) == 0).then_some(empty);
        }
        if u32_at(value, 12) != Kind::Commands as u32 {
            return None;
        }
        let batch = Batch {
            time_us: u64_at(value, 0),
            len: u32_at(value, 8) as usize,
            commands: &value[BATCH_HEADER_SIZE..],
        };
        if BATCH_COMMANDS_MAX < batch.len {
            return None;
        }
        // Walk it once, so that `commands` below cannot meet a short one.
        let mut rest = batch.commands;
        for _ in 0..batch.len {
            (_, rest) = split_command(rest)?;
        }
        rest.is_empty().then_some(batch)
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The commands in the order in which they are applied.
    pub fn commands(&self) -> impl Iterator<Item = CommandRef<'a>> + use<'a> {
        let mut rest = self.commands;
        std::iter::from_fn(move || {
            let (command, after) = split_command(rest)?;
            rest = after;
            Some(command)
        })
    }
}

fn split_command(bytes: &[u8]) -> Option<(CommandRef<'_>, &[u8])> {
    if bytes.len() < COMMAND_HEADER_SIZE {
        return None;
    }
    let size = u32_at(bytes, 24) as usize;
    let end = COMMAND_HEADER_SIZE.checked_add(size)?;
    if bytes.len() < end {
        return None;
    }
    let command = CommandRef {
        id: CommandId { session: SessionId(u64_at(bytes, 0)), seq: u64_at(bytes, 8) },
        acknowledged: u64_at(bytes, 16),
        payload: &bytes[COMMAND_HEADER_SIZE..end],
    };
    Some((command, &bytes[end..]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(seq: u64, payload: &[u8]) -> Command {
        Command {
            id: CommandId { session: SessionId(7), seq },
            acknowledged: 1,
            payload: Bytes::from(payload),
        }
    }

    /// The format is on disks and between versions: a changed byte must be noticed.
    #[test]
    fn golden_bytes() {
        let value = encode(0x0102, [command(3, b"ab")].iter());
        let expected = [
            2u8, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, // header
            7, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, // session, seq
            1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, b'a', b'b', // acknowledged, size, payload
        ];
        assert_eq!(&value.0[..], &expected[..]);
    }

    #[test]
    fn what_goes_in_comes_out() {
        let commands = [command(1, b""), command(2, b"xyz"), command(3, &[9; 300])];
        let value = encode(5, commands.iter());
        let batch = Batch::decode(&value.0).unwrap();
        assert_eq!((batch.time_us, batch.len()), (5, 3));
        let out: Vec<_> = batch.commands().map(|c| (c.id.seq, c.payload.to_vec())).collect();
        assert_eq!(out, [(1, vec![]), (2, b"xyz".to_vec()), (3, vec![9; 300])]);
        assert!(Batch::decode(&Value::noop().0).unwrap().is_empty());
    }

    /// A batch cut short or with bytes to spare is not a batch, wherever the cut falls.
    #[test]
    fn a_cut_batch_is_refused() {
        let value = encode(5, [command(1, b"abc"), command(2, b"d")].iter());
        for cut in 1..value.size() {
            assert!(Batch::decode(&value.0[..cut]).is_none(), "cut at {cut}");
        }
        let mut longer = value.0.to_vec();
        longer.push(0);
        assert!(Batch::decode(&longer).is_none());
    }
}
