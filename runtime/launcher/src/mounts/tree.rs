//! Mounts that are not anywhere yet: made, changed, and then put in their place, by descriptors alone
//! (fsopen(2), open_tree(2), mount_setattr(2), move_mount(2): Linux 5.12).

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags};

use crate::mounts::options::{Attributes, Options};
use crate::syscalls::{MountChange, change_mount};

/// A mount that is not attached.
#[derive(Debug)]
pub(crate) struct Tree(OwnedFd);

impl Tree {
    /// A new file system. `options` are words or `name=value`; an error holds what the kernel says about it.
    pub(crate) fn new(kind: &str, source: Option<&Path>, options: &[String], attributes: u64) -> io::Result<Self> {
        let context = rustix::mount::fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        let set = || -> rustix::io::Result<OwnedFd> {
            if let Some(source) = source {
                rustix::mount::fsconfig_set_string(&context, "source", source)?;
            }
            for option in options {
                match option.split_once('=') {
                    Some((name, value)) => rustix::mount::fsconfig_set_string(&context, name, value)?,
                    None => rustix::mount::fsconfig_set_flag(&context, option.as_str())?,
                }
            }
            rustix::mount::fsconfig_create(&context)?;
            let attributes = MountAttrFlags::from_bits_retain(u32::try_from(attributes).unwrap_or_default());
            rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)
        };
        match set() {
            Ok(mount) => Ok(Self(mount)),
            Err(error) => {
                let mut message = [0; 512];
                let said = std::fs::File::from(context).read(&mut message).unwrap_or(0);
                let said = String::from_utf8_lossy(&message[..said]);
                // "e tmpfs: Unknown parameter 'x'"
                let said = said.trim().strip_prefix("e ").unwrap_or_default();
                let error = io::Error::from(error);
                let text = crate::error::plain(&error);
                Err(if said.is_empty() { error } else { io::Error::new(error.kind(), format!("{text} ({said})")) })
            }
        }
    }

    /// A second mount of what is at a path, links followed.
    pub(crate) fn of_path(path: &Path, recursive: bool) -> io::Result<Self> {
        Ok(Self(rustix::mount::open_tree(CWD, path, flags(recursive))?))
    }

    /// A second mount of an open file or folder.
    pub(crate) fn of(file: BorrowedFd<'_>, recursive: bool) -> io::Result<Self> {
        Ok(Self(rustix::mount::open_tree(file, c"", flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)?))
    }

    /// Sets attributes and propagation as options say.
    pub(crate) fn change(&self, options: &Options) -> io::Result<()> {
        self.set(options.attributes, false)?;
        self.set(options.recursive_attributes, true)?;
        for (kind, recursive) in &options.propagation {
            self.propagate(*kind, *recursive)?;
        }
        Ok(())
    }

    /// Sets attributes.
    pub(crate) fn set(&self, attributes: Attributes, recursive: bool) -> io::Result<()> {
        if attributes == Attributes::default() {
            return Ok(());
        }
        let Attributes { set, clear } = attributes;
        change_mount(self.0.as_fd(), MountChange { set, clear, recursive, ..MountChange::default() })
    }

    /// Sets how mounts below it come from elsewhere and go there.
    pub(crate) fn propagate(&self, propagation: u64, recursive: bool) -> io::Result<()> {
        change_mount(self.0.as_fd(), MountChange { propagation, recursive, ..MountChange::default() })
    }

    /// Shows other owners, as a user namespace maps them.
    pub(crate) fn map_ids(&self, namespace: BorrowedFd<'_>, recursive: bool) -> io::Result<()> {
        change_mount(self.0.as_fd(), MountChange { mapping: Some(namespace), recursive, ..MountChange::default() })
    }

    /// Puts it over an open file or folder.
    pub(crate) fn attach(&self, target: BorrowedFd<'_>) -> io::Result<()> {
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        Ok(rustix::mount::move_mount(&self.0, c"", target, c"", flags)?)
    }
}

impl AsFd for Tree {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}
