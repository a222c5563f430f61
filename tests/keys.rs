//! Keys with a time, locks, watches and transactions through real nodes, while leaders die.

mod support;

use std::process::{Command as Process, Stdio};
use std::time::Duration;

use loggos::client::{Client, Error, Event};
use loggos::limits::{HISTORY_SIZE_MAX, VALUE_SIZE_MAX};
use loggos::paxos::Slot;
use loggos::store::{Command, Condition, Failure, Holds, Query, Reply, Step, Transaction};
use loggos::wire::client::Consistency;
use loggos::wire::kv::encode_transaction;
use support::Cluster;

fn reply(client: &mut Client, command: &Command<'_>) -> Reply {
    client.execute(command).expect("it is decided").reply
}

fn put(client: &mut Client, key: &[u8], value: &[u8]) {
    assert_eq!(reply(client, &Command::Put { key, value }), Reply::Done);
}

fn get(client: &mut Client, key: &[u8]) -> Option<Vec<u8>> {
    let answer = client.query(&Query::Get { key }, Consistency::Linearizable).expect("a read");
    match answer.reply {
        Reply::Value(value) => value,
        other => panic!("{other:?}"),
    }
}

/// Nobody sends anything when its time is over: the leader lets the log's time pass.
#[test]
fn a_key_goes_when_its_time_is_over() {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.client();
    let mut watching = cluster.client();
    let mut watcher = watching.watch(b"f", None).unwrap();
    let ttl_us = 300_000;
    reply(&mut client, &Command::PutFor { key: b"fleeting", value: b"v", ttl_us });
    put(&mut client, b"stays", b"v");
    assert_eq!(watcher.wait().unwrap().value.as_deref(), Some(&b"v"[..]));
    // Who leads when it is due is another one.
    let leader = cluster.leader();
    cluster.kill(leader);
    assert_eq!(watcher.wait().unwrap().value, None);
    assert_eq!(get(&mut client, b"fleeting"), None);
    assert!(get(&mut client, b"stays").is_some());
    cluster.start_node(leader);
    cluster.assert_agreement();
}

/// With roles on nodes of their own the leader has no store that would tell it.
#[test]
fn a_leader_without_a_store_lets_time_pass_too() {
    let roles = ["acceptor", "acceptor", "acceptor", "leader", "replica"];
    let mut cluster = Cluster::new(&roles, "");
    cluster.start_all();
    let mut client = cluster.client();
    let mut watching = cluster.client();
    let mut watcher = watching.watch(b"", None).unwrap();
    reply(&mut client, &Command::PutFor { key: b"k", value: b"v", ttl_us: 100_000 });
    assert!(watcher.wait().unwrap().value.is_some());
    assert_eq!(watcher.wait().unwrap().value, None);
}

/// A token that is too old opens nothing: its transaction is not carried out.
#[test]
fn tokens_fence() {
    let cluster = Cluster::start(3);
    let mut client = cluster.client();
    let mut watching = cluster.client();
    let mut watcher = watching.watch(b"lock", None).unwrap();
    let lock = |ttl_us| Command::Lock { key: b"lock", value: b"me", ttl_us };
    assert_eq!(reply(&mut client, &lock(50_000)), Reply::Token(1));
    while watcher.wait().unwrap().value.is_some() {}
    assert_eq!(reply(&mut client, &lock(60_000_000)), Reply::Token(2));
    let present = Some(b"me".to_vec());
    assert_eq!(reply(&mut client, &lock(1)), Reply::Failed(Failure::Mismatch { present }));
    let mut write_with = |token| {
        let conditions = vec![Condition { key: b"lock", holds: Holds::Token(token) }];
        let then = vec![Step::Key(Command::Incr { key: b"written", by: 1 })];
        let bytes = encode_transaction(&Transaction { conditions, then, otherwise: vec![] });
        reply(&mut client, &Command::Transaction(&bytes))
    };
    assert!(matches!(write_with(1), Reply::Transaction { held: false, .. }));
    assert!(matches!(write_with(2), Reply::Transaction { held: true, .. }));
    let renew = |token| Command::Renew { key: b"lock", token, ttl_us: 1_000 };
    assert_eq!(reply(&mut client, &renew(1)), Reply::Failed(Failure::NotHeld));
    assert_eq!(reply(&mut client, &renew(2)), Reply::Done);
    assert_eq!(get(&mut client, b"written"), Some(b"1".to_vec()));
}

