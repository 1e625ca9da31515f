//! Copying single files and the attributes of folders, with everything that a file system knows of them.
//!
//! Owner, extended attributes, mode and times, in this order: giving a file away clears its set-id bits and capabilities.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps, Uid, XattrFlags, chmodat, chownat,
    copy_file_range, fchmod, fchown, fgetxattr, flistxattr, fsetxattr, ftruncate, futimens, ioctl_ficlone, lgetxattr,
    llistxattr, lsetxattr, mknodat, openat, readlinkat, seek, sendfile, symlinkat, utimensat,
};
use rustix::io::Errno;

/// The attribute that files and folders inherit from their folder as soon as it is set.
pub const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";

/// What is copied of a file besides its content, mode and times.
pub struct Copying<'a> {
    /// Whether owners are; a user who has one id cannot.
    pub owners: bool,
    /// Whether an extended attribute stays behind.
    pub leaves: &'a dyn Fn(&[u8]) -> bool,
}

/// What attributes are set on.
pub enum On<'a> {
    /// An open file or folder.
    Open(BorrowedFd<'a>),
    /// Something that must not be opened: a link, a device, a pipe.
    Named(BorrowedFd<'a>, &'a [u8]),
}

impl On<'_> {
    /// Sets the owner.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_owner(&self, uid: u32, gid: u32) -> Result<(), Errno> {
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self {
            On::Open(file) => fchown(file, uid, gid),
            On::Named(folder, name) => chownat(folder, *name, uid, gid, AtFlags::SYMLINK_NOFOLLOW),
        }
    }

    /// Sets an extended attribute.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_xattr(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            On::Open(file) => fsetxattr(file, name, value, XattrFlags::empty()),
            On::Named(folder, last) => {
                let path = through_descriptor(*folder, last);
                lsetxattr(path, name, value, XattrFlags::empty())
            }
        }
    }

    /// Sets when it was read and changed.
    ///
    /// # Errors
    /// What the system says.
    pub fn set_times(&self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            On::Open(file) => futimens(file, times),
            On::Named(folder, name) => utimensat(folder, *name, times, AtFlags::SYMLINK_NOFOLLOW),
        }
    }
}

/// A path to a name in an open folder, for calls that take no descriptor. The name itself is not followed by them.
pub fn through_descriptor(folder: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    [format!("/proc/self/fd/{}/", folder.as_raw_fd()).as_bytes(), name].concat()
}

/// When something was read and changed.
pub fn times_of(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec.cast_signed() },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() },
    }
}

impl Copying<'_> {
    /// Copies owner and extended attributes, but not a default ACL, which it gives back: it must be set last.
    ///
    /// # Errors
    /// What the system says.
    pub fn attributes(&self, from: impl AsFd, stat: &Stat, to: &On<'_>) -> Result<Option<Vec<u8>>, Errno> {
        let from = from.as_fd();
        if self.owners {
            to.set_owner(stat.st_uid, stat.st_gid)?;
        }
        let mut default_acl = None;
        let list = read_all(|buffer| flistxattr(from, buffer))?;
        for name in self.names(&list) {
            let value = read_all(|buffer| fgetxattr(from, name, buffer))?;
            if name == DEFAULT_ACL {
                default_acl = Some(value);
            } else {
                copy_xattr(to, name, &value)?;
            }
        }
        Ok(default_acl)
    }

    fn names<'list>(&self, list: &'list [u8]) -> impl Iterator<Item = &'list [u8]> + use<'_, 'list> {
        list.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !(self.leaves)(name))
    }

    /// Copies what is called `name` in the folder `from` and is no folder; `false` if this user cannot make such a thing.
    ///
    /// # Errors
    /// What the system says; there may be a part of it then.
    pub fn file(
        &self,
        from: impl AsFd,
        name: &[u8],
        stat: &Stat,
        to: impl AsFd,
        new_name: &[u8],
    ) -> Result<bool, Errno> {
        let (from, to) = (from.as_fd(), to.as_fd());
        let kind = FileType::from_raw_mode(stat.st_mode);
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        if kind == FileType::RegularFile {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let source = openat(from, name, flags, Mode::empty())?;
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let target = openat(to, new_name, flags, Mode::from_raw_mode(0o600))?;
            copy_content(&source, &target, u64::try_from(stat.st_size).unwrap_or_default())?;
            let on = On::Open(target.as_fd());
            self.attributes(&source, stat, &on)?;
            fchmod(&target, mode)?;
            on.set_times(&times_of(stat))?;
            return Ok(true);
        }
        if kind == FileType::Symlink {
            let target = readlinkat(from, name, Vec::new())?;
            symlinkat(target, to, new_name)?;
        } else {
            match mknodat(to, new_name, kind, Mode::from_raw_mode(0o600), stat.st_rdev) {
                Err(Errno::PERM) => return Ok(false),
                made => made?,
            }
        }
        let on = On::Named(to, new_name);
        if self.owners {
            on.set_owner(stat.st_uid, stat.st_gid)?;
        }
        let source = through_descriptor(from, name);
        let list = read_all(|buffer| llistxattr(&source, buffer))?;
        for name in self.names(&list) {
            let value = read_all(|buffer| lgetxattr(&source, name, buffer))?;
            copy_xattr(&on, name, &value)?;
        }
        if kind != FileType::Symlink {
            chmodat(to, new_name, mode, AtFlags::empty())?;
        }
        on.set_times(&times_of(stat))?;
        Ok(true)
    }
}

fn copy_xattr(to: &On<'_>, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    match to.set_xattr(name, value) {
        // What this user could not set on the file below, nobody misses here.
        Err(Errno::PERM | Errno::NOTSUP) => Ok(()),
        set => set,
    }
}

/// Shares the blocks where the file system can, else copies the parts that have data.
fn copy_content(from: &OwnedFd, to: &OwnedFd, size: u64) -> Result<(), Errno> {
    if ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut offset = 0;
    while offset < size {
        let start = match seek(from, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error),
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        copy_range(from, to, start, end)?;
        offset = end;
    }
    ftruncate(to, size)
}

fn copy_range(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> Result<(), Errno> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let count = usize::try_from(end - read).unwrap_or(usize::MAX).min(1 << 30);
        match copy_file_range(from, Some(&mut read), to, Some(&mut written), count) {
            Ok(0) => break,
            Ok(_) => {}
            // From one kind of file system to another, as out of an overlay.
            Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                return send_range(from, to, read, end);
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn send_range(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> Result<(), Errno> {
    seek(to, SeekFrom::Start(start))?;
    let mut read = start;
    while read < end {
        let count = usize::try_from(end - read).unwrap_or(usize::MAX).min(1 << 30);
        if sendfile(to, from, Some(&mut read), count)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Asks for the length, then for the bytes.
pub fn read_all(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 1024];
    loop {
        match read(&mut buffer) {
            Ok(length) => {
                buffer.truncate(length);
                return Ok(buffer);
            }
            // The kernel's largest list and value have 64 KiB.
            Err(Errno::RANGE) if buffer.len() < 1 << 17 => buffer.resize(buffer.len() * 4, 0),
            Err(Errno::NOTSUP) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        }
    }
}
