//! The process that becomes the container's: what it does between the clone and `execve`.

use std::convert::Infallible;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use oci_spec::runtime::LinuxNamespaceType;
use rustix::process::DumpableBehavior;

use crate::cgroups::Entrance;
use crate::channel::{Channel, Message};
use crate::config::{Config, sysctl_path};
use crate::confine::Confinement;
use crate::console::Console;
use crate::error::{Failure, plain};
use crate::mounts::{Kind, Within};
use crate::namespaces::Namespaces;
use crate::proc::Proc;
use crate::rootfs::RootFs;
use crate::starter::{Started, Waiting};
use crate::state::{Record, State, Status};
use crate::{Error, fail_point, hooks, syscalls};

/// Everything that it needs, prepared by the process that makes it.
pub(crate) struct Init<'a> {
    pub(crate) config: &'a Config,
    /// The root file system, absolute.
    pub(crate) root: &'a Path,
    /// None where only a process in the container's own user namespace may open mounts.
    pub(crate) rootfs: Option<&'a RootFs>,
    pub(crate) no_pivot: bool,
    pub(crate) namespaces: &'a Namespaces,
    pub(crate) cgroups: Way<'a>,
    pub(crate) proc: &'a Proc,
    pub(crate) confinement: Confinement<'a>,
    pub(crate) console: Option<&'a UnixStream>,
    pub(crate) channel: &'a Channel,
    /// Where `start` comes; none if the one who makes it says so.
    pub(crate) waiting: Option<&'a Waiting>,
    pub(crate) preserved: u32,
    /// What hooks are told.
    pub(crate) record: &'a Record,
}

/// How the process gets into its cgroups.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way<'a> {
    /// They are open. `is_cloned_into`: the clone has put it into that of version 2.
    Open { entrance: &'a Entrance, is_cloned_into: bool },
    /// They are being made beside this process, which makes its namespaces and mounts meanwhile.
    Coming,
}

