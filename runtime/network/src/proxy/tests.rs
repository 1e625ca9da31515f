//! Real sockets through a proxy that runs in a thread of the test.
#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::thread;
use std::time::Duration;

use super::serve_tcp;
use super::udp::serve;

fn proxy_to(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || serve_tcp(OwnedFd::from(listener), target));
    address
}

/// The proxy for a listener whose connections a function answers, each in a thread.
fn proxied(answer: fn(TcpStream)) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || answer(stream));
        }
    });
    proxy_to(target)
}

/// Bytes that look random, and their sum.
struct Pattern {
    state: u64,
    sum: u64,
}

impl Pattern {
    fn new(seed: u64) -> Self {
        Self { state: seed, sum: 0 }
    }

    fn send(&mut self, stream: &mut TcpStream, mut length: usize) {
        let mut block = [0; 1 << 15];
        while length > 0 {
            for word in block.chunks_exact_mut(8) {
                self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                word.copy_from_slice(&self.state.to_le_bytes());
            }
            let part = &block[..length.min(block.len())];
            self.add(part);
            stream.write_all(part).unwrap();
            length -= part.len();
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.sum = self.sum.rotate_left(5) ^ u64::from(*byte).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        }
    }

    fn receive(stream: &mut TcpStream) -> (usize, u64) {
        let mut pattern = Self::new(0);
        let (mut block, mut total) = ([0; 1 << 15], 0);
        loop {
            match stream.read(&mut block).unwrap() {
                0 => return (total, pattern.sum),
                count => {
                    pattern.add(&block[..count]);
                    total += count;
                }
            }
        }
    }
}

const LARGE: usize = 100 << 20;

#[test]
fn a_hundred_megabytes_go_both_ways_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy_to(listener.local_addr().unwrap());
    let exchange = |mut stream: TcpStream, seed| {
        let mut sender = stream.try_clone().unwrap();
        let sending = thread::spawn(move || {
            let mut pattern = Pattern::new(seed);
            pattern.send(&mut sender, LARGE);
            sender.shutdown(Shutdown::Write).unwrap();
            pattern.sum
        });
        let received = Pattern::receive(&mut stream);
        (sending.join().unwrap(), received)
    };
    let target = thread::spawn(move || exchange(listener.accept().unwrap().0, 1));
    let (client_sent, client_received) = exchange(TcpStream::connect(address).unwrap(), 2);
    let (target_sent, target_received) = target.join().unwrap();
    assert_eq!(client_received, (LARGE, target_sent));
    assert_eq!(target_received, (LARGE, client_sent));
}

#[test]
fn a_side_that_has_ended_still_hears() {
    let address = proxied(|mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        stream.write_all(b"you said: ").unwrap();
        stream.write_all(&request).unwrap();
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"hello").unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "you said: hello");
}

