//! Who hears whom: put together from what each node that answers tells of itself and of its peers.

use std::collections::{BTreeMap, BTreeSet};

use crate::paxos::NodeId;
use crate::wire::status::NodeStatus;

/// Columns of a terminal.
const WIDTH: usize = 80;

/// Whom each node hears. A node that does not answer itself is in it if a peer that hears it told us.
pub struct Matrix {
    pub nodes: BTreeSet<NodeId>,
    hears: BTreeMap<NodeId, BTreeSet<NodeId>>,
}

impl Matrix {
    pub fn new<'a>(statuses: impl Iterator<Item = &'a NodeStatus> + Clone) -> Matrix {
        let (mut nodes, mut hears) = (BTreeSet::new(), BTreeMap::new());
        for status in statuses.clone() {
            nodes.insert(status.node);
            nodes.extend(status.members.iter().map(|(node, _)| *node));
            for peer in status.peers.iter().filter(|peer| peer.heard) {
                hears.insert(peer.node, peer.hears.iter().copied().collect::<BTreeSet<_>>());
            }
        }
        // What a node says of itself is newer than what others say of it.
        for status in statuses {
            let heard = status.peers.iter().filter(|peer| peer.heard);
            hears.insert(status.node, heard.map(|peer| peer.node).collect());
        }
        Matrix { nodes, hears }
    }

    /// Whether `a` hears `b`; `None` if nobody could tell.
    pub fn hears(&self, a: NodeId, b: NodeId) -> Option<bool> {
        Some(a == b || self.hears.get(&a)?.contains(&b))
    }

    /// A square of `+` (hears), `-` (does not) and `?` (not known); in larger clusters, where that is too
    /// wide, a line for each node that does not hear all others.
    pub fn table(&self) -> String {
        let width = self.nodes.iter().map(|node| node.to_string().len()).max().unwrap_or(0);
        let label = width.max("HEARS".len());
        let mut text = String::new();
        if WIDTH < label + self.nodes.len() * (width + 2) {
            for a in &self.nodes {
                let deaf = self.nodes.iter().filter(|b| self.hears(*a, **b) == Some(false));
                let deaf: Vec<String> = deaf.map(NodeId::to_string).collect();
                if !self.hears.contains_key(a) {
                    text.push_str(&format!("nobody can tell whom {a} hears\n"));
                } else if !deaf.is_empty() {
                    text.push_str(&format!("{a} does not hear {}\n", deaf.join(" ")));
                }
            }
            return text;
        }
        let mut line = format!("{:<label$}", "HEARS");
        self.nodes.iter().for_each(|b| line.push_str(&format!("  {:<width$}", b.to_string())));
        text.push_str(&format!("{}\n", line.trim_end()));
        for a in &self.nodes {
            let mut line = format!("{:<label$}", a.to_string());
            for b in &self.nodes {
                let sign = match self.hears(*a, *b) {
                    _ if a == b => ".",
                    Some(true) => "+",
                    Some(false) => "-",
                    None => "?",
                };
                line.push_str(&format!("  {sign:<width$}"));
            }
            text.push_str(&format!("{}\n", line.trim_end()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One node that answers is enough for all that it hears; the others nobody knows.
    #[test]
    fn one_node_tells_of_those_that_it_hears() {
        let matrix = Matrix::new(
            [&NodeStatus::made_up(2, 4).hearing(&[(1, &[2]), (3, &[2, 4])])].into_iter(),
        );
        let lines = ["HEARS  n1  n2  n3  n4", "n1     .   +   -   -", "n2     +   .   +   -"];
        let rest = ["n3     -   +   .   +", "n4     ?   ?   ?   .", ""];
        assert_eq!(matrix.table(), [lines, rest].concat().join("\n"));
    }

    /// What a node says of itself counts more than what its peers were told before.
    #[test]
    fn first_hand_counts_more() {
        let (one, two) = (
            NodeStatus::made_up(1, 2).hearing(&[]),
            NodeStatus::made_up(2, 2).hearing(&[(1, &[2])]),
        );
        let matrix = Matrix::new([&one, &two].into_iter());
        assert_eq!(matrix.hears(NodeId(1), NodeId(2)), Some(false));
        assert_eq!(matrix.hears(NodeId(2), NodeId(1)), Some(true));
    }

    #[test]
    fn large_clusters_are_told_in_lines() {
        let matrix = Matrix::new([&NodeStatus::made_up(1, 30).hearing(&[(2, &[1])])].into_iter());
        let table = matrix.table();
        assert!(table.starts_with("n1 does not hear n3 n4 "), "{table}");
        assert!(table.contains("nobody can tell whom n3 hears\n"), "{table}");
    }
}
