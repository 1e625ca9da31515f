//! Hooks: programs that are called on the way, with the container's state on their input
//! (runtime-spec, config.md, "POSIX-platform Hooks").

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use oci_spec::runtime::Hook;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::MemfdFlags;
use rustix::process::Pid;

use crate::Error;
use crate::error::plain;
use crate::state::State;
use crate::syscalls;
use crate::user_namespace::pidfd;

/// As much as is told of what a hook has printed: its end, where the reason is.
const LONGEST_OUTPUT: u64 = 4 * 1024;

/// Calls them in turn; the first that fails ends it.
pub(crate) fn call(hooks: Option<&Vec<Hook>>, state: &State<'_>) -> Result<(), String> {
    let hooks = hooks.map(Vec::as_slice).unwrap_or_default();
    if hooks.is_empty() {
        return Ok(());
    }
    let state = serde_json::to_vec(state).map_err(|error| error.to_string())?;
    for (number, hook) in hooks.iter().enumerate() {
        call_one(hook, &state).map_err(|error| format!("error running hook #{number}: {error}"))?;
    }
    Ok(())
}

/// Calls all of them, whatever comes of each: what they follow has happened.
pub(crate) fn call_all(hooks: Option<&Vec<Hook>>, state: &State<'_>) -> Vec<String> {
    let hooks = hooks.map(Vec::as_slice).unwrap_or_default();
    let Ok(state) = serde_json::to_vec(state) else { return Vec::new() };
    let failed = hooks.iter().enumerate().filter_map(|(number, hook)| {
        call_one(hook, &state).err().map(|error| format!("error running poststop hook #{number}: {error}"))
    });
    failed.collect()
}

fn call_one(hook: &Hook, state: &[u8]) -> Result<(), String> {
    if !hook.path().is_absolute() {
        return Err(format!("its path must be absolute: {}", hook.path().display()));
    }
    let mut command = Command::new(hook.path());
    let mut words = hook.args().iter().flatten();
    if let Some(name) = words.next() {
        command.arg0(name);
    }
    let pairs = hook.env().iter().flatten().filter_map(|entry| entry.split_once('='));
    command.args(words).env_clear().envs(pairs);
    let (out, err) = (buffer(&[]).map_err(|error| error.to_string())?, buffer(&[]).map_err(|error| error.to_string())?);
    let stream = |file: &File| file.try_clone().map_or_else(|_| Stdio::null(), Stdio::from);
    let input = buffer(state).map_err(|error| error.to_string())?;
    command.stdin(input).stdout(stream(&out)).stderr(stream(&err));
    syscalls::unblock_signals_of(&mut command);
    let mut child =
        command.spawn().map_err(|error| format!("fork/exec {}: {}", hook.path().display(), plain(&error)))?;
    let limit = hook.timeout().and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    if let Err(why) = wait(&child, limit) {
        let _ = child.kill();
        let _ = child.wait();
        return Err(why);
    }
    let status = child.wait().map_err(|error| error.to_string())?;
    if status.success() {
        return Ok(());
    }
    let status = status.code().map_or_else(|| status.to_string(), |code| format!("exit status {code}"));
    Err(format!("{status}, stdout: {}, stderr: {}", text_of(out), text_of(err)))
}

/// A file in memory: neither a hook that reads nothing nor one that prints much has to wait for us.
fn buffer(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("hook", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn text_of(mut file: File) -> String {
    let mut text = Vec::new();
    let length = file.metadata().map_or(0, |found| found.len());
    let start = SeekFrom::Start(length.saturating_sub(LONGEST_OUTPUT));
    let read = file.seek(start).and_then(|_| file.take(LONGEST_OUTPUT).read_to_end(&mut text));
    read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&text).trim_end().to_owned())
}

/// How often it is looked whether this process shall end.
pub(crate) const GLANCE: Duration = Duration::from_millis(50);

/// Waits for a hook, no longer than this, and not if this process is to end: `run` holds signals back for the container's
/// process, which cannot get them yet.
fn wait(child: &Child, limit: Option<Duration>) -> Result<(), String> {
    let start = Instant::now();
    let Some(process) = Pid::from_raw(child.id().cast_signed()).and_then(|pid| pidfd(pid).ok()) else { return Ok(()) };
    loop {
        let left = limit.map(|limit| limit.saturating_sub(start.elapsed()));
        let time = left.unwrap_or(GLANCE).min(GLANCE);
        let time = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
        match rustix::event::poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&time)) {
            Ok(0) => {}
            Err(rustix::io::Errno::INTR) => {}
            _ => return Ok(()),
        }
        if let Some(number) = syscalls::held_back_end() {
            return Err(Error::Interrupted(number).to_string());
        }
        if let Some(limit) = limit.filter(|limit| start.elapsed() >= *limit) {
            return Err(format!("hook ran past specified timeout of {:.1}s", limit.as_secs_f64()));
        }
    }
}
