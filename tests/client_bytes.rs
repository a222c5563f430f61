//! What clients and nodes say to each other, byte by byte, in a file that the client in Python is held to as well
//! (`python/tests/test_client_bytes.py`): neither side can change what it says without the other.
//!
//! `UPDATE_BYTES=1` writes the file anew. Bytes that change there are a protocol of another version.

use std::fmt::Write;
use std::net::SocketAddr;

use loggos::paxos::{Addresses, Ballot, CommandId, Health, NodeId, Roles, SessionId, Slot};
use loggos::sql::{Rows, SqlValue, Statement};
use loggos::store::changes::Change;
use loggos::store::{
    Command, Condition, Failure, Holds, Image, Query, Reply, Step, StepReply, Transaction,
};
use loggos::wire::client::{Consistency, ErrorKind, ErrorReply, Request, RequestKey, Response};
use loggos::wire::status::{LinkEnd, MemberStatus, NodeStatus};
use loggos::wire::{ClusterId, Hello, codec, kv};

const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/client-bytes.txt");
const COMMAND: CommandId = CommandId { session: SessionId(9), seq: 4 };
const BALLOT: Ballot = Ballot { round: 2, node: NodeId(3) };

#[test]
fn clients_and_nodes_say_what_the_file_holds() {
    let mut text = String::from(
        "# What clients and nodes say to each other: heads of frames, commands, queries and replies.\n\
         # Written and held by tests/client_bytes.rs; python/tests/test_client_bytes.py is held to it too.\n",
    );
    let all = heads().into_iter().chain(commands()).chain(queries()).chain(responses());
    for (name, bytes) in all.chain(replies()) {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(text, "{name}: {hex}").unwrap();
    }
    if std::env::var_os("UPDATE_BYTES").is_some() {
        std::fs::write(PATH, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(PATH).unwrap());
}

type Named = Vec<(String, Vec<u8>)>;

fn named<const N: usize>(all: [(&str, Vec<u8>); N]) -> Named {
    all.into_iter().map(|(name, bytes)| (name.to_owned(), bytes)).collect()
}

fn heads() -> Named {
    let mut all = named([
        ("hello", codec::encode(&Hello::Client { version: 1, cluster: None })),
        ("register", codec::encode(&Request::Register { nonce: 0x0102_0304_0506_0708 })),
        ("command", codec::encode(&Request::Command { id: COMMAND, acknowledged: 3 })),
        ("status", codec::encode(&Request::Status { id: 6 })),
        ("watch", codec::encode(&Request::Watch { id: 7, from: Slot(8) })),
        ("read on", codec::encode(&Request::ReadOn { id: 3, of: 1, skip: 9 })),
    ]);
    for (name, consistency) in [
        ("linearizable", Consistency::Linearizable),
        ("leader", Consistency::Leader),
        ("lease", Consistency::Lease),
        ("quorum", Consistency::Quorum),
        ("stale", Consistency::Stale),
        ("stale within", Consistency::StaleWithin { age_us: 1_500_000 }),
    ] {
        all.push((format!("read {name}"), codec::encode(&Request::Read { id: 5, consistency })));
    }
    all
}

fn commands() -> Named {
    let transaction = kv::encode_transaction(&Transaction {
        conditions: vec![
            Condition { key: b"a", holds: Holds::Missing },
            Condition { key: b"b", holds: Holds::Something },
            Condition { key: b"c", holds: Holds::Equal(b"1") },
            Condition { key: b"d", holds: Holds::NotEqual(b"2") },
            Condition { key: b"e", holds: Holds::Less(b"3") },
            Condition { key: b"f", holds: Holds::Greater(b"4") },
            Condition { key: b"g", holds: Holds::Token(5) },
        ],
        then: vec![
            Step::Key(Command::Put { key: b"k", value: b"v" }),
            Step::Get { key: b"k" },
            Step::Sql(Statement {
                text: "SELECT ?1, ?2",
                parameters: vec![SqlValue::Integer(7), SqlValue::Text("x".to_owned())],
            }),
            Step::Key(Command::SetImage { hash: b"h", meta: b"mn" }),
            Step::Nearest { hash: b"h", within: 5, limit: 9 },
        ],
        otherwise: vec![Step::Key(Command::Delete { key: b"k" })],
    });
    let of = |command: Command<'_>| kv::encode_command(&command);
    named([
        ("put", of(Command::Put { key: b"k", value: b"vw" })),
        ("create", of(Command::Create { key: b"k", value: b"v" })),
        ("update", of(Command::Update { key: b"k", value: b"" })),
        ("delete", of(Command::Delete { key: b"key" })),
        ("cas missing", of(Command::Cas { key: b"k", expect: None, value: b"v" })),
        ("cas", of(Command::Cas { key: b"k", expect: Some(b"u"), value: b"v" })),
        ("incr", of(Command::Incr { key: b"k", by: -1 })),
        ("transaction", of(Command::Transaction(&transaction))),
        ("put for", of(Command::PutFor { key: b"k", value: b"v", ttl_us: 1_500_000 })),
        ("lock", of(Command::Lock { key: b"k", value: b"v", ttl_us: 2_000_000 })),
        ("renew", of(Command::Renew { key: b"k", token: 5, ttl_us: 250_000 })),
        ("unlock", of(Command::Unlock { key: b"k", token: 5 })),
        ("set image", of(Command::SetImage { hash: b"h", meta: b"mn" })),
        ("delete image", of(Command::DeleteImage { hash: b"h" })),
    ])
}

fn queries() -> Named {
    let statement = kv::encode_statement(&Statement {
        text: "SELECT ?",
        parameters: vec![
            SqlValue::Null,
            SqlValue::Integer(-2),
            SqlValue::Real(1.5),
            SqlValue::Text("tä".to_owned()),
            SqlValue::Blob(b"\x00\xff".to_vec()),
        ],
    });
    let of = |query: Query<'_>| kv::encode_query(&query);
    named([
        ("get", of(Query::Get { key: b"k" })),
        ("scan", of(Query::Scan { from: b"a", to: Some(b"b"), limit: 100 })),
        ("scan open", of(Query::Scan { from: b"", to: None, limit: u32::MAX })),
        ("sql", of(Query::Sql(&statement))),
        ("nearest", of(Query::Nearest { hash: b"h", within: 5, limit: 9 })),
    ])
}

fn responses() -> Named {
    let slot = Slot(6);
    let error = |kind, definite, ask_at: &str| {
        let ask_at: SocketAddr = ask_at.parse().unwrap();
        let message = "no\n way".to_owned();
        let error =
            ErrorReply { kind, definite, ask: Some(NodeId(2)), ask_at: Some(ask_at), message };
        codec::encode(&Response::Error { key: RequestKey::Command(COMMAND), error })
    };
    let welcome = Hello::Welcome { version: 1, cluster: ClusterId(99), node: NodeId(3) };
    let registered =
        Response::Registered { nonce: 1, session: SessionId(9), slot: Slot(5), ballot: BALLOT };
    let status = Response::Status { id: 6, status: Box::new(status()) };
    let too_old = ErrorReply {
        kind: ErrorKind::TooOld,
        definite: true,
        ask: None,
        ask_at: None,
        message: "gone".to_owned(),
    };
    let too_old = Response::Error { key: RequestKey::Watch { id: 7 }, error: too_old };
    named([
        ("welcome", codec::encode(&welcome)),
        ("refused", codec::encode(&Hello::Refused { version: 2, reason: "go\n away".to_owned() })),
        ("registered", codec::encode(&registered)),
        ("reply", codec::encode(&Response::Reply { id: COMMAND, slot, ballot: BALLOT })),
        ("read", codec::encode(&Response::Read { id: 5, slot, ballot: BALLOT })),
        ("status reply", codec::encode(&status)),
        ("error", error(ErrorKind::NotAReplica, true, "10.0.0.2:7401")),
        ("changes", codec::encode(&Response::Changes { id: 7, end: Slot(10) })),
        ("changes of slots", slot_changes()),
        ("error too old", codec::encode(&too_old)),
        ("error v6", error(ErrorKind::Refused, false, "[2001:db8::1]:7401")),
    ])
}

/// What two slots did.
fn slot_changes() -> Vec<u8> {
    let put = Change { key: b"a", value: Some(b"12") };
    let (empty, gone) = (Change { key: b"b", value: Some(b"") }, Change { key: b"a", value: None });
    let mut bytes = Vec::new();
    kv::write_slot_changes(Slot(8), [put, empty].into_iter(), &mut bytes);
    kv::write_slot_changes(Slot(9), [gone].into_iter(), &mut bytes);
    bytes
}

/// One in which hardly two fields beside each other are the same.
fn status() -> NodeStatus {
    let mut status = NodeStatus::made_up(2, 3).hearing(&[(1, &[1, 2])]);
    let addresses = Addresses {
        peer: "10.0.0.1:7400".parse().unwrap(),
        client: "10.0.0.1:7401".parse().unwrap(),
    };
    status.version = "9.8.7".to_owned();
    status.roles = Roles { acceptor: true, leader: false, replica: true };
    status.leader = Some(NodeId(1));
    status.route = vec![NodeId(3), NodeId(1)];
    status.health = Health { disk_full: true, ..Health::default() };
    status.peers[0].ended = Some(LinkEnd::Closed);
    let member = MemberStatus { node: NodeId(1), roles: Roles::ALL, addresses };
    status.configuration.members = vec![member];
    status.configuration.left = vec![NodeId(7)];
    status
}

fn image(distance: u32) -> Image {
    Image { hash: b"h".to_vec(), meta: b"mn".to_vec(), distance }
}

fn replies() -> Named {
    let of = |reply: Reply| kv::encode_reply(&reply);
    let failed = |failure: Failure| kv::encode_reply(&Reply::Failed(failure));
    let rows = Rows {
        columns: vec!["a".to_owned(), "b".to_owned()],
        rows: vec![
            vec![SqlValue::Null, SqlValue::Integer(-2)],
            vec![SqlValue::Real(1.5), SqlValue::Text("tä".to_owned())],
            vec![SqlValue::Blob(vec![0xff]), SqlValue::Text(String::new())],
        ],
        changes: 2,
        last_row_id: Some(8),
    };
    let steps = vec![
        StepReply::Done,
        StepReply::Integer(-1),
        StepReply::Value(Some(b"v".to_vec())),
        StepReply::Value(None),
        StepReply::Rows(Rows { changes: 1, ..Rows::default() }),
        StepReply::Token(5),
        StepReply::Images(vec![image(3)]),
    ];
    let found = Reply::Images { images: vec![image(0), image(3)], more: true };
    let part = Rows {
        columns: vec!["n".to_owned()],
        rows: vec![vec![SqlValue::Integer(1)], vec![SqlValue::Integer(2)]],
        ..Rows::default()
    };
    let why = || "bad".to_owned();
    let entries = vec![(b"a".to_vec(), b"1".to_vec()), (b"b".to_vec(), vec![])];
    named([
        ("done", of(Reply::Done)),
        ("integer", of(Reply::Integer(3))),
        ("value", of(Reply::Value(Some(b"v".to_vec())))),
        ("no value", of(Reply::Value(None))),
        ("entries", of(Reply::Entries { entries, next: Some(b"c".to_vec()) })),
        ("outcome", of(Reply::Transaction { held: true, steps })),
        ("rows", of(Reply::Rows(rows))),
        ("token", of(Reply::Token(5))),
        ("images", of(found)),
        ("rows part", of(Reply::RowsPart { rows: part, next: 2 })),
        ("failed exists", failed(Failure::Exists)),
        ("failed not_found", failed(Failure::NotFound)),
        ("failed mismatch", failed(Failure::Mismatch { present: Some(b"w".to_vec()) })),
        ("failed not_an_integer", failed(Failure::NotAnInteger)),
        ("failed overflow", failed(Failure::Overflow)),
        ("failed invalid", failed(Failure::Invalid)),
        ("failed step", failed(Failure::Step { step: 1, why: why() })),
        ("failed sql", failed(Failure::Sql { why: why() })),
        ("failed not_held", failed(Failure::NotHeld)),
    ])
}
