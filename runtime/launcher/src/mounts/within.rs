//! Paths inside a root file system that its contents cannot lead out of.
//!
//! Everything in it may be hostile, and change while we look: so each path is resolved by the kernel below a descriptor
//! of the root (RESOLVE_IN_ROOT), and what is made or mounted is made or mounted at the descriptor that came of it.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// As many links as the kernel follows.
const LINKS: usize = 40;
/// Somebody exchanges names while we look.
const ATTEMPTS: usize = 128;

/// A root file system, by a descriptor of its uppermost folder.
#[derive(Debug)]
pub(crate) struct Within(OwnedFd);

/// What shall be at a path if nothing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File,
}

impl Within {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self(root)
    }

    /// The root of this process.
    pub(crate) fn own() -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::openat(rustix::fs::CWD, c"/", flags, Mode::empty())?))
    }

    pub(crate) fn root(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Opens what is there, following links inside the root.
    pub(crate) fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.resolve(path, flags, ResolveFlags::empty())
    }

    /// Opens what is there, if no part of the path is a link.
    pub(crate) fn open_plain(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        self.resolve(path, flags, ResolveFlags::NO_SYMLINKS)
    }

    fn resolve(&self, path: &Path, flags: OFlags, more: ResolveFlags) -> io::Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | more;
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        for _ in 0..ATTEMPTS {
            match rustix::fs::openat2(&self.0, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve) {
                // A name above was exchanged in that moment.
                Err(Errno::AGAIN) => {}
                result => return Ok(result?),
            }
        }
        Err(Errno::AGAIN.into())
    }

    /// Opens what is there, or makes it with all folders above. Links that lead nowhere yet are followed too: images have
    /// such (`/var/run` to `/run`).
    pub(crate) fn open_or_make(&self, path: &Path, kind: Kind) -> io::Result<OwnedFd> {
        let mut path = path.to_owned();
        for _ in 0..LINKS {
            match self.open(&path, OFlags::PATH) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => return result,
            }
            if let Some(longer) = self.make_first_missing(&path, kind)? {
                path = longer;
            }
        }
        Err(Errno::LOOP.into())
    }

    /// Makes the first part of the path that is missing, and all behind it; if it is a link that leads nowhere, gives the
    /// path with the link's text in its place.
    fn make_first_missing(&self, path: &Path, kind: Kind) -> io::Result<Option<PathBuf>> {
        let parts: Vec<Component<'_>> = path.components().filter(|part| *part != Component::RootDir).collect();
        let mut folder = rustix::io::dup(&self.0)?;
        let mut so_far = PathBuf::from("/");
        for (at, part) in parts.iter().enumerate() {
            let next = so_far.join(part);
            match self.open(&next, OFlags::PATH) {
                Ok(found) => (folder, so_far) = (found, next),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let Component::Normal(name) = part else { return Err(Errno::INVAL.into()) };
                    if let Ok(link) = rustix::fs::readlinkat(&folder, *name, Vec::new()) {
                        let text = PathBuf::from(<OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(link.as_bytes()));
                        let behind: PathBuf = parts[at + 1..].iter().collect();
                        return Ok(Some(so_far.join(text).join(behind)));
                    }
                    let last = at + 1 == parts.len();
                    make(folder.as_fd(), name, if last { kind } else { Kind::Folder })?;
                    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                    folder = rustix::fs::openat(&folder, *name, flags, Mode::empty())?;
                    so_far = next;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Opens the folder above a path, made if need be, and gives the last name.
    pub(crate) fn parent<'a>(&self, path: &'a Path) -> io::Result<(OwnedFd, &'a OsStr)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL.into()) };
        Ok((self.open_or_make(parent, Kind::Folder)?, name))
    }
}

fn make(folder: BorrowedFd<'_>, name: &OsStr, kind: Kind) -> io::Result<()> {
    let made = match kind {
        Kind::Folder => rustix::fs::mkdirat(folder, name, Mode::from_raw_mode(0o755)),
        Kind::File => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(folder, name, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
    };
    match made {
        Err(Errno::EXIST) => Ok(()),
        made => Ok(made?),
    }
}

/// What an open file is.
pub(crate) fn file_type(file: BorrowedFd<'_>) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(rustix::fs::fstat(file)?.st_mode))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn root(name: &str) -> (PathBuf, Within) {
        let path = std::env::temp_dir().join(format!("cove-within-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let handle = rustix::fs::open(&path, flags, Mode::empty()).unwrap();
        (path, Within::new(handle))
    }

    #[test]
    fn missing_folders_and_files_are_made() {
        let (path, within) = root("made");
        within.open_or_make(Path::new("/a/b/c"), Kind::Folder).unwrap();
        within.open_or_make(Path::new("/a/b/file"), Kind::File).unwrap();
        assert!(path.join("a/b/c").is_dir() && path.join("a/b/file").is_file());
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn links_stay_inside_and_lead_to_what_is_made() {
        let (path, within) = root("links");
        symlink("/run", path.join("var-run")).unwrap();
        symlink("../../../../outside", path.join("up")).unwrap();
        within.open_or_make(Path::new("/var-run/lock"), Kind::Folder).unwrap();
        within.open_or_make(Path::new("/up/x"), Kind::Folder).unwrap();
        assert!(path.join("run/lock").is_dir(), "an absolute link begins at the root");
        assert!(path.join("outside/x").is_dir(), "nothing is above the root");
        fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn loops_and_plain_paths_are_refused() {
        let (path, within) = root("loops");
        symlink("b", path.join("a")).unwrap();
        symlink("a", path.join("b")).unwrap();
        assert!(within.open_or_make(Path::new("/a/x"), Kind::Folder).is_err());
        fs::create_dir(path.join("real")).unwrap();
        symlink("real", path.join("proc")).unwrap();
        assert!(within.open_plain(Path::new("/proc"), OFlags::PATH).is_err());
        assert!(within.open_plain(Path::new("/real"), OFlags::PATH).is_ok());
        fs::remove_dir_all(path).unwrap();
    }
}
