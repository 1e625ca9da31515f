//! `cove pause` and `cove unpause`

use cove_container::protocol::Message;

use crate::arguments::{Pause, Unpause};
use crate::containers::ask;
use crate::context::Context;
use crate::error::Error;

/// Lets all processes of containers stand still.
pub fn pause(context: &Context, arguments: &Pause) -> Result<(), Error> {
    tell(context, &arguments.containers, &Message::Pause, "running")
}

/// Lets them go on.
pub fn unpause(context: &Context, arguments: &Unpause) -> Result<(), Error> {
    tell(context, &arguments.containers, &Message::Unpause, "paused")
}

fn tell(context: &Context, names: &[String], message: &Message<'_>, wanted: &str) -> Result<(), Error> {
    super::each(context, names, |_, container| match ask(container, message)? {
        true => Ok(()),
        false => Err(Error::Refused(format!("Container {} is not {wanted}", container.id()))),
    })
}
