//! What `-v` and `--mount` ask for, read and checked as docker does it.

use std::path::Path;

use super::{Error, InvalidMount, LOCAL, Problem};
use crate::config::{BindOptions, Driver, Mount, MountDetails, MountKind, MountPoint, Propagation, VolumeOptions};

/// The options at the end of a `-v` or `--volumes-from`: each kind once at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mode {
    pub(super) read_only: bool,
    pub(super) no_copy: bool,
    pub(super) propagation: Option<Propagation>,
}

impl Mode {
    /// Reads the options of a `-v`.
    pub(super) fn of_bind(text: &str) -> Option<Self> {
        let mut mode = Self { read_only: false, no_copy: false, propagation: None };
        let (mut access, mut label, mut copy, mut consistency) = (false, false, false, false);
        for word in text.split(',').filter(|_| !text.is_empty()) {
            let is_second = match word {
                "ro" | "rw" => {
                    mode.read_only = word == "ro";
                    std::mem::replace(&mut access, true)
                }
                // Labels are SELinux's: where that is not, they change nothing.
                "z" | "Z" => std::mem::replace(&mut label, true),
                "nocopy" => {
                    mode.no_copy = true;
                    std::mem::replace(&mut copy, true)
                }
                "default" | "consistent" | "cached" | "delegated" => std::mem::replace(&mut consistency, true),
                word => mode.propagation.replace(word.parse().ok()?).is_some(),
            };
            if is_second {
                return None;
            }
        }
        Some(mode)
    }

    /// Reads the options of a `--volumes-from`.
    fn of_volumes_from(text: &str) -> Option<Self> {
        let is_known = |word| matches!(word, "ro" | "rw" | "z" | "Z");
        Self::of_bind(text).filter(|_| text.is_empty() || text.split(',').all(is_known))
    }
}

/// Reads `container[:options]`: the container, and whether its mounts can only be read.
pub(super) fn volumes_from(text: &str) -> Result<(&str, bool), Error> {
    if text.is_empty() {
        return Err(Error::EmptyVolumesFrom);
    }
    let (container, mode) = text.split_once(':').unwrap_or((text, ""));
    let mode = Mode::of_volumes_from(mode).ok_or_else(|| Error::InvalidMode(mode.to_owned()))?;
    Ok((container, mode.read_only))
}

/// Reads a `-v`: `destination`, `source:destination` or `source:destination:options`.
pub(super) fn bind(text: &str, driver: &str) -> Result<Asked, Error> {
    let invalid = || Error::InvalidSpecification(text.to_owned());
    let parts: Vec<&str> = text.splitn(4, ':').collect();
    let (source, target, mode) = match parts.as_slice() {
        [target] if !target.is_empty() => ("", *target, ""),
        // Options without a source: nobody could ever write to what `ro` asks for.
        [_, second] if Mode::of_bind(second).is_some() => return Err(invalid()),
        [source, target] if !source.is_empty() => (*source, *target, ""),
        [source, target, mode] if !source.is_empty() => (*source, *target, *mode),
        _ => return Err(invalid()),
    };
    let read = Mode::of_bind(mode).ok_or_else(|| Error::InvalidMode(mode.to_owned()))?;
    let kind = if source.starts_with('/') { MountKind::Bind } else { MountKind::Volume };
    let named = (kind == MountKind::Volume && !driver.is_empty()).then(|| VolumeOptions {
        driver_config: Some(Driver { name: driver.to_owned(), ..Driver::default() }),
        ..VolumeOptions::default()
    });
    let options = if read.no_copy { Some(VolumeOptions { no_copy: true, ..named.unwrap_or_default() }) } else { named };
    let mount = Mount {
        kind,
        source: source.to_owned(),
        target: target.to_owned(),
        read_only: read.read_only,
        bind_options: read
            .propagation
            .map(|propagation| BindOptions { propagation: Some(propagation), ..BindOptions::default() }),
        volume_options: options,
        ..Mount::default()
    };
    let mut asked = Asked::of(&mount, false).map_err(|source| match source.problem {
        _ if parts.len() == 1 => Error::InvalidMount(source),
        _ => Error::InvalidBind { text: text.to_owned(), source },
    })?;
    asked.point.mode = mode.to_owned();
    asked.point.details.creates_source = kind == MountKind::Bind;
    Ok(asked)
}

