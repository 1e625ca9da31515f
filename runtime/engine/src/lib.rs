//! The local image store: unpacked layers, blobs, records, archives.
//!
//! [`Store`] is where to begin. Images come in through [`Store::receive`], a target of `cove_transfer::copy`, and go
//! out through [`Store::send`], a source of it; [`archive`] reads and writes files of images.

pub mod archive;
mod catalogue;
mod changes;
mod compress;
pub mod decompress;
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
pub mod tar;
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
    use user_namespace::{Ids, Place};
    let (overlay, rootless) = match user_namespace::place() {
        Place::Root | Place::Outside => (unpack::OverlayXattr::Trusted, None),
        Place::Inside(Ids::Many) => (unpack::OverlayXattr::User, None),
        Place::Inside(Ids::One) => (unpack::OverlayXattr::User, Some(unpack::OneId)),
    };
    unpack::UnpackOptions { overlay, rootless, ..unpack::UnpackOptions::default() }
}
