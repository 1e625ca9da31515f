//! `cp`: files into a container's root and out of it, and the paths that it may hold.
//!
//! The root is an open folder. Every path is resolved by the kernel inside of it (`openat2`), whatever links a process in
//! the container puts in the way meanwhile, and what was found once is held by its descriptor: its owner and mode are set
//! there and not by a name.

mod glob;
mod into;
mod out;
mod path;
mod stat;

use std::io;
use std::path::PathBuf;

pub use glob::glob;
pub use into::{IntoOptions, archive_in};
pub use out::{archive_out, archive_out_as};
pub use stat::{PathStat, stat};

use crate::snapshot::SnapshotError;
use crate::tar::TarError;

/// Why something cannot be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// There is no such path. Docker's words, without the container's name.
    #[error("Could not find the file {} in the container", .0.display())]
    NotFound(PathBuf),
    /// What an archive is to be unpacked in is no folder. Docker's words.
    #[error("extraction point is not a directory")]
    NotAFolder,
    /// A folder would be replaced. Docker's words.
    #[error("cannot overwrite directory {path:?} with non-directory {folder:?}")]
    OverFolder {
        /// The folder.
        path: PathBuf,
        /// Where the archive is unpacked.
        folder: PathBuf,
    },
    /// A folder would replace something else. Docker's words.
    #[error("cannot overwrite non-directory {path:?} with directory {folder:?}")]
    OverFile {
        /// What is there.
        path: PathBuf,
        /// Where the archive is unpacked.
        folder: PathBuf,
    },
    /// A name that leads out of the folder.
    #[error("the archive's entry `{}` leads out of the folder that it is for: make the archive again without `..`", .0.display())]
    Outside(PathBuf),
    /// The archive cannot be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// The tree cannot be read.
    #[error(transparent)]
    Tree(#[from] SnapshotError),
    /// The file system.
    #[error("cannot {action} `{}` in the container: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path inside the container.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
}

fn failed(action: &'static str, path: &[u8], error: impl Into<io::Error>) -> CopyError {
    CopyError::Io { action, path: path_buf(path), source: error.into() }
}

fn path_buf(path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()))
}
