//! ZooKeeper: requests in the encoding of jute, pipelined; replies of a session come in the order of its requests.
//! `create` once for each key, then `setData` and `getData`. What `getData` shows may be a little old, because the
//! connected server answers alone; a read that may not be stale has a `sync` before it, as ZooKeeper recommends.
//!
//! Every message is a length and so many bytes; integers are big-endian, strings and buffers have their length in
//! front (-1: none). `zookeeper.jute` in its source tree names the fields.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use crate::protocol::{InOrder, Outcome, Protocol, Reply, Request, Unsent};

/// As long as the server allows it, so that a load that pauses needs no pings.
const SESSION_TIMEOUT_MS: i32 = 60_000;
const FRAME_SIZE_MAX: usize = 16 << 20;

const CREATE: i32 = 1;
const GET_DATA: i32 = 4;
const SET_DATA: i32 = 5;
const SYNC: i32 = 9;
const XID_WATCH: i32 = -1;
const XID_PING: i32 = -2;
const ANY_VERSION: i32 = -1;
const PERMISSIONS_ALL: i32 = 31;
/// Before the data in a reply: xid, zxid, error.
const REPLY_HEAD_SIZE: usize = 16;
/// An answer to `srvr` has some two hundred bytes.
const SRVR_SIZE_MAX: u64 = 64 << 10;

/// What a reply is the answer to.
#[derive(Clone, Copy)]
enum Asked {
    Write(u32),
    Read(u32),
    /// The read behind it is what somebody waits for.
    Sync,
}

#[derive(Default)]
pub struct ZooKeeper {
    is_ready: bool,
    waiting: InOrder<Asked>,
    next_xid: i32,
    replied_xid: i32,
}

impl Protocol for ZooKeeper {
    fn greet(&mut self, out: &mut Vec<u8>) {
        framed(out, |out| {
            int(0, out); // Version of the protocol.
            long(0, out); // Last transaction seen.
            int(SESSION_TIMEOUT_MS, out);
            long(0, out); // A new session.
            buffer(&[0; 16], out); // Its password.
            out.push(0); // Not read-only.
        });
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
        match request {
            Request::Create { key, value } => self.ask(Asked::Write(ticket), out, |out| {
                int(CREATE, out);
                path(key, out);
                buffer(value, out);
                int(1, out); // One entry of the access list: everybody may do everything.
                int(PERMISSIONS_ALL, out);
                buffer(b"world", out);
                buffer(b"anyone", out);
                int(0, out); // Persistent.
            }),
            Request::Put { key, value } => self.ask(Asked::Write(ticket), out, |out| {
                int(SET_DATA, out);
                path(key, out);
                buffer(value, out);
                int(ANY_VERSION, out);
            }),
            Request::Get { key, may_be_stale } => {
                if !may_be_stale {
                    self.ask(Asked::Sync, out, |out| {
                        int(SYNC, out);
                        path(key, out);
                    })?;
                }
                self.ask(Asked::Read(ticket), out, |out| {
                    int(GET_DATA, out);
                    path(key, out);
                    out.push(0); // No watch.
                })
            }
            Request::Status => Err(Unsent::Refused("ZooKeeper tells only in four letters".into())),
        }
    }

    fn receive(
        &mut self,
        bytes: &[u8],
        _: &mut Vec<u8>,
        replies: &mut Vec<Reply>,
    ) -> Result<usize, String> {
        let mut taken = 0;
        while let Some(size) = read_int(bytes, taken) {
            let size = usize::try_from(size)
                .ok()
                .filter(|&size| size <= FRAME_SIZE_MAX)
                .ok_or_else(|| format!("a message of ZooKeeper of {size} bytes"))?;
            let Some(message) = bytes.get(taken + 4..taken + 4 + size) else { break };
            taken += 4 + size;
            if self.is_ready {
                self.on_reply(message, replies)?;
            } else {
                let timeout = read_int(message, 4).ok_or("a greeting of ZooKeeper that is cut")?;
                if timeout <= 0 {
                    return Err("ZooKeeper gives us no session".to_owned());
                }
                self.is_ready = true;
            }
        }
        Ok(taken)
    }
}

impl ZooKeeper {
    fn ask(
        &mut self,
        asked: Asked,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), Unsent> {
        let worn_out = || Unsent::WornOut("all request numbers are used up".to_owned());
        self.next_xid = self.next_xid.checked_add(1).ok_or_else(worn_out)?;
        let xid = self.next_xid;
        framed(out, |out| {
            int(xid, out);
            write(out);
        });
        self.waiting.push(asked);
        Ok(())
    }

