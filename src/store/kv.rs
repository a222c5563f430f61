//! The key-value map: what every command does to it, and how queries read it.
//!
//! Invariant: `digest` is the sum over exactly the entries of the map. Every change of the map goes
//! through `insert`, `replace` or `delete`, and nothing else touches either; and each of them is noted for
//! watchers (`changes`). A key with a term (`terms`) is in the map.
//!
//! Where the entries lie is the business of `table`.
//!
//! Sizes of keys and values were checked where the payload was decoded (`wire::kv`). Who sent a
//! command, and whether it was applied before, is the business of `sessions`.

use std::borrow::Cow;
use std::num::IntErrorKind;
use std::path::Path;
use std::sync::Arc;

use crate::limits::{EXPIRIES_PER_SLOT_MAX, SCAN_ENTRIES_MAX, SCAN_SIZE_SOFT_MAX};
use crate::mutants::{self, Mutant};
use crate::paxos::Slot;

use super::changes::Change;
use super::command::{Command, Failure, Query, Reply};
use super::digest::{self, Digest};
use super::engine::Engine;
use super::table::{FrozenTable, Hold, Present, Table, TableMark};
use super::terms::{Term, Terms};

/// Bytes that an entry of a scan's reply takes beside its key and value: their two lengths.
const ENTRY_FRAMING_SIZE: usize = 16;

#[derive(Debug, Default)]
pub struct Kv {
    entries: Table,
    /// Of the entries.
    digest: Digest,
    terms: Terms,
    /// What the slot did so far that is being applied, encoded.
    changes: Vec<u8>,
}

/// A state to go back to.
pub struct Mark {
    entries: TableMark,
    digest: Digest,
    terms: Terms,
    changes_size: usize,
}

impl Kv {
    pub fn new(engine: &Engine) -> Kv {
        Kv { entries: engine.table(), ..Kv::default() }
    }

    /// With the `len` entries behind `slot` that a checkpoint has, of this digest. If they lie in memory then, it was
    /// made anew.
    pub fn linked(
        engine: &Engine,
        checkpoint: &Path,
        slot: Slot,
        len: usize,
        digest: u128,
        terms: Terms,
    ) -> Result<Kv, String> {
        let entries = engine.linked_table(checkpoint, slot, len)?;
        if matches!(entries, Table::Memory(_)) {
            entries.freeze().verify(digest, || {})?;
        }
        Ok(Kv { entries, digest: Digest::of_sum(digest), terms, ..Kv::default() })
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Of the entries alone.
    pub fn entries_digest(&self) -> u128 {
        self.digest.sum()
    }

    pub fn digest(&self) -> u128 {
        self.digest.sum().wrapping_add(self.terms.digest().sum())
    }

    /// The entries as the last slot that ended left them.
    pub fn freeze(&self) -> FrozenTable {
        self.entries.freeze()
    }

    /// See `Table::hold`.
    pub fn hold(&mut self) -> Option<Arc<Hold>> {
        self.entries.hold()
    }

    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// For a snapshot to be read into.
    pub fn terms_mut(&mut self) -> &mut Terms {
        &mut self.terms
    }

    /// What changed since `forget_changes`.
    pub fn changes(&self) -> &[u8] {
        &self.changes
    }

    /// All that the slot did has been done.
    pub fn end_slot(&mut self, slot: Slot) {
        self.entries.end_slot(slot);
        self.changes.clear();
    }

    pub fn mark(&self) -> Mark {
        let (entries, terms) = (self.entries.mark(), self.terms.clone());
        Mark { entries, digest: self.digest, terms, changes_size: self.changes.len() }
    }

    /// Undoes what was done since the mark was set, in the same slot.
    pub fn go_back(&mut self, mark: Mark) {
        let Mark { entries, digest, terms, changes_size } = mark;
        self.entries.go_back(entries);
        (self.digest, self.terms) = (digest, terms);
        self.changes.truncate(changes_size);
    }

    /// Deletes keys whose term has ended.
    pub fn expire(&mut self, now_us: u64) {
        for _ in 0..EXPIRIES_PER_SLOT_MAX {
            let Some(key) = self.terms.ended(now_us) else { break };
            self.delete(&key);
        }
    }

    /// An entry of a snapshot, whose key is behind those of all before; `end_slot` follows the last one.
    pub fn restore(&mut self, key: &[u8], value: &[u8], term: Option<Term>) {
        self.digest.add(digest::entry(key, value));
        self.entries.restore(key, value);
        if let Some(term) = term {
            self.terms.set(key, term);
        }
    }

    pub fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        self.entries.get(key)
    }

