//! The first process of a container that was asked for with `--init`: it starts the program, passes signals on to it and
//! collects what nobody else waits for.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode};

use cove_launcher::Signals;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions};

/// What the program is called where it is the first process.
pub(crate) const NAME: &str = "docker-init";

/// Whether we were called by that name.
pub(crate) fn is_meant(program: &OsString) -> bool {
    program.as_bytes().rsplit(|byte| *byte == b'/').next() == Some(NAME.as_bytes())
}

/// Runs the program; ends as it ends.
pub(crate) fn run(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut program = arguments.next();
    if program.as_ref().is_some_and(|first| first == "--") {
        program = arguments.next();
    }
    let Some(program) = program else { return failed(2, "a program is needed") };
    let signals = match Signals::hold() {
        Ok(signals) => signals,
        Err(error) => return failed(1, &error.to_string()),
    };
    // A group of its own: what a terminal sends to its foreground reaches it, not us.
    let mut command = Command::new(&program);
    command.args(arguments).process_group(0);
    // What we hold back would be held back from it, too: it could not be stopped.
    cove_launcher::unblock_signals_of(&mut command);
    let child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            let code = if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
            return failed(code, &format!("exec {}: {}", program.display(), cove_launcher::plain(&error)));
        }
    };
    let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) else { return failed(1, "no process") };
    // Without a terminal this fails, and nothing depends on it.
    let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), pid);
    loop {
        let Ok(number) = signals.next() else { return ExitCode::FAILURE };
        if number != Signal::CHILD.as_raw() {
            if let Some(signal) = cove_launcher::signal(&number.to_string()) {
                let _ = rustix::process::kill_process(pid, signal);
            }
            continue;
        }
        loop {
            match rustix::process::wait(WaitOptions::NOHANG) {
                Ok(Some((ended, status))) if ended == pid => {
                    let status = std::process::ExitStatus::from_raw(status.as_raw());
                    let code = status.code().or(status.signal().map(|signal| 128 + signal)).unwrap_or(1);
                    return ExitCode::from(u8::try_from(code).unwrap_or(1));
                }
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }
}

fn failed(code: u8, text: &str) -> ExitCode {
    crate::output::error(&format!("[{NAME}] {text}"));
    ExitCode::from(code)
}
