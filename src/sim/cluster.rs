//! The world: time, what can be done to a cluster, and what happens next.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::paxos::{
    Command, CommandId, Configuration, Configurations, LeaseConfig, Member, Message, NodeId,
    Optimisations, ReadWay, Roles, SessionId, Slot,
};
use crate::store::Store;

use super::checker::Checker;
use super::coverage::Coverage;
use super::host::{Host, Input};
use super::network::Network;
use super::oracle::Oracle;
use super::plan::{initial, members};
use super::trace::Trace;

/// What a cluster is made of. Times are microseconds; pairs are from and to, and drawn between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The roles of nodes 1, 2 and so on.
    pub roles: Vec<Roles>,
    pub phase1: Option<usize>,
    pub phase2: Option<usize>,
    pub election_timeout_us: u64,
    pub request_timeout_us: u64,
    pub window_slots: usize,
    #[serde(default)]
    pub optimisations: Optimisations,
    /// How many slots further on a configuration governs; the window at least.
    #[serde(default = "alpha_slots_default")]
    pub alpha_slots: usize,
    /// Nodes beyond those of `roles` that may be added.
    #[serde(default)]
    pub spares: usize,
    /// Delay of a message.
    pub delay_us: (u64, u64),
    /// Duration of a sync.
    pub sync_us: (u64, u64),
    /// After how long each side closes a connection that is cut.
    pub stall_us: (u64, u64),
    /// How long a new connection takes.
    pub dial_us: (u64, u64),
    /// Values in one answer to a `LearnRequest`.
    pub learn_values_max: usize,
    /// Slots after which a replica takes a snapshot anew; 0 for never.
    #[serde(default)]
    pub snapshot_slots: u64,
    /// Slots up to its last one that the log is kept from.
    #[serde(default)]
    pub keep_slots: u64,
    /// Bytes of a snapshot that are asked for at once.
    #[serde(default)]
    pub snapshot_chunk_size: usize,
    /// Slots from one digest that replicas compare to the next; 0 for none.
    #[serde(default)]
    pub checkpoint_slots: u64,
    /// Bytes of a segment of the log.
    pub segment_size: u64,
    /// Length of leases; 0 for none. They allow for clocks that drift as far as they may.
    #[serde(default)]
    pub lease_us: u64,
    /// How much too fast or slow a clock may run, in parts per million.
    pub drift_ppm_max: i64,
    /// Clocks start anywhere, and each node's first heartbeat round ends when it will. Otherwise
    /// `first_leader` ends its first one first, then the others by their ids.
    pub random_start: bool,
    pub first_leader: u16,
    /// Sessions that are open from the beginning, from 1.
    pub sessions_open: u64,
}

fn alpha_slots_default() -> usize {
    limits::ALPHA_SLOTS
}

impl Settings {
    pub fn lease(&self) -> LeaseConfig {
        let clock_error_permille = (self.drift_ppm_max as u64).div_ceil(1000);
        LeaseConfig { lease_us: self.lease_us, clock_error_permille }
    }
}

/// What a client hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A session was opened for the registration with this nonce.
    Registered {
        client: u64,
        nonce: u64,
        session: SessionId,
    },
    /// The command was executed, in `slot`, with this encoded `store::Reply`.
    Done {
        client: u64,
        id: CommandId,
        node: NodeId,
        slot: Slot,
        reply: Vec<u8>,
    },
    /// The session has expired, or the command's number is out of its window: it may have happened.
    Refused {
        client: u64,
        id: CommandId,
    },
    /// Not decided in time.
    Expired {
        client: u64,
        id: CommandId,
        definite: bool,
    },
    /// A read may be answered now, from the store of this node.
    Read {
        read: u64,
        node: NodeId,
        end: Slot,
    },
    ReadExpired {
        read: u64,
    },
    /// The process died: whoever waited there hears nothing more.
    Died {
        node: NodeId,
    },
}

pub(super) enum Happening {
    /// Something may be due on a connection, in the direction from this side.
    Arrival {
        link: usize,
        from: usize,
    },
    Dial {
        link: usize,
    },
    /// A side gives up a cut connection.
    GiveUp {
        link: usize,
        epoch: u64,
        side: usize,
    },
    Tick {
        node: NodeId,
        at_us: u64,
    },
    /// The sync in flight takes long: it stalls if it is still this one.
    Stalled {
        node: NodeId,
        sync: u64,
    },
    /// The sync in flight ends.
    Synced {
        node: NodeId,
        sync: u64,
    },
    /// A snapshot is written, or one from a peer is installed.
    SnapshotDone {
        node: NodeId,
        number: u64,
    },
    /// A quarantined replica has asked another for a snapshot.
    Fetched {
        node: NodeId,
        life: u64,
        from: NodeId,
        slot: Slot,
    },
    /// A process that ended at a step of its own begins again.
    Restart {
        node: NodeId,
    },
    /// The caller's.
    Alarm(u64),
}

