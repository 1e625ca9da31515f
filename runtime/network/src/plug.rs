//! Connecting a container to a network, and taking it off again.

use std::os::fd::BorrowedFd;

use ipnet::Ipv4Net;

use crate::firewall::Filter;
use crate::link::{self, Link, Pair};
use crate::netlink::{Batch, Socket};
use crate::{Connected, Endpoint, Error, Networks, Request, bridge, conntrack, firewall, namespace, record};

/// The container's end of the link.
const INTERFACE: &str = "eth0";

impl Networks {
    /// Gives a container's namespace an address on a network, the link to it, and the way out; the loopback device is in
    /// use then too. Whoever calls this holds the container's alive lock, as `is_alive` would see it.
    ///
    /// All that the network itself needs is made where it is missing. `is_alive` says for a container's id whether that
    /// container lives; it is only asked where the addresses of dead ones are needed.
    pub fn connect(
        &self,
        namespace: BorrowedFd<'_>,
        request: &Request,
        is_alive: &dyn Fn(&str) -> bool,
    ) -> Result<Connected, Error> {
        let mut bridge = self.find(&request.network)?.into_bridge()?;
        // Until its address is leased nobody else knows that it needs the bridge.
        let _starting = self.starting()?;
        let mut socket = Socket::route().map_err(|error| Error::kernel("speak to the kernel about links", error))?;
        let link = self.raise_bridge(&mut socket, &mut bridge)?;
        bridge::forward()?;
        let warnings = self.prepare_firewall(&bridge)?;
        let endpoint = self.claim(&bridge, request, is_alive)?;
        match plug(&mut socket, namespace, &link, &endpoint) {
            Ok(()) => Ok(Connected { endpoint, warnings }),
            Err(error) => {
                // The first error is the one to tell.
                let _ = self.release(&endpoint);
                Err(error)
            }
        }
    }

    /// Takes a container off its network: its ports lead nowhere, its address is free. The link goes with the
    /// container's namespace; the sockets that hold its ports are the caller's to close, behind this.
    pub fn disconnect(&self, endpoint: &Endpoint) -> Result<(), Error> {
        if !endpoint.ports.is_empty() {
            Filter::with(|socket| {
                firewall::unpublish(socket, endpoint)?;
                self.forget(socket, endpoint)
            })?;
        }
        self.release(endpoint)
    }

    /// Forgets the UDP connections of an endpoint's ports.
    pub(crate) fn forget(&self, socket: &mut Socket, endpoint: &Endpoint) -> Result<(), Error> {
        let udp = endpoint.ports.iter().filter(|binding| firewall::element(binding, endpoint.address).is_some());
        for binding in udp.filter(|binding| binding.protocol == crate::Protocol::Udp) {
            conntrack::forget_udp(socket, binding.host_port, endpoint.address)?;
        }
        Ok(())
    }

    /// Ends a lease, if it is still this endpoint's.
    pub(crate) fn release(&self, endpoint: &Endpoint) -> Result<(), Error> {
        let _lock = self.lock()?;
        let path = self.lease(&endpoint.network, endpoint.address);
        if record::read::<Endpoint>(&path)?.is_some_and(|found| found.id == endpoint.id) {
            fs_err::remove_file(&path)?;
        }
        Ok(())
    }
}

/// Makes the link between a bridge and a namespace.
fn plug(host: &mut Socket, namespace: BorrowedFd<'_>, bridge: &Link, endpoint: &Endpoint) -> Result<(), Error> {
    let mut container = namespace::within(namespace, Socket::route)?;
    let mut batch = Batch::default();
    let (name, mac) = (endpoint.interface.as_str(), endpoint.mac);
    link::make_pair(&mut batch, &Pair { name, bridge, peer: INTERFACE, namespace, mac });
    host.run(&mut batch).map_err(|error| Error::lacking("make a link to the container", "veth", error))?;

    let failed = |error| Error::kernel("set up the container's network", error);
    let mut batch = Batch::default();
    link::get(&mut batch, INTERFACE);
    let found = container.ask(&mut batch).and_then(|mut answers| answers.pop().unwrap_or_default().messages());
    let found = found.map_err(failed)?;
    let found = found.first().and_then(|(_, body)| link::read(body));
    let index = found.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?.index;
    let subnet = Ipv4Net::new(endpoint.address, endpoint.prefix).unwrap_or_else(|_| endpoint.address.into());
    let mut batch = Batch::default();
    link::raise_loopback(&mut batch);
    link::raise(&mut batch, index, endpoint.address, endpoint.prefix, subnet.broadcast());
    link::default_route(&mut batch, endpoint.gateway);
    container.run(&mut batch).map_err(failed)?;
    let mut batch = Batch::default();
    link::raise_port(&mut batch, name);
    host.run(&mut batch).map_err(failed)
}
