//! `loggos doctor`: what is wrong with a cluster, in sentences.
//!
//! It asks each node for its status, and puts together what they say of themselves and of each other. A
//! node that cannot be reached from here is known by what its peers say of it.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use super::args::StatusArgs;
use super::matrix::Matrix;
use super::status::{Row, ask};
use super::{Failure, output};
use crate::paxos::{Health, NodeId};
use crate::wire::status::{LinkEnd, NodeStatus, PeerStatus};

/// A replica that is further behind another lags; less is on its way at any time under load.
const LAG_SLOTS: u64 = 1024;
const WIDTH: usize = 80;

/// Something to say about a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about: `leader`, `node`, `link`, `disk`, `state` or `client`.
    pub about: &'static str,
    /// Whether somebody should do something.
    pub wrong: bool,
    pub text: String,
}

pub fn run(
    args: StatusArgs,
    nodes: &[SocketAddr],
    timeout: Duration,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let findings = diagnose(&ask(nodes, timeout));
    let wrong = findings.iter().filter(|finding| finding.wrong).count();
    let text = if args.json {
        let findings: Vec<_> = findings
            .iter()
            .map(|it| json!({ "about": it.about, "wrong": it.wrong, "text": it.text }))
            .collect();
        format!("{}\n", json!({ "healthy": wrong == 0, "findings": findings }))
    } else {
        findings.iter().map(|finding| wrapped(&finding.text)).collect()
    };
    output::print(out, &text)?;
    match wrong {
        0 => Ok(()),
        1 => Err(Failure::refused("one thing is wrong".to_owned())),
        wrong => Err(Failure::refused(format!("{wrong} things are wrong"))),
    }
}

/// What nodes said, in sentences: first who leads, or why nobody does.
pub fn diagnose(rows: &[Row]) -> Vec<Finding> {
    let known = Known::new(rows);
    let mut findings = Vec::new();
    if known.statuses.is_empty() {
        let text = "No node answers: none runs, or none can be reached from here.".to_owned();
        findings.push(Finding { about: "node", wrong: true, text });
    } else {
        known.leadership(&mut findings);
        known.silent(&mut findings);
        known.links(&mut findings);
        known.healths(&mut findings);
        known.states(&mut findings);
        known.clients(&mut findings);
    }
    for (address, status) in rows {
        if let Err(why) = status {
            let text = format!("{address} does not answer here: {why}.");
            findings.push(Finding { about: "node", wrong: true, text });
        }
    }
    findings
}

/// All that the answers tell.
struct Known<'a> {
    /// What nodes said of themselves.
    statuses: BTreeMap<NodeId, &'a NodeStatus>,
    matrix: Matrix,
    /// The newest answer about what a quorum is and who is a member.
    newest: Option<&'a NodeStatus>,
}

impl<'a> Known<'a> {
    fn new(rows: &'a [Row]) -> Known<'a> {
        let statuses: BTreeMap<NodeId, &NodeStatus> = rows
            .iter()
            .filter_map(|(_, status)| status.as_ref().ok())
            .map(|s| (s.node, s))
            .collect();
        let matrix = Matrix::new(statuses.values().copied());
        let newest = statuses.values().copied().max_by_key(|status| status.first_unchosen);
        Known { statuses, matrix, newest }
    }

    /// What the peers that hear a node say of it.
    fn told(&self, node: NodeId) -> impl Iterator<Item = &'a PeerStatus> + '_ {
        let peers = self.statuses.values().flat_map(|status| &status.peers);
        peers.filter(move |peer| peer.node == node && peer.heard)
    }

    fn health_of(&self, node: NodeId) -> Option<Health> {
        let own = self.statuses.get(&node).map(|status| status.health);
        own.or_else(|| self.told(node).next().map(|peer| peer.health))
    }

    /// The acceptors, and how many of them a leader must reach.
    fn quorum(&self) -> (Vec<NodeId>, usize) {
        let Some(newest) = self.newest else { return (Vec::new(), 0) };
        let acceptors = newest.members.iter().filter(|(_, roles)| roles.acceptor);
        (acceptors.map(|(node, _)| *node).collect(), usize::from(newest.quorum))
    }

    /// The acceptors that a node reaches, itself among them; `None` if nobody could tell.
    fn reaches(&self, node: NodeId) -> Option<Vec<NodeId>> {
        self.matrix.hears(node, node)?;
        let (acceptors, _) = self.quorum();
        let heard = |acceptor: &NodeId| self.matrix.hears(node, *acceptor);
        acceptors.iter().all(|a| heard(a).is_some()).then_some(())?;
        Some(acceptors.into_iter().filter(|a| heard(a) == Some(true)).collect())
    }

    fn leader(&self) -> Option<&'a NodeStatus> {
        let leading = self.statuses.values().copied().filter(|status| status.leading);
        leading.max_by_key(|status| status.ballot)
    }