/// Ordered by time, then by when it was scheduled: the one way in which a run is told apart from any
/// other is its seed.
struct Scheduled {
    at_us: u64,
    number: u64,
    happening: Happening,
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.number == other.number
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    /// The greatest comes out of the heap first.
    fn cmp(&self, other: &Scheduled) -> Ordering {
        (other.at_us, other.number).cmp(&(self.at_us, self.number))
    }
}

pub struct Cluster {
    pub settings: Settings,
    /// What the cluster begins with.
    pub configuration: Configuration,
    /// Whether processes may end at steps of their own that are hard to hit otherwise.
    pub ends_at_steps: bool,
    pub now_us: u64,
    pub(super) dice: StdRng,
    pub hosts: BTreeMap<NodeId, Host>,
    pub(super) network: Network,
    scheduled: BinaryHeap<Scheduled>,
    scheduled_len: u64,
    pub(super) checker: Checker,
    pub(super) coverage: Coverage,
    pub replies: Vec<Reply>,
    pub trace: Trace,
}

impl Cluster {
    /// All nodes down, nothing connected yet.
    ///
    /// # Panics
    /// If the settings do not make a cluster.
    pub fn new(settings: Settings, seed: u64) -> Cluster {
        let mut members = members(&settings.roles);
        for spare in 1..=settings.spares {
            let node = NodeId((settings.roles.len() + spare) as u16);
            let roles = Roles { acceptor: false, leader: false, replica: true };
            members.push(Member { node, roles });
        }
        let nodes: Vec<NodeId> = members.iter().map(|member| member.node).collect();
        let configuration = initial(&settings).expect("the settings are valid");
        let hosts = members.iter().map(|member| (member.node, Host::new(*member, &settings)));
        Cluster {
            ends_at_steps: false,
            now_us: 0,
            dice: StdRng::seed_from_u64(seed),
            hosts: hosts.collect(),
            network: Network::new(&nodes, settings.delay_us),
            scheduled: BinaryHeap::new(),
            scheduled_len: 0,
            checker: Checker::new(configuration.clone(), settings.alpha_slots),
            coverage: Coverage::default(),
            replies: Vec::new(),
            trace: Trace::default(),
            configuration,
            settings,
        }
    }

    /// A new cluster of all that these settings name, restored from a backup of another one, as `loggos restore`
    /// does at each node. `oracle` knows all that is in the backup, and nothing else.
    pub fn restored(settings: Settings, seed: u64, store: &Store, oracle: Oracle) -> Cluster {
        let settings = Settings { spares: 0, ..settings };
        let mut cluster = Cluster::new(settings, seed);
        let initial = cluster.configuration.clone();
        let alpha = cluster.settings.alpha_slots;
        let epochs = Configurations::restored(initial.clone(), alpha, store.applied());
        for host in cluster.hosts.values_mut() {
            host.begin_with(store, epochs.to_bytes().into());
        }
        cluster.checker = Checker::restored(initial, alpha, oracle);
        cluster
    }

    pub fn start_all(&mut self) {
        for node in self.nodes() {
            if !self.is_running(node) && self.hosts[&node].is_used {
                self.start(node);
            }
        }
    }

    pub fn nodes(&self) -> Vec<NodeId> {
        self.hosts.keys().copied().collect()
    }

    /// Members that serve clients.
    pub fn replicas(&self) -> Vec<NodeId> {
        let members = self.latest().membership().members().iter();
        members.filter(|member| member.roles.replica).map(|member| member.node).collect()
    }

    /// The roles of a node in the newest configuration; none if it is no member of it.
    pub fn roles(&self, node: NodeId) -> Roles {
        let none = Roles { acceptor: false, leader: false, replica: false };
        self.latest().roles(node).unwrap_or(none)
    }

    pub(super) fn host(&mut self, id: NodeId) -> &mut Host {
        self.hosts.get_mut(&id).expect("a member")
    }

    pub fn is_running(&self, node: NodeId) -> bool {
        self.hosts[&node].is_running()
    }

