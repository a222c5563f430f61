//! The protocol core alone: three nodes in one thread, without sockets, disk or clock. What a value costs in
//! `paxos::Node`, and how often it allocates.
//!
//! `cargo bench --bench core`. Each value is a batch of one command of 8 bytes, proposed, accepted by all three
//! and learned before the next one begins; what would wait for a sync waits for nothing here.

use std::hint::black_box;
use std::net::SocketAddr;
use std::sync::Arc;

use loggos::paxos::{
    Addresses, Command, CommandId, Configuration, Configurations, Effects, LeaseConfig, Member,
    Message, Node, NodeConfig, NodeId, Now, Recovered, Roles, SessionId,
};
use loggos::trace::monotonic_ns;

const NODES: u16 = 3;
/// Values of one measurement, and how many are made; the least is told, which others disturbed least.
const VALUES: u64 = 100_000;
const MEASUREMENTS: usize = 7;

struct Cluster {
    nodes: Vec<Node>,
    /// Of each node, used again and again as the driver does.
    fx: Vec<Effects>,
    /// What is on its way: to, from, message.
    mail: Vec<(NodeId, NodeId, Message)>,
    now: Now,
    payload: Arc<[u8]>,
    next_seq: u64,
    chosen: u64,
}

impl Cluster {
    fn new() -> Cluster {
        let members = (1..=NODES).map(|id| {
            let at = |port| SocketAddr::from(([127, 0, 0, 1], port + id));
            let member = Member { node: NodeId(id), roles: Roles::ALL };
            (member, Addresses { peer: at(7000), client: at(8000) })
        });
        let initial = Configuration::initial(members.collect(), None, None).expect("a cluster");
        let mut fx: Vec<Effects> = (1..=NODES).map(|id| Effects::new(NodeId(id))).collect();
        let nodes = (1..=NODES).map(|id| {
            let config = NodeConfig {
                node: NodeId(id),
                roles: Roles::ALL,
                configurations: Configurations::new(initial.clone(), 256),
                election_timeout_us: 100_000,
                request_timeout_us: 10_000_000,
                window_slots: 256,
                lease: LeaseConfig::default(),
                snapshot_chunk_size: 1 << 20,
            };
            let fx = &mut fx[usize::from(id) - 1];
            Node::new(config, &Recovered::default(), u64::from(id), Now::default(), fx)
        });
        let nodes = nodes.collect();
        let mut cluster = Cluster {
            nodes,
            fx,
            mail: Vec::new(),
            now: Now::default(),
            payload: Arc::from([7u8; 8]),
            next_seq: 1,
            chosen: 0,
        };
        for a in 0..usize::from(NODES) {
            for b in (1..=NODES).map(NodeId).filter(|b| usize::from(b.0) != a + 1) {
                let (node, fx) = (&mut cluster.nodes[a], &mut cluster.fx[a]);
                node.on_peer_up(cluster.now, b, fx);
            }
        }
        while cluster.leader().is_none() {
            cluster.now.mono_us += 1000;
            for at in 0..usize::from(NODES) {
                if cluster.nodes[at].next_deadline_us() <= cluster.now.mono_us {
                    cluster.nodes[at].on_tick(cluster.now, &mut cluster.fx[at]);
                }
                cluster.end_turn(at);
            }
            cluster.deliver();
        }
        cluster
    }

    fn leader(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.view().leading)
    }

    /// What the node wants done is done at once.
    fn end_turn(&mut self, at: usize) {
        let (node, fx) = (&mut self.nodes[at], &mut self.fx[at]);
        node.end_turn(self.now, fx);
        let from = node.id();
        let sends = fx.sends.drain(..).chain(fx.sends_after_sync.drain(..));
        self.mail.extend(sends.map(|(to, message)| (to, from, message)));
        black_box(&fx.records);
        fx.records.clear();
        for chosen in fx.chosen.drain(..) {
            self.chosen += 1;
            black_box(chosen);
        }
        fx.events.clear();
    }

    fn deliver(&mut self) {
        while let Some((to, from, message)) = self.mail.pop() {
            let at = usize::from(to.0) - 1;
            self.nodes[at].on_message(self.now, from, message, &mut self.fx[at]);
            self.end_turn(at);
        }
    }

    /// One command becomes a slot.
    fn choose(&mut self, leader: usize) {
        let id = CommandId { session: SessionId(1), seq: self.next_seq };
        let command = Command { id, acknowledged: self.next_seq, payload: self.payload.clone() };
        self.next_seq += 1;
        self.nodes[leader].on_command(self.now, command, 1);
        self.end_turn(leader);
        self.deliver();
        self.nodes[leader].finish(id);
    }
}

fn main() {
    let mut cluster = Cluster::new();
    let leader = cluster.leader().expect("it was waited for");
    let mut least_ns = f64::MAX;
    for _ in 0..MEASUREMENTS {
        let (before, begun_ns) = (cluster.chosen, monotonic_ns());
        for _ in 0..VALUES {
            cluster.choose(leader);
        }
        let ns = (monotonic_ns() - begun_ns) as f64 / VALUES as f64;
        assert!(VALUES <= cluster.chosen - before, "every value is chosen");
        least_ns = least_ns.min(ns);
    }
    let allocations = allocation_counter::measure(|| {
        for _ in 0..VALUES {
            cluster.choose(leader);
        }
    });
    let each = allocations.count_total as f64 / VALUES as f64;
    println!("a value, one by one, at all three nodes: {least_ns:.0} ns, {each:.2} allocations");
}
