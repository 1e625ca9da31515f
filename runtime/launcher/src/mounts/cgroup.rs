//! What a container sees at `/sys/fs/cgroup`: its own cgroups, and nothing above them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use crate::cgroups::Cgroups;
use crate::mounts::options::{Attributes, Options, attribute};
use crate::mounts::tree::Tree;

/// The container's cgroups, as mounts that are not attached yet.
#[derive(Debug)]
pub(crate) enum CgroupTrees {
    /// Version 1: the name of each hierarchy, its mount, and the names of its controllers.
    Hierarchies(Vec<(String, Tree, Vec<String>)>),
    /// Version 2.
    Unified(Tree),
}

impl CgroupTrees {
    pub(crate) fn of(cgroups: &Cgroups) -> io::Result<Self> {
        if let Some(path) = cgroups.unified_path() {
            return Ok(Self::Unified(Tree::of_path(&path, false)?));
        }
        let mut trees = Vec::new();
        for (place, path, controllers) in cgroups.places_v1() {
            let Some(name) = place.file_name() else { continue };
            trees.push((name.to_string_lossy().into_owned(), Tree::of_path(&path, false)?, controllers.to_vec()));
        }
        Ok(Self::Hierarchies(trees))
    }

    /// Puts them over a folder.
    pub(crate) fn attach(&self, target: BorrowedFd<'_>, options: &Options) -> io::Result<()> {
        let Attributes { set, .. } = options.attributes;
        let change = Attributes { set, clear: 0 };
        let hierarchies = match self {
            Self::Unified(tree) => {
                tree.set(change, false)?;
                return tree.attach(target);
            }
            Self::Hierarchies(hierarchies) => hierarchies,
        };
        let words = ["mode=755".to_owned()];
        let folder = Tree::new("tmpfs", Some(Path::new("tmpfs")), &words, set & !attribute::RDONLY)?;
        folder.attach(target)?;
        for (name, tree, controllers) in hierarchies {
            rustix::fs::mkdirat(&folder, name.as_str(), Mode::from_raw_mode(0o755))?;
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let place = rustix::fs::openat(&folder, name.as_str(), flags, Mode::empty())?;
            tree.set(change, false)?;
            tree.attach(place.as_fd())?;
            for controller in controllers.iter().filter(|controller| *controller != name && !controller.contains('=')) {
                rustix::fs::symlinkat(name.as_str(), &folder, controller.as_str())?;
            }
        }
        folder.set(change, false)
    }
}
