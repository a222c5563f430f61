//! Real nodes of one cluster that keep their keys in different engines: nobody can tell.

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

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

/// Node 2 has its keys in RocksDB, and is killed and started again while the others write: its table begins with the
/// newest checkpoint, and the log makes the rest.
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
    cluster.seen(2, "opened the checkpoint of slot");
    // Each starts from what it has with the other engine, too.
    cluster.kill(2);
    cluster.kill(1);
    cluster.set_engine(2, "memory");
    cluster.set_engine(1, "rocksdb");
    cluster.start_node(2);
    cluster.seen(2, "opened the checkpoint of slot");
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

/// A cluster of this many nodes with all keys in RocksDB, started.
fn cluster(nodes: u16) -> Cluster {
    let mut cluster = Cluster::new(&vec![ALL; nodes as usize], EVERY_MIB);
    for node in 1..=nodes {
        cluster.set_engine(node, "rocksdb");
    }
    cluster.start_all();
    cluster
}

/// The slots of the snapshots in a data directory, and those for which there is a checkpoint, ascending.
fn snapshots(data_dir: &Path) -> (Vec<u64>, Vec<u64>) {
    let names = fs::read_dir(data_dir.join("snapshots")).expect("the directory");
    let names: BTreeSet<PathBuf> = names.map(|it| it.unwrap().path()).collect();
    let slots = |wanted: &str| {
        let of = |path: &&PathBuf| path.extension().is_some_and(|it| it == wanted);
        let slot = |path: &PathBuf| path.file_stem().unwrap().to_str().unwrap().parse().unwrap();
        names.iter().filter(of).map(slot).collect()
    };
    (slots("snap"), slots("keys"))
}

/// Killed again and again while snapshots are made, removed, and begun with: nothing is lost, what was not finished
/// leaves nothing behind, and two are kept.
#[test]
fn a_node_that_is_killed_while_it_makes_checkpoints_begins_with_one() {
    let mut cluster = cluster(1);
    let mut client = cluster.client();
    fill(&mut client, 1);
    for round in 2..10 {
        fill(&mut client, round);
        if round % 3 != 0 {
            cluster.wait_for(1, "writing a linked snapshot");
        }
        cluster.kill(1);
        cluster.start_node(1);
        cluster.seen(1, "opened the checkpoint of slot");
        check(&cluster, 1, round);
        client = cluster.client();
    }
    cluster.kill(1);
    cluster.start_node(1);
    cluster.wait_for(1, "verified the keys behind slot");
    let (files, checkpoints) = snapshots(&cluster.data_dir(1));
    assert_eq!((files.len(), &files), (2, &checkpoints));
    assert_eq!(tables(&cluster.data_dir(1)).len(), 1);
}

/// No node has a snapshot that can be sent, and the logs begin behind what node 3 lacks. It asks, and one is made for it;
/// of whichever engine it is.
#[test]
fn a_late_node_gets_a_snapshot_that_is_made_for_it() {
    for engine in ["rocksdb", "memory"] {
        let mut cluster = cluster(3);
        cluster.leader();
        let mut client = cluster.client();
        fill(&mut client, 1);
        cluster.kill(3);
        cluster.set_engine(3, engine);
        for round in 2..=12 {
            fill(&mut client, round);
        }
        for node in [1, 2] {
            let truncated = cluster.wait_for(node, "files of the log");
            assert!(truncated.contains("slots below"), "{truncated}");
            let (files, checkpoints) = snapshots(&cluster.data_dir(node));
            assert!(files.iter().all(|slot| checkpoints.contains(slot)), "{files:?}");
        }
        cluster.start_node(3);
        // Somebody goes on writing, and so the others go on with their snapshots.
        for round in 13..=16 {
            fill(&mut client, round);
        }
        cluster.wait_for(3, "the state is that behind slot");
        cluster.assert_agreement();
        check(&cluster, 3, 16);
        cluster.kill(3);
        cluster.start_node(3);
        cluster.assert_agreement();
    }
}

/// A backup has the same bytes wherever it is taken, and afterwards each node starts from what it has then.
#[test]
fn a_backup_is_the_same_of_either_engine() {
    let mut cluster = Cluster::new(&[ALL; 3], EVERY_MIB);
    cluster.set_engine(2, "rocksdb");
    cluster.start_all();
    let mut client = cluster.client();
    (1..4).for_each(|round| fill(&mut client, round));
    cluster.wait_for(2, "writing a linked snapshot");
    cluster.assert_agreement();
    let backups: Vec<Vec<u8>> = (1..=3)
        .map(|node| {
            let path = cluster.data_dir(node).with_extension("backup");
            let at = cluster.nodes[&node].client_address;
            let told = cluster.loggos(&format!("backup --nodes {at} {}", path.display()));
            assert!(told.is_ok(), "{told:?}");
            fs::read(path).expect("it is written")
        })
        .collect();
    assert!(backups[0].len() > 39 * 64 * 1024);
    assert!(backups.iter().all(|backup| *backup == backups[0]));
    cluster.kill(2);
    cluster.start_node(2);
    cluster.assert_agreement();
    check(&cluster, 2, 3);
}

