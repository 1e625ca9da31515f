//! Devices: nodes that are made, and what the device cgroup lets through.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};
use rustix::fs::{major, minor};

use super::{Bind, Facts, SpecError};
use crate::config::{DeviceMapping, HostConfig};

/// Devices of a container.
#[derive(Debug, Default)]
pub(super) struct Devices {
    /// Nodes that are made.
    pub nodes: Vec<LinuxDevice>,
    /// Nodes of the host that are bound, where none can be made.
    pub binds: Vec<Bind>,
    /// Rules of the device cgroup.
    pub rules: Vec<LinuxDeviceCgroup>,
}

/// `null`, `zero` and so on: what every container may use. The runtime makes their nodes.
const ALWAYS: [(i64, i64); 6] = [(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)];

pub(super) fn devices(host: &HostConfig, facts: &Facts<'_>) -> Result<Devices, SpecError> {
    let mut found = Devices::default();
    if host.privileged {
        found.rules.push(rule(true, None, None, None, "rwm"));
        let mut nodes = Vec::new();
        walk(Path::new("/dev"), "/dev", true, &mut nodes)
            .map_err(|source| SpecError::Device { path: "/dev".to_owned(), source })?;
        found.nodes.extend(nodes);
    } else {
        found.rules.push(rule(false, None, None, None, "rwm"));
        let always =
            ALWAYS.iter().map(|(major, minor)| rule(true, Some(LinuxDeviceType::C), Some(*major), Some(*minor), "rwm"));
        found.rules.extend(always);
    }
    for mapping in &host.devices {
        let nodes = mapped(mapping)?;
        for node in nodes {
            if !host.privileged {
                found.rules.push(rule(
                    true,
                    Some(node.typ()),
                    Some(node.major()),
                    Some(node.minor()),
                    &mapping.cgroup_permissions,
                ));
            }
            found.nodes.retain(|before| before.path() != node.path());
            found.nodes.push(node);
        }
    }
    for text in &host.device_cgroup_rules {
        found.rules.push(parsed_rule(text)?);
    }
    if facts.rootless.is_some() {
        bind_instead(&mut found, &host.devices);
    }
    Ok(found)
}

/// An ordinary user makes no nodes; those of the host can be bound. Those that he cannot open do no harm.
fn bind_instead(found: &mut Devices, mappings: &[DeviceMapping]) {
    for node in found.nodes.drain(..) {
        let path = node.path().clone();
        let mapping = mappings.iter().find(|mapping| path.starts_with(&mapping.path_in_container));
        let source = match mapping {
            Some(mapping) => {
                let below = path.strip_prefix(&mapping.path_in_container).unwrap_or(Path::new(""));
                if below.as_os_str().is_empty() {
                    mapping.path_on_host.clone().into()
                } else {
                    Path::new(&mapping.path_on_host).join(below)
                }
            }
            None => path.clone(),
        };
        found.binds.push(Bind {
            source,
            destination: path,
            is_writable: true,
            propagation: Some(crate::config::Propagation::Private),
            is_recursive: false,
        });
    }
}

fn rule(
    allow: bool,
    kind: Option<LinuxDeviceType>,
    major: Option<i64>,
    minor: Option<i64>,
    access: &str,
) -> LinuxDeviceCgroup {
    let mut rule = LinuxDeviceCgroup::default();
    rule.set_allow(allow);
    rule.set_typ(kind);
    rule.set_major(major);
    rule.set_minor(minor);
    rule.set_access(Some(access.to_owned()));
    rule
}

/// `c 1:3 rwm`, the numbers perhaps `*`.
fn parsed_rule(text: &str) -> Result<LinuxDeviceCgroup, SpecError> {
    let wrong = || SpecError::DeviceRule(text.to_owned());
    let words: Vec<&str> = text.split(' ').collect();
    let [kind, numbers, access] = words.as_slice() else { return Err(wrong()) };
    let kind = match *kind {
        "a" => LinuxDeviceType::A,
        "b" => LinuxDeviceType::B,
        "c" => LinuxDeviceType::C,
        _ => return Err(wrong()),
    };
    let (major, minor) = numbers.split_once(':').ok_or_else(wrong)?;
    let number = |text: &str| if text == "*" { Ok(-1) } else { text.parse().map_err(|_| wrong()) };
    Ok(rule(true, Some(kind), Some(number(major)?), Some(number(minor)?), access))
}

/// The device of a path, or all devices of a folder.
fn mapped(mapping: &DeviceMapping) -> Result<Vec<LinuxDevice>, SpecError> {
    let path = &mapping.path_on_host;
    let wrong = |source| SpecError::Device { path: path.clone(), source };
    // A link such as `/dev/cdrom` means what it points at.
    let real = std::fs::canonicalize(path).map_err(|error| wrong(plain(&error)))?;
    let metadata = std::fs::metadata(&real).map_err(wrong)?;
    if let Some(device) = node(&metadata, &mapping.path_in_container) {
        return Ok(vec![device]);
    }
    let mut nodes = Vec::new();
    if metadata.is_dir() {
        walk(&real, &mapping.path_in_container, false, &mut nodes).map_err(wrong)?;
    }
    if nodes.is_empty() { Err(SpecError::NoDevice(path.clone())) } else { Ok(nodes) }
}

/// The same error in the kernel's words alone.
fn plain(error: &io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(io::ErrorKind::NotFound, "no such file or directory"),
        kind => kind.into(),
    }
}

/// All devices below a folder. Of `/dev` itself what is the container's own is left out.
fn walk(folder: &Path, inside: &str, is_dev: bool, nodes: &mut Vec<LinuxDevice>) -> io::Result<()> {
    let mut entries: Vec<_> = std::fs::read_dir(folder)?.collect::<Result<_, _>>()?;
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        let own = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev", "console"];
        if is_dev && own.contains(&name.as_str()) {
            continue;
        }
        let path = format!("{}/{name}", inside.trim_end_matches('/'));
        // What went away meanwhile is no longer a device.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            match walk(&entry.path(), &path, is_dev, nodes) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        } else {
            nodes.extend(node(&metadata, &path));
        }
    }
    Ok(())
}

fn node(metadata: &std::fs::Metadata, path: &str) -> Option<LinuxDevice> {
    let kind = metadata.file_type();
    let typ = match (kind.is_char_device(), kind.is_block_device()) {
        (true, _) => LinuxDeviceType::C,
        (_, true) => LinuxDeviceType::B,
        _ => return None,
    };
    let mut device = LinuxDevice::default();
    device.set_path(path.into());
    device.set_typ(typ);
    device.set_major(i64::from(major(metadata.rdev())));
    device.set_minor(i64::from(minor(metadata.rdev())));
    device.set_file_mode(Some(metadata.mode() & 0o7777));
    device.set_uid(Some(metadata.uid()));
    device.set_gid(Some(metadata.gid()));
    Some(device)
}

/// Major and minor number of a device of the host.
pub(super) fn numbers(path: &str) -> Result<(i64, i64), SpecError> {
    let wrong = |source| SpecError::Device { path: path.to_owned(), source };
    let metadata = std::fs::metadata(path).map_err(|error| wrong(plain(&error)))?;
    Ok((i64::from(major(metadata.rdev())), i64::from(minor(metadata.rdev()))))
}
