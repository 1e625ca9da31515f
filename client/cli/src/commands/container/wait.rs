//! `cove wait`

use cove_container::protocol::{Connection, MAX_CONTENT, Message};
use cove_container::{Container, Status};

use crate::arguments::Wait;
use crate::context::Context;
use crate::error::Error;

/// Waits for the end of containers, one after the other, and prints how each ended.
pub fn run(context: &Context, arguments: &Wait) -> Result<(), Error> {
    let mut failed = false;
    for name in &arguments.containers {
        match super::find(context, name).and_then(|container| wait(&container)) {
            Ok(code) => context.printer.line(code.to_string())?,
            Err(error) => {
                failed = true;
                context.printer.note(error.text().unwrap_or_default());
            }
        }
    }
    if failed { Err(Error::Told) } else { Ok(()) }
}

fn wait(container: &Container) -> Result<i32, Error> {
    let mut buffer = vec![0; MAX_CONTENT + 1];
    if let Some(connection) = Connection::to(&container.socket()).map_err(Error::Io)?
        && connection.send(&Message::Wait).is_ok()
    {
        loop {
            match connection.receive(&mut buffer) {
                Ok(Some(Message::Ended(ended))) => return Ok(ended.code),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }
    // It does not run, or its monitor has just gone.
    let state = crate::containers::put_right(container)?;
    // As docker: what was never started has not ended either, but nobody would wait for that.
    debug_assert_ne!(state.status, Status::Running);
    Ok(state.exit_code)
}
