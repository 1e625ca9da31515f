//! Answers kept in memory together with the generation of the database that they were read at.
//!
//! A kept answer counts only while the generation is the same, so whatever anybody writes, in this process or
//! in another, is seen by the next request. Where there is no generation (PostgreSQL) nothing is kept.

use std::hash::Hash;
use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Equivalent, Weighter};

/// A bounded set of kept answers.
pub struct Kept<K, V> {
    cache: Cache<K, Entry<V>, ByWeight<K, V>>,
}

#[derive(Clone)]
struct Entry<V> {
    generation: u64,
    /// `None`: for as long as the generation lasts.
    until: Option<Instant>,
    value: V,
}

#[derive(Clone)]
struct ByWeight<K, V>(fn(&K, &V) -> u64);

impl<K, V> Weighter<K, Entry<V>> for ByWeight<K, V> {
    fn weight(&self, key: &K, entry: &Entry<V>) -> u64 {
        (self.0)(key, &entry.value)
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Kept<K, V> {
    /// Keeps up to `capacity` of what `weight` counts; about `items` entries are expected.
    pub fn new(items: usize, capacity: u64, weight: fn(&K, &V) -> u64) -> Self {
        let cache = Cache::with(items, capacity, ByWeight(weight), DefaultHashBuilder::default(), Default::default());
        Kept { cache }
    }

    /// The answer, if it was kept at this generation.
    pub fn get<Q: Hash + Equivalent<K> + ?Sized>(&self, key: &Q, generation: Option<u64>) -> Option<V> {
        let entry = self.cache.get(key)?;
        let current = Some(entry.generation) == generation && entry.until.is_none_or(|until| Instant::now() < until);
        current.then_some(entry.value)
    }

    /// Keeps an answer that was read after `generation` was looked at, for `keep_for` at most.
    pub fn put(&self, key: K, generation: Option<u64>, keep_for: Duration, value: V) {
        if let Some(generation) = generation
            && !keep_for.is_zero()
        {
            let until = Instant::now().checked_add(keep_for);
            self.cache.insert(key, Entry { generation, until, value });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_at_its_generation_only() {
        let kept: Kept<&str, u32> = Kept::new(10, 10, |_, _| 1);
        kept.put("a", Some(1), Duration::MAX, 7);
        assert_eq!(kept.get("a", Some(1)), Some(7));
        assert_eq!(kept.get("a", Some(2)), None, "somebody has written since");
        assert_eq!(kept.get("a", None), None, "a commit is under way");
        kept.put("b", None, Duration::MAX, 7);
        assert_eq!(kept.get("b", None), None, "without a generation nothing is kept");
        kept.put("c", Some(1), Duration::ZERO, 7);
        assert_eq!(kept.get("c", Some(1)), None);
    }
}
