//! Clusters of real processes on loopback, killed and restarted under load.
//!
//! The load counts: each worker increments a counter of its own, so that a lost command shows as a
//! counter too low and one applied twice as a counter too high.

mod support;

use std::time::Duration;

use loggos::client::{Client, Error};
use loggos::store::{Command, Query, Reply};
use loggos::wire::client::Consistency;
use support::Cluster;
use support::load::Load;

fn put(client: &mut Client, key: &[u8], value: &[u8]) -> Result<(), Error> {
    client.execute(&Command::Put { key, value }).map(|_| ())
}

fn get(client: &mut Client, key: &[u8]) -> Option<Vec<u8>> {
    let answer = client.query(&Query::Get { key }, Consistency::Linearizable).expect("a read");
    match answer.reply {
        Reply::Value(value) => value,
        other => panic!("a get answered {other:?}"),
    }
}

/// Each node in turn, the leader among them, is killed under load and comes back.
#[test]
fn killing_each_node_under_load_loses_nothing() {
    let mut cluster = Cluster::start(3);
    let load = Load::start(&cluster, 4);
    load.wait_for_progress(200);
    for id in 1..=3 {
        cluster.kill(id);
        load.wait_for_progress(200);
        cluster.start_node(id);
        load.wait_for_progress(200);
    }
    load.finish(&cluster);
}

/// The leader, whoever it is, is killed again and again: the worst case for exactly-once.
#[test]
fn killing_the_leader_repeatedly_loses_nothing() {
    let mut cluster = Cluster::start(3);
    let load = Load::start(&cluster, 4);
    for _ in 0..3 {
        load.wait_for_progress(100);
        let leader = cluster.leader();
        cluster.kill(leader);
        load.wait_for_progress(100);
        cluster.start_node(leader);
    }
    load.finish(&cluster);
}

/// All nodes die at once, with commands in flight: all that was acknowledged is on the disks.
#[test]
fn killing_all_nodes_at_once_loses_nothing() {
    let mut cluster = Cluster::start(3);
    let load = Load::start(&cluster, 4);
    load.wait_for_progress(300);
    for id in 1..=3 {
        cluster.kill(id);
    }
    cluster.start_all();
    load.wait_for_progress(100);
    load.finish(&cluster);
}

#[test]
fn five_nodes_survive_two_kills() {
    let mut cluster = Cluster::start(5);
    let load = Load::start(&cluster, 3);
    load.wait_for_progress(100);
    let leader = cluster.leader();
    let other = leader % 5 + 1;
    cluster.kill(leader);
    cluster.kill(other);
    load.wait_for_progress(200);
    load.finish(&cluster);
}

/// Without a majority nothing can be decided: a write and a read end in an error, in time, and
/// afterwards the state is one that the errors allow.
#[test]
fn without_a_majority_there_is_an_error_and_no_wrong_answer() {
    let roles = ["acceptor leader replica"; 3];
    let mut cluster = Cluster::new(&roles, "[timing]\nrequest_timeout_ms = 500\n");
    cluster.start_all();
    let mut client = cluster.client();
    put(&mut client, b"key", b"before").expect("a write with a majority");
    cluster.assert_agreement();
    cluster.kill(1);
    cluster.kill(2);

    let only = [cluster.nodes[&3].client_address];
    let mut lonely = Client::new(&only, Duration::from_secs(2));
    assert!(put(&mut lonely, b"key", b"after").is_err());
    let query = Query::Get { key: b"key" };
    assert!(lonely.query(&query, Consistency::Linearizable).is_err());
    // Asked for what it has, stale or not, the replica answers.
    let stale = lonely.query(&query, Consistency::Stale).expect("a stale read");
    assert_eq!(stale.reply, Reply::Value(Some(b"before".to_vec())));

    cluster.start_node(1);
    cluster.start_node(2);
    let value = get(&mut client, b"key").expect("the key is there");
    assert!(value == b"before" || value == b"after", "{value:?}");
    cluster.assert_agreement();
}

/// Where the only node that can lead is dead, no write is decided any more, and quorum reads go on at every
/// replica: they show what was acknowledged.
#[test]
fn quorum_reads_need_no_leader() {
    let roles = ["acceptor replica", "acceptor replica", "acceptor replica", "leader"];
    let mut cluster = Cluster::new(&roles, "");
    cluster.start_all();
    let mut client = cluster.client();
    put(&mut client, b"key", b"before").expect("a write with a leader");
    put(&mut client, b"key", b"after").expect("a write with a leader");
    cluster.kill(4);
    for id in 1..=3 {
        let mut one = Client::new(&[cluster.nodes[&id].client_address], Duration::from_secs(10));
        let answer = one.query(&Query::Get { key: b"key" }, Consistency::Quorum);
        assert_eq!(answer.expect("a read").reply, Reply::Value(Some(b"after".to_vec())), "n{id}");
    }
    assert_eq!(cluster.status(1).leader, None);
}

/// The deployment of Paxos Made Moderately Complex: every role on nodes of its own.
#[test]
fn split_roles_serve_and_survive() {
    let roles = ["acceptor", "acceptor", "acceptor", "leader", "leader", "replica", "replica"];
    let mut cluster = Cluster::new(&roles, "");
    cluster.start_all();
    // Clients that happen to ask a node without the replica role are sent on.
    let mut client = cluster.client();
    for i in 0..20u8 {
        put(&mut client, &[b'k', i], &[i]).expect("a write");
    }
    cluster.assert_agreement();
    // A replica that comes back learns what it missed; another leader takes over.
    cluster.kill(6);
    cluster.kill(1);
    let leader = cluster.leader();
    cluster.kill(leader);
    for i in 20..40u8 {
        put(&mut client, &[b'k', i], &[i]).expect("a write after the kills");
    }
    cluster.start_node(6);
    for i in 0..40u8 {
        assert_eq!(get(&mut client, &[b'k', i]), Some(vec![i]));
    }
    cluster.assert_agreement();
}

