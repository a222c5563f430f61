//! Keys that go at a time, and the tokens of locks.
//!
//! A key with a term is deleted by the first slot whose time has reached the term's end, at most
//! `EXPIRIES_PER_SLOT_MAX` keys by one slot. Time is the log's, so every replica deletes it in the same slot.
//!
//! Every lock gets a token that is greater than those of all locks before it. Who has taken a lock and slept over its
//! end cannot write any more what depends on the token: the condition `Holds::Token` of a transaction fails. That is
//! fencing, and the store itself checks it.

use imbl::{OrdMap, OrdSet};

use super::digest::{self, Digest};
use super::table::Key;

/// How long a key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term {
    /// Microseconds since 1970, of the log's time.
    pub end_us: u64,
    /// Of the lock that the key is; 0 if it is none.
    pub token: u64,
}

/// The terms of all keys that have one. A clone costs nothing, as with the map of the entries.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    of: OrdMap<Key, Term>,
    /// The same, in the order of their ends.
    by_end: OrdSet<(u64, Key)>,
    /// The last token given.
    last_token: u64,
    /// Of the terms and `last_token`, which is not part of it while it is 0.
    digest: Digest,
}

impl Terms {
    pub fn digest(&self) -> Digest {
        self.digest
    }

    pub fn of(&self, key: &[u8]) -> Option<Term> {
        self.of.get(key).copied()
    }

    /// In the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Term)> {
        self.of.iter()
    }

    pub fn last_token(&self) -> u64 {
        self.last_token
    }

    /// A token that was never given.
    pub fn next_token(&mut self) -> u64 {
        let token = self.last_token + 1;
        self.restore_last_token(token);
        token
    }

    pub fn restore_last_token(&mut self, token: u64) {
        if self.last_token != 0 {
            self.digest.remove(digest::last_token(self.last_token));
        }
        self.last_token = token;
        self.digest.add(digest::last_token(token));
    }

    pub fn set(&mut self, key: &[u8], term: Term) {
        self.remove(key);
        self.digest.add(digest::term(key, term.end_us, term.token));
        self.of.insert(key.into(), term);
        self.by_end.insert((term.end_us, key.into()));
    }

    pub fn remove(&mut self, key: &[u8]) {
        // Most stores have no terms, and every put comes here.
        if self.of.is_empty() {
            return;
        }
        if let Some((key, term)) = self.of.remove_with_key(key) {
            self.digest.remove(digest::term(&key, term.end_us, term.token));
            self.by_end.remove(&(term.end_us, key));
        }
    }

    /// When the first of them ends.
    pub fn first_end_us(&self) -> Option<u64> {
        self.by_end.get_min().map(|(end_us, _)| *end_us)
    }

    /// A key whose term has ended by `now_us`.
    pub fn ended(&self, now_us: u64) -> Option<Key> {
        self.by_end.get_min().filter(|(end_us, _)| *end_us <= now_us).map(|(_, key)| key.clone())
    }
}
