//! `cove network ls` and how a network is described.

use std::collections::BTreeMap;

use cove_container::ContainerId;
use cove_network::{Driver, Network, Networks};
use serde::Serialize;

use crate::arguments::{ListNetworks, NetworkCommand};
use crate::commands::inspect;
use crate::context::Context;
use crate::error::Error;
use crate::filter::Filter;
use crate::format::{Column, List, Row, row};
use crate::listing::label;

const COLUMNS: &[Column] = &[
    Column { name: "CreatedAt", title: "CREATED AT" },
    Column { name: "Driver", title: "DRIVER" },
    Column { name: "ID", title: "NETWORK ID" },
    Column { name: "IPv4", title: "IPV4" },
    Column { name: "IPv6", title: "IPV6" },
    Column { name: "Internal", title: "INTERNAL" },
    Column { name: "Labels", title: "LABELS" },
    Column { name: "Name", title: "NAME" },
    Column { name: "Scope", title: "SCOPE" },
];

const FILTERS: [&str; 7] = ["dangling", "driver", "id", "label", "name", "scope", "type"];

/// All networks are of this machine.
const SCOPE: &str = "local";

/// `cove network …`
pub fn run_command(context: &Context, command: NetworkCommand) -> Result<(), Error> {
    match command {
        NetworkCommand::Inspect(arguments) => inspect::run_networks(context, &arguments),
        NetworkCommand::Ls(arguments) => list(context, &arguments),
    }
}

fn list(context: &Context, arguments: &ListNetworks) -> Result<(), Error> {
    Filter::check(&arguments.filter, &FILTERS)?;
    let places = context.places();
    let networks = Networks::of(&places.root, &places.run);
    let mut rows: Vec<Row> = Vec::new();
    for network in networks.list()? {
        if fits(&arguments.filter, &networks, &network)? {
            rows.push(shown(&network, arguments.no_trunc));
        }
    }
    let usual = vec![("ID", false), ("Name", true), ("Driver", false), ("Scope", false)];
    let list = List { columns: COLUMNS, usual };
    let only = arguments.quiet.then_some("ID");
    Ok(list.print(&context.printer, arguments.format.as_deref(), only, arguments.no_trunc, &rows)?)
}

fn shown(network: &Network, full: bool) -> Row {
    let id = network.id.get(..12).filter(|_| !full).unwrap_or(&network.id);
    let labels: Vec<String> = network.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    // Go's way to print a moment, to the nanosecond.
    let created = network.created.replace('T', " ").replace('Z', " +0000 UTC");
    row([
        ("CreatedAt", created),
        ("Driver", network.driver.as_str().to_owned()),
        ("ID", id.to_owned()),
        ("IPv4", network.ipv4.is_some().to_string()),
        ("IPv6", "false".to_owned()),
        ("Internal", "false".to_owned()),
        ("Labels", labels.join(",")),
        ("Name", network.name.clone()),
        ("Scope", SCOPE.to_owned()),
    ])
}

/// Of conditions with one name any, of several names all must fit.
fn fits(filters: &[Filter], networks: &Networks, network: &Network) -> Result<bool, Error> {
    let predefined = ["bridge", "host", "none"].contains(&network.name.as_str());
    let mut names: Vec<&str> = filters.iter().map(|filter| filter.name.as_str()).collect();
    names.dedup();
    for name in names {
        let mut any = false;
        let mut all = true;
        for filter in filters.iter().filter(|filter| filter.name == name) {
            let value = filter.value.as_str();
            let one = match name {
                "dangling" => {
                    let is_used = predefined || !networks.endpoints(&network.name)?.is_empty();
                    filter.boolean()? != is_used
                }
                "driver" => network.driver.as_str() == value,
                "id" => network.id.contains(value),
                "label" => {
                    let (key, wanted) = label(value);
                    network.labels.get(&key).is_some_and(|found| wanted.is_none_or(|wanted| wanted == *found))
                }
                "name" => network.name.contains(value),
                "scope" => value == SCOPE,
                "type" => value == if predefined { "builtin" } else { "custom" },
                _ => false,
            };
            any |= one;
            all &= one;
        }
        // All labels must be there, as with docker.
        if !(if name == "label" { all } else { any }) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Docker's description of a network, its fields in docker's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct DescribedNetwork {
    name: String,
    id: String,
    created: String,
    scope: &'static str,
    driver: &'static str,
    #[serde(rename = "EnableIPv4")]
    enable_ipv4: bool,
    #[serde(rename = "EnableIPv6")]
    enable_ipv6: bool,
    #[serde(rename = "IPAM")]
    ipam: Ipam,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_from: ConfigFrom,
    config_only: bool,
    containers: BTreeMap<String, Member>,
    options: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Ipam {
    driver: &'static str,
    options: Option<BTreeMap<String, String>>,
    config: Option<Vec<IpamConfig>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct IpamConfig {
    subnet: String,
    gateway: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ConfigFrom {
    network: &'static str,
}

/// A container in a network.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    name: String,
    #[serde(rename = "EndpointID")]
    endpoint_id: String,
    mac_address: String,
    #[serde(rename = "IPv4Address")]
    ipv4_address: String,
    #[serde(rename = "IPv6Address")]
    ipv6_address: &'static str,
}

/// Describes a network, with the containers that run in it.
pub fn described(
    context: &Context,
    networks: &Networks,
    network: Network,
) -> Result<DescribedNetwork, cove_network::Error> {
    let containers = context.containers();
    let mut members = BTreeMap::new();
    for endpoint in networks.endpoints(&network.name)? {
        let id = ContainerId::try_from(endpoint.container.clone()).ok();
        // What a killed monitor has left is nobody's.
        if id.and_then(|id| containers.get(&id)).is_none_or(|container| !container.has_monitor()) {
            continue;
        }
        let member = Member {
            name: endpoint.name,
            endpoint_id: endpoint.id,
            mac_address: endpoint.mac.to_string(),
            ipv4_address: format!("{}/{}", endpoint.address, endpoint.prefix),
            ipv6_address: "",
        };
        members.insert(endpoint.container, member);
    }
    let pool =
        network.ipv4.map(|pool| IpamConfig { subnet: pool.subnet.to_string(), gateway: pool.gateway.to_string() });
    Ok(DescribedNetwork {
        name: network.name,
        id: network.id,
        created: network.created,
        scope: SCOPE,
        driver: network.driver.as_str(),
        enable_ipv4: network.driver == Driver::Bridge,
        enable_ipv6: false,
        ipam: Ipam { driver: "default", options: None, config: pool.map(|pool| vec![pool]) },
        internal: false,
        attachable: false,
        ingress: false,
        config_from: ConfigFrom { network: "" },
        config_only: false,
        containers: members,
        options: network.options,
        labels: network.labels,
    })
}
