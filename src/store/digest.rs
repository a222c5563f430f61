//! The digest of the state: a fingerprint by which replicas notice that they differ.
//!
//! It is a multiset hash: the wrapping sum of one 128-bit hash an item. So a change costs the hash of
//! what goes and of what comes and not a walk over the state, and the digest tells what the state
//! is, never how it came about.
//!
//! Invariant: an item is added when it enters the state and removed, with the same content, when it
//! leaves. Every item is hashed over parts of fixed size under the seed of its kind, so that no two
//! items of the state, of whatever kinds, are hashed over the same bytes.
//!
//! This finds bugs and damage. It does not withstand a client that constructs collisions: xxh3 is no
//! cryptographic hash. Replicas of different releases compare their digests, so this is a format,
//! and the golden values below hold it.

use xxhash_rust::xxh3::{xxh3_128, xxh3_128_with_seed};

use crate::paxos::SessionId;

/// The seeds, one a kind of item.
const KIND_ENTRY: u64 = 1;
const KIND_SESSION: u64 = 2;
const KIND_REPLY: u64 = 3;
const KIND_TIME: u64 = 4;
const KIND_PAGE: u64 = 5;
const KIND_IMAGE: u64 = 6;
const KIND_TERM: u64 = 7;
const KIND_LAST_TOKEN: u64 = 8;

/// A sum of item hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Digest(u128);

impl Digest {
    /// Of items whose hashes have this sum.
    pub fn of_sum(sum: u128) -> Digest {
        Digest(sum)
    }

    pub fn add(&mut self, item: u128) {
        self.0 = self.0.wrapping_add(item);
    }

    pub fn remove(&mut self, item: u128) {
        self.0 = self.0.wrapping_sub(item);
    }

    pub fn sum(self) -> u128 {
        self.0
    }
}

/// A key and its value.
pub fn entry(key: &[u8], value: &[u8]) -> u128 {
    keyed(key)(value)
}

/// The entries of one key, by their values: the key is hashed once.
pub fn keyed(key: &[u8]) -> impl Fn(&[u8]) -> u128 {
    let key = xxh3_128(key);
    move |value| item(KIND_ENTRY, key, xxh3_128(value))
}

/// A session without its kept replies.
pub fn session(id: SessionId, acknowledged: u64, last_used_us: u64) -> u128 {
    item(KIND_SESSION, pair(id.0, acknowledged), u128::from(last_used_us))
}

/// A reply that a session keeps.
pub fn reply(id: SessionId, seq: u64, reply: &[u8]) -> u128 {
    item(KIND_REPLY, pair(id.0, seq), xxh3_128(reply))
}

/// The time of the state machine.
pub fn time(time_us: u64) -> u128 {
    item(KIND_TIME, u128::from(time_us), 0)
}

/// An image, by its hash, and what is kept of it.
pub fn image(hash: &[u8], meta: &[u8]) -> u128 {
    item(KIND_IMAGE, xxh3_128(hash), xxh3_128(meta))
}

/// A page of the database, by the hash of its bytes.
pub fn page(index: u64, hash: u128) -> u128 {
    item(KIND_PAGE, u128::from(index), hash)
}

/// How long a key lives, and its token.
pub fn term(key: &[u8], end_us: u64, token: u64) -> u128 {
    item(KIND_TERM, xxh3_128(key), pair(end_us, token))
}

/// The last token given to a lock.
pub fn last_token(token: u64) -> u128 {
    item(KIND_LAST_TOKEN, u128::from(token), 0)
}

fn pair(a: u64, b: u64) -> u128 {
    u128::from(a) << 64 | u128::from(b)
}

fn item(kind: u64, a: u128, b: u128) -> u128 {
    let mut bytes = [0; 32];
    bytes[..16].copy_from_slice(&a.to_le_bytes());
    bytes[16..].copy_from_slice(&b.to_le_bytes());
    xxh3_128_with_seed(&bytes, kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replicas of two releases must agree on the digest of equal states.
    #[test]
    fn golden_values() {
        let values = [
            entry(b"key", b"value"),
            session(SessionId(4097), 3, 1_000_000),
            reply(SessionId(4097), 3, b"reply"),
            time(1_000_000),
            image(b"hash", b"meta"),
        ];
        let expected = [
            0xdc702d2e8af77c729fbf544738e69c68,
            0xf0ce281bc9595236dd89752c2b2f595a,
            0x279531a970346a6b75c8aa5530c568ec,
            0x52b77305f59b58156d47c3ed94294172,
            0x0ff3ce0c01b187a6c09f0989a2232a13,
        ];
        assert_eq!(values, expected);
    }

    /// Bytes moved from a key to its value, or from one kind of item to another, are other items.
    #[test]
    fn parts_and_kinds_are_told_apart() {
        assert_ne!(entry(b"ab", b"c"), entry(b"a", b"bc"));
        assert_ne!(entry(b"", b"a"), entry(b"a", b""));
        assert_ne!(session(SessionId(1), 2, 3), session(SessionId(2), 1, 3));
        assert_ne!(session(SessionId(0), 5, 0), time(5));
        assert_ne!(entry(b"a", b"b"), image(b"a", b"b"));
        assert_ne!(reply(SessionId(1), 2, b""), reply(SessionId(2), 1, b""));
    }

    #[test]
    fn removing_undoes_adding_in_any_order() {
        let items = [entry(b"a", b"1"), entry(b"b", b"2"), time(u64::MAX)];
        let mut digest = Digest::default();
        items.iter().for_each(|&item| digest.add(item));
        items.iter().for_each(|&item| digest.remove(item));
        assert_eq!(digest, Digest::default());
    }
}
