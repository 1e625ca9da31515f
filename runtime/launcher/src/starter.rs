//! How `start` reaches the process that waits for it: a socket in the container's folder.
//!
//! The process that was made by `create` listens there. `start` says so, and hears nothing when the container's program
//! has taken over (its end closes by `execve`), or else why it has not.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use crate::Error;
use crate::state::Folder;

const SOCKET: &str = "start.sock";
const START: &[u8] = b"start";
/// `start` speaks at once.
const PATIENCE: Duration = Duration::from_secs(2);
/// Much more than any reason.
const LONGEST_REASON: u64 = 64 * 1024;

/// The end that waits.
#[derive(Debug)]
pub(crate) struct Waiting(UnixListener);

/// Who has said `start`, and wants to hear what comes of it.
#[derive(Debug)]
pub(crate) struct Started(UnixStream);

/// Names of sockets are short: the folder is reached through a descriptor.
fn short_path(folder: &OwnedFd) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))
}

fn open(folder: &Folder) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    Ok(rustix::fs::open(folder.path(), OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

impl Waiting {
    pub(crate) fn make(folder: &Folder) -> Result<Self, Error> {
        let make = || UnixListener::bind(short_path(&open(folder)?));
        Ok(Self(make().map_err(Error::file("make a socket in", folder.path()))?))
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Waits until somebody says `start`. Who only looks whether somebody waits says nothing.
    pub(crate) fn wait(&self) -> io::Result<Started> {
        loop {
            let (mut stream, _) = self.0.accept()?;
            // Who connects and says nothing must not keep others from it.
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut word = [0; START.len()];
            if stream.read_exact(&mut word).is_ok() && word == START {
                return Ok(Started(stream));
            }
        }
    }
}

impl Started {
    /// Says why nothing has come of it.
    pub(crate) fn fail(&mut self, reason: &str) {
        // Who is gone does not want to know.
        let _ = self.0.write_all(reason.as_bytes());
    }
}

/// Whether the container's process waits.
pub(crate) fn waits(folder: &Folder) -> bool {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
    let look = || -> io::Result<()> {
        let folder = open(folder)?;
        let address = SocketAddrUnix::new(short_path(&folder))?;
        // A process that was stopped takes nobody from its queue: who finds that full must not wait.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        Ok(rustix::net::connect(&socket, &address)?)
    };
    match look() {
        // Refused when nobody listens any more.
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        Ok(()) => true,
    }
}

/// Says `start`, and waits for what comes of it.
pub(crate) fn start(folder: &Folder) -> Result<(), Error> {
    let handle = open(folder).map_err(Error::file("open", folder.path()))?;
    let mut stream = match UnixStream::connect(short_path(&handle)) {
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => {
            return Err(Error::StartRunning);
        }
        stream => stream.map_err(Error::file("reach the process behind", folder.path()))?,
    };
    let mut reason = String::new();
    let told = stream.write_all(START).and_then(|()| (&mut stream).take(LONGEST_REASON).read_to_string(&mut reason));
    // Nobody can start it twice.
    let _ = rustix::fs::unlinkat(handle.as_fd(), SOCKET, rustix::fs::AtFlags::empty());
    told.map_err(Error::system("the container's process has ended before it was started"))?;
    if reason.is_empty() { Ok(()) } else { Err(Error::Start(reason)) }
}
