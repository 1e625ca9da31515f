//! What makes a command fail, and how it is told: what failed first, in docker's words where scripts know them, then
//! what to do.

use std::io;

use cove_oci::{PlatformError, ReferenceError};
use cove_remote::{CredentialError, RegistriesError};

use crate::filter::FilterError;
use crate::format::FormatError;
use crate::template::TemplateError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A name of an image that is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// A new name of an image that is none.
    #[error("Error parsing reference: {text:?} is not a valid repository/tag: {source}")]
    Target {
        /// As it was written.
        text: String,
        /// What is wrong with it.
        source: ReferenceError,
    },
    /// A platform that is none.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A condition.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// `--format`.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// The credentials of this user.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// What is configured of registries.
    #[error(transparent)]
    Registries(#[from] RegistriesError),
    /// A file or stream; the message names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The options contradict each other or the argument, in docker's words.
    #[error("{0}")]
    Options(&'static str),
    /// A log level that is none.
    #[error("unable to parse logging level: {0}: write debug, info, warn, error or fatal")]
    LogLevel(String),
    /// An option that leads to docker's daemon.
    #[error("`{0}` cannot be used: cove has no daemon and works by itself, leave the option away")]
    DaemonOption(&'static str),
    /// Ctrl-C, or a request to end.
    #[error("")]
    Interrupted {
        /// The signal's number.
        signal: u8,
    },
    /// Some of several things failed; each was told when it did.
    #[error("")]
    Told,
}

impl From<TemplateError> for Error {
    fn from(error: TemplateError) -> Self {
        Error::Format(error.into())
    }
}

impl Error {
    /// The exit status.
    pub fn status(&self) -> u8 {
        match self {
            Error::Interrupted { signal } => 128 + signal,
            Error::DaemonOption(_) | Error::LogLevel(_) => 125,
            _ => 1,
        }
    }

    /// What is printed on stderr, if anything is left to say.
    pub fn text(&self) -> Option<String> {
        match self {
            Error::Interrupted { .. } | Error::Told => None,
            // Whoever read our output has gone: that is no failure of ours to talk about.
            Error::Io(error) | Error::Format(FormatError::Output(error))
                if error.kind() == io::ErrorKind::BrokenPipe =>
            {
                None
            }
            error => Some(chain(error)),
        }
    }
}

/// The message and those of its causes that it does not repeat.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text
}
