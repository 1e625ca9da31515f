//! The mounts of `config.json`: what has to be opened on the host is opened before the container's namespaces are
//! entered, and everything is put in its place by descriptors below the container's root.

mod cgroup;
mod copy_up;
pub(crate) mod options;
mod tree;
mod within;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxIdMapping, Mount};
use rustix::fs::{FileType, OFlags, PROC_SUPER_MAGIC};

use crate::cgroups::Cgroups;
use crate::error::{Failure, plain};
use crate::{Error, user_namespace};

use cgroup::CgroupTrees;
use options::{Attributes, Options, attribute};
pub(crate) use tree::Tree;
pub(crate) use within::{Kind, Within, file_type};

/// A mount, and what of it the host has.
#[derive(Debug)]
pub(crate) struct Prepared {
    mount: Mount,
    options: Options,
    source: Source,
}

#[derive(Debug)]
enum Source {
    /// Something of the host appears in the container.
    Bind(Tree, FileType),
    /// The container's view of its cgroups, if they are there already.
    Cgroups(Option<CgroupTrees>),
    /// A file system that is made then and there.
    New,
}

/// What a mount has to know of the container.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    /// `linux.mountLabel`.
    pub(crate) label: Option<&'a str>,
    /// The root's, which bind mounts have that say nothing else.
    pub(crate) propagation: u64,
    pub(crate) cgroups: &'a Cgroups,
}

/// Opens what the mounts need of the host. Relative sources begin at the bundle, which is the working folder then. Cgroups
/// that are not there yet are opened when they are mounted.
pub(crate) fn prepare(
    mounts: &[Mount],
    cgroups: Option<&Cgroups>,
    own: Option<BorrowedFd<'_>>,
) -> Result<Vec<Prepared>, Error> {
    mounts.iter().map(|mount| Prepared::new(mount, cgroups, own)).collect()
}

impl Prepared {
    fn new(mount: &Mount, cgroups: Option<&Cgroups>, own: Option<BorrowedFd<'_>>) -> Result<Self, Error> {
        let mut options = Options::parse(mount.options().as_deref().unwrap_or_default());
        let kind = mount.typ().as_deref().unwrap_or_default();
        options.bind |= kind == "bind";
        let destination = mount.destination();
        if !destination.is_absolute() {
            let text = format!("invalid mount: destination {} not absolute", destination.display());
            return Err(Error::Config(text));
        }
        let wrong = |text: String| Error::Start(Failure::init(text).into_text());
        let maps_ids = [mount.uid_mappings(), mount.gid_mappings()];
        let maps_ids = options.map_ids.is_some() || maps_ids.into_iter().flatten().any(|maps| !maps.is_empty());
        if maps_ids && !options.bind {
            return Err(wrong(format!("mount {}: only bind mounts can be id-mapped", destination.display())));
        }
        let source = match kind {
            _ if options.bind => {
                let path = mount.source().as_deref().unwrap_or(Path::new(""));
                let failed = |error: io::Error| {
                    let (to, error) = (destination.display(), plain(&error));
                    wrong(format!("error mounting {:?} to rootfs at {to:?}: mount {0}:{to}: {error}", path.display()))
                };
                let tree = Tree::of_path(path, options.recursive).map_err(failed)?;
                if maps_ids {
                    let namespace = mapping(mount, own)?;
                    tree.map_ids(namespace.as_fd(), options.map_ids == Some(true)).map_err(failed)?;
                }
                let kind = file_type(tree.as_fd()).map_err(failed)?;
                Source::Bind(tree, kind)
            }
            "cgroup" | "cgroup2" => Source::Cgroups(cgroups.map(CgroupTrees::of).transpose().map_err(|error| {
                let (to, error) = (destination.display(), plain(&error));
                wrong(format!("error mounting {kind:?} to rootfs at {to:?}: {error}"))
            })?),
            _ => Source::New,
        };
        Ok(Self { mount: mount.clone(), options, source })
    }

    /// Whether it shows the container's cgroups, which must be there then.
    pub(crate) fn shows_cgroups(&self) -> bool {
        matches!(self.source, Source::Cgroups(_))
    }

    /// Puts it in its place.
    pub(crate) fn mount(&self, within: &Within, place: &Place<'_>) -> Result<(), Failure> {
        let to = self.mount.destination();
        let kind = self.mount.typ().as_deref().unwrap_or_default();
        let from = self.mount.source().as_deref().unwrap_or(Path::new(kind));
        let from = if self.options.bind { from } else { Path::new(kind) };
        self.put(within, kind, place).map_err(|error| {
            let error = plain(&error);
            Failure::init(format_args!("error mounting {:?} to rootfs at {to:?}: {error}", from.display()))
        })
    }

    fn put(&self, within: &Within, kind: &str, place: &Place<'_>) -> io::Result<()> {
        let to = self.mount.destination();
        match &self.source {
            Source::Bind(tree, file_type) => {
                let kind = if *file_type == FileType::Directory { Kind::Folder } else { Kind::File };
                refuse_in_proc(to, Some(tree.as_fd()))?;
                let target = within.open_or_make(to, kind)?;
                refuse_over_proc(to, target.as_fd())?;
                if (self::file_type(target.as_fd())? == FileType::Directory) != (kind == Kind::Folder) {
                    return Err(rustix::io::Errno::NOTDIR.into());
                }
                if self.options.propagation.is_empty() {
                    // As it was opened it is a peer of the host's.
                    tree.propagate(place.propagation, true)?;
                }
                tree.change(&self.options)?;
                tree.attach(target.as_fd())
            }
            Source::Cgroups(trees) => {
                let target = plain_folder(within, to)?;
                let late;
                let trees = match trees {
                    Some(trees) => trees,
                    None => {
                        late = CgroupTrees::of(place.cgroups)?;
                        &late
                    }
                };
                trees.attach(target.as_fd(), &self.options)
            }
            Source::New => self.put_new(within, kind, place.label),
        }
    }

