//! Hashes of one size, found by nearness: which of them differ from another in few bits.
//!
//! Not a part of the state, but made from it: the order of the rows tells what was inserted and removed when, and no
//! answer does. The answer is a function of the hashes alone, whichever way it was found.
//!
//! The hashes lie one behind the other, and can be compared one by one. Beside that each is in up to 16 tables, by 16
//! of its bits in each (multi-index hashing: Norouzi, Punjani and Fleet, "Fast Search in Hamming Space with Multi-Index
//! Hashing", CVPR 2012, section 3). Let there be m tables, and let two hashes differ in at most r = m s + a bits, a < m.
//! Then, of the first a + 1 tables, they differ by at most s bits in one, or by at most s - 1 bits in one of the
//! others: if not, they would differ in (a + 1)(s + 1) + (m - a - 1) s = r + 1 bits. So all keys so near are looked up
//! in each table, while that costs less than to compare all.
//!
//! That holds of any bits that no two tables share: hashes of more than 256 bits are not in more tables for that.

use std::collections::BinaryHeap;

use crate::limits::IMAGE_HASH_SIZE_MAX;

/// Most tables of a hash's bits: they take 4 bytes of memory each for every hash.
const TABLES_MAX: usize = 16;
/// From so many hashes on there are tables: 1.5 MiB each, before anything is in them.
const TABLED_MIN: usize = if cfg!(test) { 512 } else { 8192 };
const TABLE_LEN: usize = 1 << 16;
/// How many keys differ from a given one by at most so many of their 16 bits.
const NEAR_KEYS: [usize; 17] = [
    1, 17, 137, 697, 2517, 6885, 14893, 26333, 39203, 50643, 58651, 63019, 64839, 65399, 65519,
    65535, 65536,
];
/// What it costs to look a key up, and to look at what is there beside comparing it, in words that a comparison of all
/// gets done in the same time. Measured by `benches/images.rs`.
const KEY_COST: usize = 16;
const CANDIDATE_COST: usize = 16;
/// Hashes that are compared at once, so that the compiler makes vectors of them.
const BLOCK: usize = 64;

#[derive(Debug)]
pub struct ImageIndex {
    /// Of each hash, in bytes.
    size: usize,
    /// Of each hash, in words.
    width: usize,
    /// The hashes, big-endian, with zeros behind the last byte: so they compare as the bytes do.
    words: Vec<u64>,
    /// None while there are few hashes.
    tables: Vec<Table>,
}

/// The rows of the hashes by 16 of their bits.
#[derive(Debug)]
struct Table {
    /// The first of the two bytes, an even number.
    at: usize,
    rows: Vec<Vec<u32>>,
}

/// What is near, in its order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Near {
    /// Distances and hashes, ascending.
    pub hashes: Vec<(u32, Vec<u8>)>,
    /// There are more than were asked for.
    pub more: bool,
}

