//! `cove start`

use cove_container::events::Event;
use cove_container::protocol::{Attach, MAX_CONTENT, Message};
use cove_container::{Container, Status};

use super::run::finished;
use crate::arguments::Start;
use crate::containers::{self, DetachKeys, Session};
use crate::context::Context;
use crate::error::Error;

/// Starts containers; with `-a` or `-i` stays with one.
pub fn run(context: &Context, arguments: &Start) -> Result<(), Error> {
    if !arguments.attach && !arguments.interactive {
        return start_all(context, &arguments.containers);
    }
    let [name] = arguments.containers.as_slice() else {
        return Err(Error::Options("you cannot start and attach multiple containers at once"));
    };
    let container = super::find(context, name)?;
    let record = container.record()?;
    let config = &record.config;
    let attach = Attach {
        stdin: arguments.interactive && config.open_stdin,
        stdout: true,
        stderr: true,
        lossless: true,
        size: None,
    };
    let keys = arguments.detach_keys.as_deref().filter(|keys| !keys.is_empty());
    let detach_keys = keys.map_or_else(|| Ok(DetachKeys::default()), DetachKeys::parse)?;
    if is_running(&container)? {
        let attach = Attach { lossless: false, ..attach };
        return finished(super::attach::attach(context, &container, attach, true, detach_keys)?);
    }
    let session = Session {
        attach: Session::wanted(attach, config.tty),
        terminal: config.tty,
        sig_proxy: !config.tty,
        detach_keys,
        detached: false,
    };
    context.tell(&Event::of_container(&record, "attach", &[]));
    let mut lock = Some(container.lock_exclusive()?);
    let connection = containers::start(context, &container, Some(session.attach))?;
    finished(session.run(&connection, || drop(lock.take()))?)
}

/// Starts several, and says in the end which have failed.
fn start_all(context: &Context, names: &[String]) -> Result<(), Error> {
    let mut failed = Vec::new();
    for name in names {
        match super::find(context, name).and_then(|container| start(context, &container)) {
            Ok(()) => context.printer.line(name)?,
            Err(error) => {
                failed.push(name.as_str());
                error.text().into_iter().for_each(|text| context.printer.note(text));
            }
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        failed => Err(Error::Local(format!("Error: failed to start containers: {}", failed.join(", ")))),
    }
}

/// Starts a container that does not run; one that does is left as it is.
pub(in crate::commands) fn start(context: &Context, container: &Container) -> Result<(), Error> {
    let _lock = container.lock_exclusive()?;
    if is_running(container)? {
        return Ok(());
    }
    let connection = containers::start(context, container, None)?;
    let mut buffer = vec![0; MAX_CONTENT + 1];
    loop {
        containers::hear_from(container, &connection)?;
        match connection.receive(&mut buffer) {
            Ok(Some(Message::Warning(text))) => context.printer.note(format!("WARNING: {text}")),
            Ok(Some(Message::Started)) => return Ok(()),
            Ok(Some(Message::Refused(refusal))) => return Err(Error::Refused(refusal.text)),
            Ok(Some(_)) => {}
            Ok(None) => return Err(cove_container::Error::Monitor(std::io::ErrorKind::UnexpectedEof.into()).into()),
            Err(error) => return Err(cove_container::Error::Monitor(error).into()),
        }
    }
}

fn is_running(container: &Container) -> Result<bool, Error> {
    let (state, _) = container.state()?;
    match state.status {
        Status::Paused => Err(Error::Refused("cannot start a paused container, try unpause instead".to_owned())),
        Status::Running | Status::Restarting => Ok(true),
        Status::Created | Status::Exited | Status::Removing | Status::Dead => Ok(false),
    }
}
