//! Real nodes of one cluster that keep their keys in different engines: nobody can tell.

mod support;

use std::fs;
use std::path::Path;

use loggos::client::Client;
use loggos::store::{Command, Query, Reply};
use loggos::wire::client::Consistency;
use support::Cluster;

const ALL: &str = "acceptor leader replica";
/// Snapshots and truncation as often as can be.
const EVERY_MIB: &str = "snapshot = { log_mib = 1, keep_slots = 0 }\nwal = { segment_mib = 8 }";
const KEYS: u32 = 40;

/// Sets all keys to 64 KiB that say in which round that was, but one, which it deletes and counts up.
fn fill(client: &mut Client, round: u8) {
    for key in 0..KEYS {
        let value = vec![round; 64 * 1024];
        let put = Command::Put { key: &key.to_be_bytes(), value: &value };
        assert_eq!(client.execute(&put).expect("it is written").reply, Reply::Done);
    }
    let deleted = Command::Delete { key: &0u32.to_be_bytes() };
    assert_eq!(client.execute(&deleted).expect("it is deleted").reply, Reply::Done);
    client.execute(&Command::Incr { key: b"rounds", by: 1 }).expect("it is counted");
}

/// Reads all keys at this node.
fn check(cluster: &Cluster, node: u16, round: u8) {
    let mut client = Client::new(&[cluster.nodes[&node].client_address], support::PATIENCE);
    for key in 1..KEYS {
        let query = Query::Get { key: &key.to_be_bytes() };
        let answer = client.query(&query, Consistency::Linearizable).expect("it is read");
        assert_eq!(answer.reply, Reply::Value(Some(vec![round; 64 * 1024])));
    }
    let query = Query::Scan { from: b"", to: Some(&3u32.to_be_bytes()), limit: 9 };
    let answer = client.query(&query, Consistency::Linearizable).expect("it is read");
    let Reply::Entries { entries, next: None } = answer.reply else { panic!("{answer:?}") };
    assert_eq!(entries.len(), 2, "one is deleted");
}

/// The tables in a data directory, and what lies in them.
fn tables(data_dir: &Path) -> Vec<usize> {
    let tables = fs::read_dir(data_dir.join("keys")).expect("the directory");
    tables.map(|table| fs::read_dir(table.unwrap().path()).unwrap().count()).collect()
}

/// Node 2 has its keys in RocksDB, and is killed and started again while the others write: its table is made
/// anew from its snapshot and its log.
#[test]
fn a_mixed_cluster_agrees() {
    let mut cluster = Cluster::new(&[ALL; 3], EVERY_MIB);
    cluster.set_engine(2, "rocksdb");
    cluster.start_all();
    let mut client = cluster.client();
    fill(&mut client, 1);
    for round in 2..6 {
        cluster.kill(2);
        fill(&mut client, round);
        cluster.start_node(2);
        fill(&mut client, round);
        cluster.assert_agreement();
        check(&cluster, 2, round);
        assert_eq!(tables(&cluster.data_dir(2)).len(), 1, "what the one before left is gone");
    }
    cluster.seen(2, "loaded the snapshot of slot");
    // The same snapshots, too: a node that comes with the other engine starts from its own.
    cluster.kill(2);
    cluster.kill(1);
    cluster.set_engine(2, "memory");
    cluster.set_engine(1, "rocksdb");
    cluster.start_node(2);
    cluster.start_node(1);
    cluster.assert_agreement();
    for node in 1..=3 {
        check(&cluster, node, 5);
    }
}

/// Node `behind` misses more than the others' logs hold, and gets a snapshot from one of the other engine.
fn catches_up(engines: [&str; 3], behind: u16) {
    let mut cluster = Cluster::new(&[ALL; 3], EVERY_MIB);
    for (node, engine) in (1..).zip(engines) {
        cluster.set_engine(node, engine);
    }
    cluster.start_all();
    cluster.leader();
    let mut client = cluster.client();
    fill(&mut client, 1);
    cluster.kill(behind);
    // What is before the older of two snapshots goes, a file of the log at a time.
    for round in 2..=8 {
        fill(&mut client, round);
    }
    for _ in 0..2 {
        for node in (1..=3).filter(|node| *node != behind) {
            let at = &[cluster.nodes[&node].client_address];
            Client::new(at, support::PATIENCE).snapshot().expect("one is taken now");
        }
        fill(&mut client, 8);
    }
    for node in (1..=3).filter(|node| *node != behind) {
        cluster.wait_for(node, "files of the log");
    }
    cluster.start_node(behind);
    cluster.wait_for(behind, "the state is that behind slot");
    fill(&mut client, 9);
    cluster.assert_agreement();
    check(&cluster, behind, 9);
    cluster.kill(behind);
    cluster.start_node(behind);
    cluster.assert_agreement();
}

#[test]
fn rocksdb_catches_up_from_memory() {
    catches_up(["memory", "memory", "rocksdb"], 3);
}

#[test]
fn memory_catches_up_from_rocksdb() {
    catches_up(["rocksdb", "rocksdb", "memory"], 3);
}
