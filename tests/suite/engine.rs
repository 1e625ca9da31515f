//! The engine: containers from their first command to their removal, as a docker user meets them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "engine/attached.rs"]
mod attached;
#[path = "engine/files.rs"]
mod files;
#[path = "engine/images.rs"]
mod images;
#[path = "engine/life.rs"]
mod life;
#[path = "engine/links.rs"]
mod links;
#[path = "engine/look.rs"]
mod look;
#[path = "engine/monitors.rs"]
mod monitors;
#[path = "engine/network.rs"]
mod network;
#[path = "engine/ports.rs"]
mod ports;
#[path = "engine/tutorial.rs"]
mod tutorial;
#[path = "engine/volumes.rs"]
mod volumes;
