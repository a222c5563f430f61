//! Damaged logs in a cluster: real cores over real files, with time and network of a few lines.
//!
//! A log is written, its files are spoilt at every record, and the cluster starts again. The damaged node
//! must not tell a scout less than it once accepted, and must end level with the others.
#![allow(clippy::unwrap_used)] // The helpers of tests are tests, too.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use loggos::paxos::{
    Addresses, Ballot, Batch, Command, CommandId, Configuration, Configurations, Effects,
    LeaseConfig, Member, Message, Node, NodeConfig, NodeId, Now, Optimisations, Roles, SessionId,
    Slot, Value,
};
use loggos::wal::{Identity, Options, Verdict, Wal, inspect, record};
use loggos::wire::ClusterId;

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
const TIMEOUT_US: u64 = 100_000;
const ALPHA_SLOTS: usize = 256;

fn identity(node: NodeId) -> Identity {
    Identity { cluster: ClusterId(7), node }
}

fn open(dir: &Path, node: NodeId) -> (Wal, loggos::paxos::Recovered) {
    let options = Options { segment_size: 8192, sync: true };
    Wal::open(dir, identity(node), options, Box::new(|| ()), &mut |_, _| ()).unwrap()
}

struct Host {
    node: Node,
    wal: Wal,
    /// What was handed out, from slot 1 on.
    applied: Vec<Value>,
}

struct Cluster {
    dirs: BTreeMap<NodeId, PathBuf>,
    hosts: BTreeMap<NodeId, Host>,
    queue: VecDeque<(NodeId, NodeId, Message)>,
    now_us: u64,
    /// What each node had accepted last, or knew to be chosen, before anything was spoilt.
    accepted: BTreeMap<NodeId, BTreeMap<Slot, (Ballot, Value)>>,
}

impl Cluster {
    fn new(root: &Path) -> Cluster {
        Cluster {
            dirs: NODES.map(|node| (node, root.join(format!("n{}", node.0)))).into(),
            hosts: BTreeMap::new(),
            queue: VecDeque::new(),
            now_us: 0,
            accepted: BTreeMap::new(),
        }
    }

    fn now(&self) -> Now {
        Now { mono_us: self.now_us, wall_us: self.now_us }
    }

    fn start(&mut self, id: NodeId) {
        let (wal, recovered) = open(&self.dirs[&id], id);
        let read = |slot| Value(wal.read(Slot(slot)).unwrap().1.into());
        let applied = (1..recovered.first_unchosen.0).map(read).collect();
        let member = |node: NodeId| {
            let at = |port| SocketAddr::from(([10, 0, 0, node.0 as u8], port));
            (Member { node, roles: Roles::ALL }, Addresses { peer: at(7400), client: at(7401) })
        };
        let initial = Configuration::initial(NODES.map(member).into(), None, None).unwrap();
        let mut configurations = Configurations::new(initial, ALPHA_SLOTS);
        configurations.on_known(recovered.first_unchosen);
        let config = NodeConfig {
            node: id,
            roles: Roles::ALL,
            configurations,
            election_timeout_us: TIMEOUT_US,
            request_timeout_us: 1 << 40,
            window_slots: 16,
            snapshot_chunk_size: 1024,
            lease: LeaseConfig::default(),
            optimisations: Optimisations::default(),
        };
        let mut fx = Effects::new(id);
        let seed = u64::from(id.0) * 7919;
        let node = Node::new(config, &recovered, seed, self.now(), &mut fx);
        self.hosts.insert(id, Host { node, wal, applied });
        self.carry_out(id, fx);
        for other in NODES.into_iter().filter(|other| *other != id) {
            if self.hosts.contains_key(&other) {
                self.turn(id, |node, now, fx| node.on_peer_up(now, other, fx));
                self.turn(other, |node, now, fx| node.on_peer_up(now, id, fx));
            }
        }
    }

    fn turn(&mut self, id: NodeId, input: impl FnOnce(&mut Node, Now, &mut Effects)) {
        let now = self.now();
        let Some(host) = self.hosts.get_mut(&id) else { return };
        let mut fx = Effects::new(id);
        input(&mut host.node, now, &mut fx);
        host.node.end_turn(now, &mut fx);
        self.carry_out(id, fx);
    }

