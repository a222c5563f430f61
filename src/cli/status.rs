//! `loggos status`: what each node tells of itself, side by side.

use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::args::StatusArgs;
use super::matrix::Matrix;
use super::{Failure, output};
use crate::client::status_of;
use crate::paxos::{Health, NodeId, Roles};
use crate::wire::status::NodeStatus;

pub type Row = (SocketAddr, Result<NodeStatus, String>);

pub fn run(
    args: StatusArgs,
    nodes: &[SocketAddr],
    timeout: Duration,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let rows = ask(nodes, timeout);
    let matrix = Matrix::new(rows.iter().filter_map(|(_, status)| status.as_ref().ok()));
    let text = if args.json { format!("{}\n", json(&rows, &matrix)) } else { text(&rows, &matrix) };
    output::print(out, &text)?;

    if rows.iter().all(|(_, status)| status.is_err()) {
        return Err(Failure::definite(
            "no node answers (is one running? --nodes, LOGGOS_NODES)".to_owned(),
        ));
    }
    let leads = |row: &Row| row.1.as_ref().is_ok_and(|status| status.leading);
    if !rows.iter().any(leads) {
        return Err(Failure::refused("none of these nodes leads".to_owned()));
    }
    Ok(())
}

/// Asks all nodes at the same time: a dead one must not delay the others.
pub fn ask(nodes: &[SocketAddr], timeout: Duration) -> Vec<Row> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = nodes
            .iter()
            .map(|&node| (node, scope.spawn(move || status_of(node, timeout))))
            .collect();
        let answer = |thread: std::thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or_else(|_| Err("the question failed".to_owned()))
        };
        asked.into_iter().map(|(node, thread)| (node, answer(thread))).collect()
    })
}

/// The table of the nodes, and below it who hears whom.
fn text(rows: &[Row], matrix: &Matrix) -> String {
    match matrix.nodes.len() {
        0..2 => table(rows),
        _ => format!("{}\n{}", table(rows), matrix.table()),
    }
}

fn table(rows: &[Row]) -> String {
    let head = ["NODE", "ADDRESS", "STATE", "BALLOT", "UNCHOSEN", "APPLIED", "KEYS", "PEERS"];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    for (address, status) in rows {
        cells.push(match status {
            Err(why) => vec!["-".to_owned(), address.to_string(), why.clone()],
            Ok(status) => vec![
                status.node.to_string(),
                address.to_string(),
                state(status),
                status.ballot.to_string(),
                status.first_unchosen.to_string(),
                status.applied.to_string(),
                status.keys.to_string(),
                peers(status),
            ],
        });
    }
    let width = |column: usize| {
        // The reason of a node that does not answer runs over the other columns.
        let full = cells.iter().filter(|row| row.len() == head.len() || column < 2);
        full.map(|row| row[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in &cells {
        let mut line = String::new();
        for (cell, &width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// What the node does, as one or two words; roles only if it does not play all of them.
fn state(status: &NodeStatus) -> String {
    let mut state = match status.leader {
        _ if status.leading => "leads".to_owned(),
        Some(leader) if leader == status.node => "phase 1".to_owned(),
        Some(leader) => format!("follows {leader}"),
        None => "no leader".to_owned(),
    };
    if status.roles != Roles::ALL {
        state.push_str(&format!(" ({})", status.roles));
    }
    if !status.quorum_connected {
        state.push_str(" no quorum");
    }
    if 0 < status.unsure_slots {
        state.push_str(&format!(" repairs {} slots", status.unsure_slots));
    }
    let Health { disk_stalled, disk_full, quarantined } = status.health;
    for (is, what) in
        [(disk_stalled, " stalled"), (disk_full, " full"), (quarantined, " quarantined")]
    {
        state.push_str(if is { what } else { "" });
    }
    state
}

/// How many peers are heard, and which are not.
fn peers(status: &NodeStatus) -> String {
    let silent: Vec<NodeId> =
        status.peers.iter().filter(|peer| !peer.heard).map(|peer| peer.node).collect();
    let mut text = format!("{}/{}", status.peers.len() - silent.len(), status.peers.len());
    for node in silent {
        text.push_str(&format!(" -{node}"));
    }
    text
}

fn health(health: Health) -> Value {
    let Health { disk_stalled, disk_full, quarantined } = health;
    json!({ "disk_stalled": disk_stalled, "disk_full": disk_full, "quarantined": quarantined })
}

fn json(rows: &[Row], matrix: &Matrix) -> Value {
    let nodes: Vec<Value> = rows
        .iter()
        .map(|(address, status)| match status {
            Err(why) => json!({ "address": address.to_string(), "error": why }),
            Ok(status) => json!({
                "address": address.to_string(),
                "node": status.node.0,
                "version": status.version,
                "pid": status.pid,
                "uptime_ms": status.uptime_ms,
                "roles": status.roles.to_string(),
                "leader": status.leader.map(|leader| leader.0),
                "ballot": status.ballot.to_string(),
                "leading": status.leading,
                "quorum_connected": status.quorum_connected,
                "quorum": status.quorum,
                "health": health(status.health),
                "first_unchosen": status.first_unchosen.0,
                "applied": status.applied.0,
                "digest": status.digest,
                "keys": status.keys,
                "sessions": status.sessions,
                "clients": status.clients,
                "syncs": status.syncs,
                "lost_records": status.lost_records,
                "unsure_slots": status.unsure_slots,
                "peers": status.peers.iter().map(|peer| json!({
                    "node": peer.node.0,
                    "connected": peer.connected,
                    "heard": peer.heard,
                    "first_unchosen": peer.first_unchosen.0,
                    "health": health(peer.health),
                })).collect::<Vec<_>>(),
            }),
        })
        .collect();
    let of =
        |a: NodeId| matrix.nodes.iter().map(move |b| (b.to_string(), json!(matrix.hears(a, *b))));
    let hears: Map<String, Value> =
        matrix.nodes.iter().map(|a| (a.to_string(), Value::Object(of(*a).collect()))).collect();
    json!({ "nodes": nodes, "hears": hears })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::fake::Fake;

    fn status(nodes: &[SocketAddr], json: bool) -> (String, u8) {
        let mut out = Vec::new();
        let outcome = run(StatusArgs { json }, nodes, Duration::from_secs(20), &mut out);
        (String::from_utf8(out).unwrap(), outcome.err().map_or(0, |failure| failure.code))
    }

    #[test]
    fn a_table_with_a_dead_node() {
        let mut nodes = Fake::well(2).addresses;
        nodes.push(std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
        let (table, code) = status(&nodes, false);
        assert_eq!(code, 0);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].starts_with("n1") && lines[1].contains("leads"), "{table}");
        assert!(lines[2].starts_with("n2") && lines[2].contains("follows n1"), "{table}");
        assert!(lines[3].ends_with("connection refused"), "{table}");
        assert_eq!(lines[5..], ["HEARS  n1  n2", "n1     .   -", "n2     -   ."], "{table}");
        assert!(lines.iter().all(|line| line.len() <= 80), "{table}");
        let (json, _) = status(&nodes, true);
        let json: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["nodes"][0]["leading"], true);
        assert_eq!(json["nodes"][2]["error"], "connection refused");
    }

    #[test]
    fn exit_codes() {
        let fake = Fake::well(2);
        assert_eq!(status(&fake.addresses[1..], false).1, 1, "only a follower");
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(status(&[free], false).1, 3);
    }
}
