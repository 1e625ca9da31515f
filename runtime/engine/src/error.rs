//! What can go wrong in the engine's store.

use std::io;
use std::path::PathBuf;

use cove_oci::{Digest, ImageConfigError, ManifestError, Platform, ReferenceError, VerifyError};

use crate::unpack::UnpackError;

/// What can go wrong in the engine's store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read or written; the message names it.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// A record that is there and cannot be read.
    #[error(
        "the record `{}` cannot be read ({reason}): move the file away, then pull or load what it named again",
        path.display()
    )]
    BrokenRecord {
        /// The record's file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Content that a record names is missing or damaged.
    #[error("`{}` is damaged ({reason}): remove the image and pull or load it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// No image of that name or id. Docker's words, which scripts look for.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// Several images have ids that begin so.
    #[error("multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// An image cannot be removed by id because several names stand for it. Docker's words.
    #[error("conflict: unable to delete {0} (must be forced) - image is referenced in multiple repositories")]
    ManyReferences(String),
    /// The last name of an image cannot be removed because a container was made of that. Docker's words.
    #[error(
        "conflict: unable to remove repository reference {name:?} (must force) - container {container} is using its referenced image {id}"
    )]
    ReferenceInUse {
        /// As it was written.
        name: String,
        /// Beginning of the container's id.
        container: String,
        /// Beginning of the image's.
        id: String,
    },
    /// An image cannot be removed because a container runs that was made of it. Docker's words.
    #[error(
        "conflict: unable to delete {id} (cannot be forced) - image is being used by running container {container}"
    )]
    UsedByRunning {
        /// Beginning of its id.
        id: String,
        /// Beginning of the container's.
        container: String,
    },
    /// An image cannot be removed because a container was made of it. Docker's words.
    #[error("conflict: unable to delete {id} (must be forced) - image is being used by stopped container {container}")]
    UsedByStopped {
        /// Beginning of its id.
        id: String,
        /// Beginning of the container's.
        container: String,
    },
    /// An image cannot be removed by its id because it belongs to what a name stands for.
    #[error(
        "conflict: unable to delete {id} (cannot be forced) - it is the image of one platform of {name}: \
         remove that, or the platform alone with `cove rmi --platform`"
    )]
    OfIndex {
        /// The beginning of its id.
        id: String,
        /// The name.
        name: String,
    },
    /// An image for a platform cannot be removed because other names stand for it.
    #[error("conflict: unable to delete {platform} of {name} (must be forced) - image is referenced by {other} too")]
    PlatformInUse {
        /// The name.
        name: String,
        /// The platform.
        platform: Box<Platform>,
        /// The other name.
        other: String,
    },
    /// A name does not stand for an image of the wanted platform. Docker's words, then what there is.
    #[error(
        "image with reference {name} was found but does not provide the specified platform ({wanted}): \
         it is here for {offered}; `cove pull --platform {wanted}` fetches another one where there is one"
    )]
    NoPlatform {
        /// The name.
        name: String,
        /// The platform.
        wanted: Box<Platform>,
        /// Those that there are.
        offered: String,
    },
    /// A tag was to be made from a reference that has a digest.
    #[error("refusing to create a tag with a digest reference")]
    TagWithDigest,
    /// A name is not a reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Bytes are not a manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// Bytes are not an image's configuration.
    #[error(transparent)]
    Config(#[from] ImageConfigError),
    /// Bytes are not what their digest says.
    #[error(transparent)]
    Verify(#[from] VerifyError),
    /// The configuration and the manifest disagree about how many layers there are.
    #[error("the image's configuration lists {config} layers and its manifest {manifest}: the image is broken")]
    LayerCount {
        /// Layers of the configuration.
        config: usize,
        /// Layers of the manifest.
        manifest: usize,
    },
    /// A blob is the configuration of an image and a layer.
    #[error("{0} is a configuration and a layer at the same time: the image is broken")]
    TwoRoles(Digest),
    /// A layer's uncompressed bytes are not what the configuration says.
    #[error("layer {blob} unpacks to {found} and the image's configuration says {expected}: the image is broken")]
    DiffId {
        /// The layer's blob.
        blob: Digest,
        /// DiffID of the configuration.
        expected: Digest,
        /// DiffID of the bytes.
        found: Digest,
    },
    /// An artifact that is no image.
    #[error(
        "encountered remote {0:?}(unknown) when fetching: this is an artifact and not an image that can be run; fetch it with a tool such as oras"
    )]
    NotAnImage(String),
    /// A layer of a kind that cannot be unpacked.
    #[error("unsupported media type `{0}` of a layer: push the image again with gzip or zstd layers")]
    LayerType(String),
    /// A layer could not be unpacked.
    #[error("{0}")]
    Unpack(#[from] UnpackError),
    /// A container's tree could not be read or written out.
    #[error("{0}")]
    Snapshot(#[from] crate::snapshot::SnapshotError),
    /// Something could not be copied into a container or out of it.
    #[error("{0}")]
    Copy(#[from] crate::copy::CopyError),
    /// Content that a publish counts on is not there.
    #[error("{0} is not in the store: nothing has fetched it")]
    MissingBlob(Digest),
    /// The archive is not one of images.
    #[error("{0}")]
    Archive(String),
    /// An option of `import --change` that is not understood.
    #[error("{0}")]
    Change(String),
    /// A filter or an option has a value that is not understood.
    #[error("{0}")]
    Invalid(String),
    /// Copying between a place and the store failed.
    #[error(transparent)]
    Transfer(#[from] cove_transfer::Error),
    /// A container's record, where it says what the container needs.
    #[error(transparent)]
    Container(#[from] cove_container::Error),
    /// The kernel does not allow the mount.
    #[error("cannot mount the image: {reason}: {advice}")]
    Mount {
        /// The kernel's answer.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
    /// An image cannot be removed as long as it is mounted.
    #[error(
        "conflict: unable to delete {id} (cannot be forced) - image is mounted at `{}`: unmount it with `cove image unmount` first",
        path.display()
    )]
    Mounted {
        /// Beginning of its id.
        id: String,
        /// Where.
        path: PathBuf,
    },
    /// The run folder is not closed to others.
    #[error("the folder `{}` {problem}: remove it or close it with `chmod 700`, or name another one with `--run`", path.display())]
    RunFolder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A user namespace could not be entered.
    #[error("cannot enter a user namespace: {reason}: {advice}")]
    UserNamespace {
        /// What failed.
        reason: String,
        /// What to do.
        advice: &'static str,
    },
}

impl From<Error> for cove_transfer::Error {
    fn from(error: Error) -> Self {
        Error::on(error, cove_transfer::Side::Target)
    }
}

impl Error {
    /// The same failure as one of a side of a copy.
    pub(crate) fn on(self, side: cove_transfer::Side) -> cove_transfer::Error {
        use cove_transfer::Kind;
        if let Error::Transfer(error) = self {
            return error;
        }
        let kind = match &self {
            _ if self.is_no_space() => Kind::NoSpace,
            Error::NoSuchImage(_) | Error::MissingBlob(_) | Error::NoPlatform { .. } => Kind::NotFound,
            Error::Manifest(_)
            | Error::Config(_)
            | Error::Verify(_)
            | Error::LayerCount { .. }
            | Error::TwoRoles(_)
            | Error::DiffId { .. }
            | Error::Damaged { .. }
            | Error::Unpack(_)
            | Error::Archive(_) => Kind::Corrupt,
            Error::NotAnImage(_) | Error::LayerType(_) => Kind::Unsupported,
            _ => Kind::Other,
        };
        match kind {
            Kind::NoSpace => cove_transfer::Error::new(
                side,
                kind,
                format!(
                    "{self}: make room (`cove system df` shows what the images take, `cove system prune` removes what is not used) and try again: what has arrived is kept"
                ),
            ),
            kind => cove_transfer::Error::new(side, kind, self),
        }
    }

    fn is_no_space(&self) -> bool {
        let full = |error: &(dyn std::error::Error + 'static)| {
            error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
        };
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(self);
        while let Some(error) = cause {
            if full(error) {
                return true;
            }
            cause = error.source();
        }
        match self {
            Error::Io(error) => full(error),
            _ => false,
        }
    }
}
