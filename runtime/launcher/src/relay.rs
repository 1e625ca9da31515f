//! Between the caller's terminal and a container's: for `run` and `exec` that somebody sits in front of.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::termios::{OptionalActions, Termios};

use crate::Error;

/// As much as is passed on at once.
const PIECE: usize = 16 * 1024;

/// As much as a pipe takes without waiting if anything can be written to it (pipe(7), PIPE_BUF).
const AT_ONCE: usize = 4096;

/// The end that will be sent, and where it arrives.
#[derive(Debug)]
pub struct Relay {
    arrives: UnixStream,
    master: Option<OwnedFd>,
    /// The caller's terminal as it was.
    before: Option<Termios>,
    input_ended: bool,
    /// What the caller has typed and the container not taken yet.
    to_container: Vec<u8>,
    /// What the container has printed and the caller not taken yet.
    to_caller: Vec<u8>,
}

impl Relay {
    /// A relay, and the socket that the container's terminal is to be sent to.
    pub fn new() -> Result<(Self, UnixStream), Error> {
        let (arrives, sends) = UnixStream::pair().map_err(Error::system("make a socket"))?;
        let (to_container, to_caller) = (Vec::new(), Vec::new());
        Ok((Self { arrives, master: None, before: None, input_ended: false, to_container, to_caller }, sends))
    }

    /// Rows and columns of the caller's terminal, if it is one.
    pub fn size() -> Option<(u64, u64)> {
        let size = rustix::termios::tcgetwinsize(rustix::stdio::stdin()).ok()?;
        Some((size.ws_row.into(), size.ws_col.into()))
    }

    /// Takes the terminal that has been sent, and leaves it to the container what keys mean.
    pub fn begin(&mut self) -> Result<(), Error> {
        let master = receive(&self.arrives).map_err(Error::system("receive the container's terminal"))?;
        let input = rustix::stdio::stdin();
        if let Ok(before) = rustix::termios::tcgetattr(input) {
            let mut raw = before.clone();
            raw.make_raw();
            rustix::termios::tcsetattr(input, OptionalActions::Now, &raw).map_err(Error::system("set the terminal"))?;
            self.before = Some(before);
        }
        // It is nobody else's: the container has the other end.
        rustix::io::ioctl_fionbio(&master, true).map_err(Error::system("set the container's terminal"))?;
        self.master = Some(master);
        self.resize();
        Ok(())
    }

    /// The container's terminal becomes as large as the caller's.
    pub(crate) fn resize(&self) {
        if let (Some(master), Ok(size)) = (&self.master, rustix::termios::tcgetwinsize(rustix::stdio::stdin())) {
            let _ = rustix::termios::tcsetwinsize(master, size);
        }
    }

    /// What is to be waited for. Neither side is read from while what was read before waits to be taken by the other: so
    /// nobody is ever waited for but here, where signals and the container's end are seen as well.
    pub(crate) fn wants(&self) -> Wants<'_> {
        let master = self.master.as_ref().map(OwnedFd::as_fd);
        let (mut of_master, mut input, mut output) = (PollFlags::empty(), None, None);
        if self.to_caller.is_empty() {
            of_master |= PollFlags::IN;
        } else {
            output = Some(rustix::stdio::stdout());
        }
        if !self.to_container.is_empty() {
            of_master |= PollFlags::OUT;
        } else if !self.input_ended && master.is_some() {
            input = Some(rustix::stdio::stdin());
        }
        Wants { master: master.map(|master| (master, of_master)), input, output }
    }

    /// Moves what can be moved at once.
    pub(crate) fn turn(&mut self, master: PollFlags, input: bool, output: bool) {
        if output {
            self.write_output();
        }
        if master.contains(PollFlags::OUT) {
            self.write_input();
        }
        if input {
            let mut piece = [0; PIECE];
            let count = rustix::io::read(rustix::stdio::stdin(), &mut piece).unwrap_or(0);
            self.input_ended = count == 0;
            self.to_container.extend_from_slice(&piece[..count]);
            self.write_input();
        }
        // Also when the other side is gone: the read says so.
        if self.to_caller.is_empty() && master.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
            self.read_output();
        }
    }

    fn read_output(&mut self) {
        let Some(master) = &self.master else { return };
        let mut piece = [0; PIECE];
        match rustix::io::read(master, &mut piece) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            // EIO: nobody in the container has it open any more.
            Ok(0) | Err(_) => self.master = None,
            Ok(count) => self.to_caller.extend_from_slice(&piece[..count]),
        }
    }

    /// As much as a pipe that can be written to takes without waiting.
    fn write_output(&mut self) {
        let count = self.to_caller.len().min(AT_ONCE);
        match rustix::io::write(rustix::stdio::stdout(), &self.to_caller[..count]) {
            Ok(count) => drop(self.to_caller.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody reads it any more; the container goes on.
            Err(_) => self.to_caller.clear(),
        }
    }

    fn write_input(&mut self) {
        let Some(master) = &self.master else { return self.to_container.clear() };
        match rustix::io::write(master, &self.to_container) {
            Ok(count) => drop(self.to_container.drain(..count)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => self.to_container.clear(),
        }
    }

    /// After the container's end: whether there is something of its output that its caller has not got. Others in the
    /// container may have the terminal open for good.
    pub(crate) fn has_rest(&mut self) -> bool {
        if self.to_caller.is_empty() {
            self.read_output();
        }
        !self.to_caller.is_empty()
    }
}

/// What a relay waits for.
pub(crate) struct Wants<'a> {
    /// The container's terminal, and for what.
    pub(crate) master: Option<(BorrowedFd<'a>, PollFlags)>,
    /// Something to read.
    pub(crate) input: Option<BorrowedFd<'a>>,
    /// Room to write.
    pub(crate) output: Option<BorrowedFd<'a>>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Flush, before);
        }
    }
}

fn receive(from: &UnixStream) -> io::Result<OwnedFd> {
    let (mut name, mut space) = ([0; 256], [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))]);
    let mut control = RecvAncillaryBuffer::new(&mut space);
    rustix::net::recvmsg(from, &mut [IoSliceMut::new(&mut name)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut files) => files.next(),
        _ => None,
    });
    file.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
}
