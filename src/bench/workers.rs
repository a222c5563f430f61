//! All connections of the load generator to a cluster of Loggos, as the loop asks for them.

use mio::Token;

use super::control::Control;
use super::keys::{Generator, Job, Key};
use super::load::{self, Connections, Ended};
use super::options::{Options, Target};
use super::worker::{Nodes, Turn, Worker};

pub struct Workers {
    nodes: Nodes,
    workers: Vec<Worker>,
    control: Option<Control>,
}

impl Workers {
    /// Workers that will dial the nodes. `run` makes their nonces differ from those of other runs.
    pub fn new(options: &Options, nodes: Nodes, run: u64) -> Workers {
        let follow = options.target == Target::Leader;
        let worker = |id: usize| {
            let spread = id % nodes.addresses.len();
            let at = nodes.leader.filter(|_| follow).unwrap_or(spread);
            Worker::new(id as u32, at, run)
        };
        let workers = (0..options.clients).map(worker).collect();
        let token = Token(options.clients + 1);
        let control = follow.then(|| Control::new(token, nodes.leader.unwrap_or_default()));
        Workers { nodes, workers, control }
    }

    /// A worker, and its surroundings of this turn.
    fn turn<'a>(&'a mut self, at: usize, turn: load::Turn<'a>) -> (&'a mut Worker, Turn<'a>) {
        let load::Turn { now_ns, registry } = turn;
        (&mut self.workers[at], Turn { now_ns, registry, nodes: &mut self.nodes })
    }
}

impl Connections for Workers {
    fn count(&self) -> usize {
        self.workers.len()
    }

    fn is_ready(&self, at: usize) -> bool {
        self.workers[at].has_session()
    }

    fn can_start(&self, at: usize, limit: usize) -> bool {
        self.workers[at].can_start(limit)
    }

    fn in_flight(&self, at: usize) -> usize {
        self.workers[at].in_flight()
    }

    fn writes(&self, at: usize) -> u64 {
        self.workers[at].writes
    }

    fn writes_on(&self, at: usize, key: Key) -> bool {
        self.workers[at].writes_on(key)
    }

    fn start(
        &mut self,
        at: usize,
        job: Job,
        intended_ns: u64,
        generator: &mut Generator,
        turn: load::Turn<'_>,
    ) {
        let (worker, turn) = self.turn(at, turn);
        let mut bulk = worker.spare();
        generator.encode(worker.id, &job, &mut bulk);
        worker.start(job, bulk, intended_ns, &turn);
    }

    fn flush(&mut self, at: usize, turn: load::Turn<'_>) {
        let (worker, mut turn) = self.turn(at, turn);
        worker.flush(&mut turn);
    }

    fn on_event(&mut self, token: usize, closing: bool, buffer: &mut [u8], turn: load::Turn<'_>) {
        if token < self.workers.len() {
            let (worker, mut turn) = self.turn(token, turn);
            worker.on_event(closing, buffer, &mut turn);
        } else if let Some(control) = &mut self.control {
            control.on_event(turn.now_ns, closing, buffer, &mut self.nodes);
        }
    }

    fn tick_nodes(&mut self, turn: load::Turn<'_>) {
        if let Some(control) = &mut self.control {
            control.tick(turn.now_ns, turn.registry, &mut self.nodes);
        }
    }

    fn tick(&mut self, at: usize, turn: load::Turn<'_>) {
        let (worker, mut turn) = self.turn(at, turn);
        worker.tick(&mut turn);
    }

    fn ended(&mut self, at: usize) -> &mut Vec<Ended> {
        &mut self.workers[at].ended
    }

    fn trouble(&mut self) -> String {
        let why = self.nodes.last_error.take().map_or_else(String::new, |why| format!(" ({why})"));
        format!("{why}; `loggos status` tells who leads")
    }
}
