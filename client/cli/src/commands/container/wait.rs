//! `cove wait`

use cove_container::Container;
use cove_container::protocol::{MAX_CONTENT, Message};

use crate::arguments::Wait;
use crate::containers::{connect, put_right};
use crate::context::Context;
use crate::error::Error;

/// Waits for the end of containers, one after the other, and prints how each ended.
pub fn run(context: &Context, arguments: &Wait) -> Result<(), Error> {
    let mut failed = false;
    for name in &arguments.containers {
        match super::find(context, name).and_then(|container| wait(context, &container)) {
            Ok(code) => context.printer.line(code.to_string())?,
            Err(error) => {
                failed = true;
                context.printer.note(error.text().unwrap_or_default());
            }
        }
    }
    if failed { Err(Error::Told) } else { Ok(()) }
}

fn wait(context: &Context, container: &Container) -> Result<i32, Error> {
    let mut buffer = vec![0; MAX_CONTENT + 1];
    while let Some(connection) = connect(container)? {
        if connection.send(&Message::Wait).is_err() {
            continue;
        }
        loop {
            match connection.receive(&mut buffer) {
                Ok(Some(Message::Ended(ended))) => return Ok(ended.code),
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }
    // It does not run, or its monitor has just gone.
    // As docker: what was never started has not ended either, but nobody would wait for that.
    Ok(put_right(context, container)?.exit_code)
}
