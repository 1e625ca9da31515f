//! Files mapped into memory, to be sent without copying them first.

use std::fs::File;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use memmap2::{Advice, Mmap, MmapOptions};

/// Bytes that are mapped, brought into memory and sent at a time. Each slice is a mapping of its own, gone as soon
/// as it is sent: a mapping of the whole file would count as this process's memory to its last byte.
const SLICE: u64 = 1024 * 1024;

/// A file, read in mapped slices from `position` to `end`.
#[derive(Debug)]
pub(super) struct MappedFile {
    file: File,
    position: u64,
    end: u64,
}

impl MappedFile {
    /// Reads `range` of `file`, whose length must reach the range's end.
    pub(super) fn new(file: File, range: Range<u64>) -> Self {
        MappedFile { file, position: range.start, end: range.end }
    }

    pub(super) fn remaining(&self) -> u64 {
        self.end - self.position
    }

    /// The next slice.
    pub(super) fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.position >= self.end {
            return None;
        }
        // Slices end at multiples of their size, where pages end too.
        let next = ((self.position / SLICE + 1) * SLICE).min(self.end);
        let mapped = map(&self.file, self.position..next);
        self.position = next;
        Some(mapped.map(Bytes::from_owner))
    }
}

/// Maps `range` of a file; its pages are read from disk here in one go, where an I/O error is an error and not a
/// signal.
#[allow(unsafe_code)]
fn map(file: &File, range: Range<u64>) -> io::Result<Mmap> {
    let length = (range.end - range.start) as usize;
    // SAFETY: blob files are never changed or cut short once they have their final length (DESIGN, "State"); a
    // deleted file keeps its pages until the mapping goes. Who truncates files of the data folder by hand gets a
    // SIGBUS, as with every program that maps files.
    let map = unsafe { MmapOptions::new().offset(range.start).len(length).map(file)? };
    match map.advise(Advice::PopulateRead) {
        Err(error) if error.raw_os_error() != Some(EINVAL) => Err(error),
        _ => Ok(map),
    }
}

/// What kernels before 5.14 answer, which do not know the advice: pages then come in one by one.
const EINVAL: i32 = 22;
