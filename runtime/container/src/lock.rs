//! The two locks of a container.
//!
//! *Alive* is held by its monitor for as long as it lives, and by nobody else: a POSIX record lock, which children do not
//! inherit (`flock` and open file description locks they would, and the container's processes would keep it for a
//! monitor that is dead). *Operation* orders commands: shared by those that read the files, exclusive for those that
//! start or remove.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Pid;

use crate::Error;

fn open(path: &Path) -> Result<File, Error> {
    let options = File::options().read(true).write(true).create(true).truncate(false).open(path);
    options.map_err(Error::system("open", path))
}

/// Held by a monitor for life. Whoever holds it must not open and close the file a second time: that would give it back.
#[derive(Debug)]
pub struct Alive {
    _file: File,
}

impl Alive {
    /// Takes the lock; `None` if a monitor has it.
    ///
    /// # Errors
    /// A file that cannot be made.
    pub fn take(path: &Path) -> Result<Option<Self>, Error> {
        let file = open(path)?;
        match rustix::fs::fcntl_lock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Self { _file: file })),
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(Error::system("lock", path)(error)),
        }
    }

    /// Whether a monitor has the lock.
    pub fn is_held(path: &Path) -> bool {
        Self::asked(path).is_some()
    }

    /// The process that has the lock, where it can be seen from here.
    pub fn holder(path: &Path) -> Option<Pid> {
        Self::asked(path).and_then(Pid::from_raw)
    }

    /// The number of who has the lock, 0 for one in another process namespace. Does not take it, not for a moment either: a
    /// monitor that is about to must get it.
    fn asked(path: &Path) -> Option<i32> {
        let file = File::open(path).ok()?;
        // SAFETY: all zeroes is a valid flock.
        let mut asked: libc::flock = unsafe { std::mem::zeroed() };
        asked.l_type = libc::F_WRLCK as libc::c_short;
        asked.l_whence = libc::SEEK_SET as libc::c_short;
        // SAFETY: the descriptor is open and the structure is ours for the call.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETLK, &raw mut asked) };
        (result == 0 && asked.l_type != libc::F_UNLCK as libc::c_short).then_some(asked.l_pid.max(0))
    }
}

/// Orders the commands that work on one container.
#[derive(Debug)]
pub struct Operation {
    _file: File,
}

impl Operation {
    /// Waits for the lock together with others who only read.
    ///
    /// # Errors
    /// A file that cannot be made.
    pub fn shared(path: &Path) -> Result<Self, Error> {
        Self::wait(path, FlockOperation::LockShared)
    }

    /// Waits until nobody else has the lock.
    ///
    /// # Errors
    /// A file that cannot be made.
    pub fn exclusive(path: &Path) -> Result<Self, Error> {
        Self::wait(path, FlockOperation::LockExclusive)
    }

    fn wait(path: &Path, operation: FlockOperation) -> Result<Self, Error> {
        let file = open(path)?;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Self { _file: file }),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(Error::system("lock", path)(io::Error::from(error))),
            }
        }
    }
}
