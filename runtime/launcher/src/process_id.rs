//! A process that is still the same one: number, moment of its start, and the machine's start.
//!
//! Numbers are used again, so a number alone could name a stranger (and after a restart of the machine surely does).

use rustix::process::Pid;
use serde::{Deserialize, Serialize};

/// Names one process for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProcessId {
    pid: i32,
    /// Clock ticks since the machine's start, proc_pid_stat(5) field 22.
    started: u64,
    boot: String,
    /// What pidfs (Linux 6.9) calls it: a clock tick is long, and this number is never used again.
    #[serde(default)]
    inode: Option<u64>,
}

impl ProcessId {
    /// Of a process that exists.
    pub(crate) fn of(pid: Pid) -> std::io::Result<Self> {
        let inode = inode(pid);
        let pid = pid.as_raw_nonzero().get();
        let (_, started) = stat(pid).ok_or(std::io::ErrorKind::NotFound)?;
        Ok(Self { pid, started, boot: boot_id()?, inode })
    }

    /// Its number.
    pub fn pid(&self) -> Option<Pid> {
        Pid::from_raw(self.pid)
    }

    /// Whether it still runs. What has ended and waits to be collected does not.
    pub fn runs(&self) -> bool {
        let same =
            stat(self.pid).is_some_and(|(state, started)| started == self.started && !matches!(state, b'Z' | b'X'));
        let same = same && (self.inode.is_none() || self.pid().and_then(inode) == self.inode);
        same && boot_id().is_ok_and(|boot| boot == self.boot)
    }

    /// A descriptor of it, if it still runs.
    pub(crate) fn open(&self) -> Option<std::os::fd::OwnedFd> {
        let file = rustix::process::pidfd_open(self.pid()?, rustix::process::PidfdFlags::empty()).ok()?;
        // Looked at afterwards: the descriptor cannot change to another process any more.
        self.runs().then_some(file)
    }
}

/// The number of a process in pidfs, where there is one.
fn inode(pid: Pid) -> Option<u64> {
    /// `PID_FS_MAGIC`, linux/magic.h.
    const PIDFS: i64 = 0x5049_4446;
    let file = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()?;
    let is_pidfs = rustix::fs::fstatfs(&file).ok()?.f_type == PIDFS;
    rustix::fs::fstat(&file).ok().filter(|_| is_pidfs).map(|found| found.st_ino)
}

fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// State and start of a process. The name before them may hold anything, parentheses too.
fn stat(pid: i32) -> Option<(u8, u64)> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let after_name = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(after_name + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // The state is field 3.
    Some((state, fields.nth(22 - 4)?.parse().ok()?))
}
