//! Three nodes in one thread, without sockets, disk or clock: what waits for a sync waits for nothing here.

use std::hint::black_box;
use std::net::SocketAddr;

use loggos::paxos::{
    Addresses, Bytes, Command, CommandId, Configuration, Configurations, Effects, LeaseConfig,
    Member, Message, Node, NodeConfig, NodeId, Now, Optimisations, Recovered, Roles, SessionId,
};

const NODES: u16 = 3;

pub struct Cluster {
    nodes: Vec<Node>,
    /// Of each node, used again and again as the driver does.
    fx: Vec<Effects>,
    /// What each has sent and nobody has heard yet; taken from the end, so that nothing has to move up.
    sent: [Vec<(NodeId, Message)>; NODES as usize],
    sent_after_sync: [Vec<(NodeId, Message)>; NODES as usize],
    now: Now,
    leader: usize,
    payload: Bytes,
    next_seq: u64,
    /// Slots handed out at any of the nodes.
    handed_out: u64,
}

impl Cluster {
    /// A cluster that has a leader, and clients at every node: so each is told at once what is chosen.
    pub fn new(payload: &[u8]) -> Cluster {
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
                optimisations: Optimisations::default(),
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
            sent: Default::default(),
            sent_after_sync: Default::default(),
            now: Now::default(),
            leader: 0,
            payload: payload.into(),
            next_seq: 1,
            handed_out: 0,
        };
        for a in 0..usize::from(NODES) {
            for b in (1..=NODES).map(NodeId).filter(|b| usize::from(b.0) != a + 1) {
                let (node, fx) = (&mut cluster.nodes[a], &mut cluster.fx[a]);
                node.on_peer_up(cluster.now, b, fx);
            }
        }
        loop {
            cluster.now.mono_us += 1000;
            for at in 0..usize::from(NODES) {
                if cluster.nodes[at].next_deadline_us() <= cluster.now.mono_us {
                    cluster.nodes[at].on_tick(cluster.now, &mut cluster.fx[at]);
                }
                cluster.end_turn(at);
            }
            cluster.deliver();
            let leader = cluster.nodes.iter().position(|node| node.view().leading);
            if let Some(leader) = leader {
                cluster.leader = leader;
                break;
            }
        }
        for at in 0..usize::from(NODES) {
            cluster.choose_at(at, 1);
        }
        cluster.choose(1);
        cluster
    }

    /// What the node wants done is done at once; what it sends is on its way.
    fn end_turn(&mut self, at: usize) {
        let (node, fx) = (&mut self.nodes[at], &mut self.fx[at]);
        node.end_turn(self.now, fx);
        // The vectors change places: to move messages from one into another would be measured too.
        assert!(self.sent[at].is_empty() && self.sent_after_sync[at].is_empty());
        std::mem::swap(&mut fx.sends, &mut self.sent[at]);
        std::mem::swap(&mut fx.sends_after_sync, &mut self.sent_after_sync[at]);
        black_box(&fx.records);
        fx.records.clear();
        self.handed_out += fx.chosen.len() as u64;
        black_box(&fx.chosen);
        fx.chosen.clear();
        fx.events.clear();
    }

    /// Until nothing is on its way any more. All messages take the same time, so that what was sent in one turn
    /// to a node, or in the turns of several at the same time, comes to it in one turn.
    fn deliver(&mut self) {
        loop {
            let mut hears = [false; NODES as usize];
            for sent in [&mut self.sent, &mut self.sent_after_sync] {
                for (sent, from) in sent.iter_mut().zip(1..) {
                    while let Some((to, message)) = sent.pop() {
                        let at = usize::from(to.0) - 1;
                        let (node, fx) = (&mut self.nodes[at], &mut self.fx[at]);
                        node.on_message(self.now, NodeId(from), message, fx);
                        hears[at] = true;
                    }
                }
            }
            if hears == [false; NODES as usize] {
                return;
            }
            (0..self.nodes.len()).filter(|at| hears[*at]).for_each(|at| self.end_turn(at));
        }
    }

    /// So many commands become a slot, and all nodes learn it.
    pub fn choose(&mut self, commands: u64) {
        let before = self.handed_out;
        self.choose_at(self.leader, commands);
        assert_eq!(self.handed_out, before + u64::from(NODES), "every node has learned the slot");
    }

    /// The same, for clients of the node `at`.
    fn choose_at(&mut self, at: usize, commands: u64) {
        let seqs = self.next_seq..self.next_seq + commands;
        self.next_seq = seqs.end;
        let id = |seq| CommandId { session: SessionId(1), seq };
        for seq in seqs.clone() {
            let payload = self.payload.clone();
            let command = Command { id: id(seq), acknowledged: seq, payload };
            self.nodes[at].on_command(self.now, command, seq);
        }
        self.end_turn(at);
        self.deliver();
        for seq in seqs {
            assert_eq!(self.nodes[at].finish(id(seq)), Some(seq), "it waited for this");
        }
    }
}
