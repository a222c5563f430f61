//! The entries of the key-value map, behind one door: in memory, in a persistent tree, or in RocksDB (`disk_table`).
//!
//! A clone of the tree shares everything, costs nothing, and can be walked by another thread while this one goes on.
//! What changes meanwhile is copied, a leaf of the tree at a time. That is what makes a snapshot without a pause
//! possible (`snapshot`).
//!
//! Digests, terms and what watchers are told are the business of `kv`.

use std::borrow::Cow;
use std::ops::{Bound, Deref};
use std::path::Path;
use std::sync::Arc;

use imbl::OrdMap;

use crate::paxos::{Bytes, Slot};

use super::digest::{self, Digest};

#[cfg(feature = "rocksdb")]
pub use super::disk_table::Hold;
#[cfg(feature = "rocksdb")]
use super::disk_table::{DiskMark, DiskTable, DiskView};

/// What lies in memory makes no checkpoints.
#[cfg(not(feature = "rocksdb"))]
#[derive(Debug)]
pub enum Hold {}

/// Keys of usual sizes lie in the nodes of the tree, where they are compared.
pub type Key = Bytes<38>;
pub type Entries = OrdMap<Key, Arc<[u8]>>;

#[derive(Debug)]
pub enum Table {
    Memory(Entries),
    #[cfg(feature = "rocksdb")]
    Disk(DiskTable),
}

/// A state to go back to, in the same slot.
pub enum TableMark {
    Memory(Entries),
    #[cfg(feature = "rocksdb")]
    Disk(DiskMark),
}

/// The value of a key that exists, which may be set.
pub enum Present<'a> {
    Memory(&'a mut Arc<[u8]>),
    #[cfg(feature = "rocksdb")]
    Disk {
        table: &'a mut DiskTable,
        key: &'a [u8],
        value: Vec<u8>,
    },
}

/// The entries behind one slot, unchanged while the table goes on. Any thread may read it.
#[derive(Clone, Debug)]
pub enum FrozenTable {
    Memory(Entries),
    #[cfg(feature = "rocksdb")]
    Disk(DiskView),
}

impl Default for Table {
    fn default() -> Table {
        Table::Memory(Entries::default())
    }
}

impl Table {
    pub fn len(&self) -> usize {
        match self {
            Table::Memory(entries) => entries.len(),
            #[cfg(feature = "rocksdb")]
            Table::Disk(table) => table.len(),
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            Table::Memory(entries) => entries.contains_key(key),
            #[cfg(feature = "rocksdb")]
            Table::Disk(table) => table.get(key).is_some(),
        }
    }

    pub fn get(&self, key: &[u8]) -> Option<Cow<'_, [u8]>> {
        match self {
            Table::Memory(entries) => entries.get(key).map(|value| Cow::Borrowed(&value[..])),
            #[cfg(feature = "rocksdb")]
            Table::Disk(table) => table.get(key).map(Cow::Owned),
        }
    }

    pub fn get_mut<'a>(&'a mut self, key: &'a [u8]) -> Option<Present<'a>> {
        match self {
            Table::Memory(entries) => entries.get_mut(key).map(Present::Memory),
            #[cfg(feature = "rocksdb")]
            Table::Disk(table) => {
                let value = table.get(key)?;
                Some(Present::Disk { table, key, value })
            }
        }
    }

    /// A key that does not exist: one that does is set through `get_mut`.
    pub fn insert(&mut self, key: &[u8], value: &[u8]) {
        match self {
            Table::Memory(entries) => {
                let before = entries.insert(key.into(), value.into());
                assert!(
                    before.is_none(),
                    "a key that exists is replaced, or the digest would keep it"
                );
            }
            // Whoever inserts has just looked.
            #[cfg(feature = "rocksdb")]
            Table::Disk(table) => table.insert(key, value),
        }
    }

    /// An entry of a snapshot, whose key is behind those of all before; `end_slot` follows the last one.
    pub fn restore(&mut self, key: &[u8], value: &[u8]) {
        match self {
            Table::Memory(_) => self.insert(key, value),
            #[cfg(feature = "rocksdb")]
            Table::Disk(table) => table.restore(key, value),
        }
    }

    /// Removes a key, and returns what it held.
    pub fn remove(&mut self, key: &[u8]) -> Option<Arc<[u8]>> {
        match self {
            Table::Memory(entries) => entries.remove(key),
            #[cfg(feature = "rocksdb")]
            Table::Disk(table) => table.remove(key),
        }
    }

    /// Shows the entries from `from` on and before `to`, in the order of their keys, until `visit` returns false.
    pub fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: impl FnMut(&[u8], &[u8]) -> bool) {
        match self {
            Table::Memory(entries) => scan(entries, from, to, visit),
            #[cfg(feature = "rocksdb")]
            Table::Disk(table) => table.scan(from, to, visit),
        }
    }

    pub fn mark(&self) -> TableMark {
        match self {
            Table::Memory(entries) => TableMark::Memory(entries.clone()),
            #[cfg(feature = "rocksdb")]
            Table::Disk(table) => TableMark::Disk(table.mark()),
        }
    }

    /// Undoes what was done since the mark was set, in the same slot.
    pub fn go_back(&mut self, mark: TableMark) {
        match (self, mark) {
            (Table::Memory(entries), TableMark::Memory(before)) => *entries = before,
            #[cfg(feature = "rocksdb")]
            (Table::Disk(table), TableMark::Disk(before)) => table.go_back(before),
            #[cfg(feature = "rocksdb")]
            _ => unreachable!("a mark is of its own table"),
        }
    }

    /// All that the slot did has been done.
    #[cfg_attr(not(feature = "rocksdb"), allow(unused_variables))]
    pub fn end_slot(&mut self, slot: Slot) {
        match self {
            Table::Memory(_) => {}
            #[cfg(feature = "rocksdb")]
            Table::Disk(table) => table.end_slot(slot),
        }
    }

    /// The entries as the last slot that ended left them. Takes the same short time however many there are.
    pub fn freeze(&self) -> FrozenTable {
        match self {
            Table::Memory(entries) => FrozenTable::Memory(entries.clone()),
            #[cfg(feature = "rocksdb")]
            Table::Disk(table) => FrozenTable::Disk(table.freeze()),
        }
    }

    /// Until what is returned is dropped, what is frozen now can make a checkpoint. `None` where there are none, or
    /// another one is made.
    pub fn hold(&mut self) -> Option<Arc<Hold>> {
        match self {
            Table::Memory(_) => None,
            #[cfg(feature = "rocksdb")]
            Table::Disk(table) => table.hold(),
        }
    }

    /// Changes one value behind everybody's back.
    pub fn corrupt(&mut self) {
        match self {
            Table::Memory(entries) => {
                if let Some((key, value)) = entries.get_min().cloned() {
                    entries.insert(key, value.iter().rev().copied().chain([b'0']).collect());
                }
            }
            #[cfg(feature = "rocksdb")]
            Table::Disk(table) => table.corrupt(),
        }
    }
}

