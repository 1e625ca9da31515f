//! From docker's options of `run` and `create` to what the container is to be. What a single option may say is in
//! `values`, how several go together in `request`, what the image adds in `image`.

mod devices;
#[cfg(debug_assertions)]
pub mod dump;
mod durations;
mod environment;
mod error;
mod image;
mod mount;
mod network;
mod ports;
mod request;
mod security;
mod sizes;
pub mod values;
mod volumes;

pub use environment::of_options as environment_lines;
pub use error::{OptionError, ValueError};
pub use network::NetworkAsked;
#[allow(unused_imports)] // until `run` and `create` are wired in
pub use request::{Pull, Requested, request, restart_policy};
pub use values::Attached;

#[cfg(test)]
mod tests;
