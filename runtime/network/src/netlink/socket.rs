//! Sends a batch and reads what the kernel answers.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType};

use super::Batch;
use super::batch::HEADER;

const ERROR: u16 = 2;
const DONE: u16 = 3;
/// A dump whose things changed meanwhile says so in its flags.
const INTERRUPTED: u16 = 0x10;
/// The kernel fills a page or two into an answer to a dump, and all other answers are shorter.
const BUFFER: usize = 16 * 1024;
/// How often a dump that others interrupt is begun again.
const ATTEMPTS: usize = 20;

/// A socket to one netlink family, in the network namespace in which it was opened.
#[derive(Debug)]
pub(crate) struct Socket {
    descriptor: OwnedFd,
    sequence: u32,
}

/// What came back for one message.
#[derive(Debug, Default)]
pub(crate) struct Answer {
    /// Zero, or the error's number.
    pub(crate) error: i32,
    /// The messages that it was answered with: their types and what follows the message header.
    pub(crate) messages: Vec<(u16, Vec<u8>)>,
}

impl Answer {
    /// The messages, or the error.
    pub(crate) fn messages(self) -> io::Result<Vec<(u16, Vec<u8>)>> {
        if self.error == 0 { Ok(self.messages) } else { Err(io::Error::from_raw_os_error(self.error)) }
    }

    /// What follows the header of the first message; `None` if the kernel says that there is no such thing.
    pub(crate) fn found(self) -> io::Result<Option<Vec<u8>>> {
        match self.error {
            libc::ENOENT | libc::ENODEV => Ok(None),
            _ => Ok(self.messages()?.into_iter().next().map(|(_, body)| body)),
        }
    }
}

impl Socket {
    /// Opens one to links, addresses and routes.
    pub(crate) fn route() -> io::Result<Self> {
        // NETLINK_ROUTE is 0, the protocol that is meant without one.
        Self::open(None)
    }

    /// Opens one to nf_tables and connection tracking.
    pub(crate) fn netfilter() -> io::Result<Self> {
        Self::open(Some(rustix::net::netlink::NETFILTER))
    }

    fn open(protocol: Option<Protocol>) -> io::Result<Self> {
        let kind = (AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC);
        let descriptor = rustix::net::socket_with(kind.0, kind.1, kind.2, protocol)?;
        Ok(Socket { descriptor, sequence: 1 })
    }

    /// Sends the messages; the first error, if any of them has one.
    pub(crate) fn run(&mut self, batch: &mut Batch) -> io::Result<()> {
        for answer in self.ask(batch)? {
            answer.messages()?;
        }
        Ok(())
    }

    /// Sends the messages and gives the answers, one for each.
    ///
    /// The last message must ask for an acknowledgement or be a dump, for its answer ends the answers. Only the last can
    /// be a dump: a socket has one at a time.
    pub(crate) fn ask(&mut self, batch: &mut Batch) -> io::Result<Vec<Answer>> {
        let last = batch.len().saturating_sub(1);
        for _ in 0..ATTEMPTS {
            if let Some(answers) = self.attempt(batch, last, false)? {
                return Ok(answers);
            }
        }
        Err(io::ErrorKind::Interrupted.into())
    }

    /// Sends a transaction of nf_tables: a message that begins it, those that it is made of, one that ends it.
    pub(crate) fn commit(&mut self, batch: &mut Batch) -> io::Result<()> {
        let last = batch.len().saturating_sub(2);
        batch.acknowledge(last);
        for answer in self.attempt(batch, last, true)?.unwrap_or_default() {
            answer.messages()?;
        }
        Ok(())
    }

    fn attempt(&mut self, batch: &mut Batch, last: usize, transaction: bool) -> io::Result<Option<Vec<Answer>>> {
        let (count, first) = (batch.len(), self.sequence);
        self.sequence = first.wrapping_add(u32::try_from(count).unwrap_or(0)).max(1);
        let bytes = batch.numbered(first);
        rustix::io::retry_on_intr(|| rustix::net::send(&self.descriptor, bytes, SendFlags::empty()))?;
        let mut answers: Vec<Answer> = (0..count).map(|_| Answer::default()).collect();
        let (mut finished, mut interrupted) = (false, false);
        // Not filled with zeros first: what is never written costs the monitor no memory.
        let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER];
        while !finished {
            let received = loop {
                match rustix::net::recv(&self.descriptor, &mut buffer, RecvFlags::TRUNC) {
                    Err(rustix::io::Errno::INTR) => {}
                    received => break received?,
                }
            };
            let ((received, _), length) = received;
            if received.len() < length {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut rest: &[u8] = received;
            while let Some(message) = next(&mut rest) {
                let number = usize::try_from(message.sequence.wrapping_sub(first)).unwrap_or(count);
                // What is not an answer to these is a late one to an attempt before.
                let Some(answer) = answers.get_mut(number) else { continue };
                interrupted |= message.flags & INTERRUPTED != 0;
                match message.kind {
                    ERROR | DONE => {
                        let code =
                            message.body.get(..4).and_then(|code| code.try_into().ok()).map_or(0, i32::from_ne_bytes);
                        answer.error = code.checked_neg().unwrap_or(libc::EPROTO);
                        // A transaction that is not even begun, or not committed, is answered at its first message.
                        finished |= number == last || (transaction && number == 0 && answer.error != 0);
                    }
                    kind => answer.messages.push((kind, message.body.to_vec())),
                }
            }
        }
        Ok((!interrupted).then_some(answers))
    }
}

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    body: &'a [u8],
}

fn next<'a>(rest: &mut &'a [u8]) -> Option<Message<'a>> {
    let header = rest.get(..HEADER)?;
    let word = |at: usize| Some(u32::from_ne_bytes(header.get(at..at + 4)?.try_into().ok()?));
    let half = |at: usize| Some(u16::from_ne_bytes(header.get(at..at + 2)?.try_into().ok()?));
    let length = usize::try_from(word(0)?).ok()?;
    let message = Message { kind: half(4)?, flags: half(6)?, sequence: word(8)?, body: rest.get(HEADER..length)? };
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some(message)
}