fn scan(
    entries: &Entries,
    from: &[u8],
    to: Option<&[u8]>,
    mut visit: impl FnMut(&[u8], &[u8]) -> bool,
) {
    // The tree panics at a range that ends before it begins.
    if to.is_some_and(|to| to <= from) {
        return;
    }
    let end = to.map_or(Bound::Unbounded, Bound::Excluded);
    let mut range = entries.range::<_, [u8]>((Bound::Included(from), end));
    let _ = range.all(|(key, value)| visit(key, value));
}

impl Deref for Present<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Present::Memory(value) => value,
            #[cfg(feature = "rocksdb")]
            Present::Disk { value, .. } => value,
        }
    }
}

impl Present<'_> {
    pub fn set(self, value: &[u8]) {
        match self {
            // Most values keep their size, and then their allocation too, unless a snapshot shares it.
            Present::Memory(present) => match Arc::get_mut(present) {
                Some(present) if present.len() == value.len() => present.copy_from_slice(value),
                _ => *present = value.into(),
            },
            #[cfg(feature = "rocksdb")]
            Present::Disk { table, key, .. } => table.set(key, value),
        }
    }
}

impl FrozenTable {
    pub fn len(&self) -> usize {
        match self {
            FrozenTable::Memory(entries) => entries.len(),
            #[cfg(feature = "rocksdb")]
            FrozenTable::Disk(view) => view.len(),
        }
    }

    /// As that of the table.
    pub fn scan(&self, from: &[u8], to: Option<&[u8]>, visit: impl FnMut(&[u8], &[u8]) -> bool) {
        match self {
            FrozenTable::Memory(entries) => scan(entries, from, to, visit),
            #[cfg(feature = "rocksdb")]
            FrozenTable::Disk(view) => view.scan(from, to, visit),
        }
    }

    /// Shows all entries, in the order of their keys, until `visit` fails.
    pub fn for_each<E>(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            FrozenTable::Memory(entries) => {
                entries.iter().try_for_each(|(key, value)| visit(key, value))
            }
            #[cfg(feature = "rocksdb")]
            FrozenTable::Disk(view) => view.for_each(visit),
        }
    }
    /// Makes a checkpoint of the entries, which is durable then: a directory that is not there yet. The table is held
    /// since they were frozen.
    #[cfg_attr(not(feature = "rocksdb"), allow(unused_variables, clippy::needless_pass_by_value))]
    pub fn checkpoint(&self, path: &Path, hold: Arc<Hold>) -> Result<(), String> {
        match self {
            FrozenTable::Memory(_) => unreachable!("it cannot be held"),
            #[cfg(feature = "rocksdb")]
            FrozenTable::Disk(view) => view.checkpoint(path, hold),
        }
    }

    /// Reads all entries, and returns how many bytes they have; an error if they do not have this digest, or cannot be
    /// read. `rest` is called between two steps.
    pub fn verify(&self, expected: u128, mut rest: impl FnMut()) -> Result<u64, String> {
        match self {
            FrozenTable::Memory(entries) => {
                let (mut digest, mut size) = (Digest::default(), 0);
                for (key, value) in entries {
                    digest.add(digest::entry(key, value));
                    size += (key.len() + value.len()) as u64;
                    rest();
                }
                match digest.sum() == expected {
                    true => Ok(size),
                    false => Err("the digest of the keys is not what it should be".to_owned()),
                }
            }
            #[cfg(feature = "rocksdb")]
            FrozenTable::Disk(view) => view.verify(expected, rest),
        }
    }
}
