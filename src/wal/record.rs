//! One record of the log as bytes.
//!
//! Little-endian, at an 8-byte aligned offset of a segment:
//!
//! | offset | size | field |
//! | --- | --- | --- |
//! | 0 | 4 | CRC-32 of everything behind it: the rest of the header and the payload |
//! | 4 | 4 | size of the payload |
//! | 8 | 8 | sequence number: 1 for the first record of the log, then one more each |
//! | 16 | 8 | durable: the last sequence number that was known to be on the disk when this record was appended |
//! | 24 | 8 | ballot: round |
//! | 32 | 8 | slot |
//! | 40 | 24 | bounds, this record included: round of the highest promise, round of the highest own ballot, the slot after the highest one with a value |
//! | 64 | 2 | ballot: node |
//! | 66 | 2 | bounds: node of the highest promise |
//! | 68 | 1 | type: 1 promised, 2 own ballot, 3 accepted, 4 chosen, 5 first unchosen, 6 jumped |
//! | 69 | 3 | zero |
//! | 72 | size | payload: the value of an accepted or chosen record, otherwise empty |
//!
//! Zeros fill up to the next multiple of 8. Fields without a meaning for a type are zero.
//!
//! The bounds say what all records up to this one come to. So what lies before a record may be
//! truncated, or damaged, and the node still knows what it promised, and which slots it may have
//! accepted something in.
//!
//! Valid is a record that lies within its segment, whose checksum is right, and whose sequence
//! number is the one expected at that place. The checksum starts from a seed that is made of the
//! log's random id, the segment's number and the record's offset. So neither what an older file left
//! on the disk, nor a sector that the disk wrote to the wrong place, nor a value that a client made
//! to look like a record, can pass for one.

use crate::paxos::{Ballot, NodeId, Record, Slot};

use super::bounds::Bounds;

pub const HEADER_SIZE: usize = 72;
/// No log comes to so many records.
pub const SEQUENCE_MAX: u64 = 1 << 62;

/// What a record is, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordType {
    Promised = 1,
    OwnBallot = 2,
    Accepted = 3,
    Chosen = 4,
    FirstUnchosen = 5,
    Jumped = 6,
}

/// A record as it lies in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    pub sequence: u64,
    pub durable: u64,
    pub kind: RecordType,
    pub ballot: Ballot,
    pub slot: Slot,
    /// What the log has come to with this record.
    pub bounds: Bounds,
    pub payload: &'a [u8],
}

impl RecordType {
    fn from_byte(byte: u8) -> Option<RecordType> {
        match byte {
            1 => Some(RecordType::Promised),
            2 => Some(RecordType::OwnBallot),
            3 => Some(RecordType::Accepted),
            4 => Some(RecordType::Chosen),
            5 => Some(RecordType::FirstUnchosen),
            6 => Some(RecordType::Jumped),
            _ => None,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            RecordType::Promised => "promised",
            RecordType::OwnBallot => "own-ballot",
            RecordType::Accepted => "accepted",
            RecordType::Chosen => "chosen",
            RecordType::FirstUnchosen => "first-unchosen",
            RecordType::Jumped => "jumped",
        }
    }

    /// Whether it holds a value for a slot.
    pub fn has_value(self) -> bool {
        matches!(self, RecordType::Accepted | RecordType::Chosen)
    }
}

