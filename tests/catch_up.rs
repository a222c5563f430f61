//! Real nodes that were away for so long that the others no longer have what they missed.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use loggos::client::Client;
use loggos::store::{Command, Query, Reply};
use loggos::wire::client::Consistency;
use support::Cluster;

const ALL: &str = "acceptor leader replica";
/// Snapshots and truncation as often as can be, and transfers that take some seconds.
const SLOW_TRANSFERS: &str = "snapshot = { log_mib = 1, keep_slots = 0, transfer_mib_s = 1 }\n\
    wal = { segment_mib = 8 }";
const KEYS: u32 = 40;

/// Sets a key to 64 KiB that say in which round that was.
fn put(client: &mut Client, key: u32, round: u8) {
    let value = vec![round; 64 * 1024];
    let put = Command::Put { key: &key.to_be_bytes(), value: &value };
    assert_eq!(client.execute(&put).expect("it is written").reply, Reply::Done);
}

/// A node is down until the others have truncated what it misses. It comes back while a counter is counted
/// up without a pause, is killed in the middle of the transfer, comes back again, and goes on with what it
/// has; then it serves all that was acknowledged meanwhile, and the counter shows each increment once.
#[test]
fn a_node_catches_up_by_a_snapshot_while_others_write() {
    let mut cluster = Cluster::new(&[ALL; 3], SLOW_TRANSFERS);
    cluster.start_all();
    cluster.leader();
    let mut client = cluster.client();
    put(&mut client, 0, 1);
    cluster.kill(3);
    for round in 1..=8 {
        for key in 0..KEYS {
            put(&mut client, key, round);
        }
    }
    for node in 1..=2 {
        cluster.wait_for(node, "files of the log");
        // And no newer one comes while the third fetches it.
        let at = &[cluster.nodes[&node].client_address];
        Client::new(at, support::PATIENCE).snapshot().expect("one is taken now");
    }

    let done = AtomicBool::new(false);
    let mut counter = cluster.client();
    let counted = std::thread::scope(|scope| {
        let counting = scope.spawn(|| {
            let mut counted = 0;
            while !done.load(Ordering::Relaxed) {
                let incr = Command::Incr { key: b"counter", by: 1 };
                counter.execute(&incr).expect("the others serve");
                counted += 1;
            }
            counted
        });
        cluster.start_node(3);
        cluster.wait_for(3, "fetching the snapshot of slot");
        cluster.wait_for(3, "received");
        cluster.kill(3);
        cluster.start_node(3);
        cluster.wait_for(3, "bytes of");
        cluster.wait_for(3, "the state is that behind slot");
        done.store(true, Ordering::Relaxed);
        counting.join().expect("it counts to the end")
    });
    assert!(100 < counted, "{counted}");

    let mut at_third = Client::new(&[cluster.nodes[&3].client_address], support::PATIENCE);
    for key in 0..KEYS {
        let query = Query::Get { key: &key.to_be_bytes() };
        let answer = at_third.query(&query, Consistency::Linearizable).expect("it is read");
        assert_eq!(answer.reply, Reply::Value(Some(vec![8; 64 * 1024])));
    }
    let query = Query::Get { key: b"counter" };
    let answer = at_third.query(&query, Consistency::Linearizable).expect("it is read");
    assert_eq!(answer.reply, Reply::Value(Some(counted.to_string().into_bytes())));
    cluster.assert_agreement();

    // It starts from what it installed, and its log from behind that.
    cluster.kill(3);
    cluster.start_node(3);
    cluster.seen(3, "loaded the snapshot of slot");
    cluster.assert_agreement();
}

/// Acceptors that keep no state let go of what the replicas have in snapshots, and one that was away passes
/// over it. All of them are killed: with what their logs still hold they serve again, led by a node that has
/// to learn from them how far all is chosen.
#[test]
fn acceptors_without_a_state_let_go_of_the_past() {
    let mut roles = vec!["acceptor"; 3];
    roles.extend(["leader replica"; 2]);
    let fast = SLOW_TRANSFERS.replace("transfer_mib_s = 1 ", "transfer_mib_s = 64 ");
    let mut cluster = Cluster::new(&roles, &fast);
    cluster.start_all();
    cluster.leader();
    let mut client = cluster.client();
    put(&mut client, 0, 1);
    cluster.kill(3);
    for round in 1..=10 {
        for key in 0..KEYS {
            put(&mut client, key, round);
        }
    }
    for acceptor in 1..=2 {
        cluster.wait_for(acceptor, "files of the log");
    }
    cluster.start_node(3);
    cluster.wait_for(3, "went from slot");
    for node in 1..=5 {
        cluster.kill(node);
    }
    for node in 1..=5 {
        cluster.start_node(node);
    }
    let mut client = cluster.client();
    put(&mut client, 0, 11);
    cluster.assert_agreement();
}
