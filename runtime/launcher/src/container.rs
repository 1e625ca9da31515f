//! A container that exists: one function for each thing that can be done with it.

use std::time::{Duration, Instant};

use oci_spec::runtime::LinuxResources;
use rustix::process::{Pid, Signal};

use crate::cgroups::Stats;
use crate::state::{Folder, Record, RootFolder, State, Status};
use crate::{Error, hooks, starter};

/// A container that exists.
#[derive(Debug)]
pub struct Container {
    folder: Folder,
    record: Record,
}

/// How long `delete --force` waits for what it has killed.
const DEATH: Duration = Duration::from_secs(10);

impl Container {
    /// The container of this name.
    pub fn find(root: &RootFolder, id: &str) -> Result<Self, Error> {
        let folder = root.folder(id)?;
        let record = folder.read()?;
        Ok(Self { folder, record })
    }

    /// All containers, by name.
    pub fn all(root: &RootFolder) -> Result<Vec<Self>, Error> {
        Ok(root.containers()?.into_iter().map(|(folder, record)| Self { folder, record }).collect())
    }

    /// What is remembered of it.
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// What it does now.
    pub fn status(&self) -> Result<Status, Error> {
        self.folder.status(&self.record)
    }

    /// What the specification calls its state.
    pub fn state(&self) -> Result<State<'_>, Error> {
        Ok(self.record.state(self.status()?))
    }

    /// Lets its process run.
    pub fn start(&self) -> Result<(), Error> {
        match self.status()? {
            Status::Stopped => return Err(Error::StartStopped),
            Status::Created => {}
            _ => return Err(Error::StartRunning),
        }
        starter::start(&self.folder)?;
        self.record.after_start()
    }

    /// Sends a signal to its process, or to all of them. Those that share the host's processes die together: nobody else
    /// would end them.
    pub fn kill(&self, signal: Signal, all: bool) -> Result<(), Error> {
        let shares_processes = self.record.own_namespaces & libc::CLONE_NEWPID as u64 == 0;
        if all || shares_processes && signal == Signal::KILL {
            if self.status()? == Status::Stopped && !shares_processes {
                return Err(Error::NotRunning);
            }
            let known = self.record.cgroups.processes()?;
            self.record.cgroups.kill(signal.as_raw())?;
            // Where there are no cgroups to tell who belongs to it. Nobody gets a signal twice.
            let init = self.record.init.pid().filter(|pid| !known.contains(pid));
            if let Some(process) = init.and_then(|_| self.record.init.open()) {
                let _ = rustix::process::pidfd_send_signal(&process, signal);
            }
            return Ok(());
        }
        let process = self.record.init.open().ok_or(Error::NotRunning)?;
        match rustix::process::pidfd_send_signal(&process, signal) {
            Err(rustix::io::Errno::SRCH) => return Err(Error::NotRunning),
            sent => sent.map_err(Error::system("signal the container's process"))?,
        }
        // A frozen process dies only when it thaws.
        if signal == Signal::KILL && self.record.cgroups.is_frozen()? {
            self.record.cgroups.thaw()?;
        }
        Ok(())
    }

    /// Removes everything of it. What runs is killed first if that is asked for; what waits for `start` always. Which hooks
    /// have failed: the container is gone all the same (runtime-spec, runtime.md, "Lifecycle" 13).
    pub fn delete(self, force: bool) -> Result<Vec<String>, Error> {
        let status = self.status()?;
        match status {
            Status::Stopped => {}
            Status::Created => self.end()?,
            _ if force => self.end()?,
            _ => return Err(Error::DeleteRunning { id: self.record.id, status }),
        }
        if self.record.creating || self.record.own_namespaces & libc::CLONE_NEWPID as u64 == 0 {
            // Its process has ended, but others of it may run on; or it was never heard of.
            self.record.cgroups.kill(Signal::KILL.as_raw())?;
        }
        self.record.cgroups.delete()?;
        self.folder.remove()?;
        let after = self.record.hooks.as_ref().and_then(|hooks| hooks.poststop().as_ref());
        Ok(hooks::call_all(after, &self.record.state(Status::Stopped)))
    }

    /// Kills it, and waits until it is dead.
    fn end(&self) -> Result<(), Error> {
        match self.kill(Signal::KILL, true) {
            Err(Error::NotRunning) => return Ok(()),
            killed => killed?,
        }
        if self.record.cgroups.is_frozen()? {
            self.record.cgroups.thaw()?;
        }
        let end = Instant::now() + DEATH;
        let mut pause = Duration::from_micros(100);
        while self.record.init.runs() {
            if Instant::now() > end {
                let text = format!("the container's process does not end within {} s of SIGKILL", DEATH.as_secs());
                return Err(Error::Config(text));
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Freezes its processes.
    pub fn pause(&self) -> Result<(), Error> {
        match self.status()? {
            Status::Running | Status::Created => Ok(self.record.cgroups.freeze()?),
            status => Err(Error::PauseStopped(status)),
        }
    }

    /// Lets frozen processes go on.
    pub fn resume(&self) -> Result<(), Error> {
        if self.status()? != Status::Paused {
            return Err(Error::NotPaused);
        }
        Ok(self.record.cgroups.thaw()?)
    }

    /// Its processes.
    pub fn processes(&self) -> Result<Vec<Pid>, Error> {
        if self.record.cgroups.are_none() {
            return Ok(self.processes_of_namespace());
        }
        Ok(self.record.cgroups.processes()?)
    }

    /// Its processes where it has no cgroup: those in its process namespace. In somebody else's only its own is known.
    fn processes_of_namespace(&self) -> Vec<Pid> {
        let Some(init) = self.record.init.pid().filter(|_| self.record.init.runs()) else { return Vec::new() };
        if self.record.own_namespaces & libc::CLONE_NEWPID as u64 == 0 {
            return vec![init];
        }
        let namespace = |pid: Pid| std::fs::read_link(format!("/proc/{}/ns/pid", pid.as_raw_nonzero())).ok();
        let own = namespace(init);
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?));
        pids.filter(|pid| own.is_some() && namespace(*pid) == own).collect()
    }

    /// Sets other limits.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        if self.status()? == Status::Stopped {
            return Err(Error::NotRunning);
        }
        self.record.cgroups.update(resources)?;
        Ok(())
    }

    /// What it uses.
    pub fn stats(&self) -> Result<Stats, Error> {
        if self.status()? == Status::Stopped {
            return Err(Error::NotRunning);
        }
        Ok(self.record.cgroups.stats()?)
    }
}

impl Record {
    /// Calls the hooks that come after the start. One that fails ends the container: it may have been needed.
    pub(crate) fn after_start(&self) -> Result<(), Error> {
        let after = self.hooks.as_ref().and_then(|hooks| hooks.poststart().as_ref());
        hooks::call(after, &self.state(Status::Running)).map_err(|error| {
            if let Some(process) = self.init.open() {
                let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
            }
            Error::Hook(error)
        })
    }
}