    fn leadership(&self, findings: &mut Vec<Finding>) {
        let (acceptors, quorum) = self.quorum();
        let all = acceptors.len();
        let mut say = |wrong, text| findings.push(Finding { about: "leader", wrong, text });
        if let Some(leader) = self.leader() {
            let (node, ballot) = (leader.node, leader.ballot);
            let reached = self.reaches(node).map_or(0, |reached| reached.len());
            say(
                false,
                format!(
                    "{node} leads with ballot {ballot} and reaches {reached} of {all} acceptors; {quorum} \
                     are needed."
                ),
            );
            for other in self.statuses.values().filter(|it| it.leading && it.node != node) {
                let other = other.node;
                say(
                    true,
                    format!("{other} takes itself for the leader and will learn that {node} is."),
                );
            }
            return;
        }
        // Others may follow a leader whom we cannot ask.
        let followed = self
            .statuses
            .values()
            .filter_map(|s| s.leader)
            .find(|it| !self.statuses.contains_key(it) && self.told(*it).next().is_some());
        if let Some(node) = followed {
            return say(
                false,
                format!("{node} leads, its followers say; it does not answer here."),
            );
        }
        let mut able = Vec::new();
        let mut most = 0;
        for node in &self.matrix.nodes {
            let Some(reached) = self.reaches(*node).map(|reached| reached.len()) else { continue };
            most = most.max(reached);
            if quorum <= reached && self.may_lead(*node) {
                able.push(*node);
            }
        }
        match able.as_slice() {
            [] => say(
                true,
                format!(
                    "Nobody leads, because no node reaches a quorum: {quorum} of {all} acceptors are \
                     needed, and none reaches more than {most}."
                ),
            ),
            able => say(
                true,
                format!(
                    "Nobody leads yet. {} could: {} of {all} acceptors are needed, and reached. An election \
                     takes up to four election timeouts.",
                    names(able),
                    quorum
                ),
            ),
        }
    }

    fn may_lead(&self, node: NodeId) -> bool {
        let members = self.newest.map_or(&[][..], |newest| &newest.members);
        members.iter().any(|(member, roles)| *member == node && roles.leader)
    }

    /// Members that answer neither us nor any peer that we could ask.
    fn silent(&self, findings: &mut Vec<Finding>) {
        for node in &self.matrix.nodes {
            if !self.statuses.contains_key(node) && self.told(*node).next().is_none() {
                let text = format!("{node} is heard by nobody: it does not run, or is cut off.");
                findings.push(Finding { about: "node", wrong: true, text });
            }
        }
    }

