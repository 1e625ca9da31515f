//! The properties of a container's unit (systemd.resource-control(5), org.freedesktop.systemd1(5)).

use oci_spec::runtime::LinuxResources;

use super::Value;
use crate::cgroups::CgroupError;
use crate::cgroups::devices::{self, Exceptions, Kind, MKNOD, READ, WRITE};
use crate::cgroups::limits::v2::{swap, weight};
use crate::cgroups::place::Unit;

/// A property with its value.
pub(super) type Property = (&'static str, Value);

/// What every unit has. `process` is the one that a scope begins with.
pub(super) fn of_unit(unit: &Unit, process: Option<u32>) -> Vec<Property> {
    let text = |text: &str| Value::Text(text.to_owned());
    let mut properties = vec![("Description", Value::Text(format!("cove container {}", unit.name)))];
    match process {
        // A slice finds the one above it by its name.
        None => properties.push(("Wants", Value::Texts(vec![unit.slice.clone()]))),
        Some(process) => {
            properties.push(("Slice", text(&unit.slice)));
            // Otherwise systemd moves processes that we put into cgroups below, and disables controllers there.
            properties.push(("Delegate", Value::Flag(true)));
            properties.push(("PIDs", Value::Numbers(vec![process])));
        }
    }
    for accounting in ["MemoryAccounting", "CPUAccounting", "IOAccounting", "TasksAccounting"] {
        properties.push((accounting, Value::Flag(true)));
    }
    // Containers stop with their engine, not before it as ordinary units would.
    properties.push(("DefaultDependencies", Value::Flag(false)));
    properties
}

/// The rules for devices: without them systemd allows all whenever it reloads.
pub(super) fn of_devices(resources: &LinuxResources) -> Result<Vec<Property>, CgroupError> {
    let rules = devices::rules(resources.devices().as_deref().unwrap_or_default())?;
    let all = Exceptions::of(&rules)?;
    if all.allow_others {
        // systemd cannot express exceptions from that; the cgroup itself has them.
        return Ok(vec![("DevicePolicy", Value::Text("auto".to_owned())), ("DeviceAllow", Value::Pairs(Vec::new()))]);
    }
    let groups = std::fs::read_to_string("/proc/devices").unwrap_or_default();
    let allowed = all.exceptions.iter().filter_map(|scope| {
        let letters: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
            .iter()
            .filter(|(bit, _)| scope.access & bit != 0)
            .map(|(_, letter)| *letter)
            .collect();
        let kind = if scope.kind == Some(Kind::Block) { "block" } else { "char" };
        let device = match (scope.major, scope.minor) {
            (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
            (Some(major), None) => format!("{kind}-{}", group(&groups, kind, major)?),
            (None, None) => format!("{kind}-*"),
            // It has no words for a minor number of all majors. The cgroup itself has the rule.
            (None, Some(_)) => return None,
        };
        Some((device, letters))
    });
    Ok(vec![("DevicePolicy", Value::Text("strict".to_owned())), ("DeviceAllow", Value::Pairs(allowed.collect()))])
}

/// What `/proc/devices` calls a major number.
fn group<'a>(groups: &'a str, kind: &str, major: u32) -> Option<&'a str> {
    let heading = if kind == "block" { "Block devices:" } else { "Character devices:" };
    let lines = groups.lines().skip_while(|line| *line != heading).skip(1).take_while(|line| !line.is_empty());
    lines
        .filter_map(|line| line.trim().split_once(' '))
        .find(|(number, _)| number.parse() == Ok(major))
        .map(|(_, name)| name)
}

/// Limits. Negative ones are none, which is the largest number.
pub(super) fn of_limits(resources: &LinuxResources, is_unified: bool) -> Result<Vec<Property>, CgroupError> {
    let mut properties = Vec::new();
    let mut add = |name, value: i64| {
        if value != 0 {
            properties.push((name, Value::Number(u64::try_from(value).unwrap_or(u64::MAX))));
        }
    };
    if let Some(memory) = resources.memory() {
        let limit = memory.limit().unwrap_or(0);
        if is_unified {
            add("MemoryMax", limit);
            add("MemoryLow", memory.reservation().unwrap_or(0));
            if let Some(swap) = swap(memory)? {
                properties.push(("MemorySwapMax", Value::Number(u64::try_from(swap).unwrap_or(u64::MAX))));
            }
        } else {
            add("MemoryLimit", limit);
        }
    }
    let mut add = |name, value: u64| {
        if value != 0 {
            properties.push((name, Value::Number(value)));
        }
    };
    if let Some(cpu) = resources.cpu() {
        let shares = cpu.shares().unwrap_or(0);
        if is_unified {
            add("CPUWeight", weight(shares))
        } else {
            add("CPUShares", shares)
        }
        let period = cpu.period().filter(|period| *period != 0);
        add("CPUQuotaPeriodUSec", period.unwrap_or(0));
        let quota = cpu.quota().unwrap_or(0);
        if quota != 0 || period.is_some() {
            add("CPUQuotaPerSecUSec", quota_per_second(quota, period.unwrap_or(100_000)));
        }
        if is_unified {
            let mut add = |name, list: &Option<String>| {
                if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
                    properties.push((name, Value::Bytes(bits(list))));
                }
            };
            add("AllowedCPUs", cpu.cpus());
            add("AllowedMemoryNodes", cpu.mems());
        }
    }
    if let Some(pids) = resources.pids().filter(|pids| pids.limit() != 0) {
        properties.push(("TasksMax", Value::Number(u64::try_from(pids.limit()).unwrap_or(u64::MAX))));
    }
    let weight = resources.block_io().as_ref().and_then(|block_io| block_io.weight()).unwrap_or(0);
    if weight != 0 && !is_unified {
        properties.push(("BlockIOWeight", Value::Number(u64::from(weight))));
    }
    Ok(properties)
}

/// Microseconds of a second. systemd counts in hundredths of a processor and would round down, to 0 even.
fn quota_per_second(quota: i64, period: u64) -> u64 {
    match u64::try_from(quota) {
        Ok(quota) if quota > 0 => {
            let exact = u128::from(quota) * 1_000_000 / u128::from(period.max(1));
            u64::try_from(exact.next_multiple_of(10_000)).unwrap_or(u64::MAX)
        }
        _ => u64::MAX,
    }
}

/// A list such as `0-2,7` as bits, the lowest first. What is no list is left to the kernel to refuse.
fn bits(list: &str) -> Vec<u8> {
    let mut bits = Vec::new();
    for range in list.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (Ok(first), Ok(last)) = (first.trim().parse::<u16>(), last.trim().parse::<u16>()) else { continue };
        for number in first..=last {
            let byte = usize::from(number / 8);
            if bits.len() <= byte {
                bits.resize(byte + 1, 0);
            }
            bits[byte] |= 1 << (number % 8);
        }
    }
    bits
}
