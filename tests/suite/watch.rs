//! Containers and the machine's start: the unit of systemd, the command that it runs, and what keeps monitors alive.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "watch/policies.rs"]
mod policies;
#[path = "watch/session.rs"]
mod session;
#[path = "watch/unit.rs"]
mod unit;
