//! Calls of an OCI runtime: ours, or the one that `--runtime` names.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use cove_container::config::HostConfig;
use cove_launcher::{Container, RootFolder};
use rustix::io::FdFlags;
use rustix::process::Pid;
use serde::Deserialize;

use crate::Error;
use crate::process::command;

/// A runtime with runc's command line, and the container that it is called for.
#[derive(Debug)]
pub(crate) struct Runtime {
    program: PathBuf,
    /// It is ours: what does not enter the container is done in this process.
    is_ours: bool,
    /// Where it keeps its own state.
    root: PathBuf,
    /// Bundle, log and number of the process.
    folder: PathBuf,
    /// Ours compiles a profile once for all containers of the store.
    seccomp_cache: PathBuf,
    id: String,
}

/// A line of a runtime's log as JSON.
#[derive(Deserialize)]
struct LogLine {
    level: String,
    msg: String,
}

/// The standard streams of the container's process.
pub(crate) struct Stdio3 {
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: Option<OwnedFd>,
    pub(crate) stderr: Option<OwnedFd>,
}

/// A runtime that was called to make the container, and makes it when it is told to. Ours has read and sealed itself by
/// then, beside us; others begin only then.
#[derive(Debug)]
pub(crate) enum Making {
    /// It waits for a byte; at the end of the pipe it ends.
    Called { process: Child, gate: OwnedFd },
    /// To be called.
    Command(Command),
}

impl Runtime {
    /// The one that a container asks for.
    pub(crate) fn new(host: &HostConfig, container: &cove_container::Container, run: &Path) -> Self {
        let is_ours = host.has_own_runtime();
        let program = if is_ours { PathBuf::from("/proc/self/exe") } else { PathBuf::from(&host.runtime) };
        let folder = container.run_folder();
        Self {
            program,
            is_ours,
            // A folder of its own: others list what is in `/run/runc`.
            root: folder.join("runtime"),
            folder: folder.to_owned(),
            seccomp_cache: run.join("seccomp"),
            id: container.id().as_str().to_owned(),
        }
    }

    /// The folder that holds `config.json`.
    pub(crate) fn bundle(&self) -> &Path {
        &self.folder
    }

    /// Calls the runtime to make the container. Nothing of it needs to be there yet but its streams.
    pub(crate) fn begin(&self, streams: Stdio3, console: Option<&Path>) -> Result<Making, Error> {
        let mut command = self.command("create");
        command.arg("--bundle").arg(&self.folder).arg("--pid-file").arg(self.pid_file());
        if let Some(console) = console {
            command.arg("--console-socket").arg(console);
        }
        command.stdin(stdio(streams.stdin)).stdout(stdio(streams.stdout)).stderr(stdio(streams.stderr));
        if !self.is_ours {
            command.arg(&self.id);
            return Ok(Making::Command(command));
        }
        let failed = || Error::system("make a pipe for the runtime");
        let (wait, gate) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(failed())?;
        command.arg("--gate").arg(wait.as_raw_fd().to_string()).arg(&self.id);
        // Nobody else is started meanwhile: this process has one thread.
        rustix::io::fcntl_setfd(&wait, FdFlags::empty()).map_err(failed())?;
        let process = self.spawn(&mut command)?;
        Ok(Making::Called { process, gate })
    }

