//! Links, addresses and routes: the messages of the route family that networks need.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::MacAddress;
use crate::netlink::{ACKNOWLEDGE, Batch, CREATE, DUMP, EXCLUSIVE, REPLACE, attribute, number};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const GET_ROUTE: u16 = 26;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_EXT_MASK: u16 = 29;
const SKIP_STATISTICS: u32 = 1 << 3;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const INFO_SLAVE_KIND: u16 = 4;
const INFO_SLAVE_DATA: u16 = 5;
const VETH_PEER: u16 = 1;
const BRIDGE_PORT_HAIRPIN: u16 = 4;
const INET6_GENERATION_MODE: u16 = 8;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PREFSRC: u16 = 7;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_BROADCAST: u16 = 4;

const INET: u8 = libc::AF_INET as u8;
const UP: u32 = libc::IFF_UP as u32;
/// The loopback device of a namespace is its first.
const LOOPBACK: u32 = 1;

/// `struct ifinfomsg`.
fn interface(index: u32, flags: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&flags.to_ne_bytes());
    header
}

/// `struct rtmsg` of an IPv4 route.
fn route(prefix: u8, kind: u8) -> [u8; 12] {
    const MAIN: u8 = 254;
    const BOOT: u8 = 3;
    let (table, protocol) = if kind == 0 { (0, 0) } else { (MAIN, BOOT) };
    [INET, prefix, 0, 0, table, protocol, 0, kind, 0, 0, 0, 0]
}

/// A link as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) is_up: bool,
    pub(crate) mtu: u32,
}

/// Asks for a link by its name.
pub(crate) fn get(batch: &mut Batch, name: &str) {
    batch.message(GET_LINK, ACKNOWLEDGE, &interface(0, 0), |link| {
        link.text(IFLA_IFNAME, name);
        link.number(IFLA_EXT_MASK, SKIP_STATISTICS);
    });
}

/// Asks for a link by its number.
pub(crate) fn get_numbered(batch: &mut Batch, index: u32) {
    batch.message(GET_LINK, ACKNOWLEDGE, &interface(index, 0), |_| {});
}

/// Reads a link.
pub(crate) fn read(body: &[u8]) -> Option<Link> {
    let attributes = body.get(16..)?;
    Some(Link {
        index: number(body.get(4..8)?)?,
        is_up: number(body.get(8..12)?)? & UP != 0,
        mtu: number(attribute(attributes, IFLA_MTU)?)?,
    })
}

/// Asks which way packets to an address go.
pub(crate) fn get_route(batch: &mut Batch, to: Ipv4Addr) {
    batch.message(GET_ROUTE, ACKNOWLEDGE, &route(32, 0), |route| route.bytes(RTA_DST, &to.octets()));
}

/// Asks for all IPv4 routes.
pub(crate) fn list_routes(batch: &mut Batch) {
    batch.message(GET_ROUTE, DUMP, &route(0, 0), |_| {});
}

/// A route as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: Ipv4Addr,
    pub(crate) prefix: u8,
    pub(crate) through: Option<u32>,
    pub(crate) from: Option<Ipv4Addr>,
}

/// Reads a route.
pub(crate) fn read_route(body: &[u8]) -> Option<Route> {
    let attributes = body.get(12..)?;
    Some(Route {
        to: attribute(attributes, RTA_DST).and_then(address).unwrap_or(Ipv4Addr::UNSPECIFIED),
        prefix: *body.get(1)?,
        through: attribute(attributes, RTA_OIF).and_then(number),
        from: attribute(attributes, RTA_PREFSRC).and_then(address),
    })
}

/// Asks for all IPv4 addresses.
pub(crate) fn list_addresses(batch: &mut Batch) {
    batch.message(GET_ADDRESS, DUMP, &[INET, 0, 0, 0, 0, 0, 0, 0], |_| {});
}

/// Reads an address: the address, the length of its prefix, and the link that has it.
pub(crate) fn read_address(body: &[u8]) -> Option<(Ipv4Addr, u8, u32)> {
    let attributes = body.get(8..)?;
    let found = attribute(attributes, IFA_LOCAL).or_else(|| attribute(attributes, IFA_ADDRESS))?;
    Some((address(found)?, *body.get(1)?, number(body.get(4..8)?)?))
}

fn address(value: &[u8]) -> Option<Ipv4Addr> {
    Some(Ipv4Addr::from(<[u8; 4]>::try_from(value).ok()?))
}

/// Makes a bridge, down, unless there is one.
///
/// Its hardware address is given, for without one it changes with the ports that come and go.
pub(crate) fn make_bridge(batch: &mut Batch, name: &str, mac: MacAddress, mtu: u32) {
    batch.message(NEW_LINK, CREATE | ACKNOWLEDGE, &interface(0, 0), |link| {
        link.text(IFLA_IFNAME, name);
        link.bytes(IFLA_ADDRESS, &mac.0);
        link.number(IFLA_MTU, mtu);
        link.nest(IFLA_LINKINFO, |info| info.text(INFO_KIND, "bridge"));
    });
}

