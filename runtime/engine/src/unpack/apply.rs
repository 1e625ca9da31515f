//! One entry after the other: from the archive to the file system.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, makedev};
use rustix::io::Errno;

use super::attributes::{Attributes, DEFAULT_ACL, On, failed, owner_failed, times};
use super::budget::Budget;
use super::folders::Folders;
use super::tree::{Folder, Id, Kind, ROOT, Step, Tree, normalise, path_buf, split_last};
use super::{LinkBelow, Problem, UnpackError, UnpackOptions, Unpacked};
use crate::tar::{Archive, Entry, EntryKind, Time};

const NEW_FILE: OFlags =
    OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A layer that is being unpacked.
pub(super) struct Unpacker<'a> {
    pub(super) options: &'a UnpackOptions,
    pub(super) attributes: Attributes,
    pub(super) tree: Tree,
    pub(super) folders: Folders,
    pub(super) result: Unpacked,
    /// The parent of the last entry, as it was written, and where it leads.
    last_parent: Option<(Vec<u8>, Id)>,
}

impl<'a> Unpacker<'a> {
    pub(super) fn new(folder: &Path, options: &'a UnpackOptions, budget: &Budget) -> Result<Self, UnpackError> {
        let root = |error| failed("open", b".", error);
        let mut folders = Folders::new(folder).map_err(root)?;
        let mut tree = Tree::new(budget);
        let stat = rustix::fs::fstat(folders.get(&tree, ROOT).map_err(root)?).map_err(root)?;
        if let Some(root) = tree.folder_mut(ROOT) {
            root.gid = stat.st_gid;
        }
        let attributes = Attributes::new(options);
        Ok(Unpacker { options, attributes, tree, folders, result: Unpacked::default(), last_parent: None })
    }

    pub(super) fn run(mut self, tar: impl Read) -> Result<Unpacked, UnpackError> {
        let mut archive = Archive::new(tar, self.options.limits.tar());
        let (mut entry, mut path) = (Entry::default(), Vec::new());
        while archive.next(&mut entry)? {
            self.result.entries += 1;
            if self.result.entries > self.options.limits.entries {
                let limit = self.options.limits.entries;
                return Err(UnpackError::Limit { what: "more entries", limit, setting: "unpack.entries" });
            }
            self.entry(&mut archive, &entry, &mut path)?;
        }
        self.result.bytes = archive.position();
        self.finish()
    }

    fn entry(
        &mut self,
        archive: &mut Archive<impl Read>,
        entry: &Entry,
        path: &mut Vec<u8>,
    ) -> Result<(), UnpackError> {
        normalise(&entry.path, path).map_err(|problem| refused(&entry.path, problem))?;
        if path.is_empty() {
            return self.root(entry);
        }
        if memchr::memmem::find(path, b".wh.").is_some() && self.whiteout(path, entry)? {
            return Ok(());
        }
        let (parent, name) = split_last(path);
        let parent = self.parent(parent).map_err(|error| named(error, &entry.path))?;
        match entry.kind {
            EntryKind::Folder => self.folder(parent, name, entry),
            EntryKind::File => self.file(parent, name, entry, archive),
            EntryKind::HardLink => self.hard_link(parent, name, entry),
            EntryKind::SymbolicLink => self.symbolic_link(parent, name, entry),
            EntryKind::CharacterDevice => self.node(parent, name, entry, FileType::CharacterDevice),
            EntryKind::BlockDevice => self.node(parent, name, entry, FileType::BlockDevice),
            EntryKind::Fifo => self.node(parent, name, entry, FileType::Fifo),
        }
    }

    /// The folder that a path leads to. What is missing on the way is made: the layer implies it.
    pub(super) fn parent(&mut self, path: &[u8]) -> Result<Id, UnpackError> {
        if let Some((known, id)) = &self.last_parent
            && known == path
        {
            return Ok(*id);
        }
        let mut current = ROOT;
        let mut rest = path.to_vec();
        loop {
            match self.tree.walk(current, &rest).map_err(|problem| refused(path, problem))? {
                Step::Folder(id) => {
                    current = id;
                    break;
                }
                // A link may lead there, though no name of an entry does.
                Step::Missing { name, .. } if name.starts_with(b".wh.") => {
                    return Err(refused(path, Problem::InsideWhiteout));
                }
                Step::Missing { parent, name, rest: after } => {
                    let is_cut_off = match self.tree.child(parent, &name) {
                        None => false,
                        Some(child) if matches!(self.tree.node(child).kind, Kind::Whiteout) => {
                            self.clear(child)?;
                            true
                        }
                        Some(_) => return Err(refused(path, Problem::NotAFolder)),
                    };
                    current = self.implied(parent, &name, is_cut_off)?;
                    rest = after;
                }
            }
        }
        self.last_parent = Some((path.to_vec(), current));
        Ok(current)
    }

