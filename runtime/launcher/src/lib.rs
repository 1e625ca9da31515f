//! An OCI runtime: takes a bundle (`config.json` and a root file system), makes a container of it, and starts, enters,
//! stops and removes it (runtime-spec 1.2).
//!
//! It changes the process that calls it and clones it: only a process of one thread may do that, and `ensure_sealed`
//! comes first.

mod attend;
mod between;
mod capabilities;
pub mod cgroups;
mod channel;
mod config;
mod confine;
mod console;
mod container;
mod create;
mod devices;
mod error;
mod exec;
mod fail_points;
mod hooks;
mod init;
mod mounts;
mod namespaces;
mod notify;
mod proc;
mod process_id;
mod relay;
mod rootfs;
mod sealed;
pub mod seccomp;
mod signals;
mod starter;
mod state;
mod syscalls;
mod user_namespace;

pub use attend::{Signals, attend};
pub use capabilities::{Asked, capability_named, capability_names};
pub use config::{Config, CpuAffinity, FILE, OCI_VERSION, Process};
pub use console::ConsoleSocket;
pub use container::Container;
pub use create::{CreateOptions, Created, console_size, create, run};
pub use error::{Error, plain};
pub use exec::{Added, ExecOptions, exec};
pub use fail_points::FAIL_POINTS;
pub(crate) use fail_points::fail_point;
pub use process_id::ProcessId;
pub use relay::Relay;
pub use sealed::ensure_sealed;
pub use signals::named as signal;
pub use state::{Folder, Record, RootFolder, State, Status};
pub use syscalls::unblock_signals_of;
pub use user_namespace::is_rootless;
