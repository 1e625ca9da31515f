//! Namespaces: which are new, which are joined, and how.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use oci_spec::runtime::{LinuxNamespaceType, LinuxTimeOffset};
use rustix::fs::{CWD, Mode, OFlags};
use rustix::thread::UnshareFlags;

use crate::Error;
use crate::config::Config;
use crate::error::{Failure, plain};
use crate::proc::Proc;
use crate::syscalls;

/// `NSFS_MAGIC`, linux/magic.h.
const NSFS: i64 = 0x6e73_6673;

/// Those that a clone makes at once. The others come later: a cgroup namespace has its root where its maker is, which must
/// have joined the container's cgroup first; offsets of time are set in between.
const AT_ONCE: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;
const CLONE_NEWTIME: u64 = 0x80;

/// A container's namespaces.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// New ones, CLONE_NEW….
    new: u64,
    /// All that the container has for itself or joins.
    all: u64,
    joined: Vec<(LinuxNamespaceType, OwnedFd)>,
}

impl Namespaces {
    /// Opens those that are joined. One that this process is in already is none.
    pub(crate) fn open(config: &Config) -> Result<Self, Error> {
        let mut namespaces = Self { new: 0, all: 0, joined: Vec::new() };
        for namespace in config.linux.namespaces().iter().flatten() {
            let kind = namespace.typ();
            namespaces.all |= kind as u64;
            let Some(path) = namespace.path().as_deref().filter(|path| !path.as_os_str().is_empty()) else {
                namespaces.new |= kind as u64;
                continue;
            };
            let failed = |error: io::Error| {
                Error::Config(format!("cannot join the {kind} namespace at {}: {}", path.display(), plain(&error)))
            };
            let open =
                rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty());
            let file = open.map_err(|error| failed(error.into()))?;
            if rustix::fs::fstatfs(&file).map_err(|error| failed(error.into()))?.f_type != NSFS {
                return Err(failed(io::Error::other("it is no namespace")));
            }
            if !is_own(kind, &file).map_err(failed)? {
                namespaces.joined.push((kind, file));
            }
        }
        Ok(namespaces)
    }

    pub(crate) fn all(&self) -> u64 {
        self.all
    }

    /// Those that the clone makes.
    pub(crate) fn at_once(&self) -> u64 {
        self.new & AT_ONCE
    }

    pub(crate) fn is_new(&self, kind: LinuxNamespaceType) -> bool {
        self.new & kind as u64 != 0
    }

    /// Whether the container's mounts are its own: else everything that is mounted would be the caller's too.
    pub(crate) fn has_own_mounts(&self) -> bool {
        self.is_new(LinuxNamespaceType::Mount) || self.joined(LinuxNamespaceType::Mount).is_some()
    }

    /// Those that are new, CLONE_NEW….
    pub(crate) fn new_ones(&self) -> u64 {
        self.new
    }

    /// The namespace of this kind that is joined.
    pub(crate) fn joined(&self, kind: LinuxNamespaceType) -> Option<&OwnedFd> {
        self.joined.iter().find(|(one, _)| *one == kind).map(|(_, file)| file)
    }

    /// In the new process: joins what is joined. User and process namespaces come before.
    pub(crate) fn join(&self) -> Result<(), Failure> {
        for (kind, file) in &self.joined {
            if !matches!(kind, LinuxNamespaceType::User | LinuxNamespaceType::Pid) {
                join(file, *kind).map_err(|error| {
                    Failure::init(format_args!("error joining the {kind} namespace: {}", plain(&error)))
                })?;
            }
        }
        Ok(())
    }

    /// In the new process: the network namespace, where the clone has not made it.
    pub(crate) fn make_network(&self) -> Result<(), Failure> {
        if self.is_new(LinuxNamespaceType::Network) {
            syscalls::unshare(UnshareFlags::NEWNET).map_err(Failure::at("error making a network namespace"))?;
        }
        Ok(())
    }

    /// In the new process, in its cgroup: makes what is left.
    pub(crate) fn make_rest(&self, config: &Config, proc: &Proc) -> Result<(), Failure> {
        if self.is_new(LinuxNamespaceType::Cgroup) {
            syscalls::unshare(UnshareFlags::NEWCGROUP).map_err(Failure::at("error making a cgroup namespace"))?;
        }
        if self.is_new(LinuxNamespaceType::Time) {
            let offsets = config.linux.time_offsets().iter().flatten();
            enter_time(offsets, proc)
                .map_err(|error| Failure::init(format_args!("error making a time namespace: {}", plain(&error))))?;
        }
        Ok(())
    }
}

fn is_own(kind: LinuxNamespaceType, file: &OwnedFd) -> io::Result<bool> {
    let own = rustix::fs::stat(format!("/proc/self/ns/{kind}"))?;
    let other = rustix::fs::fstat(file)?;
    Ok((own.st_dev, own.st_ino) == (other.st_dev, other.st_ino))
}

/// setns(2). The kind is checked by the kernel.
pub(crate) fn join(file: &OwnedFd, kind: LinuxNamespaceType) -> io::Result<()> {
    use rustix::thread::LinkNameSpaceType as Link;
    let kind = match kind {
        LinuxNamespaceType::Mount => Link::Mount,
        LinuxNamespaceType::Cgroup => Link::ControlGroup,
        LinuxNamespaceType::Uts => Link::HostNameAndNISDomainName,
        LinuxNamespaceType::Ipc => Link::InterProcessCommunication,
        LinuxNamespaceType::User => Link::User,
        LinuxNamespaceType::Pid => Link::ProcessID,
        LinuxNamespaceType::Network => Link::Network,
        LinuxNamespaceType::Time => Link::Time,
    };
    Ok(rustix::thread::move_into_link_name_space(file.as_fd(), Some(kind))?)
}

/// Offsets can be set until somebody is in the new namespace, which the one who made it is not at first.
fn enter_time<'a>(offsets: impl Iterator<Item = (&'a String, &'a LinuxTimeOffset)>, proc: &Proc) -> io::Result<()> {
    syscalls::unshare(UnshareFlags::from_bits_retain(CLONE_NEWTIME as u32))?;
    let own = proc.own()?;
    for (clock, offset) in offsets {
        let line = format!("{clock} {} {}\n", offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        proc.write(&format!("{own}/timens_offsets"), line.as_bytes())?;
    }
    let children = proc.link(&format!("{own}/ns"), "time_for_children")?;
    join(&children, LinuxNamespaceType::Time)
}
