//! The pages of a database: what SQLite takes for its file.
//!
//! The map of pages is persistent, like the key-value map: a clone costs nothing, however large the database is,
//! and shares what has not changed since. The digest is a sum over the pages, as the store's is over its items.
//!
//! Invariant: outside of `dirty`, `digest` holds the hash of each page as it is, and of nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::Vector;
use xxhash_rust::xxh3::xxh3_128;

use crate::store::digest::{self, Digest};

/// Bytes of a page. SQLite's default; the pages of a database file never change their size.
pub const PAGE_SIZE: usize = 4096;

pub type PageBytes = [u8; PAGE_SIZE];

#[derive(Clone, Debug)]
struct Page {
    bytes: Arc<PageBytes>,
    /// Its share of the digest, while it is not dirty.
    hash: u128,
}

/// The bytes of a database, page by page from 0 on.
#[derive(Clone, Debug, Default)]
pub struct Pages {
    pages: Vector<Page>,
    digest: Digest,
    /// Written since the digest was last settled.
    dirty: BTreeSet<usize>,
}

impl Pages {
    /// Number of pages.
    pub fn len(&self) -> usize {
        self.pages.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pages.is_empty()
    }

    /// All pages in their order.
    pub fn iter(&self) -> impl Iterator<Item = &PageBytes> {
        self.pages.iter().map(|page| &*page.bytes)
    }

    /// The sum over all pages. What was written must be settled.
    pub fn digest(&self) -> Digest {
        assert!(self.dirty.is_empty(), "pages are settled before anybody asks for the digest");
        self.digest
    }

    /// SQLite's number of the schema, in the header of the file: it changes whenever the schema does.
    pub fn schema(&self) -> u32 {
        let mut bytes = [0; 4];
        self.read(40, &mut bytes);
        u32::from_be_bytes(bytes)
    }

    /// Copies bytes from `offset` on, and returns how many there are before the end of the file.
    pub fn read(&self, mut offset: usize, mut out: &mut [u8]) -> usize {
        let mut size = 0;
        while !out.is_empty() {
            let Some(page) = self.pages.get(offset / PAGE_SIZE) else { break };
            let bytes = &page.bytes[offset % PAGE_SIZE..];
            let n = bytes.len().min(out.len());
            out[..n].copy_from_slice(&bytes[..n]);
            out = &mut out[n..];
            (offset, size) = (offset + n, size + n);
        }
        size
    }

    /// Writes bytes from `offset` on; what lies between the end and there is zeros.
    pub fn write(&mut self, mut offset: usize, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (index, start) = (offset / PAGE_SIZE, offset % PAGE_SIZE);
            let n = (PAGE_SIZE - start).min(bytes.len());
            if self.pages.len() <= index {
                self.resize(index + 1);
            }
            let page = self.touch(index);
            if n == PAGE_SIZE {
                let whole: &PageBytes = bytes[..n].try_into().expect("a page's bytes");
                match Arc::get_mut(&mut page.bytes) {
                    Some(own) => *own = *whole,
                    None => page.bytes = Arc::new(*whole),
                }
            } else {
                Arc::make_mut(&mut page.bytes)[start..start + n].copy_from_slice(&bytes[..n]);
            }
            bytes = &bytes[n..];
            offset += n;
        }
    }

    /// Makes the file so many pages long.
    pub fn resize(&mut self, len: usize) {
        while len < self.pages.len() {
            self.touch(self.pages.len() - 1);
            self.pages.pop_back();
        }
        self.dirty.split_off(&len);
        if self.pages.len() < len {
            let zeros = Arc::new([0; PAGE_SIZE]);
            for index in self.pages.len()..len {
                self.pages.push_back(Page { bytes: Arc::clone(&zeros), hash: 0 });
                self.dirty.insert(index);
            }
        }
    }

    /// The page that is about to change: its hash leaves the digest.
    fn touch(&mut self, index: usize) -> &mut Page {
        let page = self.pages.get_mut(index).expect("the caller has seen it");
        if self.dirty.insert(index) {
            self.digest.remove(page.hash);
        }
        page
    }

    /// Brings the digest up to date.
    pub fn settle(&mut self) {
        for index in std::mem::take(&mut self.dirty) {
            let page = self.pages.get_mut(index).expect("pages that went are not dirty");
            page.hash = hash(index, &page.bytes);
            self.digest.add(page.hash);
        }
    }
}

/// A page's share of the digest.
pub fn hash(index: usize, bytes: &PageBytes) -> u128 {
    digest::page(index as u64, xxh3_128(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(pages: &Pages) -> Pages {
        let mut pages = pages.clone();
        pages.settle();
        pages
    }

    /// The digest tells what the pages are, and not how they came about.
    #[test]
    fn the_digest_is_that_of_the_pages() {
        let mut one = Pages::default();
        one.write(0, &[1; 3 * PAGE_SIZE]);
        one.settle();
        let before = one.digest();
        one.write(PAGE_SIZE, &[2; PAGE_SIZE]);
        one.write(5 * PAGE_SIZE + 7, &[3; 10]);
        one.settle();
        assert_ne!(one.digest(), before);
        let mut sum = Digest::default();
        one.iter().enumerate().for_each(|(index, bytes)| sum.add(hash(index, bytes)));
        assert_eq!(one.digest(), sum);
        one.resize(3);
        one.write(PAGE_SIZE, &[1; PAGE_SIZE]);
        assert_eq!(settled(&one).digest(), before);
        one.resize(0);
        assert_eq!(settled(&one).digest(), Digest::default());
    }

    #[test]
    fn what_is_written_is_read_and_a_clone_keeps_the_old() {
        let mut pages = Pages::default();
        let mut out = [9; 8];
        assert_eq!(pages.read(0, &mut out), 0);
        pages.write(PAGE_SIZE - 2, b"abcd");
        assert_eq!(pages.len(), 2);
        let kept = pages.clone();
        pages.write(PAGE_SIZE, b"X");
        assert_eq!(pages.read(PAGE_SIZE - 4, &mut out), 8);
        assert_eq!(&out, b"\0\0abXd\0\0");
        assert_eq!(kept.read(PAGE_SIZE - 4, &mut out), 8);
        assert_eq!(&out, b"\0\0abcd\0\0");
        assert_eq!(pages.read(2 * PAGE_SIZE - 3, &mut out), 3);
    }
}
