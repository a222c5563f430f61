//! Who runs statements: plain SQLite in memory, and a cluster of real nodes.

use loggos::client::Client;
use loggos::sql::{Rows, SqlValue, Statement};
use loggos::store::{Command, Failure, Query, Reply, Step, StepReply, Transaction};
use loggos::wire::client::Consistency;
use loggos::wire::kv::{encode_statement, encode_transaction};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Error};

use super::support::{Cluster, PATIENCE};

/// What a statement gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Given {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<SqlValue>>,
    pub changes: u64,
}

/// The message of what failed, or what there was.
pub type Outcome = Result<Given, String>;

pub trait Side {
    /// Runs statements as one transaction; what the last one gives.
    fn run(&mut self, statements: &[String]) -> Outcome;
    /// Runs a statement that only reads.
    fn ask(&mut self, text: &str) -> Outcome;
}

pub struct Plain(Connection);

impl Plain {
    pub fn new() -> Plain {
        let connection = Connection::open_in_memory().unwrap();
        // Settings of a connection, which the replicated database has for good.
        connection.execute_batch("PRAGMA foreign_keys = ON").unwrap();
        Plain(connection)
    }

    fn statement(&self, text: &str) -> Result<Given, Error> {
        let mut statement = self.0.prepare(text)?;
        let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
        let before = self.0.total_changes();
        let (mut found, mut rows) = (statement.raw_query(), Vec::new());
        while let Some(row) = found.next()? {
            let values = (0..columns.len()).map(|index| row.get_ref(index).map(value));
            rows.push(values.collect::<Result<_, _>>()?);
        }
        drop(found);
        let changes = if self.0.total_changes() == before { 0 } else { self.0.changes() };
        Ok(Given { columns, rows, changes })
    }
}

impl Side for Plain {
    fn run(&mut self, statements: &[String]) -> Outcome {
        self.0.execute_batch("BEGIN").unwrap();
        let mut last = Given { columns: vec![], rows: vec![], changes: 0 };
        let mut done = Ok(());
        for text in statements {
            match self.statement(text) {
                Ok(given) => last = given,
                Err(error) => {
                    done = Err(error);
                    break;
                }
            }
        }
        let done = done.and_then(|()| self.0.execute_batch("COMMIT"));
        if done.is_err() && !self.0.is_autocommit() {
            self.0.execute_batch("ROLLBACK").unwrap();
        }
        done.map(|()| last).map_err(|error| message(&error))
    }

    fn ask(&mut self, text: &str) -> Outcome {
        self.statement(text).map_err(|error| message(&error))
    }
}

fn value(value: ValueRef<'_>) -> SqlValue {
    match value {
        ValueRef::Null => SqlValue::Null,
        ValueRef::Integer(number) => SqlValue::Integer(number),
        ValueRef::Real(number) => SqlValue::Real(number),
        ValueRef::Text(bytes) => SqlValue::Text(String::from_utf8(bytes.to_vec()).unwrap()),
        ValueRef::Blob(bytes) => SqlValue::Blob(bytes.to_vec()),
    }
}

fn message(error: &Error) -> String {
    match error {
        Error::SqliteFailure(_, Some(message)) => message.clone(),
        Error::SqlInputError { msg, .. } => msg.clone(),
        other => other.to_string(),
    }
}

pub struct Clustered {
    pub cluster: Cluster,
    anybody: Client,
    /// One for each node, which is asked alone.
    each: Vec<Client>,
    asked: usize,
}

impl Clustered {
    pub fn new() -> Clustered {
        let cluster = Cluster::start(3);
        let each = cluster.addresses().into_iter().map(|it| Client::new(&[it], PATIENCE)).collect();
        Clustered { anybody: cluster.client(), cluster, each, asked: 0 }
    }
}

impl Side for Clustered {
    fn run(&mut self, statements: &[String]) -> Outcome {
        let all = statements.iter().map(|text| Statement { text, parameters: vec![] });
        let then = all.map(Step::Sql).collect();
        let bytes = encode_transaction(&Transaction { then, ..Transaction::default() });
        match self.anybody.execute(&Command::Transaction(&bytes)).expect("it is decided").reply {
            Reply::Transaction { steps, .. } => match steps.into_iter().last() {
                Some(StepReply::Rows(rows)) => Ok(given(rows)),
                other => panic!("{statements:?}: {other:?}"),
            },
            Reply::Failed(Failure::Step { why, .. }) => Err(why),
            other => panic!("{statements:?}: {other:?}"),
        }
    }

    fn ask(&mut self, text: &str) -> Outcome {
        let statement = encode_statement(&Statement { text, parameters: vec![] });
        let node = self.asked % self.each.len();
        self.asked += 1;
        let answer = self.each[node].query(&Query::Sql(&statement), Consistency::Linearizable);
        match answer.expect("a read").reply {
            Reply::Rows(rows) => Ok(given(rows)),
            Reply::Failed(Failure::Sql { why }) => Err(why),
            other => panic!("{text}: {other:?}"),
        }
    }
}

fn given(Rows { columns, rows, changes, .. }: Rows) -> Given {
    Given { columns, rows, changes }
}
