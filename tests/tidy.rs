//! The arrows between modules, read from the source text: what `ARCHITECTURE.md` promises and the
//! compiler does not check.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `dir` with this extension, as (path from the root, text). None if there is no such
/// directory.
fn files(dir: &str, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path: PathBuf = entry.expect("a directory entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                let name = path
                    .strip_prefix(root())
                    .expect("below the root")
                    .to_string_lossy()
                    .into_owned();
                found.push((name, fs::read_to_string(&path).expect("source is text")));
            }
        }
    }
    found.sort();
    found
}

/// Lines of code, without comments, with their numbers.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().map(|(i, line)| (i + 1, line));
    lines.map(|(n, line)| (n, line.split("//").next().unwrap_or(""))).filter(|(_, l)| !l.is_empty())
}

/// Where any of `words` occurs in the code of the files for which `of` holds.
fn occurrences(
    words: &[&str],
    files: &[(String, String)],
    of: impl Fn(&str) -> bool,
) -> Vec<String> {
    let mut found = Vec::new();
    for (name, text) in files.iter().filter(|(name, _)| of(name)) {
        for (n, line) in code(text) {
            for word in words.iter().filter(|word| has_word(line, word)) {
                found.push(format!("{name}:{n}: {word}"));
            }
        }
    }
    found
}

/// Whether `line` has `word`, not as part of a longer name.
fn has_word(line: &str, word: &str) -> bool {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(is_name) && !line[at + word.len()..].starts_with(is_name)
    })
}

#[test]
fn words_are_found_whole() {
    assert!(has_word("use std::net::TcpStream;", "std::net"));
    assert!(!has_word("use std::network;", "std::net"));
    assert!(has_word("unsafe { f() }", "unsafe"));
    assert!(!has_word("#![forbid(unsafe_code)]", "unsafe"));
}

