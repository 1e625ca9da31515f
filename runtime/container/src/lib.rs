//! What a container is: its record, its folder, its state and the words its monitor speaks.
//!
//! Read and written by `cove`, which asks, and by `cove-runtime`, which watches one container: so nothing here needs a
//! thread or an async runtime.

pub mod check;
pub mod config;
pub mod mounts;
pub mod spec;
