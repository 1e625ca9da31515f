//! What makes a command fail, and how it is told: what failed first, in docker's words where scripts know them, then
//! what to do.

use std::io;
use std::path::PathBuf;

use cove_oci::{PlatformError, Reference, ReferenceError};
use cove_remote::{CredentialError, RegistriesError};
use cove_transfer::Kind;

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
    /// A setting of the store that is none.
    #[error("`{origin}`: `{key}` is `{value}`: write {expected}")]
    Setting {
        /// The file, or the environment.
        origin: String,
        /// The setting.
        key: String,
        /// As it was written.
        value: String,
        /// What it should be.
        expected: String,
    },
    /// The options contradict each other or the argument, in docker's words.
    #[error("{0}")]
    Options(&'static str),
    /// A log level that is none.
    #[error("unable to parse logging level: {0}: write debug, info, warn, error or fatal")]
    LogLevel(String),
    /// An option that leads to docker's daemon.
    #[error("`{0}` cannot be used: cove has no daemon and works by itself, leave the option away")]
    DaemonOption(&'static str),
    /// The store. Docker's first words, for scripts look for them.
    #[error("Error response from daemon: {0}")]
    Store(#[from] cove_engine::Error),
    /// A container's folder, or its monitor.
    #[error("Error response from daemon: {0}")]
    Container(#[from] cove_container::Error),
    /// A volume or a mount.
    #[error("Error response from daemon: {0}")]
    Volume(#[from] cove_container::volumes::Error),
    /// The files of a container cannot be mounted or opened.
    #[error("Error response from daemon: cannot open the files of the container: {0}")]
    Files(rustix::io::Errno),
    /// A file of ours, in docker's words.
    #[error("{0}")]
    Local(String),
    /// A container's monitor refuses something.
    #[error("Error response from daemon: {0}")]
    Refused(String),
    /// A monitor hears nothing.
    #[error(
        "the monitor of container {id} does not answer: process {monitor} {why}\n`kill -9 {monitor}` ends it; the next command on the container puts right what it leaves"
    )]
    Silent {
        /// The container.
        id: String,
        /// The monitor's number.
        monitor: i32,
        /// What is known of it.
        why: &'static str,
    },
    /// The program that starts containers is not there.
    #[error("cannot start `{}`: {source}\nit belongs beside `cove`; COVE_RUNTIME names another place", path.display())]
    NoRuntime {
        /// Where it was looked for.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// What a container is asked to be.
    #[error(transparent)]
    ContainerOptions(#[from] crate::options::OptionError),
    /// `--cidfile` names a file that is there.
    #[error(
        "container ID file found, make sure the other container isn't running or delete {}", .0.display()
    )]
    IdFile(PathBuf),
    /// `--cidfile` cannot be made.
    #[error("failed to create the container ID file: open {}: {source}", path.display())]
    NewIdFile {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// `run` or `create` has failed before the container's process ran.
    #[error("{error}")]
    NotMade {
        /// Which of them.
        command: &'static str,
        /// Why.
        error: Box<Error>,
    },
    /// `--link` to what is no container.
    #[error("Error response from daemon: could not get container for {0}: No such container: {0}")]
    NoLinked(String),
    /// `rm --link` of a container's own name.
    #[error("Error response from daemon: Conflict, cannot remove the default name of the container")]
    DefaultName,
    /// The container's process could not be started, or has ended: the status to end with, if any words with them.
    #[error("{text}")]
    Ended {
        /// What is said on stderr; empty: nothing.
        text: String,
        /// The status.
        status: u8,
    },
    /// Who a process is to run as, or what it is to be.
    #[error("Error response from daemon: {0}")]
    Spec(#[from] cove_container::spec::SpecError),
    /// The log of a container.
    #[error("Error response from daemon: {0}")]
    Log(#[from] cove_container::log::LogError),
    /// The networks of containers.
    #[error("Error response from daemon: {0}")]
    Network(#[from] cove_network::Error),
    /// A signal that is none.
    #[error("Error response from daemon: Invalid signal: {0}\nwrite a name such as TERM, or a number")]
    Signal(String),
    /// `port` of what is no port.
    #[error("invalid port ({0}): write a number, then `/tcp` or `/udp` if you like")]
    PortNumber(String),
    /// `port` of a port that nobody outside can reach.
    #[error("Error: No public port '{port}' published for {container}")]
    NoPublicPort {
        /// As the user wrote it.
        port: String,
        /// As the user named it.
        container: String,
    },
    /// A container that runs is to be removed, in docker's words.
    #[error(
        "Error response from daemon: cannot remove container \"/{name}\": container is {status}: {}",
        removal_advice(*status)
    )]
    InUse {
        /// As the user named it.
        name: String,
        /// What it does.
        status: cove_container::Status,
    },
    /// `--detach-keys`.
    #[error("invalid detach keys provided: {0:?} is no key: write letters and ctrl-a to ctrl-z, separated by commas")]
    DetachKeys(String),
    /// A registry, outside of a copy.
    #[error("Error response from daemon: {0}")]
    Remote(#[from] cove_remote::Error),
    /// A pull.
    #[error("{}", pull_text(name, source))]
    Pull {
        /// What was to be pulled.
        name: Box<Reference>,
        /// Why not.
        source: cove_transfer::Error,
    },
    /// A push.
    #[error("{}", push_text(source))]
    Push {
        /// What was to be pushed.
        name: Box<Reference>,
        /// Why not.
        source: cove_transfer::Error,
    },
    /// A manifest was to be shown.
    #[error("no such manifest: {}: {source}", name.familiar())]
    Manifest {
        /// Which.
        name: Box<Reference>,
        /// Why not.
        source: cove_transfer::Error,
    },
    /// A name that stands for nothing in the store.
    #[error("An image does not exist locally with the tag: {name}")]
    NothingToPush {
        /// The name, as it is shown.
        name: String,
    },
    /// A tag that its repository in the store does not have, though it has others.
    #[error("tag does not exist: {name}")]
    NoSuchTag {
        /// The name, as it is shown.
        name: String,
    },
    /// A file that is to be read and is not there, in docker's words.
    #[error("open {}: no such file or directory", .0.display())]
    NoFile(PathBuf),
    /// `inspect --type` of what there is not.
    #[error("unknown type: {kind:?}: must be one of {known}")]
    InspectKind {
        /// As it was written.
        kind: String,
        /// Those that there are.
        known: String,
    },
    /// More results than a search gives.
    #[error("Error response from daemon: Limit {0} is outside the range of [1, 100]")]
    SearchLimit(u32),
    /// A unit that somebody else has written.
    #[error("`{}` was not written by this command: move it away first, or see `cove system service --print`", .0.display())]
    ForeignUnit(PathBuf),
    /// A unit is to be removed that is not there.
    #[error("`{}` is not there: nothing to remove", .0.display())]
    NoUnit(PathBuf),
    /// Nothing says where a user's files are.
    #[error("`HOME` is not set: set it to your home folder, or use --print")]
    NoHome,
    /// Containers are watched over already.
    #[error("another `cove system watch` watches over these containers: end it first")]
    Watched,
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
            Error::DaemonOption(_) | Error::LogLevel(_) | Error::NotMade { command: "run", .. } => 125,
            Error::NotMade { command, error } => match &**error {
                Error::ContainerOptions(error) => error.status(command),
                error => error.status(),
            },
            Error::Ended { status, .. } => *status,
            _ => 1,
        }
    }

    /// Whether all that failed is that the image is not there.
    pub fn is_no_such_image(&self) -> bool {
        matches!(self, Error::Store(cove_engine::Error::NoSuchImage(_)))
    }

    /// What is printed on stderr, if anything is left to say.
    pub fn text(&self) -> Option<String> {
        match self {
            Error::Interrupted { .. } | Error::Told => None,
            Error::Ended { text, .. } if text.is_empty() => None,
            Error::NotMade { command, error } => match &**error {
                Error::ContainerOptions(error) => Some(error.text(command)),
                error if *command == "run" => error.text().map(|text| of_run(&text)),
                error => error.text(),
            },
            // Whoever read our output has gone: that is no failure of ours to talk about.
            Error::Io(error) | Error::Format(FormatError::Output(error))
                if error.kind() == io::ErrorKind::BrokenPipe =>
            {
                None
            }
            Error::Store(error) if is_broken_pipe(error) => None,
            error => Some(with_advice(chain(error))),
        }
    }
}

/// `run` says that what stops it is its own, not the program's.
pub fn of_run(text: &str) -> String {
    format!("cove: {text}\n\nRun 'cove run --help' for more information")
}

/// Who hears that a disk is full hears what takes space, too.
fn with_advice(text: String) -> String {
    if !text.contains("No space left on device") {
        return text;
    }
    format!("{text}\n`cove system df` shows what takes space, `cove system prune` removes what nobody uses")
}

/// The same of an archive of a container's files.
fn is_broken_pipe(error: &cove_engine::Error) -> bool {
    use cove_engine::copy::CopyError;
    let (cove_engine::Error::Snapshot(error) | cove_engine::Error::Copy(CopyError::Tree(error))) = error else {
        return false;
    };
    matches!(error, cove_engine::SnapshotError::Write(error) if error.kind() == io::ErrorKind::BrokenPipe)
}

fn removal_advice(status: cove_container::Status) -> &'static str {
    match status {
        cove_container::Status::Paused => "unpause and then stop the container before removing or force remove",
        _ => "stop the container before removing or force remove",
    }
}

/// Docker's first line, what its users and their scripts know; then the failure itself, which says what to do.
fn pull_text(name: &Reference, error: &cove_transfer::Error) -> String {
    let shown = name.familiar();
    let first = match error.kind() {
        Kind::NotFound if error.to_string().contains("no matching manifest") => {
            return format!("Error response from daemon: {error}");
        }
        Kind::NotFound => format!("manifest for {shown} not found: manifest unknown: manifest unknown"),
        Kind::Unauthorized | Kind::Denied => format!(
            "pull access denied for {}, repository does not exist or may require 'cove login': \
             denied: requested access to the resource is denied",
            name.familiar_repository()
        ),
        Kind::RateLimited => "toomanyrequests: too many requests".to_owned(),
        Kind::Unreachable | Kind::Corrupt | Kind::NoSpace | Kind::Unsupported | Kind::Other => {
            return format!("Error response from daemon: {error}");
        }
    };
    format!("Error response from daemon: {first}\n{error}")
}

/// As [`pull_text`]; docker says this without naming its daemon.
fn push_text(error: &cove_transfer::Error) -> String {
    match error.kind() {
        Kind::Unauthorized => format!("unauthorized: authentication required\n{error}"),
        Kind::Denied => format!("denied: requested access to the resource is denied\n{error}"),
        Kind::RateLimited => format!("toomanyrequests: too many requests\n{error}"),
        Kind::NotFound | Kind::Unreachable | Kind::Corrupt | Kind::NoSpace | Kind::Unsupported | Kind::Other => {
            error.to_string()
        }
    }
}

/// The message and those of its causes that it does not repeat.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        // What the system says is said once, with its number or without.
        let plain = more.split(" (os error").next().unwrap_or_default();
        if !text.to_lowercase().contains(&plain.to_lowercase()) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text
}
