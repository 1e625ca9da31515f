//! What a layer needs from the layers below it: the attributes of folders that it implies, and the files that its hard
//! links lead to.
//!
//! Where it implies a folder that is a link below (`lib/x`, and `lib` leads to `usr/lib`), what it has there moves to
//! where the link leads, as if it had been unpacked on top of the layers below.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, RenameFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::apply::too_many_folders;
use super::attributes::{Attributes, DEFAULT_ACL, On, failed};
use super::below::{Below, Found, Layer, file_type, is_whiteout};
use super::copy_up::{copy_attributes, copy_up};
use super::tree::{path_buf, split_first, split_last};
use super::{Problem, UnpackError, UnpackOptions, Unpacked};

/// As many links as the kernel follows.
const LINKS: u32 = 40;

/// Completes a layer from the layers below it (nearest first), which must be complete themselves. The layer's folder
/// must be as [`super::unpack`] left it, and closed to others.
pub fn settle(
    folder: &Path,
    unpacked: &Unpacked,
    below: &[PathBuf],
    options: &UnpackOptions,
) -> Result<(), UnpackError> {
    let open = |error| failed("open", b".", error);
    let mut settler = Settler {
        own: Layer::open(folder, options.overlay).map_err(open)?,
        below: Below::open(below, options.overlay).map_err(open)?,
        attributes: Attributes::new(options),
        implied: unpacked.implied.iter().map(|path| bytes(path)).collect(),
        attributeless: BTreeSet::new(),
        links: unpacked.links_below.iter().map(|link| (bytes(&link.path), bytes(&link.target))).collect(),
        finish: BTreeMap::new(),
        finish_bytes: 0,
        finish_limit: options.limits.tree_bytes,
        copied: HashMap::new(),
        moved: false,
        shown: None,
    };
    if !unpacked.carries_root && !below.is_empty() {
        settler.attributeless.insert(Vec::new());
    }
    while let Some(path) = settler.implied.pop_first() {
        settler.settle_link(path)?;
    }
    while let Some(path) = settler.attributeless.pop_first() {
        settler.settle_folder(&path)?;
    }
    settler.make_links()?;
    settler.finish()
}

/// What is set on a folder when nothing in it changes any more.
struct Finish {
    times: Timestamps,
    default_acl: Option<Vec<u8>>,
}

struct Settler {
    own: Layer,
    below: Below,
    attributes: Attributes,
    /// Implied folders that were not looked at yet.
    implied: BTreeSet<Vec<u8>>,
    /// Implied folders that are no links below, but have no attributes yet. They get them when everything is in its
    /// place: what moves may bring whiteouts along.
    attributeless: BTreeSet<Vec<u8>>,
    /// Hard links to make, and where they lead.
    links: BTreeMap<Vec<u8>, Vec<u8>>,
    finish: BTreeMap<Vec<u8>, Finish>,
    finish_bytes: u64,
    finish_limit: u64,
    /// Files of lower layers that are in this layer now, and where: at their own paths if these are free.
    copied: HashMap<Vec<u8>, Vec<u8>>,
    /// Something of this layer is where it was not unpacked.
    moved: bool,
    /// A folder that was seen not to be opaque, nor any above it.
    shown: Option<Vec<u8>>,
}

/// Where a path leads in this layer on top of those below.
#[derive(Clone)]
enum Place {
    /// To a folder that this layer has, perhaps only now.
    Folder(Vec<u8>),
    /// To no folder.
    Nowhere,
}

impl Settler {
    fn settle_link(&mut self, path: Vec<u8>) -> Result<(), UnpackError> {
        // What moved may have come into an opaque folder.
        if self.moved && self.is_cut_off(&path)? {
            return Ok(());
        }
        let found = self.below.find(&path).map_err(|error| failed("look below at", &path, error))?;
        if let Found::Other(layer, stat) = found
            && file_type(&stat) == FileType::Symlink
        {
            let failure = |error| failed("read the link", &path, error);
            let target = self.below.layer(layer).link(&path).map_err(failure)?;
            // The folder must not stand in the link's own way.
            if let Place::Folder(to) = self.place(split_last(&path).0, &target, &path)? {
                return self.redirect(&path, &to);
            }
        }
        // What is no folder below is hidden by the folder, as overlayfs does it; so is a link that leads to no folder.
        self.attributeless.insert(path);
        Ok(())
    }

