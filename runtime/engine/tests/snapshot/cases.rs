//! Single cases, each for what it says.

use cove_engine::tar::{Archive, Entry, TarLimits};

/// The entries of an archive.
pub fn entries(tar: &[u8]) -> Vec<Entry> {
    let mut archive = Archive::new(tar, TarLimits { header_bytes: 1 << 20, bytes: 1 << 40 });
    let (mut entry, mut entries) = (Entry::default(), Vec::new());
    while archive.next(&mut entry).unwrap() {
        entries.push(entry.clone());
    }
    entries
}

/// Their names.
pub fn names(tar: &[u8]) -> Vec<String> {
    entries(tar).iter().map(|entry| entry.path.escape_ascii().to_string()).collect()
}
