//! `loggos bench disk` and `loggos bench network` on this machine, and what the first one is there to show.

use std::process::Command;

use serde_json::Value;

/// How many times more than the pages that a commit changes may reach the device.
const TIMES_MAX: f64 = 16.0;

fn bench(args: &[&str]) -> Value {
    let output =
        Command::new(env!("CARGO_BIN_EXE_loggos")).arg("bench").args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a group commit makes the disk write is about what was appended. Where the log's file is held in large
/// pieces, a commit of a few bytes writes up to a mebibyte: 256 times. Others may write meanwhile, and are
/// counted too; hence the room, and the quieter of two measurements.
#[test]
fn a_commit_writes_little_more_than_it_appends() {
    let dir = env!("CARGO_TARGET_TMPDIR");
    let mut least: Option<f64> = None;
    for _ in 0..2 {
        let report = bench(&["disk", "--dir", dir, "--duration", "300ms", "--json"]);
        let commits = report["commits"].as_array().unwrap();
        assert_eq!(commits.len(), 6);
        for row in commits {
            assert!(0.0 < row["per_s"].as_f64().unwrap(), "{row}");
            let (p50, p99) = (row["p50_us"].as_f64().unwrap(), row["p99_us"].as_f64().unwrap());
            assert!(1.0 < p50 && p50 <= p99, "{row}");
        }
        assert!(0.0 < report["write_bytes_per_s"].as_f64().unwrap());
        let times = commits.iter().filter_map(|row| row["amplification"].as_f64());
        let worst = times.fold(None, |worst: Option<f64>, it| Some(it.max(worst.unwrap_or(it))));
        least = match (least, worst) {
            (Some(least), Some(worst)) => Some(least.min(worst)),
            (least, worst) => least.or(worst),
        };
        if least.is_none_or(|times| times < TIMES_MAX) {
            break;
        }
    }
    let Some(times) = least else {
        eprintln!("left out: nobody counts what reaches the disk below {dir}");
        return;
    };
    assert!(times < TIMES_MAX, "a commit makes the disk write {times} times its pages");
}

#[test]
fn messages_over_loopback_are_timed() {
    let report = bench(&["network", "--duration", "50ms", "--json"]);
    let trips = report["round_trips"].as_array().unwrap();
    assert_eq!(
        trips.iter().map(|it| it["bytes"].as_u64().unwrap()).collect::<Vec<_>>(),
        [64, 256, 4096]
    );
    assert!(trips.iter().all(|it| 0.1 < it["p50_us"].as_f64().unwrap()), "{report}");
    assert!(0.0 < report["stream_bytes_per_s"].as_f64().unwrap());
}

/// Nothing is measured where nothing can be written.
#[test]
fn a_directory_that_is_none_is_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_loggos"))
        .args(["bench", "disk", "--dir", "no/such/place"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains("no/such/place is no directory") && error.lines().count() == 1,
        "{error}"
    );
    assert!(output.stdout.is_empty());
}
