//! `cove rename`

use cove_container::events::Event;
use cove_container::protocol::Message;

use crate::arguments::Rename;
use crate::containers::ask;
use crate::context::Context;
use crate::error::Error;

/// Gives a container another name.
pub fn run(context: &Context, arguments: &Rename) -> Result<(), Error> {
    let (old, new) = (arguments.container.trim(), arguments.name.trim());
    if old.is_empty() || new.is_empty() {
        return Err(Error::Options("Error: Neither old nor new names may be empty"));
    }
    rename(context, arguments)
        .inspect_err(|error| {
            // Both lines, as docker says it.
            error.text().into_iter().for_each(|text| context.printer.note(text));
        })
        .map_err(|_| Error::Local(format!("Error: failed to rename container named {old}")))
}

fn rename(context: &Context, arguments: &Rename) -> Result<(), Error> {
    let container = super::find(context, &arguments.container)?;
    let _lock = container.lock_exclusive()?;
    let before = container.record()?.name;
    if before == arguments.name.trim_start_matches('/') {
        return Err(Error::Refused("Renaming a container with the same name as its current name".to_owned()));
    }
    context.containers().rename(&container, &arguments.name)?;
    let old = format!("/{before}");
    context.tell(&Event::of_container(&container.record()?, "rename", &[("oldName", &old)]));
    // Others find it by its name on the network.
    ask(&container, &Message::Reload).map(drop)
}
