//! Every way in which an answer gets lost, against fake nodes.

use std::net::TcpListener;

use super::fake::{Fake, Fault};
use super::*;

const PATIENT: Duration = Duration::from_secs(20);
const HASTY: Duration = Duration::from_millis(300);
const INCR: Command<'static> = Command::Incr { key: b"n", by: 1 };

fn error(kind: ErrorKind, definite: bool, ask: Option<NodeId>) -> Fault {
    Fault::Error(ErrorReply { kind, definite, ask, ask_at: None, message: "no\nway".to_owned() })
}

/// A plan that spoils the first `count` commands (not the registrations).
fn first_commands(
    mut count: usize,
    fault: impl Fn() -> Fault + Send + 'static,
) -> impl FnMut(NodeId, &Request) -> Fault + Send + 'static {
    move |_, request| {
        if matches!(request, Request::Command { .. }) && count > 0 {
            count -= 1;
            fault()
        } else {
            Fault::None
        }
    }
}

#[test]
fn commands_and_queries_are_answered() {
    let fake = Fake::well(1);
    let mut client = Client::new(&fake.addresses, PATIENT);
    assert_eq!(client.execute(&INCR).unwrap().reply, Reply::Integer(1));
    let answer = client.execute(&INCR).unwrap();
    assert_eq!((answer.reply, answer.slot), (Reply::Integer(2), Slot(3)));
    assert_eq!(answer.ballot.to_string(), "3.1");
    let got = client.query(&Query::Get { key: b"n" }, Consistency::Linearizable).unwrap();
    assert_eq!(got.reply, Reply::Value(Some(b"2".to_vec())));
    assert_eq!(client.status().unwrap().node, NodeId(1));
}

/// A lost reply must not become a second execution: the retry carries the same id.
#[test]
fn a_retry_is_the_same_command() {
    let fake = Fake::start(3, first_commands(2, || Fault::LoseReply));
    let mut client = Client::new(&fake.addresses, PATIENT);
    assert_eq!(client.execute(&INCR).unwrap().reply, Reply::Integer(1));
    assert_eq!(client.execute(&INCR).unwrap().reply, Reply::Integer(2));
}

/// Fetches the fake's snapshot, and compares it.
fn fetch(fake: &Fake) -> Result<usize, Error> {
    let file = tempfile::tempfile().unwrap();
    let mut calls = 0;
    let fetched =
        Client::new(&fake.addresses, HASTY * 10).fetch_snapshot(&file, &mut |done, total| {
            calls += 1;
            assert!(done <= total);
        });
    fetched.map(|(id, _)| {
        let summary = crate::snapshot::verify(&mut &file).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(summary.id(), id);
        calls
    })
}

/// The connection breaks in the middle, again and again: what has come is not fetched once more.
#[test]
fn a_snapshot_survives_broken_connections() {
    assert_eq!(fetch(&Fake::well(2)), Ok(4));
    let mut chunks = 0;
    let fake = Fake::start(2, move |_, request| match request {
        Request::SnapshotChunk { .. } => {
            chunks += 1;
            if chunks % 2 == 0 { Fault::LoseReply } else { Fault::None }
        }
        _ => Fault::None,
    });
    assert_eq!(fetch(&fake), Ok(4));
}

/// The node has it no more, because it was away and has taken others: a new one is asked for, and if
/// that happens again and again it is said.
#[test]
fn a_snapshot_that_is_gone_is_taken_anew() {
    for (times, outcome) in [(2, Ok(5)), (3, Err(()))] {
        let mut left = times;
        let fake = Fake::start(1, move |_, request| match request {
            Request::SnapshotChunk { offset: 262_144, .. } if 0 < left => {
                left -= 1;
                error(ErrorKind::BadRequest, true, None)
            }
            _ => Fault::None,
        });
        let fetched = fetch(&fake);
        assert_eq!(fetched.as_ref().map(|_| ()).map_err(|_| ()), outcome.map(|_| ()));
        assert!(fetched.is_ok() || fetched.unwrap_err().is_definite());
    }
}

/// A silent node costs its share of the timeout, then the next one answers.
#[test]
fn a_silent_node_is_left_for_the_next() {
    let fake = Fake::start(2, |node, _| match node {
        NodeId(1) => Fault::Silence,
        _ => Fault::None,
    });
    let mut client = Client::new(&fake.addresses, Duration::from_secs(2));
    assert_eq!(client.execute(&INCR).unwrap().node, NodeId(2));
}

