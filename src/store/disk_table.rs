//! The entries in RocksDB: more of them than memory holds.
//!
//! Nothing here is durable by itself, and nothing has to be. After a crash the state is the newest snapshot and the log
//! behind it, as for entries in memory; so RocksDB keeps no log of its own. A table begins empty, or with what a checkpoint
//! has (`disk`), which is how a linked snapshot keeps the entries.
//!
//! Invariant: what RocksDB holds is the entries behind the slot whose number it holds with them. What slots have done
//! since lies above it, in `pending`, where reads look first; it is written with the number of the newest slot, as one
//! batch, between slots. A frozen view has both, and so it never shows half a slot.
//!
//! As a rule the end of each slot writes what it did. While a checkpoint is made it does not: the table is *held*, RocksDB
//! stands at one slot, and what later slots do waits in memory. That takes as long as a sync of the log and a flush of what
//! RocksDB has not in files yet; should it take so long that more than [`HELD_SIZE_MAX`] waits, the checkpoint is given up,
//! and tried again later. So the loop never waits for it.

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use imbl::OrdMap;
use rocksdb::{DBRawIterator, Error, ReadOptions, Snapshot, WriteBatch};
use self_cell::self_cell;

use crate::paxos::Slot;

use super::digest::{self, Digest};
use super::disk::{self, Disk, Files};
use super::table::Key;

/// Bytes of a snapshot that are written together.
const RESTORED_SIZE: usize = 1024 * 1024;
/// Bytes that wait in memory while a checkpoint is made, about.
const HELD_SIZE_MAX: usize = if cfg!(test) { 64 * 1024 } else { 64 * 1024 * 1024 };
/// What an entry takes beside its key and value where it waits, about.
const PENDING_OVERHEAD_SIZE: usize = 64;
/// Bytes that are read ahead where all entries are shown.
const READAHEAD_SIZE: usize = 1024 * 1024;
/// Bytes that are verified at once.
const VERIFIED_SIZE: usize = 256 * 1024;

/// `None` for a key that was removed.
type Pending = OrdMap<Key, Option<Arc<[u8]>>>;

pub struct DiskTable {
    files: Arc<Files>,
    /// What is not written yet: of the slot that is being applied, or a part of a snapshot that is being read; and
    /// of slots before, while the table is held.
    pending: Pending,
    /// Its bytes, or more.
    pending_size: usize,
    /// Some of it is of a slot that has not ended.
    is_in_slot: bool,
    /// Whoever makes a checkpoint has it.
    hold: Weak<Hold>,
    len: usize,
    /// The last slot that has ended.
    slot: Slot,
    /// The one that RocksDB stands at.
    written: Slot,
}

/// Nothing is written to RocksDB while somebody has this.
#[derive(Debug, Default)]
pub struct Hold {
    is_given_up: AtomicBool,
}

/// A state to go back to, in the same slot.
pub struct DiskMark {
    pending: Pending,
    pending_size: usize,
    is_in_slot: bool,
    len: usize,
}

impl Disk {
    /// An empty table.
    pub fn table(&self) -> DiskTable {
        DiskTable::new(self.create(), 0, Slot(0))
    }

    /// A table with the `len` entries behind `slot` that a checkpoint has.
    pub fn linked_table(
        &self,
        checkpoint: &Path,
        slot: Slot,
        len: usize,
    ) -> Result<DiskTable, String> {
        Ok(DiskTable::new(self.link(checkpoint, slot)?, len, slot))
    }
}

/// Shows the entries behind `slot` that a checkpoint has, in the order of their keys.
pub fn read_checkpoint(
    checkpoint: &Path,
    slot: Slot,
    mut visit: impl FnMut(&[u8], &[u8]),
) -> Result<(), String> {
    let files = disk::open_to_read(checkpoint, slot)?;
    let mut written = files.db().raw_iterator_opt(once());
    written.seek_to_first();
    let walked = walk(written, &Pending::new(), b"", None, |key, value| {
        visit(key, value);
        ControlFlow::<()>::Continue(())
    });
    walked.map(|_| ()).map_err(|error| {
        files.note_damage(&error);
        error.into_string()
    })
}

impl DiskTable {
    fn new(files: Files, len: usize, slot: Slot) -> DiskTable {
        DiskTable {
            files: Arc::new(files),
            pending: Pending::new(),
            pending_size: 0,
            is_in_slot: false,
            hold: Weak::new(),
            len,
            slot,
            written: slot,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        // Between slots there is nothing, as a rule.
        if !self.pending.is_empty()
            && let Some(pending) = self.pending.get(key)
        {
            return pending.as_ref().map(|value| value.to_vec());
        }
        self.files.sound(self.files.db().get(key))
    }

    /// The value of a key that exists.
    pub fn set(&mut self, key: &[u8], value: &[u8]) {
        self.put_pending(key, Some(value.into()));
    }

    fn put_pending(&mut self, key: &[u8], value: Option<Arc<[u8]>>) {
        let value_size = value.as_ref().map_or(0, |value| value.len());
        self.pending_size += key.len() + value_size + PENDING_OVERHEAD_SIZE;
        self.pending.insert(key.into(), value);
        self.is_in_slot = true;
    }

    /// A key that does not exist.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) {
        self.set(key, value);
        self.len += 1;
    }

