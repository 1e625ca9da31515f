//! The network of one container, from its namespace to its published ports.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cove_container::config::{IpcMode, NetworkMode};
use cove_container::{Alive, Container, ContainerId, Containers, Record, Status};
use cove_network::proxy::{serve_tcp, serve_udp};
use cove_network::resolver::{DnsOptions, HostResolver, Names, Resolver, sockets_behind_53};
use cove_network::{Endpoint, Held, HostPorts, Networks, Protocol, PublishedPort, Request};

use rustix::process::{Pid, Signal};

use crate::shared::Home;
use crate::{Error, process};

/// What a container has of the network.
#[derive(Default)]
pub(crate) struct Network {
    /// Its own namespace, while it runs.
    namespace: Option<OwnedFd>,
    /// What it has on a bridge.
    endpoint: Option<Endpoint>,
    ports: Vec<Port>,
    resolver: Option<Resolver>,
    /// What its user is to be told.
    warnings: Vec<String>,
}

/// A port of this machine that is reserved for it.
struct Port {
    held: Held,
    /// Who passes on what arrives here: what the packet filter does not lead to the container, from this machine itself.
    proxy: Option<Pid>,
}

/// Which network namespace its processes are to be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NamespaceOf {
    /// This one, by the path that leads to it.
    Path(PathBuf),
    /// That of the machine.
    Host,
}

impl Network {
    /// Makes the network that a container asks for.
    pub(crate) fn set_up(
        places: &Places<'_>,
        container: &Container,
        record: &Record,
        home: Option<&Home>,
    ) -> Result<(Self, NamespaceOf), Error> {
        let name = match &record.host_config.network_mode {
            NetworkMode::Host => return Ok((Self::default(), NamespaceOf::Host)),
            NetworkMode::Container(other) => {
                return Ok((Self::default(), NamespaceOf::Path(places.namespace_of(other, "net")?)));
            }
            NetworkMode::None => return Self::alone(),
            NetworkMode::Default => "bridge",
            NetworkMode::Named(name) => name,
        };
        let namespace = cove_network::new_namespace()?;
        let networks = places.networks();
        let own = container.id().as_str();
        let is_alive = |id: &str| id == own || places.is_alive(id);
        let asked = record.endpoints.get(name);
        let address = asked.and_then(|asked| asked.ipam_config.as_ref()).map(|ipam| ipam.ipv4_address.as_str());
        let address = address.filter(|text| !text.is_empty());
        let mac = Some(record.config.mac_address.as_str()).filter(|text| !text.is_empty());
        let request = Request {
            network: name.to_owned(),
            container: own.to_owned(),
            name: record.name.clone(),
            hostname: record.config.hostname.clone(),
            aliases: asked.map_or_else(Vec::new, |asked| asked.aliases.clone()),
            address: address.map(|text| text.parse().map_err(|_| Error::Address(text.to_owned()))).transpose()?,
            mac: mac.map(str::parse).transpose()?,
        };
        let connected = networks.connect(namespace.as_fd(), &request, &is_alive)?;
        let mut endpoint = connected.endpoint;
        let published = match home {
            Some(home) => home.publish(&networks, &mut endpoint),
            None => published(record).and_then(|ports| Ok(networks.publish(&mut endpoint, &ports)?)),
        };
        let held = match published {
            Ok(held) => held,
            Err(error) => {
                let _ = networks.disconnect(&endpoint);
                return Err(error);
            }
        };
        let path = path_of(&namespace);
        let ports = held.into_iter().map(|held| Port { held, proxy: None }).collect();
        let warnings = connected.warnings.iter().map(ToString::to_string).collect();
        let mut network =
            Self { namespace: Some(namespace), endpoint: Some(endpoint), ports, resolver: None, warnings };
        match network.begin_to_resolve(places, own, record, home) {
            Ok(()) => Ok((network, path)),
            Err(error) => {
                network.take_down(places);
                Err(error)
            }
        }
    }

    /// Answers at 127.0.0.11: the names of the containers on the network, everything else from the machine's servers.
    fn begin_to_resolve(
        &mut self,
        places: &Places<'_>,
        own: &str,
        record: &Record,
        home: Option<&Home>,
    ) -> Result<(), Error> {
        let (Some(namespace), Some(endpoint)) = (&self.namespace, &self.endpoint) else { return Ok(()) };
        let sockets = sockets_behind_53(namespace.as_fd())?;
        let host = HostResolver::read();
        let mut servers = host.addresses(&dns_options(record)?);
        if home.is_some() {
            servers = crate::shared::reachable(&servers, &host);
        }
        let (networks, by_address, own) = (places.networks(), places.networks(), own.to_owned());
        let run = places.run.to_owned();
        let is_alive = move |id: &str| id == own || is_alive(&run, id);
        let (network, network_again) = (endpoint.network.clone(), endpoint.network.clone());
        let names = Names {
            addresses: Box::new(move |name| networks.lookup(&network, name, &is_alive).unwrap_or_default()),
            name: Box::new(move |address| {
                let found = by_address.reverse(&network_again, address).ok().flatten();
                found.map(|endpoint| format!("{}.{network_again}", endpoint.name))
            }),
        };
        let resolver = Resolver::new(sockets, servers, names).map_err(Error::system("begin to answer for names"))?;
        self.resolver = Some(resolver);
        Ok(())
    }

