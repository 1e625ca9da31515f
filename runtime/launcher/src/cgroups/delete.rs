//! Removes a container's cgroups. It ends nothing: whatever still runs in them is an error.

use std::io;
use std::path::{Path, PathBuf};
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
        Err(Errno::BUSY | Errno::NOTEMPTY) => {}
        result => return done(result),
    }
    match root.below(path).and_then(|folder| Ok(remove_below(folder)?)) {
        Ok(()) => done(root.remove(path)),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(number(error)),
    }
}

/// Removes all cgroups in one. With only one open at a time: a container can nest them deeper than there are
/// descriptors.
fn remove_below(mut current: Folder) -> Result<(), Errno> {
    let mut depth = 0_usize;
    loop {
        let mut busy = None;
        for child in children(&current)? {
            match current.remove(&child) {
                Err(Errno::BUSY | Errno::NOTEMPTY) => busy = Some(child),
                result => done(result)?,
            }
        }
        match busy {
            None if depth == 0 => return Ok(()),
            None => {
                depth -= 1;
                current = current.above().map_err(number)?;
            }
            Some(child) => {
                let child = current.below(&child).map_err(number)?;
                // With nothing in it, it is busy because of its processes.
                if children(&child)?.is_empty() {
                    return Err(Errno::BUSY);
                }
                depth += 1;
                current = child;
            }
        }
    }
}

fn children(folder: &Folder) -> Result<Vec<PathBuf>, Errno> {
    match folder.children() {
        Err(error) if is_missing(&error) => Ok(Vec::new()),
        result => result.map_err(number),
    }
}

fn number(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}

/// What is gone already is removed too.
fn done(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOENT) => Ok(()),
        result => result,
    }
}
