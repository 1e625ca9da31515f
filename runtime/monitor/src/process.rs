//! Becoming a monitor: a process that nothing of whoever called it holds on to.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use cove_container::protocol::Connection;
use cove_launcher::cgroups::{Apart, go_apart};
use rustix::fs::{CWD, OFlags};
use rustix::mount::{MountPropagationFlags, MoveMountFlags, OpenTreeFlags, mount_change, move_mount, open_tree};
use rustix::process::Pid;
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};

use crate::Error;

/// Takes the connection of whoever asks from standard input, and lets go of everything else of theirs: terminal, session,
/// cgroup, working folder and mounts.
pub(crate) fn become_monitor() -> Result<Connection, Error> {
    // Where that is not permitted or there are no cgroups the monitor ends with its caller's session; everything else goes
    // on as ever.
    if let Ok(Apart::Elsewhere) = go_apart() {
        std::process::exit(0);
    }
    let starter = take_stdin()?;
    leave_caller()?;
    // SAFETY: the call takes no pointers.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let _ = rustix::thread::set_name(c"cove-monitor");
    // The last to be killed for want of memory, where that is allowed.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-999");
    crate::host_mounts::remember();
    // SAFETY: this process has one thread.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.map_err(Error::system("make a mount namespace"))?;
    // What the host mounts later is seen in volumes of the container; what we mount is not seen by the host.
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(Error::system("keep mounts to ourselves"))?;
    Ok(Connection::over(starter))
}

/// The socket that is standard input.
pub(crate) fn take_stdin() -> Result<OwnedFd, Error> {
    rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).map_err(Error::system("take the connection"))
}

/// Lets go of terminal, session and working folder of whoever has started this process.
pub(crate) fn leave_caller() -> Result<(), Error> {
    let nothing = File::options().read(true).write(true).open("/dev/null").map_err(Error::system("open /dev/null"))?;
    let nothing = OwnedFd::from(nothing);
    rustix::stdio::dup2_stdin(&nothing).map_err(Error::system("let go of the standard streams"))?;
    rustix::stdio::dup2_stdout(&nothing).map_err(Error::system("let go of the standard streams"))?;
    rustix::stdio::dup2_stderr(&nothing).map_err(Error::system("let go of the standard streams"))?;
    // Who was made the leader of a group by its parent is that already.
    let _ = rustix::process::setsid();
    rustix::process::chdir("/").map_err(Error::system("change to /"))?;
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    Ok(())
}

/// Among another's mounts every path means something else: nothing is safe to be done there. The next command finds a monitor
/// that has died.
pub(crate) fn come_back_no_more() -> ! {
    std::process::abort()
}

/// Mounts here, at `at`, what a process sees at a path. The kernel clones mounts of the own namespace only, so this process
/// goes into the other's for a moment.
pub(crate) fn mount_of(pid: i32, path: &str, at: &Path) -> Result<(), Error> {
    fn failed<E: Into<std::io::Error>>() -> impl FnOnce(E) -> Error {
        Error::system("join the other container's memory")
    }
    let theirs = File::open(format!("/proc/{pid}/ns/mnt")).map_err(failed())?;
    let ours = File::open("/proc/self/ns/mnt").map_err(failed())?;
    let enter = |namespace: &File| move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount));
    enter(&theirs).map_err(failed())?;
    let tree = open_tree(CWD, path, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC);
    if enter(&ours).is_err() {
        come_back_no_more();
    }
    let tree = tree.map_err(failed())?;
    let _ = std::fs::create_dir(at);
    move_mount(tree, "", CWD, at, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(failed())
}

/// A program that hears every signal. We hold ours back to read them from a descriptor, and a process inherits that: other
/// runtimes pass it on to the container, where a broken pipe would then end nobody.
pub(crate) fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    let hear_all = || {
        // SAFETY: both calls only write to the set, which is ours; they may be called between fork and exec.
        let result = unsafe {
            let mut none = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
        };
        if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: see above; this process has one thread.
    unsafe { command.pre_exec(hear_all) };
    command
}

/// Makes a process that does one thing with one descriptor and ends. It ends with us, too; nothing else of ours is
/// open there, so that nobody waits for it who waits for us.
pub(crate) fn helper(file: &OwnedFd, work: impl FnOnce(OwnedFd)) -> Option<Pid> {
    let file = file.try_clone().ok()?;
    // SAFETY: this process has one thread, so all of its locks and memory are in order in the child.
    match unsafe { libc::fork() } {
        0 => {
            let kept = std::os::fd::AsRawFd::as_raw_fd(&file);
            // SAFETY: the calls take numbers only. The descriptors that are closed belong to values which this process,
            // ending by `_exit`, never touches again.
            unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                let (below, above) = (kept.cast_unsigned() - 1, kept.cast_unsigned() + 1);
                libc::syscall(libc::SYS_close_range, 3, below, 0);
                libc::syscall(libc::SYS_close_range, above, libc::c_uint::MAX, 0);
            }
            work(file);
            // SAFETY: ends the process at once; nothing of the parent's is flushed or unlocked twice.
            unsafe { libc::_exit(0) }
        }
        pid => Pid::from_raw(pid),
    }
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
