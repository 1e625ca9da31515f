//! `cove images`

use cove_engine::Image;
use time::OffsetDateTime;

use crate::arguments::Images;
use crate::context::Context;
use crate::error::Error;
use crate::listing::{self, Choice, Listed, Look};
use crate::units::parse_rfc3339;

/// Lists images.
pub fn run(context: &Context, arguments: &Images) -> Result<(), Error> {
    let store = context.store()?;
    let defaults = context.defaults()?;
    let now = OffsetDateTime::now_utc();
    let created = |name: &str| Ok(listed(&store.find(name, &defaults)?.image).created);
    let mut choice = Choice::read(&arguments.filter, now, created)?;
    if let Some(pattern) = arguments.repository.as_ref().filter(|pattern| !pattern.is_empty()) {
        choice.and_reference(pattern);
    }
    let look = Look { digests: arguments.digests, no_trunc: arguments.no_trunc };
    let images = store.images()?;
    for broken in store.broken()? {
        context.printer.note(format!("WARNING: an image cannot be listed: {broken}"));
    }
    let chosen = images.iter().map(listed).filter_map(|image| choice.choose(image, &defaults)).collect();
    let rows = listing::rows(chosen, look, &defaults, now);
    let only = arguments.quiet.then_some("ID");
    listing::list(look).print(&context.printer, arguments.format.as_deref(), only, look.no_trunc, &rows)?;
    Ok(())
}

/// An image as lists see it.
pub fn listed(image: &Image) -> Listed {
    let document = image.config().document();
    Listed {
        id: image.id().clone(),
        tags: image.tags().to_vec(),
        digests: image.digests().to_vec(),
        created: document.created.as_deref().and_then(parse_rfc3339),
        size: image.size(),
        labels: document.config.labels.clone(),
    }
}
