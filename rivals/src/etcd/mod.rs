//! etcd: `Put` and `Range` of its gRPC interface, version 3; one connection a client with a stream for each request
//! in flight. A `Range` is linearizable unless it asks for less.
//!
//! The messages are those of `rpc.proto`: a `PutRequest` has `key = 1` and `value = 2`, a `RangeRequest` `key = 1` and
//! `serializable = 7`, a `RangeResponse` `repeated KeyValue kvs = 2` with `value = 5`; a `StatusResponse` `header = 1`
//! with `member_id = 2`, and `leader = 4`.

mod hpack;
mod http2;

use std::net::SocketAddr;

use crate::protocol::{Outcome, Protocol, Reply, Request, Unsent};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const STATUS: &str = "/etcdserverpb.Maintenance/Status";
/// Whether it is compressed, and its length: what gRPC puts before a message.
const PREFIX_SIZE: usize = 5;
/// Codes of gRPC that say that nothing was done: invalid argument, not found, permission denied, resource exhausted,
/// failed precondition, out of range, unimplemented, unauthenticated. All others may come of an etcd that does not know
/// ("leader changed", "request timed out").
const REFUSED: [u32; 8] = [3, 5, 7, 8, 9, 11, 12, 16];

pub struct Etcd {
    connection: http2::Connection,
    message: Vec<u8>,
    /// By ticket: which call it is.
    calls: Vec<&'static str>,
}

impl Etcd {
    pub fn new(address: SocketAddr) -> Etcd {
        let connection = http2::Connection::new(address.to_string());
        Etcd { connection, message: Vec::new(), calls: Vec::new() }
    }
}

impl Protocol for Etcd {
    fn greet(&mut self, out: &mut Vec<u8>) {
        self.connection.greet(out);
    }

    fn is_ready(&self) -> bool {
        self.connection.is_ready()
    }

