//! SQL through real nodes: what was acknowledged is there on all of them, as a whole and once, over kills, restarts
//! and snapshots.
#![cfg(feature = "sql")]

mod support;

use std::io::Write;
use std::process::{Command as Process, Stdio};

use loggos::client::connection::Connection;
use loggos::client::{Answer, Client};
use loggos::limits::SQL_RESULTS_HELD_MAX;
use loggos::sql::{Rows, SqlValue, Statement};
use loggos::store::{Command, Failure, Query, Reply, Step, StepReply, Transaction};
use loggos::trace::monotonic_ns;
use loggos::wire::client::{Consistency, ErrorKind, ErrorReply, Request, Response};
use loggos::wire::kv::{encode_query, encode_statement, encode_transaction};
use support::{Cluster, PATIENCE};

fn transaction(client: &mut Client, then: Vec<Step<'_>>) -> Answer {
    let bytes = encode_transaction(&Transaction { then, ..Transaction::default() });
    client.execute(&Command::Transaction(&bytes)).expect("it is decided")
}

fn sql(text: &str) -> Step<'_> {
    Step::Sql(Statement { text, parameters: Vec::new() })
}

/// Runs one statement as a command: its rows.
fn run(client: &mut Client, text: &str) -> Result<Vec<Vec<SqlValue>>, String> {
    match transaction(client, vec![sql(text)]).reply {
        Reply::Transaction { steps, .. } => match &steps[..] {
            [StepReply::Rows(rows)] => Ok(rows.rows.clone()),
            other => panic!("{other:?}"),
        },
        Reply::Failed(Failure::Step { why, .. }) => Err(why),
        other => panic!("{other:?}"),
    }
}

fn ask(client: &mut Client, text: &str) -> Vec<Vec<SqlValue>> {
    let statement = encode_statement(&Statement { text, parameters: Vec::new() });
    let answer = client.query(&Query::Sql(&statement), Consistency::Linearizable).expect("a read");
    match answer.reply {
        Reply::Rows(rows) => rows.rows,
        other => panic!("{text}: {other:?}"),
    }
}

fn integer(client: &mut Client, text: &str) -> i64 {
    match ask(client, text)[..] {
        [ref row] => match row[..] {
            [SqlValue::Integer(number)] => number,
            ref other => panic!("{text}: {other:?}"),
        },
        ref other => panic!("{text}: {other:?}"),
    }
}

/// The three steps of a replicated SQLite: a table, rows from everywhere, the same answers everywhere; then the leader
/// dies, and nothing is lost.
#[test]
fn what_was_inserted_survives_the_leader() {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.client();
    run(&mut client, "CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT UNIQUE)").unwrap();
    for number in 0..50 {
        run(&mut client, &format!("INSERT INTO t (name) VALUES ('row {number}')")).unwrap();
    }
    let leader = cluster.leader();
    cluster.kill(leader);
    for number in 50..100 {
        run(&mut client, &format!("INSERT INTO t (name) VALUES ('row {number}')")).unwrap();
    }
    assert_eq!(integer(&mut client, "SELECT count(*) FROM t"), 100);
    assert_eq!(integer(&mut client, "SELECT max(id) FROM t"), 100);
    cluster.start_node(leader);
    cluster.assert_agreement();
    let again = run(&mut client, "INSERT INTO t (name) VALUES ('row 7')").unwrap_err();
    assert_eq!(again, "UNIQUE constraint failed: t.name");
}

/// Keys and rows change together or not at all.
#[test]
fn a_transaction_is_over_keys_and_rows() {
    let cluster = Cluster::start(3);
    let mut client = cluster.client();
    run(&mut client, "CREATE TABLE account (name TEXT PRIMARY KEY, cents CHECK (0 <= cents))")
        .unwrap();
    run(&mut client, "INSERT INTO account VALUES ('a', 100), ('b', 0)").unwrap();
    let mut pay = |cents: &str| {
        let take = format!("UPDATE account SET cents = cents - {cents} WHERE name = 'a'");
        let give = format!("UPDATE account SET cents = cents + {cents} WHERE name = 'b'");
        let count = Step::Key(Command::Incr { key: b"payments", by: 1 });
        transaction(&mut client, vec![count, sql(&give), sql(&take)]).reply
    };
    assert!(matches!(pay("60"), Reply::Transaction { held: true, .. }));
    match pay("60") {
        Reply::Failed(Failure::Step { step: 2, why }) => {
            assert_eq!(why, "CHECK constraint failed: 0 <= cents");
        }
        other => panic!("{other:?}"),
    }
    let payments =
        client.query(&Query::Get { key: b"payments" }, Consistency::Linearizable).unwrap();
    assert_eq!(payments.reply, Reply::Value(Some(b"1".to_vec())));
    assert_eq!(integer(&mut client, "SELECT cents FROM account WHERE name = 'b'"), 60);
    assert_eq!(
        transaction(&mut client, vec![]).reply,
        Reply::Transaction { held: true, steps: vec![] }
    );
    cluster.assert_agreement();
}