    /// Carries out one command on one key, at this time of the log. A failed condition changes nothing and is a
    /// reply like any other.
    pub fn apply(&mut self, command: &Command<'_>, now_us: u64) -> Reply {
        match *command {
            Command::Put { key, value } => {
                self.terms.remove(key);
                self.put(key, value)
            }
            Command::PutFor { key, value, ttl_us } => {
                self.terms.set(key, Term { end_us: now_us.saturating_add(ttl_us), token: 0 });
                self.put(key, value)
            }
            Command::Lock { key, value, ttl_us } => {
                self.lock(key, value, now_us.saturating_add(ttl_us))
            }
            Command::Renew { key, token, ttl_us } => {
                self.renew(key, token, now_us.saturating_add(ttl_us))
            }
            Command::Unlock { key, token } => match self.is_held(key, token) {
                true => self.delete(key),
                false => Reply::Failed(Failure::NotHeld),
            },
            Command::Create { key, value } => self.create(key, value),
            Command::Update { key, value } => self.update(key, value),
            Command::Delete { key } => self.delete(key),
            Command::Cas { key, expect, value } => self.cas(key, expect, value),
            Command::Incr { key, by } => self.incr(key, by),
            Command::Transaction(_) | Command::SetImage { .. } | Command::DeleteImage { .. } => {
                Reply::Failed(Failure::Invalid)
            }
        }
    }

    pub fn query(&self, query: &Query<'_>) -> Reply {
        match *query {
            Query::Get { key } => Reply::Value(self.entries.get(key).map(Cow::into_owned)),
            Query::Scan { from, to, limit } => {
                scan(limit, |visit| self.entries.scan(from, to, visit))
            }
            Query::Sql(_) | Query::Nearest { .. } | Query::Ttl { .. } => {
                Reply::Failed(Failure::Invalid)
            }
        }
    }

    // Looking first and inserting only what is missing costs a new key a second look, at nodes that
    // are in the cache by then. The entry API would cost every overwrite an allocated key instead.

    fn put(&mut self, key: &[u8], value: &[u8]) -> Reply {
        if let Some(present) = self.entries.get_mut(key) {
            note(&mut self.changes, key, Some(value));
            replace(&mut self.digest, key, present, value);
        } else {
            self.insert(key, value);
        }
        Reply::Done
    }

    fn create(&mut self, key: &[u8], value: &[u8]) -> Reply {
        if self.entries.contains(key) {
            return Reply::Failed(Failure::Exists);
        }
        self.insert(key, value);
        Reply::Done
    }

    fn update(&mut self, key: &[u8], value: &[u8]) -> Reply {
        let Some(present) = self.entries.get_mut(key) else {
            return Reply::Failed(Failure::NotFound);
        };
        note(&mut self.changes, key, Some(value));
        replace(&mut self.digest, key, present, value);
        Reply::Done
    }

    fn delete(&mut self, key: &[u8]) -> Reply {
        let Some(value) = self.entries.remove(key) else {
            return Reply::Failed(Failure::NotFound);
        };
        self.terms.remove(key);
        note(&mut self.changes, key, None);
        self.digest.remove(digest::entry(key, &value));
        Reply::Done
    }

    fn lock(&mut self, key: &[u8], value: &[u8], end_us: u64) -> Reply {
        if let Some(present) = self.entries.get(key) {
            return Reply::Failed(Failure::Mismatch { present: Some(present.into_owned()) });
        }
        let token = self.terms.next_token();
        self.terms.set(key, Term { end_us, token });
        self.insert(key, value);
        Reply::Token(token)
    }

