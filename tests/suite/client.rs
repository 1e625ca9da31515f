//! The client: what it pulls is what was pushed, to the last attribute; what it prints is what docker prints.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "client/matrix.rs"]
mod matrix;
