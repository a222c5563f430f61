//! The real binary: what it says when it is used wrongly or finds nobody, and its exit codes.

#![allow(clippy::unwrap_used)] // A test helper that fails is a failed test.

use std::net::TcpListener;
use std::process::{Command, Output};

fn loggos(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loggos"))
        .args(args)
        .env_remove("LOGGOS_NODES")
        .stdin(std::process::Stdio::null())
        .output()
        .unwrap()
}

/// Runs it and expects a failure: the exit code, nothing on standard output, and the one line.
fn failure(args: &[&str], code: i32) -> String {
    let output = loggos(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}");
    assert_eq!(stderr.lines().count(), 1, "{args:?}: {stderr}");
    assert!(stderr.starts_with("loggos: ") && stderr.ends_with('\n'), "{args:?}: {stderr}");
    stderr
}

/// An address on which nobody listens.
fn dead_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_bad_command_line_is_one_line_and_exit_code_2() {
    for args in [
        &[][..],
        &["bogus"],
        &["put", "key"],
        &["get", "key", "--bogus"],
        &["get", "key", "--nodes", "nowhere"],
        &["get", "key", "--nodes", "127.0.0.1:1", "--config", "x"],
        &["get", ""],
        &["get", "key", "--timeout", "0"],
        &["incr", "key", "many"],
        &["bench", "--reads", "2"],
        &["bench", "--workload", "juggle"],
        &["bench", "--nodes", "127.0.0.1:1", "--trace", "/nonexistent/trace"],
        &["serve"],
        &["serve", "--config", "/nonexistent/loggos.toml"],
        &["wal"],
        &["wal", "inspect"],
    ] {
        failure(args, 2);
    }
}

/// A newline in what the user typed must not make two lines of the error.
#[test]
fn an_error_stays_one_line_whatever_was_typed() {
    failure(&["two\nlines"], 2);
    failure(&["get", "key", "--nodes", "a\nb"], 2);
}

#[test]
fn nobody_there_is_exit_code_3() {
    let address = dead_address();
    for args in [
        &["get", "key"][..],
        &["put", "key", "value"],
        &["incr", "key"],
        &["scan"],
        &["bench", "--duration", "1s"],
    ] {
        let args = [args, &["--nodes", &address]].concat();
        let timeout: &[&str] = if args[0] == "bench" { &[] } else { &["--timeout", "200ms"] };
        let line = failure(&[&args, timeout].concat(), 3);
        assert!(line.contains("connection refused"), "{line}");
    }
}

/// A mistyped directory is the user's mistake, not the disk's.
#[test]
fn inspecting_what_is_no_data_directory_is_exit_code_2() {
    let line = failure(&["wal", "inspect", "/nowhere/at/all"], 2);
    assert!(line.contains("/nowhere/at/all is no data directory"), "{line}");
}

/// The status table says of each node why it is not there, before the one line of the failure.
#[test]
fn the_status_of_nobody() {
    let output = loggos(&["status", "--nodes", &dead_address()]);
    assert_eq!(output.status.code(), Some(3));
    assert!(String::from_utf8(output.stdout).unwrap().contains("connection refused"));
    assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1);
}

/// Help goes to standard output, is an answer and not an error, and fits a terminal.
#[test]
fn help_is_a_manual() {
    let help = |args: &[&str]| {
        let output = loggos(args);
        assert_eq!(output.status.code(), Some(0), "{args:?}");
        assert!(output.stderr.is_empty(), "{args:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let all = help(&["--help"]);
    let commands = [
        "serve", "get", "put", "create", "update", "delete", "cas", "incr", "scan", "shell",
        "status", "bench", "check", "demo", "wal",
    ];
    for command in commands {
        assert!(all.contains(&format!("  {command} ")), "{command}");
        let text = help(&[command, "--help"]);
        assert!(text.contains("Usage: loggos "), "{text}");
        let wide = text.lines().find(|line| 80 < line.chars().count());
        assert_eq!(wide, None, "{command}");
    }
    assert!(all.contains("Exit codes:") && all.contains("LOGGOS_NODES"));
    assert!(help(&["--version"]).starts_with("loggos "));
}

/// The environment names the nodes if the command line does not.
#[test]
fn the_environment_names_the_nodes() {
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_loggos"))
            .args(args)
            .env("LOGGOS_NODES", "no address")
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, line) = run(&["get", "key"]);
    assert_eq!(code, Some(2));
    assert!(line.starts_with("loggos: LOGGOS_NODES: "), "{line}");
    let address = dead_address();
    assert_eq!(run(&["get", "key", "--timeout", "100ms", "--nodes", &address]).0, Some(3));
}

/// A script on standard input: every failure is told with its line, the last one is the exit code.
#[test]
fn the_shell_reads_scripts() {
    use std::io::Write;
    let mut shell = Command::new(env!("CARGO_BIN_EXE_loggos"))
        .args(["shell", "--nodes", &dead_address(), "--timeout", "100ms"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(b"# a comment\nbogus\nget k\n").unwrap();
    let output = shell.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(lines[0].starts_with("loggos: line 2: "), "{stderr}");
    assert!(lines[1].starts_with("loggos: line 3: "), "{stderr}");
    assert_eq!(lines.len(), 2);
}