    /// In the order of `Effects`; each turn waits for its sync.
    fn carry_out(&mut self, id: NodeId, fx: Effects) {
        let host = self.hosts.get_mut(&id).unwrap();
        for (to, message) in fx.sends {
            self.queue.push_back((id, to, message));
        }
        if !fx.records.is_empty() {
            for record in &fx.records {
                host.wal.append(record).unwrap();
            }
            host.wal.sync_now().unwrap();
        }
        for (to, message) in fx.sends_after_sync {
            self.queue.push_back((id, to, message));
        }
        for chosen in fx.chosen {
            assert_eq!(chosen.slot.0 as usize, host.applied.len() + 1);
            for command in Batch::decode(&chosen.value.0).unwrap().commands() {
                host.node.finish(command.id);
            }
            host.applied.push(chosen.value);
        }
        for reply in fx.learn_replies {
            let read = |slot| host.wal.read(Slot(slot)).unwrap();
            let values = (reply.first_slot.0..reply.first_unchosen.0).map(read);
            let values = values.map(|(ballot, value)| (ballot, Value(value.into()))).collect();
            let (first_slot, first_unchosen) = (reply.first_slot, reply.first_unchosen);
            let message = Message::Chosen { first_slot, values, first_unchosen };
            self.queue.push_back((id, reply.to, message));
        }
    }

    /// Delivers all that is on its way, and lets a millisecond pass.
    fn step(&mut self) {
        while let Some((from, to, message)) = self.queue.pop_front() {
            self.check_answer(from, &message);
            self.turn(to, |node, now, fx| node.on_message(now, from, message, fx));
        }
        self.now_us += 1000;
        for id in NODES {
            let due = self.hosts.get(&id).map(|host| host.node.next_deadline_us());
            if due.is_some_and(|due| due <= self.now_us) {
                self.turn(id, |node, now, fx| node.on_tick(now, fx));
            }
        }
    }

    /// An acceptor tells a scout of all that it once accepted, or says that it cannot.
    fn check_answer(&self, from: NodeId, message: &Message) {
        let Message::P1b(p1b) = message else { return };
        let Some(accepted) = self.accepted.get(&from).filter(|_| p1b.promised == p1b.ballot) else {
            return;
        };
        let first = p1b.first_slot.max(p1b.first_unchosen);
        let end = if p1b.no_more_accepted { Slot(u64::MAX) } else { p1b.end };
        for (slot, (ballot, value)) in accepted.range(first..end.max(first)) {
            let told = p1b.accepted.iter().find(|pvalue| pvalue.slot == *slot);
            let is_told = told.is_some_and(|it| *ballot < it.ballot || it.value == *value);
            let is_unsure = p1b.unsure.iter().any(|run| run.contains(slot));
            assert!(is_told || is_unsure, "{from} tells a scout {told:?} of slot {slot}");
        }
    }

    /// Steps until it is so, for at most this many election timeouts.
    fn wait(&mut self, timeouts: u64, is_so: impl Fn(&Cluster) -> bool) -> bool {
        let end_us = self.now_us + timeouts * TIMEOUT_US;
        while self.now_us < end_us {
            if is_so(self) {
                return true;
            }
            self.step();
        }
        is_so(self)
    }

    fn leader(&self) -> Option<NodeId> {
        self.hosts.iter().find(|(_, host)| host.node.view().leading).map(|(id, _)| *id)
    }

    fn command(&mut self, at: NodeId, seq: u64) {
        let id = CommandId { session: SessionId(1), seq };
        let payload = vec![seq as u8; 400 + (seq as usize * 97) % 900].into();
        let command = Command { id, acknowledged: 1, payload };
        self.turn(at, |node, now, _| node.on_command(now, command, seq));
    }

    fn is_level(&self, end: usize) -> bool {
        let mut all = self.hosts.values().map(|host| host.applied.len());
        all.all(|len| end <= len && len == self.hosts[&NodeId(1)].applied.len())
    }

    fn stop_all(&mut self) {
        self.hosts.clear();
        self.queue.clear();
    }
}

