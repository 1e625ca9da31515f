//! `mounts`: docker's own, then what was asked for, places nearer to the root first.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::devices::Devices;
use super::{Bind, Facts};
use crate::check::CgroupVersion;
use crate::config::{CgroupnsMode, HostConfig, IpcMode, MountKind, NetworkMode, Propagation, TmpfsOptions};
use crate::mounts::clean;

/// Mounts of a container.
pub(super) struct Mounts {
    /// In order.
    pub list: Vec<Mount>,
    /// `rootfsPropagation`, where a mount needs it.
    pub propagation: Option<&'static str>,
}

pub(super) fn mounts(host: &HostConfig, facts: &Facts<'_>, devices: &Devices) -> Mounts {
    let mut asked: Vec<Mount> = facts.binds.iter().map(bind).collect();
    asked.extend(memory(host));
    asked.sort_by_key(|mount| depth(mount.destination()));
    let own: Vec<PathBuf> = asked.iter().map(|mount| mount.destination().clone()).collect();
    let mut list = default_mounts(host, facts);
    // What somebody mounts over one of ours takes its place; over `/dev` also that of what we put below.
    let replaced = |mount: &Mount| {
        let place = mount.destination();
        own.contains(place) || own.iter().any(|path| path == Path::new("/dev")) && place.starts_with("/dev")
    };
    list.retain(|mount| !replaced(mount));
    if host.readonly_rootfs {
        for mount in &mut list {
            let stays = ["/proc", "/dev", "/dev/pts", "/dev/shm", "/dev/mqueue"];
            if !stays.iter().any(|path| mount.destination() == Path::new(path)) {
                add_option(mount, "ro");
            }
        }
    }
    if host.privileged {
        for mount in &mut list {
            if mount.destination().starts_with("/sys") {
                let options = mount.options().iter().flatten().filter(|option| *option != "ro").cloned().collect();
                mount.set_options(Some(options));
            }
        }
    }
    let files = [
        ("/etc/resolv.conf", &facts.resolv_conf),
        ("/etc/hostname", &facts.hostname_file),
        ("/etc/hosts", &facts.hosts),
    ];
    let mut files: Vec<Mount> = files
        .into_iter()
        .filter_map(|(place, source)| Some((place, source.as_ref()?)))
        .filter(|(place, _)| !own.iter().any(|path| path == Path::new(place)))
        .map(|(place, source)| {
            bind(&Bind {
                source: source.clone(),
                destination: place.into(),
                is_writable: !host.readonly_rootfs,
                propagation: Some(Propagation::Rprivate),
                is_recursive: true,
            })
        })
        .collect();
    let shared = Path::new("/dev/shm");
    if let Some(source) = shm_source(host, facts)
        && !own.iter().any(|path| path == shared)
    {
        files.push(bind(&Bind {
            source,
            destination: shared.to_owned(),
            is_writable: true,
            propagation: Some(Propagation::Rprivate),
            is_recursive: true,
        }));
    }
    let propagation = root_propagation(&facts.binds);
    list.extend(asked);
    list.extend(files);
    list.extend(devices.binds.iter().map(bind));
    Mounts { list, propagation }
}

fn depth(path: &Path) -> usize {
    path.components().count()
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount.set_destination(destination.into());
    mount.set_typ(Some(kind.to_owned()));
    mount.set_source(Some(source.into()));
    mount.set_options(Some(options.iter().map(|option| (*option).to_owned()).collect()));
    mount
}

fn add_option(mount: &mut Mount, option: &str) {
    let mut options = mount.options().clone().unwrap_or_default();
    if !options.iter().any(|known| known == option) {
        options.push(option.to_owned());
    }
    mount.set_options(Some(options));
}

