//! The protocol for clients: what they ask and are told, in bytes.
//!
//! A client begins with the five bytes `OPKV` 1, and is told the same. Then both send frames; all integers are
//! little-endian.
//!
//! | size | field |
//! | --- | --- |
//! | 4 | size of what follows, 5 to 2 MiB |
//! | 4 | ticket: any number; the answer has the same |
//! | 1 | kind |
//!
//! | kind | asks | then |
//! | --- | --- | --- |
//! | 1 | put | 2: size of the key; the key; the value |
//! | 2 | get | the key |
//! | 3 | state | |
//!
//! | kind | answers | then |
//! | --- | --- | --- |
//! | 1 | done: decided, and applied at this node | |
//! | 2 | the value | the value |
//! | 3 | no such key | |
//! | 4 | state | 8: this node; 8: its leader, 0 if it knows none; 1: whether it leads; 8: entries it knows to be decided |
//! | 5 | this node cannot serve now; nothing was proposed | text |
//! | 6 | refused, whoever is asked; nothing was proposed | text |
//!
//! Answers come in any order. A request that gets none may have been done, or may be yet: OmniPaxos forgets proposals
//! when leaders change, and does not say so.

use std::rc::Rc;

use crate::command::{self, Shared};
use crate::store::Answer;

pub const GREETING: &[u8] = b"OPKV\x01";
pub const FRAME_SIZE_MAX: usize = 2 << 20;
const LENGTH_SIZE: usize = 4;
/// Ticket and kind.
const HEAD_SIZE: usize = 5;

const STATE: u8 = 3;

#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    Command(Shared),
    State,
    /// Of a kind or form that there is not.
    Nonsense,
}

/// What a node says of itself.
#[derive(Clone, Copy, Debug)]
pub struct State {
    pub node: u64,
    pub leader: u64,
    pub leads: bool,
    pub decided: u64,
}

/// The first whole frame: ticket, request and size. `None`: there is more to come.
pub fn parse(bytes: &[u8]) -> Result<Option<(u32, Request, usize)>, String> {
    let Some(length) = bytes.first_chunk::<LENGTH_SIZE>() else { return Ok(None) };
    let size = u32::from_le_bytes(*length) as usize;
    if !(HEAD_SIZE..=FRAME_SIZE_MAX).contains(&size) {
        return Err(format!("a frame of {size} bytes"));
    }
    let Some(frame) = bytes.get(LENGTH_SIZE..LENGTH_SIZE + size) else { return Ok(None) };
    let (ticket, rest) = frame.split_first_chunk::<4>().expect("the size was looked at");
    let request = match rest[0] {
        // As the command's own bytes are.
        command::PUT if command::parse(rest).is_some() => Request::Command(Shared(Rc::from(rest))),
        command::GET => command::get(&rest[1..]).map_or(Request::Nonsense, Request::Command),
        STATE if rest.len() == 1 => Request::State,
        _ => Request::Nonsense,
    };
    Ok(Some((u32::from_le_bytes(*ticket), request, LENGTH_SIZE + size)))
}

pub fn answer(ticket: u32, answer: Answer<'_>, out: &mut Vec<u8>) {
    match answer {
        Answer::Done => frame(ticket, 1, &[], out),
        Answer::Value(value) => frame(ticket, 2, &[value], out),
        Answer::Absent => frame(ticket, 3, &[], out),
    }
}

pub fn state(ticket: u32, state: State, out: &mut Vec<u8>) {
    let State { node, leader, leads, decided } = state;
    let parts: [&[u8]; 4] =
        [&node.to_le_bytes(), &leader.to_le_bytes(), &[u8::from(leads)], &decided.to_le_bytes()];
    frame(ticket, 4, &parts, out);
}

pub fn unavailable(ticket: u32, why: &str, out: &mut Vec<u8>) {
    frame(ticket, 5, &[why.as_bytes()], out);
}

pub fn refused(ticket: u32, why: &str, out: &mut Vec<u8>) {
    frame(ticket, 6, &[why.as_bytes()], out);
}

fn frame(ticket: u32, kind: u8, parts: &[&[u8]], out: &mut Vec<u8>) {
    let size = HEAD_SIZE + parts.iter().map(|part| part.len()).sum::<usize>();
    out.extend_from_slice(&(size as u32).to_le_bytes());
    out.extend_from_slice(&ticket.to_le_bytes());
    out.push(kind);
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same bytes as in the tests of `rivals/src/omnipaxos.rs`.
    const REQUESTS: &[u8] = b"\x0b\0\0\0\x07\0\0\0\x01\x03\0keyv\x08\0\0\0\x08\0\0\0\x02key\
                              \x05\0\0\0\x09\0\0\0\x03";

    #[test]
    fn golden_requests() {
        let mut at = 0;
        let mut found = Vec::new();
        while let Some((ticket, request, size)) = parse(&REQUESTS[at..]).unwrap() {
            found.push((ticket, request));
            at += size;
        }
        let command = |bytes: &[u8]| Request::Command(Shared(bytes.into()));
        let put = command(b"\x01\x03\0keyv");
        assert_eq!(found, [(7, put), (8, command(b"\x02\x03\0key")), (9, Request::State)]);
        assert_eq!(at, REQUESTS.len());
        for cut in 0..15 {
            assert_eq!(parse(&REQUESTS[..cut]), Ok(None));
        }
    }

    #[test]
    fn golden_answers() {
        let mut out = Vec::new();
        answer(0, Answer::Done, &mut out);
        answer(1, Answer::Value(b"value"), &mut out);
        answer(2, Answer::Absent, &mut out);
        state(3, State { node: 1, leader: 2, leads: false, decided: 3 }, &mut out);
        unavailable(4, "a", &mut out);
        refused(5, "b", &mut out);
        let golden = b"\x05\0\0\0\0\0\0\0\x01\x0a\0\0\0\x01\0\0\0\x02value\x05\0\0\0\x02\0\0\0\x03\
                       \x1e\0\0\0\x03\0\0\0\x04\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\0\x03\0\0\0\0\0\0\0\
                       \x06\0\0\0\x04\0\0\0\x05a\x06\0\0\0\x05\0\0\0\x06b";
        assert_eq!(out, golden);
    }

    #[test]
    fn nonsense_is_an_error_or_refused() {
        assert!(parse(b"\x04\0\0\0").is_err());
        assert!(parse(b"\xff\xff\xff\xff").is_err());
        for bytes in [
            b"\x05\0\0\0\0\0\0\0\x01".as_slice(),
            b"\x07\0\0\0\0\0\0\0\x01\x09\0",
            b"\x06\0\0\0\0\0\0\0\x03x",
            b"\x05\0\0\0\0\0\0\0\x09",
        ] {
            let parsed = parse(bytes).unwrap().unwrap();
            assert_eq!(parsed, (0, Request::Nonsense, bytes.len()));
        }
    }
}
