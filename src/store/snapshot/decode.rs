//! Chunks read back, item by item, each checked.

use crate::limits::{
    BATCH_COMMANDS_MAX, IMAGE_HASH_SIZE_MAX, KEY_SIZE_MAX, SESSION_WINDOW_MAX, SESSIONS_MAX,
    SQL_PAGES_MAX, VALUE_SIZE_MAX,
};
use crate::paxos::{SessionId, Slot};
use crate::sql::pages::{self, PAGE_SIZE, PageBytes};
use crate::store::digest::{self, Digest};
use crate::store::sessions::SESSION_REPLIES_SIZE_SOFT_MAX;
use crate::store::terms::Term;

use super::{
    CHUNK_SIZE_SOFT_MAX, ELSEWHERE, ENTRY, ENTRY_WITH_TERM, IMAGE, KEYS_MAX, LAST_TOKEN, PAGE,
    REPLY, REPLY_SIZE_MAX, SESSION, SLOT_MAX, TERM, TIME,
};

/// One item of the state, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    Time(u64),
    Session {
        id: SessionId,
        acknowledged: u64,
        last_used_us: u64,
    },
    Reply {
        session: SessionId,
        seq: u64,
        reply: &'a [u8],
    },
    LastToken(u64),
    Entry {
        key: &'a [u8],
        value: &'a [u8],
        term: Option<Term>,
    },
    /// Of a linked state.
    Elsewhere {
        keys: u64,
        digest: u128,
    },
    Term {
        key: &'a [u8],
        term: Term,
    },
    Image {
        hash: &'a [u8],
        meta: &'a [u8],
    },
    Page {
        index: usize,
        bytes: &'a PageBytes,
    },
}

/// Reads chunks, and lets nothing pass that `encode` would not have written or that the store could not
/// go on with. It keeps nothing of them but what it needs to compare the next item with.
#[derive(Debug)]
pub struct Decoder {
    applied: Slot,
    is_linked: bool,
    time_us: Option<u64>,
    session: Option<OpenSession>,
    sessions: usize,
    last_token: u64,
    key: Option<Vec<u8>>,
    keys: u64,
    terms: u64,
    /// The hash of the last one.
    image: Option<Vec<u8>>,
    pages: usize,
    digest: Digest,
    /// The chunk before was shorter than any but the last.
    ended: bool,
}

/// The session whose replies are being read.
#[derive(Clone, Copy, Debug)]
struct OpenSession {
    id: SessionId,
    acknowledged: u64,
    last_seq: Option<u64>,
    replies_size: usize,
}

impl Decoder {
    /// The slot behind which the state is.
    pub fn applied(&self) -> Slot {
        self.applied
    }

    /// For the state behind slot `applied`, at most `SLOT_MAX`.
    pub fn new(applied: Slot) -> Decoder {
        assert!(applied <= SLOT_MAX);
        Decoder {
            applied,
            is_linked: false,
            time_us: None,
            session: None,
            sessions: 0,
            last_token: 0,
            key: None,
            keys: 0,
            terms: 0,
            image: None,
            pages: 0,
            digest: Digest::default(),
            ended: false,
        }
    }

    /// For a linked one.
    pub fn linked(applied: Slot) -> Decoder {
        Decoder { is_linked: true, ..Decoder::new(applied) }
    }

    /// Reads the next chunk. An error says what is wrong with it, and nothing may be read then any more.
    pub fn push(
        &mut self,
        chunk: &[u8],
        mut visit: impl FnMut(Item<'_>),
    ) -> Result<(), &'static str> {
        let mut rest = Rest(chunk);
        if chunk.is_empty() || self.ended {
            return Err("a chunk is empty, or follows one that was the last");
        }
        self.ended = chunk.len() < CHUNK_SIZE_SOFT_MAX;
        while !rest.0.is_empty() {
            if CHUNK_SIZE_SOFT_MAX <= chunk.len() - rest.0.len() {
                return Err("a chunk goes on behind its end");
            }
            let item = self.item(&mut rest)?;
            self.digest.add(digest_of_item(&item));
            visit(item);
        }
        Ok(())
    }

