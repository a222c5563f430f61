//! What `rival-load` does when nodes fail it, against servers made for that: they speak Redis's protocol, share one
//! map, and end, are silent, refuse or forget as the test says.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use loggos::check::run::{Judgement, Run};
use loggos::trace::{self, Kind, Source};
use serde_json::Value;

/// What a node does with a command.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Does it, and closes the connection instead of answering.
    DoneAndGone,
    /// Does it, and answers nothing any more on this connection.
    DoneAndSilent,
    /// The same without doing it.
    Silent,
    /// Does not do it, and says that it does not lead.
    NotHere,
    /// Says that it was done.
    Pretend,
    /// Closes the connection at once.
    Closed,
    Wrong,
}

type Plan = Box<dyn FnMut(usize, bool) -> Fault + Send>;

struct Shared {
    map: Mutex<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// Of a node's index and whether it is a write: what to do.
    plan: Mutex<Plan>,
    leader: usize,
}

/// Nodes of which the one with index `leader` says that it leads.
fn nodes(
    count: usize,
    leader: usize,
    plan: impl FnMut(usize, bool) -> Fault + Send + 'static,
) -> Vec<SocketAddr> {
    let plan = Mutex::new(Box::new(plan) as Plan);
    let shared = Arc::new(Shared { map: Mutex::default(), plan, leader });
    let node = |at| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = shared.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, shared) = (stream.unwrap(), shared.clone());
                thread::spawn(move || serve(at, stream, &shared));
            }
        });
        address
    };
    (0..count).map(node).collect()
}

/// One connection, until it ends.
fn serve(at: usize, mut stream: TcpStream, shared: &Shared) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    let mut is_silent = false;
    loop {
        while let Some((words, size)) = command(&bytes).filter(|_| !is_silent) {
            bytes.drain(..size);
            let Some(answer) = answer(at, &words, shared) else { return };
            is_silent = answer.is_empty();
            if stream.write_all(&answer).is_err() {
                return;
            }
        }
        match stream.read(&mut buffer) {
            Ok(size) if 0 < size => bytes.extend_from_slice(&buffer[..size]),
            _ => return,
        }
    }
}

/// The words of the first whole command, and its size.
fn command(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let line = |at: usize| {
        let size = bytes.get(at..)?.windows(2).position(|pair| pair == b"\r\n")?;
        let number = std::str::from_utf8(&bytes[at + 1..at + size]).ok()?.parse::<usize>().ok()?;
        Some((number, at + size + 2))
    };
    let (count, mut at) = line(0)?;
    let mut words = Vec::new();
    for _ in 0..count {
        let (size, begin) = line(at)?;
        words.push(bytes.get(begin..begin + size)?.to_vec());
        at = begin + size + 2;
    }
    (at <= bytes.len()).then_some((words, at))
}

/// `None`: the connection is closed; empty: it is silent from now on.
fn answer(at: usize, words: &[Vec<u8>], shared: &Shared) -> Option<Vec<u8>> {
    let (name, is_write) = (words[0].as_slice(), words[0] == b"SET");
    match name {
        b"PING" => return Some(b"+PONG\r\n".to_vec()),
        b"INFO" => {
            let role = if at == shared.leader { "role:master\r\n" } else { "role:slave\r\n" };
            return Some(format!("${}\r\n{role}\r\n", role.len()).into_bytes());
        }
        _ => {}
    }
    let fault = (shared.plan.lock().unwrap())(at, is_write);
    match fault {
        Fault::NotHere => return Some(b"-READONLY ask another\r\n".to_vec()),
        Fault::Wrong => return Some(b"-ERR never\r\n".to_vec()),
        Fault::Pretend => return Some(b"+OK\r\n".to_vec()),
        Fault::Silent => return Some(Vec::new()),
        Fault::Closed => return None,
        _ => {}
    }
    let mut map = shared.map.lock().unwrap();
    let answer = if is_write {
        map.insert(words[1].clone(), words[2].clone());
        b"+OK\r\n".to_vec()
    } else {
        match map.get(&words[1]) {
            Some(value) => [format!("${}\r\n", value.len()).as_bytes(), value, b"\r\n"].concat(),
            None => b"$-1\r\n".to_vec(),
        }
    };
    match fault {
        Fault::DoneAndGone => None,
        Fault::DoneAndSilent => Some(Vec::new()),
        _ => Some(answer),
    }
}

fn load(nodes: &[SocketAddr], line: &str, dir: &Path) -> (Output, Value) {
    let nodes: Vec<String> = nodes.iter().map(ToString::to_string).collect();
    let json = dir.join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_rival-load"))
        .args(["redis", "put", "--nodes", &nodes.join(","), "--warmup", "0s", "--quiet"])
        .args(line.split_whitespace())
        .arg("--json")
        .arg(&json)
        .output()
        .unwrap();
    let text = std::fs::read_to_string(json).unwrap();
    (output, serde_json::from_str(&text).unwrap_or_default())
}

/// Runs a load that has to end well; its report, and what its history is worth.
fn judged(nodes: &[SocketAddr], line: &str) -> (Value, Judgement) {
    let dir = tempfile::tempdir().unwrap();
    let history = dir.path().join("history");
    let (output, report) =
        load(nodes, &format!("{line} --history {}", history.display()), dir.path());
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    (report, Run::read(&[history], None).unwrap().judge())
}

