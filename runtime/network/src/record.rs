//! Records: small JSON files that are there whole or not at all.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use fs_err::os::unix::fs::OpenOptionsExt;
use rustix::fs::{AtFlags, CWD, FlockOperation};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// Reads a record; `None` if there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let bytes = match fs_err::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let record = serde_json::from_slice(&bytes);
    record.map(Some).map_err(|error| Error::BrokenRecord { path: path.to_owned(), reason: error.to_string() })
}

/// Writes a record where there is none. Whether there was none.
///
/// The file has no name while it is written, so one that dies meanwhile leaves nothing. `is_lasting`: so that a power
/// cut does not take it.
pub(crate) fn create<T: Serialize>(path: &Path, record: &T, is_lasting: bool) -> Result<bool, Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let mut options = fs_err::OpenOptions::new();
    let flags = i32::try_from(rustix::fs::OFlags::TMPFILE.bits()).unwrap_or(0);
    let mut file = options.write(true).mode(0o644).custom_flags(flags).open(folder)?;
    file.write_all(&bytes(record)?)?;
    if is_lasting {
        file.sync_all()?;
    }
    let unnamed = format!("/proc/self/fd/{}", file.as_raw_fd());
    match rustix::fs::linkat(CWD, unnamed, CWD, path, AtFlags::SYMLINK_FOLLOW) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => return Ok(false),
        Err(error) => {
            let error = io::Error::from(error);
            return Err(io::Error::new(error.kind(), format!("cannot write `{}`: {error}", path.display())).into());
        }
    }
    if is_lasting {
        fs_err::File::open(folder)?.sync_all()?;
    }
    Ok(true)
}

/// Writes a record over another. Only with the lock held: two would write to one file. `is_lasting`: so that a power
/// cut does not take it.
pub(crate) fn replace<T: Serialize>(path: &Path, record: &T, is_lasting: bool) -> Result<(), Error> {
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(".new");
    let mut file = fs_err::File::create(&unfinished)?;
    file.write_all(&bytes(record)?)?;
    if is_lasting {
        file.sync_all()?;
    }
    fs_err::rename(&unfinished, path)?;
    if is_lasting {
        fs_err::File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
    }
    Ok(())
}

fn bytes<T: Serialize>(record: &T) -> Result<Vec<u8>, Error> {
    let mut bytes = serde_json::to_vec_pretty(record).map_err(io::Error::from)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Held while networks are changed. It goes with whoever holds it, also by `kill -9`.
pub(crate) struct Lock {
    _file: File,
}

/// Waits for the lock and takes it.
pub(crate) fn lock(path: &Path) -> Result<Lock, Error> {
    locked(path, FlockOperation::LockExclusive)
}

/// Waits for the lock and takes it together with others that ask so.
pub(crate) fn lock_shared(path: &Path) -> Result<Lock, Error> {
    locked(path, FlockOperation::LockShared)
}

/// Takes the lock if nobody has it.
pub(crate) fn try_lock(path: &Path) -> Result<Option<Lock>, Error> {
    match locked(path, FlockOperation::NonBlockingLockExclusive) {
        Ok(lock) => Ok(Some(lock)),
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

fn locked(path: &Path, operation: FlockOperation) -> Result<Lock, Error> {
    let file = fs_err::OpenOptions::new().write(true).create(true).truncate(false).open(path)?.into_parts().0;
    rustix::io::retry_on_intr(|| rustix::fs::flock(file.as_fd(), operation)).map_err(io::Error::from)?;
    Ok(Lock { _file: file })
}

/// An id: 64 hexadecimal digits that nothing else has.
pub(crate) fn new_id() -> Result<String, Error> {
    Ok(random::<32>()?.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Random bytes.
pub(crate) fn random<const COUNT: usize>() -> Result<[u8; COUNT], Error> {
    let mut bytes = [0; COUNT];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).map_err(io::Error::from)?;
    Ok(bytes)
}
