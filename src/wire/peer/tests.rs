use super::*;
use crate::limits::SNAPSHOT_SIZE_MAX;
use crate::paxos::{
    Addresses, CommandId, Configuration, Configurations, Health, Member, NodeId, Roles, SessionId,
    SnapshotId, batch,
};
use std::net::SocketAddr;

const SNAPSHOT: SnapshotId = SnapshotId { slot: Slot(3), size: 7, checksum: 8 };

fn ballot(round: u64) -> Ballot {
    Ballot { round, node: NodeId(2) }
}

fn command(seq: u64, payload: &[u8]) -> Command {
    let id = CommandId { session: SessionId(4), seq };
    Command { id, acknowledged: 1, payload: payload.into() }
}

fn value(seq: u64) -> Value {
    batch::encode(9, [command(seq, b"abc")].iter())
}

/// Node 2 alone, of which all below slot 7 is known.
fn epochs() -> Epochs {
    let at = |port| SocketAddr::from(([10, 0, 0, 2], port));
    let addresses = Addresses { peer: at(7400), client: at(7401) };
    let member = Member { node: NodeId(2), roles: Roles::ALL };
    let initial = Configuration::initial(vec![(member, addresses)], None, None).unwrap();
    let mut configurations = Configurations::new(initial, 4);
    configurations.on_known(Slot(7));
    configurations.epochs().clone()
}

fn all_messages() -> Vec<Message> {
    let first_slot = Slot(3);
    let first_unchosen = Slot(4);
    let pvalue = |slot| PValue { ballot: ballot(1), slot: Slot(slot), value: value(slot) };
    let standing = Standing {
        ballot: ballot(1),
        leader: ballot(2),
        happy: true,
        first_unchosen,
        epoch: 2,
        hears: vec![NodeId(1), NodeId(3)],
        route: vec![NodeId(3), NodeId(1)],
        health: Health { disk_stalled: true, disk_full: false, quarantined: true },
        state: StateStanding {
            snapshot: Slot(2),
            checkpoint: Some(Checkpoint { slot: Slot(3), digest: u128::MAX - 1 }),
        },
    };
    let alone = Standing {
        hears: vec![],
        route: vec![],
        health: Health { disk_full: true, ..Health::default() },
        state: StateStanding::default(),
        ..standing
    };
    vec![
        Message::HeartbeatRequest { round: 1 },
        Message::HeartbeatReply { round: 1, standing: standing.into() },
        Message::HeartbeatReply { round: 2, standing: alone.into() },
        Message::P1a { ballot: ballot(1), first_slot },
        Message::P1b(Box::new(P1b {
            ballot: ballot(1),
            promised: ballot(2),
            first_slot,
            end: Slot(9),
            no_more_accepted: true,
            first_unchosen,
            epochs: epochs(),
            accepted: vec![pvalue(3), pvalue(8)],
            unsure: vec![Slot(4)..Slot(6), Slot(8)..Slot(9)],
        })),
        Message::P2a {
            ballot: ballot(1),
            first_slot,
            first_unchosen,
            values: vec![value(1), Value::noop(), value(2)].into(),
        },
        Message::P2b(P2b {
            ballot: ballot(1),
            promised: ballot(1),
            accepted_end: Slot(5),
            resend: true,
        }),
        Message::Commit { ballot: ballot(1), first_unchosen },
        Message::LearnRequest { first_slot },
        Message::Chosen {
            first_slot,
            values: vec![(ballot(1), value(5)), (ballot(2), Value::noop())],
            first_unchosen,
        },
        Message::SnapshotOffer {
            log_begin: Slot(2),
            first_unchosen,
            snapshot: None,
            epochs: epochs(),
        },
        Message::SnapshotOffer {
            log_begin: Slot(2),
            first_unchosen,
            snapshot: Some(SNAPSHOT),
            epochs: epochs(),
        },
        Message::SnapshotRequest { snapshot: SNAPSHOT, offset: 5, size: 2 },
        Message::SnapshotChunk { snapshot: SNAPSHOT, offset: 5, bytes: Arc::from(*b"ab") },
        Message::Propose { commands: vec![command(1, b""), command(2, b"xy")] },
        Message::ReadIndexRequest { id: 5, lease: true },
        Message::ReadIndexReply { id: 5, read_slot: Slot(6) },
        Message::Confirm { ballot: ballot(1), round: 7 },
        Message::ConfirmAck { ballot: ballot(1), round: 7, told_end: Slot(4) },
        Message::LeaseRequest { ballot: ballot(1), asked_us: 6, lease_us: 7 },
        Message::LeaseGrant { ballot: ballot(1), asked_us: 6, told_end: Slot(4) },
        Message::LeaseRelease { ballot: ballot(1) },
        Message::QuorumRead { round: 8 },
        Message::QuorumReadReply {
            round: 8,
            extent: Extent { end: Slot(9), ballot: ballot(2), accepted_end: Slot(7) },
        },
        Message::TakeOver { ballot: ballot(1) },
        Message::Configurations(epochs()),
        Message::Relay {
            from: NodeId(1),
            route: vec![NodeId(2), NodeId(3)],
            message: Box::new(Message::Propose { commands: vec![command(1, b"q")] }),
        },
    ]
}

