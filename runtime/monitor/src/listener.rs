//! Where commands connect to a monitor.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cove_container::protocol::{Connection, SocketPlace};
use rustix::net::{
    AddressFamily, Shutdown, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, listen, shutdown, socket_with,
};

use crate::Error;

/// A socket in the run folder, which is closed to other users.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    path: PathBuf,
}

impl Listener {
    pub(crate) fn at(path: &Path) -> Result<Self, Error> {
        fn failed<E: Into<std::io::Error>>(path: &Path) -> impl FnOnce(E) -> Error {
            Error::system(format!("listen at `{}`", path.display()))
        }
        // That of a monitor that has died; we have its lock.
        let _ = std::fs::remove_file(path);
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(failed(path))?;
        let place = SocketPlace::of(path).map_err(failed(path))?;
        let address = SocketAddrUnix::new(place.path()).map_err(failed(path))?;
        bind(&socket, &address).and_then(|()| listen(&socket, 128)).map_err(failed(path))?;
        Ok(Self { socket, path: path.to_owned() })
    }

    pub(crate) fn accept(&self) -> Option<Connection> {
        accept_with(&self.socket, SocketFlags::CLOEXEC).ok().map(Connection::over)
    }

    /// Nobody connects any more, and who waits to be heard hears that nobody does.
    pub(crate) fn close(&self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = shutdown(&self.socket, Shutdown::Both);
        while self.accept().is_some() {}
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