/// A mount that can be made, and for a volume what it shall be.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) point: MountPoint,
    pub(super) options: VolumeOptions,
}

impl Asked {
    /// Checks what `--mount` asks for. With `existing` a source on the host must be there.
    pub(super) fn of(mount: &Mount, existing: bool) -> Result<Self, InvalidMount> {
        let kind = mount.kind;
        check(mount, existing).map_err(|problem| InvalidMount { kind: kind.as_str(), problem })?;
        let bind = mount.bind_options.clone().unwrap_or_default();
        let volume = mount.volume_options.clone().unwrap_or_default();
        let mut point =
            MountPoint { kind, destination: clean(&mount.target), writable: !mount.read_only, ..MountPoint::default() };
        match kind {
            MountKind::Bind => {
                point.source = clean(&mount.source);
                point.propagation = Some(bind.propagation.unwrap_or(Propagation::Rprivate));
                point.details.non_recursive = bind.non_recursive;
                point.details.creates_source = bind.create_mountpoint;
            }
            MountKind::Volume => {
                point.name.clone_from(&mount.source);
                let driver = volume.driver_config.as_ref().map(|driver| driver.name.as_str());
                point.driver = driver.filter(|name| !name.is_empty()).unwrap_or(LOCAL).to_owned();
                point.details = MountDetails {
                    seeded: !volume.no_copy && volume.subpath.is_empty(),
                    subpath: volume.subpath.clone(),
                    ..MountDetails::default()
                };
            }
            MountKind::Tmpfs => point.details.tmpfs.clone_from(&mount.tmpfs_options),
        }
        Ok(Self { point, options: volume })
    }
}

fn check(mount: &Mount, existing: bool) -> Result<(), Problem> {
    if mount.target.is_empty() {
        return Err(Problem::Missing("Target"));
    }
    target(&mount.target)?;
    let (bind, volume, tmpfs) = (&mount.bind_options, &mount.volume_options, &mount.tmpfs_options);
    let extra = |given: bool, field| if given { Err(Problem::Extra(field)) } else { Ok(()) };
    match mount.kind {
        MountKind::Bind => {
            if mount.source.is_empty() {
                return Err(Problem::Missing("Source"));
            }
            extra(volume.is_some(), "VolumeOptions")?;
            extra(tmpfs.is_some(), "TmpfsOptions")?;
            absolute(&mount.source)?;
            let is_made = bind.as_ref().is_some_and(|options| options.create_mountpoint);
            if existing && !is_made && !Path::new(&mount.source).exists() {
                return Err(Problem::NoSource(mount.source.clone()));
            }
            Ok(())
        }
        MountKind::Volume => {
            extra(bind.is_some(), "BindOptions")?;
            extra(tmpfs.is_some(), "TmpfsOptions")?;
            if mount.source.is_empty() && mount.read_only {
                return Err(Problem::ReadOnlyAnonymous);
            }
            let subpath = volume.as_ref().map_or("", |options| options.subpath.as_str());
            let leads_out = subpath.starts_with('/') || subpath.split('/').any(|part| part == "..");
            if leads_out { Err(Problem::Subpath) } else { Ok(()) }
        }
        MountKind::Tmpfs => {
            extra(bind.is_some(), "BindOptions")?;
            extra(volume.is_some(), "VolumeOptions")?;
            extra(!mount.source.is_empty(), "Source")
        }
    }
}

/// Refuses paths in the container where nothing can be mounted.
pub(super) fn target(path: &str) -> Result<(), Problem> {
    if clean(path) == "/" { Err(Problem::Root) } else { absolute(path) }
}

fn absolute(path: &str) -> Result<(), Problem> {
    if path.starts_with('/') { Ok(()) } else { Err(Problem::Relative(path.to_owned())) }
}

/// The shortest path that leads to the same place if there are no links: Go's `path.Clean`.
pub(super) fn clean(path: &str) -> String {
    let is_absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/').filter(|part| !matches!(*part, "" | ".")) {
        match part {
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if is_absolute => {}
            part => parts.push(part),
        }
    }
    match (is_absolute, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}
