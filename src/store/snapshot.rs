//! The state as bytes: frozen without a pause, encoded in chunks, and read back.
//!
//! Invariant: the bytes are a function of the state and of nothing else. Equal states have equal bytes,
//! at every replica, and only those bytes are read back: items come in their one order, each once.
//!
//! The state is a sequence of items, little-endian, packed into chunks; an item is never divided:
//!
//! | item | bytes | order |
//! | --- | --- | --- |
//! | time | 1, time u64 | first, once |
//! | session | 2, id u64, acknowledged u64, last used u64 | by id |
//! | reply of the session before | 3, number u64, size u32, bytes | by number |
//! | last token given to a lock | 7, u64 | after all sessions, if one was given |
//! | entry | 4, size of key u32, size of value u32, key, value | after that, by key |
//! | entry with a term | 6, end u64, token u64 (0: no lock), then as an entry | among the entries |
//! | image | 8, size of hash u32, size of metadata u32, hash, metadata | after all entries, by hash |
//! | page of the database | 5, 4096 bytes | after all images, from the first page on |
//!
//! The entries may lie elsewhere, in a checkpoint of their table. The state is *linked* then, and is of use with that
//! checkpoint alone, so it never leaves its node. In the place of all entries, with a term or without, it has:
//!
//! | item | bytes | order |
//! | --- | --- | --- |
//! | entries elsewhere | 9, their number u64, their digest u128 | where the first entry would be, once |
//! | term of one of them | 10, end u64, token u64 (0: no lock), size of key u32, key | after that, by key |
//!
//! A chunk is closed once it holds [`CHUNK_SIZE_SOFT_MAX`] bytes; one item may overshoot it. What lies
//! around the chunks in a file, and their checksums, is the business of `crate::snapshot`.

use std::path::Path;
use std::sync::Arc;

use imbl::OrdMap;

use crate::limits::{
    BATCH_COMMANDS_MAX, IMAGE_HASH_SIZE_MAX, KEY_SIZE_MAX, SESSION_WINDOW_MAX, SESSIONS_MAX,
    SQL_PAGES_MAX, VALUE_SIZE_MAX,
};
use crate::mutants::{self, Mutant};
use crate::paxos::{SessionId, Slot};
use crate::sql::pages::{self, PAGE_SIZE, PageBytes};
use crate::sql::{Database, Pages};

use super::changes::History;
use super::digest::{self, Digest};
use super::engine::Engine;
use super::images::Images;
use super::kv::Kv;
use super::sessions::{SESSION_REPLIES_SIZE_SOFT_MAX, Session, Sessions};
use super::table::{Entries, FrozenTable, Hold};
use super::terms::{Term, Terms};
use super::{Store, digest_of};

/// A chunk is closed once it holds this many bytes.
pub const CHUNK_SIZE_SOFT_MAX: usize = 256 * 1024;
/// No chunk is larger, in bytes.
pub const CHUNK_SIZE_MAX: usize = CHUNK_SIZE_SOFT_MAX + ITEM_SIZE_MAX;
/// The largest slot of a snapshot, far above what a log can reach: session ids, which are made of
/// slots, stay within 64 bits.
pub const SLOT_MAX: Slot = Slot(1 << 50);

/// Keys that no log has ever set, and whose number is in no danger of overflowing.
const KEYS_MAX: u64 = 1 << 50;

/// The largest reply that the store gives to a command: `Mismatch` with what the key holds.
const REPLY_SIZE_MAX: usize = VALUE_SIZE_MAX + 64;
const ITEM_SIZE_MAX: usize = VALUE_SIZE_MAX + KEY_SIZE_MAX + 64;

const TIME: u8 = 1;
const SESSION: u8 = 2;
const REPLY: u8 = 3;
const ENTRY: u8 = 4;
const PAGE: u8 = 5;
const ENTRY_WITH_TERM: u8 = 6;
const LAST_TOKEN: u8 = 7;
const IMAGE: u8 = 8;
const ELSEWHERE: u8 = 9;
const TERM: u8 = 10;

