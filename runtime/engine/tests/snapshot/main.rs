//! Writable layers: what is told of them and what becomes of them, with real overlay mounts.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "../unpack/listing.rs"]
#[allow(dead_code)]
mod listing;

mod cases;
mod mounted;
mod oracle;
mod property;
mod random;
