//! Sockets in the namespace of a container, made by a process that is not in it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where a container finds its resolver.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// How often another port is tried when the one for datagrams is not free for connections.
const TRIES: usize = 16;

/// What the resolver listens at.
#[derive(Debug)]
pub struct Sockets {
    /// For datagrams.
    pub udp: OwnedFd,
    /// For connections, listening.
    pub tcp: OwnedFd,
    /// The port of both.
    pub port: u16,
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
    #[error("cannot listen at `{address}` in the container: {source}; another program may have port 53")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}

/// Makes the resolver's sockets in a network namespace, at 127.0.0.11 and the given port (0: one that is free, for
/// a packet filter that leads port 53 to it).
///
/// The calling thread goes there and comes back; a process that uses this for its own needs has one thread.
pub fn sockets_in(namespace: BorrowedFd<'_>, port: u16) -> Result<Sockets, SocketsError> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let home = rustix::fs::open("/proc/thread-self/ns/net", flags, Mode::empty())
        .map_err(|error| SocketsError::Enter(error.into()))?;
    move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))
        .map_err(|error| SocketsError::Enter(error.into()))?;
    let result = listen(port);
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
            .and_then(|tcp| rustix::net::listen(&tcp, 64).map(|()| Sockets { udp, tcp, port: chosen }));
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
