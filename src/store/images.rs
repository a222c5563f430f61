//! Images: what is kept of each, by its perceptual hash; and which are near, as their hashes differ in few bits.
//!
//! Invariant: `digest` is the sum over exactly the images of the map, and the indexes hold exactly their hashes. Every
//! change goes through `replace` or, while a state is read, `restore`, and nothing else touches any of them.
//!
//! The map is the state, and persistent like that of the keys (`kv`). The indexes are made from it and belong to no
//! snapshot. They have one order of rows that is the history's, so a transaction is not undone by forgetting here: what
//! each image held before is put back.
//!
//! Sizes were checked where the payload was decoded (`wire::kv`).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::limits::{SCAN_ENTRIES_MAX, SCAN_SIZE_SOFT_MAX};
use crate::paxos::Bytes;

use super::command::{Failure, Image, Reply};
use super::digest::{self, Digest};
use super::image_index::{ImageIndex, Near};
use super::table::Entries;

/// Bytes that an image of a reply takes beside its hash and what is kept of it: two lengths, and the distance.
const IMAGE_FRAMING_SIZE: usize = 20;

/// What is kept of an image, if there is one.
type Meta = Option<Arc<[u8]>>;

#[derive(Debug, Default)]
pub struct Images {
    entries: Entries,
    digest: Digest,
    /// By the size of the hashes, in bytes. None is empty.
    indexes: BTreeMap<usize, ImageIndex>,
    /// In a transaction: what held before what it changed, in that order.
    before: Option<Vec<(Bytes<38>, Meta)>>,
}

impl Images {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn digest(&self) -> u128 {
        self.digest.sum()
    }

    pub fn entries(&self) -> &Entries {
        &self.entries
    }

    /// An image of a snapshot, which is not in the map; `settle` follows the last one.
    pub fn restore(&mut self, hash: &[u8], meta: &[u8]) {
        self.digest.add(digest::image(hash, meta));
        self.entries.insert(hash.into(), meta.into());
        self.index(hash.len()).append(hash);
    }

    pub fn settle(&mut self) {
        self.indexes.values_mut().for_each(ImageIndex::settle);
    }

    pub fn set(&mut self, hash: &[u8], meta: &[u8]) -> Reply {
        let before = self.replace(hash, Some(meta.into()));
        self.remember(hash, before);
        Reply::Done
    }

    pub fn delete(&mut self, hash: &[u8]) -> Reply {
        let Some(before) = self.replace(hash, None) else {
            return Reply::Failed(Failure::NotFound);
        };
        self.remember(hash, Some(before));
        Reply::Done
    }

    /// At least one image comes back where there is one and `limit` is not 0, however large it is.
    pub fn nearest(&self, hash: &[u8], within: u32, limit: u32) -> Reply {
        let limit = usize::try_from(limit).map_or(SCAN_ENTRIES_MAX, |l| l.min(SCAN_ENTRIES_MAX));
        let near = match self.indexes.get(&hash.len()) {
            None => Near::default(),
            // The map knows.
            Some(_) if within == 0 => {
                let is_there = self.entries.contains_key(hash);
                let hashes: Vec<_> = is_there.then(|| (0, hash.to_vec())).into_iter().collect();
                let more = limit < hashes.len();
                Near { hashes: hashes.into_iter().take(limit).collect(), more }
            }
            Some(index) => index.nearest(hash, within, limit),
        };
        let (mut images, mut more, mut size) = (Vec::new(), near.more, 0);
        for (distance, hash) in near.hashes {
            if SCAN_SIZE_SOFT_MAX <= size {
                more = true;
                break;
            }
            let meta =
                self.entries.get(&hash[..]).expect("the index has the map's hashes").to_vec();
            size += hash.len() + meta.len() + IMAGE_FRAMING_SIZE;
            images.push(Image { hash, meta, distance });
        }
        Reply::Images { images, more }
    }

    /// A transaction begins.
    pub fn begin(&mut self) {
        assert!(self.before.is_none(), "no transaction is in another");
        self.before = Some(Vec::new());
    }

    pub fn commit(&mut self) {
        self.before = None;
    }

    /// All is as it was when the transaction began.
    pub fn roll_back(&mut self) {
        let before = self.before.take().expect("a transaction has begun");
        for (hash, meta) in before.into_iter().rev() {
            self.replace(&hash, meta);
        }
    }

    fn remember(&mut self, hash: &[u8], meta: Meta) {
        if let Some(before) = &mut self.before {
            before.push((hash.into(), meta));
        }
    }

