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
//! | 40 | 2 | ballot: node |
//! | 42 | 1 | type: 1 promised, 2 own ballot, 3 accepted, 4 chosen, 5 first unchosen |
//! | 43 | 5 | zero |
//! | 48 | size | payload: the value of an accepted or chosen record, otherwise empty |
//!
//! Zeros fill up to the next multiple of 8. Fields without a meaning for a type are zero.
//!
//! Valid is a record that lies within its segment, whose checksum is right, and whose sequence
//! number is the one expected at that place. The checksum starts from a seed that is made of the
//! log's random id and the segment's number. So neither what an older file left on the disk, nor
//! a value that a client made to look like a record, can pass for one.

use crate::paxos::{Ballot, NodeId, Record, Slot};

pub const HEADER_SIZE: usize = 48;

/// What a record is, without its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordType {
    Promised = 1,
    OwnBallot = 2,
    Accepted = 3,
    Chosen = 4,
    FirstUnchosen = 5,
}

/// A record as it lies in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored<'a> {
    pub sequence: u64,
    pub durable: u64,
    pub kind: RecordType,
    pub ballot: Ballot,
    pub slot: Slot,
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
        }
    }

    /// Whether it holds a value for a slot.
    pub fn has_value(self) -> bool {
        matches!(self, RecordType::Accepted | RecordType::Chosen)
    }
}

impl<'a> Stored<'a> {
    pub fn new(record: &'a Record, sequence: u64, durable: u64) -> Stored<'a> {
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
        };
        Stored { sequence, durable, kind, ballot, slot, payload }
    }

    /// Bytes that the record takes in a segment, padding included.
    pub fn extent(&self) -> usize {
        (HEADER_SIZE + self.payload.len()).next_multiple_of(8)
    }

    /// Writes the record to the start of `out`, which holds zeros.
    pub fn encode(&self, seed: u32, out: &mut [u8]) {
        assert!(self.durable < self.sequence, "a record is not durable before it is appended");
        let size = u32::try_from(self.payload.len()).expect("the caller checked the value's size");
        let mut header = [0u8; HEADER_SIZE];
        header[4..8].copy_from_slice(&size.to_le_bytes());
        header[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        header[16..24].copy_from_slice(&self.durable.to_le_bytes());
        header[24..32].copy_from_slice(&self.ballot.round.to_le_bytes());
        header[32..40].copy_from_slice(&self.slot.0.to_le_bytes());
        header[40..42].copy_from_slice(&self.ballot.node.0.to_le_bytes());
        header[42] = self.kind as u8;
        let crc = checksum(seed, &header[4..], self.payload);
        header[0..4].copy_from_slice(&crc.to_le_bytes());
        out[..HEADER_SIZE].copy_from_slice(&header);
        out[HEADER_SIZE..HEADER_SIZE + self.payload.len()].copy_from_slice(self.payload);
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
        let Some(kind) = RecordType::from_byte(header[42]) else {
            return Err("a record of unknown type");
        };
        let stored = Stored {
            sequence: u64_at(header, 8),
            durable: u64_at(header, 16),
            kind,
            ballot: Ballot { round: u64_at(header, 24), node: NodeId(u16_at(header, 40)) },
            slot: Slot(u64_at(header, 32)),
            payload,
        };
        if stored.sequence <= stored.durable {
            return Err("a record that says it was durable before it was appended");
        }
        if kind.has_value() && (stored.slot < Slot::FIRST || stored.slot.0 == u64::MAX) {
            return Err("a value for a slot that does not exist");
        }
        Ok(Some(stored))
    }

    /// Ballot and value of a record of our own index, which was checked when it got there.
    pub fn value_of(bytes: &[u8]) -> (Ballot, &[u8]) {
        let ballot = Ballot { round: u64_at(bytes, 24), node: NodeId(u16_at(bytes, 40)) };
        let size = u32_at(bytes, 4) as usize;
        (ballot, &bytes[HEADER_SIZE..HEADER_SIZE + size])
    }

    /// Type of a record of our own index.
    pub fn kind_of(bytes: &[u8]) -> Option<RecordType> {
        RecordType::from_byte(bytes[42])
    }
}

/// Sequence number and durable position that a record at the start of `bytes` would have, unchecked:
/// so that a search can pass over nearly every place without a checksum.
pub fn peek(bytes: &[u8]) -> Option<(u64, u64)> {
    if bytes.len() < HEADER_SIZE { None } else { Some((u64_at(bytes, 8), u64_at(bytes, 16))) }
}

/// Where the checksums of one segment's records start from.
pub fn seed(log_id: u64, segment: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&log_id.to_le_bytes());
    hasher.update(&segment.to_le_bytes());
    hasher.finalize()
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

    fn bytes_of(record: &Record) -> Vec<u8> {
        let stored = Stored::new(record, 0x0102, 0x0101);
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
        let value = Value([0xaa, 0xbb, 0xcc].into());
        let fixed = "0201000000000000" // sequence
            .to_owned()
            + "0101000000000000"; // durable
        let ballot_round = "0300000000000000";
        let cases: [(Record, &str, String); 5] = [
            (Record::Promised(ballot), "866f5c91", format!("{}01", "0".repeat(16) + "0200")),
            (Record::OwnBallot(ballot), "281dc817", format!("{}02", "0".repeat(16) + "0200")),
            (
                Record::Accepted { ballot, slot: Slot(9), value: value.clone() },
                "ac5d7390",
                format!("{}03", "09".to_owned() + &"0".repeat(14) + "0200"),
            ),
            (
                Record::Chosen { ballot, slot: Slot(9), value },
                "653012f4",
                format!("{}04", "09".to_owned() + &"0".repeat(14) + "0200"),
            ),
            (
                Record::FirstUnchosen(Slot(9)),
                "1b8d8dcd",
                format!("{}05", "09".to_owned() + &"0".repeat(14) + "0000"),
            ),
        ];
        for (record, crc, behind_round) in cases {
            let bytes = bytes_of(&record);
            let has_value = matches!(record, Record::Accepted { .. } | Record::Chosen { .. });
            let round = if matches!(record, Record::FirstUnchosen(_)) {
                "0".repeat(16)
            } else {
                ballot_round.to_owned()
            };
            let size = if has_value { "03000000" } else { "00000000" };
            let payload = if has_value { "aabbcc0000000000" } else { "" };
            let expected = format!("{size}{fixed}{round}{behind_round}0000000000{payload}");
            assert_eq!(hex(&bytes[4..]), expected, "{record:?}");
            assert_eq!(hex(&bytes[..4]), crc, "{record:?}");
        }
    }

    /// Zeros are what a fresh segment is made of, and must never be a record, whatever the seed.
    #[test]
    fn zeros_are_no_record_at_any_expected_place() {
        for number in 0..1000 {
            let stored = Stored::decode(&[0u8; 64], seed(number, number));
            assert!(!matches!(stored, Ok(Some(_))));
        }
    }

    /// A record copied from another segment or another log must not pass here.
    #[test]
    fn the_seed_binds_a_record_to_its_segment() {
        let bytes = bytes_of(&Record::Promised(Ballot { round: 1, node: NodeId(1) }));
        assert_eq!(Stored::decode(&bytes, seed(7, 2)), Ok(None));
        assert_eq!(Stored::decode(&bytes, seed(8, 1)), Ok(None));
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
