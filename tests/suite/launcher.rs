//! The OCI runtime, by its command line: what users rely on, and what attackers try.
//!
//! Everything that is not an attack passes on Debian's runc too (`COVE_TEST_RUNTIME=/usr/sbin/runc`), which proves
//! these tests; where that runc is too old or is itself vulnerable, the test says so by `OciRuntime::is_runc_1_1`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "launcher/attacks.rs"]
mod attacks;
#[path = "launcher/commands.rs"]
mod commands;
#[path = "launcher/hooks.rs"]
mod hooks;
#[path = "launcher/leaks.rs"]
mod leaks;
#[path = "launcher/lifecycle.rs"]
mod lifecycle;
#[path = "launcher/matrix.rs"]
mod matrix;
#[path = "launcher/missing.rs"]
mod missing;
#[path = "launcher/mounts.rs"]
mod mounts;
#[path = "launcher/namespaces.rs"]
mod namespaces;
#[path = "launcher/process.rs"]
mod process;
#[path = "launcher/rootless.rs"]
mod rootless;
#[path = "launcher/streams.rs"]
mod streams;
#[path = "launcher/traps.rs"]
mod traps;