impl Init<'_> {
    /// Becomes the container's process, or ends.
    pub(crate) fn become_container(self) -> ! {
        let mut started = None;
        let Err(failure) = self.go(&mut started);
        match (started, failure) {
            // The container has been started and its program does not run: it says so where the program would have spoken, as
            // with runc. Its callers take a `start` that fails for a fault of the runtime.
            (Some(_), Failure::Program(text)) => {
                let _ = rustix::io::write(rustix::stdio::stderr(), format!("{text}\n").as_bytes());
            }
            (Some(mut starter), Failure::Step(text)) => Started::fail(&mut starter, &text),
            // Nobody hears it who is not there any more.
            (None, failure) => drop(self.channel.send(&Message::Failed(failure.into_text()))),
        }
        syscalls::end(1)
    }

    fn go(&self, started: &mut Option<Started>) -> Result<Infallible, Failure> {
        let config = self.config;
        if !self.namespaces.is_new(LinuxNamespaceType::User) {
            // Else the maps could not be written by an ordinary user.
            hide();
        }
        self.enter()?;
        fail_point("namespaces")?;
        if self.namespaces.is_new(LinuxNamespaceType::Network) {
            syscalls::loopback_up().map_err(Failure::at("error setting up the loopback device"))?;
        }
        let within = match self.rootfs {
            Some(rootfs) => self.root(config, rootfs)?,
            None => {
                let cgroups = &*self.record.cgroups;
                let prepared =
                    RootFs::prepare(config, self.root, Some(cgroups), self.no_pivot).map_err(|error| match error {
                        Error::Start(text) => Failure::Step(text),
                        error => Failure::init(error),
                    })?;
                self.root(config, &prepared)?
            }
        };
        fail_point("root")?;
        let ready = self.confinement.finish(self.proc, |file| self.say(&Message::Notifications(file)))?;
        drop(within);
        fail_point("confined")?;
        let listener = self.waiting.map(Waiting::as_fd);
        let keep: Vec<_> = [self.channel.as_fd()].into_iter().chain(listener).collect();
        // Hooks of the image may run beside this process, and others may come into its namespaces.
        let closed = syscalls::close_all_but(self.preserved.saturating_add(3), &keep);
        closed.map_err(Failure::at("close descriptors"))?;
        self.say(&Message::Ready)?;
        self.wait()?;
        if let Some(waiting) = self.waiting {
            *started = Some(waiting.wait().map_err(Failure::at("error waiting for start"))?);
        }
        if let Some(hooks) = &config.hooks {
            hooks::call(hooks.start_container().as_ref(), &self.state(Status::Created)).map_err(Failure::init)?;
        }
        Err(ready.execute(self.preserved))
    }

    /// Into the container's namespaces and cgroup.
    fn enter(&self) -> Result<(), Failure> {
        let joins_user = self.namespaces.joined(LinuxNamespaceType::User).is_some();
        if joins_user || self.namespaces.is_new(LinuxNamespaceType::User) {
            // Until the maps are there this process is nobody; or its maker does not know it yet.
            self.wait()?;
        }
        if self.namespaces.is_new(LinuxNamespaceType::User) {
            become_root(self.namespaces.joined(LinuxNamespaceType::Pid).is_none())?;
        }
        if let Way::Open { entrance, is_cloned_into } = self.cgroups {
            join(entrance, is_cloned_into)?;
        }
        self.namespaces.join()?;
        rustix::process::setsid().map(drop).map_err(Failure::at("error making a session"))?;
        // What is made from here on has the mode that is asked for.
        rustix::process::umask(rustix::fs::Mode::empty());
        match self.cgroups {
            Way::Open { .. } => self.begin(),
            Way::Coming => self.namespaces.make_network(),
        }
    }

    /// Joins the cgroups that have been made meanwhile.
    fn join_late(&self) -> Result<(), Failure> {
        if matches!(self.cgroups, Way::Open { .. }) {
            return Ok(());
        }
        self.wait()?;
        let entrance = self.record.cgroups.entrance();
        join(&entrance.map_err(|error| Failure::Step(Error::from(error).to_string()))?, false)?;
        self.begin()
    }

    /// In its cgroups: the namespaces that depend on them, and what confines it from now on.
    fn begin(&self) -> Result<(), Failure> {
        self.namespaces.make_rest(self.config, self.proc)?;
        self.confinement.begin(self.proc)?;
        hide();
        fail_point("limits")
    }

    /// Makes the root, calls the hooks that want to see it from outside, and goes in.
    fn root(&self, config: &Config, rootfs: &RootFs) -> Result<Within, Failure> {
        let has_own_mounts = self.namespaces.has_own_mounts();
        let within = if has_own_mounts {
            rootfs.build(config, self.root, &self.record.cgroups, || self.join_late())?
        } else {
            rootfs.as_it_is()?
        };
        fail_point("mounts")?;
        let process = self.confinement.process;
        let console = self.console.map(|caller| Console::make(&within, process, caller)).transpose()?;
        if let Some(console) = console.as_ref().filter(|_| has_own_mounts) {
            console.mount(&within)?;
        }
        if let Some(hooks) = &config.hooks {
            self.say(&Message::Mounted)?;
            self.wait()?;
            let state = self.state(Status::Creating);
            hooks::call(hooks.create_container().as_ref(), &state).map_err(Failure::init)?;
        }
        if has_own_mounts {
            rootfs.enter(&within)?;
        } else {
            rootfs.change_to(&within)?;
        }
        if let Some(console) = console {
            console.take(process)?;
        }
        self.name()?;
        for (key, value) in config.linux.sysctl().iter().flatten() {
            let path = format!("sys/{}", sysctl_path(key).map_err(Failure::init)?);
            self.proc.write(&path, value.as_bytes()).map_err(|error| {
                let error = plain(&error);
                Failure::init(format_args!("error setting sysctl {key}={value:?}: open /proc/{path}: {error}"))
            })?;
        }
        let cwd = &process.cwd;
        let made = within.open_or_make(cwd, Kind::Folder);
        made.map_err(Failure::at(format_args!("error making the working folder {}", cwd.display())))?;
        if has_own_mounts {
            rootfs.restrict(config, &within)?;
        }
        Ok(within)
    }

    /// What hooks that this process calls are told: its number is the one that it knows.
    fn state(&self, status: Status) -> State<'_> {
        State { pid: rustix::process::getpid().as_raw_nonzero().get(), ..self.record.state(status) }
    }

    fn name(&self) -> Result<(), Failure> {
        let (host, domain) = (&self.config.hostname, &self.config.domainname);
        if !host.is_empty() {
            rustix::system::sethostname(host.as_bytes()).map_err(Failure::at("sethostname"))?;
        }
        if !domain.is_empty() {
            rustix::system::setdomainname(domain.as_bytes()).map_err(Failure::at("setdomainname"))?;
        }
        Ok(())
    }

    fn say(&self, message: &Message) -> Result<(), Failure> {
        self.channel.send(message).map_err(Failure::at("the process that makes the container is gone"))
    }

    fn wait(&self) -> Result<(), Failure> {
        wait(self.channel)
    }
}

fn join(entrance: &Entrance, is_cloned_into: bool) -> Result<(), Failure> {
    let entered = entrance.enter(is_cloned_into);
    entered.map_err(|error| Failure::Step(format!("unable to apply cgroup configuration: {error}")))
}

/// Waits to be told to go on.
pub(crate) fn wait(channel: &Channel) -> Result<(), Failure> {
    match channel.receive() {
        Ok(Some(Message::Go)) => Ok(()),
        Ok(_) => Err(Failure::init("the process that makes the container is gone")),
        Err(error) => Err(Failure::at("error waiting for the process that makes the container")(error)),
    }
}

/// In a new user namespace: takes the ids that stand for its root. `is_alone`: no process of a container is in its process
/// namespace yet.
pub(crate) fn become_root(is_alone: bool) -> Result<(), Failure> {
    let become_root = || -> io::Result<()> {
        use rustix::process::{Gid, Uid};
        rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT)?;
        rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT)?;
        // Changing ids has made its files in /proc those of the host's root, which it is not. Where nobody else can see it,
        // and nowhere else, they may be its own: who can open them can look into it.
        let behavior = if is_alone { DumpableBehavior::Dumpable } else { DumpableBehavior::NotDumpable };
        rustix::process::set_dumpable_behavior(behavior)?;
        Ok(())
    };
    become_root().map_err(|error| {
        let advice = "The user namespace must map its ids 0.";
        Failure::init(format_args!("error becoming root of the user namespace: {}\n{advice}", plain(&error)))
    })
}

/// Nobody in a container may look into a process that still has something of the host's (CVE-2016-9962).
pub(crate) fn hide() {
    // There is no reason for which this could fail.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
