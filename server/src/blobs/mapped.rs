//! Files mapped into memory, to be sent without copying them first.

use std::fs::File;
use std::io;
use std::ops::Range;

use bytes::Bytes;
use memmap2::{Advice, Mmap};

/// Bytes that are brought into memory and sent at a time.
const SLICE: u64 = 1024 * 1024;

/// A mapped file, read in slices from `position` to `end`.
#[derive(Debug)]
pub(super) struct MappedFile {
    /// The whole mapping; slices share it and unmap it with the last of them.
    bytes: Bytes,
    map: std::sync::Arc<Mmap>,
    position: u64,
    end: u64,
}

/// Owner of a mapping inside `Bytes`.
struct Owner(std::sync::Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl MappedFile {
    /// Maps `range` of `file`, whose length must reach the range's end.
    #[allow(unsafe_code)]
    pub(super) fn open(file: &File, range: Range<u64>) -> io::Result<Self> {
        // SAFETY: blob files are never changed or cut short once they have their final length (DESIGN, "State");
        // a deleted file keeps its pages until the mapping goes. Who truncates files of the data folder by hand
        // gets a SIGBUS, as with every program that maps files.
        let map = std::sync::Arc::new(unsafe { Mmap::map(file)? });
        let bytes = Bytes::from_owner(Owner(map.clone()));
        Ok(MappedFile { bytes, map, position: range.start, end: range.end })
    }

    pub(super) fn remaining(&self) -> u64 {
        self.end - self.position
    }

    /// The next slice; its pages are read from disk here in one go, where an I/O error is an error and not a
    /// signal.
    pub(super) fn next(&mut self) -> Option<io::Result<Bytes>> {
        if self.position >= self.end {
            return None;
        }
        let next = (self.position + SLICE).min(self.end);
        let (start, length) = (self.position as usize, (next - self.position) as usize);
        if let Err(error) = self.map.advise_range(Advice::PopulateRead, start, length)
            && error.raw_os_error() != Some(EINVAL)
        {
            return Some(Err(error));
        }
        self.position = next;
        Some(Ok(self.bytes.slice(start..start + length)))
    }
}

/// What kernels before 5.14 answer, which do not know the advice: pages then come in one by one.
const EINVAL: i32 = 22;
