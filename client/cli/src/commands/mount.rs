//! `cove image mount` and `cove image unmount`

use crate::arguments::{Mount, Unmount};
use crate::context::Context;
use crate::error::Error;

/// Mounts an image read-only and prints the folder.
pub fn run(context: &Context, arguments: &Mount) -> Result<(), Error> {
    let store = context.store()?;
    let found = store.find(&arguments.image, &context.defaults()?)?;
    let folder = store.mount(&found.image)?;
    Ok(context.printer.line(folder.display().to_string())?)
}

/// Takes the mount away and prints the image's id.
pub fn unmount(context: &Context, arguments: &Unmount) -> Result<(), Error> {
    let store = context.store()?;
    let found = store.find(&arguments.image, &context.defaults()?)?;
    store.unmount(&found.image)?;
    Ok(context.printer.line(found.image.id().to_string())?)
}
