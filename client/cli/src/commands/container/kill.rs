//! `cove kill`

use cove_container::protocol::Message;

use crate::arguments::Kill;
use crate::containers::ask;
use crate::context::Context;
use crate::error::Error;

/// Sends containers a signal.
pub fn run(context: &Context, arguments: &Kill) -> Result<(), Error> {
    let signal = signal(arguments.signal.as_deref().unwrap_or("KILL"))?;
    super::each(context, &arguments.containers, |name, container| {
        let not_running =
            || Error::Refused(format!("cannot kill container: {name}: container {} is not running", container.id()));
        match ask(container, &Message::Signal(signal)) {
            Ok(true) => Ok(()),
            Ok(false) | Err(Error::Refused(_)) => Err(not_running()),
            Err(error) => Err(error),
        }
    })
}

/// A signal by its name or number.
pub(super) fn signal(text: &str) -> Result<i32, Error> {
    let signal = cove_launcher::signal(text).ok_or_else(|| Error::Signal(text.to_owned()))?;
    Ok(signal.as_raw())
}
