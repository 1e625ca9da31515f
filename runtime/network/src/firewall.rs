//! The packet filter of a network: one table of nf_tables, named after the bridge's interface.
//!
//! ```text
//! map ports      protocol, port           → address, port    published on all addresses of this machine
//! map addresses  address, protocol, port  → address, port    published on one of them
//! prerouting     for this machine: change the destination as the maps say
//! output         the same for what this machine sends to its own addresses, but not 127.0.0.0/8: there the monitor's
//!                proxy answers, for a packet from 127.0.0.1 has no way out of this machine (`route_localnet`)
//! postrouting    masquerade what goes out from the network; and what comes back into it by a published port: the
//!                answer would otherwise go straight to the sender, who never spoke to that address
//! forward        into the network: from itself, answers, and what came by a published port; nothing else.
//!                from the network to docker's bridges: the same, as docker's own networks keep to themselves
//! ```
//!
//! What comes from outside keeps its source address. The table is made in one transaction. A comment in it says for which
//! layout and range it was made: a table of another one is replaced in one transaction, published ports included; so is
//! one that somebody removed, when the next container starts.

use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, PoisonError};

use crate::netlink::{Batch, Socket};
use crate::network::Bridge;
use crate::nftables::{self, Element, Expressions, Hook, Register, Shape, Transaction, Verdict};
use crate::nftables::{DESTINATION_CHANGED, ESTABLISHED_OR_RELATED};
use crate::{Binding, Endpoint, Error, Networks, Warning, foreign, legacy};

/// To be raised with every change of what [`add`] writes.
const LAYOUT: u32 = 1;
/// The place of address translation of destinations among the chains of a hook.
const DESTINATIONS: i32 = -100;
/// That of address translation of sources.
const SOURCES: i32 = 100;
/// That of filters.
pub(crate) const FILTER: i32 = 0;

/// A map of published ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Map {
    /// On all addresses.
    Ports,
    /// On one address.
    Addresses,
}

impl Map {
    pub(crate) const ALL: [Map; 2] = [Map::Ports, Map::Addresses];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Map::Ports => "ports",
            Map::Addresses => "addresses",
        }
    }

    fn shape(self) -> Shape {
        let value = &[Shape::ADDRESS, Shape::PORT];
        match self {
            Map::Ports => Shape { key: &[Shape::PROTOCOL, Shape::PORT], value },
            Map::Addresses => Shape { key: &[Shape::ADDRESS, Shape::PROTOCOL, Shape::PORT], value },
        }
    }
}

/// The element that leads a port to a container. `None` if only a proxy leads there: from the loopback addresses, and
/// from IPv6.
pub(crate) fn element(binding: &Binding, container: Ipv4Addr) -> Option<(Map, Element)> {
    let IpAddr::V4(host) = binding.host else { return None };
    if host.is_loopback() {
        return None;
    }
    let (map, mut key) =
        if host.is_unspecified() { (Map::Ports, Vec::new()) } else { (Map::Addresses, host.octets().to_vec()) };
    key.extend([binding.protocol.number(), 0, 0, 0]);
    key.extend(padded(binding.host_port));
    let mut value = container.octets().to_vec();
    value.extend(padded(binding.container_port));
    Some((map, Element { key, value }))
}

fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// The elements of these ports, by map.
pub(crate) fn elements(ports: &[Binding], container: Ipv4Addr) -> [(Map, Vec<Element>); 2] {
    let of = |wanted: Map| {
        let all = ports.iter().filter_map(|binding| element(binding, container));
        (wanted, all.filter(|(map, _)| *map == wanted).map(|(_, element)| element).collect())
    };
    Map::ALL.map(of)
}

/// The socket of the process to the packet filter, and the namespace to which it speaks.
static KEPT: Mutex<Option<Filter>> = Mutex::new(None);

/// A socket to the packet filter.
///
/// The kernel lets whoever closes one wait for all that was lately removed from the filter, by anybody (10 ms). So it is
/// not closed but kept for the next use, and goes with the process.
#[derive(Debug)]
pub(crate) struct Filter {
    /// The file number of the namespace. The socket keeps that alive, so no other namespace gets its number.
    namespace: u64,
    socket: Socket,
}

/// The socket to the packet filter of this thread's namespace.
fn open() -> Result<Filter, Error> {
    let namespace = fs_err::metadata("/proc/thread-self/ns/net")?.ino();
    let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).take_if(|kept| kept.namespace == namespace);
    match kept {
        Some(kept) => Ok(kept),
        None => {
            let failed = |error| Error::lacking("speak to the packet filter", "nf_tables", error);
            Ok(Filter { namespace, socket: Socket::netfilter().map_err(failed)? })
        }
    }
}

