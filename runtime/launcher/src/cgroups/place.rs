//! Where a container's cgroup is: `linux.cgroupsPath` (runtime-spec, config-linux.md, "Cgroups Path") as runc reads it.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::folder::Version;
use super::tree::Tree;
use super::{CgroupError, Hierarchy};

/// The unit of systemd that a container is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Unit {
    /// The unit's name: a scope, or a slice.
    pub(super) name: String,
    /// The slice that it is in.
    pub(super) slice: String,
    /// Whether it belongs to the user's systemd.
    #[serde(default)]
    pub(super) user: bool,
}

impl Unit {
    /// Reads `slice:prefix:name`; without a path it is a scope for `id`.
    pub(super) fn parse(path: Option<&Path>, id: &str, user: bool) -> Result<Unit, CgroupError> {
        let default_slice = if user { "user.slice" } else { "system.slice" };
        let text = path.map(|path| path.to_string_lossy().into_owned()).unwrap_or_default();
        if text.is_empty() {
            let name = format!("cove-{id}.scope");
            return Ok(Unit { name, slice: default_slice.to_owned(), user });
        }
        let parts: Vec<&str> = text.split(':').collect();
        let [slice, prefix, name] = parts[..] else { return Err(CgroupError::SystemdPath { path: text }) };
        let is_name = |name: &str| !name.is_empty() && !name.contains('/');
        if !is_name(name) || prefix.contains('/') {
            return Err(CgroupError::SystemdPath { path: text });
        }
        let slice = if slice.is_empty() { default_slice } else { slice };
        let name = if name.ends_with(".slice") { name.to_owned() } else { format!("{prefix}-{name}.scope") };
        Ok(Unit { name, slice: slice.to_owned(), user })
    }

    /// Whether it is a slice, which holds other units and no process of its own.
    pub(super) fn is_slice(&self) -> bool {
        self.name.ends_with(".slice")
    }

    /// Its cgroup, relative to that of the systemd that it belongs to.
    pub(super) fn folder(&self) -> Result<PathBuf, CgroupError> {
        Ok(expand_slice(&self.slice)?.join(&self.name))
    }
}

/// The cgroup of a slice: dashes in its name are levels, `a-b.slice` lies in `a.slice` (systemd.slice(5)).
fn expand_slice(slice: &str) -> Result<PathBuf, CgroupError> {
    let invalid = || CgroupError::Slice { slice: slice.to_owned() };
    let name = slice.strip_suffix(".slice").ok_or_else(invalid)?;
    if name == "-" {
        return Ok(PathBuf::new());
    }
    let mut folder = PathBuf::new();
    let mut prefix = String::new();
    for part in name.split('-') {
        if part.is_empty() || part.contains('/') {
            return Err(invalid());
        }
        prefix.push_str(part);
        folder.push(format!("{prefix}.slice"));
        prefix.push('-');
    }
    Ok(folder)
}

/// The hierarchies with the container's cgroup in each. An absolute path counts from the mount point; another one, or the
/// id where there is none, from the cgroup that we are in (version 1), or from that above it: ours has processes, so
/// version 2 does not let it share out controllers.
pub(super) fn hierarchies(tree: &Tree, path: Option<&Path>, id: &str) -> Result<Vec<Hierarchy>, CgroupError> {
    let path = path.filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new(id));
    let inner = clean(path);
    if inner.as_os_str().is_empty() {
        return Err(CgroupError::Root { path: path.to_owned() });
    }
    let unified = tree.is_unified();
    let place = |own: &Path| match (path.is_absolute(), unified) {
        (true, _) => inner.clone(),
        (false, true) => own.parent().unwrap_or(Path::new("")).join(&inner),
        (false, false) => own.join(&inner),
    };
    let hierarchy = |mounted: &super::tree::Mounted| Hierarchy {
        version: mounted.version,
        controllers: mounted.controllers.clone(),
        mount: mounted.mount.clone(),
        path: place(&mounted.own),
    };
    let mut hierarchies: Vec<Hierarchy> = tree.hierarchies.iter().map(hierarchy).collect();
    hierarchies.sort_by_key(Hierarchy::rank);
    Ok(hierarchies)
}

/// The controllers of version 1 in the order in which runc makes their cgroups: what fails, fails at the same place.
pub(super) const ORDER: [&str; 13] = [
    "cpuset",
    "devices",
    "memory",
    "cpu",
    "cpuacct",
    "pids",
    "blkio",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "freezer",
    "rdma",
];

impl Hierarchy {
    /// Where it comes in that order.
    fn rank(&self) -> usize {
        let of = |name: &String| ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len());
        match self.version {
            Version::V1 => self.controllers.iter().map(of).min().unwrap_or(ORDER.len()),
            Version::V2 => ORDER.len() + 1,
        }
    }
}

/// A path without `.`, `..` and the leading `/`, so that it stays below whatever it is joined to. `..` cannot lead out.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}
