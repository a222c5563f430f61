//! HTTP/2 (RFC 9113) as far as unary calls of gRPC need it: one side of one connection, frames in and out.
//!
//! A call is sent at once if the other side's windows and its limit of streams have room for all of it, and else
//! waits in a queue of its own, in order. What we receive is bounded by windows that are never the limit.

use std::collections::{BTreeMap, VecDeque};

use super::hpack::{Decoder, Encoder, TABLE_SIZE};
use crate::protocol::Unsent;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEAD_SIZE: usize = 9;
/// The default, and what every side has to take.
const FRAME_SIZE_MAX: usize = 16_384;
const WINDOW_DEFAULT: i64 = 65_535;
const WINDOW_MAX: i64 = (1 << 31) - 1;
/// What we are willing to receive: a reply in one stream, and in all streams before more is granted.
const STREAM_WINDOW: u32 = 16 << 20;
const CONNECTION_WINDOW: u32 = 1 << 30;
const HEADERS_SIZE_MAX: usize = 64 << 10;

mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

mod flag {
    pub const ACK: u8 = 0x1;
    pub const END_STREAM: u8 = 0x1;
    pub const END_HEADERS: u8 = 0x4;
    pub const PADDED: u8 = 0x8;
    pub const PRIORITY: u8 = 0x20;
}

mod setting {
    pub const HEADER_TABLE_SIZE: u16 = 1;
    pub const ENABLE_PUSH: u16 = 2;
    pub const MAX_CONCURRENT_STREAMS: u16 = 3;
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
}

/// How a call ended: its body, or what was wrong.
pub type Outcome<'a> = Result<&'a [u8], Failed>;

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// Of gRPC, if the server told one.
    pub code: Option<u32>,
    pub text: String,
}

pub struct Connection {
    authority: String,
    encoder: Encoder,
    decoder: Decoder,
    is_ready: bool,
    next_stream: u32,
    streams: BTreeMap<u32, Stream>,
    /// Bodies of streams that have ended, to be used again.
    spare: Vec<Vec<u8>>,
    waiting: VecDeque<Call>,
    /// What the other side lets us send and open.
    window: i64,
    /// The most that `window` has been: what is larger will never fit.
    window_most: i64,
    stream_window: i64,
    streams_max: usize,
    /// Bytes received since we last granted some.
    received: u32,
    /// A header block whose rest has not come yet: stream, whether it ends that, bytes.
    block: Option<(u32, bool, Vec<u8>)>,
}

struct Call {
    ticket: u32,
    path: &'static str,
    body: Vec<u8>,
}

#[derive(Default)]
struct Stream {
    ticket: u32,
    body: Vec<u8>,
    /// Of HTTP; 0: not told yet.
    status: u32,
    grpc_status: Option<u32>,
    grpc_message: String,
}

impl Connection {
    pub fn new(authority: String) -> Connection {
        Connection {
            authority,
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            is_ready: false,
            next_stream: 1,
            streams: BTreeMap::new(),
            spare: Vec::new(),
            waiting: VecDeque::new(),
            window: WINDOW_DEFAULT,
            window_most: WINDOW_DEFAULT,
            stream_window: WINDOW_DEFAULT,
            streams_max: usize::MAX,
            received: 0,
            block: None,
        }
    }

    /// The preface and our settings.
    pub fn greet(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(PREFACE);
        frame(12, kind::SETTINGS, 0, 0, out);
        for (name, value) in
            [(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, STREAM_WINDOW)]
        {
            out.extend_from_slice(&name.to_be_bytes());
            out.extend_from_slice(&value.to_be_bytes());
        }
        grant(CONNECTION_WINDOW, out);
    }

