//! A connection of a container to its resolver: a length of two bytes before each message, one question at a time.

use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

/// The longest query that is taken. A question has 271 bytes at most; the rest is room for EDNS.
const LONGEST_QUERY: usize = 4096;

#[derive(Debug)]
pub(super) struct Client {
    pub socket: OwnedFd,
    /// When it is closed if nothing happens.
    pub deadline: Instant,
    /// Whether a question of it is with a server.
    pub waiting: bool,
    input: Vec<u8>,
    output: Vec<u8>,
    written: usize,
    ended: bool,
}

/// The connection is over.
#[derive(Debug)]
pub(super) struct Over;

impl Client {
    pub fn new(socket: OwnedFd, deadline: Instant) -> Self {
        Self { socket, deadline, waiting: false, input: Vec::new(), output: Vec::new(), written: 0, ended: false }
    }

    /// What is to be waited for.
    pub fn interest(&self) -> EventFlags {
        if self.written < self.output.len() {
            EventFlags::OUT
        } else if self.waiting {
            EventFlags::empty()
        } else {
            EventFlags::IN
        }
    }

    /// Reads what has come.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<(), Over> {
        if self.waiting || self.ended || self.written < self.output.len() || self.input.len() >= 2 + LONGEST_QUERY {
            return Ok(());
        }
        let room = buffer.len().min(2 + LONGEST_QUERY);
        match rustix::net::recv(&self.socket, &mut buffer[..room], RecvFlags::empty()) {
            Ok((0, _)) => self.ended = true,
            Ok((length, _)) => self.input.extend_from_slice(&buffer[..length]),
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(_) => return Err(Over),
        }
        Ok(())
    }

    /// The next question, if it is complete and its turn has come.
    pub fn next_query(&mut self) -> Result<Option<Vec<u8>>, Over> {
        if self.waiting || self.written < self.output.len() {
            return Ok(None);
        }
        let nothing = if self.ended { Err(Over) } else { Ok(None) };
        let Some(length) = self.input.first_chunk() else { return nothing };
        let end = 2 + usize::from(u16::from_be_bytes(*length));
        if end > 2 + LONGEST_QUERY {
            return Err(Over);
        }
        if self.input.len() < end {
            return nothing;
        }
        let query = self.input[2..end].to_vec();
        self.input.drain(..end);
        Ok(Some(query))
    }

    /// Answers the question that was last taken.
    pub fn answer(&mut self, response: &[u8]) -> Result<(), Over> {
        self.waiting = false;
        let length = u16::try_from(response.len()).map_err(|_| Over)?;
        self.output.clear();
        self.output.extend_from_slice(&length.to_be_bytes());
        self.output.extend_from_slice(response);
        self.written = 0;
        self.write()
    }

    /// Writes what is left of the answer.
    pub fn write(&mut self) -> Result<(), Over> {
        while self.written < self.output.len() {
            match rustix::net::send(&self.socket, &self.output[self.written..], SendFlags::NOSIGNAL) {
                Ok(count) => self.written += count,
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => return Err(Over),
            }
        }
        Ok(())
    }
}
