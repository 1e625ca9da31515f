//! The commands, one file each: plain functions given the context and their arguments.

mod completion;
mod logout;
mod version;

use crate::arguments::{Command, Cove};
use crate::context::Context;
use crate::error::Error;

/// Runs the command that was asked for.
pub fn run(context: &Context, cove: Cove) -> Result<(), Error> {
    let Some(command) = cove.command else { return version::short(context) };
    match command {
        Command::Logout(arguments) => logout::run(context, &arguments),
        Command::Version(arguments) => version::run(context, &arguments),
        Command::Completion(arguments) => completion::run(context, &arguments),
        _ => Ok(()),
    }
}