impl Filter {
    /// Does something with the socket and keeps it.
    pub(crate) fn with<T>(action: impl FnOnce(&mut Socket) -> Result<T, Error>) -> Result<T, Error> {
        let mut filter = open()?;
        let result = action(&mut filter.socket);
        let before = KEPT.lock().unwrap_or_else(PoisonError::into_inner).replace(filter);
        // Only a process of several threads or namespaces had another one.
        drop(before);
        result
    }
}

/// An error of the packet filter.
pub(crate) fn failed(error: std::io::Error) -> Error {
    match error.raw_os_error() {
        // So answers a kernel whose netfilter is there and whose nf_tables is not.
        Some(libc::EINVAL) => Error::Lacking { doing: "set the packet filter up", part: "nf_tables" },
        // An expression that is not there.
        Some(libc::ENOENT) => Error::Lacking { doing: "set the packet filter up", part: "nft_nat` and `nft_masq" },
        _ => Error::lacking("set the packet filter up", "nf_tables", error),
    }
}

impl Networks {
    /// Makes the table of a network, or finds it made, and has the host's own firewall let the network's packets pass.
    pub(crate) fn prepare_firewall(&self, bridge: &Bridge) -> Result<Vec<Warning>, Error> {
        let comment = comment(bridge);
        Filter::with(|socket| {
            let found = look(socket, bridge)?;
            if !found.is_some_and(|found| nftables::has_comment(&found, &comment)) {
                self.make_table(socket, bridge, &comment)?;
            }
            foreign::admit(self, socket, &bridge.interface)
        })?;
        Ok(legacy::look(&bridge.interface).into_iter().collect())
    }

    fn make_table(&self, socket: &mut Socket, bridge: &Bridge, comment: &str) -> Result<(), Error> {
        let _lock = self.lock()?;
        let found = look(socket, bridge)?;
        let table = &bridge.interface;
        let mut transaction = Transaction::new();
        match found {
            Some(found) if nftables::has_comment(&found, comment) => return Ok(()),
            Some(_) => transaction.delete_table(table),
            None => {}
        }
        add(&mut transaction, bridge, comment);
        for endpoint in self.endpoints(&bridge.network.name)? {
            publish(&mut transaction, table, &endpoint.ports, endpoint.address);
        }
        socket.commit(&mut transaction.finish()).map_err(failed)
    }
}

/// The network's table, if there is one.
pub(crate) fn look(socket: &mut Socket, bridge: &Bridge) -> Result<Option<Vec<u8>>, Error> {
    let mut batch = Batch::default();
    nftables::get_table(&mut batch, &bridge.interface);
    let answer = socket.ask(&mut batch).map_err(failed)?.pop().unwrap_or_default();
    answer.found().map_err(failed)
}

fn comment(bridge: &Bridge) -> String {
    format!("cove network {}, layout {LAYOUT}, {}", bridge.network.name, bridge.pool.subnet)
}

/// Adds the elements of these ports.
pub(crate) fn publish(transaction: &mut Transaction, table: &str, ports: &[Binding], container: Ipv4Addr) {
    for (map, elements) in elements(ports, container) {
        transaction.add_elements(table, map.name(), &elements);
    }
}

