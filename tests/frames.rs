//! Bytes that no well-meaning program sends, on both listeners of a real node: the connection is closed
//! with a reason in the log, and the node goes on.

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use loggos::paxos::{Message, NodeId};
use loggos::store::Command;
use loggos::wire::client::Request;
use loggos::wire::{ClusterId, Hello, PROTOCOL_VERSION, codec, frame, peer};
use support::Cluster;

/// Sends `bytes` and reads until the node closes the connection.
fn send_and_await_end(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).expect("the node listens");
    stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout can be set");
    // The node may close before it has read all of it.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => answer,
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => answer,
        Err(error) => panic!("the node did not close the connection: {error}"),
    }
}

fn hello(hello: &Hello) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(hello, &[], &mut out);
    out
}

fn peer_hello(version: u16, cluster: &str, from: u16, to: u16) -> Vec<u8> {
    let cluster = ClusterId::of_name(cluster);
    hello(&Hello::Peer { version, cluster, from: NodeId(from), to: NodeId(to) })
}

fn client_hello(version: u16, cluster: &str) -> Vec<u8> {
    hello(&Hello::Client { version, cluster: Some(ClusterId::of_name(cluster)) })
}

/// The reason in the `Refused` that the node answered with.
fn refusal(answer: &[u8]) -> String {
    let (frame, _) = frame::read(answer).expect("a frame").expect("a whole frame");
    match codec::decode(frame.head).expect("a hello") {
        Hello::Refused { reason, .. } => reason,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

struct Fixture {
    cluster: Cluster,
    client: SocketAddr,
    peer: SocketAddr,
}

impl Fixture {
    /// Node 1 of three, of which the others never run: 3 can be played by the test.
    fn new() -> Fixture {
        let mut cluster = Cluster::new(&["acceptor leader replica"; 3], "");
        cluster.start_node(1);
        let node = &cluster.nodes[&1];
        let (client, peer) = (node.client_address, node.peer_address);
        Fixture { cluster, client, peer }
    }

    /// The log tells `reason`, and the node still answers.
    fn assert_logged_and_alive(&mut self, reason: &str) {
        self.cluster.wait_for(1, reason);
        assert_eq!(self.cluster.status(1).node, NodeId(1));
    }
}

#[test]
fn garbage_closes_the_connection() {
    let mut f = Fixture::new();
    for address in [f.client, f.peer] {
        send_and_await_end(address, b"GET / HTTP/1.1\r\nHost: example\r\n\r\n");
        f.assert_logged_and_alive("this is no Loggos frame");
    }
}

#[test]
fn an_oversized_frame_closes_the_connection() {
    let mut f = Fixture::new();
    for address in [f.client, f.peer] {
        let mut bytes = client_hello(PROTOCOL_VERSION, "test");
        bytes[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        send_and_await_end(address, &bytes);
        f.assert_logged_and_alive("over the limit");
    }
}

#[test]
fn a_wrong_frame_version_closes_the_connection() {
    let mut f = Fixture::new();
    for address in [f.client, f.peer] {
        let mut bytes = client_hello(PROTOCOL_VERSION, "test");
        bytes[2] = 9;
        send_and_await_end(address, &bytes);
        f.assert_logged_and_alive("frame format version 9 is not known");
    }
}

#[test]
fn a_wrong_checksum_closes_the_connection() {
    let mut f = Fixture::new();
    for address in [f.client, f.peer] {
        let mut bytes = client_hello(PROTOCOL_VERSION, "test");
        *bytes.last_mut().expect("bytes") ^= 1;
        send_and_await_end(address, &bytes);
        f.assert_logged_and_alive("checksum is wrong");
    }
}

/// A connection that ends in the middle of a frame is simply over.
#[test]
fn a_frame_cut_short_is_dropped() {
    let mut f = Fixture::new();
    for (address, bytes) in [
        (f.client, client_hello(PROTOCOL_VERSION, "test")),
        (f.peer, peer_hello(PROTOCOL_VERSION, "test", 3, 1)),
    ] {
        for cut in 1..bytes.len() {
            let mut stream = TcpStream::connect(address).expect("the node listens");
            stream.write_all(&bytes[..cut]).expect("sent");
            stream.shutdown(Shutdown::Write).expect("half closed");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).expect("closed by the node");
            assert_eq!(answer, b"");
        }
    }
    assert_eq!(f.cluster.status(1).clients, 1, "the cut connections are gone");
    assert_eq!(f.cluster.stop(1).code(), Some(0));
}

#[test]
fn another_protocol_version_is_refused_with_a_reason() {
    let mut f = Fixture::new();
    let version = PROTOCOL_VERSION + 1;
    let answer = send_and_await_end(f.client, &client_hello(version, "test"));
    assert!(refusal(&answer).contains("protocol version"));
    let answer = send_and_await_end(f.peer, &peer_hello(version, "test", 3, 1));
    assert!(refusal(&answer).contains("protocol version"));
    f.assert_logged_and_alive("protocol version");
}

#[test]
fn another_cluster_is_refused_with_a_reason() {
    let mut f = Fixture::new();
    let answer = send_and_await_end(f.client, &client_hello(PROTOCOL_VERSION, "other"));
    assert!(refusal(&answer).contains("cluster"));
    let answer = send_and_await_end(f.peer, &peer_hello(PROTOCOL_VERSION, "other", 3, 1));
    assert!(refusal(&answer).contains("cluster"));
    f.assert_logged_and_alive("node of cluster \"test\"");
}

#[test]
fn a_stranger_among_the_peers_is_refused() {
    let mut f = Fixture::new();
    let answer = send_and_await_end(f.peer, &peer_hello(PROTOCOL_VERSION, "test", 9, 1));
    assert!(refusal(&answer).contains("n9 is no member"));
    let answer = send_and_await_end(f.peer, &peer_hello(PROTOCOL_VERSION, "test", 1, 1));
    assert!(refusal(&answer).contains("n1 is this node's own id"));
    let answer = send_and_await_end(f.peer, &peer_hello(PROTOCOL_VERSION, "test", 3, 2));
    assert!(refusal(&answer).contains("this is n1"));
    // A client on the peers' address, a peer on the clients'.
    let answer = send_and_await_end(f.peer, &client_hello(PROTOCOL_VERSION, "test"));
    assert!(refusal(&answer).contains("client_address"));
    let answer = send_and_await_end(f.client, &peer_hello(PROTOCOL_VERSION, "test", 3, 1));
    assert!(refusal(&answer).contains("peer_address"));
    f.assert_logged_and_alive("peer_address");
}

/// After a proper handshake: a frame of the right form whose head means nothing.
#[test]
fn a_meaningless_message_closes_the_connection() {
    let mut f = Fixture::new();
    let mut nonsense = Vec::new();
    frame::write(&[0xffu8; 32], &[b"bulk"], &mut nonsense);

    let bytes = [client_hello(PROTOCOL_VERSION, "test"), nonsense.clone()].concat();
    send_and_await_end(f.client, &bytes);
    f.assert_logged_and_alive("no request");

    let bytes = [peer_hello(PROTOCOL_VERSION, "test", 3, 1), nonsense].concat();
    send_and_await_end(f.peer, &bytes);
    f.assert_logged_and_alive("does not decode");

    // A P2a whose value is no batch must not reach the log.
    let mut p2a = Vec::new();
    let value = loggos::paxos::Value((*b"no batch, but 24 bytes..").into());
    let ballot = loggos::paxos::Ballot { round: 7, node: NodeId(3) };
    let slot = loggos::paxos::Slot::FIRST;
    let message =
        Message::P2a { ballot, first_slot: slot, first_unchosen: slot, values: value.into() };
    peer::write(&message, &mut p2a);
    let bytes = [peer_hello(PROTOCOL_VERSION, "test", 3, 1), p2a].concat();
    send_and_await_end(f.peer, &bytes);
    f.assert_logged_and_alive("no batch");
}

/// A request that is understood but wrong is answered with an error; the connection stays.
#[test]
fn a_bad_request_is_answered() {
    let cluster = Cluster::start(1);
    let address = cluster.nodes[&1].client_address;
    let mut client = loggos::client::Client::new(&[address], Duration::from_secs(20));
    let error = client.execute(&Command::Put { key: b"", value: b"v" }).expect_err("no key");
    assert!(error.to_string().contains("key is empty"), "{error}");
    assert!(error.is_definite());
    let long = vec![b'k'; 5000];
    let error = client.execute(&Command::Delete { key: &long }).expect_err("a long key");
    assert!(error.to_string().contains("longer than 4 KiB"), "{error}");

    let mut bytes = client_hello(PROTOCOL_VERSION, "test");
    let id = loggos::paxos::CommandId { session: loggos::paxos::SessionId::NONE, seq: 1 };
    frame::write(&Request::Command { id, acknowledged: 0 }, &[b"x"], &mut bytes);
    let mut stream = TcpStream::connect(address).expect("the node listens");
    stream.write_all(&bytes).expect("sent");
    let mut first = [0; 16];
    stream.read_exact(&mut first).expect("an answer");
    assert_eq!(&first[..2], b"Lg");
}
