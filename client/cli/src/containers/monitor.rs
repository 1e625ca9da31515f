//! Starting monitors and asking them.

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cove_container::events::Event;
use cove_container::protocol::{Attach, Connection, MAX_CONTENT, Message, Stop};
use cove_container::{Container, ContainerId, Durability, State};
use cove_engine::user_namespace;
use cove_network::Networks;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::runtime::{ask_runtime, own_runtime};
use crate::context::Context;
use crate::error::Error;

/// A monitor that has not answered for so long is busy beyond reason, or hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// So often it is looked whether one that does not answer was stopped.
const LOOK: Duration = Duration::from_secs(2);

/// A monitor that waits for its container. Let go of, it ends.
pub struct Called(Connection);

impl Called {
    /// Calls it: it becomes what it is beside whoever makes the container.
    pub fn monitor(context: &Context, id: &ContainerId) -> Result<Self, Error> {
        let program = own_runtime()?;
        let places = context.places();
        let (ours, theirs) = Connection::pair().map_err(Error::Io)?;
        let mut command = Command::new(&program);
        command.arg("monitor");
        if user_namespace::is_own() {
            command.arg("--shared");
        }
        command.arg(&places.root).arg(&places.run).arg(id.as_str());
        spawn(&mut command, theirs).map_err(|source| Error::NoRuntime { path: program, source })?;
        Ok(Self(ours))
    }

    /// Has it start its container, which does not run. The caller holds that one's exclusive lock, and hears over the connection
    /// what becomes of it; what `attach` asks for is sent from the first byte on.
    pub fn begin(self, container: &Container, attach: Option<Attach>) -> Result<Connection, Error> {
        container.make_run_folder()?;
        self.0.send(&Message::Begin(attach)).map_err(cove_container::Error::Monitor)?;
        Ok(self.0)
    }
}

/// Calls a monitor for a container that does not run, and has it [begin](Called::begin).
pub fn start(context: &Context, container: &Container, attach: Option<Attach>) -> Result<Connection, Error> {
    Called::monitor(context, container.id())?.begin(container, attach)
}

/// It is not waited for: it leaves our session, and who ends first is the other's to see over the connection.
fn spawn(command: &mut Command, connection: OwnedFd) -> io::Result<()> {
    command.stdin(Stdio::from(connection)).stdout(Stdio::null()).stderr(Stdio::null()).spawn().map(drop)
}

/// Asks a container's monitor for something and waits until it is done. `false`: there is no monitor.
pub fn ask(container: &Container, message: &Message<'_>) -> Result<bool, Error> {
    let patience = match message {
        // It answers when the container has ended.
        Message::Stop(Stop { seconds: None, .. }) => None,
        Message::Stop(Stop { seconds: Some(seconds), .. }) => Some(PATIENCE + Duration::from_secs((*seconds).into())),
        _ => Some(PATIENCE),
    };
    ask_within(container, message, patience)
}

/// The same, for so long at most.
pub fn ask_within(container: &Container, message: &Message<'_>, patience: Option<Duration>) -> Result<bool, Error> {
    let Some(connection) = Connection::to(&container.socket()).map_err(Error::Io)? else { return Ok(false) };
    if connection.send(message).is_err() {
        return Ok(false);
    }
    let begun = Instant::now();
    let mut buffer = vec![0; MAX_CONTENT + 1];
    loop {
        match connection.receive_within(&mut buffer, LOOK) {
            Ok(Some(Message::Done | Message::Ended(_))) => return Ok(true),
            Ok(Some(Message::Refused(refusal))) => return Err(Error::Refused(refusal.text)),
            Ok(Some(_)) => {}
            // It has ended just now.
            Ok(None) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                let Some(monitor) = container.monitor() else { return Ok(false) };
                silent(container, monitor, patience.is_some_and(|patience| begun.elapsed() > patience))?;
            }
            Err(error) => return Err(cove_container::Error::Monitor(error).into()),
        }
    }
}

/// Waits until a monitor has something to say to us. One that stands still, or says nothing for long, is named.
pub fn hear_from(container: &Container, connection: &Connection) -> Result<(), Error> {
    let begun = Instant::now();
    loop {
        let mut files = [PollFd::new(connection, PollFlags::IN)];
        let look = Timespec { tv_sec: LOOK.as_secs().cast_signed(), tv_nsec: LOOK.subsec_nanos().into() };
        match poll(&mut files, Some(&look)) {
            Ok(0) => {}
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => continue,
            Err(error) => return Err(Error::Io(error.into())),
        }
        // Without one the connection comes to its end.
        let Some(monitor) = container.monitor() else { return Ok(()) };
        silent(container, monitor, begun.elapsed() > PATIENCE)?;
    }
}

