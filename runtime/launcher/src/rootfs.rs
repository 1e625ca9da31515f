//! The root of the container: its mounts, its devices, and the change into it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use oci_spec::runtime::{Linux, LinuxNamespaceType};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::mount::{MountPropagationFlags, UnmountFlags};

use crate::Error;
use crate::cgroups::Cgroups;
use crate::config::Config;
use crate::devices::Devices;
use crate::error::{Failure, plain};
use crate::mounts::options::{Attributes, attribute, propagation, propagation_of};
use crate::mounts::{self, Place, Prepared, Tree, Within, file_type};
use crate::user_namespace::is_in_user_namespace;

/// What of the root has to be opened on the host.
#[derive(Debug)]
pub(crate) struct RootFs {
    tree: Tree,
    mounts: Vec<Prepared>,
    devices: Option<Devices>,
    /// To cover files with: the host's, whatever the image has at `/dev/null`.
    null: Tree,
    no_pivot: bool,
}

impl RootFs {
    /// Opens everything on the host's side; of the cgroups, if they are there. The working folder is the bundle.
    pub(crate) fn prepare(
        config: &Config,
        root: &Path,
        cgroups: Option<&Cgroups>,
        no_pivot: bool,
    ) -> Result<Self, Error> {
        let failed = |error: io::Error| {
            Error::Config(format!("cannot use the root file system {}: {}", root.display(), plain(&error)))
        };
        let tree = Tree::of_path(root, true).map_err(failed)?;
        if file_type(tree.as_fd()).map_err(failed)? != FileType::Directory {
            return Err(failed(io::ErrorKind::NotADirectory.into()));
        }
        let user_namespace = config.namespace(LinuxNamespaceType::User).is_some();
        let own = if user_namespace { own_mapping(config)? } else { None };
        let null = Tree::of_path(Path::new("/dev/null"), false).map_err(Error::file("open", "/dev/null"))?;
        let is_null = |found: rustix::fs::Stat| found.st_rdev == rustix::fs::makedev(1, 3);
        if !rustix::fs::fstat(&null).is_ok_and(is_null) {
            return Err(Error::Config("the host's /dev/null is not the null device".to_owned()));
        }
        let devices = config.linux.devices().as_deref().unwrap_or_default();
        Ok(Self {
            tree,
            mounts: mounts::prepare(&config.mounts, cgroups, own.as_ref().map(OwnedFd::as_fd))?,
            // Callers may have made one already (podman without root does).
            devices: Devices::prepare(devices, &config.mounts, user_namespace || is_in_user_namespace())?,
            null,
            no_pivot,
        })
    }

