//! `resolv.conf`: the host's, read; a container's, written.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

/// The host's resolv.conf.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostResolver {
    /// The servers, in their order.
    pub servers: Vec<Nameserver>,
    /// Domains that are tried behind a name. The last `search` or `domain` counts.
    pub search: Vec<String>,
    /// Options as they are written: `ndots:2`, `edns0`, `trust-ad`.
    pub options: Vec<String>,
}

/// A server of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nameserver {
    /// Its address.
    pub address: IpAddr,
    /// The interface of a link-local address (`fe80::1%eth0`).
    pub scope: Option<String>,
}

/// `--dns`, `--dns-search` and `--dns-option`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DnsOptions {
    /// Servers in the place of the host's.
    pub servers: Vec<IpAddr>,
    /// Domains in the place of the host's; `.` for none.
    pub search: Vec<String>,
    /// Options in the place of the host's.
    pub options: Vec<String>,
}

impl HostResolver {
    /// Reads a resolv.conf. What is not understood is passed over, as the C library does.
    pub fn parse(text: &str) -> Self {
        let mut resolver = Self::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") => resolver.servers.extend(words.next().and_then(Nameserver::parse)),
                Some("search") => resolver.search = words.map(str::to_owned).collect(),
                Some("domain") => resolver.search = words.take(1).map(str::to_owned).collect(),
                Some("options") => resolver.options.extend(words.map(str::to_owned)),
                _ => {}
            }
        }
        resolver
    }

    /// That of the machine; without a file there is nobody to ask.
    pub fn read() -> Self {
        Self::parse(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
    }

    /// The addresses to ask: those of `--dns`, or the host's. A server on an interface that is not there is left out;
    /// one that cannot be asked would only cost time.
    pub fn addresses(&self, options: &DnsOptions) -> Vec<SocketAddr> {
        if options.servers.is_empty() {
            self.servers.iter().filter_map(Nameserver::socket_address).collect()
        } else {
            options.servers.iter().map(|address| SocketAddr::new(*address, 53)).collect()
        }
    }
}

impl Nameserver {
    fn parse(text: &str) -> Option<Self> {
        let (address, scope) = match text.split_once('%') {
            Some((address, scope)) => (address, Some(scope.to_owned())),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        // An interface means something only with an address of that link.
        if scope.as_ref().is_some_and(|scope| scope.is_empty() || address.is_ipv4()) {
            return None;
        }
        Some(Self { address, scope })
    }

    /// Where to send to; `None` for an interface that does not exist.
    fn socket_address(&self) -> Option<SocketAddr> {
        let (IpAddr::V6(address), Some(scope)) = (self.address, &self.scope) else {
            return Some(SocketAddr::new(self.address, 53));
        };
        let index = match scope.parse() {
            Ok(index) => index,
            Err(_) => {
                use rustix::net::{AddressFamily, SocketFlags, SocketType};
                let flags = SocketFlags::CLOEXEC;
                let socket = rustix::net::socket_with(AddressFamily::INET6, SocketType::DGRAM, flags, None).ok()?;
                rustix::net::netdevice::name_to_index(&socket, scope).ok()?
            }
        };
        Some(SocketAddrV6::new(address, 53, 0, index).into())
    }
}

/// A container's resolv.conf: the given servers ([`super::ADDRESS`], or what `--dns` says where no resolver runs), the
/// search and options of the host or of the command.
pub fn container_resolv_conf(host: &HostResolver, own: &DnsOptions, servers: &[IpAddr]) -> String {
    let mut text = String::from("# Made by cove for this container.\n");
    for server in servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    let search = if own.search.is_empty() { &host.search } else { &own.search };
    if !search.is_empty() && search.iter().all(|domain| domain != ".") {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    let mut options = if own.options.is_empty() { host.options.clone() } else { own.options.clone() };
    // Docker's: a name of one label is a container's, and asked for as it is. What somebody set stays.
    if servers.contains(&super::ADDRESS) && !options.iter().any(|option| option.starts_with("ndots:")) {
        options.push("ndots:0".to_owned());
    }
    if !options.is_empty() {
        text.push_str(&format!("options {}\n", options.join(" ")));
    }
    text
}