    /// Sets or removes, and returns what was there.
    fn replace(&mut self, hash: &[u8], meta: Meta) -> Meta {
        let is_there = meta.is_some();
        let before = match meta {
            Some(meta) => {
                self.digest.add(digest::image(hash, &meta));
                self.entries.insert(hash.into(), meta)
            }
            None => self.entries.remove(hash),
        };
        if let Some(before) = &before {
            self.digest.remove(digest::image(hash, before));
        }
        match (before.is_some(), is_there) {
            (false, true) => self.index(hash.len()).insert(hash),
            (true, false) => {
                let index = self.indexes.get_mut(&hash.len()).expect("it has the hash");
                index.remove(hash);
                if index.len() == 0 {
                    self.indexes.remove(&hash.len());
                }
            }
            (true, true) | (false, false) => {}
        }
        before
    }

    fn index(&mut self, size: usize) -> &mut ImageIndex {
        self.indexes.entry(size).or_insert_with(|| ImageIndex::new(size))
    }

    /// What `digest` must be.
    #[cfg(test)]
    pub fn digest_from_scratch(&self) -> u128 {
        let mut digest = Digest::default();
        self.entries.iter().for_each(|(hash, meta)| digest.add(digest::image(hash, meta)));
        assert_eq!(self.indexes.values().map(ImageIndex::len).sum::<usize>(), self.len());
        digest.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::VALUE_SIZE_MAX;

    fn near(images: &Images, hash: &[u8], within: u32, limit: u32) -> (Vec<(u32, Vec<u8>)>, bool) {
        match images.nearest(hash, within, limit) {
            Reply::Images { images: found, more } => {
                (found.into_iter().map(|it| (it.distance, it.hash)).collect(), more)
            }
            other => panic!("{other:?}"),
        }
    }

    /// The nearest first, those as near by their hashes; hashes of other sizes are near nothing.
    #[test]
    fn images_are_found_by_nearness() {
        let mut images = Images::default();
        for hash in [&[0xff, 0xf0][..], &[0xff, 0xff], &[0xff, 0xfe], &[0xfe, 0xff], &[0xff]] {
            assert_eq!(images.set(hash, hash), Reply::Done);
        }
        let query = [0xff, 0xff];
        let all = [(0, vec![0xff, 0xff]), (1, vec![0xfe, 0xff]), (1, vec![0xff, 0xfe])];
        assert_eq!(near(&images, &query, 0, 9), (all[..1].to_vec(), false));
        assert_eq!(near(&images, &query, 1, 9), (all.to_vec(), false));
        assert_eq!(near(&images, &query, 4, 2), (all[..2].to_vec(), true));
        assert_eq!(near(&images, &query, 4, 9).0.len(), 4);
        assert_eq!(near(&images, &query, 0, 0), (vec![], true));
        assert_eq!(near(&images, &[0xff; 3], 1024, 9), (vec![], false));
        assert_eq!(images.delete(&query), Reply::Done);
        assert_eq!(images.delete(&query), Reply::Failed(Failure::NotFound));
        assert_eq!(near(&images, &query, 0, 9), (vec![], false));
        assert_eq!(near(&images, &query, 1, 9).0, all[1..]);
        assert_eq!(images.digest(), images.digest_from_scratch());
    }

    /// What a reply holds is bounded, and one image always fits.
    #[test]
    fn replies_are_bounded_in_size() {
        let mut images = Images::default();
        (0..6).for_each(|hash| _ = images.set(&[hash], &vec![7; VALUE_SIZE_MAX * 2 / 3]));
        images.set(&[6], &vec![7; VALUE_SIZE_MAX]);
        let (found, more) = near(&images, &[0], 8, u32::MAX);
        assert_eq!((found.len(), more), (2, true));
        assert_eq!(near(&images, &[6], 8, 1).0, [(0, vec![6])]);
    }

    /// Set twice, deleted and set again in one transaction: the index is what it was, too.
    #[test]
    fn a_transaction_is_undone() {
        let mut images = Images::default();
        images.set(b"a", b"1");
        images.set(b"c", b"3");
        let (digest, found) = (images.digest(), images.nearest(b"a", 8, 9));
        images.begin();
        images.set(b"a", b"2");
        images.set(b"b", b"2");
        images.set(b"b", b"4");
        images.delete(b"a");
        images.delete(b"c");
        images.set(b"a", b"5");
        assert_eq!(near(&images, b"a", 8, 9).0.len(), 2);
        images.roll_back();
        assert_eq!((images.digest(), images.nearest(b"a", 8, 9)), (digest, found));
        assert_eq!(images.digest_from_scratch(), digest);
        images.begin();
        images.delete(b"a");
        images.commit();
        assert_eq!(near(&images, b"a", 8, 9).0, [(1, b"c".to_vec())]);
        assert_eq!(images.digest(), images.digest_from_scratch());
    }
}
