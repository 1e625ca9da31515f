//! Open folders of the layer: the entries of an archive mostly lie beside each other.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Result;

use super::tree::{Id, ROOT, Tree};

/// How many stay open. Enough for the depth of common trees.
const OPEN: usize = 16;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

#[derive(Debug)]
pub(super) struct Folders {
    root: Rc<OwnedFd>,
    /// Those that were used last come last.
    open: Vec<(Id, Rc<OwnedFd>)>,
}

impl Folders {
    /// `folder` is a path of ours, not of an archive.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let root =
            rustix::fs::openat(CWD, folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Folders { root: Rc::new(root), open: Vec::with_capacity(OPEN + 1) })
    }

    pub(super) fn get(&mut self, tree: &Tree, id: Id) -> Result<Rc<OwnedFd>> {
        if id == ROOT {
            return Ok(Rc::clone(&self.root));
        }
        if let Some(at) = self.open.iter().rposition(|(known, _)| *known == id) {
            // Moving the one at the end costs nothing.
            self.open[at..].rotate_left(1);
            let (_, folder) = &self.open[self.open.len() - 1];
            return Ok(Rc::clone(folder));
        }
        let folder = Rc::new(open_beneath(&self.root, &tree.path(id))?);
        self.open.push((id, Rc::clone(&folder)));
        if self.open.len() > OPEN {
            self.open.remove(0);
        }
        Ok(folder)
    }

    /// Closes a folder that is about to be removed.
    pub(super) fn forget(&mut self, id: Id) {
        self.open.retain(|(known, _)| *known != id);
    }
}

/// Opens a folder by its real path: a link on the way is an error.
pub(super) fn open_beneath(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, FOLDER, Mode::empty(), resolve)
}
