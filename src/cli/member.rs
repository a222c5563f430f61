//! `loggos member` and `loggos leader`: who is in the cluster, and who leads it.
//!
//! A change is asked of the leader and then waited for until it is settled, over changes of leaders, so
//! that the operator hears what came of it. Asking again is harmless: a request names the configuration
//! from which it starts, and what is done already is said to be done.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use super::args::{AddArgs, LeaderCommand, MemberCommand, StatusArgs};
use super::{ConnectArgs, Failure, code, output};
use crate::client::connection::{Connection, describe};
use crate::client::{NotDone, reconfigure, status_of, transfer_lead};
use crate::paxos::{Addresses, Change, NodeId, Roles};
use crate::trace::monotonic_ns;
use crate::wire::ClusterId;
use crate::wire::status::NodeStatus;

/// Between two looks at the cluster.
const PAUSE: Duration = Duration::from_millis(50);
/// How long one node may take to answer.
const ANSWER_MAX: Duration = Duration::from_millis(500);

pub fn run(command: MemberCommand, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        MemberCommand::List(online) => list(online.what, &Cluster::new(&online.connect)?, out),
        MemberCommand::Add(online) => add(&online.what, Cluster::new(&online.connect)?, out),
        MemberCommand::Promote(online) => {
            let node = NodeId(online.what.node);
            let mut cluster = Cluster::new(&online.connect)?;
            cluster.change(&Change::Promote { node })?;
            say(out, &format!("{node} accepts, leads and serves"))
        }
        MemberCommand::Remove(online) => {
            let node = NodeId(online.what.node);
            let mut cluster = Cluster::new(&online.connect)?;
            cluster.change(&Change::Remove { node })?;
            say(out, &format!("{node} has left the cluster and may be stopped"))
        }
        MemberCommand::Replace(online) => {
            let (old, new) = (NodeId(online.what.old), NodeId(online.what.new));
            let mut cluster = Cluster::new(&online.connect)?;
            cluster.change(&Change::Replace { old, new })?;
            say(out, &format!("{new} is in the place of {old}, which may be stopped"))
        }
    }
}

pub fn run_leader(command: LeaderCommand, out: &mut dyn Write) -> Result<(), Failure> {
    let LeaderCommand::Transfer(online) = command;
    let to = online.what.node.map(NodeId);
    let mut cluster = Cluster::new(&online.connect)?;
    let before = cluster.leader_in_time()?;
    if Some(before.node) == to {
        return say(out, &format!("{} leads already", before.node));
    }
    let at = cluster.address_of(&before, before.node);
    let successor = match transfer_lead(at, to, ANSWER_MAX) {
        Ok(successor) => successor,
        Err(NotDone::Refused(why) | NotDone::Later(why)) => return Err(Failure::definite(why)),
    };
    loop {
        let now = cluster.leader_in_time().map_err(|failure| Failure {
            code: code::UNKNOWN,
            message: format!("{successor} was told to take over; {}", failure.message),
        })?;
        if now.ballot != before.ballot {
            return say(out, &format!("{} leads", now.node));
        }
        cluster.pause();
    }
}

fn say(out: &mut dyn Write, line: &str) -> Result<(), Failure> {
    output::print(out, &format!("{line}\n"))
}

fn add(args: &AddArgs, mut cluster: Cluster, out: &mut dyn Write) -> Result<(), Failure> {
    let node = NodeId(args.node);
    let addresses = Addresses { peer: args.peer_address, client: args.client_address };
    let leader = cluster.leader_in_time()?;
    let runs = check_new(node, addresses.client, ClusterId(leader.configuration.cluster))?;
    cluster.change(&Change::Add { node, addresses })?;
    let next = if runs { "" } else { "; start it with `join = true` in its configuration" };
    say(out, &format!("{node} learns{next}"))
}

/// If the new node runs already, it must be the one that is meant, and of this cluster.
fn check_new(node: NodeId, at: SocketAddr, cluster: ClusterId) -> Result<bool, Failure> {
    let deadline_ns = monotonic_ns() + ANSWER_MAX.as_nanos() as u64;
    match Connection::open(at, Some(cluster), deadline_ns) {
        Ok(connection) if connection.node() == node => Ok(true),
        Ok(connection) => Err(Failure::definite(format!(
            "at {at} there is {}, and not {node}",
            connection.node()
        ))),
        Err(error) => {
            let why = describe(&error);
            match why.strip_prefix("refused: ") {
                Some(reason) => Err(Failure::definite(format!("{node} at {at} refused: {reason}"))),
                None => Ok(false),
            }
        }
    }
}

