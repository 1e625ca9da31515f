//! `cove kill`

use cove_container::protocol::Message;

use crate::arguments::Kill;
use crate::containers::ask;
use crate::context::Context;
use crate::error::Error;

/// Sends containers a signal.
pub fn run(context: &Context, arguments: &Kill) -> Result<(), Error> {
    let text = arguments.signal.as_deref().unwrap_or("KILL");
    let signal = match (signal(text), text.parse::<u32>()) {
        (Ok(signal), _) => Ok(signal),
        // Docker's client lets numbers through; its daemon tells them for each container.
        (Err(_), Ok(number @ 1..)) => Err(number),
        (Err(error), _) => return Err(error),
    };
    super::each(context, &arguments.containers, |name, container| {
        let signal = signal.map_err(|number| {
            let text = format!("Cannot kill container: {name}: The linux daemon does not support signal {number}");
            Error::Refused(text)
        })?;
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
