//! Leases: who has which address.
//!
//! A lease is a file named after its address that is linked into place with all that it says: the kernel lets one have
//! it. Only with the lock held is one taken away, and only after it was looked at with the lock held: so what is taken
//! away is what was looked at.

use std::net::Ipv4Addr;

use crate::network::Bridge;
use crate::{Endpoint, Error, MacAddress, Networks, Request, record};

impl Networks {
    /// Leases an address: the one asked for, or the lowest that is free, as docker does.
    pub(crate) fn claim(
        &self,
        bridge: &Bridge,
        request: &Request,
        is_alive: &dyn Fn(&str) -> bool,
    ) -> Result<Endpoint, Error> {
        let network = &bridge.network;
        self.make_leases(&network.name)?;
        let mut endpoint = Endpoint {
            id: record::new_id()?,
            network: network.name.clone(),
            network_id: network.id.clone(),
            container: request.container.clone(),
            name: request.name.clone(),
            hostname: request.hostname.clone(),
            aliases: request.aliases.clone(),
            address: Ipv4Addr::UNSPECIFIED,
            prefix: bridge.pool.subnet.prefix_len(),
            gateway: bridge.pool.gateway,
            mac: MacAddress([0; 6]),
            bridge: bridge.interface.clone(),
            interface: interface_name()?,
            ports: Vec::new(),
        };
        let mut take = |address: Ipv4Addr| -> Result<bool, Error> {
            endpoint.address = address;
            endpoint.mac = request.mac.unwrap_or_else(|| MacAddress::of(address));
            record::create(&self.lease(&network.name, address), &endpoint, false)
        };
        if let Some(address) = request.address {
            self.check(bridge, address)?;
            if !take(address)? {
                self.reclaim(bridge, Some(address), is_alive)?;
                if !take(address)? {
                    return Err(Error::AddressInUse { address });
                }
            }
            return Ok(endpoint);
        }
        for may_reclaim in [true, false] {
            let taken = self.leased(&network.name)?;
            for address in free(bridge, &taken) {
                if take(address)? {
                    return Ok(endpoint);
                }
            }
            if may_reclaim {
                self.reclaim(bridge, None, is_alive)?;
            }
        }
        Err(Error::NoFreeAddress { name: network.name.clone(), id: network.id.clone() })
    }

    fn check(&self, bridge: &Bridge, address: Ipv4Addr) -> Result<(), Error> {
        let subnet = bridge.pool.subnet;
        let is_possible = address != subnet.network() && address != subnet.broadcast();
        if !subnet.contains(&address) || !is_possible {
            return Err(Error::AddressOutside { address, name: bridge.network.name.clone(), subnet });
        }
        if address == bridge.pool.gateway { Err(Error::AddressInUse { address }) } else { Ok(()) }
    }
}

/// The addresses of a network that are not among these (in order), beginning with the lowest.
fn free(bridge: &Bridge, taken: &[Ipv4Addr]) -> impl Iterator<Item = Ipv4Addr> {
    let gateway = bridge.pool.gateway;
    bridge.pool.subnet.hosts().filter(move |address| *address != gateway && taken.binary_search(address).is_err())
}