impl<'a> Stored<'a> {
    /// `before`: the bounds of the record before it.
    pub fn new(record: &'a Record, sequence: u64, durable: u64, before: Bounds) -> Stored<'a> {
        let (kind, ballot, slot, payload): (_, _, _, &[u8]) = match record {
            Record::Promised(ballot) => (RecordType::Promised, *ballot, Slot(0), &[]),
            Record::OwnBallot(ballot) => (RecordType::OwnBallot, *ballot, Slot(0), &[]),
            Record::Accepted { ballot, slot, value } => {
                (RecordType::Accepted, *ballot, *slot, &value.0)
            }
            Record::Chosen { ballot, slot, value } => {
                (RecordType::Chosen, *ballot, *slot, &value.0)
            }
            Record::FirstUnchosen(slot) => (RecordType::FirstUnchosen, Ballot::NONE, *slot, &[]),
            Record::Jumped(slot) => (RecordType::Jumped, Ballot::NONE, *slot, &[]),
        };
        let bounds = before.with(kind, ballot, slot);
        Stored { sequence, durable, kind, ballot, slot, bounds, payload }
    }

    /// Bytes that the record takes in a segment, padding included.
    pub fn extent(&self) -> usize {
        (HEADER_SIZE + self.payload.len()).next_multiple_of(8)
    }

    /// Writes the record to `out`, all that is its extent.
    pub fn encode(&self, seed: u32, out: &mut [u8]) {
        assert!(self.durable < self.sequence, "a record is not durable before it is appended");
        let size = u32::try_from(self.payload.len()).expect("the caller checked the value's size");
        let mut header = [0u8; HEADER_SIZE];
        header[4..8].copy_from_slice(&size.to_le_bytes());
        header[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        header[16..24].copy_from_slice(&self.durable.to_le_bytes());
        header[24..32].copy_from_slice(&self.ballot.round.to_le_bytes());
        header[32..40].copy_from_slice(&self.slot.0.to_le_bytes());
        self.bounds.encode(&mut header, 40, 66);
        header[64..66].copy_from_slice(&self.ballot.node.0.to_le_bytes());
        header[68] = self.kind as u8;
        let crc = checksum(seed, &header[4..], self.payload);
        header[0..4].copy_from_slice(&crc.to_le_bytes());
        out[..HEADER_SIZE].copy_from_slice(&header);
        let (payload, padding) = out[HEADER_SIZE..].split_at_mut(self.payload.len());
        payload.copy_from_slice(self.payload);
        padding.fill(0);
    }

    /// The record at the start of `bytes`, if its checksum is right. `Err` says what is wrong with
    /// a record that has a right checksum and still makes no sense: no torn write looks like that.
    pub fn decode(bytes: &'a [u8], seed: u32) -> Result<Option<Stored<'a>>, &'static str> {
        let Some((header, behind)) = bytes.split_at_checked(HEADER_SIZE) else { return Ok(None) };
        let size = u32_at(header, 4) as usize;
        let Some(payload) = behind.get(..size) else { return Ok(None) };
        // Zeros are an unwritten place. They are told by the sequence number, since under some seed
        // zero is the right checksum of zeros.
        if u64_at(header, 8) == 0 || u32_at(header, 0) != checksum(seed, &header[4..], payload) {
            return Ok(None);
        }
        let Some(kind) = RecordType::from_byte(header[68]) else {
            return Err("a record of unknown type");
        };
        let stored = Stored {
            sequence: u64_at(header, 8),
            durable: u64_at(header, 16),
            kind,
            ballot: Ballot { round: u64_at(header, 24), node: NodeId(u16_at(header, 64)) },
            slot: Slot(u64_at(header, 32)),
            bounds: Bounds::decode(header, 40, 66),
            payload,
        };
        if SEQUENCE_MAX < stored.sequence {
            return Err("a sequence number out of all range");
        }
        if stored.sequence <= stored.durable {
            return Err("a record that says it was durable before it was appended");
        }
        if kind.has_value() && (stored.slot < Slot::FIRST || stored.slot.0 == u64::MAX) {
            return Err("a value for a slot that does not exist");
        }
        if stored.bounds != stored.bounds.with(kind, stored.ballot, stored.slot) {
            return Err("bounds that leave the record out");
        }
        Ok(Some(stored))
    }

    /// Ballot and value of a record of our own index, which was checked when it got there.
    pub fn value_of(bytes: &[u8]) -> (Ballot, &[u8]) {
        let ballot = Ballot { round: u64_at(bytes, 24), node: NodeId(u16_at(bytes, 64)) };
        let size = u32_at(bytes, 4) as usize;
        (ballot, &bytes[HEADER_SIZE..HEADER_SIZE + size])
    }

    /// Type of a record of our own index.
    pub fn kind_of(bytes: &[u8]) -> Option<RecordType> {
        RecordType::from_byte(bytes[68])
    }
}

/// Sequence number and durable position that a record at the start of `bytes` would have, unchecked:
/// so that a search can pass over nearly every place without a checksum.
pub fn peek(bytes: &[u8]) -> Option<(u64, u64)> {
    if bytes.len() < HEADER_SIZE { None } else { Some((u64_at(bytes, 8), u64_at(bytes, 16))) }
}

/// Where the checksums of one segment's records start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(u32);

impl Seed {
    pub fn new(log_id: u64, segment: u64) -> Seed {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&log_id.to_le_bytes());
        hasher.update(&segment.to_le_bytes());
        Seed(hasher.finalize())
    }

    /// Where the checksum of the record at `offset` starts from. The same bytes have another checksum
    /// at each offset: a CRC that starts elsewhere ends elsewhere.
    pub fn at(self, offset: usize) -> u32 {
        self.0 ^ offset as u32
    }
}

fn checksum(seed: u32, header: &[u8], payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(seed);
    hasher.update(header);
    hasher.update(payload);
    hasher.finalize()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0u8; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0u8; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::Value;

    const BEFORE: Bounds =
        Bounds { promised: Ballot { round: 2, node: NodeId(5) }, own_round: 2, slot_end: Slot(4) };

    fn seed(log: u64, segment: u64) -> u32 {
        Seed::new(log, segment).at(112)
    }

    fn bytes_of(record: &Record) -> Vec<u8> {
        let stored = Stored::new(record, 0x0102, 0x0101, BEFORE);
        let mut out = vec![0u8; stored.extent()];
        stored.encode(seed(7, 1), &mut out);
        assert_eq!(Stored::decode(&out, seed(7, 1)), Ok(Some(stored)));
        out
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// A log outlives the program that wrote it: each byte of each type of record stays in place.
    #[test]
    fn golden_records() {
        let ballot = Ballot { round: 3, node: NodeId(2) };
        let slot = Slot(9);
        let value = Value([0xaa, 0xbb, 0xcc].into());
        let word = |number: u8| format!("{number:02x}{}", "0".repeat(14));
        // Round, slot; bounds: promise, own round, end of slots; nodes of ballot and promise, type.
        let cases: [(Record, &str, [u8; 5], &str); 6] = [
            (Record::Promised(ballot), "ac0cc9ef", [3, 0, 3, 2, 4], "0200020001"),
            (Record::OwnBallot(ballot), "77f38690", [3, 0, 2, 3, 4], "0200050002"),
            (
                Record::Accepted { ballot, slot, value: value.clone() },
                "9940e484",
                [3, 9, 3, 2, 10],
                "0200020003",
            ),
            (Record::Chosen { ballot, slot, value }, "1604bcea", [3, 9, 2, 2, 10], "0200050004"),
            (Record::FirstUnchosen(slot), "488fb45d", [0, 9, 2, 2, 4], "0000050005"),
            (Record::Jumped(slot), "a620014f", [0, 9, 2, 2, 4], "0000050006"),
        ];
        for (record, crc, words, behind) in cases {
            let bytes = bytes_of(&record);
            let has_value = matches!(record, Record::Accepted { .. } | Record::Chosen { .. });
            let size = if has_value { "03000000" } else { "00000000" };
            let payload = if has_value { "aabbcc0000000000" } else { "" };
            let numbers = "02010000000000000101000000000000"; // sequence, durable
            let words = words.map(word).concat();
            let expected = format!("{size}{numbers}{words}{behind}000000{payload}");
            assert_eq!(hex(&bytes[4..]), expected, "{record:?}");
            assert_eq!(hex(&bytes[..4]), crc, "{record:?}");
        }
    }

    /// Zeros are what a fresh segment is made of, and must never be a record, whatever the seed.
    #[test]
    fn zeros_are_no_record_at_any_expected_place() {
        for number in 0..1000 {
            let stored = Stored::decode(&[0u8; 80], seed(number, number));
            assert!(!matches!(stored, Ok(Some(_))));
        }
    }

    /// A record copied from another segment, another log or another place must not pass here.
    #[test]
    fn the_seed_binds_a_record_to_its_place() {
        let bytes = bytes_of(&Record::Promised(Ballot { round: 1, node: NodeId(1) }));
        assert_eq!(Stored::decode(&bytes, seed(7, 2)), Ok(None));
        assert_eq!(Stored::decode(&bytes, seed(8, 1)), Ok(None));
        assert_eq!(Stored::decode(&bytes, Seed::new(7, 1).at(120)), Ok(None));
    }

    /// One flipped bit anywhere under the checksum is seen.
    #[test]
    fn every_single_bit_counts() {
        let value = Value([1, 2, 3, 4, 5, 6, 7, 8].into());
        let ballot = Ballot { round: 1, node: NodeId(1) };
        let bytes = bytes_of(&Record::Accepted { ballot, slot: Slot(1), value });
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Stored::decode(&flipped, seed(7, 1)), Ok(None), "bit {bit}");
        }
    }

    #[test]
    fn short_input_is_no_record() {
        let bytes = bytes_of(&Record::Promised(Ballot { round: 1, node: NodeId(1) }));
        for size in 0..bytes.len() {
            assert_eq!(Stored::decode(&bytes[..size], seed(7, 1)), Ok(None));
        }
    }
}
