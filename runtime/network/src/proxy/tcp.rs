//! Connections: bytes move from socket to socket through a pipe and never into this process.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{Shutdown, SocketFlags, SocketType, sockopt};
use rustix::pipe::{PipeFlags, SpliceFlags};

use super::{connecting, descriptors_allowed};

/// More would only be a way to fill the machine; further ones wait in the listener's queue.
const MOST_CONNECTIONS: u64 = 4096;
/// Two sockets and two pipes.
const DESCRIPTORS_EACH: u64 = 6;
/// How much of one direction moves before another connection has its turn.
const TURN: usize = 1 << 20;
/// How long nothing is accepted after descriptors ran out.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

const LISTENER: u64 = u64::MAX;

/// Passes each connection to the listener on to the target, for ever. Comes back only with what makes that impossible.
pub fn serve_tcp(listener: OwnedFd, target: SocketAddr) -> io::Error {
    let most = (descriptors_allowed() / DESCRIPTORS_EACH).clamp(1, MOST_CONNECTIONS) as usize;
    let proxy = Proxy::new(listener, target, most);
    match proxy.and_then(|mut proxy| proxy.run()) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}

struct Proxy {
    epoll: OwnedFd,
    listener: OwnedFd,
    target: SocketAddr,
    most: usize,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// Connections that ended in this round. Their places are taken again in the next one: events of this round may
    /// still speak of them.
    ended: Vec<usize>,
    /// Connections that have more to do.
    again: Vec<usize>,
    accepting: bool,
}

struct Connection {
    client: Side,
    target: Side,
    up: Flow,
    down: Flow,
    connected: bool,
}

/// A socket, and what it is ready for: told once by epoll, true until the kernel says otherwise.
struct Side {
    socket: OwnedFd,
    readable: bool,
    writable: bool,
}

/// One direction.
#[derive(Default)]
struct Flow {
    pipe: Option<(OwnedFd, OwnedFd)>,
    in_pipe: usize,
    source_ended: bool,
    passed_on: bool,
}

enum Never {}