    fn renew(&mut self, key: &[u8], token: u64, end_us: u64) -> Reply {
        if !self.is_held(key, token) {
            return Reply::Failed(Failure::NotHeld);
        }
        self.terms.set(key, Term { end_us, token });
        Reply::Done
    }

    /// Whether the key is a lock that was given with this token and not lost since.
    pub fn is_held(&self, key: &[u8], token: u64) -> bool {
        let is_it = |term: Term| term.token == token || mutants::is_on(Mutant::UnlockByAnyone);
        token != 0 && self.terms.of(key).is_some_and(is_it)
    }

    fn cas(&mut self, key: &[u8], expect: Option<&[u8]>, value: &[u8]) -> Reply {
        let present = self.entries.get_mut(key);
        if present.as_deref() != expect {
            let present = present.map(|present| present.to_vec());
            return Reply::Failed(Failure::Mismatch { present });
        }
        if let Some(present) = present {
            note(&mut self.changes, key, Some(value));
            replace(&mut self.digest, key, present, value);
        } else {
            self.insert(key, value);
        }
        Reply::Done
    }

    fn incr(&mut self, key: &[u8], by: i64) -> Reply {
        let Some(present) = self.entries.get_mut(key) else {
            self.insert(key, by.to_string().as_bytes());
            return Reply::Integer(by);
        };
        let sum = match parse_integer(&present) {
            Ok(integer) => integer.checked_add(by).ok_or(Failure::Overflow),
            Err(failure) => Err(failure),
        };
        match sum {
            Ok(sum) => {
                let value = sum.to_string();
                note(&mut self.changes, key, Some(value.as_bytes()));
                replace(&mut self.digest, key, present, value.as_bytes());
                Reply::Integer(sum)
            }
            Err(failure) => Reply::Failed(failure),
        }
    }

    /// As `Query::Ttl`, at this time of the log.
    pub fn ttl(&self, key: &[u8], now_us: u64) -> Reply {
        match self.terms.of(key) {
            Some(Term { end_us, token }) => {
                Reply::Ttl { left_us: Some(end_us.saturating_sub(now_us)), token }
            }
            None if self.entries.contains(key) => Reply::Ttl { left_us: None, token: 0 },
            None => Reply::Failed(Failure::NotFound),
        }
    }

    /// The entries as they are now, to be scanned later.
    pub fn scan_view(&self) -> ScanView {
        ScanView(self.entries.freeze())
    }

    fn insert(&mut self, key: &[u8], value: &[u8]) {
        note(&mut self.changes, key, Some(value));
        self.digest.add(digest::entry(key, value));
        self.entries.insert(key, value);
    }

    /// Changes one value behind the digest's back.
    pub fn corrupt(&mut self) {
        self.entries.corrupt();
    }

    /// What `digest` must be.
    #[cfg(test)]
    pub fn digest_from_scratch(&self) -> u128 {
        let mut digest = Digest::default();
        self.entries.scan(b"", None, |key, value| {
            digest.add(digest::entry(key, value));
            true
        });
        for (key, term) in self.terms.iter() {
            digest.add(digest::term(key, term.end_us, term.token));
        }
        if self.terms.last_token() != 0 {
            digest.add(digest::last_token(self.terms.last_token()));
        }
        digest.sum()
    }
}

/// The entries as they were behind one slot, at no cost to speak of.
#[derive(Clone, Debug)]
pub struct ScanView(FrozenTable);

impl ScanView {
    /// As `Query::Scan`.
    pub fn scan(&self, from: &[u8], to: Option<&[u8]>, limit: u32) -> Reply {
        scan(limit, |visit| self.0.scan(from, to, visit))
    }
}

/// What `show` shows, as far as it fits a reply. At least one entry comes back where there is one and `limit` is not 0,
/// however large it is: a scan that goes on at `next` always gets on.
fn scan(limit: u32, show: impl FnOnce(&mut dyn FnMut(&[u8], &[u8]) -> bool)) -> Reply {
    let limit = usize::try_from(limit).map_or(SCAN_ENTRIES_MAX, |l| l.min(SCAN_ENTRIES_MAX));
    let (mut entries, mut next, mut size) = (Vec::new(), None, 0);
    show(&mut |key, value| {
        if limit <= entries.len() || SCAN_SIZE_SOFT_MAX <= size {
            next = Some(key.to_vec());
            return false;
        }
        size += key.len() + value.len() + ENTRY_FRAMING_SIZE;
        entries.push((key.to_vec(), value.to_vec()));
        true
    });
    Reply::Entries { entries, next }
}