impl ImageIndex {
    /// For hashes of `size` bytes, of which there is none.
    pub fn new(size: usize) -> ImageIndex {
        assert!((1..=IMAGE_HASH_SIZE_MAX).contains(&size));
        ImageIndex { size, width: size.div_ceil(8), words: Vec::new(), tables: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.words.len() / self.width
    }

    /// A hash that is not there.
    pub fn insert(&mut self, hash: &[u8]) {
        let (row, words) = (row_number(self.len()), words_of(hash));
        self.words.extend(&words[..self.width]);
        self.tables.iter_mut().for_each(|table| table.insert(&words, row));
        if self.tables.is_empty() {
            self.settle();
        }
    }

    /// The same, before many others: `settle` follows.
    pub fn append(&mut self, hash: &[u8]) {
        assert!(self.tables.is_empty(), "tables are made of all hashes");
        self.words.extend(&words_of(hash)[..self.width]);
    }

    /// Makes the tables, if there are enough hashes. All at once that takes a fraction of the time, and of the memory.
    pub fn settle(&mut self) {
        if TABLED_MIN < self.len() {
            self.tables = (0..tables_of(self.size)).map(|it| self.table(it)).collect();
        }
    }

    /// A hash that is there. The last one takes its place.
    pub fn remove(&mut self, hash: &[u8]) {
        let words = words_of(hash);
        let words = &words[..self.width];
        let row = self.row_of(words);
        let (number, last) = (row_number(row), row_number(self.len() - 1));
        let end = self.words.len() - self.width;
        for table in &mut self.tables {
            table.remove(words, number);
            if number != last {
                table.rename(&self.words[end..], last, number);
            }
        }
        self.words.copy_within(end.., row * self.width);
        self.words.truncate(end);
    }

    /// At most `limit` hashes of which at most `within` bits differ, the nearest first, those as near in byte order.
    pub fn nearest(&self, hash: &[u8], within: u32, limit: usize) -> Near {
        let words = words_of(hash);
        let words = &words[..self.width];
        let found = self.by_tables(words, within, limit);
        let best = found.unwrap_or_else(|| self.one_by_one(words, within, limit));
        let hash_of = |words: &[u64]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_be_bytes()).take(self.size).collect()
        };
        let sorted = best.heap.into_sorted_vec();
        let hashes = sorted.into_iter().map(|(distance, words)| (distance, hash_of(words)));
        Near { hashes: hashes.collect(), more: best.more }
    }

    /// None if that would take longer than to compare all.
    fn by_tables(&self, query: &[u64], within: u32, limit: usize) -> Option<Best<'_>> {
        let (nearest, first) = radii(within, self.tables.len())?;
        let radius =
            |table: usize| if table < first { Some(nearest) } else { nearest.checked_sub(1) };
        let keys: usize = (0..self.tables.len())
            .filter_map(|table| radius(table).map(|it| NEAR_KEYS[it.min(16) as usize]))
            .sum();
        let mut budget = self.words.len().checked_sub(keys * KEY_COST)?;
        let mut best = Best::new(limit);
        for (number, table) in self.tables.iter().enumerate() {
            let Some(reach) = radius(number) else { break };
            let key = key_at(query, table.at);
            for mask in (0..=reach.min(16)).flat_map(masks) {
                let rows = &table.rows[usize::from(key ^ mask)];
                budget = budget.checked_sub(rows.len() * (CANDIDATE_COST + self.width))?;
                for row in rows {
                    let words = self.row(*row as usize);
                    let distance = distance(words, query);
                    // What an earlier table has found is not found again.
                    let found = |(before, table): (usize, &Table)| {
                        let differ = key_at(words, table.at) ^ key_at(query, table.at);
                        radius(before).is_some_and(|it| differ.count_ones() <= it)
                    };
                    if distance <= within && !self.tables[..number].iter().enumerate().any(found) {
                        best.offer(distance, words);
                    }
                }
            }
        }
        Some(best)
    }

    fn one_by_one(&self, query: &[u64], within: u32, limit: usize) -> Best<'_> {
        let mut best = Best::new(limit);
        // Widths that are usual, and known to the compiler.
        match self.width {
            1 => scan::<1>(&self.words, query, within, &mut best),
            2 => scan::<2>(&self.words, query, within, &mut best),
            4 => scan::<4>(&self.words, query, within, &mut best),
            width => {
                for words in self.words.chunks_exact(width) {
                    let distance = distance(words, query);
                    if distance <= within {
                        best.offer(distance, words);
                    }
                }
            }
        }
        best
    }

    fn row(&self, row: usize) -> &[u64] {
        &self.words[row * self.width..][..self.width]
    }

    /// Where a hash is that is there.
    fn row_of(&self, words: &[u64]) -> usize {
        let alike = |table: &'_ Table| table.rows[usize::from(key_at(words, table.at))].len();
        let row = match self.tables.iter().min_by_key(|table| alike(table)) {
            Some(table) => {
                let rows = &table.rows[usize::from(key_at(words, table.at))];
                rows.iter().map(|row| *row as usize).find(|row| self.row(*row) == words)
            }
            None => self.words.chunks_exact(self.width).position(|it| it == words),
        };
        row.expect("every hash of the map is here")
    }

    /// A table of all hashes.
    fn table(&self, number: usize) -> Table {
        // Spread over the hash: neighbouring bits are often alike.
        let at = number * (self.size / 2) / tables_of(self.size) * 2;
        let mut counts = vec![0; TABLE_LEN];
        let rows = || self.words.chunks_exact(self.width);
        rows().for_each(|words| counts[usize::from(key_at(words, at))] += 1);
        let mut table = Table { at, rows: counts.into_iter().map(Vec::with_capacity).collect() };
        for (row, words) in (0..).zip(rows()) {
            table.rows[usize::from(key_at(words, at))].push(row);
        }
        table
    }
}

impl Table {
    fn insert(&mut self, words: &[u64], row: u32) {
        let rows = &mut self.rows[usize::from(key_at(words, self.at))];
        if rows.len() == rows.capacity() {
            // Twice as many would leave a third of them unused.
            rows.reserve_exact(4 + rows.len() / 4);
        }
        rows.push(row);
    }