    fn implied(&mut self, parent: Id, name: &[u8], whiteout: bool) -> Result<Id, UnpackError> {
        let parent_gid = self.tree.folder(parent).map_or(u32::MAX, |folder| folder.gid);
        let entry = Entry { kind: EntryKind::Folder, mode: 0o755, ..Entry::default() };
        let id = self.make_folder(parent, name, whiteout, false)?;
        self.folder_attributes(id, &entry, parent_gid, false)?;
        Ok(id)
    }

    fn root(&mut self, entry: &Entry) -> Result<(), UnpackError> {
        if entry.kind != EntryKind::Folder {
            return Err(refused(&entry.path, Problem::RootNotFolder));
        }
        self.result.carries_root = true;
        self.folder_attributes(ROOT, entry, u32::MAX, true)
    }

    fn folder(&mut self, parent: Id, name: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let parent_gid = self.tree.folder(parent).map_or(u32::MAX, |folder| folder.gid);
        let (id, parent_gid) = match self.tree.child(parent, name) {
            // It keeps what is in it; its owner is known to nobody but the kernel.
            Some(child) if self.tree.folder(child).is_some() => (child, u32::MAX),
            Some(child) => {
                let whiteout = self.clear(child)?;
                (self.make_folder(parent, name, whiteout, true)?, parent_gid)
            }
            None => (self.make_folder(parent, name, false, true)?, parent_gid),
        };
        self.folder_attributes(id, entry, parent_gid, true)
    }

