//! `cove stats`: what containers use, as the runtime reads it from their cgroups.

use std::collections::BTreeMap;
use std::time::Duration;

use cove_container::{Container, Record};
use cove_engine::user_namespace;
use serde::Deserialize;

use crate::arguments::Stats;
use crate::containers::{ask_runtime, put_right};
use crate::context::Context;
use crate::error::Error;
use crate::format::{Column, List, Row, row};
use crate::units::{binary_size, human_size};

const COLUMNS: &[Column] = &[
    Column { name: "BlockIO", title: "BLOCK I/O" },
    Column { name: "CPUPerc", title: "CPU %" },
    Column { name: "Container", title: "CONTAINER" },
    Column { name: "ID", title: "CONTAINER ID" },
    Column { name: "MemPerc", title: "MEM %" },
    Column { name: "MemUsage", title: "MEM USAGE / LIMIT" },
    Column { name: "Name", title: "NAME" },
    Column { name: "NetIO", title: "NET I/O" },
    Column { name: "PIDs", title: "PIDS" },
];

/// From one reading to the next: processor time is a difference.
const INTERVAL: Duration = Duration::from_secs(1);

/// What a container has used up to a moment.
#[derive(Debug, Clone, Default)]
struct Sample {
    /// Nanoseconds.
    cpu: u64,
    /// Nanoseconds of the whole machine, idle or not.
    machine: u64,
    memory: u64,
    memory_limit: u64,
    received: u64,
    sent: u64,
    read: u64,
    written: u64,
    pids: u64,
}

/// A container that is watched, and what the user calls it.
struct Watched {
    container: Container,
    record: Record,
    called: String,
}

/// Prints what containers use, each second anew unless once is enough.
pub fn run(context: &Context, arguments: &Stats) -> Result<(), Error> {
    if user_namespace::is_own() {
        let text = "cannot tell what containers use: an ordinary user has no cgroup here that counts it\n\
            `cove top` lists their processes; run containers as root to have them counted";
        return Err(Error::Refused(text.to_owned()));
    }
    let mut before = BTreeMap::new();
    let list = List {
        columns: COLUMNS,
        usual: ["ID", "Name", "CPUPerc", "MemUsage", "MemPerc", "NetIO", "BlockIO", "PIDs"]
            .map(|name| (name, name == "Name"))
            .to_vec(),
    };
    let machine = Machine::read();
    // Who asks for containers hears at once if one is not there.
    for found in watched(context, arguments)? {
        before.insert(found.record.id.clone(), sample(&found, &machine)?);
    }
    let in_place = context.printer.terminals().out && !arguments.no_stream;
    if in_place {
        context.printer.bytes(b"\x1b[2J")?;
    }
    loop {
        std::thread::sleep(INTERVAL);
        let machine = Machine::read();
        let mut rows = Vec::new();
        let mut now = BTreeMap::new();
        for found in watched(context, arguments)? {
            let sample = sample(&found, &machine)?;
            let earlier = before.get(&found.record.id).and_then(Option::as_ref);
            rows.push(shown(&found, arguments.no_trunc, sample.as_ref(), earlier, machine.processors));
            now.insert(found.record.id, sample);
        }
        before = now;
        let format = arguments.format.as_deref();
        if in_place {
            let text = list.render(&context.printer, format, None, arguments.no_trunc, &rows)?;
            // Over what is there, so that nothing flickers; what is left of longer lines and lists is wiped away.
            let text = crate::printer::tame(&text).replace('\n', "\x1b[K\n");
            context.printer.bytes(format!("\x1b[H{text}\x1b[J").as_bytes())?;
        } else {
            list.print(&context.printer, format, None, arguments.no_trunc, &rows)?;
        }
        if arguments.no_stream {
            return Ok(());
        }
    }
}

