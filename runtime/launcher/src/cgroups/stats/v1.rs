//! Reads what a container has used from the files of cgroup v1.

use super::{BlkioEntry, CpuSet, HugeTlb, MemoryEntry, Stats, number, number_or_zero, numbers, page_sizes};
use crate::cgroups::CgroupError;
use crate::cgroups::folder::Folder;

/// Nanoseconds of a tick, in which `cpuacct.stat` counts: `USER_HZ` is 100 on all architectures that matter.
const TICK: u64 = 10_000_000;

const KNOWN: [&str; 7] = ["cpu", "cpuacct", "cpuset", "memory", "pids", "blkio", "hugetlb"];

/// Whether a hierarchy has anything to read.
pub(super) fn knows(controllers: &[&str]) -> bool {
    controllers.iter().any(|controller| KNOWN.contains(controller))
}

pub(super) fn read(folder: &Folder, controllers: &[&str], stats: &mut Stats) -> Result<(), CgroupError> {
    for controller in controllers {
        match *controller {
            "cpu" => cpu(folder, stats)?,
            "cpuacct" => cpuacct(folder, stats)?,
            "cpuset" => stats.cpuset = cpuset(folder)?,
            "memory" => memory(folder, stats)?,
            "pids" => {
                stats.pids.current = number_or_zero(folder, "pids.current")?;
                stats.pids.limit = number(folder, "pids.max")?.filter(|limit| *limit != u64::MAX).unwrap_or(0);
            }
            "blkio" => blkio(folder, stats)?,
            "hugetlb" => hugetlb(folder, stats)?,
            _ => {}
        }
    }
    Ok(())
}

fn cpu(folder: &Folder, stats: &mut Stats) -> Result<(), CgroupError> {
    let numbers = numbers(folder, "cpu.stat")?;
    let of = |name: &str| numbers.get(name).copied().unwrap_or(0);
    let throttling = &mut stats.cpu.throttling;
    throttling.periods = of("nr_periods");
    throttling.throttled_periods = of("nr_throttled");
    throttling.throttled_time = of("throttled_time");
    Ok(())
}

fn cpuacct(folder: &Folder, stats: &mut Stats) -> Result<(), CgroupError> {
    let usage = &mut stats.cpu.usage;
    usage.total = number_or_zero(folder, "cpuacct.usage")?;
    let each = folder.read_if_there("cpuacct.usage_percpu")?.unwrap_or_default();
    usage.percpu = each.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    // A line for each processor: its number, outside of the kernel, in the kernel.
    let table = folder.read_if_there("cpuacct.usage_all")?.unwrap_or_default();
    for line in table.lines().skip(1) {
        let mut columns = line.split_whitespace().skip(1).filter_map(|number| number.parse().ok());
        if let (Some(user), Some(kernel)) = (columns.next(), columns.next()) {
            usage.percpu_user.push(user);
            usage.percpu_kernel.push(kernel);
        }
    }
    let ticks = numbers(folder, "cpuacct.stat")?;
    usage.user = ticks.get("user").copied().unwrap_or(0) * TICK;
    usage.kernel = ticks.get("system").copied().unwrap_or(0) * TICK;
    Ok(())
}

fn cpuset(folder: &Folder) -> Result<CpuSet, CgroupError> {
    let list = |file| Ok::<_, CgroupError>(expand(&folder.read_if_there(file)?.unwrap_or_default()));
    let level = folder.read_if_there("cpuset.sched_relax_domain_level")?;
    Ok(CpuSet {
        cpus: list("cpuset.cpus")?,
        cpu_exclusive: number_or_zero(folder, "cpuset.cpu_exclusive")?,
        mems: list("cpuset.mems")?,
        mem_hardwall: number_or_zero(folder, "cpuset.mem_hardwall")?,
        mem_exclusive: number_or_zero(folder, "cpuset.mem_exclusive")?,
        memory_migrate: number_or_zero(folder, "cpuset.memory_migrate")?,
        memory_spread_page: number_or_zero(folder, "cpuset.memory_spread_page")?,
        memory_spread_slab: number_or_zero(folder, "cpuset.memory_spread_slab")?,
        memory_pressure: number_or_zero(folder, "cpuset.memory_pressure")?,
        sched_load_balance: number_or_zero(folder, "cpuset.sched_load_balance")?,
        sched_relax_domain_level: level.and_then(|text| text.trim().parse().ok()).unwrap_or(0),
    })
}

/// The numbers of a list such as `0-2,7`.
fn expand(list: &str) -> Vec<u16> {
    let mut numbers = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
            numbers.extend(first..=last);
        }
    }
    numbers
}

fn memory(folder: &Folder, stats: &mut Stats) -> Result<(), CgroupError> {
    let entry = |kind: &str| {
        let file = |name: &str| format!("memory.{kind}{name}");
        Ok::<_, CgroupError>(MemoryEntry {
            limit: number_or_zero(folder, &file("limit_in_bytes"))?,
            usage: number_or_zero(folder, &file("usage_in_bytes"))?,
            max: number_or_zero(folder, &file("max_usage_in_bytes"))?,
            failcnt: number_or_zero(folder, &file("failcnt"))?,
        })
    };
    let memory = &mut stats.memory;
    memory.usage = entry("")?;
    memory.swap = entry("memsw.")?;
    memory.kernel = entry("kmem.")?;
    memory.kernel_tcp = entry("kmem.tcp.")?;
    memory.raw = numbers(folder, "memory.stat")?;
    memory.cache = memory.raw.get("cache").copied().unwrap_or(0);
    Ok(())
}

fn blkio(folder: &Folder, stats: &mut Stats) -> Result<(), CgroupError> {
    // The scheduler BFQ counts itself; without it, what can be throttled is counted.
    let entries = |name: &str| {
        let of_scheduler = entries(folder, &format!("blkio.bfq.{name}"))?;
        if of_scheduler.is_empty() { entries(folder, &format!("blkio.throttle.{name}")) } else { Ok(of_scheduler) }
    };
    stats.blkio.io_service_bytes_recursive = entries("io_service_bytes_recursive")?;
    stats.blkio.io_serviced_recursive = entries("io_serviced_recursive")?;
    Ok(())
}

/// Lines such as `8:0 Read 4096`; the last one, a sum, names no device.
fn entries(folder: &Folder, file: &str) -> Result<Vec<BlkioEntry>, CgroupError> {
    let text = folder.read_if_there(file)?.unwrap_or_default();
    let entry = |line: &str| {
        let mut fields = line.split([' ', ':']);
        let (major, minor) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        let (op, value) = (fields.next()?.to_owned(), fields.next()?.parse().ok()?);
        Some(BlkioEntry { major, minor, op, value })
    };
    Ok(text.lines().filter_map(entry).collect())
}

fn hugetlb(folder: &Folder, stats: &mut Stats) -> Result<(), CgroupError> {
    for size in page_sizes(folder, ".usage_in_bytes")? {
        let of = |name: &str| number_or_zero(folder, &format!("hugetlb.{size}.{name}"));
        let entry = HugeTlb { usage: of("usage_in_bytes")?, max: of("max_usage_in_bytes")?, failcnt: of("failcnt")? };
        stats.hugetlb.insert(size, entry);
    }
    Ok(())
}
