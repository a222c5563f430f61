//! Partial connectivity: how long a cluster is without a leader that serves, in election timeouts, whatever
//! links are cut, at whatever moment of the heartbeat rounds, whoever led before.
//!
//! The scenarios are those of the Omni-Paxos paper (EuroSys 2023, section 2), of the ChiselStore report,
//! and what both leave out: every cut of one and of two links in one direction or in both, links that
//! flap, cuts that move, links that lose packets. `cargo test --profile sim --features sim --test
//! connectivity -- --nocapture` prints the table that stands in `docs/testing.md`; with `ONLY=chain` in the
//! environment, the rows with that in their names.
//!
//! Clients ask at the moment of the cut, and then four times an election timeout, at all nodes that reach a
//! quorum. *Down* is the longest time from a question to its answer.

#[cfg(feature = "sql")]
#[path = "connectivity/sql.rs"]
mod sql;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use loggos::paxos::{NodeId, Optimisations, Roles};
use loggos::sim::{self, Cluster, Reply, Settings};
use loggos::store;
use loggos::wire::kv;

const TIMEOUT_US: u64 = 100_000;
/// What a scenario may cost, and a twentieth for the messages and syncs of the election itself.
const DOWN_MAX: f64 = 4.05;
/// Between the questions of the clients.
const ASK_US: u64 = TIMEOUT_US / 4;
/// Election timeouts for which each trial is watched.
const WATCHED: u64 = 12;
/// Sessions that clients find open: each question is the first of its own.
const SESSIONS: u64 = 500;

/// Packets from the first node to the second are lost.
type Cut = (u16, u16);

#[derive(Clone, Debug)]
enum Script {
    /// The links are cut, and stay so.
    Cuts(Vec<Cut>),
    /// A node misses what is decided for some time; then the links are cut, and only it reaches a quorum.
    Outdated(u16, Vec<Cut>),
    /// The links are cut and healed in turns of so many microseconds.
    Flap(Vec<Cut>, u64),
    /// Other links are cut every ten election timeouts; one node reaches a quorum each time.
    Moving,
    /// Of a hundred packets so many are lost, on each link.
    Lossy(u32),
}

struct Trial {
    nodes: u16,
    optimisations: Optimisations,
    leader: u16,
    seed: u64,
    script: Script,
}

impl Trial {
    fn new(nodes: u16, leader: u16, seed: u64, script: Script) -> Trial {
        Trial { nodes, optimisations: Optimisations::default(), leader, seed, script }
    }
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    /// The longest time from a question to its answer, in election timeouts.
    down: f64,
    /// Leaders elected after the cut, and those of them after `DOWN_MAX`.
    changes: u64,
    late_changes: u64,
}

/// One line of the table.
struct Row {
    name: String,
    nodes: u16,
    trials: Vec<Trial>,
    /// Whether the old leader reaches a quorum in all trials, so that no other may come.
    leader_stays: bool,
    /// Whether leaders may come and go for as long as the links do.
    restless: bool,
}

fn settings(trial: &Trial) -> Settings {
    Settings {
        roles: vec![Roles::ALL; usize::from(trial.nodes)],
        phase1: None,
        phase2: None,
        election_timeout_us: TIMEOUT_US,
        request_timeout_us: 20 * TIMEOUT_US,
        window_slots: 256,
        optimisations: trial.optimisations,
        alpha_slots: 256,
        delay_us: (TIMEOUT_US / 200, TIMEOUT_US / 100),
        sync_us: (TIMEOUT_US / 200, TIMEOUT_US / 100),
        stall_us: (2 * TIMEOUT_US, 4 * TIMEOUT_US),
        dial_us: (TIMEOUT_US / 100, TIMEOUT_US / 10),
        learn_values_max: 100,
        snapshot_slots: 0,
        keep_slots: 0,
        checkpoint_slots: 0,
        snapshot_chunk_size: 400,
        segment_size: 256 << 10,
        drift_ppm_max: 20_000,
        random_start: true,
        first_leader: 0,
        lease_us: 0,
        spares: 0,
        sessions_open: SESSIONS,
    }
}

