//! One connection to one node: the handshake, then whole frames, each with a deadline.
//!
//! Any error leaves the stream in an unknown place, so the owner drops the connection after it.
//! Deadlines are `CLOCK_MONOTONIC` nanoseconds, as everywhere in the clients.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::Serialize;

use crate::paxos::NodeId;
use crate::trace::monotonic_ns;
use crate::wire::client::{Request, Response};
use crate::wire::{ClusterId, Hello, PROTOCOL_VERSION, codec, frame};

/// Bytes asked of the kernel at once; longer frames take several turns.
const READ_SIZE: usize = 64 * 1024;

pub struct Connection {
    stream: TcpStream,
    /// Who answered the handshake.
    node: NodeId,
    /// Received and not yet taken; `0..filled` is meaningful.
    buffer: Vec<u8>,
    filled: usize,
    /// The frame being sent; kept so that its memory is.
    out: Vec<u8>,
}

impl Connection {
    /// Dials `address` and greets. `cluster`: refuse to talk to a node of another one.
    pub fn open(
        address: SocketAddr,
        cluster: Option<ClusterId>,
        deadline_ns: u64,
    ) -> io::Result<Connection> {
        let stream = TcpStream::connect_timeout(&address, remaining(deadline_ns)?)?;
        stream.set_nodelay(true)?;
        let mut connection = Connection {
            stream,
            node: NodeId(0),
            buffer: Vec::new(),
            filled: 0,
            out: Vec::with_capacity(512),
        };
        let hello = Hello::Client { version: PROTOCOL_VERSION, cluster };
        connection.send_frame(&hello, &[], deadline_ns)?;
        match connection.receive_frame(deadline_ns, |head, _| codec::decode::<Hello>(head))? {
            Hello::Welcome { version: PROTOCOL_VERSION, node, .. } => {
                connection.node = node;
                Ok(connection)
            }
            Hello::Welcome { version, .. } => Err(io::Error::other(format!(
                "it speaks protocol version {version}, this client {PROTOCOL_VERSION}"
            ))),
            Hello::Refused { reason, .. } => Err(io::Error::other(format!("refused: {reason}"))),
            Hello::Peer { .. } | Hello::Client { .. } => {
                Err(io::Error::other("the answer to our hello is none"))
            }
        }
    }

    pub fn node(&self) -> NodeId {
        self.node
    }

    pub fn send(&mut self, request: &Request, bulk: &[u8], deadline_ns: u64) -> io::Result<()> {
        self.send_frame(request, bulk, deadline_ns)
    }

    /// The next response, whichever request it answers, and its bulk.
    pub fn receive(&mut self, deadline_ns: u64) -> io::Result<(Response, Vec<u8>)> {
        self.receive_frame(deadline_ns, |head, bulk| Ok((codec::decode(head)?, bulk.to_vec())))
    }

    fn send_frame<T: Serialize>(
        &mut self,
        head: &T,
        bulk: &[u8],
        deadline_ns: u64,
    ) -> io::Result<()> {
        self.out.clear();
        frame::write(head, &[bulk], &mut self.out);
        let mut sent = 0;
        while sent < self.out.len() {
            self.stream.set_write_timeout(Some(remaining(deadline_ns)?))?;
            match self.stream.write(&self.out[sent..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(size) => sent += size,
                Err(error) if is_retry(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive_frame<T>(
        &mut self,
        deadline_ns: u64,
        decode: impl Fn(&[u8], &[u8]) -> Result<T, crate::wire::WireError>,
    ) -> io::Result<T> {
        loop {
            let whole = frame::read(&self.buffer[..self.filled]).map_err(io::Error::other)?;
            if let Some((frame, size)) = whole {
                let value = decode(frame.head, frame.bulk).map_err(io::Error::other)?;
                self.buffer.copy_within(size..self.filled, 0);
                self.filled -= size;
                return Ok(value);
            }
            if self.buffer.len() < self.filled + READ_SIZE {
                self.buffer.resize(self.filled + READ_SIZE, 0);
            }
            self.stream.set_read_timeout(Some(remaining(deadline_ns)?))?;
            match self.stream.read(&mut self.buffer[self.filled..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(size) => self.filled += size,
                Err(error) if is_retry(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// The time left, or the error of having none.
fn remaining(deadline_ns: u64) -> io::Result<Duration> {
    match deadline_ns.saturating_sub(monotonic_ns()) {
        0 => Err(ErrorKind::TimedOut.into()),
        left => Ok(Duration::from_nanos(left)),
    }
}

/// A signal, or a socket timeout: the deadline decides, at the head of the next turn.
fn is_retry(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// An I/O error in the words of this program, not of the errno table.
pub fn describe(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::UnexpectedEof => "connection closed".to_owned(),
        ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => "connection lost".to_owned(),
        ErrorKind::TimedOut | ErrorKind::WouldBlock => "no answer in time".to_owned(),
        _ => error.to_string(),
    }
}