/// Bytes that no compression makes fewer, of their own for each key.
fn noise(key: u8) -> Vec<u8> {
    let mut state = u32::from(key) + 1;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    std::iter::repeat_with(next).take(64 * 1024).collect()
}

fn put_noise(client: &mut Client, keys: std::ops::Range<u8>) {
    for key in keys {
        let put = Command::Put { key: &[key], value: &noise(key) };
        client.execute(&put).expect("it is written");
    }
}

/// The tables' files in a directory.
fn files_of(dir: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(dir).into_iter().flatten().map(|it| it.unwrap().path());
    paths.filter(|path| path.extension().is_some_and(|it| it == "sst")).collect()
}

fn checkpoint(data_dir: &Path, slot: u64) -> PathBuf {
    data_dir.join(format!("snapshots/{slot:020}.keys"))
}

/// Changes a byte of a value in one of these files.
fn damage(files: &[PathBuf], key: u8) -> bool {
    let wanted = &noise(key)[1_000..1_100];
    for path in files {
        let bytes = fs::read(path).expect("a table");
        if let Some(at) = bytes.windows(wanted.len()).position(|window| window == wanted) {
            let file = File::options().write(true).open(path).expect("a table");
            file.write_all_at(&[!bytes[at]], at as u64).expect("it is written");
            return true;
        }
    }
    false
}

/// A block goes bad under a running node, in a file of its newest checkpoint: it ends when it meets that, once. Its next start
/// takes the snapshot before, and the log from there.
#[test]
fn a_node_whose_newest_checkpoint_goes_bad_begins_with_the_one_before() {
    let mut cluster = cluster(1);
    let data_dir = cluster.data_dir(1);
    let inodes = |dir: &Path| -> Vec<u64> {
        files_of(dir).iter().map(|path| fs::metadata(path).expect("it is there").ino()).collect()
    };
    // Until a file is found that the table still has, and the newest checkpoint, but not the one before.
    let (mut end, mut found) = (0, None);
    while found.is_none() {
        put_noise(&mut cluster.client(), end..end + 16);
        end += 16;
        cluster.wait_for(1, "writing a linked snapshot");
        cluster.wait_for(1, "bytes in");
        let (files, _) = snapshots(&data_dir);
        let [before, newest] = files[..] else { continue };
        if before == 0 {
            // That one is whole, of the empty state.
            continue;
        }
        let (here, keep) = (data_dir.join("keys/0"), inodes(&checkpoint(&data_dir, before)));
        let here = inodes(&here);
        let mut files = files_of(&checkpoint(&data_dir, newest));
        let inode = |path: &PathBuf| fs::metadata(path).expect("it is there").ino();
        files.retain(|path| here.contains(&inode(path)) && !keep.contains(&inode(path)));
        found = (0..end).find(|key| damage(&files, *key)).map(|key| (key, before, newest));
    }
    let (key, before, newest) = found.expect("just found");
    let query = Query::Get { key: &[key] };
    let mut client = Client::new(&cluster.addresses(), std::time::Duration::from_secs(2));
    let _ = client.query(&query, Consistency::Stale);
    cluster.wait_for(1, "is damaged, and is not used any more");
    cluster.kill(1);
    cluster.start_node(1);
    let refused = cluster.seen(1, "cannot be used");
    assert!(
        refused.contains(&newest.to_string()) && refused.contains("found damaged"),
        "{refused}"
    );
    cluster.seen(1, &format!("opened the checkpoint of slot {before}"));
    let mut client = cluster.client();
    for key in 0..end {
        let query = Query::Get { key: &[key] };
        let answer = client.query(&query, Consistency::Linearizable).expect("it is read");
        assert_eq!(answer.reply, Reply::Value(Some(noise(key))));
    }
}

/// A block went bad that nobody asks for: the start does not read it, the look behind it does. The replica then serves
/// nobody, gets another state from the others, and nothing of the old one is used again.
#[test]
fn a_replica_whose_keys_went_bad_gets_others() {
    let mut cluster = cluster(3);
    cluster.leader();
    // So little that RocksDB has nothing to compact at the next start: that would meet it first, and end the process.
    put_noise(&mut cluster.client(), 0..40);
    cluster.assert_agreement();
    cluster.kill(3);
    let data_dir = cluster.data_dir(3);
    let (files, _) = snapshots(&data_dir);
    let newest = *files.last().expect("there are some");
    let files = files_of(&checkpoint(&data_dir, newest));
    assert!((0..40).any(|key| damage(&files, key)));
    cluster.start_node(3);
    cluster.wait_for(3, "quarantined: the state of this replica is wrong (Corruption");
    cluster.wait_for(3, "out of quarantine");
    cluster.assert_agreement();
    cluster.kill(3);
    cluster.start_node(3);
    cluster.seen(3, "loaded the snapshot of slot");
    cluster.assert_agreement();
}
