//! Inputs to begin with, made by the project's own encoders: one of each kind.

use std::net::SocketAddr;
use std::sync::Arc;

use loggos::check::file::{Clock, Writer};
use loggos::check::{Op, Operation, Outcome, Reply as Told, Value as Held};
use loggos::paxos::{
    Addresses, Ballot, Change, Checkpoint, Command as PaxosCommand, CommandId, Configuration,
    Configurations, Epochs, Extent, Health, Member, Message, NodeId, P1b, P2b, PValue, Record,
    Roles, SessionId, Slot, SnapshotId, Standing, StateStanding, Value, batch,
};
use loggos::sql::{Rows, SqlValue, Statement};
use loggos::store::changes::Change as KeyChange;
use loggos::store::{
    Command, Condition, Failure, Holds, Image, Query, Reply, Step, StepReply, Transaction,
};
use loggos::trace::{self, Event, Kind, Source};
use loggos::wal::Wal;
use loggos::wire::client::{Consistency, ErrorKind, ErrorReply, Request, RequestKey, Response};
use loggos::wire::status::{ConfigurationStatus, LinkEnd, NodeStatus, PeerStatus};
use loggos::wire::{ClusterId, Hello, PROTOCOL_VERSION, codec, frame, kv, peer};

use super::wal::{META, OPTIONS, Picture, in_memory};

const BALLOT: Ballot = Ballot { round: 7, node: NodeId(2) };
const SNAPSHOT: SnapshotId = SnapshotId { slot: Slot(3), size: 1 << 20, checksum: 8 };
const ID: CommandId = CommandId { session: SessionId(4096), seq: 3 };

