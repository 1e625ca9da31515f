//! What this store can keep: told by trying once, and remembered in the store, for mounts need to know it too.

use rustix::fs::XattrFlags;
use serde::{Deserialize, Serialize};

use crate::lock::Lock;
use crate::places::Places;
use crate::unpack::OverlayXattr;
use crate::{Error, record};

/// `store.json`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreRecord {
    /// Whether layers have `trusted.overlay.` attributes, else `user.overlay.`.
    trusted: bool,
}

/// The attributes that whiteouts and opaque folders of this store's layers have. Root alone may set the trusted ones, and
/// only where it is root of the whole machine: not in most containers, nor in a namespace that a user made.
pub(crate) fn overlay(places: &Places) -> Result<OverlayXattr, Error> {
    let path = places.root.join("store.json");
    let known: Option<StoreRecord> = record::read(&path)?;
    let record = match known {
        Some(record) => record,
        None => {
            let _lock = Lock::wait(&places.lock())?;
            let record = StoreRecord { trusted: takes_trusted(places)? };
            record::write(&path, &record)?;
            record
        }
    };
    Ok(if record.trusted { OverlayXattr::Trusted } else { OverlayXattr::User })
}

fn takes_trusted(places: &Places) -> Result<bool, Error> {
    let path = places.root.join(format!(".try-{}", record::random_name()));
    let file = fs_err::File::create_new(&path)?;
    let set = rustix::fs::fsetxattr(&file, OverlayXattr::Trusted.origin(), b"", XattrFlags::empty());
    fs_err::remove_file(&path)?;
    Ok(set.is_ok())
}
