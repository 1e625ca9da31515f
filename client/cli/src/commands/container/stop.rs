//! `cove stop` and `cove restart`

use cove_container::Container;
use cove_container::events::Event;
use cove_container::protocol::{Message, Stop as StopRequest};

use super::start::start;
use crate::arguments::{Restart, Stop};
use crate::containers::{ask, connect};
use crate::context::Context;
use crate::error::Error;

/// Docker's patience, where neither the command nor the container says anything.
const SECONDS: i64 = 10;

/// Ends containers.
pub fn run(context: &Context, arguments: &Stop) -> Result<(), Error> {
    let signal = arguments.signal.as_deref().map(super::kill::signal).transpose()?;
    super::each(context, &arguments.containers, |_, container| stop(context, container, signal, arguments.timeout))
}

/// Ends containers and starts them again.
pub fn restart(context: &Context, arguments: &Restart) -> Result<(), Error> {
    let signal = arguments.signal.as_deref().map(super::kill::signal).transpose()?;
    super::each(context, &arguments.containers, |_, container| {
        stop(context, container, signal, arguments.timeout)?;
        start(context, container)?;
        context.tell(&Event::of_container(&container.record()?, "restart", &[]));
        Ok(())
    })
}

/// Ends a container; one that does not run is left as it is. Negative seconds: waits for ever.
pub(super) fn stop(
    context: &Context,
    container: &Container,
    signal: Option<i32>,
    seconds: Option<i64>,
) -> Result<(), Error> {
    let record = container.record()?;
    let config = &record.config;
    let own = || super::kill::signal(&config.stop_signal).ok().unwrap_or(libc::SIGTERM);
    let seconds = seconds.or(config.stop_timeout).unwrap_or(SECONDS);
    let request = StopRequest { signal: signal.unwrap_or_else(own), seconds: u32::try_from(seconds).ok() };
    if ask(container, &Message::Stop(request))? {
        context.tell(&Event::of_container(&record, "stop", &[]));
    } else {
        // It may be ending by itself: who starts it next must find that it has.
        connect(container)?;
    }
    Ok(())
}
