//! `config.json` of a container (runtime-spec 1.2): what docker's daemon would hand to its runtime, made of `Config`,
//! `HostConfig` and the facts that only the caller knows. Nothing is mounted or made here; the container's root is read only
//! for `/etc/passwd` and `/etc/group`, the host's `/dev` for the devices that are asked for.

mod devices;
mod document;
mod error;
mod identity;
mod mounts;
mod process;
mod resources;

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Root};
use serde_json::value::RawValue;

pub use document::{Capabilities, Linux, Process, Rlimit, Spec};
pub use error::SpecError;
pub use identity::{Identity, identity};
pub use process::{DEFAULT_PATH, environment};
pub use resources::refuse_limits;

use crate::check::{CgroupVersion, granted_capabilities, security};
use crate::config::{CgroupnsMode, Config, HostConfig, IpcMode, NetworkMode, PidMode, Propagation, UtsMode};

/// The version of the specification that is followed.
pub const OCI_VERSION: &str = "1.2.1";

/// What only the caller knows.
pub struct Facts<'a> {
    /// The container's root, mounted.
    pub root: PathBuf,
    /// Who it runs as (`identity`).
    pub identity: Identity,
    /// Everything that is bound from the host, volumes among it. `--tmpfs` and memory of `--mount` are not: they are in
    /// `HostConfig`.
    pub binds: Vec<Bind>,
    /// The container's hosts file, if it has one.
    pub hosts: Option<PathBuf>,
    /// The container's host name file.
    pub hostname_file: Option<PathBuf>,
    /// The container's resolver configuration.
    pub resolv_conf: Option<PathBuf>,
    /// `cgroupsPath`.
    pub cgroup: Option<PathBuf>,
    /// Network namespace that it is in; `None`: the host's with `--network host`, else a new one.
    pub network: Option<PathBuf>,
    /// Process namespace of the container that `--pid container:` names.
    pub pid: Option<PathBuf>,
    /// IPC namespace of the container that `--ipc container:` names.
    pub ipc: Option<PathBuf>,
    /// Host path of what is mounted at `/dev/shm` instead of memory of its own: another container's, or its own if that
    /// is shareable.
    pub shm: Option<PathBuf>,
    /// Where our init is in the container, for `--init`.
    pub init: PathBuf,
    /// Which cgroups there are.
    pub cgroup_version: CgroupVersion,
    /// What an ordinary user lacks; `None` for root.
    pub rootless: Option<Rootless>,
    /// What this process may give away, by number.
    pub bounding: Vec<bool>,
    /// Docker's default seccomp profile for these capabilities, in JSON; `None` where there is no seccomp.
    pub default_profile: &'a dyn Fn(&[String]) -> Option<Box<RawValue>>,
    /// `NAME=value` that stand before the container's own: those of links.
    pub link_environment: Vec<String>,
}

/// What an ordinary user lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rootless {
    /// Whether there is a cgroup of his own.
    pub has_cgroup: bool,
    /// Whether there are more ids than one.
    pub has_many_ids: bool,
    /// `oom_score_adj` of this process, which cannot be made less.
    pub oom_score_adj: i64,
}

/// Something of the host in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Path on the host.
    pub source: PathBuf,
    /// Path in the container.
    pub destination: PathBuf,
    /// Whether it can be written to.
    pub is_writable: bool,
    /// How later mounts propagate; nothing for volumes.
    pub propagation: Option<Propagation>,
    /// Whether mounts below the source come along.
    pub is_recursive: bool,
}

