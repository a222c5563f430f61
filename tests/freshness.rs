//! Reads that may be stale, but not by more than the client allows.

mod support;

use loggos::client::Client;
use loggos::client::connection::Connection;
use loggos::store::{Command, Query, Reply};
use loggos::trace::monotonic_ns;
use loggos::wire::client::{Consistency, ErrorKind, Request, Response};
use loggos::wire::kv::encode_query;
use support::{Cluster, PATIENCE};

const HOUR: Consistency = Consistency::StaleWithin { age_us: 3_600_000_000 };
const NOW: Consistency = Consistency::StaleWithin { age_us: 0 };
const QUERY: Query<'static> = Query::Get { key: b"k" };

fn get(client: &mut Client, consistency: Consistency) -> i64 {
    match client.query(&QUERY, consistency).expect("a read").reply {
        Reply::Value(Some(value)) => String::from_utf8(value).unwrap().parse().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// What the node says that is asked alone and once.
fn refusal(cluster: &Cluster, node: u16, consistency: Consistency) -> (ErrorKind, String) {
    let until_ns = monotonic_ns() + PATIENCE.as_nanos() as u64;
    let address = cluster.nodes[&node].client_address;
    let mut connection = Connection::open(address, None, until_ns).unwrap();
    let bulk = encode_query(&QUERY);
    connection.send(&Request::Read { id: 1, consistency }, &bulk, until_ns).unwrap();
    match connection.receive(until_ns).unwrap() {
        (Response::Error { error, .. }, _) => (error.kind, error.message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stale_read_is_no_older_than_allowed() {
    let mut cluster = Cluster::start(3);
    let leader = cluster.leader();
    let replica = if leader == 1 { 2 } else { 1 };
    let mut writer = cluster.client();
    let mut reader = Client::new(&[cluster.nodes[&replica].client_address], PATIENCE);
    // Whatever another node has acknowledged is there.
    for number in 1..=200 {
        writer.execute(&Command::Incr { key: b"k", by: 1 }).unwrap();
        assert_eq!(get(&mut reader, NOW), number);
    }
    for node in (1..=3).filter(|node| *node != replica) {
        cluster.kill(node);
    }
    // The last read confirmed it, and nobody else has to be asked.
    assert_eq!(get(&mut reader, HOUR), 200);
    let (kind, why) = refusal(&cluster, replica, NOW);
    assert_eq!(kind, ErrorKind::Timeout);
    assert!(why.contains("at most 0.000 ms old; it may be "), "{why}");
    assert_eq!(get(&mut reader, HOUR), 200);
    // One that has just started knows nothing of its age.
    cluster.kill(replica);
    cluster.start_node(replica);
    assert_eq!(get(&mut reader, Consistency::Stale), 200);
    let (kind, why) = refusal(&cluster, replica, HOUR);
    assert_eq!(kind, ErrorKind::Timeout);
    assert!(why.contains("nothing is known of its age"), "{why}");
    for node in (1..=3).filter(|node| *node != replica) {
        cluster.start_node(node);
    }
    assert_eq!(get(&mut reader, HOUR), 200);
}

#[test]
fn the_command_line_takes_an_age() {
    let cluster = Cluster::start(3);
    cluster.loggos("put k 1").unwrap();
    assert_eq!(cluster.loggos("get k --consistency stale --max-age 0s").unwrap(), "1\n");
    assert_eq!(cluster.loggos("scan --consistency stale --max-age 1h").unwrap(), "k\t1\n");
    let (code, why) = cluster.loggos("get k --max-age 1s").unwrap_err();
    assert_eq!(code, 2);
    assert!(why.contains("--max-age goes with --consistency stale"), "{why}");
    if cfg!(feature = "sql") {
        let row = cluster.loggos("sql -c VALUES(1) --consistency stale --max-age 0s").unwrap();
        assert_eq!(row, "1\n");
    }
}
