//! The local image store: unpacked layers, blobs, records, archives.
//!
//! [`Store`] is where to begin. Images come in through [`Store::receive`], a target of `cove_transfer::copy`, and go
//! out through [`Store::send`], a source of it; archives are read by [`Store::load`] and written by [`Store::save`].

pub mod archive;
mod catalogue;
mod changes;
mod compress;
pub mod decompress;
mod delete;
mod error;
mod image;
mod layer;
mod lease;
mod load;
mod lock;
mod mount;
mod origins;
mod partial;
mod places;
mod publish;
mod receive;
mod record;
mod remove;
mod seal;
mod send;
mod store;
pub mod tar;
pub mod unpack;
mod uploads;
pub mod user_namespace;

pub use compress::{Compressed, compress};
pub use error::Error;
pub use image::{Image, Layer};
pub use load::{ImportOptions, Loaded, Usage};
pub use places::Places;
pub use receive::{ReceiveOptions, Receiver};
pub use remove::{LabelFilter, PruneFilter, Pruned, RemoveOptions, Removed};
pub use send::Sender;
pub use store::{Found, Store};

/// How this process can unpack, and what its mounts will need.
fn unpack_options() -> unpack::UnpackOptions {
    use unpack::{OneId, OverlayXattr};
    let (rootless, overlay) = match user_namespace::place() {
        user_namespace::Place::Root => (None, OverlayXattr::Trusted),
        user_namespace::Place::Inside(user_namespace::Ids::Many) => (None, OverlayXattr::User),
        user_namespace::Place::Inside(user_namespace::Ids::One) | user_namespace::Place::Outside => {
            (Some(OneId), OverlayXattr::User)
        }
    };
    unpack::UnpackOptions { rootless, overlay, ..unpack::UnpackOptions::default() }
}
