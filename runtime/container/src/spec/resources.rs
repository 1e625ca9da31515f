//! `linux.resources`: limits.

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice, LinuxThrottleDeviceBuilder,
    LinuxWeightDeviceBuilder,
};

use super::devices::{Devices, numbers};
use super::{Facts, SpecError};
use crate::check::CgroupVersion;
use crate::config::{HostConfig, ThrottleDevice};

pub(super) fn resources(host: &HostConfig, facts: &Facts<'_>, devices: &Devices) -> Result<LinuxResources, SpecError> {
    let mut resources = LinuxResources::default();
    if facts.rootless.is_some_and(|rootless| !rootless.has_cgroup) {
        return refuse_limits(host).map(|()| resources);
    }
    resources.set_devices(Some(devices.rules.clone()));
    resources.set_memory(memory(host, facts));
    resources.set_cpu(cpu(host));
    if let Some(limit) = host.pids_limit {
        let mut pids = LinuxPids::default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    resources.set_block_io(block_io(host)?);
    Ok(resources)
}

/// For who has no cgroup: refuses what would be silently without effect.
pub fn refuse_limits(host: &HostConfig) -> Result<(), SpecError> {
    limit_that_was_asked_for(host).map_or(Ok(()), |option| Err(SpecError::RootlessLimit(option)))
}

/// The first option that would be silently without effect.
fn limit_that_was_asked_for(host: &HostConfig) -> Option<&'static str> {
    let asked = [
        (host.memory > 0, "--memory"),
        (host.memory_reservation > 0, "--memory-reservation"),
        (host.memory_swap > 0, "--memory-swap"),
        (host.memory_swappiness.is_some(), "--memory-swappiness"),
        (host.oom_kill_disable == Some(true), "--oom-kill-disable"),
        (host.nano_cpus > 0, "--cpus"),
        (host.cpu_shares > 0, "--cpu-shares"),
        (host.cpu_period > 0, "--cpu-period"),
        (host.cpu_quota > 0, "--cpu-quota"),
        (!host.cpuset_cpus.is_empty(), "--cpuset-cpus"),
        (!host.cpuset_mems.is_empty(), "--cpuset-mems"),
        (host.pids_limit.is_some(), "--pids-limit"),
        (host.blkio_weight > 0, "--blkio-weight"),
        (!host.blkio_weight_device.is_empty(), "--blkio-weight-device"),
        (!host.blkio_device_read_bps.is_empty(), "--device-read-bps"),
        (!host.blkio_device_write_bps.is_empty(), "--device-write-bps"),
        (!host.blkio_device_read_iops.is_empty(), "--device-read-iops"),
        (!host.blkio_device_write_iops.is_empty(), "--device-write-iops"),
        (!host.device_cgroup_rules.is_empty(), "--device-cgroup-rule"),
        (!host.cgroup_parent.is_empty(), "--cgroup-parent"),
    ];
    asked.into_iter().find_map(|(asked, option)| asked.then_some(option))
}

fn memory(host: &HostConfig, facts: &Facts<'_>) -> Option<LinuxMemory> {
    let mut memory = LinuxMemory::default();
    memory.set_limit((host.memory > 0).then_some(host.memory));
    memory.set_reservation((host.memory_reservation > 0).then_some(host.memory_reservation));
    memory.set_swap((host.memory_swap > 0).then_some(host.memory_swap));
    memory.set_swappiness(host.memory_swappiness.and_then(|value| u64::try_from(value).ok()));
    // Version 2 has no such switch.
    if facts.cgroup_version == CgroupVersion::One {
        memory.set_disable_oom_killer(host.oom_kill_disable.filter(|disable| *disable));
    }
    (memory != LinuxMemory::default()).then_some(memory)
}

fn cpu(host: &HostConfig) -> Option<LinuxCpu> {
    const PERIOD: i64 = 100_000;
    let positive = |value: i64| u64::try_from(value).ok().filter(|value| *value > 0);
    let mut cpu = LinuxCpu::default();
    cpu.set_shares(positive(host.cpu_shares));
    if host.nano_cpus > 0 {
        cpu.set_period(positive(PERIOD));
        // Billionths of a processor, a tenth of a second at a time.
        cpu.set_quota(Some(host.nano_cpus.saturating_mul(PERIOD) / 1_000_000_000));
    }
    if host.cpu_period != 0 {
        cpu.set_period(positive(host.cpu_period));
    }
    if host.cpu_quota != 0 {
        cpu.set_quota(Some(host.cpu_quota));
    }
    cpu.set_realtime_period(positive(host.cpu_realtime_period));
    cpu.set_realtime_runtime((host.cpu_realtime_runtime != 0).then_some(host.cpu_realtime_runtime));
    let list = |text: &String| (!text.is_empty()).then(|| text.clone());
    cpu.set_cpus(list(&host.cpuset_cpus));
    cpu.set_mems(list(&host.cpuset_mems));
    (cpu != LinuxCpu::default()).then_some(cpu)
}

fn block_io(host: &HostConfig) -> Result<Option<LinuxBlockIo>, SpecError> {
    let mut disks = LinuxBlockIo::default();
    disks.set_weight((host.blkio_weight > 0).then_some(host.blkio_weight));
    let mut weights = Vec::new();
    for asked in &host.blkio_weight_device {
        let (major, minor) = numbers(&asked.path)?;
        let device = LinuxWeightDeviceBuilder::default().major(major).minor(minor).weight(asked.weight).build()?;
        weights.push(device);
    }
    let some = |list: Vec<LinuxThrottleDevice>| (!list.is_empty()).then_some(list);
    disks.set_weight_device((!weights.is_empty()).then_some(weights));
    disks.set_throttle_read_bps_device(some(throttled(&host.blkio_device_read_bps)?));
    disks.set_throttle_write_bps_device(some(throttled(&host.blkio_device_write_bps)?));
    disks.set_throttle_read_iops_device(some(throttled(&host.blkio_device_read_iops)?));
    disks.set_throttle_write_iops_device(some(throttled(&host.blkio_device_write_iops)?));
    Ok((disks != LinuxBlockIo::default()).then_some(disks))
}

fn throttled(asked: &[ThrottleDevice]) -> Result<Vec<LinuxThrottleDevice>, SpecError> {
    let device = |asked: &ThrottleDevice| {
        let (major, minor) = numbers(&asked.path)?;
        Ok(LinuxThrottleDeviceBuilder::default().major(major).minor(minor).rate(asked.rate).build()?)
    };
    asked.iter().map(device).collect()
}
