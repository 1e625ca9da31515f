//! The resolver's state, and what each event does to it.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketFlags};

use super::client::{Client, Over};
use super::lead::Lead;
use super::message::{
    CLASS_IN, Code, Malformed, Query, TYPE_A, TYPE_AAAA, TYPE_HTTPS, TYPE_MX, TYPE_PTR, TYPE_SVCB, code, refusal,
};
use super::sockets::Sockets;
use super::upstream::{Step, Upstream, random};

/// So many questions are with servers at most; the next is told that it failed. Each has a descriptor.
const MOST_QUESTIONS: usize = 256;
const MOST_CLIENTS: usize = 32;
/// How long a server may take. The C library gives up after five seconds: two servers are tried by then.
const SERVER_TIME: Duration = Duration::from_secs(2);
/// How long a connection may be silent.
const CLIENT_TIME: Duration = Duration::from_secs(10);
/// How long no connection is accepted after descriptors ran out.
const PAUSE: Duration = Duration::from_secs(1);
/// How much is taken from one socket before the event loop has its turn again.
const TURN: usize = 64;

const UDP: u64 = 0;
const TCP: u64 = 1;

/// Tells the addresses of a name.
pub type FindAddresses = dyn Fn(&str) -> Vec<IpAddr>;
/// Tells the name of an address.
pub type FindName = dyn Fn(IpAddr) -> Option<String>;

/// Who knows the names of containers.
pub struct Names {
    /// The addresses of a name, which comes in lower case; none if it is not a container's.
    pub addresses: Box<FindAddresses>,
    /// The name that belongs to an address, if it is a container's.
    pub name: Box<FindName>,
}

/// The resolver of one container.
pub struct Resolver {
    epoll: OwnedFd,
    udp: OwnedFd,
    tcp: OwnedFd,
    _lead: Option<Lead>,
    servers: Vec<SocketAddr>,
    names: Names,
    /// Numbers are never used twice: an event that comes late finds nothing.
    next_token: u64,
    questions: HashMap<u64, Question>,
    clients: HashMap<u64, Client>,
    /// When connections are accepted again, after descriptors ran out.
    paused: Option<Instant>,
    buffer: Vec<u8>,
}

/// Who asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asker {
    Datagram(SocketAddr),
    Connection(u64),
}

/// A question that is with a server.
struct Question {
    asker: Asker,
    query: Vec<u8>,
    tries: usize,
    deadline: Instant,
    upstream: Upstream,
}

