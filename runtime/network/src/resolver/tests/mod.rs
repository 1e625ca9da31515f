//! The resolver as a container's programs find it, in front of servers that answer as a test wants.
#![allow(clippy::unwrap_used)]

mod configuration;
mod forwarding;
mod hostile;
mod names;
mod namespace;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd as _;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{ADDRESS, Names, Resolver, Sockets, sockets_behind_53, sockets_in};

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

/// A resolver that a thread of the test runs as the monitor would; its end is waited for.
struct Running {
    address: SocketAddr,
    stop: Option<std::io::PipeWriter>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start(servers: &[SocketAddr]) -> Self {
        let here = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
        Self::start_at(sockets_in(here.as_fd(), 0).unwrap(), servers)
    }

    fn start_at(sockets: Sockets, servers: &[SocketAddr]) -> Self {
        let address = SocketAddr::new(ADDRESS, sockets.port);
        let servers = servers.to_vec();
        let (end, stop) = std::io::pipe().unwrap();
        let thread = thread::spawn(move || {
            let mut resolver = Resolver::new(sockets, servers, known_names()).unwrap();
            loop {
                let left = resolver.deadline().map(|deadline| deadline.saturating_duration_since(Instant::now()));
                let left = left.map(|left| Timespec::try_from(left).unwrap());
                let descriptor = resolver.descriptor();
                let mut wanted = [PollFd::new(&descriptor, PollFlags::IN), PollFd::new(&end, PollFlags::IN)];
                poll(&mut wanted, left.as_ref()).unwrap();
                if !wanted[1].revents().is_empty() {
                    return;
                }
                resolver.ready();
            }
        });
        Self { address, stop: Some(stop), thread: Some(thread) }
    }

    /// Asks over UDP.
    fn ask(&self, query: &[u8]) -> Vec<u8> {
        let socket = self.client();
        socket.send(query).unwrap();
        receive(&socket)
    }

    fn client(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        socket
    }

    fn connection(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.take();
        let result = self.thread.take().unwrap().join();
        if !thread::panicking() {
            result.unwrap();
        }
    }
}

fn known_names() -> Names {
    let web: IpAddr = "172.18.0.2".parse().unwrap();
    let web6: IpAddr = "fd00::2".parse().unwrap();
    Names {
        addresses: Box::new(move |name| match name {
            "web" | "web.net" => vec![web],
            "both" => vec![web, web6],
            "many" => (0..100).map(|last| IpAddr::V4(Ipv4Addr::new(172, 18, 1, last))).collect(),
            _ => Vec::new(),
        }),
        name: Box::new(move |address| (address == web || address == web6).then(|| "web.net".to_owned())),
    }
}

fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut response = vec![0; 1 << 16];
    let length = socket.recv(&mut response).unwrap();
    response.truncate(length);
    response
}

fn send_framed(stream: &mut TcpStream, message: &[u8]) {
    stream.write_all(&[&(message.len() as u16).to_be_bytes()[..], message].concat()).unwrap();
}

fn receive_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn question(id: u16, name: &str, kind: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend_from_slice(&[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        message.push(label.len() as u8);
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&1_u16.to_be_bytes());
    message
}

fn with_edns(mut message: Vec<u8>, size: u16) -> Vec<u8> {
    message[11] = 1;
    message.extend_from_slice(&[0, 0, 41]);
    message.extend_from_slice(&size.to_be_bytes());
    message.extend_from_slice(&[0, 0, 0x80, 0, 0, 0]);
    message
}

/// The response to a query with one address.
fn answer(query: &[u8], last: u8) -> Vec<u8> {
    let mut message = query[..question_end(query)].to_vec();
    message[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    message.extend_from_slice(&[0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 0, 0, last]);
    message
}

fn refusal(query: &[u8], code: u8) -> Vec<u8> {
    let mut message = query[..question_end(query)].to_vec();
    message[2..12].copy_from_slice(&[0x81, 0x80 | code, 0, 1, 0, 0, 0, 0, 0, 0]);
    message
}

fn question_end(message: &[u8]) -> usize {
    12 + message[12..].iter().position(|byte| *byte == 0).unwrap() + 5
}

/// What a response says: its code, whether it is cut, and the data of its answers with their times to live.
fn read(response: &[u8]) -> (u8, bool, Vec<(u32, Vec<u8>)>) {
    assert!(response[2] & 0x80 != 0);
    let mut records = Vec::new();
    let mut at = question_end(response);
    for _ in 0..u16::from_be_bytes([response[6], response[7]]) {
        assert_eq!(response[at..at + 2], [0xC0, 12]);
        let ttl = u32::from_be_bytes(response[at + 6..at + 10].try_into().unwrap());
        let length = usize::from(u16::from_be_bytes([response[at + 10], response[at + 11]]));
        records.push((ttl, response[at + 12..at + 12 + length].to_vec()));
        at += 12 + length;
    }
    (response[3] & 0xF, response[2] & 2 != 0, records)
}

fn data(response: &[u8]) -> Vec<Vec<u8>> {
    read(response).2.into_iter().map(|(_, data)| data).collect()
}

/// A server at a port of its own, for datagrams and connections; the function says what it sends back, each item as
/// a message. It ends with the test's process.
fn server(respond: impl Fn(&[u8], bool) -> Vec<Vec<u8>> + Send + Sync + 'static) -> SocketAddr {
    let respond = std::sync::Arc::new(respond);
    let (udp, tcp) = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
            break (udp, tcp);
        }
    };
    let address = udp.local_addr().unwrap();
    let over_tcp = std::sync::Arc::clone(&respond);
    thread::spawn(move || {
        let mut query = [0; 4096];
        while let Ok((length, from)) = udp.recv_from(&mut query) {
            for response in respond(&query[..length], false) {
                udp.send_to(&response, from).unwrap();
            }
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let Ok(query) = receive_framed(&mut stream) else { continue };
            for response in over_tcp(&query, true) {
                send_framed(&mut stream, &response);
            }
        }
    });
    address
}

/// A server that never answers.
fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}
