//! Namespaces that play machines and containers, and a little traffic between them.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::netlink::{Answer, Batch, Socket};
use crate::nftables::Transaction;
use crate::{Connected, Endpoint, Held, Networks, PublishedPort, Request, new_namespace};

/// How long an answer may take. Nothing is measured with it: it ends what would never come.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long one waits for an answer that must not come.
const SHORT: Duration = Duration::from_millis(400);

/// The address of the host to which the outside speaks, and of the outside.
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
pub(super) const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);

/// A machine with a store: the thread that makes it lives in it from then on.
pub(super) struct Lab {
    pub(super) networks: Networks,
    pub(super) host: Space,
    folder: tempfile::TempDir,
}

/// A namespace.
pub(super) struct Space(OwnedFd);

/// A container that is connected.
pub(super) struct Container {
    pub(super) space: Space,
    pub(super) endpoint: Endpoint,
    pub(super) held: Vec<Held>,
}

pub(super) fn everybody_lives(_: &str) -> bool {
    true
}

pub(super) fn enter(namespace: &OwnedFd) {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root is needed");
}

/// Runs a program in this thread's namespace; what it printed.
pub(super) fn run(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap_or_else(|error| panic!("{line}: {error}"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What this thread's packet filter answers to one message.
pub(super) fn answer(batch: &mut Batch) -> Answer {
    Socket::netfilter().unwrap().ask(batch).unwrap().pop().unwrap()
}

/// Changes this thread's packet filter.
pub(super) fn commit(transaction: Transaction) {
    Socket::netfilter().unwrap().commit(&mut transaction.finish()).unwrap();
}

impl Lab {
    /// A machine with nothing but the loopback device.
    pub(super) fn new() -> Self {
        let host = new_namespace().expect("root is needed");
        enter(&host);
        run("ip link set lo up");
        let folder = tempfile::tempdir().unwrap();
        let networks = Lab::store(folder.path());
        Lab { networks, host: Space(host), folder }
    }

    /// The store in a folder.
    pub(super) fn store(folder: &Path) -> Networks {
        Networks::of_system(&folder.join("root"), &folder.join("run"))
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A machine beside this one. It knows the way to the host only.
    pub(super) fn outside(&self) -> Space {
        let space = Space(new_namespace().unwrap());
        let namespace = space.path();
        run(&format!("ip link add up0 type veth peer name eth0 netns {namespace}"));
        run(&format!("ip address add {HOST}/24 dev up0"));
        run("ip link set up0 up");
        space.within(|| {
            run("ip link set lo up");
            run(&format!("ip address add {OUTSIDE}/24 dev eth0"));
            run("ip link set eth0 up");
        });
        space
    }

    pub(super) fn connect(&self, request: Request) -> Container {
        let (container, connected) = self.connect_new(request);
        assert_eq!(connected.warnings, []);
        container
    }

    pub(super) fn connect_new(&self, request: Request) -> (Container, Connected) {
        Self::connect_by(&self.networks, request)
    }

    pub(super) fn connect_by(networks: &Networks, request: Request) -> (Container, Connected) {
        let space = Space(new_namespace().unwrap());
        let connected = networks.connect(space.0.as_fd(), &request, &everybody_lives).unwrap();
        let endpoint = connected.endpoint.clone();
        (Container { space, endpoint, held: Vec::new() }, connected)
    }

    /// A container that answers on port 80 of both protocols.
    pub(super) fn server(&self, name: &str, ports: &[&str]) -> Container {
        let mut container = self.connect(named(name));
        container.space.serve(80);
        self.publish(&mut container, ports).unwrap();
        container
    }

    pub(super) fn publish(&self, container: &mut Container, ports: &[&str]) -> Result<(), crate::Error> {
        let ports: Vec<PublishedPort> = ports.iter().flat_map(|port| PublishedPort::parse(port).unwrap()).collect();
        container.held.extend(self.networks.publish(&mut container.endpoint, &ports)?);
        Ok(())
    }

    /// Starts the machine again, so to say: what lies in the run folder is gone, and the links.
    pub(super) fn restart(&self) {
        std::fs::remove_dir_all(self.folder.path().join("run")).unwrap();
        run("ip link delete cove0");
    }
}

/// A request of a container on the default bridge; its id is made from its name.
pub(super) fn named(name: &str) -> Request {
    let id: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    Request {
        network: "bridge".to_owned(),
        container: format!("{id:0<64}"),
        name: name.to_owned(),
        hostname: format!("{name}-host"),
        ..Request::default()
    }
}

impl Space {
    pub(super) fn empty() -> Self {
        Space(new_namespace().unwrap())
    }

    pub(super) fn descriptor(&self) -> &OwnedFd {
        &self.0
    }

    pub(super) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Does something in it.
    pub(super) fn within<T: Send>(&self, action: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let inside = scope.spawn(|| {
                enter(&self.0);
                action()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Answers on a port, by tcp and udp, with the address that asked, until the test ends.
    pub(super) fn serve(&self, port: u16) {
        let (listener, socket) = self.within(|| {
            let address = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
            (TcpListener::bind(address).unwrap(), UdpSocket::bind(address).unwrap())
        });
        let name = self.within(|| run("ip -4 -o address show dev eth0"));
        let name = name.split_whitespace().nth(3).unwrap().split('/').next().unwrap().to_owned();
        let own = name.clone();
        std::thread::spawn(move || {
            while let Ok((mut stream, from)) = listener.accept() {
                let _ = stream.write_all(format!("{own} hears {}", from.ip()).as_bytes());
            }
        });
        std::thread::spawn(move || {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 16]) {
                let _ = socket.send_to(format!("{name} hears {}", from.ip()).as_bytes(), from);
            }
        });
    }

    /// What a server answers by tcp.
    pub(super) fn ask(&self, address: Ipv4Addr, port: u16) -> io::Result<String> {
        self.ask_within(address, port, PATIENCE)
    }

    /// Whether a server cannot be reached by tcp.
    pub(super) fn cannot_ask(&self, address: Ipv4Addr, port: u16) -> bool {
        self.ask_within(address, port, SHORT).is_err()
    }

    fn ask_within(&self, address: Ipv4Addr, port: u16, patience: Duration) -> io::Result<String> {
        self.within(|| {
            let mut stream = TcpStream::connect_timeout(&SocketAddr::new(address.into(), port), patience)?;
            stream.set_read_timeout(Some(patience))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    /// A socket of udp that speaks from here.
    pub(super) fn udp(&self) -> UdpSocket {
        self.within(|| {
            let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
            socket.set_read_timeout(Some(SHORT)).unwrap();
            socket
        })
    }
}

/// What a server answers by udp. It is asked again, as udp may lose what is sent before the kernel knows the neighbour.
pub(super) fn ask_udp(socket: &UdpSocket, address: Ipv4Addr, port: u16) -> Option<String> {
    for _ in 0..10 {
        socket.send_to(b"?", (address, port)).ok()?;
        let mut bytes = [0; 64];
        if let Ok(length) = socket.recv(&mut bytes) {
            return Some(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
    }
    None
}

/// Waits until something holds that the kernel does in its own time.
pub(super) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("it never came true: {what}");
}
