//! The state on its way out: frozen, and encoded.

use std::path::Path;
use std::sync::Arc;

use imbl::OrdMap;

use crate::paxos::{SessionId, Slot};
use crate::sql::Pages;
use crate::sql::pages::{self};
use crate::store::Store;
use crate::store::digest::{self, Digest};
use crate::store::sessions::Session;
use crate::store::table::{Entries, FrozenTable, Hold};
use crate::store::terms::Terms;

use super::{
    CHUNK_SIZE_SOFT_MAX, ELSEWHERE, ENTRY, ENTRY_WITH_TERM, IMAGE, LAST_TOKEN, PAGE, REPLY,
    SESSION, TERM, TIME,
};

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
