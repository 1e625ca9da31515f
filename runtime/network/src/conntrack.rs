//! Connections that the kernel remembers.
//!
//! UDP has no end of a connection: packets of a sender that goes on are led where the first of them was led, whatever
//! the maps say now. So what is remembered of a UDP port is forgotten when the port is published or taken back.

use std::net::Ipv4Addr;

use crate::Error;
use crate::netlink::{ACKNOWLEDGE, Batch, DUMP, Socket, attribute};

const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const SOURCE: u16 = 1;
const DESTINATION: u16 = 2;
const PROTOCOL: u16 = 1;
const DESTINATION_PORT: u16 = 3;
const FILTER: u16 = 25;
const FILTER_ORIGINAL: u16 = 1;
const FILTER_BY_PROTOCOL: u32 = 1 << 3;
const FILTER_BY_DESTINATION_PORT: u32 = 1 << 5;
const NESTED: u16 = 0x8000;
const IPV4: [u8; 4] = [libc::AF_INET as u8, 0, 0, 0];
const UDP: u8 = libc::IPPROTO_UDP as u8;
/// So many are forgotten in one system call.
const AT_ONCE: usize = 200;

/// Forgets the UDP connections to a port of this machine that end at this machine or at a container.
pub(crate) fn forget_udp(socket: &mut Socket, port: u16, container: Ipv4Addr) -> Result<(), Error> {
    let failed = |error| Error::lacking("forget UDP connections of a published port", "nf_conntrack_netlink", error);
    let mut batch = Batch::default();
    list_udp(&mut batch, port);
    let found = socket.ask(&mut batch).and_then(|mut answers| answers.pop().unwrap_or_default().messages());
    let found = found.map_err(failed)?;
    let unwanted: Vec<&[u8]> = found.iter().filter_map(|(_, body)| original(body.get(4..)?, port, container)).collect();
    for some in unwanted.chunks(AT_ONCE) {
        let mut batch = Batch::default();
        for tuple in some {
            batch.message(DELETE, ACKNOWLEDGE, &IPV4, |values| values.bytes(ORIGINAL | NESTED, tuple));
        }
        for answer in socket.ask(&mut batch).map_err(failed)? {
            // One that is gone already is as good.
            answer.found().map_err(failed)?;
        }
    }
    Ok(())
}

/// Asks for the UDP connections to a port. Kernels before 5.8 do not filter: the answers are looked at again.
fn list_udp(batch: &mut Batch, port: u16) {
    batch.message(GET, DUMP, &IPV4, |values| {
        values.nest(ORIGINAL, |tuple| {
            tuple.nest(TUPLE_PROTOCOL, |protocol| {
                protocol.bytes(PROTOCOL, &[UDP]);
                protocol.bytes(DESTINATION_PORT, &port.to_be_bytes());
            });
        });
        values.nest(FILTER, |filter| {
            filter.number(FILTER_ORIGINAL, FILTER_BY_PROTOCOL | FILTER_BY_DESTINATION_PORT);
        });
    });
}

/// How the connection began, if it is one that must be forgotten: one whose destination was not changed, or that ends at
/// the container.
fn original(values: &[u8], port: u16, container: Ipv4Addr) -> Option<&[u8]> {
    let original = attribute(values, ORIGINAL)?;
    let protocol = attribute(original, TUPLE_PROTOCOL)?;
    let address = |tuple, which| attribute(attribute(tuple, TUPLE_IP)?, which);
    let answers_from = address(attribute(values, REPLY)?, SOURCE)?;
    let is_to_port = attribute(protocol, PROTOCOL)?.first() == Some(&UDP)
        && attribute(protocol, DESTINATION_PORT)? == port.to_be_bytes();
    let is_unwanted = answers_from == container.octets() || answers_from == address(original, DESTINATION)?;
    (is_to_port && is_unwanted).then_some(original)
}
