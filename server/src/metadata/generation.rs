//! A counter shared by every process that uses one SQLite database, which tells a server whether what it
//! keeps in memory is still what the database says.
//!
//! The counter lives in a small mapped file, so looking at it costs one load. A writer makes it odd before its
//! commit and even after it, and holds a lock on the file in between. A reader trusts an answer only while the
//! counter is even and has not moved since before the answer was read. A writer that is killed in between
//! leaves it odd: nothing is kept then (slow, never wrong) until the next writer or the next start repairs it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::MmapRaw;

pub(super) struct Generation {
    map: MmapRaw,
    file: File,
}

const SIZE: u64 = 8;

impl Generation {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let mut file = fs_err::OpenOptions::new().read(true).append(true).create(true).open(path)?;
        if file.metadata()?.len() < SIZE {
            // Written and not only extended: a write through the map that finds the disk full ends the process.
            // Appended, so that of two processes that start together neither undoes what the other has counted.
            file.write_all(&[0; SIZE as usize])?;
        }
        Ok(Generation { map: MmapRaw::map_raw(file.file())?, file: file.into_parts().0 })
    }

    #[allow(unsafe_code)]
    fn counter(&self) -> &AtomicU64 {
        // SAFETY: the mapping has at least 8 bytes, is page-aligned, lives as long as `self`, and is touched
        // only through this atomic, in this process and in others.
        unsafe { &*self.map.as_mut_ptr().cast::<AtomicU64>() }
    }

    /// A commit is about to happen; it has happened, or failed, when the result is dropped. Waits for a commit
    /// of another process that is in its last microseconds: before that, SQLite's own lock keeps us apart.
    pub(super) fn begin(&self) -> std::io::Result<Commit<'_>> {
        self.file.lock()?;
        // Odd already: somebody was killed here. It stays odd, and becomes even at our end.
        let step = if self.counter().load(Ordering::SeqCst).is_multiple_of(2) { 1 } else { 2 };
        self.counter().fetch_add(step, Ordering::SeqCst);
        Ok(Commit { generation: self })
    }

    /// The generation, if no commit is under way.
    pub(super) fn settled(&self) -> Option<u64> {
        let counter = self.counter().load(Ordering::SeqCst);
        counter.is_multiple_of(2).then_some(counter)
    }

    /// Repairs the counter after a writer that was killed.
    pub(super) fn repair(&self) -> std::io::Result<()> {
        if self.settled().is_none() {
            drop(self.begin()?);
        }
        Ok(())
    }
}

/// A commit under way.
pub(super) struct Commit<'a> {
    generation: &'a Generation,
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        self.generation.counter().fetch_add(1, Ordering::SeqCst);
        if let Err(error) = self.generation.file.unlock() {
            tracing::error!(%error, "the lock of the generation file could not be released");
        }
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
        let commit = theirs.begin().unwrap();
        assert_eq!(ours.settled(), None, "a commit under way must stop keeping");
        drop(commit);
        assert_ne!(ours.settled().unwrap(), first, "a commit must make kept answers stale");
    }

    #[test]
    fn a_killed_writer_is_repaired() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("g");
        let kill_in_the_middle = || {
            let killed = Generation::open(&path).unwrap();
            std::mem::forget(killed.begin().unwrap()); // the kernel releases the lock with the file
        };
        let generation = Generation::open(&path).unwrap();
        kill_in_the_middle();
        assert_eq!(generation.settled(), None);
        generation.repair().unwrap();
        assert!(generation.settled().is_some());
        kill_in_the_middle();
        let commit = generation.begin().unwrap();
        assert_eq!(generation.settled(), None, "not before the next commit has happened");
        drop(commit);
        assert!(generation.settled().is_some());
    }
}