fn watched(context: &Context, arguments: &Stats) -> Result<Vec<Watched>, Error> {
    let mut watched = Vec::new();
    if !arguments.containers.is_empty() {
        for name in &arguments.containers {
            let container = super::find(context, name)?;
            let record = container.record()?;
            watched.push(Watched { container, record, called: name.clone() });
        }
        return Ok(watched);
    }
    for container in context.containers().all()? {
        // One that goes in this moment is left out.
        let Ok(record) = container.record() else { continue };
        if arguments.all || put_right(context, &container)?.status.is_running() {
            watched.push(Watched { container, called: record.id.short().to_owned(), record });
        }
    }
    watched.sort_by_key(|found| std::cmp::Reverse(found.record.created));
    Ok(watched)
}

fn shown(found: &Watched, full: bool, sample: Option<&Sample>, before: Option<&Sample>, processors: usize) -> Row {
    let id = if full { found.record.id.as_str() } else { found.record.id.short() };
    let now = sample.cloned().unwrap_or_default();
    let pair = |one: String, other: String| format!("{one} / {other}");
    let memory = if now.memory_limit > 0 { now.memory as f64 / now.memory_limit as f64 * 100.0 } else { 0.0 };
    row([
        ("BlockIO", pair(human_size(now.read), human_size(now.written))),
        ("CPUPerc", format!("{:.2}%", processor_share(&now, before, processors))),
        ("Container", found.called.clone()),
        ("ID", id.to_owned()),
        ("MemPerc", format!("{memory:.2}%")),
        ("MemUsage", pair(binary_size(now.memory), binary_size(now.memory_limit))),
        ("Name", found.record.name.clone()),
        ("NetIO", pair(human_size(now.received), human_size(now.sent))),
        ("PIDs", now.pids.to_string()),
    ])
}

/// As docker computes it: 100 % are one processor.
fn processor_share(now: &Sample, before: Option<&Sample>, processors: usize) -> f64 {
    let Some(before) = before else { return 0.0 };
    let own = now.cpu.saturating_sub(before.cpu) as f64;
    let machine = now.machine.saturating_sub(before.machine) as f64;
    if machine > 0.0 { own / machine * processors as f64 * 100.0 } else { 0.0 }
}

/// The machine: how much time its processors have had, and its memory.
#[derive(Debug, Default)]
struct Machine {
    time: u64,
    processors: usize,
    memory: u64,
}

impl Machine {
    fn read() -> Self {
        let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self::parse(&stat, &memory)
    }

    fn parse(stat: &str, memory: &str) -> Self {
        // The fields behind these seven are parts of them, or times that other machines took.
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
        let ticks: u64 = line.split_ascii_whitespace().take(7).filter_map(|word| word.parse::<u64>().ok()).sum();
        let is_one = |line: &&str| {
            line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|letter: char| letter.is_ascii_digit()))
        };
        let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
        let kib = total.split_ascii_whitespace().next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        Self {
            // A tick is a hundredth of a second.
            time: ticks * 10_000_000,
            processors: stat.lines().filter(is_one).count(),
            memory: kib * 1024,
        }
    }
}

