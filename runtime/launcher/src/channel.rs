//! What the process that makes a container and the one that becomes it say to each other.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::net::{AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SocketFlags, SocketType};

use crate::console::send;

/// One end.
#[derive(Debug)]
pub(crate) struct Channel(OwnedFd);

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What is said.
#[derive(Debug)]
pub(crate) enum Message {
    /// To the new process: go on.
    Go,
    /// The container's process is another one than was made first: its number.
    Process(i32),
    /// The namespaces are there and everything is mounted: hooks may be called.
    Mounted,
    /// Where the seccomp filter asks.
    Notifications(OwnedFd),
    /// Only `execve` is left.
    Ready,
    /// It has failed, and why.
    Failed(String),
}

/// Longer reasons are cut.
const LONGEST: usize = 16 * 1024;

impl Channel {
    /// Both ends.
    pub(crate) fn pair() -> io::Result<(Self, Self)> {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        Ok((Self(ours), Self(theirs)))
    }

    pub(crate) fn send(&self, message: &Message) -> io::Result<()> {
        let bytes = match message {
            Message::Go => b"G".to_vec(),
            Message::Process(pid) => [b"P", &pid.to_ne_bytes()[..]].concat(),
            Message::Mounted => b"M".to_vec(),
            Message::Notifications(file) => return send(&self.0, b"N", &[file.as_fd()]),
            Message::Ready => b"R".to_vec(),
            Message::Failed(text) => [b"F", &text.as_bytes()[..text.len().min(LONGEST - 1)]].concat(),
        };
        send(&self.0, &bytes, &[])
    }

    /// Lets the new process go on, wherever it is. That it has ended is no error here: it has said why, which is heard next.
    pub(crate) fn let_go_on(&self) -> io::Result<()> {
        match self.send(&Message::Go) {
            Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
            sent => sent,
        }
    }

    /// Waits so long at most; whether the other end has said something or is gone.
    pub(crate) fn is_ready_within(&self, time: Duration) -> bool {
        let time = Timespec { tv_sec: time.as_secs().cast_signed(), tv_nsec: i64::from(time.subsec_nanos()) };
        rustix::event::poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&time)) != Ok(0)
    }

    /// What the other end says next; nothing if it is gone.
    pub(crate) fn receive(&self) -> io::Result<Option<Message>> {
        self.receive_with(RecvFlags::CMSG_CLOEXEC)
    }

    /// What the other end has said already, if anything.
    pub(crate) fn received(&self) -> io::Result<Option<Message>> {
        match self.receive_with(RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            received => received,
        }
    }

    fn receive_with(&self, flags: RecvFlags) -> io::Result<Option<Message>> {
        let mut bytes = vec![0; LONGEST];
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let count = loop {
            let mut parts = [IoSliceMut::new(&mut bytes)];
            match rustix::net::recvmsg(&self.0, &mut parts, &mut control, flags) {
                // It has ended with a message of ours unread: said once, before what it has said itself.
                Err(rustix::io::Errno::INTR | rustix::io::Errno::CONNRESET) => {}
                received => break received?.bytes,
            }
        };
        let file = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut files) => files.next(),
            _ => None,
        });
        let message = match (bytes[..count].split_first(), file) {
            (None, _) => return Ok(None),
            (Some((b'G', _)), _) => Message::Go,
            (Some((b'P', number)), _) => {
                Message::Process(i32::from_ne_bytes(number.try_into().map_err(io::Error::other)?))
            }
            (Some((b'M', _)), _) => Message::Mounted,
            (Some((b'N', _)), Some(file)) => Message::Notifications(file),
            (Some((b'R', _)), _) => Message::Ready,
            (Some((b'F', text)), _) => Message::Failed(String::from_utf8_lossy(text).into_owned()),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        };
        Ok(Some(message))
    }
}
