//! Mounts the layers of an image on top of each other, read-only, by overlayfs.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, UnmountFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen, move_mount, unmount,
};

use crate::Error;

/// Whose attributes mark whiteouts and opaque folders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attributes {
    /// `trusted.overlay.`, which root writes.
    Trusted,
    /// `user.overlay.`, for whoever is root of a user namespace only.
    User,
}

/// Mounts folders of layers, lowest first, at `target`. `empty` is a folder without anything in it: overlayfs wants
/// two folders at least.
pub(crate) fn mount(
    layers: &[impl AsRef<Path>],
    empty: &Path,
    target: &Path,
    attributes: Attributes,
) -> Result<(), Error> {
    let topmost_first = layers.iter().rev().map(AsRef::as_ref);
    let missing = 2usize.saturating_sub(layers.len());
    // Overlayfs refuses the same folder twice, so an image without layers needs two empty ones.
    let padding = [empty.join("a"), empty.join("b")];
    for folder in &padding[..missing] {
        fs_err::create_dir_all(folder)?;
    }
    let lower: Vec<&Path> = topmost_first.chain(padding[..missing].iter().map(|folder| folder.as_path())).collect();
    let mounted = overlay(&lower, attributes).and_then(|mount| {
        move_mount(mount.as_fd(), "", rustix::fs::CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    });
    mounted.map_err(refused)
}

fn overlay(lower: &[&Path], attributes: Attributes) -> Result<OwnedFd, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for folder in lower {
        // One option a folder, so that no list of folders is too long for a page. Linux 6.8 and later.
        match fsconfig_set_string(context.as_fd(), "lowerdir+", *folder) {
            Ok(()) => {}
            Err(Errno::INVAL) => return joined(lower, attributes),
            Err(error) => return Err(error),
        }
    }
    finished(&context, attributes)
}

/// All folders in one option, for older kernels.
fn joined(lower: &[&Path], attributes: Attributes) -> Result<OwnedFd, Errno> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)?;
    let escaped = |folder: &&Path| folder.as_os_str().to_string_lossy().replace('\\', "\\\\").replace(':', "\\:");
    let list: Vec<String> = lower.iter().map(escaped).collect();
    fsconfig_set_string(context.as_fd(), "lowerdir", list.join(":"))?;
    finished(&context, attributes)
}

fn finished(context: &OwnedFd, attributes: Attributes) -> Result<OwnedFd, Errno> {
    if attributes == Attributes::User {
        fsconfig_set_flag(context.as_fd(), "userxattr")?;
    }
    fsconfig_create(context.as_fd())?;
    fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::MOUNT_ATTR_RDONLY)
}

/// Takes the mount at `target` away; whether there was one. What still uses it keeps it until it has finished.
pub(crate) fn take_away(target: &Path) -> Result<bool, Error> {
    match unmount(target, UnmountFlags::DETACH) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOENT) => Ok(false),
        Err(error) => Err(refused(error)),
    }
}

fn refused(error: Errno) -> Error {
    let advice = match error {
        Errno::PERM | Errno::ACCESS => "run it as root, or inside `unshare --user --map-root-user --mount`",
        Errno::NODEV => "this kernel has no overlayfs: load the module `overlay`",
        _ => "see the kernel's log (`dmesg`) for what overlayfs did not like",
    };
    Error::Mount { reason: error.to_string(), advice }
}
