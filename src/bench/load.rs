//! The loop of the load generator: one thread, one poll, all workers.
//!
//! It shares the machine with the nodes that it measures, so a turn does little: read what came,
//! start what is due on the connections that are free, write once to each. Time is read once for each
//! connection served, so that a long turn does not lend its length to the latencies.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::os::fd::AsRawFd;

use crate::trace::{self, Event, Kind, monotonic_ns};

use super::arrivals::Arrivals;
use super::check::Check;
use super::control::Control;
use super::history::History;
use super::keys::{Generator, Job, Key};
use super::options::{Options, Target};
use super::recorder::{Recorder, Window, nanos, processor_ns};
use super::timer::Timer;
use super::worker::{Nodes, Turn, Worker};

/// Timeouts, back-offs and moves are looked after this often.
const TICK_NS: u64 = 5_000_000;
/// While keys are written before the load, this many writes are in flight over all workers.
const PRELOAD_IN_FLIGHT: usize = 256;
/// The timer wakes us for arrivals at most this often: a wake-up costs about as much processor time as
/// an operation, and the nodes need it. What an arrival waits for this is part of its latency.
const ARRIVAL_PACE_NS: u64 = 50_000;
const BUFFER_SIZE: usize = 256 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Until every worker has a session.
    Connect,
    /// Writes each key once.
    Preload,
    Run,
    /// Starts nothing more, waits for what is in flight.
    Drain,
}

pub struct Load<'a> {
    options: &'a Options,
    phase: Phase,
    poll: Poll,
    nodes: Nodes,
    workers: Vec<Worker>,
    control: Option<Control>,
    timer: Timer,
    generator: Generator,
    /// `None` in a closed loop.
    arrivals: Option<Arrivals>,
    arrivals_started_ns: u64,
    /// Workers that wait for an arrival; each at most once.
    free: VecDeque<u32>,
    is_free: Vec<bool>,
    /// Next key to preload, of each worker.
    preload_next: Vec<u64>,
    seed: u64,
    check: Option<Check>,
    recorder: Option<Recorder>,
    trace: Option<trace::Writer>,
    history: Option<History>,
    interrupted: Arc<AtomicBool>,
    next_tick_ns: u64,
}

/// What a run leaves behind.
pub struct Finished {
    pub recorder: Recorder,
    pub check: Option<Check>,
    pub history: Option<History>,
    /// Arrivals of an open loop that found no free connection before the end.
    pub never_started: u64,
    pub interrupted: bool,
    /// Processor time that the generator itself used while it measured.
    pub cpu_ns: Option<u64>,
}

