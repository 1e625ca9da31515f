//! A counter shared by every process that uses one SQLite database, which tells a server whether what it
//! keeps in memory is still what the database says.
//!
//! The counter lives in a small mapped file, so looking at it costs one load. A writer raises `begun` before
//! its commit and `ended` after it. A reader trusts an answer only while both are equal and have not moved
//! since before the answer was read. A writer that is killed between the two leaves them unequal: caching is
//! then off (slow, never wrong) until the server starts again and levels them.

use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapRaw;

pub(super) struct Generation {
    map: MmapRaw,
}

const SIZE: u64 = 16;

impl Generation {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let mut file = fs_err::OpenOptions::new().read(true).append(true).create(true).open(path)?;
        if file.metadata()?.len() < SIZE {
            // Written and not only extended: a write through the map that finds the disk full ends the process.
            // Appended, so that of two processes that start together neither undoes what the other has counted.
            file.write_all(&[0; SIZE as usize])?;
        }
        Ok(Generation { map: MmapRaw::map_raw(file.file())? })
    }

    #[allow(unsafe_code)]
    fn counter(&self, index: usize) -> &AtomicU64 {
        debug_assert!(index < 2);
        // SAFETY: the mapping is SIZE = 16 bytes, page-aligned, lives as long as `self`, and is touched only
        // through these atomics, in this process and in others.
        unsafe { &*self.map.as_mut_ptr().cast::<AtomicU64>().add(index) }
    }

    fn begun(&self) -> &AtomicU64 {
        self.counter(0)
    }

    fn ended(&self) -> &AtomicU64 {
        self.counter(1)
    }

    /// A commit is about to happen.
    pub(super) fn begin(&self) {
        self.begun().fetch_add(1, Ordering::SeqCst);
    }

    /// It has happened, or failed.
    pub(super) fn end(&self) {
        self.ended().fetch_add(1, Ordering::SeqCst);
    }

    /// The generation, if no commit is under way.
    pub(super) fn settled(&self) -> Option<u64> {
        let ended = self.ended().load(Ordering::SeqCst);
        (self.begun().load(Ordering::SeqCst) == ended).then_some(ended)
    }

    /// Repairs the counters after a writer that was killed. Only for the one server that holds the lock of the
    /// data folder, before it serves. Both only ever grow, so an administrator's command beside it does no harm:
    /// at worst they stay unequal and caching stays off.
    pub(super) fn level(&self) {
        let (begun, ended) = (self.begun().load(Ordering::SeqCst), self.ended().load(Ordering::SeqCst));
        let top = begun.max(ended) + 1;
        self.ended().fetch_add(top - ended, Ordering::SeqCst);
        self.begun().fetch_add(top - begun, Ordering::SeqCst);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn two_openings_share_one_counter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g");
        let (ours, theirs) = (Generation::open(&path).unwrap(), Generation::open(&path).unwrap());
        let first = ours.settled().unwrap();
        theirs.begin();
        assert_eq!(ours.settled(), None, "a commit under way must stop caching");
        theirs.end();
        assert_ne!(ours.settled().unwrap(), first, "a commit must make kept answers stale");
    }

    #[test]
    fn a_killed_writer_is_repaired_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let generation = Generation::open(&folder.path().join("g")).unwrap();
        generation.begin();
        assert_eq!(generation.settled(), None);
        generation.level();
        assert!(generation.settled().is_some());
    }
}
