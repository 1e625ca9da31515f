//! The engine for an ordinary user with subordinate ids, and for one without: what root's containers do, as far as the
//! kernel lets it be done without root, and clear words where it does not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "engine_rootless/attached.rs"]
mod attached;
#[path = "engine_rootless/files.rs"]
mod files;
#[path = "engine_rootless/life.rs"]
mod life;
#[path = "engine_rootless/network.rs"]
mod network;
#[path = "engine_rootless/shared.rs"]
mod shared;
