//! SQLite's own behaviour is the reference: the same statements give the same on plain SQLite and through a cluster,
//! and leave the same pages wherever they are applied.
//!
//! - The scripts in this directory (`*.slt`, the format is told in `script.rs`) run on plain SQLite in memory and
//!   through a real cluster of three nodes, and must give what stands in them on both. After a change,
//!   `UPDATE_SLT=1 cargo test --test sqllogic` writes what plain SQLite gives; the diff tells what changed.
//! - `generated` has statements and queries made from a seed.
#![cfg(feature = "sql")]

mod generated;
mod generator;
mod script;
mod sides;
#[path = "../support/mod.rs"]
mod support;

use std::path::{Path, PathBuf};

use script::{Expected, Record, Script};
use sides::{Clustered, Plain, Side};

fn scripts() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sqllogic");
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut scripts: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|it| it == "slt")).collect();
    scripts.sort();
    scripts
}

/// Where what a side gives is not what stands in the script.
fn differences(script: &Script, side: &mut dyn Side) -> Vec<String> {
    let mut found = Vec::new();
    for record in &script.records {
        let given = record.of(side);
        if given != record.expected {
            let Record { line, text, expected, .. } = record;
            found.push(format!(
                "line {line}: {text}\n  expected {expected:?}\n  gives    {given:?}"
            ));
        }
    }
    found
}

fn read(path: &Path) -> Script {
    let text = std::fs::read_to_string(path).unwrap();
    Script::read(&text).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

#[test]
fn scripts_give_the_same_on_plain_sqlite() {
    let update = std::env::var_os("UPDATE_SLT").is_some();
    for path in scripts() {
        let mut script = read(&path);
        let mut plain = Plain::new();
        if update {
            for record in &mut script.records {
                record.expected = record.of(&mut plain);
            }
            std::fs::write(&path, script.write()).unwrap();
            continue;
        }
        let found = differences(&script, &mut plain);
        assert!(found.is_empty(), "{}:\n{}", path.display(), found.join("\n"));
        // Or it would show nothing.
        let queries = |record: &&Record| matches!(record.expected, Expected::Rows { .. });
        assert!(5 < script.records.iter().filter(queries).count(), "{}", path.display());
    }
}

/// Commands go to whichever node takes them, and queries are linearizable reads, each at another node in turn.
#[test]
fn scripts_give_the_same_through_a_cluster() {
    let paths = scripts();
    assert!(12 <= paths.len(), "{paths:?}");
    for path in paths {
        let mut side = Clustered::new();
        let found = differences(&read(&path), &mut side);
        assert!(found.is_empty(), "{}:\n{}", path.display(), found.join("\n"));
        side.cluster.assert_agreement();
    }
}