/// The core knows nothing of what is around it: it runs in tests and in the server alike.
#[test]
fn the_core_is_pure() {
    let outside = ["driver", "wal", "wire", "store", "cli", "client", "bench", "sim", "config"];
    let mut words: Vec<String> = outside
        .iter()
        .flat_map(|it| [format!("crate::{it}"), format!("super::super::{it}")])
        .collect();
    for it in
        ["std::net", "std::fs", "std::time", "std::thread", "std::env", "rand", "mio", "log::"]
    {
        words.push(it.into());
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let found = occurrences(&words, &files("src", "rs"), |name| name.starts_with("src/paxos/"));
    // `super::log` is the core's own log.
    let found: Vec<_> = found.into_iter().filter(|it| !it.ends_with("log::")).collect();
    assert_eq!(found, [""; 0]);
}

/// What is replicated does not know how.
#[test]
fn the_store_knows_no_peers() {
    let words = ["crate::driver", "crate::wal", "crate::cli", "std::net", "std::time", "rand"];
    let found = occurrences(&words, &files("src", "rs"), |name| name.starts_with("src/store/"));
    assert_eq!(found, [""; 0]);
}

/// A database is a part of the state: it reaches nothing outside, and a command's time and chance come with
/// it. (A query has a deadline, by the clock that traces have.)
#[test]
fn the_database_is_a_part_of_the_state() {
    let mut words: Vec<String> =
        ["driver", "wal", "wire", "paxos", "cli", "client"].map(|it| format!("crate::{it}")).into();
    for it in ["std::fs", "std::net", "std::time", "std::thread", "std::env", "rand"] {
        words.push(it.into());
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let found = occurrences(&words, &files("src", "rs"), |name| name.starts_with("src/sql/"));
    assert_eq!(found, [""; 0]);
}

/// Who judges a history has no part in making it: the checker knows the store's commands and nothing of
/// what executes or carries them, and simulators get the same verdict every time.
#[test]
fn the_checker_is_nobodys_accomplice() {
    let outside = [
        "crate::driver",
        "crate::wal",
        "crate::wire",
        "crate::paxos",
        "crate::client",
        "crate::bench",
        "crate::cli",
        "std::net",
        "rand",
        "SystemTime",
        "Instant",
    ];
    let tests = ["src/check/model.rs"];
    let check = |name: &str| name.starts_with("src/check/");
    let found =
        occurrences(&outside, &files("src", "rs"), |name| check(name) && !tests.contains(&name));
    assert_eq!(found, [""; 0]);
    let beside = ["std::fs", "std::thread", "std::io"];
    let around = ["src/check/file.rs", "src/check/run.rs"];
    let found =
        occurrences(&beside, &files("src", "rs"), |name| check(name) && !around.contains(&name));
    assert_eq!(found, [""; 0]);
}

/// The codec is behind one door, so that it can be replaced there.
#[test]
fn bincode_is_used_in_one_file() {
    let found = occurrences(&["bincode"], &files("src", "rs"), |name| name != "src/wire/codec.rs");
    assert_eq!(found, [""; 0]);
}

#[test]
fn unsafe_is_used_in_four_files() {
    let found = occurrences(&["unsafe"], &files("src", "rs"), |name| {
        // A mapping, a clock, a timer and SQLite's files, each behind a safe door.
        !["src/wal/map.rs", "src/trace.rs", "src/bench/timer.rs", "src/sql/vfs.rs"].contains(&name)
    });
    assert_eq!(found, [""; 0]);
    let found = occurrences(&["unsafe"], &files("tests", "rs"), |name| name != "tests/tidy.rs");
    assert_eq!(found, [""; 0]);
    let found = occurrences(&["unsafe"], &files("rivals", "rs"), |_| true);
    assert_eq!(found, [""; 0]);
    // An allocator that counts.
    let found = occurrences(&["unsafe"], &files("fuzz/src", "rs"), |name| {
        name != "fuzz/src/targets/memory.rs"
    });
    assert_eq!(found, [""; 0]);
}

#[test]
fn nothing_is_left_to_do() {
    let words = ["todo!", "unimplemented!", "dbg!"];
    for dir in ["src", "rivals"] {
        assert_eq!(occurrences(&words, &files(dir, "rs"), |_| true), [""; 0]);
    }
}

/// Tests wait for what they wait for, not for time to pass. Where something can only be polled, a
/// comment that begins with `sleep:` in the line or the one above says why.
#[test]
fn nothing_sleeps() {
    let mut found = Vec::new();
    for dir in ["src", "tests", "benches", "rivals"] {
        for (name, text) in files(dir, "rs").iter().filter(|(name, _)| name != "tests/tidy.rs") {
            let lines: Vec<&str> = text.lines().collect();
            for (n, line) in code(text).filter(|(_, line)| line.contains("thread::sleep")) {
                let above = if 1 < n { lines[n - 2] } else { "" };
                if !lines[n - 1].contains("// sleep:") && !above.contains("// sleep:") {
                    found.push(format!("{name}:{n}: {}", line.trim()));
                }
            }
        }
    }
    assert_eq!(found, [""; 0]);
}

/// A map that lacks a place is worse than none.
#[test]
fn the_map_names_every_directory() {
    let Ok(map) = fs::read_to_string(root().join("ARCHITECTURE.md")) else { return };
    for entry in fs::read_dir(root().join("src")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let name = format!("src/{}", path.file_name().unwrap().to_string_lossy());
            assert!(map.contains(&name), "ARCHITECTURE.md does not name {name}");
        }
    }
}

/// An `__init__.py` in `mininet/` would hide the installed package of that name.
#[test]
fn mininet_stays_no_package() {
    let found: Vec<String> = files("mininet", "py").into_iter().map(|(name, _)| name).collect();
    let found: Vec<_> = found.iter().filter(|name| name.ends_with("__init__.py")).collect();
    assert!(found.is_empty(), "{found:?}");
}