#[test]
fn nobody_there_is_definite() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut client = Client::new(&[free], HASTY);
    let error = client.execute(&INCR).unwrap_err();
    assert!(error.is_definite(), "{error}");
    assert!(error.to_string().contains("connection refused"), "{error}");
}

/// Sent and never answered: nobody knows, and the error has to say so.
#[test]
fn silence_after_sending_is_indefinite() {
    let fake = Fake::start(1, first_commands(usize::MAX, || Fault::Silence));
    let mut client = Client::new(&fake.addresses, HASTY);
    assert!(!client.execute(&INCR).unwrap_err().is_definite());
    // A read that nobody answers certainly changed nothing.
    let fake = Fake::start(1, |_, _| Fault::Silence);
    let mut client = Client::new(&fake.addresses, HASTY);
    let error = client.query(&Query::Get { key: b"n" }, Consistency::Stale).unwrap_err();
    assert!(error.is_definite());
}

/// A definite refusal does not settle what an earlier attempt may have done elsewhere.
#[test]
fn a_later_refusal_does_not_make_an_earlier_attempt_definite() {
    let mut commands = 0;
    let fake = Fake::start(1, move |_, request| match request {
        Request::Command { .. } => {
            commands += 1;
            if commands == 1 { Fault::LoseReply } else { error(ErrorKind::BadRequest, true, None) }
        }
        _ => Fault::None,
    });
    let mut client = Client::new(&fake.addresses, PATIENT);
    assert!(!client.execute(&INCR).unwrap_err().is_definite());
}

#[test]
fn a_bad_request_is_not_tried_again() {
    let fake = Fake::start(1, first_commands(1, || error(ErrorKind::BadRequest, true, None)));
    let mut client = Client::new(&fake.addresses, PATIENT);
    let error = client.execute(&INCR).unwrap_err();
    assert!(error.is_definite());
    assert!(error.to_string().contains("no way"), "one line: {error}");
}

/// An expired session is replaced, unless the command may have run under the old one.
#[test]
fn an_expired_session_is_replaced_only_when_that_is_safe() {
    let expired = || error(ErrorKind::SessionExpired, true, None);
    let fake = Fake::start(1, first_commands(1, expired));
    let mut client = Client::new(&fake.addresses, PATIENT);
    assert_eq!(client.execute(&INCR).unwrap().reply, Reply::Integer(1));
    assert_eq!(fake.store.lock().unwrap().sessions, 2);

    let mut commands = 0;
    let fake = Fake::start(1, move |_, request| match request {
        Request::Command { .. } => {
            commands += 1;
            if commands == 1 { Fault::LoseReply } else { expired() }
        }
        _ => Fault::None,
    });
    let mut client = Client::new(&fake.addresses, PATIENT);
    assert!(!client.execute(&INCR).unwrap_err().is_definite());
}

/// `ask` sends us straight to the named node, if we have met it.
#[test]
fn ask_is_followed() {
    let mut told = false;
    let fake = Fake::start(3, move |node, request| {
        if node == NodeId(3) && matches!(request, Request::Command { .. }) && !told {
            told = true;
            return error(ErrorKind::NotAReplica, true, Some(NodeId(2)));
        }
        Fault::None
    });
    let mut client = Client::new(&fake.addresses, PATIENT);
    for (at, node) in client.nodes.iter_mut().enumerate() {
        node.id = Some(NodeId(at as u16 + 1));
    }
    client.at = 2;
    assert_eq!(client.execute(&INCR).unwrap().node, NodeId(2));
}

/// A busy cluster is tried again, with pauses, until it has room.
#[test]
fn busy_is_tried_again() {
    let fake = Fake::start(1, first_commands(3, || error(ErrorKind::Busy, true, None)));
    let mut client = Client::new(&fake.addresses, PATIENT);
    assert_eq!(client.execute(&INCR).unwrap().reply, Reply::Integer(1));
}

#[test]
fn the_status_of_one_node() {
    let fake = Fake::well(2);
    let status = status_of(fake.addresses[1], PATIENT).unwrap();
    assert_eq!((status.node, status.leading), (NodeId(2), false));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert_eq!(status_of(free, PATIENT).unwrap_err(), "connection refused");
}
