//! The way into a container's cgroups: opened by the parent, walked by the child.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::{fmt, io};

use rustix::fs::OFlags;
use rustix::process::Pid;

use super::error::words;
use super::folder::{Folder, Version};
use super::systemd::Placeholder;
use super::{CgroupError, Cgroups, Hierarchy, place};

/// A cgroup below a container's own (`exec --cgroup`).
#[derive(Debug, Clone)]
pub struct Below {
    /// Only in the hierarchies of these; in all if there are none.
    pub controllers: Vec<String>,
    /// Relative to the container's.
    pub path: PathBuf,
}

/// The open cgroups of a container, for a child to join.
///
/// The parent keeps it until the child is in: it also keeps a unit of systemd alive that nothing is in yet.
#[derive(Debug)]
pub struct Entrance {
    /// The file `tasks` in each hierarchy of version 1.
    tasks: Vec<Door>,
    unified: Option<Unified>,
    _placeholder: Option<Placeholder>,
}

#[derive(Debug)]
struct Door {
    file: OwnedFd,
    path: PathBuf,
}

#[derive(Debug)]
struct Unified {
    folder: OwnedFd,
    processes: Door,
}

/// A cgroup that could not be joined.
#[derive(Debug)]
pub struct NotEntered<'a> {
    path: &'a Path,
    source: io::Error,
}

impl fmt::Display for NotEntered<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to write 0: write {}: {}", self.path.display(), words(&self.source))
    }
}

impl std::error::Error for NotEntered<'_> {}

impl From<NotEntered<'_>> for io::Error {
    fn from(error: NotEntered<'_>) -> io::Error {
        io::Error::new(error.source.kind(), error.to_string())
    }
}

impl NotEntered<'_> {
    /// The file that did not take us.
    pub fn path(&self) -> &Path {
        self.path
    }

    /// Why.
    pub fn source(&self) -> &io::Error {
        &self.source
    }
}

impl Door {
    fn enter(&self) -> Result<(), NotEntered<'_>> {
        // 0 stands for the one who writes.
        match rustix::io::retry_on_intr(|| rustix::io::write(&self.file, b"0")) {
            Ok(_) => Ok(()),
            Err(error) => Err(NotEntered { path: &self.path, source: error.into() }),
        }
    }
}

impl Entrance {
    /// Moves the calling process, which must have one thread, into the cgroups. Allocates nothing unless it fails.
    ///
    /// `is_cloned_into`: it was made by clone3 with `CLONE_INTO_CGROUP` and [`Entrance::folder_v2`], and is in the cgroup of
    /// version 2 already; joining that one now waits some milliseconds.
    ///
    /// # Errors
    /// A cgroup that does not take the process; the container must not run then.
    pub fn enter(&self, is_cloned_into: bool) -> Result<(), NotEntered<'_>> {
        self.tasks.iter().try_for_each(Door::enter)?;
        match &self.unified {
            Some(unified) if !is_cloned_into => unified.processes.enter(),
            _ => Ok(()),
        }
    }

    /// The cgroup of version 2, for `CLONE_INTO_CGROUP`; also where it stands beside those of version 1.
    pub fn folder_v2(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(|unified| unified.folder.as_fd())
    }
}

impl Cgroups {
    /// Opens the cgroups for a child to join.
    ///
    /// # Errors
    /// Cgroups that are not there or may not be opened.
    pub fn entrance(&self) -> Result<Entrance, CgroupError> {
        let folders = self.opened.take();
        if folders.len() == self.hierarchies.len() {
            return self.doors(folders);
        }
        self.open_doors(&|hierarchy| Ok(hierarchy.path.clone()))
    }

    /// Opens cgroups below the container's own (`exec --cgroup`). They must be there.
    ///
    /// # Errors
    /// Cgroups that are not there or may not be opened.
    pub fn entrance_below(&self, below: &[Below]) -> Result<Entrance, CgroupError> {
        self.open_doors(&|hierarchy| {
            let is_meant = |below: &&Below| match &below.controllers[..] {
                [] => true,
                names => names.iter().any(|name| hierarchy.has(name)),
            };
            let place = below.iter().rev().find(is_meant).map(|below| place::clean(&below.path));
            Ok(hierarchy.path.join(place.unwrap_or_default()))
        })
    }

    /// Opens the cgroups of a process of the container: for an exec after joining failed with EBUSY. On version 2 a
    /// container that has shared out its controllers itself has no processes in its outermost cgroup, and takes none.
    ///
    /// # Errors
    /// A process that is gone, or that is not in the container's cgroup.
    pub fn entrance_beside(&self, process: Pid) -> Result<Entrance, CgroupError> {
        let path = PathBuf::from(format!("/proc/{}/cgroup", process.as_raw_nonzero()));
        let text = std::fs::read_to_string(&path).map_err(|source| CgroupError::Host { path: path.clone(), source })?;
        let outside = || CgroupError::Parse { path: path.clone(), text: text.clone() };
        let own = text.lines().find_map(|line| line.strip_prefix("0::")).map(|own| place::clean(Path::new(own)));
        self.open_doors(&|hierarchy| match hierarchy.version {
            Version::V1 => Ok(hierarchy.path.clone()),
            Version::V2 => own.clone().filter(|own| own.starts_with(&hierarchy.path)).ok_or_else(outside),
        })
    }

    fn open_doors(&self, place: &dyn Fn(&Hierarchy) -> Result<PathBuf, CgroupError>) -> Result<Entrance, CgroupError> {
        let mut folders = Vec::with_capacity(self.hierarchies.len());
        for hierarchy in &self.hierarchies {
            folders.push(Folder::open(&hierarchy.mount.join(place(hierarchy)?), hierarchy.version, self.check)?);
        }
        self.doors(folders)
    }

    fn doors(&self, folders: Vec<Folder>) -> Result<Entrance, CgroupError> {
        let mut tasks = Vec::with_capacity(folders.len());
        let mut unified = None;
        for (hierarchy, folder) in self.hierarchies.iter().zip(folders) {
            match hierarchy.version {
                Version::V1 => tasks.push(door(&folder, "tasks")?),
                Version::V2 => {
                    unified = Some(Unified { processes: door(&folder, "cgroup.procs")?, folder: folder.into_fd() });
                }
            }
        }
        Ok(Entrance { tasks, unified, _placeholder: self.placeholder.take() })
    }
}

fn door(folder: &Folder, name: &str) -> Result<Door, CgroupError> {
    let path = folder.path().join(name);
    match folder.open_below(Path::new(name), OFlags::WRONLY) {
        Ok(file) => Ok(Door { file, path }),
        Err(source) => Err(CgroupError::Open { path, source }),
    }
}
