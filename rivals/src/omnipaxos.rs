//! `omnipaxos-kv`, our server around the library OmniPaxos: its protocol for clients, which stands at the top of
//! `rivals/omnipaxos/src/clients.rs`. Requests are answered in any order.

use crate::protocol::{Outcome, Protocol, Reply, Request, Unsent};

const GREETING: &[u8] = b"OPKV\x01";
const LENGTH_SIZE: usize = 4;
/// Ticket and kind.
const HEAD_SIZE: usize = 5;
const FRAME_SIZE_MAX: usize = 2 << 20;

mod kind {
    pub const PUT: u8 = 1;
    pub const GET: u8 = 2;
    pub const STATUS: u8 = 3;

    pub const DONE: u8 = 1;
    pub const VALUE: u8 = 2;
    pub const ABSENT: u8 = 3;
    pub const STATE: u8 = 4;
    pub const UNAVAILABLE: u8 = 5;
    pub const REFUSED: u8 = 6;
}

/// Of a state: node, leader, whether this one leads, decided entries.
const STATE_SIZE: usize = 8 + 8 + 1 + 8;

#[derive(Default)]
pub struct OmniPaxos {
    is_ready: bool,
}

impl Protocol for OmniPaxos {
    fn greet(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(GREETING);
    }

    fn is_ready(&self) -> bool {
        self.is_ready
    }

    fn request(
        &mut self,
        ticket: u32,
        request: Request<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unsent> {
        let begin = out.len();
        let head = |kind: u8, out: &mut Vec<u8>| {
            out.extend_from_slice(&[0; LENGTH_SIZE]);
            out.extend_from_slice(&ticket.to_le_bytes());
            out.push(kind);
        };
        match request {
            Request::Create { key, value } | Request::Put { key, value } => {
                head(kind::PUT, out);
                let size = u16::try_from(key.len()).expect("our keys are short");
                out.extend_from_slice(&size.to_le_bytes());
                out.extend_from_slice(key);
                out.extend_from_slice(value);
            }
            // There is no other than by the log.
            Request::Get { key, .. } => {
                head(kind::GET, out);
                out.extend_from_slice(key);
            }
            Request::Status => head(kind::STATUS, out),
        }
        let size = (out.len() - begin - LENGTH_SIZE) as u32;
        out[begin..begin + LENGTH_SIZE].copy_from_slice(&size.to_le_bytes());
        Ok(())
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        _: &mut Vec<u8>,
        replies: &mut Vec<Reply>,
    ) -> Result<usize, String> {
        let mut taken = 0;
        if !self.is_ready {
            if bytes.len() < GREETING.len() {
                return Ok(0);
            }
            if !bytes.starts_with(GREETING) {
                return Err("no omnipaxos-kv, or another version of it".to_owned());
            }
            self.is_ready = true;
            taken = GREETING.len();
        }
        while let Some(length) = bytes[taken..].first_chunk::<LENGTH_SIZE>() {
            let size = u32::from_le_bytes(*length) as usize;
            if !(HEAD_SIZE..=FRAME_SIZE_MAX).contains(&size) {
                return Err(format!("a frame of {size} bytes"));
            }
            let begin = taken + LENGTH_SIZE;
            let Some(frame) = bytes.get(begin..begin + size) else { break };
            replies.push(reply(frame)?);
            taken = begin + size;
        }
        Ok(taken)
    }
}

fn reply(frame: &[u8]) -> Result<Reply, String> {
    let (head, rest) = frame.split_first_chunk::<HEAD_SIZE>().expect("the size was looked at");
    let [a, b, c, d, kind] = *head;
    let ticket = u32::from_le_bytes([a, b, c, d]);
    let text = || String::from_utf8_lossy(rest).into_owned();
    let outcome = match kind {
        kind::DONE => Outcome::Done,
        kind::VALUE => Outcome::Value(Some(rest.to_vec())),
        kind::ABSENT => Outcome::Value(None),
        kind::STATE if rest.len() == STATE_SIZE => Outcome::Leads(rest[16] == 1),
        kind::UNAVAILABLE => Outcome::NotHere(text()),
        kind::REFUSED => Outcome::Refused(text()),
        _ => return Err(format!("a reply of kind {kind} and {} bytes", rest.len())),
    };
    Ok(Reply { ticket, outcome })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_requests() {
        let mut omnipaxos = OmniPaxos::default();
        let mut out = Vec::new();
        omnipaxos.greet(&mut out);
        omnipaxos.request(7, Request::Put { key: b"key", value: b"v" }, &mut out).unwrap();
        let get = Request::Get { key: b"key", may_be_stale: false };
        omnipaxos.request(8, get, &mut out).unwrap();
        omnipaxos.request(9, Request::Status, &mut out).unwrap();
        let golden = b"OPKV\x01\x0b\0\0\0\x07\0\0\0\x01\x03\0keyv\x08\0\0\0\x08\0\0\0\x02key\
                       \x05\0\0\0\x09\0\0\0\x03";
        assert_eq!(out, golden);
    }

    fn answers() -> Vec<u8> {
        let mut out = GREETING.to_vec();
        let state = [&[2; 8][..], &[2; 8], &[1], &[0; 8]].concat();
        let frames: [(u8, &[u8]); 6] =
            [(1, b""), (2, b"value"), (3, b""), (4, &state), (5, b"no leader"), (6, b"too large")];
        for (ticket, (kind, rest)) in (0u32..).zip(frames) {
            out.extend_from_slice(&(5 + rest.len() as u32).to_le_bytes());
            out.extend_from_slice(&ticket.to_le_bytes());
            out.push(kind);
            out.extend_from_slice(rest);
        }
        out
    }

    /// Wherever the stream is cut, the same replies come of it, each once.
    #[test]
    fn answers_are_taken_whole() {
        let answers = answers();
        for cut in 0..answers.len() {
            let (mut omnipaxos, mut replies) = (OmniPaxos::default(), Vec::new());
            let taken = omnipaxos.receive(&answers[..cut], &mut Vec::new(), &mut replies).unwrap();
            let rest = omnipaxos.receive(&answers[taken..], &mut Vec::new(), &mut replies).unwrap();
            assert_eq!(taken + rest, answers.len());
            let outcomes = [
                Outcome::Done,
                Outcome::Value(Some(b"value".to_vec())),
                Outcome::Value(None),
                Outcome::Leads(true),
                Outcome::NotHere("no leader".to_owned()),
                Outcome::Refused("too large".to_owned()),
            ];
            let wanted: Vec<Reply> =
                (0..).zip(outcomes).map(|(ticket, outcome)| Reply { ticket, outcome }).collect();
            assert_eq!(replies, wanted);
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for bytes in [
            b"HTTP/1.1 400".as_slice(),
            b"OPKV\x02",
            b"OPKV\x01\x04\0\0\0",
            b"OPKV\x01\xff\xff\xff\xff",
            b"OPKV\x01\x05\0\0\0\0\0\0\0\x63",
            b"OPKV\x01\x06\0\0\0\0\0\0\0\x04\0",
        ] {
            let result = OmniPaxos::default().receive(bytes, &mut Vec::new(), &mut Vec::new());
            assert!(result.is_err(), "{bytes:?}");
        }
    }
}
