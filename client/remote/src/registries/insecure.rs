//! Lists of insecure registries: hosts and ranges of addresses, in docker's form.

use std::net::{IpAddr, ToSocketAddrs};

use cove_oci::RegistryName;
use ipnet::IpNet;

use super::error::RegistriesError;

/// Registries whose certificates are not verified, and which may be spoken to in plain http.
#[derive(Debug, Default)]
pub(super) struct Insecure {
    names: Vec<RegistryName>,
    networks: Vec<IpNet>,
}

impl Insecure {
    /// Adds an entry: `host`, `host:port`, or `10.0.0.0/8`.
    pub(super) fn add(&mut self, text: &str, origin: &str, key: &str) -> Result<(), RegistriesError> {
        let text = text.trim();
        // Docker takes addresses with a scheme too, and warns.
        let text = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://")).unwrap_or(text);
        match (text.parse::<IpNet>(), text.trim_end_matches('/').parse::<RegistryName>()) {
            (Ok(network), _) => self.networks.push(network),
            (_, Ok(name)) => self.names.push(name),
            _ => return Err(RegistriesError::value(origin, key, text, "HOST, HOST:PORT or a range of addresses")),
        }
        Ok(())
    }

    /// Whether the registry is listed. A host's name is looked up where ranges are listed, as docker does.
    pub(super) fn has(&self, registry: &RegistryName) -> bool {
        if self.names.contains(registry) {
            return true;
        }
        if self.networks.is_empty() {
            return false;
        }
        let addresses: Vec<IpAddr> = match registry.host().parse() {
            Ok(address) => vec![address],
            Err(_) => (registry.host(), 443)
                .to_socket_addrs()
                .map(|found| found.map(|address| address.ip()).collect())
                .unwrap_or_default(),
        };
        addresses.iter().any(|address| self.networks.iter().any(|network| network.contains(address)))
    }
}

/// Whether the registry is this machine: such traffic is not seen by anybody else.
pub(super) fn is_loopback(registry: &RegistryName) -> bool {
    let host = registry.host();
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}