/// Notes a change for watchers.
fn note(changes: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    Change { key, value }.write(changes);
}

/// Sets the value of a key that exists. It is no method, so that `present` may come from the map.
fn replace(digest: &mut Digest, key: &[u8], present: Present<'_>, value: &[u8]) {
    let entry = digest::keyed(key);
    digest.remove(entry(&present));
    digest.add(entry(value));
    present.set(value);
}

/// Reads an optional sign and ASCII digits, and nothing else.
fn parse_integer(text: &[u8]) -> Result<i64, Failure> {
    let text = std::str::from_utf8(text).map_err(|_| Failure::NotAnInteger)?;
    text.parse().map_err(|error: std::num::ParseIntError| match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => Failure::Overflow,
        _ => Failure::NotAnInteger,
    })
}

#[cfg(test)]
mod tests {
    use crate::limits::VALUE_SIZE_MAX;

    use super::super::changes;
    use super::*;

    fn get(kv: &Kv, key: &[u8]) -> Option<Vec<u8>> {
        match kv.query(&Query::Get { key }) {
            Reply::Value(value) => value,
            other => panic!("get answered {other:?}"),
        }
    }

    fn put(kv: &mut Kv, key: &[u8], value: &[u8]) {
        assert_eq!(kv.apply(&Command::Put { key, value }, 0), Reply::Done);
    }

    fn scan(
        kv: &Kv,
        from: &[u8],
        to: Option<&[u8]>,
        limit: u32,
    ) -> (Vec<Vec<u8>>, Option<Vec<u8>>) {
        match kv.query(&Query::Scan { from, to, limit }) {
            Reply::Entries { entries, next } => {
                (entries.into_iter().map(|(key, _)| key).collect(), next)
            }
            other => panic!("scan answered {other:?}"),
        }
    }

