//! Between the caller's terminal and a container's: for `run` and `exec` that somebody sits in front of.

use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::termios::{OptionalActions, Termios};

use crate::Error;

/// As much as is passed on at once.
const PIECE: usize = 16 * 1024;

/// The end that will be sent, and where it arrives.
#[derive(Debug)]
pub struct Relay {
    arrives: UnixStream,
    master: Option<OwnedFd>,
    /// The caller's terminal as it was.
    before: Option<Termios>,
    input_ended: bool,
}

impl Relay {
    /// A relay, and the socket that the container's terminal is to be sent to.
    pub fn new() -> Result<(Self, UnixStream), Error> {
        let (arrives, sends) = UnixStream::pair().map_err(Error::system("make a socket"))?;
        Ok((Self { arrives, master: None, before: None, input_ended: false }, sends))
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

    /// What is to be waited for: the container's output, and the caller's input unless that has ended.
    pub(crate) fn files(&self) -> (Option<BorrowedFd<'_>>, Option<BorrowedFd<'_>>) {
        let master = self.master.as_ref().map(OwnedFd::as_fd);
        (master, master.filter(|_| !self.input_ended).map(|_| rustix::stdio::stdin()))
    }

    /// Passes on a piece of the container's output; whether more may come.
    pub(crate) fn output(&mut self) -> bool {
        let Some(master) = &self.master else { return false };
        let mut piece = [0; PIECE];
        match rustix::io::read(master, &mut piece) {
            Ok(0) | Err(_) => {
                // EIO: nobody in the container has it open any more.
                self.master = None;
                false
            }
            Ok(count) => {
                let mut out = io::stdout();
                let _ = out.write_all(&piece[..count]).and_then(|()| out.flush());
                true
            }
        }
    }

    /// Passes on what is there already; others in the container may have the terminal open for good.
    pub(crate) fn rest(&mut self) {
        let is_there = |master: &OwnedFd| {
            let mut files = [PollFd::new(master, PollFlags::IN)];
            rustix::event::poll(&mut files, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0)
        };
        while self.master.as_ref().is_some_and(is_there) && self.output() {}
    }

    /// Passes on a piece of the caller's input.
    pub(crate) fn input(&mut self) {
        let Some(master) = &self.master else { return };
        let mut piece = [0; PIECE];
        let count = rustix::io::read(rustix::stdio::stdin(), &mut piece).unwrap_or(0);
        self.input_ended = count == 0;
        let Ok(master) = master.try_clone() else { return };
        let _ = std::fs::File::from(master).write_all(&piece[..count]);
    }
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