/// Writes the table.
fn add(transaction: &mut Transaction, bridge: &Bridge, comment: &str) {
    let (table, interface) = (bridge.interface.as_str(), bridge.interface.as_str());
    transaction.add_table(table, Some(comment));
    for (id, map) in (1..).zip(Map::ALL) {
        transaction.add_map(table, map.name(), &map.shape(), id);
    }
    transaction.add_chain(table, "prerouting", "nat", Hook::Prerouting, DESTINATIONS);
    transaction.add_chain(table, "output", "nat", Hook::Output, DESTINATIONS);
    transaction.add_chain(table, "postrouting", "nat", Hook::Postrouting, SOURCES);
    transaction.add_chain(table, "forward", "filter", Hook::Forward, FILTER);

    for chain in ["prerouting", "output"] {
        for map in [Map::Addresses, Map::Ports] {
            transaction.append_rule(table, chain, |rule| {
                rule.is_for_this_machine();
                if chain == "output" {
                    rule.destination_is_not_within([127, 0, 0, 0], [255, 0, 0, 0]);
                }
                change_destination(rule, map);
            });
        }
    }

    let subnet = bridge.pool.subnet;
    let (address, mask) = (subnet.network().octets(), subnet.netmask().octets());
    transaction.append_rule(table, "postrouting", |rule| {
        rule.source_is_within(address, mask);
        rule.goes_through(interface);
        rule.status_has(DESTINATION_CHANGED);
        rule.masquerade();
    });
    transaction.append_rule(table, "postrouting", |rule| {
        rule.source_is_within(address, mask);
        rule.does_not_go_through(interface);
        rule.masquerade();
    });

    let mut forward = |build: &dyn Fn(&mut Expressions<'_, '_>), verdict: Verdict| {
        transaction.append_rule(table, "forward", |rule| {
            build(rule);
            rule.decide(verdict);
        });
    };
    let into = |rule: &mut Expressions<'_, '_>| rule.goes_through(interface);
    let out_of = |rule: &mut Expressions<'_, '_>| rule.comes_through(interface);
    forward(
        &|rule| {
            into(rule);
            out_of(rule);
        },
        Verdict::Accept,
    );
    for direction in [&into as &dyn Fn(&mut Expressions<'_, '_>), &out_of] {
        forward(
            &|rule| {
                direction(rule);
                rule.state_is(ESTABLISHED_OR_RELATED);
            },
            Verdict::Accept,
        );
        forward(
            &|rule| {
                direction(rule);
                rule.status_has(DESTINATION_CHANGED);
            },
            Verdict::Accept,
        );
    }
    forward(&into, Verdict::Drop);
    forward(
        &|rule| {
            out_of(rule);
            rule.goes_through("docker0");
        },
        Verdict::Drop,
    );
    forward(
        &|rule| {
            out_of(rule);
            rule.goes_through_some("br-");
        },
        Verdict::Drop,
    );
}

fn change_destination(rule: &mut Expressions<'_, '_>, map: Map) {
    let (protocol, port) = match map {
        Map::Ports => (Register::First, Register::Second),
        Map::Addresses => {
            rule.load_destination(Register::First);
            (Register::Second, Register::Third)
        }
    };
    rule.load_protocol(protocol);
    rule.load_destination_port(port);
    rule.look_up(map.name());
    rule.change_destination();
}

/// Whether an element leads to one of these addresses.
pub(crate) fn leads_to(element: &Element, addresses: &[Ipv4Addr]) -> bool {
    addresses.iter().any(|address| element.value.starts_with(&address.octets()))
}

/// Takes back what leads to an endpoint.
pub(crate) fn unpublish(socket: &mut Socket, endpoint: &Endpoint) -> Result<(), Error> {
    let mut transaction = Transaction::new();
    for (map, elements) in elements(&endpoint.ports, endpoint.address) {
        transaction.delete_elements(&endpoint.bridge, map.name(), &elements);
    }
    if transaction.is_empty() {
        return Ok(());
    }
    match socket.commit(&mut transaction.finish()) {
        // Somebody removed the table, or emptied it.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            remove(socket, &endpoint.bridge, |_, element| leads_to(element, &[endpoint.address]))
        }
        result => result.map_err(failed),
    }
}

/// Removes the elements for which this holds.
pub(crate) fn remove(
    socket: &mut Socket,
    table: &str,
    is_unwanted: impl Fn(Map, &Element) -> bool,
) -> Result<(), Error> {
    let mut transaction = Transaction::new();
    delete_found(socket, &mut transaction, table, is_unwanted)?;
    if transaction.is_empty() {
        return Ok(());
    }
    socket.commit(&mut transaction.finish()).map_err(failed)
}

/// Adds to a transaction that the elements go for which this holds.
pub(crate) fn delete_found(
    socket: &mut Socket,
    transaction: &mut Transaction,
    table: &str,
    is_unwanted: impl Fn(Map, &Element) -> bool,
) -> Result<(), Error> {
    for map in Map::ALL {
        let mut batch = Batch::default();
        nftables::list_elements(&mut batch, table, map.name());
        let answer = socket.ask(&mut batch).map_err(failed)?.pop().unwrap_or_default();
        // No table, no elements.
        let found = if answer.error == libc::ENOENT { Vec::new() } else { answer.messages().map_err(failed)? };
        let mut found = nftables::elements(&found);
        found.retain(|element| is_unwanted(map, element));
        transaction.delete_elements(table, map.name(), &found);
    }
    Ok(())
}
