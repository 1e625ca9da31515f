//! Out of a container.

use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::path::Wanted;
use super::stat::PathStat;
use super::{CopyError, failed};
use crate::snapshot::{Emitter, Mounts, is_kernel, walk};

/// Writes what is at a path of a container as an archive, as docker does: names begin with the last name of the path, `.`
/// if that ends in `/.`. A link at the end of the path is copied itself, unless a slash follows or `follow_link` is set,
/// which keeps the link's name for what it leads to. Other file systems in the container belong to it, but for those that
/// show the kernel.
pub fn archive_out(
    root: BorrowedFd<'_>,
    path: &Path,
    follow_link: bool,
    out: impl Write,
) -> Result<PathStat, CopyError> {
    write(root, path, follow_link, None, out)
}

/// The same under another name, which takes the place of the last one of the path.
pub fn archive_out_as(
    root: BorrowedFd<'_>,
    path: &Path,
    follow_link: bool,
    name: &OsStr,
    out: impl Write,
) -> Result<PathStat, CopyError> {
    write(root, path, follow_link, Some(name.as_bytes()), out)
}

fn write(
    root: BorrowedFd<'_>,
    path: &Path,
    follow_link: bool,
    name: Option<&[u8]>,
    out: impl Write,
) -> Result<PathStat, CopyError> {
    let wanted = Wanted::new(path.as_os_str().as_bytes());
    let node = wanted.find(root, follow_link)?;
    let stat = PathStat::of(root, &wanted, &node)?;
    let mut emitter = Emitter::new(out, None, false);
    let base = name.unwrap_or_else(|| wanted.base());
    if node.is_folder() {
        let prefix = if base == b"/" { b"/".to_vec() } else { [base, b"/"].concat() };
        emitter.node(&node, &prefix)?;
        // Docker has nothing mounted there while it copies.
        if is_kernel(&node) {
            emitter.finish()?;
            return Ok(stat);
        }
        let folder = node.folder().map_err(|error| failed("open the folder", &wanted.path, error))?;
        let inside = wanted.path.strip_prefix(b"/").unwrap_or_default();
        walk(&mut emitter, folder.as_fd(), inside, &prefix, Mounts::Follow)?;
    } else {
        emitter.node(&node, base)?;
    }
    emitter.finish()?;
    Ok(stat)
}