    fn remove(&mut self, words: &[u64], row: u32) {
        let rows = &mut self.rows[usize::from(key_at(words, self.at))];
        let place = rows.iter().position(|it| *it == row).expect("every row is in every table");
        rows.swap_remove(place);
    }

    fn rename(&mut self, words: &[u64], row: u32, to: u32) {
        let rows = &mut self.rows[usize::from(key_at(words, self.at))];
        *rows.iter_mut().find(|it| **it == row).expect("every row is in every table") = to;
    }
}

/// The nearest of what it is offered, each once.
struct Best<'a> {
    limit: usize,
    /// The farthest first.
    heap: BinaryHeap<(u32, &'a [u64])>,
    more: bool,
}

impl<'a> Best<'a> {
    fn new(limit: usize) -> Best<'a> {
        Best { limit, heap: BinaryHeap::new(), more: false }
    }

    fn offer(&mut self, distance: u32, words: &'a [u64]) {
        if self.heap.len() < self.limit {
            self.heap.push((distance, words));
            return;
        }
        self.more = true;
        if let Some(mut farthest) = self.heap.peek_mut()
            && (distance, words) < *farthest
        {
            *farthest = (distance, words);
        }
    }
}

fn scan<'a, const W: usize>(words: &'a [u64], query: &[u64], within: u32, best: &mut Best<'a>) {
    let query: [u64; W] = query.try_into().expect("a query is as wide as the hashes");
    let (rows, _) = words.as_chunks::<W>();
    let mut distances = [0; BLOCK];
    for block in rows.chunks(BLOCK) {
        for (distance, row) in distances.iter_mut().zip(block) {
            *distance = (0..W).map(|word| (row[word] ^ query[word]).count_ones()).sum();
        }
        let distances = &distances[..block.len()];
        if distances.iter().min().is_some_and(|least| *least <= within) {
            for (distance, row) in distances.iter().zip(block) {
                if *distance <= within {
                    best.offer(*distance, row);
                }
            }
        }
    }
}

/// How many tables hashes of so many bytes are in. (A hash of one byte has zeros behind it.)
fn tables_of(size: usize) -> usize {
    (size / 2).clamp(1, TABLES_MAX)
}

/// By how many bits a key may differ in the first of the tables, and how many these are; in the others it is one less.
fn radii(within: u32, tables: usize) -> Option<(u32, usize)> {
    let tables = u32::try_from(tables).expect("they are few");
    Some((within.checked_div(tables)?, (within % tables) as usize + 1))
}

/// All keys of which so many bits are set.
fn masks(bits: u32) -> impl Iterator<Item = u16> {
    let mut next = Some((1u32 << bits) - 1);
    std::iter::from_fn(move || {
        let mask = next.take()?;
        if 0 < mask {
            // The next larger number with as many bits (Gosper).
            let low = mask & mask.wrapping_neg();
            let up = mask + low;
            next = Some(up | ((mask ^ up) >> 2) >> low.trailing_zeros());
            next = next.filter(|mask| *mask < TABLE_LEN as u32);
        }
        Some(mask as u16)
    })
}

/// The 16 bits from the byte `at` on, which is even.
fn key_at(words: &[u64], at: usize) -> u16 {
    (words[at / 8] >> (48 - at % 8 * 8)) as u16
}

fn distance(a: &[u64], b: &[u64]) -> u32 {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum()
}

fn words_of(hash: &[u8]) -> [u64; IMAGE_HASH_SIZE_MAX / 8] {
    let mut bytes = [0; IMAGE_HASH_SIZE_MAX];
    bytes[..hash.len()].copy_from_slice(hash);
    let (words, _) = bytes.as_chunks::<8>();
    std::array::from_fn(|word| u64::from_be_bytes(words[word]))
}

