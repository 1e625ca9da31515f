//! Every way to fail with volumes and mounts, in docker's words where docker has them.

use std::path::{Path, PathBuf};

/// What went wrong with a volume or a mount.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No volume has this name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// A name that no volume can have.
    #[error(
        "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    InvalidName {
        /// As it was written.
        name: String,
    },
    /// A name of one letter, or one that is longer than names of folders are.
    #[error("create {name}: volume name is too {problem}")]
    NameLength {
        /// As it was written.
        name: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A driver other than `local`.
    #[error("create {name}: error looking up volume plugin {driver}: plugin {driver:?} not found")]
    NoSuchDriver {
        /// Of the volume.
        name: String,
        /// As it was written.
        driver: String,
    },
    /// An option that the driver does not have.
    #[error("create {name}: invalid option: {option:?}")]
    InvalidOption {
        /// Of the volume.
        name: String,
        /// As it was written.
        option: String,
    },
    /// An option that another one needs.
    #[error("create {name}: missing required option: {option:?}")]
    MissingOption {
        /// Of the volume.
        name: String,
        /// Which.
        option: &'static str,
    },
    /// `size` of a volume that is a folder.
    #[error("create {0}: quota size requested but no quota support")]
    NoQuota(String),
    /// Containers have it.
    #[error("remove {name}: volume is in use - [{}]", containers.join(", "))]
    InUse {
        /// Of the volume.
        name: String,
        /// Their ids.
        containers: Vec<String>,
    },
    /// What a volume with `type` and `device` stands for cannot be mounted.
    #[error("failed to mount local volume: {0}")]
    MountVolume(String),
    /// A `-v` that cannot be read.
    #[error("invalid volume specification: '{0}'")]
    InvalidSpecification(String),
    /// A `-v` that asks for what there is not.
    #[error("invalid volume specification: '{text}': {source}")]
    InvalidBind {
        /// As it was written.
        text: String,
        /// What is wrong with it.
        #[source]
        source: InvalidMount,
    },
    /// A `--mount` that asks for what there is not.
    #[error(transparent)]
    InvalidMount(#[from] InvalidMount),
    /// The options at the end of a `-v` or `--volumes-from`.
    #[error("invalid mode: {0}")]
    InvalidMode(String),
    /// A path in the container that cannot be one.
    #[error(transparent)]
    InvalidTarget(#[from] Problem),
    /// Two mounts at one place.
    #[error("Duplicate mount point: {0}")]
    Duplicate(String),
    /// `--volumes-from` without a container.
    #[error("volumes-from specification cannot be an empty string")]
    EmptyVolumesFrom,
    /// What is no folder in the image cannot become a volume.
    #[error("cannot mount volume over existing file, file exists {0}")]
    OverFile(String),
    /// An option of `--tmpfs`.
    #[error("invalid tmpfs option [{0:?}]")]
    InvalidTmpfsOption(String),
    /// A source that has to be there when the container starts.
    #[error("invalid mount config for type \"bind\": bind source path does not exist: {0}")]
    NoSource(String),
    /// The folder that `-v` names cannot be made.
    #[error("error while creating mount source path '{}': {source}", path.display())]
    MakeSource {
        /// On the host.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// Propagation that the host does not give.
    #[error("path {source_path} is mounted on {mount} but it is not a {wanted} mount")]
    NotShared {
        /// On the host.
        source_path: String,
        /// Where the file system of the source is mounted.
        mount: String,
        /// `shared` or `shared or slave`.
        wanted: &'static str,
    },
    /// A folder of a volume that is not there, or that a link leads out of it.
    #[error(
        "cannot mount `{subpath}` of the volume `{volume}`: {source}\nit must be a folder or file in it, and no link"
    )]
    Subpath {
        /// Of the volume.
        volume: String,
        /// Relative to its root.
        subpath: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// What the image has cannot be copied into the volume.
    #[error("cannot copy `{}` of the image into the volume: {source}\nthe volume stays as it was", path.display())]
    Seed {
        /// In the image.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A container's folder.
    #[error(transparent)]
    Container(#[from] crate::Error),
}

/// A mount that cannot be made, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid mount config for type \"{kind}\": {problem}")]
pub struct InvalidMount {
    /// `bind`, `volume` or `tmpfs`.
    pub kind: &'static str,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a mount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Something that it must have.
    #[error("field {0} must not be empty")]
    Missing(&'static str),
    /// Something that it cannot have.
    #[error("field {0} must not be specified")]
    Extra(&'static str),
    /// The container's root.
    #[error("invalid specification: destination can't be '/'")]
    Root,
    /// A path that does not begin with a slash.
    #[error("invalid mount path: '{0}' mount path must be absolute")]
    Relative(String),
    /// Something that has to be there.
    #[error("bind source path does not exist: {0}")]
    NoSource(String),
    /// Nobody could ever write to it.
    #[error("must not set ReadOnly mode when using anonymous volumes")]
    ReadOnlyAnonymous,
    /// A path that leads out of the volume.
    #[error("subpath must be a relative path within the volume")]
    Subpath,
}

impl Error {
    /// For `map_err`: what was to be done, with which path.
    pub(crate) fn system<E: Into<std::io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
        let failed = crate::Error::system(action, path);
        move |source| Error::Container(failed(source))
    }
}
