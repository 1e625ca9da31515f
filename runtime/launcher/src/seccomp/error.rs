//! What may be wrong with a profile.

use oci_spec::runtime::{Arch, LinuxSeccompAction};

/// Why a profile cannot become a filter.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeccompError {
    /// Not JSON, or not of the shape of `linux.seccomp`.
    #[error("the profile cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// An architecture whose system calls are not known here.
    #[error("architecture `{0}` is not supported; take it out of `architectures`")]
    Architecture(Arch),
    /// This program runs on a machine of which nothing is known.
    #[error("seccomp filters are not supported on this machine's architecture")]
    Native,
    /// Such a machine could never run beside the native one.
    #[error("architecture `{0}` has another byte order than this machine; take it out of `architectures`")]
    ByteOrder(Arch),
    /// An action that returns no number was given one.
    #[error("action `{0}` has no errno; take its `errnoRet` (or `defaultErrnoRet`) out")]
    Errno(LinuxSeccompAction),
    /// Whoever answers is told by this very process, which would wait for it.
    #[error("SCMP_ACT_NOTIFY cannot be used as default action")]
    DefaultNotify,
    /// The same for the call by which it is told.
    #[error("SCMP_ACT_NOTIFY cannot be used for the {0} syscall")]
    Notify(String),
    /// System calls have six arguments.
    #[error("system call `{syscall}` has no argument {index}: they are counted from 0 to 5")]
    Argument {
        /// Whose.
        syscall: String,
        /// Which.
        index: usize,
    },
    /// A rule without a name.
    #[error("empty string is not a valid syscall")]
    EmptyName,
    /// The kernel takes 4096 instructions (BPF_MAXINSNS).
    #[error("the profile needs {0} instructions and the kernel takes 4096; give it fewer rules with arguments")]
    TooLong(usize),
}
