//! What can go wrong.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use ipnet::Ipv4Net;

/// Why a network, an address or a port could not be had. Where docker has words for it, the text begins with them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written; the text names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The kernel refused for want of a right.
    #[error("not permitted to {doing}: it needs root's `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`")]
    NotPermitted {
        /// What was to be done.
        doing: &'static str,
    },
    /// The kernel refused for another reason.
    #[error("cannot {doing}: {source}")]
    Kernel {
        /// What was to be done.
        doing: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel lacks a part.
    #[error(
        "cannot {doing}: this kernel lacks `{part}`; load it with `modprobe {part}` or use `--network host` or `none`"
    )]
    Lacking {
        /// What was to be done.
        doing: &'static str,
        /// The module that has it.
        part: &'static str,
    },
    /// The way back into the own namespace failed: this process must end.
    #[error("cannot go back into this process's network namespace: {0}")]
    Stranded(io::Error),
    /// Packets are not forwarded, and it cannot be changed.
    #[error("containers reach nothing without IP forwarding, and `{path}` cannot be set: {source}; set `net.ipv4.ip_forward=1` yourself", path = .path.display())]
    Forwarding {
        /// The setting.
        path: PathBuf,
        /// Why it could not be set.
        source: io::Error,
    },
    /// There is no such network.
    #[error("network {name} not found")]
    NoSuchNetwork {
        /// What was asked for.
        name: String,
    },
    /// The beginning of an id fits several networks.
    #[error("network {name} is ambiguous ({matches} matches found based on ID prefix)")]
    AmbiguousNetwork {
        /// What was asked for.
        name: String,
        /// How many it fits.
        matches: usize,
    },
    /// The network has no endpoints of its own (`host`, `none`).
    #[error("network {name} has no addresses to give: its driver is `{driver}`")]
    NoBridge {
        /// The network.
        name: String,
        /// Its driver.
        driver: &'static str,
    },
    /// All ranges that a network could have are in use.
    #[error(
        "could not find an available, non-overlapping IPv4 address pool among the defaults to assign to the network"
    )]
    NoFreeRange,
    /// A network has no address left.
    #[error("no available IPv4 addresses on this network's address pools: {name} ({id})")]
    NoFreeAddress {
        /// The network's name.
        name: String,
        /// The network's id.
        id: String,
    },
    /// The address that was asked for belongs to a container.
    #[error("Address already in use")]
    AddressInUse {
        /// The address.
        address: Ipv4Addr,
    },
    /// The address that was asked for is none of the network.
    #[error("no configured subnet or ip range contain the IP address {address}: network {name} has {subnet}")]
    AddressOutside {
        /// The address.
        address: Ipv4Addr,
        /// The network's name.
        name: String,
        /// The network's range.
        subnet: Ipv4Net,
    },
    /// A hardware address is not six bytes in hexadecimal digits, or is one that no device can have.
    #[error("invalid MAC address `{0}`: it is written like `02:42:ac:11:00:02`")]
    MacAddress(String),
    /// Another has the port.
    #[error(
        "driver failed programming external connectivity on endpoint {name} ({id}): \
         Bind for {address}:{port} failed: port is already allocated",
        address = bracketed(.address)
    )]
    PortAllocated {
        /// The container's name.
        name: String,
        /// The endpoint's id.
        id: String,
        /// The address of this machine.
        address: IpAddr,
        /// The port, or the first of its range.
        port: u16,
    },
    /// All ports that could be given are in use.
    #[error(
        "driver failed programming external connectivity on endpoint {name} ({id}): \
         Bind for {address} failed: all ports are allocated",
        address = bracketed(.address)
    )]
    PortsExhausted {
        /// The container's name.
        name: String,
        /// The endpoint's id.
        id: String,
        /// The address of this machine.
        address: IpAddr,
    },
    /// The port cannot be reserved.
    #[error(
        "driver failed programming external connectivity on endpoint {name} ({id}): \
         listen {address}:{port}: bind: {reason}",
        address = bracketed(.address),
        reason = as_docker_says(.source)
    )]
    PortRefused {
        /// The container's name.
        name: String,
        /// The endpoint's id.
        id: String,
        /// The address of this machine.
        address: IpAddr,
        /// The port.
        port: u16,
        /// What the kernel said.
        source: io::Error,
    },
    /// A protocol whose ports cannot be published.
    #[error("cannot publish port {port}/{protocol}: only tcp and udp ports can be published")]
    Protocol {
        /// The container's port.
        port: u16,
        /// The protocol.
        protocol: String,
    },
    /// What `-p` was given cannot be understood.
    #[error("{problem}: {value}")]
    PortForm {
        /// What is wrong, in docker's words.
        problem: &'static str,
        /// The part that is wrong.
        value: String,
    },
    /// A record is not what this program writes.
    #[error("the record `{path}` is broken: {reason}; remove it if no container uses it", path = .path.display())]
    BrokenRecord {
        /// The record.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The endpoint is gone: swept away because its container counted as dead, or disconnected.
    #[error("container {container} has no endpoint on network {network}: it was disconnected")]
    NoEndpoint {
        /// The container's id.
        container: String,
        /// The network.
        network: String,
    },
}

impl Error {
    /// An error of a system call.
    pub(crate) fn kernel(doing: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => Error::NotPermitted { doing },
            _ => Error::Kernel { doing, source },
        }
    }

    /// An error where the kernel says "not supported" if it lacks this part.
    pub(crate) fn lacking(doing: &'static str, part: &'static str, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT) => Error::Lacking { doing, part },
            _ => Error::kernel(doing, source),
        }
    }
}

fn bracketed(address: &IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}

/// The words of the Go library for what is common.
fn as_docker_says(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRNOTAVAIL) => "cannot assign requested address".to_owned(),
        Some(libc::EACCES) => "permission denied\n\
            ordinary users may publish ports from 1024 on: choose a larger one, or have root set \
            `net.ipv4.ip_unprivileged_port_start` to the first one that they may"
            .to_owned(),
        _ => error.to_string(),
    }
}
