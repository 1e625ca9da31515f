//! Something that was found by its name and is held: whatever takes its name later, this is what is looked at.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat};
use rustix::io::Errno;

use crate::tar::{Time, Xattr, takes_xattr};
use crate::unpack::OverlayXattr;
use cove_container::copying::read_all;

/// A held file, folder, link or device.
#[derive(Debug)]
pub(crate) struct Node {
    descriptor: OwnedFd,
    pub(crate) stat: Stat,
}

impl Node {
    /// What has this name in a folder; `None` if nothing has. A link is found itself.
    pub(crate) fn find(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Node>, Errno> {
        match openat(folder, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()) {
            Ok(descriptor) => Node::held(descriptor).map(Some),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What was opened with `O_PATH`.
    pub(crate) fn held(descriptor: OwnedFd) -> Result<Node, Errno> {
        let stat = fstat(&descriptor)?;
        Ok(Node { descriptor, stat })
    }

    pub(crate) fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    pub(crate) fn is_folder(&self) -> bool {
        self.kind() == FileType::Directory
    }

    /// What marks a name as removed to overlayfs.
    pub(crate) fn is_whiteout(&self) -> bool {
        self.kind() == FileType::CharacterDevice && self.stat.st_rdev == 0
    }

    /// When its content was changed.
    pub(crate) fn modified(&self) -> Time {
        Time { seconds: self.stat.st_mtime, nanoseconds: u32::try_from(self.stat.st_mtime_nsec).unwrap_or_default() }
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// A path to exactly this, for calls that take no such descriptor.
    pub(crate) fn path(&self) -> String {
        format!("/proc/self/fd/{}", self.descriptor.as_raw_fd())
    }

    /// Where a link leads.
    pub(crate) fn link(&self) -> Result<Vec<u8>, Errno> {
        Ok(readlinkat(&self.descriptor, "", Vec::new())?.into_bytes())
    }

    /// Opens a file to read it. Only for what is known to be one: opening a device does something to it.
    pub(crate) fn read(&self) -> Result<OwnedFd, Errno> {
        rustix::fs::open(self.path(), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// Opens a folder to list it.
    pub(crate) fn folder(&self) -> Result<OwnedFd, Errno> {
        openat(&self.descriptor, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
    }

    /// The extended attributes that belong to the image, sorted by name. Overlayfs's own stay behind, and those that it has
    /// escaped get their names back; what a security module of this machine has noted belongs to the machine.
    pub(crate) fn xattrs(&self, overlay: Option<OverlayXattr>) -> Result<Vec<Xattr>, Errno> {
        let path = self.path();
        let list = read_all(|buffer| rustix::fs::listxattr(path.as_str(), buffer))?;
        let mut xattrs = Vec::new();
        for stored in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            let mut name = stored.to_vec();
            if stored.starts_with(b"security.") && stored != b"security.capability" {
                continue;
            }
            if let Some(overlay) = overlay
                && let Some(rest) = stored.strip_prefix(overlay.prefix())
            {
                match rest.strip_prefix(b"overlay.") {
                    Some(rest) => name = [overlay.prefix(), rest].concat(),
                    None => continue,
                }
            }
            if !takes_xattr(&name) {
                continue;
            }
            match read_all(|buffer| rustix::fs::getxattr(path.as_str(), stored, buffer)) {
                Ok(value) => xattrs.push(Xattr { name, value }),
                // Removed since, or not for us.
                Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
                Err(error) => return Err(error),
            }
        }
        xattrs.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(xattrs)
    }
}

/// The names in a folder, sorted.
pub(crate) fn names(folder: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    names.sort();
    Ok(names)
}

/// What has this name in a folder; `None` if nothing has.
pub(crate) fn stat(folder: BorrowedFd<'_>, name: &[u8]) -> Result<Option<Stat>, Errno> {
    match statat(folder, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}
