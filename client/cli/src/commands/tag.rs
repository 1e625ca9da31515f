//! `cove tag`

use cove_oci::Reference;

use crate::arguments::TagImage;
use crate::context::Context;
use crate::error::Error;

/// Gives an image another name.
pub fn run(context: &Context, arguments: &TagImage) -> Result<(), Error> {
    let defaults = context.defaults()?;
    let target = Reference::parse(&arguments.target, &defaults)
        .map_err(|source| Error::Target { text: arguments.target.clone(), source })?;
    let store = context.store()?;
    let found = store.find(&arguments.source, &defaults)?;
    match &found.reference {
        // All that the name stands for gets the other one too.
        Some(name) => Ok(store.tag_as(name, &target.or_latest())?),
        None => Ok(store.tag(&found.image, &target.or_latest())?),
    }
}
