//! The loop of the load generator: one thread, one poll, all connections.
//!
//! It shares the machine with the nodes that it measures, so a turn does little: read what came,
//! start what is due on the connections that are free, write once to each. Time is read once for each
//! connection served, so that a long turn does not lend its length to the latencies.
//!
//! It knows nothing of what it loads: that is behind `Connections`, for Loggos (`workers`) and others (`rivals/`).

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Registry, Token};
use std::os::fd::AsRawFd;

use crate::paxos::{NodeId, SessionId};
use crate::trace::{self, Event, Kind, Operation, OperationOutcome, monotonic_ns};

use super::arrivals::Arrivals;
use super::check::{Check, Observed};
use super::history::History;
use super::keys::{Generator, Job, Key};
use super::options::Options;
use super::recorder::{Recorder, Window, nanos, processor_ns};
use super::timer::Timer;

/// Timeouts, back-offs and moves are looked after this often.
const TICK_NS: u64 = 5_000_000;
/// While keys are written before the load, this many writes are in flight over all workers.
const PRELOAD_IN_FLIGHT: usize = 256;
/// The timer wakes us for arrivals at most this often: a wake-up costs about as much processor time as
/// an operation, and the nodes need it. What an arrival waits for this is part of its latency.
const ARRIVAL_PACE_NS: u64 = 50_000;
const BUFFER_SIZE: usize = 256 * 1024;

/// The connections to one system, and what is known of its nodes.
///
/// A connection is named by its number, from 0 to `count`, not included; its socket has this number as its token in
/// the poll. What other sockets a system needs have tokens from `count + 1` on.
pub trait Connections {
    fn count(&self) -> usize;

    /// Whether every key is written once before the load, whatever the load is.
    fn creates_first(&self) -> bool {
        false
    }

    /// Whether the keys of a history are read over these connections in the end, from now on as reads that are
    /// linearizable. Else somebody else reads them.
    fn begin_read_back(&mut self) -> bool {
        false
    }

    /// Whether operations may follow.
    fn is_ready(&self, at: usize) -> bool;

    /// Whether it may start one more operation, of `limit` in flight.
    fn can_start(&self, at: usize, limit: usize) -> bool;

    fn in_flight(&self, at: usize) -> usize;

    /// Writes started so far: their numbers.
    fn writes(&self, at: usize) -> u64;

    /// Whether a write on `key` is in flight.
    fn writes_on(&self, at: usize, key: Key) -> bool;

    /// Starts an operation, whose bytes are the generator's to tell; `flush` sends it. It ends later, not in here.
    fn start(
        &mut self,
        at: usize,
        job: Job,
        intended_ns: u64,
        generator: &mut Generator,
        turn: Turn<'_>,
    );

