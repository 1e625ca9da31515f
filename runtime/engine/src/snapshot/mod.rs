//! A container's writable layer: what it changes ([`diff`]), the layer that it makes ([`write_layer`]), and the whole tree
//! that is seen through it ([`write_tree`]).
//!
//! The writable layer is the upper folder of an overlay mount without redirections. Like the folders of the layers below
//! it is read as what it is, without mounting it: names are bytes, links are never followed, and what a running
//! container does meanwhile leads nowhere else.

mod diff;
mod emit;
mod export;
mod layer;
mod node;
mod upper;

use std::io;
use std::path::PathBuf;

pub use diff::{Change, ChangeKind, diff};
pub(crate) use emit::Emitter;
pub use export::write_tree;
pub(crate) use export::{Mounts, is_kernel, walk};
pub use layer::{LayerWritten, write_layer};
pub(crate) use node::{Node, names};

use crate::unpack::OverlayXattr;

/// How the folders of a container are to be read.
#[derive(Debug, Clone, Default)]
pub struct SnapshotOptions {
    /// The attributes that overlayfs keeps its notes in.
    pub overlay: OverlayXattr,
    /// Mount points and files that the runtime has made, as absolute paths inside the container. Where they are still
    /// empty and nothing below has them they are not the container's changes, nor are folders with nothing else in them.
    pub made: Vec<PathBuf>,
    /// What the root was like when the container was made.
    pub root: RootBefore,
}

/// Owner, mode and attributes of a container's root before it ran. A layer tells of the root if they have changed.
#[derive(Debug, Clone, Default)]
pub enum RootBefore {
    /// Nobody knows: a layer does not tell of the root.
    #[default]
    Unknown,
    /// 0755 and root's, as it is if no layer of the image says anything else.
    Plain,
    /// Those of this folder.
    Like(PathBuf),
}

/// Why a container's tree cannot be read or written out.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file system.
    #[error("cannot {action} `{}` of the container: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path inside the container.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
    /// A name that means something else in a layer.
    #[error("`{}` cannot be part of an image, for names that begin with `.wh.` mark what a layer removes: rename or remove it", path.display())]
    ReservedName {
        /// The path inside the container.
        path: PathBuf,
    },
    /// The archive cannot be written.
    #[error("cannot write the archive: {0}")]
    Write(io::Error),
}

/// An error of the file system at a path of bytes.
pub(crate) fn failed(action: &'static str, path: &[u8], error: impl Into<io::Error>) -> SnapshotError {
    SnapshotError::Io { action, path: absolute(path), source: error.into() }
}

/// A path relative to the root as the container knows it.
fn absolute(path: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    PathBuf::from(std::ffi::OsString::from_vec([b"/", path].concat()))
}

/// The path of something in a folder, both relative to the root.
pub(crate) fn joined(folder: &[u8], name: &[u8]) -> Vec<u8> {
    if folder.is_empty() { name.to_vec() } else { [folder, b"/", name].concat() }
}
