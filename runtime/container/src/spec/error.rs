//! Why a container cannot be started, in the words of docker's daemon.

use std::io;

use thiserror::Error;

use crate::check::CheckError;

/// Why no `config.json` can be made.
#[derive(Debug, Error)]
#[allow(missing_docs)] // each is its text
pub enum SpecError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    User(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    Group(String),
    #[error("Unable to find group {0}")]
    AdditionalGroup(String),
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
    #[error("`{file}` of the container cannot be read: {source}")]
    Accounts { file: &'static str, source: io::Error },
    #[error("error gathering device information while adding custom device {path:?}: {source}")]
    Device { path: String, source: io::Error },
    #[error("error gathering device information while adding custom device {0:?}: not a device node")]
    NoDevice(String),
    #[error("invalid device cgroup rule format: '{0}'")]
    DeviceRule(String),
    #[error(
        "could not select device driver {driver:?} with capabilities: [{capabilities}]: there is no driver of GPUs here, leave `--gpus` away"
    )]
    DeviceDriver { driver: String, capabilities: String },
    #[error("Decoding seccomp profile failed: {0}")]
    SeccompProfile(String),
    #[error(
        "`{0}` cannot be held: an ordinary user has no cgroup of his own here: leave the option away, or run it as root"
    )]
    RootlessLimit(&'static str),
    #[error(transparent)]
    Check(#[from] CheckError),
    #[error(transparent)]
    Oci(#[from] oci_spec::OciSpecError),
}