    fn item<'a>(&mut self, rest: &mut Rest<'a>) -> Result<Item<'a>, &'static str> {
        let kind = rest.take(1)?[0];
        let Some(now_us) = self.time_us else {
            if kind != TIME {
                return Err("the state does not begin with its time");
            }
            let time_us = rest.u64()?;
            self.time_us = Some(time_us);
            return Ok(Item::Time(time_us));
        };
        if 0 < self.pages && kind != PAGE {
            return Err("an item behind the first page of the database");
        }
        if self.image.is_some() && !matches!(kind, IMAGE | PAGE) {
            return Err("an item behind the first image that belongs before it");
        }
        match (self.is_linked, kind) {
            (true, ELSEWHERE) => return self.elsewhere(rest),
            (true, TERM | IMAGE | PAGE) if self.key.is_none() => {
                return Err("a linked state does not say what lies elsewhere");
            }
            (true, TERM) => return self.term(rest),
            (true, ENTRY | ENTRY_WITH_TERM) => return Err("an entry in a linked state"),
            _ => {}
        }
        match kind {
            SESSION => self.session(rest, now_us),
            REPLY => self.reply(rest),
            LAST_TOKEN => self.last_token(rest),
            ENTRY => self.entry(rest, None),
            ENTRY_WITH_TERM => self.entry_with_term(rest),
            IMAGE => self.image(rest),
            PAGE => self.page(rest),
            _ => Err("an item of an unknown kind"),
        }
    }

    fn session<'a>(&mut self, rest: &mut Rest<'a>, now_us: u64) -> Result<Item<'a>, &'static str> {
        let (id, acknowledged, last_used_us) = (SessionId(rest.u64()?), rest.u64()?, rest.u64()?);
        if self.key.is_some() || self.last_token != 0 {
            return Err("a session behind the last token or the first entry");
        }
        let before = self.session.map_or(SessionId::NONE, |session| session.id);
        // An id that the next slots will give would be given twice.
        let end = (self.applied.0 + 1) * BATCH_COMMANDS_MAX as u64;
        if id <= before || end <= id.0 {
            return Err("a session is out of order, or not opened yet");
        }
        if now_us < last_used_us || SESSIONS_MAX <= self.sessions {
            return Err("a session of the future, or too many of them");
        }
        self.sessions += 1;
        self.session = Some(OpenSession { id, acknowledged, last_seq: None, replies_size: 0 });
        Ok(Item::Session { id, acknowledged, last_used_us })
    }

    fn reply<'a>(&mut self, rest: &mut Rest<'a>) -> Result<Item<'a>, &'static str> {
        let (seq, size) = (rest.u64()?, rest.size(REPLY_SIZE_MAX)?);
        let reply = rest.take(size)?;
        let Some(session) =
            self.session.as_mut().filter(|_| self.key.is_none() && self.last_token == 0)
        else {
            return Err("a reply without a session");
        };
        if seq < session.acknowledged
            || SESSION_WINDOW_MAX as u64 <= seq - session.acknowledged
            || session.last_seq.is_some_and(|last| seq <= last)
        {
            return Err("a reply is out of order, or out of its session's window");
        }
        session.last_seq = Some(seq);
        session.replies_size += size;
        if SESSION_REPLIES_SIZE_SOFT_MAX + REPLY_SIZE_MAX < session.replies_size {
            return Err("a session keeps too large replies");
        }
        Ok(Item::Reply { session: session.id, seq, reply })
    }

    fn last_token<'a>(&mut self, rest: &mut Rest<'a>) -> Result<Item<'a>, &'static str> {
        let token = rest.u64()?;
        if token == 0 || self.last_token != 0 || self.key.is_some() {
            return Err("the last token is out of place");
        }
        self.last_token = token;
        Ok(Item::LastToken(token))
    }

    fn entry_with_term<'a>(&mut self, rest: &mut Rest<'a>) -> Result<Item<'a>, &'static str> {
        let term = Term { end_us: rest.u64()?, token: rest.u64()? };
        if self.last_token < term.token {
            return Err("a token was not given yet");
        }
        self.entry(rest, Some(term))
    }

    fn entry<'a>(
        &mut self,
        rest: &mut Rest<'a>,
        term: Option<Term>,
    ) -> Result<Item<'a>, &'static str> {
        let (key_size, value_size) = (rest.size(KEY_SIZE_MAX)?, rest.size(VALUE_SIZE_MAX)?);
        let (key, value) = (rest.take(key_size)?, rest.take(value_size)?);
        let last = self.key.get_or_insert_default();
        if 0 < self.keys && key <= &last[..] {
            return Err("keys are out of order");
        }
        last.clear();
        last.extend_from_slice(key);
        self.keys += 1;
        Ok(Item::Entry { key, value, term })
    }

    fn elsewhere<'a>(&mut self, rest: &mut Rest<'a>) -> Result<Item<'a>, &'static str> {
        let (keys, digest) = (rest.u64()?, rest.u128()?);
        if self.key.is_some() || KEYS_MAX < keys {
            return Err("entries that lie elsewhere are said twice, or are too many");
        }
        (self.key, self.keys) = (Some(Vec::new()), keys);
        Ok(Item::Elsewhere { keys, digest })
    }

    fn term<'a>(&mut self, rest: &mut Rest<'a>) -> Result<Item<'a>, &'static str> {
        let term = Term { end_us: rest.u64()?, token: rest.u64()? };
        let size = rest.size(KEY_SIZE_MAX)?;
        let key = rest.take(size)?;
        let last = self.key.get_or_insert_default();
        if self.last_token < term.token || self.keys <= self.terms {
            return Err("a token was not given yet, or more keys have a term than there are");
        }
        if 0 < self.terms && key <= &last[..] {
            return Err("keys are out of order");
        }
        last.clear();
        last.extend_from_slice(key);
        self.terms += 1;
        Ok(Item::Term { key, term })
    }

    fn image<'a>(&mut self, rest: &mut Rest<'a>) -> Result<Item<'a>, &'static str> {
        let (hash_size, meta_size) = (rest.size(IMAGE_HASH_SIZE_MAX)?, rest.size(VALUE_SIZE_MAX)?);
        let (hash, meta) = (rest.take(hash_size)?, rest.take(meta_size)?);
        // The empty hash, which no image has, is before all others.
        let last = self.image.get_or_insert_default();
        if hash <= &last[..] {
            return Err("images are out of order, or one has no hash");
        }
        last.clear();
        last.extend_from_slice(hash);
        Ok(Item::Image { hash, meta })
    }

    fn page<'a>(&mut self, rest: &mut Rest<'a>) -> Result<Item<'a>, &'static str> {
        let bytes = rest.take(PAGE_SIZE)?.try_into().expect("a page's bytes");
        let index = self.pages;
        if SQL_PAGES_MAX as usize <= index {
            return Err("the database has too many pages");
        }
        self.pages += 1;
        Ok(Item::Page { index, bytes })
    }

    /// Keys, sessions and the digest of all that was read; an error if that cannot be a whole state.
    pub fn finish(&self) -> Result<(u64, u64, u128), &'static str> {
        match self.time_us {
            Some(_) if self.is_linked && self.key.is_none() => {
                Err("a linked state does not say what lies elsewhere")
            }
            Some(_) => Ok((self.keys, self.sessions as u64, self.digest.sum())),
            None => Err("there is no state"),
        }
    }
}

