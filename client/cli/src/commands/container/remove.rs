//! `cove rm`

use cove_container::events::Event;
use cove_container::protocol::{Message, Stop};
use cove_container::{Container, Status};

use crate::arguments::RemoveContainers;
use crate::containers::ask;
use crate::context::Context;
use crate::error::Error;

/// Removes containers.
pub fn run(context: &Context, arguments: &RemoveContainers) -> Result<(), Error> {
    super::each(context, &arguments.containers, |name, container| match remove(context, container, arguments.force) {
        Err(Error::InUse { status, .. }) => Err(Error::InUse { name: name.to_owned(), status }),
        // Somebody else has removed it just now.
        Err(Error::Container(cove_container::Error::NoSuchContainer(_))) if arguments.force => Ok(()),
        other => other,
    })
}

/// Removes a container; with `force` one that runs, too.
pub(super) fn remove(context: &Context, container: &Container, force: bool) -> Result<(), Error> {
    loop {
        let lock = container.lock_exclusive()?;
        let (state, _) = container.state()?;
        let status = state.status;
        match status {
            Status::Created | Status::Exited | Status::Dead | Status::Removing => {
                let record = container.record();
                let removed = context.containers().remove(container);
                drop(lock);
                if let (Ok(record), Ok(())) = (record, &removed) {
                    context.tell(&Event::of_container(&record, "destroy", &[]));
                }
                return Ok(removed?);
            }
            Status::Running | Status::Paused | Status::Restarting if !force => {
                return Err(Error::InUse { name: container.id().to_string(), status });
            }
            Status::Running | Status::Paused | Status::Restarting => {
                // One that goes with its end takes the lock for that.
                drop(lock);
                let asked = ask(container, &Message::Stop(Stop { signal: libc::SIGKILL, seconds: Some(0) }));
                if container.is_removed_at_end() {
                    return asked.map(drop);
                }
                asked?;
            }
        }
    }
}
