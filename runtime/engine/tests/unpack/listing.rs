//! What a tree is, so that two can be compared.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Everything of one path that a user could tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub kind: char,
    pub mode: u32,
    pub owner: (u32, u32),
    pub modified: (i64, i64),
    pub content: Vec<u8>,
    pub device: u64,
    pub xattrs: BTreeMap<OsString, Vec<u8>>,
    /// All names of the same file.
    pub names: Vec<PathBuf>,
}

pub type Listing = BTreeMap<PathBuf, Node>;

/// Lists a tree, its root as the empty path.
pub fn list(root: &Path) -> Listing {
    let mut listing = Listing::new();
    let mut names: HashMap<u64, Vec<PathBuf>> = HashMap::new();
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let full = if path.as_os_str().is_empty() { root.to_path_buf() } else { root.join(&path) };
        let metadata = full.symlink_metadata().unwrap();
        if metadata.is_dir() {
            left.extend(full.read_dir().unwrap().map(|entry| path.join(entry.unwrap().file_name())));
        } else {
            names.entry(metadata.ino()).or_default().push(path.clone());
        }
        listing.insert(path, node(&full, &metadata));
    }
    for mut group in names.into_values() {
        group.sort();
        for path in &group {
            listing.get_mut(path).unwrap().names = group.clone();
        }
    }
    listing
}

fn node(path: &Path, metadata: &Metadata) -> Node {
    let kind = metadata.file_type();
    let (kind, content) = match () {
        () if kind.is_dir() => ('d', Vec::new()),
        () if kind.is_symlink() => ('l', path.read_link().unwrap().as_os_str().as_bytes().to_vec()),
        () if kind.is_char_device() => ('c', Vec::new()),
        () if kind.is_block_device() => ('b', Vec::new()),
        () if kind.is_fifo() => ('p', Vec::new()),
        () if kind.is_socket() => ('s', Vec::new()),
        () => ('-', content(path, metadata)),
    };
    let mut names = vec![0; 65536];
    let length = rustix::fs::llistxattr(path, &mut names[..]).unwrap();
    let xattrs = names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(|name| {
        let mut value = vec![0; 65536];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..]).unwrap();
        value.truncate(length);
        (std::ffi::OsStr::from_bytes(name).to_owned(), value)
    });
    Node {
        kind,
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        content,
        device: metadata.rdev(),
        xattrs: xattrs.collect(),
        names: Vec::new(),
    }
}

/// Large files are sparse ones here: their length must do.
fn content(path: &Path, metadata: &Metadata) -> Vec<u8> {
    if metadata.len() > 1 << 24 {
        return metadata.len().to_string().into_bytes();
    }
    std::fs::read(path).unwrap()
}

/// Compares trees with a message that can be read.
#[track_caller]
pub fn assert_same(found: &Listing, expected: &Listing) {
    let mut differences = Vec::new();
    for path in found.keys().chain(expected.keys().filter(|path| !found.contains_key(*path))) {
        let (found, expected) = (found.get(path), expected.get(path));
        if found != expected {
            differences.push(format!("{}:\n   found    {found:?}\n   expected {expected:?}", path.display()));
        }
    }
    assert!(differences.is_empty(), "{} differ\n{}", differences.len(), differences.join("\n"));
}

/// Unpacks with GNU tar.
pub fn gnu_tar(archive: &[u8], folder: &Path, more: &[&str]) {
    let mut child = Command::new("tar")
        .args(["-x", "-p", "-f", "-", "--numeric-owner", "--same-owner", "--xattrs", "--xattrs-include=*"])
        .args(more)
        .arg("-C")
        .arg(folder)
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), archive).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "tar: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether the test can make devices and give files away. Else it says so and is over.
pub fn is_root() -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("skipped: only root can run this test");
    }
    is_root
}
