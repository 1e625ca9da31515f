//! Datagrams: each client has a socket of its own to the target, so that answers find back.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, SocketType};

use super::{connecting, descriptors_allowed};

/// As long as docker's.
const IDLE: Duration = Duration::from_secs(90);
const MOST_CLIENTS: u64 = 4096;
/// How many datagrams of one socket are moved before another has its turn.
const TURN: usize = 64;
const LISTENER: u64 = u64::MAX;

/// Passes datagrams to the target and answers back, for ever. Comes back only with what makes that impossible.
pub fn serve_udp(socket: OwnedFd, target: SocketAddr) -> io::Error {
    let most = descriptors_allowed().clamp(1, MOST_CLIENTS) as usize;
    match serve(&socket, target, IDLE, most) {
        Ok(never) => match never {},
        Err(error) => error.into(),
    }
}

pub(super) enum Never {}

struct Client {
    socket: OwnedFd,
    address: SocketAddr,
    last: Instant,
}

pub(super) fn serve(socket: &OwnedFd, target: SocketAddr, idle: Duration, most: usize) -> rustix::io::Result<Never> {
    rustix::io::ioctl_fionbio(socket, true)?;
    let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, socket, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
    // By a number that is never used twice: an event of a client that is gone finds nothing.
    let mut clients: HashMap<u64, Client> = HashMap::new();
    let mut numbers: HashMap<SocketAddr, u64> = HashMap::new();
    let mut next_number = 0;
    let mut datagram = vec![0_u8; 1 << 16];
    let mut events = Vec::with_capacity(64);
    let mut next_sweep = Instant::now() + idle;
    loop {
        let timeout = (!clients.is_empty()).then(|| next_sweep.saturating_duration_since(Instant::now()));
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        events.clear();
        match epoll::wait(&epoll, spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
        for event in &events {
            let token = { event.data }.u64();
            for _ in 0..TURN {
                if token == LISTENER {
                    let Some((length, address)) = receive(socket, &mut datagram)? else { break };
                    let Some(address) = address else { continue };
                    let number = match numbers.get(&address) {
                        Some(number) => *number,
                        None => {
                            if clients.len() >= most {
                                forget_oldest(&mut clients, &mut numbers);
                            }
                            // Out of descriptors: this datagram is lost, as datagrams may be.
                            let Ok(to_target) = connecting(target, SocketType::DGRAM) else { continue };
                            let data = epoll::EventData::new_u64(next_number);
                            if epoll::add(&epoll, &to_target, data, epoll::EventFlags::IN).is_err() {
                                continue;
                            }
                            let client = Client { socket: to_target, address, last: Instant::now() };
                            clients.insert(next_number, client);
                            numbers.insert(address, next_number);
                            next_number += 1;
                            next_number - 1
                        }
                    };
                    if let Some(client) = clients.get_mut(&number) {
                        client.last = Instant::now();
                        send(&client.socket, &datagram[..length], None);
                    }
                } else {
                    let Some(client) = clients.get_mut(&token) else { break };
                    let Some((length, _)) = receive(&client.socket, &mut datagram)? else { break };
                    client.last = Instant::now();
                    send(socket, &datagram[..length], Some(client.address));
                }
            }
        }
        let now = Instant::now();
        if now >= next_sweep {
            clients.retain(|_, client| now.duration_since(client.last) < idle);
            numbers.retain(|_, number| clients.contains_key(number));
            next_sweep = clients.values().map(|client| client.last + idle).min().unwrap_or(now + idle);
        }
    }
}

fn forget_oldest(clients: &mut HashMap<u64, Client>, numbers: &mut HashMap<SocketAddr, u64>) {
    let oldest = clients.iter().min_by_key(|(_, client)| client.last).map(|(number, client)| (*number, client.address));
    if let Some((number, address)) = oldest {
        clients.remove(&number);
        numbers.remove(&address);
    }
}

/// A datagram and who sent it; `None` when there is none.
fn receive(socket: &OwnedFd, datagram: &mut [u8]) -> rustix::io::Result<Option<(usize, Option<SocketAddr>)>> {
    loop {
        match rustix::net::recvfrom(socket, &mut *datagram, RecvFlags::empty()) {
            Ok((length, _, address)) => {
                return Ok(Some((length, address.and_then(|address| SocketAddr::try_from(address).ok()))));
            }
            Err(Errno::AGAIN) => return Ok(None),
            Err(error @ (Errno::BADF | Errno::NOTSOCK)) => return Err(error),
            // What was sent before did not arrive (ECONNREFUSED): told here, once, and no reason to stop.
            Err(_) => {}
        }
    }
}

/// A datagram that cannot be sent now is lost, as datagrams may be.
fn send(socket: &OwnedFd, datagram: &[u8], address: Option<SocketAddr>) {
    let _ = match address {
        Some(address) => rustix::net::sendto(socket, datagram, SendFlags::empty(), &address),
        None => rustix::net::send(socket, datagram, SendFlags::empty()),
    };
}
