//! What queries of SQL give, however much it is: in parts, all of one state.

use crate::sql::{Rows, Statement};
use crate::store::{Failure, Query, Reply};
use crate::wire::client::{Consistency, Request, Response};
use crate::wire::kv;

use super::{Attempt, Client, Error, answer, never_happened, one_line};

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
        let bulk = kv::encode_query(&Query::Sql(&statement));
        let (of, deadline_ns) = (self.take_id(), self.deadline_ns());
        let mut reply = match self.call(&Request::Read { id: of, consistency }, &bulk, deadline_ns)
        {
            Ok((Response::Read { slot, ballot, .. }, bulk, node)) => {
                answer(&bulk, slot, ballot, node).map_err(Error::Definite)?.reply
            }
            other => return Err(never_happened(other).into()),
        };
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
            reply = self.read_on(of, skip)?;
        }
    }

    /// The rows of a read from `skip` on, from the node that has begun.
    fn read_on(&mut self, of: u64, skip: u64) -> Result<Reply, Error> {
        let (id, deadline_ns) = (self.take_id(), self.deadline_ns());
        let why = match self.attempt(&Request::ReadOn { id, of, skip }, &[], deadline_ns) {
            Attempt::Done(Response::Read { slot, ballot, .. }, bulk, node) => {
                return answer(&bulk, slot, ballot, node)
                    .map(|answer| answer.reply)
                    .map_err(Error::Definite);
            }
            Attempt::Done(..) => "the node answered with nonsense".to_owned(),
            Attempt::NotSent(why) | Attempt::Lost(why) => {
                self.next_node(None, None);
                why
            }
            Attempt::Refused(error) => one_line(&error.message),
        };
        Err(Error::Definite(format!("only the first {skip} rows came: {why}")))
    }
}
