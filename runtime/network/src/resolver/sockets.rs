//! Sockets in the namespace of a container, made by a process that is not in it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::lead::Lead;

/// Where a container finds its resolver.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// How often another port is tried when the one for datagrams is not free for connections.
const TRIES: usize = 16;

/// The port that every program asks.
const DNS: u16 = 53;

/// What the resolver listens at.
#[derive(Debug)]
pub struct Sockets {
    /// For datagrams.
    pub udp: OwnedFd,
    /// For connections, listening.
    pub tcp: OwnedFd,
    /// The port of both.
    pub port: u16,
    /// What leads port 53 to them, if they are at another one.
    pub(super) lead: Option<Lead>,
}

/// Why there are no sockets.
#[derive(Debug, thiserror::Error)]
pub enum SocketsError {
    /// The namespace could not be entered. This process is where it was.
    #[error("cannot enter the network namespace of the container: {0}")]
    Enter(io::Error),
    /// The namespace could not be left: this process must end, for it is in the container's network.
    #[error("cannot leave the network namespace of the container: {0}")]
    Leave(io::Error),
    /// No socket at the address. Its loopback interface must be up.
    #[error("cannot listen at `{address}` in the container: {source}; another program may have its port")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Makes the resolver's sockets in a network namespace, at 127.0.0.11 and a free port, and has its packet filter lead
/// port 53 there: so a program in the container can have port 53 of all addresses, as name servers want it. Where the
/// kernel cannot do that the sockets are at port 53 themselves.
///
/// The calling thread goes there and comes back; a process that uses this for its own needs has one thread.
pub fn sockets_behind_53(namespace: BorrowedFd<'_>) -> Result<Sockets, SocketsError> {
    let behind = within(namespace, 0, || {
        let sockets = listen(0)?;
        let lead = Lead::open(sockets.port);
        Ok(Sockets { lead, ..sockets })
    })?;
    if behind.lead.is_some() { Ok(behind) } else { sockets_in(namespace, DNS) }
}

/// Makes the resolver's sockets in a network namespace, at 127.0.0.11 and the given port (0: one that is free).
///
/// The calling thread goes there and comes back; a process that uses this for its own needs has one thread.
pub fn sockets_in(namespace: BorrowedFd<'_>, port: u16) -> Result<Sockets, SocketsError> {
    within(namespace, port, || listen(port))
}

fn within(
    namespace: BorrowedFd<'_>,
    port: u16,
    action: impl FnOnce() -> rustix::io::Result<Sockets>,
) -> Result<Sockets, SocketsError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let home = rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty())
        .map_err(|error| SocketsError::Enter(error.into()))?;
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
        .map_err(|error| SocketsError::Enter(error.into()))?;
    let result = action();
    use std::os::fd::AsFd as _;
    move_into_link_name_space(home.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| SocketsError::Leave(error.into()))?;
    result.map_err(|error| SocketsError::Listen { address: SocketAddr::new(ADDRESS, port), source: error.into() })
}

fn listen(port: u16) -> rustix::io::Result<Sockets> {
    let mut result = Err(Errno::ADDRINUSE);
    for _ in 0..TRIES {
        let udp = bound(SocketType::DGRAM, port)?;
        let chosen = SocketAddr::try_from(rustix::net::getsockname(&udp)?).map_err(|_| Errno::INVAL)?.port();
        result = bound(SocketType::STREAM, chosen)
            .and_then(|tcp| rustix::net::listen(&tcp, 64).map(|()| Sockets { udp, tcp, port: chosen, lead: None }));
        // A port that was asked for is free or is not; of free ones there are others.
        if port != 0 || !matches!(result, Err(Errno::ADDRINUSE)) {
            break;
        }
    }
    result
}

fn bound(kind: SocketType, port: u16) -> rustix::io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
    // For a port that was named: connections of a resolver before us may still be closing. A free port is to be one that
    // nobody has.
    if port != 0 {
        sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(ADDRESS, port))?;
    Ok(socket)
}
