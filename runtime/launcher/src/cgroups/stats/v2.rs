//! Reads what a container has used from the files of cgroup v2, in the units and sums of version 1, as runc does.

use super::{BlkioEntry, HugeTlb, MemoryEntry, Stats, number, number_or_zero, numbers, page_sizes};
use crate::cgroups::CgroupError;
use crate::cgroups::folder::Folder;

/// `cpu.stat` counts in microseconds.
const MICROSECOND: u64 = 1000;

pub(super) fn read(folder: &Folder, stats: &mut Stats) -> Result<(), CgroupError> {
    cpu(folder, stats)?;
    memory(folder, stats)?;
    stats.pids.current = number_or_zero(folder, "pids.current")?;
    stats.pids.limit = number(folder, "pids.max")?.filter(|limit| *limit != u64::MAX).unwrap_or(0);
    io(folder, stats)?;
    for size in page_sizes(folder, ".current")? {
        let usage = number_or_zero(folder, &format!("hugetlb.{size}.current"))?;
        let failcnt = numbers(folder, &format!("hugetlb.{size}.events"))?.get("max").copied().unwrap_or(0);
        stats.hugetlb.insert(size, HugeTlb { usage, max: 0, failcnt });
    }
    Ok(())
}

fn cpu(folder: &Folder, stats: &mut Stats) -> Result<(), CgroupError> {
    let numbers = numbers(folder, "cpu.stat")?;
    let of = |name: &str| numbers.get(name).copied().unwrap_or(0);
    let usage = &mut stats.cpu.usage;
    usage.total = of("usage_usec") * MICROSECOND;
    usage.user = of("user_usec") * MICROSECOND;
    usage.kernel = of("system_usec") * MICROSECOND;
    let throttling = &mut stats.cpu.throttling;
    throttling.periods = of("nr_periods");
    throttling.throttled_periods = of("nr_throttled");
    throttling.throttled_time = of("throttled_usec") * MICROSECOND;
    Ok(())
}

fn memory(folder: &Folder, stats: &mut Stats) -> Result<(), CgroupError> {
    let entry = |kind: &str| {
        let file = |name: &str| format!("memory.{kind}{name}");
        let failures = numbers(folder, &file("events"))?;
        Ok::<_, CgroupError>(MemoryEntry {
            limit: number_or_zero(folder, &file("max"))?,
            usage: number_or_zero(folder, &file("current"))?,
            max: number_or_zero(folder, &file("peak"))?,
            failcnt: failures.get("max").copied().unwrap_or(0),
        })
    };
    let memory = &mut stats.memory;
    memory.raw = numbers(folder, "memory.stat")?;
    memory.cache = memory.raw.get("file").copied().unwrap_or(0);
    memory.usage = entry("")?;
    memory.swap = entry("swap.")?;
    // Version 1 counts memory and swap together, and callers subtract.
    memory.swap.usage = memory.swap.usage.saturating_add(memory.usage.usage);
    memory.swap.limit = memory.swap.limit.saturating_add(memory.usage.limit);
    Ok(())
}

/// Lines such as `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0`.
fn io(folder: &Folder, stats: &mut Stats) -> Result<(), CgroupError> {
    let text = folder.read_if_there("io.stat")?.unwrap_or_default();
    for line in text.lines() {
        let mut fields = line.split_whitespace();
        let Some((major, minor)) = fields.next().and_then(|device| device.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (name, value) in fields.filter_map(|field| field.split_once('=')) {
            let Ok(value) = value.parse() else { continue };
            let (op, is_bytes) = match name {
                "rbytes" => ("Read", true),
                "wbytes" => ("Write", true),
                "dbytes" => ("Discard", true),
                "rios" => ("Read", false),
                "wios" => ("Write", false),
                "dios" => ("Discard", false),
                _ => continue,
            };
            let entry = BlkioEntry { major, minor, op: op.to_owned(), value };
            let blkio = &mut stats.blkio;
            let list = if is_bytes { &mut blkio.io_service_bytes_recursive } else { &mut blkio.io_serviced_recursive };
            list.push(entry);
        }
    }
    Ok(())
}
