//! `linux.resources` as files of cgroup v2 (runtime-spec, config-linux.md; cgroup-v2 in the kernel's documents).
//!
//! The specification's numbers are those of version 1: here they are converted. Values that version 2 has no file for
//! are warned of by `super::warnings`.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::{Setting, max_or, rdma};
use crate::cgroups::CgroupError;
use crate::cgroups::folder::{Folder, is_missing};

/// The period of `cpu.max` where none is given, in microseconds.
const DEFAULT_PERIOD: u64 = 100_000;

/// The settings for all but devices and `unified`.
pub(in crate::cgroups) fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, CgroupError> {
    let mut settings = Vec::new();
    if let Some(pids) = resources.pids().filter(|pids| pids.limit() != 0) {
        settings.push(Setting::new("pids", "pids.max", max_or(pids.limit())));
    }
    if let Some(memory) = resources.memory() {
        memory_settings(memory, &mut settings)?;
    }
    if let Some(block_io) = resources.block_io() {
        io(block_io, &mut settings);
    }
    if let Some(cpu) = resources.cpu() {
        cpu_settings(cpu, &mut settings);
        super::v1::cpuset(cpu, &mut settings);
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        let file = |kind: &str| format!("hugetlb.{}.{kind}max", limit.page_size());
        settings.push(Setting::new("hugetlb", file(""), limit.limit()));
        settings.push(Setting::new("hugetlb", file("rsvd."), limit.limit()).optional());
    }
    settings.extend(rdma(resources));
    Ok(settings)
}

/// Shares (2 to 262,144, usually 1,024) as a weight (1 to 10,000, usually 100).
///
/// The curve goes through the ends and through the two usual values, so that a container with the usual shares weighs as
/// much as its neighbours that have no weight set. runc (since 1.3.2) and crun (since 1.23) have the same one.
pub(in crate::cgroups) fn weight(shares: u64) -> u64 {
    match shares {
        0 => 0,
        1..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let doublings = (shares as f64).log2();
            let exponent = (doublings * doublings + 125.0 * doublings) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

/// Swap alone, where the specification has memory and swap together: `None` if it is not to be set.
pub(in crate::cgroups) fn swap(memory: &LinuxMemory) -> Result<Option<i64>, CgroupError> {
    let limit = memory.limit().unwrap_or(0);
    match memory.swap().unwrap_or(0) {
        0 if limit == -1 => Ok(Some(-1)),
        0 => Ok(None),
        -1 => Ok(Some(-1)),
        _ if limit == 0 || limit == -1 => Err(CgroupError::SwapAlone),
        _ if limit < 0 => Err(CgroupError::Memory(limit)),
        both if both < limit => Err(CgroupError::SwapBelowMemory),
        both => Ok(Some(both - limit)),
    }
}

fn memory_settings(memory: &LinuxMemory, settings: &mut Vec<Setting>) -> Result<(), CgroupError> {
    if let Some(swap) = swap(memory)? {
        let setting = Setting::new("memory", "memory.swap.max", max_or(swap));
        // Where the kernel has no swap, "none" and "any" are both true already.
        settings.push(if swap <= 0 { setting.optional() } else { setting });
    }
    for (file, limit) in [("memory.max", memory.limit()), ("memory.low", memory.reservation())] {
        if let Some(limit) = limit.filter(|limit| *limit != 0) {
            settings.push(Setting::new("memory", file, max_or(limit)));
        }
    }
    Ok(())
}

fn cpu_settings(cpu: &LinuxCpu, settings: &mut Vec<Setting>) {
    // As in version 1: an idle cgroup takes no weight.
    let (idle, busy) = super::idle(cpu);
    settings.extend(busy);
    if let Some(shares) = cpu.shares().filter(|shares| *shares != 0) {
        settings.push(Setting::new("cpu", "cpu.weight", weight(shares)));
    }
    settings.extend(idle);
    let (quota, period) = (cpu.quota().unwrap_or(0), cpu.period().unwrap_or(0));
    if let Some(burst) = cpu.burst() {
        let setting = Setting::new("cpu", "cpu.max.burst", burst);
        settings.push(if quota == 0 { setting } else { setting.waiting() });
    }
    if quota != 0 || period != 0 {
        let quota = if quota > 0 { quota.to_string() } else { "max".to_owned() };
        let period = if period == 0 { DEFAULT_PERIOD } else { period };
        settings.push(Setting::new("cpu", "cpu.max", format!("{quota} {period}")));
    }
}

/// A weight of 10 to 1000, as BFQ has it, as one of 1 to 10,000.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.clamp(10, 1000) - 10) * 9_999 / 990
}

fn io(block_io: &LinuxBlockIo, settings: &mut Vec<Setting>) {
    if let Some(weight) = block_io.weight().filter(|weight| *weight != 0) {
        settings.push(Setting::new("io", "io.bfq.weight", weight).or("io.weight", io_weight(weight)));
    }
    for device in block_io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight().filter(|weight| *weight != 0) {
            let value = |weight: u64| format!("{}:{} {weight}", device.major(), device.minor());
            let setting = Setting::new("io", "io.bfq.weight", value(u64::from(weight)));
            settings.push(setting.or("io.weight", value(io_weight(weight))));
        }
    }
    let mut throttle = |kind: &str, devices: &Option<Vec<LinuxThrottleDevice>>| {
        for device in devices.iter().flatten() {
            let value = format!("{}:{} {kind}={}", device.major(), device.minor(), device.rate());
            settings.push(Setting::new("io", "io.max", value));
        }
    };
    throttle("rbps", block_io.throttle_read_bps_device());
    throttle("wbps", block_io.throttle_write_bps_device());
    throttle("riops", block_io.throttle_read_iops_device());
    throttle("wiops", block_io.throttle_write_iops_device());
}

/// The entries of `unified` in the order of their names, each a name of a file and its value.
pub(in crate::cgroups) fn unified(resources: &LinuxResources) -> Result<Vec<(&str, &str)>, CgroupError> {
    let map: &HashMap<String, String> = match resources.unified() {
        Some(map) => map,
        None => return Ok(Vec::new()),
    };
    let mut entries: Vec<(&str, &str)> = map.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    entries.sort_unstable();
    for (key, _) in &entries {
        if key.contains('/') {
            return Err(CgroupError::UnifiedName { key: (*key).to_owned() });
        }
        if !key.contains('.') {
            return Err(CgroupError::UnifiedForm { key: (*key).to_owned() });
        }
    }
    Ok(entries)
}

/// The controller of an entry of `unified`. Files of `cgroup.` belong to none.
pub(in crate::cgroups) fn controller_of(key: &str) -> Option<&str> {
    key.split('.').next().filter(|controller| *controller != "cgroup")
}

/// Writes the entries of `unified`, a line at a time: files such as `io.max` take one device each time.
pub(in crate::cgroups) fn apply_unified(
    entries: &[(&str, &str)],
    folder: &Folder,
    available: &str,
) -> Result<(), CgroupError> {
    for (key, value) in entries {
        let controller = controller_of(key).unwrap_or("cgroup");
        for line in value.lines() {
            match folder.try_write(key, line) {
                Ok(()) => {}
                Err(error)
                    if is_missing(&error)
                        && controller != "cgroup"
                        && !available.split_whitespace().any(|name| name == controller) =>
                {
                    let (key, controller) = ((*key).to_owned(), controller.to_owned());
                    return Err(CgroupError::UnifiedController { key, controller });
                }
                Err(error) => return Err(folder.not_written(key, line, error)),
            }
        }
    }
    Ok(())
}
