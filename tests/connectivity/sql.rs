//! The same through SQL: what the ChiselStore report tried by hand, and left to do, with a replicated SQLite. Statements
//! are served within four election timeouts, and all replicas have the same rows in the end, each question once.

use loggos::sql::{SqlValue, Statement};
use loggos::store::{Query, Reply};

use super::*;

/// Those of the report (all connected; only one node reaches a quorum; two that do and do not reach each other), and
/// those of the paper that it builds on.
const SCENARIOS: [&str; 6] =
    ["all connected", "chained", "constrained", "quorum loss", "quorum loss, one hub", "two hubs"];

/// A row of its own for each question, with chance and time in it.
fn insert(number: u64) -> Vec<u8> {
    let key = format!("question {number}");
    sim::sql_command(&store::Command::Create { key: key.as_bytes(), value: b"v" })
}

fn ask(watch: &Watch, node: NodeId, text: &str) -> Vec<Vec<SqlValue>> {
    let statement = Statement { text, parameters: Vec::new() };
    match watch.cluster.hosts[&node].store.query(&Query::Sql(&kv::encode_statement(&statement))) {
        Reply::Rows(rows) => rows.rows,
        other => panic!("{node}: {other:?}"),
    }
}

/// How long nothing was served, and how many rows there are then, at each replica the same.
fn insert_all(row: &Row, trial: &Trial) -> (f64, usize) {
    let Row { name, nodes, .. } = row;
    let told = format!("{name}, {nodes} nodes, n{} led, seed {}", trial.leader, trial.seed);
    let (Measured { down, .. }, mut watch) = measured(trial, insert);
    assert!(down <= DOWN_MAX, "{told}: down for {down:.2} election timeouts");
    watch.cluster.heal_all();
    watch.run(4 * TIMEOUT_US);
    // No question comes any more, and the last one is everywhere.
    watch.next_ask_us = u64::MAX;
    watch.run(4 * TIMEOUT_US);
    assert!(watch.waiting.is_empty(), "{told}: {:?}", watch.waiting);
    let all = "SELECT k, v, r, t FROM kv ORDER BY k";
    let nodes = watch.cluster.nodes();
    let first = ask(&watch, nodes[0], all);
    assert_eq!(first.len() as u64, watch.asked, "{told}");
    for node in &nodes[1..] {
        assert_eq!(ask(&watch, *node, all), first, "{told}: n1 and {node} differ");
    }
    (down, first.len())
}

#[test]
fn statements_are_served_within_four_election_timeouts() {
    let only = std::env::var("ONLY").unwrap_or_default();
    let rows = rows();
    let rows = rows.iter().filter(|row| SCENARIOS.contains(&&row.name[..]));
    for row in rows.filter(|row| row.name.contains(&only)) {
        let played = play(row, |trial| insert_all(row, trial));
        let most = played.iter().map(|(down, _)| *down).fold(0.0, f64::max);
        let inserted: usize = played.iter().map(|(_, rows)| rows).sum();
        let Row { name, nodes, trials, .. } = row;
        println!("{name}, {nodes} nodes: {} trials, {inserted} rows, most {most:.2}", trials.len());
    }
}
