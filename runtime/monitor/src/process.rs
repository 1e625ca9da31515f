//! Becoming a monitor: a process that nothing of whoever called it holds on to.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::OwnedFd;

use cove_container::protocol::Connection;
use rustix::fs::OFlags;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::thread::UnshareFlags;

use crate::Error;

/// Takes the connection of whoever asks from standard input, and lets go of everything else of theirs: terminal, session,
/// working folder and mounts.
pub(crate) fn become_monitor() -> Result<Connection, Error> {
    let starter =
        rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map_err(Error::system("take the connection"))?;
    let nothing = File::options().read(true).write(true).open("/dev/null").map_err(Error::system("open /dev/null"))?;
    let nothing = OwnedFd::from(nothing);
    rustix::stdio::dup2_stdin(&nothing).map_err(Error::system("let go of the standard streams"))?;
    rustix::stdio::dup2_stdout(&nothing).map_err(Error::system("let go of the standard streams"))?;
    rustix::stdio::dup2_stderr(&nothing).map_err(Error::system("let go of the standard streams"))?;
    // Who was made the leader of a group by its parent is that already.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/").map_err(Error::system("change to /"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    // SAFETY: the call takes no pointers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let _ = rustix::thread::set_name(c"cove-monitor");
    // The last to be killed for want of memory, where that is allowed.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-999");
    // SAFETY: this process has one thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.map_err(Error::system("make a mount namespace"))?;
    // What the host mounts later is seen in volumes of the container; what we mount is not seen by the host.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(Error::system("keep mounts to ourselves"))?;
    Ok(Connection::over(starter))
}

/// A pipe: the end to read, which does not block, and the end to write.
pub(crate) fn output_pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    let (read, write) = pipe()?;
    set_nonblocking(&read)?;
    Ok((read, write))
}

/// A pipe: the end to read, and the end to write, which does not block.
pub(crate) fn input_pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    let (read, write) = pipe()?;
    set_nonblocking(&write)?;
    Ok((read, write))
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(Error::system("make a pipe"))
}

/// Only this end of a pipe: the other one is an open file of its own.
pub(crate) fn set_nonblocking(file: &OwnedFd) -> Result<(), Error> {
    let failed = || Error::system("prepare a pipe");
    let flags = rustix::fs::fcntl_getfl(file).map_err(failed())?;
    rustix::fs::fcntl_setfl(file, flags | OFlags::NONBLOCK).map_err(failed())
}
