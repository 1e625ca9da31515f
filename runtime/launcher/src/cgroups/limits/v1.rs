//! `linux.resources` as files of cgroup v1 (runtime-spec, config-linux.md; cgroup-v1 in the kernel's documents).
//!
//! Zero and absent values set nothing: that is how callers of runc say that they do not care.

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::{Setting, max_or, rdma};
use crate::cgroups::CgroupError;

/// What the kernel makes of shares outside of them, silently.
const SHARES: std::ops::RangeInclusive<u64> = 2..=262_144;

/// The settings for all but devices. `memory_limit` gives the limit that a cgroup in use has; without one it is new.
pub(in crate::cgroups) fn settings(
    resources: &LinuxResources,
    memory_limit: &dyn Fn() -> Option<u64>,
) -> Result<Vec<Setting>, CgroupError> {
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        return Err(CgroupError::UnifiedOnV1);
    }
    let mut settings = Vec::new();
    if let Some(cpu) = resources.cpu() {
        cpuset(cpu, &mut settings);
    }
    if let Some(memory) = resources.memory() {
        memory_settings(memory, memory_limit, &mut settings)?;
    }
    if let Some(cpu) = resources.cpu() {
        cpu_settings(cpu, &mut settings)?;
    }
    if let Some(pids) = resources.pids().filter(|pids| pids.limit() != 0) {
        settings.push(Setting::new("pids", "pids.max", max_or(pids.limit())));
    }
    if let Some(block_io) = resources.block_io() {
        blkio(block_io, &mut settings);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = |kind: &str| format!("hugetlb.{}.{kind}limit_in_bytes", limit.page_size());
        settings.push(Setting::new("hugetlb", file(""), limit.limit()));
        // Pages are reserved by mmap and used later; newer kernels count both.
        settings.push(Setting::new("hugetlb", file("rsvd."), limit.limit()).optional());
    }
    if let Some(network) = resources.network() {
        if let Some(class) = network.class_id().filter(|class| *class != 0) {
            settings.push(Setting::new("net_cls", "net_cls.classid", class));
        }
        for priority in network.priorities().iter().flatten() {
            let value = format!("{} {}", priority.name(), priority.priority());
            settings.push(Setting::new("net_prio", "net_prio.ifpriomap", value));
        }
    }
    settings.extend(rdma(resources));
    Ok(settings)
}

pub(super) fn cpuset(cpu: &LinuxCpu, settings: &mut Vec<Setting>) {
    let mut set = |file: &'static str, value: &Option<String>| {
        if let Some(value) = value.as_ref().filter(|value| !value.is_empty()) {
            settings.push(Setting::new("cpuset", file, value));
        }
    };
    set("cpuset.cpus", cpu.cpus());
    set("cpuset.mems", cpu.mems());
}

fn cpu_settings(cpu: &LinuxCpu, settings: &mut Vec<Setting>) -> Result<(), CgroupError> {
    // An idle cgroup takes no shares: so shares come before it becomes idle, and after it stops being so.
    let (idle, busy) = super::idle(cpu);
    settings.extend(busy);
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        if shares < *SHARES.start() {
            return Err(CgroupError::SharesTooFew(*SHARES.start()));
        }
        if shares > *SHARES.end() {
            return Err(CgroupError::SharesTooMany(*SHARES.end()));
        }
        settings.push(Setting::new("cpu", "cpu.shares", shares));
    }
    settings.extend(idle);
    let (quota, burst) = (cpu.quota().filter(|quota| *quota != 0), cpu.burst());
    if let Some(period) = cpu.period().filter(|period| *period != 0) {
        let setting = Setting::new("cpu", "cpu.cfs_period_us", period);
        // With the quota that is there it may be more than the cgroup above has; with the new one it may not.
        settings.push(if quota.is_some() { setting.waiting() } else { setting });
    }
    if let Some(burst) = burst {
        // It may not be larger than the quota, neither the old nor the new one.
        let setting = Setting::new("cpu", "cpu.cfs_burst_us", burst);
        settings.push(if quota.is_some() { setting.waiting() } else { setting });
    }
    if let Some(quota) = quota {
        settings.push(Setting::new("cpu", "cpu.cfs_quota_us", quota));
    }
    if let Some(period) = cpu.realtime_period().filter(|period| *period != 0) {
        settings.push(Setting::new("cpu", "cpu.rt_period_us", period));
    }
    if let Some(runtime) = cpu.realtime_runtime().filter(|runtime| *runtime != 0) {
        settings.push(Setting::new("cpu", "cpu.rt_runtime_us", runtime));
    }
    Ok(())
}

