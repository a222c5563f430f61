//! The loop: one thread, one poll, all connections. The same as that of `loggos bench` in a closed loop, so that
//! what is compared is the systems: a turn reads what came, starts what is free, writes once to each connection,
//! and time is read when a connection is served.
//!
//! A connection that breaks ends the run with an error: nobody kills anything here.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use loggos::bench::keys::{Choice, Key, Names, stamp};
use loggos::bench::recorder::{Recorder, nanos, processor_ns};
use loggos::bench::socket::Socket;
use loggos::trace::{Operation, OperationOutcome, monotonic_ns};
use mio::{Events, Poll, Token};

use crate::protocol::{Protocol, Reply, Request};

/// Between two looks at the clock when nothing happens.
const TICK: Duration = Duration::from_millis(5);
/// Nothing of ours takes so long to be answered, unless it never will be.
const PATIENCE_NS: u64 = 10_000_000_000;
/// While keys are written before the load, this many writes are in flight over all connections.
const PRELOAD_IN_FLIGHT: usize = 256;
const BUFFER_SIZE: usize = 256 * 1024;
/// Different errors of the server that are kept to be told.
const ERRORS_MAX: usize = 8;

/// What the load is.
pub struct Shape {
    pub node: SocketAddr,
    pub reads: bool,
    pub clients: usize,
    pub in_flight: usize,
    pub warmup: Duration,
    pub duration: Duration,
    pub keys: u64,
    pub value_size: usize,
    /// Names of keys differ from those of other runs by it.
    pub run: u64,
    pub seed: u64,
}

/// What a run leaves behind.
pub struct Finished {
    pub recorder: Recorder,
    /// Processor time that the generator itself used from the end of the preparations to the end.
    pub cpu_ns: Option<u64>,
    /// What the server said to requests that failed, and how often.
    pub errors: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Until every connection may send requests.
    Connect,
    /// Writes each key once.
    Preload,
    Run,
    /// Starts nothing more, waits for what is in flight.
    Drain,
}

struct Client {
    socket: Socket,
    protocol: Box<dyn Protocol>,
    /// When the operation of each ticket started; 0: the ticket is free.
    started_ns: Vec<u64>,
    free: Vec<u32>,
    /// Next key to preload.
    preload_next: u64,
    writes: u64,
}

pub struct Load<'a> {
    shape: &'a Shape,
    poll: Poll,
    phase: Phase,
    clients: Vec<Client>,
    preloads: bool,
    names: Names,
    choice: Choice,
    key: Vec<u8>,
    value: Vec<u8>,
    replies: Vec<Reply>,
    recorder: Option<Recorder>,
    errors: BTreeMap<String, u64>,
    in_flight: usize,
    /// When something last ended.
    progress_ns: u64,
}