    /// Makes a folder where the tree knows of nothing. `replaces` tells what to do with a file of this name.
    fn make_folder(&mut self, parent: Id, name: &[u8], whiteout: bool, replaces: bool) -> Result<Id, UnpackError> {
        let (depth, path_length) =
            self.tree.measure(parent, name).map_err(|problem| refused(&self.path(parent, name), problem))?;
        if depth > self.options.limits.depth {
            let limit = self.options.limits.depth.into();
            return Err(UnpackError::Limit { what: "deeper folders", limit, setting: "unpack.depth" });
        }
        let directory = self.open(parent)?;
        match rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o700)) {
            Err(Errno::EXIST) if replaces => {
                self.unlink(&directory, parent, name)?;
                rustix::fs::mkdirat(&directory, name, Mode::from_raw_mode(0o700))
            }
            Err(Errno::EXIST) => return Err(refused(&self.path(parent, name), Problem::NotAFolder)),
            made => made,
        }
        .map_err(|error| failed("make the folder", &self.path(parent, name), error))?;
        let folder = Folder { depth, path_length, opaque: whiteout, gid: u32::MAX, ..Folder::default() };
        let id = self.add(parent, name, Kind::Folder(Box::new(folder)), whiteout)?;
        if whiteout {
            let directory = self.open(id)?;
            self.attributes.make_opaque(directory.as_fd(), &self.tree.path(id))?;
        }
        Ok(id)
    }

    /// Everything but the times, which come last of all.
    fn folder_attributes(&mut self, id: Id, entry: &Entry, parent_gid: u32, carried: bool) -> Result<(), UnpackError> {
        let directory = self.open(id)?;
        let owner = self.attributes.owner(entry, parent_gid, &mut self.result);
        if let Some(owner) = owner {
            let set = On::Open(directory.as_fd()).set_owner(owner.0, owner.1);
            set.map_err(|error| owner_failed(&self.tree.path(id), owner, error))?;
        }
        let gid = self.attributes.group_after(owner, entry);
        if !entry.xattrs.is_empty() {
            let path = self.tree.path(id);
            self.attributes.xattrs(&On::Open(directory.as_fd()), entry, &path, &mut self.result)?;
        }
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(entry.mode))
            .map_err(|error| failed("set the mode of", &self.tree.path(id), error))?;
        let default_acl = entry.xattrs.iter().find(|xattr| xattr.name == DEFAULT_ACL).map(|xattr| &xattr.value);
        // The kernel takes no larger value of an attribute.
        if default_acl.is_some_and(|acl| acl.len() > 1 << 16) {
            return Err(refused(&entry.path, Problem::LargeAcl));
        }
        let limit = self.options.limits.tree_bytes;
        self.tree.set_default_acl(id, default_acl.cloned()).ok_or_else(|| too_many_folders(limit))?;
        if let Some(folder) = self.tree.folder_mut(id) {
            folder.gid = gid;
            folder.carried |= carried;
            folder.modified = entry.modified;
            folder.accessed = entry.accessed.unwrap_or(entry.modified);
        }
        Ok(())
    }

    fn file(
        &mut self,
        parent: Id,
        name: &[u8],
        entry: &Entry,
        archive: &mut Archive<impl Read>,
    ) -> Result<(), UnpackError> {
        let directory = self.make_room(parent, name, None)?;
        let folder_gid = self.tree.folder(parent).map_or(u32::MAX, |folder| folder.gid);
        let owner = self.attributes.owner(entry, folder_gid, &mut self.result);
        let (mode, is_final) = self.attributes.creation_mode(entry.mode, owner.is_some());
        let file = self.replacing(&directory, parent, name, "make the file", |directory| {
            rustix::fs::openat(directory, name, NEW_FILE, mode)
        })?;
        let failure = |action, error| failed(action, &entry.path, error);
        let mut end = 0;
        while let Some((offset, piece)) = archive.data()? {
            write_at(&file, piece, offset).map_err(|error| failure("write", error))?;
            end = offset + piece.len() as u64;
        }
        if end < entry.size {
            rustix::fs::ftruncate(&file, entry.size).map_err(|error| failure("set the size of", error))?;
        }
        self.result.content_bytes = self.result.content_bytes.saturating_add(entry.size);
        let on = On::Open(file.as_fd());
        if let Some(owner) = owner {
            on.set_owner(owner.0, owner.1).map_err(|error| owner_failed(&entry.path, owner, error))?;
        }
        self.attributes.xattrs(&on, entry, &entry.path, &mut self.result)?;
        if !is_final {
            let mode = Mode::from_raw_mode(entry.mode);
            rustix::fs::fchmod(&file, mode).map_err(|error| failure("set the mode of", error))?;
        }
        on.set_times(&times(entry.accessed, entry.modified)).map_err(|error| failure("set the times of", error))
    }

    fn symbolic_link(&mut self, parent: Id, name: &[u8], entry: &Entry) -> Result<(), UnpackError> {
        let kind = || Kind::SymbolicLink(entry.link.as_slice().into());
        let directory = self.make_room(parent, name, Some(&kind))?;
        self.replacing(&directory, parent, name, "make the link", |directory| {
            rustix::fs::symlinkat(entry.link.as_slice(), directory, name)
        })?;
        if self.tree.child(parent, name).is_none() {
            self.add(parent, name, kind(), false)?;
        }
        self.named_attributes(&directory, parent, name, entry)
    }

    fn node(&mut self, parent: Id, name: &[u8], entry: &Entry, kind: FileType) -> Result<(), UnpackError> {
        // Overlayfs takes this device for a whiteout, whoever made it: layers of images that were made inside of an
        // overlay mount have some. Docker lets that happen; here the tree knows of it too.
        if kind == FileType::CharacterDevice && entry.device == (0, 0) {
            return self.stand_in(parent, name);
        }
        let directory = self.make_room(parent, name, None)?;
        let (major, minor) = entry.device;
        let device = if kind == FileType::Fifo { 0 } else { makedev(major, minor) };
        let made = self.replacing(&directory, parent, name, "make the node", |directory| {
            rustix::fs::mknodat(directory, name, kind, Mode::from_raw_mode(0o600), device)
        });
        match made {
            Err(UnpackError::Io { source, .. })
                if kind != FileType::Fifo && source.raw_os_error() == Some(Errno::PERM.raw_os_error()) =>
            {
                self.result.skipped_devices += 1;
                return self.stand_in(parent, name);
            }
            made => made?,
        }
        self.named_attributes(&directory, parent, name, entry)
    }

    fn named_attributes(
        &mut self,
        directory: &OwnedFd,
        parent: Id,
        name: &[u8],
        entry: &Entry,
    ) -> Result<(), UnpackError> {
        let on = On::Named(directory.as_fd(), name);
        let folder_gid = self.tree.folder(parent).map_or(u32::MAX, |folder| folder.gid);
        if let Some(owner) = self.attributes.owner(entry, folder_gid, &mut self.result) {
            on.set_owner(owner.0, owner.1).map_err(|error| owner_failed(&entry.path, owner, error))?;
        }
        self.attributes.xattrs(&on, entry, &entry.path, &mut self.result)?;
        if entry.kind != EntryKind::SymbolicLink {
            // The name was made just now and is no link; there is no call that needs neither that nor a new kernel.
            rustix::fs::chmodat(directory, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())
                .map_err(|error| failed("set the mode of", &entry.path, error))?;
        }
        on.set_times(&times(entry.accessed, entry.modified))
            .map_err(|error| failed("set the times of", &entry.path, error))
    }

    /// Opens the parent of something that is no folder, and removes what the tree knows to be in its place.
    pub(super) fn make_room(
        &mut self,
        parent: Id,
        name: &[u8],
        link: Option<&dyn Fn() -> Kind>,
    ) -> Result<Rc<OwnedFd>, UnpackError> {
        if let Some(child) = self.tree.child(parent, name)
            && self.clear(child)?
        {
            // A folder that comes later must still know of the whiteout.
            self.add(parent, name, link.map_or(Kind::File, |kind| kind()), true)?;
        }
        self.open(parent)
    }

    /// Makes something, in the place of a file that is there already.
    pub(super) fn replacing<T>(
        &self,
        directory: &OwnedFd,
        parent: Id,
        name: &[u8],
        action: &'static str,
        make: impl Fn(&OwnedFd) -> Result<T, Errno>,
    ) -> Result<T, UnpackError> {
        match make(directory) {
            Err(Errno::EXIST) => {
                self.unlink(directory, parent, name)?;
                make(directory)
            }
            made => made,
        }
        .map_err(|error| failed(action, &self.path(parent, name), error))
    }

    fn unlink(&self, directory: &OwnedFd, parent: Id, name: &[u8]) -> Result<(), UnpackError> {
        rustix::fs::unlinkat(directory, name, AtFlags::empty())
            .map_err(|error| failed("replace", &self.path(parent, name), error))
    }

    /// Removes something that the tree knows, with all that is in it. Tells whether the layer has a whiteout of it.
    pub(super) fn clear(&mut self, id: Id) -> Result<bool, UnpackError> {
        let whiteout = self.tree.node(id).whiteout;
        // Children come after their parents in this list.
        let mut inside = vec![id];
        let mut next = 0;
        while let Some(id) = inside.get(next).copied() {
            if let Some(folder) = self.tree.folder(id) {
                inside.extend(folder.children.values());
            }
            next += 1;
        }
        for id in inside.into_iter().rev() {
            self.clear_one(id)?;
        }
        Ok(whiteout)
    }

    fn clear_one(&mut self, id: Id) -> Result<(), UnpackError> {
        let node = self.tree.node(id);
        let (parent, name) = (node.parent, Rc::clone(&node.name));
        let failure = |error, this: &Self| failed("remove", &this.path(parent, &name), error);
        let directory = match &node.kind {
            Kind::LinkBelow(_) | Kind::Free => {
                self.tree.remove(id);
                return Ok(());
            }
            _ => self.open(parent)?,
        };
        if self.tree.folder(id).is_some() {
            self.last_parent = None;
            loop {
                let inside = self.open(id)?;
                empty_of_files(&inside).map_err(|error| failure(error, self))?;
                self.folders.forget(id);
                match rustix::fs::unlinkat(&directory, &*name, AtFlags::REMOVEDIR) {
                    // Some file systems lose their place while entries vanish.
                    Err(Errno::NOTEMPTY) => {}
                    removed => break removed.map_err(|error| failure(error, self))?,
                }
            }
        } else {
            self.last_parent = None;
            match rustix::fs::unlinkat(&directory, &*name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(failure(error, self)),
            }
        }
        self.tree.remove(id);
        Ok(())
    }

    fn finish(mut self) -> Result<Unpacked, UnpackError> {
        let mut folders: Vec<Id> = self.tree.ids().filter(|id| self.tree.folder(*id).is_some()).collect();
        folders.sort_by_key(|id| self.tree.node(*id).parent);
        for id in &folders {
            self.finish_folder(*id)?;
        }
        let limit = self.options.limits.tree_bytes;
        let ids: Vec<Id> = self.tree.ids().collect();
        for id in ids {
            let mut keep = |tree: &mut Tree, path: &[u8]| {
                // `settle` keeps it too, in up to three places.
                let bytes = 4 * (path.len() as u64 + 64);
                self.result.kept_bytes += bytes;
                tree.keep(bytes).map(|()| path_buf(path)).ok_or_else(|| too_many_folders(limit))
            };
            match &self.tree.node(id).kind {
                Kind::Folder(folder) if id != ROOT && !folder.carried && !self.tree.is_cut_off(id) => {
                    let path = self.tree.path(id);
                    self.result.implied.push(keep(&mut self.tree, &path)?);
                }
                Kind::LinkBelow(target) => {
                    let (path, target) = (self.tree.path(id), target.to_vec());
                    let (path, target) = (keep(&mut self.tree, &path)?, keep(&mut self.tree, &target)?);
                    self.result.links_below.push(LinkBelow { path, target });
                }
                _ => {}
            }
        }
        self.result.hides_all = self.tree.folder(ROOT).is_some_and(|root| root.opaque);
        self.tree.hand_over(self.result.kept_bytes);
        // Parents sort before what is in them.
        self.result.implied.sort();
        self.result.links_below.sort();
        Ok(self.result)
    }

    fn finish_folder(&mut self, id: Id) -> Result<(), UnpackError> {
        let acl = self.tree.folder_mut(id).and_then(|folder| folder.default_acl.take());
        let (accessed, modified) = self
            .tree
            .folder(id)
            .map_or((Time::default(), Time::default()), |folder| (folder.accessed, folder.modified));
        if let Some(acl) = acl {
            let directory = self.open(id)?;
            match On::Open(directory.as_fd()).set_xattr(DEFAULT_ACL, &acl) {
                Ok(()) => {}
                Err(Errno::NOTSUP | Errno::PERM) => self.result.skipped_xattrs += 1,
                Err(error) => return Err(failed("set an extended attribute of", &self.tree.path(id), error)),
            }
        }
        let times = times(Some(accessed), modified);
        let node = self.tree.node(id);
        let (parent, name) = (node.parent, Rc::clone(&node.name));
        let directory = self.open(parent)?;
        let on = if id == ROOT { On::Open(directory.as_fd()) } else { On::Named(directory.as_fd(), &name) };
        on.set_times(&times).map_err(|error| failed("set the times of", &self.tree.path(id), error))
    }

    pub(super) fn open(&mut self, id: Id) -> Result<Rc<OwnedFd>, UnpackError> {
        self.folders.get(&self.tree, id).map_err(|error| failed("open the folder", &self.tree.path(id), error))
    }

    pub(super) fn add(&mut self, parent: Id, name: &[u8], kind: Kind, whiteout: bool) -> Result<Id, UnpackError> {
        let limit = self.options.limits.tree_bytes;
        self.tree.add(parent, name, kind, whiteout).ok_or_else(|| too_many_folders(limit))
    }

    pub(super) fn path(&self, parent: Id, name: &[u8]) -> Vec<u8> {
        if parent == ROOT { name.to_vec() } else { [&self.tree.path(parent), &b"/"[..], name].concat() }
    }
}

pub(super) fn too_many_folders(limit: u64) -> UnpackError {
    UnpackError::Limit { what: "more bytes in names of folders and links", limit, setting: "unpack.tree-bytes" }
}

pub(super) fn refused(path: &[u8], problem: Problem) -> UnpackError {
    UnpackError::Entry { path: path_buf(path), problem }
}

/// The same refusal, told with the name of the entry rather than that of its parent.
pub(super) fn named(error: UnpackError, path: &[u8]) -> UnpackError {
    match error {
        UnpackError::Entry { problem, .. } => refused(path, problem),
        error => error,
    }
}

fn write_at(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Unlinks everything in a folder that holds no folders any more.
fn empty_of_files(folder: &OwnedFd) -> Result<(), Errno> {
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            match rustix::fs::unlinkat(folder, name, AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
