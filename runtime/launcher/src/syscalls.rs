//! System calls that have no safe form in a library, each in a small function.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

/// Who one is after a `clone`.
pub(crate) enum Clone {
    /// The caller, with the new process and a descriptor that stands for it.
    Parent(Pid, OwnedFd),
    /// The new process.
    Child,
}

/// `struct clone_args` of linux/sched.h, its 88 bytes.
#[repr(C)]
#[derive(Default)]
struct CloneArguments {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks into new namespaces (CLONE_NEW…), and into a cgroup of version 2 where one is given.
pub(crate) fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> io::Result<Clone> {
    let mut pidfd: RawFd = -1;
    let mut arguments = CloneArguments {
        flags: flags | libc::CLONE_PIDFD as u64,
        pidfd: &raw mut pidfd as u64,
        // With CLONE_PARENT the kernel takes over the parent's own.
        exit_signal: if flags & libc::CLONE_PARENT as u64 == 0 { libc::SIGCHLD as u64 } else { 0 },
        ..CloneArguments::default()
    };
    if let Some(cgroup) = cgroup {
        arguments.flags |= 0x2_0000_0000; // CLONE_INTO_CGROUP
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: the arguments are a valid clone_args of the size that is given; without CLONE_VM the child has a copy of
    // this memory, and this process has one thread (the crate's contract), so no lock is held by a thread that the
    // child lacks.
    let result = unsafe { libc::syscall(libc::SYS_clone3, &raw mut arguments, size_of::<CloneArguments>()) };
    match result {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(Clone::Child),
        number => {
            let pid = i32::try_from(number).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
            // SAFETY: the kernel has just made this descriptor for us.
            Ok(Clone::Parent(pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
        }
    }
}

/// Leaves namespaces for new ones.
pub(crate) fn unshare(flags: rustix::thread::UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: only namespaces are asked for, and FS, in a process of one thread: no descriptor table is split.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Becomes another program. Only comes back with an error.
pub(crate) fn execve(path: &CStr, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: both arrays end with a null pointer and outlive the call.
    unsafe { libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Becomes the program in an open file.
pub(crate) fn execveat(file: BorrowedFd<'_>, arguments: &[CString], environment: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (arguments, environment) = (pointers(arguments), pointers(environment));
    // SAFETY: the path is an empty string, both arrays end with a null pointer, and all outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}

/// What is to change of a mount: mount_setattr(2).
#[derive(Default, Clone, Copy)]
pub(crate) struct MountChange<'a> {
    /// MOUNT_ATTR_… to set.
    pub(crate) set: u64,
    /// MOUNT_ATTR_… to clear.
    pub(crate) clear: u64,
    /// MS_SHARED and its kind, or 0.
    pub(crate) propagation: u64,
    /// The user namespace whose mapping the mount shall have.
    pub(crate) mapping: Option<BorrowedFd<'a>>,
    /// What is mounted below, too.
    pub(crate) recursive: bool,
}

/// `struct mount_attr` of linux/mount.h.
#[repr(C)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;

/// Changes the mount that an open file lies in the root of.
pub(crate) fn change_mount(mount: BorrowedFd<'_>, change: MountChange<'_>) -> io::Result<()> {
    let attributes = MountAttributes {
        set: change.set | if change.mapping.is_some() { MOUNT_ATTR_IDMAP } else { 0 },
        clear: change.clear,
        propagation: change.propagation,
        user_namespace: change.mapping.map_or(0, |namespace| namespace.as_raw_fd() as u64),
    };
    let flags = libc::AT_EMPTY_PATH | if change.recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: an empty path, and a mount_attr of the size that is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Marks every descriptor from this one on as to be closed by `execve`.
pub(crate) fn close_on_exec_from(first: u32) -> io::Result<()> {
    // SAFETY: no memory is involved, and nothing is closed now.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Closes every descriptor but the first ones and those that are given. For a process that soon is another program or ends:
/// nothing that owns one of the others may be used or dropped any more.
pub(crate) fn close_all_but(first: u32, keep: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|file| u32::try_from(file.as_raw_fd()).ok()).collect();
    keep.sort_unstable();
    let mut from = first;
    for number in keep.into_iter().chain([u32::MAX]) {
        if number > from {
            // SAFETY: no memory is involved; the caller promises that nobody uses what is closed.
            let result = unsafe { libc::syscall(libc::SYS_close_range, from, number - 1, 0) };
            if result != 0 {
                return Err(io::Error::last_os_error());
            }
        }
        from = from.max(number.saturating_add(1));
    }
    Ok(())
}

/// Every signal does what it does by default, and none is blocked.
pub(crate) fn reset_signals() {
    // SAFETY: SIG_DFL runs no code of ours; the set is initialised by sigemptyset.
    unsafe {
        for number in 1..=64 {
            libc::signal(number, libc::SIG_DFL);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// Blocks all signals that can be, and gives a descriptor from which they are read instead.
pub(crate) fn signals_as_file() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigfillset; the descriptor is new.
    unsafe {
        let mut all: libc::sigset_t = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        if libc::sigprocmask(libc::SIG_SETMASK, &raw const all, std::ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let file = libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC);
        if file < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(file)) }
    }
}

/// A signal that asks this process to end and that it holds back, if there is one.
pub(crate) fn held_back_end() -> Option<i32> {
    // SAFETY: both calls are given a set that is theirs to fill and to read.
    unsafe {
        let mut pending: libc::sigset_t = std::mem::zeroed();
        if libc::sigpending(&raw mut pending) != 0 {
            return None;
        }
        let asks = [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT, libc::SIGHUP];
        asks.into_iter().find(|number| libc::sigismember(&raw const pending, *number) == 1)
    }
}

/// Lets all signals through to a program that is started while this process holds them back.
pub fn unblock_signals_of(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    let unblock = || {
        // SAFETY: the set is initialised by sigemptyset.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&raw mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        }
        Ok(())
    };
    // SAFETY: between fork and exec it makes two calls that are safe there, and allocates nothing.
    unsafe { command.pre_exec(unblock) };
}

/// A session keyring of this name, so that the host's keys cannot be reached (keyctl(2), KEYCTL_JOIN_SESSION_KEYRING).
pub(crate) fn join_session_keyring(name: &CStr) -> io::Result<()> {
    // SAFETY: the name is a string that outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_keyctl, 1, name.as_ptr()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// personality(2).
pub(crate) fn personality(domain: u64) -> io::Result<()> {
    // SAFETY: no memory is involved.
    if unsafe { libc::personality(domain) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// ioprio_set(2) of this process.
pub(crate) fn io_priority(value: i32) -> io::Result<()> {
    const WHO_PROCESS: i32 = 1;
    // SAFETY: no memory is involved.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// `struct sched_attr` of linux/sched/types.h, its first version.
#[repr(C)]
#[derive(Default)]
pub(crate) struct SchedulerAttributes {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
}

/// sched_setattr(2) of this process.
pub(crate) fn set_scheduler(mut attributes: SchedulerAttributes) -> io::Result<()> {
    attributes.size = 48;
    // SAFETY: a sched_attr of the size that it says.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Makes the terminal on standard input the one that controls this process.
pub(crate) fn control_terminal(terminal: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no memory is involved.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY as libc::Ioctl, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Brings the loopback device of this network namespace up (netdevice(7)).
pub(crate) fn loopback_up() -> io::Result<()> {
    use rustix::net::{AddressFamily, SocketType};
    let socket = rustix::net::socket(AddressFamily::INET, SocketType::DGRAM, None)?;
    // SAFETY: an ifreq of zeros is valid: a name of no letters, and flags.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request outlives the call, and holds what SIOCSIFFLAGS reads.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw const request) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Ends this process at once: what the one it was cloned from has to do at its end is not its.
pub(crate) fn end(status: i32) -> ! {
    // SAFETY: nothing of this process is used after it.
    unsafe { libc::_exit(status) }
}
