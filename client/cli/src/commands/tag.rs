//! `cove tag`

use cove_container::events::Event;
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
    let target = target.or_latest();
    match &found.reference {
        // All that the name stands for gets the other one too.
        Some(name) => store.tag_as(name, &target)?,
        None => store.tag(&found.image, &target)?,
    }
    context.tell(&Event::of_image("tag", found.image.id().as_str(), &target.familiar()));
    Ok(())
}