fn memory_settings(
    memory: &LinuxMemory,
    memory_limit: &dyn Fn() -> Option<u64>,
    settings: &mut Vec<Setting>,
) -> Result<(), CgroupError> {
    let limit = memory.limit().filter(|limit| *limit != 0);
    let swap = memory.swap().filter(|swap| *swap != 0);
    let limit_setting = limit.map(|limit| Setting::new("memory", "memory.limit_in_bytes", limit));
    let swap_setting = match (swap, limit) {
        (Some(swap), _) => Some(Setting::new("memory", "memory.memsw.limit_in_bytes", swap)),
        // No limit of memory means none of memory and swap either; the file is only there where swap is counted.
        (None, Some(-1)) => Some(Setting::new("memory", "memory.memsw.limit_in_bytes", -1).optional()),
        _ => None,
    };
    // The kernel keeps the limit of memory at or below that of both: whichever grows goes first.
    let swap_first = match (swap_setting.as_ref(), limit, swap.unwrap_or(-1)) {
        (None, _, _) | (_, None, _) => false,
        (_, _, swap) if swap < 0 => true,
        (_, _, swap) => memory_limit().is_some_and(|current| current < swap.unsigned_abs()),
    };
    if swap_first {
        settings.extend(swap_setting.into_iter().chain(limit_setting));
    } else {
        settings.extend(limit_setting.into_iter().chain(swap_setting));
    }
    if let Some(reservation) = memory.reservation().filter(|reservation| *reservation != 0) {
        settings.push(Setting::new("memory", "memory.soft_limit_in_bytes", reservation));
    }
    if memory.disable_oom_killer() == Some(true) {
        settings.push(Setting::new("memory", "memory.oom_control", 1));
    }
    match memory.swappiness() {
        // -1, "as it is", arrives as the largest number from callers that keep it unsigned.
        None | Some(u64::MAX) => {}
        Some(swappiness) if swappiness <= 100 => {
            settings.push(Setting::new("memory", "memory.swappiness", swappiness));
        }
        Some(swappiness) => return Err(CgroupError::Swappiness(swappiness)),
    }
    Ok(())
}

fn blkio(block_io: &LinuxBlockIo, settings: &mut Vec<Setting>) {
    // The weights belong to the scheduler: CFQ had `blkio.weight`, its successor BFQ has names of its own.
    let non_zero = |weight: Option<u16>| weight.filter(|weight| *weight != 0);
    if let Some(weight) = non_zero(block_io.weight()) {
        settings.push(Setting::new("blkio", "blkio.weight", weight).or("blkio.bfq.weight", weight));
    }
    if let Some(weight) = non_zero(block_io.leaf_weight()) {
        settings.push(Setting::new("blkio", "blkio.leaf_weight", weight));
    }
    for device in block_io.weight_device().iter().flatten() {
        let value = |weight: u16| format!("{}:{} {weight}", device.major(), device.minor());
        if let Some(weight) = non_zero(device.weight()) {
            let setting = Setting::new("blkio", "blkio.weight_device", value(weight));
            settings.push(setting.or("blkio.bfq.weight_device", value(weight)));
        }
        if let Some(weight) = non_zero(device.leaf_weight()) {
            settings.push(Setting::new("blkio", "blkio.leaf_weight_device", value(weight)));
        }
    }
    let mut throttle = |file: &'static str, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for device in devices.iter().flatten() {
            let value = format!("{}:{} {}", device.major(), device.minor(), device.rate());
            settings.push(Setting::new("blkio", file, value));
        }
    };
    throttle("blkio.throttle.read_bps_device", block_io.throttle_read_bps_device());
    throttle("blkio.throttle.write_bps_device", block_io.throttle_write_bps_device());
    throttle("blkio.throttle.read_iops_device", block_io.throttle_read_iops_device());
    throttle("blkio.throttle.write_iops_device", block_io.throttle_write_iops_device());
}
