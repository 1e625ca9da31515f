//! Seccomp: makes the kernel's filter program of a profile (runtime-spec, config-linux.md, "Seccomp") and loads it.
//!
//! What a profile means is what it means to runc with libseccomp, for profiles are written against those two:
//!
//! - A rule whose action is the default action is passed over, and so is a name that no architecture knows.
//! - A rule without arguments wins over all rules of its system call that have some, wherever they stand; the first of
//!   several such rules wins. Among rules with arguments the first that matches wins (where two match that differ in
//!   their actions, libseccomp does not say which it takes).
//! - The arguments of a rule must all match. If two of them look at the same argument, each is a rule of its own.
//! - The machine's own architecture is always in; a call of an architecture that is not kills the thread.
//! - Arguments are compared in 64 bits on architectures of 64 bits, else (x32 and n32 too) in 32 bits.
//! - On architectures where sockets and System V IPC also go through one call (`socketcall`, `ipc`), a rule for one of
//!   theirs is also a rule for that call, with the number of the operation in place of the first argument.
//! - If the default action is to refuse, a system call with a number above all that the profile names fails with
//!   ENOSYS: the profile is older than the call, and programs know what to do without it (glibc tries an older call
//!   after ENOSYS and gives up after EPERM). On s390 so does number 0, which the kernel shows for calls it lacks.
//!
//! Leaves to the core when the filter is loaded and who is told of notifications.

mod architecture;
mod cache;
mod features;
mod load;
mod numbers;
mod program;
mod rules;
mod tree;

use oci_spec::runtime::LinuxSeccomp;

pub use cache::cached;
pub use features::{Features, features};
pub use load::Filter;

/// Why a profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SeccompError {
    /// It is no profile.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// An architecture of the specification whose system calls are not known here.
    #[error("the system calls of architecture `{0}` are not known")]
    Architecture(oci_spec::runtime::Arch),
    /// A rule names nothing.
    #[error("empty string is not a valid syscall")]
    EmptyName,
    /// A rule looks at an argument that no system call has.
    #[error("argument {index} of `{name}`: system calls have arguments 0 to 5")]
    ArgumentIndex {
        /// The system call.
        name: String,
        /// The argument, counted from 0.
        index: usize,
    },
    /// An error number for an action that returns none (the specification asks for this refusal).
    #[error("action `{0}` does not return an error number: leave out errnoRet or defaultErrnoRet")]
    ErrnoUnused(oci_spec::runtime::LinuxSeccompAction),
    /// An error number that the kernel cannot return.
    #[error("error number {0} is too large: they have 16 bits")]
    ErrnoRange(u32),
    /// Whoever answers would be asked by the launcher itself before it could pass on the descriptor.
    #[error("SCMP_ACT_NOTIFY cannot be used {0}")]
    Notify(&'static str),
    /// The kernel takes 4096 instructions.
    #[error("the profile needs {0} instructions, the kernel takes 4096: use fewer rules with arguments")]
    TooLarge(usize),
}

/// Makes the program of a profile, for this machine's architecture and those that the profile names.
///
/// # Errors
/// The profile contradicts itself or the specification, or its program would be larger than the kernel allows.
pub fn compile(profile: &LinuxSeccomp) -> Result<Filter, SeccompError> {
    let rules = rules::Rules::of(profile)?;
    let mut graph = tree::Graph::default();
    let root = rules.decide(&mut graph)?;
    Ok(Filter::new(program::assemble(&graph, root)?, load::flags(profile), rules.notifies()))
}

#[cfg(test)]
mod tests;