fn list(args: StatusArgs, cluster: &Cluster, out: &mut dyn Write) -> Result<(), Failure> {
    let newest = cluster
        .statuses()
        .into_iter()
        .max_by_key(|it| (it.configuration.epoch, it.leading, it.ballot));
    let Some(status) = newest else {
        return Err(Failure::definite(
            "no node answers (is one running? --nodes, LOGGOS_NODES)".to_owned(),
        ));
    };
    let it = &status.configuration;
    if args.json {
        let members: Vec<_> = it
            .members
            .iter()
            .map(|member| {
                json!({
                    "node": member.node.0,
                    "roles": member.roles.to_string(),
                    "peer_address": member.addresses.peer.to_string(),
                    "client_address": member.addresses.client.to_string(),
                })
            })
            .collect();
        let left: Vec<u16> = it.left.iter().map(|node| node.0).collect();
        let line = json!({
            "epoch": it.epoch,
            "epoch_in_force": it.epoch_in_force,
            "settled": it.settled,
            "phase1": it.phase1,
            "phase2": it.phase2,
            "leader": status.leader.map(|leader| leader.0),
            "members": members,
            "left": left,
        });
        return say(out, &line.to_string());
    }
    let mut text = format!("epoch {}", it.epoch);
    if it.epoch_in_force < it.epoch {
        text.push_str(&format!(", not in force yet (that is {})", it.epoch_in_force));
    }
    text.push_str(&format!("; quorums of {} (phase 1) and {} (phase 2)\n", it.phase1, it.phase2));
    for member in &it.members {
        let what = match member.roles {
            Roles::ALL => "all roles".to_owned(),
            Roles { acceptor: false, leader: false, .. } => "learns".to_owned(),
            other => other.to_string(),
        };
        let leads = if status.leader == Some(member.node) { "  leads" } else { "" };
        let (node, Addresses { peer, client }) = (member.node.to_string(), member.addresses);
        text.push_str(&format!("{node:<6} {what:<10} peers {peer}  clients {client}{leads}\n"));
    }
    if !it.left.is_empty() {
        let left: Vec<String> = it.left.iter().map(ToString::to_string).collect();
        text.push_str(&format!("left for good: {}\n", left.join(" ")));
    }
    output::print(out, &text)
}

/// The cluster as it is found: from the addresses given, and those that its nodes tell.
struct Cluster {
    nodes: Vec<SocketAddr>,
    timeout: Duration,
    deadline_ns: u64,
}

impl Cluster {
    fn new(connect: &ConnectArgs) -> Result<Cluster, Failure> {
        let nodes = super::nodes(&connect.nodes)?;
        let deadline_ns = monotonic_ns() + connect.timeout.as_nanos() as u64;
        Ok(Cluster { nodes, timeout: connect.timeout, deadline_ns })
    }

    /// What all nodes tell that answer.
    fn statuses(&self) -> Vec<NodeStatus> {
        let patience = self.timeout.min(ANSWER_MAX);
        std::thread::scope(|scope| {
            let ask = |&node: &SocketAddr| scope.spawn(move || status_of(node, patience));
            let asked: Vec<_> = self.nodes.iter().map(ask).collect();
            asked.into_iter().filter_map(|thread| thread.join().ok()?.ok()).collect()
        })
    }

    /// The node that leads, if one is found. Nodes that this one tells of are asked from now on too.
    fn leader(&mut self) -> Option<NodeStatus> {
        let statuses = self.statuses();
        for member in statuses.iter().flat_map(|status| &status.configuration.members) {
            if !self.nodes.contains(&member.addresses.client) {
                self.nodes.push(member.addresses.client);
            }
        }
        statuses.into_iter().filter(|status| status.leading).max_by_key(|status| status.ballot)
    }

    fn leader_in_time(&mut self) -> Result<NodeStatus, Failure> {
        loop {
            if let Some(leader) = self.leader() {
                return Ok(leader);
            }
            if self.is_over() {
                return Err(Failure::definite(format!("no leader within {:?}", self.timeout)));
            }
            self.pause();
        }
    }

    fn address_of(&self, status: &NodeStatus, node: NodeId) -> SocketAddr {
        let member = status.configuration.member(node);
        member.map_or(self.nodes[0], |member| member.addresses.client)
    }

    /// Has the change made, and waits until it is settled.
    fn change(&mut self, change: &Change) -> Result<(), Failure> {
        let mut asked = false;
        let mut why = String::new();
        loop {
            if let Some(leader) = self.leader() {
                let configuration = &leader.configuration;
                if configuration.has_done(change) {
                    if configuration.settled {
                        return Ok(());
                    }
                    asked = true;
                    why = "it is made, and not settled yet".to_owned();
                } else {
                    let at = self.address_of(&leader, leader.node);
                    match reconfigure(at, configuration.epoch, change, ANSWER_MAX) {
                        Ok(()) => asked = true,
                        Err(NotDone::Refused(why)) => return Err(Failure::definite(why)),
                        Err(NotDone::Later(later)) => why = later,
                    }
                }
            } else {
                why = "there is no leader".to_owned();
            }
            if self.is_over() {
                let code = if asked { code::UNKNOWN } else { code::DEFINITE };
                let message = format!("not done within {:?}: {why}", self.timeout);
                return Err(Failure { code, message });
            }
            self.pause();
        }
    }

    fn is_over(&self) -> bool {
        self.deadline_ns <= monotonic_ns()
    }

    fn pause(&self) {
        // sleep: between two looks at a cluster that is not there yet.
        std::thread::sleep(PAUSE);
    }
}
