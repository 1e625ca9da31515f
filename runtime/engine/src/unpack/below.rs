//! Looking at the layers below as overlayfs merges them.

use std::cell::RefCell;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

use super::folders::open_beneath;
use super::limits::OverlayXattr;
use super::tree::split_last;

/// How many folders of a layer stay open.
const OPEN: usize = 16;

/// How many bytes of paths are remembered with what is there.
const KNOWN: usize = 8 << 20;

/// The folder of a layer.
#[derive(Debug)]
pub(crate) struct Layer {
    root: Rc<OwnedFd>,
    overlay: OverlayXattr,
    /// Open folders by their paths. Those that were used last come last.
    open: RefCell<Vec<(Vec<u8>, Rc<OwnedFd>)>>,
}

impl Layer {
    /// `folder` is a path of ours, not of an archive.
    pub(crate) fn open(folder: &Path, overlay: OverlayXattr) -> Result<Self, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(CWD, folder, flags, Mode::empty())?;
        Ok(Layer { root: Rc::new(root), overlay, open: RefCell::default() })
    }

    /// Opens a folder by its path without links; the empty path is the root. One whose parent is open costs one step,
    /// however deep it lies.
    pub(crate) fn folder(&self, path: &[u8]) -> Result<Rc<OwnedFd>, Errno> {
        if path.is_empty() {
            return Ok(Rc::clone(&self.root));
        }
        let mut open = self.open.borrow_mut();
        if let Some(at) = open.iter().rposition(|(known, _)| known == path) {
            open[at..].rotate_left(1);
            return Ok(Rc::clone(&open[open.len() - 1].1));
        }
        let (parent, name) = split_last(path);
        let folder = match open.iter().rev().find(|(known, _)| known == parent) {
            Some((_, parent)) => open_beneath(parent, name)?,
            None => open_beneath(&self.root, path)?,
        };
        let folder = Rc::new(folder);
        open.push((path.to_vec(), Rc::clone(&folder)));
        if open.len() > OPEN {
            open.remove(0);
        }
        Ok(folder)
    }

    /// Folders have moved or gone: their paths lead elsewhere now.
    pub(super) fn forget(&self) {
        self.open.borrow_mut().clear();
    }

    /// What is at a path without links, if anything is.
    pub(crate) fn stat(&self, path: &[u8]) -> Result<Option<Stat>, Errno> {
        let (parent, name) = split_last(path);
        let found = match self.folder(parent) {
            Ok(folder) => {
                let name = if name.is_empty() { b"." } else { name };
                rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW)
            }
            Err(error) => Err(error),
        };
        match found {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The target of a symbolic link.
    pub(crate) fn link(&self, path: &[u8]) -> Result<Vec<u8>, Errno> {
        let (parent, name) = split_last(path);
        Ok(rustix::fs::readlinkat(self.folder(parent)?, name, Vec::new())?.into_bytes())
    }

    /// Whether a folder hides what is below it.
    pub(crate) fn is_opaque(&self, path: &[u8]) -> Result<bool, Errno> {
        let mut value = [0_u8; 1];
        match rustix::fs::fgetxattr(self.folder(path)?, self.overlay.opaque(), &mut value[..]) {
            Ok(length) => Ok(length == 1 && &value == b"y"),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::RANGE) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

pub(super) fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

/// A device 0/0, which hides what is below it.
pub(crate) fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// What the layers below have at a path.
#[derive(Debug, Clone)]
pub(crate) enum Found {
    Nothing,
    /// A folder, merged from these layers; the first one tells its attributes.
    Folder(Vec<usize>),
    /// Something else, of this layer.
    Other(usize, Stat),
}

/// All layers below that can show, nearest first.
#[derive(Debug)]
pub(crate) struct Below {
    layers: Vec<Layer>,
    known: HashMap<Vec<u8>, Found>,
    known_bytes: usize,
}

impl Below {
    pub(crate) fn open(folders: &[PathBuf], overlay: OverlayXattr) -> Result<Self, Errno> {
        let mut layers = Vec::with_capacity(folders.len());
        for folder in folders {
            let layer = Layer::open(folder, overlay)?;
            let hides_all = layer.is_opaque(b"")?;
            layers.push(layer);
            if hides_all {
                break;
            }
        }
        Ok(Below { layers, known: HashMap::new(), known_bytes: 0 })
    }

    pub(crate) fn layer(&self, number: usize) -> &Layer {
        &self.layers[number]
    }

    /// What is at a path without links.
    pub(crate) fn find(&mut self, path: &[u8]) -> Result<Found, Errno> {
        if path.is_empty() {
            return Ok(Found::Folder((0..self.layers.len()).collect()));
        }
        if let Some(found) = self.known.get(path) {
            return Ok(found.clone());
        }
        let parents = match self.find(split_last(path).0)? {
            Found::Folder(layers) => layers,
            Found::Nothing | Found::Other(..) => Vec::new(),
        };
        let found = self.merge(path, &parents)?;
        // Only a cache: hostile layers have more paths than may be kept.
        if self.known_bytes > KNOWN {
            self.known.clear();
            self.known_bytes = 0;
        }
        self.known_bytes += path.len() + 64;
        self.known.insert(path.to_vec(), found.clone());
        Ok(found)
    }

    fn merge(&self, path: &[u8], parents: &[usize]) -> Result<Found, Errno> {
        let mut folders = Vec::new();
        for number in parents {
            let layer = &self.layers[*number];
            let Some(stat) = layer.stat(path)? else { continue };
            if file_type(&stat) == FileType::Directory {
                folders.push(*number);
                if layer.is_opaque(path)? {
                    break;
                }
            } else if folders.is_empty() && !is_whiteout(&stat) {
                return Ok(Found::Other(*number, stat));
            } else {
                break;
            }
        }
        Ok(if folders.is_empty() { Found::Nothing } else { Found::Folder(folders) })
    }
}
