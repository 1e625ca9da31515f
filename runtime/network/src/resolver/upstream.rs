//! A question on its way to one of the host's servers.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, sockopt};

use super::message::Query;

/// One try: a socket of its own, so that the port is as random as the id, and the kernel lets in only what the server
/// sends.
#[derive(Debug)]
pub(super) struct Upstream {
    pub socket: OwnedFd,
    id: u16,
    connection: Option<Connection>,
}

/// A try over TCP: a length of two bytes before each message.
#[derive(Debug)]
struct Connection {
    output: Vec<u8>,
    written: usize,
    input: Vec<u8>,
}

/// What a try has come to.
#[derive(Debug)]
pub(super) enum Step {
    Waiting,
    /// This server does not answer.
    Failed,
    /// The answer, with the id that the asker gave.
    Answered(Vec<u8>),
}

impl Upstream {
    /// Sends a well-formed query to a server.
    pub fn ask(server: SocketAddr, query: &[u8], datagram: bool) -> rustix::io::Result<Self> {
        let family = if server.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let kind = if datagram { SocketType::DGRAM } else { SocketType::STREAM };
        let socket = rustix::net::socket_with(family, kind, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None)?;
        match rustix::net::connect(&socket, &server) {
            Ok(()) | Err(Errno::INPROGRESS) => {}
            Err(error) => return Err(error),
        }
        let id = random()?;
        let mut message = id.to_be_bytes().to_vec();
        message.extend_from_slice(query.get(2..).unwrap_or_default());
        if datagram {
            rustix::net::send(&socket, &message, SendFlags::empty())?;
            return Ok(Self { socket, id, connection: None });
        }
        let length = u16::try_from(message.len()).map_err(|_| Errno::MSGSIZE)?;
        let output = [&length.to_be_bytes()[..], &message].concat();
        Ok(Self { socket, id, connection: Some(Connection { output, written: 0, input: Vec::new() }) })
    }

    /// Whether it is writing that is waited for.
    pub fn is_writing(&self) -> bool {
        self.connection.as_ref().is_some_and(|connection| connection.written < connection.output.len())
    }

    /// Goes on after the socket has become ready.
    pub fn ready(&mut self, query: &[u8], buffer: &mut [u8]) -> Step {
        let result = match &mut self.connection {
            None => receive_datagram(&self.socket, self.id, query, buffer),
            Some(connection) => connection.ready(&self.socket, self.id, query, buffer),
        };
        match result {
            Ok(Some(mut answer)) => {
                answer[..2].copy_from_slice(&query[..2]);
                Step::Answered(answer)
            }
            Ok(None) => Step::Waiting,
            Err(_) => Step::Failed,
        }
    }
}

fn is_answer(query: &[u8], id: u16, response: &[u8]) -> bool {
    Query::parse(query).is_ok_and(|query| query.is_answered_by(id, response))
}

fn receive_datagram(socket: &OwnedFd, id: u16, query: &[u8], buffer: &mut [u8]) -> rustix::io::Result<Option<Vec<u8>>> {
    // What is no answer to this question is as good as nothing: somebody is guessing. Not for ever at once.
    for _ in 0..16 {
        let length = match rustix::net::recv(socket, &mut *buffer, RecvFlags::empty()) {
            Ok((length, _)) => length,
            Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
            Err(error) => return Err(error),
        };
        if is_answer(query, id, &buffer[..length]) {
            return Ok(Some(buffer[..length].to_vec()));
        }
    }
    Ok(None)
}

impl Connection {
    fn ready(
        &mut self,
        socket: &OwnedFd,
        id: u16,
        query: &[u8],
        buffer: &mut [u8],
    ) -> rustix::io::Result<Option<Vec<u8>>> {
        sockopt::socket_error(socket)??;
        while self.written < self.output.len() {
            match rustix::net::send(socket, &self.output[self.written..], SendFlags::NOSIGNAL) {
                Ok(count) => self.written += count,
                Err(Errno::AGAIN | Errno::INTR | Errno::NOTCONN) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        loop {
            let wanted = match self.input.first_chunk() {
                Some(length) => 2 + usize::from(u16::from_be_bytes(*length)),
                None => 2,
            };
            if self.input.len() >= 2 && self.input.len() >= wanted {
                return match is_answer(query, id, &self.input[2..wanted]) {
                    true => Ok(Some(self.input[2..wanted].to_vec())),
                    false => Err(Errno::BADMSG),
                };
            }
            let room = (wanted - self.input.len()).min(buffer.len());
            match rustix::net::recv(socket, &mut buffer[..room], RecvFlags::empty()) {
                Ok((0, _)) => return Err(Errno::CONNRESET),
                Ok((length, _)) => self.input.extend_from_slice(&buffer[..length]),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A number that nobody can guess.
pub(super) fn random() -> rustix::io::Result<u16> {
    let mut bytes = [0_u8; 2];
    match rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())? {
        2 => Ok(u16::from_ne_bytes(bytes)),
        _ => Err(Errno::AGAIN),
    }
}
