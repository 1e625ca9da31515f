//! `exec`: one more process in a container that runs. It joins what the container's first process is in, and is confined
//! by the same function (`confine`).

use std::convert::Infallible;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use oci_spec::runtime::LinuxNamespaceType;
use rustix::process::{Pid, Signal, WaitOptions};
use rustix::thread::ThreadNameSpaceType;

use crate::between::clone_through;
use crate::capabilities::Sets;
use crate::cgroups::{Below, Entrance};
use crate::channel::{Channel, Message};
use crate::config::Process;
use crate::confine::{Confinement, Limits};
use crate::console::{Console, ConsoleSocket, PIDFD, pidfd_socket, send};
use crate::container::Container;
use crate::create::filter_of;
use crate::error::Failure;
use crate::init::{become_root, hide, wait};
use crate::mounts::Within;
use crate::proc::Proc;
use crate::seccomp::Filter;
use crate::state::{Record, RootFolder, Status, replace};
use crate::syscalls::{self, Clone, clone};
use crate::{Error, notify};

/// What `exec` is told.
#[derive(Debug)]
pub struct ExecOptions {
    /// What runs.
    pub process: Process,
    /// Where the other end of the terminal is sent to.
    pub console_socket: Option<ConsoleSocket>,
    /// Where the number of the process is written.
    pub pid_file: Option<PathBuf>,
    /// Join even if the container is paused; the process then waits until it is resumed.
    pub ignore_paused: bool,
    /// How many descriptors after the standard ones the process gets.
    pub preserve_fds: u32,
    /// Cgroups below the container's own that it joins instead.
    pub cgroups: Vec<Below>,
    /// Who listens here gets a descriptor of the process.
    pub pidfd_socket: Option<PathBuf>,
}

/// A process that was added.
#[derive(Debug)]
pub struct Added {
    /// Its number.
    pub pid: Pid,
    /// A descriptor of it.
    pub process: OwnedFd,
    /// What was asked for and not done, and why.
    pub warnings: Vec<String>,
}

/// What the new process needs.
struct Joining<'a> {
    record: &'a Record,
    init: &'a OwnedFd,
    /// The container's root, where its mounts are this process' own.
    root: Option<OwnedFd>,
    entrance: &'a Entrance,
    is_cloned_into: bool,
    proc: &'a Proc,
    confinement: Confinement<'a>,
    console: Option<&'a UnixStream>,
    channel: &'a Channel,
    preserved: u32,
}

/// Adds a process to a container.
pub fn exec(root: &RootFolder, container: &Container, options: &ExecOptions) -> Result<Added, Error> {
    let process = &options.process;
    process.check()?;
    match container.status()? {
        Status::Stopped => return Err(Error::ExecStopped),
        Status::Paused if !options.ignore_paused => return Err(Error::ExecPaused),
        // What is known as its process is the one that makes it, on the host.
        Status::Creating => return Err(Error::ExecCreating),
        _ => {}
    }
    if process.terminal != options.console_socket.is_some() {
        let text = "a process with a terminal needs a console socket, and no other has one";
        return Err(Error::Config(text.to_owned()));
    }
    let record = container.record();
    let init = record.init.open().ok_or(Error::ExecStopped)?;
    let filter = filter_of(root, record)?;
    let in_user_namespace = joins(record, LinuxNamespaceType::User);
    let (capabilities, warnings) = Sets::plan(process.capabilities.as_ref(), in_user_namespace);
    let entrance = match &options.cgroups[..] {
        [] => record.cgroups.entrance()?,
        below => record.cgroups.entrance_below(below)?,
    };
    let proc = Proc::open().map_err(Error::system("open /proc"))?;
    let root = if joins(record, LinuxNamespaceType::Mount) { None } else { Some(root_of(record, &proc)?) };
    let console = options.console_socket.as_ref().map(ConsoleSocket::connect);
    let console = console.transpose()?;
    let pidfd_socket = options.pidfd_socket.as_deref().map(pidfd_socket).transpose()?;
    let (ours, theirs) = Channel::pair().map_err(Error::system("make a socket"))?;
    let joining = Joining {
        record,
        init: &init,
        root,
        entrance: &entrance,
        is_cloned_into: false,
        proc: &proc,
        confinement: Confinement {
            process,
            capabilities,
            filter: filter.as_ref(),
            personality: record.personality.as_ref(),
            keyring: record.new_keyring.then_some(record.id.as_str()),
            // In a user namespace they are inherited from a process that has the caller's rights.
            limits: if in_user_namespace { Limits::Early } else { Limits::Late },
        },
        console: console.as_ref(),
        channel: &theirs,
        preserved: options.preserve_fds,
    };
    let (pid, handle) = clone_into(joining, &ours)?;
    drop(theirs);
    // Where nothing of ours must come before the program, it does not wait for us: that would cost it a wake-up.
    let goes_on = options.pid_file.is_none() && !filter.as_ref().is_some_and(Filter::notifies);
    if let Some(socket) = &pidfd_socket {
        send(socket, PIDFD, &[handle.as_fd()]).map_err(Error::system("pass on a descriptor of the process"))?;
    }
    let told = if goes_on { ours.let_go_on().map_err(Error::system("reach the process")) } else { Ok(()) };
    let added = told.and_then(|()| accompany(&ours, container, options, pid, goes_on));
    if let Err(error) = added {
        let _ = rustix::process::pidfd_send_signal(&handle, Signal::KILL);
        let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        return Err(error);
    }
    Ok(Added { pid, process: handle, warnings })
}

