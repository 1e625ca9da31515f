//! `cove rmi`

use cove_container::events::Event;
use cove_engine::{RemoveOptions, Removed};
use cove_oci::ReferenceDefaults;

use crate::arguments::Remove;
use crate::context::Context;
use crate::error::Error;
use crate::listing::familiar;

/// Removes names, and images that no name is left for. Every name is tried; what failed is told at the end, as docker
/// does it.
pub fn run(context: &Context, arguments: &Remove) -> Result<(), Error> {
    let store = context.store()?;
    let defaults = context.defaults()?;
    // `--no-prune` changes nothing: layers that no image has are no images here.
    let options = RemoveOptions { force: arguments.force };
    let mut failures = Vec::new();
    for name in &arguments.images {
        let id = store.find(name, &defaults).map(|found| found.image.id().clone());
        let removed = match &arguments.platform {
            Some(platform) => store.remove_platform(name, platform, &defaults, options),
            None => store.remove(name, &defaults, options),
        };
        match removed {
            Ok(mut removed) => {
                // Names first, in docker's order; images and layers as they went.
                removed.sort_by_cached_key(|removed| match removed {
                    Removed::Untagged(name) => (false, familiar(name, &defaults)),
                    Removed::Deleted(_) => (true, String::new()),
                });
                // Layers go as well, but are nothing that docker speaks of.
                let is_told = |one: &&Removed| match one {
                    Removed::Untagged(_) => true,
                    Removed::Deleted(digest) => id.as_ref().is_ok_and(|id| id == digest),
                };
                for one in removed.iter().filter(is_told) {
                    let action = if matches!(one, Removed::Untagged(_)) { "untag" } else { "delete" };
                    let id = id.as_ref().map_or_else(|_| name.clone(), ToString::to_string);
                    context.tell(&Event::of_image(action, &id, &id));
                }
                removed.iter().try_for_each(|removed| context.printer.line(line(removed, &defaults)))?;
            }
            Err(error) => failures.push(Error::from(error)),
        }
    }
    // What `-f` is to remove may be gone already.
    let is_failure = failures.iter().any(|error| !(arguments.force && error.is_no_such_image()));
    for text in failures.iter().filter_map(Error::text) {
        context.printer.note(text);
    }
    if is_failure { Err(Error::Told) } else { Ok(()) }
}

/// What became of a name or an image.
pub fn line(removed: &Removed, defaults: &ReferenceDefaults) -> String {
    match removed {
        Removed::Untagged(name) => format!("Untagged: {}", familiar(name, defaults)),
        Removed::Deleted(digest) => format!("Deleted: {digest}"),
    }
}
