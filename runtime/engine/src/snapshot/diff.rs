//! What a container has changed, as `docker diff` tells it.
//!
//! Docker compares what the container shows with what the image shows. Something is changed if its kind, mode, owner or
//! capabilities are others, or its time or size, which count for folders not; a folder that something has changed in is
//! changed too. What is in a folder that has gone, or has become something else, is not listed.

use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Stat};

use super::node::Node;
use super::upper::{Made, Upper};
use super::{SnapshotError, SnapshotOptions, absolute, failed, joined};
use crate::unpack::below::Found;

/// What has happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It is another one now, or something in it has changed.
    Changed,
    /// It is new.
    Added,
    /// It has gone.
    Deleted,
}

impl ChangeKind {
    /// Docker's letter.
    pub fn letter(self) -> char {
        match self {
            ChangeKind::Changed => 'C',
            ChangeKind::Added => 'A',
            ChangeKind::Deleted => 'D',
        }
    }

    /// Docker's number in its API.
    pub fn number(self) -> u8 {
        match self {
            ChangeKind::Changed => 0,
            ChangeKind::Added => 1,
            ChangeKind::Deleted => 2,
        }
    }
}

/// A path that a container has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What has happened to it.
    pub kind: ChangeKind,
    /// The absolute path inside the container.
    pub path: PathBuf,
}

/// Compares a container's writable layer with the layers below it, which come topmost first. Folders come before what is
/// in them, and names in one folder in the order of their bytes.
pub fn diff(upper: &Path, lowers: &[PathBuf], options: &SnapshotOptions) -> Result<Vec<Change>, SnapshotError> {
    let mut comparison = Comparison {
        upper: Upper::open(upper, lowers, options.overlay)?,
        made: Made::new(options),
        changes: Vec::new(),
        levels: Vec::new(),
    };
    comparison.run()?;
    Ok(comparison.changes)
}

/// A folder on the way down.
struct Level {
    path: Vec<u8>,
    /// Those that are left, the last one first.
    names: Vec<Vec<u8>>,
    /// Nothing of what is below shows here.
    is_cut_off: bool,
    /// What it is listed as once something in it is, if it is not listed yet.
    pending: Option<ChangeKind>,
}

struct Comparison {
    upper: Upper,
    made: Made,
    changes: Vec<Change>,
    levels: Vec<Level>,
}

impl Comparison {
    fn run(&mut self) -> Result<(), SnapshotError> {
        // Docker does not tell of the root itself.
        self.enter(Vec::new(), false, None)?;
        while let Some(level) = self.levels.last_mut() {
            let Some(name) = level.names.pop() else {
                self.levels.pop();
                continue;
            };
            let (folder, is_cut_off) = (level.path.clone(), level.is_cut_off);
            self.look(&folder, &name, is_cut_off)?;
        }
        Ok(())
    }

    fn enter(&mut self, path: Vec<u8>, is_cut_off: bool, pending: Option<ChangeKind>) -> Result<(), SnapshotError> {
        let mut names = self.upper.names(&path)?;
        if is_cut_off {
            let below = self.upper.below(&path)?;
            names.extend(self.upper.names_below(&path, &below)?);
            names.sort();
            names.dedup();
        }
        names.reverse();
        self.levels.push(Level { path, names, is_cut_off, pending });
        Ok(())
    }

    fn look(&mut self, folder: &[u8], name: &[u8], is_cut_off: bool) -> Result<(), SnapshotError> {
        let path = joined(folder, name);
        let node = self.upper.node(folder, name)?.filter(|node| !node.is_whiteout());
        let below = self.upper.below(&path)?;
        let stat = self.upper.below_stat(&path, &below)?;
        let Some(node) = node else {
            // Without a whiteout it has gone while we looked, unless nothing of what is below shows.
            if stat.is_some() {
                self.add(ChangeKind::Deleted, &path);
            }
            return Ok(());
        };
        let kind = match &stat {
            None => Some(ChangeKind::Added),
            Some(stat) if self.differs(&node, stat, folder, name, &below)? => Some(ChangeKind::Changed),
            Some(_) => None,
        };
        let waits = kind == Some(ChangeKind::Added) && self.made.is_ours(&path, &node);
        if let Some(kind) = kind.filter(|_| !waits) {
            self.add(kind, &path);
        }
        if node.is_folder() {
            let is_cut_off = is_cut_off || self.upper.is_opaque(&path)?;
            let pending = if waits { kind } else { Some(ChangeKind::Changed).filter(|_| kind.is_none()) };
            self.enter(path, is_cut_off, pending)?;
        }
        Ok(())
    }

    fn differs(
        &self,
        node: &Node,
        old: &Stat,
        folder: &[u8],
        name: &[u8],
        below: &Found,
    ) -> Result<bool, SnapshotError> {
        let new = &node.stat;
        if (new.st_mode, new.st_uid, new.st_gid, new.st_rdev) != (old.st_mode, old.st_uid, old.st_gid, old.st_rdev) {
            return Ok(true);
        }
        if !node.is_folder() && (new.st_size != old.st_size || !is_same_time(new, old)) {
            return Ok(true);
        }
        let capability = |node: &Node| {
            let xattrs =
                node.xattrs(None).map_err(|error| failed("read the attributes of", &joined(folder, name), error))?;
            Ok(xattrs.into_iter().find(|xattr| xattr.name == b"security.capability"))
        };
        if node.kind() != FileType::RegularFile {
            return Ok(false);
        }
        let old = self.upper.below_node(folder, name, below)?;
        Ok(capability(node)? != old.as_ref().map(capability).transpose()?.flatten())
    }

    /// Adds a change, after the folders that it lies in.
    fn add(&mut self, kind: ChangeKind, path: &[u8]) {
        for level in &mut self.levels {
            let pending = level.pending.take();
            self.changes.extend(pending.map(|kind| Change { kind, path: absolute(&level.path) }));
        }
        self.changes.push(Change { kind, path: absolute(path) });
    }
}

/// Docker takes a time without nanoseconds for one that an archive has cut off.
fn is_same_time(one: &Stat, other: &Stat) -> bool {
    let nanoseconds = (one.st_mtime_nsec, other.st_mtime_nsec);
    one.st_mtime == other.st_mtime && (nanoseconds.0 == nanoseconds.1 || nanoseconds.0 == 0 || nanoseconds.1 == 0)
}
