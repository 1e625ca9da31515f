//! `tmpcopyup`: a new tmpfs begins with what is in the folder that it covers. An option that crun and runc have, and podman
//! uses; the specification does not know it.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid};

use crate::mounts::tree::Tree;
use crate::mounts::within::Within;

/// Deeper trees are not copied: nobody means that.
const DEEPEST: usize = 64;

/// Copies files, folders and links, with owners and modes.
pub(crate) fn copy(within: &Within, path: &Path, tree: &Tree) -> io::Result<()> {
    match within.open(path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(folder) => copy_folder(folder.as_fd(), tree.as_fd(), DEEPEST),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn copy_folder(from: BorrowedFd<'_>, to: BorrowedFd<'_>, deepest: usize) -> io::Result<()> {
    let Some(deeper) = deepest.checked_sub(1) else { return Err(rustix::io::Errno::LOOP.into()) };
    for entry in Dir::read_from(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy_entry(from, to, name, deeper)?;
        }
    }
    Ok(())
}

fn copy_entry(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, deeper: usize) -> io::Result<()> {
    let found = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(found.st_mode);
    let none = Mode::empty();
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match FileType::from_raw_mode(found.st_mode) {
        FileType::Directory => {
            rustix::fs::mkdirat(to, name, Mode::from_raw_mode(0o700))?;
            let folder = rustix::fs::openat(from, name, flags | OFlags::RDONLY | OFlags::DIRECTORY, none)?;
            let copy = rustix::fs::openat(to, name, flags | OFlags::RDONLY | OFlags::DIRECTORY, none)?;
            copy_folder(folder.as_fd(), copy.as_fd(), deeper)?;
        }
        FileType::RegularFile => {
            let file = rustix::fs::openat(from, name, flags | OFlags::RDONLY, none)?;
            let new = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
            let copy = rustix::fs::openat(to, name, new, Mode::from_raw_mode(0o600))?;
            io::copy(&mut std::fs::File::from(file), &mut std::fs::File::from(copy))?;
        }
        FileType::Symlink => {
            let text = rustix::fs::readlinkat(from, name, Vec::new())?;
            rustix::fs::symlinkat(text, to, name)?;
        }
        // Devices, pipes and sockets are made by those who use them.
        _ => return Ok(()),
    }
    let owner = (Uid::from_raw(found.st_uid), Gid::from_raw(found.st_gid));
    rustix::fs::chownat(to, name, Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) != FileType::Symlink {
        rustix::fs::chmodat(to, name, mode, AtFlags::empty())?;
    }
    Ok(())
}
