//! The files of a container as commands see them from outside: its layers, and the tree that it sees.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cove_container::config::MountKind;
use cove_container::{Container, Operation, Overlay, Record, State, Status, Upper, Volumes, attach};
use cove_engine::unpack::OverlayXattr;
use cove_engine::{RootBefore, SnapshotOptions};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountAttrFlags;

use crate::context::Context;
use crate::error::Error;

/// How often a container may end or start while its files are being opened.
const TRIES: u32 = 100;

/// What is to be done with the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Its own files are looked at: what is mounted in it does not matter.
    Read,
    /// They are copied, volumes included.
    Copy,
}

/// The tree that a container sees. As long as this lives the container is neither started nor removed.
#[derive(Debug)]
pub struct Files {
    root: OwnedFd,
    _lock: Operation,
}

impl Files {
    /// Opens the tree: that of its process, volumes included, or what lies on the disk if there is none.
    pub fn open(context: &Context, container: &Container, record: &Record, access: Access) -> Result<Self, Error> {
        let mut tries = 0;
        loop {
            let lock = container.lock_shared()?;
            let state = container.state()?.0;
            let root = match live_root(container, &state) {
                Some(path) => match open(&path) {
                    Ok(root) => root,
                    Err(Errno::NOENT | Errno::SRCH) if tries < TRIES => {
                        // It has just ended, and its monitor is about to say so.
                        tries += 1;
                        drop(lock);
                        std::thread::sleep(std::time::Duration::from_millis(10));
                        continue;
                    }
                    Err(error) => return Err(Error::Files(error)),
                },
                None if access == Access::Read => look(container, record).map_err(Error::Files)?,
                None => {
                    // The upper folder may be mounted once only.
                    drop(lock);
                    let lock = container.lock_exclusive()?;
                    if live_root(container, &container.state()?.0).is_some() {
                        continue;
                    }
                    let root = mount(context, container, record)?;
                    return Ok(Self { root, _lock: lock });
                }
            };
            // Its number may be another process's by now.
            if container.state()?.0 == state {
                return Ok(Self { root, _lock: lock });
            }
        }
    }

    /// The root.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }
}

/// Where the tree is mounted: in the container's own namespace, or in its monitor's while no process is there.
fn live_root(container: &Container, state: &State) -> Option<PathBuf> {
    let root_of = |pid: i32| Path::new("/proc").join(pid.to_string()).join("root");
    match state.status {
        Status::Running | Status::Paused => state.pid.map(root_of),
        Status::Restarting => {
            let mounted = container.run_folder().join("rootfs");
            let inside = mounted.strip_prefix("/").unwrap_or(&mounted).to_owned();
            state.monitor.map(|monitor| root_of(monitor).join(inside))
        }
        Status::Created | Status::Exited | Status::Removing | Status::Dead => None,
    }
}

fn open(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// For reading the changes are one more layer: so several commands may do it at once.
fn look(container: &Container, record: &Record) -> Result<OwnedFd, Errno> {
    let mut lower = record.layers.clone();
    lower.push(container.changes());
    let overlay = Overlay { lower: &lower, upper: None, user_attributes: record.user_attributes };
    overlay.mount(MountAttrFlags::MOUNT_ATTR_RDONLY)
}

fn mount(context: &Context, container: &Container, record: &Record) -> Result<OwnedFd, Error> {
    let (changes, work) = (container.changes(), container.work());
    // What is volatile could not be mounted again by a start.
    let upper = Upper { changes: &changes, work: &work, volatile: false };
    let overlay = Overlay { lower: &record.layers, upper: Some(upper), user_attributes: record.user_attributes };
    let mount = overlay.mount(MountAttrFlags::empty()).map_err(Error::Files)?;
    let binds = Volumes::new(&context.places().root).binds(&record.mounts)?;
    if binds.is_empty() {
        return Ok(mount);
    }
    let at = container.run_folder().join("rootfs");
    let _ = std::fs::create_dir(&at);
    attach(mount.as_fd(), &at, &binds).map_err(Error::Files)
}

/// How a container's layers are to be read.
pub fn snapshot_options(record: &Record) -> SnapshotOptions {
    let overlay = if record.user_attributes { OverlayXattr::User } else { OverlayXattr::Trusted };
    SnapshotOptions { overlay, made: made(record), root: RootBefore::Unknown }
}

/// Mount points that the runtime may have made.
pub fn made(record: &Record) -> Vec<PathBuf> {
    let host = &record.host_config;
    let own = ["/proc", "/dev", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/sbin/docker-init"];
    let mut made: Vec<PathBuf> = own.iter().map(PathBuf::from).collect();
    made.extend(record.mounts.iter().map(|mount| PathBuf::from(&mount.destination)));
    made.extend(host.tmpfs.keys().map(PathBuf::from));
    let memory = host.mounts.iter().filter(|mount| mount.kind == MountKind::Tmpfs);
    made.extend(memory.map(|mount| PathBuf::from(&mount.target)));
    made
}
