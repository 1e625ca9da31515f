//! Paths as docker reads them, and what is there inside of a root.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;

use super::{CopyError, failed, path_buf};
use crate::snapshot::Node;

/// How often the kernel may ask to look again: folders are being moved around there.
const TRIES: u32 = 1000;
/// As many links as docker follows.
const LINKS: u32 = 255;

/// A path of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// Absolute, without `.` and `..`.
    pub(super) path: Vec<u8>,
    pub(super) end: End,
}

/// What a path ends in, which says what to do with a link there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// In a name: a link is meant itself.
    Name,
    /// In a slash: the folder.
    Slash,
    /// In `/.`: what is in the folder.
    Dot,
}

impl Wanted {
    /// Reads a path: docker takes `..` by the letter, before any link is followed.
    pub(super) fn new(path: &[u8]) -> Self {
        let end = match path {
            _ if path == b"." || path.ends_with(b"/.") => End::Dot,
            _ if path.ends_with(b"/") => End::Slash,
            _ => End::Name,
        };
        Wanted { path: [b"/", clean(path).as_slice()].concat(), end }
    }

    /// The last name, docker's `Base`.
    pub(super) fn base(&self) -> &[u8] {
        match self.end {
            End::Dot => b".",
            _ if self.path == b"/" => b"/",
            _ => self.split().1,
        }
    }

    fn split(&self) -> (&[u8], &[u8]) {
        let slash = memchr::memrchr(b'/', &self.path).unwrap_or_default();
        (&self.path[..slash], &self.path[slash + 1..])
    }

    /// What is there. A link at the end is followed if the path says so, or `follow`.
    pub(super) fn find(&self, root: BorrowedFd<'_>, follow: bool) -> Result<Node, CopyError> {
        let failure = |error| match error {
            Errno::NOENT => CopyError::NotFound(path_buf(&self.path)),
            error => failed("find", &self.path, error),
        };
        if self.end != End::Name || self.path == b"/" {
            let folder = open(root, &self.path, OFlags::PATH | OFlags::DIRECTORY).map_err(failure)?;
            return Node::held(folder).map_err(failure);
        }
        if follow {
            return open(root, &self.path, OFlags::PATH).and_then(Node::held).map_err(failure);
        }
        let (folder, name) = self.split();
        let folder = open(root, folder, OFlags::PATH | OFlags::DIRECTORY).map_err(failure)?;
        Node::find(folder.as_fd(), name).and_then(|found| found.ok_or(Errno::NOENT)).map_err(failure)
    }
}

/// A path without `.`, empty names and `..`, relative to the root. `..` of the root is the root.
pub(super) fn clean(path: &[u8]) -> Vec<u8> {
    let mut names: Vec<&[u8]> = Vec::new();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join(&b'/')
}

/// Opens a path as if the root were that of the whole system: neither `..` nor links lead out of it.
pub(super) fn open(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = if path.is_empty() { b"/" } else { path };
    let mut tries = 0;
    loop {
        match openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
            Err(Errno::AGAIN | Errno::INTR) if tries < TRIES => tries += 1,
            opened => return opened,
        }
    }
}

/// Where a path leads, link by link, by name only: what is not there leads to itself. Nothing is to be opened by the answer
/// in another way than inside of the root.
pub(super) fn evaluate(root: BorrowedFd<'_>, path: &[u8]) -> Result<Vec<u8>, Errno> {
    let split = |path: &[u8]| path.split(|byte| *byte == b'/').map(<[u8]>::to_vec).collect::<VecDeque<_>>();
    let (mut left, mut found, mut links) = (split(path), Vec::<Vec<u8>>::new(), 0);
    while let Some(name) = left.pop_front() {
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                found.pop();
                continue;
            }
            _ => found.push(name),
        }
        let here = found.join(&b'/');
        let node = match open(root, &here, OFlags::PATH | OFlags::NOFOLLOW).and_then(Node::held) {
            Ok(node) => node,
            Err(Errno::NOENT | Errno::NOTDIR) => continue,
            Err(error) => return Err(error),
        };
        if node.kind() == FileType::Symlink {
            links += 1;
            if links > LINKS {
                return Err(Errno::LOOP);
            }
            let target = node.link()?;
            found.pop();
            if target.starts_with(b"/") {
                found.clear();
            }
            let mut names = split(&target);
            names.append(&mut left);
            left = names;
        }
    }
    Ok([b"/", found.join(&b'/').as_slice()].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_as_docker_reads_them() {
        for (path, clean, end, base) in [
            ("", "/", End::Name, "/"),
            ("/", "/", End::Slash, "/"),
            ("/.", "/", End::Dot, "."),
            (".", "/", End::Dot, "."),
            ("a/b", "/a/b", End::Name, "b"),
            ("/a//b/", "/a/b", End::Slash, "b"),
            ("/a/b/.", "/a/b", End::Dot, "."),
            ("/a/../../b", "/b", End::Name, "b"),
            ("/a/.hidden", "/a/.hidden", End::Name, ".hidden"),
        ] {
            let wanted = Wanted::new(path.as_bytes());
            assert_eq!((wanted.path.as_slice(), wanted.end), (clean.as_bytes(), end), "{path}");
            assert_eq!(wanted.base(), base.as_bytes(), "{path}");
        }
    }
}
