//! A monitor of an ordinary user's container: it goes into the network namespace that the user's containers share, and does
//! there what root's monitors do in the machine's. What it needs of the machine's network it takes along: sockets that hold
//! the published ports. There is no way back.

use std::net::SocketAddr;

use cove_container::config::NetworkMode;
use cove_container::shared::{Shared, SharedPlace};
use cove_container::{Container, Record};
use cove_network::{Endpoint, Held, Networks};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::Error;
use crate::network::{Places, published};
use crate::uplink::FORWARDER;

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
            self.namespaces.uplink().map_err(Error::system("ask for the way out"))?.map_err(Error::Uplink)?;
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

/// Servers of the machine as they are asked from the shared network: what listens on the machine's loopback device, and what
/// is reached by IPv6, is asked by way of `pasta`.
pub(crate) fn reachable(servers: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let forwarder = FORWARDER.parse().map(|address| SocketAddr::new(address, 53));
    let mut reachable: Vec<SocketAddr> = Vec::new();
    for server in servers {
        let server = match &forwarder {
            Ok(forwarder) if server.ip().is_loopback() || server.is_ipv6() => *forwarder,
            _ => server,
        };
        if !reachable.contains(&server) {
            reachable.push(server);
        }
    }
    reachable
}