fn row_number(row: usize) -> u32 {
    u32::try_from(row).expect("memory has no room for so many")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::tests::Random;
    use super::*;

    fn brute(hashes: &BTreeSet<Vec<u8>>, query: &[u8], within: u32, limit: usize) -> Near {
        let distance = |hash: &[u8]| -> u32 {
            hash.iter().zip(query).map(|(a, b)| (a ^ b).count_ones()).sum()
        };
        let all = hashes.iter().map(|hash| (distance(hash), hash.clone()));
        let mut near: Vec<_> = all.filter(|(distance, _)| *distance <= within).collect();
        near.sort();
        let more = limit < near.len();
        near.truncate(limit);
        Near { hashes: near, more }
    }

    /// Some hashes are near others, some bytes are always the same, so that some rows of a table are long.
    fn draw(dice: &mut Random, size: usize, known: &BTreeSet<Vec<u8>>) -> Vec<u8> {
        let mut hash: Vec<u8> = (0..size).map(|_| dice.below(256) as u8).collect();
        if dice.below(3) == 0 {
            let from = known.range(hash.clone()..).next().or(known.first());
            hash = from.cloned().unwrap_or(hash);
            for _ in 0..dice.below(12) {
                hash[dice.below(size as u64) as usize] ^= 1 << dice.below(8);
            }
        } else if dice.below(4) == 0 {
            hash[..size / 2].fill(0);
        }
        hash
    }

    /// Whatever was inserted and removed in whatever order, few or many, the answer is that of looking at all.
    #[test]
    fn answers_are_those_of_looking_at_all() {
        // Of one byte there are too few for tables.
        let sizes =
            [(1, 300), (2, 4_000), (3, 4_000), (8, 4_000), (9, 2_000), (32, 4_000), (128, 2_000)];
        for (size, count) in sizes {
            let mut dice = Random(size as u64);
            let (mut index, mut hashes) = (ImageIndex::new(size), BTreeSet::new());
            let mut was_tabled = false;
            for step in 0..count * 3 / 2 {
                let hash = draw(&mut dice, size, &hashes);
                if hashes.insert(hash.clone()) {
                    index.insert(&hash);
                } else if dice.below(2) == 0 {
                    hashes.remove(&hash);
                    index.remove(&hash);
                }
                if count < step {
                    // More go than come.
                    for _ in 0..2 {
                        let from = draw(&mut dice, size, &hashes);
                        if let Some(hash) = hashes.range(from..).next().cloned() {
                            hashes.remove(&hash);
                            index.remove(&hash);
                        }
                    }
                }
                assert_eq!(index.len(), hashes.len());
                was_tabled |= !index.tables.is_empty();
                if step % 20 == 0 {
                    let query = draw(&mut dice, size, &hashes);
                    let within = [0, 1, 2, 3, 5, 8, 10, 20, 40, 8 * size as u32];
                    let within = within[dice.below(within.len() as u64) as usize];
                    let limit = [0, 1, 7, usize::MAX][dice.below(4) as usize];
                    let expected = brute(&hashes, &query, within, limit);
                    let told = index.nearest(&query, within, limit);
                    assert_eq!(told, expected, "{size} {step} {within} {limit}");
                }
            }
            assert_eq!(was_tabled, 1 < size, "{size}");
            while let Some(hash) = hashes.pop_last() {
                index.remove(&hash);
            }
            assert_eq!(index.len(), 0);
            let left = index.tables.iter().flat_map(|table| &table.rows).map(Vec::len);
            assert_eq!(left.sum::<usize>(), 0);
        }
    }

    /// The tables alone, at radii at which all would be compared: each hash is found, and once.
    #[test]
    fn tables_lose_nothing_and_find_nothing_twice() {
        for size in [2, 4, 8, 32, 40] {
            let mut dice = Random(size as u64);
            let mut index = ImageIndex::new(size);
            let mut hashes = BTreeSet::new();
            while hashes.len() < 5_000 {
                let hash = draw(&mut dice, size, &hashes);
                if hashes.insert(hash.clone()) {
                    index.insert(&hash);
                }
            }
            let mut by_tables = 0;
            for within in 0..24 {
                let query = draw(&mut dice, size, &hashes);
                let words = words_of(&query);
                let Some(best) = index.by_tables(&words[..index.width], within, usize::MAX) else {
                    continue;
                };
                by_tables += 1;
                let found: Vec<u32> =
                    best.heap.into_sorted_vec().iter().map(|(distance, _)| *distance).collect();
                let expected = brute(&hashes, &query, within, usize::MAX).hashes;
                let expected: Vec<u32> = expected.iter().map(|(distance, _)| *distance).collect();
                assert_eq!(found, expected, "{size} {within}");
            }
            assert!(0 < by_tables, "{size}");
        }
    }

    #[test]
    fn masks_are_all_keys_by_their_bits() {
        let mut all = BTreeSet::new();
        for (bits, near) in (0..=16).zip(NEAR_KEYS) {
            all.extend(masks(bits).inspect(|mask| assert_eq!(mask.count_ones(), bits)));
            assert_eq!(all.len(), near);
        }
    }
}