    /// Whether the other side has said what it allows.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Sends a request with this body, now or when there is room for it.
    pub fn call(
        &mut self,
        ticket: u32,
        path: &'static str,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Unsent> {
        let most = self.stream_window.min(self.window_most);
        if most < body.len() as i64 {
            return Err(Unsent::Refused(format!(
                "a request of {} bytes, and etcd's window takes {most}: use smaller values",
                body.len()
            )));
        }
        if self.waiting.is_empty() && self.has_room(body.len()) {
            self.send(ticket, path, body, out).map_err(Unsent::WornOut)
        } else {
            self.waiting.push_back(Call { ticket, path, body: body.to_vec() });
            Ok(())
        }
    }

    fn has_room(&self, size: usize) -> bool {
        self.streams.len() < self.streams_max && size as i64 <= self.window.min(self.stream_window)
    }

    fn send_waiting(&mut self, out: &mut Vec<u8>) -> Result<(), String> {
        while self.waiting.front().is_some_and(|call| self.has_room(call.body.len())) {
            let call = self.waiting.pop_front().expect("it was just looked at");
            self.send(call.ticket, call.path, &call.body, out)?;
        }
        Ok(())
    }

    fn send(
        &mut self,
        ticket: u32,
        path: &'static str,
        body: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let stream = self.next_stream;
        // Numbers have 31 bits, and ours are odd: a thousand million calls.
        self.next_stream = stream
            .checked_add(2)
            .filter(|next| next >> 31 == 0)
            .ok_or("all stream numbers are used up")?;
        let head = out.len();
        frame(0, kind::HEADERS, flag::END_HEADERS, stream, out);
        let begin = out.len();
        self.encoder.field(":method", "POST", out);
        self.encoder.field(":scheme", "http", out);
        self.encoder.field(":path", path, out);
        self.encoder.field(":authority", &self.authority, out);
        self.encoder.field("content-type", "application/grpc", out);
        self.encoder.field("te", "trailers", out);
        let size = (out.len() - begin) as u32;
        out[head..head + 3].copy_from_slice(&size.to_be_bytes()[1..]);
        let mut parts = body.chunks(FRAME_SIZE_MAX).peekable();
        while let Some(part) = parts.next() {
            let flags = if parts.peek().is_none() { flag::END_STREAM } else { 0 };
            frame(part.len(), kind::DATA, flags, stream, out);
            out.extend_from_slice(part);
        }
        self.window -= body.len() as i64;
        let body = self.spare.pop().unwrap_or_default();
        self.streams.insert(stream, Stream { ticket, body, ..Stream::default() });
        Ok(())
    }

    /// Takes whole frames off the front of `bytes`; calls that ended go to `on_end`.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        out: &mut Vec<u8>,
        mut on_end: impl FnMut(u32, Outcome<'_>),
    ) -> Result<usize, String> {
        let mut taken = 0;
        while let Some(head) = bytes.get(taken..taken + FRAME_HEAD_SIZE) {
            let size =
                (usize::from(head[0]) << 16) | (usize::from(head[1]) << 8) | usize::from(head[2]);
            if FRAME_SIZE_MAX < size {
                return Err(format!("a frame of {size} bytes, or no HTTP/2 at all"));
            }
            let Some(payload) = bytes.get(taken + FRAME_HEAD_SIZE..taken + FRAME_HEAD_SIZE + size)
            else {
                break;
            };
            let stream = number(&head[5..9]) & (u32::MAX >> 1);
            self.on_frame(head[3], head[4], stream, payload, out, &mut on_end)?;
            taken += FRAME_HEAD_SIZE + size;
        }
        self.send_waiting(out)?;
        Ok(taken)
    }

