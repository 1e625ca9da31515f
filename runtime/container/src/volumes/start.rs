//! Mounts when a container starts: sources made and checked, as the builder of `config.json` wants them.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

use super::{Error, Volumes};
use crate::config::{MountKind, MountPoint, Propagation};
use crate::mounts::clean;
use crate::spec::Bind;

impl Volumes {
    /// Makes everything ready that a container mounts, and tells how. Folders of the host that `-v` names are made, volumes
    /// are mounted where they have to be. Memory is not here: the builder of `config.json` has it from the `HostConfig`.
    ///
    /// # Errors
    /// Docker's, in its words.
    pub fn binds(&self, mounts: &[MountPoint]) -> Result<Vec<Bind>, Error> {
        mounts.iter().filter(|point| point.kind != MountKind::Tmpfs).map(|point| self.bind(point)).collect()
    }

    fn bind(&self, point: &MountPoint) -> Result<Bind, Error> {
        let source = match point.kind {
            MountKind::Bind | MountKind::Tmpfs => source_of(point)?,
            MountKind::Volume => self.folder_of(point)?,
        };
        if let Some(propagation) = point.propagation {
            check_propagation(&source, propagation)?;
        }
        Ok(Bind {
            source,
            destination: clean(&point.destination).into(),
            is_writable: point.writable,
            propagation: point.propagation,
            is_recursive: !point.details.non_recursive,
        })
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

/// Refuses a propagation that the host does not give.
fn check_propagation(source: &Path, propagation: Propagation) -> Result<(), Error> {
    let wanted = match propagation {
        Propagation::Private | Propagation::Rprivate => return Ok(()),
        Propagation::Shared | Propagation::Rshared => "shared",
        Propagation::Slave | Propagation::Rslave => "shared or slave",
    };
    let path = std::fs::canonicalize(source).map_err(Error::system("read", source))?;
    let info = Path::new("/proc/self/mountinfo");
    let table = std::fs::read_to_string(info).map_err(Error::system("read", info))?;
    let (mount, is_shared, is_slave) = mount_of(&path, &table).unwrap_or_default();
    if is_shared || (is_slave && wanted != "shared") {
        return Ok(());
    }
    Err(Error::NotShared { source_path: path.display().to_string(), mount, wanted })
}

/// The mount that a path lies in, and whether it is shared or a slave.
pub(super) fn mount_of(path: &Path, table: &str) -> Option<(String, bool, bool)> {
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
