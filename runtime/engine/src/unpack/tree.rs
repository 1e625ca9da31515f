//! What the layer has made so far: its folders, symbolic links and whiteouts; of files only those that matter.
//!
//! The layer's folder was empty and nobody else writes to it, so this is the truth, and a lookup costs no system call.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::Rc;

use super::Problem;
use super::budget::Budget;
use crate::tar::Time;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

/// Number of a node.
pub(super) type Id = u32;

/// The layer's own folder.
pub(super) const ROOT: Id = 0;

/// As many links as the kernel follows.
const LINKS: u32 = 40;

/// The longest path that the kernel takes.
const PATH: usize = 4095;

/// Bytes of paths that may be put together by following links, in a whole layer. Millions of entries behind usual links
/// need less; what is meant to keep us busy would do it without end.
const LINK_BYTES: u64 = 1 << 30;

/// How much is taken of the budget at once.
const PORTION: u64 = 16 * 1024;

#[derive(Debug)]
pub(super) struct Node {
    pub(super) parent: Id,
    pub(super) name: Rc<[u8]>,
    pub(super) kind: Kind,
    /// The layer has a whiteout of this name: if it is a folder, nothing from below is in it.
    pub(super) whiteout: bool,
}

#[derive(Debug)]
pub(super) enum Kind {
    Folder(Box<Folder>),
    SymbolicLink(Box<[u8]>),
    /// A device 0/0.
    Whiteout,
    /// A hard link to a file of a lower layer: to be made later.
    LinkBelow(Box<[u8]>),
    /// Some file where a whiteout is or was.
    File,
    /// A device that cannot be made, or that would be taken for a whiteout. A whiteout is in its place, so that nothing
    /// from below shows.
    StandIn,
    /// Not in use.
    Free,
}

#[derive(Debug, Default)]
pub(super) struct Folder {
    pub(super) children: HashMap<Rc<[u8]>, Id>,
    /// The layer has an entry for it.
    pub(super) carried: bool,
    pub(super) opaque: bool,
    /// Marked as a folder that has whiteouts.
    pub(super) has_whiteouts: bool,
    pub(super) gid: u32,
    pub(super) depth: u32,
    /// Bytes of its path from the root.
    pub(super) path_length: usize,
    pub(super) accessed: Time,
    pub(super) modified: Time,
    /// Set last: files made in the folder would inherit it.
    pub(super) default_acl: Option<Vec<u8>>,
}

/// Where a path leads.
pub(super) enum Step {
    /// To this folder, which exists.
    Folder(Id),
    /// To the folder of this name, which does not exist or is no folder, and further on.
    Missing { parent: Id, name: Vec<u8>, rest: Vec<u8> },
}

#[derive(Debug)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    free: Vec<Id>,
    /// What the nodes take, and what was taken of the budget for them.
    bytes: u64,
    taken: u64,
    budget: Budget,
    link_bytes: Cell<u64>,
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.budget.leave(self.taken);
    }
}

impl Tree {
    pub(super) fn new(budget: &Budget) -> Self {
        budget.enter();
        let root = Folder { gid: u32::MAX, ..Folder::default() };
        let root = Node { parent: ROOT, name: Rc::from(&b""[..]), kind: Kind::Folder(Box::new(root)), whiteout: false };
        let (budget, link_bytes) = (budget.clone(), Cell::new(0));
        Tree { nodes: vec![root], free: Vec::new(), bytes: 0, taken: 0, budget, link_bytes }
    }

    /// Makes sure that the budget has room for more; `None` if it has not.
    #[must_use]
    fn charge(&mut self, bytes: u64) -> Option<()> {
        let missing = (self.bytes + bytes).saturating_sub(self.taken);
        if missing > 0 {
            // At the very end of the budget what is needed may be left, though no whole portion is.
            let wanted = [missing.next_multiple_of(PORTION), missing];
            self.taken += wanted.into_iter().find(|bytes| self.budget.take(*bytes))?;
        }
        self.bytes += bytes;
        Some(())
    }

    /// Counts what is to be kept of the layer when the tree is no longer there.
    pub(super) fn keep(&mut self, bytes: u64) -> Option<()> {
        self.charge(bytes)
    }

