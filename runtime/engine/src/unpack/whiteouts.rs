//! Whiteouts: from the names that layers carry to what overlayfs expects.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{FileType, Mode};
use rustix::io::Errno;

use super::apply::{Unpacker, named, refused};
use super::attributes::failed;
use super::tree::{Id, Kind, split_last};
use super::{Problem, UnpackError};
use crate::tar::Entry;

impl Unpacker<'_> {
    /// Whiteouts and what aufs left in layers. `false` if the entry is none after all.
    pub(super) fn whiteout(&mut self, path: &[u8], entry: &Entry) -> Result<bool, UnpackError> {
        let (parent, name) = split_last(path);
        for part in parent.split(|byte| *byte == b'/') {
            if part.starts_with(b".wh..wh.") {
                return Ok(true);
            } else if part.starts_with(b".wh.") {
                return Err(refused(&entry.path, Problem::InsideWhiteout));
            }
        }
        let Some(hidden) = name.strip_prefix(b".wh.") else { return Ok(false) };
        if matches!(hidden, b"" | b"." | b"..") {
            return Err(refused(&entry.path, Problem::Whiteout));
        }
        if hidden.starts_with(b".wh.") && hidden != b".wh..opq" {
            return Ok(true);
        }
        let parent = self.parent(parent).map_err(|error| named(error, &entry.path))?;
        if hidden == b".wh..opq" {
            self.make_opaque(parent)?;
        } else {
            self.hide(parent, hidden)?;
        }
        Ok(true)
    }

    /// A whiteout hides what layers below have; what this layer has of the same name stays, whichever came first.
    fn hide(&mut self, parent: Id, name: &[u8]) -> Result<(), UnpackError> {
        if let Some(child) = self.tree.child(parent, name) {
            self.tree.node_mut(child).whiteout = true;
            return if self.tree.folder(child).is_some() { self.make_opaque(child) } else { Ok(()) };
        }
        let directory = self.open(parent)?;
        let kind = match rustix::fs::mknodat(&directory, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => Kind::Whiteout,
            Err(Errno::EXIST) => Kind::File,
            Err(error) => return Err(failed("make the whiteout", &self.path(parent, name), error)),
        };
        self.expect_whiteouts(parent, &directory)?;
        self.add(parent, name, kind, true).map(drop)
    }

    fn expect_whiteouts(&mut self, parent: Id, directory: &OwnedFd) -> Result<(), UnpackError> {
        if let Some(folder) = self.tree.folder_mut(parent)
            && !folder.has_whiteouts
        {
            folder.has_whiteouts = true;
            self.attributes.expect_whiteouts(directory.as_fd(), &self.tree.path(parent))?;
        }
        Ok(())
    }

    /// Puts a whiteout in the place of a device that cannot be there: what layers below have of its name must not show.
    pub(super) fn stand_in(&mut self, parent: Id, name: &[u8]) -> Result<(), UnpackError> {
        let directory = self.make_room(parent, name, None)?;
        self.replacing(&directory, parent, name, "make the whiteout", |directory| {
            rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0)
        })?;
        self.expect_whiteouts(parent, &directory)?;
        match self.tree.child(parent, name) {
            Some(child) => self.tree.node_mut(child).kind = Kind::StandIn,
            None => drop(self.add(parent, name, Kind::StandIn, false)?),
        }
        Ok(())
    }

    pub(super) fn make_opaque(&mut self, id: Id) -> Result<(), UnpackError> {
        if self.tree.folder(id).is_some_and(|folder| !folder.opaque) {
            let directory = self.open(id)?;
            self.attributes.make_opaque(directory.as_fd(), &self.tree.path(id))?;
            if let Some(folder) = self.tree.folder_mut(id) {
                folder.opaque = true;
            }
        }
        Ok(())
    }
}