/// Builds the file.
pub fn build(config: &Config, host: &HostConfig, facts: &Facts<'_>) -> Result<Spec, SpecError> {
    if let Some(request) = host.device_requests.first() {
        let capabilities = request.capabilities.iter().map(|list| format!("[{}]", list.join(" ")));
        let capabilities: Vec<String> = capabilities.collect();
        return Err(SpecError::DeviceDriver { driver: request.driver.clone(), capabilities: capabilities.join(" ") });
    }
    let security = security(&host.security_opt)?;
    let granted = granted_capabilities(host, &facts.bounding);
    let devices = devices::devices(host, facts)?;
    let mounts = mounts::mounts(host, facts, &devices);
    let has_own_uts = host.uts_mode == UtsMode::Private;
    Ok(Spec {
        oci_version: OCI_VERSION,
        process: process::process(config, host, facts, &security, &granted),
        root: {
            let mut root = Root::default();
            root.set_path(facts.root.clone());
            root.set_readonly(host.readonly_rootfs.then_some(true));
            root
        },
        hostname: if has_own_uts { config.hostname.clone() } else { String::new() },
        mounts: mounts.list,
        annotations: host.annotations.clone(),
        linux: Linux {
            sysctl: sysctls(config, host, facts),
            resources: resources::resources(host, facts, &devices)?,
            cgroups_path: facts.cgroup.clone(),
            namespaces: namespaces(host, facts),
            devices: devices.nodes,
            rootfs_propagation: mounts.propagation,
            seccomp: seccomp(host, facts, security.seccomp, &granted)?,
            masked_paths: paths(host, &host.masked_paths, &crate::check::MASKED_PATHS),
            readonly_paths: paths(host, &host.readonly_paths, &crate::check::READONLY_PATHS),
        },
    })
}

fn namespaces(host: &HostConfig, facts: &Facts<'_>) -> Vec<LinuxNamespace> {
    let mut list = Vec::new();
    let mut add = |kind, path: &Option<PathBuf>| {
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(kind);
        namespace.set_path(path.clone());
        list.push(namespace);
    };
    add(LinuxNamespaceType::Mount, &None);
    if host.network_mode != NetworkMode::Host {
        add(LinuxNamespaceType::Network, &facts.network);
    }
    if host.uts_mode == UtsMode::Private {
        add(LinuxNamespaceType::Uts, &None);
    }
    if host.pid_mode != PidMode::Host {
        add(LinuxNamespaceType::Pid, &facts.pid);
    }
    if host.ipc_mode != IpcMode::Host {
        add(LinuxNamespaceType::Ipc, &facts.ipc);
    }
    if host.cgroupns_mode == CgroupnsMode::Private {
        add(LinuxNamespaceType::Cgroup, &None);
    }
    list
}

fn sysctls(config: &Config, host: &HostConfig, facts: &Facts<'_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    // `/proc/sys` of another container's network has been written to by that container.
    if !matches!(host.network_mode, NetworkMode::Host | NetworkMode::Container(_)) {
        all.insert("net.ipv4.ip_unprivileged_port_start".to_owned(), "0".to_owned());
        // Groups that are not mapped cannot be named.
        if facts.rootless.is_none() {
            all.insert("net.ipv4.ping_group_range".to_owned(), "0 2147483647".to_owned());
        }
    }
    // A sysctl, for runtimes older than runtime-spec 1.1 know no other way.
    if !config.domainname.is_empty() && host.uts_mode == UtsMode::Private {
        all.insert("kernel.domainname".to_owned(), config.domainname.clone());
    }
    all.extend(host.sysctls.clone());
    all
}

fn seccomp(
    host: &HostConfig,
    facts: &Facts<'_>,
    asked: Option<String>,
    granted: &[String],
) -> Result<Option<Box<RawValue>>, SpecError> {
    match asked.as_deref() {
        Some("unconfined") => Ok(None),
        // What may do everything is not held by the default.
        None | Some("" | "builtin") if host.privileged => Ok(None),
        None | Some("" | "builtin") => Ok((facts.default_profile)(granted)),
        Some(profile) => RawValue::from_string(profile.to_owned())
            .map(Some)
            .map_err(|error| SpecError::SeccompProfile(error.to_string())),
    }
}

fn paths(host: &HostConfig, asked: &Option<Vec<String>>, default: &[&str]) -> Vec<String> {
    match asked {
        _ if host.privileged => Vec::new(),
        Some(paths) => paths.clone(),
        None => default.iter().map(|path| (*path).to_owned()).collect(),
    }
}

#[cfg(test)]
mod tests;
