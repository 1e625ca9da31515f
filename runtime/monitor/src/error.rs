//! Every way to fail.

use cove_container::ContainerId;

/// Why a container could not be started, or what a monitor could not do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was removed before its monitor began.
    #[error("No such container: {0}")]
    Gone(ContainerId),
    /// It runs already.
    #[error("container {0} is already running")]
    Running(ContainerId),
    /// It does not run.
    #[error("container {0} is not running")]
    NotRunning(ContainerId),
    /// It is paused already, or not.
    #[error("{0}")]
    Paused(String),
    /// Records, locks and folders.
    #[error(transparent)]
    Container(#[from] cove_container::Error),
    /// Its volumes and what else is mounted.
    #[error(transparent)]
    Volumes(#[from] cove_container::volumes::Error),
    /// What its options come to.
    #[error(transparent)]
    Spec(#[from] cove_container::spec::SpecError),
    /// Its network.
    #[error(transparent)]
    Network(#[from] cove_network::Error),
    /// Who answers for names could not begin.
    #[error(transparent)]
    Resolver(#[from] cove_network::resolver::SocketsError),
    /// The container whose namespace it is to be in does not run.
    #[error("cannot join network of a non running container: {0}\nstart that container first")]
    JoinsStopped(ContainerId),
    /// The container that it has a link to does not run.
    #[error("Cannot link to a non running container: /{name} AS {alias}\nstart `{name}` first")]
    LinksStopped {
        /// The other one's.
        name: String,
        /// Its alias, below the name of this container.
        alias: String,
    },
    /// The container that it has a link to is in another network.
    #[error("Cannot link to /{0}, as it does not belong to the default network")]
    NotLinkable(String),
    /// `--add-host NAME:host-gateway` without a default bridge.
    #[error(
        "unable to derive the IP value for host-gateway\nstart a container on the default network first, or write the address"
    )]
    NoGateway,
    /// A port that is none.
    #[error("`{0}` is no port: write `80`, `80/udp` or `8000-8010`")]
    PortBinding(String),
    /// An address that is none.
    #[error("invalid IP address: {0}")]
    Address(String),
    /// The log of its output.
    #[error(transparent)]
    Log(#[from] cove_container::log::LogError),
    /// A user namespace could not be made.
    #[error(
        "cannot make a user namespace: {0}\nhave root allow them (`sysctl user.max_user_namespaces`, `kernel.unprivileged_userns_clone`, `kernel.apparmor_restrict_unprivileged_userns`), or run it as root"
    )]
    UserNamespace(std::io::Error),
    /// Nobody holds the namespaces that a user's containers share.
    #[error("the process that holds the namespaces of your containers has ended: run the command again")]
    NoHolder,
    /// The network of a user's containers has no way out.
    #[error("{0}")]
    Uplink(String),
    /// The system refused something.
    #[error("cannot {action}: {source}")]
    System {
        /// What was to be done.
        action: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// The layers of the image could not be put on top of each other.
    #[error(
        "cannot mount the container's files: {0}\nsee the kernel's log (`dmesg`) for what overlayfs did not like; layers that are gone come back with a pull of the image"
    )]
    Overlay(rustix::io::Errno),
    /// The runtime could not make or start the container.
    #[error("{text}")]
    Runtime {
        /// What it says.
        text: String,
        /// What a `run` that fails so ends with.
        code: u8,
    },
    /// The runtime is not there.
    #[error("cannot call the runtime `{program}`: {source}\n`--runtime` names one by its path or its name on $PATH")]
    NoRuntime {
        /// What was to be called.
        program: String,
        /// What the system says.
        source: std::io::Error,
    },
}

impl Error {
    /// For `map_err`.
    pub(crate) fn system<E: Into<std::io::Error>>(action: impl Into<String>) -> impl FnOnce(E) -> Error {
        let action = action.into();
        move |source| Error::System { action, source: source.into() }
    }

    /// The exit status of a `run` that fails so, as docker has it.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Error::Runtime { code, .. } => *code,
            _ => 125,
        }
    }
}
