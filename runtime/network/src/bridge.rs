//! The bridge of a network, and what this machine needs to forward packets for it.

use std::path::Path;

use crate::link::{self, Link};
use crate::netlink::{Batch, Socket};
use crate::network::Bridge;
use crate::{Error, MacAddress, Networks, ranges};

/// The size of packets, as docker has it, unless the way out takes only smaller ones.
pub(crate) const MTU: u32 = 1500;

impl Networks {
    /// Makes the bridge, or finds it made. Its range may change with that: after a restart of the machine others may
    /// use the range that was recorded.
    pub(crate) fn raise_bridge(&self, socket: &mut Socket, bridge: &mut Bridge) -> Result<Link, Error> {
        if let Some(link) = in_use(socket, bridge)? {
            return Ok(link);
        }
        let _lock = self.lock()?;
        *bridge = self.find(&bridge.network.name)?.into_bridge()?;
        let mut link = find(socket, &bridge.interface)?;
        if link.is_none() {
            let used = ranges::in_use(socket, None)?;
            // What runs keeps its addresses.
            if ranges::overlaps(&bridge.pool.subnet, &used) && self.leased(&bridge.network.name)?.is_empty() {
                let pool = self.free_pool(&bridge.network)?;
                self.change_pool(bridge, pool)?;
            }
            let mut batch = Batch::default();
            link::make_bridge(&mut batch, &bridge.interface, MacAddress::of(bridge.pool.gateway), mtu(socket)?);
            socket.run(&mut batch).map_err(|error| Error::lacking("make a bridge", "bridge", error))?;
            link = find(socket, &bridge.interface)?;
        }
        let failed = |error| Error::kernel("take the bridge into use", error);
        let link = link.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?;
        let (pool, mut batch) = (&bridge.pool, Batch::default());
        link::raise(&mut batch, link.index, pool.gateway, pool.subnet.prefix_len(), pool.subnet.broadcast());
        socket.run(&mut batch).map_err(failed)?;
        Ok(link)
    }
}

/// The bridge, if packets for its network go to it from the gateway's address: then its address and its route are there
/// too.
fn in_use(socket: &mut Socket, bridge: &Bridge) -> Result<Option<Link>, Error> {
    let Some(some) = bridge.pool.subnet.hosts().find(|address| *address != bridge.pool.gateway) else {
        return Ok(None);
    };
    let mut batch = Batch::default();
    link::get(&mut batch, &bridge.interface);
    link::get_route(&mut batch, some);
    let mut answers = socket.ask(&mut batch).map_err(|error| Error::kernel("look for the bridge", error))?;
    let route = answers.pop().and_then(|answer| answer.messages().ok()).unwrap_or_default();
    let route = route.first().and_then(|(_, body)| link::read_route(body));
    let found =
        answers.pop().unwrap_or_default().found().map_err(|error| Error::kernel("look for the bridge", error))?;
    let link = found.and_then(|body| link::read(&body)).filter(|link| link.is_up);
    let leads_there = |link: &Link| {
        route.is_some_and(|route| route.through == Some(link.index) && route.from == Some(bridge.pool.gateway))
    };
    Ok(link.filter(leads_there))
}

fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>, Error> {
    let mut batch = Batch::default();
    link::get(&mut batch, name);
    let found = socket.ask(&mut batch).and_then(|mut answers| answers.pop().unwrap_or_default().found());
    Ok(found.map_err(|error| Error::kernel("look for the bridge", error))?.and_then(|body| link::read(&body)))
}

/// The size of packets that the way out takes, at most docker's.
fn mtu(socket: &mut Socket) -> Result<u32, Error> {
    let failed = |error| Error::kernel("look for the way out", error);
    let mut batch = Batch::default();
    link::list_routes(&mut batch);
    let routes = socket.ask(&mut batch).and_then(|mut answers| answers.pop().unwrap_or_default().messages());
    let routes = routes.map_err(failed)?;
    let mut routes = routes.iter().filter_map(|(_, body)| link::read_route(body));
    let Some(out) = routes.find(|route| route.prefix == 0).and_then(|route| route.through) else { return Ok(MTU) };
    let mut batch = Batch::default();
    link::get_numbered(&mut batch, out);
    let found = socket.ask(&mut batch).and_then(|mut answers| answers.pop().unwrap_or_default().found());
    let found = found.map_err(failed)?.and_then(|body| link::read(&body));
    // IPv4 needs 68.
    Ok(found.map_or(MTU, |link| link.mtu.clamp(68, MTU)))
}

/// Lets this machine forward packets.
pub(crate) fn forward() -> Result<(), Error> {
    let path = Path::new("/proc/sys/net/ipv4/ip_forward");
    let is_on = std::fs::read(path).is_ok_and(|value| value.first() == Some(&b'1'));
    if is_on {
        return Ok(());
    }
    std::fs::write(path, "1").map_err(|source| Error::Forwarding { path: path.to_owned(), source })
}