    fn on_frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        out: &mut Vec<u8>,
        on_end: &mut impl FnMut(u32, Outcome<'_>),
    ) -> Result<(), String> {
        if self.block.is_some() != (kind == kind::CONTINUATION) {
            return Err("a header block that breaks off, or goes on without beginning".to_owned());
        }
        match kind {
            kind::DATA => {
                self.on_data(stream, unpadded(payload, flags)?)?;
                self.received += payload.len() as u32;
                if CONNECTION_WINDOW / 2 <= self.received {
                    grant(std::mem::take(&mut self.received), out);
                }
                if flags & flag::END_STREAM != 0 {
                    self.end(stream, on_end)?;
                }
                Ok(())
            }
            kind::HEADERS => {
                let mut block = unpadded(payload, flags)?;
                if flags & flag::PRIORITY != 0 {
                    block = block.get(5..).ok_or("headers that are cut")?;
                }
                let ends = flags & flag::END_STREAM != 0;
                if flags & flag::END_HEADERS != 0 {
                    return self.on_headers(stream, block, ends, on_end);
                }
                self.block = Some((stream, ends, block.to_vec()));
                Ok(())
            }
            kind::CONTINUATION => {
                let (of, ends, mut block) = self.block.take().expect("it was just looked at");
                block.extend_from_slice(payload);
                if of != stream || HEADERS_SIZE_MAX < block.len() {
                    return Err("headers of another stream, or too many of them".to_owned());
                }
                if flags & flag::END_HEADERS != 0 {
                    return self.on_headers(stream, &block, ends, on_end);
                }
                self.block = Some((stream, ends, block));
                Ok(())
            }
            kind::RST_STREAM => {
                let code = four(payload, "RST_STREAM")?;
                let ended = self.streams.remove(&stream).ok_or_else(|| unknown(stream))?;
                let text = format!("the stream was reset with code {code}");
                on_end(ended.ticket, Err(Failed { code: None, text }));
                Ok(())
            }
            kind::SETTINGS if flags & flag::ACK != 0 => Ok(()),
            kind::SETTINGS => self.on_settings(payload, out),
            kind::PING if payload.len() != 8 => Err("a PING of no eight bytes".to_owned()),
            kind::PING if flags & flag::ACK != 0 => Ok(()),
            kind::PING => {
                frame(8, kind::PING, flag::ACK, 0, out);
                out.extend_from_slice(payload);
                Ok(())
            }
            kind::GOAWAY => Err(format!(
                "etcd closes the connection: code {}, {:?}",
                payload.get(4..8).map_or(0, number),
                String::from_utf8_lossy(payload.get(8..).unwrap_or_default())
            )),
            kind::WINDOW_UPDATE => {
                let more = i64::from(four(payload, "WINDOW_UPDATE")? & (u32::MAX >> 1));
                // A stream has room for its whole request from the beginning.
                if stream == 0 {
                    self.window += more;
                    self.window_most = self.window_most.max(self.window);
                }
                if more == 0 || WINDOW_MAX < self.window {
                    return Err("a window that grows by nothing or beyond all bounds".to_owned());
                }
                Ok(())
            }
            kind::PUSH_PROMISE => Err("a push, which we do not allow".to_owned()),
            // Priorities, and what may be added to the protocol, mean nothing to us.
            _ => Ok(()),
        }
    }

    fn on_settings(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if payload.len() % 6 != 0 {
            return Err("settings that are cut".to_owned());
        }
        for one in payload.chunks_exact(6) {
            let value = number(&one[2..6]);
            match u16::from_be_bytes([one[0], one[1]]) {
                setting::HEADER_TABLE_SIZE if (value as usize) < TABLE_SIZE => {
                    return Err(format!("etcd keeps only {value} bytes of headers"));
                }
                setting::MAX_CONCURRENT_STREAMS => self.streams_max = value as usize,
                setting::INITIAL_WINDOW_SIZE if WINDOW_MAX < i64::from(value) => {
                    return Err(format!("a window of {value} bytes"));
                }
                setting::INITIAL_WINDOW_SIZE => self.stream_window = i64::from(value),
                _ => {}
            }
        }
        self.is_ready = true;
        frame(0, kind::SETTINGS, flag::ACK, 0, out);
        Ok(())
    }