/// The seeds of a target.
pub fn seeds(target: &str) -> Vec<Vec<u8>> {
    match target {
        "frame" => frames(),
        "peer" => messages().iter().map(peer_input).collect(),
        "client" => clients(),
        "kv" => kvs(),
        "batch" => {
            let configuration = configuration().to_value(3);
            batches().iter().chain([&configuration]).map(|value| value.0.to_vec()).collect()
        }
        "store" => vec![store()],
        "snapshot" => vec![super::snapshot::seed()],
        "config" => vec![include_bytes!("../../../systemd/loggos.toml").to_vec(), config()],
        "words" => vec![br#"put "a b" 'c d' \x00\n"#.to_vec(), b"1.5s".to_vec()],
        "log" | "directory" => pictures(),
        "history" => vec![history()],
        "trace" => vec![trace()],
        _ => Vec::new(),
    }
}

fn command(id: CommandId, payload: &[u8]) -> PaxosCommand {
    PaxosCommand { id, acknowledged: 1, payload: payload.into() }
}

fn batches() -> Vec<Value> {
    let register = CommandId { session: SessionId::NONE, seq: 99 };
    let put = kv::encode_command(&Command::Put { key: b"k", value: b"v" });
    vec![
        Value::noop(),
        batch::encode(1_000_000, [command(register, b"")].iter()),
        batch::encode(2_000_000, [command(ID, &put), command(ID, b"no command")].iter()),
    ]
}

fn messages() -> Vec<Message> {
    let snapshot = SnapshotId { slot: Slot(3), size: 7, checksum: 8 };
    let (first_slot, first_unchosen) = (Slot(3), Slot(4));
    let checkpoint = Some(Checkpoint { slot: Slot(2), digest: 77 });
    let standing = Standing {
        ballot: BALLOT,
        leader: BALLOT,
        happy: true,
        first_unchosen,
        epoch: 1,
        hears: vec![NodeId(1), NodeId(3)],
        route: vec![NodeId(3)],
        health: Health { disk_full: true, ..Health::default() },
        state: StateStanding { snapshot: Slot(1), checkpoint },
    };
    let value = batches().pop().expect("there are some");
    let pvalue = |slot| PValue { ballot: BALLOT, slot: Slot(slot), value: value.clone() };
    let propose = Message::Propose { commands: vec![command(ID, b""), command(ID, b"xy")] };
    vec![
        Message::HeartbeatRequest { round: 1 },
        Message::HeartbeatReply { round: 1, standing: standing.into() },
        Message::P1a { ballot: BALLOT, first_slot },
        Message::P1b(Box::new(P1b {
            ballot: BALLOT,
            promised: BALLOT,
            first_slot,
            end: Slot(9),
            no_more_accepted: true,
            first_unchosen,
            epochs: epochs(),
            accepted: vec![pvalue(3), pvalue(8)],
            unsure: vec![Slot(4)..Slot(6)],
        })),
        Message::P2a {
            ballot: BALLOT,
            first_slot,
            first_unchosen,
            values: vec![value.clone(), Value::noop()].into(),
        },
        Message::P2b(P2b { ballot: BALLOT, promised: BALLOT, accepted_end: Slot(5), resend: true }),
        Message::Commit { ballot: BALLOT, first_unchosen },
        Message::LearnRequest { first_slot },
        Message::Chosen {
            first_slot,
            values: vec![(BALLOT, value), (BALLOT, Value::noop())],
            first_unchosen,
        },
        propose.clone(),
        Message::ReadIndexRequest { id: 5, lease: true },
        Message::ReadIndexReply { id: 5, read_slot: Slot(6) },
        Message::Confirm { ballot: BALLOT, round: 7 },
        Message::ConfirmAck { ballot: BALLOT, round: 7, told_end: Slot(4) },
        Message::LeaseRequest { ballot: BALLOT, asked_us: 6, lease_us: 7 },
        Message::LeaseGrant { ballot: BALLOT, asked_us: 6, told_end: Slot(4) },
        Message::LeaseRelease { ballot: BALLOT },
        Message::QuorumRead { round: 8 },
        Message::QuorumReadReply {
            round: 8,
            extent: Extent { end: Slot(9), ballot: BALLOT, accepted_end: Slot(7) },
        },
        Message::TakeOver { ballot: BALLOT },
        Message::Relay {
            from: NodeId(1),
            route: vec![NodeId(2), NodeId(3)],
            message: Box::new(propose),
        },
        Message::SnapshotOffer {
            log_begin: first_slot,
            first_unchosen,
            snapshot: Some(snapshot),
            epochs: epochs(),
        },
        Message::SnapshotRequest { snapshot, offset: 5, size: 2 },
        Message::SnapshotChunk { snapshot, offset: 5, bytes: Arc::from(*b"ab") },
        Message::Configurations(epochs()),
    ]
}

/// Nodes 2 and 3, one of them removed later.
fn configuration() -> Configuration {
    let member = |id: u8| {
        let at = |port| SocketAddr::from(([10, 0, 0, id], port));
        let addresses = Addresses { peer: at(7400), client: at(7401) };
        (Member { node: NodeId(id.into()), roles: Roles::ALL }, addresses)
    };
    let initial = Configuration::initial(vec![member(2), member(3)], None, None);
    let removed = initial.expect("sound").changed(&Change::Remove { node: NodeId(3) });
    removed.expect("one is left")
}

fn epochs() -> Epochs {
    let mut configurations = Configurations::new(configuration(), 4);
    configurations.on_known(Slot(9));
    configurations.epochs().clone()
}

fn peer_input(message: &Message) -> Vec<u8> {
    let mut bytes = Vec::new();
    peer::write(message, &mut bytes);
    let (frame, _) = frame::read(&bytes).expect("we read what we write").expect("in full");
    let size = u16::try_from(frame.head.len()).expect("a short head");
    [&size.to_le_bytes(), frame.head, frame.bulk].concat()
}

fn frames() -> Vec<Vec<u8>> {
    let mut bytes = vec![0];
    frame::write(&hellos()[0], &[b"bulk"], &mut bytes);
    let mut two = bytes.clone();
    two[0] = 1;
    frame::write(&hellos()[1], &[], &mut two);
    vec![bytes, two]
}

fn hellos() -> [Hello; 4] {
    let (version, cluster) = (PROTOCOL_VERSION, ClusterId::of_name("fuzz"));
    [
        Hello::Peer { version, cluster, from: NodeId(1), to: NodeId(2) },
        Hello::Client { version, cluster: Some(cluster) },
        Hello::Welcome { version, cluster, node: NodeId(2) },
        Hello::Refused { version, reason: "because".to_owned() },
    ]
}

fn clients() -> Vec<Vec<u8>> {
    let requests = [
        Request::Register { nonce: 8 },
        Request::Command { id: ID, acknowledged: 2 },
        Request::Read { id: 4, consistency: Consistency::Stale },
        Request::Status { id: 5 },
        Request::Snapshot { id: 6 },
        Request::SnapshotChunk { id: 7, snapshot: SNAPSHOT, offset: 1 << 18 },
        Request::Reconfigure { id: 6, epoch: 2, change: Change::Promote { node: NodeId(3) } },
        Request::TransferLead { id: 7, to: Some(NodeId(3)) },
        Request::ReadOn { id: 8, of: 4, skip: 1000 },
        Request::Watch { id: 9, from: Slot(3) },
        Request::Read { id: 9, consistency: Consistency::StaleWithin { age_us: 5_000_000 } },
    ];
    let (slot, ballot) = (Slot(9), BALLOT);
    let error = ErrorReply {
        kind: ErrorKind::NotAReplica,
        definite: true,
        ask: Some(NodeId(2)),
        ask_at: Some(SocketAddr::from(([10, 0, 0, 2], 7401))),
        message: "ask another".to_owned(),
    };
    let responses = [
        Response::Registered { nonce: 8, session: ID.session, slot, ballot },
        Response::Reply { id: ID, slot, ballot },
        Response::Read { id: 4, slot, ballot },
        Response::Status { id: 5, status: Box::new(status()) },
        Response::Error { key: RequestKey::Command(ID), error },
        Response::Snapshot { id: 6, snapshot: SNAPSHOT },
        Response::SnapshotChunk { id: 7 },
        Response::Reconfiguring { id: 6, epoch: 3 },
        Response::LeadTransferred { id: 7, to: NodeId(3) },
        Response::Changes { id: 9, end: Slot(4) },
    ];
    let hellos = hellos();
    let encoded = [
        hellos.iter().map(|it| (0, codec::encode(it))).collect::<Vec<_>>(),
        requests.iter().map(|it| (1, codec::encode(it))).collect(),
        responses.iter().map(|it| (2, codec::encode(it))).collect(),
    ];
    encoded.concat().into_iter().map(|(kind, bytes)| [vec![kind], bytes].concat()).collect()
}

fn status() -> NodeStatus {
    NodeStatus {
        node: NodeId(1),
        version: "0.1.0".to_owned(),
        pid: 77,
        uptime_ms: 5,
        roles: Roles::ALL,
        members: vec![(NodeId(1), Roles::ALL), (NodeId(2), Roles::ALL)],
        quorum: 2,
        leader: Some(NodeId(2)),
        ballot: BALLOT,
        route: vec![NodeId(2)],
        leading: false,
        quorum_connected: true,
        health: Health::default(),
        first_unchosen: Slot(4),
        applied: Slot(3),
        digest: "0".repeat(32),
        keys: 2,
        sessions: 1,
        clients: 1,
        syncs: 9,
        lost_records: 1,
        unsure_slots: 2,
        peers: vec![PeerStatus {
            node: NodeId(2),
            connected: true,
            heard: true,
            first_unchosen: Slot(4),
            hears: vec![NodeId(1)],
            health: Health { disk_full: true, ..Health::default() },
            ended: Some(LinkEnd::Silent),
        }],
        configuration: ConfigurationStatus::of(
            &Configurations::new(configuration(), 4),
            ClusterId::of_name("fuzz"),
        ),
    }
}

/// One of each kind, as bytes.
fn commands() -> Vec<Vec<u8>> {
    let transaction = kv::encode_transaction(&transaction());
    let commands = [
        Command::Put { key: b"key", value: b"value" },
        Command::Create { key: b"key", value: b"" },
        Command::Update { key: b"key", value: b"other" },
        Command::Delete { key: b"key" },
        Command::Cas { key: b"key", expect: Some(b"value"), value: b"other" },
        Command::Incr { key: b"n", by: -5 },
        Command::Transaction(&transaction),
        Command::SetImage { hash: &[0xff, 0x0f], meta: b"meta" },
        Command::DeleteImage { hash: &[0xff, 0x0f] },
        Command::PutFor { key: b"key", value: b"v", ttl_us: 1_000_000 },
        Command::Lock { key: b"lock", value: b"me", ttl_us: 1_000_000 },
        Command::Renew { key: b"lock", token: 1, ttl_us: 1_000_000 },
        Command::Unlock { key: b"lock", token: 1 },
    ];
    commands.iter().map(kv::encode_command).collect()
}

/// Every kind of step, and some conditions.
fn transaction() -> Transaction<'static> {
    let condition = |holds| Condition { key: b"key", holds };
    let insert = "INSERT INTO t VALUES (?, ?, ?) RETURNING *, random()";
    Transaction {
        conditions: vec![condition(Holds::Missing)],
        then: vec![
            Step::Key(Command::Put { key: b"key", value: b"1" }),
            Step::Get { key: b"key" },
            Step::Sql(Statement { text: "CREATE TABLE t (a, b, c)", parameters: vec![] }),
            Step::Sql(Statement { text: insert, parameters: sql_values() }),
            Step::Key(Command::SetImage { hash: &[0xff], meta: b"" }),
            Step::Nearest { hash: &[0xff], within: 1, limit: 1 },
        ],
        otherwise: vec![Step::Key(Command::Incr { key: b"n", by: 1 })],
    }
}