impl Proxy {
    fn new(listener: OwnedFd, target: SocketAddr, most: usize) -> rustix::io::Result<Self> {
        rustix::io::ioctl_fionbio(&listener, true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        Ok(Self {
            epoll,
            listener,
            target,
            most,
            connections: Vec::new(),
            free: Vec::new(),
            ended: Vec::new(),
            again: Vec::new(),
            accepting: true,
        })
    }

    fn run(&mut self) -> rustix::io::Result<Never> {
        let mut events = Vec::with_capacity(256);
        let mut paused = false;
        loop {
            let timeout = if !self.again.is_empty() {
                Some(Timespec { tv_sec: 0, tv_nsec: 0 })
            } else if paused {
                Some(PAUSE)
            } else {
                None
            };
            events.clear();
            match epoll::wait(&self.epoll, spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
            let mut touched = std::mem::take(&mut self.again);
            let mut knock = false;
            for event in &events {
                let epoll::Event { flags, data } = *event;
                match data.u64() {
                    LISTENER => knock = true,
                    token => {
                        let place = (token >> 1) as usize;
                        if let Some(Some(connection)) = self.connections.get_mut(place) {
                            connection.told(token & 1 == 1, flags);
                            touched.push(place);
                        }
                    }
                }
            }
            touched.sort_unstable();
            touched.dedup();
            for place in touched {
                self.move_on(place);
            }
            self.free.append(&mut self.ended);
            if knock || paused {
                paused = !self.accept()?;
            }
            self.listen(!paused && self.open() < self.most)?;
        }
    }

    fn open(&self) -> usize {
        self.connections.len() - self.free.len()
    }

    fn listen(&mut self, wanted: bool) -> rustix::io::Result<()> {
        if wanted != self.accepting {
            let flags = if wanted { epoll::EventFlags::IN } else { epoll::EventFlags::empty() };
            epoll::modify(&self.epoll, &self.listener, epoll::EventData::new_u64(LISTENER), flags)?;
            self.accepting = wanted;
        }
        Ok(())
    }

    /// Accepts what waits. `false` when descriptors or memory have run out, and it is better to wait.
    fn accept(&mut self) -> rustix::io::Result<bool> {
        while self.open() < self.most {
            let client = match rustix::net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok(client) => client,
                Err(Errno::AGAIN) => return Ok(true),
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => return Ok(false),
                // The listener itself is broken.
                Err(error @ (Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP)) => return Err(error),
                // The connection broke before it was taken.
                Err(_) => continue,
            };
            // Where the target cannot even be tried, the client is closed: it sees what a closed port would show it.
            if let Err(Errno::MFILE | Errno::NFILE) = self.begin(client) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn begin(&mut self, client: OwnedFd) -> rustix::io::Result<()> {
        let target = connecting(self.target, SocketType::STREAM)?;
        for socket in [&client, &target] {
            sockopt::set_tcp_nodelay(socket, true)?;
            // A peer that vanished without a word is noticed some day.
            sockopt::set_socket_keepalive(socket, true)?;
        }
        let place = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let result = [(&client, 0), (&target, 1)].into_iter().try_for_each(|(socket, side)| {
            epoll::add(&self.epoll, socket, epoll::EventData::new_u64((place as u64) << 1 | side), flags)
        });
        if let Err(error) = result {
            self.free.push(place);
            return Err(error);
        }
        let side = |socket| Side { socket, readable: false, writable: false };
        self.connections[place] = Some(Connection {
            client: side(client),
            target: side(target),
            up: Flow::default(),
            down: Flow::default(),
            connected: false,
        });
        Ok(())
    }

    fn move_on(&mut self, place: usize) {
        let Some(Some(connection)) = self.connections.get_mut(place) else { return };
        match connection.move_on() {
            Ok(Progress::Waiting) => {}
            Ok(Progress::More) => self.again.push(place),
            Ok(Progress::Ended) => self.end(place),
            Err(error) => {
                // A broken connection looks broken to the other side too, and not like a complete one.
                if error != Errno::CONNREFUSED {
                    for side in [&connection.client, &connection.target] {
                        let _ = sockopt::set_socket_linger(&side.socket, Some(std::time::Duration::ZERO));
                    }
                }
                self.end(place);
            }
        }
    }

    fn end(&mut self, place: usize) {
        // Closing takes the sockets out of epoll.
        self.connections[place] = None;
        self.ended.push(place);
    }
}

enum Progress {
    Waiting,
    More,
    Ended,
}

impl Connection {
    fn told(&mut self, is_target: bool, flags: epoll::EventFlags) {
        use epoll::EventFlags;
        let side = if is_target { &mut self.target } else { &mut self.client };
        let broken = EventFlags::ERR | EventFlags::HUP;
        side.readable |= flags.intersects(EventFlags::IN | EventFlags::RDHUP | broken);
        side.writable |= flags.intersects(EventFlags::OUT | broken);
    }

    fn move_on(&mut self) -> rustix::io::Result<Progress> {
        if !self.connected {
            if !self.target.writable {
                return Ok(Progress::Waiting);
            }
            sockopt::socket_error(&self.target.socket)??;
            self.connected = true;
        }
        let more_up = self.up.move_on(&mut self.client, &mut self.target)?;
        let more_down = self.down.move_on(&mut self.target, &mut self.client)?;
        Ok(match (self.up.passed_on && self.down.passed_on, more_up || more_down) {
            (true, _) => Progress::Ended,
            (false, true) => Progress::More,
            (false, false) => Progress::Waiting,
        })
    }
}

impl Flow {
    /// Moves what can be moved now. `true` if its turn was over before its work.
    fn move_on(&mut self, source: &mut Side, sink: &mut Side) -> rustix::io::Result<bool> {
        if self.passed_on {
            return Ok(false);
        }
        let mut moved = 0;
        loop {
            if self.in_pipe > 0 {
                if !sink.writable {
                    return Ok(false);
                }
                let Some((end, _)) = &self.pipe else { return Ok(false) };
                match splice(end.as_fd(), sink.socket.as_fd(), self.in_pipe) {
                    Ok(count) => {
                        self.in_pipe -= count.min(self.in_pipe);
                        moved += count;
                    }
                    Err(Errno::AGAIN) => sink.writable = false,
                    Err(error) => return Err(error),
                }
            } else if self.source_ended {
                // The other side may be gone already, which is no news to a side that has said its last word.
                let _ = rustix::net::shutdown(&sink.socket, Shutdown::Write);
                self.passed_on = true;
                self.pipe = None;
                return Ok(false);
            } else if !source.readable {
                return Ok(false);
            } else if moved >= TURN {
                return Ok(true);
            } else {
                if self.pipe.is_none() {
                    self.pipe = Some(rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?);
                }
                let Some((_, begin)) = &self.pipe else { return Ok(false) };
                // The pipe is empty: if nothing goes in, it is the socket that has nothing.
                match splice(source.socket.as_fd(), begin.as_fd(), TURN) {
                    Ok(0) => self.source_ended = true,
                    Ok(count) => self.in_pipe = count,
                    Err(Errno::AGAIN) => source.readable = false,
                    Err(error) => return Err(error),
                }
            }
        }
    }
}

fn splice(from: BorrowedFd<'_>, to: BorrowedFd<'_>, count: usize) -> rustix::io::Result<usize> {
    let flags = SpliceFlags::MOVE | SpliceFlags::NONBLOCK;
    loop {
        match rustix::pipe::splice(from, None, to, None, count, flags) {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}
