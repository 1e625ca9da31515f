//! Ports to be published: their forms, and reserving them on this machine.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::net::{AddressFamily, SocketFlags, SocketType};
use serde::{Deserialize, Serialize};

use crate::{Binding, Error};

/// From which the kernel and docker choose ports nobody asked for.
const LOCAL_RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// Docker's own choice where that cannot be read.
const DEFAULT_RANGE: RangeInclusive<u16> = 49153..=65535;
/// Connections that wait for the proxy of localhost.
const BACKLOG: i32 = 128;

/// A protocol that has ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    pub(crate) fn number(self) -> u8 {
        match self {
            Protocol::Tcp => libc::IPPROTO_TCP as u8,
            Protocol::Udp => libc::IPPROTO_UDP as u8,
        }
    }

    /// `tcp` or `udp`.
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Which port of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPorts {
    /// Any that is free.
    Any,
    /// The first of these that is free; often it is one.
    Among(RangeInclusive<u16>),
}

/// A port of a container that is to be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedPort {
    /// The protocol.
    pub protocol: Protocol,
    /// The address of this machine, or all of them, by IPv4 and IPv6.
    pub host: Option<IpAddr>,
    /// The port of this machine.
    pub host_ports: HostPorts,
    /// The container's port.
    pub container_port: u16,
}

/// A port of this machine that is reserved.
#[derive(Debug)]
pub struct Held {
    /// What it leads to.
    pub binding: Binding,
    /// The socket that reserves it.
    pub socket: OwnedFd,
}

impl PublishedPort {
    /// Reads what docker takes for `-p`: `[[address:]port[-port]:]port[-port][/protocol]`. A range of container ports
    /// is as many published ports.
    pub fn parse(text: &str) -> Result<Vec<Self>, Error> {
        let wrong = |problem, value: &str| Error::PortForm { problem, value: value.to_owned() };
        let (text, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
        let (rest, container) = text.rsplit_once(':').unwrap_or(("", text));
        let (address, host) = rest.rsplit_once(':').unwrap_or(("", rest));
        let bare = address.strip_prefix('[').and_then(|address| address.strip_suffix(']')).unwrap_or(address);
        let address = match bare {
            "" => None,
            bare => Some(bare.parse::<IpAddr>().map_err(|_| wrong("invalid IP address", address))?),
        };
        if container.is_empty() {
            return Err(wrong("no port specified", &format!("{text}<empty>")));
        }
        let ports = range(container).ok_or_else(|| wrong("invalid containerPort", container))?;
        let hosts = match host {
            "" => None,
            host => Some(range(host).ok_or_else(|| wrong("invalid hostPort", host))?),
        };
        let protocol = match protocol.to_ascii_lowercase().as_str() {
            "tcp" | "" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            "sctp" => return Err(Error::Protocol { port: *ports.start(), protocol: "sctp".to_owned() }),
            _ => return Err(wrong("invalid proto", protocol)),
        };
        let choose = |number: u16| match &hosts {
            None => HostPorts::Any,
            // Docker takes port 0 for no port.
            Some(hosts) if *hosts.end() == 0 => HostPorts::Any,
            // One port, and a choice for it.
            Some(hosts) if ports.len() == 1 => HostPorts::Among(hosts.clone()),
            Some(hosts) => HostPorts::Among(hosts.start() + number..=hosts.start() + number),
        };
        if hosts.as_ref().is_some_and(|hosts| ports.len() != 1 && hosts.len() != ports.len()) {
            let value = format!("{container} and {host}");
            return Err(wrong("invalid ranges specified for container and host Ports", &value));
        }
        let published = (0u16..).zip(ports.clone()).map(|(number, container_port)| PublishedPort {
            protocol,
            host: address,
            host_ports: choose(number),
            container_port,
        });
        Ok(published.collect())
    }

    /// The addresses to reserve it on.
    fn hosts(&self) -> Vec<IpAddr> {
        match self.host {
            Some(host) => vec![host],
            None => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
        }
    }
}

/// `80` or `80-89`.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let number = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit()).then(|| text.parse::<u16>().ok())?;
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some(first..=last)
}