/// Whether the container's namespace of a kind is another than this process'.
fn joins(record: &Record, kind: LinuxNamespaceType) -> bool {
    let Some(pid) = record.init.pid() else { return false };
    let of = |who: &str| rustix::fs::stat(format!("/proc/{who}/ns/{kind}")).map(|found| (found.st_dev, found.st_ino));
    match (of("self"), of(&pid.as_raw_nonzero().to_string())) {
        (Ok(own), Ok(other)) => own != other,
        _ => record.namespaces & kind as u64 != 0,
    }
}

/// The root of the container's first process.
fn root_of(record: &Record, proc: &Proc) -> Result<OwnedFd, Error> {
    let number = record.init.pid().ok_or(Error::ExecStopped)?.as_raw_nonzero().to_string();
    let root = proc.link(&number, "root").map_err(Error::system("open the container's root"))?;
    // The number was still its own.
    if record.init.runs() { Ok(root) } else { Err(Error::ExecStopped) }
}

/// All that are another than this process'.
fn all_joined(record: &Record) -> ThreadNameSpaceType {
    let kinds = [
        LinuxNamespaceType::User,
        LinuxNamespaceType::Mount,
        LinuxNamespaceType::Pid,
        LinuxNamespaceType::Network,
        LinuxNamespaceType::Ipc,
        LinuxNamespaceType::Uts,
        LinuxNamespaceType::Cgroup,
        LinuxNamespaceType::Time,
    ];
    let bits = kinds.into_iter().filter(|kind| joins(record, *kind)).fold(0, |all, kind| all | kind as u32);
    ThreadNameSpaceType::from_bits_retain(bits)
}

/// Clones the new process: a child of this one in the container's process namespace.
fn clone_into(joining: Joining<'_>, channel: &Channel) -> Result<(Pid, OwnedFd), Error> {
    let all = all_joined(joining.record);
    let cloned = Error::system("error making the process");
    let processes = ThreadNameSpaceType::PROCESS_ID;
    if all.contains(ThreadNameSpaceType::USER) {
        return match clone_through(channel, joining.channel, 0, || joining.enter(all))? {
            Clone::Parent(pid, process) => {
                channel.let_go_on().map_err(Error::system("reach the process"))?;
                Ok((pid, process))
            }
            Clone::Child => joining.become_process(None),
        };
    }
    // From its first moment the new process is among those of the container.
    hide();
    if all.contains(processes) {
        // Only children of this process are in it.
        let joined = rustix::thread::move_into_thread_name_spaces(joining.init.as_fd(), processes);
        joined.map_err(Error::system("error joining the pid namespace"))?;
    }
    // On version 2 this is the quick way in; not into a cgroup that takes no processes.
    let (result, is_cloned_into) = match joining.entrance.folder_v2().map(|folder| clone(0, Some(folder))) {
        Some(Ok(cloned)) => (Ok(cloned), true),
        _ => (clone(0, None), false),
    };
    match result.map_err(cloned)? {
        Clone::Parent(pid, process) => Ok((pid, process)),
        Clone::Child => Joining { is_cloned_into, ..joining }.become_process(Some(all - processes)),
    }
}

