//! The file as it is written: oci-spec's types for the parts, as in the launcher, and the seccomp profile as its text, for it
//! is most of the file and nobody here needs to understand it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use oci_spec::runtime::{LinuxDevice, LinuxNamespace, LinuxResources, Mount, Root, User};
use serde::Serialize;
use serde_json::value::RawValue;

/// runtime-spec, config.md.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// Version of the specification.
    pub oci_version: &'static str,
    /// What runs.
    pub process: Process,
    /// The root file system.
    pub root: Root,
    /// Name in the UTS namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    /// What is mounted besides, in this order.
    pub mounts: Vec<Mount>,
    /// What the caller wants to remember.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Everything that Linux has and others have not.
    pub linux: Linux,
}

/// runtime-spec, config.md, "Process".
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Whether it has a terminal.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
    /// Who it runs as.
    pub user: User,
    /// Program and arguments.
    pub args: Vec<String>,
    /// `NAME=value` each.
    pub env: Vec<String>,
    /// Folder that it starts in.
    pub cwd: String,
    /// What it may do.
    pub capabilities: Capabilities,
    /// Limits of setrlimit(2).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rlimits: Vec<Rlimit>,
    /// Whether programs with the set-uid bit get nothing by it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub no_new_privileges: bool,
    /// Profile of AppArmor.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub apparmor_profile: Option<String>,
    /// How willingly the kernel kills it when memory is short.
    pub oom_score_adj: i64,
}

/// Sets of capabilities. The inheritable and the ambient set stay empty, as docker's do.
#[derive(Debug, Serialize)]
pub struct Capabilities {
    /// What it can ever get.
    pub bounding: Vec<String>,
    /// What it has.
    pub effective: Vec<String>,
    /// What it can take.
    pub permitted: Vec<String>,
}

/// A limit of setrlimit(2).
#[derive(Debug, Serialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What it can be raised to.
    pub hard: u64,
    /// What holds.
    pub soft: u64,
}

/// runtime-spec, config-linux.md.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Linux {
    /// Settings of its namespaces.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    /// Its limits.
    pub resources: LinuxResources,
    /// Its cgroup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cgroups_path: Option<PathBuf>,
    /// Its namespaces.
    pub namespaces: Vec<LinuxNamespace>,
    /// Devices beyond those that every container has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<LinuxDevice>,
    /// How mounts below its root propagate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rootfs_propagation: Option<&'static str>,
    /// Its seccomp profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Box<RawValue>>,
    /// Paths that it cannot see.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<String>,
    /// Paths that it cannot write to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readonly_paths: Vec<String>,
}
