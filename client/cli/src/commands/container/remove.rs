//! `cove rm`

use std::time::Duration;

use cove_container::events::Event;
use cove_container::protocol::{Message, Stop};
use cove_container::{Container, Record, Status, Volumes};

use crate::arguments::RemoveContainers;
use crate::containers::{ask_within, end_silent, remove_link, sweep_networks};
use crate::context::Context;
use crate::error::Error;

/// A monitor that has not ended its container after so long is ended itself.
const PATIENCE: Duration = Duration::from_secs(20);

/// How to remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// Also one that runs.
    pub force: bool,
    /// And the volumes that were made for it.
    pub volumes: bool,
}

/// Removes containers.
pub fn run(context: &Context, arguments: &RemoveContainers) -> Result<(), Error> {
    if arguments.link {
        return links(context, arguments);
    }
    let options = Options { force: arguments.force, volumes: arguments.volumes };
    let mut failed = false;
    for name in &arguments.containers {
        let container = match super::find(context, name) {
            // Docker says it, and is content.
            Err(error @ Error::Container(cove_container::Error::NoSuchContainer(_))) if options.force => {
                error.text().into_iter().for_each(|text| context.printer.note(text));
                continue;
            }
            found => found,
        };
        let removed = container.and_then(|container| match remove(context, &container, options) {
            Err(Error::InUse { status, .. }) => Err(Error::InUse { name: name.to_owned(), status }),
            // Somebody else has removed it just now.
            Err(Error::Container(cove_container::Error::NoSuchContainer(_))) if options.force => Ok(()),
            other => other,
        });
        match removed {
            Ok(()) => context.printer.line(name)?,
            Err(error) => {
                failed = true;
                error.text().into_iter().for_each(|text| context.printer.note(text));
            }
        }
    }
    if failed { Err(Error::Told) } else { Ok(()) }
}

/// `rm --link`: the names are those of links.
fn links(context: &Context, arguments: &RemoveContainers) -> Result<(), Error> {
    super::each_by(context, &arguments.containers, |name| remove_link(context, name))
}

/// Removes a container.
pub(super) fn remove(context: &Context, container: &Container, options: Options) -> Result<(), Error> {
    loop {
        let lock = container.lock_exclusive()?;
        let (state, _) = container.state()?;
        let status = state.status;
        match status {
            Status::Created | Status::Exited | Status::Dead | Status::Removing => {
                let record = container.record();
                let containers = context.containers();
                containers.remove(container)?;
                // What a monitor that was killed has left of its start.
                if record.as_ref().is_ok_and(|record| record.host_config.network_mode.network().is_some()) {
                    sweep_networks(context, Some(container));
                }
                drop(lock);
                let Ok(record) = record else { return Ok(()) };
                let gone = let_go(context, &record, options);
                context.tell(&Event::of_container(&record, "destroy", &[]));
                return gone;
            }
            Status::Running | Status::Paused | Status::Restarting if !options.force => {
                return Err(Error::InUse { name: container.id().to_string(), status });
            }
            Status::Running | Status::Paused | Status::Restarting => {
                // One that goes with its end takes the lock for that.
                drop(lock);
                let stop = Message::Stop(Stop { signal: libc::SIGKILL, seconds: Some(0) });
                let asked = match ask_within(container, &stop, Some(PATIENCE)) {
                    Err(Error::Silent { .. }) => end_silent(context, container).map(|()| true),
                    asked => asked,
                };
                if container.is_removed_at_end() {
                    return asked.map(drop);
                }
                asked?;
            }
        }
    }
}

/// What a container that is gone has kept: volumes, and layers of an image that is gone already.
fn let_go(context: &Context, record: &Record, options: Options) -> Result<(), Error> {
    let places = context.places();
    // What was mounted to be filled, for a container that never ran.
    let _ = Volumes::new(&places.root).release(&record.id, &record.mounts, &context.containers());
    if options.volumes {
        let volumes = Volumes::new(&places.root);
        let removed = volumes.remove_anonymous(record, &context.containers());
        context.events().tell_gone_volumes(record, &volumes);
        removed?;
    }
    if !places.has_image(&record.image) {
        context.store()?.sweep_now()?;
    }
    Ok(())
}