    fn all(kv: &Kv) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = Vec::new();
        kv.entries.scan(b"", None, |key, value| {
            all.push((key.to_vec(), value.to_vec()));
            true
        });
        all
    }

    /// Applies a command that must fail, and checks that it changed nothing.
    fn fails(kv: &mut Kv, command: Command<'_>) -> Failure {
        let before = (all(kv), kv.digest);
        let reply = kv.apply(&command, 0);
        assert_eq!((all(kv), kv.digest), before);
        match reply {
            Reply::Failed(failure) => failure,
            other => panic!("{command:?} answered {other:?}"),
        }
    }

    fn put_sets_whether_the_key_exists_or_not(mut kv: Kv) {
        for value in [&b"one"[..], b"two", b"three", b""] {
            put(&mut kv, b"k", value);
            assert_eq!(get(&kv, b"k").as_deref(), Some(value));
            assert_eq!(kv.digest(), kv.digest_from_scratch());
        }
        assert_eq!(kv.len(), 1);
        assert_eq!(get(&kv, b"other"), None);
    }

    fn create_needs_a_missing_key_and_update_a_present_one(mut kv: Kv) {
        let failure = fails(&mut kv, Command::Update { key: b"k", value: b"v" });
        assert_eq!(failure, Failure::NotFound);
        assert_eq!(kv.apply(&Command::Create { key: b"k", value: b"v" }, 0), Reply::Done);
        let failure = fails(&mut kv, Command::Create { key: b"k", value: b"w" });
        assert_eq!(failure, Failure::Exists);
        assert_eq!(kv.apply(&Command::Update { key: b"k", value: b"longer" }, 0), Reply::Done);
        assert_eq!(get(&kv, b"k").as_deref(), Some(&b"longer"[..]));
        assert_eq!(kv.digest(), kv.digest_from_scratch());
    }

    fn delete_needs_a_present_key(mut kv: Kv) {
        assert_eq!(fails(&mut kv, Command::Delete { key: b"k" }), Failure::NotFound);
        put(&mut kv, b"k", b"v");
        assert_eq!(kv.apply(&Command::Delete { key: b"k" }, 0), Reply::Done);
        assert_eq!((kv.len(), kv.digest()), (0, 0));
        assert_eq!(fails(&mut kv, Command::Delete { key: b"k" }), Failure::NotFound);
    }

    /// Cas tells a missing key from an empty value, and says what is there instead.
    fn cas_sets_what_holds_the_expected_value(mut kv: Kv) {
        let cas = |expect, value| Command::Cas { key: b"k", expect, value };
        assert_eq!(fails(&mut kv, cas(Some(b""), b"v")), Failure::Mismatch { present: None });
        assert_eq!(kv.apply(&cas(None, b""), 0), Reply::Done);
        let present = Some(b"".to_vec());
        assert_eq!(fails(&mut kv, cas(None, b"v")), Failure::Mismatch { present });
        assert_eq!(kv.apply(&cas(Some(b""), b"v"), 0), Reply::Done);
        let present = Some(b"v".to_vec());
        assert_eq!(fails(&mut kv, cas(Some(b"w"), b"x")), Failure::Mismatch { present });
        assert_eq!(get(&kv, b"k").as_deref(), Some(&b"v"[..]));
        assert_eq!(kv.digest(), kv.digest_from_scratch());
    }

    fn incr_counts_in_decimal_from_zero(mut kv: Kv) {
        for (by, sum) in [(5, 5), (-7, -2), (0, -2), (102, 100)] {
            assert_eq!(kv.apply(&Command::Incr { key: b"n", by }, 0), Reply::Integer(sum));
            assert_eq!(get(&kv, b"n"), Some(sum.to_string().into_bytes()));
            assert_eq!(kv.digest(), kv.digest_from_scratch());
        }
        put(&mut kv, b"n", b"+007");
        assert_eq!(kv.apply(&Command::Incr { key: b"n", by: 1 }, 0), Reply::Integer(8));
    }

    fn incr_refuses_what_is_no_integer_of_64_bits(mut kv: Kv) {
        for text in [&b""[..], b"-", b"1.0", b" 1", b"1 ", b"0x1", b"\xff", b"\xd9\xa1"] {
            put(&mut kv, b"n", text);
            assert_eq!(fails(&mut kv, Command::Incr { key: b"n", by: 1 }), Failure::NotAnInteger);
        }
        for (text, by) in [
            ("9223372036854775807", 1),
            ("-9223372036854775808", -1),
            ("9223372036854775808", 0),
            ("1", i64::MAX),
        ] {
            put(&mut kv, b"n", text.as_bytes());
            assert_eq!(fails(&mut kv, Command::Incr { key: b"n", by }), Failure::Overflow);
        }
        put(&mut kv, b"n", b"9223372036854775807");
        let reply = kv.apply(&Command::Incr { key: b"n", by: i64::MIN }, 0);
        assert_eq!(reply, Reply::Integer(-1));
    }

    /// Byte order is neither numeric order nor that of lengths; 0xff sorts last.
    fn scan_goes_in_byte_order_within_its_bounds(mut kv: Kv) {
        for key in [&b"b"[..], b"a", b"a\x00", b"10", b"9", b"\xff", b"ab", b"B"] {
            put(&mut kv, key, b"");
        }
        let all: Vec<&[u8]> = vec![b"10", b"9", b"B", b"a", b"a\x00", b"ab", b"b", b"\xff"];
        assert_eq!(scan(&kv, b"", None, u32::MAX).0, all);
        assert_eq!(scan(&kv, b"a", Some(b"b"), 100).0, all[3..6]);
        assert_eq!(scan(&kv, b"a\x00", None, 100).0, all[4..]);
    }

    /// A range that is empty or turned round is answered, not a panic in every replica.
    fn scan_of_an_empty_range_is_empty(mut kv: Kv) {
        put(&mut kv, b"m", b"");
        for (from, to) in [(&b"m"[..], &b"m"[..]), (b"z", b"a"), (b"n", b"z"), (b"", b"")] {
            assert_eq!(scan(&kv, from, Some(to), 100), (vec![], None));
        }
        assert_eq!(scan(&kv, b"", None, 0), (vec![], Some(b"m".to_vec())));
    }

    /// A client that goes on at `next` sees each key once, whatever ended the replies.
    fn scans_that_go_on_cover_every_key_once(mut kv: Kv) {
        let keys: Vec<Vec<u8>> =
            (0..SCAN_ENTRIES_MAX + 321).map(|i| format!("{i:06}").into_bytes()).collect();
        keys.iter().for_each(|key| put(&mut kv, key, b"v"));
        for limit in [1_000, 7_777, 10_000, 10_001, u32::MAX] {
            let (mut seen, mut from) = (Vec::new(), Vec::new());
            loop {
                let (page, next) = scan(&kv, &from, None, limit);
                assert!(page.len() <= SCAN_ENTRIES_MAX.min(limit as usize));
                seen.extend(page);
                match next {
                    Some(next) => from = next,
                    None => break,
                }
            }
            assert!(seen == keys, "limit {limit}");
        }
    }

    /// Large values end a reply by its size, and one that alone is too large still gets through.
    fn scan_replies_are_bounded_in_size(mut kv: Kv) {
        let keys: Vec<Vec<u8>> = (0..6).map(|i| vec![b'a' + i]).collect();
        keys.iter().for_each(|key| put(&mut kv, key, &vec![7; VALUE_SIZE_MAX * 2 / 3]));
        put(&mut kv, &keys[2], &vec![7; VALUE_SIZE_MAX]);
        let (mut pages, mut from) = (Vec::new(), Vec::new());
        loop {
            let (page, next) = scan(&kv, &from, None, u32::MAX);
            pages.push(page);
            match next {
                Some(next) => from = next,
                None => break,
            }
        }
        assert_eq!(pages.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1, 2, 1]);
        assert_eq!(pages.concat(), keys);
    }

    /// What watchers are told of a command.
    fn told(kv: &mut Kv, run: impl FnOnce(&mut Kv)) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
        kv.end_slot(Slot(1));
        run(kv);
        assert_eq!(kv.digest(), kv.digest_from_scratch());
        let copy = |it: Change<'_>| (it.key.to_vec(), it.value.map(<[u8]>::to_vec));
        changes::read(&kv.changes).map(copy).collect()
    }

    fn a_key_goes_when_its_time_is_over(mut kv: Kv) {
        for (key, ttl_us) in [(b"a", 30), (b"b", 10), (b"c", 20)] {
            let put = Command::PutFor { key, value: b"v", ttl_us };
            assert_eq!(kv.apply(&put, 100), Reply::Done);
        }
        assert_eq!(kv.terms().first_end_us(), Some(110));
        assert_eq!(kv.ttl(b"a", 105), Reply::Ttl { left_us: Some(25), token: 0 });
        assert_eq!(kv.ttl(b"none", 0), Reply::Failed(Failure::NotFound));
        assert_eq!(told(&mut kv, |kv| kv.expire(109)), []);
        // What is put anew stays, what is merely changed goes all the same.
        put(&mut kv, b"c", b"w");
        assert_eq!(kv.ttl(b"c", 0), Reply::Ttl { left_us: None, token: 0 });
        assert_eq!(kv.apply(&Command::Incr { key: b"d", by: 1 }, 0), Reply::Integer(1));
        kv.apply(&Command::PutFor { key: b"d", value: b"1", ttl_us: 15 }, 100);
        assert_eq!(kv.apply(&Command::Incr { key: b"d", by: 1 }, 0), Reply::Integer(2));
        let gone = [b"b", b"d"].map(|key| (key.to_vec(), None));
        assert_eq!(told(&mut kv, |kv| kv.expire(120)), gone);
        assert_eq!(told(&mut kv, |kv| kv.expire(130)), [(b"a".to_vec(), None)]);
        assert_eq!((kv.len(), kv.terms().first_end_us()), (1, None));
    }

    /// However many are due, one slot takes its time for a thousand.
    fn keys_go_in_steps(mut kv: Kv) {
        for n in 0..EXPIRIES_PER_SLOT_MAX as u32 + 1 {
            let key = &n.to_be_bytes();
            kv.apply(&Command::PutFor { key, value: b"", ttl_us: 1 }, 0);
        }
        assert_eq!(told(&mut kv, |kv| kv.expire(9)).len(), EXPIRIES_PER_SLOT_MAX);
        assert_eq!(told(&mut kv, |kv| kv.expire(9)).len(), 1);
        assert_eq!(kv.len(), 0);
    }

    /// Who held a lock before has a token that is of no use any more.
    fn a_lock_is_held_by_one_at_a_time(mut kv: Kv) {
        let lock = |value| Command::Lock { key: b"l", value, ttl_us: 10 };
        let renew = |token| Command::Renew { key: b"l", token, ttl_us: 50 };
        let unlock = |token| Command::Unlock { key: b"l", token };
        assert_eq!(kv.apply(&lock(b"me"), 0), Reply::Token(1));
        let present = Some(b"me".to_vec());
        assert_eq!(fails(&mut kv, lock(b"you")), Failure::Mismatch { present });
        for token in [0, 2] {
            assert_eq!(fails(&mut kv, renew(token)), Failure::NotHeld);
            assert_eq!(fails(&mut kv, unlock(token)), Failure::NotHeld);
        }
        assert_eq!(kv.apply(&renew(1), 0), Reply::Done);
        kv.expire(49);
        assert!(kv.is_held(b"l", 1));
        kv.expire(50);
        assert!(!kv.is_held(b"l", 1));
        assert_eq!(kv.apply(&lock(b"you"), 60), Reply::Token(2));
        assert_eq!(fails(&mut kv, renew(1)), Failure::NotHeld);
        assert_eq!(told(&mut kv, |kv| _ = kv.apply(&unlock(2), 60)), [(b"l".to_vec(), None)]);
        // One that is put over is no lock any more.
        assert_eq!(kv.apply(&lock(b"me"), 0), Reply::Token(3));
        put(&mut kv, b"l", b"by force");
        assert!(!kv.is_held(b"l", 3));
        assert!(!kv.is_held(b"none", 0));
    }

    fn a_mark_is_gone_back_to(mut kv: Kv) {
        kv.apply(&Command::PutFor { key: b"a", value: b"1", ttl_us: 9 }, 0);
        let (mark, digest, changes) = (kv.mark(), kv.digest(), kv.changes.clone());
        put(&mut kv, b"a", b"2");
        kv.apply(&Command::Lock { key: b"l", value: b"", ttl_us: 9 }, 0);
        kv.go_back(mark);
        assert_eq!((kv.digest(), kv.changes.clone()), (digest, changes));
        assert_eq!((kv.digest_from_scratch(), kv.terms().last_token()), (digest, 0));
        kv.expire(9);
        assert_eq!(kv.len(), 0);
    }

    /// Each of these tests for the map in each engine.
    macro_rules! in_each_engine {
        ($($test:ident)*) => {
            mod in_memory {
                use super::*;
                $(#[test]
                fn $test() {
                    super::$test(Kv::default());
                })*
            }

            #[cfg(feature = "rocksdb")]
            mod in_rocksdb {
                use super::*;
                use crate::store::EngineChoice;
                $(#[test]
                fn $test() {
                    let dir = tempfile::tempdir().unwrap();
                    let engine = EngineChoice::Rocksdb { cache_size: 8 << 20, compress: false };
 let engine = engine.open(dir.path());
                    super::$test(Kv::new(&engine.unwrap()));
                })*
            }
        };
    }

    in_each_engine! {
        put_sets_whether_the_key_exists_or_not
        create_needs_a_missing_key_and_update_a_present_one
        delete_needs_a_present_key
        cas_sets_what_holds_the_expected_value
        incr_counts_in_decimal_from_zero
        incr_refuses_what_is_no_integer_of_64_bits
        scan_goes_in_byte_order_within_its_bounds
        scan_of_an_empty_range_is_empty
        scans_that_go_on_cover_every_key_once
        scan_replies_are_bounded_in_size
        a_key_goes_when_its_time_is_over
        keys_go_in_steps
        a_lock_is_held_by_one_at_a_time
        a_mark_is_gone_back_to
    }
}
