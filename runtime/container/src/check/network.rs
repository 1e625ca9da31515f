//! Options that contradict the network, the host name or the namespaces that were chosen.

use super::CheckError;
use crate::config::{Config, HostConfig, NetworkMode, UtsMode};

pub(super) fn check(config: &Config, host: &HostConfig, warnings: &mut Vec<String>) -> Result<(), CheckError> {
    let conflict = |text| Err(CheckError::Conflict(text));
    let joins = matches!(host.network_mode, NetworkMode::Container(_));
    if host.network_mode == NetworkMode::Container(String::new()) {
        return Err(CheckError::NetworkContainer);
    }
    if host.uts_mode == UtsMode::Host && !config.hostname.is_empty() {
        return conflict("hostname and the UTS mode");
    }
    if joins && !config.hostname.is_empty() {
        return conflict("hostname and the network mode");
    }
    if host.network_mode == NetworkMode::Host && !host.links.is_empty() {
        return conflict("host type networking can't be used with links. This would result in undefined behavior");
    }
    if joins && !host.links.is_empty() {
        return conflict("container type network can't be used with links. This would result in undefined behavior");
    }
    if joins && !host.dns.is_empty() {
        return conflict("dns and the network mode");
    }
    if joins && !host.extra_hosts.is_empty() {
        return conflict("custom host-to-IP mapping and the network mode");
    }
    if (joins || host.network_mode == NetworkMode::Host) && !config.mac_address.is_empty() {
        return conflict("mac-address and the network mode");
    }
    if joins && (!host.port_bindings.is_empty() || host.publish_all_ports) {
        return conflict("port publishing and the container type network mode");
    }
    if joins && !config.exposed_ports.is_empty() {
        return conflict("port exposing and the container type network mode");
    }
    if host.network_mode == NetworkMode::Host && !host.port_bindings.is_empty() {
        warnings.push("Published ports are discarded when using host network mode".to_owned());
    }
    Ok(())
}
