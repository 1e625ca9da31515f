//! From a layer's tar archive to the folder that overlayfs will mount.
//!
//! Nothing here follows a path string of the archive. Which folders and links the layer made is kept in a [`tree`]; the
//! parent of an entry is looked up there, links included, and opened from the layer's folder by its real path with
//! `openat2`, which refuses every link on the way. The last part of a path is never followed.
//!
//! Whiteouts become what the kernel expects: a device 0/0, and an attribute on opaque folders. What a layer needs from
//! the layers below it is recorded in [`Unpacked`] and done by [`settle`].

mod apply;
pub(crate) mod attributes;
pub(crate) mod below;
mod budget;
pub(crate) mod copy_up;
mod folders;
mod limits;
mod links;
mod settle;
mod tree;
mod whiteouts;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

pub use budget::Budget;
pub use limits::{OneId, OverlayXattr, UnpackLimits, UnpackOptions};
pub use settle::settle;

use crate::tar::TarError;

/// What came of unpacking a layer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Folders that the layer has something in but does not carry, relative to its root, parents first. The root itself
    /// is not among them: see `carries_root`. Folders that the layer's own whiteouts cut off from below are not either.
    pub implied: Vec<PathBuf>,
    /// Hard links to files that the layer does not have.
    pub links_below: Vec<LinkBelow>,
    /// Whether the layer has an entry for its root folder. Most layers have none; if that made them dependent, hardly
    /// any could be shared. So [`settle`] completes the root of layers that need something else from below too, and
    /// for the others it is 0755, belongs to root and was changed in 1970, until whoever mounts the image puts a folder
    /// on top that has the attributes of the nearest root that is carried.
    pub carries_root: bool,
    /// Whether the layer hides everything that is below it: its root is opaque.
    pub hides_all: bool,
    /// How much of the budget `implied` and `links_below` take.
    pub kept_bytes: u64,
    /// Entries of the archive.
    pub entries: u64,
    /// Bytes of the archive, which the DiffID is the digest of.
    pub bytes: u64,
    /// Bytes of file content, holes included, without the further names of hard links.
    pub content_bytes: u64,
    /// Device nodes that this user may not make.
    pub skipped_devices: u64,
    /// Extended attributes that the file system or the kernel does not take here.
    pub skipped_xattrs: u64,
    /// Entries that belong to somebody else than they should, because only one id is there.
    pub skipped_owners: u64,
}

impl Unpacked {
    /// Whether the layer is the same whatever lies below it, so that every image with its DiffID can share it.
    pub fn is_independent(&self) -> bool {
        self.implied.is_empty() && self.links_below.is_empty()
    }
}

/// A hard link to a file of a lower layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkBelow {
    /// Where the link belongs, relative to the layer's root, without links on the way.
    pub path: PathBuf,
    /// What it is another name of; links of lower layers may be on the way.
    pub target: PathBuf,
}

/// Why a layer cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The archive.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// An entry that no layer may have.
    #[error("the layer's entry `{}` is refused: {problem}", path.display())]
    Entry {
        /// Its name as the archive has it.
        path: PathBuf,
        /// What is wrong.
        problem: Problem,
    },
    /// More than allowed.
    #[error("the layer has {what} than {limit}: raise `{setting}` if you trust it")]
    Limit {
        /// What there is too much of, with its comparative.
        what: &'static str,
        /// The limit.
        limit: u64,
        /// The setting that it is.
        setting: &'static str,
    },
    /// An id that is not mapped into the user namespace.
    #[error("`{}` belongs to {uid}:{gid}, which is not mapped here: give the user more subordinate ids in /etc/subuid and /etc/subgid", path.display())]
    Owner {
        /// The path inside the layer.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// The file system.
    #[error("cannot {action} `{}` of the layer: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The path inside the layer.
        path: PathBuf,
        /// How it failed.
        source: io::Error,
    },
}

/// What is wrong with an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// `..` in a name.
    #[error("names with `..` lead out of the layer")]
    ParentFolder,
    /// The name of the root, for something else than a folder.
    #[error("the root of a layer must be a folder")]
    RootNotFolder,
    /// Something other than a folder on the way.
    #[error("what the name leads through is no folder")]
    NotAFolder,
    /// An attribute that the kernel takes in no case.
    #[error("its default ACL has more than 64 KiB")]
    LargeAcl,
    /// Links that are followed far more often than any layer needs.
    #[error("names of the layer lead through links too often")]
    LinkWork,
    /// Links that lead to each other.
    #[error("too many links on the way")]
    LinkLoop,
    /// A name that is too long for the kernel.
    #[error("the path is longer than 4095 bytes")]
    PathTooLong,
    /// A whiteout of nothing, `.` or `..`.
    #[error("the whiteout names no file")]
    Whiteout,
    /// Something inside of a whiteout.
    #[error("names below `.wh.` are reserved")]
    InsideWhiteout,
    /// A hard link to a folder.
    #[error("hard links to folders are not possible")]
    LinkToFolder,
    /// A hard link to a file that is nowhere.
    #[error("the hard link leads to a file that neither this layer nor one below has")]
    LinkTarget,
}

/// Makes the tree of one layer's tar inside `folder`, which must exist, be empty, belong to us and be closed to others
/// by one of its parents. Reads the archive to its very end. After an error the folder is in no useful state.
pub fn unpack(tar: impl Read, folder: &Path, options: &UnpackOptions) -> Result<Unpacked, UnpackError> {
    unpack_within(tar, folder, options, &Budget::new(options.limits.tree_bytes))
}

/// The same for one of several layers that share a budget. [`Unpacked::kept_bytes`] stay taken.
pub fn unpack_within(
    tar: impl Read,
    folder: &Path,
    options: &UnpackOptions,
    budget: &Budget,
) -> Result<Unpacked, UnpackError> {
    apply::Unpacker::new(folder, options, budget)?.run(tar)
}
