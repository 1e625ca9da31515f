//! The standard streams of a container's process, seen from outside.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use cove_container::log::Stream;
use cove_container::protocol::SocketPlace;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketAddrUnix, SocketFlags, SocketType,
    accept_with, bind, listen, recvmsg, socket_with,
};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::Error;
use crate::process::{input_pipe, output_pipe, set_nonblocking};
use crate::runtime::Stdio3;

/// As much input is kept for a process that does not read; who sends more waits.
const INPUT_LIMIT: usize = 256 * 1024;

/// Our ends.
#[derive(Debug, Default)]
pub(crate) struct Streams {
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
    /// Of a terminal, which is input and output at once.
    terminal: Option<File>,
    input: VecDeque<u8>,
    /// No more input comes after what is kept.
    input_ends: bool,
    /// What a terminal that is still to come is told first.
    size: Option<(u16, u16)>,
}

/// Waits for the terminal that the runtime makes.
pub(crate) struct ConsoleSocket {
    socket: OwnedFd,
    place: SocketPlace,
    path: PathBuf,
}

impl Streams {
    /// Makes pipes: our ends, and those of the process.
    pub(crate) fn pipes(with_input: bool) -> Result<(Self, Stdio3), Error> {
        let (stdout, their_stdout) = output_pipe()?;
        let (stderr, their_stderr) = output_pipe()?;
        let (their_stdin, stdin) = if with_input {
            let (theirs, ours) = input_pipe()?;
            (Some(theirs), Some(ours.into()))
        } else {
            (None, None)
        };
        let streams = Self { stdin, stdout: Some(stdout.into()), stderr: Some(stderr.into()), ..Self::default() };
        Ok((streams, Stdio3 { stdin: their_stdin, stdout: Some(their_stdout), stderr: Some(their_stderr) }))
    }

    /// Of a process that has a terminal.
    pub(crate) fn terminal(terminal: OwnedFd) -> Result<Self, Error> {
        set_nonblocking(&terminal)?;
        Ok(Self { terminal: Some(terminal.into()), ..Self::default() })
    }

    /// Of a process that will have a terminal of this size.
    pub(crate) fn of_size(size: Option<(u16, u16)>) -> Self {
        Self { size, ..Self::default() }
    }

    pub(crate) fn size(&self) -> Option<(u16, u16)> {
        self.size
    }

    /// What there is to read from.
    pub(crate) fn outputs(&self) -> impl Iterator<Item = (Stream, BorrowedFd<'_>)> {
        let all = [(Stream::Stdout, &self.stdout), (Stream::Stderr, &self.stderr), (Stream::Stdout, &self.terminal)];
        all.into_iter().filter_map(|(stream, file)| Some((stream, file.as_ref()?.as_fd())))
    }

    /// Reads what there is; `None`: nothing at the moment. At its end a stream is closed.
    pub(crate) fn read(&mut self, stream: Stream, buffer: &mut [u8]) -> Option<usize> {
        let slot = match stream {
            Stream::Stdout if self.terminal.is_some() => &mut self.terminal,
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let file = slot.as_mut()?;
        loop {
            match file.read(buffer) {
                Ok(length) if length > 0 => return Some(length),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // A terminal that nobody has open any more says EIO.
                Ok(_) | Err(_) => {
                    *slot = None;
                    return None;
                }
            }
        }
    }

    /// Whether all output has come to its end.
    pub(crate) fn is_drained(&self) -> bool {
        self.outputs().next().is_none()
    }

    /// Whether input can be taken.
    pub(crate) fn takes_input(&self) -> bool {
        self.input.len() < INPUT_LIMIT
    }

    /// What to wait for until more input can be written, if there is some.
    pub(crate) fn blocked_input(&self) -> Option<BorrowedFd<'_>> {
        let file = self.stdin.as_ref().or(self.terminal.as_ref()).filter(|_| !self.input.is_empty());
        file.map(File::as_fd)
    }

    /// Takes input for the process. Without a process that reads it is lost, as with docker.
    pub(crate) fn input(&mut self, bytes: &[u8]) {
        if self.stdin.is_some() || self.terminal.is_some() {
            self.input.extend(bytes);
            self.write_input();
        }
    }

    /// Closes the input after what is kept. A terminal has no end: its reader sees one when somebody types it.
    pub(crate) fn end_input(&mut self) {
        self.input_ends = true;
        self.write_input();
    }

    /// Writes what the process takes.
    pub(crate) fn write_input(&mut self) {
        while !self.input.is_empty() {
            let Some(file) = self.stdin.as_mut().or(self.terminal.as_mut()) else { break };
            match file.write(self.input.as_slices().0) {
                Ok(written) => drop(self.input.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // It does not read any more.
                Err(_) => {
                    self.input.clear();
                    self.stdin = None;
                }
            }
        }
        if self.input_ends {
            self.stdin = None;
        }
    }

    /// Tells the terminal how large the window is.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        if let Some(terminal) = &self.terminal {
            let _ = tcsetwinsize(terminal, Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 });
        }
    }
}

impl ConsoleSocket {
    pub(crate) fn at(path: PathBuf) -> Result<Self, Error> {
        let _ = std::fs::remove_file(&path);
        let failed = || Error::system("wait for the terminal");
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(failed())?;
        let place = SocketPlace::of(&path).map_err(Error::system("wait for the terminal"))?;
        let address = SocketAddrUnix::new(place.path()).map_err(failed())?;
        bind(&socket, &address).and_then(|()| listen(&socket, 1)).map_err(failed())?;
        Ok(Self { socket, place, path })
    }

    /// What the runtime is told.
    pub(crate) fn path(&self) -> &Path {
        self.place.path()
    }

    /// The terminal, when the runtime has come back.
    pub(crate) fn terminal(self) -> Result<OwnedFd, Error> {
        let failed = || Error::system("take the terminal");
        let connection = accept_with(&self.socket, SocketFlags::CLOEXEC).map_err(failed())?;
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut name = [0; 4096];
        recvmsg(&connection, &mut [io::IoSliceMut::new(&mut name)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
            .map_err(failed())?;
        let mut files = ancillary.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(files) => Some(files),
            _ => None,
        });
        let file = files.next().and_then(|mut files| files.next());
        file.ok_or_else(|| Error::system("take the terminal")(io::Error::from(io::ErrorKind::UnexpectedEof)))
    }
}

impl Drop for ConsoleSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
