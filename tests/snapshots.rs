//! Real nodes that take snapshots, lose them, and start from them.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Output};

use loggos::client::Client;
use loggos::store::{Command, Query, Reply};
use loggos::wire::client::Consistency;
use support::Cluster;

const ALL: &str = "acceptor leader replica";
const EVERY_MIB: &str = "snapshot = { log_mib = 1, keep_slots = 0 }\nwal = { segment_mib = 8 }";

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
    let mut names: Vec<_> =
        names.filter(|path| path.extension().is_some_and(|it| it == "snap")).collect();
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
        // As if it had been killed before the oldest was removed.
        let newest = snapshots(&cluster, node).pop().expect("a snapshot");
        for slot in 1..=2 {
            fs::copy(&newest, newest.with_file_name(format!("{slot:020}.snap"))).expect("a copy");
        }
    }
    for node in 1..=3 {
        cluster.start_node(node);
        let log = cluster.seen(node, "loaded the snapshot of slot");
        assert!(!log.contains("slot 0"), "{log}");
        cluster.seen(node, "serving as");
        assert!((1..=2).contains(&snapshots(&cluster, node).len()));
    }
    let mut client = cluster.client();
    check(&mut client, 0..60);
    fill(&mut client, 60..70);
    check(&mut client, 60..70);
    cluster.assert_agreement();
}

fn loggos(args: &[&str], path: &Path) -> Output {
    let mut command = Process::new(env!("CARGO_BIN_EXE_loggos"));
    command.args(args).arg(path).output().expect("the binary starts")
}

