//! Queries of SQL: a thread answers them beside the loop, on the database as it was when they could be served. So
//! one that takes long holds up nothing but other queries, and what is written meanwhile does not disturb it.
//!
//! What does not fit one reply goes in pages, all of the same state: the thread keeps the query with the database of its
//! moment (`SqlQuery`), one for each connection at most, and runs it again for each page, past the rows that were sent.

use std::collections::BTreeMap;
use std::io;

use crate::limits::{
    SQL_QUERIES_MAX, SQL_QUERY_ROWS_SIZE_MAX, SQL_QUERY_US_MAX, SQL_RESULTS_HELD_MAX,
};
use crate::paxos::{Ballot, Slot};
use crate::sql::{Budget, Reader};
use crate::store::{Reply, SqlQuery};
use crate::trace::monotonic_ns;
use crate::wire::client::{ErrorKind, RequestKey, Response};
use crate::wire::kv;

use super::helper::Helper;
use super::server::Server;
use super::table::ConnectionId;

/// The queries under way.
pub struct SqlQueries {
    reader: Helper<Job, Option<Done>>,
    count: usize,
}

enum Job {
    Begin {
        client: ConnectionId,
        id: u64,
        held: Box<Held>,
    },
    /// Goes on with the result of read `of`.
    GoOn {
        client: ConnectionId,
        id: u64,
        of: u64,
        skip: u64,
    },
    /// Nobody goes on with what is held for this client; without one, with nothing.
    Forget(Option<ConnectionId>),
}

/// A query, and of which state.
struct Held {
    query: SqlQuery,
    of: u64,
    slot: Slot,
    ballot: Ballot,
}

struct Done {
    client: ConnectionId,
    id: u64,
    /// Slot, ballot and the encoded reply.
    reply: Result<(Slot, Ballot, Vec<u8>), (ErrorKind, String)>,
    /// The client may go on with it.
    is_held: bool,
}

/// What the thread knows.
#[derive(Default)]
struct Results {
    reader: Reader,
    /// By connection, as its token.
    held: BTreeMap<u64, Held>,
}

impl Results {
    fn work(&mut self, job: Job) -> Option<Done> {
        let (client, id, held, skip) = match job {
            Job::Begin { client, id, held } => (client, id, *held, 0),
            Job::GoOn { client, id, of, skip } => match self.held.remove(&client.to_token()) {
                Some(held) if held.of == of => (client, id, held, skip),
                other => {
                    self.held.extend(other.map(|held| (client.to_token(), held)));
                    let message = format!("the result of read {of} is not held here (any more)");
                    let reply = Err((ErrorKind::BadRequest, message));
                    return Some(Done { client, id, reply, is_held: false });
                }
            },
            Job::Forget(Some(client)) => {
                self.held.remove(&client.to_token());
                return None;
            }
            Job::Forget(None) => {
                self.held.clear();
                return None;
            }
        };
        let budget = Budget {
            steps: u64::MAX,
            until_ns: Some(monotonic_ns() + 1000 * SQL_QUERY_US_MAX),
            rows_size: SQL_QUERY_ROWS_SIZE_MAX,
        };
        let reply = held.query.answer(&mut self.reader, budget, skip);
        let is_held = matches!(reply, Reply::RowsPart { .. });
        let mut outcome = Ok((held.slot, held.ballot, kv::encode_reply(&reply)));
        if is_held {
            // Another large one of the same client takes the place of this one.
            self.held.insert(client.to_token(), held);
            if SQL_RESULTS_HELD_MAX < self.held.len() {
                self.held.remove(&client.to_token());
                let message = "too many clients read large results here".to_owned();
                outcome = Err((ErrorKind::Busy, message));
            }
        }
        Some(Done { client, id, is_held: is_held && outcome.is_ok(), reply: outcome })
    }
}

impl SqlQueries {
    pub fn start(wake: impl Fn() + Send + 'static) -> io::Result<SqlQueries> {
        let mut results = Results::default();
        let work = move |job: Job| results.work(job);
        Ok(SqlQueries { reader: Helper::start("sql-read", wake, work)?, count: 0 })
    }

    /// Nobody waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.count == 0
    }

    /// Nobody goes on with what this client has read.
    pub fn forget(&self, client: ConnectionId) {
        self.reader.hand_over(Job::Forget(Some(client)));
    }

    /// Nobody goes on with anything: the state was wrong.
    pub fn forget_all(&self) {
        self.reader.hand_over(Job::Forget(None));
    }
}

impl Server {
    /// Has a query answered that may be served.
    pub(super) fn begin_sql_query(&mut self, client: ConnectionId, id: u64, statement: &[u8]) {
        if self.may_query(client, id) {
            let (slot, ballot) = (self.store.applied(), self.node.view().ballot);
            let query = self.store.sql_query(statement);
            let held = Box::new(Held { query, of: id, slot, ballot });
            self.sql_queries.reader.hand_over(Job::Begin { client, id, held });
        }
    }

    /// Has the next rows of a large result sent.
    pub(super) fn go_on_sql_query(&mut self, client: ConnectionId, id: u64, of: u64, skip: u64) {
        if self.may_query(client, id) {
            self.sql_queries.reader.hand_over(Job::GoOn { client, id, of, skip });
        }
    }

    fn may_query(&mut self, client: ConnectionId, id: u64) -> bool {
        if SQL_QUERIES_MAX <= self.sql_queries.count {
            let message = "too many queries of SQL are under way".to_owned();
            self.respond_error(client, RequestKey::Read { id }, ErrorKind::Busy, true, message);
            return false;
        }
        self.sql_queries.count += 1;
        true
    }

    /// Sends what was found.
    pub(super) fn end_sql_queries(&mut self) {
        while let Some(done) = self.sql_queries.reader.poll() {
            let Some(Done { client, id, reply, is_held }) = done else { continue };
            self.sql_queries.count -= 1;
            match self.table.get_mut(client) {
                Some(connection) => connection.has_held |= is_held,
                None if is_held => self.sql_queries.forget(client),
                None => {}
            }
            match reply {
                Ok((slot, ballot, reply)) => {
                    self.respond(client, &Response::Read { id, slot, ballot }, &reply);
                }
                Err((kind, message)) => {
                    self.respond_error(client, RequestKey::Read { id }, kind, true, message);
                }
            }
        }
    }
}
