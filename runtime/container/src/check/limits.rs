//! Limits: what they must be, what follows from them, and what this kernel cannot do.

use super::{CgroupVersion, CheckError, Kernel};
use crate::config::HostConfig;

/// Least memory of a container in bytes: below, the kernel cannot even start it.
const LEAST_MEMORY: i64 = 6 << 20;

/// Refuses, completes, and pushes what is ignored. Also `update` asks this.
pub fn check(host: &mut HostConfig, kernel: &Kernel, warnings: &mut Vec<String>) -> Result<(), CheckError> {
    memory(host, kernel, warnings)?;
    processors(host, kernel)?;
    disks(host, kernel, warnings)?;
    if !(-1000..=1000).contains(&host.oom_score_adj) {
        return Err(CheckError::OomScore(host.oom_score_adj));
    }
    if host.shm_size < 0 {
        return Err(CheckError::ShmSize);
    }
    Ok(())
}

fn memory(host: &mut HostConfig, kernel: &Kernel, warnings: &mut Vec<String>) -> Result<(), CheckError> {
    if host.memory != 0 && host.memory < LEAST_MEMORY {
        return Err(CheckError::Memory);
    }
    if host.memory > 0 && host.memory_swap != -1 && !kernel.counts_swap() {
        warnings.push(
            "Your kernel does not support swap limit capabilities or the cgroup is not mounted. Memory limited without swap."
                .to_owned(),
        );
        host.memory_swap = -1;
    }
    if host.memory > 0 && host.memory_swap > 0 && host.memory_swap < host.memory {
        return Err(CheckError::MemorySwap);
    }
    if host.memory == 0 && host.memory_swap > 0 {
        return Err(CheckError::SwapWithoutMemory);
    }
    if host.memory > 0 && host.memory_swap == 0 {
        host.memory_swap = host.memory.saturating_mul(2);
    }
    if host.memory_swappiness == Some(-1) {
        host.memory_swappiness = None;
    }
    if let Some(swappiness) = host.memory_swappiness {
        if !(0..=100).contains(&swappiness) {
            return Err(CheckError::Swappiness(swappiness));
        }
        if kernel.cgroup_version() == CgroupVersion::Two {
            warnings.push(
                "Your kernel does not support memory swappiness capabilities or the cgroup is not mounted. Memory swappiness discarded."
                    .to_owned(),
            );
            host.memory_swappiness = None;
        }
    }
    if host.memory_reservation > 0 && host.memory_reservation < LEAST_MEMORY {
        return Err(CheckError::Reservation);
    }
    if host.memory > 0 && host.memory_reservation > host.memory {
        return Err(CheckError::ReservationAboveMemory);
    }
    if host.kernel_memory > 0 {
        warnings
            .push("Specifying a kernel memory limit is deprecated and will be removed in a future release.".to_owned());
    }
    if host.oom_kill_disable == Some(true) {
        if kernel.cgroup_version() == CgroupVersion::Two {
            warnings.push("Your kernel does not support OomKillDisable. OomKillDisable discarded.".to_owned());
            host.oom_kill_disable = None;
        } else if host.memory == 0 {
            warnings.push(
                "OOM killer is disabled for the container, but no memory limit is set, this can result in the system running out of resources."
                    .to_owned(),
            );
        }
    }
    Ok(())
}

fn processors(host: &HostConfig, kernel: &Kernel) -> Result<(), CheckError> {
    if host.nano_cpus != 0 {
        if host.cpu_period != 0 {
            return Err(CheckError::CpusAnd("Period"));
        }
        if host.cpu_quota != 0 {
            return Err(CheckError::CpusAnd("Quota"));
        }
        let count = cpu_list(&kernel.cpus()).map_or(1, |cpus| cpus.len());
        let most = i64::try_from(count).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
        if !(0..=most).contains(&host.nano_cpus) {
            return Err(CheckError::Cpus(count));
        }
    }
    if host.cpu_period != 0 && !(1000..=1_000_000).contains(&host.cpu_period) {
        return Err(CheckError::CpuPeriod);
    }
    if host.cpu_quota > 0 && host.cpu_quota < 1000 {
        return Err(CheckError::CpuQuota);
    }
    set(&host.cpuset_cpus, "cpus", "CPUs", || kernel.cpus())?;
    set(&host.cpuset_mems, "mems", "memory nodes", || kernel.memory_nodes())
}

fn set(asked: &str, list: &'static str, what: &'static str, available: impl Fn() -> String) -> Result<(), CheckError> {
    if asked.is_empty() {
        return Ok(());
    }
    let wanted = cpu_list(asked).ok_or_else(|| CheckError::CpuSet(asked.to_owned(), list))?;
    let available = available();
    let there = cpu_list(&available).unwrap_or_default();
    match wanted.iter().all(|number| there.contains(number)) {
        true => Ok(()),
        false => Err(CheckError::CpuSetAbsent { what, asked: asked.to_owned(), available }),
    }
}

/// The numbers of a list such as `0-3,7`.
pub fn cpu_list(text: &str) -> Option<Vec<u32>> {
    // Far more than any machine has, and few enough to count.
    const MOST: u32 = 8192;
    let mut numbers = Vec::new();
    for part in text.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        if last < first || last > MOST {
            return None;
        }
        numbers.extend(first..=last);
    }
    Some(numbers)
}

fn disks(host: &mut HostConfig, kernel: &Kernel, warnings: &mut Vec<String>) -> Result<(), CheckError> {
    if host.blkio_weight != 0 && !kernel.weighs_disks() {
        warnings.push(
            "Your kernel does not support Block I/O weight or the cgroup is not mounted. Weight discarded.".to_owned(),
        );
        host.blkio_weight = 0;
    }
    if host.blkio_weight != 0 && !(10..=1000).contains(&host.blkio_weight) {
        return Err(CheckError::BlkioWeight);
    }
    if !host.blkio_weight_device.is_empty() && !kernel.weighs_one_disk() {
        warnings.push(
            "Your kernel does not support Block I/O weight_device or the cgroup is not mounted. Weight-device discarded."
                .to_owned(),
        );
        host.blkio_weight_device.clear();
    }
    Ok(())
}
