//! Real nodes that take snapshots, lose them, and start from them.

mod support;

use std::fs;
use std::path::PathBuf;

use loggos::client::Client;
use loggos::store::{Command, Query, Reply};
use loggos::wire::client::Consistency;
use support::Cluster;

const ALL: &str = "acceptor leader replica";
const EVERY_MIB: &str = "snapshot = { log_mib = 1 }\nwal = { segment_mib = 8 }";

/// Sets each of these keys to 64 KiB.
fn fill(client: &mut Client, keys: std::ops::Range<u32>) {
    for key in keys {
        let value = vec![key as u8; 64 * 1024];
        let put = Command::Put { key: &key.to_be_bytes(), value: &value };
        assert_eq!(client.execute(&put).expect("it is written").reply, Reply::Done);
    }
}

fn check(client: &mut Client, keys: std::ops::Range<u32>) {
    for key in keys {
        let query = Query::Get { key: &key.to_be_bytes() };
        let answer = client.query(&query, Consistency::Linearizable).expect("it is read");
        assert_eq!(answer.reply, Reply::Value(Some(vec![key as u8; 64 * 1024])));
    }
}

/// The snapshots of a node, the oldest first.
fn snapshots(cluster: &Cluster, node: u16) -> Vec<PathBuf> {
    let dir = cluster.data_dir(node).join("snapshots");
    let names = fs::read_dir(dir).expect("the directory").map(|entry| entry.unwrap().path());
    let mut names: Vec<_> = names.filter(|path| path.extension().unwrap() == "snap").collect();
    names.sort();
    names
}

/// All nodes are killed while they take snapshots; each comes back from its newest one and what the log
/// holds behind it, and nothing is lost.
#[test]
fn nodes_start_from_their_snapshots() {
    let mut cluster = Cluster::new(&[ALL; 3], EVERY_MIB);
    cluster.start_all();
    let mut client = cluster.client();
    fill(&mut client, 0..60);
    for node in 1..=3 {
        cluster.wait_for(node, "bytes in");
    }
    for node in 1..=3 {
        cluster.kill(node);
    }
    for node in 1..=3 {
        cluster.start_node(node);
        let log = cluster.seen(node, "loaded the snapshot of slot");
        assert!(!log.contains("slot 0"), "{log}");
        assert!((1..=2).contains(&snapshots(&cluster, node).len()));
    }
    let mut client = cluster.client();
    check(&mut client, 0..60);
    fill(&mut client, 60..70);
    check(&mut client, 60..70);
    cluster.assert_agreement();
}