fn stdout(output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {stderr}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A backup is taken while a writer is at work. A new cluster is made of it: it must hold all that was
/// acknowledged before, nothing that was written after, and go on. What is not a backup any more is
/// refused, and so is a second cluster of the same name.
#[test]
fn a_backup_becomes_a_new_cluster() {
    let mut cluster = Cluster::new(&[ALL; 3], "");
    cluster.start_all();
    let mut client = cluster.client();
    fill(&mut client, 0..20);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("backup");
    let nodes = cluster.addresses().iter().map(|it| it.to_string()).collect::<Vec<_>>().join(",");
    let told = stdout(&loggos(&["backup", "--nodes", &nodes], &file));
    // A client that has to ask twice for its session has two.
    assert!(told.contains(": 20 keys, "), "{told}");
    assert_eq!(stdout(&loggos(&["verify"], &file)), told);
    assert_eq!(loggos(&["backup", "--nodes", &nodes], &file).status.code(), Some(2));
    let told = stdout(&loggos(&["snapshot", "--json", "--nodes"], Path::new(&nodes)));
    assert!(told.contains("\"slot\":"), "{told}");
    fill(&mut client, 20..21);

    let mut new = Cluster::named("new", &[ALL; 3], "");
    for node in 1..=3 {
        let (config, data_dir) = (new.config_path(), new.data_dir(node));
        let (config, data_dir) = (config.to_str().unwrap(), data_dir.to_str().unwrap());
        let node = node.to_string();
        let args = ["restore", "--config", config, "--node", &node, "--data-dir", data_dir];
        stdout(&loggos(&args, &file));
        assert_eq!(loggos(&args, &file).status.code(), Some(2), "not into the same twice");
    }
    new.start_all();
    let mut client = new.client();
    check(&mut client, 0..20);
    let query = Query::Get { key: &20u32.to_be_bytes() };
    let answer = client.query(&query, Consistency::Linearizable).expect("it is read");
    assert_eq!(answer.reply, Reply::Value(None));
    fill(&mut client, 30..32);
    check(&mut client, 30..32);
    new.assert_agreement();

    let config = cluster.config_path();
    let twin = dir.path().join("twin");
    let (config, twin) = (config.to_str().unwrap(), twin.to_str().unwrap());
    let args = ["restore", "--config", config, "--node", "1", "--data-dir", twin];
    assert_eq!(loggos(&args, &file).status.code(), Some(2), "the same name");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert_eq!(loggos(&["verify"], &file).status.code(), Some(5));
}

/// The newest snapshot goes bad on the disk: the node starts from the one before and the log, says so,
/// and holds the same.
#[test]
fn a_node_with_a_damaged_snapshot_starts_from_the_one_before() {
    let mut cluster = Cluster::new(&[ALL], EVERY_MIB);
    cluster.start_all();
    let mut client = cluster.client();
    fill(&mut client, 0..20);
    cluster.wait_for(1, "bytes in");
    fill(&mut client, 20..40);
    cluster.wait_for(1, "bytes in");
    cluster.kill(1);
    let newest = snapshots(&cluster, 1).pop().expect("there is one");
    let mut bytes = fs::read(&newest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&newest, bytes).unwrap();
    cluster.start_node(1);
    cluster.seen(1, "cannot be used");
    check(&mut cluster.client(), 0..40);
}

/// The same keys are written again and again: the log must not grow for ever, and what is left of it must
/// still be enough, also when a crash comes at any time.
#[test]
fn the_log_is_cut_off_behind_snapshots() {
    let mut cluster = Cluster::new(&[ALL], EVERY_MIB);
    cluster.start_all();
    for times in [25, 8] {
        let mut client = cluster.client();
        for _ in 0..times {
            fill(&mut client, 0..20);
        }
        if times == 25 {
            cluster.wait_for(1, "files of the log");
        }
        cluster.kill(1);
        cluster.start_node(1);
        let segments = fs::read_dir(cluster.data_dir(1).join("wal")).unwrap().count();
        assert!(segments <= 5, "{segments} files of 8 MiB, after {times} times 1.25 MiB more");
        check(&mut cluster.client(), 0..20);
    }
}

/// Somebody changes the quorums in the file of one node that has run before. It must keep to what the
/// cluster began with, or it would count votes in another way than the others do.
#[test]
fn a_node_keeps_the_configuration_that_it_began_with() {
    let mut cluster = Cluster::new(&[ALL; 3], "");
    cluster.start_all();
    fill(&mut cluster.client(), 0..1);
    for node in 1..=3 {
        cluster.kill(node);
    }
    let text = fs::read_to_string(cluster.config_path()).unwrap();
    fs::write(cluster.config_path(), text + "[quorum]\nphase1 = 3\nphase2 = 1\n").unwrap();
    for node in 1..=2 {
        cluster.start_node(node);
    }
    fill(&mut cluster.client(), 1..2);
    check(&mut cluster.client(), 0..2);
}

/// The memory of one replica changes: an increment made of that is wrong at this replica only. It must hear
/// so from the two others, serve nobody, get another state, and go on. It asks those who are members now:
/// what its file says of them was true once.
#[cfg(feature = "mutants")]
#[test]
fn a_replica_with_a_wrong_state_gets_another() {
    let mut cluster = Cluster::new(&[ALL; 3], "");
    cluster.variable = Some(("LOGGOS_MUTANT", "corrupt-memory"));
    cluster.start_all();
    cluster.kill(2);
    let mut text = fs::read_to_string(cluster.config_path()).unwrap();
    for (port, node) in [(1, 0), (2, 2)] {
        let address = cluster.addresses()[node].to_string();
        assert!(text.contains(&address), "{text}");
        text = text.replace(&address, &format!("127.0.0.1:{port}"));
    }
    fs::write(cluster.config_path(), text).unwrap();
    cluster.start_node(2);
    let mut client = Client::new(&cluster.addresses()[..1], std::time::Duration::from_secs(60));
    for n in 1..=1_100 {
        let incr = Command::Incr { key: b"counter", by: 1 };
        assert_eq!(client.execute(&incr).expect("it is counted").reply, Reply::Integer(n));
    }
    cluster.wait_for(2, "quarantined: the state of this replica is wrong");
    cluster.wait_for(2, "out of quarantine");
    cluster.assert_agreement();
    let mut client = Client::new(&cluster.addresses()[1..2], std::time::Duration::from_secs(60));
    let query = Query::Get { key: b"counter" };
    let answer = client.query(&query, Consistency::Stale).expect("it serves again");
    assert_eq!(answer.reply, Reply::Value(Some(b"1100".to_vec())));
    // A snapshot of the wrong state must not come back with a restart.
    cluster.kill(2);
    cluster.start_node(2);
    cluster.assert_agreement();
}
