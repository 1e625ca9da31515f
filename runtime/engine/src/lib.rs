//! The local image store: unpacked layers, blobs, records, archives.
//!
//! [`Store`] is where to begin. Images come in through [`Store::receive`], a target of `cove_transfer::copy`, and go
//! out through [`Store::send`], a source of it; archives are read by [`Store::load`] and written by [`Store::save`].

mod catalogue;
mod changes;
mod compress;
mod decompress;
mod error;
mod image;
mod layer;
mod lease;
mod lock;
mod mount;
mod origins;
mod partial;
mod places;
mod publish;
mod receive;
mod record;
mod remove;
mod send;
mod store;
pub mod unpack;
pub mod user_namespace;

pub use compress::{Compressed, compress};
pub use decompress::decompress;
pub use error::Error;
pub use image::{Image, Layer};
pub use places::Places;
pub use receive::{ReceiveOptions, Receiver};
pub use remove::{LabelFilter, PruneFilter, Pruned, RemoveOptions, Removed};
pub use send::Sender;
pub use store::{Found, Store};

/// How this process can unpack.
fn unpack_options() -> unpack::UnpackOptions {
    unpack::UnpackOptions::default()
}
