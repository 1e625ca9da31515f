//! Unpacking layers: what GNU tar makes of them, what attackers make of them, and what lies below them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

mod ambiguity;
mod attack;
mod bombs;
mod builder;
mod compression;
mod devices;
mod differential;
mod layers;
mod listing;
mod mutations;
mod overlay;
