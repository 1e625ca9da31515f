//! What a container finds names by: `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`, files in its folder that are
//! mounted into it.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use cove_container::config::NetworkMode;
use cove_container::{Container, Record};

use cove_network::resolver::{ADDRESS, HostResolver, container_resolv_conf};

use crate::Error;
use crate::links::Links;
use crate::network::dns_options;

/// The files.
#[derive(Debug, Clone)]
pub(crate) struct NameFiles {
    pub(crate) hosts: PathBuf,
    pub(crate) hostname: PathBuf,
    pub(crate) resolv_conf: PathBuf,
}

impl NameFiles {
    /// Writes them for a container with this address; `gateway` is this machine as containers see it.
    pub(crate) fn write(
        container: &Container,
        record: &Record,
        address: Option<Ipv4Addr>,
        gateway: Option<Ipv4Addr>,
        links: &Links,
    ) -> Result<Self, Error> {
        let at = |name| container.folder().join(name);
        let files = Self { hosts: at("hosts"), hostname: at("hostname"), resolv_conf: at("resolv.conf") };
        let is_host = record.host_config.network_mode == NetworkMode::Host;
        let config = &record.config;
        let mut hosts = if is_host { read("/etc/hosts") } else { LOCALHOST.to_owned() };
        for (name, address) in record.host_config.extra_hosts.iter().filter_map(|extra| extra.split_once(':')) {
            match (address, gateway) {
                ("host-gateway", Some(gateway)) => hosts.push_str(&format!("{gateway}\t{name}\n")),
                ("host-gateway", None) => return Err(Error::NoGateway),
                _ => hosts.push_str(&format!("{address}\t{name}\n")),
            }
        }
        for (address, names) in &links.hosts {
            hosts.push_str(&format!("{address}\t{names}\n"));
        }
        if let Some(address) = address {
            hosts.push_str(&own_line(record, address));
        }
        write(&files.hosts, &hosts)?;
        write(&files.hostname, &format!("{}\n", config.hostname))?;
        let host = HostResolver::read();
        let own = dns_options(record)?;
        // With an address it has somebody who answers; in the machine's network, or alone, the machine's servers are as good.
        let servers = match address {
            Some(_) => vec![ADDRESS],
            None => host.addresses(&own).iter().map(SocketAddr::ip).collect(),
        };
        write(&files.resolv_conf, &container_resolv_conf(&host, &own, &servers))?;
        Ok(files)
    }
}

/// What every container has in its hosts file.
const LOCALHOST: &str = "127.0.0.1\tlocalhost\n\
    ::1\tlocalhost ip6-localhost ip6-loopback\n\
    fe00::0\tip6-localnet\n\
    ff00::0\tip6-mcastprefix\n\
    ff02::1\tip6-allnodes\n\
    ff02::2\tip6-allrouters\n";

fn own_line(record: &Record, address: Ipv4Addr) -> String {
    let (name, domain) = (&record.config.hostname, &record.config.domainname);
    let full = if domain.is_empty() { String::new() } else { format!("{name}.{domain} ") };
    format!("{address}\t{full}{name}\n")
}

/// A file of the host that may be missing.
fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

/// In place: it may be mounted already.
fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(Error::system(format!("write `{}`", path.display())))
}
