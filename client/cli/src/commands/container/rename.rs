//! `cove rename`

use cove_container::events::Event;
use cove_container::protocol::Message;

use crate::arguments::Rename;
use crate::containers::ask;
use crate::context::Context;
use crate::error::Error;

/// Gives a container another name.
pub fn run(context: &Context, arguments: &Rename) -> Result<(), Error> {
    let container = super::find(context, &arguments.container)?;
    let _lock = container.lock_exclusive()?;
    let before = container.record()?.name;
    context.containers().rename(&container, &arguments.name)?;
    let old = format!("/{before}");
    context.tell(&Event::of_container(&container.record()?, "rename", &[("oldName", &old)]));
    // Others find it by its name on the network.
    ask(&container, &Message::Reload).map(drop)
}