#[test]
fn a_target_that_speaks_first_and_ends_is_heard() {
    let address = proxied(|mut stream| {
        stream.write_all(b"220 ready\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, b"late");
    });
    let mut stream = TcpStream::connect(address).unwrap();
    let mut greeting = String::new();
    stream.read_to_string(&mut greeting).unwrap();
    assert_eq!(greeting, "220 ready\n");
    stream.write_all(b"late").unwrap();
}

fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn five_hundred_connections_at_once_and_none_is_kept() {
    // In a process of its own: descriptors are counted, and other tests open some too.
    if std::env::var_os("COVE_TEST_ALONE").is_none() {
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "proxy::tests::five_hundred_connections_at_once_and_none_is_kept", "--nocapture"])
            .env("COVE_TEST_ALONE", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let address = proxied(|mut stream| {
        let mut line = [0; 8];
        while stream.read_exact(&mut line).is_ok() {
            stream.write_all(&line).unwrap();
        }
    });
    let talk = |stream: &mut TcpStream, number: u64| {
        stream.write_all(&number.to_le_bytes()).unwrap();
        let mut line = [0; 8];
        stream.read_exact(&mut line).unwrap();
        assert_eq!(u64::from_le_bytes(line), number);
    };
    talk(&mut TcpStream::connect(address).unwrap(), 0);
    thread::sleep(Duration::from_millis(200));
    let before = open_descriptors();
    let mut streams: Vec<TcpStream> = (0..500).map(|_| TcpStream::connect(address).unwrap()).collect();
    for round in 0..3 {
        for (number, stream) in streams.iter_mut().enumerate() {
            talk(stream, round * 1000 + number as u64);
        }
    }
    assert!(open_descriptors() >= before + 500 * 8);
    drop(streams);
    for _ in 0..100 {
        if open_descriptors() <= before {
            return;
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("{} descriptors are still open, {before} were before", open_descriptors());
}

#[test]
fn a_target_that_refuses_closes_the_client() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = proxy_to(nobody);
    for _ in 0..3 {
        let mut stream = TcpStream::connect(address).unwrap();
        assert_eq!(stream.read(&mut [0; 8]).unwrap(), 0);
    }
}

#[test]
fn a_connection_that_breaks_looks_broken() {
    let address = proxied(|mut stream| {
        stream.read_exact(&mut [0; 5]).unwrap();
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"hello").unwrap();
    let error = stream.read(&mut [0; 8]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

fn udp_proxy_to(target: SocketAddr, idle: Duration, most: usize) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    thread::spawn(move || serve(&OwnedFd::from(socket), target, idle, most).err());
    address
}

fn udp_client(address: SocketAddr) -> UdpSocket {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(address).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client
}

/// A server that answers with the port it was asked from, and the question.
fn udp_server() -> SocketAddr {
    let server = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    thread::spawn(move || {
        let mut datagram = vec![0; 1 << 16];
        loop {
            let (length, from) = server.recv_from(&mut datagram).unwrap();
            server.send_to(&[&from.port().to_le_bytes(), &datagram[..length]].concat(), from).unwrap();
        }
    });
    address
}

fn ask(client: &UdpSocket, question: &[u8]) -> u16 {
    let mut answer = vec![0; 1 << 16];
    client.send(question).unwrap();
    let length = client.recv(&mut answer).unwrap();
    assert_eq!(answer[2..length], *question);
    u16::from_le_bytes([answer[0], answer[1]])
}

#[test]
fn each_udp_client_has_its_own_answers() {
    let address = udp_proxy_to(udp_server(), Duration::from_secs(90), 100);
    let clients: Vec<UdpSocket> = (0..20).map(|_| udp_client(address)).collect();
    let mut ports: Vec<u16> = clients.iter().map(|client| ask(client, b"first")).collect();
    for (client, port) in clients.iter().zip(&ports) {
        assert_eq!(ask(client, &[7; 60_000]), *port);
        assert_eq!(ask(client, b""), *port);
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 20);
}

#[test]
fn udp_clients_are_forgotten_when_idle_or_too_many() {
    let idle = Duration::from_millis(100);
    let address = udp_proxy_to(udp_server(), idle, 100);
    let client = udp_client(address);
    let port = ask(&client, b"one");
    // The port may by chance be the same again once; not ten times.
    assert!((0..10).any(|_| {
        thread::sleep(3 * idle);
        ask(&client, b"two") != port
    }));

    let address = udp_proxy_to(udp_server(), Duration::from_secs(90), 2);
    let clients: Vec<UdpSocket> = (0..10).map(|_| udp_client(address)).collect();
    for _ in 0..3 {
        for client in &clients {
            ask(client, b"hello");
        }
    }
}

#[test]
fn a_udp_target_that_is_not_there_yet_is_reached_later() {
    let target = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let address = udp_proxy_to(target, Duration::from_secs(90), 10);
    let client = udp_client(address);
    client.send(b"nobody hears").unwrap();
    client.send(b"nor this").unwrap();
    thread::sleep(Duration::from_millis(50));
    let server = UdpSocket::bind(target).unwrap();
    server.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.send(b"now").unwrap();
    let mut datagram = [0; 100];
    let (length, from) = server.recv_from(&mut datagram).unwrap();
    assert_eq!(&datagram[..length], b"now");
    server.send_to(b"yes", from).unwrap();
    let length = client.recv(&mut datagram).unwrap();
    assert_eq!(&datagram[..length], b"yes");
}
