//! Items become a store again.

use std::path::Path;

use crate::mutants::{self, Mutant};
use crate::paxos::Slot;
use crate::sql::pages::PAGE_SIZE;
use crate::sql::{Database, Pages};
use crate::store::changes::History;
use crate::store::engine::Engine;
use crate::store::images::Images;
use crate::store::kv::Kv;
use crate::store::sessions::Sessions;
use crate::store::{Store, digest_of};

use super::decode::{Decoder, Item};

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
        self.kv.end_slot(self.decoder.applied());
        Ok((key_count, session_count, digest, self.into_store(digest)))
    }

    /// The store of a linked state that `ended` says is whole, with the entries of its checkpoint there. An error if that
    /// cannot be opened, or is none of this state.
    pub fn finish_linked(mut self, engine: &Engine, checkpoint: &Path) -> Result<Store, String> {
        let (keys, _, digest) = self.ended()?;
        let (slot, terms) = (self.decoder.applied(), std::mem::take(self.kv.terms_mut()));
        self.kv = Kv::linked(engine, checkpoint, slot, keys as usize, self.elsewhere, terms)?;
        Ok(self.into_store(digest))
    }

    fn into_store(mut self, digest: u128) -> Store {
        self.pages.settle();
        self.images.settle();
        let applied = self.decoder.applied();
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
