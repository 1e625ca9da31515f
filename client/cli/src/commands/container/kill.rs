//! `cove kill`

use cove_container::protocol::Message;

use crate::arguments::Kill;
use crate::containers::ask;
use crate::context::Context;
use crate::error::Error;

/// Sends containers a signal.
pub fn run(context: &Context, arguments: &Kill) -> Result<(), Error> {
    let text = arguments.signal.as_deref().filter(|text| !text.is_empty()).unwrap_or("KILL");
    let signal = signal(text);
    let number = text.parse::<u32>().unwrap_or(0);
    super::each_by(context, &arguments.containers, |name| {
        // Docker's client lets numbers through.
        if signal.is_err() && number == 0 {
            return Err(Error::Refused(format!("invalid signal: {text}")));
        }
        let container = super::find(context, name).map_err(|error| match error {
            Error::Container(error @ cove_container::Error::NoSuchContainer(_)) => {
                Error::Refused(format!("cannot kill container: {name}: {error}"))
            }
            error => error,
        })?;
        let signal = *signal.as_ref().map_err(|_| {
            let text = format!("Cannot kill container: {name}: The linux daemon does not support signal {number}");
            Error::Refused(text)
        })?;
        let not_running =
            || Error::Refused(format!("cannot kill container: {name}: container {} is not running", container.id()));
        match ask(&container, &Message::Signal(signal)) {
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
