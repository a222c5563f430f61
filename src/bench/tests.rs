//! The whole generator against fake nodes, which lose, forget and refuse what the plan says.

use std::sync::atomic::Ordering;

use serde_json::Value;

use super::options::tests::options;
use super::*;
use crate::client::fake::{Fake, Fault};
use crate::paxos::NodeId;
use crate::wire::client::{ErrorKind, ErrorReply, Request};

/// Runs `line` against `fake`: the JSON, and whether the check was content.
fn bench(fake: &Fake, line: &str) -> (Value, bool) {
    let options = options(&format!("{line} --json - --warmup 0s"));
    let outcome =
        run(&options, &fake.addresses, &mut |_| {}, Arc::new(AtomicBool::new(false))).unwrap();
    (serde_json::from_str(&outcome.text).unwrap(), outcome.is_well)
}

/// A plan that does `fault` to every `n`th command.
fn every(
    n: u64,
    fault: impl Fn() -> Fault + Send + 'static,
) -> impl FnMut(NodeId, &Request) -> Fault + Send + 'static {
    let mut commands = 0;
    move |_, request| {
        commands += u64::from(matches!(request, Request::Command { .. }));
        if matches!(request, Request::Command { .. }) && commands % n == 0 {
            fault()
        } else {
            Fault::None
        }
    }
}

fn error(kind: ErrorKind, definite: bool) -> Fault {
    Fault::Error(ErrorReply {
        kind,
        definite,
        ask: Some(NodeId(2)),
        ask_at: None,
        message: String::new(),
    })
}

/// A sound cluster passes every workload's check, in both loops.
#[test]
fn all_is_well() {
    for line in [
        "--workload put --reads 0.3",
        "--workload put --in-flight 4",
        "--workload incr --reads 0.3 --skew 0.99",
        "--workload create --reads 0.3",
        "--workload put --rate 2000",
        "--workload incr --rate 2000 --arrivals uniform --in-flight 3",
    ] {
        let fake = Fake::well(3);
        let line = format!("{line} --check --clients 4 --keys 50 --duration 200ms");
        let (json, is_well) = bench(&fake, &line);
        assert!(is_well, "{line}: {}", json["check"]);
        assert!(0 < json["ok_in_time"].as_u64().unwrap(), "{line}");
        assert_eq!(json["writes"]["unknown"], 0, "{line}");
        assert_eq!(json["windows"].as_array().unwrap().len(), 2, "{line}");
    }
}

/// Runs `line` with a history, and has the history judged.
fn judged(fake: &Fake, line: &str) -> crate::check::run::Judgement {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("bench.history");
    bench(fake, &format!("{line} --history {}", path.display()));
    crate::check::run::Run::read(&[path], None).unwrap().judge()
}

/// What every workload records has an order, unknown outcomes and reads of everything at the end
/// included.
#[test]
fn histories_of_a_sound_cluster_are_linearizable() {
    for line in [
        "--workload put --reads 0.5 --in-flight 3",
        "--workload put --reads 0.5 --check",
        "--workload put --value-size 3",
        "--workload incr --reads 0.3",
        "--workload create --reads 0.3",
    ] {
        let fake = Fake::start(3, every(60, || Fault::LoseReply));
        let line = format!("{line} --clients 4 --keys 20 --duration 200ms");
        let found = judged(&fake, &line);
        assert_eq!((found.violated, found.undecided.len()), (0, 0), "{line}: {found:?}");
        assert!(20 <= found.keys && found.keys < found.operations, "{line}: {found:?}");
    }
    // From some time on nobody gets an answer: they are unknown, and nothing is made of it.
    let mut commands = 0;
    let fake = Fake::start(1, move |_, request| {
        commands += u64::from(matches!(request, Request::Command { .. }));
        let command = matches!(request, Request::Command { .. });
        if command && 200 < commands { Fault::Silence } else { Fault::None }
    });
    let found = judged(
        &fake,
        "--workload incr --clients 2 --keys 3 --duration 300ms --op-timeout 50ms --give-up 200ms",
    );
    assert_eq!((found.violated, found.undecided.len()), (0, 0), "{found:?}");
    assert!(2 <= found.unknown, "{found:?}");
}

