//! `cove run` and `cove create`

use std::io::IsTerminal;

use cove_container::events::Event;
use cove_container::protocol::Attach;
use cove_container::{ContainerId, Record};

use crate::arguments::{Create, Run};
use crate::containers::{self, Called, DetachKeys, Outcome, Session};
use crate::context::Context;
use crate::error::Error;

/// Makes a container and prints its id.
pub fn create(context: &Context, arguments: &Create) -> Result<(), Error> {
    let (container, _) = containers::create(context, arguments, false, |_| Ok(())).map_err(not_run)?;
    Ok(context.printer.line(container.id().as_str())?)
}

/// Makes a container and starts it; stays with it unless it is detached.
pub fn run(context: &Context, arguments: &Run) -> Result<(), Error> {
    let keys = arguments.detach_keys.as_deref().filter(|keys| !keys.is_empty());
    let detach_keys = keys.map_or_else(|| Ok(DetachKeys::default()), DetachKeys::parse).map_err(not_run)?;
    let (options, detached) = (&arguments.create.options, arguments.detach);
    if options.tty && !detached && wants_stdin(&arguments.create) && !std::io::stdin().is_terminal() {
        return Err(not_run(Error::Options("the input device is not a TTY")));
    }
    let mut monitor = None;
    let named = |id: &ContainerId| {
        monitor = Some(Called::monitor(context, id)?);
        Ok(())
    };
    let (container, record) = containers::create(context, &arguments.create, detached, named).map_err(not_run)?;
    let lock = container.lock_exclusive().map_err(|error| not_run(error.into()))?;
    let attach = attach(&record);
    let session = Session {
        attach: Session::wanted(attach, record.config.tty),
        terminal: record.config.tty,
        sig_proxy: arguments.sig_proxy && !record.config.tty && !detached,
        detach_keys,
        detached,
    };
    if !detached {
        context.tell(&Event::of_container(&record, "attach", &[]));
    }
    let wanted = (!detached).then_some(session.attach);
    let begun = match monitor {
        Some(monitor) => monitor.begin(&container, wanted),
        None => containers::start(context, &container, wanted),
    };
    let connection = begun.map_err(not_run)?;
    let mut lock = Some(lock);
    let outcome = session.run(&connection, || drop(lock.take()))?;
    if detached && outcome == Outcome::Detached {
        return Ok(context.printer.line(container.id().as_str())?);
    }
    finished(outcome)
}

fn wants_stdin(create: &Create) -> bool {
    create.options.interactive
}

/// What of its streams the command wants that makes it.
fn attach(record: &Record) -> Attach {
    let config = &record.config;
    Attach {
        stdin: config.attach_stdin && config.open_stdin,
        stdout: config.attach_stdout,
        stderr: config.attach_stderr,
        lossless: true,
        size: None,
    }
}

/// Docker's status for a container that never ran.
fn not_run(error: Error) -> Error {
    Error::NotRun(Box::new(error))
}

/// The status that an attached command ends with.
pub(super) fn finished(outcome: Outcome) -> Result<(), Error> {
    match outcome {
        Outcome::Ended(0) | Outcome::Detached => Ok(()),
        // Statuses are bytes, here as there.
        Outcome::Ended(code) => Err(Error::Ended { text: String::new(), status: code as u8 }),
        Outcome::Refused { text, code } => {
            Err(Error::Ended { text: format!("Error response from daemon: {text}"), status: code })
        }
        Outcome::Lost => Err(Error::Ended { text: LOST.to_owned(), status: 125 }),
    }
}

const LOST: &str = "the monitor of the container has died\n\
    the next command on this container puts right what it has left; `cove start` starts it again";
