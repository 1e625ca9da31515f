//! The host's procfs, opened once before anything of the container is there.
//!
//! What is written below `/proc` decides how a process is confined. A container that could put something else there
//! would decide it instead (CVE-2019-16884, CVE-2025-52881): so the file system's kind is looked at, and paths below it
//! follow no link and leave it for no mount.

use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags};

/// A descriptor of `/proc` of the namespace that this process was started in.
#[derive(Debug)]
pub(crate) struct Proc(OwnedFd);

impl Proc {
    pub(crate) fn open() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let folder = rustix::fs::openat(CWD, c"/proc", flags, Mode::empty())?;
        if rustix::fs::fstatfs(&folder)?.f_type != PROC_SUPER_MAGIC {
            return Err(io::Error::other("/proc is not a proc file system: mount one there"));
        }
        Ok(Self(folder))
    }

    /// Opens a file below it.
    pub(crate) fn file(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_SYMLINKS;
        Ok(rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)?)
    }

    /// Writes a file below it, in one piece.
    pub(crate) fn write(&self, path: &str, text: &[u8]) -> io::Result<()> {
        std::fs::File::from(self.file(path, OFlags::WRONLY)?).write_all(text)
    }

    /// Reads a small file below it.
    pub(crate) fn read(&self, path: &str) -> io::Result<String> {
        io::read_to_string(std::fs::File::from(self.file(path, OFlags::RDONLY)?))
    }

    /// Opens what a magic link in a folder below it stands for.
    pub(crate) fn link(&self, folder: &str, name: &str) -> io::Result<OwnedFd> {
        let folder = self.file(folder, OFlags::PATH | OFlags::DIRECTORY)?;
        Ok(rustix::fs::openat(&folder, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
    }

    /// This process as it is known there: `self` is a link, and its number may not be the one that it knows itself by.
    pub(crate) fn own(&self) -> io::Result<String> {
        let link = rustix::fs::readlinkat(&self.0, c"self", Vec::new())?;
        link.into_string().map_err(io::Error::other)
    }
}