/// SIGTERM ends a node with exit code 0; the leader hands over first, and nothing is lost.
#[test]
fn sigterm_ends_a_node_cleanly() {
    let mut cluster = Cluster::start(3);
    let load = Load::start(&cluster, 3);
    load.wait_for_progress(100);
    let leader = cluster.leader();
    assert!(cluster.stop(leader).success());
    load.wait_for_progress(100);
    cluster.start_node(leader);
    load.wait_for_progress(100);
    load.finish(&cluster);
}

/// A node that was away while much happened catches up from its peers' logs.
#[test]
fn a_node_that_was_away_catches_up() {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.client();
    put(&mut client, b"first", b"1").expect("a write");
    let away = cluster.leader() % 3 + 1;
    cluster.kill(away);
    let value = vec![7; 100_000];
    for i in 0..100u8 {
        put(&mut client, &[b'v', i], &value).expect("a write");
    }
    cluster.start_node(away);
    cluster.assert_agreement();
    assert_eq!(cluster.status(away).keys, 101);
}

/// One node alone is a cluster too.
#[test]
fn a_cluster_of_one_serves_and_remembers() {
    let mut cluster = Cluster::start(1);
    put(&mut cluster.client(), b"key", b"value").expect("a write");
    cluster.kill(1);
    cluster.start_node(1);
    assert_eq!(get(&mut cluster.client(), b"key"), Some(b"value".to_vec()));
}

/// What `loggos doctor` says of the cluster, and its exit code.
fn doctor(cluster: &Cluster) -> (String, i32) {
    let addresses: Vec<String> =
        cluster.nodes.values().map(|node| node.client_address.to_string()).collect();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_loggos"))
        .args(["doctor", "--nodes", &addresses.join(",")])
        .output()
        .expect("it runs");
    let text = String::from_utf8(output.stdout).expect("sentences");
    (text.replace("\n  ", " "), output.status.code().expect("it ends by itself"))
}

/// A doctor who finds nothing where something is wrong, or something where nothing is, is none.
#[test]
fn the_doctor_finds_dead_nodes_and_a_lost_quorum() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let others: Vec<u16> = (1..=3).filter(|id| *id != leader).collect();
    let well = format!("n{leader} leads");
    cluster.client().execute(&Command::Put { key: b"k", value: b"v" }).unwrap();
    cluster.assert_agreement();
    cluster.wait_until("everybody to hear everybody", |statuses| {
        let all = statuses.iter().all(|status| status.peers.iter().all(|peer| peer.heard));
        all.then_some(())
    });
    let (text, code) = doctor(&cluster);
    assert!(text.contains(&well) && text.contains("of 3 acceptors; 2 are needed"), "{text}");
    assert_eq!(code, 0, "{text}");

    cluster.kill(others[0]);
    cluster.wait_for(leader, &format!("lost the connection to n{}", others[0]));
    cluster.wait_for(others[1], &format!("lost the connection to n{}", others[0]));
    let (text, code) = doctor(&cluster);
    assert!(text.contains(&format!("n{} is heard by nobody", others[0])), "{text}");
    assert_eq!(code, 1, "{text}");

    cluster.kill(others[1]);
    cluster.wait_for(leader, &format!("lost the connection to n{}", others[1]));
    cluster.wait_until("no leader", |statuses| {
        statuses.iter().all(|status| !status.leading).then_some(())
    });
    let (text, code) = doctor(&cluster);
    assert!(text.contains("no node reaches a quorum: 2 of 3 acceptors are needed"), "{text}");
    assert_eq!(code, 1, "{text}");
}

/// A leader whose syncs do not end leaves the lead to another, and does not get it back; what was
/// acknowledged stays. strace makes each of its syncs take seconds; where it may not, nothing is tested.
#[test]
fn a_leader_with_a_stalled_disk_hands_over() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let pid = cluster.status(leader).pid.to_string();
    let load = Load::start(&cluster, 2);
    let slow = ["-e", "trace=fdatasync", "-e", "inject=fdatasync:delay_enter=3000000"];
    let strace = std::process::Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-p", &pid])
        .args(slow)
        .stderr(std::process::Stdio::null())
        .spawn();
    let Ok(mut strace) = strace else {
        println!("left out: there is no strace here");
        return load.finish(&cluster);
    };
    let moved = cluster.wait_until("another leader, or strace to fail", |statuses| {
        if matches!(strace.try_wait(), Ok(Some(_))) {
            return Some(None);
        }
        statuses.iter().find(|s| s.leading && s.node.0 != leader).map(|s| Some(s.node.0))
    });
    let Some(now) = moved else {
        println!("left out: strace may not trace here");
        return load.finish(&cluster);
    };
    cluster.wait_for(leader, "the disk stalls");
    // The syncs of the new leader do not wait for the old one.
    load.wait_for_progress(50);
    assert_eq!(cluster.leader(), now);
    strace.kill().expect("it runs");
    strace.wait().expect("it ends");
    cluster.wait_for(leader, "the disk stalls no more");
    load.finish(&cluster);
    assert_eq!(cluster.leader(), now);
}
