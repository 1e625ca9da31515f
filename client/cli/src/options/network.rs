//! `--network` and what goes with it: addresses, other names, links.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use cove_container::config::{EndpointIpamConfig, EndpointSettings, NetworkMode};

use super::mount::csv;
use super::{OptionError, ValueError};
use crate::arguments::ContainerOptions;

/// A network that was asked for, by name or in fields: `name=mine,alias=web,ip=…`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NetworkAsked {
    /// Name, id, or a word such as `host`.
    pub name: String,
    /// What else was said.
    pub endpoint: EndpointSettings,
}

/// One value of `--network`.
pub fn network(text: &str) -> Result<NetworkAsked, ValueError> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    let has_fields =
        text.match_indices('=').any(|(at, _)| text[..at].ends_with(is_word) && text[at + 1..].starts_with(is_word));
    if !has_fields {
        return Ok(NetworkAsked { name: text.to_owned(), endpoint: EndpointSettings::default() });
    }
    let mut asked = NetworkAsked::default();
    let mut ipam = EndpointIpamConfig::default();
    for field in csv(text)? {
        let lower = field.to_ascii_lowercase();
        let (key, value) = lower.split_once('=').ok_or_else(|| ValueError::NetworkField(field.clone()))?;
        let value = value.trim();
        match key.trim() {
            "" => return Err(ValueError::NetworkField(field)),
            "name" => asked.name = value.to_owned(),
            "alias" => asked.endpoint.aliases.push(value.to_owned()),
            "ip" => ipam.ipv4_address = value.to_owned(),
            "ip6" => ipam.ipv6_address = value.to_owned(),
            "link-local-ip" => ipam.link_local_ips.push(value.to_owned()),
            "mac-address" => asked.endpoint.mac_address = value.to_owned(),
            "driver-opt" => {
                let (name, option) = value.split_once('=').ok_or(ValueError::DriverOption)?;
                asked.endpoint.driver_opts.insert(name.trim().to_owned(), option.trim().to_owned());
            }
            other => return Err(ValueError::NetworkKey(other.to_owned())),
        }
    }
    if asked.name.is_empty() {
        return Err(ValueError::NoNetwork);
    }
    asked.endpoint.ipam_config = (ipam != EndpointIpamConfig::default()).then_some(ipam);
    Ok(asked)
}

/// Whether a network is one that somebody made: only those have names of their own for their containers.
fn is_made_by_user(mode: &NetworkMode) -> bool {
    matches!(mode, NetworkMode::Named(name) if name != "bridge")
}

/// The mode, and the place in each network that the container is in.
pub fn endpoints(options: &ContainerOptions) -> Result<(NetworkMode, BTreeMap<String, EndpointSettings>), OptionError> {
    let mut asked = options.network.clone();
    if asked.is_empty() {
        asked.push(NetworkAsked { name: "default".to_owned(), endpoint: EndpointSettings::default() });
    }
    let first = add_options(&mut asked[0], options)?;
    let mut endpoints = BTreeMap::new();
    let mut kinds = (false, false);
    for network in asked {
        if network.name.trim().is_empty() {
            return Err(OptionError::NetworkName);
        }
        // What `container:` without a name is, says the mode's own check.
        let mode: NetworkMode = network.name.parse()?;
        match is_made_by_user(&mode) {
            true => kinds.0 = true,
            false => kinds.1 = true,
        }
        if !is_made_by_user(&mode) && !network.endpoint.aliases.is_empty() {
            return Err(OptionError::Aliases);
        }
        check_addresses(&network.endpoint)?;
        if endpoints.contains_key(&network.name) {
            return Err(OptionError::NetworkTwice(network.name));
        }
        endpoints.insert(network.name, network.endpoint);
    }
    if kinds == (true, true) {
        return Err(OptionError::NetworkKinds);
    }
    // The daemon calls docker's bridge by its name here.
    if let Some(endpoint) = endpoints.remove("default") {
        endpoints.insert("bridge".to_owned(), endpoint);
    }
    endpoints.retain(|name, _| !name.starts_with("container:"));
    Ok((first, endpoints))
}

/// The options that are not in `--network` itself are about the first network.
fn add_options(network: &mut NetworkAsked, options: &ContainerOptions) -> Result<NetworkMode, OptionError> {
    let mode: NetworkMode = network.name.parse()?;
    let endpoint = &mut network.endpoint;
    let mut ipam = endpoint.ipam_config.clone().unwrap_or_default();
    let twice = [
        (!endpoint.aliases.is_empty() && !options.network_alias.is_empty(), "--network-alias", "alias"),
        (!ipam.ipv4_address.is_empty() && options.ip.is_some(), "--ip", "IPv4 address"),
        (!ipam.ipv6_address.is_empty() && options.ip6.is_some(), "--ip6", "IPv6 address"),
        (!endpoint.mac_address.is_empty() && options.mac_address.is_some(), "--mac-address", "MAC address"),
        (
            !ipam.link_local_ips.is_empty() && !options.link_local_ip.is_empty(),
            "--link-local-ip",
            "link-local IP addresses",
        ),
    ];
    if let Some((_, option, field)) = twice.iter().find(|(twice, ..)| *twice) {
        return Err(OptionError::NetworkOption(option, field));
    }
    endpoint.aliases.extend(options.network_alias.iter().cloned());
    // Elsewhere a link is an entry of the hosts file: `HostConfig.Links`.
    if is_made_by_user(&mode) {
        endpoint.links.extend(options.link.iter().cloned());
    }
    if let Some(address) = &options.ip {
        ipam.ipv4_address.clone_from(address);
    }
    if let Some(address) = &options.ip6 {
        ipam.ipv6_address.clone_from(address);
    }
    ipam.link_local_ips.extend(options.link_local_ip.iter().cloned());
    if let Some(address) = &options.mac_address {
        endpoint.mac_address.clone_from(address);
    }
    endpoint.ipam_config = (ipam != EndpointIpamConfig::default()).then_some(ipam);
    Ok(mode)
}

fn check_addresses(endpoint: &EndpointSettings) -> Result<(), OptionError> {
    let Some(ipam) = &endpoint.ipam_config else { return Ok(()) };
    let wrong = |version, text: &String| Err(OptionError::EndpointAddress { version, text: text.clone() });
    if !ipam.ipv4_address.is_empty() && ipam.ipv4_address.parse::<Ipv4Addr>().is_err() {
        return wrong("IPv4", &ipam.ipv4_address);
    }
    if !ipam.ipv6_address.is_empty() && ipam.ipv6_address.parse::<Ipv6Addr>().is_err() {
        return wrong("IPv6", &ipam.ipv6_address);
    }
    match ipam.link_local_ips.iter().find(|text| text.parse::<std::net::IpAddr>().is_err()) {
        Some(text) => wrong("link-local IP", text),
        None => Ok(()),
    }
}

/// Whether a text is an Ethernet address: six, eight or twenty bytes, with `:`, `-` or, two bytes at a time, `.`.
pub fn is_mac_address(text: &str) -> bool {
    let text = text.trim();
    let hexadecimal = |part: &str, length: usize| part.len() == length && part.bytes().all(|b| b.is_ascii_hexdigit());
    [(':', 2), ('-', 2), ('.', 4)].into_iter().any(|(separator, length)| {
        let parts: Vec<&str> = text.split(separator).collect();
        matches!(parts.len() * length, 12 | 16 | 40) && parts.iter().all(|part| hexadecimal(part, length))
    })
}