    /// Whoever keeps it gives it back to the budget from now on.
    pub(super) fn hand_over(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_sub(bytes);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Notes the default ACL of a folder; `None` if that is more than may be kept.
    pub(super) fn set_default_acl(&mut self, id: Id, acl: Option<Vec<u8>>) -> Option<()> {
        self.charge(acl.as_ref().map_or(0, Vec::len) as u64)?;
        if let Some(folder) = self.folder_mut(id) {
            let old = std::mem::replace(&mut folder.default_acl, acl);
            self.bytes = self.bytes.saturating_sub(old.map_or(0, |old| old.len()) as u64);
        }
        Some(())
    }

    pub(super) fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    pub(super) fn node_mut(&mut self, id: Id) -> &mut Node {
        &mut self.nodes[id as usize]
    }

    pub(super) fn folder(&self, id: Id) -> Option<&Folder> {
        match &self.node(id).kind {
            Kind::Folder(folder) => Some(folder),
            _ => None,
        }
    }

    pub(super) fn folder_mut(&mut self, id: Id) -> Option<&mut Folder> {
        match &mut self.node_mut(id).kind {
            Kind::Folder(folder) => Some(folder),
            _ => None,
        }
    }

    pub(super) fn child(&self, parent: Id, name: &[u8]) -> Option<Id> {
        self.folder(parent)?.children.get(name).copied()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = Id> {
        (0..self.nodes.len()).map(|id| id as Id).filter(|id| !matches!(self.node(*id).kind, Kind::Free))
    }

    /// Adds a node; `None` if that is more than may be kept.
    pub(super) fn add(&mut self, parent: Id, name: &[u8], kind: Kind, whiteout: bool) -> Option<Id> {
        self.charge(cost(name, &kind))?;
        let name: Rc<[u8]> = Rc::from(name);
        let node = Node { parent, name: Rc::clone(&name), kind, whiteout };
        let id = if let Some(id) = self.free.pop() {
            self.nodes[id as usize] = node;
            id
        } else {
            self.nodes.push(node);
            // Far fewer nodes than 2^32 fit into any limit that a computer has memory for.
            (self.nodes.len() - 1) as Id
        };
        if let Some(folder) = self.folder_mut(parent) {
            folder.children.insert(name, id);
        }
        Some(id)
    }

    /// Forgets a node, which has no children any more.
    pub(super) fn remove(&mut self, id: Id) {
        let node = std::mem::replace(
            self.node_mut(id),
            Node { parent: ROOT, name: Rc::from(&b""[..]), kind: Kind::Free, whiteout: false },
        );
        self.bytes = self.bytes.saturating_sub(cost(&node.name, &node.kind));
        if let Some(folder) = self.folder_mut(node.parent) {
            folder.children.remove(&node.name);
        }
        self.free.push(id);
    }

    /// The path from the root, without links; `.` for the root.
    pub(super) fn path(&self, mut id: Id) -> Vec<u8> {
        let mut names = Vec::new();
        while id != ROOT {
            names.push(&self.node(id).name);
            id = self.node(id).parent;
        }
        if names.is_empty() {
            return b".".to_vec();
        }
        let mut path = Vec::new();
        for name in names.into_iter().rev() {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        path
    }

    /// Follows a path from a folder as far as there are folders, through links as if the layer were the root.
    pub(super) fn walk(&self, start: Id, path: &[u8]) -> Result<Step, Problem> {
        let mut current = start;
        let mut owned: Vec<u8>;
        let mut rest = path;
        let mut links = 0;
        loop {
            let (name, after) = split_first(rest);
            match name {
                b"" if after.is_empty() => return Ok(Step::Folder(current)),
                b"" | b"." => {}
                b".." => current = self.node(current).parent,
                _ => match self.child(current, name).map(|id| (id, &self.node(id).kind)) {
                    Some((id, Kind::Folder(_))) => current = id,
                    Some((_, Kind::SymbolicLink(target))) => {
                        links += 1;
                        if links > LINKS {
                            return Err(Problem::LinkLoop);
                        }
                        if target.first() == Some(&b'/') {
                            current = ROOT;
                        }
                        let mut next = target.to_vec();
                        next.push(b'/');
                        next.extend_from_slice(after);
                        // As for the kernel, each link may add a path of full length, no more.
                        if next.len() > 2 * PATH + 1 {
                            return Err(Problem::PathTooLong);
                        }
                        self.link_bytes.set(self.link_bytes.get() + next.len() as u64);
                        if self.link_bytes.get() > LINK_BYTES {
                            return Err(Problem::LinkWork);
                        }
                        owned = next;
                        rest = &owned;
                        continue;
                    }
                    _ => return Ok(Step::Missing { parent: current, name: name.to_vec(), rest: after.to_vec() }),
                },
            }
            rest = after;
        }
    }

    /// Whether nothing from below is visible in the folder itself: it or a folder above was cut off.
    pub(super) fn is_cut_off(&self, id: Id) -> bool {
        let mut current = id;
        while current != ROOT {
            let node = self.node(current);
            if node.whiteout || self.folder(node.parent).is_some_and(|parent| parent.opaque) {
                return true;
            }
            current = node.parent;
        }
        false
    }

    /// Depth and length of the path of a new folder, if they are possible.
    pub(super) fn measure(&self, parent: Id, name: &[u8]) -> Result<(u32, usize), Problem> {
        let (depth, length) = self.folder(parent).map_or((0, 0), |folder| (folder.depth, folder.path_length));
        let length = length + name.len() + 1;
        if length > PATH { Err(Problem::PathTooLong) } else { Ok((depth + 1, length)) }
    }
}

fn cost(name: &[u8], kind: &Kind) -> u64 {
    // What a map entry and the allocations take, roughly.
    let more = match kind {
        Kind::Folder(folder) => 300 + folder.default_acl.as_ref().map_or(0, Vec::len),
        Kind::SymbolicLink(target) | Kind::LinkBelow(target) => 32 + target.len(),
        Kind::Whiteout | Kind::File | Kind::StandIn | Kind::Free => 0,
    };
    (120 + name.len() + more) as u64
}

/// The first name of a path and what follows the slash after it.
pub(super) fn split_first(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'/', path) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (path, &[]),
    }
}

/// The path without `.`, empty parts and slashes at its ends, in `clean`; refuses `..`.
pub(super) fn normalise(path: &[u8], clean: &mut Vec<u8>) -> Result<(), Problem> {
    clean.clear();
    for name in path.split(|byte| *byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => return Err(Problem::ParentFolder),
            _ => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(name);
            }
        }
    }
    if clean.len() > PATH { Err(Problem::PathTooLong) } else { Ok(()) }
}

/// Parent and last name of a normalised path.
pub(super) fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

pub(super) fn path_buf(path: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(path.to_vec()))
}
