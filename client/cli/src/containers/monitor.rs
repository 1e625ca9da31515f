//! Starting monitors and asking them.

use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use cove_container::protocol::{Attach, Connection, MAX_CONTENT, Message};
use cove_container::{Container, Durability, State};
use cove_engine::user_namespace;

use crate::context::Context;
use crate::error::Error;

/// Where `cove-runtime` is: beside `cove`, or where `COVE_RUNTIME` says.
fn runtime() -> Result<PathBuf, Error> {
    if let Some(given) = std::env::var_os("COVE_RUNTIME").filter(|given| !given.is_empty()) {
        return Ok(given.into());
    }
    let own = std::env::current_exe().map_err(Error::Io)?;
    Ok(own.with_file_name("cove-runtime"))
}

/// The runtime that a container is made with: ours, or the one that `--runtime` names.
pub fn runtime_of(name: &str) -> Result<PathBuf, Error> {
    if is_ours(name) { runtime() } else { Ok(PathBuf::from(name)) }
}

/// Whether a container is made with our own runtime.
pub fn is_ours(name: &str) -> bool {
    matches!(name, "" | "cove" | "cove-runtime")
}

/// Starts a container that does not run. The caller holds its exclusive lock, and hears over the connection what becomes
/// of it; what `attach` asks for is sent from the first byte on.
pub fn start(context: &Context, container: &Container, attach: Option<Attach>) -> Result<Connection, Error> {
    container.make_run_folder()?;
    let program = runtime()?;
    let places = context.places();
    let (ours, theirs) = Connection::pair().map_err(Error::Io)?;
    if let Some(attach) = attach {
        ours.send(&Message::Attach(attach)).map_err(Error::Io)?;
    }
    let mut command = Command::new(&program);
    command.arg("monitor");
    if user_namespace::is_own() {
        command.arg("--shared");
    }
    command.arg(&places.root).arg(&places.run).arg(container.id().as_str());
    spawn(&mut command, theirs).map_err(|source| Error::NoRuntime { path: program, source })?;
    Ok(ours)
}

/// It is not waited for: it leaves our session, and who ends first is the other's to see over the connection.
fn spawn(command: &mut Command, connection: OwnedFd) -> std::io::Result<()> {
    command.stdin(Stdio::from(connection)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(drop)
}

/// Asks a container's monitor for something and waits until it is done. `false`: there is no monitor.
pub fn ask(container: &Container, message: &Message<'_>) -> Result<bool, Error> {
    let Some(connection) = Connection::to(&container.socket()).map_err(Error::Io)? else { return Ok(false) };
    if connection.send(message).is_err() {
        return Ok(false);
    }
    let mut buffer = vec![0; MAX_CONTENT + 1];
    loop {
        match connection.receive(&mut buffer) {
            Ok(Some(Message::Done | Message::Ended(_))) => return Ok(true),
            Ok(Some(Message::Refused(refusal))) => return Err(Error::Refused(refusal.text)),
            Ok(Some(_)) => {}
            // It has ended just now.
            Ok(None) => return Ok(false),
            Err(error) => return Err(cove_container::Error::Monitor(error).into()),
        }
    }
}

/// A connection to a container's monitor. One that hears nobody any more is at its last acts: how they come out is waited
/// for, then there is none. The caller holds no lock of the container, for a monitor may need it for these acts.
pub fn connect(container: &Container) -> Result<Option<Connection>, Error> {
    loop {
        let connection = Connection::to(&container.socket()).map_err(Error::Io)?;
        if connection.is_some() || !container.has_monitor() {
            return Ok(connection);
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// The state of a container, after what a dead monitor has left was put right.
pub fn put_right(container: &Container) -> Result<State, Error> {
    let (state, is_lost) = container.state()?;
    if !is_lost {
        return Ok(state);
    }
    let _lock = container.lock_exclusive()?;
    // Somebody else may have done it while we waited.
    let (state, is_lost) = container.state()?;
    if is_lost {
        end_leftovers(container);
        container.write_state(&state, Durability::Lasting)?;
    }
    Ok(state)
}

/// Ends what runs on without its monitor: nobody reads what it writes any more.
fn end_leftovers(container: &Container) {
    let Ok(record) = container.record() else { return };
    let Ok(program) = runtime_of(&record.host_config.runtime) else { return };
    let mut command = Command::new(program);
    command.arg("--root").arg(container.run_folder().join("runtime")).args([
        "delete",
        "--force",
        container.id().as_str(),
    ]);
    // After a start of the machine there is nothing to end, and a runtime says so.
    let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
}