    /// In the container's mount namespace: puts everything in its place. What is changed stays this namespace's.
    /// `join_cgroups` is called before they are shown, or at the end.
    pub(crate) fn build(
        &self,
        config: &Config,
        root: &Path,
        cgroups: &Cgroups,
        join_cgroups: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<Within, Failure> {
        let (flags, recursive) = root_propagation(config)?;
        let kind = propagation_flags(flags, recursive);
        rustix::mount::mount_change(c"/", kind).map_err(Failure::at("error making / a slave or private mount"))?;
        // What was opened before is a peer of the host's mount still. A shared root could not become the root; it is made
        // shared later.
        let own = if flags == propagation::SHARED { propagation::PRIVATE } else { flags };
        self.tree.propagate(own, true).map_err(Failure::at("error making the rootfs a slave or private mount"))?;
        let target = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let target = target.map_err(Failure::at(format_args!("error opening rootfs {}", root.display())))?;
        keep_to_ourselves(root)?;
        self.tree.attach(target.as_fd()).map_err(Failure::at("error mounting the rootfs"))?;
        let within = Within::new(rustix::io::dup(&self.tree).map_err(Failure::at("error opening the rootfs"))?);
        let label = config.linux.mount_label().as_deref().filter(|label| !label.is_empty());
        let place = Place { label, propagation: flags, cgroups };
        let mut join_cgroups = Some(join_cgroups);
        for mount in &self.mounts {
            if let Some(join) = join_cgroups.take_if(|_| mount.shows_cgroups()) {
                join()?;
            }
            mount.mount(&within, &place)?;
        }
        if let Some(devices) = &self.devices {
            devices.make(&within)?;
        }
        if let Some(join) = join_cgroups {
            join()?;
        }
        Ok(within)
    }

    /// Makes it the root of everything that this process sees.
    pub(crate) fn enter(&self, within: &Within) -> Result<(), Failure> {
        rustix::process::fchdir(within.root()).map_err(Failure::at("error entering the rootfs"))?;
        if self.no_pivot {
            rustix::mount::mount_move(c".", c"/").map_err(Failure::at("error moving the rootfs to /"))?;
            rustix::process::chroot(c".").map_err(Failure::at("error changing the root"))?;
        } else {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let old =
                rustix::fs::open(c"/", flags, Mode::empty()).map_err(Failure::at("error opening the old root"))?;
            rustix::process::pivot_root(c".", c".").map_err(Failure::at("pivot_root"))?;
            // The old root lies above the new one now; unmounting it must reach nobody else.
            rustix::process::fchdir(&old).map_err(Failure::at("error entering the old root"))?;
            let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
            rustix::mount::mount_change(c".", slave).map_err(Failure::at("error making the old root a slave mount"))?;
            rustix::mount::unmount(c".", UnmountFlags::DETACH).map_err(Failure::at("error unmounting the old root"))?;
        }
        rustix::process::chdir(c"/").map_err(Failure::at("error entering /"))
    }

    /// Without mounts of the container's own: the folder, with nothing put into it.
    pub(crate) fn as_it_is(&self) -> Result<Within, Failure> {
        let folder = rustix::io::dup(&self.tree).map_err(Failure::at("error opening the rootfs"))?;
        Ok(Within::new(folder))
    }

    /// Without mounts of the container's own: changes the root, and nothing that others see.
    pub(crate) fn change_to(&self, within: &Within) -> Result<(), Failure> {
        rustix::process::fchdir(within.root()).map_err(Failure::at("error entering the rootfs"))?;
        rustix::process::chroot(c".").map_err(Failure::at("error changing the root"))?;
        rustix::process::chdir(c"/").map_err(Failure::at("error entering /"))
    }

    /// Inside: covers what the container must not see, and makes read-only what it must not change.
    pub(crate) fn restrict(&self, config: &Config, within: &Within) -> Result<(), Failure> {
        let readonly = config.root.as_ref().and_then(|root| root.readonly()).unwrap_or(false);
        self.cover(&config.linux, within)?;
        if readonly {
            let failed = Failure::at("error making the rootfs read-only");
            self.tree.set(Attributes { set: attribute::RDONLY, clear: 0 }, false).map_err(failed)?;
        }
        if config.linux.rootfs_propagation().as_deref().is_some_and(|word| !word.is_empty()) {
            let (flags, recursive) = root_propagation(config)?;
            let failed = Failure::at("error setting rootfsPropagation");
            rustix::mount::mount_change(c"/", propagation_flags(flags, recursive)).map_err(failed)?;
        }
        Ok(())
    }

    fn cover(&self, linux: &Linux, within: &Within) -> Result<(), Failure> {
        let readonly = Attributes { set: attribute::RDONLY, clear: 0 };
        let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
        for path in linux.readonly_paths().iter().flatten() {
            let failed = |error: io::Error| Failure::init(format_args!("readonly path {path}: {}", plain(&error)));
            match within.open(Path::new(path), OFlags::PATH) {
                Err(error) if missing(&error) => {}
                Err(error) => return Err(failed(error)),
                Ok(file) => {
                    let tree = Tree::of(file.as_fd(), true).map_err(failed)?;
                    tree.set(readonly, true).and_then(|()| tree.attach(file.as_fd())).map_err(failed)?;
                }
            }
        }
        let mut covers = Covers { null: &self.null, null_is_used: false, folder: None };
        for path in linux.masked_paths().iter().flatten() {
            let failed = |error: io::Error| Failure::init(format_args!("can't mask path {path:?}: {}", plain(&error)));
            let file = match within.open(Path::new(path), OFlags::PATH) {
                // A path with a file on the way to it is not there either.
                Err(error) if missing(&error) || error.kind() == io::ErrorKind::NotADirectory => continue,
                file => file.map_err(failed)?,
            };
            covers.put(file.as_fd()).map_err(failed)?;
        }
        Ok(())
    }
}

/// What hides files and folders. There is one mount of each kind; once it is in the container, further ones are made of
/// it (before that only new kernels do).
struct Covers<'a> {
    null: &'a Tree,
    null_is_used: bool,
    folder: Option<Tree>,
}

impl Covers<'_> {
    fn put(&mut self, target: BorrowedFd<'_>) -> io::Result<()> {
        if file_type(target)? != FileType::Directory {
            return match std::mem::replace(&mut self.null_is_used, true) {
                false => self.null.attach(target),
                true => Tree::of(self.null.as_fd(), false)?.attach(target),
            };
        }
        if let Some(folder) = &self.folder {
            return Tree::of(folder.as_fd(), false)?.attach(target);
        }
        let folder = Tree::new("tmpfs", Some(Path::new("tmpfs")), &[], attribute::RDONLY)?;
        folder.attach(target)?;
        self.folder = Some(folder);
        Ok(())
    }
}

/// The mount that the root lies in must not pass on what is mounted there.
fn keep_to_ourselves(root: &Path) -> Result<(), Failure> {
    // Only a mount point can be changed: the nearest one above.
    for folder in root.ancestors() {
        match rustix::mount::mount_change(folder, MountPropagationFlags::PRIVATE) {
            Err(rustix::io::Errno::INVAL) => {}
            result => return result.map_err(Failure::at("error making the mount below the rootfs private")),
        }
    }
    Ok(())
}

/// `linux.rootfsPropagation`, a slave of the host's if nothing is said.
fn root_propagation(config: &Config) -> Result<(u64, bool), Failure> {
    match config.linux.rootfs_propagation().as_deref().filter(|word| !word.is_empty()) {
        None => Ok((propagation::SLAVE, true)),
        Some(word) => {
            propagation_of(word).ok_or_else(|| Failure::init(format_args!("rootfsPropagation={word} is not supported")))
        }
    }
}

fn propagation_flags(flags: u64, recursive: bool) -> MountPropagationFlags {
    let flags = MountPropagationFlags::from_bits_retain(u32::try_from(flags).unwrap_or_default());
    if recursive { flags | MountPropagationFlags::REC } else { flags }
}

/// A user namespace with the container's maps, for mounts that want them; only made when one does.
fn own_mapping(config: &Config) -> Result<Option<OwnedFd>, Error> {
    let wanted = config
        .mounts
        .iter()
        .any(|mount| mount.options().iter().flatten().any(|word| word == "idmap" || word == "ridmap"));
    if !wanted {
        return Ok(None);
    }
    let maps = |maps: &Option<Vec<_>>| maps.clone().unwrap_or_default();
    let (uids, gids) = (maps(config.linux.uid_mappings()), maps(config.linux.gid_mappings()));
    crate::user_namespace::of_mapping(&uids, &gids).map(Some)
}
