//! A cluster for tests: fake nodes in threads, which share one store and speak the real frames.
//!
//! Each node can be told what to do wrong with a request, so that a test can play every way in which
//! an answer gets lost. The store is a map; there is no log and no protocol.

#![allow(clippy::unwrap_used)] // A test helper that fails is a failed test.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::limits::SNAPSHOT_CHUNK_SIZE;
use crate::paxos::{Ballot, CommandId, NodeId, SessionId, Slot};
use crate::snapshot::{Summary, made_up};
use crate::store::{Command, Failure, Image, Query, Reply};
use crate::wire::client::{ErrorReply, Request, Response};
use crate::wire::status::NodeStatus;
use crate::wire::{ClusterId, Hello, PROTOCOL_VERSION, codec, frame, kv};

use super::key_of;

/// What a fake node does with one request.
pub enum Fault {
    None,
    /// Closes the connection instead of doing it.
    LoseRequest,
    /// Does it and closes the connection instead of replying.
    LoseReply,
    /// Never answers.
    Silence,
    /// The same, and forgets that it did it: the retry will be executed again.
    ForgetAndLoseReply,
    /// Says that it did it.
    Pretend,
    Error(ErrorReply),
    /// Never answers, and that node leads from now on.
    Depose(NodeId),
}

type Plan = Box<dyn FnMut(NodeId, &Request) -> Fault + Send>;

/// What the nodes share.
pub struct Store {
    pub keys: BTreeMap<Vec<u8>, Vec<u8>>,
    pub images: BTreeMap<Vec<u8>, Vec<u8>>,
    replies: BTreeMap<CommandId, (Reply, Slot)>,
    pub sessions: u64,
    pub slot: u64,
    pub leader: NodeId,
    /// Several chunks, always the same, and what they are.
    snapshot: (Vec<u8>, Summary),
    plan: Plan,
}

pub struct Fake {
    pub addresses: Vec<SocketAddr>,
    pub store: Arc<Mutex<Store>>,
}

impl Fake {
    /// `count` nodes, which ask `plan` before each request.
    pub fn start(count: u16, plan: impl FnMut(NodeId, &Request) -> Fault + Send + 'static) -> Fake {
        let store = Arc::new(Mutex::new(Store {
            keys: BTreeMap::new(),
            images: BTreeMap::new(),
            replies: BTreeMap::new(),
            sessions: 0,
            slot: 0,
            leader: NodeId(1),
            snapshot: made_up::bytes_of(&made_up::store(100, 9_000)),
            plan: Box::new(plan),
        }));
        let addresses = (1..=count).map(|id| listen(NodeId(id), store.clone())).collect();
        Fake { addresses, store }
    }

    pub fn well(count: u16) -> Fake {
        Fake::start(count, |_, _| Fault::None)
    }
}

fn listen(id: NodeId, store: Arc<Mutex<Store>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, store) = (stream.unwrap(), store.clone());
            std::thread::spawn(move || serve(id, stream, &store));
        }
    });
    address
}