fn sql_values() -> Vec<SqlValue> {
    vec![SqlValue::Null, SqlValue::Real(0.5), SqlValue::Blob(b"b".to_vec())]
}

fn queries() -> Vec<Vec<u8>> {
    let select = Statement { text: "SELECT ?", parameters: vec![SqlValue::Integer(-1)] };
    let select = kv::encode_statement(&select);
    let queries = [
        Query::Get { key: b"key" },
        Query::Scan { from: b"a", to: Some(b"z"), limit: 10 },
        Query::Sql(&select),
        Query::Nearest { hash: &[0xff, 0x0f], within: 3, limit: 10 },
        Query::Ttl { key: b"key" },
    ];
    queries.iter().map(kv::encode_query).collect()
}

fn replies() -> Vec<Vec<u8>> {
    let pair = || (b"key".to_vec(), b"value".to_vec());
    let rows = Rows {
        columns: vec!["a".to_owned(), "b".to_owned()],
        rows: vec![vec![SqlValue::Text("x".to_owned()), SqlValue::Null], sql_values()],
        changes: 2,
        last_row_id: Some(7),
    };
    let image = Image { hash: vec![0xff, 0x0f], meta: b"meta".to_vec(), distance: 2 };
    let steps = vec![
        StepReply::Done,
        StepReply::Integer(-1),
        StepReply::Value(None),
        StepReply::Rows(rows.clone()),
        StepReply::Images(vec![image.clone()]),
    ];
    let replies = [
        Reply::Done,
        Reply::Integer(3),
        Reply::Value(Some(b"value".to_vec())),
        Reply::Entries { entries: vec![pair(), pair()], next: Some(b"next".to_vec()) },
        Reply::Failed(Failure::Mismatch { present: Some(b"value".to_vec()) }),
        Reply::Failed(Failure::Step { step: 1, why: "because".to_owned() }),
        Reply::Rows(rows.clone()),
        Reply::Transaction { held: true, steps },
        Reply::Images { images: vec![image], more: true },
        Reply::RowsPart { rows, next: 2 },
        Reply::Token(3),
        Reply::Ttl { left_us: Some(9), token: 3 },
    ];
    replies.iter().map(kv::encode_reply).collect()
}

