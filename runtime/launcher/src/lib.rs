//! An OCI runtime: takes a bundle (`config.json` and a root file system), makes a container of it, and starts, enters,
//! stops and removes it (runtime-spec 1.2).
//!
//! It changes the process that calls it and clones it: only a process of one thread may do that.

pub mod cgroups;
pub mod seccomp;
