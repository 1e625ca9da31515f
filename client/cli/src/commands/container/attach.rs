//! `cove attach`

use cove_container::events::Event;
use cove_container::protocol::{Attach, Connection, Message};
use cove_container::{Container, Status};

use super::run::finished;
use crate::arguments;
use crate::containers::{DetachKeys, Outcome, Session, connect};
use crate::context::Context;
use crate::error::Error;

/// Watches a container and types into it.
pub fn run(context: &Context, arguments: &arguments::Attach) -> Result<(), Error> {
    let container = super::find(context, &arguments.container)?;
    let config = container.record()?.config;
    let keys = arguments.detach_keys.as_deref().filter(|keys| !keys.is_empty());
    let keys = keys.map_or_else(|| Ok(DetachKeys::default()), DetachKeys::parse)?;
    let stdin = config.open_stdin && !arguments.no_stdin;
    let attach_to = Attach { stdin, stdout: true, stderr: true, lossless: false, size: None };
    match attach(context, &container, attach_to, arguments.sig_proxy, keys)? {
        // As docker, whose `run` and `start` end well here.
        Outcome::Detached => Err(Error::Ended { text: "read escape sequence".to_owned(), status: 1 }),
        outcome => finished(outcome),
    }
}

pub(super) fn attach(
    context: &Context,
    container: &Container,
    attach: Attach,
    sig_proxy: bool,
    detach_keys: DetachKeys,
) -> Result<Outcome, Error> {
    let refused = |text: &'static str| Err(Error::Options(text));
    match container.state()?.0.status {
        Status::Running => {}
        Status::Paused => return refused("You cannot attach to a paused container, unpause it first"),
        Status::Restarting => return refused("You cannot attach to a restarting container, wait until it is running"),
        Status::Created | Status::Exited | Status::Removing | Status::Dead => {
            return refused("You cannot attach to a stopped container, start it first");
        }
    }
    let record = container.record()?;
    let terminal = record.config.tty;
    let session = Session {
        attach: Session::wanted(attach, terminal),
        terminal,
        sig_proxy: sig_proxy && !terminal,
        detach_keys,
        detached: false,
    };
    let Some(connection) = Connection::to(&container.socket()).map_err(Error::Io)? else {
        return refused("You cannot attach to a stopped container, start it first");
    };
    context.tell(&Event::of_container(&record, "attach", &[]));
    let outcome = match connection.send(&Message::Attach(session.attach)) {
        Ok(()) => session.run(&connection, || {})?,
        Err(_) => Outcome::Lost,
    };
    match outcome {
        Outcome::Lost => ended_before(container),
        outcome => Ok(outcome),
    }
}

/// The monitor has gone without a word: it was killed, or was at its last acts and heard nobody any more.
fn ended_before(container: &Container) -> Result<Outcome, Error> {
    connect(container)?;
    match container.state() {
        Ok((_, true)) => Ok(Outcome::Lost),
        Ok((state, false)) if state.status == Status::Exited => Ok(Outcome::Ended(state.exit_code)),
        // Started again, or removed.
        _ => Err(Error::Options("You cannot attach to a stopped container, start it first")),
    }
}
