//! What queries of SQL give, however much it is: in parts, all of one state.

use std::time::Duration;

use crate::limits::SQL_QUERY_US_MAX;
use crate::sql::{Rows, Statement};
use crate::store::{Failure, Query, Reply};
use crate::wire::client::{Consistency, Request, Response};
use crate::wire::kv;

use super::{Answer, Attempt, Client, Error, answer, never_happened, one_line};

/// A node may take 2 s for each part of what a query of SQL gives.
const SQL_PATIENCE: Duration = Duration::from_micros(SQL_QUERY_US_MAX + 500_000);

/// What became of a query: done, or why SQLite refused it.
pub type Outcome = Result<(), String>;

impl Client {
    /// Has a statement that only reads answered, and hands what it gives to `take`, part by part. The timeout is for each.
    ///
    /// The node that answers holds the state for this connection until all has come. If one of them ends before, so does
    /// the query, with an error: from another node the rest would be of another state.
    pub fn query_rows<E: From<Error>>(
        &mut self,
        statement: &Statement<'_>,
        consistency: Consistency,
        take: &mut dyn FnMut(Rows) -> Result<(), E>,
    ) -> Result<Outcome, E> {
        let statement = kv::encode_statement(statement);
        let (of, first) = self.begin_read(&Query::Sql(&statement), consistency)?;
        let mut reply = first.reply;
        loop {
            let skip = match reply {
                Reply::RowsPart { rows, next } => {
                    take(rows)?;
                    next
                }
                Reply::Rows(rows) => return take(rows).map(Ok),
                Reply::Failed(Failure::Sql { why }) => return Ok(Err(why)),
                _ => {
                    let why = "the node answered with nonsense".to_owned();
                    return Err(Error::Definite(why).into());
                }
            };
            reply = self.read_on(of, skip, "rows")?.reply;
        }
    }

    /// The first part of what a query gives, and the id by which the rest is asked for.
    pub(super) fn begin_read(
        &mut self,
        query: &Query<'_>,
        consistency: Consistency,
    ) -> Result<(u64, Answer), Error> {
        let bulk = kv::encode_query(query);
        let (id, deadline_ns) = (self.take_id(), self.deadline_ns());
        let patience = match query {
            // Another node would only begin it again.
            Query::Sql(_) => self.first_patience().max(SQL_PATIENCE),
            _ => self.first_patience(),
        };
        let request = Request::Read { id, consistency };
        match self.call_patiently(&request, &bulk, deadline_ns, patience) {
            Ok((Response::Read { slot, ballot, .. }, bulk, node)) => {
                Ok((id, answer(&bulk, slot, ballot, node).map_err(Error::Definite)?))
            }
            other => Err(never_happened(other)),
        }
    }

    /// What a read gives behind the first `skip` rows or entries, from the node that has begun.
    pub(super) fn read_on(&mut self, of: u64, skip: u64, what: &str) -> Result<Answer, Error> {
        let (id, deadline_ns) = (self.take_id(), self.deadline_ns());
        let why = match self.attempt(&Request::ReadOn { id, of, skip }, &[], deadline_ns) {
            Attempt::Done(Response::Read { slot, ballot, .. }, bulk, node) => {
                return answer(&bulk, slot, ballot, node).map_err(Error::Definite);
            }
            Attempt::Done(..) => "the node answered with nonsense".to_owned(),
            Attempt::NotSent(why) | Attempt::Lost(why) => {
                self.next_node(None, None);
                why
            }
            Attempt::Refused(error) => one_line(&error.message),
        };
        Err(Error::Definite(format!("only the first {skip} {what} came: {why}")))
    }
}