    /// Whether it takes what clients ask: not if it knows that it left, or that its state is
    /// wrong.
    fn serves(&self, node: NodeId) -> bool {
        let host = &self.hosts[&node];
        !host.is_quarantined() && host.node.as_ref().is_some_and(|node| !node.is_removed())
    }

    /// The node that leads and says so, if it is one.
    pub fn leader(&self) -> Option<NodeId> {
        let leading = |host: &Host| host.node.as_ref().is_some_and(|node| node.view().leading);
        let mut leaders = self.hosts.iter().filter(|(_, host)| leading(host));
        let leader = *leaders.next()?.0;
        leaders.next().is_none().then_some(leader)
    }

    /// How many leaders have finished phase 1 so far.
    pub fn elections(&self) -> u64 {
        self.coverage.elections
    }

    /// A number of `from..=to`.
    pub fn draw(&mut self, (from, to): (u64, u64)) -> u64 {
        if from == to { from } else { self.dice.random_range(from..=to) }
    }

    /// The keys that were written in the slots below `end`, in order.
    pub fn words(&self, end: Slot) -> Vec<&str> {
        self.checker.oracle.words(end).collect()
    }

    // What clients do.

    /// A client's command; false if nobody is there to take it.
    pub fn command(&mut self, id: NodeId, command: Command, client: u64) -> bool {
        if !self.serves(id) {
            return false;
        }
        self.input(id, Input::Command(command, client));
        true
    }

    /// A client's read; false if nobody is there to take it.
    pub fn read(&mut self, id: NodeId, read: u64, way: ReadWay) -> bool {
        if !self.serves(id) {
            return false;
        }
        let floor = self.checker.seen_end();
        self.host(id).expect_read(read, floor);
        self.input(id, Input::Read(read, way));
        true
    }

    pub fn hand_over(&mut self, id: NodeId) {
        if self.is_running(id) {
            self.note(|| format!("{id} hands over"));
            self.input(id, Input::HandOver);
        }
    }

    /// Somebody tells a node to take over from the leader that it follows.
    pub fn take_over(&mut self, id: NodeId) {
        let Some(node) = &self.hosts[&id].node else { return };
        let ballot = node.view().ballot;
        self.note(|| format!("{id} is told to take over from {ballot}"));
        self.input(id, Input::Message(ballot.node, Message::TakeOver { ballot }));
    }

    // Time.

    /// Has `step` return `token` then.
    pub fn alarm(&mut self, in_us: u64, token: u64) {
        self.schedule(in_us, Happening::Alarm(token));
    }

    pub(super) fn schedule(&mut self, in_us: u64, happening: Happening) {
        self.scheduled_len += 1;
        let (at_us, number) = (self.now_us + in_us, self.scheduled_len);
        self.scheduled.push(Scheduled { at_us, number, happening });
    }

    /// How many things were to happen so far.
    pub fn happenings(&self) -> u64 {
        self.scheduled_len
    }

    /// Lets the next thing happen, if it does not lie behind `until_us`; otherwise time goes there.
    /// Returns the token of an alarm that is due.
    pub fn step(&mut self, until_us: u64) -> Option<u64> {
        let next_us = self.scheduled.peek().map_or(u64::MAX, |next| next.at_us);
        if until_us < next_us {
            self.now_us = until_us;
            return None;
        }
        let next = self.scheduled.pop().expect("just seen");
        assert!(self.now_us <= next.at_us);
        self.now_us = next.at_us;
        match next.happening {
            Happening::Arrival { link, from } => self.on_arrival(link, from),
            Happening::Dial { link } => self.on_dial(link),
            Happening::GiveUp { link, epoch, side } => self.on_give_up(link, epoch, side),
            Happening::Tick { node, at_us } => self.on_tick(node, at_us),
            Happening::Stalled { node, sync } => self.on_stalled(node, sync),
            Happening::Synced { node, sync } => self.on_synced(node, sync),
            Happening::Restart { node } => {
                if !self.is_running(node) {
                    self.start(node);
                }
            }
            Happening::Fetched { node, life, from, slot } => {
                self.on_fetched(node, life, from, slot);
            }
            Happening::SnapshotDone { node, number } => self.on_snapshot_done(node, number),
            Happening::Alarm(token) => return Some(token),
        }
        None
    }

    /// Lets time pass; alarms are for callers that step by themselves.
    pub fn run(&mut self, for_us: u64) {
        let until_us = self.now_us + for_us;
        while self.now_us < until_us {
            self.step(until_us);
        }
    }

    pub fn note(&mut self, line: impl FnOnce() -> String) {
        self.trace.note(self.now_us, line);
    }
}
