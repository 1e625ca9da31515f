//! Leaving the cgroup of whoever has started this process.
//!
//! systemd ends a session or a service with everything that is in its cgroup, in the hierarchies in which it keeps its
//! books: the unified one and `name=systemd`. The others only count and limit; joining them is slow.

use std::path::Path;

use super::CgroupError;
use super::folder::{Folder, Version, read_all};
use super::tree::Tree;
use crate::syscalls::{Clone, clone};

/// Where those go who keep containers.
const PLACE: &str = "cove/monitors";

/// Which process goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Apart {
    /// This one; it may be a copy of the one that has asked.
    Here,
    /// A copy of this one, which has nothing more to do.
    Elsewhere,
}

/// Leaves the session's or service's cgroup, if this process, which has one thread, is in one. A process moves within the
/// unified hierarchy only by waiting for some milliseconds, but can be made in another place at once: then a copy of this
/// process goes on.
///
/// # Errors
/// This user may not, or there are no cgroups. Nothing has changed then.
pub fn go_apart() -> Result<Apart, CgroupError> {
    let own = rustix::fs::open(
        "/proc/self/cgroup",
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    );
    let own = own.map_err(std::io::Error::from).and_then(|file| read_all(&file));
    let own = own.map_err(|source| CgroupError::Host { path: "/proc/self/cgroup".into(), source })?;
    // Mostly there is nothing to do, and nothing more to read.
    if !own.lines().any(|line| holds(line).is_some_and(is_somebody_elses)) {
        return Ok(Apart::Here);
    }
    let tree = Tree::read()?;
    let mut unified = None;
    for mounted in &tree.hierarchies {
        let keeps_books = mounted.version == Version::V2 || mounted.controllers == ["name=systemd"];
        if !keeps_books || !is_somebody_elses(&mounted.own) {
            continue;
        }
        let mount = Folder::open(&mounted.mount, mounted.version, tree.check)?;
        let place = mount.make(Path::new(PLACE), &mut Vec::new())?;
        match mounted.version {
            // `cgroup.procs` would wait here, too.
            Version::V1 => place.write("tasks", "0")?,
            Version::V2 => unified = Some(place),
        }
    }
    let Some(place) = unified else { return Ok(Apart::Here) };
    let door = place.open_below(Path::new("."), rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY);
    let made = door.and_then(|door| clone(0, Some(std::os::fd::AsFd::as_fd(&door))));
    match made.map_err(|source| place.not_written("cgroup.procs", "0", source))? {
        Clone::Child => Ok(Apart::Here),
        Clone::Parent(..) => Ok(Apart::Elsewhere),
    }
}

/// The cgroup in a line of `/proc/self/cgroup` of a hierarchy in which systemd keeps its books.
fn holds(line: &str) -> Option<&Path> {
    let (_, rest) = line.split_once(':')?;
    let (names, path) = rest.split_once(':')?;
    matches!(names, "" | "name=systemd").then(|| Path::new(path.trim_start_matches('/')))
}

fn is_somebody_elses(own: &Path) -> bool {
    own != Path::new("") && own != Path::new(PLACE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_hierarchies_of_systemd_hold_a_process() {
        let held = |text: &str| text.lines().any(|line| holds(line).is_some_and(is_somebody_elses));
        assert!(!held("0::/\n1:name=systemd:/\n4:memory:/some/where\n"));
        assert!(held("0::/user.slice/user-1.slice/session-2.scope\n"));
        assert!(held("0::/\n1:name=systemd:/system.slice/a:b.service\n"));
        assert!(!held("0::/cove/monitors\n1:name=systemd:/cove/monitors\n"));
    }
}
