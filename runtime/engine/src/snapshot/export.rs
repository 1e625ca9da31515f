//! The whole tree that a container sees, as an archive.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::emit::Emitter;
use super::node::{self, Node};
use super::{SnapshotError, failed, joined};
use crate::tar::{Entry, EntryKind};

/// What becomes of other file systems that are mounted in the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mounts {
    /// They are an empty folder or file.
    Empty,
    /// They belong to the tree, but for those in which the kernel shows itself.
    Follow,
}

/// Writes the tree below a folder, which itself is no entry, as docker exports a container. Other file systems that are
/// mounted in it are left out: they are empty folders and files there.
pub fn write_tree(root: BorrowedFd<'_>, out: impl Write) -> Result<(), SnapshotError> {
    let mut emitter = Emitter::new(out, None, false);
    walk(&mut emitter, root, b"", b"", Mounts::Empty)?;
    emitter.finish().map(drop)
}

/// How many of the folders on the way stay open.
const OPEN: usize = 64;

/// A folder on the way down. It is opened from the one above; those far above are closed, and opened again by their path.
struct Level {
    folder: Option<OwnedFd>,
    path: Vec<u8>,
    names: Vec<Vec<u8>>,
}

/// Writes what is in a folder, each name after `prefix`. `inside` is the folder's own path, for messages.
pub(crate) fn walk<W: Write>(
    emitter: &mut Emitter<W>,
    folder: BorrowedFd<'_>,
    inside: &[u8],
    prefix: &[u8],
    mounts: Mounts,
) -> Result<(), SnapshotError> {
    let enter = |folder: OwnedFd, path: Vec<u8>| -> Result<Level, SnapshotError> {
        let mut names = node::names(folder.as_fd()).map_err(|error| failed("list the folder", &path, error))?;
        names.reverse();
        Ok(Level { folder: Some(folder), path, names })
    };
    let top = folder;
    let folder = rustix::fs::openat(folder, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| failed("open the folder", inside, error))?;
    let mut levels = vec![enter(folder, inside.to_vec())?];
    while let Some(level) = levels.last_mut() {
        let Some(name) = level.names.pop() else {
            levels.pop();
            continue;
        };
        let path = joined(&level.path, &name);
        let rest = path.strip_prefix(inside).unwrap_or(&path);
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        let written = [prefix, rest].concat();
        let found = match &level.folder {
            Some(folder) => find(folder.as_fd(), &name),
            None => {
                let below = level.path.strip_prefix(inside).unwrap_or(&level.path);
                let folder = open_again(top, below).map_err(|error| failed("open the folder", &level.path, error))?;
                find(level.folder.insert(folder).as_fd(), &name)
            }
        };
        let found = found.map_err(|error| failed("look at", &path, error))?;
        match found {
            Found::Nothing => {}
            Found::Mounted(node) if mounts == Mounts::Empty || is_kernel(&node) => {
                emitter.plain(&empty(&node, written))?
            }
            Found::Here(node) | Found::Mounted(node) => {
                // What has gone meanwhile is left out, like its content.
                emitter.node(&node, &written)?;
                if node.is_folder() {
                    let folder = node.folder().map_err(|error| failed("open the folder", &path, error))?;
                    levels.push(enter(folder, path)?);
                    if let Some(far) = levels.len().checked_sub(OPEN + 1) {
                        levels[far].folder = None;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Opens a folder once more. A link that has come into the way meanwhile is not followed.
fn open_again(top: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let path = if path.is_empty() { b"." } else { path };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat2(top, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

enum Found {
    Nothing,
    Here(Node),
    Mounted(Node),
}

fn find(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Found, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat2(folder, name, flags, Mode::empty(), ResolveFlags::NO_XDEV | ResolveFlags::BENEATH) {
        Ok(descriptor) => Node::held(descriptor).map(Found::Here),
        Err(Errno::NOENT) => Ok(Found::Nothing),
        Err(Errno::XDEV) => Ok(Node::find(folder, name)?.map_or(Found::Nothing, Found::Mounted)),
        Err(error) => Err(error),
    }
}

/// The place of a mount. What it hides cannot be seen.
fn empty(node: &Node, path: Vec<u8>) -> Entry {
    let modified = node.modified();
    match node.is_folder() {
        true => Entry {
            path: [&path, &b"/"[..]].concat(),
            kind: EntryKind::Folder,
            mode: 0o755,
            modified,
            ..Entry::default()
        },
        false => Entry { path, kind: EntryKind::File, mode: 0o755, modified, ..Entry::default() },
    }
}

/// Whether a file system shows the kernel, and not files that somebody keeps there.
pub(crate) fn is_kernel(node: &Node) -> bool {
    /// linux/magic.h: proc, sysfs, devpts, cgroup, cgroup2, mqueue, debugfs, tracefs, securityfs, bpf, pstore, efivarfs,
    /// configfs, selinuxfs.
    const KERNEL: [u64; 14] = [
        0x9fa0,
        0x6265_6572,
        0x1cd1,
        0x27_e0eb,
        0x6367_7270,
        0x1980_0202,
        0x6462_6720,
        0x7472_6163,
        0x7363_6673,
        0xcafe_4a11,
        0x6165_676c,
        0xde5e_81e4,
        0x6265_6570,
        0xf97c_ff8c,
    ];
    rustix::fs::fstatfs(node.descriptor()).is_ok_and(|found| KERNEL.contains(&(found.f_type.cast_unsigned())))
}
