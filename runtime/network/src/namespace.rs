//! Network namespaces: making one, and looking into one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::netlink::{Batch, Socket};
use crate::{Error, link, syscalls};

/// The namespace of this thread, whatever thread it is.
fn current() -> Result<File, Error> {
    Ok(fs_err::File::open("/proc/thread-self/ns/net")?.into_parts().0)
}

fn enter(namespace: BorrowedFd<'_>) -> io::Result<()> {
    Ok(move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?)
}

/// Makes a network namespace and stays in this one.
///
/// The calling thread goes into the new one and comes back, which is quicker than a process made for it. The namespace
/// lives as long as somebody holds the descriptor or lives in it. It needs `CAP_SYS_ADMIN`.
pub fn new_namespace() -> Result<OwnedFd, Error> {
    let home = current()?;
    syscalls::unshare_network().map_err(|error| Error::kernel("make a network namespace", error.into()))?;
    let made = current();
    enter(home.as_fd()).map_err(Error::Stranded)?;
    Ok(made?.into())
}

/// Does something in a namespace and comes back.
pub(crate) fn within<T>(namespace: BorrowedFd<'_>, action: impl FnOnce() -> io::Result<T>) -> Result<T, Error> {
    let home = current()?;
    enter(namespace).map_err(|error| Error::kernel("enter the container's network namespace", error))?;
    let result = action();
    enter(home.as_fd()).map_err(Error::Stranded)?;
    result.map_err(|error| Error::kernel("work in the container's network namespace", error))
}

/// Takes the loopback device of a namespace into use: all the network that `none` has. It is in use already behind
/// [`crate::Networks::connect`].
pub fn loopback_up(namespace: BorrowedFd<'_>) -> Result<(), Error> {
    let mut socket = within(namespace, Socket::route)?;
    let mut batch = Batch::default();
    link::raise_loopback(&mut batch);
    socket.run(&mut batch).map_err(|error| Error::kernel("take the loopback device into use", error))
}
