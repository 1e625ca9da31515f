//! What a path of a container is, as docker's API tells it.

use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::path::{Wanted, evaluate};
use super::{CopyError, failed, path_buf};
use crate::snapshot::Node;
use crate::tar::Time;

/// What a path of a container is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStat {
    /// The last name of the path; `.` if it ends in `/.`.
    pub name: PathBuf,
    /// Size in bytes.
    pub size: u64,
    /// Kind and permissions as the kernel has them.
    pub mode: u32,
    /// When its content was changed.
    pub modified: Time,
    /// Where a link leads in the end, as an absolute path inside the container. Empty if it is none.
    pub link_target: PathBuf,
}

impl PathStat {
    pub(super) fn of(root: BorrowedFd<'_>, wanted: &Wanted, node: &Node) -> Result<PathStat, CopyError> {
        let link_target = match node.kind() {
            FileType::Symlink => {
                let target = evaluate(root, &wanted.path).map_err(|error| failed("follow", &wanted.path, error))?;
                path_buf(&target)
            }
            _ => PathBuf::new(),
        };
        Ok(PathStat {
            name: path_buf(wanted.base()),
            size: u64::try_from(node.stat.st_size).unwrap_or_default(),
            mode: node.stat.st_mode,
            modified: node.modified(),
            link_target,
        })
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Directory
    }

    /// Whether it is a symbolic link.
    pub fn is_link(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::Symlink
    }

    /// The mode as Go writes it, and docker's API with it.
    pub fn go_mode(&self) -> u32 {
        let kind = match FileType::from_raw_mode(self.mode) {
            FileType::Directory => 1 << 31,
            FileType::Symlink => 1 << 27,
            FileType::BlockDevice => 1 << 26,
            FileType::CharacterDevice => 1 << 26 | 1 << 21,
            FileType::Fifo => 1 << 25,
            FileType::Socket => 1 << 24,
            _ => 0,
        };
        let special = [(0o4000, 1 << 23), (0o2000, 1 << 22), (0o1000, 1 << 20)];
        let special = special.iter().filter(|(bit, _)| self.mode & bit != 0).map(|(_, go)| go);
        self.mode & 0o777 | kind | special.sum::<u32>()
    }
}

/// Looks at a path of a container. A link at its end is looked at itself, unless a slash follows.
pub fn stat(root: BorrowedFd<'_>, path: &Path) -> Result<PathStat, CopyError> {
    let wanted = Wanted::new(path.as_os_str().as_bytes());
    let node = wanted.find(root, false)?;
    PathStat::of(root, &wanted, &node)
}