/// The state behind one slot, unchanged while the store goes on. It shares with the store all that has
/// not changed since, so taking one costs nothing, and any thread may read it.
#[derive(Clone, Debug)]
pub struct Frozen {
    applied: Slot,
    digest: u128,
    time_us: u64,
    sessions: OrdMap<SessionId, Arc<Session>>,
    entries: FrozenTable,
    entries_digest: u128,
    terms: Terms,
    images: Entries,
    pages: Pages,
}

impl Store {
    /// The state as it is now. Takes the same short time however large the state is.
    pub fn freeze(&self) -> Frozen {
        Frozen {
            applied: self.applied,
            digest: self.digest(),
            time_us: self.sessions.time_us(),
            sessions: self.sessions.all().clone(),
            entries: self.kv.freeze(),
            entries_digest: self.kv.entries_digest(),
            terms: self.kv.terms().clone(),
            images: self.images.entries().clone(),
            pages: self.database.pages(),
        }
    }

    /// Until what is returned is dropped, what is frozen now can make a checkpoint, for a linked snapshot. `None` where
    /// there are none, or another one is made.
    pub fn hold(&mut self) -> Option<Arc<Hold>> {
        self.kv.hold()
    }
}

impl Frozen {
    /// The last slot applied, 0 before the first.
    pub fn applied(&self) -> Slot {
        self.applied
    }

    /// `Store::digest` of the state.
    pub fn digest(&self) -> u128 {
        self.digest
    }

    pub fn keys(&self) -> usize {
        self.entries.len()
    }

    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Hands the state to `emit` chunk by chunk, until that fails. At least one chunk, none empty. Returns
    /// the digest of what was there, made anew: if it is not `digest()`, memory was damaged.
    pub fn encode<E>(&self, emit: impl FnMut(&[u8]) -> Result<(), E>) -> Result<u128, E> {
        let mut out = Chunks::new(emit);
        self.encode_sessions(&mut out)?;
        let mut terms = self.terms.iter().peekable();
        self.entries.for_each(|key, value| {
            let chunk = &mut out.chunk;
            if let Some((_, term)) = terms.next_if(|(of, _)| of[..] == *key) {
                chunk.push(ENTRY_WITH_TERM);
                put_u64(chunk, term.end_us);
                put_u64(chunk, term.token);
                out.digest.add(digest::term(key, term.end_us, term.token));
            } else {
                chunk.push(ENTRY);
            }
            put_size(chunk, key);
            put_size(chunk, value);
            chunk.extend_from_slice(key);
            chunk.extend_from_slice(value);
            out.digest.add(digest::entry(key, value));
            out.close(CHUNK_SIZE_SOFT_MAX)
        })?;
        self.encode_images(out)
    }

    /// The same of the linked state, which goes with the checkpoint that these entries made. Of their digest what was
    /// kept is believed: `verify_entries` makes it anew.
    pub fn encode_linked<E>(&self, emit: impl FnMut(&[u8]) -> Result<(), E>) -> Result<u128, E> {
        let mut out = Chunks::new(emit);
        self.encode_sessions(&mut out)?;
        out.chunk.push(ELSEWHERE);
        put_u64(&mut out.chunk, self.entries.len() as u64);
        out.chunk.extend_from_slice(&self.entries_digest.to_le_bytes());
        out.digest.add(self.entries_digest);
        for (key, term) in self.terms.iter() {
            out.chunk.push(TERM);
            put_u64(&mut out.chunk, term.end_us);
            put_u64(&mut out.chunk, term.token);
            put_size(&mut out.chunk, key);
            out.chunk.extend_from_slice(key);
            out.digest.add(digest::term(key, term.end_us, term.token));
            out.close(CHUNK_SIZE_SOFT_MAX)?;
        }
        self.encode_images(out)
    }

