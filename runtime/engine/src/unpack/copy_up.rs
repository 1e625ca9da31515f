//! Copying a file or its attributes from a lower layer.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, SeekFrom, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::UnpackError;
use super::attributes::{Attributes, DEFAULT_ACL, On, failed, through_descriptor};
use super::below::file_type;

/// Copies owner and extended attributes, but not a default ACL, which it gives back: it must be set last.
pub(super) fn copy_attributes(
    attributes: &Attributes,
    from: &OwnedFd,
    stat: &Stat,
    to: &On<'_>,
    path: &[u8],
) -> Result<Option<Vec<u8>>, UnpackError> {
    let failure = |error| failed("copy the attributes of", path, error);
    if attributes.sets_owners() {
        to.set_owner(stat.st_uid, stat.st_gid).map_err(failure)?;
    }
    let mut default_acl = None;
    let list = read_all(|buffer| rustix::fs::flistxattr(from, buffer)).map_err(failure)?;
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if attributes.is_private(name) {
            continue;
        }
        let value = read_all(|buffer| rustix::fs::fgetxattr(from, name, buffer)).map_err(failure)?;
        if name == DEFAULT_ACL {
            default_acl = Some(value);
        } else {
            copy_xattr(to, name, &value).map_err(failure)?;
        }
    }
    Ok(default_acl)
}

fn copy_xattr(to: &On<'_>, name: &[u8], value: &[u8]) -> Result<(), Errno> {
    match to.set_xattr(name, value) {
        // What this user could not set on the file below, nobody misses here.
        Err(Errno::PERM | Errno::NOTSUP) => Ok(()),
        set => set,
    }
}

/// Copies what is called `name` in the folder `from`; `false` if this user cannot make such a thing.
pub(super) fn copy_up(
    attributes: &Attributes,
    from: &OwnedFd,
    name: &[u8],
    stat: &Stat,
    to: &OwnedFd,
    new_name: &[u8],
    path: &[u8],
) -> Result<bool, UnpackError> {
    let failure = |error| failed("copy from a lower layer", path, error);
    let times = Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec.cast_signed() },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec.cast_signed() },
    };
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    if file_type(stat) == FileType::RegularFile {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = rustix::fs::openat(from, name, flags, Mode::empty()).map_err(failure)?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let target = rustix::fs::openat(to, new_name, flags, Mode::from_raw_mode(0o600)).map_err(failure)?;
        copy_content(&source, &target, u64::try_from(stat.st_size).unwrap_or_default()).map_err(failure)?;
        let on = On::Open(target.as_fd());
        copy_attributes(attributes, &source, stat, &on, path)?;
        rustix::fs::fchmod(&target, mode).map_err(failure)?;
        on.set_times(&times).map_err(failure)?;
        return Ok(true);
    }
    if file_type(stat) == FileType::Symlink {
        let target = rustix::fs::readlinkat(from, name, Vec::new()).map_err(failure)?;
        rustix::fs::symlinkat(target, to, new_name).map_err(failure)?;
    } else {
        match rustix::fs::mknodat(to, new_name, file_type(stat), Mode::from_raw_mode(0o600), stat.st_rdev) {
            Err(Errno::PERM) => return Ok(false),
            made => made.map_err(failure)?,
        }
    }
    let on = On::Named(to.as_fd(), new_name);
    if attributes.sets_owners() {
        on.set_owner(stat.st_uid, stat.st_gid).map_err(failure)?;
    }
    let source = through_descriptor(from.as_fd(), name);
    let list = read_all(|buffer| rustix::fs::llistxattr(&source, buffer)).map_err(failure)?;
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !attributes.is_private(name)) {
        let value = read_all(|buffer| rustix::fs::lgetxattr(&source, name, buffer)).map_err(failure)?;
        copy_xattr(&on, name, &value).map_err(failure)?;
    }
    if file_type(stat) != FileType::Symlink {
        rustix::fs::chmodat(to, new_name, mode, rustix::fs::AtFlags::empty()).map_err(failure)?;
    }
    on.set_times(&times).map_err(failure)?;
    Ok(true)
}

/// Shares the blocks where the file system can, else copies the parts that have data.
fn copy_content(from: &OwnedFd, to: &OwnedFd, size: u64) -> Result<(), Errno> {
    if rustix::fs::ioctl_ficlone(to, from).is_ok() {
        return Ok(());
    }
    let mut offset = 0;
    while offset < size {
        let start = match rustix::fs::seek(from, SeekFrom::Data(offset)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error),
        };
        let end = rustix::fs::seek(from, SeekFrom::Hole(start))?;
        copy_range(from, to, start, end)?;
        offset = end;
    }
    rustix::fs::ftruncate(to, size)
}

fn copy_range(from: &OwnedFd, to: &OwnedFd, start: u64, end: u64) -> Result<(), Errno> {
    let (mut read, mut written) = (start, start);
    while read < end {
        let count = usize::try_from(end - read).unwrap_or(usize::MAX).min(1 << 30);
        if rustix::fs::copy_file_range(from, Some(&mut read), to, Some(&mut written), count)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Asks for the length, then for the bytes.
pub(crate) fn read_all(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
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