/// Errors of the cluster are in the history: done twice, or never done although it said so.
#[test]
fn histories_of_a_broken_cluster_have_no_order() {
    let twice = || Fault::ForgetAndLoseReply;
    let never = || Fault::Pretend;
    for (workload, fault) in [("incr", twice as fn() -> Fault), ("incr", never), ("put", never)] {
        let fake = Fake::start(3, every(40, fault));
        let line =
            format!("--workload {workload} --reads 0.5 --clients 2 --keys 5 --duration 200ms");
        let found = judged(&fake, &line);
        assert!(0 < found.violated && !found.witnesses.is_empty(), "{workload}: {found:?}");
        let lines = found.witnesses[0].lines();
        assert!(lines.len() < 12, "{workload}: {lines:#?}");
    }
}

/// Lost replies are asked for again under the same id, at another node: nothing is done twice.
#[test]
fn lost_replies_do_no_harm() {
    for fault in [|| Fault::LoseReply, || Fault::LoseRequest] {
        let fake = Fake::start(3, every(50, fault));
        let line = "--workload incr --check --clients 4 --in-flight 2 --keys 5 --duration 300ms";
        let (json, is_well) = bench(&fake, line);
        assert!(is_well, "{}", json["check"]);
        assert_eq!(json["writes"]["unknown"], 0);
    }
}

/// Errors of nodes: another node, a pause, or a new session; none of them is the client's problem.
#[test]
fn refusals_are_survived() {
    for kind in [ErrorKind::Busy, ErrorKind::Timeout, ErrorKind::NotAReplica] {
        let fake = Fake::start(3, every(20, move || error(kind, true)));
        let line = "--workload create --check --clients 4 --duration 200ms";
        let (json, is_well) = bench(&fake, line);
        assert!(is_well, "{kind:?}: {}", json["check"]);
        assert_eq!(json["writes"]["unknown"], 0, "{kind:?}");
        assert_eq!(json["writes"]["failed"], 0, "{kind:?}");
    }
    let fake = Fake::start(3, every(20, || error(ErrorKind::SessionExpired, true)));
    let (json, is_well) = bench(&fake, "--workload incr --check --clients 4 --duration 200ms");
    assert!(is_well, "{}", json["check"]);
    assert_eq!(json["writes"]["unknown"], 0);
    assert!(4 < fake.store.lock().unwrap().sessions, "expired sessions are replaced");
}

/// A cluster that forgets what it did executes retries again. The check has to see it.
#[test]
fn double_execution_is_detected() {
    let mut commands = 0;
    let plan = move |_, request: &Request| {
        commands += u64::from(matches!(request, Request::Command { .. }));
        match (request, commands % 40) {
            // Done and forgotten, and the reply is lost: the retry is done again.
            (Request::Command { .. }, 0) => Fault::ForgetAndLoseReply,
            _ => Fault::None,
        }
    };
    let fake = Fake::start(3, plan);
    for workload in ["incr", "create"] {
        let line = format!("--workload {workload} --check --clients 2 --keys 5 --duration 200ms");
        let (json, is_well) = bench(&fake, &line);
        assert!(!is_well, "{workload}");
        assert!(0 < json["check"]["duplicated"].as_u64().unwrap(), "{workload}");
    }
}

/// A cluster that acknowledges and does nothing. The check has to see it.
#[test]
fn lost_writes_are_detected() {
    for workload in ["put", "incr", "create"] {
        let fake = Fake::start(1, every(30, || Fault::Pretend));
        let line = format!("--workload {workload} --check --clients 2 --keys 2 --duration 200ms");
        let (json, is_well) = bench(&fake, &line);
        let lost = json["check"]["lost"].as_u64().unwrap();
        // Of puts only the last one of a key can be missed.
        assert!(workload == "put" || (!is_well && 0 < lost), "{workload}: {}", json["check"]);
    }
}