    fn settle_folder(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        if self.moved && self.is_cut_off(path)? {
            return Ok(());
        }
        match self.below.find(path).map_err(|error| failed("look below at", path, error))? {
            Found::Folder(layers) => self.take_attributes(path, layers[0]),
            Found::Nothing | Found::Other(..) => Ok(()),
        }
    }

    /// Gives a folder of this layer what the same folder has below.
    fn take_attributes(&mut self, path: &[u8], layer: usize) -> Result<(), UnpackError> {
        let failure = |error| failed("take over the attributes of", path, error);
        let from = self.below.layer(layer).folder(path).map_err(failure)?;
        let to = self.own.folder(path).map_err(failure)?;
        let stat = rustix::fs::fstat(&from).map_err(failure)?;
        let default_acl = copy_attributes(&self.attributes, &from, &stat, &On::Open(to.as_fd()), path)?;
        rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(failure)?;
        self.finish_later(path, Finish { times: times_of(&stat), default_acl })
    }

    /// Notes what to set on a folder at the end.
    fn finish_later(&mut self, path: &[u8], finish: Finish) -> Result<(), UnpackError> {
        self.finish_bytes += (path.len() + finish.default_acl.as_ref().map_or(0, Vec::len)) as u64 + 120;
        if self.finish_bytes > self.finish_limit {
            return Err(too_many_folders(self.finish_limit));
        }
        self.finish.insert(path.to_vec(), finish);
        Ok(())
    }

    /// Follows a path from a folder and makes the folders of it that this layer lacks. `hidden` is a folder of this
    /// layer that stands for a link below, and counts as that link.
    fn place(&mut self, start: &[u8], path: &[u8], hidden: &[u8]) -> Result<Place, UnpackError> {
        let mut current = start.to_vec();
        let mut rest = path.to_vec();
        let mut links = 0;
        if rest.first() == Some(&b'/') {
            current.clear();
        }
        loop {
            let (name, after) = split_first(&rest);
            let (name, after) = (name.to_vec(), after.to_vec());
            match name.as_slice() {
                b"" if after.is_empty() => return Ok(Place::Folder(current)),
                b"" | b"." => {}
                b".." => current = split_last(&current).0.to_vec(),
                _ => {
                    let next = join(&current, &name);
                    match self.step(&next, hidden)? {
                        Step::Folder => current = next,
                        Step::NoFolder => return Ok(Place::Nowhere),
                        Step::Link(target) => {
                            links += 1;
                            if links > LINKS {
                                return Ok(Place::Nowhere);
                            }
                            if target.first() == Some(&b'/') {
                                current.clear();
                            }
                            rest = [&target, &b"/"[..], &after].concat();
                            continue;
                        }
                    }
                }
            }
            rest = after;
        }
    }

