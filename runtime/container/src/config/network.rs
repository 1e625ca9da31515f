//! The network of a container: as it was asked for, and as it became.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::null;

/// Ports of a container (`80/tcp`) and where they are published; `None` for one that is only exposed.
pub type PortMap = BTreeMap<String, Option<Vec<PortBinding>>>;

/// Where a port is published.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct PortBinding {
    /// Address of the host; empty for all.
    pub host_ip: String,
    /// Port of the host, or a range `8000-8010`; empty for any.
    pub host_port: String,
}

/// `NetworkSettings`: the network as it became. The fields behind `ports` are those of the default bridge.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct NetworkSettings {
    /// The bridge of a container that was told to use it.
    pub bridge: String,
    /// Name of the network namespace.
    #[serde(rename = "SandboxID")]
    pub sandbox_id: String,
    /// Whether packets may leave through the port that they came in by.
    pub hairpin_mode: bool,
    /// Link-local IPv6 address.
    #[serde(rename = "LinkLocalIPv6Address")]
    pub link_local_ipv6_address: String,
    /// Its prefix, in bits.
    #[serde(rename = "LinkLocalIPv6PrefixLen")]
    pub link_local_ipv6_prefix_length: i64,
    /// Where the ports are published.
    #[serde(deserialize_with = "null::read")]
    pub ports: PortMap,
    /// File of the network namespace.
    pub sandbox_key: String,
    /// More IPv4 addresses.
    #[serde(rename = "SecondaryIPAddresses", deserialize_with = "null::read", serialize_with = "null::write")]
    pub secondary_ip_addresses: Vec<Address>,
    /// More IPv6 addresses.
    #[serde(rename = "SecondaryIPv6Addresses", deserialize_with = "null::read", serialize_with = "null::write")]
    pub secondary_ipv6_addresses: Vec<Address>,
    /// Id of its place in the network.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// IPv4 gateway.
    pub gateway: String,
    /// IPv6 address.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Its prefix, in bits.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_length: i64,
    /// IPv4 address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Its prefix, in bits.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_length: i64,
    /// IPv6 gateway.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// Ethernet address.
    pub mac_address: String,
    /// Its networks by name.
    #[serde(deserialize_with = "null::read")]
    pub networks: BTreeMap<String, EndpointSettings>,
}

/// An address and its prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Address {
    /// The address.
    pub addr: String,
    /// Its prefix, in bits.
    #[serde(rename = "PrefixLen")]
    pub prefix_length: i64,
}

/// A container's place in a network: what was asked for (the first three fields, `driver_opts`, `mac_address`), and
/// what it became.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointSettings {
    /// Addresses that were asked for.
    #[serde(rename = "IPAMConfig")]
    pub ipam_config: Option<EndpointIpamConfig>,
    /// `NAME:ALIAS` of containers that are known by another name here.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub links: Vec<String>,
    /// More names of the container.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub aliases: Vec<String>,
    /// The network's id.
    #[serde(rename = "NetworkID")]
    pub network_id: String,
    /// Id of this place.
    #[serde(rename = "EndpointID")]
    pub endpoint_id: String,
    /// IPv4 gateway.
    pub gateway: String,
    /// IPv4 address.
    #[serde(rename = "IPAddress")]
    pub ip_address: String,
    /// Its prefix, in bits.
    #[serde(rename = "IPPrefixLen")]
    pub ip_prefix_length: i64,
    /// IPv6 gateway.
    #[serde(rename = "IPv6Gateway")]
    pub ipv6_gateway: String,
    /// IPv6 address.
    #[serde(rename = "GlobalIPv6Address")]
    pub global_ipv6_address: String,
    /// Its prefix, in bits.
    #[serde(rename = "GlobalIPv6PrefixLen")]
    pub global_ipv6_prefix_length: i64,
    /// Ethernet address.
    pub mac_address: String,
    /// What the network's driver is told.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub driver_opts: BTreeMap<String, String>,
}

/// Addresses that were asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct EndpointIpamConfig {
    /// IPv4 address.
    #[serde(rename = "IPv4Address", deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub ipv4_address: String,
    /// IPv6 address.
    #[serde(rename = "IPv6Address", deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub ipv6_address: String,
    /// Link-local addresses.
    #[serde(rename = "LinkLocalIPs", deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub link_local_ips: Vec<String>,
}
