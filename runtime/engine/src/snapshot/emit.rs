//! From what is found in a folder to an entry of an archive.

use std::collections::HashMap;
use std::io::Write;
use std::os::fd::OwnedFd;

use rustix::fs::{FileType, SeekFrom, major, minor, seek};
use rustix::io::Errno;

use super::node::Node;
use super::{SnapshotError, failed};
use crate::tar::{BLOCK, Entry, EntryKind, Writer};
use crate::unpack::OverlayXattr;

/// How much is read at once.
const PIECE: usize = 256 * 1024;
/// From how many bytes of holes on a file is stored without them. Below it every reader shall be able to read it.
const HOLES: u64 = 1 << 20;
/// Most parts of such a file; one with more is stored as a whole.
const PARTS: usize = 10_000;

/// Writes what it is given into an archive.
pub(crate) struct Emitter<W> {
    tar: Writer<W>,
    /// The first name of each file that has several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    overlay: Option<OverlayXattr>,
    sparse: bool,
    buffer: Vec<u8>,
    pub(crate) entries: u64,
}

impl<W: Write> Emitter<W> {
    /// `overlay` tells which attributes are overlayfs's own. Sparse files are written as such only if every reader of the
    /// archive knows them: not all programs do.
    pub(crate) fn new(out: W, overlay: Option<OverlayXattr>, sparse: bool) -> Self {
        Emitter { tar: Writer::new(out), links: HashMap::new(), overlay, sparse, buffer: vec![0; PIECE], entries: 0 }
    }

    /// Writes something under this name. Sockets are left out; whether it was written.
    pub(crate) fn node(&mut self, node: &Node, path: &[u8]) -> Result<bool, SnapshotError> {
        let failure = |action, error: Errno| failed(action, path, error);
        let kind = match node.kind() {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Folder,
            FileType::Symlink => EntryKind::SymbolicLink,
            FileType::CharacterDevice => EntryKind::CharacterDevice,
            FileType::BlockDevice => EntryKind::BlockDevice,
            FileType::Fifo => EntryKind::Fifo,
            _ => return Ok(false),
        };
        let stat = &node.stat;
        let mut entry = Entry {
            path: path.to_vec(),
            kind,
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            modified: node.modified(),
            ..Entry::default()
        };
        match kind {
            EntryKind::Folder if !path.ends_with(b"/") => entry.path.push(b'/'),
            EntryKind::CharacterDevice | EntryKind::BlockDevice => {
                entry.device = (major(stat.st_rdev), minor(stat.st_rdev));
            }
            _ => {}
        }
        if kind != EntryKind::Folder && stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                entry.kind = EntryKind::HardLink;
                entry.link.clone_from(first);
                self.entries += 1;
                return self.tar.entry(&entry).map(|()| true).map_err(SnapshotError::Write);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        if kind == EntryKind::SymbolicLink {
            entry.link = node.link().map_err(|error| failure("read the link", error))?;
        }
        entry.xattrs = node.xattrs(self.overlay).map_err(|error| failure("read the extended attributes of", error))?;
        self.entries += 1;
        if kind == EntryKind::File {
            entry.size = u64::try_from(stat.st_size).unwrap_or_default();
            return self.file(node, &entry).map(|()| true);
        }
        self.tar.entry(&entry).map(|()| true).map_err(SnapshotError::Write)
    }

    /// Writes an empty file of this name, which says something about others.
    pub(crate) fn mark(&mut self, path: Vec<u8>) -> Result<(), SnapshotError> {
        self.entries += 1;
        self.tar.entry(&Entry { path, mode: 0o644, ..Entry::default() }).map_err(SnapshotError::Write)
    }

    /// Writes an entry without content.
    pub(crate) fn plain(&mut self, entry: &Entry) -> Result<(), SnapshotError> {
        self.entries += 1;
        self.tar.entry(entry).map_err(SnapshotError::Write)
    }

    /// Ends the archive.
    pub(crate) fn finish(self) -> Result<W, SnapshotError> {
        self.tar.finish().map_err(SnapshotError::Write)
    }

    fn file(&mut self, node: &Node, entry: &Entry) -> Result<(), SnapshotError> {
        let failure = |error: Errno| failed("read", &entry.path, error);
        if entry.size == 0 {
            return self.tar.entry(entry).map_err(SnapshotError::Write);
        }
        let file = node.read().map_err(failure)?;
        let parts = parts(&file, entry.size).map_err(failure)?;
        let stored: u64 = parts.iter().map(|(_, length)| length).sum();
        let is_sparse = self.sparse && entry.size - stored >= HOLES && parts.len() <= PARTS;
        if is_sparse {
            self.tar.sparse(entry, &parts).map_err(SnapshotError::Write)?;
        } else {
            self.tar.entry(entry).map_err(SnapshotError::Write)?;
        }
        let mut position = 0;
        for (offset, length) in parts {
            if !is_sparse {
                self.tar.zeros(offset - position).map_err(SnapshotError::Write)?;
            }
            self.part(&file, offset, length).map_err(|error| match error {
                PartError::Read(error) => failure(error),
                PartError::Write(error) => SnapshotError::Write(error),
            })?;
            position = offset + length;
        }
        if !is_sparse {
            self.tar.zeros(entry.size - position).map_err(SnapshotError::Write)?;
        }
        Ok(())
    }

    /// What a running container has cut off meanwhile is zeros.
    fn part(&mut self, file: &OwnedFd, mut offset: u64, mut length: u64) -> Result<(), PartError> {
        while length > 0 {
            let wanted = usize::try_from(length).unwrap_or(usize::MAX).min(PIECE);
            let count = match rustix::io::pread(file, &mut self.buffer[..wanted], offset) {
                Ok(0) => return self.tar.zeros(length).map_err(PartError::Write),
                Ok(count) => count,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(PartError::Read(error)),
            };
            self.tar.data(&self.buffer[..count]).map_err(PartError::Write)?;
            offset += count as u64;
            length -= count as u64;
        }
        Ok(())
    }
}

enum PartError {
    Read(Errno),
    Write(std::io::Error),
}

/// The parts of a file that have data, in whole blocks but for the end of the file. A hole at the end is a part without
/// any: GNU tar needs it to know how large the file is.
fn parts(file: &OwnedFd, size: u64) -> Result<Vec<(u64, u64)>, Errno> {
    let block = BLOCK as u64;
    let mut parts: Vec<(u64, u64)> = Vec::new();
    let mut offset = 0;
    while offset < size {
        let start = match seek(file, SeekFrom::Data(offset)) {
            Ok(start) => start.min(size),
            Err(Errno::NXIO) => break,
            // A file system that does not know of holes.
            Err(Errno::INVAL | Errno::NOTSUP) => return Ok(vec![(0, size)]),
            Err(error) => return Err(error),
        };
        let end = match seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(size),
            // Cut off meanwhile.
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error),
        };
        if end <= start {
            break;
        }
        let (start, end) = (start / block * block, end.next_multiple_of(block).min(size));
        match parts.last_mut() {
            Some((last, length)) if *last + *length >= start => *length = end - *last,
            _ => parts.push((start, end - start)),
        }
        offset = end;
    }
    if parts.last().is_none_or(|(start, length)| start + length < size) {
        parts.push((size, 0));
    }
    Ok(parts)
}
