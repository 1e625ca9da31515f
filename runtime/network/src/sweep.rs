//! Taking back what containers left that were killed with their monitors.

use std::net::Ipv4Addr;

use crate::firewall::Filter;
use crate::network::{Bridge, Networks};
use crate::{Endpoint, Error, firewall, record};

impl Networks {
    /// Takes back addresses and ports of containers that do not live; how many endpoints those were. `is_alive` is asked
    /// for the id of every container that has an endpoint.
    pub fn sweep(&self, is_alive: &dyn Fn(&str) -> bool) -> Result<usize, Error> {
        let mut swept = 0;
        for network in self.recorded()? {
            if let Ok(bridge) = network.into_bridge() {
                swept += self.reclaim(&bridge, None, is_alive)?;
            }
        }
        Ok(swept)
    }

    /// Takes back what dead containers have on one network: one address, or all.
    pub(crate) fn reclaim(
        &self,
        bridge: &Bridge,
        only: Option<Ipv4Addr>,
        is_alive: &dyn Fn(&str) -> bool,
    ) -> Result<usize, Error> {
        let name = &bridge.network.name;
        let is_dead = |endpoint: &Endpoint| {
            only.is_none_or(|address| address == endpoint.address) && !is_alive(&endpoint.container)
        };
        // Mostly there is nothing to do, and nobody to be kept waiting.
        if !self.endpoints(name)?.iter().any(is_dead) {
            return Ok(0);
        }
        let _lock = self.lock()?;
        let dead: Vec<Endpoint> = self.endpoints(name)?.into_iter().filter(is_dead).collect();
        let published = dead.iter().filter(|endpoint| !endpoint.ports.is_empty());
        let published: Vec<Ipv4Addr> = published.map(|endpoint| endpoint.address).collect();
        if !published.is_empty() {
            let leads_there = |_, element: &crate::nftables::Element| firewall::leads_to(element, &published);
            Filter::with(|socket| {
                firewall::remove(socket, &bridge.interface, leads_there)?;
                dead.iter().try_for_each(|endpoint| self.forget(socket, endpoint))
            })?;
        }
        for endpoint in &dead {
            remove(&self.lease(name, endpoint.address))?;
        }
        Ok(dead.len())
    }
}

fn remove(path: &std::path::Path) -> Result<(), Error> {
    // Only what holds the lock removes it, so it is there, unless somebody emptied the run folder by hand.
    if record::read::<Endpoint>(path)?.is_some() {
        fs_err::remove_file(path)?;
    }
    Ok(())
}
