//! What `scripts/instructions.sh` counts: `instructions WORKLOAD COUNT` does one thing so often, the same every
//! time. Counted under valgrind with two counts, the difference is what the thing costs, without what comes before;
//! so a loss shows on any machine, however busy, and it shows where it is.
//!
//! Without arguments it lists its workloads, and how often each is to be done.

mod common;

use std::hint::black_box;

use common::Cluster;
use loggos::paxos::{
    Ballot, Command, CommandId, Message, NodeId, P2b, SessionId, Slot, Value, batch,
};
use loggos::store::{self, Store};
use loggos::wire::client::{Request, Response};
use loggos::wire::{codec, frame, kv, peer};

struct Workload {
    name: &'static str,
    /// How often it is to be done: enough for what happens now and then to even out.
    count: u64,
    work: fn(u64),
}

const fn workload(name: &'static str, count: u64, work: fn(u64)) -> Workload {
    Workload { name, count, work }
}

const WORKLOADS: [Workload; 7] = [
    workload("core-1", 2000, |count| core(count, 1)),
    workload("core-64", 200, |count| core(count, 64)),
    workload("peer-1", 2000, |count| peer_codec(count, 1)),
    workload("peer-64", 500, |count| peer_codec(count, 64)),
    workload("apply-1", 2000, |count| apply(count, 1)),
    workload("apply-64", 200, |count| apply(count, 64)),
    workload("client", 2000, client_codec),
];

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, count] = &args[..] else {
        WORKLOADS.iter().for_each(|it| println!("{} {}", it.name, it.count));
        return;
    };
    let workload = WORKLOADS.iter().find(|it| it.name == name).expect("a workload's name");
    (workload.work)(count.parse().expect("how often"));
}

/// One slot: proposed, accepted and learned at three nodes, without sockets, disk and codec.
fn core(slots: u64, commands: u64) {
    let mut cluster = Cluster::new(&[7; 8]);
    (0..slots).for_each(|_| cluster.choose(commands));
}

/// The messages of one slot between a leader and one acceptor, into frames and back.
fn peer_codec(slots: u64, commands: u64) {
    let ballot = Ballot { round: 3, node: NodeId(1) };
    let mut out = Vec::new();
    let value = puts(1, commands, 0);
    for slot in (0..slots).map(|slot| Slot(1000 + slot)) {
        let p2b = P2b { ballot, promised: ballot, accepted_end: slot.next(), resend: false };
        let values = value.clone().into();
        for message in [
            Message::P2a { ballot, first_slot: slot, first_unchosen: slot, values },
            Message::P2b(p2b),
            Message::Commit { ballot, first_unchosen: slot.next() },
        ] {
            out.clear();
            peer::write(&message, &mut out);
            let (frame, _) = frame::read(&out).expect("a frame").expect("all of it");
            black_box(peer::read(frame).expect("a message"));
        }
    }
}

/// One slot at a replica's store: puts over a thousand keys.
fn apply(slots: u64, commands: u64) {
    let mut store = Store::new();
    let mut applied = Vec::new();
    let id = CommandId { session: SessionId::NONE, seq: 9 };
    let register = batch::Command { id, acknowledged: 0, payload: [].into() };
    store.apply(Slot(1), &batch::encode(1, [register].iter()), &mut applied);
    let session = applied.iter().find_map(|it| match it.outcome {
        store::Outcome::Registered(session) => Some(session),
        _ => None,
    });
    let session = session.expect("it is open");
    for slot in 0..slots {
        applied.clear();
        let value = puts(session.0, commands, slot * commands);
        store.apply(Slot(2 + slot), &value, &mut applied);
        assert_eq!(applied.len() as u64, commands);
        black_box(&applied);
    }
}

/// One put: the client's request and the reply, into frames and back.
fn client_codec(puts: u64) {
    let ballot = Ballot { round: 3, node: NodeId(1) };
    let mut out = Vec::new();
    for seq in 1..=puts {
        let id = CommandId { session: SessionId(1), seq };
        let payload = kv::encode_command(&put(seq).borrow());
        out.clear();
        frame::write(&Request::Command { id, acknowledged: seq }, &[&payload], &mut out);
        let (frame, _) = frame::read(&out).expect("a frame").expect("all of it");
        black_box(codec::decode::<Request>(frame.head).expect("a request"));
        black_box(kv::decode_command(frame.bulk).expect("a command"));

        let reply = kv::encode_reply(&store::Reply::Done);
        out.clear();
        frame::write(&Response::Reply { id, slot: Slot(seq), ballot }, &[&reply], &mut out);
        let (frame, _) = frame::read(&out).expect("a frame").expect("all of it");
        black_box(codec::decode::<Response>(frame.head).expect("a response"));
        black_box(kv::decode_reply(frame.bulk).expect("a reply"));
    }
}

struct Put {
    key: [u8; 8],
    value: [u8; 64],
}

impl Put {
    fn borrow(&self) -> store::Command<'_> {
        store::Command::Put { key: &self.key, value: &self.value }
    }
}

fn put(seq: u64) -> Put {
    Put { key: (seq % 1000).to_be_bytes(), value: [seq as u8; 64] }
}

/// A batch of puts of a session, numbered from `before` on.
fn puts(session: u64, commands: u64, before: u64) -> Value {
    let command = |seq| Command {
        id: CommandId { session: SessionId(session), seq },
        acknowledged: seq,
        payload: kv::encode_command(&put(seq).borrow()).into(),
    };
    let commands: Vec<Command> = (before + 1..=before + commands).map(command).collect();
    batch::encode(1, commands.iter())
}
