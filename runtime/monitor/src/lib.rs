//! The one process beside a container: it starts it, owns its output and its log, answers who attaches and who waits,
//! writes down how it ended and starts it again.
//!
//! It has one thread and one loop ([`monitor`](crate::monitor)). The container's processes are its descendants; what it
//! mounts is seen by nobody else, and goes with it. Nobody watches the watcher: when it is killed the next command finds
//! its lock free and puts right what it has left.

mod bundle;
mod clients;
mod error;
mod holder;
mod host_mounts;
mod links;
mod listener;
mod monitor;
mod names;
mod network;
mod process;
mod restart;
mod runtime;
mod setup;
mod shared;
mod streams;
mod uplink;

use std::path::Path;

use cove_container::protocol::{Connection, Message, Refusal};
use cove_container::{ContainerId, Containers};

pub use error::Error;
pub use holder::hold;

/// Starts a container and stays with it to its end. Standard input is the connection of whoever asks for it, who hears
/// there what became of the start. `shared`: the user's containers share namespaces, and we are in the user namespace.
///
/// # Errors
/// It could not be started; who asked has been told.
pub fn run(root: &Path, run: &Path, id: ContainerId, shared: bool) -> Result<(), Error> {
    let starter = process::become_monitor()?;
    let container = Containers::new(root, run).get(&id);
    let begun = container.ok_or(Error::Gone(id)).and_then(|container| {
        let places = network::Places { root, run };
        let home = if shared { Some(shared::Home::of(&places)?) } else { None };
        monitor::Monitor::new(&places, container, home)
    });
    match begun {
        Ok(monitor) => monitor.run(root, run, starter),
        Err(error) => {
            refuse(&starter, &error);
            Err(error)
        }
    }
}

/// Tells a client why not. If it is gone, nobody wants to know.
fn refuse(client: &Connection, error: &Error) {
    let _ = client.send(&Message::Refused(Refusal { text: error.to_string(), code: error.exit_code() }));
}