/// Nobody answers any more: the outcome is unknown, and the gap shows the outage.
#[test]
fn silence_ends_as_unknown() {
    let mut commands = 0;
    let fake = Fake::start(2, move |_, request| {
        commands += u64::from(matches!(request, Request::Command { .. }));
        match request {
            Request::Command { .. } if 100 < commands => Fault::Silence,
            _ => Fault::None,
        }
    });
    let line = "--workload incr --check --clients 2 --duration 300ms --op-timeout 50ms \
                --give-up 200ms";
    let (json, is_well) = bench(&fake, line);
    assert!(is_well, "{}", json["check"]);
    assert!(2 <= json["writes"]["unknown"].as_u64().unwrap());
    assert!(100.0 < json["longest_gap_ms"].as_f64().unwrap(), "{}", json["longest_gap_ms"]);
}

/// Open loop: what the cluster does not take in time is counted, not forgotten.
#[test]
fn an_overload_leaves_a_backlog() {
    let fake = Fake::start(1, |_, request| {
        if matches!(request, Request::Command { .. }) { Fault::Silence } else { Fault::None }
    });
    let line = "--clients 2 --rate 1000 --arrivals uniform --duration 200ms --give-up 400ms";
    let (json, _) = bench(&fake, line);
    // Two started and were given up; all others of the 199 never did.
    assert_eq!(json["never_started"], 197);
    assert_eq!(json["writes"]["unknown"], 2);
}

/// The leader moves: the connections follow it, without a failure in between.
#[test]
fn the_leader_is_followed() {
    let fake = Fake::well(3);
    let store = fake.store.clone();
    let moved = std::thread::spawn(move || {
        // An event to wait for: the load has begun.
        while store.lock().unwrap().slot < 200 {
            std::thread::yield_now();
        }
        store.lock().unwrap().leader = NodeId(3);
    });
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace");
    let line = format!("--clients 3 --duration 1500ms --trace {}", path.display());
    let (json, _) = bench(&fake, &line);
    moved.join().unwrap();
    assert_eq!(json["writes"]["unknown"], 0);

    let bytes = std::fs::read(&path).unwrap();
    let records = bytes[trace::HEADER_SIZE..].chunks_exact(trace::RECORD_SIZE);
    let nodes: Vec<u8> = records.map(|record| record[10]).collect();
    assert_eq!((nodes.first(), nodes.last()), (Some(&1), Some(&3)), "who replied");
    assert!(nodes.len() as u64 >= json["ok_in_time"].as_u64().unwrap());
}

/// The leader falls silent and another node leads: that is found out before any operation is late.
#[test]
fn a_silent_leader_is_left() {
    let mut commands = 0;
    let fake = Fake::start(3, move |node, request| {
        commands += u64::from(matches!(request, Request::Command { .. }));
        if 100 < commands && node == NodeId(1) { Fault::Depose(NodeId(2)) } else { Fault::None }
    });
    let line = "--workload incr --check --clients 4 --in-flight 2 --duration 2s --op-timeout 1m";
    let (json, is_well) = bench(&fake, line);
    assert!(is_well, "{}", json["check"]);
    assert_eq!(json["writes"]["unknown"], 0);
    let gap_ms = json["longest_gap_ms"].as_f64().unwrap();
    assert!((100.0..1500.0).contains(&gap_ms), "{gap_ms}");
}

#[test]
fn nobody_there() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let outcome = run(&options(""), &[free], &mut |_| {}, Arc::new(AtomicBool::new(false)));
    assert!(matches!(outcome, Err(Error::Unreachable(_))));
}

/// Ctrl-C ends the load and not the report.
#[test]
fn an_interrupted_run_reports() {
    let fake = Fake::well(1);
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = interrupted.clone();
    let mut lines = 0;
    let mut progress = |_: &str| {
        lines += 1;
        flag.store(true, Ordering::Relaxed);
    };
    let options = options("--duration 1h --warmup 0 --interval 100ms --clients 2");
    let outcome = run(&options, &fake.addresses, &mut progress, interrupted).unwrap();
    assert!(outcome.text.contains("(interrupted)"), "{}", outcome.text);
    assert!(outcome.text.lines().all(|line| line.len() <= 80), "{}", outcome.text);
    assert_eq!(lines, 1);
}