impl<'a> Load<'a> {
    pub fn new(
        options: &'a Options,
        nodes: Nodes,
        generator: Generator,
        run: u64,
        seed: u64,
        (trace, history): (Option<trace::Writer>, Option<History>),
        interrupted: Arc<AtomicBool>,
    ) -> io::Result<Load<'a>> {
        let poll = Poll::new()?;
        let count = options.clients;
        let timer = Timer::new()?;
        poll.registry().register(
            &mut SourceFd(&timer.as_raw_fd()),
            Token(count),
            Interest::READABLE,
        )?;
        let follow = options.target == Target::Leader;
        let workers = (0..count)
            .map(|id| {
                let spread = id % nodes.addresses.len();
                let at = nodes.leader.filter(|_| follow).unwrap_or(spread);
                Worker::new(id as u32, at, run)
            })
            .collect();
        let control =
            follow.then(|| Control::new(Token(count + 1), nodes.leader.unwrap_or_default()));
        Ok(Load {
            options,
            phase: Phase::Connect,
            poll,
            nodes,
            workers,
            control,
            timer,
            generator,
            arrivals: None,
            arrivals_started_ns: 0,
            free: VecDeque::with_capacity(count),
            is_free: vec![false; count],
            preload_next: (0..count as u64).collect(),
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
    pub fn run(mut self, mut progress: impl FnMut(&Window)) -> Result<Finished, String> {
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
                    let ready = self.workers.iter().filter(|w| w.has_session()).count();
                    if interrupted {
                        return Err("interrupted before the load began".to_owned());
                    }
                    if ready == self.workers.len() {
                        self.enter(Phase::Preload, now_ns);
                    } else if connect_until_ns <= now_ns {
                        let why = self.nodes.last_error.take();
                        return Err(format!(
                            "only {ready} of {} connections got a session within {:?}{}; \
                             `loggos status` tells who leads",
                            self.workers.len(),
                            self.options.give_up,
                            why.map_or_else(String::new, |why| format!(" ({why})"))
                        ));
                    }
                }
                Phase::Preload => {
                    let all_written = !self.options.preloads()
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
                Phase::Drain if self.in_flight() == 0 => break,
                Phase::Drain => {}
            }
        }
        if let Some(trace) = &mut self.trace {
            trace.flush().map_err(|error| format!("the trace: {error}"))?;
        }
        Ok(Finished {
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
        for at in 0..self.workers.len() {
            self.fill(at);
        }
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
            if at < self.workers.len() {
                let mut turn =
                    Turn { now_ns, registry: self.poll.registry(), nodes: &mut self.nodes };
                self.workers[at].on_event(closing, buffer, &mut turn);
                self.take_ended(at, now_ns)?;
                self.fill(at);
            } else if at == self.workers.len() + 1 {
                let control = self.control.as_mut().expect("only it uses this token");
                control.on_event(now_ns, closing, buffer, &mut self.nodes);
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
        if let Some(control) = &mut self.control {
            control.tick(now_ns, self.poll.registry(), &mut self.nodes);
        }
        for at in 0..self.workers.len() {
            let mut turn = Turn { now_ns, registry: self.poll.registry(), nodes: &mut self.nodes };
            self.workers[at].tick(&mut turn);
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

    /// Gives arrivals that are due to workers that wait for them.
    fn start_arrivals(&mut self, now_ns: u64) {
        while self.arrivals.as_ref().and_then(Arrivals::next_ns).is_some_and(|at| at <= now_ns) {
            let Some(id) = self.free.pop_front() else { return };
            self.arrivals_started_ns = now_ns;
            self.is_free[id as usize] = false;
            self.fill(id as usize);
        }
    }

    /// Starts on one worker what may be started now, and sends it.
    fn fill(&mut self, at: usize) {
        let now_ns = monotonic_ns();
        let limit = self.limit();
        let mut started = false;
        while self.workers[at].can_start(limit) {
            let Some((intended_ns, mut job)) = self.next_job(at, now_ns) else { break };
            if let Some(check) = &mut self.check {
                job.floor = check.start(&job);
            }
            let worker = &mut self.workers[at];
            let mut bulk = worker.spare();
            self.generator.encode(worker.id, &job, &mut bulk);
            let turn = Turn { now_ns, registry: self.poll.registry(), nodes: &mut self.nodes };
            worker.start(job, bulk, intended_ns, &turn);
            started = true;
        }
        if started {
            let mut turn = Turn { now_ns, registry: self.poll.registry(), nodes: &mut self.nodes };
            self.workers[at].flush(&mut turn);
        }
        if self.arrivals.is_some() && !self.is_free[at] && self.workers[at].can_start(limit) {
            self.is_free[at] = true;
            self.free.push_back(at as u32);
        }
    }

    /// What the worker shall start now, and when that was meant to start.
    fn next_job(&mut self, at: usize, now_ns: u64) -> Option<(u64, Job)> {
        let worker = &self.workers[at];
        let intended_ns = match (self.phase, &mut self.arrivals) {
            (Phase::Connect | Phase::Drain, _) => return None,
            (Phase::Preload, _) => {
                let key = self.preload_next[at];
                if !self.options.preloads() || self.options.keys <= key {
                    return None;
                }
                self.preload_next[at] += self.workers.len() as u64;
                return Some((now_ns, Generator::preload(key, worker.writes)));
            }
            (Phase::Run, Some(arrivals)) => arrivals.take_due(now_ns)?,
            (Phase::Run, None) => now_ns,
        };
        let busy = |key: Key| worker.writes_on(key);
        Some((intended_ns, self.generator.job(worker.id, worker.writes, busy)))
    }

    fn limit(&self) -> usize {
        match self.phase {
            Phase::Preload => {
                self.options.in_flight.max(PRELOAD_IN_FLIGHT.div_ceil(self.options.clients))
            }
            _ => self.options.in_flight,
        }
    }

    fn in_flight(&self) -> usize {
        self.workers.iter().map(Worker::in_flight).sum()
    }

    /// Records what ended on one worker.
    fn take_ended(&mut self, at: usize, now_ns: u64) -> io::Result<()> {
        let worker = &mut self.workers[at];
        if let Some(history) = self.history.as_mut().filter(|_| !worker.ended.is_empty()) {
            let ended_ns = monotonic_ns();
            for ended in &worker.ended {
                history.end(worker.id, ended, ended_ns, &mut self.generator)?;
            }
        }
        for ended in worker.ended.drain(..) {
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
