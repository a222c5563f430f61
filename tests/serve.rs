//! How `loggos serve` and `loggos wal inspect` say what is wrong, and what systemd is told: the real
//! binary, judged by its exit code, its standard error and its notifications.

mod support;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use loggos::limits;
use loggos::paxos::{Ballot, NodeId, Record, Slot, Value};
use loggos::store;
use loggos::wal::{Identity, Options, Wal};
use loggos::wire::client::{Consistency, Request};
use loggos::wire::{ClusterId, Hello, PROTOCOL_VERSION, frame, kv};
use support::Cluster;

const BINARY: &str = env!("CARGO_BIN_EXE_loggos");

fn serve(config: &Path, data_dir: &Path) -> Output {
    Command::new(BINARY)
        .args(["serve", "--node", "1", "--config"])
        .arg(config)
        .arg("--data-dir")
        .arg(data_dir)
        .output()
        .expect("the binary runs")
}

/// Asserts the exit code and that standard error ends in one line that says all of `parts`.
fn assert_refused(output: &Output, code: i32, parts: &[&str]) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    let last = stderr.lines().last().expect("a line that says why");
    for part in parts {
        assert!(last.contains(part), "{part:?} is not in {last:?}");
    }
}

fn one_node(config: &str) -> String {
    format!(
        "{config}\n[[nodes]]\nid = 1\npeer_address = \"127.0.0.1:1\"\n\
         client_address = \"127.0.0.1:2\"\n"
    )
}

/// A wrong configuration is one line that names the key, the value and what is allowed.
#[test]
fn a_bad_configuration_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bad.toml");
    let base = "cluster = \"c\"\ndata_dir = \"/nowhere\"\n";
    for (text, parts) in [
        (
            one_node(base).replace("[[nodes]]", "[timing]\nelection_timeout_ms = 0\n[[nodes]]"),
            vec!["bad.toml", "election_timeout_ms", "0", "10"],
        ),
        (one_node(&format!("{base}colour = 1")), vec!["colour", "no key"]),
        (base.to_string(), vec!["nodes"]),
        (one_node("data_dir = \"/nowhere\""), vec!["cluster"]),
        ("cluster = [".to_string(), vec!["bad.toml"]),
    ] {
        fs::write(&path, text).unwrap();
        let output = serve(&path, &dir.path().join("data"));
        assert_refused(&output, 2, &parts);
        assert_eq!(String::from_utf8_lossy(&output.stderr).lines().count(), 1);
    }
    let output = serve(&dir.path().join("absent.toml"), dir.path());
    assert_refused(&output, 2, &["absent.toml", "cannot be read"]);
}

/// A data directory has one master, and belongs to one node of one cluster.
#[test]
fn a_data_directory_is_not_shared() {
    let mut cluster = Cluster::start(1);
    let (config, data) = (cluster.config_path(), cluster.data_dir(1));
    assert_refused(&serve(&config, &data), 3, &["use"]);
    cluster.kill(1);
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("cluster = \"test\"", "cluster = \"other\"")).unwrap();
    assert_refused(&serve(&config, &data), 2, &["cluster"]);
}

/// A log whose checksums are right and which holds what no node writes: refused by name, not met later by
/// whoever expects a batch, or counts on from the last of all rounds.
#[test]
fn a_log_that_no_node_wrote_is_refused() {
    let value = Value((*b"no batch").into());
    let ballot = Ballot { round: 1, node: NodeId(1) };
    let slot = Slot::FIRST;
    let far = Ballot { round: u64::MAX, ..ballot };
    for (records, part) in [
        (vec![Record::Accepted { ballot, slot, value: value.clone() }], "slot 1 holds no batch"),
        (
            vec![Record::Chosen { ballot, slot, value }, Record::FirstUnchosen(slot.next())],
            "slot 1 holds no batch",
        ),
        (vec![Record::OwnBallot(far)], "out of all range"),
        (vec![Record::FirstUnchosen(Slot(u64::MAX))], "out of all range"),
    ] {
        let cluster = Cluster::new(&["acceptor leader replica"], "");
        let identity = Identity { cluster: ClusterId::of_name("test"), node: NodeId(1) };
        let options = Options { segment_size: limits::WAL_SEGMENT_SIZE_MIN, sync: true };
        let data = cluster.data_dir(1);
        let wake = Box::new(|| ());
        let (mut wal, _) = Wal::open(&data, identity, options, wake, &mut |_, _| ()).unwrap();
        for record in &records {
            wal.append(record).unwrap();
        }
        wal.sync_now().unwrap();
        drop(wal);
        assert_refused(&serve(&cluster.config_path(), &data), 5, &["not written by", part]);
    }
}