    /// An entry of a snapshot, whose key is behind those of all before.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) {
        self.insert(key, value);
        if RESTORED_SIZE <= self.pending_size {
            self.end_slot(self.slot);
        }
    }

    pub fn remove(&mut self, key: &[u8]) -> Option<Arc<[u8]>> {
        let before = self.get(key)?;
        self.put_pending(key, None);
        self.len -= 1;
        Some(before.into())
    }

    /// Shows the entries from `from` on and before `to` in the order of their keys, until `visit` returns false.
    pub fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: impl FnMut(&[u8], &[u8]) -> bool) {
        let written = self.files.db().raw_iterator_opt(until(to));
        self.files.sound(scan(written, &self.pending, from, to, visit));
    }

    pub fn mark(&self) -> DiskMark {
        let DiskTable { pending_size, is_in_slot, len, .. } = *self;
        DiskMark { pending: self.pending.clone(), pending_size, is_in_slot, len }
    }

    pub fn go_back(&mut self, mark: DiskMark) {
        (self.pending, self.len) = (mark.pending, mark.len);
        (self.pending_size, self.is_in_slot) = (mark.pending_size, mark.is_in_slot);
    }

    /// All that the slot did has been done, and is written with the slot as a whole; unless the table is held.
    pub fn end_slot(&mut self, slot: Slot) {
        assert!(self.slot <= slot);
        (self.slot, self.is_in_slot) = (slot, false);
        if let Some(hold) = self.hold.upgrade() {
            if self.pending_size < HELD_SIZE_MAX {
                return;
            }
            // Before anything is written that the checkpoint may take for its own.
            hold.is_given_up.store(true, Ordering::SeqCst);
            self.hold = Weak::new();
        }
        self.write_pending();
    }

    fn write_pending(&mut self) {
        let mut batch = WriteBatch::default();
        for (key, value) in &self.pending {
            match value {
                Some(value) => batch.put(&key[..], value),
                None => batch.delete(&key[..]),
            }
        }
        self.files.write(batch, self.slot);
        self.pending.clear();
        (self.pending_size, self.written) = (0, self.slot);
    }

    /// Nothing is written to RocksDB until what is returned is dropped: so a view that is frozen now can make a
    /// checkpoint. `None` while another one is made.
    pub fn hold(&mut self) -> Option<Arc<Hold>> {
        assert!(!self.is_in_slot, "a state is frozen between slots");
        if self.hold.strong_count() != 0 {
            return None;
        }
        // What was held before, if no slot has ended since.
        self.write_pending();
        let hold = Arc::new(Hold::default());
        self.hold = Arc::downgrade(&hold);
        Some(hold)
    }

    /// Changes one value behind everybody's back.
    pub fn corrupt(&mut self) {
        let mut first = None;
        self.scan(b"", None, |key, value| {
            first = Some((key.to_vec(), [value, b"0"].concat()));
            false
        });
        if let Some((key, value)) = first {
            let mut batch = WriteBatch::default();
            batch.put(&key, &value);
            self.files.write(batch, self.written);
            if self.pending.contains_key(&key[..]) {
                self.pending.insert(key[..].into(), Some(value.into()));
            }
        }
    }

    pub fn freeze(&self) -> DiskView {
        assert!(!self.is_in_slot, "a state is frozen between slots");
        let at = At::new(Arc::clone(&self.files), |files| files.db().snapshot());
        let (pending, written) = (self.pending.clone(), self.written);
        DiskView { at: Arc::new(at), pending, len: self.len, slot: self.slot, written }
    }
}

/// Entries before `to`.
fn until(to: Option<&[u8]>) -> ReadOptions {
    let mut options = ReadOptions::default();
    if let Some(to) = to {
        options.set_iterate_upper_bound(to);
    }
    options
}

/// All of them, and what clients read stays in the cache.
fn once() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_readahead_size(READAHEAD_SIZE);
    options
}

/// Shows the entries from `from` on and before `to` in the order of their keys, until `visit` returns false.
fn scan(
    mut written: DBRawIterator<'_>,
    pending: &Pending,
    from: &[u8],
    to: Option<&[u8]>,
    mut visit: impl FnMut(&[u8], &[u8]) -> bool,
) -> Result<(), Error> {
    written.seek(from);
    let walked = walk(written, pending, from, to, |key, value| match visit(key, value) {
        true => ControlFlow::Continue(()),
        false => ControlFlow::Break(()),
    });
    walked.map(|_| ())
}

