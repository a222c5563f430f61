//! What commands do and give, and that replicas agree about it.

use super::*;

fn moment(number: u64) -> Moment {
    Moment { time_us: 1_700_000_000_000_000 + number * 1_000_000, seed: number }
}

fn statement(text: &str) -> Statement<'_> {
    Statement { text, parameters: Vec::new() }
}

/// Runs statements as one command.
fn command(database: &mut Database, number: u64, texts: &[&str]) -> Result<Vec<Rows>, String> {
    database.begin(moment(number));
    let mut all = Vec::new();
    for text in texts {
        match database.run(&statement(text)) {
            Ok(rows) => all.push(rows),
            Err(why) => {
                database.roll_back();
                database.settle();
                return Err(why);
            }
        }
    }
    let done = database.commit();
    database.settle();
    done.map(|()| all)
}

const BUDGET: Budget = Budget { steps: 10_000_000, until_ns: None, rows_size: 1 << 20 };

fn view(pages: &Pages, at: u64, budget: Budget) -> View<'_> {
    View { pages, moment: moment(at), budget }
}

fn ask(database: &Database, text: &str) -> Result<Vec<Vec<SqlValue>>, String> {
    let reader = &mut Reader::default();
    let page = reader.query(view(&database.pages(), 99, BUDGET), &statement(text), 0)?;
    Ok(page.rows.rows)
}

/// The rows as `sqlite3` writes them.
fn lines(rows: &[Vec<SqlValue>]) -> Vec<String> {
    let line =
        |row: &Vec<SqlValue>| row.iter().map(SqlValue::to_string).collect::<Vec<_>>().join("|");
    rows.iter().map(line).collect()
}

#[test]
fn a_command_happens_as_a_whole_or_not_at_all() {
    let mut database = Database::new(Pages::default());
    let made = command(
        &mut database,
        1,
        &[
            "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT UNIQUE)",
            "INSERT INTO t (b) VALUES ('x'), ('y')",
        ],
    );
    let made = made.unwrap();
    assert_eq!((made[1].changes, made[1].last_row_id), (2, Some(2)));
    let before = database.digest();
    let failed = command(
        &mut database,
        2,
        &["INSERT INTO t (b) VALUES ('z')", "INSERT INTO t (b) VALUES ('x')"],
    );
    assert_eq!(failed.unwrap_err(), "UNIQUE constraint failed: t.b");
    assert_eq!(database.digest(), before);
    assert_eq!(lines(&ask(&database, "SELECT * FROM t ORDER BY a").unwrap()), ["1|x", "2|y"]);
    let rows =
        command(&mut database, 3, &["INSERT INTO t (b) VALUES ('z') RETURNING a, b"]).unwrap();
    assert_eq!(rows[0].columns, ["a", "b"]);
    assert_eq!(lines(&rows[0].rows), ["3|z"]);
}

/// Foreign keys are looked at when the command ends.
#[test]
fn a_commit_can_fail() {
    let mut database = Database::new(Pages::default());
    let schema = "CREATE TABLE p (a INTEGER PRIMARY KEY)";
    let child = "CREATE TABLE c (p REFERENCES p (a) DEFERRABLE INITIALLY DEFERRED)";
    command(&mut database, 1, &[schema, child]).unwrap();
    let failed = command(&mut database, 2, &["INSERT INTO c VALUES (7)"]);
    assert_eq!(failed.unwrap_err(), "FOREIGN KEY constraint failed");
    command(&mut database, 3, &["INSERT INTO c VALUES (7)", "INSERT INTO p VALUES (7)"]).unwrap();
    assert_eq!(lines(&ask(&database, "SELECT count(*) FROM c").unwrap()), ["1"]);
}