    /// All that comes before the entries.
    fn encode_sessions<E, F>(&self, out: &mut Chunks<F>) -> Result<(), E>
    where
        F: FnMut(&[u8]) -> Result<(), E>,
    {
        out.chunk.push(TIME);
        put_u64(&mut out.chunk, self.time_us);
        out.digest.add(digest::time(self.time_us));
        for (id, session) in self.sessions.iter() {
            out.chunk.push(SESSION);
            put_u64(&mut out.chunk, id.0);
            put_u64(&mut out.chunk, session.acknowledged);
            put_u64(&mut out.chunk, session.last_used_us);
            out.digest.add(digest::session(*id, session.acknowledged, session.last_used_us));
            out.close(CHUNK_SIZE_SOFT_MAX)?;
            for (seq, reply) in &session.replies {
                out.chunk.push(REPLY);
                put_u64(&mut out.chunk, *seq);
                put_size(&mut out.chunk, reply);
                out.chunk.extend_from_slice(reply);
                out.digest.add(digest::reply(*id, *seq, reply));
                out.close(CHUNK_SIZE_SOFT_MAX)?;
            }
        }
        let last_token = self.terms.last_token();
        if last_token != 0 {
            out.chunk.push(LAST_TOKEN);
            put_u64(&mut out.chunk, last_token);
            out.digest.add(digest::last_token(last_token));
        }
        Ok(())
    }

    /// All that comes behind them.
    fn encode_images<E, F>(&self, mut out: Chunks<F>) -> Result<u128, E>
    where
        F: FnMut(&[u8]) -> Result<(), E>,
    {
        for (hash, meta) in self.images.iter() {
            put_entry(&mut out.chunk, IMAGE, hash, meta);
            out.digest.add(digest::image(hash, meta));
            out.close(CHUNK_SIZE_SOFT_MAX)?;
        }
        for (index, page) in self.pages.iter().enumerate() {
            out.chunk.push(PAGE);
            out.chunk.extend_from_slice(page);
            out.digest.add(pages::hash(index, page));
            out.close(CHUNK_SIZE_SOFT_MAX)?;
        }
        out.close(1)?;
        Ok(out.digest.sum())
    }

    /// Makes a checkpoint of the entries, which is durable then: a directory that is not there yet. The store is held
    /// since it was frozen.
    pub fn checkpoint(&self, path: &Path, hold: Arc<Hold>) -> Result<(), String> {
        self.entries.checkpoint(path, hold)
    }

    /// Reads all entries, and returns how many bytes they have; an error if they do not have the digest that was kept
    /// of them, or cannot be read. `rest` is called between two steps.
    pub fn verify_entries(&self, rest: impl FnMut()) -> Result<u64, String> {
        self.entries.verify(self.entries_digest, rest)
    }
}

/// The state on its way out.
struct Chunks<F> {
    emit: F,
    chunk: Vec<u8>,
    digest: Digest,
}

impl<F> Chunks<F> {
    fn new(emit: F) -> Chunks<F> {
        let chunk = Vec::with_capacity(CHUNK_SIZE_SOFT_MAX + 4096);
        Chunks { emit, chunk, digest: Digest::default() }
    }

    /// Ends the chunk if it holds so many bytes.
    fn close<E>(&mut self, size_min: usize) -> Result<(), E>
    where
        F: FnMut(&[u8]) -> Result<(), E>,
    {
        if size_min <= self.chunk.len() {
            (self.emit)(&self.chunk)?;
            self.chunk.clear();
        }
        Ok(())
    }
}

