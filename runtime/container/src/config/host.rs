//! `HostConfig`: how a container runs on this host. Sizes are bytes, rates are per second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CgroupnsMode, IpcMode, Mount, NetworkMode, PidMode, PortMap, UsernsMode, UtsMode, null};

/// Docker's `HostConfig`. `default()` is what `docker create` without options sends and the daemon completes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    /// Values of `-v` with a source: `source:destination[:options]`.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub binds: Vec<String>,
    /// Where the id was written to.
    #[serde(rename = "ContainerIDFile")]
    pub container_id_file: String,
    /// What becomes of the output.
    pub log_config: LogConfig,
    /// The network that it is in.
    pub network_mode: NetworkMode,
    /// Where its ports are published.
    #[serde(deserialize_with = "null::read")]
    pub port_bindings: PortMap,
    /// Whether it begins anew when it has ended.
    pub restart_policy: RestartPolicy,
    /// Whether it is removed when it has ended.
    pub auto_remove: bool,
    /// Who keeps its volumes.
    pub volume_driver: String,
    /// Containers whose mounts it shares: `name[:ro|rw]`.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub volumes_from: Vec<String>,
    /// Capabilities beyond the default, `ALL` for all.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub cap_add: Vec<String>,
    /// Capabilities that it does not have, `ALL` for all.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub cap_drop: Vec<String>,
    /// Which cgroups it sees.
    pub cgroupns_mode: CgroupnsMode,
    /// Its name servers; none: the host's.
    #[serde(deserialize_with = "null::read")]
    pub dns: Vec<String>,
    /// Options of its resolver.
    #[serde(deserialize_with = "null::read")]
    pub dns_options: Vec<String>,
    /// Domains that its resolver tries.
    #[serde(deserialize_with = "null::read")]
    pub dns_search: Vec<String>,
    /// More lines of its hosts file: `name:address`.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub extra_hosts: Vec<String>,
    /// More groups that it is in, names or ids.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub group_add: Vec<String>,
    /// Which IPC objects it sees.
    pub ipc_mode: IpcMode,
    /// Docker's word that is not used any more.
    pub cgroup: String,
    /// Containers that it knows by another name: `name:alias`.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub links: Vec<String>,
    /// How willingly the kernel kills it when memory is short: -1000 to 1000.
    pub oom_score_adj: i64,
    /// Which processes it sees.
    pub pid_mode: PidMode,
    /// Whether it may do what root may.
    pub privileged: bool,
    /// Whether all exposed ports are published.
    pub publish_all_ports: bool,
    /// Whether its root cannot be written to.
    pub readonly_rootfs: bool,
    /// `no-new-privileges`, `seccomp=…`, `apparmor=…`, `label=…`. `systempaths=unconfined` is in the paths below.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub security_opt: Vec<String>,
    /// What its storage is told.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub storage_opt: BTreeMap<String, String>,
    /// Memory that is mounted: path and options of mount(8).
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub tmpfs: BTreeMap<String, String>,
    /// Which host name it sees.
    #[serde(rename = "UTSMode")]
    pub uts_mode: UtsMode,
    /// Which ids it sees.
    pub userns_mode: UsernsMode,
    /// Size of `/dev/shm` in bytes.
    pub shm_size: i64,
    /// Settings of the kernel in its namespaces.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub sysctls: BTreeMap<String, String>,
    /// Who starts it; empty for our own launcher.
    pub runtime: String,
    /// Rows and columns of its terminal when it started.
    pub console_size: [u32; 2],
    /// Windows' word.
    pub isolation: String,
    /// Share of the processors: 1024 is one container's; 0 for the default.
    pub cpu_shares: i64,
    /// Most memory in bytes; 0 for no limit.
    pub memory: i64,
    /// Processors in billionths; 0 for no limit.
    pub nano_cpus: i64,
    /// Cgroup that its cgroup is made in.
    pub cgroup_parent: String,
    /// Share of the disks: 10 to 1000; 0 for the default.
    pub blkio_weight: u16,
    /// Share of one disk.
    #[serde(deserialize_with = "null::read")]
    pub blkio_weight_device: Vec<WeightDevice>,
    /// Bytes read per second.
    #[serde(deserialize_with = "null::read")]
    pub blkio_device_read_bps: Vec<ThrottleDevice>,
    /// Bytes written per second.
    #[serde(deserialize_with = "null::read")]
    pub blkio_device_write_bps: Vec<ThrottleDevice>,
    /// Reads per second.
    #[serde(rename = "BlkioDeviceReadIOps", deserialize_with = "null::read")]
    pub blkio_device_read_iops: Vec<ThrottleDevice>,
    /// Writes per second.
    #[serde(rename = "BlkioDeviceWriteIOps", deserialize_with = "null::read")]
    pub blkio_device_write_iops: Vec<ThrottleDevice>,
    /// Period of `cpu_quota` in microseconds; 0 for the kernel's default, 100000.
    pub cpu_period: i64,
    /// Processor time in a period, in microseconds; 0 for no limit.
    pub cpu_quota: i64,
    /// Period of `cpu_realtime_runtime` in microseconds.
    pub cpu_realtime_period: i64,
    /// Real-time processor time in a period, in microseconds.
    pub cpu_realtime_runtime: i64,
    /// Processors that it runs on: `0-3,7`.
    pub cpuset_cpus: String,
    /// Memory nodes that it uses: `0-3,7`.
    pub cpuset_mems: String,
    /// Devices of the host that it has.
    #[serde(deserialize_with = "null::read")]
    pub devices: Vec<DeviceMapping>,
    /// More rules of its device cgroup: `c 1:3 mrw`.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub device_cgroup_rules: Vec<String>,
    /// Devices by what they can do.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub device_requests: Vec<DeviceRequest>,
    /// Docker's limit that kernels do not have any more.
    pub kernel_memory: i64,
    /// Docker's limit that kernels do not have any more.
    #[serde(rename = "KernelMemoryTCP")]
    pub kernel_memory_tcp: i64,
    /// Memory in bytes down to which the kernel takes it away first; 0 for none.
    pub memory_reservation: i64,
    /// Most memory and swap together in bytes; 0 for twice `memory`, -1 for no limit.
    pub memory_swap: i64,
    /// How willingly the kernel swaps: 0 to 100.
    pub memory_swappiness: Option<i64>,
    /// Whether the kernel stops it instead of killing it when its memory is full.
    pub oom_kill_disable: Option<bool>,
    /// Most processes and threads; -1 for no limit.
    pub pids_limit: Option<i64>,
    /// Limits of setrlimit(2).
    #[serde(deserialize_with = "null::read")]
    pub ulimits: Vec<Ulimit>,
    /// Windows' limit.
    pub cpu_count: i64,
    /// Windows' limit.
    pub cpu_percent: i64,
    /// Windows' limit.
    #[serde(rename = "IOMaximumIOps")]
    pub io_maximum_iops: u64,
    /// Windows' limit.
    #[serde(rename = "IOMaximumBandwidth")]
    pub io_maximum_bandwidth: u64,
    /// What `--mount` asked for.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub mounts: Vec<Mount>,
    /// Paths that it cannot see; `None` for the default.
    pub masked_paths: Option<Vec<String>>,
    /// Paths that it cannot write to; `None` for the default.
    pub readonly_paths: Option<Vec<String>>,
    /// Whether an init of ours is its first process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<bool>,
    /// What the runtime is told.
    #[serde(deserialize_with = "null::read", skip_serializing_if = "null::is_default")]
    pub annotations: BTreeMap<String, String>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            binds: Vec::new(),
            container_id_file: String::new(),
            log_config: LogConfig::default(),
            network_mode: NetworkMode::Default,
            port_bindings: PortMap::new(),
            restart_policy: RestartPolicy::default(),
            auto_remove: false,
            volume_driver: String::new(),
            volumes_from: Vec::new(),
            cap_add: Vec::new(),
            cap_drop: Vec::new(),
            cgroupns_mode: CgroupnsMode::Default,
            dns: Vec::new(),
            dns_options: Vec::new(),
            dns_search: Vec::new(),
            extra_hosts: Vec::new(),
            group_add: Vec::new(),
            ipc_mode: IpcMode::Private,
            cgroup: String::new(),
            links: Vec::new(),
            oom_score_adj: 0,
            pid_mode: PidMode::Private,
            privileged: false,
            publish_all_ports: false,
            readonly_rootfs: false,
            security_opt: Vec::new(),
            storage_opt: BTreeMap::new(),
            tmpfs: BTreeMap::new(),
            uts_mode: UtsMode::Private,
            userns_mode: UsernsMode::Default,
            shm_size: Self::SHM_SIZE,
            sysctls: BTreeMap::new(),
            runtime: String::new(),
            console_size: [0, 0],
            isolation: String::new(),
            cpu_shares: 0,
            memory: 0,
            nano_cpus: 0,
            cgroup_parent: String::new(),
            blkio_weight: 0,
            blkio_weight_device: Vec::new(),
            blkio_device_read_bps: Vec::new(),
            blkio_device_write_bps: Vec::new(),
            blkio_device_read_iops: Vec::new(),
            blkio_device_write_iops: Vec::new(),
            cpu_period: 0,
            cpu_quota: 0,
            cpu_realtime_period: 0,
            cpu_realtime_runtime: 0,
            cpuset_cpus: String::new(),
            cpuset_mems: String::new(),
            devices: Vec::new(),
            device_cgroup_rules: Vec::new(),
            device_requests: Vec::new(),
            kernel_memory: 0,
            kernel_memory_tcp: 0,
            memory_reservation: 0,
            memory_swap: 0,
            memory_swappiness: None,
            oom_kill_disable: Some(false),
            pids_limit: None,
            ulimits: Vec::new(),
            cpu_count: 0,
            cpu_percent: 0,
            io_maximum_iops: 0,
            io_maximum_bandwidth: 0,
            mounts: Vec::new(),
            masked_paths: None,
            readonly_paths: None,
            init: None,
            annotations: BTreeMap::new(),
        }
    }
}

