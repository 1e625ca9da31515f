//! Which ranges of addresses a network may have.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::netlink::{Batch, Socket};
use crate::{Error, link};

/// Routes that are wider than this lead to whole parts of the world, as VPNs write the default route, and do not say
/// that their addresses are used.
const WIDEST: u8 = 8;

/// The ranges from which docker chooses, in its order.
fn candidates() -> impl Iterator<Item = Ipv4Net> {
    let net = |a, b, c, prefix| Ipv4Net::new(Ipv4Addr::new(a, b, c, 0), prefix).ok();
    let large = (17..=31).filter_map(move |second| net(172, second, 0, 16));
    large.chain((0..=240).step_by(16).filter_map(move |third| net(192, 168, third, 20)))
}

/// The first range that has nothing in common with these.
pub(crate) fn free(used: &[Ipv4Net]) -> Option<Ipv4Net> {
    candidates().find(|range| !overlaps(range, used))
}

/// Whether a range has something in common with these.
pub(crate) fn overlaps(range: &Ipv4Net, used: &[Ipv4Net]) -> bool {
    used.iter().any(|used| used.contains(&range.network()) || range.contains(&used.network()))
}

/// The ranges that this machine uses: its addresses, its routes, its nameservers. Those of `own` are left out.
pub(crate) fn in_use(socket: &mut Socket, own: Option<&str>) -> Result<Vec<Ipv4Net>, Error> {
    let failed = |error| Error::kernel("list the addresses in use", error);
    let mut ask = |write: &dyn Fn(&mut Batch)| {
        let mut batch = Batch::default();
        write(&mut batch);
        socket.ask(&mut batch).map(|mut answers| answers.pop().unwrap_or_default())
    };
    let own = match own {
        Some(name) => ask(&|batch| link::get(batch, name)).and_then(|answer| answer.found()).map_err(failed)?,
        None => None,
    };
    let own = own.and_then(|body| link::read(&body)).map(|link| link.index);
    let addresses = ask(&link::list_addresses).and_then(|answer| answer.messages()).map_err(failed)?;
    let routes = ask(&link::list_routes).and_then(|answer| answer.messages()).map_err(failed)?;
    let mut used = nameservers(&fs_err::read_to_string("/etc/resolv.conf").unwrap_or_default());
    for (address, prefix, index) in addresses.iter().filter_map(|(_, body)| link::read_address(body)) {
        if own != Some(index) {
            used.extend(Ipv4Net::new(address, prefix));
        }
    }
    for route in routes.iter().filter_map(|(_, body)| link::read_route(body)) {
        if route.prefix >= WIDEST && (own.is_none() || route.through != own) {
            used.extend(Ipv4Net::new(route.to, route.prefix));
        }
    }
    Ok(used)
}

/// The IPv4 nameservers in a text like `/etc/resolv.conf`.
fn nameservers(text: &str) -> Vec<Ipv4Net> {
    let values = text.lines().filter_map(|line| line.trim().strip_prefix("nameserver"));
    values.filter_map(|value| value.trim().parse::<Ipv4Addr>().ok()).map(Ipv4Net::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<Ipv4Net> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn the_first_range_that_overlaps_nothing_is_taken() {
        let free = |used: &[&str]| free(&nets(used)).map(|net| net.to_string());
        assert_eq!(free(&[]).as_deref(), Some("172.17.0.0/16"));
        assert_eq!(free(&["192.0.2.0/24", "10.0.0.0/8"]).as_deref(), Some("172.17.0.0/16"));
        assert_eq!(free(&["172.17.0.1/16"]).as_deref(), Some("172.18.0.0/16"), "docker0");
        assert_eq!(free(&["172.17.200.9/32"]).as_deref(), Some("172.18.0.0/16"), "a nameserver within");
        assert_eq!(free(&["172.17.0.0/16", "172.18.4.0/24"]).as_deref(), Some("172.19.0.0/16"));
        assert_eq!(free(&["172.16.0.0/12"]).as_deref(), Some("192.168.0.0/20"), "a wider range");
        assert_eq!(free(&["172.16.0.0/12", "192.168.1.0/24"]).as_deref(), Some("192.168.16.0/20"));
        assert_eq!(free(&["172.16.0.0/12", "192.168.0.0/16"]), None);
    }

    #[test]
    fn nameservers_are_found() {
        let text =
            "# nameserver 1.1.1.1\nnameserver 172.17.0.5\nnameserver fd00::1\n  nameserver\t10.0.0.1\nsearch a\n";
        assert_eq!(nameservers(text), nets(&["172.17.0.5/32", "10.0.0.1/32"]));
    }
}
