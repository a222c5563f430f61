//! What nodes tell each other, in bytes: OmniPaxos's messages in frames.
//!
//! Of two nodes, the one with the higher number dials. It says the five bytes `OPKP` 1, its number (8 bytes), the other's
//! (8) and a digest of the cluster's addresses (4), and is told the same about itself. Then both send frames: 4 bytes,
//! the size of what follows; a `Message` in bincode. All integers are little-endian.
//!
//! A peer is believed what it says of the protocol, once it says it as itself: OmniPaxos's own code does not look
//! again. Messages that ask for what is not kept here (`storage`) end the connection.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use omnipaxos::messages::Message;
use omnipaxos::messages::sequence_paxos::PaxosMsg;

use crate::command::Command;

const MAGIC: &[u8; 5] = b"OPKP\x01";
pub const GREETING_SIZE: usize = 5 + 8 + 8 + 4;
const LENGTH_SIZE: usize = 4;
/// A log that is missed is sent as one message.
pub const FRAME_SIZE_MAX: usize = 1 << 30;

const CODEC: Configuration<LittleEndian, Fixint, Limit<FRAME_SIZE_MAX>> =
    bincode::config::standard()
        .with_little_endian()
        .with_fixed_int_encoding()
        .with_limit::<FRAME_SIZE_MAX>();

pub fn greeting(from: u64, to: u64, cluster: u32) -> Vec<u8> {
    [&MAGIC[..], &from.to_le_bytes(), &to.to_le_bytes(), &cluster.to_le_bytes()].concat()
}

/// Who greets us, if it means us. `bytes` are a greeting's.
pub fn greeted_by(bytes: &[u8], us: u64, cluster: u32) -> Result<u64, String> {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
    if !bytes.starts_with(MAGIC) {
        return Err("no node of omnipaxos-kv, or of another version".to_owned());
    }
    if bytes[21..GREETING_SIZE] != cluster.to_le_bytes() {
        return Err("a node whose --peers are not ours".to_owned());
    }
    if number(13) != us {
        return Err(format!("somebody who takes us for node {}", number(13)));
    }
    Ok(number(5))
}

pub fn write(message: &Message<Command>, out: &mut Vec<u8>) -> Result<(), String> {
    let begin = out.len();
    out.extend_from_slice(&[0; LENGTH_SIZE]);
    bincode::serde::encode_into_std_write(message, out, CODEC)
        .map_err(|error| error.to_string())?;
    let size = out.len() - begin - LENGTH_SIZE;
    if FRAME_SIZE_MAX < size {
        out.truncate(begin);
        return Err(format!("a message of {size} bytes"));
    }
    out[begin..begin + LENGTH_SIZE].copy_from_slice(&(size as u32).to_le_bytes());
    Ok(())
}

/// The first whole message from a peer to us, and its size. `None`: there is more to come.
pub fn read(bytes: &[u8], peer: u64, us: u64) -> Result<Option<(Message<Command>, usize)>, String> {
    let Some(length) = bytes.first_chunk::<LENGTH_SIZE>() else { return Ok(None) };
    let size = u32::from_le_bytes(*length) as usize;
    if FRAME_SIZE_MAX < size {
        return Err(format!("a message of {size} bytes"));
    }
    let Some(frame) = bytes.get(LENGTH_SIZE..LENGTH_SIZE + size) else { return Ok(None) };
    let (message, taken): (Message<Command>, usize) =
        bincode::serde::borrow_decode_from_slice(frame, CODEC)
            .map_err(|error| error.to_string())?;
    if taken != size {
        return Err("a message with more behind it".to_owned());
    }
    if message.get_sender() != peer || message.get_receiver() != us {
        return Err("a message in another's name".to_owned());
    }
    if !is_served(&message) {
        return Err("a message about snapshots, trimming or stop signs".to_owned());
    }
    Ok(Some((message, LENGTH_SIZE + size)))
}

fn is_served(message: &Message<Command>) -> bool {
    let Message::SequencePaxos(message) = message else { return true };
    let synced = match &message.msg {
        PaxosMsg::Compaction(_) | PaxosMsg::AcceptStopSign(_) | PaxosMsg::ForwardStopSign(_) => {
            return false;
        }
        PaxosMsg::AcceptSync(sync) => Some(&sync.log_sync),
        PaxosMsg::Promise(promise) => promise.log_sync.as_ref(),
        _ => None,
    };
    synced.is_none_or(|sync| sync.decided_snapshot.is_none() && sync.stopsign.is_none())
}

