//! Randomness that can be had again.

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

/// A generator of random numbers: the same seed gives the same ones (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// With a seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// With the seed in `COVE_TESTS_SEED`, or else a new one; prints it, so that a failure can be tried again.
    pub fn from_environment(what: &str) -> Self {
        let given =
            std::env::var("COVE_TESTS_SEED").ok().map(|seed| seed.parse().expect("COVE_TESTS_SEED is a number"));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970").subsec_nanos();
        let seed = given.unwrap_or_else(|| u64::from(now));
        println!("{what}: COVE_TESTS_SEED={seed}");
        Self(seed)
    }

    /// Another generator, which depends on this one's seed.
    pub fn split(&mut self) -> Self {
        Self(self.number())
    }

    /// A number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number in the range.
    pub fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.number() % (range.end - range.start)
    }

    /// Whether something happens that happens so often in a hundred.
    pub fn percent(&mut self, often: u64) -> bool {
        self.within(0..100) < often
    }

    /// One of them.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.within(0..from.len() as u64) as usize) }
    }

    /// So many bytes, which do not compress.
    pub fn bytes(&mut self, length: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length as usize + 8);
        while (bytes.len() as u64) < length {
            bytes.extend_from_slice(&self.number().to_le_bytes());
        }
        bytes.truncate(length as usize);
        bytes
    }
}