    /// What is at a path whose parent is a folder of this layer.
    fn step(&mut self, path: &[u8], hidden: &[u8]) -> Result<Step, UnpackError> {
        let failure = |error| failed("look at", path, error);
        if split_last(path).1.starts_with(b".wh.") {
            return Ok(Step::NoFolder);
        }
        let own = self.own.stat(path).map_err(failure)?;
        let is_open = path == hidden || self.implied.contains(path) || self.attributeless.contains(path);
        match &own {
            Some(stat) if is_whiteout(stat) => return Ok(Step::NoFolder),
            Some(stat) if file_type(stat) == FileType::Symlink => {
                return self.own.link(path).map(Step::Link).map_err(failure);
            }
            Some(stat) if file_type(stat) != FileType::Directory => return Ok(Step::NoFolder),
            Some(_) if !is_open => return Ok(Step::Folder),
            Some(_) | None => {}
        }
        let found = if self.is_cut_off(path)? { Found::Nothing } else { self.below.find(path).map_err(failure)? };
        match found {
            Found::Other(layer, stat) if file_type(&stat) == FileType::Symlink => {
                self.below.layer(layer).link(path).map(Step::Link).map_err(failure)
            }
            _ if own.is_some() => Ok(Step::Folder),
            Found::Other(..) => Ok(Step::NoFolder),
            Found::Folder(layers) => {
                self.make_folder(path)?;
                self.take_attributes(path, layers[0])?;
                Ok(Step::Folder)
            }
            Found::Nothing => {
                self.make_folder(path)?;
                let epoch = Timespec { tv_sec: 0, tv_nsec: 0 };
                let times = Timestamps { last_access: epoch, last_modification: epoch };
                self.finish_later(path, Finish { times, default_acl: None })?;
                Ok(Step::Folder)
            }
        }
    }

    fn make_folder(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        let (parent, name) = split_last(path);
        self.touch(parent)?;
        let failure = |error| failed("make the folder", path, error);
        let folder = self.own.folder(parent).map_err(failure)?;
        rustix::fs::mkdirat(&folder, name, Mode::from_raw_mode(0o755)).map_err(failure)?;
        rustix::fs::fchmod(self.own.folder(path).map_err(failure)?, Mode::from_raw_mode(0o755)).map_err(failure)
    }

    /// Whether this layer's own opaque folders hide what is below a path, whose parent it must have. From the top down,
    /// so that each folder is opened from its parent, and from where the last path that was asked for has ended.
    fn is_cut_off(&mut self, path: &[u8]) -> Result<bool, UnpackError> {
        let parent = split_last(path).0;
        let shown = self.shown.take().filter(|shown| parent == shown.as_slice() || is_inside(parent, shown));
        let from = shown.as_ref().map(Vec::len);
        let ends = memchr::memchr_iter(b'/', parent).chain([parent.len()]);
        let root = if parent.is_empty() { None } else { Some(0) };
        for end in root.into_iter().chain(ends).filter(|end| from.is_none_or(|from| *end > from)) {
            let folder = &parent[..end];
            if self.own.is_opaque(folder).map_err(|error| failed("look at", folder, error))? {
                return Ok(true);
            }
        }
        self.shown = Some(parent.to_vec());
        Ok(false)
    }

    /// Remembers the times of a folder that is about to change.
    fn touch(&mut self, path: &[u8]) -> Result<(), UnpackError> {
        if !self.finish.contains_key(path) {
            let stat = self.own.stat(path).map_err(|error| failed("look at", path, error))?;
            if let Some(stat) = stat {
                self.finish_later(path, Finish { times: times_of(&stat), default_acl: None })?;
            }
        }
        Ok(())
    }

    /// Moves what is in `from` to `to` and removes `from`: the link below shows again.
    fn redirect(&mut self, from: &[u8], to: &[u8]) -> Result<(), UnpackError> {
        // A link that leads to its own folder or into it resolves to nothing that could take it.
        if to == from || is_inside(to, from) {
            return Ok(());
        }
        self.touch(split_last(from).0)?;
        self.moved = true;
        let mut folders = vec![(from.to_vec(), to.to_vec())];
        let mut next = 0;
        while let Some((from, to)) = folders.get(next).cloned() {
            self.merge(&from, &to, &mut folders)?;
            self.paths_changed();
            next += 1;
        }
        for (from, _) in folders.into_iter().rev() {
            let (parent, name) = split_last(&from);
            let failure = |error| failed("remove the folder", &from, error);
            let folder = self.own.folder(parent).map_err(failure)?;
            rustix::fs::unlinkat(&folder, name, AtFlags::REMOVEDIR).map_err(failure)?;
            self.finish.remove(&from);
        }
        self.paths_changed();
        self.rename_prefix(from, to);
        Ok(())
    }

