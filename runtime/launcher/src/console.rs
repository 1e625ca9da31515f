//! The container's terminal: made from its own `/dev/pts`, its other end handed to the caller over a socket.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Gid, OFlags, Uid};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::Error;
use crate::config::Process;
use crate::error::Failure;
use crate::mounts::{Kind, Tree, Within, refuse_over_proc};
use crate::syscalls::control_terminal;

/// Where the other end of a container's terminal is sent to.
#[derive(Debug)]
pub enum ConsoleSocket {
    /// Somebody listens here.
    At(PathBuf),
    /// It is connected already.
    Connected(UnixStream),
    /// The same, for a process that may not want a terminal.
    IfWanted(UnixStream),
}

impl ConsoleSocket {
    pub(crate) fn connect(&self) -> Result<UnixStream, Error> {
        match self {
            Self::At(path) => UnixStream::connect(path).map_err(Error::file("connect to the console socket", path)),
            Self::Connected(stream) | Self::IfWanted(stream) => {
                stream.try_clone().map_err(Error::system("duplicate a descriptor"))
            }
        }
    }
}

/// A terminal of this container, which is this process' own from now on.
#[derive(Debug)]
pub(crate) struct Console {
    terminal: OwnedFd,
}

impl Console {
    /// Makes one of the `/dev/ptmx` that is below the root, and sends the other end to the caller.
    pub(crate) fn make(within: &Within, process: &Process, caller: &UnixStream) -> Result<Self, Failure> {
        let make = || -> io::Result<OwnedFd> {
            let flags = OFlags::RDWR | OFlags::NOCTTY;
            let master = within.open(Path::new("/dev/ptmx"), flags)?;
            let found = rustix::fs::fstat(&master)?;
            // The image could have put anything there.
            if FileType::from_raw_mode(found.st_mode) != FileType::CharacterDevice
                || found.st_rdev != rustix::fs::makedev(5, 2)
            {
                return Err(io::Error::other("/dev/ptmx is not the device that makes terminals"));
            }
            rustix::pty::unlockpt(&master)?;
            let peer = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
            let terminal = rustix::pty::ioctl_tiocgptpeer(&master, peer)?;
            if let Some(size) = process.console_size {
                let number = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
                let (ws_row, ws_col) = (number(size.height()), number(size.width()));
                rustix::termios::tcsetwinsize(&master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 })?;
            }
            send(caller, b"/dev/ptmx", &[master.as_fd()])?;
            Ok(terminal)
        };
        Ok(Self { terminal: make().map_err(Failure::at("error making a terminal"))? })
    }

    /// Shows it as the container's `/dev/console`.
    pub(crate) fn mount(&self, within: &Within) -> Result<(), Failure> {
        let mount = || -> io::Result<()> {
            let path = Path::new("/dev/console");
            let target = within.open_or_make_plain(path, Kind::File)?;
            refuse_over_proc(path, target.as_fd())?;
            Tree::of(self.terminal.as_fd(), false)?.attach(target.as_fd())
        };
        mount().map_err(Failure::at("error mounting /dev/console"))
    }

    /// Makes it input, output, and what signals come from.
    pub(crate) fn take(self, process: &Process) -> Result<(), Failure> {
        let take = || -> io::Result<()> {
            let user = &process.user;
            // A group of terminals, where the image's /dev/pts has one, stays.
            rustix::fs::fchown(&self.terminal, Some(Uid::from_raw(user.uid())), None::<Gid>)?;
            control_terminal(self.terminal.as_fd())?;
            rustix::stdio::dup2_stdin(&self.terminal)?;
            rustix::stdio::dup2_stdout(&self.terminal)?;
            rustix::stdio::dup2_stderr(&self.terminal)?;
            Ok(())
        };
        take().map_err(Failure::at("error taking the terminal"))
    }
}

/// What is said with a descriptor of a process (`--pidfd-socket`).
pub(crate) const PIDFD: &[u8] = b"pidfd";

/// Connects to where such a descriptor is wanted.
pub(crate) fn pidfd_socket(path: &Path) -> Result<UnixStream, Error> {
    UnixStream::connect(path).map_err(Error::file("connect to the pidfd socket", path))
}

/// Sends bytes and descriptors (unix(7), SCM_RIGHTS).
pub(crate) fn send(to: impl AsFd, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    rustix::net::sendmsg(to, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}
