//! Copying what is in a folder, as deep as it likes, with two open folders at most.
//!
//! Nobody else changes either side: the source is a mount that only we have, the target a folder that nobody knows yet.

use std::collections::HashMap;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fchmod, fstat, linkat, mkdirat, openat, statat};
use rustix::io::Errno;

use crate::copying::{Copying, DEFAULT_ACL, On, times_of};

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// The longest path that the kernel takes.
const LONGEST: usize = 4095;

/// Why something was not copied: where, and what the system says.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) path: PathBuf,
    pub(super) error: Errno,
}

/// Copies what is in `from` into `to`, and what `from` is like. Devices that this user cannot make are left out.
pub(super) fn copy_folder(from: BorrowedFd<'_>, to: BorrowedFd<'_>, copying: &Copying<'_>) -> Result<(), Failed> {
    let mut walk = Walk { copying, root: to, path: Vec::new(), names: HashMap::new() };
    walk.run(from).map_err(|error| Failed { path: PathBuf::from(std::ffi::OsString::from_vec(walk.path)), error })
}

/// Gives a folder the owner, the attributes, the mode and the times of another: after everything in it was made.
pub(super) fn copy_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, copying: &Copying<'_>) -> Result<(), Errno> {
    let stat = fstat(from)?;
    let on = On::Open(to);
    let default_acl = copying.attributes(from, &stat, &on)?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    if let Some(acl) = default_acl {
        match on.set_xattr(DEFAULT_ACL, &acl) {
            Err(Errno::PERM | Errno::NOTSUP) => {}
            set => set?,
        }
    }
    on.set_times(&times_of(&stat))
}

struct Walk<'a> {
    copying: &'a Copying<'a>,
    root: BorrowedFd<'a>,
    /// Where we are, from the root of the copy.
    path: Vec<u8>,
    /// Files that have several names: the first that was copied, by device and inode.
    names: HashMap<(u64, u64), Vec<u8>>,
}

/// A folder on the way down, and the folders in it that are left.
struct Level {
    length: usize,
    folders: Vec<CString>,
}

impl Walk<'_> {
    fn run(&mut self, from: BorrowedFd<'_>) -> Result<(), Errno> {
        // Descriptors of our own: a folder that was read is at its end for everybody who shares it.
        let mut here = (openat(from, ".", FOLDER, Mode::empty())?, openat(self.root, ".", FOLDER, Mode::empty())?);
        let mut levels = vec![Level { length: 0, folders: self.files(&here.0, &here.1)? }];
        while let Some(level) = levels.last_mut() {
            if let Some(name) = level.folders.pop() {
                let length = self.path.len();
                self.enter(name.as_bytes());
                mkdirat(&here.1, &name, Mode::from_raw_mode(0o700))?;
                let next = |folder: &OwnedFd| openat(folder, &name, FOLDER, Mode::empty());
                here = (next(&here.0)?, next(&here.1)?);
                levels.push(Level { length, folders: self.files(&here.0, &here.1)? });
            } else if let Some(level) = levels.pop() {
                copy_attributes(here.0.as_fd(), here.1.as_fd(), self.copying)?;
                if !levels.is_empty() {
                    let above = |folder: &OwnedFd| openat(folder, "..", FOLDER, Mode::empty());
                    here = (above(&here.0)?, above(&here.1)?);
                }
                self.path.truncate(level.length);
            }
        }
        Ok(())
    }

    fn enter(&mut self, name: &[u8]) {
        if !self.path.is_empty() {
            self.path.push(b'/');
        }
        self.path.extend_from_slice(name);
    }

    /// Copies what is no folder in a folder; the folders are left.
    fn files(&mut self, from: &OwnedFd, to: &OwnedFd) -> Result<Vec<CString>, Errno> {
        let mut folders = Vec::new();
        for entry in Dir::read_from(from)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = match statat(from, name, AtFlags::SYMLINK_NOFOLLOW) {
                // Overlayfs lists whiteouts of a folder that only one layer has.
                Err(Errno::NOENT) => continue,
                found => found?,
            };
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                folders.push(name.to_owned());
                continue;
            }
            let length = self.path.len();
            self.enter(name.to_bytes());
            if !self.link(to, name.to_bytes(), &stat)? {
                self.copying.file(from, name.to_bytes(), &stat, to, name.to_bytes())?;
            }
            self.path.truncate(length);
        }
        Ok(folders)
    }

    /// Gives a file that was copied under another name this one too; `false` if it was not.
    fn link(&mut self, to: &OwnedFd, name: &[u8], stat: &Stat) -> Result<bool, Errno> {
        if stat.st_nlink < 2 || self.path.len() > LONGEST {
            return Ok(false);
        }
        match self.names.get(&(stat.st_dev, stat.st_ino)) {
            Some(first) => match linkat(self.root, first.as_slice(), to, name, AtFlags::empty()) {
                Ok(()) => Ok(true),
                // A file system without them, or a file that has as many as it can: a copy then. So with a device that
                // could not be made.
                Err(Errno::PERM | Errno::MLINK | Errno::OPNOTSUPP | Errno::NOENT) => Ok(false),
                Err(error) => Err(error),
            },
            None => {
                self.names.insert((stat.st_dev, stat.st_ino), self.path.clone());
                Ok(false)
            }
        }
    }
}
