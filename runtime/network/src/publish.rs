//! Publishing ports: reserving them on this machine and leading them to a container.

use crate::firewall::Filter;
use crate::netlink::Socket;
use crate::network::Networks;
use crate::nftables::Transaction;
use crate::{Binding, Endpoint, Error, Held, PublishedPort, firewall, port};

impl Networks {
    /// Reserves ports of this machine and leads them to a container. The endpoint then says which.
    ///
    /// The sockets that come back reserve the ports: they are to be held as long as the ports are published, also by a
    /// process that never reads them. Those of tcp listen. What is sent to a loopback address or by IPv6 arrives at them,
    /// for a proxy; all else goes to the container in the kernel, with its source address. Either all ports are published
    /// or none.
    pub fn publish(&self, endpoint: &mut Endpoint, ports: &[PublishedPort]) -> Result<Vec<Held>, Error> {
        if ports.is_empty() {
            return Ok(Vec::new());
        }
        let held = self.hold(&endpoint.name, &endpoint.id, ports)?;
        self.lead_to(endpoint, held.iter().map(|held| held.binding).collect())?;
        Ok(held)
    }

    /// Only reserves ports, for a container of this name and an endpoint of this id: the first half of
    /// [`Networks::publish`], for who is to leave this network before there is an endpoint.
    pub fn hold(&self, name: &str, id: &str, ports: &[PublishedPort]) -> Result<Vec<Held>, Error> {
        port::hold(name, id, ports, &self.last_port())
    }

    /// Leads ports that are reserved to a container: the other half.
    pub fn lead_to(&self, endpoint: &mut Endpoint, bindings: Vec<Binding>) -> Result<(), Error> {
        if bindings.is_empty() {
            return Ok(());
        }
        // First the record, then what it stands for: nothing leads to a container that no record tells of.
        self.record_ports(endpoint, bindings)?;
        if let Err(error) = Filter::with(|socket| self.lead(socket, endpoint)) {
            let _ = self.record_ports(endpoint, Vec::new());
            return Err(error);
        }
        Ok(())
    }

    /// Takes all ports of a container back. The sockets are the caller's to close, behind this.
    pub fn unpublish(&self, endpoint: &mut Endpoint) -> Result<(), Error> {
        if endpoint.ports.is_empty() {
            return Ok(());
        }
        Filter::with(|socket| {
            firewall::unpublish(socket, endpoint)?;
            self.forget(socket, endpoint)
        })?;
        self.record_ports(endpoint, Vec::new())
    }

    fn lead(&self, socket: &mut Socket, endpoint: &Endpoint) -> Result<(), Error> {
        let mut transaction = Transaction::new();
        firewall::publish(&mut transaction, &endpoint.bridge, &endpoint.ports, endpoint.address);
        if transaction.is_empty() {
            return Ok(());
        }
        match socket.commit(&mut transaction.finish()) {
            // We hold the port, so what led it elsewhere is left from a container that died.
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {
                let _lock = self.lock()?;
                let wanted = firewall::elements(&endpoint.ports, endpoint.address);
                let mut transaction = Transaction::new();
                firewall::delete_found(socket, &mut transaction, &endpoint.bridge, |map, found| {
                    wanted.iter().any(|(of, some)| *of == map && some.iter().any(|wanted| wanted.key == found.key))
                })?;
                firewall::publish(&mut transaction, &endpoint.bridge, &endpoint.ports, endpoint.address);
                socket.commit(&mut transaction.finish()).map_err(firewall::failed)?;
            }
            result => result.map_err(firewall::failed)?,
        }
        self.forget(socket, endpoint)
    }
}