/// A cluster and the clients that ask it.
struct Watch {
    cluster: Cluster,
    /// What clients ask, by the number of the question.
    question: fn(u64) -> Vec<u8>,
    /// Where clients ask.
    at: Vec<NodeId>,
    asked: u64,
    /// Questions without an answer: session and time.
    waiting: BTreeMap<u64, u64>,
    next_ask_us: u64,
    longest_us: u64,
    /// When leaders were elected.
    elections_us: Vec<u64>,
}

impl Watch {
    /// The cluster with `leader` in the lead, at some moment of the heartbeat rounds.
    fn new(trial: &Trial, question: fn(u64) -> Vec<u8>) -> Watch {
        let mut cluster = Cluster::new(settings(trial), trial.seed);
        for node in cluster.nodes() {
            cluster.start(node);
            let pause_us = cluster.draw((0, TIMEOUT_US));
            cluster.run(pause_us);
        }
        cluster.run(5 * TIMEOUT_US);
        let leader = NodeId(trial.leader);
        if cluster.leader() != Some(leader) {
            cluster.take_over(leader);
        }
        let pause_us = cluster.draw((0, TIMEOUT_US));
        cluster.run(4 * TIMEOUT_US + pause_us);
        assert_eq!(cluster.leader(), Some(leader));
        let (at, now_us) = (cluster.nodes(), cluster.now_us);
        Watch {
            cluster,
            question,
            at,
            asked: 0,
            waiting: BTreeMap::new(),
            next_ask_us: now_us,
            longest_us: 0,
            elections_us: Vec::new(),
        }
    }

    fn ask(&mut self, session: u64, at: NodeId) {
        let command = sim::command(session, 1, 1, &(self.question)(session));
        self.cluster.command(at, command, session);
    }

