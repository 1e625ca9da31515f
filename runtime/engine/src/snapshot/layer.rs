//! From the writable layer to the tar of an image's layer. OCI image specification, layer.md.

use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, SeekFrom};

use super::emit::Emitter;
use super::node::Node;
use super::upper::{Made, Upper};
use super::{RootBefore, SnapshotError, SnapshotOptions, absolute, failed, joined};
use crate::unpack::OverlayXattr;
use crate::unpack::below::Found;

/// How much is compared at once.
const PIECE: usize = 64 * 1024;

/// What a layer has become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerWritten {
    /// How many entries it has. Without any it changes nothing.
    pub entries: u64,
}

/// Writes a container's writable layer as a layer on top of those below it, which come topmost first. The same folders make
/// the same bytes.
pub fn write_layer(
    upper: &Path,
    lowers: &[PathBuf],
    options: &SnapshotOptions,
    out: impl Write,
) -> Result<LayerWritten, SnapshotError> {
    let mut writing = Writing {
        upper: Upper::open(upper, lowers, options.overlay)?,
        overlay: options.overlay,
        made: Made::new(options),
        emitter: Emitter::new(out, Some(options.overlay), true),
        levels: Vec::new(),
    };
    writing.root(upper, &options.root)?;
    writing.run()?;
    let entries = writing.emitter.entries;
    writing.emitter.finish()?;
    Ok(LayerWritten { entries })
}

/// A folder on the way down.
struct Level {
    path: Vec<u8>,
    /// Those that are left, the last one first.
    names: Vec<Vec<u8>>,
    /// Nothing of what is below shows here.
    is_cut_off: bool,
    /// The folder itself is not written yet: it is if something in it is.
    waits: bool,
}

struct Writing<W> {
    upper: Upper,
    overlay: OverlayXattr,
    made: Made,
    emitter: Emitter<W>,
    levels: Vec<Level>,
}