    /// Moves the entries of one folder; folders that both have are left for later.
    fn merge(&mut self, from: &[u8], to: &[u8], later: &mut Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), UnpackError> {
        let failure = |error| failed("move", from, error);
        self.touch(to)?;
        let source = self.own.folder(from).map_err(failure)?;
        let target = self.own.folder(to).map_err(failure)?;
        if self.own.is_opaque(from).map_err(failure)? {
            self.attributes.make_opaque(target.as_fd(), to)?;
        }
        for name in names(&source).map_err(failure)? {
            let name = name.as_slice();
            let (old, new) = (join(from, name), join(to, name));
            let Some(moved) = self.own.stat(&old).map_err(failure)? else { continue };
            let is_folder = file_type(&moved) == FileType::Directory;
            if is_whiteout(&moved) {
                self.attributes.expect_whiteouts(target.as_fd(), to)?;
            }
            let rename = || rustix::fs::renameat_with(&source, name, &target, name, RenameFlags::NOREPLACE);
            match self.own.stat(&new).map_err(failure)? {
                None => {
                    rename().map_err(failure)?;
                    self.paths_changed();
                    self.rename_prefix(&old, &new);
                }
                Some(there) if file_type(&there) == FileType::Directory => {
                    if is_folder {
                        self.unite(&old, &moved, &new)?;
                        later.push((old, new));
                    } else {
                        if is_whiteout(&moved) {
                            let folder = self.own.folder(&new).map_err(failure)?;
                            self.attributes.make_opaque(folder.as_fd(), &new)?;
                            self.forget_inside(&new);
                        }
                        rustix::fs::unlinkat(&source, name, AtFlags::empty()).map_err(failure)?;
                    }
                }
                Some(there) if is_whiteout(&there) && !is_whiteout(&moved) => {
                    rustix::fs::unlinkat(&target, name, AtFlags::empty()).map_err(failure)?;
                    rename().map_err(failure)?;
                    self.paths_changed();
                    if is_folder {
                        let folder = self.own.folder(&new).map_err(failure)?;
                        self.attributes.make_opaque(folder.as_fd(), &new)?;
                        self.forget_inside(&old);
                    }
                    self.rename_prefix(&old, &new);
                }
                // The entry that was written with its real path wins: in sorted archives it is the later one.
                Some(_) => self.remove(&old, is_folder)?,
            }
        }
        Ok(())
    }

    /// A folder that the layer names in two ways: an entry of its own counts more than none.
    fn unite(&mut self, old: &[u8], stat: &rustix::fs::Stat, new: &[u8]) -> Result<(), UnpackError> {
        let is_implied = self.implied.remove(old) || self.attributeless.remove(old);
        if is_implied || !(self.implied.remove(new) || self.attributeless.remove(new)) {
            return Ok(());
        }
        let failure = |error| failed("take over the attributes of", new, error);
        let (from, to) = (self.own.folder(old).map_err(failure)?, self.own.folder(new).map_err(failure)?);
        let default_acl = copy_attributes(&self.attributes, &from, stat, &On::Open(to.as_fd()), new)?;
        rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(failure)?;
        self.finish_later(new, Finish { times: times_of(stat), default_acl })
    }

    fn remove(&mut self, path: &[u8], is_folder: bool) -> Result<(), UnpackError> {
        let failure = |error| failed("remove", path, error);
        let unlink = |own: &Layer, path: &[u8], flags| {
            let (parent, name) = split_last(path);
            own.folder(parent).and_then(|folder| rustix::fs::unlinkat(&folder, name, flags)).map_err(failure)
        };
        if !is_folder {
            return unlink(&self.own, path, AtFlags::empty());
        }
        let mut folders = vec![path.to_vec()];
        let mut next = 0;
        while let Some(folder) = folders.get(next).cloned() {
            let open = self.own.folder(&folder).map_err(failure)?;
            for name in names(&open).map_err(failure)? {
                let inside = join(&folder, &name);
                match self.own.stat(&inside).map_err(failure)? {
                    Some(stat) if file_type(&stat) == FileType::Directory => folders.push(inside),
                    _ => unlink(&self.own, &inside, AtFlags::empty())?,
                }
            }
            next += 1;
        }
        for folder in folders.iter().rev() {
            unlink(&self.own, folder, AtFlags::REMOVEDIR)?;
            self.finish.remove(folder);
        }
        self.paths_changed();
        self.forget_inside(path);
        for link in within(self.links.range(path.to_vec()..).map(|(path, _)| path), path) {
            self.links.remove(&link);
        }
        Ok(())
    }