/// A cluster that chose some values under two leaders and was stopped while more were on their way.
fn played(root: &Path) -> (Cluster, Vec<Value>) {
    let mut cluster = Cluster::new(root);
    NODES.into_iter().for_each(|node| cluster.start(node));
    assert!(cluster.wait(20, |it| it.leader().is_some()));
    for seq in 1..=12 {
        cluster.command(NODES[seq as usize % 3], seq);
        cluster.step();
    }
    assert!(cluster.wait(20, |it| it.is_level(12)));
    let leader = cluster.leader().unwrap();
    cluster.turn(leader, |node, _, fx| node.hand_over(fx));
    assert!(cluster.wait(20, |it| it.leader().is_some_and(|other| other != leader)));
    for seq in 13..=24 {
        cluster.command(NODES[seq as usize % 3], seq);
        cluster.step();
    }
    assert!(cluster.wait(20, |it| it.is_level(24)));
    let chosen = cluster.hosts[&NodeId(1)].applied.clone();
    cluster.stop_all();
    for node in NODES {
        let (wal, recovered) = open(&cluster.dirs[&node], node);
        let slots = (1..wal.held().1.0).map(Slot);
        let known = slots.filter_map(|slot| {
            let (ballot, value) = wal.read(slot)?;
            let ballot = if slot < recovered.first_unchosen { Ballot::NONE } else { ballot };
            Some((slot, (ballot, Value(value.into()))))
        });
        let known = known.collect();
        cluster.accepted.insert(node, known);
    }
    (cluster, chosen)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Each record of a log: number of the segment, offset, size, type and slot.
fn places(dir: &Path) -> Vec<(u64, usize, usize, String, u64)> {
    let mut out = Vec::new();
    inspect(dir, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    let lines = text.lines().skip_while(|line| !line.contains("sequence")).skip(1);
    let fields = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let records = fields.filter(|fields| fields.len() == 7);
    let number = |field: &str| field.parse::<u64>().unwrap();
    records
        .map(|it| {
            let size = record::HEADER_SIZE + number(it[6]) as usize;
            (number(it[1]), number(it[2]) as usize, size, it[3].to_owned(), number(it[5]))
        })
        .collect()
}

fn segment(dir: &Path, number: u64) -> PathBuf {
    dir.join("wal").join(format!("{number:016}.seg"))
}

fn spoil(dir: &Path, number: u64, deed: impl FnOnce(&mut [u8])) {
    let path = segment(dir, number);
    let mut bytes = fs::read(&path).unwrap();
    deed(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// The whole cluster goes on after that: nothing chosen is lost, all are level, nothing is in doubt; and
/// the node that was damaged can lead.
fn check_repaired(cluster: &mut Cluster, chosen: &[Value], damaged: NodeId, what: &str) {
    NODES.into_iter().for_each(|node| cluster.start(node));
    cluster.command(damaged, 100);
    let is_well = |it: &Cluster| {
        let is_sure = it.hosts.values().all(|host| host.node.view().unsure == 0);
        is_sure && it.is_level(chosen.len() + 1) && it.leader().is_some()
    };
    assert!(cluster.wait(40, is_well), "{what}: not repaired");
    for host in cluster.hosts.values() {
        assert!(host.applied.starts_with(chosen), "{what}: what was chosen is lost");
    }
    cluster.stop_all();
}

/// What is done to the data directories.
type Deed = Box<dyn Fn(&BTreeMap<NodeId, PathBuf>)>;

/// One node's log is spoilt at every record boundary and inside every record, in several ways, and each of
/// its segments is lost; one time also together with damage elsewhere on another node.
#[test]
fn every_damage_is_repaired_from_peers() {
    let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (mut cluster, chosen) = played(&root.path().join("good"));
    let good = cluster.dirs.clone();
    let damaged = NodeId(2);
    let all = places(&good[&damaged]);
    let segments = all.last().unwrap().0;
    assert!(20 < all.len() && 3 <= segments, "{} records in {segments} segments", all.len());
    let others = places(&good[&NodeId(3)]);
    let mut cases: Vec<(String, Deed)> = Vec::new();
    for (i, (number, offset, size, ..)) in all[..all.len() - 1].iter().cloned().enumerate() {
        let at = offset..offset + size;
        let zeroed = at.clone();
        cases.push((
            format!("record {} zeroed", i + 1),
            Box::new(move |dirs| spoil(&dirs[&damaged], number, |b| b[zeroed.clone()].fill(0))),
        ));
        let middle = offset + size / 2;
        cases.push((
            format!("record {} flipped", i + 1),
            Box::new(move |dirs| spoil(&dirs[&damaged], number, |b| b[middle] ^= 4)),
        ));
        let sector = offset / 512 * 512;
        if sector != all[all.len() - 1].1 / 512 * 512 {
            cases.push((
                format!("the sector where record {} begins", i + 1),
                Box::new(move |dirs| {
                    spoil(&dirs[&damaged], number, |b| b[sector..sector + 512].fill(0));
                }),
            ));
        }
        // Elsewhere on another node, in records that hold no value that is damaged here.
        let other = others[..others.len() - 1].iter().find(|it| it.4 == 1 && it.3 == "accepted");
        if let Some((their_number, their_offset, ..)) = other.filter(|_| 1 < all[i].4).cloned() {
            cases.push((
                format!("record {} flipped, and slot 1 of another node", i + 1),
                Box::new(move |dirs| {
                    spoil(&dirs[&damaged], number, |b| b[middle] ^= 4);
                    spoil(&dirs[&NodeId(3)], their_number, |b| b[their_offset + 20] ^= 4);
                }),
            ));
        }
    }
    for number in 1..segments {
        cases.push((
            format!("segment {number} gone"),
            Box::new(move |dirs| fs::remove_file(segment(&dirs[&damaged], number)).unwrap()),
        ));
    }
    let mut unproven: Vec<String> = Vec::new();
    for (i, (what, deed)) in cases.iter().enumerate() {
        for (node, dir) in &good {
            let to = root.path().join(format!("case{i}")).join(format!("n{}", node.0));
            copy(dir, &to);
            cluster.dirs.insert(*node, to);
        }
        deed(&cluster.dirs);
        let verdict = inspect(&cluster.dirs[&damaged], &mut Vec::new()).unwrap();
        if !matches!(verdict, Verdict::Damaged { .. }) {
            // Nothing was appended in a later turn that could prove it.
            unproven.push(what.clone());
            continue;
        }
        check_repaired(&mut cluster, &chosen, damaged, what);
        fs::remove_dir_all(root.path().join(format!("case{i}"))).unwrap();
    }
    println!("{} cases in {} records; unproven: {unproven:?}", cases.len(), all.len());
    assert!(unproven.len() <= 4, "only the last turn's records: {unproven:?}");
}

/// Two of three nodes lost the same slot, and the third, which has it, is away. "Nothing that I know of" from
/// both would be a quorum for a no-op in the place of what was chosen. They must wait, and go on with
/// what was chosen when the third is back.
#[test]
fn damage_to_a_majority_in_the_same_place_waits() {
    let root = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let (mut cluster, chosen) = played(&root.path().join("good"));
    let good = cluster.dirs.clone();
    for slot in [1, 9, 20] {
        for (node, dir) in &good {
            let to = root.path().join(format!("slot{slot}")).join(format!("n{}", node.0));
            copy(dir, &to);
            cluster.dirs.insert(*node, to);
        }
        for node in [NodeId(1), NodeId(2)] {
            for (number, offset, _, kind, of) in places(&good[&node]) {
                if of == slot && (kind == "accepted" || kind == "chosen") {
                    spoil(&cluster.dirs[&node], number, |bytes| bytes[offset + 30] ^= 1);
                }
            }
        }
        cluster.start(NodeId(1));
        cluster.start(NodeId(2));
        cluster.command(NodeId(1), 100);
        assert!(!cluster.wait(30, |it| it.leader().is_some()), "slot {slot}: somebody leads");
        for host in cluster.hosts.values() {
            let view = host.node.view();
            assert!(0 < view.unsure && host.applied.len() < slot as usize, "slot {slot}: {view:?}");
        }
        cluster.start(NodeId(3));
        let is_well = |it: &Cluster| it.is_level(chosen.len() + 1) && it.leader().is_some();
        assert!(cluster.wait(40, is_well), "slot {slot}: not repaired");
        for host in cluster.hosts.values() {
            assert!(host.applied.starts_with(&chosen) && host.node.view().unsure == 0);
        }
        cluster.stop_all();
    }
}
