//! A cgroup as an open folder: everything is read and written by descriptor below it.
//!
//! The descriptor is known to be in a cgroup file system, and what is opened below it must be in the same one, so no
//! file that somebody put in the way is ever taken for a cgroup (CVE-2019-16884 and its class).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::CgroupError;

/// The version of the interface that a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Version {
    /// A hierarchy with the controllers that it was mounted with.
    V1,
    /// The unified hierarchy.
    V2,
}

/// Whether folders must be in a cgroup file system. Only tests on imitated trees answer no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Check {
    /// They must.
    #[default]
    Kernel,
    /// Ordinary folders will do.
    #[cfg(test)]
    Imitated,
}

/// What `fstatfs` says of the two file systems (`linux/magic.h`).
const CGROUP_MAGIC: i64 = 0x0027_e0eb;
const CGROUP2_MAGIC: i64 = 0x6367_7270;

/// An open cgroup.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

impl Folder {
    /// Opens a cgroup by its absolute path and looks whether it is one.
    pub(super) fn open(path: &Path, version: Version, check: Check) -> Result<Folder, CgroupError> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let open_error = |error: Errno| CgroupError::Open { path: path.to_owned(), source: error.into() };
        let fd = rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(open_error)?;
        let magic = rustix::fs::fstatfs(&fd).map_err(open_error)?.f_type as i64;
        let expected = match version {
            Version::V1 => CGROUP_MAGIC,
            Version::V2 => CGROUP2_MAGIC,
        };
        if check == Check::Kernel && magic != expected {
            return Err(CgroupError::NotCgroup { path: path.to_owned() });
        }
        Ok(Folder { fd, path: path.to_owned() })
    }

    /// Its absolute path.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a cgroup below this one.
    pub(super) fn below(&self, relative: &Path) -> io::Result<Folder> {
        let fd = self.open_below(relative, OFlags::PATH | OFlags::DIRECTORY)?;
        let path = if relative == Path::new(".") { self.path.clone() } else { self.path.join(relative) };
        Ok(Folder { fd, path })
    }

    /// Opens a file of the cgroup, or something in a cgroup below it; never anything that is mounted over it.
    pub(super) fn open_below(&self, relative: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        Ok(rustix::fs::openat2(&self.fd, relative, flags | OFlags::CLOEXEC, Mode::empty(), within)?)
    }

    /// Makes a cgroup below this one, with those that lead to it, and opens it. `made` learns of each that was not there.
    pub(super) fn make(&self, relative: &Path, made: &mut Vec<PathBuf>) -> Result<Folder, CgroupError> {
        // Mostly all but the last are there.
        match self.make_one(relative, made) {
            Err(CgroupError::Make { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                for ancestor in levels(relative) {
                    self.make_one(&ancestor, made)?;
                }
            }
            result => result?,
        }
        self.below(relative).map_err(|source| CgroupError::Open { path: self.path.join(relative), source })
    }

    /// Makes one cgroup below this one unless it is there.
    fn make_one(&self, relative: &Path, made: &mut Vec<PathBuf>) -> Result<(), CgroupError> {
        match rustix::fs::mkdirat(&self.fd, relative, Mode::from_raw_mode(0o755)) {
            Ok(()) => made.push(self.path.join(relative)),
            Err(Errno::EXIST) => {}
            Err(error) => {
                return Err(CgroupError::Make { path: self.path.join(relative), source: error.into() });
            }
        }
        Ok(())
    }

    /// Writes a value in one go, as the files of cgroups want it.
    pub(super) fn try_write(&self, file: &str, value: &str) -> io::Result<()> {
        write_to(&self.open_below(Path::new(file), OFlags::WRONLY)?, value)?;
        #[cfg(test)]
        super::tests::note(self.path.join(file), value);
        Ok(())
    }

    /// Writes values to files, each for itself; a file that gets several in a row is opened once.
    pub(super) fn write_lines(&self, lines: &[(&'static str, String)]) -> Result<(), CgroupError> {
        for same in lines.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((file, first)) = same.first() else { continue };
            let open = self.open_below(Path::new(file), OFlags::WRONLY);
            let open = open.map_err(|source| self.not_written(file, first, source))?;
            for (file, line) in same {
                write_to(&open, line).map_err(|source| self.not_written(file, line, source))?;
                #[cfg(test)]
                super::tests::note(self.path.join(file), line);
            }
        }
        Ok(())
    }

    /// Writes a value; the error names the file.
    pub(super) fn write(&self, file: &str, value: &str) -> Result<(), CgroupError> {
        self.try_write(file, value).map_err(|source| self.not_written(file, value, source))
    }

    /// The error of a value that was not taken.
    pub(super) fn not_written(&self, file: &str, value: &str, source: io::Error) -> CgroupError {
        CgroupError::Write { value: value.to_owned(), path: self.path.join(file), source }
    }

    /// Reads a file of the cgroup.
    pub(super) fn try_read(&self, file: &str) -> io::Result<String> {
        read_all(&self.open_below(Path::new(file), OFlags::RDONLY)?)
    }

    /// Reads a file of the cgroup; the error names it.
    pub(super) fn read(&self, file: &str) -> Result<String, CgroupError> {
        self.try_read(file).map_err(|source| CgroupError::Read { path: self.path.join(file), source })
    }

    /// Reads a file that older kernels, other versions or the root do not have.
    pub(super) fn read_if_there(&self, file: &str) -> Result<Option<String>, CgroupError> {
        match self.try_read(file) {
            Ok(text) => Ok(Some(text)),
            Err(error) if is_missing(&error) => Ok(None),
            Err(source) => Err(CgroupError::Read { path: self.path.join(file), source }),
        }
    }

    /// The names of the cgroups in this one.
    pub(super) fn children(&self) -> io::Result<Vec<PathBuf>> {
        self.entries(rustix::fs::FileType::Directory)
    }

    /// The names of its files.
    pub(super) fn files(&self) -> io::Result<Vec<String>> {
        let names = self.entries(rustix::fs::FileType::RegularFile)?;
        Ok(names.into_iter().filter_map(|name| name.into_os_string().into_string().ok()).collect())
    }

    fn entries(&self, kind: rustix::fs::FileType) -> io::Result<Vec<PathBuf>> {
        let listing = self.open_below(Path::new("."), OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::new(listing)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if entry.file_type() == kind && name != b"." && name != b".." {
                names.push(PathBuf::from(std::ffi::OsStr::from_bytes(name)));
            }
        }
        Ok(names)
    }

    /// Removes a cgroup below this one.
    pub(super) fn remove(&self, relative: &Path) -> Result<(), Errno> {
        rustix::fs::unlinkat(&self.fd, relative, rustix::fs::AtFlags::REMOVEDIR)
    }

    /// The ids of the processes that are in this cgroup itself.
    pub(super) fn processes(&self) -> Result<Vec<i32>, CgroupError> {
        let file = "cgroup.procs";
        let text = match self.try_read(file) {
            Ok(text) => text,
            // It went while we looked, or it is threaded, and its processes stand in the cgroup above.
            Err(error) if is_missing(&error) || error.raw_os_error() == Some(libc::EOPNOTSUPP) => String::new(),
            Err(source) => return Err(CgroupError::Read { path: self.path.join(file), source }),
        };
        // 0 stands for a process of another namespace: nothing could be done to it, and a signal to 0 means ourselves.
        Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|process| *process > 0).collect())
    }

    /// Calls `visit` for this cgroup and for all below it, parents first. A container can nest them deeper than there are
    /// descriptors, so only one is open at a time.
    pub(super) fn walk(&self, visit: &mut dyn FnMut(&Folder) -> Result<(), CgroupError>) -> Result<(), CgroupError> {
        let unreadable = |folder: &Folder, source| CgroupError::Read { path: folder.path.clone(), source };
        let children = |folder: &Folder| match folder.children() {
            Err(error) if is_missing(&error) => Ok(Vec::new()),
            result => result.map_err(|source| unreadable(folder, source)),
        };
        visit(self)?;
        let mut levels = vec![children(self)?];
        let mut current = self.below(Path::new(".")).map_err(|source| unreadable(self, source))?;
        while let Some(level) = levels.last_mut() {
            if let Some(name) = level.pop() {
                match current.below(&name) {
                    Ok(child) => {
                        visit(&child)?;
                        levels.push(children(&child)?);
                        current = child;
                    }
                    Err(error) if is_missing(&error) => {}
                    Err(source) => return Err(CgroupError::Open { path: current.path.join(name), source }),
                }
            } else {
                levels.pop();
                if !levels.is_empty() {
                    current = current.above().map_err(|source| unreadable(&current, source))?;
                }
            }
        }
        Ok(())
    }

    /// Opens the cgroup that this one is in. Only for those that were opened from there.
    pub(super) fn above(&self) -> io::Result<Folder> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(&self.fd, "..", flags, Mode::empty())?;
        Ok(Folder { fd, path: self.path.parent().unwrap_or(&self.path).to_owned() })
    }

    /// The processes of this cgroup and of all below it.
    pub(super) fn all_processes(&self) -> Result<Vec<i32>, CgroupError> {
        let mut all = Vec::new();
        self.walk(&mut |folder| {
            all.extend(folder.processes()?);
            Ok(())
        })?;
        Ok(all)
    }

    /// The descriptor itself.
    pub(super) fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn write_to(open: &OwnedFd, value: &str) -> io::Result<()> {
    let written = rustix::io::retry_on_intr(|| rustix::io::write(open, value.as_bytes()))?;
    if written == value.len() { Ok(()) } else { Err(Errno::INVAL.into()) }
}

/// Reads a file of the kernel to its end. Such files say that they are empty, and are made anew for every small piece.
pub(super) fn read_all(open: &OwnedFd) -> io::Result<String> {
    let mut bytes = vec![0; 4096];
    let mut length = 0;
    loop {
        if bytes.len() - length < 2048 {
            bytes.resize(bytes.len() * 4, 0);
        }
        match rustix::io::retry_on_intr(|| rustix::io::read(open, &mut bytes[length..]))? {
            0 => break,
            count => length += count,
        }
    }
    bytes.truncate(length);
    String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Whether an error says that a cgroup or its file is not there, or has gone while it was open.
pub(super) fn is_missing(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// A path and those that lead to it, shortest first: `a`, `a/b`, `a/b/c`.
pub(super) fn levels(relative: &Path) -> Vec<PathBuf> {
    let mut levels: Vec<PathBuf> =
        relative.ancestors().filter(|level| !level.as_os_str().is_empty()).map(Path::to_owned).collect();
    levels.reverse();
    levels
}