/// What the runtime's `events --stats` tells, of it what is shown.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    data: Data,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Data {
    cpu: Cpu,
    memory: Memory,
    pids: Pids,
    blkio: Blkio,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Cpu {
    usage: CpuUsage,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CpuUsage {
    total: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Memory {
    usage: MemoryUsage,
    raw: BTreeMap<String, u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct MemoryUsage {
    usage: u64,
    limit: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pids {
    current: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Blkio {
    io_service_bytes_recursive: Option<Vec<Transferred>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Transferred {
    op: String,
    value: u64,
}

/// What a container has used; nothing of one that does not run.
fn sample(found: &Watched, machine: &Machine) -> Result<Option<Sample>, Error> {
    let (state, _) = found.container.state()?;
    let Some(pid) = state.pid.filter(|_| state.status.is_running()) else { return Ok(None) };
    // It may have ended in this moment.
    let told = match ask_runtime(&found.container, &found.record, ["events", "--stats"]) {
        Err(Error::Refused(_)) => None,
        told => told?,
    };
    let Some(told) = told.and_then(|told| serde_json::from_slice::<Told>(&told).ok()) else { return Ok(None) };
    let has_network = found.record.host_config.network_mode.network().is_some();
    let network = if has_network { std::fs::read_to_string(format!("/proc/{pid}/net/dev")).ok() } else { None };
    Ok(Some(Sample::of(&told.data, network.as_deref().unwrap_or_default(), machine)))
}

impl Sample {
    fn of(data: &Data, network: &str, machine: &Machine) -> Self {
        // Pages that the kernel can drop at any time are not counted; version 1 of cgroups has its own word for them.
        let raw = &data.memory.raw;
        let cache = raw.get("total_inactive_file").or_else(|| raw.get("inactive_file")).copied().unwrap_or(0);
        let usage = data.memory.usage.usage;
        let limit = data.memory.usage.limit;
        let (received, sent) = traffic(network);
        let io = data.blkio.io_service_bytes_recursive.as_deref().unwrap_or_default();
        let bytes =
            |operation: &str| io.iter().filter(|one| one.op.eq_ignore_ascii_case(operation)).map(|one| one.value).sum();
        Self {
            cpu: data.cpu.usage.total,
            machine: machine.time,
            memory: if cache < usage { usage - cache } else { usage },
            memory_limit: if limit == 0 || limit > machine.memory { machine.memory } else { limit },
            received,
            sent,
            read: bytes("read"),
            written: bytes("write"),
            pids: data.pids.current,
        }
    }
}

/// Bytes that came and went over the interfaces of `/proc/PID/net/dev`, but for the loopback device.
fn traffic(text: &str) -> (u64, u64) {
    let mut sums = (0, 0);
    for (name, rest) in text.lines().filter_map(|line| line.split_once(':')) {
        let numbers: Vec<u64> = rest.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
        if name.trim() != "lo"
            && let (Some(received), Some(sent)) = (numbers.first(), numbers.get(8))
        {
            sums = (sums.0 + received, sums.1 + sent);
        }
    }
    sums
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_becomes_what_docker_shows() {
        let stat = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 0 0\ncpu1 0 0 0\nintr 5\n";
        let machine = Machine::parse(stat, "MemTotal:        2048 kB\n");
        assert_eq!((machine.time, machine.processors, machine.memory), (280_000_000, 2, 2 << 20));
        let told: Told = serde_json::from_str(
            r#"{"type":"stats","data":{"cpu":{"usage":{"total":7}},
            "memory":{"usage":{"usage":1000,"limit":9223372036854771712},"raw":{"total_inactive_file":300}},
            "pids":{"current":3},
            "blkio":{"ioServiceBytesRecursive":[{"op":"Read","value":5},{"op":"read","value":1},{"op":"Write","value":9}]}}}"#,
        )
        .unwrap();
        let network = "Inter-| Receive\n lo: 9 0 0 0 0 0 0 0 9\neth0: 806 9 0 0 0 0 0 0 42 1\n";
        let sample = Sample::of(&told.data, network, &machine);
        assert_eq!((sample.memory, sample.memory_limit), (700, 2 << 20));
        assert_eq!((sample.received, sample.sent), (806, 42));
        assert_eq!((sample.read, sample.written, sample.pids), (6, 9, 3));
    }

    #[test]
    fn a_hundred_per_cent_are_one_processor() {
        let before = Sample { cpu: 0, machine: 0, ..Sample::default() };
        let now = Sample { cpu: 1_000, machine: 2_000, ..Sample::default() };
        assert!((processor_share(&now, Some(&before), 2) - 100.0).abs() < 1e-9);
        assert!(processor_share(&now, None, 2).abs() < 1e-9);
    }
}
