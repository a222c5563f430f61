//! Scans of any size, all entries of one state.

use crate::store::{Query, Reply};
use crate::wire::client::Consistency;

use super::{Answer, Client, Error};

/// A key and its value.
pub type Entry = (Vec<u8>, Vec<u8>);

impl Client {
    /// Hands the entries with `from <= key < to` to `take`, at most `limit` of them, reply by reply; the timeout is for
    /// each. Returns the last answer, without its entries, whose `next` says where there would be more.
    ///
    /// The node that answers holds the state for this connection until all has come. If one of them ends before, so does
    /// the scan, with an error: at another node the rest would be of another state.
    pub fn scan<E: From<Error>>(
        &mut self,
        from: &[u8],
        to: Option<&[u8]>,
        limit: u64,
        consistency: Consistency,
        take: &mut dyn FnMut(Vec<Entry>) -> Result<(), E>,
    ) -> Result<Answer, E> {
        let wanted = u32::try_from(limit).unwrap_or(u32::MAX);
        let query = Query::Scan { from, to, limit: wanted };
        let (of, mut answer) = self.begin_read(&query, consistency)?;
        let mut done = 0;
        loop {
            let Reply::Entries { entries, next } = &mut answer.reply else {
                let why = "the node answered with nonsense".to_owned();
                return Err(Error::Definite(why).into());
            };
            let mut page = std::mem::take(entries);
            let room = usize::try_from(limit - done).unwrap_or(usize::MAX);
            if room < page.len() {
                *next = Some(page[room].0.clone());
                page.truncate(room);
            }
            let has_more = next.is_some();
            done += page.len() as u64;
            take(page)?;
            if !has_more || done == limit {
                return Ok(answer);
            }
            answer = self.read_on(of, done, "entries")?;
        }
    }
}