impl<'a> Load<'a> {
    /// Begins to connect; `protocol` makes the end of one connection.
    pub fn new(
        shape: &'a Shape,
        protocol: impl Fn() -> Box<dyn Protocol>,
    ) -> Result<Load<'a>, String> {
        let poll = Poll::new().map_err(|error| format!("cannot poll: {error}"))?;
        let mut clients = Vec::with_capacity(shape.clients);
        for id in 0..shape.clients {
            let mut socket = Socket::dial(poll.registry(), Token(id), shape.node)
                .map_err(|error| format!("cannot connect to {}: {error}", shape.node))?;
            let mut protocol = protocol();
            protocol.greet(socket.out());
            let preload_next = id as u64;
            clients.push(Client {
                socket,
                protocol,
                started_ns: Vec::new(),
                free: Vec::new(),
                preload_next,
                writes: 0,
            });
        }
        let creates_first = clients.iter().any(|client| client.protocol.creates_first());
        Ok(Load {
            shape,
            poll,
            phase: Phase::Connect,
            clients,
            preloads: shape.reads || creates_first,
            names: Names::new(shape.run),
            choice: Choice::new(shape.keys, 0.0, shape.seed),
            key: Vec::new(),
            value: vec![b'.'; shape.value_size],
            replies: Vec::new(),
            recorder: None,
            errors: BTreeMap::new(),
            in_flight: 0,
            progress_ns: monotonic_ns(),
        })
    }

    /// Runs to the end.
    pub fn run(mut self) -> Result<Finished, String> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; BUFFER_SIZE];
        let (mut cpu_start_ns, mut cpu_ns) = (None, None);
        loop {
            self.turn(&mut events, &mut buffer)?;
            let now_ns = monotonic_ns();
            match self.phase {
                Phase::Connect => {
                    if self.clients.iter().all(|client| client.protocol.is_ready()) {
                        self.enter(Phase::Preload, now_ns)?;
                    } else if self.progress_ns + PATIENCE_NS <= now_ns {
                        return Err(self.failed("it did not greet us within 10 s"));
                    }
                }
                Phase::Preload => {
                    let written = |client: &Client| self.shape.keys <= client.preload_next;
                    if self.in_flight == 0 && (!self.preloads || self.clients.iter().all(written)) {
                        if let Some(error) = self.errors.keys().next() {
                            return Err(self.failed(&format!("a key was not written: {error}")));
                        }
                        cpu_start_ns = processor_ns();
                        self.enter(Phase::Run, now_ns)?;
                    }
                }
                Phase::Run => {
                    let recorder = self.recorder.as_mut().expect("made when the run began");
                    recorder.roll(now_ns);
                    if recorder.end_ns <= now_ns {
                        recorder.finish(now_ns);
                        cpu_ns = cpu_start_ns.and_then(|start| Some(processor_ns()? - start));
                        self.enter(Phase::Drain, now_ns)?;
                    }
                }
                Phase::Drain if self.in_flight == 0 => break,
                Phase::Drain => {}
            }
            if 0 < self.in_flight && self.progress_ns + PATIENCE_NS <= now_ns {
                return Err(self.failed("it has answered nothing for 10 s"));
            }
        }
        let recorder = self.recorder.expect("made when the run began");
        Ok(Finished { recorder, cpu_ns, errors: self.errors })
    }

    fn failed(&self, why: &str) -> String {
        format!("{}: {why}", self.shape.node)
    }

    fn enter(&mut self, phase: Phase, now_ns: u64) -> Result<(), String> {
        self.phase = phase;
        self.progress_ns = now_ns;
        let tickets = match phase {
            Phase::Preload => {
                self.shape.in_flight.max(PRELOAD_IN_FLIGHT.div_ceil(self.shape.clients))
            }
            _ => self.shape.in_flight,
        };
        if phase == Phase::Run {
            let begin_ns = now_ns + nanos(self.shape.warmup);
            let end_ns = begin_ns + nanos(self.shape.duration);
            self.recorder = Some(Recorder::new(begin_ns, end_ns, nanos(self.shape.duration)));
        }
        for at in 0..self.clients.len() {
            if matches!(phase, Phase::Preload | Phase::Run) {
                let client = &mut self.clients[at];
                client.started_ns = vec![0; tickets];
                client.free = (0..tickets as u32).rev().collect();
            }
            self.fill(at)?;
        }
        Ok(())
    }

    fn turn(&mut self, events: &mut Events, buffer: &mut [u8]) -> Result<(), String> {
        match self.poll.poll(events, Some(TICK)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(format!("cannot poll: {error}"));
            }
            _ => {}
        }
        for event in events.iter() {
            let closing = event.is_read_closed() || event.is_write_closed() || event.is_error();
            let Token(at) = event.token();
            let now_ns = monotonic_ns();
            self.receive(at, closing, buffer).map_err(|error| self.failed(&error.to_string()))?;
            self.end(at, now_ns)?;
            self.fill(at)?;
        }
        Ok(())
    }

    fn receive(&mut self, at: usize, closing: bool, buffer: &mut [u8]) -> io::Result<()> {
        let Client { socket, protocol, .. } = &mut self.clients[at];
        socket.flush()?;
        socket.receive(buffer, closing, |bytes, out| {
            protocol.receive(bytes, out, &mut self.replies).map_err(io::Error::other)
        })
    }

    /// Records what was answered on one connection.
    fn end(&mut self, at: usize, now_ns: u64) -> Result<(), String> {
        let operation = if self.shape.reads { Operation::Read } else { Operation::Put };
        let client = &mut self.clients[at];
        for reply in self.replies.drain(..) {
            let started_ns = client.started_ns.get_mut(reply.ticket as usize).map(std::mem::take);
            let Some(started_ns) = started_ns.filter(|&started_ns| started_ns != 0) else {
                return Err(format!("{}: a reply that nobody waits for", self.shape.node));
            };
            client.free.push(reply.ticket);
            self.in_flight -= 1;
            self.progress_ns = now_ns;
            let outcome = match reply.outcome {
                Ok(()) => OperationOutcome::Ok,
                Err(error) => {
                    if self.errors.len() < ERRORS_MAX || self.errors.contains_key(&error) {
                        *self.errors.entry(error).or_default() += 1;
                    }
                    OperationOutcome::Failed
                }
            };
            if let Some(recorder) = &mut self.recorder {
                recorder.end(now_ns, operation, outcome, started_ns);
            }
        }
        Ok(())
    }

    /// Starts on one connection what may be started now, and sends it.
    fn fill(&mut self, at: usize) -> Result<(), String> {
        let now_ns = monotonic_ns();
        let client = &mut self.clients[at];
        while let Some(&ticket) = client.free.last() {
            let index = match self.phase {
                Phase::Preload if self.preloads && client.preload_next < self.shape.keys => {
                    let index = client.preload_next;
                    client.preload_next += self.shape.clients as u64;
                    index
                }
                Phase::Run => self.choice.draw(),
                _ => break,
            };
            self.names.write(Key::Shared(index), &mut self.key);
            let (key, value) = (self.key.as_slice(), self.value.as_mut());
            let is_read = self.phase == Phase::Run && self.shape.reads;
            if !is_read {
                client.writes += 1;
                stamp(at as u32, client.writes, value);
            }
            let value = value.as_slice();
            let request = match self.phase {
                Phase::Preload => Request::Create { key, value },
                _ if is_read => Request::Get { key },
                _ => Request::Put { key, value },
            };
            client
                .protocol
                .request(ticket, request, client.socket.out())
                .map_err(|error| format!("{}: {error}", self.shape.node))?;
            client.free.pop();
            client.started_ns[ticket as usize] = now_ns;
            self.in_flight += 1;
        }
        client.socket.flush().map_err(|error| format!("{}: {error}", self.shape.node))
    }
}
