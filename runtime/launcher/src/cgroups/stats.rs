//! What a container has used: the `data` of `runc events --stats`, with its names and units, which callers read.
//!
//! As there, zeros are mostly left out. `v1` and `v2` beside this file read it.

mod v1;
mod v2;

use std::collections::BTreeMap;

use serde::Serialize;

use super::folder::Folder;
use super::{CgroupError, Cgroups};

/// What a container has used and may use.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Time on processors.
    pub cpu: Cpu,
    /// Which processors and memory nodes; only version 1 tells.
    pub cpuset: CpuSet,
    /// Memory.
    pub memory: Memory,
    /// Processes and threads.
    pub pids: Pids,
    /// Block devices.
    pub blkio: Blkio,
    /// Huge pages, by size.
    pub hugetlb: BTreeMap<String, HugeTlb>,
    /// Always empty.
    pub intel_rdt: BTreeMap<String, u64>,
    /// Always none: networks are not the launcher's.
    pub network_interfaces: Option<Vec<u64>>,
}

/// Time on processors.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Cpu {
    /// Time used.
    pub usage: CpuUsage,
    /// Time waited because of a quota.
    pub throttling: Throttling,
}

/// Time used, in nanoseconds.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct CpuUsage {
    /// All of it.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// By processor.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu: Vec<u64>,
    /// By processor, in the kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_kernel: Vec<u64>,
    /// By processor, outside of the kernel.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub percpu_user: Vec<u64>,
    /// In the kernel.
    pub kernel: u64,
    /// Outside of the kernel.
    pub user: u64,
}

/// Time waited because of a quota.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Throttling {
    /// Periods in which something ran.
    #[serde(skip_serializing_if = "is_zero")]
    pub periods: u64,
    /// Periods in which the quota was used up.
    #[serde(rename = "throttledPeriods", skip_serializing_if = "is_zero")]
    pub throttled_periods: u64,
    /// Nanoseconds waited.
    #[serde(rename = "throttledTime", skip_serializing_if = "is_zero")]
    pub throttled_time: u64,
}

/// The files of `cpuset`, by their names without the prefix.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "cpuset(7) has them")]
pub struct CpuSet {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cpus: Vec<u16>,
    pub cpu_exclusive: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mems: Vec<u16>,
    pub mem_hardwall: u64,
    pub mem_exclusive: u64,
    pub memory_migrate: u64,
    pub memory_spread_page: u64,
    pub memory_spread_slab: u64,
    pub memory_pressure: u64,
    pub sched_load_balance: u64,
    pub sched_relax_domain_level: i64,
}

/// Memory, in bytes.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Cached files.
    #[serde(skip_serializing_if = "is_zero")]
    pub cache: u64,
    /// Memory.
    pub usage: MemoryEntry,
    /// Memory and swap together.
    pub swap: MemoryEntry,
    /// The kernel's part.
    pub kernel: MemoryEntry,
    /// The part of TCP's buffers.
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: MemoryEntry,
    /// All of `memory.stat`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub raw: BTreeMap<String, u64>,
}

/// One kind of memory, in bytes.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct MemoryEntry {
    /// The limit; the largest number is none.
    pub limit: u64,
    /// What is in use.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most that was in use.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

/// Processes and threads.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct Pids {
    /// How many there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub current: u64,
    /// How many there may be; 0 is no limit.
    #[serde(skip_serializing_if = "is_zero")]
    pub limit: u64,
}

/// Block devices.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Blkio {
    /// Bytes read and written.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_service_bytes_recursive: Vec<BlkioEntry>,
    /// Operations.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub io_serviced_recursive: Vec<BlkioEntry>,
}

/// A number about one device.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct BlkioEntry {
    /// The device.
    #[serde(skip_serializing_if = "is_zero")]
    pub major: u64,
    /// The device.
    #[serde(skip_serializing_if = "is_zero")]
    pub minor: u64,
    /// `Read`, `Write` and so on.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub op: String,
    /// The number.
    #[serde(skip_serializing_if = "is_zero")]
    pub value: u64,
}

/// Huge pages of one size.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub struct HugeTlb {
    /// Bytes in use.
    #[serde(skip_serializing_if = "is_zero")]
    pub usage: u64,
    /// The most that were in use.
    #[serde(skip_serializing_if = "is_zero")]
    pub max: u64,
    /// How often the limit was met.
    pub failcnt: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Cgroups {
    /// What the container has used. Controllers that are not there leave zeros.
    ///
    /// # Errors
    /// Cgroups that are gone or cannot be read.
    pub fn stats(&self) -> Result<Stats, CgroupError> {
        let mut stats = Stats::default();
        for hierarchy in &self.hierarchies {
            let controllers: Vec<&str> = hierarchy.controllers.iter().map(String::as_str).collect();
            if self.is_unified() {
                v2::read(&self.open(hierarchy)?, &mut stats)?;
            } else if v1::knows(&controllers) {
                v1::read(&self.open(hierarchy)?, &controllers, &mut stats)?;
            }
        }
        Ok(stats)
    }
}

/// The number in a file; `max` is the largest. `None` where there is no such file.
fn number(folder: &Folder, file: &str) -> Result<Option<u64>, CgroupError> {
    let Some(text) = folder.read_if_there(file)? else { return Ok(None) };
    match text.trim() {
        "max" => Ok(Some(u64::MAX)),
        number => match number.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(CgroupError::Parse { path: folder.path().join(file), text }),
        },
    }
}

fn number_or_zero(folder: &Folder, file: &str) -> Result<u64, CgroupError> {
    Ok(number(folder, file)?.unwrap_or(0))
}

/// A file of lines of a name and a number. Lines that are not so are for newer programs.
fn numbers(folder: &Folder, file: &str) -> Result<BTreeMap<String, u64>, CgroupError> {
    let text = folder.read_if_there(file)?.unwrap_or_default();
    let pair = |line: &str| {
        let (name, number) = line.split_once(' ')?;
        Some((name.to_owned(), number.trim().parse().ok()?))
    };
    Ok(text.lines().filter_map(pair).collect())
}

/// The sizes of huge pages that a cgroup has files for, such as `2MB`.
fn page_sizes(folder: &Folder, suffix: &str) -> Result<Vec<String>, CgroupError> {
    let size = |name: String| {
        let size = name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?;
        (!size.contains('.')).then(|| size.to_owned())
    };
    let files = folder.files().map_err(|source| CgroupError::Read { path: folder.path().to_owned(), source })?;
    Ok(files.into_iter().filter_map(size).collect())
}