/// Refuses to wait longer for a monitor that stands still, or is late.
fn silent(container: &Container, monitor: Pid, is_late: bool) -> Result<(), Error> {
    let why = match is_stopped(monitor) {
        true => "stands still (SIGSTOP)",
        false if is_late => "is busy or hangs",
        false => return Ok(()),
    };
    Err(Error::Silent { id: container.id().to_string(), monitor: monitor.as_raw_nonzero().get(), why })
}

/// Whether somebody has stopped a process, by a signal or a debugger.
fn is_stopped(process: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).unwrap_or_default();
    // The name before it may hold anything, but ends with the last parenthesis.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with(['T', 't']))
}

/// Ends a monitor that does not answer, and puts right what it leaves.
pub fn end_silent(context: &Context, container: &Container) -> Result<(), Error> {
    if let Some(monitor) = container.monitor()
        && let Ok(process) = pidfd_open(monitor, PidfdFlags::empty())
        // The number is still the monitor's: so the descriptor is.
        && container.monitor() == Some(monitor)
    {
        let _ = pidfd_send_signal(&process, Signal::KILL);
        let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], None);
    }
    put_right(context, container).map(drop)
}

/// A connection to a container's monitor. One that hears nobody any more is at its last acts: how they come out is waited
/// for, then there is none. The caller holds no lock of the container, for a monitor may need it for these acts.
pub fn connect(container: &Container) -> Result<Option<Connection>, Error> {
    loop {
        let connection = Connection::to(&container.socket()).map_err(Error::Io)?;
        if connection.is_some() || !container.has_monitor() {
            return Ok(connection);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The state of a container, after what a dead monitor has left was put right. One that goes with its end is gone then.
pub fn put_right(context: &Context, container: &Container) -> Result<State, Error> {
    let (state, is_lost) = container.state()?;
    if !is_lost {
        return Ok(state);
    }
    let lock = container.lock_exclusive()?;
    // Somebody else may have done it while we waited.
    let (state, is_lost) = container.state()?;
    if is_lost {
        end_leftovers(container);
        sweep_networks(context, None);
        release(context, container);
        if container.is_removed_at_end() {
            let (record, containers) = (container.record()?, context.containers());
            containers.remove(container)?;
            drop(lock);
            // As `rm -v`: what cannot be removed is for `volume prune`.
            let _ = context.volumes().remove_anonymous(&record, &containers);
            context.tell(&Event::of_container(&record, "destroy", &[]));
            return Err(cove_container::Error::NoSuchContainer(record.id.to_string()).into());
        }
        container.write_state(&state, Durability::Lasting)?;
    }
    Ok(state)
}

/// Takes addresses and ports back from containers without a monitor: from this one, or from all.
pub fn sweep_networks(context: &Context, only: Option<&Container>) {
    let places = context.places();
    let is_alive = |id: &str| match only {
        Some(container) => container.id().as_str() != id,
        None => {
            let other = ContainerId::try_from(id.to_owned()).ok().and_then(|id| context.containers().get(&id));
            other.is_some_and(|other| other.has_monitor())
        }
    };
    // What cannot be taken back now is taken when the network has no address left.
    let _ = Networks::of(&places.root, &places.run).sweep(&is_alive);
}

/// Takes away what its monitor would have: volumes with options that nobody else has, and the bridge of a store at another place.
fn release(context: &Context, container: &Container) {
    let Ok(record) = container.record() else { return };
    let containers = context.containers();
    // What is in use stays, and goes with its last user.
    let _ = context.volumes().release(&record.id, &record.mounts, &containers);
    let places = context.places();
    let networks = Networks::of(&places.root, &places.run);
    if !user_namespace::is_own() && networks.removes_unused() {
        let has_monitor = |id: &str| {
            let other = ContainerId::try_from(id.to_owned()).ok().and_then(|id| containers.get(&id));
            other.is_some_and(|other| other.has_monitor())
        };
        let _ = networks.remove_unused("bridge", &has_monitor);
    }
}

/// Ends what runs on without its monitor: nobody reads what it writes any more.
fn end_leftovers(container: &Container) {
    let Ok(record) = container.record() else { return };
    // After a start of the machine there is nothing to end, and a runtime says so.
    let _ = ask_runtime(container, &record, ["delete", "--force"]);
}
