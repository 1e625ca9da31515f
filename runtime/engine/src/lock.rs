//! Locks on files, which the kernel gives back when their owner dies.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// A file that is locked for as long as this lives. The file stays.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code)] File);

fn open(path: &Path) -> io::Result<File> {
    let file = fs_err::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    Ok(file.into_parts().0)
}

impl Lock {
    /// Waits for the lock. Only for locks that are held for short moments.
    pub(crate) fn wait(path: &Path) -> io::Result<Lock> {
        let file = open(path)?;
        loop {
            match flock(&file, FlockOperation::LockExclusive) {
                Ok(()) => return Ok(Lock(file)),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Locks an open file or folder if nobody else has.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A lock whose file goes when it is given back, for locks of which there are many.
#[derive(Debug)]
pub(crate) struct PassingLock {
    path: PathBuf,
    _file: File,
}

impl PassingLock {
    /// The lock, if nobody else has it.
    pub(crate) fn take(path: &Path) -> io::Result<Option<PassingLock>> {
        loop {
            let file = open(path)?;
            if !try_lock(&file)? {
                return Ok(None);
            }
            // Whoever had it before may have removed the file between our two steps: then we hold a lock that
            // nobody else can see.
            match std::fs::metadata(path) {
                Ok(found) if found.ino() == file.metadata()?.ino() => {
                    return Ok(Some(PassingLock { path: path.to_owned(), _file: file }));
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for PassingLock {
    fn drop(&mut self) {
        // While it is still locked: see `take`.
        let _ = std::fs::remove_file(&self.path);
    }
}
