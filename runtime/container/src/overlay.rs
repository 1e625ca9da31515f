//! Folders on top of each other, by overlayfs and the mount API that works with descriptors.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
};

/// What is mounted on top of each other.
#[derive(Debug)]
pub struct Overlay<'a> {
    /// The folders below, lowest first. One at least, two without `upper`.
    pub lower: &'a [PathBuf],
    /// Where changes go; without it the mount is for reading.
    pub upper: Option<Upper<'a>>,
    /// Whether overlayfs keeps its attributes as `user.overlay.*`, as it must inside a user namespace.
    pub user_attributes: bool,
}

/// Where changes go.
#[derive(Debug, Clone, Copy)]
pub struct Upper<'a> {
    /// The changes.
    pub changes: &'a Path,
    /// An empty folder of the same file system, for overlayfs's own work.
    pub work: &'a Path,
    /// Nothing is synced, not at the end either: for what is thrown away with the container. After a power cut such
    /// changes cannot be mounted again.
    pub volatile: bool,
}

impl Overlay<'_> {
    /// A mount that is not attached anywhere yet; files can be opened below its descriptor.
    ///
    /// # Errors
    /// What overlayfs says. Its reasons stand in the kernel's log.
    pub fn mount(&self, attributes: MountAttrFlags) -> Result<OwnedFd, Errno> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
        self.set_lower(&context)?;
        if let Some(upper) = self.upper {
            fsconfig_set_string(context.as_fd(), "upperdir", upper.changes)?;
            fsconfig_set_string(context.as_fd(), "workdir", upper.work)?;
            if upper.volatile {
                fsconfig_set_flag(context.as_fd(), "volatile")?;
            }
            // What the upper folder holds is read again by `diff` and `commit`: every change must be a whole file there.
            // With attributes of users these are off, and may not even be named.
            if !self.user_attributes {
                for option in ["redirect_dir", "metacopy", "index"] {
                    fsconfig_set_string(context.as_fd(), option, "off")?;
                }
            }
        }
        if self.user_attributes {
            fsconfig_set_flag(context.as_fd(), "userxattr")?;
        }
        fsconfig_create(context.as_fd())?;
        fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attributes)
    }

    fn set_lower(&self, context: &OwnedFd) -> Result<(), Errno> {
        for folder in self.lower.iter().rev() {
            // One option a folder, so that no list of folders is too long for a page. Linux 6.8 and later.
            match fsconfig_set_string(context.as_fd(), "lowerdir+", folder.as_path()) {
                Ok(()) => {}
                Err(Errno::INVAL) => return self.set_lower_as_list(context),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// All folders in one option, for older kernels.
    fn set_lower_as_list(&self, context: &OwnedFd) -> Result<(), Errno> {
        let escaped = |folder: &PathBuf| folder.as_os_str().to_string_lossy().replace('\\', "\\\\").replace(':', "\\:");
        let list: Vec<String> = self.lower.iter().rev().map(escaped).collect();
        fsconfig_set_string(context.as_fd(), "lowerdir", list.join(":"))
    }
}