#[test]
fn what_would_make_replicas_differ_is_refused_with_a_reason() {
    let mut database = Database::new(Pages::default());
    let hidden = [
        "CREATE TABLE t (a)",
        "CREATE VIEW through_a_view AS SELECT total_changes()",
        "CREATE TRIGGER g AFTER DELETE ON t BEGIN INSERT INTO t SELECT * FROM through_a_view; END",
    ];
    command(&mut database, 1, &hidden).unwrap();
    for (text, why) in [
        ("ATTACH 'x' AS y", "other database files"),
        ("VACUUM", "VACUUM"),
        ("VACUUM INTO 'x'", "VACUUM"),
        ("BEGIN", "transaction already"),
        ("COMMIT", "transaction already"),
        ("SAVEPOINT s", "transaction already"),
        ("CREATE TEMP TABLE u (a)", "temporary"),
        ("CREATE TEMP VIEW u AS SELECT 1", "temporary"),
        ("PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys"),
        ("PRAGMA journal_mode = WAL", "PRAGMA journal_mode"),
        ("PRAGMA writable_schema = 1", "PRAGMA writable_schema"),
        ("PRAGMA cache_size = 10", "PRAGMA cache_size"),
        ("SELECT load_extension('x')", "load_extension"),
        ("SELECT sqlite_source_id()", "sqlite_source_id"),
        ("INSERT INTO t VALUES (total_changes())", "total_changes"),
        ("INSERT INTO t VALUES (sqlite_version())", "sqlite_version"),
        ("CREATE TABLE u (a DEFAULT (total_changes()))", "total_changes"),
        ("SELECT * FROM through_a_view", "total_changes"),
        ("DELETE FROM t", "total_changes"),
        ("CREATE VIRTUAL TABLE v USING fts4(a)", "fts4"),
        ("CREATE VIRTUAL TABLE v USING dbstat", "dbstat"),
        ("SELECT 1; SELECT 2", "more than one statement"),
        ("INSERT INTO t VALUES (?)", "1 parameters"),
        ("SELECT missing FROM t", "no such column"),
        ("DELETE FROM sqlite_schema", "sqlite_master may not be modified"),
    ] {
        let refused = command(&mut database, 2, &[text]).expect_err(text);
        assert!(refused.contains(why), "{text}: {refused}");
    }
    for text in ["PRAGMA user_version = 7", "PRAGMA table_info(t)", "PRAGMA foreign_keys"] {
        command(&mut database, 3, &[text]).expect(text);
    }
    assert_eq!(lines(&ask(&database, "PRAGMA user_version").unwrap()), ["7"]);
    let written = ask(&database, "INSERT INTO t VALUES (1)").unwrap_err();
    assert_eq!(written, "it would change the database");
    assert_eq!(ask(&database, "SELECT sqlite_version()").unwrap().len(), 1);
}

/// Time and chance are those of the command, wherever SQL asks for them.
#[test]
fn time_and_chance_come_with_the_command() {
    let run = || {
        let mut database = Database::new(Pages::default());
        let table = "CREATE TABLE t (a DEFAULT CURRENT_TIMESTAMP, b DEFAULT (random()), c)";
        command(&mut database, 1, &[table]).unwrap();
        let insert = "INSERT INTO t (c) VALUES (datetime('now')), (strftime('%s', 'now')), \
                      (hex(randomblob(9))), (abs(random() % 100)), (unixepoch('subsec')), (changes())";
        command(&mut database, 20, &[insert]).unwrap();
        // The largest rowid is taken: SQLite looks for a free one by chance.
        command(
            &mut database,
            21,
            &["INSERT INTO t (rowid, c) VALUES (9223372036854775807, 'last')"],
        )
        .unwrap();
        let next = command(&mut database, 22, &["INSERT INTO t (c) VALUES ('by chance')"]).unwrap();
        (lines(&ask(&database, "SELECT * FROM t").unwrap()), next[0].last_row_id, database.digest())
    };
    let (rows, chance, digest) = run();
    assert_eq!(run(), (rows.clone(), chance, digest));
    let time = "2023-11-14 22:13:40";
    assert!(rows[0].starts_with(time) && rows[0].ends_with(time), "{rows:?}");
    assert!(rows[1].ends_with("|1700000020"), "{rows:?}");
    assert!(rows[5].ends_with("|0"), "{rows:?}");
    let chances: std::collections::BTreeSet<&str> =
        rows.iter().filter_map(|row| row.split('|').nth(1)).collect();
    assert!(6 <= chances.len(), "{rows:?}");
    assert!(chance.is_some_and(|rowid| 1_000_000 < rowid));
}