/// A name for this machine's end of a link. It is random, for a link lives a moment longer than its container and its
/// lease: a name made from either could still be taken.
fn interface_name() -> Result<String, Error> {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let letters = record::random::<10>()?;
    Ok("veth".chars().chain(letters.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)]))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::Pool;
    use crate::{Driver, Network};

    fn bridge(subnet: &str) -> Bridge {
        let pool = Pool::of(subnet.parse().unwrap());
        let network = Network {
            id: "a".repeat(64),
            name: "bridge".to_owned(),
            driver: Driver::Bridge,
            created: String::new(),
            ipv4: Some(pool),
            interface: Some("cove0".to_owned()),
            options: Default::default(),
            labels: Default::default(),
        };
        Bridge { network, interface: "cove0".to_owned(), pool }
    }

    fn networks() -> (tempfile::TempDir, Networks) {
        let folder = tempfile::tempdir().unwrap();
        let networks = Networks::of_system(&folder.path().join("root"), &folder.path().join("run"));
        (folder, networks)
    }

    fn request(container: &str) -> Request {
        Request { container: container.to_owned(), ..Request::default() }
    }

    fn at(networks: &Networks, bridge: &Bridge, container: &str, address: &str) -> Result<Endpoint, Error> {
        let address = Some(address.parse().unwrap());
        networks.claim(bridge, &Request { address, ..request(container) }, &|_| true)
    }

    #[test]
    fn the_lowest_free_address_is_given_and_never_twice() {
        let (_folder, networks) = networks();
        let bridge = bridge("172.17.0.0/16");
        let claim = |name| networks.claim(&bridge, &request(name), &|_| true).unwrap();
        let first = claim("one");
        assert_eq!(first.address.to_string(), "172.17.0.2");
        assert_eq!(first.gateway.to_string(), "172.17.0.1");
        assert_eq!(first.mac.to_string(), "02:42:ac:11:00:02");
        assert_eq!(first.interface.len(), 14, "an interface's name has at most 15 bytes");
        assert_eq!(claim("two").address.to_string(), "172.17.0.3");
        std::fs::remove_file(networks.lease("bridge", first.address)).unwrap();
        assert_eq!(claim("three").address.to_string(), "172.17.0.2");
        assert_eq!(claim("four").address.to_string(), "172.17.0.4");
    }

    #[test]
    fn many_at_once_get_different_addresses() {
        let (_folder, networks) = networks();
        let bridge = bridge("172.17.0.0/16");
        let claim =
            || (0..25).map(|_| networks.claim(&bridge, &request("c"), &|_| true).unwrap().address).collect::<Vec<_>>();
        let mut all: Vec<Ipv4Addr> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(claim)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 200);
        assert_eq!(all.last().unwrap().to_string(), "172.17.0.201", "no address is left out");
    }

    #[test]
    fn a_chosen_address_is_checked() {
        let (_folder, networks) = networks();
        let bridge = bridge("172.17.0.0/16");
        assert_eq!(at(&networks, &bridge, "one", "172.17.9.9").unwrap().address.to_string(), "172.17.9.9");
        let text = |address| at(&networks, &bridge, "two", address).unwrap_err().to_string();
        assert_eq!(text("172.17.9.9"), "Address already in use");
        assert_eq!(text("172.17.0.1"), "Address already in use", "the gateway");
        for outside in ["172.18.0.2", "172.17.0.0", "172.17.255.255"] {
            assert!(text(outside).starts_with("no configured subnet or ip range contain the IP address"), "{outside}");
        }
    }

    #[test]
    fn a_full_network_says_so_and_addresses_of_the_dead_are_given_again() {
        let (_folder, networks) = networks();
        let bridge = bridge("192.168.0.0/29");
        for name in ["a", "b", "c", "d", "dead"] {
            networks.claim(&bridge, &request(name), &|_| true).unwrap();
        }
        let error = networks.claim(&bridge, &request("late"), &|_| true).unwrap_err().to_string();
        let expected =
            format!("no available IPv4 addresses on this network's address pools: bridge ({})", "a".repeat(64));
        assert_eq!(error, expected);
        let late = networks.claim(&bridge, &request("late"), &|id| id != "dead").unwrap();
        assert_eq!(late.address.to_string(), "192.168.0.6");
        let address = Some(Ipv4Addr::new(192, 168, 0, 3));
        let chosen = networks.claim(&bridge, &Request { address, ..request("e") }, &|id| id != "b").unwrap();
        assert_eq!(chosen.address.to_string(), "192.168.0.3");
        assert_eq!(networks.endpoints("bridge").unwrap().len(), 5);
    }
}