/// Every 20th command meets a fault; all operations succeed at another attempt, and the history has an order.
#[test]
fn faults_are_survived() {
    for fault in
        [Fault::DoneAndGone, Fault::DoneAndSilent, Fault::Silent, Fault::NotHere, Fault::Closed]
    {
        for more in ["", "--in-flight 4 --target spread", "--rate 500 --arrivals uniform"] {
            let mut count = 0;
            let nodes = nodes(3, 0, move |_, _| {
                count += 1;
                if count % 20 == 0 { fault } else { Fault::None }
            });
            let line = format!(
                "--reads 0.5 --clients 4 --keys 20 --duration 400ms --op-timeout 50ms {more}"
            );
            let (report, found) = judged(&nodes, &line);
            let (reads, writes) = (&report["reads"], &report["writes"]);
            for class in [reads, writes] {
                assert!(0 < class["ok"].as_u64().unwrap(), "{line}: {report}");
                assert_eq!((&class["unknown"], &class["failed"]), (&0.into(), &0.into()), "{line}");
            }
            assert_eq!((found.violated, found.undecided.len()), (0, 0), "{line}: {found:?}");
            assert_eq!(report["not_read"], 0, "{line}");
            assert!(!report["errors"].as_object().unwrap().is_empty(), "{line}: {report}");
        }
    }
}

/// A write that was sent twice is done twice. The history has to allow for it: here the first attempt takes effect
/// after the second was answered and another client has written, and a read shows it.
#[test]
fn attempts_that_are_lost_are_in_the_history() {
    let mut count = 0;
    let nodes = nodes(2, 0, move |_, is_write| {
        count += u64::from(is_write);
        if is_write && count % 10 == 0 { Fault::DoneAndGone } else { Fault::None }
    });
    let (report, found) = judged(&nodes, "--clients 2 --keys 4 --duration 200ms");
    let acknowledged = report["writes"]["ok"].as_u64().unwrap();
    assert_eq!(report["writes"]["unknown"], 0);
    assert!(acknowledged / 20 < found.unknown as u64, "{acknowledged}: {found:?}");
}

/// A system that says it wrote and did not: `loggos check` has to see it.
#[test]
fn a_liar_is_found() {
    let mut count = 0;
    let nodes = nodes(1, 0, move |_, is_write| {
        count += u64::from(is_write);
        if is_write && count % 30 == 0 { Fault::Pretend } else { Fault::None }
    });
    let (_, found) = judged(&nodes, "--reads 0.5 --clients 2 --keys 4 --duration 200ms");
    assert!(0 < found.violated, "{found:?}");
}

/// Nobody answers any more: operations end as unknown, reads as failed, the gap shows the outage, the end is no error.
#[test]
fn silence_ends_as_unknown() {
    let dir = tempfile::tempdir().unwrap();
    let mut count = 0;
    let nodes = nodes(2, 0, move |_, _| {
        count += 1;
        if 200 < count { Fault::Silent } else { Fault::None }
    });
    let history = dir.path().join("history");
    let line = format!(
        "--clients 2 --keys 10 --duration 600ms --op-timeout 50ms --give-up 200ms --history {}",
        history.display()
    );
    let (output, report) = load(&nodes, &line, dir.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(0 < report["writes"]["unknown"].as_u64().unwrap(), "{report}");
    assert!(300.0 < report["longest_gap_ms"].as_f64().unwrap(), "{report}");
    assert_eq!(report["not_read"], 10);
    let found = Run::read(&[history], None).unwrap().judge();
    assert_eq!((found.violated, found.undecided.len()), (0, 0), "{found:?}");
}

/// An error that every node would give is no reason to go elsewhere, and certainly no effect.
#[test]
fn refusals_are_failures() {
    let mut count = 0;
    let nodes = nodes(2, 0, move |_, _| {
        count += 1;
        if count % 5 == 0 { Fault::Wrong } else { Fault::None }
    });
    let (report, found) = judged(&nodes, "--clients 2 --keys 10 --duration 100ms");
    assert!(0 < report["writes"]["failed"].as_u64().unwrap(), "{report}");
    assert!(0 < report["errors"]["ERR never"].as_u64().unwrap(), "{report}");
    assert_eq!((found.violated, found.undecided.len()), (0, 0), "{found:?}");
}

/// Connections go where they are told to; the trace says who answered.
#[test]
fn targets_are_gone_to() {
    let nodes = nodes(3, 1, |_, _| Fault::None);
    let third = nodes[2].to_string();
    for (target, wanted) in [("leader", vec![2]), ("spread", vec![1, 2, 3]), (&third, vec![3])] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        let line =
            format!("--clients 3 --duration 100ms --target {target} --trace {}", path.display());
        let (output, report) = load(&nodes, &line, dir.path());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let (source, events) = trace::read(&std::fs::read(&path).unwrap()).unwrap();
        assert_eq!(source, Source::Client);
        assert!(events.iter().all(|event| event.kind == Kind::ClientOperation));
        let ended = report["writes"]["ok"].as_u64().unwrap();
        assert!(ended <= events.len() as u64 && 0 < ended);
        let mut by: Vec<u16> = events.iter().map(|event| event.node).collect();
        by.sort_unstable();
        by.dedup();
        assert_eq!(by, wanted, "{target}");
        assert_eq!(report["parameters"]["target"], target);
    }
}

/// A leader that does not serve is left, and returned to once it says that it leads and serves again.
#[test]
fn the_leader_is_returned_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace");
    let mut count = 0;
    let nodes = nodes(2, 0, move |at, _| {
        count += 1;
        if at == 0 && (100..110).contains(&count) { Fault::NotHere } else { Fault::None }
    });
    let line = format!("--clients 2 --rate 300 --duration 4s --trace {}", path.display());
    let (output, _) = load(&nodes, &line, dir.path());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (_, events) = trace::read(&std::fs::read(&path).unwrap()).unwrap();
    let nodes: Vec<u16> = events.iter().map(|event| event.node).collect();
    assert!(nodes.contains(&2), "it was left");
    assert_eq!(nodes.last(), Some(&1), "and returned to");
}