/// Shows the entries that are written, from where that stands and before `to`, with what is pending from `from` on
/// above them, until `visit` breaks it off.
fn walk<B>(
    mut written: DBRawIterator<'_>,
    pending: &Pending,
    from: &[u8],
    to: Option<&[u8]>,
    mut visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
) -> Result<ControlFlow<B>, Error> {
    let is_inside = |key: &[u8]| to.is_none_or(|to| key < to);
    let from_here = (Bound::Included(from), Bound::Unbounded);
    let mut pending = pending.range::<_, [u8]>(from_here).peekable();
    loop {
        let next = written.item();
        if next.is_none() {
            // At its end, or where it cannot be read.
            written.status()?;
        }
        let is_first = |key: &Key| next.is_none_or(|(written, _)| key[..] <= *written);
        let visited = match (pending.next_if(|(key, _)| is_inside(key) && is_first(key)), next) {
            (Some((key, value)), next) => {
                let is_hidden = next.is_some_and(|(written, _)| key[..] == *written);
                if is_hidden {
                    written.next();
                }
                value.as_ref().map_or(ControlFlow::Continue(()), |value| visit(key, value))
            }
            (None, Some((key, value))) => {
                let visited = visit(key, value);
                written.next();
                visited
            }
            (None, None) => return Ok(ControlFlow::Continue(())),
        };
        if visited.is_break() {
            return Ok(visited);
        }
    }
}

self_cell!(
    /// A moment of the database, which stays open for it.
    struct At {
        owner: Arc<Files>,
        #[covariant]
        dependent: Snapshot,
    }
);

/// The entries behind one slot.
#[derive(Clone)]
pub struct DiskView {
    at: Arc<At>,
    pending: Pending,
    len: usize,
    slot: Slot,
    written: Slot,
}

impl DiskView {
    pub fn len(&self) -> usize {
        self.len
    }

    /// As that of the table.
    pub fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: impl FnMut(&[u8], &[u8]) -> bool) {
        let written = self.at.borrow_dependent().raw_iterator_opt(until(to));
        self.at.borrow_owner().sound(scan(written, &self.pending, from, to, visit));
    }

    /// Shows all entries in the order of their keys, until `visit` fails.
    pub fn for_each<E>(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut shown = 0;
        let walked = self.walk_all(|key, value| {
            shown += 1;
            match visit(key, value) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        });
        match self.at.borrow_owner().sound(walked) {
            ControlFlow::Break(error) => Err(error),
            ControlFlow::Continue(()) => {
                assert!(shown == self.len, "every entry was counted when it came and when it went");
                Ok(())
            }
        }
    }

    fn walk_all<B>(
        &self,
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<B>,
    ) -> Result<ControlFlow<B>, Error> {
        let (files, snapshot) = (self.at.borrow_owner(), self.at.borrow_dependent());
        let slot = snapshot.get_cf(files.applied(), b"")?;
        assert!(
            slot.as_deref() == Some(&self.written.0.to_le_bytes()),
            "the entries are those of the slot"
        );
        let mut written = snapshot.raw_iterator_opt(once());
        written.seek_to_first();
        walk(written, &self.pending, b"", None, visit)
    }

    /// Reads all entries, and returns how many bytes they have; an error if they do not have this digest, or cannot be
    /// read. `rest` is called between two steps.
    pub fn verify(&self, expected: u128, mut rest: impl FnMut()) -> Result<u64, String> {
        let (mut digest, mut shown, mut size, mut step) = (Digest::default(), 0, 0, 0);
        let walked = self.walk_all(|key, value| {
            digest.add(digest::entry(key, value));
            (shown, step) = (shown + 1, step + key.len() + value.len());
            if VERIFIED_SIZE <= step {
                size += step as u64;
                step = 0;
                rest();
            }
            ControlFlow::<()>::Continue(())
        });
        if let Err(error) = walked {
            self.at.borrow_owner().note_damage(&error);
            return Err(error.into_string());
        }
        match (shown, digest.sum()) == (self.len, expected) {
            true => Ok(size + step as u64),
            false => Err("the digest of the keys is not what it should be".to_owned()),
        }
    }

    /// Makes a checkpoint of these entries, which is durable then.
    pub fn checkpoint(&self, path: &Path, hold: Arc<Hold>) -> Result<(), String> {
        assert!(self.written == self.slot, "who holds a table has nothing pending");
        self.at.borrow_owner().checkpoint(path, self.slot, move || {
            match hold.is_given_up.load(Ordering::SeqCst) {
                true => Err("too much was written before it was made"),
                false => Ok(()),
            }
            // And with that the hold goes.
        })
    }
}

// What RocksDB has cannot be shown.

impl std::fmt::Debug for DiskTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let DiskTable { len, slot, .. } = self;
        f.debug_struct("DiskTable").field("len", len).field("slot", slot).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for DiskView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let DiskView { len, slot, .. } = self;
        f.debug_struct("DiskView").field("len", len).field("slot", slot).finish_non_exhaustive()
    }
}
