//! Into a container.
//!
//! Unlike the folder of a layer, this one is somebody's: files are there, and processes may be at work. So nothing is
//! known beforehand, and nothing is set by a name: what was made is held, and gets its owner, mode and times there.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags, chownat, linkat, makedev, mkdirat, mknodat,
    openat, openat2, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::path::{Wanted, clean, open};
use super::{CopyError, failed, path_buf};
use crate::snapshot::{Node, names};
use crate::tar::{Archive, Entry, EntryKind, Time};
use crate::unpack::UnpackLimits;
use crate::unpack::attributes::{DEFAULT_ACL, times};

/// How often something may come into the way that is to be replaced.
const TRIES: u32 = 100;

/// How to copy into a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IntoOptions {
    /// Refuse to replace a folder by something else, and the other way round.
    pub no_overwrite_dir_non_dir: bool,
    /// Give everything to this user and group, docker's `copyUIDGID`; else to whom the archive says.
    pub owner: Option<(u32, u32)>,
    /// How large an archive may be, and its headers.
    pub limits: UnpackLimits,
}

/// Unpacks an archive in a folder of a container. Folders that are there stay with what is in them; everything else of the
/// same name is replaced.
pub fn archive_in(root: BorrowedFd<'_>, path: &Path, tar: impl Read, options: &IntoOptions) -> Result<(), CopyError> {
    let wanted = Wanted::new(path.as_os_str().as_bytes());
    match open(root, &wanted.path, OFlags::PATH | OFlags::DIRECTORY) {
        Ok(_) => {}
        Err(Errno::NOENT) => return Err(CopyError::NotFound(path_buf(&wanted.path))),
        Err(Errno::NOTDIR) => return Err(CopyError::NotAFolder),
        Err(error) => return Err(failed("open", &wanted.path, error)),
    }
    let mut copying = Copying { root, to: wanted.path, options, later: Vec::new() };
    let mut archive = Archive::new(tar, options.limits.tar());
    let mut entry = Entry::default();
    while archive.next(&mut entry)? {
        copying.entry(&entry, &mut archive)?;
    }
    copying.finish()
}

struct Copying<'a> {
    root: BorrowedFd<'a>,
    /// The folder, absolute inside of the root.
    to: Vec<u8>,
    options: &'a IntoOptions,
    /// What folders get when everything is in them.
    later: Vec<Later>,
}

struct Later {
    path: Vec<u8>,
    accessed: Option<Time>,
    modified: Time,
    default_acl: Option<Vec<u8>>,
}

