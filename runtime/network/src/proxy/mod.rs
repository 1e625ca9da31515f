//! Published ports as the host itself uses them: a process that takes connections and datagrams at 127.0.0.1 (or ::1) and
//! passes them to the container. Everything that comes from elsewhere goes by the packet filter and never through here.
//!
//! Both functions are for a process of their own, forked from the monitor; they have one thread and only come back when
//! they cannot go on. SIGPIPE must be ignored there, as the runtime of Rust does: a side that is gone is an error like others.

mod tcp;
mod udp;

#[cfg(test)]
mod tests;

pub use tcp::serve_tcp;
pub use udp::serve_udp;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Descriptors that are left for what is no connection: standard ones, listener, epoll.
const SPARE_DESCRIPTORS: u64 = 32;

/// So many descriptors this process may have; the soft limit is raised to the hard one.
fn descriptors_allowed() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current.unwrap_or(1 << 20).saturating_sub(SPARE_DESCRIPTORS)
}

/// A socket that never waits, on its way to the target.
fn connecting(target: SocketAddr, kind: SocketType) -> rustix::io::Result<OwnedFd> {
    let family = if target.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
    match rustix::net::connect(&socket, &target) {
        Ok(()) | Err(rustix::io::Errno::INPROGRESS) => Ok(socket),
        Err(error) => Err(error),
    }
}