/// What does not end is stopped, at the same step everywhere, and leaves nothing.
#[test]
fn a_runaway_is_stopped() {
    let mut database = Database::new(Pages::default());
    command(&mut database, 1, &["CREATE TABLE t (a)"]).unwrap();
    let before = database.digest();
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) ";
    for text in ["INSERT INTO t SELECT i FROM n", "SELECT count(*) FROM n"] {
        let text = format!("{endless}{text}");
        let stopped = command(&mut database, 2, &[&text]).unwrap_err();
        assert!(stopped.contains("too long"), "{stopped}");
    }
    assert!(ask(&database, &format!("{endless}SELECT count(*) FROM n")).is_err());
    // Whoever asks for rows without end gets a part of them.
    assert!(1000 < ask(&database, &format!("{endless}SELECT i FROM n")).unwrap().len());
    let wide = "WITH RECURSIVE n(i, b) AS (SELECT 1, zeroblob(900000) UNION SELECT i + 1, \
                zeroblob(900000) FROM n) SELECT i FROM n ORDER BY b, i";
    let full = command(&mut database, 3, &[wide]).unwrap_err();
    assert!(full.contains("full"), "{full}");
    let large = "SELECT zeroblob(900000), zeroblob(900000)";
    assert!(command(&mut database, 4, &[large]).unwrap_err().contains("larger than"));
    assert_eq!(database.digest(), before);
}

/// What SQL can do beyond tables works, and does not hang on what a connection remembers: a database opened
/// anew before each command has the same pages all along.
#[test]
fn one_that_starts_anew_each_time_agrees() {
    let mut warm = Database::new(Pages::default());
    let mut cold = Pages::default();
    let commands: &[&[&str]] = &[
        &[
            "CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT, c GENERATED ALWAYS AS (length(b)) STORED)",
        ],
        &[
            "CREATE VIRTUAL TABLE f USING fts5(body)",
            "CREATE VIRTUAL TABLE r USING rtree(id, x0, x1)",
        ],
        &["CREATE VIEW v AS SELECT a, c FROM t", "CREATE INDEX i ON t (b)"],
        &[
            "CREATE TABLE log (what)",
            "CREATE TRIGGER g AFTER INSERT ON t BEGIN INSERT INTO log VALUES (new.b || changes()); END",
        ],
        &["INSERT INTO t (b) VALUES ('one'), ('two'), ('three')"],
        &["INSERT INTO f VALUES ('the quick brown fox'), ('jumps over'), ('the lazy dog')"],
        &["INSERT INTO r VALUES (1, 0, 1), (2, 5, 6)"],
        &["WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) \
           INSERT INTO t (b) SELECT 'row ' || random() FROM n"],
        &["ANALYZE"],
        &["INSERT INTO f SELECT b FROM t WHERE a % 3 = 0"],
        &["DELETE FROM t WHERE a % 2 = 0", "UPDATE t SET b = b || b WHERE a % 5 = 0"],
        &["INSERT INTO t (b) SELECT body FROM f WHERE f MATCH 'quick OR lazy'"],
        &["INSERT INTO f (f) VALUES ('optimize')"],
        &["ALTER TABLE t RENAME COLUMN b TO bb", "ALTER TABLE t ADD COLUMN d"],
        &["DROP INDEX i", "DROP TABLE log", "INSERT INTO t (bb) VALUES ('x')"],
        &["DROP TRIGGER g"],
        &[
            "INSERT INTO t (bb, d) VALUES (json_extract('{\"k\": [1, 2]}', '$.k[1]'), printf('%.3f', 1.0 / 3))",
        ],
        &["DROP TABLE f"],
        &["INSERT INTO t (bb) SELECT hex(randomblob(500)) FROM t LIMIT 300"],
    ];
    for (number, texts) in commands.iter().enumerate() {
        let mut anew = Database::new(cold);
        let outcome = command(&mut warm, number as u64, texts);
        assert_eq!(command(&mut anew, number as u64, texts), outcome, "{texts:?}");
        cold = anew.pages();
        assert_eq!(cold.digest(), warm.digest(), "{texts:?}: {outcome:?}");
    }
    assert_eq!(lines(&ask(&warm, "SELECT count(*) FROM v WHERE c IS NOT NULL").unwrap()).len(), 1);
    assert_eq!(lines(&ask(&warm, "PRAGMA integrity_check").unwrap()), ["ok"]);
    assert_eq!(lines(&ask(&warm, "SELECT id FROM r WHERE x0 < 2").unwrap()), ["1"]);
}

