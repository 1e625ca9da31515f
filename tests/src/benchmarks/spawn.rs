//! Starts a process and waits for it, cheaply and exactly.
//!
//! `Command` without a closure goes through posix_spawn, which shares the memory of this small process with the new one
//! until that executes: nothing is copied. The clock is CLOCK_MONOTONIC.

use std::process::Command;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Whoever has not ended after so long hangs, and is killed.
const LIMIT: Duration = Duration::from_secs(20);

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
    let child = spawn(command);
    let (_, processor, code) = wait_or_kill(child, start);
    Ended { time: start.elapsed(), processor, code }
}

/// Starts all of them one after the other without waiting, then waits for all; the time is that of the last.
pub fn run_at_once(commands: &mut [Command]) -> (Duration, Vec<Option<i32>>) {
    let start = Instant::now();
    let children: Vec<_> = commands.iter_mut().map(spawn).collect();
    let codes = children.into_iter().map(|child| wait_or_kill(child, start).2).collect();
    (start.elapsed(), codes)
}

/// Its end is waited for by `wait4`, which tells more than `Child::wait`.
#[allow(clippy::zombie_processes)]
fn spawn(command: &mut Command) -> i32 {
    command.spawn().unwrap_or_else(|error| panic!("start {command:?}: {error}")).id() as i32
}

/// Waits for a child that was started no earlier than then; kills it when it hangs.
fn wait_or_kill(child: i32, start: Instant) -> (i32, Duration, Option<i32>) {
    let process = Pid::from_raw(child).expect("the id of a process");
    let handle = pidfd_open(process, PidfdFlags::empty()).expect("open a child of ours");
    let left = LIMIT.saturating_sub(start.elapsed());
    let left = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
    if poll(&mut [PollFd::new(&handle, PollFlags::IN)], Some(&left)) == Ok(0) {
        pidfd_send_signal(&handle, Signal::KILL).expect("kill a child of ours");
    }
    wait(child, 0).expect("a child of ours")
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