    fn flush(&mut self, at: usize, turn: Turn<'_>);

    /// A socket is readable or writable.
    fn on_event(&mut self, token: usize, closing: bool, buffer: &mut [u8], turn: Turn<'_>);

    /// What time asks for of what all connections share; before `tick`.
    fn tick_nodes(&mut self, turn: Turn<'_>);

    /// What time asks for of one connection: dialling, giving up, leaving a node that does not answer.
    fn tick(&mut self, at: usize, turn: Turn<'_>);

    /// What ended on one connection and has not been taken.
    fn ended(&mut self, at: usize) -> &mut Vec<Ended>;

    /// Why connections are not ready, if something is known; and what to do.
    fn trouble(&mut self) -> String;
}

/// The surroundings of one turn.
#[derive(Clone, Copy)]
pub struct Turn<'a> {
    pub now_ns: u64,
    pub registry: &'a Registry,
}

/// An operation that ended.
pub struct Ended {
    pub job: Job,
    pub outcome: OperationOutcome,
    pub observed: Observed,
    pub intended_ns: u64,
    /// Nothing of it was sent before.
    pub started_ns: u64,
    /// When attempts were sent that brought no reply, of a write that was then sent again, where the system does not
    /// know the two for one: each of these may take effect on its own, even after the one that was answered.
    pub lost_ns: Vec<u64>,
    /// Of a read: 0 and 0.
    pub session: SessionId,
    pub seq: u64,
    /// Who replied; 0: nobody.
    pub node: NodeId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until every connection is ready.
    Connect,
    /// Writes each key once.
    Preload,
    Run,
    /// Starts nothing more, waits for what is in flight.
    Drain,
    /// Reads each key of the history once.
    ReadBack {
        until_ns: u64,
    },
}

pub struct Load<'a, C> {
    options: &'a Options,
    phase: Phase,
    poll: Poll,
    connections: C,
    timer: Timer,
    generator: Generator,
    /// `None` in a closed loop.
    arrivals: Option<Arrivals>,
    arrivals_started_ns: u64,
    /// Connections that wait for an arrival; each at most once.
    free: VecDeque<u32>,
    is_free: Vec<bool>,
    /// Next key to preload, of each connection.
    preload_next: Vec<u64>,
    /// Keys to read in the end, the last first.
    to_read: Vec<Key>,
    not_read: u64,
    seed: u64,
    check: Option<Check>,
    recorder: Option<Recorder>,
    trace: Option<trace::Writer>,
    history: Option<History>,
    interrupted: Arc<AtomicBool>,
    next_tick_ns: u64,
}

/// What a run leaves behind.
pub struct Finished<C> {
    pub connections: C,
    pub recorder: Recorder,
    pub check: Option<Check>,
    pub history: Option<History>,
    /// Keys of the history that should have been read over these connections in the end, and were not.
    pub not_read: u64,
    /// Arrivals of an open loop that found no free connection before the end.
    pub never_started: u64,
    pub interrupted: bool,
    /// Processor time that the generator itself used while it measured.
    pub cpu_ns: Option<u64>,
}

impl<'a, C: Connections> Load<'a, C> {
    pub fn new(
        options: &'a Options,
        poll: Poll,
        connections: C,
        generator: Generator,
        seed: u64,
        (trace, history): (Option<trace::Writer>, Option<History>),
        interrupted: Arc<AtomicBool>,
    ) -> io::Result<Load<'a, C>> {
        let count = connections.count();
        let timer = Timer::new()?;
        poll.registry().register(
            &mut SourceFd(&timer.as_raw_fd()),
            Token(count),
            Interest::READABLE,
        )?;
        Ok(Load {
            options,
            phase: Phase::Connect,
            poll,
            connections,
            timer,
            generator,
            arrivals: None,
            arrivals_started_ns: 0,
            free: VecDeque::with_capacity(count),
            is_free: vec![false; count],
            preload_next: (0..count as u64).collect(),
            to_read: Vec::new(),
            not_read: 0,
            seed,
            check: options.check.then(|| Check::new(options)),
            recorder: None,
            trace,
            history,
            interrupted,
            next_tick_ns: 0,
        })
    }

    /// Runs to the end. `progress` gets a line of numbers at each interval.
    pub fn run(mut self, mut progress: impl FnMut(&Window)) -> Result<Finished<C>, String> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; BUFFER_SIZE];
        let (mut never_started, mut cpu_start_ns, mut cpu_ns) = (0, None, None);
        let connect_until_ns = monotonic_ns() + nanos(self.options.give_up);
        loop {
            self.turn(&mut events, &mut buffer).map_err(|error| error.to_string())?;
            let now_ns = monotonic_ns();
            let interrupted = self.interrupted.load(Ordering::Relaxed);
            match self.phase {
                Phase::Connect => {
                    let count = self.connections.count();
                    let ready = (0..count).filter(|&at| self.connections.is_ready(at)).count();
                    if interrupted {
                        return Err("interrupted before the load began".to_owned());
                    }
                    if ready == count {
                        self.enter(Phase::Preload, now_ns);
                    } else if connect_until_ns <= now_ns {
                        return Err(format!(
                            "only {ready} of {count} connections got a session within {:?}{}",
                            self.options.give_up,
                            self.connections.trouble()
                        ));
                    }
                }
                Phase::Preload => {
                    let all_written = !self.preloads()
                        || self.preload_next.iter().all(|&key| self.options.keys <= key);
                    if (all_written && self.in_flight() == 0) || interrupted {
                        cpu_start_ns = processor_ns();
                        self.enter(Phase::Run, now_ns);
                    }
                }
                Phase::Run => {
                    let recorder = self.recorder.as_mut().expect("made when the run began");
                    if let Some(line) = recorder.roll(now_ns) {
                        progress(&line);
                        if let Some(trace) = &mut self.trace {
                            trace.flush().map_err(|error| format!("the trace: {error}"))?;
                        }
                    }
                    if recorder.end_ns <= now_ns || interrupted {
                        let end_ns = recorder.end_ns.min(now_ns);
                        cpu_ns = cpu_start_ns.and_then(|start| Some(processor_ns()? - start));
                        never_started = self.arrivals.take().map_or(0, |a| a.count_due(end_ns));
                        recorder.finish(now_ns);
                        self.enter(Phase::Drain, now_ns);
                    }
                }
                // Everything ends: with a reply, or given up.
                Phase::Drain if self.in_flight() == 0 => {
                    if !self.begin_read_back(now_ns) {
                        break;
                    }
                }
                Phase::Drain => {}
                Phase::ReadBack { until_ns } => {
                    if until_ns <= now_ns || interrupted {
                        self.not_read += std::mem::take(&mut self.to_read).len() as u64;
                    }
                    if self.to_read.is_empty() && self.in_flight() == 0 {
                        break;
                    }
                }
            }
        }
        if let Some(trace) = &mut self.trace {
            trace.flush().map_err(|error| format!("the trace: {error}"))?;
        }
        Ok(Finished {
            connections: self.connections,
            not_read: self.not_read,
            recorder: self.recorder.expect("made when the run began"),
            check: self.check,
            history: self.history,
            never_started,
            interrupted: self.interrupted.load(Ordering::Relaxed),
            cpu_ns,
        })
    }

    fn enter(&mut self, phase: Phase, now_ns: u64) {
        self.phase = phase;
        if phase == Phase::Run {
            let begin_ns = now_ns + nanos(self.options.warmup);
            let end_ns = begin_ns + nanos(self.options.duration);
            let interval_ns = nanos(self.options.interval);
            self.recorder = Some(Recorder::new(begin_ns, end_ns, interval_ns));
            self.arrivals = self.options.rate.map(|rate| {
                Arrivals::new(self.options.arrivals, rate, now_ns, end_ns, self.seed ^ 1)
            });
        }
        for at in 0..self.connections.count() {
            self.fill(at);
        }
    }

    /// Begins to read what the history needs in the end, if that is to be done here.
    fn begin_read_back(&mut self, now_ns: u64) -> bool {
        let Some(history) = &mut self.history else { return false };
        if !self.connections.begin_read_back() {
            return false;
        }
        self.to_read = history.begin_read_back();
        // A system that is gone by now must not hold us up for as long as each of the keys may take.
        let until_ns = now_ns + 2 * nanos(self.options.give_up);
        self.enter(Phase::ReadBack { until_ns }, now_ns);
        true
    }

    fn preloads(&self) -> bool {
        self.options.preloads() || self.connections.creates_first()
    }

    fn turn(&mut self, events: &mut Events, buffer: &mut [u8]) -> io::Result<()> {
        let timeout = self.timeout(monotonic_ns())?;
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in events.iter() {
            let closing = event.is_read_closed() || event.is_write_closed() || event.is_error();
            let Token(at) = event.token();
            let now_ns = monotonic_ns();
            let count = self.connections.count();
            if at != count {
                let turn = Turn { now_ns, registry: self.poll.registry() };
                self.connections.on_event(at, closing, buffer, turn);
            }
            if at < count {
                self.take_ended(at, now_ns)?;
                self.fill(at);
            }
        }
        let now_ns = monotonic_ns();
        if self.next_tick_ns <= now_ns {
            self.next_tick_ns = now_ns + TICK_NS;
            self.tick(now_ns)?;
        }
        self.start_arrivals(now_ns);
        Ok(())
    }

    fn tick(&mut self, now_ns: u64) -> io::Result<()> {
        self.connections.tick_nodes(Turn { now_ns, registry: self.poll.registry() });
        for at in 0..self.connections.count() {
            self.connections.tick(at, Turn { now_ns, registry: self.poll.registry() });
            self.take_ended(at, now_ns)?;
            self.fill(at);
        }
        Ok(())
    }

    /// How long the poll may sleep; sets the timer for an arrival that comes sooner.
    fn timeout(&mut self, now_ns: u64) -> io::Result<Duration> {
        if let Some(next_ns) = self.arrivals.as_ref().and_then(Arrivals::next_ns)
            && !self.free.is_empty()
        {
            let wake_ns = next_ns.max(self.arrivals_started_ns + ARRIVAL_PACE_NS);
            if wake_ns <= now_ns {
                return Ok(Duration::ZERO);
            }
            self.timer.set(wake_ns)?;
        }
        Ok(Duration::from_nanos(self.next_tick_ns.saturating_sub(now_ns)))
    }

    /// Gives arrivals that are due to connections that wait for them.
    fn start_arrivals(&mut self, now_ns: u64) {
        while self.arrivals.as_ref().and_then(Arrivals::next_ns).is_some_and(|at| at <= now_ns) {
            let Some(id) = self.free.pop_front() else { return };
            self.arrivals_started_ns = now_ns;
            self.is_free[id as usize] = false;
            self.fill(id as usize);
        }
    }

    /// Starts on one connection what may be started now, and sends it.
    fn fill(&mut self, at: usize) {
        let now_ns = monotonic_ns();
        let limit = self.limit();
        let mut started = false;
        while self.connections.can_start(at, limit) {
            let Some((intended_ns, mut job)) = self.next_job(at, now_ns) else { break };
            if let Some(check) = &mut self.check {
                job.floor = check.start(&job);
            }
            let turn = Turn { now_ns, registry: self.poll.registry() };
            self.connections.start(at, job, intended_ns, &mut self.generator, turn);
            started = true;
        }
        if started {
            self.connections.flush(at, Turn { now_ns, registry: self.poll.registry() });
        }
        if self.arrivals.is_some() && !self.is_free[at] && self.connections.can_start(at, limit) {
            self.is_free[at] = true;
            self.free.push_back(at as u32);
        }
    }

    /// What the connection shall start now, and when that was meant to start.
    fn next_job(&mut self, at: usize, now_ns: u64) -> Option<(u64, Job)> {
        let writes = self.connections.writes(at);
        let intended_ns = match (self.phase, &mut self.arrivals) {
            (Phase::Connect | Phase::Drain, _) => return None,
            (Phase::Preload, _) => {
                let key = self.preload_next[at];
                if !self.preloads() || self.options.keys <= key {
                    return None;
                }
                self.preload_next[at] += self.connections.count() as u64;
                return Some((now_ns, Generator::preload(key, writes)));
            }
            (Phase::ReadBack { .. }, _) => {
                let key = self.to_read.pop()?;
                return Some((
                    now_ns,
                    Job { operation: Operation::Read, key, number: 0, floor: 0 },
                ));
            }
            (Phase::Run, Some(arrivals)) => arrivals.take_due(now_ns)?,
            (Phase::Run, None) => now_ns,
        };
        let busy = |key: Key| self.connections.writes_on(at, key);
        Some((intended_ns, self.generator.job(at as u32, writes, busy)))
    }

    fn limit(&self) -> usize {
        match self.phase {
            Phase::Preload | Phase::ReadBack { .. } => {
                self.options.in_flight.max(PRELOAD_IN_FLIGHT.div_ceil(self.options.clients))
            }
            _ => self.options.in_flight,
        }
    }

    fn in_flight(&self) -> usize {
        (0..self.connections.count()).map(|at| self.connections.in_flight(at)).sum()
    }

    /// Records what ended on one connection.
    fn take_ended(&mut self, at: usize, now_ns: u64) -> io::Result<()> {
        let all = self.connections.ended(at);
        if let Some(history) = self.history.as_mut().filter(|_| !all.is_empty()) {
            let ended_ns = monotonic_ns();
            for ended in all.iter() {
                history.end(at as u32, ended, ended_ns, &mut self.generator)?;
            }
        }
        if matches!(self.phase, Phase::ReadBack { .. }) {
            let failed = all.drain(..).filter(|ended| ended.outcome != OperationOutcome::Ok);
            self.not_read += failed.count() as u64;
            return Ok(());
        }
        for ended in all.drain(..) {
            let (job, outcome) = (&ended.job, ended.outcome);
            if let Some(recorder) = &mut self.recorder {
                recorder.end(now_ns, job.operation, outcome, ended.intended_ns);
            }
            if let Some(check) = &mut self.check {
                check.end(job, outcome, &ended.observed);
            }
            if let Some(trace) = &mut self.trace {
                trace.write(&Event {
                    time_ns: now_ns,
                    kind: Kind::ClientOperation,
                    node: ended.node.0,
                    aux: u32::from(job.operation as u8) | u32::from(outcome as u8) << 8,
                    a: ended.session.0,
                    b: ended.seq,
                    c: ended.intended_ns,
                })?;
            }
        }
        Ok(())
    }
}