/// Pages are freed and taken again with other content: what a cache still holds of them must not show.
#[test]
fn pages_that_were_freed_hold_nothing_of_a_cache() {
    let mut warm = Database::new(Pages::default());
    let mut cold = Pages::default();
    let tables = "CREATE TABLE t (a INTEGER PRIMARY KEY, b)";
    let inserts = |size: usize| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40) \
             INSERT INTO t (b) SELECT randomblob(1 + abs(random() % {size})) FROM n"
        )
    };
    let mut commands = vec![tables.to_owned()];
    for round in 0..30 {
        commands.push(inserts([300, 9000, 2000][round % 3]));
        commands.push("DELETE FROM t WHERE abs(random() % 3) > 0".to_owned());
        commands.push("UPDATE t SET b = randomblob(length(b) / 2 + 1) WHERE a % 2".to_owned());
    }
    for (number, text) in commands.iter().enumerate() {
        let mut anew = Database::new(cold);
        for database in [&mut warm, &mut anew] {
            command(database, number as u64, &[text]).unwrap();
        }
        cold = anew.pages();
        assert_eq!(cold.digest(), warm.digest(), "command {number}: {text}");
    }
}

/// Parameters are bound: nothing in them is read as SQL.
#[test]
fn parameters_are_values() {
    let mut database = Database::new(Pages::default());
    command(&mut database, 1, &["CREATE TABLE t (a, b, c, d, e)"]).unwrap();
    let parameters = vec![
        SqlValue::Null,
        SqlValue::Integer(i64::MIN),
        SqlValue::Real(-0.5),
        SqlValue::Text("'); DROP TABLE t; --\u{0}é".to_owned()),
        SqlValue::Blob(vec![0, 255]),
    ];
    database.begin(moment(2));
    let text = "INSERT INTO t VALUES (?, ?, ?, ?, ?) RETURNING *";
    let rows = database.run(&Statement { text, parameters: parameters.clone() }).unwrap();
    database.commit().unwrap();
    assert_eq!(rows.rows, [parameters]);
}

