//! `cove exec`: a further process in a container that runs. The runtime makes it; no monitor has a part in it.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cove_container::check::{bounding_set, granted_capabilities, security};
use cove_container::events::Event;
use cove_container::spec::{Capabilities, Process, Rlimit, environment, identity};
use cove_container::{Container, ContainerId, Record, Status};
use rustix::fs::{MemfdFlags, Mode, OFlags};
use serde::Deserialize;

use crate::arguments::Exec;
use crate::containers::link_environment;
use crate::containers::{is_ours, runtime_of};
use crate::context::Context;
use crate::error::Error;
use crate::options;

/// Docker's status for a command that is not there, and for one that may not be run.
const NOT_FOUND: u8 = 127;
const NOT_ALLOWED: u8 = 126;

/// Runs a command in a container.
pub fn run(context: &Context, arguments: &Exec) -> Result<(), Error> {
    let (name, command) = arguments.words.split_first().ok_or(Error::Options("a container is needed"))?;
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
        _ => return Err(Error::Refused(format!("container {} is not running", container.id()))),
    };
    let record = container.record()?;
    let process = process(arguments, command, &record, pid, &link_environment(&container, &record))?;
    // Docker's words are one text: the program, a space, its arguments.
    let (program, rest) = command.split_first().map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    let words = format!("{program} {}", rest.join(" "));
    let id = ContainerId::random().map_err(Error::Io)?;
    let tell = |action: &str, more: &[(&str, &str)]| {
        let more = [&[("execID", id.as_str())], more].concat();
        context.tell(&Event::of_container(&record, action, &more));
    };
    tell(&format!("exec_create: {words}"), &[]);
    tell(&format!("exec_start: {words}"), &[]);
    let ended = call(&container, &record, arguments, &process);
    // Of one in the background nobody sees the end.
    if !arguments.detach {
        let status = ended.as_ref().map_or_else(Error::status, |()| 0);
        tell("exec_die", &[("exitCode", &status.to_string())]);
    }
    ended
}

fn process(
    arguments: &Exec,
    command: &[String],
    record: &Record,
    pid: i32,
    links: &[String],
) -> Result<Process, Error> {
    let (config, host) = (&record.config, &record.host_config);
    let root = Path::new("/proc").join(pid.to_string()).join("root");
    let root = rustix::fs::open(&root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
    let root = root.map_err(|error| Error::Io(error.into()))?;
    let user = arguments.user.as_deref().unwrap_or(&config.user);
    let identity = identity(root.as_fd(), user, &host.group_add)?;
    let mut own = config.clone();
    own.tty = arguments.tty;
    own.env.extend(options::environment_lines(&arguments.env_file, &arguments.env)?);
    let all = bounding_set();
    let granted = match arguments.privileged {
        true => granted_capabilities(&cove_container::config::HostConfig { privileged: true, ..host.clone() }, &all),
        false => granted_capabilities(host, &all),
    };
    let active = if identity.uid == 0 { granted.clone() } else { Vec::new() };
    let rlimit = |ulimit: &cove_container::config::Ulimit| Rlimit {
        kind: format!("RLIMIT_{}", ulimit.name.to_ascii_uppercase()),
        hard: ulimit.hard.cast_unsigned(),
        soft: ulimit.soft.cast_unsigned(),
    };
    let security = security(&host.security_opt).map_err(options::OptionError::from)?;
    let mut runs_as = oci_spec::runtime::User::default();
    runs_as.set_uid(identity.uid);
    runs_as.set_gid(identity.gid);
    runs_as.set_additional_gids(Some(identity.additional_gids));
    let folder = arguments.workdir.as_deref().unwrap_or(&config.working_dir);
    Ok(Process {
        terminal: arguments.tty,
        user: runs_as,
        args: command.to_vec(),
        env: environment(&own, links),
        cwd: if folder.is_empty() { "/".to_owned() } else { folder.to_owned() },
        capabilities: Capabilities { bounding: granted, effective: active.clone(), permitted: active },
        rlimits: host.ulimits.iter().map(rlimit).collect(),
        no_new_privileges: security.no_new_privileges,
        apparmor_profile: security.apparmor.filter(|profile| profile != "unconfined" && !host.privileged),
        oom_score_adj: host.oom_score_adj,
    })
}

fn call(container: &Container, record: &Record, arguments: &Exec, process: &Process) -> Result<(), Error> {
    // Both live as long as we do: nothing is left of them however we end.
    let mut described = memory_file(c"process")?;
    described.write_all(&serde_json::to_vec(process).map_err(std::io::Error::from)?)?;
    let mut log = memory_file(c"log")?;
    let path = |file: &File| format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let runtime = runtime_of(&record.host_config.runtime)?;
    let mut command = Command::new(&runtime);
    if is_ours(&record.host_config.runtime) {
        command.arg("--quiet");
    }
    command.arg("--root").arg(container.run_folder().join("runtime"));
    command.arg("--log").arg(path(&log)).args(["--log-format", "json", "exec", "--process"]).arg(path(&described));
    if arguments.detach {
        command.arg("--detach").stdout(Stdio::null()).stderr(Stdio::null());
    }
    if !arguments.interactive || arguments.detach {
        command.stdin(Stdio::null());
    }
    command.arg(container.id().as_str());
    // What comes to us comes to the runtime too, which passes it on; a handler, unlike being ignored, is not inherited.
    let heard = Arc::new(AtomicBool::new(false));
    for signal in [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP] {
        signal_hook::flag::register(signal, heard.clone())?;
    }
    let status = command.status().map_err(|source| Error::NoRuntime { path: runtime, source })?;
    let mut text = String::new();
    std::io::Seek::rewind(&mut log)?;
    log.read_to_string(&mut text)?;
    finished(status, &text)
}

/// A line of a runtime's log as JSON.
#[derive(Deserialize)]
struct Line {
    level: String,
    msg: String,
}

fn finished(status: ExitStatus, log: &str) -> Result<(), Error> {
    if status.success() {
        return Ok(());
    }
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    let refusal = lines.rev().find(|line| line.level == "error" || line.level == "fatal");
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1);
    let Some(refusal) = refusal else { return Err(Error::Ended { text: String::new(), status: code }) };
    let says = |words: &str| refusal.msg.contains(words);
    let is_missing = says("executable file not found") || says("no such file or directory");
    let status = if is_missing { NOT_FOUND } else { NOT_ALLOWED };
    Err(Error::Ended { text: format!("OCI runtime exec failed: {}", refusal.msg), status })
}

fn memory_file(name: &std::ffi::CStr) -> Result<File, Error> {
    let file = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC).map_err(|error| Error::Io(error.into()))?;
    Ok(file.into())
}
