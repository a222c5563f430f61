//! Queries of SQL: a thread answers them beside the loop, on the database as it was when they could be served. So
//! one that takes long holds up nothing but other queries, and what is written meanwhile does not disturb it.

use std::io;

use crate::limits::{SQL_QUERIES_MAX, SQL_QUERY_ROWS_SIZE_MAX, SQL_QUERY_US_MAX};
use crate::paxos::{Ballot, Slot};
use crate::sql::{Budget, Reader};
use crate::store::SqlQuery;
use crate::trace::monotonic_ns;
use crate::wire::client::{ErrorKind, RequestKey, Response};
use crate::wire::kv;

use super::helper::Helper;
use super::server::Server;
use super::table::ConnectionId;

/// The queries under way.
pub struct SqlQueries {
    reader: Helper<Job, Done>,
    count: usize,
}

struct Job {
    asked: Asked,
    query: SqlQuery,
}

struct Done {
    asked: Asked,
    reply: Vec<u8>,
}

/// By whom, and of which state.
struct Asked {
    client: ConnectionId,
    id: u64,
    slot: Slot,
    ballot: Ballot,
}

impl SqlQueries {
    pub fn start(wake: impl Fn() + Send + 'static) -> io::Result<SqlQueries> {
        let mut reader = Reader::default();
        let answer = move |Job { asked, query }: Job| {
            let budget = Budget {
                steps: u64::MAX,
                until_ns: Some(monotonic_ns() + 1000 * SQL_QUERY_US_MAX),
                rows_size: SQL_QUERY_ROWS_SIZE_MAX,
            };
            Done { asked, reply: kv::encode_reply(&query.answer(&mut reader, budget)) }
        };
        Ok(SqlQueries { reader: Helper::start("sql-read", wake, answer)?, count: 0 })
    }
}

impl SqlQueries {
    /// Nobody waits for an answer.
    pub fn is_idle(&self) -> bool {
        self.count == 0
    }
}

impl Server {
    /// Has a query answered that may be served.
    pub(super) fn begin_sql_query(&mut self, client: ConnectionId, id: u64, statement: &[u8]) {
        if SQL_QUERIES_MAX <= self.sql_queries.count {
            let message = "too many queries of SQL are under way".to_owned();
            self.respond_error(client, RequestKey::Read { id }, ErrorKind::Busy, true, message);
            return;
        }
        let (slot, ballot) = (self.store.applied(), self.node.view().ballot);
        let query = self.store.sql_query(statement);
        self.sql_queries.count += 1;
        self.sql_queries.reader.hand_over(Job { asked: Asked { client, id, slot, ballot }, query });
    }

    /// Sends what was found.
    pub(super) fn end_sql_queries(&mut self) {
        while let Some(Done { asked, reply }) = self.sql_queries.reader.poll() {
            self.sql_queries.count -= 1;
            let Asked { client, id, slot, ballot } = asked;
            self.respond(client, &Response::Read { id, slot, ballot }, &reply);
        }
    }
}
