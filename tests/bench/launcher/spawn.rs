//! Starts a process and waits for it, cheaply and exactly.
//!
//! `Command` without a closure goes through posix_spawn, which shares the memory of this small single-threaded process
//! with the new one until that executes: nothing is copied. The clock is CLOCK_MONOTONIC.

use std::process::Command;
use std::time::{Duration, Instant};

/// How a process has ended.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// From before the start until its end was known.
    pub time: Duration,
    /// What it and all those that it has waited for had of the processors.
    pub processor: Duration,
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
}

/// Runs it to its end.
pub fn run(command: &mut Command) -> Ended {
    let start = Instant::now();
    let child = command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
    let (_, processor, code) = wait(child.id() as i32, 0).expect("a child of ours");
    Ended { time: start.elapsed(), processor, code }
}

/// Starts all of them one after the other without waiting, then waits for all; the time is that of the last.
pub fn run_at_once(commands: &mut [Command]) -> (Duration, Vec<Option<i32>>) {
    let start = Instant::now();
    let children: Vec<_> = commands.iter_mut().map(|command| command.spawn().expect("start").id() as i32).collect();
    let codes = children.into_iter().map(|child| wait(child, 0).expect("a child of ours").2).collect();
    (start.elapsed(), codes)
}

/// Waits for a process that we have inherited, and tells what it had of the processors.
pub fn wait_for(process: u32) -> Duration {
    wait(process as i32, 0).map(|(_, processor, _)| processor).unwrap_or_default()
}

/// Buries those that we have inherited and that have ended.
pub fn bury() {
    while matches!(wait(-1, libc::WNOHANG), Some((process, ..)) if process > 0) {}
}

/// wait4(2); none if there is no such child.
#[allow(unsafe_code)]
fn wait(process: i32, flags: i32) -> Option<(i32, Duration, Option<i32>)> {
    let mut status = 0;
    // SAFETY: all zeroes is a value of this structure of numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to variables that outlive the call.
    let ended = unsafe { libc::wait4(process, &raw mut status, flags, &raw mut usage) };
    if ended < 0 {
        return None;
    }
    let time = |value: libc::timeval| Duration::new(value.tv_sec as u64, value.tv_usec as u32 * 1000);
    let code = libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status));
    Some((ended, time(usage.ru_utime) + time(usage.ru_stime), code))
}