    /// Pairs of nodes of which both are alive, and which do not hear each other.
    fn links(&self, findings: &mut Vec<Finding>) {
        for (a, b) in self.pairs() {
            let (Some(ab), Some(ba)) = (self.matrix.hears(a, b), self.matrix.hears(b, a)) else {
                continue;
            };
            let text = match (ab, ba) {
                (true, true) => continue,
                (true, false) => asymmetric(a, b),
                (false, true) => asymmetric(b, a),
                (false, false) => match (self.end(a, b), self.end(b, a)) {
                    // Whoever hears nothing gives the connection up, and the other hears of that.
                    (Some(LinkEnd::Silent), Some(LinkEnd::Closed)) => format!(
                        "The link from {b} to {a} is cut: {a} heard nothing any more, while {b} heard {a} \
                         close the connection."
                    ),
                    (Some(LinkEnd::Closed), Some(LinkEnd::Silent)) => format!(
                        "The link from {a} to {b} is cut: {b} heard nothing any more, while {a} heard {b} \
                         close the connection."
                    ),
                    (Some(LinkEnd::Silent), Some(LinkEnd::Silent)) => format!(
                        "The link between {a} and {b} is cut in both directions: both heard nothing any \
                         more."
                    ),
                    _ => format!(
                        "{a} and {b} do not hear each other; in which direction the link is cut is not \
                         known."
                    ),
                },
            };
            findings.push(Finding { about: "link", wrong: true, text });
        }
    }

    fn pairs(&self) -> impl Iterator<Item = (NodeId, NodeId)> + '_ {
        let nodes = &self.matrix.nodes;
        nodes.iter().flat_map(move |a| nodes.range(*a..).skip(1).map(move |b| (*a, *b)))
    }

    /// How the connection of `a` to `b` ended, as `a` saw it.
    fn end(&self, a: NodeId, b: NodeId) -> Option<LinkEnd> {
        let peers = &self.statuses.get(&a)?.peers;
        peers.iter().find(|peer| peer.node == b)?.ended
    }

    fn healths(&self, findings: &mut Vec<Finding>) {
        for node in &self.matrix.nodes {
            let mut say = |about, text| findings.push(Finding { about, wrong: true, text });
            let status = self.statuses.get(node);
            if let Some(unsure) = status.map(|it| it.unsure_slots).filter(|slots| 0 < *slots) {
                say(
                    "disk",
                    format!(
                        "The log of {node} was damaged: it may have forgotten what it accepted in {unsure} \
                         slots, does not vote on them, and has them repaired by others."
                    ),
                );
            }
            let Some(health) = self.health_of(*node) else { continue };
            if health.disk_stalled {
                say(
                    "disk",
                    format!(
                        "The disk of {node} stalls: a sync does not end. It does not lead if another can."
                    ),
                );
            }
            if health.disk_full {
                say(
                    "disk",
                    format!(
                        "The disk of {node} is full: make room; it takes no values until then."
                    ),
                );
            }
            if health.quarantined {
                say(
                    "state",
                    format!(
                        "{node} is quarantined: its state differs from that of others; it serves nobody."
                    ),
                );
            }
        }
    }

    /// Replicas that lag, and states that differ where they must not.
    fn states(&self, findings: &mut Vec<Finding>) {
        let mut say = |text| findings.push(Finding { about: "state", wrong: true, text });
        let replicas: Vec<&&NodeStatus> =
            self.statuses.values().filter(|status| status.roles.replica).collect();
        let Some(first) = replicas.iter().max_by_key(|status| status.applied) else { return };
        for status in &replicas {
            let behind = first.applied.0 - status.applied.0;
            if LAG_SLOTS < behind {
                say(format!("{} lags: it is {behind} slots behind {}.", status.node, first.node));
            }
        }
        for (i, a) in replicas.iter().enumerate() {
            for b in replicas[i + 1..].iter().filter(|b| b.applied == a.applied) {
                if a.digest != b.digest {
                    let (slot, a, b) = (a.applied, a.node, b.node);
                    say(format!(
                        "{a} and {b} have different states after slot {slot}: one of them is corrupt."
                    ));
                }
            }
        }
    }

    /// Where clients of a node that does not hear the leader get on.
    fn clients(&self, findings: &mut Vec<Finding>) {
        let Some(leader) = self.leader().map(|leader| leader.node) else { return };
        for (node, status) in self.statuses.iter().filter(|(_, status)| status.roles.replica) {
            if self.matrix.hears(*node, leader) != Some(false) {
                continue;
            }
            let (wrong, text) = match &*status.route {
                [over @ .., last] if *last == leader && !over.is_empty() => {
                    let over: Vec<String> = over.iter().map(NodeId::to_string).collect();
                    let over = over.join(" and ");
                    (false, format!("Clients at {node} are served over {over} by {leader}."))
                }
                _ => (true, format!("Clients at {node} are not served: let them ask {leader}.")),
            };
            findings.push(Finding { about: "client", wrong, text });
        }
    }
}