    /// Forgets what was known by paths that may lead elsewhere now, or into opaque folders.
    fn paths_changed(&mut self) {
        self.own.forget();
        self.shown = None;
    }

    /// A folder that is cut off from below needs nothing from there, nor does what is in it.
    fn forget_inside(&mut self, path: &[u8]) {
        for set in [&mut self.implied, &mut self.attributeless] {
            for path in within(set.range(path.to_vec()..), path) {
                set.remove(&path);
            }
        }
    }

    /// Follows a move in all that is remembered by path.
    fn rename_prefix(&mut self, from: &[u8], to: &[u8]) {
        let renamed = |path: &[u8]| [to, &path[from.len()..]].concat();
        let mut moved = within(self.implied.range(from.to_vec()..), from);
        moved.extend(within(self.attributeless.range(from.to_vec()..), from));
        for path in moved {
            self.implied.remove(&path);
            self.attributeless.remove(&path);
            self.implied.insert(renamed(&path));
        }
        for path in within(self.finish.range(from.to_vec()..).map(|(path, _)| path), from) {
            if let Some(finish) = self.finish.remove(&path) {
                self.finish.insert(renamed(&path), finish);
            }
        }
        for path in within(self.links.range(from.to_vec()..).map(|(path, _)| path), from) {
            if let Some(target) = self.links.remove(&path) {
                self.links.insert(renamed(&path), target);
            }
        }
    }

    fn make_links(&mut self) -> Result<(), UnpackError> {
        let links = std::mem::take(&mut self.links);
        // Those that lead into one folder come after each other: each folder on the way is looked at once.
        let mut by_target: Vec<(&Vec<u8>, &Vec<u8>)> = links.iter().map(|(path, target)| (target, path)).collect();
        by_target.sort();
        let mut trail = Trail::default();
        for (target, path) in by_target {
            self.make_link(path, target, &links, &mut trail)?;
        }
        Ok(())
    }

    /// Where a path leads, beginning where the last one has left the trail.
    fn follow(&mut self, path: &[u8], trail: &mut Trail) -> Result<Place, UnpackError> {
        let is_on_the_way =
            |end: usize| path.get(..end) == trail.path.get(..end) && path.get(end).is_none_or(|next| *next == b'/');
        while trail.places.pop_if(|(end, _)| !is_on_the_way(*end)).is_some() {}
        trail.path = path.to_vec();
        let (mut done, mut place) = trail.places.last().cloned().unwrap_or((0, Place::Folder(Vec::new())));
        while let Place::Folder(folder) = &place
            && done < path.len()
        {
            let start = if done == 0 { 0 } else { done + 1 };
            done = memchr::memchr(b'/', &path[start..]).map_or(path.len(), |length| start + length);
            place = self.place(&folder.clone(), &path[start..done], b"")?;
            trail.places.push((done, place.clone()));
        }
        Ok(place)
    }

