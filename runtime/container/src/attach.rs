//! A container's files with everything that it mounts, for commands that copy while no process of it is there.
#![allow(unsafe_code)]

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, mknodat, openat2};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree};
use rustix::thread::UnshareFlags;

use crate::spec::Bind;

const FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);
const INSIDE: ResolveFlags = ResolveFlags::IN_ROOT.union(ResolveFlags::NO_MAGICLINKS);

/// Attaches a mount at a folder, and what a container mounts in it, where only this thread and those that it makes see
/// it: nothing of it outlives them. Gives the root. Mount points that are missing are made, as a start makes them.
///
/// # Errors
/// What the kernel says; a place that is a file where a folder is mounted, or the other way round.
pub fn attach(mount: BorrowedFd<'_>, at: &Path, binds: &[Bind]) -> Result<OwnedFd, Errno> {
    // SAFETY: memory and descriptors stay shared; only what paths mean changes, and only for this thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
    move_mount(mount, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    let root = rustix::fs::open(at, FOLDER, Mode::empty())?;
    let mut binds: Vec<&Bind> = binds.iter().collect();
    binds.sort_by_key(|bind| bind.destination.components().count());
    for bind in binds {
        let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        flags.set(OpenTreeFlags::AT_RECURSIVE, bind.is_recursive);
        let tree = open_tree(CWD, &bind.source, flags)?;
        let is_folder = FileType::from_raw_mode(fstat(&tree)?.st_mode) == FileType::Directory;
        let place = place(root.as_fd(), &bind.destination, is_folder)?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
        move_mount(&tree, "", &place, "", flags)?;
    }
    Ok(root)
}

/// A mount point inside of a root, made if it is missing. Links lead nowhere else.
fn place(root: BorrowedFd<'_>, path: &Path, is_folder: bool) -> Result<OwnedFd, Errno> {
    let names: Vec<&OsStr> = path.components().filter_map(name).collect();
    let Some((last, folders)) = names.split_last() else { return Err(Errno::INVAL) };
    let mut inside = PathBuf::from("/");
    let mut folder = openat2(root, &inside, FOLDER, Mode::empty(), INSIDE)?;
    for name in folders {
        inside.push(name);
        folder = match openat2(root, &inside, FOLDER, Mode::empty(), INSIDE) {
            Err(Errno::NOENT) => {
                make(folder.as_fd(), name, true)?;
                openat2(root, &inside, FOLDER, Mode::empty(), INSIDE)?
            }
            opened => opened?,
        };
    }
    inside.push(last);
    let flags = if is_folder { FOLDER } else { OFlags::PATH | OFlags::CLOEXEC };
    match openat2(root, &inside, flags, Mode::empty(), INSIDE) {
        Err(Errno::NOENT) => {
            make(folder.as_fd(), last, is_folder)?;
            openat2(root, &inside, flags, Mode::empty(), INSIDE)
        }
        opened => opened,
    }
}

fn name(part: Component<'_>) -> Option<&OsStr> {
    match part {
        Component::Normal(name) => Some(name),
        Component::Prefix(_) | Component::RootDir | Component::CurDir | Component::ParentDir => None,
    }
}

fn make(folder: BorrowedFd<'_>, name: &OsStr, is_folder: bool) -> Result<(), Errno> {
    let made = match is_folder {
        true => mkdirat(folder, name, Mode::from_raw_mode(0o755)),
        false => mknodat(folder, name, FileType::RegularFile, Mode::from_raw_mode(0o644), 0),
    };
    // A link that leads to nothing is there, and is no mount point.
    made.or_else(|error| if error == Errno::EXIST { Ok(()) } else { Err(error) })
}
