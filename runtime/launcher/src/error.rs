//! What can go wrong. First lines are worded as runc words them: podman, containerd and dockerd look for those words.

use std::io;
use std::path::PathBuf;

use crate::cgroups::CgroupError;
use crate::state::Status;

/// Why a command of the runtime failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no container of this name.
    #[error("container does not exist")]
    NoSuchContainer,
    /// The name is taken.
    #[error("container with given ID already exists")]
    Exists,
    /// The name cannot be the name of a container.
    #[error("invalid container ID format: {0:?}\nA name has letters, digits and + - . _ only, 1024 of them at most.")]
    BadId(String),
    /// Nothing runs any more.
    #[error("container not running")]
    NotRunning,
    /// `start` of what ran already.
    #[error("cannot start a container that has stopped")]
    StartStopped,
    /// `start` of what runs.
    #[error("cannot start an already running container")]
    StartRunning,
    /// `delete` of what runs.
    #[error(
        "cannot delete container {id} that is not stopped: {status}\nStop it first (`kill {id} KILL`), or use --force."
    )]
    DeleteRunning {
        /// The container's name.
        id: String,
        /// What it does.
        status: Status,
    },
    /// `exec` in what has ended.
    #[error("cannot exec in a stopped container")]
    ExecStopped,
    /// `exec` in what is not there yet.
    #[error("cannot exec in a container that is being created")]
    ExecCreating,
    /// `exec` in what is frozen.
    #[error("cannot exec in a paused container (use --ignore-paused to override)\n`resume` it first.")]
    ExecPaused,
    /// `pause` of what does not run.
    #[error("container not running or created: {0}")]
    PauseStopped(Status),
    /// `resume` of what is not paused.
    #[error("container not paused")]
    NotPaused,
    /// The bundle or `config.json` cannot be used as they are.
    #[error("{0}")]
    Config(String),
    /// The process could not be started; the text comes from the process that tried.
    #[error("unable to start container process: {0}")]
    Start(String),
    /// A cgroup could not be made, joined, limited or removed.
    #[error("unable to apply cgroup configuration: {0}")]
    Cgroup(#[from] CgroupError),
    /// A hook failed.
    #[error("{0}")]
    Hook(String),
    /// A signal asked this process to end while hooks were called.
    #[error("interrupted by signal {0} while hooks were running")]
    Interrupted(i32),
    /// The runtime's own files.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried, as in "read".
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A system call that has no path.
    #[error("{action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err` after a call of the system on a file of ours.
    pub(crate) fn file<E: Into<io::Error>>(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(E) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source: source.into() }
    }

    /// For `map_err` after any other call of the system.
    pub(crate) fn system<E: Into<io::Error>>(action: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { action, source: source.into() }
    }
}

/// Why the process that becomes the container's did not get there: a line that its parent prints. What it was about to
/// do, on which path, and what the system said.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A step on the way to the program.
    Step(String),
    /// The program itself could not be executed.
    Program(String),
}

impl Failure {
    /// A step of making the container failed.
    pub(crate) fn init(text: impl std::fmt::Display) -> Self {
        Self::Step(format!("error during container init: {text}"))
    }

    /// For `map_err` after a system call.
    pub(crate) fn at<E: Into<io::Error>>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self::init(format_args!("{what}: {}", plain(&error.into())))
    }

    /// The line.
    pub(crate) fn into_text(self) -> String {
        match self {
            Self::Step(text) | Self::Program(text) => text,
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self::Start(failure.into_text())
    }
}

/// What the system says, in the words that runc (Go) uses for it: without a number, in small letters.
pub fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_lowercase().chain(letters).collect())
}