    /// Makes a hard link to a file of a lower layer: the file comes into this layer, at both of its names.
    fn make_link(
        &mut self,
        path: &[u8],
        target: &[u8],
        links: &BTreeMap<Vec<u8>, Vec<u8>>,
        trail: &mut Trail,
    ) -> Result<(), UnpackError> {
        let refuse = |problem| UnpackError::Entry { path: path_buf(path), problem };
        let failure = |error| failed("make the hard link", path, error);
        let (parent, last) = split_last(target);
        let Place::Folder(parent) = self.follow(parent, trail)? else { return Err(refuse(Problem::LinkTarget)) };
        let target = join(&parent, last);
        let (link_parent, name) = split_last(path);
        self.touch(link_parent)?;
        if !self.copied.contains_key(&target) {
            if self.is_cut_off(&target)? {
                return Err(refuse(Problem::LinkTarget));
            }
            let (layer, stat) = match self.below.find(&target).map_err(failure)? {
                Found::Other(layer, stat) => (layer, stat),
                Found::Folder(_) => return Err(refuse(Problem::LinkToFolder)),
                Found::Nothing => return Err(refuse(Problem::LinkTarget)),
            };
            let from = self.below.layer(layer).folder(&parent).map_err(failure)?;
            // A later entry has taken the name of the file: then this link is the first of all that is left of it.
            let is_taken = links.contains_key(&target) || self.own.stat(&target).map_err(failure)?.is_some();
            let copy = if is_taken { path } else { &target };
            if is_taken && self.own.stat(path).map_err(failure)?.is_some() {
                return Ok(());
            }
            let (copy_parent, copy_name) = split_last(copy);
            self.touch(copy_parent)?;
            let to = self.own.folder(copy_parent).map_err(failure)?;
            if !copy_up(&self.attributes, &from, last, &stat, &to, copy_name, copy)? {
                return Ok(());
            }
            self.copied.insert(target.clone(), copy.to_vec());
        }
        let Some((copy_parent, copy_name)) = self.copied.get(&target).map(|copy| split_last(copy)) else {
            return Ok(());
        };
        let from = self.own.folder(copy_parent).map_err(failure)?;
        let folder = self.own.folder(link_parent).map_err(failure)?;
        match rustix::fs::linkat(&from, copy_name, &folder, name, AtFlags::empty()) {
            // Something moved here from behind a link, which counts (see `merge`), or it is the copy itself.
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(failure(error)),
        }
    }

    fn finish(self) -> Result<(), UnpackError> {
        for (path, finish) in self.finish {
            let failure = |error| failed("set the times of", &path, error);
            let folder = self.own.folder(&path).map_err(failure)?;
            let on = On::Open(folder.as_fd());
            if let Some(acl) = finish.default_acl {
                on.set_xattr(DEFAULT_ACL, &acl).map_err(failure)?;
            }
            on.set_times(&finish.times).map_err(failure)?;
        }
        Ok(())
    }
}

/// The last path that was followed: where each part of it has led, by the part's end.
#[derive(Default)]
struct Trail {
    path: Vec<u8>,
    places: Vec<(usize, Place)>,
}

enum Step {
    Folder,
    Link(Vec<u8>),
    NoFolder,
}

fn times_of(stat: &rustix::fs::Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec { tv_sec: seconds, tv_nsec: nanoseconds.cast_signed() };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn join(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, &b"/"[..], name].concat() }
}

fn bytes(path: &Path) -> Vec<u8> {
    path.as_os_str().as_bytes().to_vec()
}

/// Those of the sorted paths, which begin with `folder` or after it, that are `folder` or inside of it.
fn within<'a>(paths: impl Iterator<Item = &'a Vec<u8>>, folder: &[u8]) -> Vec<Vec<u8>> {
    // `folder-x` sorts between `folder` and `folder/x`.
    let paths = paths.take_while(|path| path.starts_with(folder));
    paths.filter(|path| path.as_slice() == folder || is_inside(path, folder)).cloned().collect()
}

fn is_inside(path: &[u8], folder: &[u8]) -> bool {
    folder.is_empty() && !path.is_empty() || path.strip_prefix(folder).is_some_and(|rest| rest.first() == Some(&b'/'))
}

fn names(folder: &std::os::fd::OwnedFd) -> Result<Vec<Vec<u8>>, Errno> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