    /// Who answers for names, if it has a network of its own.
    pub(crate) fn resolver(&mut self) -> Option<&mut Resolver> {
        self.resolver.as_mut()
    }

    /// What to wait for on behalf of the one who answers for names: a descriptor and a moment.
    pub(crate) fn questions(&self) -> Option<(BorrowedFd<'_>, Option<Instant>)> {
        self.resolver.as_ref().map(|resolver| (resolver.descriptor(), resolver.deadline()))
    }

    /// The ports that nobody passes on yet.
    pub(crate) fn idle_ports(&self) -> impl Iterator<Item = (usize, BorrowedFd<'_>)> {
        let idle = self.ports.iter().enumerate().filter(|(_, port)| port.proxy.is_none());
        idle.map(|(index, port)| (index, port.held.socket.as_fd()))
    }

    /// Somebody on this machine uses a port: a process begins to pass on what comes.
    pub(crate) fn begin_to_pass_on(&mut self, index: usize) {
        let (Some(endpoint), Some(port)) = (&self.endpoint, self.ports.get_mut(index)) else { return };
        let target = SocketAddr::new(endpoint.address.into(), port.held.binding.container_port);
        let protocol = port.held.binding.protocol;
        port.proxy = process::helper(&port.held.socket, |socket| match protocol {
            Protocol::Tcp => drop(serve_tcp(socket, target)),
            Protocol::Udp => drop(serve_udp(socket, target)),
        });
        if port.proxy.is_none() {
            // No process can be made. Whoever asked is turned away, or we would be asked again at once, for ever.
            turn_away(&port.held.socket, protocol);
        }
    }

    /// A process has ended; if it passed something on, the next use begins another one.
    pub(crate) fn process_ended(&mut self, pid: Pid) {
        for port in self.ports.iter_mut().filter(|port| port.proxy == Some(pid)) {
            port.proxy = None;
        }
    }

    /// A namespace with a loopback device and nothing else.
    fn alone() -> Result<(Self, NamespaceOf), Error> {
        let namespace = cove_network::new_namespace()?;
        cove_network::loopback_up(namespace.as_fd())?;
        let path = path_of(&namespace);
        Ok((Self { namespace: Some(namespace), ..Self::default() }, path))
    }

    /// What its user is to be told, once.
    pub(crate) fn take_warnings(&mut self) -> Vec<String> {
        std::mem::take(&mut self.warnings)
    }

    /// Its address on a bridge.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.endpoint.as_ref().map(|endpoint| endpoint.address)
    }

    /// Others on the network find it by this name from now on.
    pub(crate) fn rename(&mut self, places: &Places<'_>, name: &str) -> Result<(), Error> {
        let Some(endpoint) = &mut self.endpoint else { return Ok(()) };
        name.clone_into(&mut endpoint.name);
        Ok(places.networks().rename(&endpoint.network, &endpoint.container, name).map(drop)?)
    }

    /// The address of this machine there.
    pub(crate) fn gateway(&self) -> Option<Ipv4Addr> {
        self.endpoint.as_ref().map(|endpoint| endpoint.gateway)
    }

    /// Takes everything back. What cannot be taken back now is swept when its place is needed.
    pub(crate) fn take_down(&mut self, places: &Places<'_>) {
        // Its socket to the packet filter is closed before anything is removed there: whoever closes one waits for that.
        self.resolver = None;
        if let Some(endpoint) = self.endpoint.take() {
            let _ = places.networks().disconnect(&endpoint);
        }
        for pid in self.ports.iter().filter_map(|port| port.proxy) {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        *self = Self::default();
    }
}

/// Takes one client or datagram that waits, and lets it go.
fn turn_away(socket: &OwnedFd, protocol: Protocol) {
    match protocol {
        Protocol::Tcp => drop(rustix::net::accept(socket)),
        Protocol::Udp => drop(rustix::net::recv(socket, &mut [0; 1], rustix::net::RecvFlags::DONTWAIT)),
    }
}

/// By our own descriptor: it lives as long as we do, and no longer.
fn path_of(namespace: &OwnedFd) -> NamespaceOf {
    let (own, number) = (rustix::process::getpid().as_raw_nonzero(), namespace.as_raw_fd());
    NamespaceOf::Path(format!("/proc/{own}/fd/{number}").into())
}

/// Where other containers and networks are found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    pub(crate) root: &'a Path,
    pub(crate) run: &'a Path,
}

/// How long a bridge is kept for whoever may come next, by one for whom nobody waits.
const KEPT: Duration = Duration::from_millis(300);

