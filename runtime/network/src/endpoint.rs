//! Endpoints: what a container has on a network, and finding one by name or address.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{Error, MacAddress, Networks, Protocol, Warning, record};

/// What is asked of [`Networks::connect`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// The network's name or id.
    pub network: String,
    /// The container's id.
    pub container: String,
    /// The container's name.
    pub name: String,
    /// The container's host name.
    pub hostname: String,
    /// Further names by which others on the network find it.
    pub aliases: Vec<String>,
    /// `--ip`: this address and no other.
    pub address: Option<Ipv4Addr>,
    /// `--mac-address`; otherwise it is made from the address.
    pub mac: Option<MacAddress>,
}

/// What a container has on a network, as it is recorded in `<run>/networks/<network>/<address>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// 64 hexadecimal digits.
    pub id: String,
    /// The network's name.
    pub network: String,
    /// The network's id.
    pub network_id: String,
    /// The container's id.
    pub container: String,
    /// The container's name.
    pub name: String,
    /// The container's host name.
    pub hostname: String,
    /// Further names by which others on the network find it.
    pub aliases: Vec<String>,
    /// The container's address.
    pub address: Ipv4Addr,
    /// How many leading bits of the address are the network's.
    pub prefix: u8,
    /// The bridge's address.
    pub gateway: Ipv4Addr,
    /// The container's hardware address.
    pub mac: MacAddress,
    /// The bridge's interface.
    pub bridge: String,
    /// This machine's end of the link.
    pub interface: String,
    /// The ports that are published.
    pub ports: Vec<Binding>,
}

/// A port of this machine that leads to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Binding {
    /// The protocol.
    pub protocol: Protocol,
    /// The address of this machine; unspecified for all of one family.
    pub host: IpAddr,
    /// The port of this machine.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
}

/// A container that has just got its network.
#[derive(Debug)]
pub struct Connected {
    /// What it has.
    pub endpoint: Endpoint,
    /// What stands in its way that Cove cannot change. To be shown to the user.
    pub warnings: Vec<Warning>,
}

impl Endpoint {
    /// Whether others on the network may call it so, and how surely it is meant: 0 is the name that only one can have.
    /// Names of hosts have no case.
    fn answers_to(&self, name: &str) -> Option<u8> {
        let is = |own: &str| !own.is_empty() && own.eq_ignore_ascii_case(name);
        let is_short_id = || self.container.get(..12).is_some_and(is);
        if is(&self.name) || is_short_id() || is(&self.container) {
            Some(0)
        } else if self.aliases.iter().any(|alias| is(alias)) {
            Some(1)
        } else if is(&self.hostname) {
            Some(2)
        } else {
            None
        }
    }
}

impl Networks {
    /// The endpoints of a network, by address. Those of containers that were killed are among them until they are swept.
    pub fn endpoints(&self, network: &str) -> Result<Vec<Endpoint>, Error> {
        let mut endpoints = Vec::new();
        for address in self.leased(network)? {
            // One that goes meanwhile is not there.
            endpoints.extend(record::read::<Endpoint>(&self.lease(network, address))?);
        }
        Ok(endpoints)
    }

    /// A container's endpoint on a network.
    pub fn endpoint(&self, network: &str, container: &str) -> Result<Option<Endpoint>, Error> {
        Ok(self.endpoints(network)?.into_iter().find(|endpoint| endpoint.container == container))
    }

    /// The addresses that this name has on a network: a container's name or short id, else an alias, else a host name.
    /// Several containers can share an alias. `is_alive` is asked for the id of each container that fits.
    pub fn lookup(&self, network: &str, name: &str, is_alive: &dyn Fn(&str) -> bool) -> Result<Vec<IpAddr>, Error> {
        let found = self.endpoints(network)?.into_iter();
        let mut found: Vec<(u8, Endpoint)> =
            found.filter_map(|endpoint| Some((endpoint.answers_to(name)?, endpoint))).collect();
        found.retain(|(_, endpoint)| is_alive(&endpoint.container));
        let best = found.iter().map(|(rank, _)| *rank).min();
        let best = found.into_iter().filter(|(rank, _)| Some(*rank) == best);
        Ok(best.map(|(_, endpoint)| IpAddr::V4(endpoint.address)).collect())
    }

    /// The container that has this address on a network: the other direction of [`Networks::lookup`], in one file.
    pub fn reverse(&self, network: &str, address: IpAddr) -> Result<Option<Endpoint>, Error> {
        match address {
            IpAddr::V4(address) => record::read(&self.lease(network, address)),
            IpAddr::V6(_) => Ok(None),
        }
    }

    /// Gives a container another name on a network; whether it has an endpoint there.
    pub fn rename(&self, network: &str, container: &str, name: &str) -> Result<bool, Error> {
        let _lock = self.lock()?;
        let Some(mut endpoint) = self.endpoint(network, container)? else { return Ok(false) };
        name.clone_into(&mut endpoint.name);
        record::replace(&self.lease(network, endpoint.address), &endpoint, false)?;
        Ok(true)
    }

    /// The file that is the lease of an address.
    pub(crate) fn lease(&self, network: &str, address: Ipv4Addr) -> PathBuf {
        self.leases(network).join(address.to_string())
    }

    /// The addresses that are leased, in order.
    pub(crate) fn leased(&self, network: &str) -> Result<Vec<Ipv4Addr>, Error> {
        let entries = match fs_err::read_dir(self.leases(network)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut addresses = Vec::new();
        for entry in entries {
            addresses.extend(entry?.file_name().to_str().and_then(|name| name.parse::<Ipv4Addr>().ok()));
        }
        addresses.sort_unstable();
        Ok(addresses)
    }

    /// Records which ports of an endpoint are published. Its name may have changed meanwhile: that stays.
    pub(crate) fn record_ports(&self, endpoint: &mut Endpoint, ports: Vec<Binding>) -> Result<(), Error> {
        let _lock = self.lock()?;
        let path = self.lease(&endpoint.network, endpoint.address);
        let found = record::read::<Endpoint>(&path)?.filter(|found| found.id == endpoint.id);
        let (container, network) = (&endpoint.container, &endpoint.network);
        *endpoint =
            found.ok_or_else(|| Error::NoEndpoint { container: container.clone(), network: network.clone() })?;
        endpoint.ports = ports;
        record::replace(&path, endpoint, false)
    }
}
