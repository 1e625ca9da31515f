//! Commands that are connected: they watch, type, wait or ask.

use std::collections::VecDeque;
use std::io;

use cove_container::log::Stream;
use cove_container::protocol::{Attach, Connection, Exec, Message};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// What is kept for a client that may lose something; beyond that it is cut off.
const BACKLOG: usize = 1024 * 1024;

/// One of them.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) connection: Connection,
    /// The streams that it watches.
    pub(crate) attached: Option<Attach>,
    /// It asks for a pause, which waits for processes that are being made.
    pub(crate) asks_pause: bool,
    /// What it hears when the container has ended.
    pub(crate) waits_for: Option<Awaited>,
    /// The further process that it has asked for.
    pub(crate) exec: Option<Exec>,
    /// Output that it has not taken yet.
    backlog: VecDeque<(Stream, Vec<u8>)>,
    backlog_bytes: usize,
    is_gone: bool,
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Awaited {
    /// The end and its exit status, before the container is removed.
    End,
    /// That what it has asked for is done.
    Stopped,
}

impl Client {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            attached: None,
            waits_for: None,
            exec: None,
            asks_pause: false,
            backlog: VecDeque::new(),
            backlog_bytes: 0,
            is_gone: false,
        }
    }

    /// Says something; who does not listen is gone.
    pub(crate) fn say(&mut self, message: &Message<'_>) {
        match self.connection.try_send(message) {
            Ok(true) => {}
            Ok(false) | Err(_) => self.is_gone = true,
        }
    }

    pub(crate) fn leave(&mut self) {
        self.is_gone = true;
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.is_gone
    }

    fn watches(&self, stream: Stream) -> bool {
        self.attached.is_some_and(|attached| match stream {
            Stream::Stdout => attached.stdout,
            Stream::Stderr => attached.stderr,
        })
    }

    /// Whether the container must wait for this client.
    pub(crate) fn holds_up(&self) -> bool {
        !self.backlog.is_empty() && self.attached.is_some_and(|attached| attached.lossless) && !self.is_gone
    }

    /// Whether the end cannot be told to this client yet: it must not miss anything, and has no room for more.
    pub(crate) fn keeps_the_end(&self) -> bool {
        let is_full = || {
            let mut socket = [PollFd::new(&self.connection, PollFlags::OUT)];
            poll(&mut socket, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready == 0)
        };
        self.holds_up() || self.attached.is_some_and(|attached| attached.lossless) && !self.is_gone && is_full()
    }

    /// Whether there is output that it has not taken.
    pub(crate) fn has_backlog(&self) -> bool {
        !self.backlog.is_empty() && !self.is_gone
    }

    /// Gives it output.
    pub(crate) fn output(&mut self, stream: Stream, bytes: &[u8]) {
        if self.is_gone || !self.watches(stream) {
            return;
        }
        if self.backlog.is_empty() && self.sent(stream, bytes) {
            return;
        }
        self.backlog_bytes += bytes.len();
        self.backlog.push_back((stream, bytes.to_vec()));
        if self.backlog_bytes > BACKLOG && !self.holds_up() {
            self.is_gone = true;
        }
    }

    /// Sends what it can take now.
    pub(crate) fn flush(&mut self) {
        while let Some((stream, bytes)) = self.backlog.pop_front() {
            if !self.sent(stream, &bytes) {
                self.backlog.push_front((stream, bytes));
                return;
            }
            self.backlog_bytes -= bytes.len();
        }
    }

    fn sent(&mut self, stream: Stream, bytes: &[u8]) -> bool {
        let message = match stream {
            Stream::Stdout => Message::Output(bytes),
            Stream::Stderr => Message::ErrorOutput(bytes),
        };
        match self.connection.try_send(&message) {
            Ok(sent) => sent,
            Err(error) => {
                // Too long for its socket would be our mistake; everything else says that it is gone.
                debug_assert_ne!(error.kind(), io::ErrorKind::InvalidInput);
                self.is_gone = true;
                true
            }
        }
    }
}