fn default_mounts(host: &HostConfig, facts: &Facts<'_>) -> Vec<Mount> {
    const QUIET: [&str; 3] = ["nosuid", "noexec", "nodev"];
    let mut list = vec![
        mount("/proc", "proc", "proc", &QUIET),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ];
    let mut terminal = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    // The terminals' group has to be one that is mapped.
    if facts.rootless.is_none_or(|rootless| rootless.has_many_ids) {
        terminal.push("gid=5");
    }
    list.push(mount("/dev/pts", "devpts", "devpts", &terminal));
    // Only the owner of a network namespace may mount what shows it.
    let shares_network = matches!(host.network_mode, NetworkMode::Host);
    if facts.rootless.is_some() && shares_network {
        list.push(mount("/sys", "bind", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"]));
    } else {
        list.push(mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"]));
        if mounts_cgroups(host, facts) {
            list.push(mount("/sys/fs/cgroup", "cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]));
        }
    }
    if facts.rootless.is_none() || host.ipc_mode != IpcMode::Host {
        list.push(mount("/dev/mqueue", "mqueue", "mqueue", &QUIET));
    }
    let has_own = matches!(host.ipc_mode, IpcMode::Default | IpcMode::Private | IpcMode::Shareable);
    if has_own && facts.shm.is_none() {
        let size = format!("size={}", host.shm_size);
        list.push(mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", &size]));
    }
    list
}

/// Cgroups of version 1 are the host's and cannot be mounted by an ordinary user; nor can those of version 2 without a
/// namespace of their own.
fn mounts_cgroups(host: &HostConfig, facts: &Facts<'_>) -> bool {
    facts.rootless.is_none()
        || facts.cgroup_version == CgroupVersion::Two && host.cgroupns_mode == CgroupnsMode::Private
}

/// What is bound at `/dev/shm`.
fn shm_source(host: &HostConfig, facts: &Facts<'_>) -> Option<PathBuf> {
    match host.ipc_mode {
        IpcMode::Host => Some("/dev/shm".into()),
        IpcMode::None => None,
        _ => facts.shm.clone(),
    }
}

fn bind(asked: &Bind) -> Mount {
    let mut options = vec![if asked.is_recursive { "rbind" } else { "bind" }];
    if !asked.is_writable {
        options.push("ro");
    }
    if let Some(propagation) = asked.propagation {
        options.push(propagation.as_str());
    }
    let source = asked.source.to_string_lossy();
    mount(&asked.destination.to_string_lossy(), "bind", &source, &options)
}

/// `--tmpfs`, and memory of `--mount`.
fn memory(host: &HostConfig) -> Vec<Mount> {
    const BASE: [&str; 4] = ["noexec", "nosuid", "nodev", "rprivate"];
    let written = host.tmpfs.iter().map(|(path, options)| (clean(path), options.clone()));
    let with_fields = host.mounts.iter().filter(|mount| mount.kind == MountKind::Tmpfs);
    let with_fields = with_fields.map(|mount| {
        let options = mount.tmpfs_options.clone().unwrap_or_default();
        (clean(&mount.target), fields(&options, mount.read_only))
    });
    written
        .chain(with_fields)
        .map(|(path, options)| {
            let merged = merged(&BASE, options.split(',').filter(|option| !option.is_empty()));
            let merged: Vec<&str> = merged.iter().map(String::as_str).collect();
            mount(&path, "tmpfs", "tmpfs", &merged)
        })
        .collect()
}

fn fields(options: &TmpfsOptions, read_only: bool) -> String {
    let mut all = Vec::new();
    if options.mode != 0 {
        all.push(format!("mode={:o}", options.mode));
    }
    if options.size_bytes != 0 {
        // The largest unit that divides it, as docker writes it.
        let units = [(1_i64 << 30, "g"), (1 << 20, "m"), (1 << 10, "k"), (1, "")];
        let unit = units.into_iter().find(|(size, _)| options.size_bytes % size == 0).unwrap_or((1, ""));
        all.push(format!("size={}{}", options.size_bytes / unit.0, unit.1));
    }
    if read_only {
        all.push("ro".to_owned());
    }
    all.join(",")
}

/// The options of mount(8), the last of those that contradict each other.
fn merged<'a>(base: &[&str], asked: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut all: Vec<String> = base.iter().map(|option| (*option).to_owned()).collect();
    let subject = |option: &str| {
        let name = option.split('=').next().unwrap_or_default();
        match name {
            "ro" | "rw" => "ro".to_owned(),
            "async" | "sync" => "sync".to_owned(),
            "private" | "rprivate" | "shared" | "rshared" | "slave" | "rslave" => "propagation".to_owned(),
            name => name.strip_prefix("no").unwrap_or(name).to_owned(),
        }
    };
    for option in asked {
        all.retain(|before| subject(before) != subject(option));
        all.push(option.to_owned());
    }
    all
}

/// A mount can only receive what its parent receives.
fn root_propagation(binds: &[Bind]) -> Option<&'static str> {
    let any = |kinds: [Propagation; 2]| {
        binds.iter().any(|bind| bind.propagation.is_some_and(|propagation| kinds.contains(&propagation)))
    };
    if any([Propagation::Shared, Propagation::Rshared]) {
        Some("shared")
    } else if any([Propagation::Slave, Propagation::Rslave]) {
        Some("rslave")
    } else {
        None
    }
}
