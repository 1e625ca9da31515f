//! What cgroups do: on this host's own, on imitated ones, and with a systemd that is none.
#![allow(clippy::unwrap_used)]

mod devices;
mod host;
mod host_v2;
mod limits_v1;
mod limits_v2;
mod plan;
mod stats;
mod systemd;

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxResources;
use serde_json::Value;

use super::folder::Check;
use super::place::ORDER;
use super::tree::Tree;
use super::{CgroupError, Cgroups, Request};

thread_local! {
    /// What was written in this test, in order.
    static WRITTEN: RefCell<Vec<(PathBuf, String)>> = const { RefCell::new(Vec::new()) };
}

/// Remembers a value that was written to a file of a cgroup.
pub(super) fn note(path: PathBuf, value: &str) {
    WRITTEN.with(|written| written.borrow_mut().push((path, value.to_owned())));
}

/// What was written below `base` since the last call, as `file=value`.
fn written(base: &Path) -> Vec<String> {
    let all = WRITTEN.with(|written| std::mem::take(&mut *written.borrow_mut()));
    let below = |(path, value): (PathBuf, String)| Some(format!("{}={value}", path.strip_prefix(base).ok()?.display()));
    all.into_iter().filter_map(below).collect()
}

fn resources(value: Value) -> LinuxResources {
    serde_json::from_value(value).unwrap()
}

fn request<'a>(path: Option<&'a Path>, resources: Option<&'a LinuxResources>) -> Request<'a> {
    Request { id: "box", path, systemd: false, rootless: false, resources }
}

/// A folder that looks like the cgroups of a host.
struct Imitation {
    base: tempfile::TempDir,
    tree: Tree,
}

impl Imitation {
    /// Version 1, with the container's cgroup `box` and the given files in it.
    fn v1(files: &[&str]) -> Imitation {
        let base = tempfile::tempdir().unwrap();
        let mut mountinfo = format!("31 23 0:28 / {} rw - tmpfs tmpfs rw\n", base.path().display());
        let mut own = String::new();
        for (number, controller) in ORDER.iter().enumerate() {
            let mount = base.path().join(controller);
            fs::create_dir_all(mount.join("box")).unwrap();
            mountinfo += &format!("4{number} 31 0:9 / {} rw - cgroup cgroup rw,{controller}\n", mount.display());
            own += &format!("{number}:{controller}:/\n");
        }
        let imitation = Imitation { tree: Tree::parse(&mountinfo, &own, base.path(), Check::Imitated).unwrap(), base };
        for file in files {
            let controller = file.split('.').next().unwrap();
            imitation.put(&format!("{controller}/box/{file}"), "");
        }
        for (file, text) in [
            ("cpuset/cpuset.cpus", "0-3\n"),
            ("cpuset/cpuset.mems", "0\n"),
            ("cpuset/box/cpuset.cpus", "\n"),
            ("cpuset/box/cpuset.mems", "\n"),
            ("freezer/box/freezer.state", "THAWED\n"),
            ("devices/box/devices.allow", ""),
            ("devices/box/devices.deny", ""),
        ] {
            imitation.put(file, text);
        }
        imitation
    }

    /// Version 2, with the container's cgroup `a/box` and the given files in it.
    fn v2(controllers: &str, files: &[&str]) -> Imitation {
        let base = tempfile::tempdir().unwrap();
        fs::create_dir_all(base.path().join("a/box")).unwrap();
        let mountinfo = format!("31 23 0:28 / {} rw - cgroup2 cgroup2 rw\n", base.path().display());
        let tree = Tree::parse(&mountinfo, "0::/a/shell\n", base.path(), Check::Imitated).unwrap();
        let imitation = Imitation { base, tree };
        for folder in ["", "a/", "a/box/"] {
            imitation.put(&format!("{folder}cgroup.controllers"), controllers);
            imitation.put(&format!("{folder}cgroup.subtree_control"), "");
        }
        imitation.put("a/box/cgroup.type", "domain\n");
        for file in files {
            imitation.put(&format!("a/box/{file}"), "");
        }
        imitation
    }

    fn put(&self, file: &str, text: &str) {
        fs::write(self.base.path().join(file), text).unwrap();
    }

    fn plan(&self, path: &str, resources: &LinuxResources) -> Result<Cgroups, CgroupError> {
        Cgroups::plan_in(&request(Some(Path::new(path)), Some(resources)), &self.tree, None)
    }

    /// Creates and gives what was written.
    fn create(&self, path: &str, resources: &LinuxResources) -> Result<Vec<String>, CgroupError> {
        written(self.base.path());
        self.plan(path, resources)?.create(Some(resources))?;
        Ok(written(self.base.path()))
    }

    fn update(&self, path: &str, resources: &LinuxResources) -> Result<Vec<String>, CgroupError> {
        let cgroups = self.plan(path, resources)?;
        written(self.base.path());
        cgroups.update(resources)?;
        Ok(written(self.base.path()))
    }
}
