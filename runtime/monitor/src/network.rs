//! The network of one container, from its namespace to its published ports.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use cove_container::config::NetworkMode;
use cove_container::{Alive, Container, ContainerId, Containers, Record, Status};
use cove_network::{Endpoint, Held, HostPorts, Networks, Protocol, PublishedPort, Request};

use crate::Error;

/// What a container has of the network.
#[derive(Debug, Default)]
pub(crate) struct Network {
    /// Its own namespace, while it runs.
    namespace: Option<OwnedFd>,
    /// What it has on a bridge.
    endpoint: Option<Endpoint>,
    /// Ports of this machine that are reserved for it.
    _held: Vec<Held>,
}

/// Which network namespace its processes are to be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NamespaceOf {
    /// This one, by the path that leads to it.
    Path(String),
    /// That of the machine.
    Host,
}

impl Network {
    /// Makes the network that a container asks for.
    pub(crate) fn set_up(
        places: &Places<'_>,
        container: &Container,
        record: &Record,
    ) -> Result<(Self, NamespaceOf), Error> {
        let name = match &record.host_config.network_mode {
            NetworkMode::Host => return Ok((Self::default(), NamespaceOf::Host)),
            NetworkMode::Container(other) => return Ok((Self::default(), places.of_container(other)?)),
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
        let mut endpoint = networks.connect(namespace.as_fd(), &request, &is_alive)?.endpoint;
        let held = match networks.publish(&mut endpoint, &published(record)?) {
            Ok(held) => held,
            Err(error) => {
                let _ = networks.disconnect(&endpoint);
                return Err(error.into());
            }
        };
        let path = path_of(&namespace);
        Ok((Self { namespace: Some(namespace), endpoint: Some(endpoint), _held: held }, path))
    }

    /// A namespace with a loopback device and nothing else.
    fn alone() -> Result<(Self, NamespaceOf), Error> {
        let namespace = cove_network::new_namespace()?;
        cove_network::loopback_up(namespace.as_fd())?;
        let path = path_of(&namespace);
        Ok((Self { namespace: Some(namespace), ..Self::default() }, path))
    }

    /// Its address on a bridge.
    pub(crate) fn address(&self) -> Option<Ipv4Addr> {
        self.endpoint.as_ref().map(|endpoint| endpoint.address)
    }

    /// Takes everything back. What cannot be taken back now is swept when its place is needed.
    pub(crate) fn take_down(&mut self, places: &Places<'_>) {
        if let Some(endpoint) = self.endpoint.take() {
            let _ = places.networks().disconnect(&endpoint);
        }
        *self = Self::default();
    }
}

/// By our own descriptor: it lives as long as we do, and no longer.
fn path_of(namespace: &OwnedFd) -> NamespaceOf {
    NamespaceOf::Path(format!("/proc/{}/fd/{}", rustix::process::getpid().as_raw_nonzero(), namespace.as_raw_fd()))
}

/// Where other containers and networks are found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    pub(crate) root: &'a Path,
    pub(crate) run: &'a Path,
}

impl Places<'_> {
    fn networks(&self) -> Networks {
        Networks::of(self.root, self.run)
    }

    /// Whether another container has a monitor. Never asked of our own: a process that opens and closes the file gives its
    /// lock back.
    fn is_alive(&self, id: &str) -> bool {
        ContainerId::try_from(id.to_owned())
            .is_ok_and(|id| Alive::is_held(&self.run.join("containers").join(id.as_str()).join("alive")))
    }

    fn of_container(&self, other: &str) -> Result<NamespaceOf, Error> {
        let other = Containers::new(self.root, self.run).find(other)?;
        let state = other.written_state()?;
        match (state.status, state.pid) {
            (Status::Running | Status::Paused, Some(pid)) if self.is_alive(other.id().as_str()) => {
                Ok(NamespaceOf::Path(format!("/proc/{pid}/ns/net")))
            }
            _ => Err(Error::JoinsStopped(other.id().clone())),
        }
    }
}

/// The ports that a record asks for: each of `-p`, and for `-P` each that is exposed.
fn published(record: &Record) -> Result<Vec<PublishedPort>, Error> {
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
