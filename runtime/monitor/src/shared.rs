//! A monitor of an ordinary user's container: it goes into the network namespace that the user's containers share, and does
//! there what root's monitors do in the machine's. What it needs of the machine's network it takes along: sockets that hold
//! the published ports. There is no way back.

use std::net::SocketAddr;

use cove_container::config::NetworkMode;
use cove_container::shared::{Shared, SharedPlace};
use cove_container::{Container, Record};
use cove_network::resolver::HostResolver;
use cove_network::{Endpoint, Held, Networks};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Error;
use crate::network::{Places, published};
use crate::uplink::{FORWARDER, needs_forwarder};

/// The namespaces that the user's containers share.
pub(crate) struct Home {
    /// They stay as long as we are connected.
    namespaces: Shared,
    /// Ports of the machine, held as long as we live: once inside nobody could take them again.
    ports: Vec<Held>,
    is_inside: bool,
}

impl Home {
    /// Those of a run folder.
    pub(crate) fn of(places: &Places<'_>) -> Result<Self, Error> {
        let namespaces = SharedPlace::of(places.run).connect()?.ok_or(Error::NoHolder)?;
        Ok(Self { namespaces, ports: Vec::new(), is_inside: false })
    }

    /// Takes what the container needs of the machine's network, and leaves that for the shared one.
    pub(crate) fn enter(&mut self, places: &Places<'_>, container: &Container, record: &Record) -> Result<(), Error> {
        let has_bridge = match record.host_config.network_mode {
            NetworkMode::Host | NetworkMode::Container(_) => return Ok(()),
            NetworkMode::None => false,
            NetworkMode::Default | NetworkMode::Named(_) => true,
        };
        if has_bridge {
            // Also where we are inside already: it may have to be started again.
            match self.namespaces.uplink() {
                // Who held them was killed. The next one finds us here, and sees to the way out.
                Err(_) if self.is_inside => {}
                asked => asked.map_err(Error::system("ask for the way out"))?.map_err(Error::Uplink)?,
            }
        }
        if self.is_inside {
            return Ok(());
        }
        if has_bridge {
            self.ports = places.networks().hold(&record.name, container.id().as_str(), &published(record)?)?;
        }
        move_into_link_name_space(self.namespaces.network(), Some(LinkNameSpaceType::Network))
            .map_err(Error::system("enter the network of your containers"))?;
        self.is_inside = true;
        if has_bridge {
            cove_network::drop_invalid()?;
        }
        Ok(())
    }

    /// Leads the ports to the container.
    pub(crate) fn publish(&self, networks: &Networks, endpoint: &mut Endpoint) -> Result<Vec<Held>, Error> {
        let bindings = self.ports.iter().map(|held| held.binding).collect();
        networks.lead_to(endpoint, bindings)?;
        let again = |held: &Held| Ok(Held { binding: held.binding, socket: held.socket.try_clone()? });
        let held: std::io::Result<Vec<Held>> = self.ports.iter().map(again).collect();
        held.map_err(Error::system("hold a port"))
    }
}

/// Servers as they are asked from the shared network, which knows IPv4 only: what listens on the machine's loopback device
/// is asked by way of `pasta`.
pub(crate) fn reachable(servers: &[SocketAddr], host: &HostResolver) -> Vec<SocketAddr> {
    let forwarder = FORWARDER.parse().ok().map(|address| SocketAddr::new(address, 53));
    let forwarder = forwarder.filter(|_| needs_forwarder(host));
    let mut reachable: Vec<SocketAddr> = Vec::new();
    for server in servers.iter().filter(|server| server.is_ipv4()) {
        let server = if server.ip().is_loopback() { forwarder } else { Some(*server) };
        if let Some(server) = server.filter(|server| !reachable.contains(server)) {
            reachable.push(server);
        }
    }
    reachable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_asked_where_they_can_be_reached() {
        let asked = |text: &str| {
            let host = HostResolver::parse(text);
            let servers = reachable(&host.addresses(&Default::default()), &host);
            servers.iter().map(|server| server.ip().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(asked("nameserver 10.0.0.1\nnameserver ::1\nnameserver 127.0.0.1\n"), ["10.0.0.1"]);
        assert_eq!(
            asked("nameserver 127.0.0.53\nnameserver 127.0.0.54\nnameserver 10.0.0.1\n"),
            [FORWARDER, "10.0.0.1"]
        );
    }
}