    /// Lets time pass.
    fn run(&mut self, for_us: u64) {
        let until_us = self.cluster.now_us + for_us;
        while self.cluster.now_us < until_us {
            if self.next_ask_us <= self.cluster.now_us {
                self.next_ask_us += ASK_US;
                self.asked += 1;
                self.waiting.insert(self.asked, self.cluster.now_us);
                for at in self.at.clone() {
                    self.ask(self.asked, at);
                }
            }
            let elections = self.cluster.elections();
            self.cluster.step(until_us.min(self.next_ask_us));
            if elections < self.cluster.elections() {
                self.elections_us.push(self.cluster.now_us);
            }
            for reply in std::mem::take(&mut self.cluster.replies) {
                match reply {
                    Reply::Done { client, .. } => {
                        if let Some(asked_us) = self.waiting.remove(&client) {
                            self.longest_us = self.longest_us.max(self.cluster.now_us - asked_us);
                        }
                    }
                    // Told that there is no leader, its client goes on.
                    Reply::Expired { client, .. } if self.waiting.contains_key(&client) => {
                        for at in self.at.clone() {
                            self.ask(client, at);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// The nodes that reach a quorum while these links are cut.
    fn connected(&self, cuts: &[Cut]) -> Vec<NodeId> {
        let nodes = self.cluster.nodes();
        let linked =
            |a: NodeId, b: NodeId| !cuts.contains(&(a.0, b.0)) && !cuts.contains(&(b.0, a.0));
        let reaches = |a: &NodeId| nodes.iter().filter(|b| linked(*a, **b)).count();
        let quorum = self.cluster.configuration.membership().connected();
        nodes.iter().copied().filter(|node| quorum <= reaches(node)).collect()
    }

    fn cut(&mut self, cuts: &[Cut]) {
        for (from, to) in cuts {
            self.cluster.cut(NodeId(*from), NodeId(*to));
        }
    }
}

/// A write of one and the same key.
fn put(_: u64) -> Vec<u8> {
    kv::encode_command(&store::Command::Put { key: b"k", value: b"v" })
}

fn measure(trial: &Trial) -> Measured {
    measured(trial, put).0
}

/// The cluster, too, as it is then.
fn measured(trial: &Trial, question: fn(u64) -> Vec<u8>) -> (Measured, Watch) {
    let mut watch = Watch::new(trial, question);
    let timeout = |n: u64| n * TIMEOUT_US;
    if let Script::Outdated(node, _) = trial.script {
        let others: Vec<NodeId> = watch.cluster.nodes();
        for other in others.into_iter().filter(|other| other.0 != node) {
            watch.cluster.cut_both(NodeId(node), other);
        }
        watch.at.retain(|at| at.0 != node);
        watch.run(timeout(5));
        watch.cluster.heal_all();
        watch.longest_us = 0;
    }
    watch.next_ask_us = watch.cluster.now_us;
    let elections = watch.elections_us.len();
    let start_us = watch.cluster.now_us;
    match &trial.script {
        Script::Cuts(cuts) | Script::Outdated(_, cuts) => {
            watch.at = watch.connected(cuts);
            assert!(!watch.at.is_empty());
            watch.cut(cuts);
            watch.run(timeout(WATCHED));
        }
        Script::Flap(cuts, half_us) => {
            watch.at = watch.connected(cuts);
            while watch.cluster.now_us < start_us + timeout(2 * WATCHED) {
                watch.cut(cuts);
                watch.run(*half_us);
                watch.cluster.heal_all();
                watch.run(*half_us);
            }
        }
        Script::Moving => {
            for _ in 0..8 {
                let cuts = draw_cuts(&mut watch.cluster);
                watch.cluster.heal_all();
                watch.at = watch.connected(&cuts);
                watch.cut(&cuts);
                // Those who asked where no answer can come now ask elsewhere.
                for session in watch.waiting.keys().copied().collect::<Vec<_>>() {
                    for at in watch.at.clone() {
                        watch.ask(session, at);
                    }
                }
                watch.run(timeout(10));
            }
        }
        Script::Lossy(percent) => {
            let nodes = watch.cluster.nodes();
            for (i, a) in nodes.iter().enumerate() {
                for b in &nodes[i + 1..] {
                    watch.cluster.lose(*a, *b, *percent);
                }
            }
            watch.run(timeout(4 * WATCHED));
        }
    }
    let end_us = watch.cluster.now_us;
    let oldest_us = watch.waiting.values().min().map_or(0, |asked_us| end_us - asked_us);
    let late_us = start_us + (DOWN_MAX * TIMEOUT_US as f64) as u64;
    let changes = &watch.elections_us[elections..];
    let measured = Measured {
        down: watch.longest_us.max(oldest_us) as f64 / TIMEOUT_US as f64,
        changes: changes.len() as u64,
        late_changes: changes.iter().filter(|at_us| late_us < **at_us).count() as u64,
    };
    (measured, watch)
}

/// All links of a random node are left, and of the others each with the toss of a coin.
fn draw_cuts(cluster: &mut Cluster) -> Vec<Cut> {
    let nodes = cluster.nodes();
    let hub = cluster.draw((0, nodes.len() as u64 - 1)) as usize;
    let mut cuts = Vec::new();
    for (i, a) in nodes.iter().enumerate() {
        for (j, b) in nodes.iter().enumerate().skip(i + 1) {
            if i != hub && j != hub && cluster.draw((0, 3)) != 0 {
                cuts.extend([(a.0, b.0), (b.0, a.0)]);
            }
        }
    }
    cuts
}

/// Only these links are left.
fn all_but(nodes: u16, left: &[Cut]) -> Vec<Cut> {
    let left: BTreeSet<Cut> = left.iter().flat_map(|&(a, b)| [(a, b), (b, a)]).collect();
    let pairs = (1..=nodes).flat_map(|a| (1..=nodes).map(move |b| (a, b)));
    pairs.filter(|(a, b)| a != b && !left.contains(&(*a, *b))).collect()
}

/// Each way to cut one link: in either direction, or in both.
fn single_cuts(nodes: u16) -> Vec<Vec<Cut>> {
    let mut ways = Vec::new();
    for a in 1..=nodes {
        for b in a + 1..=nodes {
            ways.extend([vec![(a, b)], vec![(b, a)], vec![(a, b), (b, a)]]);
        }
    }
    ways
}

/// Each way to cut two links.
fn double_cuts(nodes: u16) -> Vec<Vec<Cut>> {
    let single = single_cuts(nodes);
    let link = |cuts: &[Cut]| (cuts[0].0.min(cuts[0].1), cuts[0].0.max(cuts[0].1));
    let mut ways = Vec::new();
    for one in &single {
        for two in single.iter().filter(|two| link(one) < link(two)) {
            ways.push([one.as_slice(), two].concat());
        }
    }
    ways
}

/// How many other nodes the leader hears and is heard by.
fn reached(leader: u16, nodes: u16, cuts: &[Cut]) -> usize {
    let linked = |b: u16| !cuts.contains(&(leader, b)) && !cuts.contains(&(b, leader));
    (1..=nodes).filter(|b| *b != leader && linked(*b)).count()
}

fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |name: &str, nodes: u16, repeat: u64, scripts: Vec<(u16, Script)>| {
        let quorum = usize::from(nodes / 2);
        let stays = |(leader, script): &(u16, Script)| match script {
            Script::Cuts(cuts) | Script::Flap(cuts, _) => quorum <= reached(*leader, nodes, cuts),
            _ => false,
        };
        let leader_stays = scripts.iter().all(stays);
        let restless = matches!(scripts[0].1, Script::Moving | Script::Lossy(_) | Script::Flap(..));
        let trials = scripts.iter().flat_map(|(leader, script)| {
            (0..repeat).map(|seed| Trial::new(nodes, *leader, seed, script.clone()))
        });
        let trials = trials.collect();
        rows.push(Row { name: name.to_owned(), nodes, trials, leader_stays, restless });
    };
    let each_leader = |nodes: u16, script: Script| -> Vec<(u16, Script)> {
        (1..=nodes).map(|leader| (leader, script.clone())).collect()
    };
    let cuts = |nodes, left: &[Cut]| Script::Cuts(all_but(nodes, left));
    let star = [(3, 1), (3, 2), (3, 4), (3, 5)];

    for nodes in [3, 5] {
        add("all connected", nodes, 4, each_leader(nodes, Script::Cuts(vec![])));
    }
    add("chained", 3, 20, each_leader(3, cuts(3, &[(1, 2), (2, 3)])));
    add("quorum loss", 3, 20, each_leader(3, cuts(3, &[(2, 3)])));
    add("quorum loss, one hub", 5, 20, each_leader(5, cuts(5, &star)));
    let outdated = |nodes, hub, left: &[Cut]| Script::Outdated(hub, all_but(nodes, left));
    add("constrained", 3, 60, vec![(1, outdated(3, 3, &[(3, 2)])), (2, outdated(3, 3, &[(3, 1)]))]);
    let left = [(3, 2), (3, 4), (3, 5)];
    add("constrained", 5, 60, vec![(1, outdated(5, 3, &left))]);
    let hubs = [(1, 2), (1, 3), (3, 4), (4, 5)];
    add("two hubs", 5, 20, each_leader(5, cuts(5, &hubs)));
    let hubs = [(1, 2), (1, 3), (4, 3), (4, 5), (3, 2)];
    add("two hubs, more links", 5, 20, each_leader(5, cuts(5, &hubs)));
    add("a ring", 5, 20, each_leader(5, cuts(5, &[(1, 2), (1, 3), (4, 3), (4, 5), (2, 5)])));
    add("a majority", 5, 20, each_leader(5, cuts(5, &[(1, 2), (1, 3), (2, 3), (4, 5)])));
    add("a chain of five", 5, 20, each_leader(5, cuts(5, &[(1, 2), (2, 3), (3, 4), (4, 5)])));

    for nodes in [3u16, 5] {
        for (name, ways, repeat) in [
            ("one link cut", single_cuts(nodes), if nodes == 3 { 10 } else { 2 }),
            ("two links cut", double_cuts(nodes), if nodes == 3 { 4 } else { 1 }),
        ] {
            let all = ways.iter().flat_map(|cuts| {
                (1..=nodes).map(move |leader| (leader, Script::Cuts(cuts.clone())))
            });
            let stays = |(leader, script): &(u16, Script)| {
                let Script::Cuts(cuts) = script else { unreachable!() };
                usize::from(nodes / 2) <= reached(*leader, nodes, cuts)
            };
            let (stay, go): (Vec<_>, Vec<_>) = all.partition(stays);
            add(&format!("{name}, leader reaches a quorum"), nodes, repeat, stay);
            if !go.is_empty() {
                add(&format!("{name}, leader does not"), nodes, 2 * repeat, go);
            }
        }
        let mute: Vec<Cut> = (2..=nodes).map(|other| (1, other)).collect();
        let deaf: Vec<Cut> = (2..=nodes).map(|other| (other, 1)).collect();
        add("the leader is mute", nodes, 30, vec![(1, Script::Cuts(mute.clone()))]);
        add("the leader is deaf", nodes, 30, vec![(1, Script::Cuts(deaf.clone()))]);
        for half_us in [TIMEOUT_US / 2, TIMEOUT_US] {
            let rounds = half_us as f64 / TIMEOUT_US as f64;
            let flaps = |ways: Vec<Vec<Cut>>| -> Vec<(u16, Script)> {
                let all = ways.into_iter().flat_map(|cuts| {
                    (1..=nodes).map(move |leader| (leader, Script::Flap(cuts.clone(), half_us)))
                });
                all.collect()
            };
            add(&format!("one link flaps, {rounds} up"), nodes, 1, flaps(single_cuts(nodes)));
            let both = [mute.as_slice(), &deaf].concat();
            let links = vec![(1, Script::Flap(both, half_us))];
            add(&format!("the leader flaps, {rounds} up"), nodes, 30, links);
        }
        add("a cut that moves", nodes, 8, each_leader(nodes, Script::Moving));
        for percent in [1, 5] {
            add(
                &format!("{percent} % lost"),
                nodes,
                20,
                each_leader(nodes, Script::Lossy(percent)),
            );
        }
    }
    rows
}

/// All trials of a row, on all cores.
fn play<T: Send>(row: &Row, measure: impl Fn(&Trial) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let work = || {
            let mut measured = Vec::new();
            while let Some(trial) = row.trials.get(next.fetch_add(1, Ordering::Relaxed)) {
                measured.push(measure(trial));
            }
            measured
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("no rule is broken")).collect()
    })
}

#[test]
fn a_leader_serves_within_four_election_timeouts() {
    println!("| scenario | nodes | trials | median | 99 % | most | changes | late |");
    println!("| :--- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |");
    let mut wrong = Vec::new();
    let only = std::env::var("ONLY").unwrap_or_default();
    for row in rows().iter().filter(|row| row.name.contains(&only)) {
        let mut measured = play(row, measure);
        measured.sort_by(|a, b| a.down.total_cmp(&b.down));
        let len = measured.len();
        let (median, p99) = (measured[len / 2].down, measured[len * 99 / 100].down);
        let most = measured[len - 1].down;
        let changes: u64 = measured.iter().map(|it| it.changes).sum();
        let late: u64 = measured.iter().map(|it| it.late_changes).sum();
        let Row { name, nodes, .. } = row;
        println!(
            "| {name} | {nodes} | {len} | {median:.1} | {p99:.1} | {most:.2} | {changes} | {late} |"
        );
        if DOWN_MAX < most {
            wrong.push(format!("{name}, {nodes} nodes: down for {most:.2} election timeouts"));
        }
        if row.leader_stays && 0 < changes {
            wrong.push(format!("{name}, {nodes} nodes: {changes} leaders for no reason"));
        }
        if !row.restless && 0 < late {
            wrong.push(format!("{name}, {nodes} nodes: {late} leaders came late"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whatever one or two links are cut, and in chains: a client at a node from which there is a way to the
/// leader, over however many others, is served; any other is told within two election timeouts, and before it
/// has waited for its whole patience.
#[test]
fn clients_at_every_node_are_served_or_told() {
    let (mut served, mut told, mut relayed) = (0, 0, 0);
    let (mut served_last, mut told_last): (f64, f64) = (0.0, 0.0);
    for nodes in [3u16, 5] {
        let mut ways = double_cuts(nodes);
        ways.push(all_but(nodes, &[(1, 2), (2, 3)]));
        ways.push(all_but(nodes, &[(1, 2), (2, 3), (1, 3)]));
        if nodes == 5 {
            ways.push(all_but(nodes, &[(1, 2), (2, 3), (3, 4), (4, 5)]));
            ways.push(all_but(nodes, &[(1, 2), (1, 3), (2, 3), (3, 4), (4, 5)]));
        }
        for (i, cuts) in
            ways.iter().enumerate().filter(|(i, _)| nodes == 3 || i % 5 < 2 || 405 <= *i)
        {
            let leader = 1 + (i as u16 % nodes);
            let script = Script::Cuts(cuts.clone());
            let mut watch = Watch::new(&Trial::new(nodes, leader, i as u64, script), put);
            watch.next_ask_us = u64::MAX;
            watch.cut(cuts);
            watch.run(8 * TIMEOUT_US);
            let leader = watch.cluster.leader().map_or(0, |leader| leader.0);
            let linked =
                |a: u16, b: u16| a == b || !cuts.contains(&(a, b)) && !cuts.contains(&(b, a));
            // Those that the leader reaches, over however many others.
            let mut reached = BTreeSet::from([leader]);
            for _ in 0..nodes {
                let more = (1..=nodes).filter(|a| reached.iter().any(|b| linked(*a, *b)));
                reached.extend(more.collect::<Vec<_>>());
            }
            for node in 1..=nodes {
                let reaches = 0 < leader && reached.contains(&node);
                let asked_us = watch.cluster.now_us;
                watch.cluster.replies.clear();
                watch.ask(u64::from(node), NodeId(node));
                let done = loop {
                    watch.cluster.step(asked_us + 4 * TIMEOUT_US);
                    let client = u64::from(node);
                    let reply = watch.cluster.replies.iter().find_map(|reply| match reply {
                        Reply::Done { client: it, .. } if *it == client => Some(true),
                        Reply::Expired { client: it, .. } if *it == client => Some(false),
                        _ => None,
                    });
                    if let Some(done) = reply {
                        break done;
                    }
                    assert!(
                        watch.cluster.now_us < asked_us + 4 * TIMEOUT_US,
                        "{cuts:?} n{node} waits"
                    );
                };
                assert_eq!(
                    done, reaches,
                    "{nodes} nodes, {cuts:?}, n{leader} leads, asked at n{node}"
                );
                let took = (watch.cluster.now_us - asked_us) as f64 / TIMEOUT_US as f64;
                if done {
                    served += 1;
                    relayed += u64::from(!linked(node, leader));
                    served_last = served_last.max(took);
                } else {
                    told += 1;
                    told_last = told_last.max(took);
                }
            }
        }
    }
    println!(
        "{served} served ({relayed} of them over another node) within {served_last:.2} election timeouts, \
         {told} told within {told_last:.2}"
    );
    assert!(0 < relayed && 0 < told);
    assert!(told_last < 2.0 && served_last < 3.0);
}

/// What the election is for: where nodes go by silence alone, all of them compete for ever in this scenario, and the one
/// that reaches a quorum, which hears them, does not.
#[test]
fn without_a_quorum_connected_election_nobody_serves() {
    let star = all_but(5, &[(3, 1), (3, 2), (3, 4), (3, 5)]);
    let mut trial = Trial::new(5, 1, 1, Script::Cuts(star));
    assert!(measure(&trial).down <= DOWN_MAX);
    trial.optimisations.quorum_connected_election = false;
    assert!(DOWN_MAX < measure(&trial).down);
}
