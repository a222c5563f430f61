//! The clients' commands by SQL: some keys live in a table instead of the map, and what is done to them and found there
//! is translated both ways. So the same judges see that SQL is linearizable, applied once, and the same everywhere.
//!
//! Rows also hold a number by chance and a time, which only the digest of the database tells apart.

use crate::sql::{Rows, SqlValue, Statement};
use crate::store::{Command, Failure, Query, Reply, Step, StepReply, Store, Transaction};
use crate::wire::kv;

use super::images;
use super::plan::Load;

const TABLE: &str = "CREATE TABLE IF NOT EXISTS kv (k PRIMARY KEY, v, r DEFAULT (random()), \
                     t DEFAULT CURRENT_TIMESTAMP)";
/// A value that `incr` takes for an integer.
const IS_INTEGER: &str = "CAST(CAST(CAST(v AS TEXT) AS INTEGER) AS TEXT) = CAST(v AS TEXT)";

/// Whether this key lives in the table. Where values are large or segments small none does: SQL takes more bytes, and
/// a batch of it might not fit the log.
fn is_sql(key: &[u8], load: &Load) -> bool {
    let fits = load.value_size == 0 && !load.is_small();
    cfg!(feature = "sql") && fits && key.last().is_some_and(|last| last % 5 == 3)
}

fn blob(bytes: &[u8]) -> SqlValue {
    SqlValue::Blob(bytes.to_vec())
}

/// The command as a transaction, if its key lives in the table, or on an image, if it is one.
pub fn of_command(encoded: Vec<u8>, load: &Load) -> Vec<u8> {
    if load.keys_only {
        return encoded;
    }
    let command = kv::decode_command(&encoded).expect("just encoded");
    let key = command.key().expect("clients draw commands on one key");
    if is_sql(key, load) { statements(&command) } else { images::of_command(encoded) }
}

/// What a command on a key is on the table: the bytes of a transaction. Its first step says what it was.
pub fn statements(command: &Command<'_>) -> Vec<u8> {
    let encoded = kv::encode_command(command);
    let key = command.key().expect("clients draw commands on one key");
    let (text, parameters) = match *command {
        Command::Put { key, value } => (
            "INSERT INTO kv (k, v) VALUES (?, ?) ON CONFLICT (k) DO UPDATE SET v = excluded.v, \
             r = random() RETURNING 1"
                .to_owned(),
            vec![blob(key), blob(value)],
        ),
        Command::Create { key, value } | Command::Cas { key, expect: None, value } => (
            "INSERT INTO kv (k, v) VALUES (?, ?) ON CONFLICT DO NOTHING RETURNING 1".to_owned(),
            vec![blob(key), blob(value)],
        ),
        Command::Update { key, value } => (
            "UPDATE kv SET v = ?2 WHERE k = ?1 RETURNING 1".to_owned(),
            vec![blob(key), blob(value)],
        ),
        Command::Delete { key } => {
            ("DELETE FROM kv WHERE k = ? RETURNING 1".to_owned(), vec![blob(key)])
        }
        Command::Cas { key, expect: Some(expect), value } => (
            "UPDATE kv SET v = ?2 WHERE k = ?1 AND v = ?3 RETURNING 1".to_owned(),
            vec![blob(key), blob(value), blob(expect)],
        ),
        Command::Incr { key, by } => (
            format!(
                "INSERT INTO kv (k, v) VALUES (?1, CAST(CAST(?2 AS TEXT) AS BLOB)) \
                 ON CONFLICT (k) DO UPDATE SET \
                 v = CAST(CAST(CAST(CAST(v AS TEXT) AS INTEGER) + ?2 AS TEXT) AS BLOB) \
                 WHERE {IS_INTEGER} RETURNING CAST(CAST(v AS TEXT) AS INTEGER)"
            ),
            vec![blob(key), SqlValue::Integer(by)],
        ),
        _ => unreachable!("clients draw commands on one key"),
    };
    let step = |text, parameters| Step::Sql(Statement { text, parameters });
    let then = vec![
        step("SELECT ? WHERE 0", vec![blob(&encoded)]),
        step(TABLE, Vec::new()),
        step("SELECT v FROM kv WHERE k = ?", vec![blob(key)]),
        step(&text, parameters),
    ];
    let bytes = kv::encode_transaction(&Transaction { then, ..Transaction::default() });
    kv::encode_command(&Command::Transaction(&bytes))
}

/// The command on a key that was sent, itself or as a transaction.
pub fn command_of(payload: &[u8]) -> Vec<u8> {
    let bytes = match kv::decode_command(payload).expect("we sent it") {
        Command::Transaction(bytes) => bytes,
        command => return images::command_of(&command),
    };
    let transaction = kv::decode_transaction(bytes).expect("we sent it");
    match &transaction.then[0] {
        Step::Sql(Statement { parameters, .. }) => match &parameters[..] {
            [SqlValue::Blob(encoded)] => encoded.clone(),
            other => unreachable!("{other:?}"),
        },
        Step::Key(command) => images::command_of(command),
        other => unreachable!("{other:?}"),
    }
}

/// What the reply means for the command on a key.
pub fn of_reply(command: &Command<'_>, reply: Reply) -> Reply {
    let Reply::Transaction { steps, .. } = reply else { return reply };
    if let Some(reply) = images::of_steps(&steps) {
        return reply;
    }
    let [_, _, StepReply::Rows(before), StepReply::Rows(done)] = &steps[..] else {
        panic!("{command:?}: {steps:?}")
    };
    match (command, &done.rows[..]) {
        (Command::Incr { .. }, [row]) => match row[..] {
            [SqlValue::Integer(sum)] => Reply::Integer(sum),
            ref other => panic!("{command:?}: {other:?}"),
        },
        (_, [_]) => Reply::Done,
        (Command::Create { .. }, _) => Reply::Failed(Failure::Exists),
        (Command::Cas { .. }, _) => Reply::Failed(Failure::Mismatch { present: value(before) }),
        (Command::Incr { .. }, _) => Reply::Failed(Failure::NotAnInteger),
        _ => Reply::Failed(Failure::NotFound),
    }
}

/// What a replica says that a key holds.
pub fn get(store: &Store, key: &[u8], load: &Load) -> Reply {
    if load.keys_only {
        return store.query(&Query::Get { key });
    }
    if !is_sql(key, load) {
        return images::get(store, key);
    }
    let select = Statement { text: "SELECT v FROM kv WHERE k = ?", parameters: vec![blob(key)] };
    match store.query(&Query::Sql(&kv::encode_statement(&select))) {
        Reply::Rows(rows) => Reply::Value(value(&rows)),
        Reply::Failed(Failure::Sql { why }) if why.contains("no such table") => Reply::Value(None),
        other => panic!("{other:?}"),
    }
}

fn value(rows: &Rows) -> Option<Vec<u8>> {
    match rows.rows.first().map(|row| &row[..]) {
        Some([SqlValue::Blob(bytes)]) => Some(bytes.clone()),
        None => None,
        other => panic!("{other:?}"),
    }
}
