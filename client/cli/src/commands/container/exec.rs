//! `cove exec`: a further process in a container that runs. The container's monitor has it made and stays with it, so that it
//! goes on when this command leaves it or is killed.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::Path;

use cove_container::protocol::{self, Attach, Message, exec_words};
use cove_container::spec::{Further, further_process};
use cove_container::{Container, ContainerId, Status};
use rustix::fs::{Mode, OFlags};

use super::run::finished;
use crate::arguments::Exec;
use crate::containers::{DetachKeys, Outcome, Session, connect, hear_from};
use crate::context::Context;
use crate::error::Error;
use crate::options;

/// Runs a command in a container.
pub fn run(context: &Context, arguments: &Exec) -> Result<(), Error> {
    let (name, command) = arguments.words.split_first().ok_or(Error::Options("a container is needed"))?;
    let keys = arguments.detach_keys.as_deref().filter(|keys| !keys.is_empty());
    let detach_keys = keys.map_or_else(|| Ok(DetachKeys::default()), DetachKeys::parse)?;
    if arguments.tty && arguments.interactive && !arguments.detach && !std::io::stdin().is_terminal() {
        return Err(Error::Options("the input device is not a TTY"));
    }
    let container = super::find(context, name)?;
    let state = container.state()?.0;
    let pid = match (state.status, state.pid) {
        (Status::Running, Some(pid)) => pid,
        (Status::Paused, _) => {
            let text = format!("Container {name} is paused, unpause the container before exec");
            return Err(Error::Refused(text));
        }
        (Status::Restarting, _) => {
            let text = format!("Container {name} is restarting, wait until the container is running");
            return Err(Error::Refused(text));
        }
        _ => return Err(not_running(&container)),
    };
    let id = ContainerId::random().map_err(Error::Io)?;
    describe(&container, &id, arguments, command, pid)?;
    let attach = Attach { stdin: arguments.interactive, stdout: true, stderr: true, lossless: true, size: None };
    let session = Session {
        attach: Session::wanted(attach, arguments.tty),
        terminal: arguments.tty,
        sig_proxy: false,
        detach_keys,
        detached: arguments.detach,
    };
    let asked = protocol::Exec {
        id: id.to_string(),
        words: exec_words(command),
        terminal: arguments.tty,
        attach: (!arguments.detach).then_some(session.attach),
    };
    let outcome = match connect(&container)? {
        Some(connection) if connection.send(&Message::Exec(asked)).is_ok() => {
            hear_from(&container, &connection)?;
            session.run(&connection, || {})?
        }
        _ => return Err(not_running(&container)),
    };
    match outcome {
        Outcome::Refused { text, code: 1 } => Err(Error::Refused(text)),
        Outcome::Refused { text, code } if arguments.detach => {
            Err(Error::Ended { text: format!("Error response from daemon: {text}"), status: code })
        }
        Outcome::Refused { text, code } => Err(Error::Ended { text, status: code }),
        outcome => finished(outcome),
    }
}

fn not_running(container: &Container) -> Error {
    Error::Refused(format!("container {} is not running", container.id()))
}

/// Writes down for the runtime what is to run.
fn describe(
    container: &Container,
    id: &ContainerId,
    arguments: &Exec,
    command: &[String],
    pid: i32,
) -> Result<(), Error> {
    let root = Path::new("/proc").join(pid.to_string()).join("root");
    let root = rustix::fs::open(&root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    // It has ended since.
    let root = root.map_err(|_| not_running(container))?;
    let further = Further {
        command: command.to_vec(),
        environment: options::environment_lines(&arguments.env_file, &arguments.env)?,
        link_environment: container.link_environment(),
        user: arguments.user.clone(),
        folder: arguments.workdir.clone(),
        terminal: arguments.tty,
        privileged: arguments.privileged,
    };
    let process = further_process(&container.record()?, root.as_fd(), &further)?;
    Ok(container.describe_exec(id.as_str(), &process)?)
}