/// `a` hears `b`, and not the other way round: an answer needs both ways, so that this is how a cut or a start
/// looks for a moment.
fn asymmetric(a: NodeId, b: NodeId) -> String {
    format!("{a} hears {b}, which does not hear {a}: not yet, or no more.")
}

/// `n1`, `n1 and n2`, `n1, n2 and n3`.
fn names(nodes: &[NodeId]) -> String {
    let names: Vec<String> = nodes.iter().map(NodeId::to_string).collect();
    match names.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
        None => String::new(),
    }
}

/// The text in lines that fit a terminal, the following ones indented.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let line = lines.last_mut().expect("one at least");
        if WIDTH < line.chars().count() + 1 + word.chars().count() {
            lines.push(format!("  {word}"));
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::{Ballot, Slot};

    /// A cluster in which the last answers of all that are heard have come.
    fn cluster(hears: &[&[u16]], leader: Option<u16>) -> Vec<NodeStatus> {
        let n = hears.len() as u16;
        let heard_by = |node: u16| hears[usize::from(node) - 1];
        let status = |id: u16| {
            let told: Vec<(u16, &[u16])> =
                heard_by(id).iter().map(|peer| (*peer, heard_by(*peer))).collect();
            NodeStatus {
                leader: leader.map(NodeId),
                ballot: Ballot { round: 3, node: NodeId(1) },
                leading: leader == Some(id),
                quorum_connected: usize::from(n / 2) <= told.len(),
                ..NodeStatus::made_up(id, n).hearing(&told)
            }
        };
        (1..=n).map(status).collect()
    }

    fn rows(statuses: Vec<NodeStatus>) -> Vec<Row> {
        let address =
            |status: &NodeStatus| SocketAddr::from(([127, 0, 0, 1], 7400 + status.node.0));
        statuses.into_iter().map(|status| (address(&status), Ok(status))).collect()
    }

    fn texts(statuses: Vec<NodeStatus>) -> (usize, String) {
        let findings = diagnose(&rows(statuses));
        let wrong = findings.iter().filter(|finding| finding.wrong).count();
        let texts: Vec<String> = findings.into_iter().map(|finding| finding.text).collect();
        (wrong, texts.join("\n"))
    }

    const ALL: [&[u16]; 3] = [&[2, 3], &[1, 3], &[1, 2]];

    #[test]
    fn a_cluster_that_is_well() {
        let (wrong, text) = texts(cluster(&ALL, Some(2)));
        assert_eq!(text, "n2 leads with ballot 3.1 and reaches 3 of 3 acceptors; 2 are needed.");
        assert_eq!(wrong, 0);
    }

    /// Why there is no leader: because nobody reaches a quorum, or because it is being elected.
    #[test]
    fn nobody_leads() {
        let (wrong, text) = texts(cluster(&[&[], &[], &[]], None));
        let why =
            "no node reaches a quorum: 2 of 3 acceptors are needed, and none reaches more than 1.";
        assert!(text.contains(why), "{text}");
        assert_eq!(wrong, 4, "the leader and three links: {text}");
        let (_, text) = texts(cluster(&[&[2], &[1, 3], &[2]], None));
        assert!(text.contains("n1, n2 and n3 could"), "{text}");
        let mut alone = cluster(&ALL, None);
        alone.iter_mut().for_each(|status| status.members[2].1.leader = false);
        assert!(texts(alone).1.contains("n1 and n2 could"));
    }

    /// A quorum of five without the leader's hub; what those who do not answer hear is told by others.
    #[test]
    fn nodes_that_do_not_answer_are_known_by_their_peers() {
        let mut all = cluster(&[&[2, 3], &[1, 3], &[1, 2], &[], &[]], None);
        let leader = all.remove(0);
        let text = texts(all.drain(..2).collect()).1;
        assert!(text.contains("n1, n2 and n3 could"), "{text}");
        assert!(text.contains("n4 is heard by nobody"), "{text}");
        let mut rows = rows(vec![leader]);
        rows.push((SocketAddr::from(([127, 0, 0, 1], 9)), Err("connection refused".to_owned())));
        let last = diagnose(&rows).pop().unwrap();
        assert_eq!(last.text, "127.0.0.1:9 does not answer here: connection refused.");
    }

    /// Who closed and who heard nothing tells the direction of a cut.
    #[test]
    fn a_link_is_cut_one_way_or_both() {
        let ends = |one: Option<LinkEnd>, three: Option<LinkEnd>| {
            let mut all = cluster(&[&[2], &[1, 3], &[2]], Some(2));
            all[0].peers[1].ended = one;
            all[2].peers[0].ended = three;
            texts(all).1
        };
        let (silent, closed) = (Some(LinkEnd::Silent), Some(LinkEnd::Closed));
        assert!(ends(silent, closed).contains("The link from n3 to n1 is cut"));
        assert!(ends(closed, silent).contains("The link from n1 to n3 is cut"));
        assert!(ends(silent, silent).contains("between n1 and n3 is cut in both directions"));
        assert!(ends(None, silent).contains("in which direction the link is cut is not known"));
        let (_, text) = texts(cluster(&[&[2, 3], &[1, 3], &[2]], Some(2)));
        assert!(
            text.contains("n1 hears n3, which does not hear n1: not yet, or no more."),
            "{text}"
        );
    }

    /// Chained: a node that does not hear the leader says over whom its clients are served.
    #[test]
    fn clients_of_a_node_that_does_not_hear_the_leader() {
        let mut chained = cluster(&[&[2], &[1, 3], &[2]], Some(1));
        chained[2].route = vec![NodeId(2), NodeId(1)];
        let (wrong, text) = texts(chained);
        assert!(text.contains("Clients at n3 are served over n2 by n1."), "{text}");
        assert_eq!(wrong, 1, "the link: {text}");
        let text = texts(cluster(&[&[2], &[1], &[]], Some(1))).1;
        assert!(text.contains("Clients at n3 are not served: let them ask n1."), "{text}");
    }

    #[test]
    fn disks_and_states() {
        let mut all = cluster(&ALL, Some(1));
        all[0].health.disk_stalled = true;
        all[0].unsure_slots = 7;
        all[1].health.disk_full = true;
        all[2].health.quarantined = true;
        let (wrong, text) = texts(all.clone());
        assert_eq!(wrong, 4, "{text}");
        for part in [
            "log of n1 was damaged",
            "disk of n1 stalls",
            "disk of n2 is full",
            "n3 is quarantined",
        ] {
            assert!(text.contains(part), "{text}");
        }
        // The same is known from a peer.
        all[0].peers[0].health.disk_full = true;
        assert!(texts(vec![all[0].clone()]).1.contains("disk of n2 is full"));

        let mut all = cluster(&ALL, Some(1));
        all[0].applied = Slot(5000);
        all[2].digest = "1".repeat(32);
        let (wrong, text) = texts(all);
        assert_eq!(wrong, 3, "{text}");
        assert!(text.contains("n2 lags: it is 4996 slots behind n1."), "{text}");
        assert!(text.contains("n2 and n3 have different states after slot 4"), "{text}");
    }

    #[test]
    fn lines_fit_a_terminal() {
        let text = wrapped(&"a word or two ".repeat(20));
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
        assert_eq!(text.split_whitespace().count(), 80);
    }
}