impl Copying<'_> {
    fn entry(&mut self, entry: &Entry, archive: &mut Archive<impl Read>) -> Result<(), CopyError> {
        let path = self.inside(&entry.path, &entry.path)?;
        let (folder, name) = split(&path);
        if path == self.to || name.is_empty() {
            // The folder itself stays as it is.
            return Ok(());
        }
        let folder = self.folder(folder)?;
        self.check(folder.as_fd(), name, &path, entry)?;
        match entry.kind {
            EntryKind::Folder => self.make_folder(folder.as_fd(), name, &path, entry),
            EntryKind::File => self.file(folder.as_fd(), name, &path, entry, archive),
            EntryKind::HardLink => self.hard_link(folder.as_fd(), name, &path, entry),
            _ => self.other(folder.as_fd(), name, &path, entry),
        }
    }

    /// A path of the archive, absolute inside of the root.
    fn inside(&self, path: &[u8], entry: &[u8]) -> Result<Vec<u8>, CopyError> {
        let mut depth = 0_i64;
        for name in path.split(|byte| *byte == b'/') {
            match name {
                b"" | b"." => {}
                b".." => depth -= 1,
                _ => depth += 1,
            }
            if depth < 0 {
                return Err(CopyError::Outside(path_buf(entry)));
            }
        }
        let to = if self.to == b"/" { &b""[..] } else { &self.to };
        let path = clean(path);
        Ok(if path.is_empty() { self.to.clone() } else { [to, b"/", &path].concat() })
    }

    /// The folder that something goes into. Those that are missing are made.
    fn folder(&self, path: &[u8]) -> Result<OwnedFd, CopyError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let failure = |error| failed("open the folder", path, error);
        match open(self.root, path, flags) {
            Err(Errno::NOENT) => {}
            opened => return opened.map_err(failure),
        }
        let (parent, name) = split(path);
        // Links that lead nowhere end here too: what they lead to is not made.
        let parent = self.folder(parent)?;
        match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(failed("make the folder", path, error)),
        }
        open(self.root, path, flags).map_err(failure)
    }

    fn check(&self, folder: BorrowedFd<'_>, name: &[u8], path: &[u8], entry: &Entry) -> Result<(), CopyError> {
        if !self.options.no_overwrite_dir_non_dir {
            return Ok(());
        }
        let found = Node::find(folder, name).map_err(|error| failed("look at", path, error))?;
        let (path, folder) = (path_buf(path), path_buf(&self.to));
        match found.map(|found| found.is_folder()) {
            Some(true) if entry.kind != EntryKind::Folder => Err(CopyError::OverFolder { path, folder }),
            Some(false) if entry.kind == EntryKind::Folder => Err(CopyError::OverFile { path, folder }),
            _ => Ok(()),
        }
    }

    fn make_folder(
        &mut self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
    ) -> Result<(), CopyError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut tries = 0;
        let held = loop {
            match mkdirat(folder, name, Mode::from_raw_mode(0o700)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(failed("make the folder", path, error)),
            }
            match openat(folder, name, flags, Mode::empty()) {
                Ok(held) => break held,
                Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) if tries < TRIES => {
                    tries += 1;
                    remove(folder, name, path)?;
                }
                Err(error) => return Err(failed("make the folder", path, error)),
            }
        };
        self.attributes(&held, path, entry)?;
        let default_acl = entry.xattrs.iter().find(|xattr| xattr.name == DEFAULT_ACL).map(|xattr| xattr.value.clone());
        let (accessed, modified) = (entry.accessed, entry.modified);
        self.later.push(Later { path: path.to_vec(), accessed, modified, default_acl });
        Ok(())
    }

    fn file(
        &self,
        folder: BorrowedFd<'_>,
        name: &[u8],
        path: &[u8],
        entry: &Entry,
        archive: &mut Archive<impl Read>,
    ) -> Result<(), CopyError> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let make = || openat(folder, name, flags, Mode::from_raw_mode(0o600));
        let file = replacing(folder, name, path, "make the file", make)?;
        let mut end = 0;
        while let Some((offset, piece)) = archive.data()? {
            write_at(&file, piece, offset).map_err(|error| failed("write", path, error))?;
            end = offset + piece.len() as u64;
        }
        if end < entry.size {
            rustix::fs::ftruncate(&file, entry.size).map_err(|error| failed("write", path, error))?;
        }
        self.attributes(&file, path, entry)?;
        set_times(&file, path, entry.accessed, entry.modified)
    }

    fn hard_link(&self, folder: BorrowedFd<'_>, name: &[u8], path: &[u8], entry: &Entry) -> Result<(), CopyError> {
        let target = self.inside(&entry.link, &entry.path)?;
        if target == path {
            return Ok(());
        }
        let (parent, last) = split(&target);
        let parent = open(self.root, parent, OFlags::PATH | OFlags::DIRECTORY)
            .map_err(|error| failed("make a hard link to", &target, error))?;
        replacing(folder, name, path, "make the hard link", || linkat(&parent, last, folder, name, AtFlags::empty()))
    }

    /// A link, a device or a pipe.
    fn other(&self, folder: BorrowedFd<'_>, name: &[u8], path: &[u8], entry: &Entry) -> Result<(), CopyError> {
        let kind = match entry.kind {
            EntryKind::SymbolicLink => FileType::Symlink,
            EntryKind::CharacterDevice => FileType::CharacterDevice,
            EntryKind::BlockDevice => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        let device = if kind == FileType::Fifo { 0 } else { makedev(entry.device.0, entry.device.1) };
        replacing(folder, name, path, "make", || match kind {
            FileType::Symlink => symlinkat(entry.link.as_slice(), folder, name),
            kind => mknodat(folder, name, kind, Mode::from_raw_mode(0o600), device),
        })?;
        let node = Node::find(folder, name).map_err(|error| failed("look at", path, error))?;
        // Somebody has put something else there meanwhile: that is not ours to change.
        let Some(node) = node.filter(|node| node.kind() == kind && node.stat.st_nlink == 1) else { return Ok(()) };
        self.attributes(node.descriptor(), path, entry)?;
        set_times(node.descriptor(), path, entry.accessed, entry.modified)
    }

    /// Owner, attributes and mode, in this order: giving a file away clears its set-id bits and capabilities.
    fn attributes(&self, held: impl AsFd, path: &[u8], entry: &Entry) -> Result<(), CopyError> {
        let (uid, gid) = self.options.owner.unwrap_or((entry.uid, entry.gid));
        chownat(&held, "", Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::EMPTY_PATH)
            .map_err(|error| failed("set the owner of", path, error))?;
        let by_descriptor = by_descriptor(&held);
        for xattr in entry.xattrs.iter().filter(|xattr| xattr.name != DEFAULT_ACL) {
            match rustix::fs::setxattr(&by_descriptor, xattr.name.as_slice(), &xattr.value, XattrFlags::empty()) {
                // As docker does: not every file system and namespace has them all.
                Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                Err(error) => return Err(failed("set an extended attribute of", path, error)),
            }
        }
        if entry.kind != EntryKind::SymbolicLink {
            rustix::fs::chmod(&by_descriptor, Mode::from_raw_mode(entry.mode))
                .map_err(|error| failed("set the mode of", path, error))?;
        }
        Ok(())
    }

    fn finish(self) -> Result<(), CopyError> {
        // What is in a folder comes after it.
        for Later { path, accessed, modified, default_acl } in self.later.iter().rev() {
            let (folder, name) = split(path);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let opened = open(self.root, folder, OFlags::PATH | OFlags::DIRECTORY);
            // It may have gone meanwhile.
            let Ok(held) = opened.and_then(|folder| openat(folder, name, flags, Mode::empty())) else { continue };
            if let Some(acl) = default_acl {
                match rustix::fs::setxattr(by_descriptor(&held), DEFAULT_ACL, acl, XattrFlags::empty()) {
                    Ok(()) | Err(Errno::NOTSUP | Errno::PERM) => {}
                    Err(error) => return Err(failed("set an extended attribute of", path, error)),
                }
            }
            set_times(&held, path, *accessed, *modified)?;
        }
        Ok(())
    }
}

