//! Hard links: to what the layer has, and notes of those to what only layers below have.

use rustix::fs::AtFlags;
use rustix::io::Errno;

use super::apply::{Unpacker, refused};
use super::attributes::failed;
use super::tree::{Id, Kind, ROOT, Step, normalise, split_last};
use super::{Problem, UnpackError};
use crate::tar::Entry;

impl Unpacker<'_> {
    pub(super) fn hard_link(&mut self, parent: Id, name: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let refuse = |problem| refused(&entry.path, problem);
        let mut target = Vec::new();
        normalise(&entry.link, &mut target).map_err(refuse)?;
        if target.is_empty() {
            return Err(refuse(Problem::LinkToFolder));
        }
        let (folder, last) = split_last(&target);
        let (mut below, is_hidden) = match self.tree.walk(ROOT, folder).map_err(refuse)? {
            Step::Folder(folder) => {
                if (folder, last) == (parent, name) {
                    return Ok(());
                }
                let child = self.tree.child(folder, last);
                let mut copy: Option<Box<[u8]>> = None;
                match child.map(|child| &self.tree.node(child).kind) {
                    Some(Kind::Folder(_)) => return Err(refuse(Problem::LinkToFolder)),
                    Some(Kind::Whiteout) => return Err(refuse(Problem::LinkTarget)),
                    Some(Kind::LinkBelow(target)) => {
                        let target = target.clone();
                        return self.link_below(parent, name, target);
                    }
                    Some(Kind::StandIn) => return self.stand_in(parent, name),
                    Some(Kind::SymbolicLink(target)) => copy = Some(target.clone()),
                    Some(Kind::File | Kind::Free) | None => {}
                }
                if self.link(folder, last, parent, name, copy)? {
                    return Ok(());
                }
                let is_opaque = self.tree.folder(folder).is_none_or(|folder| folder.opaque);
                (self.tree.path(folder), is_opaque || self.tree.is_cut_off(folder))
            }
            Step::Missing { parent: folder, name: missing, rest } => {
                let is_opaque = self.tree.folder(folder).is_none_or(|folder| folder.opaque);
                let is_hidden =
                    is_opaque || self.tree.is_cut_off(folder) || self.tree.child(folder, &missing).is_some();
                let mut below = self.tree.path(folder);
                for part in [&missing, &rest] {
                    below.push(b'/');
                    below.extend_from_slice(part);
                }
                (below, is_hidden)
            }
        };
        if is_hidden {
            return Err(refuse(Problem::LinkTarget));
        }
        below.push(b'/');
        below.extend_from_slice(last);
        let mut clean = Vec::new();
        // `..` in what follows a link is for the layers below to resolve.
        if normalise(&below, &mut clean).is_err() {
            clean = below;
        }
        self.link_below(parent, name, clean.into())
    }

    /// `false` if there is no such file in the layer.
    fn link(
        &mut self,
        folder: Id,
        last: &[u8],
        parent: Id,
        name: &[u8],
        symbolic: Option<Box<[u8]>>,
    ) -> Result<bool, UnpackError> {
        let from = self.open(folder)?;
        let kind = symbolic.map(|target| move || Kind::SymbolicLink(target.clone()));
        let directory = match &kind {
            Some(kind) => self.make_room(parent, name, Some(kind))?,
            None => self.make_room(parent, name, None)?,
        };
        let linked = self.replacing(&directory, parent, name, "make the hard link", |directory| {
            match rustix::fs::linkat(&from, last, directory, name, AtFlags::empty()) {
                Err(Errno::NOENT) => Ok(false),
                linked => linked.map(|()| true),
            }
        })?;
        if linked
            && let Some(kind) = kind
            && self.tree.child(parent, name).is_none()
        {
            self.add(parent, name, kind(), false)?;
        }
        Ok(linked)
    }

    fn link_below(&mut self, parent: Id, name: &[u8], target: Box<[u8]>) -> Result<(), UnpackError> {
        let whiteout = match self.tree.child(parent, name) {
            Some(child) => self.clear(child)?,
            None => {
                let directory = self.open(parent)?;
                match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
                    Ok(()) | Err(Errno::NOENT) => {}
                    Err(error) => return Err(failed("replace", &self.path(parent, name), error)),
                }
                false
            }
        };
        self.add(parent, name, Kind::LinkBelow(target), whiteout).map(drop)
    }
}
