//! Every way to fail.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// What went wrong with a container's folder, or with asking its monitor.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container has this name, id or beginning of an id.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// Several containers' ids begin so.
    #[error("Multiple IDs found with provided prefix: {0}")]
    Ambiguous(String),
    /// A name that docker would refuse.
    #[error("Invalid container name ({0}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed")]
    InvalidName(String),
    /// Another container has the name.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameTaken {
        /// The name.
        name: String,
        /// Who has it.
        id: String,
    },
    /// A record that cannot be read.
    #[error("the record `{path}` is damaged: {reason}\nmove its folder away to go on without that container")]
    BrokenRecord {
        /// Of the record.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The system refused something.
    #[error("cannot {action} `{path}`: {source}")]
    System {
        /// What was to be done.
        action: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The monitor has said something that nobody understands, or nothing.
    #[error(
        "the monitor of the container has broken off: {0}\nrun the command again: it puts right what the monitor has left"
    )]
    Monitor(std::io::Error),
    /// The monitor refuses what it was asked.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// For `map_err`: what was to be done, with which path.
    pub fn system<E: Into<std::io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
        let path = path.to_owned();
        move |source| Error::System { action, path, source: source.into() }
    }
}

/// Whether this says that something is not there.
pub(crate) fn is_absent(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::NOTDIR.raw_os_error())
}
