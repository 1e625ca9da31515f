//! `cove run` and `cove create`

use std::io::IsTerminal;

use cove_container::events::Event;
use cove_container::protocol::Attach;
use cove_container::{ContainerId, Record};

use crate::arguments::{Create, Run};
use crate::containers::{self, Called, DetachKeys, Outcome, Session};
use crate::context::Context;
use crate::error::{Error, of_run};
use crate::options::OptionError;

/// Makes a container and prints its id.
pub fn create(context: &Context, arguments: &Create) -> Result<(), Error> {
    let not_made = |error| Error::NotMade { command: "create", error: Box::new(error) };
    let (container, _) = containers::create(context, arguments, false, |_| Ok(())).map_err(not_made)?;
    Ok(context.printer.line(container.id().as_str())?)
}

/// Makes a container and starts it; stays with it unless it is detached.
pub fn run(context: &Context, arguments: &Run) -> Result<(), Error> {
    let keys = arguments.detach_keys.as_deref().filter(|keys| !keys.is_empty());
    let detach_keys = keys.map_or_else(|| Ok(DetachKeys::default()), DetachKeys::parse).map_err(not_run)?;
    let (options, detached) = (&arguments.create.options, arguments.detach);
    // Docker says these two without more words, and with another status.
    if detached && !options.attach.is_empty() {
        return Err(OptionError::AttachAndDetach.into());
    }
    if options.tty && !detached && wants_stdin(&arguments.create) && !std::io::stdin().is_terminal() {
        return Err(Error::Options("the input device is not a TTY"));
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
    // It is there, and whoever detaches hears of it, also where it cannot run.
    let tell_id = || if detached { context.printer.line(container.id().as_str()) } else { Ok(()) };
    let connection = match begun {
        Ok(connection) => connection,
        Err(error) => {
            tell_id()?;
            return Err(not_run(error));
        }
    };
    let mut lock = Some(lock);
    let outcome = session.run(&connection, || drop(lock.take()))?;
    tell_id()?;
    match outcome {
        Outcome::Refused { text, code } => Err(Error::Ended { text: of_run(&format!("{DAEMON}{text}")), status: code }),
        outcome => finished(outcome),
    }
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
    Error::NotMade { command: "run", error: Box::new(error) }
}

/// The status that an attached command ends with.
pub(super) fn finished(outcome: Outcome) -> Result<(), Error> {
    match outcome {
        Outcome::Ended(0) | Outcome::Detached => Ok(()),
        // Statuses are bytes, here as there.
        Outcome::Ended(code) => Err(Error::Ended { text: String::new(), status: code as u8 }),
        Outcome::Refused { text, code } => Err(Error::Ended { text: format!("{DAEMON}{text}"), status: code }),
        Outcome::Lost => Err(Error::Ended { text: LOST.to_owned(), status: 125 }),
    }
}

const DAEMON: &str = "Error response from daemon: ";

const LOST: &str = "the monitor of the container has died\n\
    the next command on this container puts right what it has left; `cove start` starts it again";
