//! Leading port 53 of the resolver's address to the port at which it listens.
//!
//! A table of nf_tables in the container's own namespace, which goes with it: what a program there sends to 127.0.0.11 and
//! port 53 gets another port on its way out, and the answer gets the old one back (connection tracking does that).

use std::net::{IpAddr, Ipv4Addr};

use super::ADDRESS;
use crate::netlink::Socket;
use crate::nftables::{Hook, Register, Transaction};

/// Its name says to whoever lists it whose it is.
const TABLE: &str = "cove-resolver";
const CHAIN: &str = "output";
/// The place of address translation of destinations among the chains of a hook.
const DESTINATIONS: i32 = -100;
const DNS: u16 = 53;

/// What leads port 53 elsewhere, as long as the namespace lives.
///
/// The socket is kept for the same reason as that of the host's filter: closing one may have to wait for others.
#[derive(Debug)]
pub(super) struct Lead {
    _socket: Socket,
}

impl Lead {
    /// Leads port 53 to this port, in the namespace of this thread. `None` if the kernel cannot do that.
    pub(super) fn open(port: u16) -> Option<Self> {
        let IpAddr::V4(address) = ADDRESS else { return None };
        let mut socket = Socket::netfilter().ok()?;
        socket.commit(&mut rules(address, port).finish()).ok()?;
        Some(Self { _socket: socket })
    }
}

fn rules(address: Ipv4Addr, port: u16) -> Transaction {
    let mut transaction = Transaction::new();
    transaction.add_table(TABLE, None);
    transaction.add_chain(TABLE, CHAIN, "nat", Hook::Output, DESTINATIONS);
    for protocol in [libc::IPPROTO_UDP, libc::IPPROTO_TCP] {
        transaction.append_rule(TABLE, CHAIN, |rule| {
            rule.destination_is(address.octets());
            rule.protocol_is(protocol as u8);
            rule.destination_port_is(DNS);
            rule.set(Register::First, &address.octets());
            rule.set(Register::Second, &port.to_be_bytes());
            rule.change_destination();
        });
    }
    transaction
}
