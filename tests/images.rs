//! Images through real nodes: what was acknowledged is found by nearness on all of them, over a kill of the leader,
//! restarts and snapshots; and changes together with keys and rows, or not at all.

mod support;

use loggos::client::Client;
use loggos::sql::{IS_BUILT_IN, Statement};
use loggos::store::{Command, Failure, Image, Query, Reply, Step, StepReply, Transaction};
use loggos::wire::client::Consistency;
use loggos::wire::kv::encode_transaction;
use support::Cluster;

fn set(client: &mut Client, hash: u64, meta: &str) {
    let command = Command::SetImage { hash: &hash.to_be_bytes(), meta: meta.as_bytes() };
    assert_eq!(client.execute(&command).expect("it is decided").reply, Reply::Done);
}

/// Distances and metadata.
fn near(client: &mut Client, hash: u64, within: u32) -> Vec<(u32, String)> {
    let query = Query::Nearest { hash: &hash.to_be_bytes(), within, limit: 100 };
    match client.query(&query, Consistency::Linearizable).expect("a read").reply {
        Reply::Images { images, more: false } => {
            let text = |it: Image| (it.distance, String::from_utf8(it.meta).expect("text"));
            images.into_iter().map(text).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn transaction(client: &mut Client, then: Vec<Step<'_>>) -> Reply {
    let bytes = encode_transaction(&Transaction { then, ..Transaction::default() });
    client.execute(&Command::Transaction(&bytes)).expect("it is decided").reply
}

/// The leader dies between sets and deletes, and comes back: nothing is lost, and nothing comes back with it.
#[test]
fn what_was_set_survives_the_leader() {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.client();
    // Each is one bit from 0, and two from each other.
    (0..30).for_each(|bit| set(&mut client, 1 << bit, &format!("bit {bit}")));
    let leader = cluster.leader();
    cluster.kill(leader);
    (30..60).for_each(|bit| set(&mut client, 1 << bit, &format!("bit {bit}")));
    let delete = client.execute(&Command::DeleteImage { hash: &1u64.to_be_bytes() });
    assert_eq!(delete.expect("it is decided").reply, Reply::Done);
    let found = near(&mut client, 0, 1);
    assert_eq!(found.len(), 59);
    assert_eq!((&found[0], &found[58]), (&(1, "bit 1".to_owned()), &(1, "bit 59".to_owned())));
    assert_eq!(near(&mut client, 0, 0), []);
    cluster.start_node(leader);
    cluster.assert_agreement();
    assert_eq!(near(&mut client, 1 << 40, 1), [(0, "bit 40".to_owned())]);
    assert_eq!(near(&mut client, 1 << 40 | 1 << 3, 1).len(), 2);
}

/// Images go through snapshots: the index is made anew, and answers as before.
#[test]
fn a_snapshot_holds_the_images() {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.client();
    (0..200).for_each(|hash| set(&mut client, hash, &format!("{hash}")));
    let before = near(&mut client, 0, 2);
    for node in 1..=3 {
        cluster.loggos(&format!("snapshot --nodes {}", cluster.addresses()[node - 1])).unwrap();
    }
    (1..=3).for_each(|node| cluster.kill(node));
    cluster.start_all();
    assert_eq!(near(&mut client, 0, 2), before);
    set(&mut client, 0, "again");
    assert_eq!(near(&mut client, 0, 0), [(0, "again".to_owned())]);
    cluster.assert_agreement();
}

/// An image, a key and a row change together or not at all.
#[test]
fn a_transaction_is_over_images_keys_and_rows() {
    if !IS_BUILT_IN {
        return;
    }
    let mut cluster = Cluster::start(3);
    let mut client = cluster.client();
    let sql = |text| Step::Sql(Statement { text, parameters: Vec::new() });
    let table = "CREATE TABLE image (name TEXT PRIMARY KEY)";
    assert!(matches!(transaction(&mut client, vec![sql(table)]), Reply::Transaction { .. }));
    let hash = 7u64.to_be_bytes();
    let add = |name, meta| {
        vec![
            Step::Key(Command::Incr { key: b"images", by: 1 }),
            Step::Key(Command::SetImage { hash: &hash, meta }),
            sql(name),
            Step::Nearest { hash: &hash, within: 0, limit: 1 },
        ]
    };
    let insert = "INSERT INTO image VALUES ('one')";
    let Reply::Transaction { steps, .. } = transaction(&mut client, add(insert, b"first")) else {
        panic!("it holds");
    };
    let image = Image { hash: hash.to_vec(), meta: b"first".to_vec(), distance: 0 };
    assert_eq!(steps[0], StepReply::Integer(1));
    assert_eq!(steps[3], StepReply::Images(vec![image]));
    // The row is there already.
    let leader = cluster.leader();
    cluster.kill(leader);
    let refused = transaction(&mut client, add(insert, b"second"));
    assert!(matches!(refused, Reply::Failed(Failure::Step { step: 2, .. })), "{refused:?}");
    cluster.start_node(leader);
    assert_eq!(near(&mut client, 7, 0), [(0, "first".to_owned())]);
    let count = client.query(&Query::Get { key: b"images" }, Consistency::Linearizable);
    assert_eq!(count.expect("a read").reply, Reply::Value(Some(b"1".to_vec())));
    // There is no such image, so the row goes too.
    let steps = vec![
        sql("DELETE FROM image"),
        Step::Key(Command::DeleteImage { hash: &hash }),
        Step::Key(Command::DeleteImage { hash: &hash }),
    ];
    match transaction(&mut client, steps) {
        Reply::Failed(Failure::Step { step: 2, why }) => {
            assert_eq!(why, "there is no such image");
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(near(&mut client, 7, 0), [(0, "first".to_owned())]);
    cluster.assert_agreement();
}

/// What README shows, typed as it stands there, gives what stands there.
#[test]
fn the_tour_in_the_readme() {
    let cluster = Cluster::start(3);
    let readme = include_str!("../README.md");
    let section = readme.split("\n## Images\n").nth(1).expect("README has it");
    let tour = section.split("```console\n").nth(1).and_then(|it| it.split("```").next());
    let mut steps = 0;
    for step in tour.expect("a tour").split("$ loggos ").skip(1) {
        let (line, expected) = step.split_once('\n').expect("a line");
        assert_eq!(cluster.loggos(line).as_deref(), Ok(expected), "{line}");
        steps += 1;
    }
    assert_eq!(steps, 5);
    let (code, message) = cluster.loggos("iget ffd8a0c0e0f0f8fc").unwrap_err();
    assert_eq!((code, &message[..]), (1, "loggos: there is no image ffd8a0c0e0f0f8fc\n"));
    assert_eq!(cluster.loggos("idelete ffd8a0c0e0f0f8fc").unwrap_err().0, 1);
    assert_eq!(cluster.loggos("iget ffd8a0c0e0f0f8fc --within 1").unwrap().lines().count(), 1);
}