fn put_entry(out: &mut Vec<u8>, kind: u8, key: &[u8], value: &[u8]) {
    out.push(kind);
    put_size(out, key);
    put_size(out, value);
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

fn put_u64(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(&number.to_le_bytes());
}

fn put_size(out: &mut Vec<u8>, bytes: &[u8]) {
    let size = u32::try_from(bytes.len()).expect("an item is far below 4 GiB");
    out.extend_from_slice(&size.to_le_bytes());
}

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

/// Builds a store from chunks.
#[derive(Debug)]
pub struct Loader {
    decoder: Decoder,
    kv: Kv,
    /// The digest of the entries of a linked state.
    elsewhere: u128,
    images: Images,
    pages: Pages,
    sessions: Sessions,
}

impl Loader {
    /// For the state behind slot `applied`, at most `SLOT_MAX`; its entries are to lie there.
    pub fn new(applied: Slot, engine: &Engine) -> Loader {
        Loader::of(Decoder::new(applied), Kv::new(engine))
    }

    /// The same for a linked one, which `finish_linked` finishes.
    pub fn linked(applied: Slot) -> Loader {
        Loader::of(Decoder::linked(applied), Kv::default())
    }

    fn of(decoder: Decoder, kv: Kv) -> Loader {
        let (images, pages, sessions) = Default::default();
        Loader { decoder, kv, elsewhere: 0, images, pages, sessions }
    }

    /// Reads the next chunk; see `Decoder::push`.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), &'static str> {
        self.decoder.push(chunk, |item| match item {
            Item::Time(time_us) => self.sessions.restore_time(time_us),
            Item::Session { .. } | Item::Reply { .. }
                if mutants::is_on(Mutant::InstallForgetsSessions) => {}
            Item::Session { id, acknowledged, last_used_us } => {
                self.sessions.restore(id, acknowledged, last_used_us);
            }
            Item::Reply { session, seq, reply } => self.sessions.restore_reply(session, seq, reply),
            Item::LastToken(token) => self.kv.terms_mut().restore_last_token(token),
            Item::Entry { key, value, term } => self.kv.restore(key, value, term),
            Item::Elsewhere { digest, .. } => self.elsewhere = digest,
            Item::Term { key, term } => self.kv.terms_mut().set(key, term),
            Item::Image { hash, meta } => self.images.restore(hash, meta),
            Item::Page { index, bytes } => self.pages.write(index * PAGE_SIZE, bytes),
        })
    }

    /// Keys, sessions and the digest of what was read; an error if that cannot be a whole state.
    pub fn ended(&self) -> Result<(u64, u64, u128), &'static str> {
        self.decoder.finish()
    }

    /// What `ended` says, and the store.
    pub fn finish(mut self) -> Result<(u64, u64, u128, Store), &'static str> {
        let (key_count, session_count, digest) = self.ended()?;
        self.kv.end_slot(self.decoder.applied);
        Ok((key_count, session_count, digest, self.into_store(digest)))
    }

    /// The store of a linked state that `ended` says is whole, with the entries of its checkpoint there. An error if that
    /// cannot be opened, or is none of this state.
    pub fn finish_linked(mut self, engine: &Engine, checkpoint: &Path) -> Result<Store, String> {
        let (keys, _, digest) = self.ended()?;
        let (slot, terms) = (self.decoder.applied, std::mem::take(self.kv.terms_mut()));
        self.kv = Kv::linked(engine, checkpoint, slot, keys as usize, self.elsewhere, terms)?;
        Ok(self.into_store(digest))
    }

    fn into_store(mut self, digest: u128) -> Store {
        self.pages.settle();
        self.images.settle();
        let applied = self.decoder.applied;
        let Loader { kv, images, pages, sessions, .. } = self;
        let database = Database::new(pages);
        let stored = digest_of(&kv, &images, &database, &sessions) == digest;
        assert!(
            stored || mutants::is_on(Mutant::InstallForgetsSessions),
            "what was read was stored"
        );
        let history = History::from_slot(applied.next());
        Store { applied, kv, images, database, sessions, history, ..Store::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::paxos::{Command as LogCommand, CommandId, batch};
    use crate::store::{Command, Query};
    use crate::wire::kv::encode_command;

    fn put(session: u64, seq: u64, key: &[u8], value: &[u8]) -> LogCommand {
        let id = CommandId { session: SessionId(session), seq };
        let payload = encode_command(&Command::Put { key, value });
        LogCommand { id, acknowledged: 1, payload: payload.into() }
    }

    fn apply(store: &mut Store, time_us: u64, commands: &[LogCommand]) {
        let slot = store.applied().next();
        store.apply(slot, &batch::encode(time_us, commands.iter()), &mut Vec::new());
    }

    /// Two sessions with replies, and entries of 100 bytes.
    fn store(keys: u64) -> Store {
        let mut store = Store::new();
        let register = |seq| LogCommand {
            id: CommandId { session: SessionId::NONE, seq },
            acknowledged: 0,
            payload: [].into(),
        };
        apply(&mut store, 7, &[register(1), register(2)]);
        for key in 0..keys {
            let name = format!("key-{key:06}");
            let seq = 1 + key % 500;
            let mut command = put(4096 + key % 2, seq, name.as_bytes(), &[key as u8; 100]);
            if key % 3 == 1 {
                let set = Command::SetImage { hash: name.as_bytes(), meta: &[key as u8; 100] };
                command.payload = encode_command(&set).into();
            }
            command.acknowledged = 1 + key / 500 * 500;
            command.id.seq += key / 500 * 500;
            apply(&mut store, 8 + key, &[command]);
        }
        store
    }

    fn chunks(frozen: &Frozen) -> Vec<Vec<u8>> {
        let mut chunks = Vec::new();
        let emitted = frozen.encode(|chunk| {
            chunks.push(chunk.to_vec());
            Ok::<_, ()>(())
        });
        assert_eq!(emitted, Ok(frozen.digest()));
        chunks
    }

    fn load(applied: Slot, chunks: &[Vec<u8>]) -> Result<Store, &'static str> {
        let mut loader = Loader::new(applied, &Engine::Memory);
        chunks.iter().try_for_each(|chunk| loader.push(chunk))?;
        loader.finish().map(|(.., store)| store)
    }

    /// The restored store must not only look the same but go on the same: repeats are answered from the
    /// replies kept, sessions expire in the same order.
    #[test]
    fn what_was_frozen_goes_on_as_the_original_does() {
        for keys in [0, 1, 9, 6_000] {
            let mut original = store(keys);
            let frozen = original.freeze();
            let chunks = chunks(&frozen);
            assert!(chunks.iter().all(|chunk| chunk.len() <= CHUNK_SIZE_MAX));
            assert_eq!(1 < chunks.len(), keys == 6_000);
            let mut restored = load(frozen.applied(), &chunks).unwrap();
            assert_eq!(restored.digest_from_scratch(), original.digest());
            assert_eq!(restored.applied(), original.applied());
            assert_eq!(
                (restored.keys() + restored.images(), restored.sessions()),
                (keys as usize, 2)
            );
            let near = |store: &Store| {
                store.query(&Query::Nearest { hash: b"key-000001", within: 9, limit: 1_000 })
            };
            assert_eq!(near(&restored), near(&original));

            let slot = original.applied().next();
            let again = put(4096, 1, b"again", b"x");
            let value = batch::encode(9_000_000, [again.clone(), again].iter());
            let outcomes = [&mut original, &mut restored].map(|store| {
                let mut out = Vec::new();
                store.apply(slot, &value, &mut out);
                out
            });
            assert_eq!(outcomes[0], outcomes[1]);
            assert_eq!(restored.digest(), original.digest());
        }
    }

    /// What the store does while the snapshot is being written must not show in it.
    #[test]
    fn a_frozen_state_does_not_change() {
        let mut store = store(2_000);
        let frozen = store.freeze();
        let before = chunks(&frozen);
        for key in 0..2_000 {
            let name = format!("key-{key:06}");
            let mut command = put(4097, 5_000 + key, name.as_bytes(), &[0xff; 100]);
            command.acknowledged = 5_000 + key;
            apply(&mut store, 10_000 + key, &[command]);
        }
        assert_ne!(store.digest(), frozen.digest());
        assert_eq!(store.digest(), store.digest_from_scratch());
        assert!(chunks(&frozen) == before);
        assert_eq!(load(frozen.applied(), &before).unwrap().digest(), frozen.digest());
    }

    /// A store that was put together by nobody's log must be refused: its invariants would not hold.
    #[test]
    fn a_state_that_no_log_leads_to_is_refused() {
        let time = [&[TIME][..], &9u64.to_le_bytes()].concat();
        let session = |id: u64, acknowledged: u64, used: u64| {
            let numbers = [id, acknowledged, used].map(u64::to_le_bytes).concat();
            [&[SESSION][..], &numbers].concat()
        };
        let reply = |seq: u64, size: u32| {
            let size_bytes = size.to_le_bytes();
            [&[REPLY][..], &seq.to_le_bytes(), &size_bytes, &vec![0; size as usize]].concat()
        };
        let entry = |key: &[u8]| {
            let size = (key.len() as u32).to_le_bytes();
            [&[ENTRY][..], &size, &[0; 4], key].concat()
        };
        let image = |hash: &[u8]| [&[IMAGE][..], &entry(hash)[1..]].concat();
        let check = |items: &[Vec<u8>]| load(Slot(3), &[items.concat()]).map(|_| ());
        let (sound, end) = (session(4096, 5, 9), 4 * BATCH_COMMANDS_MAX as u64);
        let last = |token: u64| [&[LAST_TOKEN][..], &token.to_le_bytes()].concat();
        let lock = |key: &[u8], token: u64| {
            let numbers = [7, token].map(u64::to_le_bytes).concat();
            [&[ENTRY_WITH_TERM][..], &numbers, &entry(key)[1..]].concat()
        };
        let whole = [
            time.clone(),
            sound.clone(),
            reply(5, 2),
            last(3),
            entry(b""),
            lock(b"a", 3),
            lock(b"b", 0),
            entry(b"c"),
        ];
        assert_eq!(check(&whole), Ok(()));
        let page = [&[PAGE][..], &[0; PAGE_SIZE]].concat();
        let images = [image(b"a"), image(b"aa"), image(b"b"), page.clone()];
        assert_eq!(check(&[&whole[..], &images].concat()), Ok(()));
        assert_eq!(check(&[std::slice::from_ref(&time), &images].concat()), Ok(()));
        let refused: &[&[Vec<u8>]] = &[
            &[],
            std::slice::from_ref(&sound),
            &[time.clone(), time.clone()],
            &[time.clone(), session(4096, 5, 10)],
            &[time.clone(), session(0, 5, 9)],
            &[time.clone(), session(end, 5, 9)],
            &[time.clone(), sound.clone(), sound.clone()],
            &[time.clone(), reply(5, 2)],
            &[time.clone(), sound.clone(), reply(4, 2)],
            &[time.clone(), sound.clone(), reply(5, 2), reply(5, 2)],
            &[time.clone(), sound.clone(), reply(5 + SESSION_WINDOW_MAX as u64, 2)],
            &[time.clone(), sound.clone(), reply(5, REPLY_SIZE_MAX as u32 + 1)],
            &[time.clone(), entry(b"a"), sound.clone()],
            &[time.clone(), sound.clone(), entry(b"a"), reply(5, 2)],
            &[time.clone(), entry(b"a"), entry(b"a")],
            &[time.clone(), entry(b"b"), entry(b"a")],
            &[time.clone(), entry(&[0; KEY_SIZE_MAX + 1])],
            &[time.clone(), lock(b"a", 1)],
            &[time.clone(), last(2), lock(b"a", 3)],
            &[time.clone(), last(2), last(2)],
            &[time.clone(), last(0)],
            &[time.clone(), last(2), sound.clone()],
            &[time.clone(), sound.clone(), last(2), reply(5, 2)],
            &[time.clone(), entry(b"a"), last(2)],
            &[time.clone(), lock(b"a", 0), entry(b"a")],
            &[time.clone(), image(b"")],
            &[time.clone(), image(b"a"), image(b"a")],
            &[time.clone(), image(b"b"), image(b"a")],
            &[time.clone(), image(&[7; IMAGE_HASH_SIZE_MAX + 1])],
            &[time.clone(), image(b"a"), entry(b"b")],
            &[time.clone(), image(b"a"), sound.clone()],
            &[time.clone(), page, image(b"a")],
            &[time.clone(), vec![9]],
            &[time, vec![ENTRY, 1]],
        ];
        for items in refused {
            assert!(check(items).is_err(), "{items:?}");
        }
    }

    /// The same state in other chunks is another file, and would not be the same at every replica.
    #[test]
    fn chunks_end_where_they_must() {
        let frozen = store(6_000).freeze();
        let chunks = chunks(&frozen);
        assert!(load(frozen.applied(), &[chunks.concat()]).is_err());
        let (first, second) = chunks[0].split_at(1 + 8);
        let cut = [&[first.to_vec(), second.to_vec()], &chunks[1..]].concat();
        assert!(load(frozen.applied(), &cut).is_err());
    }
}