impl Joining<'_> {
    /// Into all that the process shall be in. The host's rights are needed for its cgroups.
    fn enter(&self, join: ThreadNameSpaceType) -> Result<(), Failure> {
        self.enter_cgroup()?;
        self.confinement.begin(self.proc)?;
        hide();
        if join.is_empty() {
            return Ok(());
        }
        let joined = rustix::thread::move_into_thread_name_spaces(self.init.as_fd(), join);
        joined.map_err(Failure::at("error joining the container's namespaces"))
    }

    /// Becomes the process, or ends. `join` is what is still to be joined.
    fn become_process(self, join: Option<ThreadNameSpaceType>) -> ! {
        let Err(failure) = self.go(join);
        let _ = self.channel.send(&Message::Failed(failure.into_text()));
        syscalls::end(1)
    }

    fn enter_cgroup(&self) -> Result<(), Failure> {
        let failed =
            |error: &dyn std::fmt::Display| Failure::Step(format!("unable to apply cgroup configuration: {error}"));
        match self.entrance.enter(self.is_cloned_into) {
            // A container that has shared out its controllers has no processes in its outermost cgroup.
            Err(error) if error.source().raw_os_error() == Some(libc::EBUSY) => {
                let init = self.record.init.pid().ok_or_else(|| failed(&error))?;
                let beside = self.record.cgroups.entrance_beside(init).map_err(|error| failed(&error))?;
                beside.enter(false).map_err(|error| failed(&error))
            }
            entered => entered.map_err(|error| failed(&error)),
        }
    }

    fn go(&self, join: Option<ThreadNameSpaceType>) -> Result<Infallible, Failure> {
        if let Some(join) = join {
            self.enter(join)?;
        } else {
            // Not before the process between has told who it is.
            wait(self.channel)?;
            become_root(false)?;
        }
        rustix::process::setsid().map(drop).map_err(Failure::at("error making a session"))?;
        if let Some(root) = &self.root {
            rustix::process::fchdir(root).map_err(Failure::at("error entering the rootfs"))?;
            rustix::process::chroot(c".").map_err(Failure::at("error changing the root"))?;
        }
        let process = self.confinement.process;
        if let Some(caller) = self.console {
            let within = Within::own().map_err(Failure::at("error opening /"))?;
            Console::make(&within, process, caller)?.take(process)?;
        }
        let say = |message: &Message| {
            self.channel.send(message).map_err(Failure::at("the process that adds this one is gone"))
        };
        let ready = self.confinement.finish(self.proc, |file| say(&Message::Notifications(file)))?;
        let keep = [self.channel.as_fd()];
        syscalls::close_all_but(self.preserved.saturating_add(3), &keep).map_err(Failure::at("close descriptors"))?;
        say(&Message::Ready)?;
        wait(self.channel)?;
        Err(ready.execute(self.preserved))
    }
}

/// Does what the new process asks for, until the program has taken over. `goes_on`: it has been told already that it may.
fn accompany(
    channel: &Channel,
    container: &Container,
    options: &ExecOptions,
    pid: Pid,
    goes_on: bool,
) -> Result<(), Error> {
    let mut ready = false;
    loop {
        let message = channel.receive().map_err(Error::system("hear of the process"))?;
        match message {
            Some(Message::Notifications(file)) => {
                let record = container.record();
                notify::pass_on_for(
                    &file,
                    record.seccomp.as_deref().map(serde_json::value::RawValue::get),
                    record,
                    pid.as_raw_nonzero().get(),
                )?;
            }
            Some(Message::Ready) => {
                // Before it runs, so that nobody sees it run without.
                if let Some(path) = &options.pid_file {
                    replace(path, pid.as_raw_nonzero().to_string().as_bytes())?;
                }
                if !goes_on {
                    channel.send(&Message::Go).map_err(Error::system("reach the process"))?;
                }
                ready = true;
            }
            Some(Message::Failed(text)) => return Err(Error::Start(text)),
            Some(_) => return Err(Error::Start("it says what it cannot say".to_owned())),
            // Its end has closed: `execve` was successful.
            None if ready => return Ok(()),
            None => return Err(Error::Start("the process died before it was ready".to_owned())),
        }
    }
}
