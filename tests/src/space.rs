//! Network namespaces that play containers and machines, and a little traffic between them.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Cmd;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one waits for an answer that must not come.
const SHORT: Duration = Duration::from_millis(400);

/// A network namespace.
pub struct Space(File);

impl Space {
    /// The one of this thread.
    pub fn here() -> Self {
        Self(File::open("/proc/thread-self/ns/net").expect("a namespace"))
    }

    /// That of a process.
    pub fn of_process(pid: &str) -> Self {
        Self(File::open(format!("/proc/{pid}/ns/net")).unwrap_or_else(|error| panic!("process {pid}: {error}")))
    }

    /// A machine beside this thread's, which has the address `here`/24; that one has `there`, and knows no other way.
    #[allow(unsafe_code)]
    pub fn beside(here: Ipv4Addr, there: Ipv4Addr) -> Self {
        let made = std::thread::spawn(|| {
            // SAFETY: the network namespace of this thread alone; no descriptor table is split.
            unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNET) }.expect("a namespace");
            Self::here()
        });
        let space = made.join().expect("a namespace");
        let ip = |words: &str| Cmd::new("ip").args(words.split(' ')).ok();
        ip(&format!(
            "link add up0 type veth peer name eth0 netns /proc/{}/fd/{}",
            std::process::id(),
            space.0.as_raw_fd()
        ));
        ip(&format!("address add {here}/24 dev up0"));
        ip("link set up0 up");
        space.within(|| {
            ip("link set lo up");
            ip(&format!("address add {there}/24 dev eth0"));
            ip("link set eth0 up");
        });
        space
    }

    /// Does something in it.
    pub fn within<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).expect("root is needed");
                action()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Answers on a port of all IPv4 addresses, by tcp and udp, with its name and the address that asked, to the test's end.
    pub fn serve(&self, name: &'static str, port: u16) {
        let (listener, socket) = self.within(|| {
            let address = (Ipv4Addr::UNSPECIFIED, port);
            (TcpListener::bind(address).expect("a free port"), UdpSocket::bind(address).expect("a free port"))
        });
        std::thread::spawn(move || {
            while let Ok((mut stream, from)) = listener.accept() {
                let _ = stream.write_all(format!("{name} hears {}", from.ip()).as_bytes());
            }
        });
        std::thread::spawn(move || {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 64]) {
                let _ = socket.send_to(format!("{name} hears {}", from.ip()).as_bytes(), from);
            }
        });
    }

    /// What a server answers by tcp.
    ///
    /// # Panics
    /// It cannot be reached.
    pub fn ask(&self, server: impl Into<SocketAddr>) -> String {
        let server = server.into();
        self.ask_within(server, PATIENCE).unwrap_or_else(|error| panic!("ask {server}: {error}"))
    }

    /// Whether a server cannot be reached by tcp.
    pub fn cannot_ask(&self, server: impl Into<SocketAddr>) -> bool {
        self.ask_within(server.into(), SHORT).map_or(true, |answer| answer.is_empty())
    }

    fn ask_within(&self, server: SocketAddr, patience: Duration) -> io::Result<String> {
        self.within(|| {
            let mut stream = TcpStream::connect_timeout(&server, patience)?;
            stream.set_read_timeout(Some(patience))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    /// What a server answers by udp. It is asked again, for what is sent first may be lost.
    ///
    /// # Panics
    /// It does not answer.
    pub fn ask_udp(&self, server: impl Into<SocketAddr>) -> String {
        let server = server.into();
        let socket = self.within(|| match server {
            SocketAddr::V4(_) => UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)),
            SocketAddr::V6(_) => UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)),
        });
        let socket = socket.expect("a socket");
        socket.set_read_timeout(Some(SHORT)).expect("a timeout");
        for _ in 0..25 {
            let _ = socket.send_to(b"?", server);
            let mut bytes = [0; 64];
            if let Ok((length, from)) = socket.recv_from(&mut bytes) {
                assert_eq!(from, server, "an answer comes from where it was asked for");
                return String::from_utf8_lossy(&bytes[..length]).into_owned();
            }
        }
        panic!("no answer from {server}");
    }
}