impl Places<'_> {
    /// Removes the bridge of a container that was the last to be connected to it, unless bridges stay. `waits`: somebody
    /// may be connected in a moment, as in a row of short runs, and would have to wait for the removal.
    pub(crate) fn remove_unused(&self, record: &Record, waits: bool) {
        let name = match &record.host_config.network_mode {
            NetworkMode::Default => "bridge",
            NetworkMode::Named(name) => name,
            NetworkMode::Host | NetworkMode::None | NetworkMode::Container(_) => return,
        };
        let networks = self.networks();
        if !networks.removes_unused() {
            return;
        }
        if waits {
            let before = networks.last_change(name);
            std::thread::sleep(KEPT);
            // Who came since will do it.
            if networks.last_change(name) != before {
                return;
            }
        }
        // What cannot be removed now the next end tries again.
        let _ = networks.remove_unused(name, &|id| self.is_alive(id));
    }

    pub(crate) fn networks(&self) -> Networks {
        Networks::of(self.root, self.run)
    }

    /// Whether another container has a monitor. Never asked of our own: a process that opens and closes the file gives its
    /// lock back.
    pub(crate) fn is_alive(&self, id: &str) -> bool {
        is_alive(self.run, id)
    }

    /// The first process of another container that runs.
    pub(crate) fn process_of(&self, other: &str) -> Result<i32, Error> {
        let other = Containers::new(self.root, self.run).find(other)?;
        let state = other.written_state()?;
        match state.pid.filter(|_| matches!(state.status, Status::Running | Status::Paused)) {
            Some(pid) if self.is_alive(other.id().as_str()) => Ok(pid),
            _ => Err(Error::JoinsStopped(other.id().clone())),
        }
    }

    /// Whether another container lets others into its IPC namespace.
    pub(crate) fn check_ipc(&self, other: &str) -> Result<(), Error> {
        let other = Containers::new(self.root, self.run).find(other)?;
        match other.record()?.host_config.ipc_mode {
            IpcMode::Shareable | IpcMode::Container(_) => Ok(()),
            _ => Err(Error::JoinsPrivate(other.id().clone())),
        }
    }

    /// A namespace of another container, `net` for instance.
    pub(crate) fn namespace_of(&self, other: &str, kind: &str) -> Result<PathBuf, Error> {
        Ok(format!("/proc/{}/ns/{kind}", self.process_of(other)?).into())
    }
}

fn is_alive(run: &Path, id: &str) -> bool {
    let id = ContainerId::try_from(id.to_owned());
    id.is_ok_and(|id| Alive::is_held(&run.join("containers").join(id.as_str()).join("alive")))
}

/// `--dns`, `--dns-search` and `--dns-option`.
pub(crate) fn dns_options(record: &Record) -> Result<DnsOptions, Error> {
    let host = &record.host_config;
    let address = |text: &String| text.parse().map_err(|_| Error::Address(text.clone()));
    Ok(DnsOptions {
        servers: host.dns.iter().map(address).collect::<Result<_, _>>()?,
        search: host.dns_search.clone(),
        options: host.dns_options.clone(),
    })
}

/// The ports that a record asks for: each of `-p`, and for `-P` each that is exposed.
pub(crate) fn published(record: &Record) -> Result<Vec<PublishedPort>, Error> {
    let mut ports = Vec::new();
    for (container, bindings) in &record.host_config.port_bindings {
        let (container_port, protocol) = port(container)?;
        for binding in bindings.iter().flatten() {
            let host = Some(&binding.host_ip).filter(|text| !text.is_empty());
            let host = host.map(|text| text.parse().map_err(|_| Error::Address(text.clone()))).transpose()?;
            ports.push(PublishedPort { protocol, host, host_ports: host_ports(&binding.host_port)?, container_port });
        }
    }
    if record.host_config.publish_all_ports {
        let bound = &record.host_config.port_bindings;
        for container in record.config.exposed_ports.keys().filter(|port| !bound.contains_key(*port)) {
            let (container_port, protocol) = port(container)?;
            ports.push(PublishedPort { protocol, host: None, host_ports: HostPorts::Any, container_port });
        }
    }
    Ok(ports)
}

fn bad(text: &str) -> Error {
    Error::PortBinding(text.to_owned())
}

/// `80/tcp`
fn port(text: &str) -> Result<(u16, Protocol), Error> {
    let (number, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => return Err(bad(text)),
    };
    Ok((number.parse().map_err(|_| bad(text))?, protocol))
}

/// Empty, `8080` or `8000-8010`.
fn host_ports(text: &str) -> Result<HostPorts, Error> {
    let number = |text: &str| text.parse::<u16>().map_err(|_| bad(text));
    Ok(match text.split_once('-') {
        None if text.is_empty() || text == "0" => HostPorts::Any,
        None => HostPorts::Among(number(text)?..=number(text)?),
        Some((first, last)) => HostPorts::Among(number(first)?..=number(last)?),
    })
}