    /// Has the container made; its first process waits to be started.
    pub(crate) fn create(&self, making: Making) -> Result<Pid, Error> {
        let mut process = match making {
            Making::Called { process, gate } => {
                // If it is gone it has said why.
                let _ = File::from(gate).write_all(b"!");
                process
            }
            // The container's streams are open in a command until it is dropped.
            Making::Command(mut command) => self.spawn(&mut command)?,
        };
        let status = process.wait().map_err(Error::system("wait for the runtime"))?;
        self.check(status)?;
        let text = std::fs::read_to_string(self.pid_file()).map_err(Error::system("read the number of the process"))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| Error::Runtime { text: format!("the runtime wrote the number {text:?}"), code: 125 })
    }

    /// Lets the first process go on.
    pub(crate) fn start(&self) -> Result<(), Error> {
        if self.is_ours { self.ours(|container| container.start()) } else { self.simple("start") }
    }

    pub(crate) fn pause(&self) -> Result<(), Error> {
        if self.is_ours { self.ours(|container| container.pause()) } else { self.simple("pause") }
    }

    pub(crate) fn resume(&self) -> Result<(), Error> {
        if self.is_ours { self.ours(|container| container.resume()) } else { self.simple("resume") }
    }

    /// Ends what is left and forgets the container.
    pub(crate) fn delete(&self) -> Result<(), Error> {
        if self.is_ours {
            return self.ours(|container| container.delete(true).map(drop));
        }
        let mut command = self.command("delete");
        command.arg("--force").arg(&self.id);
        self.call(command)
    }

    /// Makes a further process, which is described in this folder. The runtime is not waited for.
    pub(crate) fn exec(&self, folder: &Path, streams: Stdio3, console: Option<&Path>) -> Result<ExecCall, Error> {
        let (log, pid_file) = (folder.join("log"), folder.join("pid"));
        let _ = File::create(&log);
        let mut command = command(&self.program);
        if self.is_ours {
            // Its standard error is the process's.
            command.arg("--quiet").arg("--seccomp-cache").arg(&self.seccomp_cache);
        }
        command.arg("--root").arg(&self.root).arg("--log").arg(&log).args(["--log-format", "json", "exec", "--detach"]);
        command.arg("--process").arg(folder.join("process.json")).arg("--pid-file").arg(&pid_file);
        if let Some(console) = console {
            command.arg("--console-socket").arg(console);
        }
        command.arg(&self.id);
        command.stdin(stdio(streams.stdin)).stdout(stdio(streams.stdout)).stderr(stdio(streams.stderr));
        let child = command.spawn().map_err(|source| self.missing(source))?;
        let child = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let child = child.ok_or_else(|| Error::Runtime { text: "the runtime has no number".to_owned(), code: 126 })?;
        Ok(ExecCall { child, log, pid_file })
    }

    fn missing(&self, source: std::io::Error) -> Error {
        Error::NoRuntime { program: self.program.display().to_string(), source }
    }

    fn simple(&self, name: &str) -> Result<(), Error> {
        let mut command = self.command(name);
        command.arg(&self.id);
        self.call(command)
    }

    fn ours(&self, act: impl FnOnce(Container) -> Result<(), cove_launcher::Error>) -> Result<(), Error> {
        let found = Container::find(&RootFolder::at(self.root.clone()), &self.id);
        found.and_then(act).map_err(|error| failed(&error.to_string()))
    }

    fn log(&self) -> PathBuf {
        self.folder.join("runtime.log")
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("pid")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = command(&self.program);
        if self.is_ours {
            command.arg("--seccomp-cache").arg(&self.seccomp_cache);
        }
        command.arg("--root").arg(&self.root).arg("--log").arg(self.log()).args(["--log-format", "json", name]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn spawn(&self, command: &mut Command) -> Result<Child, Error> {
        let _ = File::create(self.log());
        command.spawn().map_err(|source| self.missing(source))
    }

    fn call(&self, mut command: Command) -> Result<(), Error> {
        let status = self.spawn(&mut command)?.wait().map_err(Error::system("wait for the runtime"))?;
        self.check(status)
    }

    /// Says why the runtime has failed.
    fn check(&self, status: ExitStatus) -> Result<(), Error> {
        if status.success() {
            return Ok(());
        }
        let text = said(&self.log());
        Err(failed(&text.unwrap_or_else(|| format!("the runtime ended ({status}) without saying why"))))
    }
}

fn failed(text: &str) -> Error {
    let text = format!("failed to create task for container: OCI runtime create failed: {text}");
    let code = exit_code(&text);
    Error::Runtime { text, code }
}

/// A call of `exec` that is under way.
pub(crate) struct ExecCall {
    child: Pid,
    log: PathBuf,
    pid_file: PathBuf,
}

impl ExecCall {
    /// The runtime's own process.
    pub(crate) fn child(&self) -> Pid {
        self.child
    }

    /// The runtime has ended with this status: the number of the process, or why there is none.
    pub(crate) fn finish(self, code: i32) -> Result<Pid, Error> {
        if code != 0 {
            let text = said(&self.log).unwrap_or_else(|| format!("the runtime ended with {code} without saying why"));
            let is_missing = text.contains("executable file not found") || text.contains("no such file or directory");
            let code = if is_missing { 127 } else { 126 };
            return Err(Error::Runtime { text: format!("OCI runtime exec failed: {text}"), code });
        }
        let text = std::fs::read_to_string(&self.pid_file).map_err(Error::system("read the number of the process"))?;
        let pid = text.trim().parse().ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| Error::Runtime { text: format!("the runtime wrote the number {text:?}"), code: 126 })
    }
}

/// Why a runtime has failed, by its log.
fn said(log: &Path) -> Option<String> {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let mut lines = log.lines().rev().filter_map(|line| serde_json::from_str::<LogLine>(line).ok());
    lines.find(|line| line.level == "error" || line.level == "fatal").map(|line| line.msg)
}

/// What docker makes of a runtime's words.
fn exit_code(text: &str) -> u8 {
    let says = |words: &str| text.contains(words);
    if says("executable file not found") || (says("exec") && says("no such file or directory")) {
        127
    } else if says("exec") && (says("permission denied") || says("is a directory")) {
        126
    } else {
        125
    }
}

fn stdio(file: Option<OwnedFd>) -> Stdio {
    file.map_or_else(Stdio::null, Stdio::from)
}
