//! All connections of the load, as the loop of `loggos bench` asks for them.

use std::collections::BTreeMap;

use loggos::bench::keys::{Generator, Job, Key};
use loggos::bench::load::{Connections, Ended, Turn};
use loggos::trace::Operation;

use crate::connection::{Connection, Nodes};
use crate::leader::Finder;

/// The leader is asked on suspicion at most this often, or a system that is merely slow would be asked all the time.
const SUSPECT_NS: u64 = 100_000_000;

pub struct RivalConnections {
    nodes: Nodes,
    all: Vec<Connection>,
    /// If connections go to the leader, and there is a choice.
    finder: Option<Finder>,
    suspected_ns: u64,
}

impl RivalConnections {
    /// So many connections, each to the node with the index that `home` tells.
    pub fn new(
        count: usize,
        nodes: Nodes,
        finder: Option<Finder>,
        home: impl Fn(usize) -> usize,
    ) -> RivalConnections {
        let all = (0..count).map(|id| Connection::new(id as u32, home(id), &nodes)).collect();
        RivalConnections { nodes, all, finder, suspected_ns: 0 }
    }

    /// What went wrong, and how often.
    pub fn errors(&self) -> &BTreeMap<String, u64> {
        &self.nodes.errors
    }
}

impl Connections for RivalConnections {
    fn count(&self) -> usize {
        self.all.len()
    }

    fn creates_first(&self) -> bool {
        self.nodes.system.creates_first()
    }

    fn begin_read_back(&mut self) -> bool {
        self.nodes.may_be_stale = false;
        true
    }

    fn is_ready(&self, at: usize) -> bool {
        self.all[at].is_ready()
    }

    fn can_start(&self, at: usize, limit: usize) -> bool {
        self.all[at].can_start(limit)
    }

    fn in_flight(&self, at: usize) -> usize {
        self.all[at].in_flight()
    }

    fn writes(&self, at: usize) -> u64 {
        self.all[at].writes
    }

    fn writes_on(&self, at: usize, key: Key) -> bool {
        self.all[at].writes_on(key)
    }

    fn start(
        &mut self,
        at: usize,
        job: Job,
        intended_ns: u64,
        generator: &mut Generator,
        turn: Turn<'_>,
    ) {
        let connection = &mut self.all[at];
        let (mut key, mut value) = connection.spare();
        key.extend_from_slice(generator.name(job.key));
        if job.operation != Operation::Read {
            value.extend_from_slice(generator.value(at as u32, job.number));
        }
        connection.start(job, (key, value), intended_ns, &mut self.nodes, turn);
    }

    fn flush(&mut self, at: usize, turn: Turn<'_>) {
        self.all[at].flush(&mut self.nodes, turn);
    }

    fn on_event(&mut self, token: usize, closing: bool, buffer: &mut [u8], turn: Turn<'_>) {
        if let Some(connection) = self.all.get_mut(token) {
            connection.on_event(closing, buffer, &mut self.nodes, turn);
        }
    }

    fn tick_nodes(&mut self, turn: Turn<'_>) {
        let Some(finder) = &self.finder else { return };
        let suspicion = std::mem::take(&mut self.nodes.suspicion);
        if suspicion && self.suspected_ns + SUSPECT_NS <= turn.now_ns {
            self.suspected_ns = turn.now_ns;
            finder.suspect();
        }
        (self.nodes.generation, self.nodes.leader) = finder.announced();
    }

    fn tick(&mut self, at: usize, turn: Turn<'_>) {
        self.all[at].tick(&mut self.nodes, turn);
    }

    fn ended(&mut self, at: usize) -> &mut Vec<Ended> {
        &mut self.all[at].ended
    }

    fn trouble(&mut self) -> String {
        self.nodes.last_error.take().map_or_else(String::new, |why| format!(" ({why})"))
    }
}
