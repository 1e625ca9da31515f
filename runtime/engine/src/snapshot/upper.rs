//! The writable layer next to the layers below it.

use std::collections::{BTreeSet, HashSet};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::Stat;
use rustix::io::Errno;

use super::node::{self, Node};
use super::{SnapshotError, SnapshotOptions, failed, joined};
use crate::unpack::OverlayXattr;
use crate::unpack::below::{Below, Found, Layer, is_whiteout};

/// The folders of a container.
#[derive(Debug)]
pub(super) struct Upper {
    layer: Layer,
    below: Below,
}

impl Upper {
    /// `lowers` come topmost first.
    pub(super) fn open(upper: &Path, lowers: &[PathBuf], overlay: OverlayXattr) -> Result<Self, SnapshotError> {
        let failure = |error| failed("open the layers", b"", error);
        let layer = Layer::open(upper, overlay).map_err(failure)?;
        Ok(Upper { layer, below: Below::open(lowers, overlay).map_err(failure)? })
    }

    /// The names in a folder of the writable layer, sorted; none if it has gone meanwhile.
    pub(super) fn names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, SnapshotError> {
        match self.layer.folder(path).and_then(|folder| node::names((*folder).as_fd())) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Vec::new()),
            names => names.map_err(|error| failed("list the folder", path, error)),
        }
    }

    /// What has a name in a folder of the writable layer.
    pub(super) fn node(&self, folder: &[u8], name: &[u8]) -> Result<Option<Node>, SnapshotError> {
        let found = self.layer.folder(folder).and_then(|opened| Node::find((*opened).as_fd(), name));
        match found {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            found => found.map_err(|error| failed("look at", &joined(folder, name), error)),
        }
    }

    /// Whether a folder of the writable layer hides what is below it.
    pub(super) fn is_opaque(&self, path: &[u8]) -> Result<bool, SnapshotError> {
        match self.layer.is_opaque(path) {
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(false),
            opaque => opaque.map_err(|error| failed("read the attributes of", path, error)),
        }
    }

    /// What the layers below show at a path.
    pub(super) fn below(&mut self, path: &[u8]) -> Result<Found, SnapshotError> {
        self.below.find(path).map_err(|error| failed("look below", path, error))
    }

    /// Of what the layers below show, what it is like.
    pub(super) fn below_stat(&self, path: &[u8], found: &Found) -> Result<Option<Stat>, SnapshotError> {
        match found {
            Found::Nothing => Ok(None),
            Found::Other(_, stat) => Ok(Some(*stat)),
            Found::Folder(layers) => match layers.first() {
                Some(topmost) => {
                    self.below.layer(*topmost).stat(path).map_err(|error| failed("look below", path, error))
                }
                None => Ok(None),
            },
        }
    }

    /// Of what the layers below show, the thing itself.
    pub(super) fn below_node(&self, folder: &[u8], name: &[u8], found: &Found) -> Result<Option<Node>, SnapshotError> {
        let layer = match found {
            Found::Nothing => return Ok(None),
            Found::Other(layer, _) => *layer,
            Found::Folder(layers) => match layers.first() {
                Some(topmost) => *topmost,
                None => return Ok(None),
            },
        };
        let opened = self.below.layer(layer).folder(folder);
        opened
            .and_then(|opened| Node::find((*opened).as_fd(), name))
            .map_err(|error| failed("look below", &joined(folder, name), error))
    }

    /// The names that the layers below show in a folder.
    pub(super) fn names_below(&self, path: &[u8], found: &Found) -> Result<BTreeSet<Vec<u8>>, SnapshotError> {
        let failure = |error| failed("list below", path, error);
        let (mut seen, mut shown) = (BTreeSet::new(), BTreeSet::new());
        let Found::Folder(layers) = found else { return Ok(shown) };
        for number in layers {
            let folder = self.below.layer(*number).folder(path).map_err(failure)?;
            for name in node::names((*folder).as_fd()).map_err(failure)? {
                let Some(stat) = node::stat((*folder).as_fd(), &name).map_err(failure)? else { continue };
                if seen.insert(name.clone()) && !is_whiteout(&stat) {
                    shown.insert(name);
                }
            }
        }
        Ok(shown)
    }
}

/// What the runtime has made in the writable layer, and the folders on the way there.
#[derive(Debug)]
pub(super) struct Made {
    paths: HashSet<Vec<u8>>,
    folders: HashSet<Vec<u8>>,
}

impl Made {
    pub(super) fn new(options: &SnapshotOptions) -> Self {
        let (mut paths, mut folders) = (HashSet::new(), HashSet::new());
        for path in &options.made {
            // Users write `//` and a slash at the end.
            let path: PathBuf = path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
            let bytes = |path: &Path| path.as_os_str().as_bytes().to_vec();
            paths.insert(bytes(&path));
            folders.extend(path.ancestors().skip(1).map(bytes));
        }
        Made { paths, folders }
    }

    /// Whether something new is the runtime's as long as nothing else is in it.
    pub(super) fn is_ours(&self, path: &[u8], node: &Node) -> bool {
        match node.is_folder() {
            true => self.paths.contains(path) || self.folders.contains(path),
            false => node.stat.st_size == 0 && self.paths.contains(path),
        }
    }
}
