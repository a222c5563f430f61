//! Real nodes that come and go under load: a cluster grows, loses a disk, loses its leader, and says no to
//! what would harm it.

mod support;

use loggos::wire::status::PeerStatus;
use support::Cluster;
use support::load::Load;

const TIMEOUT: &str = "--timeout 60s";

/// Has `id` added, started, and promoted once it has learned all.
fn grow(cluster: &mut Cluster, id: u16, seed: u16) {
    cluster.newcomer(id, seed);
    let node = &cluster.nodes[&id];
    let add = format!(
        "member add {id} --peer-address {} --client-address {} {TIMEOUT}",
        node.peer_address, node.client_address
    );
    let said = cluster.loggos(&add).expect("it is added");
    assert!(said.contains("join = true"), "{said}");
    cluster.start_node(id);
    cluster.loggos(&format!("member promote {id} {TIMEOUT}")).expect("it is promoted");
}

/// From three nodes to five while increments go on; then any two may fail.
#[test]
fn three_become_five_under_load() {
    let mut cluster = Cluster::start(3);
    let load = Load::start(&cluster, 4);
    load.wait_for_progress(200);
    grow(&mut cluster, 4, 1);
    load.wait_for_progress(100);
    grow(&mut cluster, 5, 3);
    let listed = cluster.loggos("member list").unwrap();
    assert!(listed.contains("epoch 5; quorums of 3 (phase 1) and 3 (phase 2)"), "{listed}");
    assert!(listed.lines().all(|line| line.len() <= 100), "{listed}");
    for id in [1, 2] {
        cluster.kill(id);
    }
    load.wait_for_progress(200);
    // They come back knowing of five, whatever their file says.
    for id in [1, 2] {
        cluster.start_node(id);
        assert_eq!(cluster.status(id).configuration.members.len(), 5);
    }
    load.finish(&cluster);
}

/// A node loses its disk. It must not come back under its id; one with a new id takes its place in one
/// step, and the old id is never taken again.
#[test]
fn a_node_that_lost_its_disk_is_replaced() {
    let mut cluster = Cluster::start(3);
    let load = Load::start(&cluster, 4);
    load.wait_for_progress(200);
    cluster.kill(2);
    std::fs::remove_dir_all(cluster.data_dir(2)).unwrap();
    cluster.newcomer(2, 1);
    cluster.start_node(2);
    cluster.wait_for(2, "its data directory is empty");
    cluster.kill(2);
    cluster.newcomer(4, 1);
    let node = &cluster.nodes[&4];
    let add = format!(
        "member add 4 --peer-address {} --client-address {} {TIMEOUT}",
        node.peer_address, node.client_address
    );
    // It may run before it is a member: it waits at the door.
    cluster.start_node(4);
    cluster.wait_for(4, "is no member of this cluster");
    cluster.loggos(&add).expect("it is added");
    cluster.loggos(&format!("member replace 2 4 {TIMEOUT}")).expect("it is replaced");
    load.wait_for_progress(100);
    // Asked again, as after a lost answer: it is done, and that is said.
    cluster.loggos(&format!("member replace 2 4 {TIMEOUT}")).expect("it was replaced");
    let (code, why) = cluster
        .loggos("member add 2 --peer-address 127.0.0.1:1 --client-address 127.0.0.1:2")
        .unwrap_err();
    assert!(code == 3 && why.contains("ids are never used again"), "{code}: {why}");
    // All of 1, 3 and 4 are full members: each may fail.
    cluster.kill(1);
    load.wait_for_progress(100);
    cluster.start_node(1);
    load.finish(&cluster);
}

/// The leader is removed: another leads, and the one that left serves nobody any more.
#[test]
fn a_leader_that_is_removed_hands_over() {
    let cluster = Cluster::start(3);
    let load = Load::start(&cluster, 4);
    load.wait_for_progress(100);
    let leader = cluster.leader();
    let said = cluster.loggos(&format!("member remove {leader} {TIMEOUT}")).unwrap();
    assert!(said.contains("may be stopped"), "{said}");
    load.wait_for_progress(200);
    let status = cluster.status(leader);
    assert!(status.configuration.removed && !status.leading, "{status:?}");
    let mut cluster = cluster;
    assert!(cluster.stop(leader).success());
    load.finish(&cluster);
}

/// What would harm the cluster is refused, with the reason.
#[test]
fn harmful_changes_are_refused() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let refused = |cluster: &Cluster, line: &str, expected: &str| {
        let (code, why) = cluster.loggos(line).unwrap_err();
        assert!(code == 3 && why.contains(expected), "{line}: {code}: {why}");
    };
    let other = leader % 3 + 1;
    let third = other % 3 + 1;
    refused(&cluster, "member remove 9", "n9 is no member of the cluster");
    let node = &cluster.nodes[&other];
    let taken =
        format!("member add 7 --peer-address {} --client-address 127.0.0.1:3", node.peer_address);
    refused(&cluster, &taken, "is an address of");
    refused(&cluster, &format!("leader transfer {leader}0"), "is no member that may lead");
    // Another cluster's node where the new one should be.
    let stranger = Cluster::new(&["acceptor leader replica"], "");
    let config = std::fs::read_to_string(stranger.config_path()).unwrap();
    std::fs::write(stranger.config_path(), config.replace("\"test\"", "\"elsewhere\"")).unwrap();
    let mut stranger = stranger;
    stranger.start_all();
    let theirs = &stranger.nodes[&1];
    let add = format!(
        "member add 8 --peer-address {} --client-address {}",
        theirs.peer_address, theirs.client_address
    );
    refused(&cluster, &add, "elsewhere");
    // With one of three down, no other may leave.
    cluster.kill(third);
    let line = format!("member remove {other}");
    wait_until_heard(&cluster, leader, &[other]);
    refused(&cluster, &line, "would lose its quorum");
    cluster.loggos(&format!("member remove {third} {TIMEOUT}")).expect("the dead one may leave");
}

/// Until a node has noticed that these peers answer, and no others.
fn wait_until_heard(cluster: &Cluster, node: u16, peers: &[u16]) {
    let is_as_told = |peer: &PeerStatus| peer.heard == peers.contains(&peer.node.0);
    cluster.wait_until("the peers that it hears", |statuses| {
        let status = statuses.iter().find(|status| status.node.0 == node)?;
        status.peers.iter().all(is_as_told).then_some(())
    });
}

/// Leadership goes where it is asked to go.
#[test]
fn the_lead_is_transferred() {
    let cluster = Cluster::start(3);
    let leader = cluster.leader();
    let to = leader % 3 + 1;
    // Until the leader knows that whom it is asked to hand the lead to could have it.
    let hears_both = |peer: &PeerStatus| peer.heard && peer.hears.len() == 2;
    cluster.wait_until("a leader that hears of all links", |statuses| {
        let status = statuses.iter().find(|status| status.node.0 == leader)?;
        status.peers.iter().all(hears_both).then_some(())
    });
    let said = cluster.loggos(&format!("leader transfer {to} {TIMEOUT}")).unwrap();
    assert_eq!(said, format!("n{to} leads\n"));
    assert_eq!(cluster.leader(), to);
}