/// Reserves ports for the endpoint `id` of the container `name`: all or none. `last` remembers the last one that was given to who asked for any.
pub(crate) fn hold(name: &str, id: &str, ports: &[PublishedPort], last: &Path) -> Result<Vec<Held>, Error> {
    let mut held = Vec::new();
    for port in ports {
        match &port.host_ports {
            HostPorts::Among(range) => {
                let found = first_free(name, id, port, range.clone())?;
                held.extend(found.ok_or_else(|| Error::PortAllocated {
                    name: name.to_owned(),
                    id: id.to_owned(),
                    address: port.hosts()[0],
                    port: *range.start(),
                })?);
            }
            HostPorts::Any => {
                let range = local_range(&fs_err::read_to_string(LOCAL_RANGE).unwrap_or_default());
                let before = fs_err::read_to_string(last).ok().and_then(|text| text.trim().parse::<u16>().ok());
                let found = first_free(name, id, port, behind(before, range))?;
                let found = found.ok_or_else(|| Error::PortsExhausted {
                    name: name.to_owned(),
                    id: id.to_owned(),
                    address: port.hosts()[0],
                })?;
                // Two that write at once, or one that is killed, cost nothing but the order.
                if let Some(given) = found.first() {
                    let _ = fs_err::write(last, given.binding.host_port.to_string());
                }
                held.extend(found);
            }
        }
    }
    Ok(held)
}

/// The range in `ip_local_port_range`.
fn local_range(text: &str) -> RangeInclusive<u16> {
    let mut numbers = text.split_ascii_whitespace().map(str::parse::<u16>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) if 0 < first && first <= last => first..=last,
        _ => DEFAULT_RANGE,
    }
}

/// All ports of a range, beginning behind the one that was last given. So, as with docker, one that was just freed is not
/// given at once to somebody else.
fn behind(last: Option<u16>, range: RangeInclusive<u16>) -> impl Iterator<Item = u16> {
    let start = last.filter(|last| range.contains(last) && last != range.end()).map_or(*range.start(), |last| last + 1);
    (start..=*range.end()).chain(*range.start()..start)
}

/// Reserves the first of these ports that is free on all addresses asked for.
fn first_free(
    name: &str,
    id: &str,
    port: &PublishedPort,
    numbers: impl Iterator<Item = u16>,
) -> Result<Option<Vec<Held>>, Error> {
    let hosts = port.hosts();
    'numbers: for number in numbers {
        let mut held = Vec::new();
        for host in &hosts {
            match reserve(port.protocol, *host, number) {
                Ok(socket) => {
                    let (protocol, host, container_port) = (port.protocol, *host, port.container_port);
                    held.push(Held { binding: Binding { protocol, host, host_port: number, container_port }, socket });
                }
                Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => continue 'numbers,
                // Nobody asked for IPv6 by name.
                Err(error) if port.host.is_none() && host.is_ipv6() && is_without_ipv6(&error) => {}
                Err(source) => {
                    let (name, id) = (name.to_owned(), id.to_owned());
                    return Err(Error::PortRefused { name, id, address: *host, port: number, source });
                }
            }
        }
        return Ok(Some(held));
    }
    Ok(None)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL))
}

