//! What a copy tells while it runs. Nothing here prints: that is for the command line.

use std::time::Duration;

use cove_oci::{Descriptor, Manifest, RepositoryName};

/// A step in the life of one blob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// It waits, for a free place or for another process that works on the same blob.
    Waiting,
    /// It is being compressed: so many of so many uncompressed bytes are done.
    Compressing {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// It was there already.
    Existed,
    /// The registry took it from another of its repositories.
    Mounted(RepositoryName),
    /// An earlier attempt goes on after so many bytes.
    Resumed(u64),
    /// Bytes travel: so many of so many are there, those of earlier attempts included.
    Transferring {
        /// Bytes there.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// A request failed and is tried again.
    Retrying {
        /// How long until then.
        after: Duration,
        /// What failed.
        reason: String,
    },
    /// All bytes are there and verified.
    Transferred,
    /// It is being unpacked: so many compressed bytes of so many are done.
    Unpacking {
        /// Bytes done.
        done: u64,
        /// Bytes in all.
        total: u64,
    },
    /// All is done for this blob.
    Done,
}

/// Who is told. Called from many threads, often: implementations are quick.
pub trait Progress: Send + Sync {
    /// The copy has settled on an image (or on one of several): these blobs are next.
    fn image(&self, _manifest: &Manifest) {}

    /// Something happened to a blob.
    fn step(&self, blob: &Descriptor, step: Step);
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn step(&self, _blob: &Descriptor, _step: Step) {}
}