/// What a peer makes of the message.
fn through(message: &Message) -> Result<Message, WireError> {
    let mut bytes = Vec::new();
    write(message, &mut bytes);
    let (frame, size) = frame::read(&bytes).unwrap().unwrap();
    assert_eq!(size, bytes.len());
    read(frame)
}

#[test]
fn what_goes_in_comes_out() {
    for message in all_messages() {
        assert_eq!(through(&message), Ok(message));
    }
}

/// Values from the log make the same frame as values in memory.
#[test]
fn chosen_from_the_log_is_the_same_frame() {
    let (one, two) = (value(1), value(2));
    let message = Message::Chosen {
        first_slot: Slot(1),
        values: vec![(ballot(1), one.clone()), (ballot(2), two.clone())],
        first_unchosen: Slot(7),
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    write(&message, &mut a);
    write_chosen(Slot(1), &[(ballot(1), &one.0), (ballot(2), &two.0)], Slot(7), &mut b);
    assert_eq!(a, b);
}

/// A head or a bulk that is cut, or changed in any byte, is an error or another valid message,
/// never a panic.
#[test]
fn hostile_bytes_are_errors() {
    for message in all_messages() {
        let mut bytes = Vec::new();
        write(&message, &mut bytes);
        let (frame, _) = frame::read(&bytes).unwrap().unwrap();
        for cut in 0..frame.head.len() {
            assert!(read(Frame { head: &frame.head[..cut], bulk: frame.bulk }).is_err());
        }
        for cut in 0..frame.bulk.len() {
            assert!(read(Frame { head: frame.head, bulk: &frame.bulk[..cut] }).is_err());
        }
        for at in 0..frame.head.len() {
            for byte in [0, 1, 0x7f, 0xff] {
                let mut head = frame.head.to_vec();
                head[at] = byte;
                let _ = read(Frame { head: &head, bulk: frame.bulk });
            }
        }
    }
}

/// Numbers near the end of their range would overflow where they are counted on.
#[test]
fn numbers_out_of_range_are_refused() {
    let refused = |message: Message| {
        assert!(through(&message).is_err(), "{message:?}");
    };
    refused(Message::P1a { ballot: ballot(u64::MAX), first_slot: Slot(1) });
    refused(Message::Commit { ballot: ballot(1), first_unchosen: Slot(u64::MAX) });
    let far = PValue { ballot: ballot(1), slot: Slot(1 << 40), value: Value::noop() };
    refused(Message::P1b(Box::new(P1b {
        ballot: ballot(1),
        promised: ballot(1),
        first_slot: Slot(1),
        end: Slot(1 << 41),
        no_more_accepted: true,
        first_unchosen: Slot(1),
        epochs: epochs(),
        accepted: vec![far],
        unsure: vec![],
    })));
    let unsure = |runs: &[(u64, u64)]| P1b {
        ballot: ballot(1),
        promised: ballot(1),
        first_slot: Slot(1),
        end: Slot(9),
        no_more_accepted: true,
        first_unchosen: Slot(1),
        epochs: epochs(),
        accepted: vec![],
        unsure: runs.iter().map(|(first, end)| Slot(*first)..Slot(*end)).collect(),
    };
    for runs in [&[(2, 2)][..], &[(0, 2)], &[(8, 10)], &[(5, 7), (2, 3)], &[(2, 4), (3, 5)]] {
        refused(Message::P1b(unsure(runs).into()));
    }
}

/// Who is heard is a set of other nodes; health has signs that are known, slots a range.
#[test]
fn a_standing_that_nobody_writes_is_refused() {
    let read_with = |hears: Vec<NodeId>, route: Vec<NodeId>, health: u8, snapshot: Slot| {
        let (ballot, first_unchosen) = (ballot(1), Slot(1));
        let head = Head::HeartbeatReply {
            epoch: 1,
            round: 1,
            ballot,
            leader: ballot,
            happy: false,
            first_unchosen,
            hears,
            route,
            health,
            snapshot,
            checkpoint: None,
        };
        read(Frame { head: &codec::encode(&head), bulk: &[] })
    };
    let nodes = |ids: std::ops::Range<u16>| ids.map(NodeId).collect::<Vec<_>>();
    let most = || nodes(1..NODES_MAX as u16);
    assert!(read_with(most(), most(), 7, Slot(1)).is_ok());
    assert!(read_with(nodes(1..NODES_MAX as u16 + 1), vec![], 7, Slot(1)).is_err());
    assert!(read_with(vec![], nodes(1..NODES_MAX as u16 + 1), 7, Slot(1)).is_err());
    assert!(read_with(vec![NodeId(2), NodeId(2)], vec![], 0, Slot(1)).is_err());
    assert!(read_with(vec![NodeId(2), NodeId(1)], vec![], 0, Slot(1)).is_err());
    assert!(read_with(vec![], vec![NodeId(2), NodeId(1), NodeId(2)], 0, Slot(1)).is_err());
    assert!(read_with(vec![], vec![], 8, Slot(1)).is_err());
    assert!(read_with(vec![], vec![], 0, Slot(1 << 62)).is_err());
}

/// A receiver writes what comes where the chunk says, and counts on.
#[test]
fn parts_outside_of_a_snapshot_are_refused() {
    let taken = |message: Message| through(&message).is_ok();
    let request =
        |snapshot, offset, size| taken(Message::SnapshotRequest { snapshot, offset, size });
    assert!(request(SNAPSHOT, 0, 7));
    assert!(!request(SNAPSHOT, 0, 8));
    assert!(!request(SNAPSHOT, 7, 0));
    assert!(!request(SNAPSHOT, u64::MAX, 1));
    let large = SnapshotId { size: SNAPSHOT_SIZE_MAX, ..SNAPSHOT };
    assert!(request(large, 0, SNAPSHOT_CHUNK_SIZE_MAX as u32));
    assert!(!request(large, 0, SNAPSHOT_CHUNK_SIZE_MAX as u32 + 1));
    assert!(!request(SnapshotId { size: u64::MAX, ..SNAPSHOT }, 0, 1));
    assert!(!request(SnapshotId { slot: Slot(u64::MAX), ..SNAPSHOT }, 0, 1));
    let chunk = |offset, bytes: &[u8]| {
        taken(Message::SnapshotChunk { snapshot: SNAPSHOT, offset, bytes: Arc::from(bytes) })
    };
    assert!(chunk(5, b"ab") && !chunk(6, b"ab") && !chunk(5, b""));
}

/// A relayed message goes to others than it is from, and over each once.
#[test]
fn a_relay_goes_somewhere() {
    let taken = |route: &[u16]| {
        let (from, route) = (NodeId(1), route.iter().copied().map(NodeId).collect());
        let message = Box::new(Message::HeartbeatRequest { round: 1 });
        through(&Message::Relay { from, route, message }).is_ok()
    };
    assert!(taken(&[2]) && taken(&[3, 2]));
    assert!(!taken(&[]) && !taken(&[1]) && !taken(&[2, 1]) && !taken(&[2, 3, 2]));
}

/// A message inside a relayed message inside a relayed message: refused, however deep.
#[test]
fn relays_do_not_nest() {
    let mut message = Message::HeartbeatRequest { round: 1 };
    for _ in 0..3 {
        let (from, route) = (NodeId(1), vec![NodeId(2)]);
        message = Message::Relay { from, route, message: Box::new(message) };
    }
    assert!(through(&message).is_err());
}