    fn on_reply(&mut self, message: &[u8], replies: &mut Vec<Reply>) -> Result<(), String> {
        // xid, zxid (8 bytes), error.
        let (Some(xid), Some(error)) = (read_int(message, 0), read_int(message, 12)) else {
            return Err("a reply of ZooKeeper that is cut".to_owned());
        };
        if xid == XID_WATCH || xid == XID_PING {
            return Ok(());
        }
        self.replied_xid += 1;
        let asked = self.waiting.pop()?;
        if xid != self.replied_xid {
            return Err(format!("a reply to request {xid} and not {}", self.replied_xid));
        }
        let (ticket, outcome) = match asked {
            Asked::Sync if error == 0 => return Ok(()),
            // The read behind it would not be what was asked for.
            Asked::Sync => return Err(error_text(error)),
            Asked::Write(ticket) => (ticket, Outcome::Done),
            Asked::Read(ticket) => {
                let value = if error == 0 { Some(value(message)?) } else { None };
                (ticket, Outcome::Value(value))
            }
        };
        let outcome = match (error, asked) {
            (0, _) | (NO_NODE, Asked::Read(_)) => outcome,
            (NODE_EXISTS, _) => Outcome::Exists,
            _ if REFUSED.contains(&error) => Outcome::Refused(error_text(error)),
            _ => Outcome::Unsure(error_text(error)),
        };
        replies.push(Reply { ticket, outcome });
        Ok(())
    }
}

/// The data in a reply to `getData`.
fn value(message: &[u8]) -> Result<Vec<u8>, String> {
    let cut = || "a reply of ZooKeeper without its data".to_owned();
    let size = read_int(message, REPLY_HEAD_SIZE).ok_or_else(cut)?;
    let begin = REPLY_HEAD_SIZE + 4;
    // -1: no data, which is not what we wrote.
    let size = usize::try_from(size.max(0)).map_err(|_| cut())?;
    message.get(begin..begin + size).map(<[u8]>::to_vec).ok_or_else(cut)
}

/// Asks a server, in the only way there is, whether it leads (or is alone).
pub fn leads(address: SocketAddr, timeout: Duration) -> io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.write_all(b"srvr")?;
    let mut text = String::new();
    stream.take(SRVR_SIZE_MAX).read_to_string(&mut text)?;
    text.lines()
        .find_map(|line| line.strip_prefix("Mode: "))
        .map(|mode| matches!(mode, "leader" | "standalone"))
        .ok_or_else(|| io::Error::other(text.lines().next().unwrap_or("no answer").to_owned()))
}

const NO_NODE: i32 = -101;
const NODE_EXISTS: i32 = -110;
/// Nothing was done: marshalling error, bad arguments, no node, no authorization, not read-only.
const REFUSED: [i32; 5] = [-5, -8, NO_NODE, -102, -119];

/// `KeeperException.Code`, as far as these requests meet it.
fn error_text(code: i32) -> String {
    let name = match code {
        -2 => "data inconsistency",
        -4 => "connection loss",
        -5 => "marshalling error",
        -7 => "operation timeout",
        -8 => "bad arguments",
        -101 => "no node",
        -102 => "no authorization",
        -110 => "node exists",
        -112 => "session expired",
        -118 => "session moved",
        -119 => "not read-only",
        _ => "error",
    };
    format!("{name} ({code})")
}