/// A result in parts has each row once, in one order, whatever the reader that finds them has done before: plans hang on
/// statistics, which SQLite reads when it opens a database.
#[test]
fn parts_are_of_one_order() {
    let mut database = Database::new(Pages::default());
    let rows = |table: &str, count: u32| {
        format!(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {count}) \
             INSERT INTO {table} SELECT i % 7, i FROM n"
        )
    };
    let tables = ["CREATE TABLE t (k, x)", "CREATE TABLE u (k, y)", "CREATE INDEX it ON t (k)"];
    command(&mut database, 1, &tables).unwrap();
    command(&mut database, 2, &["CREATE INDEX iu ON u (k)", &rows("t", 20), &rows("u", 2)])
        .unwrap();
    command(&mut database, 3, &[&rows("u", 300), "ANALYZE"]).unwrap();
    let before = database.pages();
    command(&mut database, 4, &["DELETE FROM u WHERE y > 20", &rows("t", 300), "ANALYZE"]).unwrap();
    let after = database.pages();
    assert_eq!(before.schema(), after.schema(), "or the reader would open it anew anyhow");
    command(&mut database, 5, &["CREATE TABLE another (a)"]).unwrap();
    let disturbance = database.pages();

    let join = statement("SELECT x, y FROM t JOIN u ON t.k = u.k WHERE x <> y");
    let whole = |pages: &Pages| {
        let budget = Budget { rows_size: usize::MAX, ..BUDGET };
        Reader::default().query(view(pages, 9, budget), &join, 0).unwrap().rows.rows
    };
    let expected = whole(&after);
    assert!(500 < expected.len());
    for disturb_each in [1, 2, u64::MAX] {
        let mut reader = Reader::default();
        let few = Budget { rows_size: 5000, ..BUDGET };
        reader.query(view(&before, 9, few), &statement("SELECT count(*) FROM t"), 0).unwrap();
        let (mut found, mut next, mut parts) = (Vec::new(), Some(0), 0);
        while let Some(skip) = next {
            let page = reader.query(view(&after, 9, few), &join, skip).unwrap();
            assert_eq!(page.next.is_some(), found.len() + page.rows.rows.len() < expected.len());
            found.extend(page.rows.rows);
            (next, parts) = (page.next, parts + 1);
            if parts % disturb_each == 0 {
                reader.query(view(&disturbance, 9, few), &join, 0).unwrap();
                reader.query(view(&before, 9, few), &join, 0).unwrap();
            }
        }
        assert!(5 < parts);
        assert!(found == expected, "every {disturb_each}");
    }
    // The plans differ, or this shows nothing.
    let mut stale = Reader::default();
    let budget = Budget { rows_size: usize::MAX, ..BUDGET };
    stale.query(view(&before, 9, budget), &join, 0).unwrap();
    assert!(stale.query(view(&after, 9, budget), &join, 0).unwrap().rows.rows != expected);
}

/// How many rows were changed is a matter of the command, behind a trigger as well: a replica that has just started knows
/// of no other.
#[test]
fn changes_are_those_of_the_command() {
    let schema = "CREATE TABLE t (a INTEGER PRIMARY KEY, b)";
    let seen = "CREATE TABLE seen (n)";
    let trigger = "CREATE TRIGGER g AFTER UPDATE ON t BEGIN INSERT INTO seen VALUES (1); END";
    let mut database = Database::new(Pages::default());
    command(&mut database, 1, &[schema, seen, trigger]).unwrap();
    command(&mut database, 2, &["INSERT INTO t VALUES (1, 0), (2, 0), (3, 0)"]).unwrap();
    let mut anew = Database::new(database.pages());
    for (number, texts) in [
        ["UPDATE t SET b = Changes()", "SELECT changes()"],
        ["SELECT changes()", "UPDATE t SET b = changes() + 10 * b"],
        ["INSERT INTO seen VALUES (7), (8)", "UPDATE t SET b = changes() + 10 * b"],
        ["CREATE VIEW counted AS SELECT changes() AS n", "DELETE FROM seen WHERE n > 6"],
        ["SELECT n FROM counted", "UPDATE t SET b = (SELECT n FROM counted) + 10 * b"],
    ]
    .iter()
    .enumerate()
    {
        let outcome = command(&mut database, 3 + number as u64, texts).unwrap();
        assert_eq!(command(&mut anew, 3 + number as u64, texts).unwrap(), outcome, "{texts:?}");
        assert_eq!(anew.digest(), database.digest(), "{texts:?}");
        anew = Database::new(database.pages());
    }
    assert_eq!(lines(&ask(&database, "SELECT b FROM t").unwrap()), ["20", "20", "20"]);
}
