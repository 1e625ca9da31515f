//! User namespaces: maps of ids, and namespaces that exist only for a map.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Command;

use oci_spec::runtime::LinuxIdMapping;
use rustix::fs::{CWD, Mode, OFlags};
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use crate::Error;
use crate::syscalls::{Clone, clone};

fn lines(maps: &[LinuxIdMapping]) -> String {
    let line = |map: &LinuxIdMapping| format!("{} {} {}\n", map.container_id(), map.host_id(), map.size());
    maps.iter().map(line).collect()
}

/// Writes the maps of a process in a new user namespace: itself where that is allowed, else by the programs that have the
/// right to (shadow's newuidmap and newgidmap).
pub(crate) fn write_maps(process: Pid, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<(), Error> {
    let pid = process.as_raw_nonzero();
    let write = |name: &str, text: &str| std::fs::write(format!("/proc/{pid}/{name}"), text);
    let failed = |name: &'static str, error: io::Error| {
        Error::Config(format!(
            "cannot write {name} of the user namespace: {error}\nAn ordinary user can map only itself, or ids of its own in /etc/subuid and /etc/subgid by newuidmap (package uidmap)."
        ))
    };
    if let Err(error) = write("uid_map", &lines(uids)) {
        by_program("newuidmap", pid.get(), uids).map_err(|_| failed("uid_map", error))?;
    }
    if let Err(error) = write("gid_map", &lines(gids)) {
        if by_program("newgidmap", pid.get(), gids).is_err() {
            // Who may not change groups must give that up first: user_namespaces(7).
            write("setgroups", "deny")
                .and_then(|()| write("gid_map", &lines(gids)))
                .map_err(|_| failed("gid_map", error))?;
        }
    }
    Ok(())
}

fn by_program(program: &str, pid: i32, maps: &[LinuxIdMapping]) -> io::Result<()> {
    let numbers = maps.iter().flat_map(|map| [map.container_id(), map.host_id(), map.size()]);
    let mut command = Command::new(program);
    command.arg(pid.to_string()).args(numbers.map(|number| number.to_string()));
    let status = command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).status()?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{program} has failed: {status}"))) }
}

/// A user namespace with these maps, which a process that has ended again was in.
pub(crate) fn of_mapping(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<OwnedFd, Error> {
    let made = clone(libc::CLONE_NEWUSER as u64, None).map_err(Error::system("make a user namespace for a mount"))?;
    let Clone::Parent(pid, process) = made else {
        // Only there for its namespace, until it is killed.
        loop {
            let _ = rustix::thread::nanosleep(&rustix::thread::Timespec { tv_sec: 3600, tv_nsec: 0 });
        }
    };
    let open = || {
        let path = format!("/proc/{}/ns/user", pid.as_raw_nonzero());
        rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    };
    let namespace = write_maps(pid, uids, gids).and_then(|()| open().map_err(Error::system("open a user namespace")));
    let _ = rustix::process::pidfd_send_signal(&process, Signal::KILL);
    let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
    namespace
}

/// Whether this process has all the rights of the machine's administrator: not an ordinary user, nor in a user namespace.
pub fn is_rootless() -> bool {
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_ascii_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}

/// A descriptor of a process.
pub(crate) fn pidfd(pid: Pid) -> Result<OwnedFd, Error> {
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(Error::system("open a process"))
}