impl Resolver {
    /// A resolver that listens at these sockets and asks these servers, from the namespace that it is called in, what it
    /// does not know itself. Without servers (an internal network) it knows nothing else.
    pub fn new(sockets: Sockets, servers: Vec<SocketAddr>, names: Names) -> std::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let Sockets { udp, tcp, lead, .. } = sockets;
        epoll::add(&epoll, &udp, epoll::EventData::new_u64(UDP), epoll::EventFlags::IN)?;
        epoll::add(&epoll, &tcp, epoll::EventData::new_u64(TCP), epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            udp,
            tcp,
            _lead: lead,
            servers,
            names,
            next_token: 2,
            questions: HashMap::new(),
            clients: HashMap::new(),
            paused: None,
            // Only what messages fill of it becomes memory.
            buffer: vec![0; 1 << 16],
        })
    }

    /// Becomes readable when [`Self::ready`] has something to do.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    /// When [`Self::ready`] is to be called even if nothing happens.
    pub fn deadline(&self) -> Option<Instant> {
        let clients = self.clients.values().filter(|client| !client.waiting).map(|client| client.deadline);
        self.questions.values().map(|question| question.deadline).chain(clients).chain(self.paused).min()
    }

    /// Does what can be done now, and a bounded part of it: what is left makes the descriptor readable again.
    pub fn ready(&mut self) {
        let mut events = Vec::with_capacity(TURN);
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let _ = epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&now));
        for event in events {
            let epoll::Event { flags, data } = event;
            match data.u64() {
                UDP => self.receive_datagrams(),
                TCP => self.accept(),
                token if self.questions.contains_key(&token) => self.question_ready(token),
                token => self.client_ready(token, flags),
            }
        }
        self.expire(Instant::now());
    }

    fn token(&mut self) -> u64 {
        self.next_token += 1;
        self.next_token - 1
    }

    fn receive_datagrams(&mut self) {
        for _ in 0..TURN {
            let (length, from) = match rustix::net::recvfrom(&self.udp, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((length, _, from)) => (length, from),
                Err(Errno::AGAIN) => return,
                // Somebody closed a port before an answer came there: told once, and not this socket's end.
                Err(_) => continue,
            };
            let Some(from) = from.and_then(|from| SocketAddr::try_from(from).ok()) else { continue };
            let query = self.buffer[..length].to_vec();
            self.query(Asker::Datagram(from), query);
        }
    }

    fn accept(&mut self) {
        for _ in 0..TURN {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            let socket = match rustix::net::accept_with(&self.tcp, flags) {
                Ok(socket) => socket,
                Err(Errno::AGAIN) => return,
                Err(Errno::CONNABORTED | Errno::INTR) => continue,
                Err(_) => {
                    // Out of descriptors or memory. What waits would wake us for ever: it is not looked at for a while.
                    let _ = epoll::delete(&self.epoll, &self.tcp);
                    self.paused = Some(Instant::now() + PAUSE);
                    return;
                }
            };
            if self.clients.len() >= MOST_CLIENTS {
                // The one that was silent for the longest time makes room; if all wait for answers, the new one goes.
                let idle = self.clients.iter().filter(|(_, client)| !client.waiting);
                match idle.min_by_key(|(_, client)| client.deadline).map(|(token, _)| *token) {
                    Some(token) => self.clients.remove(&token),
                    None => continue,
                };
            }
            let token = self.token();
            if epoll::add(&self.epoll, &socket, epoll::EventData::new_u64(token), epoll::EventFlags::IN).is_ok() {
                self.clients.insert(token, Client::new(socket, Instant::now() + CLIENT_TIME));
            }
        }
    }

    fn client_ready(&mut self, token: u64, flags: epoll::EventFlags) {
        let Some(client) = self.clients.get_mut(&token) else { return };
        let broken = flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP);
        if broken || client.write().and_then(|()| client.read(&mut self.buffer)).is_err() {
            self.clients.remove(&token);
            return;
        }
        self.serve_client(token);
    }

    /// Takes the questions of a connection, one after the other, until one has to wait.
    fn serve_client(&mut self, token: u64) {
        loop {
            let Some(client) = self.clients.get_mut(&token) else { return };
            match client.next_query() {
                Ok(Some(query)) => {
                    client.waiting = true;
                    self.query(Asker::Connection(token), query);
                }
                Ok(None) => break,
                Err(Over) => {
                    self.clients.remove(&token);
                    return;
                }
            }
        }
        let Some(client) = self.clients.get_mut(&token) else { return };
        client.deadline = Instant::now() + CLIENT_TIME;
        let data = epoll::EventData::new_u64(token);
        if epoll::modify(&self.epoll, &client.socket, data, client.interest()).is_err() {
            self.clients.remove(&token);
        }
    }

    fn query(&mut self, asker: Asker, message: Vec<u8>) {
        match Query::parse(&message) {
            Err(Malformed::Dropped) => {
                if let Asker::Connection(token) = asker {
                    self.clients.remove(&token);
                }
            }
            Err(Malformed::Answered(code)) => {
                if let Some(response) = refusal(&message, code) {
                    self.reply(asker, &response);
                }
            }
            Ok(query) => match self.known(&query, matches!(asker, Asker::Datagram(_))) {
                Some(response) => self.reply(asker, &response),
                None => self.forward(asker, message),
            },
        }
    }

    /// The response to what is about a container.
    fn known(&self, query: &Query<'_>, datagram: bool) -> Option<Vec<u8>> {
        if query.class != CLASS_IN {
            return None;
        }
        match query.kind {
            TYPE_PTR => query.pointer(&(self.names.name)(query.reversed_address()?)?),
            // A container has no mail servers and no other services by its name; asking elsewhere would only bring "no
            // such name", which some programs then believe of all kinds.
            TYPE_A | TYPE_AAAA | TYPE_MX | TYPE_SVCB | TYPE_HTTPS => {
                let mut addresses = (self.names.addresses)(&query.name()?);
                if addresses.is_empty() {
                    return None;
                }
                // Several containers of one name take turns.
                let turn = usize::from(random().unwrap_or(0)) % addresses.len();
                addresses.rotate_left(turn);
                Some(query.addresses(&addresses, datagram))
            }
            _ => None,
        }
    }

    fn forward(&mut self, asker: Asker, query: Vec<u8>) {
        let asked_again = |question: &Question| question.asker == asker && question.query == query;
        if self.questions.values().any(asked_again) {
            // The answer to the first will do.
            return;
        }
        if self.questions.len() >= MOST_QUESTIONS {
            self.fail(asker, &query);
            return;
        }
        self.try_from(0, asker, query);
    }

    /// How often servers are asked in all: each once, and a single one twice, for datagrams get lost.
    fn most_tries(&self) -> usize {
        if self.servers.is_empty() { 0 } else { self.servers.len().max(2) }
    }

    /// Asks the next server that can be asked, or gives up.
    fn try_from(&mut self, mut tries: usize, asker: Asker, query: Vec<u8>) {
        let datagram = matches!(asker, Asker::Datagram(_));
        while tries < self.most_tries() {
            let server = self.servers[tries % self.servers.len()];
            tries += 1;
            let Ok(upstream) = Upstream::ask(server, &query, datagram) else { continue };
            let token = self.token();
            let flags = if upstream.is_writing() { epoll::EventFlags::OUT } else { epoll::EventFlags::IN };
            if epoll::add(&self.epoll, &upstream.socket, epoll::EventData::new_u64(token), flags).is_err() {
                continue;
            }
            let deadline = Instant::now() + SERVER_TIME;
            self.questions.insert(token, Question { asker, query, tries, deadline, upstream });
            return;
        }
        self.fail(asker, &query);
    }

    fn question_ready(&mut self, token: u64) {
        let servers = self.servers.len();
        let Some(question) = self.questions.get_mut(&token) else { return };
        let was_writing = question.upstream.is_writing();
        match question.upstream.ready(&question.query, &mut self.buffer) {
            Step::Waiting => {
                if was_writing && !question.upstream.is_writing() {
                    let data = epoll::EventData::new_u64(token);
                    let _ = epoll::modify(&self.epoll, &question.upstream.socket, data, epoll::EventFlags::IN);
                }
            }
            Step::Failed => self.next_try(token),
            Step::Answered(response) => {
                // A server that cannot or does not want to answer is no answer while there is another.
                let useless = [Code::ServerFailure as u16, Code::NotImplemented as u16, Code::Refused as u16];
                if question.tries < servers && code(&response).is_some_and(|code| useless.contains(&code)) {
                    self.next_try(token);
                } else if let Some(question) = self.questions.remove(&token) {
                    self.reply(question.asker, &response);
                }
            }
        }
    }

    fn next_try(&mut self, token: u64) {
        if let Some(question) = self.questions.remove(&token) {
            self.try_from(question.tries, question.asker, question.query);
        }
    }

    fn fail(&mut self, asker: Asker, query: &[u8]) {
        if let Ok(query) = Query::parse(query) {
            self.reply(asker, &query.response(Code::ServerFailure));
        }
    }

    fn reply(&mut self, asker: Asker, response: &[u8]) {
        match asker {
            // A datagram that cannot be sent now is asked for again.
            Asker::Datagram(address) => {
                let _ = rustix::net::sendto(&self.udp, response, SendFlags::empty(), &address);
            }
            Asker::Connection(token) => {
                let Some(client) = self.clients.get_mut(&token) else { return };
                if client.answer(response).is_err() {
                    self.clients.remove(&token);
                    return;
                }
                client.deadline = Instant::now() + CLIENT_TIME;
                // Its next question may be here already; it is looked for when the socket is written to, at once.
                let data = epoll::EventData::new_u64(token);
                if epoll::modify(&self.epoll, &client.socket, data, epoll::EventFlags::OUT).is_err() {
                    self.clients.remove(&token);
                }
            }
        }
    }

    fn expire(&mut self, now: Instant) {
        if self.paused.is_some_and(|until| until <= now) {
            let _ = epoll::add(&self.epoll, &self.tcp, epoll::EventData::new_u64(TCP), epoll::EventFlags::IN);
            self.paused = None;
        }
        let late = |question: &Question| question.deadline <= now;
        let tokens: Vec<u64> =
            self.questions.iter().filter(|(_, question)| late(question)).map(|(token, _)| *token).collect();
        for token in tokens {
            self.next_try(token);
        }
        self.clients.retain(|_, client| client.waiting || client.deadline > now);
    }
}