    fn request(
        &mut self,
        ticket: u32,
        request: Request<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Unsent> {
        self.message.clear();
        self.message.extend_from_slice(&[0; PREFIX_SIZE]);
        let path = match request {
            Request::Create { key, value } | Request::Put { key, value } => {
                bytes_field(1, key, &mut self.message);
                bytes_field(2, value, &mut self.message);
                PUT
            }
            Request::Get { key, may_be_stale } => {
                bytes_field(1, key, &mut self.message);
                if may_be_stale {
                    varint(7 << 3, &mut self.message);
                    varint(1, &mut self.message);
                }
                RANGE
            }
            Request::Status => STATUS,
        };
        let size = (self.message.len() - PREFIX_SIZE) as u32;
        self.message[1..PREFIX_SIZE].copy_from_slice(&size.to_be_bytes());
        let at = ticket as usize;
        if self.calls.len() <= at {
            self.calls.resize(at + 1, "");
        }
        self.calls[at] = path;
        self.connection.call(ticket, path, &self.message, out)
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        replies: &mut Vec<Reply>,
    ) -> Result<usize, String> {
        let Etcd { connection, calls, .. } = self;
        connection.receive(bytes, out, |ticket, ended| {
            let outcome = match ended {
                Ok(body) => read(body, calls[ticket as usize]).unwrap_or_else(Outcome::Unsure),
                Err(http2::Failed { code: Some(code), text }) if REFUSED.contains(&code) => {
                    Outcome::Refused(text)
                }
                Err(http2::Failed { text, .. }) => Outcome::Unsure(text),
            };
            replies.push(Reply { ticket, outcome });
        })
    }
}

/// What a body says in answer to a call.
fn read(body: &[u8], call: &str) -> Result<Outcome, String> {
    let Some((&[compressed, a, b, c, d], message)) = body.split_first_chunk::<PREFIX_SIZE>() else {
        return Err("a reply without a message".to_owned());
    };
    if compressed != 0 || u32::from_be_bytes([a, b, c, d]) as usize != message.len() {
        return Err("a reply that is not one whole message".to_owned());
    }
    match call {
        RANGE => match bytes_of(message, 2)? {
            Some(entry) => {
                Ok(Outcome::Value(Some(bytes_of(entry, 5)?.unwrap_or_default().to_vec())))
            }
            None => Ok(Outcome::Value(None)),
        },
        STATUS => {
            let member = number_of(bytes_of(message, 1)?.unwrap_or_default(), 2)?;
            let leader = number_of(message, 4)?;
            Ok(Outcome::Leads(leader.is_some_and(|leader| leader != 0) && leader == member))
        }
        _ => Ok(Outcome::Done),
    }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while 128 <= value {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A field of a length and so many bytes.
fn bytes_field(number: u64, bytes: &[u8], out: &mut Vec<u8>) {
    varint(number << 3 | 2, out);
    varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

fn read_varint(bytes: &[u8], at: &mut usize) -> Result<u64, String> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.get(*at).ok_or("a message that is cut")?;
        *at += 1;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number of more than 64 bits".to_owned())
}

#[derive(Clone, Copy)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The first field of this number.
fn field(message: &[u8], number: u64) -> Result<Option<Field<'_>>, String> {
    let mut at = 0;
    while at < message.len() {
        let tag = read_varint(message, &mut at)?;
        let mut value = 0;
        let size = match tag & 7 {
            0 => {
                value = read_varint(message, &mut at)?;
                0
            }
            1 => 8,
            2 => read_varint(message, &mut at)?,
            5 => 4,
            other => return Err(format!("a field of kind {other}")),
        };
        let left = (message.len() - at) as u64;
        if left < size {
            return Err("a message that is cut".to_owned());
        }
        let begin = at;
        at += size as usize;
        if tag >> 3 == number {
            let bytes = Field::Bytes(&message[begin..at]);
            return Ok(Some(if tag & 7 == 0 { Field::Number(value) } else { bytes }));
        }
    }
    Ok(None)
}

fn bytes_of(message: &[u8], number: u64) -> Result<Option<&[u8]>, String> {
    match field(message, number)? {
        Some(Field::Bytes(bytes)) => Ok(Some(bytes)),
        Some(Field::Number(_)) => Err(format!("field {number} is a number")),
        None => Ok(None),
    }
}

fn number_of(message: &[u8], number: u64) -> Result<Option<u64>, String> {
    match field(message, number)? {
        Some(Field::Number(value)) => Ok(Some(value)),
        Some(Field::Bytes(_)) => Err(format!("field {number} is no number")),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::http2::tests::{reply, settings};
    use super::*;

    fn etcd() -> Etcd {
        Etcd::new("127.0.0.1:2379".parse().unwrap())
    }

    fn get(key: &[u8]) -> Request<'_> {
        Request::Get { key, may_be_stale: false }
    }

    #[test]
    fn golden_messages() {
        let mut etcd = etcd();
        etcd.request(0, Request::Put { key: b"key", value: &[7; 200] }, &mut Vec::new()).unwrap();
        let head = [0, 0, 0, 0, 208, 0x0a, 3, b'k', b'e', b'y', 0x12, 0xc8, 0x01, 7];
        assert_eq!(etcd.message[..14], head);
        assert_eq!(etcd.message.len(), 213);
        etcd.request(1, get(b"key"), &mut Vec::new()).unwrap();
        assert_eq!(etcd.message, [0, 0, 0, 0, 5, 0x0a, 3, b'k', b'e', b'y']);
        let stale = Request::Get { key: b"key", may_be_stale: true };
        etcd.request(1, stale, &mut Vec::new()).unwrap();
        assert_eq!(etcd.message, [0, 0, 0, 0, 7, 0x0a, 3, b'k', b'e', b'y', 0x38, 1]);
    }

    #[test]
    fn replies_are_looked_into() {
        let (mut etcd, mut replies) = (etcd(), Vec::new());
        for ticket in 0..5 {
            etcd.request(ticket, get(b"k"), &mut Vec::new()).unwrap();
        }
        for ticket in 5..7 {
            etcd.request(ticket, Request::Status, &mut Vec::new()).unwrap();
        }
        etcd.request(7, Request::Put { key: b"k", value: b"v" }, &mut Vec::new()).unwrap();
        etcd.request(8, Request::Put { key: b"k", value: b"v" }, &mut Vec::new()).unwrap();
        let bytes = [
            settings(&[]),
            reply(1, b"\0\0\0\0\x07\x0a\x00\x12\x03\x2a\x01v", "0", ""),
            reply(3, b"\0\0\0\0\x04\x0a\x00\x18\x01", "0", ""),
            reply(5, b"\0\0\0\0\x09\x0a", "0", ""),
            reply(7, b"", "0", ""),
            reply(9, b"\0\0\0\0\x02\x10\x01", "0", ""),
            reply(11, b"\0\0\0\0\x06\x0a\x02\x10\x07\x20\x07", "0", ""),
            reply(13, b"\0\0\0\0\x06\x0a\x02\x10\x07\x20\x08", "0", ""),
            reply(15, b"", "14", "etcdserver: leader changed"),
            reply(17, b"", "3", "etcdserver: request is too large"),
        ]
        .concat();
        let taken = etcd.receive(&bytes, &mut Vec::new(), &mut replies).unwrap();
        assert_eq!((taken, etcd.is_ready()), (bytes.len(), true));
        let unsure = |text: &str| Outcome::Unsure(text.to_owned());
        let wanted = [
            Outcome::Value(Some(b"v".to_vec())),
            Outcome::Value(None),
            unsure("a reply that is not one whole message"),
            unsure("a reply without a message"),
            unsure("field 2 is a number"),
            Outcome::Leads(true),
            Outcome::Leads(false),
            unsure("code 14: etcdserver: leader changed"),
            Outcome::Refused("code 3: etcdserver: request is too large".to_owned()),
        ];
        let outcomes: Vec<Outcome> = replies.into_iter().map(|it| it.outcome).collect();
        assert_eq!(outcomes, wanted);
    }

    #[test]
    fn nonsense_is_an_error() {
        for message in [b"\x0a\x05cut".as_slice(), b"\x0b", b"\x08", b"\x09\0", &[0xff; 12]] {
            assert!(field(message, 2).is_err(), "{message:?}");
        }
        let none = field(b"\x08\x01\x0d\0\0\0\0\x09\0\0\0\0\0\0\0\0", 2);
        assert!(matches!(none, Ok(None)));
    }
}
