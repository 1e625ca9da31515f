//! `inspect`: a container as docker describes it.

use std::collections::BTreeMap;
use std::path::Path;

use cove_container::config::{
    Config, EndpointSettings, HostConfig, MountPoint, NetworkMode, NetworkSettings, PortBinding, PortMap,
};
use cove_container::{Container, Health, Record, State, Status};
use cove_network::{Endpoint, Networks};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::put_right;
use crate::context::Context;
use crate::error::Error;

/// Go's zero time: it never was.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";

/// What our own runtime is called, where docker writes `runc`.
const OUR_RUNTIME: &str = "cove-runtime";

/// Docker's description of a container, its fields in docker's order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Described {
    id: String,
    created: String,
    path: String,
    args: Vec<String>,
    state: DescribedState,
    image: String,
    resolv_conf_path: String,
    hostname_path: String,
    hosts_path: String,
    log_path: String,
    name: String,
    restart_count: u32,
    driver: &'static str,
    platform: String,
    mount_label: &'static str,
    process_label: &'static str,
    app_armor_profile: String,
    #[serde(rename = "ExecIDs")]
    exec_ids: Option<Vec<String>>,
    host_config: HostConfig,
    graph_driver: GraphDriver,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_rw: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    size_root_fs: Option<u64>,
    mounts: Vec<MountPoint>,
    config: Config,
    network_settings: NetworkSettings,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct DescribedState {
    status: &'static str,
    running: bool,
    paused: bool,
    restarting: bool,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    dead: bool,
    pid: i32,
    exit_code: i32,
    error: String,
    started_at: String,
    finished_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    health: Option<Health>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GraphDriver {
    data: Folders,
    name: &'static str,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Folders {
    lower_dir: String,
    merged_dir: String,
    upper_dir: String,
    work_dir: String,
}

/// Describes a container; `sizes`: with the bytes of its files.
pub fn described(context: &Context, container: &Container, sizes: bool) -> Result<Described, Error> {
    let state = put_right(context, container)?;
    let record = container.record()?;
    let places = context.places();
    let networks = Networks::of(&places.root, &places.run);
    let network_settings = network_settings(&networks, &record, &state);
    let image = |record: &Record| {
        let image = context.store().ok()?.find(&record.image, &context.defaults().ok()?).ok()?;
        Some(image.image.size())
    };
    let size_rw = sizes.then(|| disk_usage(&container.changes()));
    let size_root_fs = size_rw.map(|changed| changed + image(&record).unwrap_or(0));
    let links = super::links::shown(context, &record);
    let mut arguments = record.arguments().into_iter();
    let shown = |path: &Path| path.display().to_string();
    // They are written when it first starts.
    let file = |name: &str| match container.folder().join(name) {
        path if path.exists() => shown(&path),
        _ => String::new(),
    };
    let log_path = match record.host_config.log_config.kind.as_str() {
        "none" => String::new(),
        // Docker opens it when the container first starts.
        _ if state.started_at.is_none() => String::new(),
        _ => shown(&container.log()),
    };
    let lower: Vec<String> = record.layers.iter().rev().map(|layer| shown(layer)).collect();
    Ok(Described {
        id: record.id.to_string(),
        created: moment(Some(record.created)),
        path: arguments.next().unwrap_or_default(),
        args: arguments.collect(),
        state: describe_state(&state),
        image: record.image.clone(),
        resolv_conf_path: file("resolv.conf"),
        hostname_path: file("hostname"),
        hosts_path: file("hosts"),
        log_path,
        name: format!("/{}", record.name),
        restart_count: state.restart_count,
        driver: "overlay2",
        platform: record.platform.split('/').next().unwrap_or_default().to_owned(),
        mount_label: "",
        process_label: "",
        app_armor_profile: String::new(),
        exec_ids: Some(container.execs()).filter(|execs| state.status.is_running() && !execs.is_empty()),
        graph_driver: GraphDriver {
            data: Folders {
                lower_dir: lower.join(":"),
                merged_dir: shown(&container.run_folder().join("rootfs")),
                upper_dir: shown(&container.changes()),
                work_dir: shown(&container.work()),
            },
            name: "overlay2",
        },
        size_rw,
        size_root_fs,
        mounts: record.mounts,
        config: record.config,
        host_config: host_config(HostConfig { links, ..record.host_config }),
        network_settings,
    })
}

/// Which runtime it is made with is said also where none was asked for.
fn host_config(own: HostConfig) -> HostConfig {
    let runtime = if own.runtime.is_empty() { OUR_RUNTIME.to_owned() } else { own.runtime.clone() };
    HostConfig { runtime, ..own }
}

fn describe_state(state: &State) -> DescribedState {
    let restarting = state.status == Status::Restarting;
    DescribedState {
        status: state.status.as_str(),
        // Docker counts one that begins again in a moment as running.
        running: state.status.is_running() || restarting,
        paused: state.status == Status::Paused,
        restarting,
        oom_killed: state.oom_killed,
        dead: state.status == Status::Dead,
        pid: state.pid.filter(|_| state.status.is_running()).unwrap_or(0),
        exit_code: state.exit_code,
        error: state.error.clone(),
        started_at: moment(state.started_at),
        finished_at: moment(state.finished_at),
        health: state.health.clone(),
    }
}

/// A moment to the nanosecond, as Go writes it.
fn moment(moment: Option<OffsetDateTime>) -> String {
    moment.and_then(|moment| moment.format(&Rfc3339).ok()).unwrap_or_else(|| ZERO_TIME.to_owned())
}

fn network_settings(networks: &Networks, record: &Record, state: &State) -> NetworkSettings {
    let mode = &record.host_config.network_mode;
    let name = match mode {
        NetworkMode::Container(_) => return NetworkSettings::default(),
        NetworkMode::None => "none",
        NetworkMode::Host => "host",
        mode => mode.network().unwrap_or_default(),
    };
    let mut settings = record.endpoints.get(name).cloned().unwrap_or_default();
    let is_running = state.status.is_running();
    if !is_running && state.started_at.is_none() {
        return NetworkSettings { networks: BTreeMap::from([(name.to_owned(), settings)]), ..Default::default() };
    }
    // What cannot be read is not there: the rest is worth showing.
    settings.network_id = networks.find(name).map_or_else(|_| String::new(), |network| network.id);
    let endpoint = networks.endpoint(name, record.id.as_str()).ok().flatten().filter(|_| is_running);
    let mut whole = NetworkSettings {
        // The namespace has no other name than that of what runs in it.
        sandbox_key: state.pid.filter(|_| is_running).map_or_else(String::new, |pid| format!("/proc/{pid}/ns/net")),
        sandbox_id: if is_running { record.id.to_string() } else { String::new() },
        ..Default::default()
    };
    if let Some(endpoint) = endpoint {
        fill(&mut settings, &endpoint);
        whole.ports = ports(record, &endpoint);
        if name == "bridge" {
            whole.endpoint_id.clone_from(&settings.endpoint_id);
            whole.gateway.clone_from(&settings.gateway);
            whole.ip_address.clone_from(&settings.ip_address);
            whole.ip_prefix_length = settings.ip_prefix_length;
            whole.mac_address.clone_from(&settings.mac_address);
        }
    }
    whole.networks.insert(name.to_owned(), settings);
    whole
}

fn fill(settings: &mut EndpointSettings, endpoint: &Endpoint) {
    settings.endpoint_id.clone_from(&endpoint.id);
    settings.gateway = endpoint.gateway.to_string();
    settings.ip_address = endpoint.address.to_string();
    settings.ip_prefix_length = endpoint.prefix.into();
    settings.mac_address = endpoint.mac.to_string();
}

/// The ports that it says it uses, and where they can be reached.
fn ports(record: &Record, endpoint: &Endpoint) -> PortMap {
    let exposed = record.config.exposed_ports.keys();
    let mut ports: PortMap = exposed.map(|port| (port.clone(), None)).collect();
    for binding in &endpoint.ports {
        let place = PortBinding { host_ip: binding.host.to_string(), host_port: binding.host_port.to_string() };
        let port = format!("{}/{}", binding.container_port, binding.protocol);
        ports.entry(port).or_default().get_or_insert_default().push(place);
    }
    ports
}

/// Bytes of the files below a folder.
pub fn disk_usage(folder: &Path) -> u64 {
    let mut folders = vec![folder.to_owned()];
    let mut bytes = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(found) if found.is_dir() => folders.push(entry.path()),
                Ok(found) if found.is_file() => bytes += found.len(),
                _ => {}
            }
        }
    }
    bytes
}
