//! Mounts as an OCI runtime is told of them, when a container starts.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use super::specification::clean;
use super::{Error, Volumes, tmpfs};
use crate::config::{HostConfig, MountKind, MountPoint, Propagation};

/// What a container's mounts are for its runtime.
#[derive(Debug, Default)]
pub struct Mounted {
    /// Those above others first.
    pub mounts: Vec<Mount>,
    /// What the container's root must be (`linux.rootfsPropagation`) so that mounts propagate as they were asked to.
    pub root_propagation: Option<Propagation>,
}

impl Volumes {
    /// Makes everything ready that a container mounts, and tells how: mounts of its record, and `--tmpfs`. Folders of
    /// the host that `-v` names are made, volumes are mounted where they have to be.
    ///
    /// A runtime gets them behind the mounts that every container has; of those with the same place (`/dev/shm`,
    /// `/etc/hosts`) only these.
    ///
    /// # Errors
    /// Docker's, in its words.
    pub fn mounts(&self, mounts: &[MountPoint], host_config: &HostConfig) -> Result<Mounted, Error> {
        let mut mounted = Mounted::default();
        let memory: BTreeMap<String, &str> =
            host_config.tmpfs.iter().map(|(path, options)| (clean(path), options.as_str())).collect();
        for (path, options) in memory {
            let options = tmpfs::merged(options)?;
            if !mounts.iter().any(|mount| mount.destination == path) {
                mounted.mounts.push(mount(&path, "tmpfs", Path::new("tmpfs"), options));
            }
        }
        for point in mounts {
            let destination = clean(&format!("/{}", point.destination));
            let made = match point.kind {
                MountKind::Tmpfs => {
                    let options = tmpfs::of_mount(point.details.tmpfs.as_ref(), !point.writable);
                    mount(&destination, "tmpfs", Path::new("tmpfs"), options)
                }
                MountKind::Bind => {
                    let source = source_of(point)?;
                    if let Some(propagation) = point.propagation {
                        raise(&mut mounted.root_propagation, required(&source, propagation)?);
                    }
                    mount(&destination, "bind", &source, bind_options(point))
                }
                MountKind::Volume => mount(&destination, "bind", &self.folder_of(point)?, bind_options(point)),
            };
            mounted.mounts.push(made);
        }
        let depth = |mount: &Mount| mount.destination().components().count();
        mounted.mounts.sort_by(|one, other| (depth(one), one.destination()).cmp(&(depth(other), other.destination())));
        Ok(mounted)
    }

    /// The folder of the host that a volume's mount shows.
    fn folder_of(&self, point: &MountPoint) -> Result<PathBuf, Error> {
        let volume = self.find(&point.name)?;
        volume.prepare()?;
        let data = volume.data();
        let subpath = &point.details.subpath;
        if subpath.is_empty() {
            return Ok(data);
        }
        // A link could lead anywhere: containers write in volumes.
        let inside = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        openat(CWD, &data, flags | OFlags::DIRECTORY, Mode::empty())
            .and_then(|folder| openat2(folder, subpath.as_str(), flags, Mode::empty(), inside))
            .map_err(|error| Error::Subpath {
                volume: point.name.clone(),
                subpath: subpath.clone(),
                source: error.into(),
            })?;
        Ok(data.join(subpath))
    }
}

fn mount(destination: &str, kind: &str, source: &Path, options: Vec<String>) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(destination.into())
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options));
    mount
}

fn bind_options(point: &MountPoint) -> Vec<String> {
    let mut options = vec![if point.details.non_recursive { "bind" } else { "rbind" }];
    if !point.writable {
        options.push("ro");
    }
    options.extend(point.propagation.map(Propagation::as_str));
    options.into_iter().map(str::to_owned).collect()
}

/// The source of a bind mount, made if that was asked for.
fn source_of(point: &MountPoint) -> Result<PathBuf, Error> {
    let path = PathBuf::from(&point.source);
    if path.exists() {
        return Ok(path);
    }
    if !point.details.creates_source {
        return Err(Error::NoSource(point.source.clone()));
    }
    let failed = |source| Error::MakeSource { path: path.clone(), source };
    std::fs::DirBuilder::new().mode(0o755).recursive(true).create(&path).map_err(failed)?;
    Ok(path)
}

/// Keeps the stronger of two demands on the root.
fn raise(root: &mut Option<Propagation>, needed: Option<Propagation>) {
    if let Some(needed) = needed
        && *root != Some(Propagation::Shared)
    {
        *root = Some(needed);
    }
}

/// What the container's root must be for a propagation, which the host must give.
fn required(source: &Path, propagation: Propagation) -> Result<Option<Propagation>, Error> {
    let (wanted, root) = match propagation {
        Propagation::Private | Propagation::Rprivate => return Ok(None),
        Propagation::Shared | Propagation::Rshared => ("shared", Propagation::Shared),
        Propagation::Slave | Propagation::Rslave => ("shared or slave", Propagation::Rslave),
    };
    let path = std::fs::canonicalize(source).map_err(Error::system("read", source))?;
    let info = Path::new("/proc/self/mountinfo");
    let table = std::fs::read_to_string(info).map_err(Error::system("read", info))?;
    let (mount, is_shared, is_slave) = mount_of(&path, &table).unwrap_or_default();
    if is_shared || (root == Propagation::Rslave && is_slave) {
        return Ok(Some(root));
    }
    Err(Error::NotShared { source_path: path.display().to_string(), mount, wanted })
}

/// The mount that a path lies in, and whether it is shared or a slave.
fn mount_of(path: &Path, table: &str) -> Option<(String, bool, bool)> {
    let read = |line: &str| {
        let mut fields = line.split(' ');
        let at = unescaped(fields.nth(4)?);
        let optional: Vec<&str> = fields.skip(1).take_while(|field| *field != "-").collect();
        let has = |start: &str| optional.iter().any(|field| field.starts_with(start));
        path.starts_with(&at).then(|| (at, has("shared:"), has("master:")))
    };
    // The last of several mounts at one place is on top.
    table.lines().filter_map(read).max_by_key(|(at, ..)| at.len())
}

/// Spaces and the like stand as three octal digits there.
fn unescaped(field: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .into_iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(field.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}