/// Programs that read, add and write under a lock lose nothing, though each of these steps is a command of its own
/// and the leader dies in between.
#[test]
fn a_lock_keeps_programs_apart() {
    let mut cluster = Cluster::start(3);
    let nodes: Vec<String> = cluster.addresses().iter().map(ToString::to_string).collect();
    put(&mut cluster.client(), b"n", b"0");
    let program = env!("CARGO_BIN_EXE_loggos");
    let add = format!("v=$({program} get n) && {program} put n $((v + 1))");
    let children: Vec<_> = (0..6)
        .map(|_| {
            Process::new(program)
                .args(["lock", "the-lock", "--timeout", "60s", "--", "sh", "-c", &add])
                .env("LOGGOS_NODES", nodes.join(","))
                .stdout(Stdio::null())
                .spawn()
                .unwrap()
        })
        .collect();
    let leader = cluster.leader();
    cluster.kill(leader);
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(get(&mut cluster.client(), b"n"), Some(b"6".to_vec()));
    assert_eq!(get(&mut cluster.client(), b"the-lock"), None);
    cluster.start_node(leader);
    cluster.assert_agreement();
}

/// A counter that is watched while it counts and leaders die: each number is told once and in order, and who goes on from
/// where another was is told the rest.
#[test]
fn watchers_miss_nothing() {
    const COUNT: u64 = 600;
    let mut cluster = Cluster::start(3);
    let mut watching = cluster.client();
    let mut counting = cluster.client();
    let begin = counting.execute(&Command::Incr { key: b"count", by: 1 }).unwrap().slot;
    let counter = std::thread::spawn(move || {
        for _ in 1..COUNT {
            counting.execute(&Command::Incr { key: b"count", by: 1 }).unwrap();
            counting.execute(&Command::Incr { key: b"other", by: 1 }).unwrap();
        }
    });
    let mut watcher = watching.watch(b"count", Some(begin)).unwrap();
    let mut seen = 0;
    let mut expect = |event: Event| {
        seen += 1;
        assert_eq!(
            (event.key, event.value),
            (b"count".to_vec(), Some(seen.to_string().into_bytes()))
        );
        seen
    };
    for kill in 1..=2 {
        while expect(watcher.wait().unwrap()) < kill * COUNT / 4 {}
        let leader = cluster.leader();
        cluster.kill(leader);
        cluster.start_node(leader);
    }
    let position = watcher.position();
    let mut other = cluster.client();
    let mut watcher = other.watch(b"count", Some(position)).unwrap();
    while expect(watcher.wait().unwrap()) < COUNT {}
    counter.join().unwrap();
    assert_eq!(watcher.wait_within(Duration::from_millis(50)).unwrap(), None, "and no more");
}

/// However many replies it takes, and whatever is written meanwhile: a scan is of one moment.
#[test]
fn a_scan_is_of_one_moment() {
    const COUNT: usize = 12_000;
    let cluster = Cluster::start(3);
    let mut client = cluster.client();
    let keys: Vec<Vec<u8>> = (0..COUNT).map(|n| format!("k{n:05}").into_bytes()).collect();
    for part in keys.chunks(2000) {
        let then = part.iter().map(|key| Step::Key(Command::Put { key, value: b"before" }));
        let bytes =
            encode_transaction(&Transaction { then: then.collect(), ..Transaction::default() });
        reply(&mut client, &Command::Transaction(&bytes));
    }
    let mut other = cluster.client();
    let (mut found, mut pages) = (Vec::new(), 0);
    let answer = client.scan(b"k", None, u64::MAX, Consistency::Linearizable, &mut |entries| {
        pages += 1;
        found.extend(entries);
        // Behind what has come and before it, new and gone and changed.
        put(&mut other, b"k00000x", b"after");
        put(&mut other, b"k11999", b"after");
        put(&mut other, b"k12000", b"after");
        reply(&mut other, &Command::Delete { key: b"k11000" });
        Ok::<_, Error>(())
    });
    assert_eq!(answer.unwrap().reply, Reply::Entries { entries: vec![], next: None });
    assert!(1 < pages, "{pages}");
    assert!(found.iter().map(|(key, _)| key).eq(&keys));
    assert!(found.iter().all(|(_, value)| value == b"before"));
    let mut sizes = Vec::new();
    let answer = client.scan(b"k", None, 11_000, Consistency::Stale, &mut |entries| {
        sizes.push(entries.len());
        Ok::<_, Error>(())
    });
    let Reply::Entries { next, .. } = answer.unwrap().reply else { panic!() };
    assert_eq!((sizes, next), (vec![10_000, 1_000], Some(b"k10999".to_vec())));
}

