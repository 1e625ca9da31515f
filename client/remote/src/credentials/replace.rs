//! Changes a file of secrets so that no reader sees half of it and no writer loses another's entry.
//!
//! Under a lock beside the file: read, change, write new with mode 0600, fsync, rename, fsync of the folder. A
//! symbolic link stays one: what it leads to is replaced. A file that is a mount point of its own (a container's
//! bind mount) cannot be renamed over and is written in place, as is one in a folder that we may not write.

use std::ffi::OsString;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::CredentialError;

/// Most links that are followed, as the kernel does.
const LINK_LIMIT: usize = 40;

/// Reads the file under its lock, lets `change` make the new text and puts that in its place; `None` from it changes
/// nothing. Returns the file that was written, links resolved.
pub(super) fn replace(
    path: &Path,
    change: impl FnOnce(&[u8], &Path) -> Result<Option<Vec<u8>>, CredentialError>,
) -> Result<bool, CredentialError> {
    let target = follow(path)?;
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !folder.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let _lock = lock(folder, &target)?;
    let before = match fs_err::read(&target) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    match change(&before, &target)? {
        Some(text) => write(folder, &target, &text).map(|()| true),
        None => Ok(false),
    }
}

/// Where the path leads, also if the last link leads to nothing yet.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINK_LIMIT {
        match std::fs::read_link(&path) {
            Ok(to) => path = path.parent().unwrap_or(Path::new("")).join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::from(Errno::LOOP))
}

/// Waits until no other process of ours changes the file. The lock is a file beside it, because the file itself is
/// replaced; where none can be made there, the file itself, which then can only be written in place.
fn lock(folder: &Path, target: &Path) -> io::Result<Option<std::fs::File>> {
    let mut name = OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".cove-lock");
    let beside =
        std::fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(folder.join(name));
    let file = match beside {
        Ok(file) => file,
        Err(_) => match std::fs::OpenOptions::new().read(true).write(true).open(target) {
            Ok(file) => file,
            Err(_) => return Ok(None), // the write itself tells what is wrong
        },
    };
    flock(&file, FlockOperation::LockExclusive)?;
    Ok(Some(file))
}

fn write(folder: &Path, target: &Path, text: &[u8]) -> Result<(), CredentialError> {
    match renamed(folder, target, text) {
        Ok(()) => Ok(()),
        Err(error) if target.exists() && must_write_in_place(&error) => in_place(target, text).map_err(Into::into),
        Err(error) => Err(error.into()),
    }
}

/// A mount point (EBUSY), a folder or a file system that takes no new file, an owner that we cannot give.
fn must_write_in_place(error: &io::Error) -> bool {
    let kinds = [Errno::BUSY, Errno::ACCESS, Errno::PERM, Errno::ROFS, Errno::INVAL, Errno::XDEV];
    kinds.iter().any(|kind| error.raw_os_error() == Some(kind.raw_os_error()))
}

fn renamed(folder: &Path, target: &Path, text: &[u8]) -> io::Result<()> {
    // tempfile makes it with mode 0600 and removes it unless it is persisted.
    let mut file = tempfile::Builder::new().prefix(".config.").suffix(".new").tempfile_in(folder)?;
    file.write_all(text)?;
    // `sudo cove login` must not leave a user with a file that only root can read.
    let owner = std::fs::metadata(target).or_else(|_| std::fs::metadata(folder))?;
    let mine = file.as_file().metadata()?;
    if rustix::process::geteuid().is_root() && (owner.uid(), owner.gid()) != (mine.uid(), mine.gid()) {
        std::os::unix::fs::fchown(file.as_file(), Some(owner.uid()), Some(owner.gid()))?;
    }
    file.as_file().sync_all()?;
    file.persist(target).map_err(|error| error.error)?;
    std::fs::File::open(folder)?.sync_all()
}

fn in_place(target: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = fs_err::OpenOptions::new().read(true).write(true).open(target)?;
    // Before there is a secret in it. A file of somebody else's keeps its mode.
    let _ = file.file().set_permissions(std::fs::Permissions::from_mode(0o600));
    let mut old = Vec::new();
    file.read_to_end(&mut old)?;
    file.seek(SeekFrom::Start(0))?;
    let written = file.write_all(text).and_then(|()| file.set_len(text.len() as u64)).and_then(|()| file.sync_all());
    if written.is_err() {
        // A full disk: the old text fits where it was.
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&old)?;
        file.set_len(old.len() as u64)?;
    }
    written
}
