//! Removes a container's cgroups. It ends nothing: whatever still runs in them is an error.

use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;

use super::folder::{Folder, is_missing};
use super::{CgroupError, Cgroups, Hierarchy, systemd};

/// The waits for processes that are about to end: 127 ms in all, for a cgroup is busy until the last one is gone.
const WAITS: [u64; 7] = [1, 2, 4, 8, 16, 32, 64];

impl Cgroups {
    /// Removes the cgroups, with those that the container has made in them. Those that are gone already do not matter.
    ///
    /// # Errors
    /// A cgroup in which something still runs after a tenth of a second; the others are removed nevertheless.
    pub fn delete(&self) -> Result<(), CgroupError> {
        self.placeholder.take();
        self.opened.take();
        let stopped = match &self.unit {
            Some(unit) => systemd::stop(unit, self.bus.as_deref()),
            None => Ok(()),
        };
        let mut waits = WAITS.iter();
        let mut first = None;
        for hierarchy in &self.hierarchies {
            if let Err(error) = self.remove(hierarchy, &mut waits) {
                first.get_or_insert(error);
            }
        }
        stopped?;
        first.map_or(Ok(()), Err)
    }

    fn remove(&self, hierarchy: &Hierarchy, waits: &mut std::slice::Iter<'_, u64>) -> Result<(), CgroupError> {
        let root = match Folder::open(&hierarchy.mount, hierarchy.version, self.check) {
            Err(CgroupError::Open { source, .. }) if is_missing(&source) => return Ok(()),
            result => result?,
        };
        loop {
            match remove_tree(&root, &hierarchy.path) {
                Ok(()) => return Ok(()),
                Err(Errno::BUSY) => match waits.next() {
                    Some(milliseconds) => std::thread::sleep(Duration::from_millis(*milliseconds)),
                    None => return Err(not_removed(&root, &hierarchy.path, Errno::BUSY)),
                },
                Err(error) => return Err(not_removed(&root, &hierarchy.path, error)),
            }
        }
    }
}

fn not_removed(root: &Folder, path: &Path, error: Errno) -> CgroupError {
    CgroupError::Remove { path: root.path().join(path), source: error.into() }
}

/// Removes a cgroup and what is in it. Mostly nothing is: so first the cgroup alone.
fn remove_tree(root: &Folder, path: &Path) -> Result<(), Errno> {
    match root.remove(path) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        Err(error) => return Err(error),
    }
    let folder = match root.below(path) {
        Ok(folder) => folder,
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    };
    let children = match folder.children() {
        Ok(children) => children,
        Err(error) if is_missing(&error) => return Ok(()),
        Err(error) => return Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
    };
    for child in children {
        remove_tree(&folder, &child)?;
    }
    match root.remove(path) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}
