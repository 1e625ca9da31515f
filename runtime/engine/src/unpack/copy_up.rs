//! Copying a file or its attributes from a lower layer.

use std::os::fd::OwnedFd;

use cove_container::copying::Copying;
use rustix::fs::Stat;

use super::UnpackError;
use super::attributes::{Attributes, On, failed};

/// Copies owner and extended attributes, but not a default ACL, which it gives back: it must be set last.
pub(super) fn copy_attributes(
    attributes: &Attributes,
    from: &OwnedFd,
    stat: &Stat,
    to: &On<'_>,
    path: &[u8],
) -> Result<Option<Vec<u8>>, UnpackError> {
    let copied = with(attributes, |copying| copying.attributes(from, stat, to));
    copied.map_err(|error| failed("copy the attributes of", path, error))
}

/// Copies what is called `name` in the folder `from`; `false` if this user cannot make such a thing.
pub(super) fn copy_up(
    attributes: &Attributes,
    from: &OwnedFd,
    name: &[u8],
    stat: &Stat,
    to: &OwnedFd,
    new_name: &[u8],
    path: &[u8],
) -> Result<bool, UnpackError> {
    let copied = with(attributes, |copying| copying.file(from, name, stat, to, new_name));
    copied.map_err(|error| failed("copy from a lower layer", path, error))
}

fn with<T>(attributes: &Attributes, copy: impl FnOnce(&Copying<'_>) -> T) -> T {
    copy(&Copying { owners: attributes.sets_owners(), leaves: &|name| attributes.is_private(name) })
}
