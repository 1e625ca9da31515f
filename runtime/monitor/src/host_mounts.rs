//! The mounts of the host, which the monitor has left.
//!
//! What a volume stands for is mounted there, for all containers and for the host itself. A mount that is to propagate to
//! the host must be a copy of the host's: from the monitor's own, which are slaves, nothing comes back. And what was mounted
//! there after the monitor began is not seen here where the host's mounts are private.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use cove_container::config::{MountKind, Propagation};
use cove_container::spec::Bind;
use cove_container::{Container, ContainerId, Containers, Record, Volumes};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxAttributes, StatxFlags, statx};
use rustix::mount::{
    MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, mount_change, move_mount, open_tree, unmount,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Error;
use crate::network::Places;
use crate::process::come_back_no_more;

/// A mount namespace, and which folder of it is our root.
struct Space {
    namespace: File,
    root: OwnedFd,
}

/// The host's.
static HOST: OnceLock<Space> = OnceLock::new();

impl Space {
    fn here() -> std::io::Result<Self> {
        let root = rustix::fs::open("/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self { namespace: File::open("/proc/self/ns/mnt")?, root })
    }

    fn enter(&self) -> rustix::io::Result<()> {
        move_into_link_name_space(self.namespace.as_fd(), Some(LinkNameSpaceType::Mount))?;
        // One that was called in a changed root stays there.
        rustix::process::fchdir(&self.root)?;
        rustix::process::chroot(".")
    }
}

/// Remembers the mounts that this process is about to leave.
pub(crate) fn remember() {
    if let Ok(host) = Space::here() {
        let _ = HOST.set(host);
    }
}

/// Does something among the mounts of the host. Whoever may not go there (in a user namespace) does it here.
fn among_the_hosts<T>(action: impl FnOnce() -> T) -> Result<T, Error> {
    let failed = |error: std::io::Error| Error::system("change between mount namespaces")(error);
    let Some(host) = HOST.get() else { return Ok(action()) };
    let own = Space::here().map_err(failed)?;
    if host.enter().is_err() {
        if own.enter().is_err() {
            come_back_no_more();
        }
        return Ok(action());
    }
    let result = action();
    if own.enter().is_err() {
        come_back_no_more();
    }
    Ok(result)
}

/// Copies of the host's mounts in a folder of the container, until the runtime has taken them over.
#[derive(Debug, Default)]
pub(crate) struct Copies {
    places: Vec<PathBuf>,
}

/// Makes everything ready that a container mounts, and tells how.
pub(crate) fn binds(places: &Places<'_>, container: &Container, record: &Record) -> Result<(Vec<Bind>, Copies), Error> {
    let mut copies = Copies::default();
    if record.mounts.is_empty() {
        return Ok((Vec::new(), copies));
    }
    let (mut binds, trees) = among_the_hosts(|| {
        let binds = Volumes::new(places.root).binds(&record.mounts)?;
        let trees = binds.iter().map(copied).collect::<Result<Vec<_>, _>>()?;
        Ok::<_, Error>((binds, trees))
    })??;
    for (number, (bind, tree)) in binds.iter_mut().zip(trees).enumerate() {
        let Some(tree) = tree else { continue };
        bind.source = copies.attach(&tree, &container.run_folder().join(format!("mount{number}")), &bind.source)?;
    }
    Ok((binds, copies))
}

/// A copy of what is mounted at the source of a bind mount, if it has to be the host's.
fn copied(bind: &Bind) -> Result<Option<OwnedFd>, Error> {
    let is_shared = matches!(bind.propagation, Some(Propagation::Shared | Propagation::Rshared));
    let found = statx(CWD, &bind.source, AtFlags::empty(), StatxFlags::empty());
    let is_mount = found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
    if !is_shared && !is_mount {
        return Ok(None);
    }
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    flags.set(OpenTreeFlags::AT_RECURSIVE, bind.is_recursive);
    let failed = Error::system(format!("copy the mount of `{}`", bind.source.display()));
    open_tree(CWD, &bind.source, flags).map(Some).map_err(failed)
}

impl Copies {
    fn attach(&mut self, tree: &OwnedFd, place: &Path, source: &Path) -> Result<PathBuf, Error> {
        let failed = |error: std::io::Error| Error::system(format!("bring `{}` here", source.display()))(error);
        let is_folder =
            rustix::fs::fstat(tree).map_err(|error| failed(error.into()))?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        // One that is left from a monitor that died is as good.
        let made = if is_folder { std::fs::create_dir(place) } else { File::create(place).map(drop) };
        made.or_else(|error| if error.kind() == std::io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
            .map_err(failed)?;
        move_mount(tree, "", CWD, place, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
            .map_err(|error| failed(error.into()))?;
        self.places.push(place.to_owned());
        Ok(place.to_owned())
    }
}

impl Drop for Copies {
    fn drop(&mut self) {
        for place in &self.places {
            // What is mounted below a shared copy would go from the host too.
            let _ = mount_change(place, MountPropagationFlags::PRIVATE | MountPropagationFlags::REC);
            let _ = unmount(place, UnmountFlags::DETACH);
            let _ = std::fs::remove_dir(place).or_else(|_| std::fs::remove_file(place));
        }
    }
}

/// Takes away what was mounted for the volumes of a container that has ended, unless others have them.
pub(crate) fn release(places: &Places<'_>, id: &ContainerId, record: &Record) {
    if record.mounts.iter().any(|mount| mount.kind == MountKind::Volume) {
        let containers = Containers::new(places.root, places.run);
        // What cannot be taken away now goes with the volume.
        let _ = among_the_hosts(|| Volumes::new(places.root).release(id, &record.mounts, &containers));
    }
}