/// A database goes through snapshots: at a restart behind one, and to a node that was away for too long.
#[test]
fn a_snapshot_holds_the_database() {
    let mut cluster = Cluster::start(3);
    let mut client = cluster.client();
    run(&mut client, "CREATE VIRTUAL TABLE notes USING fts5(body)").unwrap();
    run(&mut client, "CREATE TABLE t (a)").unwrap();
    let rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) \
                INSERT INTO t SELECT random() FROM n";
    run(&mut client, rows).unwrap();
    run(&mut client, "INSERT INTO notes VALUES ('one log of commands'), ('identical on several')")
        .unwrap();
    let sum = integer(&mut client, "SELECT sum(a % 1000) FROM t");
    for node in 1..=3 {
        cluster.loggos(&format!("snapshot --nodes {}", cluster.addresses()[node - 1])).unwrap();
    }
    for node in 1..=3 {
        cluster.kill(node);
    }
    cluster.start_all();
    assert_eq!(integer(&mut client, "SELECT sum(a % 1000) FROM t"), sum);
    assert_eq!(integer(&mut client, "SELECT count(*) FROM notes WHERE notes MATCH 'log'"), 1);
    run(&mut client, "INSERT INTO notes VALUES ('behind the snapshot')").unwrap();
    run(&mut client, "DELETE FROM t WHERE a % 2").unwrap();
    cluster.assert_agreement();
    assert_eq!(ask(&mut client, "PRAGMA integrity_check"), [[SqlValue::Text("ok".to_owned())]]);
}