/// What watchers are told of two slots.
fn changes() -> Vec<u8> {
    let change = |key, value| KeyChange { key, value };
    let mut bytes = Vec::new();
    let two = [change(&b"key"[..], Some(&b"value"[..])), change(b"gone", None)];
    kv::write_slot_changes(Slot(3), two.into_iter(), &mut bytes);
    kv::write_slot_changes(Slot(5), two.into_iter().take(1), &mut bytes);
    bytes
}

fn kvs() -> Vec<Vec<u8>> {
    let of_kinds = (0..).zip([commands(), queries(), replies(), vec![changes()]]);
    of_kinds
        .flat_map(|(kind, all)| all.into_iter().map(move |it| [&[kind], &*it].concat()))
        .collect()
}

/// A session, each command in it, one of them twice, and the queries.
fn store() -> Vec<u8> {
    let parts = values().into_iter().map(|value| {
        let size = u16::try_from(value.size()).expect("a short value");
        [&size.to_le_bytes(), &*value.0].concat()
    });
    parts.collect::<Vec<_>>().concat()
}

/// The values of the first slots: a session, and one command of each kind.
pub fn values() -> Vec<Value> {
    let mut values = vec![batches().swap_remove(1)];
    // What the store calls the session that the first command of the first slot registers.
    let mut state = loggos::store::Store::new();
    let mut applied = Vec::new();
    state.apply(Slot::FIRST, &values[0], &mut applied);
    let loggos::store::Outcome::Registered(session) = applied[0].outcome else {
        panic!("the first command registers a session");
    };
    let id = |seq| CommandId { session, seq };
    let mut all: Vec<PaxosCommand> =
        (1..).zip(commands()).map(|(n, it)| command(id(n), &it)).collect();
    all.push(all[0].clone());
    let next = 1 + commands().len() as u64;
    all.extend((next..).zip(queries()).map(|(n, it)| command(id(n), &it)));
    values.push(batch::encode(2_000_000, all.iter()));
    values
}

fn config() -> Vec<u8> {
    let mut text = "cluster = \"fuzz\"\ndata_dir = \"/d\"\nnode = 1\n".to_owned();
    for id in 1..=3 {
        text += &format!(
            "[[nodes]]\nid = {id}\npeer_address = \"10.0.0.{id}:1\"\n\
             client_address = \"10.0.0.{id}:2\"\nroles = [\"acceptor\", \"replica\", \"leader\"]\n"
        );
    }
    text += "[timing]\nelection_timeout_ms = 50\n[quorum]\nphase1 = 3\nphase2 = 1\n[wal]\nsync = false\n";
    text.into_bytes()
}