impl<W: Write> Writing<W> {
    /// Layers do not carry their root, as a rule. This one does if it is no longer what it was, apart from its time.
    fn root(&mut self, upper: &Path, before: &RootBefore) -> Result<(), SnapshotError> {
        let open = |path: &Path| {
            let opened = rustix::fs::openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
            opened.and_then(Node::held).map_err(|error| failed("open", b"", error))
        };
        let attributes = |node: &Node| {
            let xattrs =
                node.xattrs(Some(self.overlay)).map_err(|error| failed("read the attributes of", b"", error))?;
            Ok((node.stat.st_mode & 0o7777, node.stat.st_uid, node.stat.st_gid, xattrs))
        };
        let old = match before {
            RootBefore::Unknown => return Ok(()),
            RootBefore::Plain => (0o755, 0, 0, Vec::new()),
            RootBefore::Like(folder) => attributes(&open(folder)?)?,
        };
        let new = open(upper)?;
        if attributes(&new)? != old {
            self.emitter.node(&new, b"./")?;
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), SnapshotError> {
        self.enter(Vec::new(), false, false)?;
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

    fn enter(&mut self, path: Vec<u8>, is_cut_off: bool, waits: bool) -> Result<(), SnapshotError> {
        let mut names = self.upper.names(&path)?;
        names.reverse();
        self.levels.push(Level { path, names, is_cut_off, waits });
        Ok(())
    }

    fn look(&mut self, folder: &[u8], name: &[u8], is_cut_off: bool) -> Result<(), SnapshotError> {
        let path = joined(folder, name);
        let Some(node) = self.upper.node(folder, name)? else { return Ok(()) };
        let below = if is_cut_off { Found::Nothing } else { self.upper.below(&path)? };
        if node.is_whiteout() {
            return if matches!(below, Found::Nothing) { Ok(()) } else { self.removed(folder, name) };
        }
        if name.starts_with(b".wh.") {
            return Err(SnapshotError::ReservedName { path: absolute(&path) });
        }
        if node.kind() == FileType::Socket {
            // It cannot be part of an image. What it has taken the place of must not show again.
            return if matches!(below, Found::Nothing) { Ok(()) } else { self.removed(folder, name) };
        }
        let is_ours = matches!(below, Found::Nothing) && self.made.is_ours(&path, &node);
        if node.is_folder() {
            let is_opaque = self.upper.is_opaque(&path)?;
            let hides = is_opaque && matches!(below, Found::Folder(_));
            let waits = is_ours || !hides && self.is_same(&node, folder, name, &below)?;
            if !waits {
                self.write(&node, &path)?;
            }
            if hides {
                self.emitter.mark(joined(&path, b".wh..wh..opq"))?;
            }
            let is_cut_off = is_cut_off || is_opaque || !matches!(below, Found::Folder(_));
            return self.enter(path, is_cut_off, waits);
        }
        if is_ours || self.is_same(&node, folder, name, &below)? {
            return Ok(());
        }
        self.write(&node, &path)
    }

    /// Writes something, after the folders that it lies in.
    fn write(&mut self, node: &Node, path: &[u8]) -> Result<(), SnapshotError> {
        self.folders()?;
        self.emitter.node(node, path).map(drop)
    }

    fn removed(&mut self, folder: &[u8], name: &[u8]) -> Result<(), SnapshotError> {
        if name.starts_with(b".wh.") {
            return Err(SnapshotError::ReservedName { path: absolute(&joined(folder, name)) });
        }
        self.folders()?;
        self.emitter.mark(joined(folder, &[b".wh.", name].concat()))
    }

    fn folders(&mut self) -> Result<(), SnapshotError> {
        for level in &mut self.levels {
            if std::mem::take(&mut level.waits) {
                let (folder, name) = split(&level.path);
                if let Some(node) = self.upper.node(folder, name)? {
                    self.emitter.node(&node, &level.path)?;
                }
            }
        }
        Ok(())
    }

    /// Whether overlayfs has only copied it up: nothing of it is other than what is below.
    fn is_same(&self, node: &Node, folder: &[u8], name: &[u8], below: &Found) -> Result<bool, SnapshotError> {
        let Some(old) = self.upper.below_node(folder, name, below)? else { return Ok(false) };
        let (new, was) = (&node.stat, &old.stat);
        let same = (new.st_mode, new.st_uid, new.st_gid, new.st_rdev)
            == (was.st_mode, was.st_uid, was.st_gid, was.st_rdev)
            && node.modified() == old.modified();
        // With another name it is no longer the file that it was.
        let alone = node.is_folder() || new.st_size == was.st_size && new.st_nlink == 1 && was.st_nlink == 1;
        if !same || !alone {
            return Ok(false);
        }
        let failure = |error: rustix::io::Errno| failed("compare", &joined(folder, name), error);
        if node.xattrs(Some(self.overlay)).map_err(failure)? != old.xattrs(Some(self.overlay)).map_err(failure)? {
            return Ok(false);
        }
        match node.kind() {
            FileType::RegularFile => is_same_content(node, &old).map_err(failure),
            FileType::Symlink => Ok(node.link().map_err(failure)? == old.link().map_err(failure)?),
            _ => Ok(true),
        }
    }
}

fn is_same_content(one: &Node, other: &Node) -> rustix::io::Result<bool> {
    let (one, other) = (one.read()?, other.read()?);
    let (mut left, mut right) = (vec![0; PIECE], vec![0; PIECE]);
    let mut offset = 0;
    loop {
        // Holes that both have are the same, however large they are.
        let next = [data(&one, offset)?, data(&other, offset)?];
        let Some(next) = next.into_iter().flatten().min() else { return Ok(true) };
        offset = next;
        let count = fill(&one, &mut left, offset)?;
        if fill(&other, &mut right, offset)? != count || left[..count] != right[..count] {
            return Ok(false);
        }
        if count < PIECE {
            return Ok(true);
        }
        offset += count as u64;
    }
}

/// Where the next data of a file is; `None` if there is none up to its end.
fn data(file: impl AsFd, offset: u64) -> rustix::io::Result<Option<u64>> {
    match rustix::fs::seek(file, SeekFrom::Data(offset)) {
        Ok(next) => Ok(Some(next)),
        Err(rustix::io::Errno::NXIO) => Ok(None),
        // A file system that does not know of holes.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOTSUP) => Ok(Some(offset)),
        Err(error) => Err(error),
    }
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

fn fill(file: impl AsFd, buffer: &mut [u8], offset: u64) -> rustix::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(&file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