/// A query that does not end is stopped, and neither commands nor other clients wait for it.
#[test]
fn a_long_query_holds_up_nobody() {
    let cluster = Cluster::start(3);
    let mut client = cluster.client();
    run(&mut client, "CREATE TABLE t (a)").unwrap();
    let endless =
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n";
    let stopped = run(&mut client, &format!("INSERT INTO t {endless}")).unwrap_err();
    assert!(stopped.contains("too long"), "{stopped}");
    let mut other = cluster.client();
    let asked = std::thread::spawn(move || {
        let statement = encode_statement(&Statement { text: endless, parameters: Vec::new() });
        other.query(&Query::Sql(&statement), Consistency::Linearizable).map(|answer| answer.reply)
    });
    let mut inserted = 0;
    while !asked.is_finished() {
        run(&mut client, "INSERT INTO t VALUES (1)").unwrap();
        inserted += 1;
    }
    match asked.join().unwrap() {
        Ok(Reply::Failed(Failure::Sql { why })) => assert!(why.contains("too long"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(100 < inserted, "{inserted}");
}

fn loggos_sql(cluster: &Cluster, args: &[&str], input: &str) -> (String, String, i32) {
    let mut shell = Process::new(env!("CARGO_BIN_EXE_loggos"))
        .arg("sql")
        .arg("--config")
        .arg(cluster.config_path())
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (text(output.stdout), text(output.stderr), output.status.code().unwrap())
}

#[test]
fn the_shell_runs_scripts() {
    let cluster = Cluster::start(3);
    let script = "CREATE TABLE t (a INTEGER PRIMARY KEY,\n  b TEXT); -- a comment; with a semicolon\n\
                  INSERT INTO t (b) VALUES ('x;y'), ('z') RETURNING a;\n\
                  BEGIN;\nINSERT INTO t (b) VALUES ('in');\nINSERT INTO t (a) VALUES (1);\nCOMMIT;\n\
                  BEGIN; INSERT INTO t (b) VALUES ('both'); UPDATE t SET b = 'Z' WHERE b = 'z'; COMMIT;\n\
                  WITH n AS (SELECT 7 AS i) INSERT INTO t SELECT i, 'seven' FROM n;\n\
                  .tables\n.schema t\n.mode csv\nSELECT * FROM t ORDER BY a";
    let (out, err, code) = loggos_sql(&cluster, &[], script);
    assert_eq!(
        out,
        "1\n2\nt\nCREATE TABLE t (a INTEGER PRIMARY KEY,\n  b TEXT);\n\
         a,b\r\n1,x;y\r\n2,Z\r\n3,both\r\n7,seven\r\n"
    );
    assert_eq!(
        err,
        "loggos: statement 2 of 2: UNIQUE constraint failed: t.a; nothing of it was done\n"
    );
    assert_eq!(code, 1);
    let dir = tempfile::tempdir().unwrap();
    let saved = dir.path().join("saved.sqlite");
    let save = format!(".save {}\n", saved.display());
    let (out, err, code) = loggos_sql(&cluster, &[], &save);
    assert!(out.contains(" bytes, as of slot ") && code == 0, "{out}{err}");
    let plain = rusqlite::Connection::open(&saved).unwrap();
    let ask = "SELECT group_concat(b, ',') FROM (SELECT b FROM t ORDER BY a)";
    assert_eq!(plain.query_row(ask, [], |row| row.get(0)), Ok("x;y,Z,both,seven".to_owned()));
    let check = plain.query_row("PRAGMA integrity_check", [], |row| row.get(0));
    assert_eq!(check, Ok("ok".to_owned()));
    let more = "CREATE TABLE \"odd name\" (\"a b\" REAL, c GENERATED ALWAYS AS (1), d BLOB);\n\
                INSERT INTO \"odd name\" VALUES (1.5, x'00ff'), (NULL, 'it''s');\n\
                CREATE VIRTUAL TABLE f USING fts5(body);\nINSERT INTO f VALUES ('one log');\n\
                CREATE INDEX i ON t (b);\nCREATE VIEW v AS SELECT 1;\n\
                CREATE TRIGGER g AFTER DELETE ON t BEGIN SELECT 1; END;\n.dump\n";
    let (dump, err, code) = loggos_sql(&cluster, &[], more);
    assert_eq!((&err[..], code), ("", 0));
    let other = rusqlite::Connection::open_in_memory().unwrap();
    other.execute_batch(&dump).unwrap();
    let again = Cluster::start(3);
    let (_, err, code) = loggos_sql(&again, &[], &dump);
    assert_eq!((&err[..], code), ("", 0), "{dump}");
    assert_eq!(loggos_sql(&again, &[], ".dump").0, dump);
    let (_, err, code) = loggos_sql(&cluster, &[], &save);
    assert!(err.contains("exists") && code == 2, "{err}");
    let csv = dir.path().join("places.csv");
    let lines: String =
        (0..1200).map(|number| format!("{number},\"place, {number}\"\r\n")).collect();
    std::fs::write(&csv, format!("id,name\r\n{lines}")).unwrap();
    let import = format!(".import {0} place\n.import --skip 1 {0} place\n", csv.display());
    let ask = "SELECT count(*), max(name), sum(id) FROM place WHERE name LIKE 'place, %'";
    let (out, err, code) = loggos_sql(&cluster, &[], &format!("{import}{ask};"));
    assert_eq!(
        (&out[..], &err[..], code),
        ("1200 rows\n1200 rows\n2400|place, 999|1438800\n", "", 0)
    );
    let (out, err, code) =
        loggos_sql(&cluster, &["--mode", "json", "-c", "SELECT count(*) AS n FROM t"], "");
    assert_eq!((&out[..], &err[..], code), ("[{\"n\":4}]\n", "", 0));
    let (_, err, code) = loggos_sql(&cluster, &["-c", "VACUUM"], "");
    assert!(err.contains("VACUUM") && code == 1, "{err}");
    let (_, err, code) = loggos_sql(&cluster, &[], "SELECT 'open");
    assert!(err.contains("not complete") && code == 2, "{err}");
    cluster.assert_agreement();
}

#[test]
fn the_tour_in_the_readme() {
    support::tour::follow(&Cluster::start(3), "SQL");
}

/// A result of any size comes in parts that are all of one state, whatever is written meanwhile.
#[test]
fn a_large_result_is_of_one_state() {
    const ROWS: i64 = 50_000;
    const A_COMMAND: i64 = 2500;
    let cluster = Cluster::start(3);
    let mut writer = cluster.client();
    run(&mut writer, "CREATE TABLE t (id INTEGER PRIMARY KEY, state INT, body TEXT)").unwrap();
    for from in (0..ROWS).step_by(A_COMMAND as usize) {
        let rows = format!(
            "WITH RECURSIVE n(i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n \
             WHERE i + 1 < {from} + {A_COMMAND}) \
             INSERT INTO t SELECT i, 0, hex(randomblob(500)) FROM n"
        );
        run(&mut writer, &rows).unwrap();
    }
    let text = "SELECT state, id, body, random() FROM t WHERE id >= ? ORDER BY id DESC";
    let statement = Statement { text, parameters: vec![SqlValue::Integer(0)] };
    let (mut expected, mut parts, mut bytes) = (ROWS, 0, 0);
    let mut chances = std::collections::BTreeSet::new();
    let mut take = |rows: Rows| {
        assert_eq!(rows.columns, ["state", "id", "body", "random()"]);
        for row in rows.rows {
            let [SqlValue::Integer(state), SqlValue::Integer(id), SqlValue::Text(body), chance] =
                &row[..]
            else {
                panic!("{row:?}");
            };
            expected -= 1;
            assert_eq!((*state, *id), (0, expected));
            bytes += body.len();
            chances.insert(chance.to_string());
        }
        parts += 1;
        // Some rows of each part are of another state now, and some are gone.
        run(&mut writer, &format!("UPDATE t SET state = 1 WHERE id % 97 = {parts}")).unwrap();
        run(&mut writer, &format!("DELETE FROM t WHERE id % 89 = {parts}")).unwrap();
        Ok::<_, loggos::client::Error>(())
    };
    let mut reader = cluster.client();
    let done = reader.query_rows(&statement, Consistency::Linearizable, &mut take).unwrap();
    assert_eq!((done, expected, bytes), (Ok(()), 0, 50_000_000));
    assert!(10 < parts, "{parts}");
    assert_eq!(chances.len() as i64, ROWS, "chance goes on from part to part");
    assert!(5000 < integer(&mut reader, "SELECT sum(state) FROM t"));
    let (out, err, code) =
        loggos_sql(&cluster, &["--mode", "csv", "-c", "SELECT id, body FROM t ORDER BY id"], "");
    assert_eq!((&err[..], code), ("", 0));
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("id,body"));
    let ids: Vec<i64> =
        lines.map(|line| line.split(',').next().unwrap().parse().unwrap()).collect();
    assert!(ids.is_sorted(), "once each, in order");
    assert_eq!(ids.len() as i64, integer(&mut reader, "SELECT count(*) FROM t"));
    cluster.assert_agreement();
}

/// A node holds so many large results and no more; what is read to its end, broken off or given up makes room.
#[test]
fn large_results_are_held_for_a_few_clients() {
    const LARGE: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
                         WHERE i < 12) SELECT i, printf('%.500000c', 'x') FROM n";
    let mut cluster = Cluster::new(&["acceptor leader replica"], "");
    cluster.start_all();
    let bytes = encode_statement(&Statement { text: LARGE, parameters: Vec::new() });
    let begin = |client: &mut Client| {
        let answer = client.query(&Query::Sql(&bytes), Consistency::Linearizable);
        answer.map(|answer| match answer.reply {
            Reply::RowsPart { rows, next } => {
                assert_eq!((rows.rows.len(), next), (8, 8));
            }
            other => panic!("{other:?}"),
        })
    };
    let mut holding: Vec<Client> = (0..SQL_RESULTS_HELD_MAX).map(|_| cluster.client()).collect();
    for client in &mut holding {
        begin(client).unwrap();
    }
    // Another large one of the same client needs no more room.
    begin(&mut holding[0]).unwrap();
    // A client would go on asking.
    let until_ns = monotonic_ns() + PATIENCE.as_nanos() as u64;
    let mut bare = Connection::open(cluster.addresses()[0], None, until_ns).unwrap();
    let read = Request::Read { id: 1, consistency: Consistency::Linearizable };
    bare.send(&read, &encode_query(&Query::Sql(&bytes)), until_ns).unwrap();
    match bare.receive(until_ns).unwrap() {
        (Response::Error { error: ErrorReply { kind, message, .. }, .. }, _) => {
            assert_eq!(kind, ErrorKind::Busy);
            assert!(message.contains("large results"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    // Nothing is held for it, then.
    bare.send(&Request::ReadOn { id: 2, of: 1, skip: 8 }, &[], until_ns).unwrap();
    match bare.receive(until_ns).unwrap() {
        (Response::Error { error: ErrorReply { kind, message, .. }, .. }, _) => {
            assert_eq!(kind, ErrorKind::BadRequest);
            assert!(message.contains("not held"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    let mut another = cluster.client();
    let mut count = 0;
    let statement = Statement { text: LARGE, parameters: Vec::new() };
    let done = holding[1].query_rows(&statement, Consistency::Stale, &mut |rows| {
        count += rows.rows.len();
        Ok::<_, loggos::client::Error>(())
    });
    assert_eq!((done.unwrap(), count), (Ok(()), 12));
    begin(&mut another).unwrap();
    // A connection that ends makes room once the node has seen it: asking again is the event.
    let mut third = cluster.client();
    holding.clear();
    begin(&mut third).unwrap();
    let wide = "SELECT zeroblob(1000000), zeroblob(1000000), zeroblob(1000000), zeroblob(1000000), \
                zeroblob(1000000)";
    let statement = encode_statement(&Statement { text: wide, parameters: Vec::new() });
    match third.query(&Query::Sql(&statement), Consistency::Linearizable).unwrap().reply {
        Reply::Failed(Failure::Sql { why }) => assert!(why.contains("larger than"), "{why}"),
        other => panic!("{other:?}"),
    }
}