/// Removes a link by its name.
pub(crate) fn delete(batch: &mut Batch, name: &str) {
    batch.message(DELETE_LINK, ACKNOWLEDGE, &interface(0, 0), |link| link.text(IFLA_IFNAME, name));
}

/// A veth pair: one end here, on a bridge, the other in a container.
pub(crate) struct Pair<'a> {
    pub(crate) name: &'a str,
    pub(crate) bridge: &'a Link,
    pub(crate) peer: &'a str,
    pub(crate) namespace: BorrowedFd<'a>,
    pub(crate) mac: MacAddress,
}

/// Makes a pair. This end is a port of the bridge that also sends back through itself (a container that speaks to its own
/// published port). Both ends are down: one that is up while the other is down is a link without a carrier, and when the
/// kernel notices that, it holds all changes of links up for a grace period (2 to 10 ms).
pub(crate) fn make_pair(batch: &mut Batch, pair: &Pair<'_>) {
    batch.message(NEW_LINK, CREATE | EXCLUSIVE, &interface(0, 0), |link| {
        link.text(IFLA_IFNAME, pair.name);
        link.number(IFLA_MTU, pair.bridge.mtu);
        link.number(IFLA_MASTER, pair.bridge.index);
        one_queue(link);
        link.nest(IFLA_LINKINFO, |info| {
            info.text(INFO_KIND, "veth");
            info.nest(INFO_DATA, |data| {
                data.nest_behind(VETH_PEER, &interface(0, 0), |peer| {
                    peer.text(IFLA_IFNAME, pair.peer);
                    peer.bytes(IFLA_ADDRESS, &pair.mac.0);
                    peer.number(IFLA_MTU, pair.bridge.mtu);
                    one_queue(peer);
                    // A descriptor is never negative.
                    peer.number(IFLA_NET_NS_FD, pair.namespace.as_raw_fd().unsigned_abs());
                });
            });
        });
    });
    // Only a port that is there can be told this.
    batch.message(NEW_LINK, ACKNOWLEDGE, &interface(0, 0), |link| {
        link.text(IFLA_IFNAME, pair.name);
        link.nest(IFLA_LINKINFO, |info| {
            info.text(INFO_SLAVE_KIND, "bridge");
            info.nest(INFO_SLAVE_DATA, |port| port.bytes(BRIDGE_PORT_HAIRPIN, &[1]));
        });
        without_link_local(link);
    });
}

/// Otherwise the kernel makes a queue for each processor that there could be, and files in /sys for each queue: the most
/// of what a pair costs on a large machine. A pair has nothing to queue.
fn one_queue(link: &mut crate::netlink::Attributes<'_>) {
    link.number(IFLA_NUM_TX_QUEUES, 1);
    link.number(IFLA_NUM_RX_QUEUES, 1);
}

/// No IPv6 address of its own: the networks are IPv4, and every such address costs the kernel messages to the neighbours.
fn without_link_local(link: &mut crate::netlink::Attributes<'_>) {
    const NONE: u8 = 1;
    const INET6: u16 = libc::AF_INET6 as u16;
    link.nest(IFLA_AF_SPEC, |families| families.nest(INET6, |family| family.bytes(INET6_GENERATION_MODE, &[NONE])));
}

/// Takes a link into use with one address.
pub(crate) fn raise(batch: &mut Batch, index: u32, address: Ipv4Addr, prefix: u8, broadcast: Ipv4Addr) {
    batch.message(NEW_LINK, 0, &interface(index, 0), without_link_local);
    let mut header = [INET, prefix, 0, 0, 0, 0, 0, 0];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    batch.message(NEW_ADDRESS, CREATE | REPLACE, &header, |values| {
        values.bytes(IFA_LOCAL, &address.octets());
        values.bytes(IFA_ADDRESS, &address.octets());
        values.bytes(IFA_BROADCAST, &broadcast.octets());
    });
    batch.message(NEW_LINK, ACKNOWLEDGE, &interface(index, UP), |_| {});
}

/// Takes a link into use that needs no address.
pub(crate) fn raise_port(batch: &mut Batch, name: &str) {
    batch.message(NEW_LINK, ACKNOWLEDGE, &interface(0, UP), |link| link.text(IFLA_IFNAME, name));
}

/// Takes the loopback device of a namespace into use. The kernel gives it its addresses.
pub(crate) fn raise_loopback(batch: &mut Batch) {
    batch.message(NEW_LINK, ACKNOWLEDGE, &interface(LOOPBACK, UP), |_| {});
}

/// The way to everywhere else.
pub(crate) fn default_route(batch: &mut Batch, gateway: Ipv4Addr) {
    const UNICAST: u8 = 1;
    batch.message(NEW_ROUTE, CREATE | EXCLUSIVE | ACKNOWLEDGE, &route(0, UNICAST), |values| {
        values.bytes(RTA_GATEWAY, &gateway.octets());
    });
}