/// Damage in the middle of the log of one of three nodes: it says in which segment and where, starts,
/// learns from its peers what it lost, says that too, and is level with them. Alone it would not do
/// anything: nobody else could tell it.
#[test]
fn a_damaged_log_is_repaired_from_peers() {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.client();
    for i in 0..20u8 {
        let command = store::Command::Put { key: &[b'k', i], value: b"a value to find again" };
        client.execute(&command).expect("a write");
    }
    cluster.assert_agreement();
    assert!(cluster.stop(2).success());
    let data = cluster.data_dir(2);
    let inspect = || Command::new(BINARY).args(["wal", "inspect"]).arg(&data).output().unwrap();
    let clean = inspect();
    assert_eq!(clean.status.code(), Some(0));
    let listing = String::from_utf8_lossy(&clean.stdout).to_lowercase();
    assert!(listing.contains("accepted") && listing.contains("clean"), "{listing}");

    let segment = data.join("wal").join("0000000000000001.seg");
    let mut bytes = fs::read(&segment).unwrap();
    let needle = b"a value to find again";
    let at = bytes.windows(needle.len()).position(|window| window == needle).unwrap();
    bytes[at] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let damaged = inspect();
    assert_eq!(damaged.status.code(), Some(5));
    let listing = String::from_utf8_lossy(&damaged.stdout).to_lowercase();
    assert!(listing.contains("damaged") && listing.contains("offset"), "{listing}");

    cluster.start_node(2);
    cluster.wait_for(2, "the log is repaired");
    let status = cluster.status(2);
    assert_eq!((status.lost_records, status.unsure_slots), (1, 0));
    cluster.assert_agreement();
    // What was learned lies behind the damage: the next start misses nothing.
    assert!(cluster.stop(2).success());
    cluster.start_node(2);
    assert_eq!(cluster.status(2).unsure_slots, 0);
    cluster.assert_agreement();
}

/// An address that is taken is named.
#[test]
fn an_address_in_use_is_named() {
    let cluster = Cluster::start(1);
    let address = cluster.nodes[&1].peer_address.to_string();
    let output = serve(&cluster.config_path(), &cluster.data_dir(2));
    assert_refused(&output, 3, &["peer_address", &address, "another node"]);
}

/// systemd hears READY when the node serves, WATCHDOG while it lives, STOPPING at the end.
#[test]
fn systemd_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let receive = || {
        let mut buffer = [0; 4096];
        let size = socket.recv(&mut buffer).expect("a notification in time");
        String::from_utf8_lossy(&buffer[..size]).into_owned()
    };
    let wait_for = |what: &str| while !receive().contains(what) {};

    let cluster = Cluster::new(&["acceptor leader replica"], "");
    let mut child = Command::new(BINARY)
        .args(["serve", "--node", "1", "--config"])
        .arg(cluster.config_path())
        .arg("--data-dir")
        .arg(cluster.data_dir(1))
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "300000")
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("READY=1");
    wait_for("WATCHDOG=1");
    wait_for("STATUS=leading");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    wait_for("STOPPING=1");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

/// The first frame a client sends.
fn client_hello() -> Vec<u8> {
    let mut bytes = Vec::new();
    frame::write(&Hello::Client { version: PROTOCOL_VERSION, cluster: None }, &[], &mut bytes);
    bytes
}

/// Bytes that never become a hello do not keep a connection open, however steadily they come.
#[test]
fn a_hello_that_never_ends_is_given_up() {
    let cluster = Cluster::start(1);
    let mut stream = TcpStream::connect(cluster.nodes[&1].client_address).unwrap();
    // Shorter than the patience of the node; a timeout is when the next byte is sent.
    stream.set_read_timeout(Some(Duration::from_micros(limits::HANDSHAKE_US_MAX / 8))).unwrap();
    let ended = client_hello().iter().any(|byte| {
        let sent = stream.write_all(&[*byte]).is_err();
        let answer = stream.read(&mut [0; 64]);
        sent || answer.is_ok_and(|size| size == 0)
    });
    assert!(ended, "the node waited for the whole hello");
}