/// A socket that holds a port. One of tcp listens, for only then nobody else can bind its port; and it can be bound while
/// connections of the one before it are still coming to their end.
fn reserve(protocol: Protocol, host: IpAddr, port: u16) -> io::Result<OwnedFd> {
    let family = if host.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let kind = match protocol {
        Protocol::Tcp => SocketType::STREAM,
        Protocol::Udp => SocketType::DGRAM,
    };
    let socket = rustix::net::socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
    if host.is_ipv6() {
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if protocol == Protocol::Tcp {
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    }
    rustix::net::bind(&socket, &SocketAddr::new(host, port))?;
    if protocol == Protocol::Tcp {
        rustix::net::listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forms(text: &str) -> Vec<(Option<String>, HostPorts, u16, Protocol)> {
        let ports = PublishedPort::parse(text).unwrap().into_iter();
        ports
            .map(|port| (port.host.map(|host| host.to_string()), port.host_ports, port.container_port, port.protocol))
            .collect()
    }

    #[test]
    fn all_of_dockers_forms_are_understood() {
        use HostPorts::{Among, Any};
        use Protocol::{Tcp, Udp};
        let local = || Some("127.0.0.1".to_owned());
        assert_eq!(forms("80"), [(None, Any, 80, Tcp)]);
        assert_eq!(forms("80/udp"), [(None, Any, 80, Udp)]);
        assert_eq!(forms("80/TCP"), [(None, Any, 80, Tcp)]);
        assert_eq!(forms("8080:80"), [(None, Among(8080..=8080), 80, Tcp)]);
        assert_eq!(forms("0:80"), [(None, Any, 80, Tcp)]);
        assert_eq!(forms("127.0.0.1:8080:80/udp"), [(local(), Among(8080..=8080), 80, Udp)]);
        assert_eq!(forms("127.0.0.1::80"), [(local(), Any, 80, Tcp)]);
        assert_eq!(forms("[::1]:8080:80"), [(Some("::1".to_owned()), Among(8080..=8080), 80, Tcp)]);
        assert_eq!(forms("::1:8080:80"), [(Some("::1".to_owned()), Among(8080..=8080), 80, Tcp)]);
        assert_eq!(forms("8000-8010:80"), [(None, Among(8000..=8010), 80, Tcp)]);
        let both = [(None, Among(8000..=8000), 80, Tcp), (None, Among(8001..=8001), 81, Tcp)];
        assert_eq!(forms("8000-8001:80-81"), both);
        assert_eq!(forms("80-81"), [(None, Any, 80, Tcp), (None, Any, 81, Tcp)]);
    }

    #[test]
    fn what_is_no_port_is_refused_with_its_part() {
        let text = |form| PublishedPort::parse(form).unwrap_err().to_string();
        assert_eq!(text("x"), "invalid containerPort: x");
        assert_eq!(text("8080:"), "no port specified: 8080:<empty>");
        assert_eq!(text("8080:70000"), "invalid containerPort: 70000");
        assert_eq!(text("8080:+80"), "invalid containerPort: +80");
        assert_eq!(text("x:80"), "invalid hostPort: x");
        assert_eq!(text("9-8:80"), "invalid hostPort: 9-8");
        assert_eq!(text("1.2.3:80:80"), "invalid IP address: 1.2.3");
        assert_eq!(text("80/foo"), "invalid proto: foo");
        assert_eq!(
            text("8000-8002:80-81"),
            "invalid ranges specified for container and host Ports: 80-81 and 8000-8002"
        );
        assert_eq!(text("80/sctp"), "cannot publish port 80/sctp: only tcp and udp ports can be published");
    }

    #[test]
    fn ports_nobody_asked_for_come_one_after_the_other_and_begin_again() {
        assert_eq!(local_range("32768\t60999\n"), 32768..=60999);
        assert_eq!(local_range(""), DEFAULT_RANGE);
        assert_eq!(local_range("9 1"), DEFAULT_RANGE);
        let order = |last| behind(last, 5..=8).collect::<Vec<_>>();
        assert_eq!(order(None), [5, 6, 7, 8]);
        assert_eq!(order(Some(6)), [7, 8, 5, 6]);
        assert_eq!(order(Some(8)), [5, 6, 7, 8]);
        assert_eq!(order(Some(80)), [5, 6, 7, 8], "the range was changed");
    }
}
