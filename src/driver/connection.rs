//! One TCP connection: bytes in, frames out of them; frames in, bytes out.
//!
//! Both directions are buffered and bounded. Readiness is edge-triggered: `readable` and `writable` say
//! what the kernel last told, until a call would block.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::Arc;

use mio::net::TcpStream;

use crate::paxos::{NodeId, SnapshotId};
use crate::wire::frame::{self, Frame};

pub struct Connection {
    pub stream: TcpStream,
    pub stage: Stage,
    /// Tells this connection from others that have used the same place.
    pub generation: u32,
    pub readable: bool,
    pub writable: bool,
    /// The other side has closed, or the connection failed: reading will come to an end, and no other
    /// event will tell.
    pub ending: bool,
    /// It stands in the driver's list of connections to be flushed.
    pub dirty: bool,
    /// It stands in the driver's list of clients that must wait.
    pub blocked: bool,
    /// When bytes last came, on the driver's clock; until the handshake is done, when the connection
    /// was made.
    pub heard_us: u64,
    /// Linearizable reads of this client that wait to be confirmed.
    pub reads: usize,
    /// Its reads that may be answered once there is room for the answers.
    pub answerable: VecDeque<(u64, Readable)>,
    /// A large result of SQL is, or was, held for it.
    pub has_held: bool,
    /// The snapshot that the client has asked for or of which it has asked for bytes. The file stays
    /// readable after the node has removed it.
    pub snapshot: Option<(SnapshotId, Arc<File>)>,
    /// Chunks of it that are being read.
    pub chunks: usize,
    input: Vec<u8>,
    /// Bytes at the front of `input` that were handed out already.
    consumed: usize,
    output: Vec<u8>,
    /// Bytes at the front of `output` that were sent already.
    sent: usize,
}

/// What a read wants that may be answered.
pub enum Readable {
    /// An encoded query, checked.
    Query(Vec<u8>),
    /// More of the result of read `of`, from row `skip` on.
    On { of: u64, skip: u64 },
}

/// How far a connection has come, and with whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// We dial a peer; the TCP connection does not stand yet.
    Dialling(NodeId),
    /// We said hello to the peer and wait for its welcome.
    Greeting(NodeId),
    /// Accepted on the peers' address; the hello is to come.
    UnknownPeer,
    Peer(NodeId),
    /// Accepted on the clients' address; the hello is to come.
    UnknownClient,
    Client,
    /// Refused: closed once what was said is sent.
    Closing,
}

/// Why a connection ended.
#[derive(Debug)]
pub enum Ended {
    /// The other side closed it.
    Closed,
    Failed(io::Error),
}

/// What reading came to.
#[derive(Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// Nothing more for now.
    Drained,
    /// The turn's budget is used up; there may be more.
    Budget,
}

/// Bytes of one read.
pub const READ_CHUNK: usize = 64 * 1024;

impl Connection {
    pub fn new(stream: TcpStream, stage: Stage, generation: u32, now_us: u64) -> Connection {
        Connection {
            stream,
            stage,
            generation,
            readable: false,
            writable: false,
            ending: false,
            dirty: false,
            blocked: false,
            heard_us: now_us,
            reads: 0,
            answerable: VecDeque::new(),
            has_held: false,
            snapshot: None,
            chunks: 0,
            input: Vec::new(),
            consumed: 0,
            output: Vec::new(),
            sent: 0,
        }
    }

    /// Reads what is there, within the turn's budget, by way of `scratch`: a buffer for each connection
    /// to read into would take that much memory of each, idle or not.
    pub fn fill(
        &mut self,
        now_us: u64,
        scratch: &mut [u8],
        budget: &mut usize,
    ) -> Result<ReadOutcome, Ended> {
        self.compact();
        loop {
            match self.stream.read(scratch) {
                Ok(0) => return Err(Ended::Closed),
                Ok(size) => {
                    self.input.extend_from_slice(&scratch[..size]);
                    if matches!(self.stage, Stage::Peer(_)) {
                        self.heard_us = now_us;
                    }
                    if size < scratch.len() && !self.ending {
                        // A short read means that the kernel's buffer is empty; what comes later
                        // makes a new event.
                        self.readable = false;
                        return Ok(ReadOutcome::Drained);
                    }
                    *budget = budget.saturating_sub(size);
                    if *budget == 0 {
                        return Ok(ReadOutcome::Budget);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Ok(ReadOutcome::Drained);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Ended::Failed(error)),
            }
        }
    }

    /// The next whole frame that was read, if there is one. Call `consume` with its size when it is
    /// dealt with.
    pub fn next_frame(&self) -> Result<Option<(Frame<'_>, usize)>, crate::wire::WireError> {
        frame::read(&self.input[self.consumed..])
    }

    /// Whether bytes were read that nobody has dealt with.
    pub fn has_input(&self) -> bool {
        self.consumed < self.input.len()
    }

    pub fn consume(&mut self, size: usize) {
        self.consumed += size;
    }

    /// Where frames to be sent are written.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// Bytes that wait to be sent.
    pub fn unsent(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Sends what waits, as far as the kernel takes it.
    pub fn flush(&mut self) -> Result<(), Ended> {
        while self.sent < self.output.len() && self.writable {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(0) => return Err(Ended::Closed),
                Ok(size) => self.sent += size,
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Ended::Failed(error)),
            }
        }
        if self.sent == self.output.len() {
            self.output.clear();
            self.sent = 0;
        } else if self.unsent() <= self.sent {
            // Not sooner: to move a long rest after every little that the kernel takes costs more than
            // to send it.
            self.output.drain(..self.sent);
            self.sent = 0;
        }
        Ok(())
    }

    /// Gives memory back that something large took. Called now and then, not after each large frame: the next
    /// one would have to get it again, page by page.
    pub fn relax(&mut self) {
        if self.consumed == self.input.len() && ROOM_MAX < self.input.capacity() {
            (self.input, self.consumed) = (Vec::new(), 0);
        }
        if self.sent == self.output.len() && ROOM_MAX < self.output.capacity() {
            (self.output, self.sent) = (Vec::new(), 0);
        }
    }

    fn compact(&mut self) {
        if self.consumed == self.input.len() {
            self.input.clear();
        } else {
            self.input.drain(..self.consumed);
        }
        self.consumed = 0;
    }
}

/// Memory that a buffer keeps while nothing is in it.
const ROOM_MAX: usize = 4 * READ_CHUNK;
