//! For the tests of what a node does.

use super::super::configurations::fixtures::configurations;
use super::*;

/// Node 2 of three, as it starts.
pub fn node() -> Node {
    node_of(Roles::ALL)
}

/// The same, with other roles than the other two.
pub fn node_of(roles: Roles) -> Node {
    node_in(2, roles, configurations(3, None, 4))
}

/// A node that starts with nothing, and goes by these configurations.
pub fn node_in(id: u16, roles: Roles, configurations: Configurations) -> Node {
    let node = NodeId(id);
    let config = config(node, roles, configurations);
    Node::new(config, &Recovered::default(), 1, Now::default(), &mut Effects::new(node))
}

pub fn config(node: NodeId, roles: Roles, configurations: Configurations) -> NodeConfig {
    NodeConfig {
        node,
        roles,
        configurations,
        election_timeout_us: 100,
        request_timeout_us: 1000,
        window_slots: 4,
        optimisations: Optimisations::default(),
        lease: LeaseConfig::default(),
        snapshot_chunk_size: 10,
    }
}

pub fn hear(node: &mut Node, from: u16, message: Message) -> Effects {
    let mut fx = Effects::new(node.id());
    node.on_message(Now::default(), NodeId(from), message, &mut fx);
    node.end_turn(Now::default(), &mut fx);
    fx
}