    fn put_new(&self, within: &Within, kind: &str, label: Option<&str>) -> io::Result<()> {
        let to = self.mount.destination();
        let target = match kind {
            "proc" | "sysfs" => plain_folder(within, to)?,
            _ => {
                refuse_in_proc(to, None)?;
                within.open_or_make(to, Kind::Folder)?
            }
        };
        if kind != "proc" {
            refuse_over_proc(to, target.as_fd())?;
        }
        let mut words = self.options.file_system.clone();
        if kind == "tmpfs" && !words.iter().any(|word| word.starts_with("mode=")) {
            // The folder keeps its mode.
            words.push(format!("mode={:04o}", rustix::fs::fstat(&target)?.st_mode & 0o7777));
        }
        if let Some(label) = label.filter(|_| !matches!(kind, "proc" | "sysfs")) {
            words.push(format!("context={label}"));
        }
        // Read-only only when everything is in it.
        let attributes = self.options.attributes.set;
        let late = attribute::RDONLY * u64::from(self.options.copy_up);
        let source = self.mount.source().as_deref();
        let tree = Tree::new(kind, source, &words, attributes & !late)?;
        if self.options.copy_up {
            copy_up::copy(within, to, &tree)?;
        }
        tree.set(Attributes { set: attributes & late, clear: 0 }, false)?;
        let rest = Options { attributes: Attributes::default(), ..Options::parse(&[]) };
        tree.change(&Options {
            propagation: self.options.propagation.clone(),
            recursive_attributes: self.options.recursive_attributes,
            ..rest
        })?;
        tree.attach(target.as_fd())
    }
}

/// The user namespace whose mapping a mount shall have: one of its own, or the container's.
fn mapping(mount: &Mount, own: Option<BorrowedFd<'_>>) -> Result<OwnedFd, Error> {
    let maps = |maps: &Option<Vec<LinuxIdMapping>>| maps.clone().unwrap_or_default();
    let (uids, gids) = (maps(mount.uid_mappings()), maps(mount.gid_mappings()));
    match (uids.is_empty() && gids.is_empty(), own) {
        (true, Some(own)) => own.try_clone_to_owned().map_err(Error::system("duplicate a descriptor")),
        (true, None) => Err(Error::Config(format!(
            "mount {}: idmap needs uidMappings and gidMappings, or a user namespace of the container",
            mount.destination().display()
        ))),
        (false, _) => user_namespace::of_mapping(&uids, &gids),
    }
}

/// Opens a folder that no link leads to, making it if need be: an image that has a link there would choose where `/proc`
/// is (CVE-2019-19921, CVE-2023-27561).
fn plain_folder(within: &Within, path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    let opened = match within.open_plain(path, flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            within.open_or_make(path, Kind::Folder)?;
            within.open_plain(path, flags)
        }
        opened => opened,
    };
    opened.map_err(|error| match error.raw_os_error() {
        Some(libc::ELOOP | libc::ENOTDIR) => io::Error::other("must be mounted on ordinary directory"),
        _ => error,
    })
}

/// What may be covered below `/proc`: files that tell of the machine, which programs such as lxcfs tell otherwise.
const IN_PROC: [&str; 11] = [
    "cpuinfo",
    "diskstats",
    "meminfo",
    "stat",
    "swaps",
    "uptime",
    "loadavg",
    "slabinfo",
    "net/dev",
    "sys/kernel/ns_last_pid",
    "sys/crypto/fips_enabled",
];

/// Nothing but procfs may be `/proc`, for what is written there confines processes.
fn refuse_in_proc(path: &Path, source: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(clean.pop()),
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    let Ok(below) = clean.strip_prefix("proc") else { return Ok(()) };
    let is_proc = |file: BorrowedFd<'_>| rustix::fs::fstatfs(file).is_ok_and(|found| found.f_type == PROC_SUPER_MAGIC);
    if below.as_os_str().is_empty() && source.is_some_and(is_proc)
        || IN_PROC.iter().any(|name| below == Path::new(name))
    {
        return Ok(());
    }
    Err(io::Error::other(format!("{:?} cannot be mounted because it is inside /proc", path.display())))
}

/// The same for a path that a link leads into `/proc`.
pub(crate) fn refuse_over_proc(path: &Path, target: BorrowedFd<'_>) -> io::Result<()> {
    if rustix::fs::fstatfs(target)?.f_type != PROC_SUPER_MAGIC {
        return Ok(());
    }
    let clean: PathBuf = path.components().filter(|part| *part != Component::RootDir).collect();
    if clean
        .strip_prefix("proc")
        .is_ok_and(|below| IN_PROC.iter().any(|name| below == Path::new(name)) || below.as_os_str().is_empty())
    {
        return Ok(());
    }
    Err(io::Error::other(format!("{:?} cannot be mounted because it is inside /proc", path.display())))
}