/// Whether a message may be sent before what this node stored is durable: it says nothing of that. The leader's own
/// vote is one of these: OmniPaxos counts it when it appends, but can decide nothing with it until a follower has
/// answered, which is in a later turn.
pub fn may_go_first(message: &Message<Command>) -> bool {
    match message {
        Message::BLE(_) => true,
        Message::SequencePaxos(message) => matches!(
            message.msg,
            PaxosMsg::AcceptDecide(_) | PaxosMsg::Decide(_) | PaxosMsg::ProposalForward(_)
        ),
    }
}

#[cfg(test)]
mod tests {
    use omnipaxos::ballot_leader_election::Ballot;
    use omnipaxos::messages::sequence_paxos::{Compaction, PaxosMessage, Prepare};

    use super::*;
    use crate::command::Shared;

    fn message(msg: PaxosMsg<Command>) -> Message<Command> {
        Message::SequencePaxos(PaxosMessage { from: 2, to: 1, msg })
    }

    fn prepare() -> Message<Command> {
        let n = Ballot::with(1, 2, 0, 2);
        message(PaxosMsg::Prepare(Prepare { n, decided_idx: 3, n_accepted: n, accepted_idx: 4 }))
    }

    fn forward() -> Message<Command> {
        let bytes = Shared(b"\x02\x01\0k".as_slice().into());
        message(PaxosMsg::ProposalForward(vec![Command { node: 2, life: 7, number: 1, bytes }]))
    }

    /// Cut anywhere, a message is waited for; whole, it is what was sent.
    #[test]
    fn messages_come_whole() {
        let mut out = Vec::new();
        write(&prepare(), &mut out).unwrap();
        let first = out.len();
        write(&forward(), &mut out).unwrap();
        for cut in 0..first {
            assert!(read(&out[..cut], 2, 1).unwrap().is_none());
        }
        let (one, size) = read(&out, 2, 1).unwrap().unwrap();
        assert_eq!((format!("{one:?}"), size), (format!("{:?}", prepare()), first));
        let (two, rest) = read(&out[size..], 2, 1).unwrap().unwrap();
        assert_eq!((format!("{two:?}"), size + rest), (format!("{:?}", forward()), out.len()));
    }

    #[test]
    fn what_is_not_for_us_is_an_error() {
        let mut out = Vec::new();
        write(&prepare(), &mut out).unwrap();
        assert!(read(&out, 3, 1).is_err(), "of another");
        assert!(read(&out, 2, 3).is_err(), "to another");
        for at in [4, 12, 20] {
            let mut bad = out.clone();
            bad[at] = 0xff;
            assert!(read(&bad, 2, 1).is_err(), "byte {at}");
        }
        assert!(read(&[0xff; 4], 2, 1).is_err());
        let mut trim = Vec::new();
        write(&message(PaxosMsg::Compaction(Compaction::Trim(5))), &mut trim).unwrap();
        assert!(read(&trim, 2, 1).is_err());
        // A list that says to be longer than what may be decoded.
        let mut long = Vec::new();
        write(&forward(), &mut long).unwrap();
        let at = long.windows(8).position(|part| part == [1, 0, 0, 0, 0, 0, 0, 0]);
        for byte in at.unwrap()..long.len() {
            let mut bad = long.clone();
            bad[byte] = 0xff;
            let _ = read(&bad, 2, 1);
        }
    }

    #[test]
    fn greetings() {
        let bytes = greeting(3, 1, 77);
        assert_eq!(bytes.len(), GREETING_SIZE);
        assert_eq!(greeted_by(&bytes, 1, 77), Ok(3));
        assert!(greeted_by(&bytes, 2, 77).is_err());
        assert!(greeted_by(&bytes, 1, 78).is_err());
        assert!(greeted_by(&[0; GREETING_SIZE], 1, 77).is_err());
    }

    #[test]
    fn votes_wait_for_the_disk() {
        assert!(may_go_first(&forward()));
        assert!(!may_go_first(&prepare()));
    }
}
