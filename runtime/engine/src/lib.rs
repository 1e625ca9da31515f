//! The local image store: unpacked layers, blobs, records, archives.
//!
//! [`Store`] is where to begin. Images come in through [`Store::receive`], a target of `cove_transfer::copy`, and go
//! out through [`Store::send`], a source of it; archives are read by [`Store::load`] and written by [`Store::save`].

mod abilities;
pub mod archive;
mod catalogue;
mod changes;
mod commit;
mod compress;
pub mod copy;
pub mod decompress;
mod early_writing;
mod error;
mod image;
mod index;
mod journal;
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
mod snapshot;
mod store;
pub mod tar;
pub mod unpack;
mod uploads;
pub mod user_namespace;
mod users;

pub use changes::apply_changes;
pub use commit::CommitRequest;
pub use compress::{Compressed, compress};
pub use error::Error;
pub use image::{Image, Layer};
pub use load::{ImportOptions, Loaded, Saved, Usage};
pub use places::Places;
pub use receive::{ReceiveOptions, Receiver};
pub use remove::{LabelFilter, PruneFilter, Pruned, RemoveOptions, Removed};
pub use seal::Sealed;
pub use send::Sender;
pub use snapshot::{
    Change, ChangeKind, LayerWritten, RootBefore, SnapshotError, SnapshotOptions, diff, write_layer, write_tree,
};
pub use store::{Found, Hold, Store};

/// How this process can unpack. What its mounts will need is known to the store.
fn unpack_options() -> unpack::UnpackOptions {
    use user_namespace::{Ids, Place, place};
    let rootless = match place() {
        Place::Root | Place::Inside(Ids::Many) => None,
        Place::Inside(Ids::One) | Place::Outside => Some(unpack::OneId),
    };
    unpack::UnpackOptions { rootless, ..unpack::UnpackOptions::default() }
}