/// What an item adds to the digest.
fn digest_of_item(item: &Item<'_>) -> u128 {
    match *item {
        Item::Time(time_us) => digest::time(time_us),
        Item::Session { id, acknowledged, last_used_us } => {
            digest::session(id, acknowledged, last_used_us)
        }
        Item::Reply { session, seq, reply } => digest::reply(session, seq, reply),
        Item::LastToken(token) => digest::last_token(token),
        Item::Image { hash, meta } => digest::image(hash, meta),
        Item::Entry { key, value, term: None } => digest::entry(key, value),
        Item::Entry { key, value, term: Some(Term { end_us, token }) } => {
            digest::entry(key, value).wrapping_add(digest::term(key, end_us, token))
        }
        Item::Elsewhere { digest, .. } => digest,
        Item::Term { key, term: Term { end_us, token } } => digest::term(key, end_us, token),
        Item::Page { index, bytes } => pages::hash(index, bytes),
    }
}

/// What is left of a chunk.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, size: usize) -> Result<&'a [u8], &'static str> {
        let (bytes, rest) = self.0.split_at_checked(size).ok_or("an item is cut off")?;
        self.0 = rest;
        Ok(bytes)
    }

    fn u64(&mut self) -> Result<u64, &'static str> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().expect("eight bytes")))
    }

    fn u128(&mut self) -> Result<u128, &'static str> {
        Ok(u128::from_le_bytes(self.take(16)?.try_into().expect("sixteen bytes")))
    }

    fn size(&mut self, max: usize) -> Result<usize, &'static str> {
        let size = u32::from_le_bytes(self.take(4)?.try_into().expect("four bytes")) as usize;
        if size <= max { Ok(size) } else { Err("an item is over its limit") }
    }
}