impl HostConfig {
    /// Whether it is made with our own runtime, not one that `--runtime` names by its path or its name on `$PATH`.
    pub fn has_own_runtime(&self) -> bool {
        matches!(self.runtime.as_str(), "" | "cove" | "cove-runtime")
    }

    /// Size of `/dev/shm` in bytes where none was asked for.
    pub const SHM_SIZE: i64 = 64 << 20;
}

/// What becomes of the output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    /// `json-file` or `none`.
    #[serde(rename = "Type")]
    pub kind: String,
    /// `max-size`, `max-file`, …
    #[serde(deserialize_with = "null::read")]
    pub config: BTreeMap<String, String>,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { kind: "json-file".to_owned(), config: BTreeMap::new() }
    }
}

/// Whether a container begins anew when it has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    /// When.
    pub name: RestartCondition,
    /// How often after failures; 0 for ever.
    pub maximum_retry_count: i64,
}

/// When a container begins anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartCondition {
    /// Never.
    #[default]
    #[serde(alias = "")]
    No,
    /// When it failed.
    OnFailure,
    /// Always, also after a restart of the machine.
    Always,
    /// Always, unless it was stopped by hand.
    UnlessStopped,
}

/// A device of the host in a container.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceMapping {
    /// Path on the host; a folder stands for all devices in it.
    pub path_on_host: String,
    /// Path in the container.
    pub path_in_container: String,
    /// Some of `r`, `w` and `m`.
    pub cgroup_permissions: String,
}

/// Devices by what they can do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct DeviceRequest {
    /// Who provides them.
    pub driver: String,
    /// How many; -1 for all.
    pub count: i64,
    /// Which.
    #[serde(rename = "DeviceIDs", deserialize_with = "null::read", serialize_with = "null::write")]
    pub device_ids: Vec<String>,
    /// What they can do: one of these lists.
    #[serde(deserialize_with = "null::read", serialize_with = "null::write")]
    pub capabilities: Vec<Vec<String>>,
    /// What the provider is told.
    #[serde(deserialize_with = "null::read")]
    pub options: BTreeMap<String, String>,
}

/// A limit of setrlimit(2).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Ulimit {
    /// Its name: `nofile`.
    pub name: String,
    /// What it can be raised to; -1 for no limit.
    pub hard: i64,
    /// What holds; -1 for no limit.
    pub soft: i64,
}

/// Share of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct WeightDevice {
    /// Path on the host.
    pub path: String,
    /// 10 to 1000.
    pub weight: u16,
}

/// A limit of a disk.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ThrottleDevice {
    /// Path on the host.
    pub path: String,
    /// Per second: bytes or operations.
    pub rate: u64,
}
