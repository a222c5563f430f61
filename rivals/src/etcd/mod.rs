//! etcd: `Put` and `Range` of its gRPC interface, version 3; one connection a client with a stream for each request
//! in flight. A `Range` is linearizable unless it asks for less.
//!
//! The messages are those of `rpc.proto`: a `PutRequest` has `key = 1` and `value = 2`, a `RangeRequest`
//! `key = 1`, a `RangeResponse` `repeated KeyValue kvs = 2`.

mod hpack;
mod http2;

use std::net::SocketAddr;

use crate::protocol::{Protocol, Reply, Request};

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
/// Whether it is compressed, and its length: what gRPC puts before a message.
const PREFIX_SIZE: usize = 5;
const KVS: u64 = 2;

pub struct Etcd {
    connection: http2::Connection,
    message: Vec<u8>,
    /// By ticket: whether it is a read.
    reads: Vec<bool>,
}

impl Etcd {
    pub fn new(address: SocketAddr) -> Etcd {
        let connection = http2::Connection::new(address.to_string());
        Etcd { connection, message: Vec::new(), reads: Vec::new() }
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
    ) -> Result<(), String> {
        self.message.clear();
        self.message.extend_from_slice(&[0; PREFIX_SIZE]);
        let path = match request {
            Request::Create { key, value } | Request::Put { key, value } => {
                bytes_field(1, key, &mut self.message);
                bytes_field(2, value, &mut self.message);
                PUT
            }
            Request::Get { key } => {
                bytes_field(1, key, &mut self.message);
                RANGE
            }
        };
        let size = (self.message.len() - PREFIX_SIZE) as u32;
        self.message[1..PREFIX_SIZE].copy_from_slice(&size.to_be_bytes());
        let at = ticket as usize;
        if self.reads.len() <= at {
            self.reads.resize(at + 1, false);
        }
        self.reads[at] = path == RANGE;
        self.connection.call(ticket, path, &self.message, out)
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        replies: &mut Vec<Reply>,
    ) -> Result<usize, String> {
        let Etcd { connection, reads, .. } = self;
        connection.receive(bytes, out, |ticket, outcome| {
            let outcome = outcome.and_then(|body| check(body, reads[ticket as usize]));
            replies.push(Reply { ticket, outcome });
        })
    }
}

/// Whether a body is one whole message, and of a read one with a value.
fn check(body: &[u8], is_read: bool) -> Result<(), String> {
    let Some((&[compressed, a, b, c, d], message)) = body.split_first_chunk::<PREFIX_SIZE>() else {
        return Err("a reply without a message".to_owned());
    };
    if compressed != 0 || u32::from_be_bytes([a, b, c, d]) as usize != message.len() {
        return Err("a reply that is not one whole message".to_owned());
    }
    if is_read && !has_field(message, KVS)? {
        return Err("no such key".to_owned());
    }
    Ok(())
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

/// Whether a message has this field.
fn has_field(message: &[u8], number: u64) -> Result<bool, String> {
    let mut at = 0;
    while at < message.len() {
        let tag = read_varint(message, &mut at)?;
        if tag >> 3 == number {
            return Ok(true);
        }
        let size = match tag & 7 {
            0 => {
                read_varint(message, &mut at)?;
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
        at += size as usize;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::http2::tests::{reply, settings};
    use super::*;

    fn etcd() -> Etcd {
        Etcd::new("127.0.0.1:2379".parse().unwrap())
    }

    #[test]
    fn golden_messages() {
        let mut etcd = etcd();
        etcd.request(0, Request::Put { key: b"key", value: &[7; 200] }, &mut Vec::new()).unwrap();
        let head = [0, 0, 0, 0, 208, 0x0a, 3, b'k', b'e', b'y', 0x12, 0xc8, 0x01, 7];
        assert_eq!(etcd.message[..14], head);
        assert_eq!(etcd.message.len(), 213);
        etcd.request(1, Request::Get { key: b"key" }, &mut Vec::new()).unwrap();
        assert_eq!(etcd.message, [0, 0, 0, 0, 5, 0x0a, 3, b'k', b'e', b'y']);
    }

    #[test]
    fn replies_are_looked_into() {
        let (mut etcd, mut replies) = (etcd(), Vec::new());
        for ticket in 0..4 {
            etcd.request(ticket, Request::Get { key: b"k" }, &mut Vec::new()).unwrap();
        }
        let bytes = [
            settings(&[]),
            reply(1, b"\0\0\0\0\x06\x0a\x00\x12\x02..", "0", ""),
            reply(3, b"\0\0\0\0\x04\x0a\x00\x18\x01", "0", ""),
            reply(5, b"\0\0\0\0\x09\x0a", "0", ""),
            reply(7, b"", "0", ""),
        ]
        .concat();
        let taken = etcd.receive(&bytes, &mut Vec::new(), &mut replies).unwrap();
        assert_eq!((taken, etcd.is_ready()), (bytes.len(), true));
        let errors = replies.iter().map(|it| it.outcome.clone().err().unwrap_or_default());
        let errors: Vec<String> = errors.collect();
        let whole = "a reply that is not one whole message";
        assert_eq!(errors, ["", "no such key", whole, "a reply without a message"]);
    }

    #[test]
    fn nonsense_is_an_error() {
        for message in [b"\x0a\x05cut".as_slice(), b"\x0b", b"\x08", b"\x09\0", &[0xff; 12]] {
            assert!(has_field(message, KVS).is_err(), "{message:?}");
        }
        assert_eq!(has_field(b"\x08\x01\x0d\0\0\0\0\x09\0\0\0\0\0\0\0\0", KVS), Ok(false));
    }
}