/// Real logs, short and of two segments, each whole and torn. Their checksums are made anew, because the
/// log's random id is replaced by the one that the targets know.
fn pictures() -> Vec<Vec<u8>> {
    [2, 1200].iter().flat_map(|&value_size| log_of(value_size)).collect()
}

fn log_of(value_size: usize) -> [Vec<u8>; 2] {
    let dir = in_memory();
    let (mut wal, _) =
        Wal::open(dir.path(), META.log.identity, OPTIONS, Box::new(|| ()), &mut |_, _| ())
            .expect("a new log");
    let payload = vec![b'p'; value_size];
    let value = batch::encode(5, [command(ID, &payload)].iter());
    let mut records = vec![Record::Promised(BALLOT), Record::OwnBallot(BALLOT)];
    for slot in 1..=4 {
        records.push(Record::Accepted { ballot: BALLOT, slot: Slot(slot), value: value.clone() });
    }
    records.push(Record::Chosen { ballot: BALLOT, slot: Slot(1), value });
    records.push(Record::FirstUnchosen(Slot(3)));
    for record in &records {
        wal.append(record).expect("there is room");
        wal.sync_now().expect("the file system works");
    }
    drop(wal);
    // The spare segment, blank, belongs to the picture; the log's random id does not.
    let with_known_id = Picture::decode(&Picture::read(dir.path()).encode(3));
    let mut picture = with_known_id.expect("what we encode decodes");
    let whole = picture.encode(3);
    let last = picture.segments[0].iter().rposition(|byte| *byte != 0).expect("records");
    picture.segments[0][last] ^= 1;
    [whole, picture.encode(0)]
}

/// Each operation and each outcome, and the end record.
fn history() -> Vec<u8> {
    let clock = Clock { boot: [7; 16], wall_ns: 9_000, monotonic_ns: 1_000, error_ns: 5 };
    let text = Held::Bytes(0x1122_3344_5566_7788);
    let numeral = Held::Numeral { number: -7, spelling: 0x0102_0304 };
    let replied = |at, reply| Outcome::Replied { at, reply };
    let operations = [
        (Op::Get, replied(1_100, Told::Value(Held::Absent))),
        (Op::Put(text), replied(1_200, Told::Done)),
        (Op::Create(numeral), replied(1_300, Told::Refused)),
        (Op::Update(Held::Integer(5)), Outcome::Failed),
        (Op::Delete, Outcome::Unknown),
        (Op::Cas { expect: text, value: numeral }, replied(1_600, Told::Mismatch(Held::Absent))),
        (Op::Incr(-1), replied(1_700, Told::Integer(-1))),
    ];
    let mut writer = Writer::new(vec![0], &clock, false).expect("memory is written to");
    let key = writer.key(b"key").expect("memory is written to");
    for (n, (op, outcome)) in (0..).zip(operations) {
        let operation = Operation { client: n % 2, key, op, invoked: 1_000 + 90 * n, outcome };
        writer.operation(&operation, 2_000).expect("memory is written to");
    }
    let mut bytes = writer.finish().expect("memory is written to");
    // The process id, which the header has, is another one each time.
    bytes[57..61].fill(0);
    bytes
}

/// A life of a node: scouted, adopted, applied, answered.
fn trace() -> Vec<u8> {
    let dir = in_memory();
    let path = dir.path().join("trace");
    let mut writer = trace::Writer::create(&path, Source::Node(1)).expect("a new file");
    let mut event = |time_ns, kind, aux, a, b| {
        let event = Event { aux, a, b, ..Event::new(time_ns, kind, 1) };
        writer.write(&event).expect("the file system works");
    };
    event(1, Kind::NodeStarted, 0, 1, 0);
    event(2, Kind::LeaderChanged, 0, 1, 0);
    event(3, Kind::ScoutStarted, 0, 1, 1);
    event(4, Kind::Adopted, 0, 1, 1);
    event(5, Kind::RequestReceived, 9, 4096, 1);
    event(6, Kind::Proposed, 1, 1, 30);
    event(7, Kind::Synced, 1, 2, 50);
    event(8, Kind::Chosen, 0, 2, 1);
    event(9, Kind::Applied, 1, 1, 77);
    event(10, Kind::RequestReplied, 0, 4096, 1);
    event(11, Kind::NodeStopped, 0, 0, 0);
    writer.flush().expect("the file system works");
    let mut bytes = std::fs::read(&path).expect("it can be read");
    // Process id and clocks are other ones each time.
    bytes[20..48].fill(0);
    [vec![6], bytes].concat()
}