/// A path to exactly what is held, for calls that take no such descriptor.
fn by_descriptor(held: impl AsFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", held.as_fd().as_raw_fd())
}

fn set_times(held: impl AsFd, path: &[u8], accessed: Option<Time>, modified: Time) -> Result<(), CopyError> {
    rustix::fs::utimensat(rustix::fs::CWD, by_descriptor(held), &times(accessed, modified), AtFlags::empty())
        .map_err(|error| failed("set the times of", path, error))
}

/// Makes something, and removes what is there of the same name.
fn replacing<T>(
    folder: BorrowedFd<'_>,
    name: &[u8],
    path: &[u8],
    action: &'static str,
    make: impl Fn() -> Result<T, Errno>,
) -> Result<T, CopyError> {
    let mut tries = 0;
    loop {
        match make() {
            Err(Errno::EXIST) if tries < TRIES => {
                tries += 1;
                remove(folder, name, path)?;
            }
            made => return made.map_err(|error| failed(action, path, error)),
        }
    }
}

/// Removes something with all that is in it, but nothing that is mounted there.
fn remove(folder: BorrowedFd<'_>, name: &[u8], path: &[u8]) -> Result<(), CopyError> {
    let failure = |error| failed("replace", path, error);
    let enter = |folder: BorrowedFd<'_>, name: &[u8]| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_XDEV | ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        openat2(folder, name, flags, Mode::empty(), resolve)
    };
    match unlinkat(folder, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(failure(error)),
    }
    let inside = match enter(folder, name) {
        Err(Errno::NOENT) => return Ok(()),
        inside => inside.map_err(failure)?,
    };
    let left = names(inside.as_fd()).map_err(failure)?;
    let mut levels = vec![(inside, name.to_vec(), left)];
    while let Some((inside, _, left)) = levels.last_mut() {
        if let Some(name) = left.pop() {
            match unlinkat(&*inside, name.as_slice(), AtFlags::empty()) {
                Err(Errno::ISDIR) => match enter(inside.as_fd(), &name) {
                    Ok(deeper) => {
                        let left = names(deeper.as_fd()).map_err(failure)?;
                        levels.push((deeper, name, left));
                    }
                    Err(Errno::NOENT) => {}
                    Err(error) => return Err(failure(error)),
                },
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(failure(error)),
            }
        } else if let Some((_, name, _)) = levels.pop() {
            let parent = levels.last().map_or(folder, |(parent, ..)| parent.as_fd());
            match unlinkat(parent, name.as_slice(), AtFlags::REMOVEDIR) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(failure(error)),
            }
        }
    }
    Ok(())
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    let slash = memchr::memrchr(b'/', path).unwrap_or_default();
    (&path[..slash], &path[slash + 1..])
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
