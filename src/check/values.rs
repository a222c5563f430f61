//! Values by numbers, and hashes that cost a few instructions.

// Looked up, never walked through: hash order is of no consequence.
#![allow(clippy::disallowed_types)]

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::model::Value;

/// The values that occur in replies, numbered.
#[derive(Default)]
pub struct Values {
    numbers: HashMap<Value, u32, BuildHasherDefault<Same>>,
}

impl Values {
    pub fn number(&mut self, value: Value) -> u32 {
        let next = self.numbers.len() as u32;
        *self.numbers.entry(value).or_insert(next)
    }

    pub fn find(&self, value: Value) -> Option<u32> {
        self.numbers.get(&value).copied()
    }

    pub fn len(&self) -> usize {
        self.numbers.len()
    }
}

/// Spreads a number over 128 bits (the finalizer of SplitMix64, twice).
pub fn hash(number: u64) -> u128 {
    let mix = |number: u64| {
        let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        number ^ (number >> 31)
    };
    let low = mix(number.wrapping_add(0x9e37_79b9_7f4a_7c15));
    let high = mix(low ^ number.rotate_left(32).wrapping_mul(0xd6e8_feb8_6659_fd93));
    u128::from(high) << 64 | u128::from(low)
}

/// A hasher for what is spread already, or is mixed here in a few instructions.
#[derive(Default)]
pub struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(u64::from(byte)));
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x517c_c1b7_2722_0a95);
        self.0 ^= self.0 >> 29;
    }

    fn write_i64(&mut self, number: i64) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as u64);
    }

    fn write_u128(&mut self, number: u128) {
        self.0 = number as u64;
    }
}
