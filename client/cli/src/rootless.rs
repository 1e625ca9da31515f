//! Without root: commands that work in the store go on inside a user namespace. Outside stays a process that runs
//! credential helpers, which want the user's own keyring and id.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus};

use cove_engine::user_namespace::{Wanted, enter_if_needed};
use cove_remote::{AGENT_VARIABLE, AgentServer, home_folder};

use crate::containers;
use crate::context::Context;
use crate::error::Error;

/// Enters the namespace if need be. The status is that of the process inside, which has done the work; with none,
/// this process does it. To be called before any thread is started. `starts`: the command starts containers, which need a
/// namespace that outlives it.
pub fn enter(context: &Context, starts: bool) -> Result<Option<u8>, Error> {
    let places = context.places();
    let holder = containers::own_runtime()?;
    let prepare = |command: &mut Command| {
        let (server, inner) = AgentServer::new()?;
        command.env(AGENT_VARIABLE, inner.as_raw_fd().to_string());
        // Inside it is root, whose home is another one.
        if let Some(home) = home_folder() {
            command.env("HOME", home);
        }
        Ok((server, inner))
    };
    let serve = |(server, inner): (AgentServer, OwnedFd)| {
        // With our copy open, the end of the process inside would go unseen.
        drop(inner);
        if let Err(error) = server.serve() {
            tracing::debug!(%error, "the agent for credential helpers has ended");
        }
    };
    Ok(enter_if_needed(&Wanted { places: &places, holder, make: starts }, prepare, serve)?.map(status))
}

/// The status with which this process ends, as a shell sees it.
fn status(inside: ExitStatus) -> u8 {
    let number = inside.code().or(inside.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(number).unwrap_or(1)
}
