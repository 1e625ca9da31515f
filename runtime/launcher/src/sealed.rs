//! Runs this program from a sealed copy of itself in memory.
//!
//! The processes that enter a container could otherwise be opened from inside through `/proc/PID/exe`, and the host's
//! file be overwritten (CVE-2019-5736). Nobody can write to the copy: not through the seals, and it is nobody else's.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use rustix::fs::{MemfdFlags, SealFlags};

use crate::syscalls::execveat;

const SEALS: SealFlags = SealFlags::WRITE.union(SealFlags::GROW).union(SealFlags::SHRINK).union(SealFlags::SEAL);

/// Comes back only in a process that runs from a sealed copy.
pub fn ensure_sealed() -> io::Result<()> {
    let own = File::open("/proc/self/exe")?;
    // Only files in memory know seals.
    if rustix::fs::fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SEALS)) {
        return Ok(());
    }
    let copy = copy(&own)?;
    let words = |words: &mut dyn Iterator<Item = Vec<u8>>| words.map(CString::new).collect::<Result<Vec<_>, _>>();
    let arguments = words(&mut std::env::args_os().map(OsStringExt::into_vec))?;
    let environment =
        words(&mut std::env::vars_os().map(|(name, value)| [name.into_vec(), value.into_vec()].join(&b'=')))?;
    Err(execveat(copy.as_fd(), &arguments, &environment))
}

fn copy(own: &File) -> io::Result<OwnedFd> {
    let copy = rustix::fs::memfd_create("cove-runtime", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut left = usize::try_from(own.metadata()?.len()).map_err(io::Error::other)?;
    while left > 0 {
        match rustix::fs::sendfile(&copy, own, None, left)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => left = left.saturating_sub(count),
        }
    }
    rustix::fs::fcntl_add_seals(&copy, SEALS)?;
    Ok(copy)
}