/// A node that stands still keeps its connections and says nothing: it is left for another, also by who waits for a
/// moment only.
#[test]
fn a_node_that_stands_still_is_left() {
    let cluster = Cluster::start(3);
    let mut client = cluster.client();
    let mut watching = cluster.client();
    let mut watcher = watching.watch(b"k", None).unwrap();
    put(&mut client, b"k", b"1");
    assert_eq!(watcher.wait().unwrap().value.as_deref(), Some(&b"1"[..]));
    // The watcher is at the first that it knows.
    cluster.signal(1, "STOP");
    put(&mut client, b"k", b"2");
    assert_eq!(watcher.wait().unwrap().value.as_deref(), Some(&b"2"[..]));
    cluster.signal(1, "CONT");
    cluster.signal(2, "STOP");
    put(&mut client, b"k", b"3");
    let event = loop {
        if let Some(event) = watcher.wait_within(Duration::from_millis(100)).unwrap() {
            break event;
        }
    };
    assert_eq!(event.value.as_deref(), Some(&b"3"[..]));
    cluster.signal(2, "CONT");
}

/// What is too old is told as such by all nodes, and what is not begins where it must.
#[test]
fn history_ends_somewhere() {
    let cluster = Cluster::start(3);
    let mut client = cluster.client();
    let value = vec![7; VALUE_SIZE_MAX];
    for _ in 0..=HISTORY_SIZE_MAX / VALUE_SIZE_MAX {
        put(&mut client, b"large", &value);
    }
    let last = client.execute(&Command::Delete { key: b"large" }).unwrap().slot;
    match client.watch(b"", Some(Slot(1))).unwrap().wait() {
        Err(Error::Definite(why)) => assert!(why.contains("is not known any more"), "{why}"),
        other => panic!("{other:?}"),
    }
    let mut watcher = client.watch(b"l", Some(Slot(last.0 - 3))).unwrap();
    let values: Vec<_> = (0..4).map(|_| watcher.wait().unwrap().value.map(|it| it.len())).collect();
    assert_eq!(values, [Some(VALUE_SIZE_MAX), Some(VALUE_SIZE_MAX), Some(VALUE_SIZE_MAX), None]);
}

/// A watcher that takes nothing costs the node no memory and holds nobody up.
#[test]
fn a_watcher_that_sleeps_is_not_waited_for() {
    let cluster = Cluster::start(3);
    let mut client = cluster.client();
    let mut watching = cluster.client();
    let mut watcher = watching.watch(b"k", None).unwrap();
    put(&mut client, b"k", b"first");
    assert_eq!(watcher.wait().unwrap().value.as_deref(), Some(&b"first"[..]));
    let value = vec![7; VALUE_SIZE_MAX / 2];
    for _ in 0..20 {
        put(&mut client, b"k", &value);
    }
    put(&mut client, b"k", b"last");
    let mut sizes = vec![];
    while sizes.last() != Some(&4) {
        sizes.push(watcher.wait().unwrap().value.unwrap().len());
    }
    assert_eq!(sizes.len(), 21);
}

#[test]
fn the_tour_in_the_readme() {
    support::tour::follow(&Cluster::start(3), "Transactions, times, locks, watches");
}