fn serve(id: NodeId, mut stream: TcpStream, store: &Mutex<Store>) {
    let (mut buffer, mut chunk, mut greeted) = (Vec::new(), [0; 4096], false);
    loop {
        let Ok(size @ 1..) = stream.read(&mut chunk) else { return };
        buffer.extend_from_slice(&chunk[..size]);
        let mut out = Vec::new();
        while let Some((frame, size)) = frame::read(&buffer).unwrap() {
            if greeted {
                let request = codec::decode(frame.head).unwrap();
                let Ok(()) = handle(id, &request, frame.bulk, store, &mut out) else { return };
            } else {
                assert!(matches!(codec::decode(frame.head).unwrap(), Hello::Client { .. }));
                let cluster = ClusterId::of_name("fake");
                let welcome = Hello::Welcome { version: PROTOCOL_VERSION, cluster, node: id };
                frame::write(&welcome, &[], &mut out);
                greeted = true;
            }
            buffer.drain(..size);
        }
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

/// Appends the response to `out`; an error closes the connection.
fn handle(
    node: NodeId,
    request: &Request,
    bulk: &[u8],
    store: &Mutex<Store>,
    out: &mut Vec<u8>,
) -> Result<(), ()> {
    let mut store = store.lock().unwrap();
    let fault = (store.plan)(node, request);
    match &fault {
        Fault::LoseRequest => return Err(()),
        Fault::Silence => return Ok(()),
        Fault::Depose(next) => {
            store.leader = *next;
            return Ok(());
        }
        Fault::Error(error) => {
            let response = Response::Error { key: key_of(request), error: error.clone() };
            frame::write(&response, &[], out);
            return Ok(());
        }
        Fault::None | Fault::LoseReply | Fault::ForgetAndLoseReply | Fault::Pretend => {}
    }
    let ballot = Ballot { round: 3, node: store.leader };
    let (response, bulk) = match *request {
        Request::Register { nonce } => {
            store.sessions += 1;
            store.slot += 1;
            let (session, slot) = (SessionId(store.sessions), Slot(store.slot));
            (Response::Registered { nonce, session, slot, ballot }, vec![])
        }
        Request::Command { id, .. } => {
            let known = store.replies.get(&id).cloned();
            let (reply, slot) = known.unwrap_or_else(|| {
                store.slot += 1;
                let before = matches!(fault, Fault::Pretend).then(|| store.keys.clone());
                let reply = match kv::decode_command(bulk).unwrap() {
                    Command::SetImage { hash, meta } => {
                        store.images.insert(hash.to_vec(), meta.to_vec());
                        Reply::Done
                    }
                    Command::DeleteImage { hash } => match store.images.remove(hash) {
                        Some(_) => Reply::Done,
                        None => Reply::Failed(Failure::NotFound),
                    },
                    command => apply(&mut store.keys, &command),
                };
                if let Some(before) = before {
                    store.keys = before;
                }
                (reply, Slot(store.slot))
            });
            if !matches!(fault, Fault::ForgetAndLoseReply) {
                store.replies.insert(id, (reply.clone(), slot));
            }
            (Response::Reply { id, slot, ballot }, kv::encode_reply(&reply))
        }
        Request::Read { id, .. } => {
            let reply = match kv::decode_query(bulk).unwrap() {
                Query::Nearest { hash, within, limit } => {
                    nearest(&store.images, hash, within, limit)
                }
                query => answer(&store.keys, &query),
            };
            (Response::Read { id, slot: Slot(store.slot), ballot }, kv::encode_reply(&reply))
        }
        Request::Status { id } => {
            let status = Box::new(status(node, &store));
            (Response::Status { id, status }, vec![])
        }
        Request::Snapshot { id } => {
            let snapshot = store.snapshot.1.id();
            (Response::Snapshot { id, snapshot }, vec![])
        }
        Request::SnapshotChunk { id, snapshot, offset } => {
            assert_eq!(snapshot, store.snapshot.1.id());
            let rest = &store.snapshot.0[offset as usize..];
            let chunk = &rest[..rest.len().min(SNAPSHOT_CHUNK_SIZE)];
            (Response::SnapshotChunk { id }, chunk.to_vec())
        }
        Request::Reconfigure { .. }
        | Request::TransferLead { .. }
        | Request::Watch { .. }
        | Request::ReadOn { .. } => {
            return Err(());
        }
    };
    if matches!(fault, Fault::LoseReply | Fault::ForgetAndLoseReply) {
        return Err(());
    }
    frame::write(&response, &[&bulk], out);
    Ok(())
}

fn apply(keys: &mut BTreeMap<Vec<u8>, Vec<u8>>, command: &Command<'_>) -> Reply {
    match *command {
        Command::Create { key, .. } if keys.contains_key(key) => Reply::Failed(Failure::Exists),
        Command::Update { key, .. } | Command::Delete { key } if !keys.contains_key(key) => {
            Reply::Failed(Failure::NotFound)
        }
        Command::Cas { key, expect, .. } if keys.get(key).map(Vec::as_slice) != expect => {
            Reply::Failed(Failure::Mismatch { present: keys.get(key).cloned() })
        }
        Command::Lock { key, .. } if keys.contains_key(key) => {
            Reply::Failed(Failure::Mismatch { present: keys.get(key).cloned() })
        }
        // Its clock stands still, and every lock has token 7.
        Command::Renew { key, token, .. } | Command::Unlock { key, token }
            if token != 7 || !keys.contains_key(key) =>
        {
            Reply::Failed(Failure::NotHeld)
        }
        Command::Renew { .. } => Reply::Done,
        Command::Lock { key, value, .. } => {
            keys.insert(key.to_vec(), value.to_vec());
            Reply::Token(7)
        }
        Command::Put { key, value }
        | Command::PutFor { key, value, .. }
        | Command::Create { key, value }
        | Command::Update { key, value }
        | Command::Cas { key, value, .. } => {
            keys.insert(key.to_vec(), value.to_vec());
            Reply::Done
        }
        Command::Delete { key } | Command::Unlock { key, .. } => {
            keys.remove(key);
            Reply::Done
        }
        Command::Incr { key, by } => {
            let before = keys.get(key).map_or("0", |value| std::str::from_utf8(value).unwrap());
            let after = before.parse::<i64>().unwrap() + by;
            keys.insert(key.to_vec(), after.to_string().into_bytes());
            Reply::Integer(after)
        }
        Command::Transaction(_) | Command::SetImage { .. } | Command::DeleteImage { .. } => {
            Reply::Failed(Failure::Invalid)
        }
    }
}

fn answer(keys: &BTreeMap<Vec<u8>, Vec<u8>>, query: &Query<'_>) -> Reply {
    match *query {
        Query::Get { key } => Reply::Value(keys.get(key).cloned()),
        Query::Scan { from, to, limit } => {
            let mut range = keys
                .range(from.to_vec()..)
                .take_while(|(key, _)| to.is_none_or(|to| key.as_slice() < to));
            let entries: Vec<_> =
                range.by_ref().take(limit as usize).map(|(k, v)| (k.clone(), v.clone())).collect();
            Reply::Entries { entries, next: range.next().map(|(key, _)| key.clone()) }
        }
        Query::Ttl { key } if keys.contains_key(key) => {
            Reply::Ttl { left_us: Some(29_500_000), token: 7 }
        }
        Query::Ttl { .. } => Reply::Failed(Failure::NotFound),
        Query::Sql(_) | Query::Nearest { .. } => Reply::Failed(Failure::Invalid),
    }
}

fn nearest(images: &BTreeMap<Vec<u8>, Vec<u8>>, query: &[u8], within: u32, limit: u32) -> Reply {
    let alike = images.iter().filter(|(hash, _)| hash.len() == query.len());
    let mut near: Vec<Image> = alike
        .map(|(hash, meta)| {
            let distance = hash.iter().zip(query).map(|(a, b)| (a ^ b).count_ones()).sum();
            Image { hash: hash.clone(), meta: meta.clone(), distance }
        })
        .filter(|image| image.distance <= within)
        .collect();
    near.sort_by_key(|image| image.distance);
    let more = (limit as usize) < near.len();
    near.truncate(limit as usize);
    Reply::Images { images: near, more }
}

fn status(node: NodeId, store: &Store) -> NodeStatus {
    NodeStatus {
        leader: Some(store.leader),
        ballot: Ballot { round: 3, node: store.leader },
        leading: node == store.leader,
        quorum_connected: true,
        first_unchosen: Slot(store.slot + 1),
        applied: Slot(store.slot),
        keys: store.keys.len() as u64,
        sessions: store.sessions,
        clients: 1,
        peers: vec![],
        ..NodeStatus::made_up(node.0, 2)
    }
}