/// A client asks for far more than it reads. The node holds back answers, not all of them in memory,
/// goes on serving others, and gives the client each answer in the end.
#[test]
fn answers_that_nobody_reads_do_not_pile_up() {
    const READS: u64 = 300;
    let cluster = Cluster::start(1);
    let value = vec![b'x'; 512 * 1024];
    let mut other = cluster.client();
    other.execute(&store::Command::Put { key: b"key", value: &value }).expect("a write");

    let mut requests = client_hello();
    let query = kv::encode_query(&store::Query::Get { key: b"key" });
    for id in 0..READS {
        let read = Request::Read { id, consistency: Consistency::Linearizable };
        frame::write(&read, &[&query], &mut requests);
    }
    let mut greedy = TcpStream::connect(cluster.nodes[&1].client_address).unwrap();
    greedy.write_all(&requests).unwrap();
    // The first answer: the reads have been confirmed.
    greedy.peek(&mut [0; 1]).unwrap();
    for _ in 0..20 {
        other.execute(&store::Command::Put { key: b"other", value: b"1" }).expect("a write");
    }
    let pid = cluster.status(1).pid;
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    let kib: u64 = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(kib < 64 * 1024, "the node holds {kib} KiB for a client that does not read");

    let (mut input, mut answers) = (Vec::new(), 0);
    let mut chunk = vec![0; 1024 * 1024];
    while answers < READS {
        let size = greedy.read(&mut chunk).unwrap();
        assert!(0 < size, "the node closed after {answers} answers");
        input.extend_from_slice(&chunk[..size]);
        while let Some((frame, size)) = frame::read(&input).unwrap() {
            answers += u64::from(value.len() <= frame.bulk.len());
            input.drain(..size);
        }
    }
}

/// However many connections are opened, descriptors are left for the log and the peers.
#[test]
fn clients_do_not_take_the_last_descriptors() {
    const LIMIT: usize = 400;
    let cluster = Cluster::new(&["acceptor leader replica"], "");
    let mut child = Command::new("sh")
        .args(["-c", &format!("ulimit -n {LIMIT}; exec \"$@\""), "sh", BINARY])
        .args(["serve", "--node", "1", "--config"])
        .arg(cluster.config_path())
        .arg("--data-dir")
        .arg(cluster.data_dir(1))
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut client = cluster.client();
    client.execute(&store::Command::Put { key: b"k", value: b"v" }).expect("a write");
    let address = cluster.nodes[&1].client_address;
    let _open: Vec<_> = (0..LIMIT).map(|_| TcpStream::connect(address).unwrap()).collect();
    client.execute(&store::Command::Put { key: b"k", value: b"w" }).expect("a write");
    let used = fs::read_dir(format!("/proc/{}/fd", child.id())).unwrap().count();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(used <= LIMIT - limits::DESCRIPTORS_RESERVED, "{used} of {LIMIT} are taken");
}

/// A file system of its own for one node, where the tests run as root.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &std::path::Path, options: &str) -> Option<SmallDisk> {
        fs::create_dir_all(at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(at);
        let done = mount.output().is_ok_and(|output| output.status.success());
        done.then(|| SmallDisk(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// The disk of one of three nodes fills up: it says so and takes no more, the other two go on, reads are
/// served by it too; with room again it goes on by itself and catches up.
#[test]
fn a_full_disk_is_waited_out() {
    let mut cluster = Cluster::new(&["acceptor leader replica"; 3], "[wal]\nsegment_mib = 8\n");
    // One segment, the spare one, and no third.
    let Some(_disk) = SmallDisk::mount(&cluster.data_dir(2), "size=18m") else {
        println!("not run: it takes the right to mount");
        return;
    };
    cluster.start_all();
    cluster.leader();
    let mut client = cluster.client();
    let value = vec![7u8; 500_000];
    let mut put = |i: u8| {
        client.execute(&store::Command::Put { key: &[b'k', i], value: &value }).expect("a write");
    };
    (0..28).for_each(&mut put);
    cluster.wait_for(2, "the disk is full");
    (28..34).for_each(&mut put);
    let behind = cluster.status(2);
    assert!(
        behind.applied < cluster.status(1).applied || behind.applied < cluster.status(3).applied
    );
    // Not a byte of room, and a new life: what it knows is as before.
    let filler = cluster.data_dir(2).join("filler");
    let mut rest = fs::File::create(&filler).unwrap();
    while rest.write_all(&[1; 4096]).is_ok() {}
    cluster.kill(2);
    cluster.start_node(2);
    cluster.wait_for(2, "the disk is full");
    put(34);
    let mut mount = Command::new("mount");
    mount.args(["-o", "remount,size=64m"]).arg(cluster.data_dir(2));
    assert!(mount.status().unwrap().success());
    cluster.wait_for(2, "there is room for the log again");
    put(35);
    cluster.assert_agreement();
}