    fn on_data(&mut self, stream: u32, data: &[u8]) -> Result<(), String> {
        let stream = self.streams.get_mut(&stream).ok_or_else(|| unknown(stream))?;
        if (STREAM_WINDOW as usize) < stream.body.len() + data.len() {
            return Err("a reply that is larger than its window".to_owned());
        }
        stream.body.extend_from_slice(data);
        Ok(())
    }

    fn on_headers(
        &mut self,
        id: u32,
        block: &[u8],
        ends: bool,
        on_end: &mut impl FnMut(u32, Outcome<'_>),
    ) -> Result<(), String> {
        let stream = self.streams.get_mut(&id).ok_or_else(|| unknown(id))?;
        let digits = |value: &[u8]| std::str::from_utf8(value).ok()?.parse().ok();
        self.decoder.block(block, |name, value| match name {
            b":status" => stream.status = digits(value).unwrap_or(0),
            b"grpc-status" => stream.grpc_status = digits(value),
            b"grpc-message" => stream.grpc_message = String::from_utf8_lossy(value).into_owned(),
            _ => {}
        })?;
        if ends { self.end(id, on_end) } else { Ok(()) }
    }

    fn end(&mut self, id: u32, on_end: &mut impl FnMut(u32, Outcome<'_>)) -> Result<(), String> {
        let mut stream = self.streams.remove(&id).ok_or_else(|| unknown(id))?;
        let failed = |code, text| Err(Failed { code, text });
        let outcome = match (stream.status, stream.grpc_status) {
            (200, Some(0)) => Ok(stream.body.as_slice()),
            (200, Some(code)) => {
                failed(Some(code), format!("code {code}: {}", stream.grpc_message))
            }
            (200, None) => failed(None, "a reply without a status".to_owned()),
            (status, _) => failed(None, format!("HTTP status {status}")),
        };
        on_end(stream.ticket, outcome);
        stream.body.clear();
        self.spare.push(stream.body);
        Ok(())
    }
}

fn unknown(stream: u32) -> String {
    format!("a frame of stream {stream}, which is not open")
}

fn frame(size: usize, kind: u8, flags: u8, stream: u32, out: &mut Vec<u8>) {
    assert!(size <= FRAME_SIZE_MAX, "larger ones are cut");
    out.extend_from_slice(&(size as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}

/// Lets the other side send so many bytes more on this connection.
fn grant(size: u32, out: &mut Vec<u8>) {
    frame(4, kind::WINDOW_UPDATE, 0, 0, out);
    out.extend_from_slice(&size.to_be_bytes());
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, &byte| number << 8 | u32::from(byte))
}

fn four(payload: &[u8], what: &str) -> Result<u32, String> {
    if payload.len() == 4 { Ok(number(payload)) } else { Err(format!("a {what} of no four bytes")) }
}

fn unpadded(payload: &[u8], flags: u8) -> Result<&[u8], String> {
    if flags & flag::PADDED == 0 {
        return Ok(payload);
    }
    let (&padding, rest) = payload.split_first().ok_or("a frame that is cut")?;
    let size = rest.len().checked_sub(usize::from(padding)).ok_or("more padding than frame")?;
    Ok(&rest[..size])
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A frame of the other side.
    pub fn sent(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        frame(payload.len(), kind, flags, stream, &mut out);
        out.extend_from_slice(payload);
        out
    }

    pub fn settings(of: &[(u16, u32)]) -> Vec<u8> {
        let one =
            |&(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        sent(kind::SETTINGS, 0, 0, &of.iter().flat_map(one).collect::<Vec<u8>>())
    }

    /// The reply of a server to a call: headers, body, trailers.
    pub fn reply(stream: u32, body: &[u8], status: &str, message: &str) -> Vec<u8> {
        let mut trailers = b"\x00\x0bgrpc-status".to_vec();
        for text in [status, message] {
            if text == message {
                trailers.extend_from_slice(b"\x00\x0cgrpc-message");
            }
            trailers.push(text.len() as u8);
            trailers.extend_from_slice(text.as_bytes());
        }
        [
            sent(kind::HEADERS, flag::END_HEADERS, stream, &[0x88]),
            sent(kind::DATA, 0, stream, body),
            sent(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, stream, &trailers),
        ]
        .concat()
    }

    type Ends = Vec<(u32, Result<Vec<u8>, Failed>)>;

    fn receive(
        connection: &mut Connection,
        bytes: &[u8],
    ) -> Result<(usize, Vec<u8>, Ends), String> {
        let (mut out, mut ends) = (Vec::new(), Vec::new());
        let taken = connection.receive(bytes, &mut out, |ticket, outcome| {
            ends.push((ticket, outcome.map(<[u8]>::to_vec)));
        })?;
        Ok((taken, out, ends))
    }

    fn connection() -> Connection {
        Connection::new("h:1".to_owned())
    }

    #[test]
    fn golden_greeting_and_call() {
        let (mut connection, mut out) = (connection(), Vec::new());
        connection.greet(&mut out);
        let greeting = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x0c\x04\0\0\0\0\0\0\x02\0\0\0\0\
                         \0\x04\x01\0\0\0\0\0\x04\x08\0\0\0\0\0\x40\0\0\0";
        assert_eq!(out, greeting);

        out.clear();
        connection.call(7, "/p", b"body", &mut out).unwrap();
        let call =
            b"\0\0\x2a\x01\x04\0\0\0\x01\x83\x86\x44\x02/p\x41\x03h:1\x5f\x10application/grpc\
                     \x40\x02te\x08trailers\0\0\x04\0\x01\0\0\0\x01body";
        assert_eq!(out, call);
        out.clear();
        connection.call(8, "/p", b"more", &mut out).unwrap();
        let call =
            b"\0\0\x06\x01\x04\0\0\0\x03\x83\x86\xc1\xc0\xbf\xbe\0\0\x04\0\x01\0\0\0\x03more";
        assert_eq!(out, call);
    }

    /// Wherever the stream is cut, the same comes of it: an acknowledgement, a pong, two outcomes.
    #[test]
    fn frames_are_taken_whole() {
        let stream = [
            settings(&[(setting::MAX_CONCURRENT_STREAMS, 250)]),
            sent(kind::PING, 0, 0, b"12345678"),
            sent(99, 0, 0, b"from the future"),
            reply(1, b"good", "0", ""),
            reply(3, b"", "14", "no leader"),
        ]
        .concat();
        for cut in 0..stream.len() {
            let mut connection = connection();
            for ticket in [5, 6] {
                connection.call(ticket, "/p", b"q", &mut Vec::new()).unwrap();
            }
            let (taken, mut out, mut ends) = receive(&mut connection, &stream[..cut]).unwrap();
            let (rest, more, more_ends) = receive(&mut connection, &stream[taken..]).unwrap();
            out.extend(more);
            ends.extend(more_ends);
            assert_eq!(taken + rest, stream.len());
            assert_eq!(out, b"\0\0\0\x04\x01\0\0\0\0\0\0\x08\x06\x01\0\0\0\x0012345678");
            let no = Failed { code: Some(14), text: "code 14: no leader".to_owned() };
            assert_eq!(ends, [(5, Ok(b"good".to_vec())), (6, Err(no))]);
            assert!(connection.is_ready());
        }
    }

    #[test]
    fn headers_may_go_on_and_be_padded() {
        let mut connection = connection();
        connection.call(1, "/p", b"q", &mut Vec::new()).unwrap();
        let stream = [
            sent(kind::HEADERS, flag::PADDED | flag::PRIORITY, 1, b"\x02\0\0\0\0\0\x88\0\0"),
            sent(kind::CONTINUATION, flag::END_HEADERS, 1, b"\x00\x0bgrpc-status\x010"),
            sent(kind::DATA, flag::PADDED | flag::END_STREAM, 1, b"\x01ok\0"),
        ]
        .concat();
        let (_, _, ends) = receive(&mut connection, &stream).unwrap();
        assert_eq!(ends, [(1, Ok(b"ok".to_vec()))]);
    }

    /// What the windows and the limit of streams do not allow waits, in order, and goes when they do.
    #[test]
    fn calls_wait_for_room() {
        let (mut connection, mut out) = (connection(), Vec::new());
        let body = vec![b'x'; 40_000];
        connection.call(1, "/p", &body, &mut out).unwrap();
        let first = out.len();
        assert_eq!(connection.window, 25_535);
        connection.call(2, "/p", &body, &mut out).unwrap();
        connection.call(3, "/p", b"small", &mut out).unwrap();
        assert_eq!(out.len(), first, "the second does not fit, and nobody overtakes it");
        let grant = sent(kind::WINDOW_UPDATE, 0, 0, &40_000u32.to_be_bytes());
        let (_, out, _) = receive(&mut connection, &grant).unwrap();
        assert_eq!((connection.waiting.len(), connection.window), (0, 25_530));
        assert!(40_000 < out.len());

        receive(&mut connection, &settings(&[(setting::MAX_CONCURRENT_STREAMS, 3)])).unwrap();
        connection.call(4, "/p", b"q", &mut Vec::new()).unwrap();
        assert_eq!(connection.waiting.len(), 1);
        receive(&mut connection, &reply(1, b"", "0", "")).unwrap();
        assert_eq!(connection.waiting.len(), 0);

        let error = connection.call(5, "/p", &[0; 70_000], &mut Vec::new()).unwrap_err();
        assert!(matches!(error, Unsent::Refused(why) if why.contains("smaller values")));
    }

    #[test]
    fn nonsense_is_an_error() {
        let long = sent(kind::HEADERS, 0, 1, b"\x88");
        for bytes in [
            b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
            sent(kind::PING, 0, 0, b"short"),
            sent(kind::SETTINGS, 0, 0, b"short"),
            settings(&[(setting::INITIAL_WINDOW_SIZE, u32::MAX)]),
            settings(&[(setting::HEADER_TABLE_SIZE, 0)]),
            sent(kind::WINDOW_UPDATE, 0, 0, &[0; 4]),
            sent(kind::WINDOW_UPDATE, 0, 0, &[0xff; 4]),
            sent(kind::WINDOW_UPDATE, 0, 0, &[0; 3]),
            sent(kind::GOAWAY, 0, 0, b""),
            sent(kind::PUSH_PROMISE, 0, 1, b""),
            sent(kind::DATA, 0, 9, b"whose?"),
            sent(kind::DATA, flag::PADDED, 1, b"\xff"),
            sent(kind::DATA, flag::PADDED, 1, b""),
            sent(kind::HEADERS, flag::END_HEADERS, 9, b"\x88"),
            sent(kind::HEADERS, flag::END_HEADERS, 1, b"\xff"),
            sent(kind::HEADERS, flag::END_HEADERS | flag::PRIORITY, 1, b"\0"),
            sent(kind::CONTINUATION, 0, 1, b""),
            sent(kind::RST_STREAM, 0, 9, &[0; 4]),
            [long.clone(), sent(kind::PING, 0, 0, &[0; 8])].concat(),
            [long, sent(kind::CONTINUATION, 0, 3, b"")].concat(),
        ] {
            let mut connection = connection();
            connection.call(1, "/p", b"q", &mut Vec::new()).unwrap();
            assert!(receive(&mut connection, &bytes).is_err(), "{}", bytes.escape_ascii());
        }
        let mut connection = connection();
        connection.call(1, "/p", b"q", &mut Vec::new()).unwrap();
        let reset = sent(kind::RST_STREAM, 0, 1, &[0, 0, 0, 7]);
        let (_, _, ends) = receive(&mut connection, &reset).unwrap();
        let text = "the stream was reset with code 7".to_owned();
        assert_eq!(ends, [(1, Err(Failed { code: None, text }))]);
    }
}