fn int(value: i32, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn long(value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(&value.to_be_bytes());
}

fn buffer(bytes: &[u8], out: &mut Vec<u8>) {
    int(length(bytes.len()), out);
    out.extend_from_slice(bytes);
}

/// A key as the path of a node: all of them lie directly below the root.
fn path(key: &[u8], out: &mut Vec<u8>) {
    int(length(key.len() + 1), out);
    out.push(b'/');
    out.extend(key.iter().map(|&byte| if byte == b'/' { b'-' } else { byte }));
}

fn framed(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    int(0, out);
    fill(out);
    let size = length(out.len() - begin - 4);
    out[begin..begin + 4].copy_from_slice(&size.to_be_bytes());
}

fn length(size: usize) -> i32 {
    i32::try_from(size).expect("the sizes of keys and values are limited")
}

fn read_int(bytes: &[u8], at: usize) -> Option<i32> {
    let bytes = bytes.get(at..at + 4)?;
    Some(i32::from_be_bytes(bytes.try_into().expect("these are four")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_requests() {
        let mut zookeeper = ZooKeeper::default();
        let mut out = Vec::new();
        zookeeper.greet(&mut out);
        let mut greeting = vec![0, 0, 0, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xea, 0x60];
        greeting.extend([0; 8]);
        greeting.extend([0, 0, 0, 16]);
        greeting.extend([0; 17]);
        assert_eq!(out, greeting);

        out.clear();
        zookeeper.request(0, Request::Put { key: b"a/b", value: b"v" }, &mut out).unwrap();
        let put = b"\0\0\0\x19\0\0\0\x01\0\0\0\x05\0\0\0\x04/a-b\0\0\0\x01v\xff\xff\xff\xff";
        assert_eq!(out, put);
        out.clear();
        zookeeper.request(0, get(true), &mut out).unwrap();
        assert_eq!(out, b"\0\0\0\x0f\0\0\0\x02\0\0\0\x04\0\0\0\x02/k\0");
        out.clear();
        zookeeper.request(0, Request::Create { key: b"a", value: b"" }, &mut out).unwrap();
        let create = b"\0\0\0\x31\0\0\0\x03\0\0\0\x01\0\0\0\x02/a\0\0\0\0\0\0\0\x01\0\0\0\x1f\
                       \0\0\0\x05world\0\0\0\x06anyone\0\0\0\0";
        assert_eq!(out, create);
        out.clear();
        zookeeper.request(0, get(false), &mut out).unwrap();
        let sync_and_get = b"\0\0\0\x0e\0\0\0\x04\0\0\0\x09\0\0\0\x02/k\
                             \0\0\0\x0f\0\0\0\x05\0\0\0\x04\0\0\0\x02/k\0";
        assert_eq!(out, sync_and_get);
    }

    fn get(may_be_stale: bool) -> Request<'static> {
        Request::Get { key: b"k", may_be_stale }
    }

    fn message(parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        framed(&mut out, |out| out.extend(parts.concat()));
        out
    }

    fn reply(xid: i32, error: i32) -> Vec<u8> {
        message(&[&xid.to_be_bytes(), &[0; 8], &error.to_be_bytes(), b"\0\0\0\x01v", &[0; 68]])
    }

    fn answers() -> Vec<u8> {
        let greeting = message(&[&[0; 4], &40_000i32.to_be_bytes(), &[0; 8], &[0; 20]]);
        [
            greeting,
            reply(1, 0),
            reply(XID_PING, 0),
            reply(2, -101),
            reply(3, 0),
            reply(4, 0),
            reply(5, -110),
        ]
        .concat()
    }

    fn asked() -> ZooKeeper {
        let mut zookeeper = ZooKeeper::default();
        for ticket in 11..=12 {
            zookeeper.request(ticket, get(true), &mut Vec::new()).unwrap();
        }
        zookeeper.request(13, get(false), &mut Vec::new()).unwrap();
        let create = Request::Create { key: b"k", value: b"v" };
        zookeeper.request(14, create, &mut Vec::new()).unwrap();
        zookeeper
    }

    /// Wherever the stream is cut, the same replies come of it, each once.
    #[test]
    fn answers_are_taken_whole() {
        let answers = answers();
        for cut in 0..answers.len() {
            let (mut zookeeper, mut replies) = (asked(), Vec::new());
            let taken = zookeeper.receive(&answers[..cut], &mut Vec::new(), &mut replies).unwrap();
            let rest = zookeeper.receive(&answers[taken..], &mut Vec::new(), &mut replies).unwrap();
            assert_eq!(taken + rest, answers.len());
            let one = || Outcome::Value(Some(b"v".to_vec()));
            let all = [(11, one()), (12, Outcome::Value(None)), (13, one()), (14, Outcome::Exists)];
            assert_eq!(replies, all.map(|(ticket, outcome)| Reply { ticket, outcome }));
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        let ready = || ZooKeeper { is_ready: true, ..asked() };
        for bytes in [
            (-1i32).to_be_bytes().to_vec(),
            i32::MAX.to_be_bytes().to_vec(),
            message(&[b"short"]),
            reply(2, 0),
            message(&[&1i32.to_be_bytes(), &[0; 12], b"\0\0\0\x09short"]),
        ] {
            let result = ready().receive(&bytes, &mut Vec::new(), &mut Vec::new());
            assert!(result.is_err(), "{bytes:?}");
        }
        let mut nobody = ZooKeeper { is_ready: true, ..ZooKeeper::default() };
        assert!(nobody.receive(&reply(1, 0), &mut Vec::new(), &mut Vec::new()).is_err());
        let mut expired = ZooKeeper::default();
        assert!(expired.receive(&message(&[&[0; 40]]), &mut Vec::new(), &mut Vec::new()).is_err());
    }
}
